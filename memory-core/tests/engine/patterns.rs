//! What is learned: patterns, where they come from, what they weigh.

use std::sync::Arc;

use chrono::TimeDelta;
use memory_core::testkit::{Fault, Gate, Operation, samples};
use memory_core::{
    InMemoryStore, Learner, LearnerId, Memory, MemoryStore, MemoryStoreExt, Outcome, PatternKind, Record, RecordKind,
    Recording, Scan, Status, Step, Support, Task,
};

use crate::{clock, counts, failed, faulty, fold_of_log, fresh, id_of, over, record_all, worked};

#[tokio::test(start_paused = true)]
async fn patterns_add_up_what_episodes_show() {
    let memory = fresh().await;
    assert!(memory.patterns().await.unwrap().is_empty());
    record_all(&memory, [worked("fix", &["grep", "edit"]), failed("fix", &["grep", "read"]), worked("fix", &[])]).await;
    let patterns = memory.patterns().await.unwrap();
    assert!(patterns.is_sorted_by_key(|pattern| pattern.id));
    assert_eq!(counts(&patterns, "context [state]", "0 steps"), [3, 3, 2]);
    assert_eq!(counts(&patterns, "context [state]", "1 steps, ok"), [2, 2, 1]);
    assert_eq!(counts(&patterns, "context [state]", "task size 1"), [3, 3, 2]);
    assert_eq!(counts(&patterns, "context [state]", "ended, 2 steps"), [2, 2, 1]);
    assert_eq!(counts(&patterns, "context [input > ]", "1 steps"), [2, 2, 1]);
    assert_eq!(counts(&patterns, "transition []", "grep"), [2, 2, 1]);
    assert_eq!(counts(&patterns, "transition [(start)]", "grep"), [2, 2, 1]);
    assert_eq!(counts(&patterns, "transition [grep]", "edit"), [1, 1, 1]);
    assert_eq!(counts(&patterns, "transition [grep]", "read"), [1, 1, 0]);
    assert_eq!(counts(&patterns, "tool_sequence [grep > edit]", ""), [1, 1, 1]);
    memory.project().await.unwrap();
    assert_eq!(memory.patterns().await.unwrap(), patterns, "projected or not");
}

