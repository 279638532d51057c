//! A memory over a store that loses answers, through a retry.

use std::sync::Arc;

use memory_core::testkit::{Fault, Operation, samples};
use memory_core::{Error, ErrorKind, Memory, MemoryStore, Outcome, Recording, Step, Task};
use memory_resilience::{ResilienceExt as _, RetryConfig};

use crate::{Faulty, faulty};

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the answer was lost").with_temporary(true)
}

async fn memory() -> (Arc<Faulty>, Memory) {
    let store = faulty();
    let retry = Arc::clone(&store).retry(RetryConfig::default().with_seed(1)).unwrap();
    let memory = Memory::builder().store(retry).seed(1).build().await.unwrap();
    (store, memory)
}

fn lose(store: &Faulty) {
    store.script_next(Operation::Commit, Fault::After(lost()));
}

#[tokio::test(start_paused = true)]
async fn what_was_written_though_its_answer_was_lost_counts_once_and_succeeds() {
    let (store, memory) = memory().await;
    let mut episode = memory.start(Task::new("make the login test pass")).await.unwrap();
    for tool in ["read", "edit", "test"] {
        lose(&store);
        episode.step(Step::new(tool)).await.unwrap();
    }
    lose(&store);
    episode.complete(Outcome::success("done")).await.unwrap();
    lose(&store);
    let recording = Recording::new(Task::new("fix"), Outcome::success("")).step(Step::new("read"));
    memory.record(recording.id(samples::episode_id(1))).await.unwrap();
    lose(&store);
    memory.project().await.unwrap();
    let health = store.health().await.unwrap();
    assert_eq!((health.episodes, health.open_episodes), (2, 0));
    let next = memory.suggest(&Task::new("make the login test pass"), &[], 1).await.unwrap();
    assert_eq!(next[0].tool, "read");
    let learned = memory.patterns().await.unwrap();
    memory.rebuild().await.unwrap();
    assert_eq!(memory.patterns().await.unwrap(), learned, "nothing was counted twice");
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_answer_was_lost_fails_and_leaves_an_empty_episode() {
    let (store, memory) = memory().await;
    lose(&store);
    let error = memory.start(Task::new("fix")).await.unwrap_err();
    assert!(error.is_conflict() && error.to_string().contains("may have written the batch"), "{error}");
    assert_eq!(memory.open_episodes().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_answer_was_lost_has_happened_and_is_not_found() {
    let (store, memory) = memory().await;
    let id = memory.record(Recording::new(Task::new("fix"), Outcome::success(""))).await.unwrap().episode;
    memory.project().await.unwrap();
    lose(&store);
    assert_eq!(memory.delete(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.health().await.unwrap().episodes, 0);
}
