//! `knowhow episodes`.

use memory_core::{Outcome, Recording, Scope, Step, Task};
use serde_json::Value;

use crate::place::Place;

fn ids(answer: &Value, of: &str) -> Vec<String> {
    let episodes = answer[of].as_array().unwrap();
    episodes.iter().map(|episode| episode["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_list_has_the_last_one_first() {
    let place = Place::new();
    place.record(&["login", "logout"]);
    let all = place.json(&["episodes", "list"]);
    let tasks: Vec<&str> =
        all["episodes"].as_array().unwrap().iter().map(|one| one["task"].as_str().unwrap()).collect();
    assert_eq!(all["total"], 4);
    assert!(tasks[0].contains("logout") && tasks[3].contains("login"), "{tasks:?}");
    let two = place.json(&["episodes", "list", "--limit", "2"]);
    assert_eq!(ids(&two, "episodes"), ids(&all, "episodes")[..2]);

    let told = place.told(&["episodes", "list", "--limit", "1"]);
    assert!(told.starts_with("ID ") && told.contains("success") && told.contains("1 of 4 episodes"), "{told}");
    assert!(!told.contains('\x1b'), "{told}");
}

#[test]
fn a_list_is_filtered() {
    let place = Place::new();
    place.record(&["login"]);
    let count = |arguments: &[&str]| place.json(&[&["episodes", "list"], arguments].concat())["total"].clone();
    assert_eq!(count(&["--verdict", "failure"]), 1);
    assert_eq!(count(&["--domain", "web", "--tag", "tests"]), 2);
    assert_eq!(count(&["--domain", "other"]), 0);
    assert_eq!(count(&["--since", "2020-01-01"]), 2);
    assert_eq!(count(&["--until", "2020-01-01"]), 0);
    assert_eq!(count(&["--scope", "others"]), 0);
    place.run(&["episodes", "list", "--verdict", "well"]).failed(2, "allowed: success");
}

#[test]
fn an_episode_is_shown_with_its_steps() {
    let place = Place::new();
    place.record(&["login"]);
    let id = ids(&place.json(&["episodes", "list"]), "episodes").remove(0);
    let told = place.told(&["episodes", "show", &id]);
    for part in [&id[..], "make the failing login test pass", "success it passes", "4 steps", "2. grep login ok"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert!(told.contains("1. run_tests error\n   1 test failed"), "{told}");
    let shown = place.json(&["episodes", "show", &id]);
    assert_eq!((&shown["id"], &shown["steps"][1]["tool"]), (&id.into(), &"grep".into()));
}

#[test]
fn an_open_episode_is_listed_and_shown() {
    let place = Place::new();
    let id = place.work(
        |builder| builder,
        async |memory| {
            let mut open = memory.start(Task::new("tidy the attic").domain("home")).await.unwrap();
            open.step(Step::new("climb").ok("dusty")).await.unwrap();
            open.id().to_string()
        },
    );
    assert_eq!(ids(&place.json(&["episodes", "list", "--open"]), "open"), [&id[..]]);
    assert!(place.told(&["episodes", "list", "--open"]).contains("tidy the attic"));
    let told = place.told(&["episodes", "show", &id]);
    assert!(told.contains("open since") && told.contains("1. climb ok\n   dusty"), "{told}");
    assert_eq!(place.json(&["episodes", "show", &id])["steps"][0]["tool"], "climb");
}

#[test]
fn an_unknown_episode_is_a_failure() {
    let place = Place::new();
    place.record(&["login"]);
    let id = "0196f0a0-0000-7000-8000-000000000000";
    place.run(&["episodes", "show", id]).failed(1, "not found");
    let ran = place.run(&["episodes", "show", id, "--json"]);
    let told: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((ran.code, &told["error"]["kind"], &ran.out[..]), (1, &"not_found".into(), ""));
    place.run(&["episodes", "show", "nonsense"]).failed(2, "nonsense");
}

/// A task could come from anywhere, and a terminal obeys what is in it.
#[test]
fn what_was_recorded_commands_no_terminal() {
    let place = Place::new();
    place.work(
        |builder| builder,
        async |memory| {
            let task = Task::new("clear\x1b[2J\x07 the screen");
            let step = Step::new("cat\x1b]0;x\x07").ok("one\ntwo\x1b[31m\r\nthree");
            memory.record(Recording::new(task, Outcome::success("\x1b[1mdone")).step(step)).await.unwrap();
        },
    );
    let id = ids(&place.json(&["episodes", "list"]), "episodes").remove(0);
    for arguments in
        [&["episodes", "list"][..], &["episodes", "show", &id], &["episodes", "search", "clear the screen"]]
    {
        let told = place.told(arguments);
        assert!(told.contains("screen") && !told.contains(['\x1b', '\x07', '\r']), "{told:?}");
    }
}

#[test]
fn search_finds_what_is_like_a_task() {
    let place = Place::taught();
    let found = place.json(&["episodes", "search", "the signup test fails", "-k", "2", "--domain", "web"]);
    let episodes = found["episodes"].as_array().unwrap();
    assert_eq!(episodes.len(), 2);
    assert!(episodes[0]["task"].as_str().unwrap().contains("signup"), "{found}");
    assert!(episodes[0]["score"].as_f64().unwrap() >= episodes[1]["score"].as_f64().unwrap());
    assert!(episodes[0]["why"].as_str().unwrap().starts_with("relevance "));
    assert!(place.told(&["episodes", "search", "the signup test fails"]).contains("signup"));
    let none = place.told(&["episodes", "search", "zymurgy", "--domain", "brewing"]);
    assert_eq!(none.trim(), "Nothing relevant is known.");
}

#[test]
fn an_export_is_imported_elsewhere() {
    let (place, other) = (Place::taught(), Place::new());
    let exported = place.json(&["episodes", "export", "all.jsonl"]);
    assert_eq!(exported["episodes"], 12);
    let file = place.path("all.jsonl");
    let file = file.to_str().unwrap();
    let tried = other.json(&["episodes", "import", file, "--dry-run"]);
    assert_eq!((&tried["episodes"], &other.json(&["stats"])["store"]["episodes"]), (&12.into(), &0.into()));
    assert_eq!(other.json(&["episodes", "import", file])["episodes"], 12);
    let again = other.told(&["episodes", "import", file]);
    assert!(again.contains("imported: 0 episodes") && again.contains("there already, or expired: 12"), "{again}");
    let lists = [&place, &other].map(|place| place.json(&["episodes", "list"]));
    assert_eq!(lists[0], lists[1]);
    let rules = [&place, &other].map(|place| place.json(&["knowledge", "list", "rules"]));
    assert_eq!(rules[0], rules[1]);
}

#[test]
fn an_export_goes_through_a_pipe() {
    let (place, other) = (Place::new(), Place::new());
    place.record(&["login"]);
    let ran = place.run(&["episodes", "export"]);
    assert!(ran.code == 0 && ran.out.starts_with("{\"format\":\"knowhow-memory\""), "{ran:?}");
    assert!(ran.err.contains("exported: 2 episodes"), "{ran:?}");
    let read = other.run_with_input(&["episodes", "import", "-", "--json"], ran.out.as_bytes());
    assert_eq!(read.json()["episodes"], 2);
    let half = &ran.out.as_bytes()[..ran.out.len() / 2];
    Place::new().run_with_input(&["episodes", "import", "-"], half).failed(1, "import");
}

#[test]
fn an_export_is_there_as_a_whole_or_not_at_all() {
    let place = Place::new();
    place.record(&["login"]);
    place.run(&["episodes", "export", "no/such/folder.jsonl"]).failed(1, "no/such");
    std::fs::write(place.path("kept.jsonl"), "mine").unwrap();
    place.run(&["episodes", "export", "kept.jsonl"]).failed(1, "--yes");
    assert_eq!(std::fs::read_to_string(place.path("kept.jsonl")).unwrap(), "mine");
    place.told(&["episodes", "export", "kept.jsonl", "--yes"]);
    assert!(std::fs::read_to_string(place.path("kept.jsonl")).unwrap().ends_with("}}\n"));
    assert_eq!(place.files(), ["kept.jsonl", "memory.db"]);
}

#[test]
fn all_scopes_travel_together() {
    let (place, other) = (Place::new(), Place::new());
    place.record(&["login"]);
    place.work(
        |builder| builder.scope(Scope::new("acme").unwrap()),
        async |memory| {
            memory.record(crate::place::success("invoice")).await.unwrap();
        },
    );
    let count = |place: &Place, scope: &str| place.json(&["episodes", "list", "--scope", scope])["total"].clone();
    place.told(&["episodes", "export", "all.jsonl", "--all-scopes"]);
    let file = place.path("all.jsonl");
    other.run(&["episodes", "import", file.to_str().unwrap()]).failed(1, "import");
    other.told(&["episodes", "import", file.to_str().unwrap(), "--all-scopes"]);
    assert_eq!((count(&other, "acme"), count(&other, "default")), (1.into(), 2.into()));
}

#[test]
fn deleting_is_asked_for() {
    let place = Place::taught();
    let id = ids(&place.json(&["episodes", "list"]), "episodes").remove(0);
    place.run(&["episodes", "delete", &id]).failed(1, "--yes");
    assert_eq!(place.json(&["stats"])["store"]["episodes"], 12);
    assert_eq!(place.json(&["episodes", "delete", &id, "--yes"])["deleted"], serde_json::json!([id]));
    place.run(&["episodes", "show", &id]).failed(1, "not found");
    place.run(&["episodes", "delete", &id, "--yes"]).failed(1, "not found");
    assert_eq!(place.json(&["stats"])["store"]["episodes"], 11);
    assert_eq!(place.json(&["rebuild", "--verify"])["same"], true);
}

/// A path that was mistyped would otherwise become an empty memory.
#[test]
fn no_command_that_looks_makes_a_database() {
    let place = Place::new();
    let id = "0196f0a0-0000-7000-8000-000000000000";
    for arguments in [
        &["episodes", "list"][..],
        &["episodes", "show", id],
        &["episodes", "search", "x"],
        &["episodes", "export"],
        &["episodes", "delete", id, "--yes"],
        &["knowledge", "list"],
        &["knowledge", "explain", id],
        &["knowledge", "approve", id],
        &["stats"],
        &["health"],
        &["cache", "stats"],
        &["cache", "warm"],
        &["backup"],
        &["migrate"],
        &["cleanup", "--yes"],
        &["reembed"],
        &["rebuild"],
    ] {
        place.run(arguments).failed(1, "there is no");
        assert_eq!(place.files(), [""; 0], "{arguments:?}");
    }
}