#[tokio::test(start_paused = true)]
async fn knowledge_of_an_earlier_moment_can_be_asked_for() {
    let memory = fresh().await;
    for hour in [0, 5] {
        memory.record(worked("fix", &["grep"]).completed_at(samples::time(hour * 3_600))).await.unwrap();
    }
    let known = async |seconds| {
        let patterns = memory.patterns_as_of(samples::time(seconds)).await.unwrap();
        if patterns.is_empty() { [0; 3] } else { counts(&patterns, "transition []", "grep") }
    };
    assert_eq!([known(-1).await, known(0).await], [[0; 3], [1, 1, 1]]);
    assert_eq!([known(5 * 3_600 - 1).await, known(5 * 3_600).await], [[1, 1, 1], [2, 2, 2]]);
    assert_eq!(memory.patterns_as_of(samples::time(1 << 30)).await.unwrap(), memory.patterns().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_pattern_names_its_episodes_in_the_order_of_the_log() {
    let memory = fresh().await;
    let first = memory.record(worked("fix", &["grep"]).completed_at(samples::time(9))).await.unwrap().episode;
    memory.record(worked("fix", &["read"])).await.unwrap();
    let third = memory.record(failed("fix", &["edit", "grep"]).completed_at(samples::time(1))).await.unwrap().episode;
    let patterns = memory.patterns().await.unwrap();
    assert_eq!(memory.lineage(id_of(&patterns, "transition []")).await.unwrap().len(), 3);
    assert_eq!(memory.lineage(id_of(&patterns, "transition [edit]")).await.unwrap(), [third]);
    memory.delete(third).await.unwrap();
    assert!(memory.lineage(id_of(&patterns, "transition [edit]")).await.unwrap().is_empty());
    assert_eq!(memory.lineage(id_of(&patterns, "transition [(start)]")).await.unwrap()[0], first);
}

#[tokio::test(start_paused = true)]
async fn evidence_weighs_half_after_a_half_life() {
    let clock = clock();
    let builder = Memory::builder().store(InMemoryStore::new()).clock(Arc::clone(&clock));
    let memory = builder.build().await.unwrap();
    record_all(&memory, [worked("fix", &["grep"]), worked("fix", &["grep"]), failed("fix", &["grep"])]).await;
    let patterns = memory.patterns().await.unwrap();
    let evidence = &patterns.iter().find(|pattern| pattern.to_string() == "transition []").unwrap().branches["grep"];
    let whole = Support { episodes: 3.0, trials: 3.0, successes: 2.0 };
    assert_eq!((memory.support(evidence), whole.status(3)), (whole, Status::Contested));
    clock.advance(TimeDelta::days(90));
    let half = memory.support(evidence);
    assert_eq!(half, Support { episodes: 1.5, trials: 1.5, successes: 1.0 });
    assert_eq!(half.status(memory.learner().quorum), Status::Candidate);
    memory.record(worked("fix", &["edit"]).completed_at(samples::time(400 * 86_400))).await.unwrap();
    let patterns = memory.patterns().await.unwrap();
    let evidence = &patterns.iter().find(|pattern| pattern.to_string() == "transition []").unwrap().branches["edit"];
    assert_eq!(memory.support(evidence).trials, 1.0, "evidence of the future counts in full");
}

fn hourly() -> Learner {
    Learner::default().with_bucket(TimeDelta::hours(1))
}

async fn hourly_over(store: InMemoryStore) -> Memory {
    Memory::builder().store(store).clock(clock()).learner(hourly()).build().await.unwrap()
}

async fn of_learner(store: &dyn MemoryStore, kind: RecordKind, id: LearnerId) -> usize {
    let all = store.scan_all(Scan::new(kind)).await.unwrap().into_iter();
    all.filter(|stored| match &stored.record {
        Record::Pattern(pattern) => pattern.learner == id,
        Record::Watermark(watermark) => watermark.learner == id && watermark.position.0 > 0,
        _ => false,
    })
    .count()
}

#[tokio::test(start_paused = true)]
async fn learners_with_other_buckets_do_not_mix() {
    let store = InMemoryStore::new();
    let (daily, hourly) = (over(store.clone()).await, hourly_over(store.clone()).await);
    record_all(&daily, [worked("fix", &["grep"]).completed_at(samples::time(0))]).await;
    record_all(&hourly, [worked("fix", &["grep"]).completed_at(samples::time(3_600))]).await;
    for memory in [&daily, &hourly] {
        memory.project().await.unwrap();
        let patterns = memory.patterns().await.unwrap();
        assert_eq!(patterns, fold_of_log(memory, memory.learner()).await);
        assert_eq!(counts(&patterns, "transition []", "grep"), [2, 2, 2]);
        let pattern = patterns.iter().find(|pattern| pattern.kind == PatternKind::Transition).unwrap();
        let buckets = pattern.branches["grep"].buckets().count();
        assert_eq!(buckets, if *memory.learner() == Learner::default() { 1 } else { 2 });
    }
    assert_eq!(store.health().await.unwrap().patterns, 2 * daily.patterns().await.unwrap().len() as u64);
}

#[tokio::test(start_paused = true)]
async fn deleting_removes_the_traces_in_other_learners_too() {
    let store = InMemoryStore::new();
    let (daily, hourly) = (over(store.clone()).await, hourly_over(store.clone()).await);
    let gone = daily.record(worked("fix", &["grep"])).await.unwrap().episode;
    record_all(&daily, [worked("fix", &["edit"])]).await;
    daily.project().await.unwrap();
    hourly.project().await.unwrap();
    assert!(of_learner(&store, RecordKind::Pattern, hourly.learner().id()).await > 0);
    daily.delete(gone).await.unwrap();
    assert_eq!(of_learner(&store, RecordKind::Pattern, hourly.learner().id()).await, 0);
    assert_eq!(of_learner(&store, RecordKind::Watermark, hourly.learner().id()).await, 0);
    for memory in [&daily, &hourly] {
        assert_eq!(memory.patterns().await.unwrap(), fold_of_log(memory, memory.learner()).await);
    }
    assert_eq!((hourly.project().await.unwrap(), daily.project().await.unwrap()), (1, 0));
    assert_eq!(hourly.patterns().await.unwrap(), fold_of_log(&hourly, hourly.learner()).await);
}

/// Bug: the first deletion took the other learner's watermark away, so that the second one had nothing left to tell it by,
/// and an engine with that learner went on answering from what it had folded before.
#[tokio::test(start_paused = true)]
async fn every_deletion_is_seen_by_other_learners() {
    let store = InMemoryStore::new();
    let (daily, hourly) = (over(store.clone()).await, hourly_over(store.clone()).await);
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(daily.record(worked("fix", &["grep"])).await.unwrap().episode);
    }
    daily.project().await.unwrap();
    hourly.project().await.unwrap();
    for (left, id) in (1..4).rev().zip(ids) {
        daily.delete(id).await.unwrap();
        for memory in [&hourly, &daily] {
            assert_eq!(counts(&memory.patterns().await.unwrap(), "transition []", "grep"), [left; 3]);
        }
    }
}

/// Bug: a learner that came along while another one deleted an episode, which did not know of it, kept what it had learned of
/// that episode for good.
#[tokio::test(start_paused = true)]
async fn a_learner_that_comes_along_beside_a_deletion_keeps_nothing_of_it() {
    let store = faulty();
    let daily = over(Arc::clone(&store)).await;
    let gone = daily.record(worked("fix", &["grep"])).await.unwrap().episode;
    daily.project().await.unwrap();
    let (deletion, step) = (Gate::new(), Gate::new());
    store.script_next(Operation::Commit, Fault::Hold(deletion.clone()));
    let meanwhile = async {
        deletion.reached().await;
        let builder = Memory::builder().store(Arc::clone(&store)).clock(clock()).learner(hourly());
        let hourly = builder.build().await.unwrap();
        store.script_next(Operation::Commit, Fault::Hold(step.clone()));
        let projecting = async { hourly.project().await };
        let delete = async {
            step.reached().await;
            deletion.open();
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            step.open();
        };
        let (projected, ()) = tokio::join!(projecting, delete);
        projected.unwrap();
        hourly
    };
    let (deleted, hourly) = tokio::join!(daily.delete(gone), meanwhile);
    deleted.unwrap();
    assert!(hourly.patterns().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn errors_that_differ_in_numbers_paths_and_quotes_are_one() {
    let memory = fresh().await;
    let errors = ["Error 12 in 'a.rs': /a/x not found", "error 7 in 'b b.rs': /var/y/z not found"];
    for error in errors {
        let recording = worked("fix", &[]).steps([Step::new("test").error(error), Step::new("test").ok("")]);
        memory.record(recording).await.unwrap();
    }
    let patterns = memory.patterns().await.unwrap();
    let pattern = "error_recovery [test > error # in '…': <path> not found]";
    assert_eq!(counts(&patterns, pattern, "test"), [2, 2, 2]);
    assert_eq!(patterns.iter().filter(|pattern| pattern.kind == PatternKind::ErrorRecovery).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn decision_points_are_forgotten_with_their_episode() {
    let memory = fresh().await;
    let twice = || worked("fix", &[]).steps(["test", "test", "ask"].map(|tool| Step::new(tool).ok("same")));
    record_all(&memory, [twice()]).await;
    let gone = memory.record(twice()).await.unwrap().episode;
    let decision = "decision [test > call again > result again]";
    assert_eq!(counts(&memory.patterns().await.unwrap(), decision, "ask"), [2, 2, 2]);
    memory.delete(gone).await.unwrap();
    let patterns = memory.patterns().await.unwrap();
    assert_eq!(counts(&patterns, decision, "ask"), [1, 1, 1]);
    assert_eq!(memory.lineage(id_of(&patterns, decision)).await.unwrap().len(), 1);
    assert_eq!(patterns, fold_of_log(&memory, memory.learner()).await);
}

#[tokio::test(start_paused = true)]
async fn how_episodes_fare_is_told_by_language_tag_and_environment() {
    let memory = fresh().await;
    let task = || Task::new("fix it").domain("web").language("rust").tag("auth").environment("rustc", "1.95");
    record_all(&memory, [Recording::new(task(), Outcome::success("")), Recording::new(task(), Outcome::failure(""))])
        .await;
    let patterns = memory.patterns().await.unwrap();
    for context in ["language=rust", "tag=auth", "environment [\"rustc\",\"1.95\"]"] {
        assert_eq!(counts(&patterns, &format!("context [{context}]"), ""), [2, 2, 1]);
    }
}
