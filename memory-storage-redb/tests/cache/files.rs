//! The file of a cache: it is warm after a restart, is known again, and is no trouble when it cannot be used.

use std::path::Path;
use std::sync::Arc;

use memory_core::testkit::process;
use memory_core::testkit::samples::{self, episode, episode_id, logged};
use memory_core::{Batch, Error, ErrorKind, InMemoryStore, Key, MemoryStore, Record};
use memory_storage_redb::{CacheConfig, CacheMode, CacheStats, HotCache};

use crate::common::{
    DIMENSIONS, Dice, Shared, assert_same, in_memory, is_persistent, key, keys, place, primary, primary_with, put,
    random_record,
};

async fn open<P: MemoryStore + Clone>(primary: &P, path: &Path) -> HotCache<P> {
    HotCache::open(primary.clone(), path).await.unwrap()
}

/// Why it is in memory.
fn reason(stats: &CacheStats) -> Option<Arc<Error>> {
    match &stats.mode {
        CacheMode::InMemory(reason) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

/// What was persisted is what an index of all records is, and goes on from there with what others wrote.
#[tokio::test]
async fn a_restart_goes_on_from_the_persisted_index() {
    let primary = primary_with(0..300, 1).await;
    let (_folder, path) = place();
    let cache = open(&primary, &path).await;
    put(&primary, (50..80).map(|n| random_record(n, &mut Dice::new(2)))).await;
    primary.commit(&(100..110).fold(Batch::new(), |batch, n| batch.delete(key(n)))).await.unwrap();
    assert_same(&cache, &primary, &keys(0..300), "before").await;
    cache.close().await.unwrap();
    for round in 0..3_u32 {
        let cache = open(&primary, &path).await;
        let opened = cache.stats().await;
        assert!(opened.ready && is_persistent(&opened), "{opened:?}");
        assert_eq!((opened.changes, opened.rebuilds), (u64::from(10 * round.min(1)), 0), "round {round}: {opened:?}");
        assert_same(&cache, &primary, &keys(0..400), "again").await;
        let anew = in_memory(primary.clone()).await;
        assert_same(&anew, &primary, &keys(0..400), "anew").await;
        let (kept, made) = (cache.stats().await.index, anew.stats().await.index);
        assert_eq!((kept.documents, kept.terms > 0), (made.documents, true));
        cache.close().await.unwrap();
        assert_eq!(
            cache.search(&crate::common::only(1)).await.unwrap(),
            primary.search(&crate::common::only(1)).await.unwrap()
        );
        // While it is closed, others write.
        let first = 300 + 10 * round;
        put(&primary, (first..first + 10).map(|n| random_record(n, &mut Dice::new(n.into())))).await;
    }
    // A cache that was dropped, not closed, has what it persisted last.
    let cache = open(&primary, &path).await;
    put(&primary, [random_record(500, &mut Dice::new(5))]).await;
    assert_same(&cache, &primary, &keys(0..501), "once more").await;
    assert_eq!(cache.stats().await.rebuilds, 0);
}

/// Opens the file before this primary; the file is that of another: this is noticed, and all is made anew.
async fn is_noticed(other: &Shared<InMemoryStore>, path: &Path, why: &str) {
    let cache = open(other, path).await;
    let stats = cache.stats().await;
    assert!(stats.ready && is_persistent(&stats), "{why}: {stats:?}");
    assert_eq!(stats.rebuilds, 1, "{why}: {stats:?}");
    let error = stats.last_error.unwrap();
    assert!(error.kind() == ErrorKind::Foreign && error.to_string().contains("of another database"), "{why}: {error}");
    assert_same(&cache, other, &keys(0..400), why).await;
    cache.close().await.unwrap();
    // Now it is the file of this one.
    let cache = open(other, path).await;
    assert_eq!((cache.stats().await.rebuilds, cache.stats().await.changes), (0, 0), "{why}");
    cache.close().await.unwrap();
}

/// A cache file before another database than it was of, with more, as many and fewer changes; and before the same one restored from a
/// backup, as it was and when it has gone on since.
#[tokio::test]
async fn a_file_of_another_primary_is_noticed() {
    let primary = primary_with(0..200, 1).await;
    let file_of_primary = async || {
        let (folder, path) = place();
        open(&primary, &path).await.close().await.unwrap();
        (folder, path)
    };
    for (count, why) in [(150, "fewer changes"), (200, "as many"), (300, "more")] {
        let (_folder, path) = file_of_primary().await;
        // Other records of other numbers.
        let other = primary_with(1_000..1_000 + count, 2).await;
        is_noticed(&other, &path, why).await;
    }
    let (_folder, path) = file_of_primary().await;
    let cache = open(&primary_with(0..20, 1).await, &path).await;
    let error = cache.stats().await.last_error.unwrap().to_string();
    assert!(error.contains("the primary is at version 21, the cache at 201"), "{error}");
    for (count, more, why) in [(190, 0, "restored"), (190, 5, "and gone on"), (190, 10, "as far"), (190, 50, "farther")]
    {
        let (_folder, path) = file_of_primary().await;
        let restored = primary_with(0..count, 1).await;
        put(&restored, (0..more).map(|n| random_record(1_000 + n, &mut Dice::new(n.into())))).await;
        is_noticed(&restored, &path, why).await;
    }
}

/// A restored database whose lost changes were no new records: deletions, replacements, the vector space.
#[tokio::test]
async fn a_restored_primary_is_noticed_by_what_it_lost() {
    let numbers = || 10..14;
    let deletions = numbers().fold(Batch::new(), |batch, n| batch.delete(Key::Episode(episode_id(n))));
    let replacements = numbers().fold(Batch::new(), |batch, n| batch.put(logged(episode(n, "another task"))));
    let space = Batch::new().put(Record::Space(samples::space(DIMENSIONS)));
    for (what, lost) in [("deletions", deletions), ("replacements", replacements), ("the space", space)] {
        let make = async || {
            let store = Shared::new(InMemoryStore::new());
            put(&store, (0..100).map(|n| logged(episode(n, "a task")))).await;
            store
        };
        let primary = make().await;
        primary.commit(&lost).await.unwrap();
        if what != "the space" {
            put(&primary, [Record::Space(samples::space(DIMENSIONS))]).await;
        }
        let (_folder, path) = place();
        open(&primary, &path).await.close().await.unwrap();
        let restored = make().await;
        // It is as far or farther, by what is not in the feed.
        put(&restored, (0..9).map(|n| Record::Pattern(samples::pattern(n)))).await;
        let cache = open(&restored, &path).await;
        let stats = cache.stats().await;
        assert_eq!((stats.ready, stats.rebuilds), (true, 1), "{what}: {stats:?}");
        let keys: Vec<Key> = (0..100).map(|n| Key::Episode(episode_id(n))).chain([Key::Space]).collect();
        assert_eq!(cache.get(&keys).await.unwrap(), restored.get(&keys).await.unwrap(), "{what}");
    }
}

/// Databases that have the last part of their histories in common, as after a part was exchanged: they differ in old records, or in
/// how many there are.
#[tokio::test]
async fn a_primary_with_other_old_records_is_noticed() {
    let make = async |old: &dyn Fn(u32) -> Record| {
        let store = primary().await;
        for n in 0..200 {
            put(&store, [if n < 100 { old(n) } else { logged(episode(n, "a task")) }]).await;
        }
        store
    };
    let primary = make(&|n| logged(episode(n, "a task"))).await;
    let others: [(&str, &dyn Fn(u32) -> Record); 2] = [
        ("others", &|n| logged(episode(n + 1_000, "a task"))),
        // Patterns are not in the feed; one record less.
        ("fewer", &|n| if n == 5 { Record::Pattern(samples::pattern(5)) } else { logged(episode(n, "a task")) }),
    ];
    for (why, other) in others {
        let (_folder, path) = place();
        open(&primary, &path).await.close().await.unwrap();
        is_noticed(&make(other).await, &path, why).await;
    }
}

/// The file is of one cache at a time; a second one, here or in another process, goes on in memory, and the first does not notice.
#[tokio::test]
async fn a_second_cache_goes_on_in_memory() {
    let test = "files::a_second_cache_goes_on_in_memory";
    let primary = primary_with(0..30, 1).await;
    if process::is_child() {
        let path = std::env::var("CACHE").unwrap();
        let cache = open(&primary, Path::new(&path)).await;
        let reason = reason(&cache.stats().await).unwrap();
        assert!(reason.kind() == ErrorKind::Busy && reason.to_string().contains(&path), "{reason}");
        assert_same(&cache, &primary, &keys(0..30), "another process").await;
        return cache.close().await.unwrap();
    }
    let (_folder, path) = place();
    let first = open(&primary, &path).await;
    process::run(test, &[("CACHE", path.to_str().unwrap())]);
    let second = open(&primary, &path).await;
    assert_eq!(reason(&second.stats().await).unwrap().kind(), ErrorKind::Busy);
    put(&second, [random_record(31, &mut Dice::new(1))]).await;
    for cache in [&first, &second] {
        assert_same(cache, &primary, &keys(0..32), "both").await;
        assert_eq!(cache.stats().await.rebuilds, 0);
    }
    second.close().await.unwrap();
    first.close().await.unwrap();
    let third = open(&primary, &path).await;
    assert!(is_persistent(&third.stats().await));
    assert_eq!(third.stats().await.changes, 0);
}

/// What is not the file of a cache is left alone, whatever it is, and the cache goes on in memory.
#[tokio::test]
async fn what_is_somebody_elses_is_left_alone() {
    let primary = primary_with(0..30, 1).await;
    let (folder, _) = place();
    let text = b"SQLite format 3\0 and so on ".repeat(1_000);
    std::fs::write(folder.path().join("text"), &text).unwrap();
    std::fs::write(folder.path().join("short"), "short").unwrap();
    let other = redb::Database::create(folder.path().join("database")).unwrap();
    let writing = other.begin_write().unwrap();
    writing.open_table(redb::TableDefinition::<u64, u64>::new("rows")).unwrap().insert(1, 2).unwrap();
    writing.commit().unwrap();
    drop(other);
    for (name, kind) in [
        ("text", ErrorKind::Foreign),
        ("short", ErrorKind::Foreign),
        ("database", ErrorKind::Foreign),
        ("no/folder", ErrorKind::Io),
        (".", ErrorKind::Io),
    ] {
        let path = folder.path().join(name);
        let cache = open(&primary, &path).await;
        let reason = reason(&cache.stats().await).unwrap();
        assert_eq!(reason.kind(), kind, "{name}: {reason}");
        assert_same(&cache, &primary, &keys(0..30), name).await;
        cache.close().await.unwrap();
    }
    assert_eq!(std::fs::read(folder.path().join("text")).unwrap(), text);
    assert_eq!(std::fs::read(folder.path().join("short")).unwrap(), b"short");
    let other = redb::Database::open(folder.path().join("database")).unwrap();
    let reading = redb::ReadableDatabase::begin_read(&other).unwrap();
    let table = reading.open_table(redb::TableDefinition::<u64, u64>::new("rows")).unwrap();
    assert_eq!(redb::ReadableTable::get(&table, 1).unwrap().map(|row| row.value()), Some(2));
}

/// A file that cannot be opened may be of use to somebody: it is moved aside, and made anew.
#[tokio::test]
async fn a_file_that_cannot_be_opened_is_moved_aside() {
    let primary = primary_with(0..200, 1).await;
    let (folder, path) = place();
    open(&primary, &path).await.close().await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let cache = open(&primary, &path).await;
    let stats = cache.stats().await;
    assert!(is_persistent(&stats) && stats.ready, "{stats:?}");
    assert_eq!((stats.rebuilds, stats.last_error.unwrap().kind()), (1, ErrorKind::Corrupt));
    assert_same(&cache, &primary, &keys(0..200), "anew").await;
    cache.close().await.unwrap();
    assert_eq!(std::fs::read(folder.path().join("cache.redb.damaged")).unwrap(), whole[..whole.len() / 2]);
    assert_eq!(open(&primary, &path).await.stats().await.changes, 0);
}

/// Without the index beside it, or with that of another time, the file is not warm, and nothing else.
#[tokio::test]
async fn an_index_that_is_not_of_the_file_is_made_anew() {
    let primary = primary_with(0..100, 1).await;
    let (folder, path) = place();
    let index = folder.path().join("cache.redb.index");
    open(&primary, &path).await.close().await.unwrap();
    let old = std::fs::read(&index).unwrap();
    for round in 0..3 {
        put(&primary, [random_record(100 + round, &mut Dice::new(1))]).await;
        let cache = open(&primary, &path).await;
        assert_same(&cache, &primary, &keys(0..110), "before").await;
        cache.close().await.unwrap();
        // The index of the time before is taken, too; earlier ones are not.
        match round {
            0 => std::fs::write(&index, &old).unwrap(),
            1 => std::fs::remove_file(&index).unwrap(),
            _ => std::fs::write(&index, &old).unwrap(),
        }
        let cache = open(&primary, &path).await;
        let stats = cache.stats().await;
        assert_eq!((stats.ready, stats.rebuilds), (true, u64::from(round > 0)), "round {round}: {stats:?}");
        assert_same(&cache, &primary, &keys(0..110), "after").await;
        cache.close().await.unwrap();
    }
}

/// A primary that is restored under an open cache: the next write through it, or the next look beside, tells.
#[tokio::test(start_paused = true)]
async fn a_primary_that_is_replaced_meanwhile_is_noticed() {
    let config = CacheConfig::default();
    let primary = Replaceable::new(primary_with(0..100, 1).await);
    let cache = HotCache::in_memory(primary.clone(), config.clone()).await.unwrap();
    primary.replace(primary_with(0..50, 1).await);
    put(&cache, [random_record(60, &mut Dice::new(8))]).await;
    assert_same(&cache, &primary, &keys(0..100), "after a write").await;
    assert!(!cache.stats().await.ready);
    cache.warm_up().await.unwrap();
    assert_same(&cache, &primary, &keys(0..100), "warm again").await;
    assert_eq!(cache.stats().await.rebuilds, 1);

    primary.replace(primary_with(0..20, 1).await);
    tokio::time::sleep(config.snapshot_interval * 2).await;
    cache.warm_up().await.unwrap();
    assert_same(&cache, &primary, &keys(0..100), "after a while").await;
    assert_eq!(cache.stats().await.rebuilds, 2);
}

/// A primary that becomes another one.
#[derive(Clone, Debug)]
struct Replaceable(Arc<std::sync::Mutex<Shared<InMemoryStore>>>);

impl Replaceable {
    fn new(store: Shared<InMemoryStore>) -> Self {
        Self(Arc::new(std::sync::Mutex::new(store)))
    }

    fn replace(&self, store: Shared<InMemoryStore>) {
        *self.0.lock().unwrap() = store;
    }

    fn now(&self) -> Shared<InMemoryStore> {
        self.0.lock().unwrap().clone()
    }
}

impl std::fmt::Display for Replaceable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replaceable")
    }
}

