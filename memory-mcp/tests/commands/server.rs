//! The commands over a libSQL server. Without one these tests are skipped, each with a line; see `sqld.rs`.

use serde_json::Value;

use crate::place::Place;
use crate::sqld::Sqld;

fn on<'a>(url: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    [&["--store", url], command].concat()
}

/// Episodes of a file, on a server.
fn taught() -> Option<(Place, Sqld, String)> {
    let server = Sqld::start()?;
    let (place, url) = (Place::taught(), server.url());
    place.told(&["episodes", "export", "all.jsonl"]);
    assert_eq!(place.json(&on(&url, &["episodes", "import", "all.jsonl"]))["episodes"], 12);
    Some((place, server, url))
}

#[test]
fn what_is_on_a_server_is_looked_after() {
    let Some((place, server, url)) = taught() else { return };
    assert_eq!(place.json(&on(&url, &["episodes", "list"]))["total"], 12);
    assert_eq!(place.json(&on(&url, &["rebuild", "--verify"]))["same"], true);
    assert_eq!(place.json(&on(&url, &["cleanup", "--yes"]))["bytes_after"], Value::Null);
    let report = place.json(&on(&url, &["doctor"]));
    let checks: Vec<&Value> = report["findings"].as_array().unwrap().iter().map(|one| &one["check"]).collect();
    assert_eq!(checks, ["configuration", "embedder", "server", "vector space", "jobs", "cache"]);
    assert_eq!(report["state"], "ok", "{report}");
    drop(server);
    place.run(&on(&url, &["stats"])).failed(1, "unavailable");
}

#[cfg(feature = "replica")]
#[test]
fn a_local_copy_says_how_far_it_has_come() {
    let Some((place, server, url)) = taught() else { return };
    let copied = |command: &[&'static str]| on(&url, &[command, &["--set", "store.replica=copy.db"]].concat());
    let first = place.json(&copied(&["sync", "status"]));
    assert_eq!((&first["replica"], &first["error"]), (&"copy.db".into(), &Value::Null));
    place.told(&on(&url, &["cleanup", "--yes"]));
    assert!(place.told(&copied(&["sync", "status"])).contains("all that the server has"));
    drop(server);
    let ran = place.run(&copied(&["sync", "status", "--json"]));
    assert!(ran.code == 1 && ran.json()["error"].as_str().unwrap().contains("unavailable"), "{ran:?}");
}
