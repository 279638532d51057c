//! The tools as clients are told of them.

use serde_json::{Value, json};

use crate::client::Client;

/// A change of names or schemas is a change for every client: it shows in this file. `KNOWHOW_WRITE_GOLDEN=1` writes it anew.
#[test]
fn tools_are_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(&folder.path().join("knowhow.db"), &[]);
    let tools = client.call("tools/list", json!({}))["result"]["tools"].clone();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stdio/tools.json");
    if std::env::var_os("KNOWHOW_WRITE_GOLDEN").is_some() {
        std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&tools).unwrap())).unwrap();
    }
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(tools, golden);
    client.end();
}

#[test]
fn calls_go_on_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(&folder.path().join("knowhow.db"), &[]);
    for number in 0..100 {
        let call = json!({ "name": "store_note", "arguments": { "text": format!("note {number}") } });
        client.send(&json!({ "jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call }).to_string());
    }
    let mut answered: Vec<u64> = (0..100).map(|_| client.receive()["id"].as_u64().unwrap()).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..100).collect::<Vec<_>>());
    client.end();
}
