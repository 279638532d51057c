//! No answer is stale, and each is of one state, whoever writes and whenever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::testkit::samples::{self, episode, episode_id, logged, note, note_id, noted};
use memory_core::testkit::{Fault, FaultyStore, Gate, Operation};
use memory_core::{Batch, InMemoryStore, Key, MemoryStore, NoteFilter, Record, Scope, Search, Stored};
use memory_storage_redb::{CacheConfig, HotCache};
use tokio::task::yield_now;

use crate::common::{
    Dice, Shared, assert_same, in_memory, key, keys, only, place, primary, primary_with, put, random_record, searches,
};

const RECORDS: u32 = 60;

/// A batch of one to three changes to some records.
fn random_batch(dice: &mut Dice) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..=dice.roll(3) {
        let n = u32::try_from(dice.roll(RECORDS as usize)).unwrap();
        batch = match dice.roll(4) {
            0 => batch.delete(key(n)),
            1 => batch.put(Record::Pattern(samples::pattern(n))).put(random_record(n, dice)),
            _ => batch.put(random_record(n, dice)),
        };
    }
    batch
}

/// Two caches before one store, and others who write past both: 5,000 times somebody writes, and somebody reads what there is then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_wrote_is_in_the_next_answer() {
    let primary = primary().await;
    let (_folder, path) = place();
    let one = HotCache::open(primary.clone(), path).await.unwrap();
    let config = CacheConfig::default().with_episodes(9).with_vector_bytes(3_000);
    let other = HotCache::in_memory(primary.clone(), config).await.unwrap();
    let mut dice = Dice::new(7);
    for round in 0..5_000 {
        let writer: &dyn MemoryStore = match dice.roll(3) {
            0 => &one,
            1 => &other,
            _ => &primary,
        };
        writer.commit(&random_batch(&mut dice)).await.unwrap();
        let reader = [&one, &other][dice.roll(2)];
        let asked: Vec<Key> =
            (0..=dice.roll(5)).map(|_| key(u32::try_from(dice.roll(RECORDS as usize)).unwrap())).collect();
        assert_eq!(reader.get(&asked).await.unwrap(), primary.get(&asked).await.unwrap(), "round {round}");
        if round % 5 == 0 {
            let all = searches();
            let search = &all[dice.roll(all.len())];
            let found = reader.search(search).await.unwrap();
            assert_eq!(found, primary.search(search).await.unwrap(), "round {round}: {search:?}");
        }
    }
    for cache in [&one, &other] {
        assert_same(cache, &primary, &keys(0..RECORDS), "at the end").await;
        let stats = cache.stats().await;
        assert_eq!((stats.passed_on, stats.rebuilds), (0, 0), "{stats:?}");
        assert!(stats.hits > 1_000 && stats.misses > 1_000 && stats.searches > 300, "{stats:?}");
    }
}

/// The number that a pair carries in its texts.
fn serial(stored: Option<&Stored>) -> u64 {
    let text = match &stored.unwrap().record {
        Record::Episode(logged) => &logged.episode.task.text,
        Record::Note(stored) => &stored.note.text,
        other => panic!("{other:?}"),
    };
    text.rsplit("serial").next().unwrap().parse().unwrap()
}

fn pair(n: u32, serial: u64) -> Batch {
    let text = format!("pair serial{serial}");
    Batch::new().put(logged(episode(n, &text))).put(noted(note(n, &text)))
}

