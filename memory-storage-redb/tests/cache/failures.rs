//! A primary that fails: what it answers is what counts, and nothing stale is told instead.

use std::sync::Arc;

use memory_core::testkit::samples::{episode, episode_id, logged};
use memory_core::testkit::{Fault, FaultyStore, Operation};
use memory_core::{Batch, Error, ErrorKind, InMemoryStore, Key, MemoryStore};
use memory_storage_redb::{CacheConfig, HotCache, WarmUp};

use crate::common::{Dice, Shared, assert_same, in_memory, keys, only, place, primary_with, put, random_record};

type Faulty = Shared<FaultyStore<Shared<InMemoryStore>>>;

async fn faulty() -> Faulty {
    Shared::new(FaultyStore::new(primary_with(0..30, 3).await))
}

fn fault(after: bool) -> Fault {
    let error = Error::new(ErrorKind::Busy, "as scripted");
    if after { Fault::After(error) } else { Fault::Before(error) }
}

fn kind<T: std::fmt::Debug>(answer: memory_core::Result<T>) -> ErrorKind {
    answer.unwrap_err().kind()
}

/// A commit that fails is not in the cache; one that was made all the same is.
#[tokio::test(start_paused = true)]
async fn a_failed_commit_leaves_the_cache_like_the_primary() {
    let primary = faulty().await;
    let cache = in_memory(primary.clone()).await;
    let mut dice = Dice::new(5);
    for round in 0..40 {
        let batch = Batch::new().put(random_record(round, &mut dice)).put(random_record(round + 7, &mut dice));
        primary.0.script_next(Operation::Commit, fault(round % 2 == 0));
        assert_eq!(kind(cache.commit(&batch).await), ErrorKind::Busy);
        assert_same(&cache, &primary, &keys(0..50), &format!("round {round}")).await;
    }
    // A conflict and an invalid batch are refused as they are without a cache.
    let there = Batch::new().require_absent(Key::Episode(episode_id(1))).delete(Key::Episode(episode_id(1)));
    assert_eq!(kind(cache.commit(&there).await), ErrorKind::Conflict);
    assert_eq!(kind(cache.commit(&Batch::new().delete(Key::Space)).await), ErrorKind::Invalid);
    assert_same(&cache, &primary, &keys(0..50), "at the end").await;
    let stats = cache.stats().await;
    assert_eq!((stats.passed_on, stats.rebuilds), (0, 0), "{stats:?}");
}

