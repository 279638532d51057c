//! Measures the store; prints and checks nothing.
//! `cargo test --release -p knowhow-memory-storage-redb --test measures -- --ignored --nocapture --test-threads=1`
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use common::{Dice, generated, id, place, put_space, text, vector};
use memory_core::{Batch, InMemoryStore, Key, MemoryStore, Record, Scope, Search};
use memory_storage_redb::{Check, RedbConfig, RedbStore};

fn each(start: Instant, count: usize) -> Duration {
    start.elapsed() / u32::try_from(count).unwrap()
}

/// So many episodes with vectors.
async fn records(count: u128) -> Vec<Record> {
    let mut dice = Dice::new(3);
    let mut records = Vec::new();
    for number in 0..count {
        let mut record = generated(number, &mut dice).await;
        if let Record::Episode(logged) = &mut record {
            logged.vector = Some(vector(&format!("{} {number}", logged.episode.task.text)).await);
        }
        records.push(record);
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn commits_and_reads() {
    let (_folder, path) = place();
    let start = Instant::now();
    let store = RedbStore::open(&path).await.unwrap();
    println!("a new file is open after {:?}", start.elapsed());
    put_space(&store).await;
    let records = records(8_000).await;
    let start = Instant::now();
    for record in &records[..2_000] {
        store.commit(&Batch::new().put(record.clone())).await.unwrap();
    }
    println!("one by one: {:?} a commit", each(start, 2_000));
    for (first, callers) in [(2_000, 8_usize), (4_000, 64)] {
        let start = Instant::now();
        let mut tasks = Vec::new();
        for caller in 0..callers {
            let (store, own) =
                (store.clone(), records[first..first + 2_000].iter().skip(caller).step_by(callers).cloned());
            let own: Vec<Record> = own.collect();
            tasks.push(tokio::spawn(async move {
                for record in own {
                    store.commit(&Batch::new().put(record)).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        println!("{callers} callers: {:?} a commit", each(start, 2_000));
    }
    let start = Instant::now();
    for record in &records[6_000..7_000] {
        store.commit(&Batch::new().put(record.clone()).as_derivable()).await.unwrap();
    }
    println!("derivable: {:?} a commit", each(start, 1_000));
    let batch = records[7_000..].iter().cloned().fold(Batch::new(), Batch::put);
    let start = Instant::now();
    store.commit(&batch).await.unwrap();
    println!("a batch of 1,000: {:?} a record", each(start, 1_000));
    for keys in [1_u128, 10, 100] {
        let start = Instant::now();
        for first in 0..2_000 {
            let keys: Vec<Key> = (0..keys).map(|n| Key::Episode(id((first * 7 + n * 31) % 8_000))).collect();
            store.get(&keys).await.unwrap();
        }
        println!("get of {keys}: {:?}", each(start, 2_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn opening_100_000_episodes() {
    let (folder, path) = place();
    let store = RedbStore::open(&path).await.unwrap();
    put_space(&store).await;
    let records = records(100_000).await;
    let start = Instant::now();
    for chunk in records.chunks(1_000) {
        store.commit(&chunk.iter().cloned().fold(Batch::new(), Batch::put)).await.unwrap();
    }
    println!("written in {:?}", start.elapsed());
    let start = Instant::now();
    store.close().await.unwrap();
    println!("closed in {:?}", start.elapsed());
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        println!("{:?}: {} MB", file.file_name(), file.metadata().unwrap().len() >> 20);
    }
    let mut dice = Dice::new(11);
    let mut search = Search::new(Scope::default()).trace(true);
    for cache in [64 << 20, 256 << 20] {
        for check in [Check::IfChanged, Check::Always] {
            let start = Instant::now();
            let config = RedbConfig::default().with_cache_bytes(cache).with_check(check);
            let store = RedbStore::open_with(&path, config).await.unwrap();
            let opened = start.elapsed();
            search = search.text("login fails").vector(Some(vector("login fails").await));
            store.search(&search).await.unwrap();
            println!("cache {} MB, {check:?}: open {opened:?}, first search {:?}", cache >> 20, start.elapsed());
            for round in 0..3 {
                let start = Instant::now();
                for _ in 0..100 {
                    let query = text(&mut dice);
                    search = search.vector(Some(vector(&query).await)).text(query);
                    store.search(&search).await.unwrap();
                }
                println!("round {round}: a search {:?}", each(start, 100));
            }
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            println!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap());
            store.close().await.unwrap();
        }
    }
    let memory = InMemoryStore::new();
    put_space(&memory).await;
    memory.commit(&records.iter().cloned().fold(Batch::new(), Batch::put)).await.unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        let query = text(&mut dice);
        search = search.vector(Some(vector(&query).await)).text(query);
        memory.search(&search).await.unwrap();
    }
    println!("in memory: a search {:?}", each(start, 100));
    std::fs::remove_file(folder.path().join("memory.redb.index")).unwrap();
    let start = Instant::now();
    RedbStore::open(&path).await.unwrap();
    println!("without its index: open {:?}", start.elapsed());
}
