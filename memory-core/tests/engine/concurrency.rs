//! Many tasks, one memory.

use std::collections::BTreeSet;

use memory_core::{InMemoryStore, Memory, Outcome, Step, Task};

use crate::{fold_of_log, stored};

const TASKS: usize = 16;
const EPISODES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_episode_of_many_tasks_is_there_exactly_once() {
    let memory = Memory::builder().store(InMemoryStore::new()).build().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..TASKS {
        let memory = memory.clone();
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for place in 0..EPISODES {
                let mut open = memory.start(Task::new(format!("task {n} of {place}"))).await.unwrap();
                open.step(Step::new(["grep", "read"][place % 2]).ok("")).await.unwrap();
                open.suggest(3).await.unwrap();
                open.step(Step::new("edit").error("denied")).await.unwrap();
                open.complete(if n % 4 == 0 { Outcome::failure("") } else { Outcome::success("") }).await.unwrap();
                if place % 5 == 4 {
                    memory.project().await.unwrap();
                }
                ids.push(open.id());
            }
            ids
        });
    }
    let ids: BTreeSet<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(ids.len(), TASKS * EPISODES);
    let health = stored(&memory).await;
    assert_eq!((health.episodes, health.open_episodes), ((TASKS * EPISODES) as u64, 0));
    for id in &ids {
        assert_eq!(memory.episode(*id).await.unwrap().steps.len(), 2);
    }
    let fold = fold_of_log(&memory, memory.learner()).await;
    assert_eq!(memory.patterns().await.unwrap(), fold);
    memory.project().await.unwrap();
    assert_eq!(memory.patterns().await.unwrap(), fold);
    assert_eq!(memory.rebuild().await.unwrap().repaired, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_beside_completions_leave_no_trace() {
    let memory = Memory::builder().store(InMemoryStore::new()).build().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let memory = memory.clone();
        tasks.spawn(async move {
            for place in 0..EPISODES {
                let mut open = memory.start(Task::new(format!("task {n} of {place}"))).await.unwrap();
                open.step(Step::new("grep").ok("")).await.unwrap();
                let id = open.complete(Outcome::success("")).await.unwrap().episode;
                if place % 2 == 0 {
                    memory.delete(id).await.unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(stored(&memory).await.episodes, 8 * EPISODES as u64 / 2);
    assert_eq!(memory.patterns().await.unwrap(), fold_of_log(&memory, memory.learner()).await);
    assert_eq!(memory.rebuild().await.unwrap().repaired, 0);
}
