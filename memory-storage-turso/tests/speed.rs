//! Prints how fast it is: `cargo test --release -p knowhow-memory-storage-turso --test speed -- --ignored --nocapture`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Instant;

use common::{Dice, episode, logged, moment, place, put_space, vector};
use memory_core::{Batch, Filter, Key, MemoryStore, Outcome, Record, Scope, Search, Task, Version};
use memory_storage_turso::TursoStore;

/// The median in microseconds.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// A text of 20 words, of which low numbers are much more frequent than high ones.
fn text(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..20 {
        let most = 1 + dice.roll(3_000);
        text.push_str(&format!("w{} ", dice.roll(most)));
    }
    text
}

async fn record(number: u128, scope: &Scope, bytes: usize, dice: &mut Dice) -> Record {
    let mut task = Task::new(text(dice)).domain(dice.pick(&["web", "data", "cli"]));
    for _ in 0..dice.roll(4) {
        task = task.tag(dice.pick(&["a", "b", "c"]));
    }
    let vector = vector(&task.text).await;
    let outcome = Outcome::success("done").artifact("log", "a line of it\n".repeat(bytes / 14));
    logged(episode(number, scope, task, outcome, moment(0)), Some(vector))
}

async fn searched(store: &TursoStore, words: bool, vectors: bool, filter: Filter) -> f64 {
    let mut dice = Dice::new(5);
    let mut times = Vec::new();
    for _ in 0..100 {
        let query = text(&mut dice);
        let mut search = Search::new(Scope::default()).filter(filter.clone());
        if words {
            search = search.text(&query);
        }
        if vectors {
            search = search.vector(Some(vector(&query).await));
        }
        let start = Instant::now();
        store.search(&search).await.unwrap();
        times.push(micros(start));
    }
    median(times)
}

#[tokio::test]
#[ignore = "it measures"]
async fn commits_and_searches() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    put_space(&store).await;
    let mut dice = Dice::new(3);
    let (mut durable, mut derivable, mut keys) = (vec![], vec![], vec![]);
    for number in 0..2_300 {
        let record = record(number, &Scope::default(), 4_000, &mut dice).await;
        keys.push(record.key());
        let mut batch = Batch::new().put(record);
        if number % 2 == 0 {
            batch = batch.as_derivable();
        }
        let start = Instant::now();
        store.commit(&batch).await.unwrap();
        if number % 2 == 0 { &mut derivable } else { &mut durable }.push(micros(start));
    }
    println!("commit of one episode: {:.0} µs, derivable {:.0} µs", median(durable), median(derivable));
    for (scope, bytes) in [("second", 0), ("third", 12_000)] {
        let scope = Scope::new(scope).unwrap();
        let mut batch = Batch::new();
        for number in 0..1_000 {
            batch = batch.put(record(10_000 * bytes as u128 + 5_000 + number, &scope, bytes, &mut dice).await);
        }
        let start = Instant::now();
        store.commit(&batch).await.unwrap();
        println!("commit of 1,000 episodes with {bytes} more bytes: {:.0} µs each", micros(start) / 1_000.0);
    }
    let filter = Filter::default().domain("web").tag("a");
    for (name, words, vectors) in [("words", true, false), ("vector", false, true), ("both", true, true)] {
        let plain = searched(&store, words, vectors, Filter::default()).await;
        let filtered = searched(&store, words, vectors, filter.clone()).await;
        println!("search by {name}: {plain:.0} µs, filtered {filtered:.0} µs");
    }
    for count in [1, 100] {
        let keys: Vec<Key> = keys.iter().take(count).cloned().collect();
        let start = Instant::now();
        store.get(&keys).await.unwrap();
        println!("get of {count}: {:.0} µs", micros(start));
    }
    let start = Instant::now();
    store.changes(Version(0), 10).await.unwrap();
    println!("first 10 of the change feed: {:.0} µs", micros(start));
    let start = Instant::now();
    store.health().await.unwrap();
    println!("health: {:.0} µs", micros(start));
}
