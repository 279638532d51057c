//! A process that is killed again and again while it records and learns. `KNOWHOW_KILLS` says how often.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{assert_sound, place};
use memory_core::testkit::kills;
use memory_storage_redb::RedbStore;

async fn open(path: &Path) -> RedbStore {
    RedbStore::open(path).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_can_be_killed_while_it_records_and_learns() {
    let test = "a_process_can_be_killed_while_it_records_and_learns";
    let (_folder, path) = place();
    let kills = kills::kills_from_env(50);
    kills::a_process_can_be_killed_while_it_records_and_learns(test, &path, kills, open, assert_sound).await;
}

#[tokio::test]
async fn a_process_can_be_killed_while_it_makes_the_file() {
    let test = "a_process_can_be_killed_while_it_makes_the_file";
    kills::a_process_can_be_killed_while_it_makes_the_file(test, 30, place, open, assert_sound).await;
}
