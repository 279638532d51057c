//! Steps that are committed together: by number, by time, at the end, and when something fails.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use memory_core::testkit::{Fault, Gate, Operation};
use memory_core::{
    Durability, EpisodeId, ErrorKind, InMemoryStore, Memory, MemoryStore, MemoryStoreExt, OpenEpisode, Outcome,
    RecordKind, Step, StepDurability,
};

use crate::{Faulty, Manual, clock, count, engine, faulty, job, lost, opened, pass, stored};

/// Batches of five steps or five seconds.
const FIVE: StepDurability = StepDurability::Batched { steps: 5, within: TimeDelta::seconds(5) };

struct World {
    store: Faulty,
    clock: Manual,
    memory: Memory,
}

async fn world() -> World {
    let (store, clock) = (faulty(), clock());
    let builder = Memory::builder().store(Arc::clone(&store)).clock(Arc::clone(&clock)).step_durability(FIVE);
    World { memory: builder.build().await.unwrap(), store, clock }
}

impl World {
    fn fail(&self, fault: Fault) {
        self.store.script_next(Operation::Commit, fault);
    }

    async fn stored_steps(&self) -> usize {
        count(&*self.store, RecordKind::Step).await
    }

    async fn queue(&self) -> u64 {
        job(&self.memory, "steps").await.queue
    }
}

fn step(n: usize) -> Step {
    Step::new("read").input(format!("{n}"))
}

async fn take(open: &mut OpenEpisode, steps: std::ops::Range<usize>) {
    for n in steps {
        let ack = open.step(step(n)).await.unwrap();
        assert_eq!(ack.durability, Durability::Buffered, "step {n}");
    }
}