#[async_trait::async_trait]
impl MemoryStore for Replaceable {
    fn info(&self) -> memory_core::StoreInfo {
        self.now().info()
    }
    async fn commit(&self, batch: &Batch) -> memory_core::Result<memory_core::Commit> {
        self.now().commit(batch).await
    }
    async fn get(&self, keys: &[Key]) -> memory_core::Result<Vec<Option<memory_core::Stored>>> {
        self.now().get(keys).await
    }
    async fn scan(&self, scan: &memory_core::Scan) -> memory_core::Result<memory_core::Page> {
        self.now().scan(scan).await
    }
    async fn search(&self, search: &memory_core::Search) -> memory_core::Result<Vec<memory_core::Hit>> {
        self.now().search(search).await
    }
    async fn changes(&self, since: memory_core::Version, limit: usize) -> memory_core::Result<memory_core::Changes> {
        self.now().changes(since, limit).await
    }
    async fn health(&self) -> memory_core::Result<memory_core::StoreHealth> {
        self.now().health().await
    }
    async fn close(&self) -> memory_core::Result<()> {
        Ok(())
    }
}

/// A new primary and a new cache file, empty both.
#[tokio::test]
async fn an_empty_primary_is_warm_at_once() {
    let primary = primary().await;
    let (_folder, path) = place();
    let cache = open(&primary, &path).await;
    assert!(cache.stats().await.ready);
    assert_same(&cache, &primary, &keys(0..3), "empty").await;
    cache.close().await.unwrap();
    let cache = open(&primary, &path).await;
    assert_eq!((cache.stats().await.ready, cache.stats().await.rebuilds), (true, 0));
}
