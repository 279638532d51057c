//! `knowhow cache`.

use crate::peers::Server;
use crate::place::Place;

#[test]
fn a_cache_is_warmed_for_the_next_start() {
    let place = Place::taught();
    let warm = place.json(&["cache", "warm"]);
    assert_eq!((&warm["mode"], &warm["ready"], &warm["searched"]), (&"file".into(), &true.into(), &12.into()));
    assert!(place.path("memory.cache.redb").exists());
    let stats = place.json(&["cache", "stats"]);
    assert_eq!((&stats["mode"], &stats["searched"], &stats["version"]), (&"file".into(), &12.into(), &warm["version"]));
    let told = place.told(&["cache", "stats"]);
    assert!(told.contains("kept in") && told.contains("searched"), "{told}");
}

#[test]
fn a_cache_that_another_process_has_is_not_warmed() {
    let place = Place::taught();
    let server = Server::start(&place);
    let stats = place.json(&["cache", "stats"]);
    assert_eq!(stats["mode"], "memory");
    assert!(stats["reason"].as_str().unwrap().contains("open in another process"), "{stats}");
    place.run(&["cache", "warm"]).failed(1, "open in another process");
    drop(server);
    place.told(&["cache", "warm"]);
}

#[test]
fn there_may_be_no_cache() {
    let place = Place::taught();
    let off = ["--set", "store.cache=off"];
    assert_eq!(place.json(&[&["cache", "stats"], &off[..]].concat())["mode"], "none");
    place.run(&[&["cache", "warm"], &off[..]].concat()).failed(1, "no cache");
}

/// A command that took the cache's file would leave a server that starts meanwhile without it.
#[test]
fn other_commands_leave_the_cache_alone() {
    let place = Place::taught();
    place.told(&["stats"]);
    place.told(&["episodes", "search", "login"]);
    assert!(!place.path("memory.cache.redb").exists());
}
