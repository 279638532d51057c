//! A server that is killed and comes back, behind the stack that is made for servers: the crates of both know only memory-core.
#![cfg(feature = "replica")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../memory-storage-turso/tests/common/sqld.rs"]
#[allow(dead_code, clippy::panic, reason = "not every test needs everything, and tests may panic")]
mod sqld;

use std::time::{Duration, Instant};

use memory_core::testkit::samples;
use memory_core::{Batch, ErrorKind, Key, MemoryStore, MemoryStoreExt};
use memory_resilience::presets::{Server, remote_server};
use memory_resilience::{CircuitBreakerStats, CircuitState};
use memory_storage_turso::{RemoteConfig, TursoStore};
use sqld::Sqld;

type Stack = Server<TursoStore>;

fn breaker(stack: &Stack) -> CircuitBreakerStats {
    stack.get_ref().get_ref().stats()
}

fn key(n: u32) -> Key {
    Key::Watermark(samples::learner(n))
}

async fn put(stack: &Stack, n: u32) -> memory_core::Result<()> {
    stack.commit(&Batch::new().put(samples::watermark(n, 1))).await.map(drop)
}

/// Calls until nobody is called any more; each call is answered within its time, with an error that says what is wrong.
async fn fail_until_open(stack: &Stack) {
    for _ in 0..5 {
        let begun = Instant::now();
        let error = stack.get_one(key(1)).await.unwrap_err();
        println!("after {:?}: {error}", begun.elapsed());
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut), "{error}");
        assert!(error.is_persistent() && error.to_string().contains("given up after"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30));
        if breaker(stack).state == CircuitState::Open {
            return;
        }
    }
    panic!("five calls have failed, four attempts each: {:?}", breaker(stack));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_at_once_and_ends_by_itself() {
    const RESET: Duration = Duration::from_secs(30);
    // An attempt at a server takes longer; so does the probe on a busy machine.
    const MOMENT: Duration = Duration::from_secs(1);
    let Some(mut server) = Sqld::start() else { return };
    let store = TursoStore::open_remote(&server.url(), RemoteConfig::default()).await.unwrap();
    let stack = remote_server(store, "sqld").unwrap();
    put(&stack, 1).await.unwrap();

    server.kill();
    fail_until_open(&stack).await;
    for n in 0..50 {
        let begun = Instant::now();
        let error = if n % 2 == 0 { put(&stack, 2).await.err() } else { stack.get_one(key(1)).await.err() };
        let error = error.unwrap();
        assert!(begun.elapsed() < MOMENT, "{:?}", begun.elapsed());
        assert_eq!((error.kind(), error.is_persistent()), (ErrorKind::Unavailable, true), "{error}");
        assert!(error.retry_after().is_some_and(|pause| pause <= RESET), "{error}");
        assert!(error.to_string().contains("\"sqld\" is open"), "{error}");
    }

    server.restart();
    let restarted = Instant::now();
    while stack.get_one(key(1)).await.is_err() {
        assert!(restarted.elapsed() <= RESET + 10 * MOMENT, "{:?}", breaker(&stack));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("recovered {:?} after the restart: {:?}", restarted.elapsed(), breaker(&stack));
    assert_eq!(breaker(&stack).state, CircuitState::Closed);
    assert!(stack.get_one(key(1)).await.unwrap().is_some());
    assert!(stack.get_one(key(2)).await.unwrap().is_none(), "refused, and so not written");
    put(&stack, 2).await.unwrap();
    stack.close().await.unwrap();
}
