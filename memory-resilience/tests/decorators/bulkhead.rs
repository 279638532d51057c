use std::sync::Arc;

use memory_core::testkit::{Fault, Gate, Operation};
use memory_core::{ErrorKind, MemoryStore};
use memory_resilience::{Bulkhead, BulkheadConfig, ResilienceExt as _};
use tokio::time::Instant;

use crate::{Faulty, calls, faulty, ms, settle, spawn};

fn bounded(at_once: usize, waiting: usize) -> (Arc<Faulty>, Arc<Bulkhead<Arc<Faulty>>>, Vec<Gate>) {
    let store = faulty();
    let config = BulkheadConfig::default().with_at_once(at_once).with_waiting(waiting).with_max_wait(ms(1_000));
    let gates: Vec<Gate> = (0..20).map(|_| Gate::new()).collect();
    for (n, gate) in (1..).zip(&gates) {
        store.script(Operation::Health, n, Fault::Hold(gate.clone()));
    }
    (Arc::clone(&store), Arc::new(store.bulkhead(config).unwrap()), gates)
}

#[tokio::test(start_paused = true)]
async fn so_many_calls_are_let_in_and_others_wait_in_order() {
    let (store, bulkhead, gates) = bounded(2, 3);
    let running: Vec<_> = (0..5).map(|_| spawn(&bulkhead)).collect();
    settle().await;
    assert_eq!(calls(&store), 2);
    let stats = bulkhead.stats();
    assert_eq!((stats.under_way, stats.waiting, stats.refused), (2, 3, 0));
    for gate in &gates[..5] {
        gate.open();
    }
    for call in running {
        call.await.unwrap().unwrap();
    }
    let stats = bulkhead.stats();
    assert_eq!((stats.under_way, stats.waiting, calls(&store)), (0, 0, 5));
}

#[tokio::test(start_paused = true)]
async fn more_than_may_wait_are_refused_at_once() {
    let (store, bulkhead, _gates) = bounded(2, 1);
    let _running: Vec<_> = (0..3).map(|_| spawn(&bulkhead)).collect();
    settle().await;
    let begun = Instant::now();
    let error = bulkhead.health().await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary(), begun.elapsed()), (ErrorKind::Overloaded, true, ms(0)));
    assert_eq!(error.to_string(), "overloaded: health: 2 calls are under way, and 1 wait");
    assert_eq!((calls(&store), bulkhead.stats().refused), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_too_long_is_refused() {
    let (_store, bulkhead, gates) = bounded(1, 1);
    let first = spawn(&bulkhead);
    settle().await;
    let begun = Instant::now();
    let error = bulkhead.health().await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (ErrorKind::Overloaded, 1));
    assert!(error.to_string().contains("none ended within 1s"), "{error}");
    gates[0].open();
    first.await.unwrap().unwrap();
    gates[1].open();
    bulkhead.health().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_free_their_places() {
    let (_store, bulkhead, gates) = bounded(1, 1);
    let inside = spawn(&bulkhead);
    settle().await;
    let waiting = spawn(&bulkhead);
    settle().await;
    waiting.abort();
    settle().await;
    assert_eq!((bulkhead.stats().under_way, bulkhead.stats().waiting), (1, 0), "one that waited");
    inside.abort();
    settle().await;
    assert_eq!(bulkhead.stats().under_way, 0, "one that was inside");
    gates[1].open();
    bulkhead.health().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_is_always_let_in() {
    let (_store, bulkhead, _gates) = bounded(1, 0);
    let _inside = spawn(&bulkhead);
    settle().await;
    bulkhead.health().await.unwrap_err();
    bulkhead.close().await.unwrap();
}
