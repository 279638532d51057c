//! Many callers at once.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{block_in_place, yield_now};

use super::{commit, get, number, put};
use crate::testkit::samples::{self, episode, logged};
use crate::{
    Batch, Condition, Cursor, Key, MemoryStore, MemoryStoreExt, NewNote, Note, Record, RecordKind, Scan, Stored,
    Telling, Trust, Version, Watermark,
};

/// Runs so many tasks at once, each on a thread of its own, from a common start to their ends. They may borrow, as tokio's
/// tasks may not.
fn in_parallel(tasks: usize, task: impl AsyncFn(usize) + Sync) {
    let (runtime, start_line) = (Handle::current(), Barrier::new(tasks));
    block_in_place(|| {
        thread::scope(|threads| {
            let start = |n| {
                let (runtime, start_line, task) = (&runtime, &start_line, &task);
                threads.spawn(move || {
                    start_line.wait();
                    runtime.block_on(task(n));
                })
            };
            let all: Vec<_> = (0..tasks).map(start).collect();
            for one in all {
                one.join().unwrap_or_else(|panic| resume_unwind(panic));
            }
        });
    });
}

/// Counts a writer as finished when it goes, also by a panic, so that nobody waits for it for ever.
struct Finished<'a>(&'a AtomicUsize);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn position(stored: Option<&Stored>) -> u64 {
    match stored {
        Some(Stored { record: Record::Watermark(Watermark { position, .. }), .. }) => position.0,
        _ => 0,
    }
}

