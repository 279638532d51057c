use std::sync::Arc;

use memory_core::testkit::{Fault, Gate, Operation};
use memory_core::{ErrorKind, MemoryStore};
use memory_resilience::{ResilienceExt as _, TimeoutConfig};
use tokio::time::Instant;

use crate::{faulty, hold, ms};

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_answered_with_its_name_and_the_limit() {
    let store = faulty();
    let timeout = Arc::clone(&store).timeout(TimeoutConfig::default().with_limit(ms(1_500))).unwrap();
    hold(&store);
    let begun = Instant::now();
    let error = timeout.health().await.unwrap_err();
    assert!((ms(1_500)..ms(1_502)).contains(&begun.elapsed()));
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::TimedOut, true));
    assert_eq!(error.to_string(), "timed out: health took longer than 1.5s");
    assert_eq!(timeout.stats().timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_took_too_long_is_dropped() {
    let store = faulty();
    let timeout = Arc::clone(&store).timeout(TimeoutConfig::default()).unwrap();
    let gate = hold(&store);
    timeout.health().await.unwrap_err();
    gate.open();
    let later = Gate::new();
    store.script_next(Operation::Health, Fault::Hold(later.clone()));
    later.open();
    timeout.health().await.unwrap();
    assert_eq!(timeout.stats().timed_out, 1, "the next call has its time for itself");
    assert_eq!(Arc::strong_count(&store), 2, "nothing of the first is left");
}

#[tokio::test(start_paused = true)]
async fn closing_has_a_limit_of_its_own() {
    let store = faulty();
    let timeout = Arc::clone(&store).timeout(TimeoutConfig::default().with_close(ms(60_000))).unwrap();
    store.script_next(Operation::Close, Fault::Hold(Gate::new()));
    let begun = Instant::now();
    let error = timeout.close().await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(error.to_string(), "timed out: close took longer than 60s");
}

#[tokio::test(start_paused = true)]
async fn a_call_in_time_is_answered_as_it_is() {
    let store = faulty();
    let timeout = Arc::clone(&store).timeout(TimeoutConfig::default()).unwrap();
    let gate = hold(&store);
    let opener = async {
        tokio::time::sleep(ms(9_990)).await;
        gate.open();
    };
    let (health, ()) = tokio::join!(timeout.health(), opener);
    health.unwrap();
    assert_eq!(timeout.stats().timed_out, 0);
}