/// Pairs of an episode and a note are written together by some tasks, through two caches, while others read them through both, some
/// of them from the cache and some not: a pair is never torn, nor older than what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_beside_writes_see_whole_batches() {
    const PAIRS: u32 = 6;
    const WRITES: u64 = 150;
    let primary = primary().await;
    for n in 0..PAIRS {
        primary.commit(&pair(n, 0)).await.unwrap();
    }
    let config = CacheConfig::default().with_episodes(7);
    let caches = [HotCache::in_memory(primary.clone(), config).await.unwrap(), in_memory(primary.clone()).await];
    let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..PAIRS).map(|_| AtomicU64::new(0)).collect());
    let writers = (0..PAIRS).map(|n| {
        let (cache, acknowledged) = (caches[n as usize % 2].clone(), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for serial in 1..=WRITES {
                cache.commit(&pair(n, serial)).await.unwrap();
                acknowledged[n as usize].store(serial, Ordering::SeqCst);
                yield_now().await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let readers = (0..4_usize).map(|reader| {
        let (cache, acknowledged) = (caches[reader % 2].clone(), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            let mut dice = Dice::new(reader as u64);
            loop {
                let least: Vec<u64> = acknowledged.iter().map(|one| one.load(Ordering::SeqCst)).collect();
                let pairs: Vec<u32> = (0..PAIRS).filter(|_| dice.roll(2) == 0).collect();
                let asked: Vec<Key> =
                    pairs.iter().flat_map(|n| [Key::Episode(episode_id(*n)), Key::Note(note_id(*n))]).collect();
                let found = cache.get(&asked).await.unwrap();
                for (n, pair) in pairs.iter().zip(found.chunks_exact(2)) {
                    let serials = [serial(pair[0].as_ref()), serial(pair[1].as_ref())];
                    assert_eq!(serials[0], serials[1], "the pair {n} is torn");
                    assert!(serials[0] >= least[*n as usize], "the pair {n} is older than what was acknowledged");
                    assert!(serials[0] >= seen.insert(*n, serials[0]).unwrap_or_default(), "the pair {n} went back");
                }
                if least.iter().all(|serial| *serial == WRITES) {
                    return;
                }
                yield_now().await;
            }
        })
    });
    for task in readers.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    for task in writers {
        task.await.unwrap();
    }
    for cache in &caches {
        assert_same(cache, &primary, &keys(0..PAIRS), "at the end").await;
    }
}

async fn over_faulty() -> (HotCache<Shared<FaultyStore<InMemoryStore>>>, Shared<FaultyStore<InMemoryStore>>) {
    let primary = Shared::new(FaultyStore::new(InMemoryStore::new()));
    (in_memory(primary.clone()).await, primary)
}

/// What is in the cache and what is fetched are of one state, though both changed between the look into the cache and the fetch.
#[tokio::test(start_paused = true)]
async fn a_change_between_the_cache_and_the_primary_does_not_tear_an_answer() {
    let (cache, primary) = over_faulty().await;
    primary.commit(&pair(1, 1)).await.unwrap();
    let both = [Key::Episode(episode_id(1)), Key::Note(note_id(1))];
    // Only the note is kept: it is the only one that changed last.
    cache.get(&both).await.unwrap();
    put(&primary, [noted(note(1, "pair serial1"))]).await;
    put(&primary, (100..300).map(|n| logged(episode(n, "another")))).await;
    cache.warm_up().await.unwrap();
    cache.get(&both[..1]).await.unwrap();
    let before = cache.stats().await;
    let gate = Gate::new();
    // The next reads by key: of the note, which the cache has not.
    primary.0.script_next(Operation::Get, Fault::Hold(gate.clone()));
    let reading = tokio::spawn({
        let (cache, both) = (cache.clone(), both.clone());
        async move { cache.get(&both).await.unwrap() }
    });
    gate.reached().await;
    primary.0.get_ref().commit(&pair(1, 2)).await.unwrap();
    gate.open();
    let found = reading.await.unwrap();
    assert_eq!(found, primary.get(&both).await.unwrap());
    assert_eq!([serial(found[0].as_ref()), serial(found[1].as_ref())], [2, 2]);
    let after = cache.stats().await;
    assert_eq!((after.passed_on, after.rebuilds), (before.passed_on, 0), "it began anew, and nothing is wrong");
}

/// A record that changes again between the feed and the reading of it is indexed as it is then, with all that changed with it.
#[tokio::test(start_paused = true)]
async fn a_change_between_the_feed_and_the_record_does_not_tear_the_index() {
    let (cache, primary) = over_faulty().await;
    primary.commit(&pair(1, 1)).await.unwrap();
    cache.warm_up().await.unwrap();
    // The next reads by key: of what the feed tells of.
    let gate = Gate::new();
    primary.0.script_next(Operation::Get, Fault::Hold(gate.clone()));
    put(&primary, [noted(note(1, "pair serial2"))]).await;
    let search = Search::new(Scope::default()).text("pair serial3 serial2").k(9);
    let reading = tokio::spawn({
        let (cache, search) = (cache.clone(), search.clone().for_notes(NoteFilter::default()));
        async move { cache.search(&search).await.unwrap() }
    });
    gate.reached().await;
    primary.0.get_ref().commit(&pair(1, 3)).await.unwrap();
    gate.open();
    let notes = search.clone().for_notes(NoteFilter::default());
    assert_eq!(reading.await.unwrap(), primary.search(&notes).await.unwrap());
    // Whoever reads now sees both, as they were written together.
    assert_eq!(cache.search(&search).await.unwrap(), primary.search(&search).await.unwrap());
    let both = [Key::Episode(episode_id(1)), Key::Note(note_id(1))];
    assert_eq!(cache.get(&both).await.unwrap(), primary.get(&both).await.unwrap());
    assert_eq!(cache.stats().await.passed_on, 0);
}

/// What takes several looks at the feed is not answered from until all of it is there, by those either who need not look.
#[tokio::test(start_paused = true)]
async fn nothing_is_answered_from_half_of_a_batch() {
    let primary = Shared::new(FaultyStore::new(InMemoryStore::new()));
    let batch =
        |serial: u64| (0..300).fold(Batch::new(), |batch, n| batch.put(noted(note(n, &format!("serial{serial}")))));
    primary.commit(&batch(1)).await.unwrap();
    let config = CacheConfig::default().with_staleness(Duration::from_secs(3_600));
    let cache = HotCache::in_memory(primary.clone(), config.clone()).await.unwrap();
    let search = Search::new(Scope::default()).text("serial1 serial2").k(100).for_notes(NoteFilter::default());
    let before = cache.search(&search).await.unwrap();
    primary.commit(&batch(2)).await.unwrap();
    assert_eq!(cache.search(&search).await.unwrap(), before, "as old as is allowed");
    // The look that is taken from time to time; it is held in the middle. The first one looks whether it is the same primary.
    let gate = Gate::new();
    let looks = primary.0.calls(Operation::Changes);
    primary.0.script(Operation::Changes, looks + 3, Fault::Hold(gate.clone()));
    tokio::time::sleep(config.snapshot_interval).await;
    gate.reached().await;
    let keys: Vec<Key> = [1, 299].map(|n| Key::Note(note_id(n))).into();
    let readers = (0..4).map(|place| {
        let (cache, search, keys) = (cache.clone(), search.clone(), keys.clone());
        tokio::spawn(async move {
            if place % 2 == 0 {
                let hits = cache.search(&search).await.unwrap();
                let scores: BTreeSet<u64> = hits.iter().map(|hit| hit.words.to_bits()).collect();
                assert_eq!(scores.len(), 1, "all have the same word: {hits:?}");
            } else {
                let found = cache.get(&keys).await.unwrap();
                assert_eq!(serial(found[0].as_ref()), serial(found[1].as_ref()));
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for _ in 0..100 {
        yield_now().await;
    }
    gate.open();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(cache.search(&search).await.unwrap(), primary.search(&search).await.unwrap());
}

/// Many who wait for the feed share one look at it: who came before it began.
#[tokio::test(start_paused = true)]
async fn searches_at_once_share_a_look_at_the_feed() {
    let (cache, primary) = over_faulty().await;
    put(&primary, [logged(episode(1, "number1"))]).await;
    cache.search(&only(1)).await.unwrap();
    let gate = Gate::new();
    primary.0.script_next(Operation::Changes, Fault::Hold(gate.clone()));
    let before = primary.0.calls(Operation::Changes);
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { cache.search(&only(1)).await.unwrap() }
    });
    gate.reached().await;
    let others = (0..20).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.search(&only(1)).await.unwrap() })
    });
    let others: Vec<_> = others.collect();
    for _ in 0..100 {
        yield_now().await;
    }
    put(primary.0.get_ref(), [logged(episode(4, "number1 again"))]).await;
    gate.open();
    first.await.unwrap();
    for other in others {
        other.await.unwrap();
    }
    let looks = primary.0.calls(Operation::Changes) - before;
    assert!(looks <= 3, "{looks} looks for 21 searches");
    assert_eq!(cache.stats().await.passed_on, 0);
}

/// A reader that is dropped while it waits for the primary leaves nothing behind that the next would wait for.
#[tokio::test(start_paused = true)]
async fn a_dropped_reader_keeps_nobody_waiting() {
    let (cache, primary) = over_faulty().await;
    for (n, operation) in (1..).zip([Operation::Changes, Operation::Get, Operation::Changes, Operation::Get]) {
        put(&primary, [logged(episode(n, &format!("number{n}")))]).await;
        let gate = Gate::new();
        primary.0.script_next(operation, Fault::Hold(gate.clone()));
        let waiting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.search(&only(n)).await.unwrap() }
        });
        gate.reached().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        let search = only(n);
        assert_eq!(cache.search(&search).await.unwrap(), primary.search(&search).await.unwrap(), "{operation:?}");
    }
    assert_eq!(cache.stats().await.passed_on, 0);
}

