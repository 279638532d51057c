//! `knowhow cleanup`.

use chrono::{TimeDelta, Utc};
use memory_core::testkit::ManualClock;
use memory_core::{NewNote, Step, Task};
use serde_json::{Value, json};

use crate::place::{Place, success};

/// A month ago there was an episode that nobody ended, a note that has expired since, and an episode.
fn untidy() -> Place {
    let (place, then) = (Place::new(), Utc::now() - TimeDelta::days(30));
    place.work(
        |builder| builder.clock(ManualClock::new(then)),
        async |memory| {
            let mut open = memory.start(Task::new("tidy the attic")).await.unwrap();
            open.step(Step::new("climb").ok("dusty")).await.unwrap();
            let note = NewNote::new("the key is under the mat").expires_at(then + TimeDelta::days(1));
            memory.remember(note).await.unwrap();
            memory.record(success("login")).await.unwrap();
        },
    );
    place.record(&["logout"]);
    place
}

fn counts(answer: &Value) -> Value {
    json!([answer["expired_notes"], answer["orphaned_episodes"], answer["episodes_past_retention"]])
}

#[test]
fn what_is_due_is_told_and_then_done() {
    let place = untidy();
    let keep = |arguments: &[&'static str]| [&["cleanup", "--set", "memory.max_age_days=7"], arguments].concat();
    let tried = place.json(&keep(&["--dry-run"]));
    assert_eq!((counts(&tried), &tried["bytes_after"]), (json!([1, 1, 1]), &Value::Null));
    assert_eq!(counts(&place.json(&keep(&["--dry-run"]))), json!([1, 1, 1]));
    place.run(&keep(&[])).failed(1, "--yes");
    let told = place.told(&keep(&["--dry-run"]));
    assert!(told.contains("would be done: delete 1 expired note, close 1 open episode left open"), "{told}");

    let done = place.json(&keep(&["--yes"]));
    assert_eq!((&done["expired_notes"], &done["orphaned_episodes"]), (&1.into(), &1.into()));
    assert!(done["bytes_after"].as_u64().unwrap() <= done["bytes_before"].as_u64().unwrap());
    // The open one ended a month ago, too, when its lease ran out.
    assert_eq!(done["episodes_past_retention"], 2);
    let left = place.json(&["episodes", "list"]);
    assert_eq!(left["total"], 2);
    // Nothing is left to ask for.
    assert_eq!(counts(&place.json(&keep(&[]))), json!([0, 0, 0]));
}

#[test]
fn without_a_policy_no_episode_is_past_it() {
    let place = untidy();
    assert_eq!(counts(&place.json(&["cleanup", "--yes"])), json!([1, 1, 0]));
    assert_eq!(place.json(&["episodes", "list"])["total"], 4);
}

#[test]
fn the_newest_are_kept() {
    let place = untidy();
    let most = ["cleanup", "--set", "memory.max_episodes=2"];
    assert_eq!(counts(&place.json(&[&most[..], &["--dry-run"]].concat())), json!([1, 1, 1]));
    place.told(&[&most[..], &["--yes"]].concat());
    let tasks = place.told(&["episodes", "list"]);
    assert!(tasks.contains("2 episodes") && !tasks.contains("login"), "{tasks}");
}
