//! What goes on beside the callers, and what health tells of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::TimeDelta;
use memory_core::testkit::{Fault, Gate, Operation, samples};
use memory_core::{Memory, StepDurability};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::{clock, engine, faulty, job, lost, opened, pass, record_all, worked};

const JOBS: [&str; 7] = ["projection", "leases", "sweep", "steps", "consolidation", "expiry", "embedding"];

#[tokio::test(start_paused = true)]
async fn every_job_is_told_of_and_beats_when_it_runs() {
    let (store, clock) = (faulty(), clock());
    let builder = Memory::builder().store(Arc::clone(&store)).clock(Arc::clone(&clock)).lease(TimeDelta::seconds(30));
    let memory = builder.step_durability(StepDurability::batched()).build().await.unwrap();
    let jobs = memory.health().await.unwrap().jobs;
    assert_eq!(jobs.iter().map(|job| job.name).collect::<Vec<_>>(), JOBS);
    assert!(jobs.iter().all(|job| job.last_beat.is_none() && job.last_error.is_none() && job.queue == 0), "{jobs:?}");

    let mut open = opened(&memory).await;
    open.step(memory_core::Step::new("read")).await.unwrap();
    record_all(&memory, [worked("fix", &["read"]), worked("fix", &["edit"])]).await;
    drop(opened(&memory).await);
    let queues = async || memory.health().await.unwrap().jobs.iter().map(|job| job.queue).collect::<Vec<_>>();
    assert_eq!(queues().await, [2, 1, 0, 1, 0, 0, 0]);
    clock.advance(TimeDelta::seconds(31));
    assert_eq!(
        queues().await,
        [2, 1, 1, 1, 0, 0, 0],
        "the episode without a handle is an orphan, the one in use is not"
    );
    clock.advance(TimeDelta::seconds(-31));

    let beat = async |name| job(&memory, name).await.last_beat;
    pass(&clock, 1).await;
    assert_eq!((beat("projection").await, beat("steps").await), (Some(samples::time(1)), None));
    pass(&clock, 4).await;
    assert_eq!((beat("steps").await, beat("leases").await), (Some(samples::time(5)), None));
    pass(&clock, 5).await;
    assert_eq!((beat("leases").await, beat("sweep").await), (Some(samples::time(10)), None));
    pass(&clock, 21).await;
    assert_eq!((beat("leases").await, beat("sweep").await), (Some(samples::time(30)), Some(samples::time(30))));
    assert_eq!(queues().await, [0, 1, 1, 0, 0, 0, 0], "its lease ended a moment later");
    pass(&clock, 30).await;
    assert_eq!(queues().await, [0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(memory.open_episodes().await.unwrap().len(), 1);
    assert_eq!(beat("sweep").await, Some(samples::time(60)));
    assert!(beat("embedding").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_makes_run_beats_as_well() {
    let clock = clock();
    let memory = engine(&faulty(), &clock).await;
    memory.project().await.unwrap();
    clock.advance(TimeDelta::seconds(1));
    memory.sweep().await.unwrap();
    let beats = [job(&memory, "projection").await.last_beat, job(&memory, "sweep").await.last_beat];
    assert_eq!(beats, [Some(samples::time(0)), Some(samples::time(1))]);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_until_the_job_succeeds() {
    let (store, clock) = (faulty(), clock());
    let memory = engine(&store, &clock).await;
    pass(&clock, 1).await;
    let error = async |name| job(&memory, name).await.last_error;
    let scripted = Some("unavailable: scripted".to_owned());

    let open = opened(&memory).await.id();
    store.script_next(Operation::Commit, Fault::Before(lost()));
    memory.delete(open).await.unwrap_err();
    assert_eq!(error("projection").await, None, "a caller's failure is none of a job's");
    memory.delete(open).await.unwrap();

    memory.record(worked("fix", &["read"])).await.unwrap();
    store.script_next(Operation::Get, Fault::Before(lost()));
    pass(&clock, 1).await;
    assert_eq!(error("projection").await, None, "it was tried again");
    memory.record(worked("fix", &["read"])).await.unwrap();
    store.script_next(Operation::Get, Fault::Before(lost()));
    memory.project().await.unwrap_err();
    assert_eq!(error("projection").await, scripted);
    memory.project().await.unwrap();
    assert_eq!(error("projection").await, None);

    let handle = opened(&memory).await;
    store.script_next(Operation::Commit, Fault::Before(lost()));
    pass(&clock, 198).await;
    assert_eq!(error("leases").await, scripted);
    pass(&clock, 21).await;
    assert_eq!(error("leases").await, None);
    drop(handle);

    store.script_next(Operation::Scan, Fault::Before(lost()));
    memory.sweep().await.unwrap_err();
    assert_eq!(error("sweep").await.as_deref(), Some("sweep: unavailable: scripted"));
    pass(&clock, 601).await;
    assert_eq!(error("sweep").await, None, "by itself");
}

#[tokio::test(start_paused = true)]
async fn all_jobs_end_with_the_last_handle() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let clock = clock();
    let memory = engine(&faulty(), &clock).await;
    let open = opened(&memory).await;
    drop(memory);
    pass(&clock, 700).await;
    assert_eq!(alive(), JOBS.len() - 1, "an open episode is a handle; consolidation only runs when it is due");
    drop(open);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(alive(), 0);
}

/// Counts warnings.
#[derive(Clone, Debug, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Bug: what was under way or waiting when the memory was closed warned that it had failed.
#[tokio::test(start_paused = true)]
async fn a_job_that_the_closing_overtakes_is_no_warning() {
    for (operation, episodes, period) in [(Operation::Get, 1, 0), (Operation::Scan, 0, 600)] {
        let (warnings, store, clock) = (Warnings::default(), faulty(), clock());
        let _told = tracing::subscriber::set_default(warnings.clone());
        let memory = engine(&store, &clock).await;
        pass(&clock, 1).await;
        store.script_next(Operation::Get, Fault::Before(lost()));
        record_all(&memory, [worked("fix", &["read"])]).await;
        pass(&clock, 1).await;
        assert_eq!(warnings.0.load(Ordering::Relaxed), 1, "before it is closed, a failure is one");
        let gate = Gate::new();
        record_all(&memory, (0..episodes).map(|_| worked("fix", &["read"]))).await;
        store.script_next(operation, Fault::Hold(gate.clone()));
        // The closing waits and the projection behind it, or else what is done every ten minutes waits.
        pass(&clock, period).await;
        let open = async {
            gate.reached().await;
            pass(&clock, 1).await;
            gate.open();
        };
        let (closed, ()) = tokio::join!(memory.close(), open);
        closed.unwrap();
        pass(&clock, 10).await;
        assert_eq!(warnings.0.load(Ordering::Relaxed), 1, "held: {operation:?}");
    }
}
