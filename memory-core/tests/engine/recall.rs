//! The episodes most like a task, and what went wrong in them.

use memory_core::{Intent, Memory, Outcome, Profile, Recording, Status, Step, Task};

use crate::profiles::check;
use crate::{failed, fresh, record_all, worked};

#[tokio::test(start_paused = true)]
async fn the_most_similar_episodes_come_first() {
    let memory = fresh().await;
    let texts = ["write the quarterly report", "fix the login page", "fix the login test on the staging server"];
    record_all(&memory, texts.map(|text| worked(text, &[]))).await;
    let found = memory.recall(&Task::new("fix the login page"), 100).await.unwrap();
    let order: Vec<&str> = found.episodes.iter().map(|recalled| &recalled.episode.task.text[..]).collect();
    assert_eq!(order, [texts[1], texts[2]], "what has nothing in common is not similar");
    assert!(found.episodes.is_sorted_by(|a, b| a.score >= b.score));
    found.episodes.iter().for_each(|recalled| check(recalled, &Profile::of(Intent::Debugging)));
    assert!(found.episodes[0].parts.vector > 0.999);
    assert_eq!(found.degraded, None);
    let best = memory.recall(&Task::new("fix the login page"), 1).await.unwrap();
    assert_eq!(best.episodes, found.episodes[..1]);
}

#[tokio::test(start_paused = true)]
async fn equal_episodes_come_by_later_completion() {
    let memory = fresh().await;
    let first = memory.record(worked("fix", &[])).await.unwrap().episode;
    let second = memory.record(worked("fix", &[])).await.unwrap().episode;
    let found = memory.recall(&Task::new("fix"), 2).await.unwrap();
    let order: Vec<_> = found.episodes.iter().map(|recalled| recalled.episode.id).collect();
    assert_eq!(order, [second, first]);
}

#[tokio::test(start_paused = true)]
async fn recall_stays_in_the_domain_of_the_task() {
    let memory = fresh().await;
    for domain in ["web", "data"] {
        memory.record(Recording::new(Task::new("fix").domain(domain), Outcome::success(""))).await.unwrap();
    }
    memory.record(worked("fix", &[])).await.unwrap();
    let found = memory.recall(&Task::new("fix").domain("web"), 100).await.unwrap().episodes;
    assert_eq!((found.len(), found[0].episode.task.domain.as_deref()), (1, Some("web")));
    assert_eq!(memory.recall(&Task::new("fix"), 100).await.unwrap().episodes.len(), 3, "no domain asks in all");
}

#[tokio::test(start_paused = true)]
async fn an_empty_memory_recalls_nothing() {
    let found = fresh().await.recall(&Task::new("fix"), 100).await.unwrap();
    assert!(found.episodes.is_empty() && found.pitfalls.is_empty() && found.degraded.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_episode_is_not_recalled() {
    let memory = fresh().await;
    let id = memory.record(failed("fix", &["read"])).await.unwrap().episode;
    memory.delete(id).await.unwrap();
    assert!(memory.recall(&Task::new("fix"), 100).await.unwrap().episodes.is_empty());
}

/// A run of `test` that failed with this text, and what came next.
fn broken(error: &str, then: &[Step]) -> Recording {
    worked("fix the test", &[]).step(Step::new("test").error(error)).steps(then.to_vec())
}

async fn with_pitfalls() -> Memory {
    let memory = fresh().await;
    let (edit, test, ask) = (Step::new("edit").ok(""), Step::new("test").ok(""), Step::new("ask").ok(""));
    let repaired = [edit, test];
    record_all(
        &memory,
        [
            broken("error 12 in 'a.rs'", &repaired),
            broken("error 7 in 'b.rs'", std::slice::from_ref(&ask)),
            broken("Error 99 in \"c.rs\"", &repaired),
            broken("error 1 in 'd.rs'", &repaired),
            broken("killed", &[]),
        ],
    )
    .await;
    memory
}

#[tokio::test(start_paused = true)]
async fn pitfalls_tell_what_went_wrong_and_what_repaired_it() {
    let found = with_pitfalls().await.recall(&Task::new("fix the test"), 100).await.unwrap();
    let [often, once] = &found.pitfalls[..] else { panic!("{:#?}", found.pitfalls) };
    assert_eq!((&often.tool[..], &often.error[..], often.trials), ("test", "error # in '…'", 4.0));
    let [edit, ask] = &often.recoveries[..] else { panic!("{often:#?}") };
    assert!(edit.steps == edit.tools.split(" > ").count() && edit.steps > 0, "{edit:?}");
    assert_eq!((&edit.tools[..], edit.support.trials, edit.support.successes), ("edit > test", 3.0, 3.0));
    assert_eq!((edit.support.episodes, edit.status), (3.0, Status::Active));
    assert_eq!((&ask.tools[..], ask.support.trials, ask.support.successes), ("ask", 1.0, 0.0));
    assert_eq!(ask.status, Status::Candidate);
    assert_eq!((&once.error[..], once.trials, &once.recoveries[0].tools[..]), ("killed", 1.0, ""));
    assert_eq!(once.recoveries[0].steps, 0);
}

#[tokio::test(start_paused = true)]
async fn only_errors_of_the_recalled_episodes_are_pitfalls() {
    let memory = with_pitfalls().await;
    memory.record(worked("write a poem", &["think"])).await.unwrap();
    let found = memory.recall(&Task::new("write a poem"), 1).await.unwrap();
    assert!(found.pitfalls.is_empty(), "{:?}", found.pitfalls);
    let open = memory.start(Task::new("fix the test")).await.unwrap();
    assert_eq!(open.recall(100).await.unwrap().pitfalls.len(), 2);
}
