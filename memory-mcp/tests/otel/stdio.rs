//! What is told of calls over stdin and stdout, as the standard environment variables say.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::client::hello;
use crate::collector::Collector;

#[test]
fn calls_are_told_when_the_client_goes() {
    let collector = Collector::new();
    let call = |id: u32, name: &str, arguments: serde_json::Value| {
        let params = json!({ "name": name, "arguments": arguments });
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string()
    };
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
    let calls = [call(2, "store_note", json!({ "text": "hush" })), call(3, "get_note", json!({ "id": "hush" }))];
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_knowhow"));
    command.args(["mcp", "--scope", "acme", "--store"]).arg(folder.path().join("knowhow.db"));
    command
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    command.env("OTEL_SERVICE_NAME", "memory of a test").env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=let me in");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = [&hello().to_string(), &ready, &calls[0], &calls[1]].map(|line| format!("{line}\n")).concat();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let (stored, refused) =
        (collector.span("call", "operation", "store_note"), collector.span("call", "operation", "get_note"));
    for call in [&stored, &refused] {
        assert_eq!(
            (call.of("scope"), &call.parent[..], &call.resource["service.name"][..]),
            ("acme", "", "memory of a test")
        );
    }
    assert!(stored.of("ids").len() == 36 && !stored.failed, "{stored:?}");
    assert_eq!((refused.of("error.type"), refused.failed), ("invalid_value", true));
    assert_ne!(stored.trace, refused.trace);
    assert_eq!(collector.header("x-key"), ["let me in"]);
    assert_eq!(collector.header("content-type"), ["application/x-protobuf"]);
    assert!(!String::from_utf8_lossy(&collector.bytes()).contains("hush"));
}
