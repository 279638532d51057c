//! MCP sessions belong to whoever opened them, and each request in them has its own right and scope.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::client::{Client, hello, messages};
use crate::inside::Inside;
use crate::server::{ADMIN, Answer, OTHER, READER, Server, TOKENS, WRITER, read, until};

/// Everything that someone who has got hold of a session's id may try.
fn is_hidden(owner: &Client<'_>, thief: &Client<'_>) {
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 2 } });
    let answer = json!({ "jsonrpc": "2.0", "id": 2, "result": {} });
    for message in [&list, &cancel, &answer, &hello()] {
        let refused = thief.post(message);
        assert_eq!((refused.status, refused.kind()), (404, "not_found".to_owned()), "{message}");
    }
    for (method, headers) in
        [("GET", ""), ("GET", "Last-Event-ID: 0\n"), ("GET", "Last-Event-ID: 1/0\n"), ("DELETE", "")]
    {
        assert_eq!(thief.send(method, headers, "").status, 404, "{method} {headers}");
    }
    let listed = owner.post(&list);
    assert!(listed.status == 200 && listed.body.contains("get_statistics"), "it goes on: {listed:?}");
}

#[test]
fn a_session_is_hidden_from_other_tokens() {
    let server = Server::with_tokens();
    let session = Client::begin(&server, WRITER);
    // Not even a token of the same scope, or one with more rights, has a part in it.
    for token in [OTHER, READER, ADMIN] {
        is_hidden(&session, &session.shared_with(token));
    }
    assert_eq!(session.shared_with("no-such-token").send("DELETE", "", "").status, 401);
    assert_eq!(session.send("DELETE", "", "").status, 202);
    assert_eq!(session.post(&json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).status, 404, "it has ended");
}

/// Two rows may have one name: while a token is rotated, say.
#[test]
fn a_session_is_hidden_from_tokens_of_the_same_name_and_another_scope() {
    let tokens = TOKENS.replace("name = \"other\"", "name = \"writer\"");
    let server = Server::with_these_tokens(&tokens, &[]);
    let session = Client::begin(&server, WRITER);
    is_hidden(&session, &session.shared_with(OTHER));
}

/// As it is after a restart, and long after the last request.
#[test]
fn a_session_that_nobody_knows_is_nobodys() {
    let server = Server::with_tokens();
    let mut client = Client::new(&server, WRITER);
    let evil = ["00000000-0000-4000-8000-000000000000", "../x", "x' OR 1=1 --", "\u{e9}", &"x".repeat(10_000)];
    for session in evil {
        client.session = Some(session.to_owned());
        for message in [json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }), hello()] {
            assert_eq!(client.post(&message).status, 404, "{session}");
        }
        assert_eq!(client.send("GET", "", "").status, 404, "{session}");
        assert_eq!(client.send("DELETE", "", "").status, 404, "{session}");
    }
}

#[test]
fn rights_and_scopes_hold_in_sessions() {
    let server = Server::with_tokens();
    let (reader, writer, other) =
        (Client::begin(&server, READER), Client::begin(&server, WRITER), Client::begin(&server, OTHER));
    let names = |client: &Client<'_>| {
        let listed = client.ask("tools/list", &json!({}));
        let names = listed["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].to_string());
        names.collect::<Vec<_>>()
    };
    assert!(!names(&reader).contains(&"\"store_note\"".to_owned()) && names(&writer).len() == 14);
    let refused = reader.call("store_note", &json!({ "text": "x" }));
    assert_eq!((&refused["isError"], &refused["_meta"]["knowhow/error"]["kind"]), (&json!(true), &json!("forbidden")));
    let told = json!({ "task": "open the vault", "outcome": { "verdict": "success" } });
    let recorded = writer.call("record_episode", &told);
    let uri = format!("knowhow://episodes/{}", recorded["structuredContent"]["episode"].as_str().unwrap());
    let read = |client: &Client<'_>, uri: &str| client.ask("resources/read", &json!({ "uri": uri }));
    assert!(read(&reader, &uri)["result"]["contents"][0]["text"].as_str().unwrap().contains("vault"));
    for uri in [&uri[..], "knowhow://episodes/../health", "knowhow://episodes/", "file:///etc/passwd", ""] {
        let refused = read(&other, uri);
        assert!(refused["error"]["code"].is_i64() && !refused.to_string().contains("vault"), "{uri}: {refused}");
    }
    let listed = other.ask("resources/list", &json!({}));
    assert!(!listed.to_string().contains("vault"), "{listed}");
    let health = read(&writer, "knowhow://health").to_string();
    assert!(!health.contains("jobs"), "of the whole store: {health}");
}

/// Clients greet, say that they are ready, and list what there is, all within milliseconds.
#[test]
fn a_low_rate_is_enough_to_begin_a_session() {
    let tokens = TOKENS.replace("name = \"writer\"", "name = \"writer\"\nrate_per_minute = 60");
    let server = Server::with_these_tokens(&tokens, &[]);
    let client = Client::begin(&server, WRITER);
    for method in ["tools/list", "prompts/list", "resources/list"] {
        assert!(client.ask(method, &json!({}))["result"].is_object(), "{method}");
    }
}