/// With staleness an answer may be as old as that, and no older; and what was written through the cache is in it all the same.
#[tokio::test(start_paused = true)]
async fn an_answer_is_no_older_than_is_allowed() {
    let primary = Shared::new(FaultyStore::new(primary_with(0..30, 1).await));
    let config = CacheConfig::default().with_staleness(Duration::from_secs(10));
    let cache = HotCache::in_memory(primary.clone(), config).await.unwrap();
    assert_eq!(cache.search(&only(50)).await.unwrap(), []);
    let looks = primary.0.calls(Operation::Changes);
    put(&primary, [random_record(50, &mut Dice::new(1))]).await;
    assert_eq!(cache.search(&only(50)).await.unwrap(), [], "from before");
    assert_eq!(primary.0.calls(Operation::Changes), looks, "the feed is not asked");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(cache.search(&only(50)).await.unwrap().len(), 1, "ten seconds later");

    let mut own = logged(episode(52, "number52"));
    put(&cache, [own.clone()]).await;
    assert_eq!(cache.search(&only(52)).await.unwrap().len(), 1, "written through the cache");
    assert_eq!(cache.get(&[own.key()]).await.unwrap()[0].as_ref().map(|stored| &stored.record), Some(&own));

    // A look at the feed that began before the write, and ends after it, does not count.
    tokio::time::sleep(Duration::from_secs(1)).await; // What is done beside is done.
    put(&primary, [logged(episode(53, "number53"))]).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let gate = Gate::new();
    primary.0.script_next(Operation::Get, Fault::Hold(gate.clone()));
    let looking = tokio::spawn({
        let cache = cache.clone();
        async move { cache.search(&only(53)).await.unwrap() }
    });
    gate.reached().await;
    own = logged(episode(52, "number52 and more"));
    put(&cache, [own.clone()]).await;
    gate.open();
    looking.await.unwrap();
    assert_eq!(cache.get(&[own.key()]).await.unwrap()[0].as_ref().map(|stored| &stored.record), Some(&own));
}

/// Keys that the feed does not tell of, and those that are read with them, are the primary's alone.
#[tokio::test]
async fn what_is_not_in_the_feed_is_read_from_the_primary() {
    let (cache, primary) = over_faulty().await;
    let all: Vec<Record> = samples::one_of_each(1);
    put(&cache, all.clone()).await;
    for record in all {
        let (before, key) = (primary.0.calls(Operation::Get), record.key());
        let both = [Key::Episode(episode_id(1)), key.clone()];
        for _ in 0..3 {
            cache.get(&both).await.unwrap();
        }
        let reads = primary.0.calls(Operation::Get) - before;
        match key {
            Key::Episode(_) | Key::Note(_) => assert!(reads <= 2, "{key:?}: {reads}"),
            _ => assert_eq!(reads, 3, "{key:?}"),
        }
    }
    assert_eq!(cache.stats().await.passed_on, 0, "what is never answered by the cache does not count");
}
