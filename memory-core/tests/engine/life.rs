//! An episode from its start to its end, through one handle and through several.

use std::sync::Arc;

use chrono::TimeDelta;
use memory_core::testkit::{Fault, Gate, Operation, samples};
use memory_core::{
    Ack, Durability, ErrorKind, InMemoryStore, Memory, NewNote, Outcome, RecordKind, Recording, Scope, Step,
    StepDurability, Task, Verdict,
};

use crate::{clock, count, failed, faulty, fresh, opened, over, stored, worked};

fn other_scope(memory: &Memory) -> Memory {
    memory.in_scope(Scope::new("other").unwrap())
}

#[tokio::test(start_paused = true)]
async fn every_part_comes_back_as_it_was_given() {
    let memory = fresh().await;
    let task = Task::new("fix").domain("web").language("rust").tag("a").tag("b").environment("os", "linux");
    let steps = [
        Step::new("grep").action("look").input("{}").ok("found").latency_ms(5).tokens(7),
        Step::new("edit").error("denied"),
    ];
    let outcome = Outcome::partial("half").reward(0.25).reflection("look first").artifact("patch", "+1");
    let mut open = memory.start(task.clone()).await.unwrap();
    assert_eq!((open.task(), open.steps()), (&task, &[][..]));
    for step in &steps {
        open.step(step.clone()).await.unwrap();
    }
    assert_eq!(open.steps(), steps);
    let ack = open.complete(outcome.clone()).await.unwrap();
    assert_eq!((ack.episode, ack.durability, ack.degraded), (open.id(), Durability::Volatile, None));
    let kept = memory.episode(open.id()).await.unwrap();
    assert_eq!((&kept.task, &kept.steps[..], &kept.outcome), (&task, &steps[..], &outcome));
    assert_eq!((&kept.scope, kept.started_at < kept.completed_at), (memory.scope(), true));
    assert!(!kept.succeeded());
}

