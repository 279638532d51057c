//! What is kept, for how long, and what the figures tell.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use memory_core::testkit::samples::{episode, episode_id, logged};
use memory_core::testkit::{FaultyStore, ManualClock, Operation};
use memory_core::{InMemoryStore, Key, MemoryStore};
use memory_storage_redb::{CacheConfig, HotCache};

use crate::common::{
    Dice, Shared, assert_same, is_persistent, key, keys, only, place, primary_with, put, random_record,
};

type Counting = Shared<FaultyStore<Shared<InMemoryStore>>>;

async fn counting(numbers: std::ops::Range<u32>) -> Counting {
    Shared::new(FaultyStore::new(primary_with(numbers, 9).await))
}

fn episodes(numbers: std::ops::Range<u32>) -> Vec<Key> {
    numbers.map(|n| Key::Episode(episode_id(n))).collect()
}

/// Puts episodes of 20,000 bytes, in commits of their own, and more after them than are kept as the last that changed.
async fn put_large(primary: &dyn MemoryStore, numbers: std::ops::Range<u32>) {
    for n in numbers {
        let mut large = episode(n, "a large task");
        large.steps[0].observation = "x".repeat(20_000);
        put(primary, [logged(large)]).await;
    }
}

/// No more records are kept than there is room for, in the file, too: those that are asked for stay.
#[tokio::test]
async fn records_make_room_for_others_in_the_file_too() {
    let primary = counting(0..0).await;
    put(&primary, (0..100).map(|n| logged(episode(n, "a task")))).await;
    let (_folder, path) = place();
    let config = CacheConfig::default().with_episodes(10);
    let cache = HotCache::open_with(primary.clone(), &path, config.clone()).await.unwrap();
    let opened = cache.stats().await;
    assert_eq!((opened.entries, opened.evictions), (10, 90), "of those that changed last: {opened:?}");
    let favourite = episodes(0..1);
    for n in 1..60 {
        assert!(cache.get(&favourite).await.unwrap()[0].is_some());
        assert!(cache.get(&episodes(n..n + 1)).await.unwrap()[0].is_some());
        // Only then is it known to be kept.
        cache.stats().await;
    }
    let stats = cache.stats().await;
    assert_eq!(stats.entries, 10);
    assert_eq!((stats.hits, stats.misses), (58, 60), "all but the first time");
    assert_eq!(stats.evictions, 90 + 60);
    assert!(stats.bytes > 10 * 100 && stats.bytes < 10 * 1_000, "{stats:?}");
    cache.close().await.unwrap();

    // What is in the file is what was kept; with less room, less of it.
    let cache = HotCache::open_with(primary.clone(), &path, config.clone().with_episodes(20)).await.unwrap();
    let again = cache.stats().await;
    assert_eq!((again.entries, again.bytes, again.changes, again.rebuilds), (10, stats.bytes, 0, 0));
    assert!(cache.get(&favourite).await.unwrap()[0].is_some());
    assert_eq!(cache.stats().await.hits, 1);
    cache.close().await.unwrap();
    let cache = HotCache::open_with(primary.clone(), &path, config.with_episodes(4)).await.unwrap();
    assert_eq!(cache.stats().await.entries, 4);
    assert_same(&cache, &primary, &keys(0..100), "with less room").await;
    assert!(is_persistent(&cache.stats().await));
}

/// Reading many together, when there is no room for all, drives only a few others out.
#[tokio::test]
async fn those_that_are_read_together_do_not_drive_all_others_out() {
    let primary = counting(0..0).await;
    put(&primary, (0..100).map(|n| logged(episode(n, "a task")))).await;
    let cache = HotCache::in_memory(primary.clone(), CacheConfig::default().with_episodes(32)).await.unwrap();
    let before = cache.stats().await.evictions;
    assert!(cache.get(&episodes(0..64)).await.unwrap().iter().all(Option::is_some));
    let after = cache.stats().await;
    assert_eq!((after.entries, after.misses, after.evictions - before), (32, 64, 4), "{after:?}");
}

/// Bytes bound what is kept, too; a record that is larger than all the room there is, is not kept.
#[tokio::test]
async fn bytes_bound_what_is_kept() {
    let primary = counting(0..0).await;
    put_large(&primary, 0..10).await;
    let config = CacheConfig::default().with_bytes(70_000);
    let cache = HotCache::in_memory(primary.clone(), config).await.unwrap();
    let stats = cache.stats().await;
    assert_eq!(stats.entries, 3, "{stats:?}");
    assert!((60_000..=70_000).contains(&stats.bytes), "{stats:?}");
    cache.get(&episodes(0..10)).await.unwrap();
    let after = cache.stats().await;
    assert_eq!((after.entries, after.misses), (3, 7));
    let mut huge = episode(50, "a huge task");
    huge.steps[0].observation = "x".repeat(100_000);
    put(&cache, [logged(huge)]).await;
    for _ in 0..3 {
        assert!(cache.get(&episodes(50..51)).await.unwrap()[0].is_some());
    }
    let after = cache.stats().await;
    assert_eq!((after.entries, after.misses), (3, 10), "{after:?}");
}