/// When the feed cannot be read, or the records that it names, the primary answers, and what it answers is not stale; then the cache
/// recovers by itself.
#[tokio::test(start_paused = true)]
async fn without_the_feed_the_primary_answers() {
    let primary = faulty().await;
    let cache = in_memory(primary.clone()).await;
    for (n, operation) in (100..).zip([Operation::Changes, Operation::Get, Operation::Changes, Operation::Get]) {
        let record = logged(episode(n, &format!("number{n}")));
        put(&primary.0.get_ref().0, [record.clone()]).await;
        let before = cache.stats().await;
        primary.0.script_next(operation, fault(false));
        let found = cache.search(&only(n + n % 3)).await;
        assert!(found.is_ok(), "{operation:?}: {found:?}");
        let stored = cache.get(&[record.key()]).await.unwrap();
        assert_eq!(stored[0].as_ref().map(|stored| &stored.record), Some(&record), "{operation:?}");
        let after = cache.stats().await;
        assert_eq!((after.passed_on - before.passed_on, after.ready), (2, false), "{operation:?}");
        assert_eq!(after.last_error.map(|error| error.kind()), Some(ErrorKind::Busy));
        // Time passes, and the cache sees to itself.
        while !cache.stats().await.ready {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_same(&cache, &primary, &keys(0..120), "recovered").await;
        assert_eq!(cache.stats().await.passed_on, after.passed_on);
    }
    assert_eq!(cache.stats().await.rebuilds, 0);
}

/// When the primary cannot answer either, that is the answer.
#[tokio::test(start_paused = true)]
async fn when_nobody_can_answer_the_call_fails() {
    let primary = faulty().await;
    let cache = in_memory(primary.clone()).await;
    let keys = [Key::Episode(episode_id(1))];
    cache.get(&keys).await.unwrap();
    primary.0.script_next(Operation::Changes, fault(false));
    primary.0.script_next(Operation::Search, fault(false));
    assert_eq!(kind(cache.search(&only(1)).await), ErrorKind::Busy);
    primary.0.script_next(Operation::Get, fault(false));
    assert_eq!(kind(cache.get(&keys).await), ErrorKind::Busy);
    cache.warm_up().await.unwrap();
    // What the cache has, it tells though the primary could not; what it has not, the primary is asked for.
    let n = 2;
    primary.0.script_next(Operation::Get, fault(false));
    assert_eq!(kind(cache.get(&[Key::Episode(episode_id(999))]).await), ErrorKind::Busy);
    assert!(cache.stats().await.ready, "the feed was told");
    assert_eq!(cache.search(&only(n)).await.unwrap(), primary.search(&only(n)).await.unwrap());
    for operation in [Operation::Scan, Operation::Health] {
        primary.0.script_next(operation, fault(false));
    }
    assert_eq!(kind(cache.scan(&memory_core::Scan::new(memory_core::RecordKind::Note)).await), ErrorKind::Busy);
    assert_eq!(kind(cache.health().await), ErrorKind::Busy);
    // Closing tells what the primary says to it, and can be tried again.
    let primary = Arc::new(FaultyStore::new(InMemoryStore::new()));
    let cache = in_memory(Arc::clone(&primary)).await;
    primary.script_next(Operation::Close, fault(false));
    assert_eq!(kind(cache.close().await), ErrorKind::Busy);
    cache.close().await.unwrap();
    assert_eq!(primary.calls(Operation::Close), 2);
    assert_eq!(kind(cache.warm_up().await), ErrorKind::Unavailable);
}

/// A primary that fails while the cache is opened: the cache opens all the same, and warms up when it can; unless it was asked to
/// be warm before.
#[tokio::test(start_paused = true)]
async fn a_cache_opens_before_a_primary_that_fails() {
    for operation in [Operation::Health, Operation::Changes, Operation::Get] {
        let primary = faulty().await;
        primary.0.script_next(operation, fault(false));
        let (_folder, path) = place();
        let cache = HotCache::open(primary.clone(), &path).await.unwrap();
        assert!(!cache.stats().await.ready, "{operation:?}");
        assert_same(&cache, &primary, &keys(0..30), "not warm yet").await;
        cache.warm_up().await.unwrap();
        assert_same(&cache, &primary, &keys(0..30), "warm").await;
        assert!(cache.stats().await.searches > 0);
        cache.close().await.unwrap();

        let other = faulty().await;
        other.0.script_next(operation, fault(false));
        let config = CacheConfig::default().with_warm_up(WarmUp::BeforeOpen);
        let error = HotCache::open_with(other, &path, config).await.unwrap_err();
        assert_eq!(error.to_string(), "open: busy: as scripted");
    }
}

/// While much is to be read, the primary answers; then the cache does, without anybody's doing.
#[tokio::test(start_paused = true)]
async fn while_it_warms_up_the_primary_answers() {
    let primary = Shared::new(FaultyStore::new(primary_with(0..3_000, 4).await));
    let cache = in_memory(primary.clone()).await;
    let cold = cache.stats().await;
    assert!(!cold.ready && cold.changes > 1_000, "as much as opening waits for: {cold:?}");
    let told = "the cache is warming up, and the primary answers";
    assert_eq!(cache.health().await.unwrap().degraded.as_deref(), Some(told));
    assert_same(&cache, &primary, &keys(0..30), "cold").await;
    assert_eq!(cache.stats().await.searches, 0);
    while !cache.stats().await.ready {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_same(&cache, &primary, &keys(0..3_000), "warm").await;
    let warm = cache.stats().await;
    assert_eq!((warm.changes, warm.index.documents), (3_001, 3_000));
    assert_eq!(cache.health().await.unwrap(), primary.health().await.unwrap());
    assert!(warm.searches > 0);

    // Others write more than a reader waits for.
    for n in 0..10 {
        put(&primary, (0..100).map(|m| random_record(5_000 + n * 100 + m, &mut Dice::new(n.into())))).await;
    }
    let before = cache.stats().await;
    assert_eq!(cache.search(&only(5_004)).await.unwrap(), primary.search(&only(5_004)).await.unwrap());
    let behind = cache.stats().await;
    assert_eq!((behind.ready, behind.passed_on - before.passed_on), (false, 1), "{behind:?}");
    cache.warm_up().await.unwrap();
    assert_same(&cache, &primary, &keys(5_000..6_000), "caught up").await;
    assert_eq!(cache.stats().await.passed_on, behind.passed_on);
}

/// The settings are looked at before anything else.
#[tokio::test]
async fn a_setting_out_of_range_is_refused() {
    let (_folder, path) = place();
    let config = CacheConfig::default().with_episodes(0);
    let error = HotCache::open_with(InMemoryStore::new(), &path, config).await.unwrap_err();
    assert_eq!(error.to_string(), "open: invalid value: episodes is 0; allowed: 1..=1000000");
    assert!(!path.exists());
}

/// Outside of a runtime a cache does not open; one that is open can be called from anywhere.
#[test]
fn a_cache_can_be_called_from_outside_of_the_runtime() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    /// Asks again and again, which is enough for a test.
    fn block_on<T>(call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        loop {
            if let Poll::Ready(done) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done;
            }
            std::thread::yield_now();
        }
    }
    let opened = block_on(HotCache::in_memory(InMemoryStore::new(), CacheConfig::default()));
    assert_eq!(kind(opened), ErrorKind::Unavailable);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (cache, primary) = runtime.block_on(async {
        let primary = primary_with(0..30, 3).await;
        (in_memory(primary.clone()).await, primary)
    });
    block_on(async {
        put(&cache, [random_record(31, &mut Dice::new(1))]).await;
        assert_same(&cache, &primary, &keys(0..40), "outside").await;
        assert_eq!(cache.stats().await.passed_on, 0);
    });
    drop(runtime);
    block_on(async {
        put(&primary, [random_record(32, &mut Dice::new(1))]).await;
        assert_same(&cache, &primary, &keys(0..40), "after the end of the runtime").await;
        cache.close().await.unwrap();
    });
}
