//! A server is killed while an episode is open.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;

/// Leases of a second, so that the next server need not wait long.
const SHORT: [&str; 2] = ["--set", "memory.lease_seconds=1"];

/// A server begins an episode in this folder, takes a step and is killed; the next one, and the episode.
fn killed(folder: &TempDir) -> (Client, Value) {
    let store = folder.path().join("knowhow.db");
    let mut killed = Client::start(&store, &SHORT);
    let episode = killed.tool("start_episode", json!({ "task": "make the login test pass" }))["episode"].clone();
    let step = json!({ "tool": "grep", "observation": "src/auth.rs:42" });
    killed.tool("record_step", json!({ "episode": episode, "step": step }));
    killed.child.kill().unwrap();
    (Client::start(&store, &SHORT), episode)
}

#[test]
fn the_next_server_goes_on_where_a_killed_one_was() {
    let folder = tempfile::tempdir().unwrap();
    let (mut next, episode) = killed(&folder);
    let step = json!({ "episode": episode, "step": { "tool": "edit" } });
    let written = loop {
        match next.try_tool("record_step", step.clone()) {
            Ok(written) => break written,
            Err(error) => assert!(error.contains("held by another"), "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(written["steps"], 2, "the first step was kept");
    next.tool("complete_episode", json!({ "episode": episode, "outcome": { "verdict": "success" } }));
    next.end();
}

#[test]
fn what_nobody_goes_on_with_is_closed_and_learned_from() {
    let folder = tempfile::tempdir().unwrap();
    let (mut next, episode) = killed(&folder);
    let uri = format!("knowhow://episodes/{}", episode.as_str().unwrap());
    let told = loop {
        let answer = next.call("resources/read", json!({ "uri": uri }));
        match answer["result"]["contents"][0]["text"].as_str() {
            Some(text) => break serde_json::from_str::<Value>(text).unwrap(),
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    assert_eq!((&told["outcome"]["verdict"], &told["steps"][0]["tool"]), (&json!("interrupted"), &json!("grep")));
    next.end();
}
