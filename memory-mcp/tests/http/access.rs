//! Who may do what.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::server::{ADMIN, OLD, OTHER, READER, SLOW, Server, TOKENS, WRITER, until};

#[test]
fn only_valid_tokens_are_let_in() {
    let server = Server::with_tokens();
    let note = json!({ "text": "hello" });
    for wrong in [OLD, "", "no-such-token", "Admin-token-0123456789", &"x".repeat(5_000)] {
        let answer = server.call(wrong, "store_note", &note);
        assert_eq!((answer.status, answer.kind()), (401, "unauthorized".to_owned()), "{wrong}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    for header in ["", "Authorization: Basic YTpi", "Authorization: Bearer", &format!("Authorization: {ADMIN}")] {
        assert_eq!(server.request("POST /v1/store_note", header, "{}").status, 401, "{header}");
        assert_eq!(server.request("POST /mcp", header, "{}").status, 401, "{header}");
        assert_eq!(server.request("GET /metrics", header, "").status, 401, "{header}");
    }
    assert_eq!(server.call(WRITER, "store_note", &note).status, 200);
    let (ended, log) = server.end();
    assert!(ended);
    for secret in [ADMIN, WRITER, OLD, "no-such-token", "hello"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn each_right_goes_as_far_as_it_says() {
    let server = Server::with_tokens();
    let note = json!({ "text": "hello" });
    let refused = server.call(READER, "store_note", &note);
    assert_eq!((refused.status, refused.kind()), (403, "forbidden".to_owned()));
    assert_eq!(server.call(READER, "find_notes", &json!({})).status, 200);
    assert_eq!(server.call(WRITER, "get_statistics", &json!({})).json().get("store"), None);
    assert!(server.call(ADMIN, "get_statistics", &json!({})).json()["store"].is_object());
    for (token, status) in [(ADMIN, 200), (WRITER, 403), (READER, 403)] {
        assert_eq!(server.get(token, "/metrics").status, status);
        assert_eq!(server.get(token, "/metrics.json").status, status);
        assert_eq!(server.get(token, "/health").json().get("jobs").is_some(), status == 200);
    }
}

#[test]
fn nothing_of_another_scope_can_be_reached() {
    let server = Server::with_tokens();
    let note = server.call(WRITER, "store_note", &json!({ "text": "the vault is open" })).json()["id"].clone();
    let outcome = json!({ "verdict": "success" });
    let told = json!({ "task": "open the vault", "outcome": outcome });
    let episode = server.call(WRITER, "record_episode", &told).json()["episode"].clone();
    let open = server.call(WRITER, "start_episode", &json!({ "task": "close the vault" })).json()["episode"].clone();
    for (operation, arguments) in [
        ("get_note", json!({ "id": note })),
        ("update_note", json!({ "id": note, "text": "x" })),
        ("delete_note", json!({ "id": note })),
        ("record_step", json!({ "episode": open, "step": { "tool": "x" } })),
        ("suggest_next", json!({ "episode": open })),
        ("recall", json!({ "episode": open })),
        ("complete_episode", json!({ "episode": open, "outcome": outcome })),
        ("get_knowledge", json!({ "explain": episode })),
    ] {
        assert_eq!(server.call(OTHER, operation, &arguments).status, 404, "{operation}");
    }
    for (operation, arguments) in [
        ("find_notes", json!({})),
        ("find_notes", json!({ "query": "the vault" })),
        ("recall", json!({ "task": "open the vault" })),
        ("get_knowledge", json!({ "what": "patterns" })),
        ("get_statistics", json!({})),
    ] {
        let answer = server.call(OTHER, operation, &arguments);
        assert!(answer.status == 200 && !answer.body.contains("vault"), "{operation}: {answer:?}");
    }
    let same = json!({ "task": "mine", "outcome": outcome, "id": episode });
    assert_eq!(server.call(OTHER, "record_episode", &same).status, 409, "an id is taken, and no more is told");
    assert_eq!(server.call(WRITER, "get_note", &json!({ "id": note })).status, 200);
}

#[test]
fn other_hosts_and_origins_are_refused() {
    let server = Server::with_tokens();
    let token = format!("Authorization: Bearer {ADMIN}");
    for (line, headers, status) in [
        ("POST /v1/find_notes", "Origin: http://evil.example", 403),
        ("POST /mcp", "Origin: null", 403),
        ("GET /health", "Origin: http://localhost:1", 403),
        ("POST /v1/find_notes", "Host: evil.example", 421),
        ("GET /health", "Host: localhost:1", 421),
    ] {
        let answer = server.request(line, &format!("{token}\n{headers}"), "");
        // A second Host line is as wrong as a wrong one.
        assert_eq!(answer.status, status, "{line} {headers}: {answer:?}");
    }
    for host in ["evil.example", "127.0.0.1", "localhost@evil.example", ""] {
        let raw = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let status = server.raw(raw.as_bytes()).unwrap().status;
        assert!([400, 421].contains(&status), "{host}: {status}");
    }
    let port = server.address.split_once(':').unwrap().1;
    let own = format!("{token}\nOrigin: http://localhost:{port}");
    assert_eq!(server.request("POST /v1/find_notes", &own, "").status, 200);
}

/// A request's target may name a host of its own, which then is the one that counts (RFC 9112, section 3.2.2).
#[test]
fn hosts_in_targets_are_checked_too() {
    let server = Server::with_tokens();
    let host = &server.address;
    let ask = |target: &str, lines: &str| {
        let raw = format!("GET {target} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
        server.raw(raw.as_bytes()).unwrap().status
    };
    for target in ["http://evil.example/health", "http://localhost:1/health", "http://x@evil.example/health"] {
        assert!([400, 421].contains(&ask(target, &format!("Host: {host}\r\n"))), "{target}");
    }
    assert_eq!(ask(&format!("http://{host}/health"), &format!("Host: {host}\r\n")), 200);
    let two = format!("Host: {host}\r\nHost: evil.example\r\n");
    assert!([400, 421].contains(&ask("/health", &two)) && [400, 421].contains(&ask("/health", "")));
}

#[test]
fn hosts_and_origins_can_be_allowed() {
    let folder = Server::folder();
    let set = ["--set", "http.hosts=memory.example", "--set", "http.origins=https://app.example"];
    let server = Server::start(folder, &set);
    let ask = |host: &str, origin: &str| {
        let raw = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n");
        server.raw(raw.as_bytes()).unwrap().status
    };
    assert_eq!(ask("memory.example:443", "https://app.example"), 200);
    assert_eq!(ask("memory.example", "https://app.example.evil"), 403);
    assert_eq!(ask("memory.example.evil", "https://app.example"), 421);
}

#[test]
fn a_token_has_its_rate() {
    let server = Server::with_tokens();
    let mut answers = (0..1_000).map(|_| server.call(SLOW, "find_notes", &json!({})));
    assert_eq!(answers.next().unwrap().status, 200);
    let refused = answers.find(|answer| answer.status != 200).unwrap();
    assert_eq!((refused.status, refused.kind()), (429, "rate_limited".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    let error = &refused.json()["error"];
    assert!(error["temporary"] == true && error["retry_after_seconds"].as_f64().unwrap() > 0.0, "{error}");
    assert_eq!(server.call(READER, "find_notes", &json!({})).status, 200, "others have theirs");
}

/// Writes the file of tokens with a time of change of its own.
fn rewrite(server: &Server, text: &str, at: u64) {
    std::fs::write(server.tokens(), text).unwrap();
    let file = std::fs::File::options().write(true).open(server.tokens()).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(at)).unwrap();
}

#[test]
fn tokens_are_rotated_without_a_restart() {
    let server = Server::with_tokens();
    let status = |token: &str| server.call(token, "find_notes", &json!({})).status;
    assert_eq!((status(WRITER), status("fresh-token-0123456789")), (200, 401));
    rewrite(&server, &TOKENS.replace(WRITER, "fresh-token-0123456789"), 1);
    until(|| status("fresh-token-0123456789") == 200);
    assert_eq!(status(WRITER), 401);
    rewrite(&server, "[[token]]\nname = 5", 2);
    until(|| server.request("GET /ready", "", "").status == 503);
    assert_eq!(status("fresh-token-0123456789"), 200, "those from before hold");
    rewrite(&server, TOKENS, 3);
    until(|| server.request("GET /ready", "", "").status == 200);
    assert_eq!(status(WRITER), 200);
}

/// Whatever is wrong with a file, those from before hold, and nobody is told what stands in it.
#[test]
fn a_broken_file_is_not_quoted() {
    let server = Server::with_tokens();
    let right = "right = \"read\"";
    let broken = [
        "[[token]]\nname = \"hush".to_owned(),
        TOKENS.replace(right, "right = \"read\"\nrate_per_minute = \"hush-hush\""),
        TOKENS.replace(right, "right = \"read\"\nrate_per_minute = 0"),
        TOKENS.replace(right, "right = \"hush-hush\""),
        TOKENS.replace(right, "right = \"read\"\nhash = [\"hush-hush\"]"),
        TOKENS.replace(right, "right = \"read\"\nhush-hush = \"hush-hush\""),
        TOKENS.replace(right, "right = \"read\"\ntrust = \"hush-hush\""),
        TOKENS.replace("\"other\"\nright", "\"hush hush\"\nright"),
        TOKENS.replace("2026-01-01T00:00:00Z", "\"hush-hush\""),
        TOKENS.replace("2026-01-01T00:00:00Z", "2026-01-01"),
        // The same token for two.
        TOKENS.replace(OTHER, WRITER),
    ];
    let ready = || server.request("GET /ready", "", "");
    for (text, at) in broken.iter().zip((10..).step_by(2)) {
        rewrite(&server, text, at);
        until(|| ready().status == 503);
        assert!(!ready().body.contains("hush"), "{:?}", ready());
        assert_eq!(server.call(WRITER, "find_notes", &json!({})).status, 200, "{text}");
        rewrite(&server, TOKENS, at + 1);
        until(|| ready().status == 200);
    }
    // Whoever takes the last one out means that.
    for (text, at) in ["", "token = []\n"].iter().zip((1_000..).step_by(2)) {
        rewrite(&server, text, at);
        until(|| server.call(WRITER, "find_notes", &json!({})).status == 401);
        assert_eq!(ready().status, 200);
        rewrite(&server, TOKENS, at + 1);
        until(|| server.call(WRITER, "find_notes", &json!({})).status == 200);
    }
    std::fs::remove_file(server.tokens()).unwrap();
    until(|| ready().status == 503);
    assert_eq!(server.call(WRITER, "find_notes", &json!({})).status, 200);
    let (ended, log) = server.end();
    assert!(ended && !log.contains("hush"), "{log}");
    assert_eq!(log.matches("the changed file of tokens is not used").count(), broken.len() + 1, "{log}");
}

/// How it ends when it cannot begin.
fn refused(bind: &str, tokens: Option<&str>, code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_knowhow"));
    if let Some(tokens) = tokens {
        std::fs::write(folder.path().join("tokens.toml"), tokens).unwrap();
        command.args(["--set", "http.tokens=tokens.toml"]);
    }
    command.args(["serve", "--bind", bind, "--store"]).arg(folder.path().join("knowhow.db"));
    let mut child =
        command.current_dir(folder.path()).env("HOME", folder.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    // Its first line, and the rest if it has ended.
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    lines.read_line(&mut told).unwrap();
    if told.contains("serving") {
        child.kill().unwrap();
    }
    lines.read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(code), "{told}");
    told
}

#[test]
fn beyond_loopback_tokens_are_needed() {
    for bind in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let told = refused(bind, None, 3);
        assert!(told.contains("http.bind") && told.contains("http.tokens"), "{told}");
        // A file without any is as good as none.
        let told = refused(bind, Some("token = []\n"), 1);
        assert!(told.contains("tokens.toml") && told.contains("no token"), "{told}");
    }
    let told = refused("127.0.0.1:0", Some("[[token]]\nname = \"x\"\ntoken = \"hush\"\n"), 1);
    assert!(told.contains("tokens.toml") && !told.contains("hush"), "{told}");
}

/// A proxy before it passes the names on by which it is known.
#[test]
fn with_tokens_it_listens_everywhere() {
    let folder = Server::folder();
    std::fs::write(folder.path().join("tokens.toml"), TOKENS).unwrap();
    let set =
        ["--set", "http.bind=0.0.0.0:0", "--set", "http.tokens=tokens.toml", "--set", "http.hosts=memory.example"];
    let mut server = Server::start(folder, &set);
    server.address = server.address.replace("0.0.0.0", "127.0.0.1");
    for (host, status) in [("memory.example", 200), ("memory.example:443", 200), ("evil.example", 421)] {
        let line = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        let raw = format!("{line}Authorization: Bearer {ADMIN}\r\n\r\n");
        assert_eq!(server.raw(raw.as_bytes()).unwrap().status, status, "{host}");
    }
    assert_eq!(server.call("", "find_notes", &json!({})).status, 401);
}
