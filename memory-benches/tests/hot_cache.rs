//! Two processes with a hot cache each before one libSQL file: the crates of both know only memory-core.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::time::{Duration, Instant};

use memory_core::testkit::generated::{self, Dice, generated, generated_note, put_space};
use memory_core::testkit::process::{self, Respondent};
use memory_core::{Batch, InMemoryStore, Key, MemoryStore, NoteFilter, RecordKind, Scan, Scope, Search};
use memory_storage_redb::{CacheConfig, CacheMode, HotCache};
use memory_storage_turso::TursoStore;
use tempfile::TempDir;

/// How many records there are at most; the numbers of notes are odd.
const RECORDS: usize = 24;

fn key(number: usize) -> Key {
    let number = number as u128;
    if number % 2 == 1 { Key::Note(generated::note_id(number)) } else { Key::Episode(generated::id(number)) }
}

/// New and changed records, one at least, and deletions; of the numbers that leave this rest when divided by four.
async fn random_batch(rest: usize, dice: &mut Dice) -> Batch {
    let mut batch = Batch::new();
    for change in 0..1 + dice.roll(3) {
        let number = dice.roll(RECORDS / 4) * 4 + rest;
        batch = match (dice.roll(3), number % 2) {
            (0, _) if change > 0 => batch.delete(key(number)),
            (_, 1) => batch.put(generated_note(number as u128, dice).await),
            _ => batch.put(generated(number as u128, dice).await),
        };
    }
    batch
}

/// Looks at records by key, by scan and by search: what is asked is the same for the same dice.
async fn random_read(store: &dyn MemoryStore, dice: &mut Dice) -> String {
    let scope = if dice.roll(4) == 0 { Scope::new("other").unwrap() } else { Scope::default() };
    match dice.roll(3) {
        0 => {
            let keys: Vec<Key> = (0..1 + dice.roll(6)).map(|_| key(dice.roll(RECORDS))).collect();
            format!("{:?}", store.get(&keys).await.unwrap())
        }
        1 => {
            let kind = [RecordKind::Episode, RecordKind::Note][dice.roll(2)];
            format!("{:?}", store.scan(&Scan::new(kind).scope(scope).limit(1 + dice.roll(8))).await.unwrap())
        }
        _ => {
            let text = generated::text(dice);
            let search = Search::new(scope).vector(Some(generated::vector(&text).await)).text(text).trace(true).k(50);
            let search = if dice.roll(2) == 0 { search } else { search.for_notes(NoteFilter::default()) };
            format!("{:?}", store.search(&search).await.unwrap())
        }
    }
}

/// Does what the line says: `write <rest> <seed>`, and says at which version, or `read <seed>`.
async fn perform(store: &dyn MemoryStore, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["write", rest, seed] => {
            let batch = random_batch(rest.parse().unwrap(), &mut Dice::new(seed.parse().unwrap())).await;
            store.commit(&batch).await.unwrap().version.0.to_string()
        }
        ["read", seed] => random_read(store, &mut Dice::new(seed.parse().unwrap())).await,
        _ => panic!("{line}"),
    }
}

/// A process with a store and a cache of its own: does what it is told, and tells about its cache.
async fn work_in_child() {
    let [store, cache, staleness] = ["STORE", "CACHE", "STALENESS"].map(|name| std::env::var(name).unwrap());
    let store = TursoStore::open(store).await.unwrap();
    let config = CacheConfig::default().with_staleness(Duration::from_millis(staleness.parse().unwrap()));
    let cache = HotCache::open_with(store, cache, config.with_episodes(RECORDS / 2)).await.unwrap();
    process::answer(async |line| match line {
        "mode" => match cache.stats().await.mode {
            CacheMode::InMemory(Some(why)) => {
                let told = format!("the cache is in memory: {why}");
                assert_eq!(cache.health().await.unwrap().degraded, Some(told));
                format!("in memory: {:?}", why.kind())
            }
            other => {
                assert_eq!(cache.health().await.unwrap().degraded, None);
                format!("{other:?}")
            }
        },
        "stats" => {
            let stats = cache.stats().await;
            [stats.hits, stats.misses, stats.searches, stats.passed_on, stats.rebuilds].map(|n| n.to_string()).join(" ")
        }
        _ => perform(&cache, line).await,
    })
    .await;
}

/// Two processes with a store and a cache each, over the same files; and a store in memory that hears of the same writes, and so
/// knows what is right.
struct Two {
    test: &'static str,
    folder: TempDir,
    staleness: Duration,
    children: Vec<Respondent>,
    mirror: InMemoryStore,
    dice: Dice,
}

impl Two {
    async fn start(test: &'static str, staleness: Duration) -> Self {
        let (folder, mirror) = (tempfile::tempdir().unwrap(), InMemoryStore::new());
        let store = TursoStore::open(folder.path().join("memory.db")).await.unwrap();
        put_space(&mirror).await;
        put_space(&store).await;
        store.close().await.unwrap();
        let mut two = Self { test, folder, staleness, children: Vec::new(), mirror, dice: Dice::new(11) };
        two.add_child(0, "Persistent");
        two.add_child(1, "in memory: Busy");
        two
    }

    /// Starts a process that says this about its cache.
    fn add_child(&mut self, place: usize, mode: &str) {
        let [store, cache] = ["memory.db", "cache.redb"].map(|name| self.folder.path().join(name));
        let staleness = self.staleness.as_millis().to_string();
        let (store, cache) = (("STORE", store.to_str().unwrap()), ("CACHE", cache.to_str().unwrap()));
        let mut child = Respondent::spawn(self.test, &[store, cache, ("STALENESS", &staleness)]);
        assert_eq!(child.ask("mode"), mode);
        self.children.insert(place, child);
    }

