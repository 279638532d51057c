//! Messages that are none.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::client::Client;

const MESSAGES: usize = 10_000;

/// A request that is well formed, to be spoilt.
fn request(random: &mut StdRng) -> String {
    let tools = ["start_episode", "record_step", "recall", "store_note", "get_knowledge", "no_such_tool"];
    let arguments = [
        json!({ "task": "x" }),
        json!({ "episode": "not an id", "step": { "tool": "grep" } }),
        json!({ "task": ["x"], "k": -1 }),
        json!({ "text": "\u{0}", "tags": null }),
        json!([1, 2]),
        json!({ "task": "../../etc/passwd", "context": { "domain": "'; DROP TABLE episodes; --" } }),
    ];
    let params = json!({
        "name": tools[random.random_range(0..tools.len())],
        "arguments": arguments[random.random_range(0..arguments.len())],
    });
    let methods = ["tools/call", "tools/list", "resources/read", "prompts/get", "ping", "initialize", "nonsense"];
    let method = methods[random.random_range(0..methods.len())];
    json!({ "jsonrpc": "2.0", "id": random.random_range(0..1_000), "method": method, "params": params }).to_string()
}

/// Bytes of it changed, taken away, doubled, or cut off.
fn spoilt(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = request(random).into_bytes();
    for _ in 0..random.random_range(0..4) {
        let place = random.random_range(0..bytes.len().max(1));
        match random.random_range(0..4) {
            _ if bytes.is_empty() => {}
            0 => bytes[place] = random.random(),
            1 => drop(bytes.remove(place)),
            2 => bytes.insert(place, bytes[place]),
            _ => bytes.truncate(place.max(1)),
        }
    }
    bytes.retain(|byte| *byte != b'\n');
    bytes
}

#[test]
fn malformed_messages_leave_the_server_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(&folder.path().join("knowhow.db"), &[]);
    let mut random = StdRng::seed_from_u64(7);
    for batch in 0..MESSAGES / 100 {
        for _ in 0..100 {
            client.send_bytes(&spoilt(&mut random));
        }
        // Whatever it has answered to those is passed over.
        let answer = client.call("tools/list", json!({}));
        assert!(answer["result"]["tools"].is_array(), "after batch {batch}: {answer}");
    }
    client.tool("store_note", json!({ "text": "still here" }));
    client.end();
}
