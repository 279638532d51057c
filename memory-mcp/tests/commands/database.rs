//! `knowhow backup`, `restore` and `migrate`.

use crate::peers::Server;
use crate::place::{Place, sql};

/// A file of the schema before the first: it was being made when its program was killed.
pub(crate) fn old_schema(place: &Place) {
    sql(
        &place.database(),
        "PRAGMA application_id = 0x4B6E4877;
         CREATE TABLE migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
                                  applied_at INTEGER NOT NULL) STRICT;
         CREATE TABLE definitions (name TEXT PRIMARY KEY, checksum TEXT NOT NULL) STRICT, WITHOUT ROWID;",
    );
}

fn episodes(place: &Place) -> serde_json::Value {
    place.json(&["episodes", "list"])["total"].clone()
}

#[test]
fn a_backup_is_restored() {
    let place = Place::new();
    place.record(&["login"]);
    let made = place.json(&["backup", "good.backup"]);
    assert_eq!(made["bytes"], place.path("good.backup").metadata().unwrap().len());
    place.run(&["backup", "good.backup"]).failed(1, "already exists");
    place.record(&["logout"]);
    assert_eq!(episodes(&place), 4);

    place.run(&["restore", "good.backup"]).failed(1, "--yes");
    assert_eq!(episodes(&place), 4);
    let restored = place.json(&["restore", "good.backup", "--yes"]);
    assert_eq!(episodes(&place), 2);
    let before = restored["before"].as_str().unwrap();
    assert_eq!(place.json(&["--store", before, "episodes", "list"])["total"], 4);
    assert_eq!(place.files().len(), 3, "{:?}", place.files());
}

#[test]
fn a_backup_has_a_name_of_its_own() {
    let place = Place::new();
    place.record(&["login"]);
    let told = [place.told(&["backup"]), place.told(&["backup"])];
    assert!(told[0].contains("memory.db.") && told[0].contains("up to version"), "{}", told[0]);
    let backups = place.files().iter().filter(|name| name.ends_with(".backup")).count();
    assert_eq!(backups, 2);
}

#[test]
fn a_lost_database_is_restored() {
    let place = Place::new();
    place.record(&["login"]);
    place.told(&["backup", "good.backup"]);
    let elsewhere = place.path("new/folder/memory.db");
    let elsewhere = elsewhere.to_str().unwrap();
    place.told(&["--store", elsewhere, "restore", "good.backup"]);
    assert_eq!(place.json(&["--store", elsewhere, "episodes", "list"])["total"], 2);
}

#[test]
fn a_bad_backup_harms_nothing() {
    let place = Place::new();
    place.record(&["login"]);
    place.told(&["backup", "good.backup"]);
    let mut bytes = std::fs::read(place.path("good.backup")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xA5);
    std::fs::write(place.path("bad.backup"), bytes).unwrap();
    place.run(&["restore", "bad.backup", "--yes"]).failed(1, "restore");
    place.run(&["restore", "none.backup", "--yes"]).failed(1, "restore");
    assert_eq!(episodes(&place), 2);
    assert_eq!(place.files(), ["bad.backup", "good.backup", "memory.db"]);
}

/// Its other users would go on with the file that is moved aside.
#[test]
fn a_database_in_use_is_not_restored() {
    let place = Place::new();
    place.record(&["login"]);
    place.told(&["backup", "good.backup"]);
    let server = Server::start(&place);
    place.run(&["restore", "good.backup", "--yes"]).failed(1, "the database is in use");
    drop(server);
    place.told(&["restore", "good.backup", "--yes"]);
}

#[test]
fn an_old_schema_is_migrated() {
    let place = Place::new();
    old_schema(&place);
    let plan = place.json(&["migrate", "--dry-run"]);
    assert_eq!((&plan["from"], &plan["to"], &plan["done"]), (&0.into(), &1.into(), &false.into()));
    assert_eq!(place.json(&["--store", "memory.db", "migrate", "--dry-run"])["to"], 1);
    assert!(place.told(&["migrate", "--dry-run"]).contains("would go from version 0 to 1: 1 (init)"));
    assert!(place.told(&["migrate"]).contains("went from version 0 to 1"));
    assert!(place.told(&["migrate"]).contains("nothing to do"));
    assert_eq!(episodes(&place), 0);
}

#[test]
fn files_only_are_backed_up() {
    let place = Place::new();
    for command in [&["backup"][..], &["restore", "x"], &["migrate"], &["reembed"]] {
        place.run(&[&["--store", "http://127.0.0.1:1"], command].concat()).failed(1, "for database files");
    }
}
