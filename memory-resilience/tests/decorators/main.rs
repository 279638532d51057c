//! What each decorator promises, by behaviour; all times on a clock that the tests move.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bulkhead;
mod chaos;
mod circuit_breaker;
mod configuration;
mod engine;
mod failover;
mod health_monitor;
mod rate_limit;
mod retry;
mod timeout;

use std::sync::Arc;
use std::time::Duration;

use memory_core::testkit::{Fault, FaultyStore, Gate, Operation};
use memory_core::{Error, ErrorKind, InMemoryStore, MemoryStore, Result, StoreHealth};

type Faulty = FaultyStore<InMemoryStore>;

fn faulty() -> Arc<Faulty> {
    Arc::new(FaultyStore::new(InMemoryStore::new()))
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn busy() -> Error {
    Error::new(ErrorKind::Busy, "scripted")
}

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "scripted")
}

/// Lets the next calls of `health` fail.
fn fail(store: &Faulty, errors: impl IntoIterator<Item = Error>) {
    let next = store.calls(Operation::Health) + 1;
    (next..).zip(errors).for_each(|(n, error)| store.script(Operation::Health, n, Fault::Before(error)));
}

/// Lets the next call of `health` wait at a gate.
fn hold(store: &Faulty) -> Gate {
    let gate = Gate::new();
    store.script_next(Operation::Health, Fault::Hold(gate.clone()));
    gate
}

fn calls(store: &Faulty) -> u64 {
    store.calls(Operation::Health)
}

/// A call that runs beside the test.
fn spawn<S: MemoryStore>(store: &Arc<S>) -> tokio::task::JoinHandle<Result<StoreHealth>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.health().await })
}

/// Lets everything that can go on do so, without time passing.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}
