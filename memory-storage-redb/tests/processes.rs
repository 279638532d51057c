//! What one process leaves behind, the next finds: records, knowledge, open episodes.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use common::{assert_sound, place};
use memory_core::testkit::extremes::{assert_kept, put_all, records, space};
use memory_core::testkit::process;
use memory_core::{ErrorKind, Memory, MemoryStore, NewNote, Outcome, RecordKind, Step, Task};
use memory_storage_redb::{RedbConfig, RedbStore};

/// The store that the parent names.
async fn store_of_child() -> RedbStore {
    RedbStore::open(std::env::var_os("STORE").unwrap()).await.unwrap()
}

async fn memory(store: &RedbStore) -> Memory {
    Memory::builder().store(store.clone()).build().await.unwrap()
}

#[tokio::test]
async fn every_type_goes_from_process_to_process_unchanged() {
    let test = "every_type_goes_from_process_to_process_unchanged";
    let (one, other) = ([vec![space()], records(0)].concat(), records(100_000));
    if process::is_child() {
        let store = store_of_child().await;
        match std::env::var("ROLE").unwrap().as_str() {
            "writer" => put_all(&store, &one).await,
            _ => assert_kept(&store, &[one, other].concat()).await,
        }
        return;
    }
    let kinds: Vec<RecordKind> = one.iter().map(|record| record.key().kind()).collect();
    assert!(RecordKind::ALL.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let (_folder, path) = place();
    let path = path.to_str().unwrap();
    process::run(test, &[("STORE", path), ("ROLE", "writer")]);
    let store = RedbStore::open(path).await.unwrap();
    assert_kept(&store, &one).await;
    put_all(&store, &other).await;
    store.close().await.unwrap();
    process::run(test, &[("STORE", path), ("ROLE", "reader")]);
    assert_kept(&RedbStore::open(path).await.unwrap(), &[one, other].concat()).await;
}

/// What was learned, recalled and left open before is there after.
#[tokio::test]
async fn the_next_process_goes_on_with_what_was_learned_and_left_open() {
    let test = "the_next_process_goes_on_with_what_was_learned_and_left_open";
    if process::is_child() {
        let memory = memory(&store_of_child().await).await;
        for number in 0..5 {
            let mut episode = memory.start(Task::new(format!("make login test {number} pass"))).await.unwrap();
            episode.step(Step::new("grep").ok("src/auth.rs:42")).await.unwrap();
            episode.step(Step::new("edit").ok("saved")).await.unwrap();
            episode.complete(Outcome::success("it passes")).await.unwrap();
        }
        memory.remember(NewNote::new("the login tests need a database")).await.unwrap();
        let mut open = memory.start(Task::new("make logout work")).await.unwrap();
        open.step(Step::new("grep").ok("nothing")).await.unwrap();
        open.hand_over().await.unwrap();
        memory.close().await.unwrap();
        return;
    }
    let (_folder, path) = place();
    process::run(test, &[("STORE", path.to_str().unwrap())]);
    let memory = memory(&RedbStore::open(&path).await.unwrap()).await;
    let recalled = memory.recall(&Task::new("fix the login test"), 3).await.unwrap();
    assert_eq!(recalled.episodes.len(), 3);
    assert!(recalled.episodes[0].parts.words > 0.0 && recalled.episodes[0].parts.vector > 0.0);
    assert_eq!(memory.recall_notes("database for tests", 1).await.unwrap().notes.len(), 1);
    let left = memory.open_episodes().await.unwrap();
    let mut resumed = memory.resume(left[0].id).await.unwrap();
    assert_eq!(resumed.steps()[0].tool, "grep");
    assert_eq!(resumed.suggest(1).await.unwrap()[0].tool, "edit");
    memory.store().close().await.unwrap();
    assert_sound(&path).await;
}

/// One process at a time; the second is told which file it is, and finds all when the first is done.
#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_open() {
    let test = "a_second_process_is_told_that_the_file_is_open";
    if process::is_child() {
        let path = std::env::var("STORE").unwrap();
        let config = RedbConfig::default().with_busy_timeout(Duration::ZERO);
        let start = Instant::now();
        let error = RedbStore::open_with(&path, config).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(1), "it is told at once");
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Busy, true));
        let message = error.to_string();
        assert!(message.contains(&path) && message.contains("is open in another process"), "{message}");
        return;
    }
    let (_folder, path) = place();
    let store = RedbStore::open(&path).await.unwrap();
    put_all(&store, &[space()]).await;
    process::run(test, &[("STORE", path.to_str().unwrap())]);
    // Neither is a second store in this process let in, nor harmed is the first.
    let config = RedbConfig::default().with_busy_timeout(Duration::from_millis(20));
    assert_eq!(RedbStore::open_with(&path, config).await.unwrap_err().kind(), ErrorKind::Busy);
    put_all(&store, &records(0)).await;
    // Dropping ends it, too; who opens the file waits for that.
    drop(store);
    assert_kept(&RedbStore::open(&path).await.unwrap(), &records(0)).await;
}