async fn millis(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn steps(count: usize) -> Vec<Step> {
    (0..count).map(step).collect()
}

async fn assert_completes(memory: &Memory, mut open: OpenEpisode, count: usize) {
    open.complete(Outcome::success("")).await.unwrap();
    assert_eq!(memory.episode(open.id()).await.unwrap().steps, steps(count));
}

#[tokio::test(start_paused = true)]
async fn the_last_step_of_a_batch_commits_all() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    let commits = world.store.calls(Operation::Commit);
    for round in 0..3 {
        take(&mut open, round * 5..round * 5 + 4).await;
        assert_eq!((world.stored_steps().await, world.queue().await), (round * 5, 4));
        let ack = open.step(step(round * 5 + 4)).await.unwrap();
        assert_eq!(
            (ack.episode, ack.durability, ack.degraded),
            (open.id(), Durability::Volatile, None),
            "as the store"
        );
        assert_eq!((world.stored_steps().await, world.queue().await), (round * 5 + 5, 0));
    }
    assert_eq!(world.store.calls(Operation::Commit), commits + 3);
    millis(60_000).await;
    assert_eq!(world.store.calls(Operation::Commit), commits + 3, "nothing is left to do");
    assert_completes(&world.memory, open, 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_one_is_each_step() {
    let durability = StepDurability::Batched { steps: 1, within: TimeDelta::hours(1) };
    let builder = Memory::builder().store(InMemoryStore::new()).step_durability(durability);
    let memory = builder.build().await.unwrap();
    let mut open = opened(&memory).await;
    assert_eq!(open.step(step(0)).await.unwrap().durability, Durability::Volatile);
    assert_eq!(crate::count(&**memory.store(), RecordKind::Step).await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_timer_commits_what_the_agent_leaves() {
    let world = world().await;
    let (mut open, mut second) = (opened(&world.memory).await, opened(&world.memory).await);
    take(&mut open, 0..1).await;
    millis(3_000).await;
    take(&mut open, 1..2).await;
    take(&mut second, 0..2).await;
    millis(1_990).await;
    assert_eq!(world.stored_steps().await, 0);
    assert_eq!(job(&world.memory, "steps").await.last_beat, None);
    millis(20).await;
    assert_eq!((world.stored_steps().await, world.queue().await), (2, 2), "five seconds after the oldest");
    assert!(job(&world.memory, "steps").await.last_beat.is_some());
    millis(2_900).await;
    assert_eq!(world.stored_steps().await, 2);
    millis(100).await;
    assert_eq!((world.stored_steps().await, world.queue().await), (4, 0));
    take(&mut open, 2..3).await;
    millis(4_990).await;
    assert_eq!(world.stored_steps().await, 4, "the time counts anew");
    millis(20).await;
    assert_eq!(world.stored_steps().await, 5);
    assert_completes(&world.memory, second, 2).await;
    assert_completes(&world.memory, open, 3).await;
}

#[tokio::test(start_paused = true)]
async fn flushing_commits_now() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    let commits = world.store.calls(Operation::Commit);
    take(&mut open, 0..3).await;
    let ack = open.flush().await.unwrap();
    assert_eq!(
        (ack.episode, ack.durability, ack.degraded.clone()),
        (open.id(), Durability::Volatile, None),
        "as the store"
    );
    assert_eq!((world.stored_steps().await, world.queue().await), (3, 0));
    assert_eq!(open.flush().await.unwrap(), ack);
    assert_eq!(world.store.calls(Operation::Commit), commits + 1, "the second finds nothing to do");
    take(&mut open, 3..4).await;
    open.checkpoint("here").await.unwrap();
    assert_eq!((world.stored_steps().await, world.store.calls(Operation::Commit)), (4, commits + 2));
    assert_completes(&world.memory, open, 4).await;
}

#[tokio::test(start_paused = true)]
async fn completing_needs_no_flush() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    take(&mut open, 0..3).await;
    let commits = world.store.calls(Operation::Commit);
    assert_completes(&world.memory, open, 3).await;
    assert_eq!((world.store.calls(Operation::Commit), world.queue().await), (commits + 1, 0));
    millis(50).await;
    assert_eq!(job(&world.memory, "steps").await.last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_leaves_its_steps_to_the_timer() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    take(&mut open, 0..3).await;
    let id = open.id();
    drop(open);
    assert_eq!((world.queue().await, job(&world.memory, "leases").await.queue), (3, 0));
    millis(5_010).await;
    assert_eq!((world.stored_steps().await, world.queue().await), (3, 0));
    let open = world.memory.resume(id).await.unwrap();
    assert_completes(&world.memory, open, 3).await;
}

/// Writing what a dropped handle left is no sign of life.
#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_renews_nothing() {
    for failures in [0, 8] {
        let world = world().await;
        let mut open = opened(&world.memory).await;
        take(&mut open, 0..3).await;
        drop(open);
        let lease = async || world.memory.open_episodes().await.unwrap()[0].lease;
        let before = lease().await;
        let first = world.store.calls(Operation::Commit) + 1;
        (first..first + failures).for_each(|n| world.store.script(Operation::Commit, n, Fault::Before(lost())));
        world.clock.advance(TimeDelta::seconds(250));
        pass(&world.clock, 300).await;
        assert_eq!((world.stored_steps().await, lease().await), (3, before), "after {failures} failures");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_of_the_engine_writes_what_is_left() {
    let World { store, clock, memory } = world().await;
    let mut open = opened(&memory).await;
    take(&mut open, 0..3).await;
    drop((open, memory));
    millis(200).await;
    assert_eq!(count(&*store, RecordKind::Step).await, 3);
    assert_eq!((Arc::strong_count(&store), tokio::runtime::Handle::current().metrics().num_alive_tasks()), (1, 0));
    drop(clock);
}

#[tokio::test(start_paused = true)]
async fn closing_writes_what_is_left_or_says_that_it_could_not() {
    let World { store, memory, .. } = world().await;
    let mut open = opened(&memory).await;
    take(&mut open, 0..3).await;
    memory.close().await.unwrap();
    memory.close().await.unwrap();
    drop(open);

    let World { store: failing, memory, .. } = world().await;
    let mut open = opened(&memory).await;
    take(&mut open, 0..3).await;
    failing.script_next(Operation::Commit, Fault::Before(lost()));
    assert_eq!(memory.close().await.unwrap_err().to_string(), "close: unavailable: scripted");
    assert_eq!(failing.get_ref().health().await.unwrap_err().kind(), ErrorKind::Unavailable, "it is closed");
    assert_eq!((store.calls(Operation::Close), failing.calls(Operation::Close)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn another_handle_of_the_engine_sees_what_is_buffered() {
    let world = world().await;
    let mut one = opened(&world.memory).await;
    take(&mut one, 0..2).await;
    let mut other = world.memory.resume(one.id()).await.unwrap();
    assert_eq!((other.steps(), world.queue().await), (one.steps(), 0));
    take(&mut one, 2..3).await;
    assert_eq!(other.step(Step::new("else")).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(other.flush().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(other.complete(Outcome::success("")).await.unwrap_err().kind(), ErrorKind::Conflict);
    take(&mut other, 2..3).await;
    assert_eq!(world.queue().await, 1, "the same step counts once");
    take(&mut other, 3..4).await;
    one.step(step(3)).await.unwrap();
    one.flush().await.unwrap();
    assert_eq!(world.stored_steps().await, 4);
    other.step(step(4)).await.unwrap();
    assert_eq!(one.hand_over().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_completes(&world.memory, other, 5).await;
}

#[tokio::test(start_paused = true)]
async fn handing_over_writes_what_is_buffered() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    take(&mut open, 0..3).await;
    open.hand_over().await.unwrap();
    let other = engine(&world.store, &world.clock).await;
    let taken = other.resume(open.id()).await.unwrap();
    assert_eq!(taken.steps(), steps(3));
    assert_completes(&other, taken, 3).await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_the_background_is_kept_told_and_tried_again() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    take(&mut open, 0..2).await;
    world.fail(Fault::Before(lost()));
    millis(5_010).await;
    let health = job(&world.memory, "steps").await;
    assert_eq!((health.queue, health.last_error.as_deref()), (2, Some("unavailable: scripted")));
    // The next call tries again at once, and tells what is still so.
    world.fail(Fault::Before(lost()));
    let error = open.step(step(2)).await.unwrap_err();
    assert_eq!((error.to_string(), open.steps().len()), ("step: unavailable: scripted".to_owned(), 2));
    assert_eq!((world.stored_steps().await, world.queue().await), (0, 2));
    world.fail(Fault::Before(lost()));
    assert_eq!(open.flush().await.unwrap_err().to_string(), "flush: unavailable: scripted");
    // Without any call, the timer goes on.
    millis(30_000).await;
    let health = job(&world.memory, "steps").await;
    assert_eq!((health.queue, health.last_error, world.stored_steps().await), (0, None, 2));
    let ack = open.step(step(2)).await.unwrap();
    assert_eq!(ack.durability, Durability::Volatile, "written at once, lest it is there already");
    take(&mut open, 3..4).await;
    assert_completes(&world.memory, open, 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_recovers_is_noticed_by_the_next_step() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    take(&mut open, 0..2).await;
    world.fail(Fault::Before(lost()));
    millis(5_010).await;
    assert_eq!(open.step(step(2)).await.unwrap().durability, Durability::Volatile, "written at once, with the others");
    assert_eq!((world.stored_steps().await, world.queue().await), (3, 0));
    take(&mut open, 3..4).await;
    assert_completes(&world.memory, open, 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_asked_ever_less_often() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    take(&mut open, 0..2).await;
    drop(open);
    let first = world.store.calls(Operation::Commit) + 1;
    (first..first + 1_000).for_each(|n| world.store.script(Operation::Commit, n, Fault::Before(lost())));
    millis(3_600_000).await;
    let asked = world.store.calls(Operation::Commit) + 1 - first;
    assert!((60..=70).contains(&asked), "{asked} times in an hour");
    assert_eq!(world.queue().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_flush_whose_answer_was_lost_counts_once() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    take(&mut open, 0..2).await;
    world.fail(Fault::After(lost()));
    millis(5_010).await;
    assert_eq!((world.stored_steps().await, world.queue().await), (2, 2), "it does not know yet");
    open.step(step(2)).await.unwrap();
    assert_eq!((world.stored_steps().await, world.queue().await), (3, 0));
    take(&mut open, 3..5).await;
    world.fail(Fault::After(lost()));
    open.flush().await.unwrap_err();
    open.flush().await.unwrap();
    take(&mut open, 5..6).await;
    world.fail(Fault::After(lost()));
    millis(5_010).await;
    millis(1_010).await;
    assert_eq!((world.stored_steps().await, world.queue().await), (6, 0), "by the timer");
    take(&mut open, 6..8).await;
    world.fail(Fault::After(lost()));
    millis(5_010).await;
    assert_eq!(world.queue().await, 2);
    assert_completes(&world.memory, open, 8).await;
}

#[tokio::test(start_paused = true)]
async fn a_last_step_whose_answer_was_lost_counts_once() {
    for by_timer in [false, true] {
        let world = world().await;
        let mut open = opened(&world.memory).await;
        take(&mut open, 0..4).await;
        world.fail(Fault::After(lost()));
        open.step(step(4)).await.unwrap_err();
        assert_eq!((open.steps().len(), world.stored_steps().await), (4, 5));
        if by_timer {
            millis(10_000).await;
            assert_eq!(world.queue().await, 0);
        }
        let error = open.step(Step::new("else")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "it could never be written, so that it must not be buffered");
        assert_eq!(open.complete(Outcome::success("")).await.unwrap_err().kind(), ErrorKind::Conflict);
        open.step(step(4)).await.unwrap();
        take(&mut open, 5..6).await;
        assert_completes(&world.memory, open, 6).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_given_up_half_way_counts_once() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    take(&mut open, 0..4).await;
    let gate = Gate::new();
    world.fail(Fault::Hold(gate.clone()));
    let impatient = tokio::time::timeout(Duration::from_secs(1), open.step(step(4)));
    assert!(impatient.await.is_err());
    assert_eq!((open.steps().len(), world.queue().await), (4, 4));
    open.step(step(4)).await.unwrap();
    assert_eq!(world.stored_steps().await, 5);
    assert_completes(&world.memory, open, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_fails_keeps_what_is_buffered() {
    for fault in [Fault::Before(lost()), Fault::After(lost())] {
        let world = world().await;
        let mut open = opened(&world.memory).await;
        take(&mut open, 0..3).await;
        let written = matches!(fault, Fault::After(_));
        world.fail(fault);
        open.complete(Outcome::success("")).await.unwrap_err();
        millis(10_000).await;
        assert_eq!(world.stored_steps().await, if written { 0 } else { 3 });
        open.complete(Outcome::success("")).await.unwrap();
        assert_eq!(world.memory.episode(open.id()).await.unwrap().steps, steps(3));
        assert_eq!((stored(&world.memory).await.episodes, world.queue().await), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_episode_is_told_what_was_not_written() {
    for by_timer in [false, true] {
        let world = world().await;
        let mut open = opened(&world.memory).await;
        take(&mut open, 0..1).await;
        open.flush().await.unwrap();
        take(&mut open, 1..4).await;
        world.clock.advance(TimeDelta::seconds(601));
        let other = engine(&world.store, &world.clock).await;
        let mut taken = other.resume(open.id()).await.unwrap();
        assert_eq!(taken.steps(), steps(1));
        if by_timer {
            millis(5_010).await;
            let health = job(&world.memory, "steps").await;
            assert!(health.last_error.is_some_and(|error| error.contains("3 buffered steps")), "in health");
            assert_eq!(health.queue, 0, "they can never be written");
        }
        let error = if by_timer { open.step(step(4)).await.unwrap_err() } else { open.flush().await.unwrap_err() };
        assert_eq!((error.kind(), open.steps().len()), (ErrorKind::LeaseLost, 4));
        assert!(error.to_string().contains("3 buffered steps were not written"), "{error}");
        taken.step(step(1)).await.unwrap();
        assert_completes(&other, taken, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_takes_what_is_buffered() {
    let world = world().await;
    let mut open = opened(&world.memory).await;
    take(&mut open, 0..3).await;
    world.memory.delete(open.id()).await.unwrap();
    millis(10_000).await;
    assert_eq!((world.stored_steps().await, world.queue().await), (0, 0));
    assert_eq!(open.step(step(3)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn the_size_of_a_batch_has_bounds() {
    let build = |steps, within| {
        let durability = StepDurability::Batched { steps, within };
        Memory::builder().store(InMemoryStore::new()).step_durability(durability).build()
    };
    let (millisecond, hour) = (TimeDelta::milliseconds(1), TimeDelta::hours(1));
    for (steps, within) in [(1, millisecond), (1_000, hour)] {
        build(steps, within).await.unwrap();
    }
    let zero = TimeDelta::zero();
    let longer = hour + TimeDelta::nanoseconds(1);
    let of = |within: TimeDelta| format!("step_durability.within is {within}; allowed: 1 millisecond..=1 hour");
    let refused = [
        (0, hour, "step_durability.steps is 0; allowed: 1..=1000".to_owned()),
        (1_001, hour, "step_durability.steps is 1001; allowed: 1..=1000".to_owned()),
        (1, zero, of(zero)),
        (1, TimeDelta::microseconds(999), of(TimeDelta::microseconds(999))),
        (1, longer, of(longer)),
        (1, -hour, of(-hour)),
    ];
    for (steps, within, message) in refused {
        let error = build(steps, within).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Invalid, format!("invalid value: {message}")));
    }
    let usual = StepDurability::Batched { steps: 50, within: TimeDelta::seconds(5) };
    assert_eq!(StepDurability::batched(), usual);
}

/// A generator that is good enough to choose by.
fn dice(state: &mut u64, sides: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % sides
}

/// Whatever fails, and however it is retried, resumed and handed over: every step is there once, in order.
#[tokio::test(start_paused = true)]
async fn random_failures_lose_and_double_nothing() {
    for seed in 0..150 {
        let modes = [FIVE, StepDurability::Each, StepDurability::AtCompletion];
        let (store, clock) = (faulty(), clock());
        let builder = Memory::builder().store(Arc::clone(&store)).clock(Arc::clone(&clock));
        let memory = builder.step_durability(modes[seed % 3]).build().await.unwrap();
        let mut random = seed as u64;
        let mut open = opened(&memory).await;
        while open.steps().len() < 30 {
            let n = open.steps().len();
            match dice(&mut random, 12) {
                0 => store.script_next(Operation::Commit, Fault::Before(lost())),
                1 | 2 => store.script_next(Operation::Commit, Fault::After(lost())),
                3 => store.script_next(Operation::Get, Fault::Before(lost())),
                4 => pass(&clock, dice(&mut random, 8)).await,
                5 if dice(&mut random, 4) == 0 => pass(&clock, 250).await,
                6 => drop(open.flush().await),
                7 => drop(open.checkpoint(format!("{n}")).await),
                8 if dice(&mut random, 3) == 0 => open = again(&memory, open).await,
                _ => while open.step(step(n)).await.is_err() {},
            }
        }
        while open.complete(Outcome::success("")).await.is_err() {}
        let Some(kept) = store.get_ref().get_episode(open.id()).await.unwrap() else { panic!("seed {seed}") };
        assert_eq!(kept.episode.steps, steps(30), "seed {seed}");
        assert_eq!((stored(&memory).await.open_episodes, count(store.get_ref(), RecordKind::Step).await), (0, 0));
    }
}

/// The episode through a new handle, after the old one gave it up or was dropped.
async fn again(memory: &Memory, mut open: OpenEpisode) -> OpenEpisode {
    let (id, before): (EpisodeId, usize) = (open.id(), open.steps().len());
    while let Err(error) = open.hand_over().await {
        // A lost answer to a step that the agent then gave up cannot be told from another agent's step.
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    drop(open);
    let open = loop {
        if let Ok(open) = memory.resume(id).await {
            break open;
        }
    };
    assert_eq!(open.steps(), steps(before));
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_agents_in_one_engine_do_not_mix() {
    let durability = StepDurability::Batched { steps: 7, within: TimeDelta::milliseconds(1) };
    let builder = Memory::builder().store(InMemoryStore::new()).step_durability(durability);
    let memory = builder.lease(TimeDelta::seconds(1)).build().await.unwrap();
    let mut agents = tokio::task::JoinSet::new();
    for agent in 0..16 {
        let memory = memory.clone();
        agents.spawn(async move {
            for round in 0..5 {
                let mut open = opened(&memory).await;
                for n in 0..40 {
                    open.step(step(n)).await.unwrap();
                    if (n + agent) % 11 == 0 {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
                if round % 2 == 0 {
                    open.hand_over().await.unwrap();
                    open = memory.resume(open.id()).await.unwrap();
                }
                open.complete(Outcome::success("")).await.unwrap();
                assert_eq!(memory.episode(open.id()).await.unwrap().steps, steps(40));
            }
        });
    }
    agents.join_all().await;
    let health = stored(&memory).await;
    assert_eq!((health.episodes, health.open_episodes), (80, 0));
    assert_eq!(crate::count(&**memory.store(), RecordKind::Step).await, 0);
    let jobs = memory.health().await.unwrap().jobs;
    assert!(
        jobs.iter().all(|job| job.last_error.is_none() && (job.queue == 0 || job.name == "projection")),
        "{jobs:?}"
    );
}
