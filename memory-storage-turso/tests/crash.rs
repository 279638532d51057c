//! A process that is killed again and again while it records and learns.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{assert_sound, number, place};
use memory_core::testkit::kills;
use memory_storage_turso::TursoStore;

async fn open(path: &Path) -> TursoStore {
    TursoStore::open(path).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_can_be_killed_while_it_records_and_learns() {
    let test = "a_process_can_be_killed_while_it_records_and_learns";
    let (_folder, path) = place();
    kills::a_process_can_be_killed_while_it_records_and_learns(test, &path, 50, open, assert_sound).await;
    if !memory_core::testkit::process::is_child() {
        let without = "SELECT (SELECT count(*) FROM episodes) - (SELECT count(*) FROM vectors)";
        assert_eq!(number(&path, without).await, 0);
    }
}

#[tokio::test]
async fn a_process_can_be_killed_while_it_makes_the_file() {
    let test = "a_process_can_be_killed_while_it_makes_the_file";
    kills::a_process_can_be_killed_while_it_makes_the_file(test, 40, place, open, assert_sound).await;
}
