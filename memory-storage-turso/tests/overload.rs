//! Many callers at once: all are served or refused, in order, and nobody who waits blocks the others.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{assert_sound, place, simple};
use memory_core::{Batch, ErrorKind, MemoryStore, Scope, Search};
use memory_storage_turso::{TursoConfig, TursoStore};

/// The longest time between two ticks of a task that wants one every millisecond, and how long it was until it is stopped.
async fn longest_gap(stop: Arc<AtomicBool>) -> (Duration, Duration) {
    let begun = Instant::now();
    let (mut longest, mut last) = (Duration::ZERO, begun);
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    (longest, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_on_eight_readers_are_served_or_refused() {
    let (_folder, path) = place();
    let config = TursoConfig::default().with_readers(8).with_max_waiting(400);
    let store = TursoStore::open_with(&path, config).await.unwrap();
    for number in 0..50 {
        common::put(&store, simple(number, "a task of many")).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let ticking = tokio::spawn(longest_gap(Arc::clone(&stop)));
    let (served, refused) = (Arc::new(AtomicU64::new(50)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (1_000..2_000_u128)
        .map(|number| {
            let (store, served, refused) = (store.clone(), Arc::clone(&served), Arc::clone(&refused));
            tokio::spawn(async move {
                match store.commit(&Batch::new().put(simple(number, "a task of one of many"))).await {
                    Ok(_) => served.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        assert!(error.kind() == ErrorKind::Overloaded && error.is_temporary(), "{error}");
                        refused.fetch_add(1, Ordering::Relaxed)
                    }
                };
                match store.search(&Search::new(Scope::default()).text("one of many")).await {
                    Ok(found) => assert!(!found.is_empty()),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}"),
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let (gap, rush) = ticking.await.unwrap();
    println!("longest gap between ticks: {gap:?} of {rush:?}");
    // On a slow machine both are longer.
    assert!(gap < rush / 4, "a thread of the callers stood still for {gap:?} of {rush:?}");
    let stats = store.stats();
    let served = served.load(Ordering::Relaxed);
    assert_eq!(served + refused.load(Ordering::Relaxed), 1_050);
    assert_eq!((stats.commits, stats.writes_waiting, stats.reads_waiting), (served, 0, 0), "{stats:?}");
    assert_eq!(stats.connections, 10, "eight that read, one that writes, one for the upkeep");
    assert!(stats.refused > 0 && stats.transactions < served, "some came together: {stats:?}");
    // After the rush, everyone is served.
    assert_eq!(store.health().await.unwrap().episodes, served);
    common::put(&store, simple(1, "a task after the rush")).await;
    store.close().await.unwrap();
    assert_sound(&path).await;
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_too() {
    let (_folder, path) = place();
    let config = TursoConfig::default().with_max_waiting_bytes(1 << 20);
    let store = TursoStore::open_with(&path, config).await.unwrap();
    let other = libsql::Builder::new_local(&path).build().await.unwrap().connect().unwrap();
    other.execute("BEGIN IMMEDIATE", ()).await.unwrap();
    let waiting: Vec<_> = (0..8)
        .map(|number| {
            let (store, text) = (store.clone(), "x".repeat(400_000));
            tokio::spawn(async move { store.commit(&Batch::new().put(simple(number, &text))).await })
        })
        .collect();
    while store.stats().refused < 6 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.execute("COMMIT", ()).await.unwrap();
    let mut written = 0;
    for one in waiting {
        match one.await.unwrap() {
            Ok(_) => written += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}"),
        }
    }
    assert_eq!(written, 2, "two of 400 kB fit into 1 MiB");
    common::put(&store, simple(9, &"x".repeat(2_000_000))).await;
}
