//! What callers send is in no line of the log, at the level that tells the most; what happened to it is.

use serde_json::{Value, json};

use crate::client::{Client, hello};
use crate::server::{ADMIN, Server, WRITER};

/// In everything that is sent here but ids of requests.
const SECRET: &str = "hush";

#[test]
fn nothing_that_is_sent_is_logged() {
    let server = Server::with_tokens();
    let told = json!({
        "task": "hush a", "context": { "domain": "hush", "tags": ["hush"], "environment": { "hush": "hush" } },
        "steps": [{ "tool": "hush", "input": "hush", "observation": "hush", "ok": false }],
        "outcome": { "verdict": "failure", "summary": "hush", "reflection": "hush" },
    });
    let calls = [
        ("record_episode", told),
        ("start_episode", json!({ "task": "hush b" })),
        ("store_note", json!({ "text": "hush", "tags": ["hush"], "thread": "hush", "position": 0 })),
        ("find_notes", json!({ "query": "hush" })),
        ("recall", json!({ "task": "hush c" })),
        ("suggest_next", json!({ "task": "hush d", "steps": [{ "tool": "hush" }] })),
        ("get_knowledge", json!({ "what": "patterns", "domain": "hush" })),
    ];
    for (operation, arguments) in &calls {
        assert_eq!(server.call(WRITER, operation, arguments).status, 200, "{operation}");
    }
    let wrong = [
        ("store_note", json!({ "text": "hush", "hush": "hush" })),
        ("store_note", json!({ "text": ["hush"], "kind": "hush" })),
        ("store_note", json!({ "text": "hush".repeat(5_000) })),
        ("get_note", json!({ "id": "hush" })),
        ("record_step", json!({ "episode": "hush", "step": "hush" })),
        ("hush", json!({})),
    ];
    for (operation, arguments) in &wrong {
        assert!([400, 404].contains(&server.call(WRITER, operation, arguments).status), "{operation}");
    }
    for line in ["GET /hush", "POST /v1/hush?hush=hush", "HUSH /health", "HUSH /hush", "GET /health?hush"] {
        let headers =
            "X-Hush: hush\nCookie: hush\nUser-Agent: hush\nX-Request-Id: hush hush\nAuthorization: Bearer hush";
        server.request(line, headers, "hush");
    }
    server.request("GET /health", "Origin: http://hush.example", "");
    server.raw(b"GET / HTTP/1.1\r\nHost: hush.example\r\n\r\n");
    server.raw(b"hush hush hush\r\n\r\n");
    let (ended, log) = server.end();
    assert!(ended && log.contains("record_episode") && !log.to_lowercase().contains(SECRET), "{log}");
}

#[test]
fn nothing_that_is_sent_over_mcp_is_logged() {
    let server = Server::with_tokens();
    let client = Client::begin(&server, WRITER);
    assert_eq!(client.call("store_note", &json!({ "text": "hush" }))["isError"], false);
    assert_eq!(client.call("store_note", &json!({ "text": "hush", "hush": 1 }))["isError"], true);
    for (method, params) in [
        ("tools/call", json!({ "name": "hush", "arguments": { "hush": "hush" } })),
        ("resources/read", json!({ "uri": "knowhow://hush" })),
        ("prompts/get", json!({ "name": "hush" })),
        ("hush", json!({ "hush": "hush" })),
    ] {
        assert!(client.ask(method, &params)["error"].is_object(), "{method}");
    }
    for body in ["hush", "{\"hush\":", "[\"hush\"]", "{\"jsonrpc\":\"hush\",\"id\":\"hush\",\"method\":\"hush\"}"] {
        assert!((400..500).contains(&client.send("POST", "", body).status), "{body}");
    }
    client.post(&json!({ "jsonrpc": "2.0", "method": "hush", "params": { "hush": "hush" } }));
    client.post(&json!({ "jsonrpc": "2.0", "id": "hush", "result": { "hush": "hush" } }));
    client.send("GET", "Last-Event-ID: hush\n", "");
    // Whoever says something else than that it is ready after it was greeted.
    let mut rude = Client::new(&server, WRITER);
    let mut greeting = hello();
    greeting["params"]["clientInfo"]["name"] = "hush".into();
    rude.session = Some(rude.post(&greeting).headers["mcp-session-id"].clone());
    rude.post(&json!({ "jsonrpc": "2.0", "method": "hush", "params": { "hush": "hush" } }));
    rude.post(&json!({ "jsonrpc": "2.0", "id": "hush", "result": { "hush": "hush" } }));
    let (ended, log) = server.end();
    assert!(ended && log.contains("store_note") && !log.to_lowercase().contains(SECRET), "{log}");
}

