//! `knowhow stats`, `health`, `sync`, `demo`.

use memory_core::NewNote;

use crate::peers::closed_port;
use crate::place::Place;

#[test]
fn statistics_count_what_is_there() {
    let place = Place::taught();
    place.work(
        |builder| builder,
        async |memory| {
            memory.remember(NewNote::new("tests run on the staging host")).await.unwrap();
        },
    );
    let stats = place.json(&["stats"]);
    assert_eq!((&stats["store"]["episodes"], &stats["notes"]["active"]), (&12.into(), &1.into()));
    assert!(stats["rules"]["active"].as_u64().unwrap() >= 1, "{stats}");
    assert_eq!(stats["files"][0]["path"], place.database().to_str().unwrap());
    let told = place.told(&["stats"]);
    for part in ["scope", "12 episodes, 0 open, 1 note", "active", "memory.db"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
}

#[test]
fn health_fails_when_something_is_degraded() {
    let place = Place::new();
    place.record(&["login"]);
    let well = place.json(&["health"]);
    assert_eq!((&well["status"], &well["store"]["episodes"]), (&"ok".into(), &2.into()));
    assert!(place.told(&["health"]).starts_with("ok\nJOB"));
    let url = format!("embedder.url={}/v1", closed_port());
    let away = ["--set", "embedder.kind=openai", "--set", "embedder.model=tiny", "--set", &url];
    place.run(&[&["health"], &away[..]].concat()).failed(1, "unavailable");
    // What needs no embedder works without it.
    assert_eq!(place.json(&[&["stats"], &away[..]].concat())["store"]["episodes"], 2);
}

#[test]
fn there_is_no_copy_to_sync_of_a_file() {
    let place = Place::new();
    place.record(&["login"]);
    assert_eq!(place.json(&["sync", "status"])["replica"], serde_json::Value::Null);
    assert!(place.told(&["sync", "status"]).contains("no local copy"));
}

#[test]
fn the_demo_learns_and_leaves_nothing() {
    let place = Place::new();
    let told = place.told(&["demo"]);
    for part in ["12 episodes", "What is recalled", "% grep", "web: do grep", "knowhow mcp"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let answer = place.json(&["demo"]);
    assert_eq!(answer["suggested"]["suggestions"][0]["tool"], "grep");
    assert!(answer["known"]["total"].as_u64().unwrap() >= 2);
    assert_eq!(place.files(), [""; 0]);
}
