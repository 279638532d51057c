//! Following the changes of a store: all of them, in order, once, whatever happens on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream as _;
use memory_core::testkit::{Fault, Gate, Operation, samples};
use memory_core::{
    Batch, Error, ErrorKind, FeedEntry, InMemoryStore, Key, Memory, MemoryStore, NewNote, RecordKind, Version, Watch,
};
use tokio::time::{Instant, timeout};

use crate::{Faulty, clock, engine, faulty, fresh, lost, over, record_all, worked};

/// Puts the episode of this number.
async fn put(store: &dyn MemoryStore, n: u32) -> Version {
    store.commit(&Batch::new().put(samples::logged(samples::episode(n, "fix")))).await.unwrap().version
}

fn key(n: u32) -> Key {
    Key::Episode(samples::episode_id(n))
}

/// What comes until nothing does for longer than the interval.
async fn rest(watch: &mut Watch) -> Vec<FeedEntry> {
    let mut entries = Vec::new();
    while let Ok(Some(entry)) = timeout(Duration::from_secs(1), watch.next()).await {
        entries.push(entry.unwrap());
    }
    entries
}

fn shared() -> (InMemoryStore, Arc<dyn MemoryStore>) {
    let store = InMemoryStore::new();
    (store.clone(), Arc::new(store))
}

fn busy() -> Error {
    Error::new(ErrorKind::Busy, "scripted")
}

