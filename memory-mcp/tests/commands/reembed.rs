//! `knowhow reembed`.

use std::process::Stdio;

use memory_core::{Outcome, Recording, Task};

use crate::peers::Embeddings;
use crate::place::Place;

fn with<'a>(command: &[&'a str], settings: &'a [String]) -> Vec<&'a str> {
    command.iter().copied().chain(settings.iter().map(String::as_str)).collect()
}

#[test]
fn vectors_move_to_another_embedder() {
    let (place, embeddings) = (Place::taught(), Embeddings::start());
    let settings = embeddings.settings();
    place.run(&with(&["episodes", "search", "login"], &settings)).failed(1, "other vector space");
    let moved = place.json(&with(&["reembed"], &settings));
    assert_eq!((&moved["moved"], &moved["episodes"], &moved["vectors"]), (&true.into(), &12.into(), &12.into()));
    assert!(moved["space"].as_str().unwrap().contains("openai/tiny") && embeddings.texts() >= 6, "{moved}");
    assert_eq!(place.files(), ["memory.db"]);
    assert!(place.told(&with(&["episodes", "search", "login"], &settings)).contains("login"));
    assert_eq!(place.json(&with(&["rebuild", "--verify"], &settings))["same"], true);
    assert!(place.told(&with(&["reembed"], &settings)).contains("nothing to do"));

    assert!(place.told(&["reembed"]).contains("12 vectors are of knowhow/"));
    assert!(place.told(&["episodes", "search", "login"]).contains("login"));
}

/// It goes on where it was killed, and embeds nothing twice but the batch that was under way.
#[test]
fn a_kill_costs_one_batch() {
    const EPISODES: usize = 200;
    let (place, embeddings) = (Place::new(), Embeddings::start());
    let settings = embeddings.settings();
    place.work(
        |builder| builder,
        async |memory| {
            for number in 0..EPISODES {
                let task = Task::new(format!("count to {number}"));
                memory.record(Recording::new(task, Outcome::success("done"))).await.unwrap();
            }
        },
    );
    embeddings.hold_after(Some(130));
    let mut command = place.knowhow(&with(&["reembed"], &settings));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    embeddings.wait_until_it_holds();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.files().contains(&"memory.db.reembed".to_owned()));
    // The file is still of the old space.
    assert!(place.told(&["episodes", "search", "count to 7"]).contains("count to 7"));

    embeddings.hold_after(None);
    let moved = place.json(&with(&["reembed"], &settings));
    let copied = moved["episodes"].as_u64().unwrap();
    assert!((1..=EPISODES as u64 - 64).contains(&copied), "{moved}");
    assert_eq!(moved["vectors"], EPISODES);
    assert_eq!(place.files(), ["memory.db"]);
}

#[test]
fn another_attempt_is_begun_anew_when_that_is_said() {
    let (place, embeddings) = (Place::taught(), Embeddings::start());
    let settings = embeddings.settings();
    let elsewhere = Place::taught();
    std::fs::copy(elsewhere.database(), place.path("memory.db.reembed")).unwrap();
    place.run(&with(&["reembed"], &settings)).failed(1, "--restart begins anew");
    place.told(&with(&["reembed", "--restart"], &settings));
    assert_eq!(place.files(), ["memory.db"]);
}

/// Ended between the exchange of the vectors and the removal of the copy, nothing was left to do, and the copy stayed for ever.
#[test]
fn a_copy_that_was_left_behind_is_removed() {
    let place = Place::taught();
    for end in ["", "-wal", "-shm"] {
        std::fs::copy(place.database(), place.path(&format!("memory.db.reembed{end}"))).unwrap();
    }
    assert_eq!(place.json(&["reembed"])["moved"], false);
    assert_eq!(place.files(), ["memory.db"]);
    assert!(!place.path("memory.db.reembed-wal").exists());
}

/// Unasked, commands tell what went wrong where they answer, and log nothing.
#[test]
fn a_command_logs_what_it_is_told_to() {
    let (place, embeddings) = (Place::taught(), Embeddings::start());
    let settings = embeddings.settings();
    let ran = place.run(&with(&["reembed", "--set", "log.level=info", "--set", "log.format=json"], &settings));
    assert!(ran.code == 0 && ran.err.contains("\"message\":\"reembedded\""), "{ran:?}");
    assert!(ran.err.lines().all(|line| line.starts_with('{')), "{ran:?}");
}
