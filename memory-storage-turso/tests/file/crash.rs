//! Processes that are killed again and again while they record and learn. `KNOWHOW_KILLS` says how often.

use std::path::Path;

use crate::common::{assert_sound, number, place};
use memory_core::testkit::kills;
use memory_storage_turso::TursoStore;

async fn open(path: &Path) -> TursoStore {
    TursoStore::open(path).await.unwrap()
}

async fn assert_all_have_vectors(path: &Path) {
    let without = "SELECT (SELECT count(*) FROM episodes) - (SELECT count(*) FROM vectors)";
    assert_eq!(number(path, without).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_can_be_killed_while_it_records_and_learns() {
    let test = "crash::a_process_can_be_killed_while_it_records_and_learns";
    let (_folder, path) = place();
    let kills = kills::kills_from_env(100);
    kills::a_process_can_be_killed_while_it_records_and_learns(test, &path, kills, open, assert_sound).await;
    assert_all_have_vectors(&path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_can_be_killed_while_they_record_and_learn() {
    let test = "crash::two_processes_can_be_killed_while_they_record_and_learn";
    let (_folder, path) = place();
    let kills = kills::kills_from_env(100);
    kills::two_processes_can_be_killed_while_they_record_and_learn(test, &path, kills, open, assert_sound).await;
    assert_all_have_vectors(&path).await;
}

#[tokio::test]
async fn a_process_can_be_killed_while_it_makes_the_file() {
    let test = "crash::a_process_can_be_killed_while_it_makes_the_file";
    kills::a_process_can_be_killed_while_it_makes_the_file(test, 40, place, open, assert_sound).await;
}