#[tokio::test(start_paused = true)]
async fn every_change_comes_once_in_order_deletions_too() {
    let (plain, store) = shared();
    let mut watch = Watch::new(Arc::clone(&store), Version(0));
    assert_eq!(rest(&mut watch).await, []);
    for n in 1..=3 {
        put(&plain, n).await;
    }
    let keys = |entries: &[FeedEntry]| entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
    let entries = rest(&mut watch).await;
    assert_eq!(keys(&entries), [1, 2, 3].map(key));
    assert!(entries.is_sorted_by_key(|entry| entry.version));
    put(&plain, 2).await;
    plain.commit(&Batch::new().delete(key(1))).await.unwrap();
    put(&plain, 2).await;
    let entries = rest(&mut watch).await;
    assert_eq!(keys(&entries), [key(1), key(2)], "each record at its last change");
    assert_eq!(entries.iter().map(|entry| entry.deleted).collect::<Vec<_>>(), [true, false]);
    let told = watch.position();
    assert_eq!(told, plain.health().await.unwrap().version);
    assert_eq!(rest(&mut Watch::new(store, told)).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_new_watch_goes_on_where_another_was() {
    let (plain, store) = shared();
    for n in 1..=2_500 {
        put(&plain, n).await;
    }
    let mut told = Vec::new();
    let mut since = Version(0);
    // Stops within pages, at their ends, and with nothing told at all.
    for stop in [1, 0, 998, 1, 1, 500, 1_000, 3_000] {
        let mut watch = Watch::new(Arc::clone(&store), since);
        for _ in 0..stop {
            match timeout(Duration::from_secs(1), watch.next()).await {
                Ok(Some(entry)) => told.push(entry.unwrap()),
                _ => break,
            }
        }
        since = watch.position();
        let last = told.last().map_or(Version(0), |entry| entry.version);
        assert!(since >= last, "{since:?} is before {last:?}");
    }
    assert_eq!(
        told.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(),
        (1..=2_500).map(key).collect::<Vec<_>>()
    );
    // By the version of an entry as well.
    let after = told[1_233].version;
    assert_eq!(rest(&mut Watch::new(store, after)).await, told[1_234..]);
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_writes_is_told_at_once_and_what_others_write_within_the_interval() {
    let (plain, store) = shared();
    let memory = over(Arc::clone(&store)).await;
    let mut watch = memory.watch(Version(0)).every(Duration::from_secs(60)).unwrap();
    rest(&mut watch).await;
    tokio::time::sleep(Duration::from_secs(300)).await;

    let took = async |watch: &mut Watch| {
        let before = Instant::now();
        let entry = watch.next().await.unwrap().unwrap();
        (entry.key.kind(), before.elapsed())
    };
    rest(&mut watch).await;
    let writer = async |memory: Memory| {
        tokio::time::sleep(Duration::from_secs(10)).await;
        memory.remember(NewNote::new("use tabs")).await.unwrap();
    };
    let ((), (kind, after)) = tokio::join!(writer(memory.clone()), took(&mut watch));
    assert_eq!((kind, after.as_secs()), (RecordKind::Note, 10));
    rest(&mut watch).await;
    put(&plain, 7).await;
    let (kind, after) = took(&mut watch).await;
    assert_eq!(kind, RecordKind::Episode);
    assert!((50..=60).contains(&after.as_secs()), "nobody told it: {after:?}");

    let mut slow = Watch::new(store, watch.position());
    rest(&mut slow).await;
    put(&plain, 8).await;
    let (_, after) = took(&mut slow).await;
    assert!(after <= Duration::from_millis(200), "the default interval: {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_reads_no_more_often_than_it_must() {
    let (store, clock) = (faulty(), clock());
    let memory = engine(&store, &clock).await;
    let mut watch = memory.watch(Version(0));
    rest(&mut watch).await;
    let calls = store.calls(Operation::Changes);
    assert!(timeout(Duration::from_secs(10), watch.next()).await.is_err());
    let idle = store.calls(Operation::Changes) - calls;
    assert!((45..=55).contains(&idle), "five times a second: {idle}");

    // Steps of open episodes are not in the feed and wake nobody.
    let mut open = crate::opened(&memory).await;
    let calls = store.calls(Operation::Changes);
    for _ in 0..50 {
        open.step(memory_core::Step::new("read")).await.unwrap();
        assert!(timeout(Duration::from_millis(1), watch.next()).await.is_err());
    }
    assert!(store.calls(Operation::Changes) - calls <= 2);

    // A busy writer is asked every 5 milliseconds at most.
    let calls = store.calls(Operation::Changes);
    for _ in 0..200 {
        memory.remember(NewNote::new("use tabs")).await.unwrap();
        let _ = timeout(Duration::from_millis(1), watch.next()).await;
    }
    let busy = store.calls(Operation::Changes) - calls;
    assert!((30..=45).contains(&busy), "200 milliseconds: {busy}");

    let calls = store.calls(Operation::Changes);
    drop(watch);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(store.calls(Operation::Changes), calls, "nothing runs beside the caller");
}

#[tokio::test(start_paused = true)]
async fn a_temporary_failure_is_told_and_the_stream_goes_on() {
    let store = faulty();
    put(&*store, 1).await;
    let shared: Arc<dyn MemoryStore> = Faulty::clone(&store);
    let mut watch = Watch::new(shared, Version(0));
    for n in 1..=9 {
        store.script(Operation::Changes, n, Fault::Before(busy()));
    }
    let before = Instant::now();
    for _ in 0..9 {
        let error = watch.next().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "watch: busy: scripted");
        assert_eq!(watch.position(), Version(0));
    }
    let waited = before.elapsed();
    // 0.2 + 0.4 + … + 12.8 seconds, then 25.6: each failure doubles the wait, up to half a minute.
    assert!((50..=52).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(watch.next().await.unwrap().unwrap().key, key(1));
    put(&*store, 2).await;
    let before = Instant::now();
    assert_eq!(watch.next().await.unwrap().unwrap().key, key(2));
    assert!(before.elapsed() <= Duration::from_millis(200), "as often as ever");
    // A failure within the stream: what was read before it is told before it.
    store.script_next(Operation::Changes, Fault::After(busy()));
    put(&*store, 3).await;
    watch.next().await.unwrap().unwrap_err();
    assert_eq!(watch.next().await.unwrap().unwrap().key, key(3));
}

/// Bug: a retrying store ended every watch with its first outage, since what it has given up is no longer temporary.
#[tokio::test(start_paused = true)]
async fn a_failure_that_others_have_given_up_is_told_and_the_stream_goes_on() {
    let store = faulty();
    let shared: Arc<dyn MemoryStore> = Faulty::clone(&store);
    let mut watch = Watch::new(shared, Version(0));
    store.script_next(Operation::Changes, Fault::Before(busy().into_persistent()));
    put(&*store, 1).await;
    watch.next().await.unwrap().unwrap_err();
    assert_eq!(watch.next().await.unwrap().unwrap().key, key(1));
}

#[tokio::test(start_paused = true)]
async fn another_failure_ends_the_stream_and_a_new_one_goes_on() {
    let store = faulty();
    let shared: Arc<dyn MemoryStore> = Faulty::clone(&store);
    let mut watch = Watch::new(Arc::clone(&shared), Version(0));
    put(&*store, 1).await;
    watch.next().await.unwrap().unwrap();
    put(&*store, 2).await;
    store.script_next(Operation::Changes, Fault::Before(lost()));
    assert_eq!(watch.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(watch.next().await.is_none());
    assert!(watch.next().await.is_none());
    let mut watch = Watch::new(shared, watch.position());
    assert_eq!(watch.next().await.unwrap().unwrap().key, key(2));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_it_at_once_with_unavailable() {
    let memory = fresh().await;
    memory.record(worked("fix", &["read"])).await.unwrap();
    let mut watch = memory.watch(Version(0)).every(Duration::from_secs(3_600)).unwrap();
    rest(&mut watch).await;
    let close = async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        memory.close().await.unwrap();
    };
    let ending = async {
        let mut last = None;
        while let Some(entry) = watch.next().await {
            last = entry.err();
        }
        last.unwrap()
    };
    let before = Instant::now();
    let ((), error) = tokio::join!(close(), ending);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(before.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn an_interval_out_of_range_is_refused() {
    let watch = |interval| Watch::new(Arc::new(InMemoryStore::new()), Version(0)).every(interval);
    for interval in [Duration::ZERO, Duration::from_millis(4), Duration::from_secs(3_601), Duration::MAX] {
        assert_eq!(watch(interval).unwrap_err().kind(), ErrorKind::Invalid);
    }
    let error = watch(Duration::ZERO).unwrap_err().to_string();
    assert_eq!(error, "invalid value: interval is 0ns; allowed: 5 milliseconds..=1 hour");
    for interval in [Duration::from_millis(5), Duration::from_secs(3_600)] {
        assert!(watch(interval).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_loses_nothing() {
    let store = faulty();
    let shared: Arc<dyn MemoryStore> = Faulty::clone(&store);
    let mut watch = Watch::new(shared, Version(0));
    for n in 1..=3 {
        put(&*store, n).await;
    }
    let gate = Gate::new();
    store.script_next(Operation::Changes, Fault::Hold(gate.clone()));
    for _ in 0..5 {
        assert!(timeout(Duration::from_millis(1), watch.next()).await.is_err());
    }
    assert_eq!(store.calls(Operation::Changes), 1, "the held read is waited for, not made again");
    gate.open();
    assert_eq!(rest(&mut watch).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn it_outlives_the_engine() {
    let (plain, store) = shared();
    let memory = over(store).await;
    let mut watch = memory.watch(Version(0));
    drop(memory);
    rest(&mut watch).await;
    put(&plain, 1).await;
    assert_eq!(rest(&mut watch).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_a_stream_and_shows_itself() {
    let (plain, store) = shared();
    put(&plain, 1).await;
    let mut watch = Watch::new(store, Version(0));
    let entry = poll_fn(|context| Pin::new(&mut watch).poll_next(context)).await.unwrap().unwrap();
    assert_eq!((entry.key, entry.version, entry.deleted), (key(1), Version(1), false));
    let shown = format!("{watch:?}");
    assert!(shown.contains("InMemoryStore") && shown.contains("position: Version(1)"), "{shown}");
}

/// Follows a store until this many episodes have been told, and says in which order.
async fn follow(mut watch: Watch, episodes: usize) -> Vec<FeedEntry> {
    let (mut told, mut seen) = (Vec::new(), BTreeSet::new());
    while seen.len() < episodes {
        let entry = timeout(Duration::from_secs(60), watch.next()).await.unwrap().unwrap().unwrap();
        if entry.key.kind() == RecordKind::Episode {
            seen.insert(entry.key.clone());
        }
        told.push(entry);
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_watchers_of_many_writers_miss_nothing_and_are_told_nothing_twice() {
    const WRITERS: u32 = 4;
    const EACH: u32 = 400;
    let (plain, store) = shared();
    // Two engines on one store, and one who writes to the store itself.
    let engines = [over(Arc::clone(&store)).await, over(Arc::clone(&store)).await];
    let episodes = (WRITERS * EACH) as usize;
    let watchers = [
        tokio::spawn(follow(engines[0].watch(Version(0)), episodes)),
        tokio::spawn(follow(Watch::new(store, Version(0)), episodes)),
    ];
    let writers = (0..WRITERS).map(|writer| {
        let (engine, plain) = (engines[writer as usize % 2].clone(), plain.clone());
        tokio::spawn(async move {
            for n in 0..EACH {
                if writer == 3 {
                    put(&plain, n).await;
                } else {
                    engine.record(worked("fix", &["read"])).await.unwrap();
                }
                if n % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let there = plain.changes(Version(0), 1_000).await.unwrap().upto;
    assert!(there > Version(0));
    for watcher in watchers {
        let told = watcher.await.unwrap();
        assert!(told.windows(2).all(|pair| pair[0].version < pair[1].version), "in order, each version once");
        let mut times = BTreeMap::<Key, u32>::new();
        for entry in told.iter().filter(|entry| entry.key.kind() == RecordKind::Episode) {
            *times.entry(entry.key.clone()).or_default() += 1;
        }
        assert!(times.values().all(|times| *times == 1), "episodes do not change");
        assert_eq!(times.len(), episodes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_one_scope_is_told_of_all() {
    let memory = fresh().await;
    let other = memory.in_scope(samples::scope("acme"));
    record_all(&other, [worked("fix", &["read"])]).await;
    let mut watch = memory.watch(Version(0));
    let entries = rest(&mut watch).await;
    assert_eq!(entries.iter().filter(|entry| entry.key.kind() == RecordKind::Episode).count(), 1);
}
