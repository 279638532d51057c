//! What is told of requests and calls over HTTP.

use std::collections::BTreeSet;

use serde_json::json;

use crate::client::Client;
use crate::collector::Collector;
use crate::server::{READER, Server, WRITER, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn server(collector: &Collector) -> Server {
    Server::with_tokens_and(&["--set", &format!("log.otlp_endpoint={}", collector.endpoint)])
}

fn traced(id: &str, token: &str) -> String {
    format!(
        "Authorization: Bearer {token}\nX-Request-Id: {id}\nTraceparent: 00-{TRACE}-{PARENT}-01\nTracestate: hush=hush"
    )
}

#[test]
fn the_trace_of_the_client_goes_on_through_request_and_call() {
    let collector = Collector::new();
    let server = server(&collector);
    let call = |id: &str, operation: &str, token: &str, arguments: &serde_json::Value| {
        server.request(&format!("POST /v1/{operation}"), &traced(id, token), &arguments.to_string())
    };
    let note = call("one", "store_note", WRITER, &json!({ "text": "hush" })).json()["id"].as_str().unwrap().to_owned();
    assert_eq!(call("two", "get_note", WRITER, &json!({ "id": "hush" })).status, 400);
    assert_eq!(call("three", "store_note", READER, &json!({ "text": "hush" })).status, 403);
    assert_eq!(call("four", "find_notes", "hush", &json!({ "query": "hush" })).status, 401);
    let client = Client::begin(&server, WRITER);
    let message = json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": { "name": "find_notes", "arguments": { "query": "hush" } },
    });
    let headers = format!("X-Request-Id: five\nTraceparent: 00-{TRACE}-{PARENT}-01\n");
    assert_eq!(client.send("POST", &headers, &message.to_string()).status, 200);
    // By themselves, while the session of the client goes on.
    until(|| collector.spans().iter().any(|span| span.name == "call" && span.of("operation") == "find_notes"));
    until(|| collector.spans().iter().filter(|span| span.of("path") == "/mcp").count() == 3);
    assert!(server.end().0);
    for (id, operation, scope, status, error, ids) in [
        ("one", "store_note", "acme", "200", "", &note[..]),
        ("two", "get_note", "acme", "400", "invalid_value", ""),
        ("three", "store_note", "acme", "403", "forbidden", ""),
        ("five", "find_notes", "acme", "200", "", ""),
    ] {
        let (request, call) = (collector.span("request", "request_id", id), collector.span("call", "request_id", id));
        assert_eq!((&request.trace[..], &request.parent[..], request.serves), (TRACE, PARENT, true), "{request:?}");
        assert_eq!((&call.trace, &call.parent), (&request.trace, &request.id), "{call:?}");
        assert_eq!((request.of("http.response.status_code"), request.failed), (status, false), "{request:?}");
        assert_eq!((call.of("operation"), call.of("scope"), call.of("ids")), (operation, scope, ids), "{call:?}");
        assert_eq!((call.of("error.type"), call.failed), (error, !error.is_empty()), "{call:?}");
        assert!(request.nanoseconds > 0 && call.nanoseconds > 0, "{request:?} {call:?}");
    }
    let refused = collector.span("request", "request_id", "four");
    assert_eq!((refused.of("http.response.status_code"), refused.of("path")), ("401", "/v1/{operation}"));
    assert_eq!(refused.resource["service.name"], "knowhow");
    assert_eq!(refused.resource["service.version"], env!("CARGO_PKG_VERSION"));
    let sent = String::from_utf8_lossy(&collector.bytes()).to_lowercase();
    for secret in ["hush", WRITER, READER] {
        assert!(!sent.contains(secret), "{secret} in {sent}");
    }
}

/// What is no trace, or one that nobody records.
#[test]
fn other_traces_are_not_continued() {
    let collector = Collector::new();
    let server = server(&collector);
    let odd = [
        String::new(),
        "hush".to_owned(),
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{TRACE}-{PARENT}-01-hush"),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{TRACE}é-{PARENT}-01"),
        format!("00-{}-{PARENT}-01", "f".repeat(60)),
    ];
    for header in &odd {
        assert_eq!(server.request("GET /health", &format!("Traceparent: {header}"), "").status, 200, "{header}");
    }
    let unrecorded = format!("X-Request-Id: unrecorded\nTraceparent: 00-{TRACE}-{PARENT}-00");
    assert_eq!(server.request("GET /health", &unrecorded, "").status, 200);
    assert!(server.end().0);
    let spans = collector.spans();
    let traces: BTreeSet<&String> = spans.iter().map(|span| &span.trace).collect();
    assert_eq!((spans.len(), traces.len()), (odd.len(), odd.len()), "each begins a trace of its own: {spans:#?}");
    assert!(spans.iter().all(|span| span.trace != TRACE && span.parent.is_empty()), "{spans:#?}");
}