    fn a_read(&mut self) -> String {
        format!("read {}", self.dice.roll(1 << 40))
    }

    /// What no other process writes at the same time.
    fn a_write(&mut self, by: usize) -> String {
        format!("write {} {}", 2 * by + self.dice.roll(2), self.dice.roll(1 << 40))
    }

    /// What is right now.
    async fn right(&self, question: &str) -> String {
        perform(&self.mirror, question).await
    }

    /// Asks both at once.
    fn ask_both(&mut self, questions: &[String; 2]) -> [String; 2] {
        for (child, question) in self.children.iter_mut().zip(questions) {
            child.put(question);
        }
        [self.children[0].hear(), self.children[1].hear()]
    }

    /// One process writes and the other reads, or both write; when that is acknowledged, both read.
    async fn write_and_read(&mut self) {
        let writes = [&[0][..], &[1], &[0, 1]][self.dice.roll(3)];
        let mut questions = [self.a_read(), self.a_read()];
        for by in writes {
            questions[*by] = self.a_write(*by);
        }
        let before = [0, 1].map(|place| questions[place].clone());
        let before = [self.right_if_read(&before[0]).await, self.right_if_read(&before[1]).await];
        let said = self.ask_both(&questions);
        let mut versions: Vec<(u64, usize)> = writes.iter().map(|by| (said[*by].parse().unwrap(), *by)).collect();
        versions.sort_unstable();
        for (version, by) in versions {
            assert_eq!(self.right(&questions[by]).await, version.to_string(), "{questions:?}");
        }
        for (place, before) in before.into_iter().enumerate().filter(|(place, _)| !writes.contains(place)) {
            let either = [before.unwrap(), self.right(&questions[place]).await];
            assert!(either.contains(&said[place]), "{questions:?}: {} is neither of {either:?}", said[place]);
        }

        let questions = [self.a_read(), self.a_read()];
        let said = self.ask_both(&questions);
        for (said, question) in said.iter().zip(&questions) {
            assert_eq!(*said, self.right(question).await, "{question}");
        }
    }

    async fn right_if_read(&self, question: &str) -> Option<String> {
        if question.starts_with("read") { Some(self.right(question).await) } else { None }
    }
}

/// Two processes on one file, each with a cache, of which only the first has the cache's file: 10,000 times one of them writes or
/// reads, and what is acknowledged when a read begins is in its answer. One of them is killed on the way, and followed by another
/// that starts from what it left in the cache's file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_older_than_what_another_process_was_told_is_written() {
    if process::is_child() {
        return work_in_child().await;
    }
    let test = "no_answer_is_older_than_what_another_process_was_told_is_written";
    let (mut two, begun) = (Two::start(test, Duration::ZERO).await, Instant::now());
    for round in 0..2_500 {
        if round == 1_250 {
            drop(two.children.remove(0));
            two.add_child(0, "Persistent");
        }
        two.write_and_read().await;
    }
    println!("10,000 writes and reads in {:?}", begun.elapsed());
    for child in &mut two.children {
        let stats = child.ask("stats");
        println!("hits, misses, searches, passed on, rebuilds: {stats}");
        let [hits, misses, searches, passed_on, rebuilds] =
            stats.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<u64>>()[..]
        else {
            panic!("{stats}")
        };
        assert!(hits > 100 && misses > 100 && searches > 100, "the caches answered");
        assert_eq!((passed_on, rebuilds), (0, 0));
    }
}

/// With a staleness an answer may be as old as that, and no older; and what was written through the same cache is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_staleness_an_answer_is_as_old_as_that_at_most() {
    if process::is_child() {
        return work_in_child().await;
    }
    let staleness = Duration::from_millis(200);
    let mut two = Two::start("with_a_staleness_an_answer_is_as_old_as_that_at_most", staleness).await;
    let (mut reads, mut stale) = (0, 0);
    for _ in 0..40 {
        // Now whatever was acknowledged is in every answer.
        tokio::time::sleep(staleness).await;
        let question = two.a_read();
        // What was right, and who had written when.
        let mut right = vec![(None, Instant::now(), two.right(&question).await)];
        for _ in 0..25 {
            if two.dice.roll(2) == 0 {
                let by = two.dice.roll(2);
                let write = two.a_write(by);
                let version = two.children[by].ask(&write);
                let acknowledged = Instant::now();
                assert_eq!(two.right(&write).await, version);
                right.push((Some(by), acknowledged, two.right(&question).await));
            }
            if two.dice.roll(10) == 0 {
                tokio::time::sleep(Duration::from_millis(two.dice.roll(300) as u64)).await;
            }
            let (reader, asked) = (two.dice.roll(2), Instant::now());
            let said = two.children[reader].ask(&question);
            let must_be_in = |(by, at, _): &(Option<usize>, Instant, String)| {
                *by == Some(reader) || asked.duration_since(*at) >= staleness
            };
            let allowed = &right[right.iter().rposition(must_be_in).unwrap_or_default()..];
            assert!(allowed.iter().any(|(_, _, right)| *right == said), "{question}: {said} is none of {allowed:?}");
            reads += 1;
            stale += usize::from(right.last().is_some_and(|(_, _, right)| *right != said));
        }
    }
    println!("{stale} of {reads} answers were from before, as is allowed");
    assert!(stale > 0);
}