/// A stream that stays open tells nothing to a token that has been taken out.
#[test]
fn streams_end_with_their_token() {
    let server = Server::with_tokens();
    let client = Client::begin(&server, WRITER);
    let mut stream = server.connect();
    let lines = client.headers().lines().map(|line| format!("{line}\r\n")).collect::<String>();
    let head = format!("GET /mcp HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{lines}\r\n", server.address);
    stream.write_all(head.as_bytes()).unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).unwrap();
    assert_eq!(begun, *b"HTTP/1.1 200");
    std::fs::write(server.tokens(), TOKENS.replace(WRITER, "fresh-token-0123456789")).unwrap();
    assert!(read(stream).is_none(), "the rest, up to the end, has no head");
}

/// Sessions are given up in time, but not that soon: a client may not open them without end.
#[test]
fn sessions_without_end_make_room_for_each_other() {
    let tokens = TOKENS.replace("name = \"writer\"", "name = \"writer\"\nrate_per_minute = 1000000");
    let server = Server::with_these_tokens(&tokens, &[]);
    let reader = Client::begin(&server, READER);
    let first = Client::begin(&server, WRITER);
    let newcomer = Client::new(&server, WRITER);
    for _ in 0..256 {
        assert_eq!(newcomer.post(&hello()).status, 200);
    }
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    assert_eq!(first.post(&list).status, 404, "the first has made room");
    assert_eq!(reader.post(&list).status, 200, "others have theirs");
    let last = Client::begin(&server, WRITER);
    assert_eq!(messages(&last.post(&list)).len(), 1);
}

/// Each left a task that followed the playbooks until one changed.
#[test]
fn nothing_is_left_of_a_session_that_has_ended() {
    let server = Inside::start();
    let held = Arc::strong_count(&server.service);
    let accept = "Content-Type: application/json\nAccept: application/json, text/event-stream";
    let session = server.request("POST /mcp", accept, &hello().to_string()).headers["mcp-session-id"].clone();
    let within = format!("{accept}\nMcp-Session-Id: {session}");
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
    assert_eq!(server.request("POST /mcp", &within, &ready).status, 202);
    until(|| Arc::strong_count(&server.service) > held);
    assert_eq!(server.request("DELETE /mcp", &within, "").status, 202);
    until(|| Arc::strong_count(&server.service) == held);
}

/// Asks by the protocol of 2026, which has no sessions: a request is whole in itself.
fn ask_without_session(server: &Server, token: &str, method: &str, mut params: Value) -> Answer {
    let name = params["name"].as_str().map(|name| format!("Mcp-Name: {name}\n")).unwrap_or_default();
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let message = json!({ "jsonrpc": "2.0", "id": "the one", "method": method, "params": params });
    let headers = format!("MCP-Protocol-Version: 2026-07-28\nMcp-Method: {method}\n{name}");
    Client::new(server, token).send("POST", &headers, &message.to_string())
}

#[test]
fn without_sessions_each_request_is_its_tokens() {
    let server = Server::with_tokens();
    let ask = |token| {
        let call = json!({ "name": "store_note", "arguments": { "text": "x" } });
        ask_without_session(&server, token, "tools/call", call)
    };
    let done = ask(WRITER);
    assert_eq!(messages(&done)[0]["result"]["isError"], false, "{done:?}");
    let refused = ask(READER);
    assert_eq!(messages(&refused)[0]["result"]["isError"], true, "{refused:?}");
}

/// Prompts told what was approved when a tool was last called.
#[test]
fn prompts_follow_what_another_process_approves() {
    let server = Server::start(Server::folder(), &["--set", "memory.consent=true"]);
    for name in ["login", "invoice", "cache", "parser", "router", "mailer", "queue", "report"] {
        for turn in 0..8 {
            let (first, lucky) = if turn < 4 { ("test", 3) } else { ("read", 1) };
            let outcome = json!({ "verdict": if turn % 4 < lucky { "success" } else { "failure" } });
            let steps = json!([{ "tool": first }, { "tool": "edit" }]);
            let episode = json!({ "task": format!("repair {name}"), "steps": steps, "outcome": outcome });
            assert_eq!(server.call("", "record_episode", &episode).status, 200);
        }
    }
    let rules = server.call("", "get_knowledge", &json!({ "what": "rules" })).json();
    let knowhow = |what: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_knowhow"));
        command.args(["knowledge", what, rules["rules"][0]["id"].as_str().unwrap(), "--store"]);
        command.arg(server.folder.path().join("knowhow.db")).env("HOME", server.folder.path());
        assert!(command.current_dir(server.folder.path()).output().unwrap().status.success());
    };
    let ask = |method: &str, params| messages(&ask_without_session(&server, "", method, params))[0].clone();
    let first = || ask("prompts/list", json!({}))["result"]["prompts"][0]["name"].clone();
    assert!(first().is_null());
    knowhow("approve");
    until(|| first().is_string());
    let prompt = json!({ "name": first() });
    assert!(ask("prompts/get", prompt.clone())["result"].is_object());
    knowhow("revoke");
    until(|| ask("prompts/get", prompt.clone())["error"].is_object());
}