/// Eight tasks that each add one to a watermark 25 times, and as often as they can in a tenth of a second, under the
/// condition that it is as they read it: no update is lost, and none is made twice.
pub async fn conditional_increments_are_not_lost(store: &dyn MemoryStore) {
    let key = || Key::Watermark(samples::learner(1));
    // Conditions that always hold, and that take time between the look at the watermark and the write.
    let others: Vec<Condition> = (1..=100).map(|n| Condition::Absent(Key::Open(samples::episode_id(n)))).collect();
    let (made, start) = (AtomicU64::new(0), Instant::now());
    in_parallel(8, async |_| {
        let mut rounds = 0;
        while rounds < 25 || start.elapsed() < Duration::from_millis(100) {
            let seen = get(store, key()).await;
            let next = samples::watermark(1, position(seen.as_ref()) + 1);
            let mut batch = Batch::new().require_unchanged(key(), seen.map(|stored| stored.version)).put(next);
            batch.conditions.extend(others.iter().cloned());
            match store.commit(&batch).await {
                Ok(_) => rounds += 1,
                Err(error) if error.is_conflict() => yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
        made.fetch_add(rounds, Ordering::SeqCst);
    });
    let made = made.into_inner();
    assert_eq!(position(get(store, key()).await.as_ref()), made, "as many as were acknowledged");
}

/// Eight tasks that each tell one note ten times, from a session of their own, under the condition that it is as they read
/// it: no telling is lost, and none counts twice.
pub async fn conditional_tellings_are_not_lost(store: &dyn MemoryStore) {
    let key = || Key::Note(samples::note_id(1));
    in_parallel(8, async |task| {
        let session = format!("s-{task}");
        let mut told = 0;
        while told < 10 {
            let seen = get(store, key()).await;
            let version = seen.as_ref().map(|stored| stored.version);
            let telling = Telling::new(NewNote::new("note"), samples::time(told));
            let note = match seen.map(|stored| stored.record) {
                Some(Record::Note(stored)) => Note::clone(&stored.note).told_in_session(&session, telling),
                _ => Note::from_session(samples::scope("acme/coder"), &session, Trust::Trusted, telling),
            };
            let note = samples::noted(Note { id: samples::note_id(1), ..note });
            match store.commit(&Batch::new().require_unchanged(key(), version).put(note)).await {
                Ok(_) => told += 1,
                Err(error) if error.is_conflict() => yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let Some(Stored { record: Record::Note(stored), .. }) = get(store, key()).await else { panic!("it was put") };
    assert_eq!((stored.note.seen, stored.note.sessions()), (80, 8), "as many as were acknowledged");
}

const WRITERS: usize = 6;
const PER_WRITER: u32 = 30;
const ALL: u32 = 6 * PER_WRITER;

/// Appends distinct episodes from several tasks, one and several a batch, with derived records between them.
async fn write(store: &dyn MemoryStore, writer: usize, finished: &AtomicUsize) {
    let _finished = Finished(finished);
    let first = u32::try_from(writer).expect("few writers") * PER_WRITER;
    for n in (first..first + PER_WRITER).step_by(3) {
        put(store, [logged(episode(n, "a task of many")), Record::Pattern(samples::pattern(n))]).await;
        put(store, [logged(episode(n + 1, "a task of many")), logged(episode(n + 2, "a task of many"))]).await;
        commit(store, &Batch::new().put(Record::Pattern(samples::pattern(n))).as_derivable()).await;
    }
}

fn assert_each_once(seen: &BTreeMap<u128, usize>) {
    let expected: BTreeMap<u128, usize> = (0..u128::from(ALL)).map(|n| (n, 1)).collect();
    assert_eq!(*seen, expected, "each episode exactly once");
}

/// Episodes that many tasks append at once all arrive, and those who follow the log by version while they do see each
/// exactly once.
pub async fn followers_of_the_log_miss_nothing(store: &dyn MemoryStore) {
    let finished = AtomicUsize::new(0);
    in_parallel(WRITERS + 2, async |task| {
        if task < WRITERS {
            return write(store, task, &finished).await;
        }
        let mut seen: BTreeMap<u128, usize> = BTreeMap::new();
        let mut last = Version(0);
        loop {
            // Read before the scan: what is written by then must be in it.
            let done = finished.load(Ordering::SeqCst) == WRITERS;
            let from = last;
            let mut scan = Scan::new(RecordKind::Episode).after(Some(Cursor::Version(last))).limit(7);
            loop {
                let page = store.scan(&scan).await.expect("scans");
                for stored in &page.records {
                    assert!(stored.version > last, "{:?} appears at or below {last:?}", stored.version);
                    last = stored.version;
                    *seen.entry(number(stored)).or_default() += 1;
                }
                match page.next {
                    Some(next) => scan.after = Some(next),
                    None => break,
                }
            }
            if done && last == from {
                break;
            }
            yield_now().await;
        }
        assert_each_once(&seen);
    });
    assert_eq!(store.health().await.expect("healthy").episodes, u64::from(ALL));
}

/// Those who follow the feed while many tasks write are told of each change exactly once.
pub async fn followers_of_the_feed_miss_nothing(store: &dyn MemoryStore) {
    let finished = AtomicUsize::new(0);
    in_parallel(WRITERS + 2, async |task| {
        if task < WRITERS {
            return write(store, task, &finished).await;
        }
        let mut seen: BTreeMap<u128, usize> = BTreeMap::new();
        let mut since = Version(0);
        loop {
            let done = finished.load(Ordering::SeqCst) == WRITERS;
            let (entries, upto) = super::follow(store, since, 5).await;
            for entry in entries {
                let Key::Episode(id) = entry.key else { panic!("only episodes are in the feed: {entry:?}") };
                *seen.entry(id.as_uuid().as_u128()).or_default() += 1;
            }
            if done && upto == since {
                break;
            }
            since = upto;
            yield_now().await;
        }
        assert_each_once(&seen);
    });
}

/// A read sees a batch as a whole or not at all, by keys as by pages, while another task writes; what it saw once does not
/// go back.
pub async fn reads_see_whole_batches(store: &dyn MemoryStore) {
    let marks = |position: u64| (1..=100).map(move |n| samples::watermark(n, position));
    put(store, marks(0)).await;
    let finished = AtomicUsize::new(0);
    in_parallel(4, async |task| {
        if task == 0 {
            let _finished = Finished(&finished);
            for position in 1..=40 {
                let batch = marks(position).fold(Batch::new(), Batch::put);
                commit(store, &if position % 2 == 0 { batch.as_derivable() } else { batch }).await;
            }
            return;
        }
        let keys: Vec<Key> = marks(0).map(|record| record.key()).collect();
        let mut seen = 0;
        loop {
            let done = finished.load(Ordering::SeqCst) == 1;
            let by_key: Vec<Option<Stored>> = store.get(&keys).await.expect("reads");
            let by_page = store.scan(&Scan::new(RecordKind::Watermark)).await.expect("scans").records;
            let by_key: Vec<Stored> = by_key.into_iter().flatten().collect();
            for records in [by_key, by_page] {
                let positions: Vec<u64> = records.iter().map(|stored| position(Some(stored))).collect();
                assert_eq!(positions, [positions[0]; 100], "a read sees one state as a whole");
                assert!(positions[0] >= seen, "a read goes back from {seen} to {}", positions[0]);
                seen = positions[0];
            }
            if done {
                break;
            }
            yield_now().await;
        }
        assert_eq!(seen, 40, "what was acknowledged is seen");
    });
}

/// A batch that one thread was told is written is in every read that another begins after it hears of it.
pub async fn reads_see_what_another_thread_was_told_is_written(store: &dyn MemoryStore) {
    let (sender, receiver) = mpsc::unbounded_channel::<(u32, Version)>();
    let sender = std::sync::Mutex::new(Some(sender));
    let receiver = tokio::sync::Mutex::new(receiver);
    in_parallel(2, async |task| {
        if task == 0 {
            let sender = sender.lock().expect("no panic").take().expect("one writer");
            for n in 1..=50 {
                let batch = Batch::new().put(logged(episode(n, &format!("task number{n}"))));
                let batch = if n % 2 == 0 { batch.as_derivable() } else { batch };
                sender.send((n, commit(store, &batch).await.version)).expect("the reader listens");
            }
            return;
        }
        let mut receiver = receiver.lock().await;
        while let Some((n, version)) = receiver.recv().await {
            let id = samples::episode_id(n);
            assert!(store.get_episode(id).await.expect("reads").is_some(), "get sees episode {n}");
            let before = Some(Cursor::Version(Version(version.0 - 1)));
            let page = store.scan(&Scan::new(RecordKind::Episode).after(before)).await.expect("scans");
            assert_eq!(page.records.first().map(number), Some(u128::from(n)), "scan sees episode {n}");
            let hits = super::search(store, &super::words(&format!("number{n}"))).await;
            assert_eq!(super::found(&hits), [u128::from(n)], "search sees episode {n}");
            let changes = store.changes(Version(version.0 - 1), 1).await.expect("reads the feed");
            assert_eq!(
                changes.entries.first().map(|entry| &entry.key),
                Some(&Key::Episode(id)),
                "the feed tells episode {n}"
            );
            assert!(store.health().await.expect("healthy").episodes >= u64::from(n), "health counts episode {n}");
        }
    });
}