/// What was read longer ago than the time to live is read anew, and cleared away if nobody asks.
#[tokio::test(start_paused = true)]
async fn records_live_for_their_time() {
    let clock = Arc::new(ManualClock::new(DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(20_000)));
    let primary = counting(0..0).await;
    put(&primary, (0..20).map(|n| logged(episode(n, "a task")))).await;
    let (_folder, path) = place();
    let config = CacheConfig::default().with_ttl(Duration::from_secs(60)).with_clock(Arc::clone(&clock));
    let cache = HotCache::open_with(primary.clone(), &path, config.clone()).await.unwrap();
    let figures = async |cache: &HotCache<Counting>| {
        let stats = cache.stats().await;
        (stats.hits, stats.misses, stats.expirations, stats.entries)
    };
    let one = episodes(1..2);
    cache.get(&one).await.unwrap();
    assert_eq!(figures(&cache).await, (1, 0, 0, 20));
    clock.advance(TimeDelta::milliseconds(59_999));
    cache.get(&one).await.unwrap();
    assert_eq!(figures(&cache).await, (2, 0, 0, 20), "just alive");
    clock.advance(TimeDelta::milliseconds(1));
    cache.get(&one).await.unwrap();
    assert_eq!(figures(&cache).await, (2, 1, 1, 20), "read anew");
    cache.get(&one).await.unwrap();
    assert_eq!(figures(&cache).await, (3, 1, 1, 20), "alive again");

    // A restart does not make them younger.
    cache.close().await.unwrap();
    let cache = HotCache::open_with(primary.clone(), &path, config.clone()).await.unwrap();
    cache.get(&episodes(1..3)).await.unwrap();
    assert_eq!(figures(&cache).await, (1, 1, 1, 20));

    // Nor do they live for ever when a clock was wrong.
    clock.advance(TimeDelta::days(-1));
    cache.get(&episodes(3..4)).await.unwrap();
    assert_eq!(figures(&cache).await, (1, 2, 2, 20));
    clock.advance(TimeDelta::days(2));
    tokio::time::sleep(config.snapshot_interval + Duration::from_secs(1)).await;
    // What is done beside is done when it is.
    while cache.stats().await.entries > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(figures(&cache).await, (1, 2, 22, 0), "cleared away");
    assert_same(&cache, &primary, &keys(0..20), "later").await;
}

/// Vectors in memory are bounded; what is found does not depend on it.
#[tokio::test]
async fn vectors_in_memory_are_bounded() {
    let primary = counting(0..200).await;
    for (bytes, most) in [(0, 0), (1_000, 7), (1 << 20, 200)] {
        let config = CacheConfig::default().with_vector_bytes(bytes);
        let cache = HotCache::in_memory(primary.clone(), config).await.unwrap();
        assert_same(&cache, &primary, &keys(0..200), &format!("{bytes} bytes")).await;
        let stats = cache.stats().await;
        assert_eq!((stats.vectors, stats.vector_bytes <= bytes), (most, true), "{stats:?}");
        assert_eq!(stats.passed_on, 0);
    }
}

/// Each figure moves when what it counts happens.
#[tokio::test(start_paused = true)]
async fn every_figure_moves() {
    let primary = counting(0..50).await;
    let (_folder, path) = place();
    let clock = Arc::new(ManualClock::new(DateTime::<Utc>::UNIX_EPOCH));
    let config = CacheConfig::default().with_episodes(5).with_snapshot_changes(20).with_clock(Arc::clone(&clock));
    let cache = HotCache::open_with(primary.clone(), &path, config).await.unwrap();
    let start = cache.stats().await;
    assert!(start.ready && is_persistent(&start) && start.last_error.is_none());
    assert_eq!(
        (start.version, start.changes, start.index.documents),
        (primary.health().await.unwrap().version, 51, 50)
    );
    assert_eq!((start.entries, start.vectors), (5, 50));
    assert!(start.bytes > 0 && start.vector_bytes > 0 && start.index.bytes > 0);
    assert_eq!((start.hits, start.misses, start.searches, start.passed_on), (0, 0, 0, 0));
    assert_eq!((start.evictions, start.expirations, start.rebuilds, start.snapshots), (45, 0, 0, 0));

    cache.get(&[key(49), key(1), key(999), Key::Space]).await.unwrap();
    cache.search(&only(1)).await.unwrap();
    put(&cache, [random_record(51, &mut Dice::new(1))]).await;
    cache.search(&only(51)).await.unwrap();
    let stats = cache.stats().await;
    assert_eq!((stats.hits, stats.misses, stats.searches, stats.changes), (2, 2, 2, 52));
    assert_eq!((stats.evictions, stats.index.documents), (47, 51));
    assert!(stats.version > start.version);

    clock.advance(TimeDelta::days(1));
    cache.get(&[key(51)]).await.unwrap();
    assert_eq!(cache.stats().await.expirations, 1);

    // It is persisted beside the callers, when so much has changed.
    while cache.stats().await.snapshots == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    primary.0.script_next(
        Operation::Changes,
        memory_core::testkit::Fault::Before(memory_core::Error::new(memory_core::ErrorKind::Io, "as scripted")),
    );
    cache.search(&only(1)).await.unwrap();
    let stats = cache.stats().await;
    assert_eq!((stats.passed_on, stats.ready), (1, false));
    assert!(stats.last_error.unwrap().to_string().contains("as scripted"));
}
