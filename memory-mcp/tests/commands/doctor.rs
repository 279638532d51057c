//! `knowhow doctor`: what it says of each thing that is wrong.

use serde_json::Value;

use crate::database::old_schema;
use crate::peers::{Embeddings, Server, closed_port};
use crate::place::{Place, success};

/// What it has found of one thing: state, what was found, what to do.
#[track_caller]
fn found(place: &Place, arguments: &[&str], code: i32, check: &str) -> [String; 3] {
    let ran = place.run(&[&["doctor", "--json"], arguments].concat());
    assert_eq!(ran.code, code, "{ran:?}");
    let report = ran.json();
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|one| one["check"] == check && (code == 0 || one["state"] == "fail"));
    let finding = finding.unwrap_or_else(|| panic!("nothing about {check}: {report}"));
    ["state", "found", "advice"].map(|name| finding[name].as_str().unwrap_or_default().to_owned())
}

#[test]
fn nothing_is_wrong() {
    let place = Place::taught();
    let report = place.json(&["doctor"]);
    assert_eq!(report["state"], "ok", "{report}");
    let checks: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|one| one["check"].as_str().unwrap()).collect();
    let all = ["configuration", "embedder", "disk", "file", "schema", "integrity", "vector space", "jobs", "cache"];
    assert_eq!(checks, all);
    let told = place.told(&["doctor"]);
    assert!(told.contains("ok    schema         version 1") && told.ends_with("Nothing is wrong.\n"), "{told}");
    assert_eq!(place.files(), ["memory.db"]);
}

#[test]
fn a_missing_file_is_named_and_not_made() {
    let place = Place::new();
    let [_, said, advice] = found(&place, &[], 1, "file");
    assert!(said.contains("there is no database") && said.contains("memory.db"), "{said}");
    assert!(advice.contains("correct store.url") && advice.contains("knowhow restore"), "{advice}");
    assert_eq!(place.files(), [""; 0]);
    let ran = place.run(&["doctor"]);
    assert!(ran.out.contains("FAIL  file") && ran.out.contains("do: correct store.url"), "{ran:?}");
}

#[test]
fn a_locked_cache_is_named() {
    let place = Place::taught();
    let server = Server::start(&place);
    let [state, said, advice] = found(&place, &[], 0, "cache");
    assert_eq!(state, "warn");
    assert!(said.contains("memory.cache.redb is open in another process"), "{said}");
    assert!(advice.contains("stop the other process") && advice.contains("store.cache"), "{advice}");
    drop(server);
    assert_eq!(found(&place, &[], 0, "cache")[0], "ok");
}

#[test]
fn a_wrong_vector_space_is_named() {
    let (place, embeddings) = (Place::taught(), Embeddings::start());
    let settings = embeddings.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let [_, said, advice] = found(&place, &settings, 1, "vector space");
    assert!(said.contains("knowhow/") && said.contains("not of openai/tiny"), "{said}");
    assert!(advice.contains("knowhow reembed"), "{advice}");
    assert_eq!(found(&place, &[], 0, "vector space")[0], "ok");
}

#[test]
fn an_unreachable_server_is_named() {
    let place = Place::new();
    let url = closed_port();
    let [_, said, advice] = found(&place, &["--store", &url], 1, "server");
    assert!(said.contains("unavailable") && said.contains(&url["http://".len()..]), "{said}");
    assert!(advice.contains("start the server"), "{advice}");
}

#[test]
fn an_unreachable_embedder_is_named() {
    let place = Place::taught();
    let url = format!("embedder.url={}/v1", closed_port());
    let away = ["--set", "embedder.kind=openai", "--set", "embedder.model=tiny", "--set", &url];
    let [_, said, advice] = found(&place, &away, 1, "embedder");
    assert!(said.contains("unavailable") && advice.contains("start the server"), "{said}: {advice}");
    // The rest is looked at all the same.
    let report = place.run(&[&["doctor", "--json"], &away[..]].concat()).json();
    let integrity = report["findings"].as_array().unwrap().iter().find(|one| one["check"] == "integrity").unwrap();
    assert_eq!(integrity["state"], "ok");
}

#[test]
fn an_old_schema_is_named_and_left() {
    let place = Place::new();
    old_schema(&place);
    for _ in 0..2 {
        let [state, said, advice] = found(&place, &[], 0, "schema");
        assert_eq!(state, "warn");
        assert!(said.contains("version 0, and this program's is 1: 1 (init)"), "{said}");
        assert!(advice.contains("knowhow migrate"), "{advice}");
    }
    place.told(&["migrate"]);
    assert_eq!(found(&place, &[], 0, "schema")[0], "ok");
}

#[test]
fn a_new_schema_an_edited_one_and_another_programs_file_are_named() {
    let place = Place::taught();
    place.sql("INSERT INTO migrations VALUES (9, 'future', 'x', 0)");
    let [_, said, advice] = found(&place, &[], 1, "file");
    assert!(said.contains("version 9") && advice.contains("newer version"), "{said}: {advice}");
    let place = Place::taught();
    place.sql("DROP VIEW episodes");
    assert!(found(&place, &[], 1, "file")[2].contains("changed by hand"));
    let place = Place::new();
    place.sql("CREATE TABLE pilots (title TEXT)");
    assert!(found(&place, &[], 1, "file")[2].contains("another program's"));
}

#[test]
fn a_low_disk_is_named() {
    let place = Place::taught();
    let [_, said, advice] = found(&place, &["--min-free", "1000000000000"], 1, "disk");
    assert!(said.contains("free in") && said.contains("less than"), "{said}");
    assert!(advice.contains("make room"), "{advice}");
    assert_eq!(found(&place, &["--min-free", "0"], 0, "disk")[0], "ok");
}

#[test]
fn damage_is_named() {
    let place = Place::taught();
    place.sql("UPDATE scopes SET episodes = 99");
    let [_, said, advice] = found(&place, &[], 1, "integrity");
    assert!(said.contains("counted wrong") && advice.contains("knowhow restore"), "{said}: {advice}");
}

#[test]
fn a_wrong_configuration_is_named_before_all_else() {
    let place = Place::new();
    let ran = place.run(&["doctor", "--json", "--set", "embedder.kind=magic", "--set", "memory.hold_out=7"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let report = ran.json();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 2, "{report}");
    assert!(findings.iter().all(|one| one["check"] == "configuration" && one["state"] == "fail"), "{report}");
}

#[test]
fn what_waits_is_named() {
    let place = Place::new();
    place.work(
        |builder| {
            builder.clock(memory_core::testkit::ManualClock::new(chrono::Utc::now() - chrono::TimeDelta::days(1)))
        },
        async |memory| {
            let _open = memory.start(memory_core::Task::new("tidy the attic")).await.unwrap();
            memory.record(success("login")).await.unwrap();
        },
    );
    let [state, said, advice] = found(&place, &[], 0, "jobs");
    assert_eq!((&state[..], &said[..]), ("warn", "open episodes left behind: 1"));
    assert!(advice.contains("knowhow cleanup"), "{advice}");
    assert_eq!(place.json(&["doctor"])["state"], Value::from("warn"));
}
