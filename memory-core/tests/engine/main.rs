//! The behaviour of the engine over the in-memory store.
//!
//! Time is paused, so that the projection task runs only where a test lets time pass.
#![expect(clippy::unwrap_used, reason = "to fail a test is to panic")]

mod batching;
mod concurrency;
mod configuration;
mod degradation;
mod embed_missing;
mod exposure;
mod heuristics;
mod jobs;
mod leases;
mod life;
mod limits;
mod list_notes;
mod note_changes;
mod notes;
mod order;
mod patterns;
mod profiles;
mod projection;
mod prompt;
mod recall;
mod reembed;
mod rerankers;
mod retention;
mod retries;
mod review;
mod suggest;
mod threads;
mod transfer;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use memory_core::testkit::{FaultyStore, ManualClock, samples};
use memory_core::{
    Error, ErrorKind, InMemoryStore, JobHealth, Learner, Memory, MemoryStore, MemoryStoreExt, OpenEpisode, Outcome,
    Pattern, PatternId, RecordKind, Recording, Scan, Step, StoreHealth, Task,
};

type Faulty = Arc<FaultyStore<InMemoryStore>>;
type Manual = Arc<ManualClock>;

fn faulty() -> Faulty {
    Arc::new(FaultyStore::new(InMemoryStore::new()))
}

fn clock() -> Manual {
    Arc::new(ManualClock::new(samples::time(0)))
}

/// The failure whose outcome a caller cannot know, or of a call that was not made.
fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "scripted")
}

async fn over(store: impl MemoryStore) -> Memory {
    Memory::builder().store(store).clock(clock()).build().await.unwrap()
}

/// An engine over a store that others use, too, with a clock that others have, too.
async fn engine(store: &Faulty, clock: &Manual) -> Memory {
    Memory::builder().store(Arc::clone(store)).clock(Arc::clone(clock)).build().await.unwrap()
}

/// Lets time pass, for the timers and for the clock, in steps of a second, and a moment more for what is due then.
async fn pass(clock: &Manual, seconds: u64) {
    for _ in 0..seconds {
        clock.advance(TimeDelta::seconds(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
}

async fn job(memory: &Memory, name: &str) -> JobHealth {
    let jobs = memory.health().await.unwrap().jobs;
    jobs.into_iter().find(|job| job.name == name).unwrap()
}

async fn fresh() -> Memory {
    over(InMemoryStore::new()).await
}

async fn opened(memory: &Memory) -> OpenEpisode {
    memory.start(Task::new("make the login test pass")).await.unwrap()
}

/// A finished episode with this task and these tools, which all went well.
fn episode(text: &str, tools: &[&str], outcome: Outcome) -> Recording {
    Recording::new(Task::new(text), outcome).steps(tools.iter().map(|tool| Step::new(*tool).ok("")))
}

fn worked(text: &str, tools: &[&str]) -> Recording {
    episode(text, tools, Outcome::success(""))
}

fn failed(text: &str, tools: &[&str]) -> Recording {
    episode(text, tools, Outcome::failure(""))
}

async fn record_all(memory: &Memory, recordings: impl IntoIterator<Item = Recording>) {
    for recording in recordings {
        memory.record(recording).await.unwrap();
    }
}

async fn stored(memory: &Memory) -> StoreHealth {
    memory.store().health().await.unwrap()
}

async fn count(store: &dyn MemoryStore, kind: RecordKind) -> usize {
    store.scan_all(Scan::new(kind)).await.unwrap().len()
}

/// The pattern that prints like this, and the counts of one of its branches.
fn counts(patterns: &[Pattern], pattern: &str, branch: &str) -> [u64; 3] {
    let found = patterns.iter().find(|found| found.to_string() == pattern);
    let found = found.unwrap_or_else(|| panic!("{pattern} is not in {patterns:#?}"));
    found.branches[branch].total().into()
}

fn id_of(patterns: &[Pattern], pattern: &str) -> PatternId {
    patterns.iter().find(|found| found.to_string() == pattern).unwrap().id
}

/// The definition of knowledge: what each episode shows, added up.
async fn fold_of_log(memory: &Memory, learner: &Learner) -> Vec<Pattern> {
    let mut patterns = std::collections::BTreeMap::<PatternId, Pattern>::new();
    for stored in memory.store().scan_all(Scan::new(RecordKind::Episode)).await.unwrap() {
        let memory_core::Record::Episode(logged) = stored.record else { panic!("not an episode") };
        for observed in learner.observe(&logged.episode) {
            match patterns.get_mut(&observed.id) {
                Some(pattern) => pattern.add(&observed),
                None => drop(patterns.insert(observed.id, observed)),
            }
        }
    }
    patterns.into_values().collect()
}