/// The lines of the log that tell of this request.
fn lines(log: &str, request: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.contains(request)).map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn each_call_is_told_with_request_scope_ids_and_duration() {
    let server = Server::with_tokens();
    let client = Client::begin(&server, WRITER);
    let (note, step) = (json!({ "text": "hush" }), json!({ "tool": "hush" }));
    let rest = |id: &str, operation: &str, arguments: &Value| {
        let headers = format!("Authorization: Bearer {WRITER}\nX-Request-Id: {id}");
        server.request(&format!("POST /v1/{operation}"), &headers, &arguments.to_string()).json()
    };
    let episode = rest("one", "start_episode", &json!({ "task": "hush" }))["episode"].as_str().unwrap().to_owned();
    rest("two", "record_step", &json!({ "episode": episode, "step": step }));
    let note = rest("three", "store_note", &note)["id"].as_str().unwrap().to_owned();
    rest("four", "get_note", &json!({ "id": note }));
    rest("five", "get_note", &json!({ "id": "hush" }));
    let call = json!({ "name": "recall", "arguments": { "episode": episode } });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call });
    let answer = client.send("POST", "X-Request-Id: six\n", &message.to_string());
    assert_eq!(answer.headers["x-request-id"], "six");
    let (_, log) = server.end();
    let rows: [(&str, &str, &str, &str); 6] = [
        ("one", "start_episode", "ok", &episode),
        ("two", "record_step", "ok", &episode),
        ("three", "store_note", "ok", &note),
        ("four", "get_note", "ok", &note),
        ("five", "get_note", "invalid_value", ""),
        ("six", "recall", "ok", &episode),
    ];
    for (request, operation, outcome, id) in rows {
        let all = lines(&log, &format!("\"{request}\""));
        let called = all.iter().find(|line| line["message"] == "called");
        let called = called.unwrap_or_else(|| panic!("{request} in {log}"));
        assert!(called["milliseconds"].as_f64().unwrap() > 0.0 && called["outcome"] == outcome, "{called}");
        let told = called.to_string();
        assert!(told.contains(operation) && told.contains("\"acme\"") && told.contains(id), "{told}");
        let answered = all.iter().find(|line| line["message"] == "answered");
        assert!(answered.is_some_and(|line| line["status"].is_u64()), "{request} in {log}");
    }
    assert!(!log.contains("hush"), "{log}");
}

/// Ids are in answers whatever comes of a request, as long as it is one.
#[test]
fn every_answer_has_the_id_of_its_request() {
    let server = Server::with_tokens();
    let token = format!("Authorization: Bearer {ADMIN}\n");
    for (line, headers, status) in [
        ("GET /health", "", 200),
        ("GET /ready", "", 200),
        ("GET /openapi.json", "", 200),
        ("GET /nowhere", "", 404),
        ("DELETE /health", "", 405),
        ("GET /metrics", &token[..], 200),
        ("POST /v1/store_note", "", 401),
        ("POST /v1/store_note", &token[..], 400),
        ("POST /mcp", &token[..], 406),
        ("POST /v1/store_note", "Origin: null\n", 403),
        ("PATCH /mcp", &token[..], 405),
    ] {
        let answer = server.request(line, &format!("{headers}X-Request-Id: abc-7"), "");
        assert_eq!((answer.status, &answer.headers["x-request-id"][..]), (status, "abc-7"), "{line}: {answer:?}");
    }
}

/// Over stdin, too: stdout has the protocol, stderr the log.
#[test]
fn nothing_that_is_sent_over_stdin_is_logged() {
    use std::io::Write as _;
    let greeting = hello().to_string();
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
    let call = json!({ "name": "store_note", "arguments": { "text": "hush", "hush": "hush" } });
    let call = json!({ "jsonrpc": "2.0", "id": "hush", "method": "tools/call", "params": call }).to_string();
    let answer = json!({ "jsonrpc": "2.0", "id": "hush", "result": { "hush": "hush" } }).to_string();
    for lines in [
        vec![&greeting[..], &ready, "hush", "{\"hush\":", &call, &answer, "{\"jsonrpc\":\"2.0\",\"method\":\"hush\"}"],
        vec![&call, &call],
        vec![&answer],
        vec!["hush"],
        vec![&greeting, &call, &call],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_knowhow"));
        command.args(["mcp", "--set", "log.level=debug,hyper=off", "--store"]).arg(folder.path().join("knowhow.db"));
        command.current_dir(folder.path()).env("HOME", folder.path()).stdin(std::process::Stdio::piped());
        let mut child =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        // It may have ended before it has read all.
        let _ = child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes());
        let log = String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned();
        assert!(!log.contains("hush"), "{lines:?}: {log}");
    }
}