#[tokio::test(start_paused = true)]
async fn an_episode_that_is_not_there_is_not_found() {
    let memory = fresh().await;
    let id = samples::episode_id(1);
    assert_eq!(memory.episode(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(memory.resume(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let error = memory.delete(id).await.unwrap_err();
    assert_eq!(error.to_string(), format!("delete: not found: no episode {id} in this scope"));
    let open = opened(&memory).await;
    assert_eq!(memory.episode(open.id()).await.unwrap_err().kind(), ErrorKind::NotFound, "it is not complete");
}

#[tokio::test(start_paused = true)]
async fn a_complete_episode_takes_nothing_more() {
    let memory = fresh().await;
    let mut open = opened(&memory).await;
    let mut other = memory.resume(open.id()).await.unwrap();
    open.complete(Outcome::success("done")).await.unwrap();
    let before = stored(&memory).await;
    for handle in [&mut open, &mut other] {
        let error = handle.complete(Outcome::failure("no")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EpisodeClosed, "{error}");
        let error = handle.step(Step::new("read")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EpisodeClosed, "{error}");
        assert!(handle.steps().is_empty());
    }
    assert_eq!(memory.resume(open.id()).await.unwrap_err().kind(), ErrorKind::EpisodeClosed);
    assert_eq!(open.complete(Outcome::success("done")).await.unwrap_err().kind(), ErrorKind::EpisodeClosed);
    assert_eq!(stored(&memory).await, before);
    assert_eq!(memory.episode(open.id()).await.unwrap().outcome, Outcome::success("done"));
}

#[tokio::test(start_paused = true)]
async fn the_same_outcome_through_another_handle_counts_once() {
    let memory = fresh().await;
    let mut open = opened(&memory).await;
    let mut other = memory.resume(open.id()).await.unwrap();
    let first = open.complete(Outcome::success("done")).await.unwrap();
    assert_eq!(other.complete(Outcome::success("done")).await.unwrap(), first);
    assert_eq!(stored(&memory).await.episodes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_episode_takes_nothing_more() {
    let memory = fresh().await;
    let mut open = opened(&memory).await;
    open.step(Step::new("read")).await.unwrap();
    memory.delete(open.id()).await.unwrap();
    assert_eq!(open.step(Step::new("edit")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(open.complete(Outcome::success("")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(memory.resume(open.id()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(memory.delete(open.id()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!((stored(&memory).await.open_episodes, count(memory.store(), RecordKind::Step).await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn two_handles_cannot_add_a_step_at_the_same_place() {
    let memory = fresh().await;
    let mut one = opened(&memory).await;
    let mut other = memory.resume(one.id()).await.unwrap();
    one.step(Step::new("read")).await.unwrap();
    let before = stored(&memory).await;
    let error = other.step(Step::new("edit")).await.unwrap_err();
    assert_eq!((error.kind(), other.steps().len()), (ErrorKind::Conflict, 0), "{error}");
    let error = other.complete(Outcome::success("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "it does not know the last step: {error}");
    assert_eq!(stored(&memory).await, before);

    let mut other = memory.resume(one.id()).await.unwrap();
    other.step(Step::new("edit")).await.unwrap();
    assert_eq!(one.complete(Outcome::success("")).await.unwrap_err().kind(), ErrorKind::Conflict);
    other.complete(Outcome::success("")).await.unwrap();
    assert_eq!(memory.episode(one.id()).await.unwrap().steps, [Step::new("read"), Step::new("edit")]);
}

#[tokio::test(start_paused = true)]
async fn resuming_gives_all_steps_in_another_engine() {
    let store = InMemoryStore::new();
    for count in [0, 1, 99, 100, 101, 250] {
        let mut open = opened(&over(store.clone()).await).await;
        for n in 0..count {
            open.step(Step::new("read").input(format!("{n}"))).await.unwrap();
        }
        open.hand_over().await.unwrap();
        let again = over(store.clone()).await;
        let mut resumed = again.resume(open.id()).await.unwrap();
        assert_eq!((resumed.steps(), resumed.task()), (open.steps(), open.task()));
        assert_eq!(resumed.steps().len(), count);
        resumed.complete(Outcome::success("")).await.unwrap();
        assert_eq!(again.episode(open.id()).await.unwrap().steps.len(), count);
    }
    assert_eq!(count(&store, RecordKind::Step).await, 0, "the steps live on in their episodes");
}

#[tokio::test(start_paused = true)]
async fn open_episodes_are_listed_until_they_end() {
    let clock = clock();
    let memory = Memory::builder().store(InMemoryStore::new()).clock(Arc::clone(&clock)).build().await.unwrap();
    let next = async || {
        clock.advance(TimeDelta::milliseconds(1));
        opened(&memory).await
    };
    let (mut a, b, c) = (next().await, next().await, next().await);
    let elsewhere = opened(&other_scope(&memory)).await;
    let listed = async |memory: &Memory| -> Vec<_> {
        memory.open_episodes().await.unwrap().into_iter().map(|opened| opened.id).collect()
    };
    assert_eq!(listed(&memory).await, [a.id(), b.id(), c.id()], "ids sort by time");
    assert_eq!(stored(&memory).await.open_episodes, 4);
    a.complete(Outcome::success("")).await.unwrap();
    memory.delete(b.id()).await.unwrap();
    assert_eq!(listed(&memory).await, [c.id()]);
    assert_eq!(listed(&other_scope(&memory)).await, [elsewhere.id()]);
    assert_eq!(stored(&memory).await.open_episodes, 2);
}

#[tokio::test(start_paused = true)]
async fn steps_kept_until_completion_are_volatile() {
    let store = InMemoryStore::new();
    let builder = Memory::builder().store(store.clone()).step_durability(StepDurability::AtCompletion);
    let memory = builder.build().await.unwrap();
    let mut open = opened(&memory).await;
    let before = stored(&memory).await;
    let ack = open.step(Step::new("read")).await.unwrap();
    assert_eq!((ack.episode, ack.durability, ack.degraded), (open.id(), Durability::Volatile, None));
    assert_eq!(stored(&memory).await, before, "nothing is written");
    assert!(memory.resume(open.id()).await.unwrap().steps().is_empty());
    open.complete(Outcome::success("")).await.unwrap();
    assert_eq!(memory.episode(open.id()).await.unwrap().steps, [Step::new("read")]);
}

/// Bug: a handle that keeps its steps until completion looked for a step after its own ones only, and dropped those that
/// another engine had stored before that place.
#[tokio::test(start_paused = true)]
async fn steps_kept_until_completion_do_not_displace_stored_ones() {
    let store = InMemoryStore::new();
    let clock = clock();
    let builder = || Memory::builder().store(store.clone()).clock(Arc::clone(&clock));
    let each = builder().build().await.unwrap();
    let late = builder().step_durability(StepDurability::AtCompletion).build().await.unwrap();
    let mut one = opened(&each).await;
    one.step(Step::new("read")).await.unwrap();
    one.hand_over().await.unwrap();
    let mut other = late.resume(one.id()).await.unwrap();
    clock.advance(TimeDelta::seconds(601));
    let mut one = each.resume(one.id()).await.unwrap();
    one.step(Step::new("edit")).await.unwrap();
    for _ in 0..3 {
        other.step(Step::new("guess")).await.unwrap();
    }
    assert_eq!(other.complete(Outcome::success("")).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(each.resume(one.id()).await.unwrap().steps().len(), 2);

    one.hand_over().await.unwrap();
    let mut again = late.resume(one.id()).await.unwrap();
    again.step(Step::new("test")).await.unwrap();
    again.complete(Outcome::success("")).await.unwrap();
    let tools = ["read", "edit", "test"].map(Step::new);
    assert_eq!(each.episode(one.id()).await.unwrap().steps, tools);
    assert_eq!(count(&store, RecordKind::Step).await, 0);
}

#[tokio::test(start_paused = true)]
async fn another_scope_shares_nothing() {
    let memory = fresh().await;
    let other = other_scope(&memory);
    let done = memory.record(worked("fix login", &["grep"])).await.unwrap().episode;
    let open = opened(&memory).await;
    let before = stored(&memory).await;
    let task = Task::new("fix login");
    assert_eq!(other.episode(done).await.unwrap_err().kind(), ErrorKind::NotFound);
    for id in [done, open.id()] {
        assert_eq!(other.resume(id).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(other.delete(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(other.recall(&task, 100).await.unwrap().episodes.is_empty());
    assert!(other.suggest(&task, &[], 100).await.unwrap().is_empty());
    assert_eq!(other.predict(&task, &[]).await.unwrap().probability, 0.5);
    assert!(other.patterns().await.unwrap().is_empty());
    let pattern = memory.patterns().await.unwrap()[0].id;
    assert_eq!((other.lineage(pattern).await.unwrap(), memory.lineage(pattern).await.unwrap()), (vec![], vec![done]));
    assert_eq!(stored(&memory).await, before);
}

#[tokio::test(start_paused = true)]
async fn an_id_belongs_to_one_episode_in_all_scopes() {
    let memory = fresh().await;
    let id = samples::episode_id(1);
    let recording = worked("fix", &["read"]).id(id).completed_at(samples::time(9));
    memory.record(recording.clone()).await.unwrap();
    let before = stored(&memory).await;
    assert_eq!(memory.record(recording.clone()).await.unwrap().episode, id);
    let others = [
        worked("fix it", &["read"]).id(id),
        worked("fix", &["edit"]).id(id),
        failed("fix", &["read"]).id(id).completed_at(samples::time(9)),
        recording.clone().completed_at(samples::time(10)),
        recording.clone().started_at(samples::time(8)),
    ];
    for changed in others {
        assert_eq!(memory.record(changed.clone()).await.unwrap_err().kind(), ErrorKind::AlreadyExists, "{changed:?}");
    }
    assert_eq!(other_scope(&memory).record(recording).await.unwrap_err().kind(), ErrorKind::AlreadyExists);

    let open = opened(&memory).await;
    let opened = stored(&memory).await;
    let error = memory.record(worked("make the login test pass", &[]).id(open.id())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!((stored(&memory).await, before.episodes), (opened, 1));
}

#[tokio::test(start_paused = true)]
async fn ids_are_repeatable_with_a_seed_and_sort_by_time() {
    let ids = async |seed| {
        let memory = Memory::builder().store(InMemoryStore::new()).seed(seed).clock(clock()).build().await.unwrap();
        let first = memory.record(worked("fix", &[]).completed_at(samples::time(1))).await.unwrap();
        let second = memory.record(worked("fix", &[]).completed_at(samples::time(2))).await.unwrap();
        let before = memory.record(worked("fix", &[]).completed_at(samples::time(-1))).await.unwrap();
        [before, first, second].map(|Ack { episode, .. }| episode)
    };
    let (one, again, other) = (ids(1).await, ids(1).await, ids(2).await);
    assert_eq!(one, again);
    assert_ne!(one, other);
    assert!(one.is_sorted() && other.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn every_verdict_is_kept_and_only_success_is_one() {
    let memory = fresh().await;
    for verdict in samples::VERDICTS {
        let ack = memory.record(Recording::new(Task::new("fix"), Outcome::new(verdict, "")).step(Step::new("read")));
        let kept = memory.episode(ack.await.unwrap().episode).await.unwrap();
        assert_eq!((kept.outcome.verdict, kept.succeeded()), (verdict, verdict == Verdict::Success));
    }
    assert_eq!(crate::counts(&memory.patterns().await.unwrap(), "context [state]", "0 steps"), [5, 5, 1]);
}

/// Bug: a step added between reading the steps of an open episode and deleting them stayed in the store for ever.
#[tokio::test(start_paused = true)]
async fn deleting_takes_a_step_that_was_added_meanwhile() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    let mut open = opened(&memory).await;
    let gate = Gate::new();
    store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let meanwhile = async {
        gate.reached().await;
        open.step(Step::new("read").input("secret")).await.unwrap();
        gate.open();
    };
    let (deleted, ()) = tokio::join!(memory.delete(open_id(&memory).await), meanwhile);
    deleted.unwrap();
    assert_eq!((stored(&memory).await.open_episodes, count(&*store, RecordKind::Step).await), (0, 0));
}

async fn open_id(memory: &Memory) -> memory_core::EpisodeId {
    memory.open_episodes().await.unwrap()[0].id
}

/// The same for one that is completed meanwhile.
#[tokio::test(start_paused = true)]
async fn deleting_takes_an_episode_that_was_completed_meanwhile() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    let mut open = opened(&memory).await;
    let id = open.id();
    let gate = Gate::new();
    store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let meanwhile = async {
        gate.reached().await;
        open.complete(Outcome::success("")).await.unwrap();
        gate.open();
    };
    let (deleted, ()) = tokio::join!(memory.delete(id), meanwhile);
    deleted.unwrap();
    let health = stored(&memory).await;
    assert_eq!((health.open_episodes, health.episodes), (0, 0));
    assert!(memory.patterns().await.unwrap().is_empty());
}

/// Bug: reads took moments from the clock that only rises, and so moved the ends of episodes.
#[tokio::test(start_paused = true)]
async fn reading_moves_no_moment() {
    let memory = fresh().await;
    let note = memory.remember(NewNote::new("use tabs")).await.unwrap().id;
    let first = memory.record(worked("fix", &["grep"])).await.unwrap().episode;
    memory.note(note).await.unwrap();
    memory.recall_notes("tabs", 1).await.unwrap();
    let patterns = memory.patterns().await.unwrap();
    memory.support(&patterns[0].branches.values().next().unwrap().clone());
    let second = memory.record(worked("fix", &["grep"])).await.unwrap().episode;
    let [first, second] = [first, second].map(|id| memory.episode(id));
    let between = second.await.unwrap().completed_at - first.await.unwrap().completed_at;
    assert_eq!(between, TimeDelta::microseconds(1));
}
