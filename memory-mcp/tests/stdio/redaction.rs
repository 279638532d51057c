//! What is redacted is on no disk, and in no answer.

use serde_json::json;

use crate::client::Client;

#[test]
fn secrets_are_replaced_before_they_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("knowhow.db");
    let mut client = Client::start(&store, &["--set", "memory.redact=all"]);
    let outcome = json!({ "verdict": "success", "summary": "told ann@secret.example" });
    let step = json!({ "tool": "login", "input": "password=Hunter2Hunter", "observation": "card 4111111111111111" });
    let episode = json!({ "task": "write to ann@secret.example", "steps": [step], "outcome": outcome });
    client.tool("record_episode", episode);
    client.tool(
        "store_note",
        json!({ "text": "ann@secret.example is on +49 170 1234567", "tags": ["ann@secret.example"] }),
    );
    let recalled = client.tool("recall", json!({ "task": "write to bob@secret.example" }));
    let text = recalled["text"].as_str().unwrap();
    assert!(text.contains("[redacted:email]"), "{text}");
    client.end();
    for file in folder.path().read_dir().unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in ["secret.example", "Hunter2Hunter", "4111111111111111", "1234567"] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
        }
    }
}
