//! Several servers on one file: every MCP client starts its own.

use std::path::Path;
use std::thread;

use serde_json::json;

use crate::client::Client;

/// Calls of each client.
const CALLS: usize = 1_000;

/// Records, notes and questions in turn; every one is answered.
fn work(store: &Path, name: &str) {
    let mut client = Client::start(store, &[]);
    for number in 0..CALLS / 4 {
        let task = format!("{name} repairs part {number}");
        let started = client.tool("start_episode", json!({ "task": task, "context": { "domain": "web" } }));
        let step = json!({ "tool": "grep", "input": task });
        client.tool("record_step", json!({ "episode": started["episode"], "step": step }));
        let outcome = json!({ "verdict": "success" });
        client.tool("complete_episode", json!({ "episode": started["episode"], "outcome": outcome }));
        client.tool("store_note", json!({ "text": format!("{name} knows fact {number}") }));
    }
    client.end();
}

#[test]
fn two_servers_on_one_file_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("shared.db");
    thread::scope(|scope| {
        for name in ["one", "two"] {
            let store = &store;
            scope.spawn(move || work(store, name));
        }
    });
    let mut client = Client::start(&store, &[]);
    let told = client.tool("get_statistics", json!({}));
    let expected = json!({ "episodes": CALLS / 2, "notes": CALLS / 2, "open_episodes": 0 });
    for (what, count) in expected.as_object().unwrap() {
        assert_eq!(told["store"][what], *count, "{what}: {told}");
    }
    for name in ["one", "two"] {
        let text = format!("{name} knows fact 0");
        let found = client.tool("find_notes", json!({ "query": text }));
        assert_eq!(found["notes"][0]["text"], text);
    }
    client.end();
}
