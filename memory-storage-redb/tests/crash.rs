//! A process that is killed again and again while it records and learns. `KNOWHOW_KILLS` says how often.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{assert_sound, place, put_space};
use memory_core::testkit::{kills, process, samples};
use memory_core::{Batch, Key, MemoryStore, MemoryStoreExt, RecordKind, Scan};
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

#[tokio::test]
async fn a_process_can_be_killed_while_it_vacuums() {
    if process::is_child() {
        RedbStore::vacuum(std::env::var("STORE").unwrap()).await.unwrap();
        println!("done");
        loop {
            std::thread::park();
        }
    }
    let (_folder, path) = place();
    let store = open(&path).await;
    put_space(&store).await;
    let note = |n| samples::noted(samples::note(n, &format!("{n} {}", "x".repeat(9_000))));
    for n in 0..600 {
        store.commit(&Batch::new().put(note(n))).await.unwrap();
    }
    let gone = (0..500).map(|n| Key::Note(samples::note(n, "").id));
    store.commit(&gone.fold(Batch::new(), Batch::delete)).await.unwrap();
    store.close().await.unwrap();
    let (whole, copy) = (path.metadata().unwrap().len(), path.with_extension("copy"));
    let (mut early, mut within) = (0, 0);
    for round in 0..20 {
        std::fs::copy(&path, &copy).unwrap();
        let mut child =
            process::spawn("a_process_can_be_killed_while_it_vacuums", &[("STORE", copy.to_str().unwrap())]);
        std::thread::sleep(std::time::Duration::from_millis(3 * round));
        child.kill().unwrap();
        let done = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().contains("done\n");
        early += usize::from(!done);
        within += usize::from(!done && std::fs::read(&copy).unwrap() != std::fs::read(&path).unwrap());
        assert_sound(&copy).await;
        let left = open(&copy).await;
        let stored = left.scan_all(Scan::new(RecordKind::Note)).await.unwrap();
        assert_eq!(
            stored.into_iter().map(|one| one.record).collect::<Vec<_>>(),
            (500..600).map(note).collect::<Vec<_>>()
        );
        left.close().await.unwrap();
        assert!(!done || copy.metadata().unwrap().len() < whole / 2);
    }
    println!("of 20 kills {early} came before the end, {within} of them when the file was no longer as before");
}
