//! Messages to the MCP server, one on each line, after the greeting.

use std::time::Duration;

use memory_core::{InMemoryStore, Memory, Source};
use memory_mcp::mcp::McpServer;
use memory_mcp::redact::Redactor;
use memory_mcp::service::{Caller, Right, Service};
use rmcp::ServiceExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::time::timeout;

use crate::runtime;

/// More than all answers are, so that the server never waits for us.
const BUFFER: usize = 1 << 24;

pub(crate) fn run(data: &[u8]) {
    runtime().block_on(async {
        let memory = Memory::builder().store(InMemoryStore::new()).build().await.unwrap();
        let scope = memory.scope().clone();
        let service = Service::new(memory, Some(Redactor::all()), None, Vec::new());
        let caller = Caller::new(service, scope, Source::default(), Right::Admin).unwrap();
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let server = tokio::spawn(McpServer::new(caller).serve(tokio::io::split(theirs)));
        let mut client = BufReader::new(ours);
        let name = json!({ "name": "fuzz", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": name });
        send(&mut client, &request("hello", "initialize", hello)).await;
        answers(&mut client, vec![json!("hello")]).await;
        send(&mut client, &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        let running = server.await.unwrap().unwrap();

        client.write_all(&[data, b"\n"].concat()).await.unwrap();
        let note = json!({ "name": "store_note", "arguments": { "text": "still here" } });
        send(&mut client, &request("last words", "tools/call", note)).await;
        let mut expected = asked(data);
        expected.push(json!("last words"));
        answers(&mut client, expected).await;
        running.cancel().await.unwrap();
    });
}

fn request(id: &str, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

async fn send(client: &mut BufReader<DuplexStream>, message: &Value) {
    client.write_all(format!("{message}\n").as_bytes()).await.unwrap();
}

/// The ids of the requests among these lines that must be answered; none if one may take another back.
fn asked(data: &[u8]) -> Vec<Value> {
    let lines = data.split(|byte| *byte == b'\n');
    let read = |line: &[u8]| {
        let message: Value = serde_json::from_slice(line).ok()?;
        // Else it may have a field twice.
        (message.to_string().len() == line.len()).then_some(message)
    };
    let messages: Vec<Value> = lines.filter_map(read).collect();
    if String::from_utf8_lossy(data).contains("cancel") || data.contains(&b'\\') {
        return Vec::new();
    }
    messages.iter().filter(|message| is_request(message)).map(|message| message["id"].clone()).collect()
}

fn is_request(message: &Value) -> bool {
    let sound = message["jsonrpc"] == "2.0" && message["id"].as_u64().is_some_and(|id| id < 1 << 32);
    let fields = message.as_object().map_or(0, |fields| fields.len());
    let params = &message["params"];
    let known = match message["method"].as_str() {
        Some("ping" | "tools/list" | "prompts/list" | "resources/list") => fields == 3,
        Some("tools/call") => fields == 4 && params["name"].is_string() && params["arguments"].is_object(),
        _ => false,
    };
    sound && known
}

/// Waits for the answers to all of these; whatever else comes is a message of the protocol, too.
async fn answers(client: &mut BufReader<DuplexStream>, mut expected: Vec<Value>) {
    while !expected.is_empty() {
        let mut line = String::new();
        let read = timeout(Duration::from_secs(60), client.read_line(&mut line)).await;
        let read = read.unwrap_or_else(|_| panic!("{expected:?} are not answered")).unwrap();
        assert!(read > 0, "the server has gone");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        let kinds = ["result", "error", "method"].into_iter().filter(|kind| message.get(kind).is_some());
        assert_eq!(kinds.count(), 1, "{line}");
        if message["id"] == "last words" {
            assert_eq!(message["result"]["isError"], false, "{line}");
        }
        expected.retain(|id| *id != message["id"]);
    }
}
