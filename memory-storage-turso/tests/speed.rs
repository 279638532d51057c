//! Prints how fast it is: `cargo test --release -p knowhow-memory-storage-turso --test speed -- --ignored --nocapture`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Instant;

use common::{Dice, episode, generated, logged, moment, place, put_space, text, vector};
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
    let (mut durable, mut derivable, mut number, mut kept, mut ids) = (vec![], vec![], 0, 0, vec![]);
    while kept < 2_300 {
        number += 1;
        let record = generated(number, &mut dice).await;
        if record.scope() != Some(&Scope::default()) {
            continue;
        }
        kept += 1;
        ids.push(record.key());
        let mut batch = Batch::new().put(record);
        if kept % 2 == 0 {
            batch = batch.as_derivable();
        }
        let start = Instant::now();
        store.commit(&batch).await.unwrap();
        if kept % 2 == 0 { &mut derivable } else { &mut durable }.push(micros(start));
    }
    println!("commit of one episode: {:.0} µs, derivable {:.0} µs", median(durable), median(derivable));
    let mut batch = Batch::new();
    for number in 10_000..11_000 {
        if let Record::Episode(one) = generated(number, &mut dice).await {
            let mut episode = (*one.episode).clone();
            episode.scope = Scope::new("third").unwrap();
            batch = batch.put(logged(episode, one.vector));
        }
    }
    let start = Instant::now();
    store.commit(&batch).await.unwrap();
    println!("commit of 1,000 episodes: {:.0} µs each", micros(start) / 1_000.0);
    let mut batch = Batch::new();
    for number in 20_000..21_000 {
        let outcome = Outcome::success("done").artifact("log", "a line of it\n".repeat(800));
        let episode = episode(number, &Scope::new("fourth").unwrap(), Task::new("large"), outcome, moment(0));
        batch = batch.put(logged(episode, None));
    }
    let start = Instant::now();
    store.commit(&batch).await.unwrap();
    println!("commit of 1,000 episodes of 12 kB: {:.0} µs each", micros(start) / 1_000.0);
    let filter = Filter::default().domain("web").tag("a");
    for (name, words, vectors) in [("words", true, false), ("vector", false, true), ("both", true, true)] {
        let plain = searched(&store, words, vectors, Filter::default()).await;
        let filtered = searched(&store, words, vectors, filter.clone()).await;
        println!("search by {name}: {plain:.0} µs, filtered {filtered:.0} µs");
    }
    let keys: Vec<Key> = ids.iter().take(100).cloned().collect();
    let start = Instant::now();
    store.get(&keys).await.unwrap();
    println!("get of 100 episodes: {:.0} µs each", micros(start) / 100.0);
    let start = Instant::now();
    store.get(&keys[..1]).await.unwrap();
    println!("get of one: {:.0} µs", micros(start));
    let start = Instant::now();
    store.changes(Version(0), 10).await.unwrap();
    println!("first 10 of the change feed: {:.0} µs", micros(start));
    let start = Instant::now();
    store.health().await.unwrap();
    println!("health: {:.0} µs", micros(start));
}
