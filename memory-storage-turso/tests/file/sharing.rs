//! Several stores, threads and processes on one file.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::Duration;

use crate::common::{id, place, put, simple};
use memory_core::testkit::process;
use memory_core::{
    Batch, ErrorKind, Key, LearnerId, MemoryStore, MemoryStoreExt, Record, RecordKind, Scan, Version, Watermark,
};
use memory_storage_turso::{TursoConfig, TursoStore};

/// Commits episodes with these numbers, each in a batch of its own, and returns their versions.
async fn write(store: TursoStore, numbers: std::ops::Range<u128>) -> Vec<Version> {
    let mut versions = Vec::new();
    for number in numbers {
        versions.push(put(&store, simple(number, "shared")).await.version);
    }
    versions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_on_one_file_write_at_once_and_see_each_other() {
    let (_folder, path) = place();
    let (one, two) = (TursoStore::open(&path).await.unwrap(), TursoStore::open(&path).await.unwrap());
    let tasks: Vec<_> = (0_u128..8)
        .map(|task| {
            let store = if task % 2 == 0 { one.clone() } else { two.clone() };
            tokio::spawn(write(store, task * 100..task * 100 + 25))
        })
        .collect();
    let mut versions = BTreeSet::new();
    for task in tasks {
        versions.extend(task.await.unwrap());
    }
    assert_eq!(versions.len(), 200, "every change has a version of its own");
    assert_eq!(one.health().await.unwrap(), two.health().await.unwrap());
    let last = put(&one, simple(9_999, "last")).await.version;
    assert_eq!(two.get_one(Key::Episode(id(9_999))).await.unwrap().unwrap().version, last);
    assert_eq!(two.changes(Version(last.0 - 1), 10).await.unwrap().entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_the_log_misses_nothing() {
    let (_folder, path) = place();
    let (one, two) = (TursoStore::open(&path).await.unwrap(), TursoStore::open(&path).await.unwrap());
    let writers = [tokio::spawn(write(one.clone(), 0..100)), tokio::spawn(write(two, 100..200))];
    let follower = tokio::spawn(async move {
        let (mut since, mut seen) = (Version(0), 0);
        while seen < 200 {
            let changes = one.changes(since, 7).await.unwrap();
            assert!(changes.entries.iter().all(|entry| entry.version > since));
            seen += changes.entries.len();
            since = changes.upto;
        }
        since
    });
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(follower.await.unwrap(), Version(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_sees_one_committed_state() {
    let (_folder, path) = place();
    let (one, two) = (TursoStore::open(&path).await.unwrap(), TursoStore::open(&path).await.unwrap());
    let learners = [1, 2].map(|number| LearnerId::new(uuid::Uuid::from_u128(number)));
    let writer = tokio::spawn(async move {
        for round in 1..=300 {
            let mark = |learner| Record::Watermark(Watermark { learner, position: Version(round) });
            let batch = learners.into_iter().map(mark).fold(Batch::new(), Batch::put);
            one.commit(&batch.as_derivable()).await.unwrap();
        }
    });
    let keys = learners.map(Key::Watermark);
    while !writer.is_finished() {
        let stored = two.get(&keys).await.unwrap();
        let positions = stored.into_iter().map(|stored| match stored.map(|stored| stored.record) {
            Some(Record::Watermark(watermark)) => watermark.position.0,
            _ => 0,
        });
        let positions: Vec<u64> = positions.collect();
        assert_eq!(positions[0], positions[1]);
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_file_can_be_opened_by_many_at_once() {
    for _ in 0..10 {
        let (_folder, path) = place();
        let opened: Vec<_> = (0..6)
            .map(|number| {
                let path = path.clone();
                tokio::spawn(async move {
                    let store = TursoStore::open(&path).await.unwrap();
                    put(&store, simple(number, "first")).await;
                    store
                })
            })
            .collect();
        let mut stores = Vec::new();
        for store in opened {
            stores.push(store.await.unwrap());
        }
        assert_eq!(stores[0].health().await.unwrap().episodes, 6);
        assert_eq!(crate::common::number(&path, "SELECT count(*) FROM migrations").await, 1);
    }
}

#[tokio::test]
async fn waiting_too_long_for_another_writer_is_temporary() {
    let (_folder, path) = place();
    let config = TursoConfig::default().with_busy_timeout(Duration::from_millis(50));
    let store = TursoStore::open_with(&path, config).await.unwrap();
    let other = libsql::Builder::new_local(&path).build().await.unwrap().connect().unwrap();
    other.execute("BEGIN IMMEDIATE", ()).await.unwrap();
    other.execute("UPDATE state SET version = 7", ()).await.unwrap();
    let batch = Batch::new().put(simple(1, "patient"));
    let error = store.commit(&batch).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.is_temporary(), "{error}");
    assert_eq!(TursoStore::open_with(&path, config).await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(store.health().await.unwrap().version, Version(0), "readers do not wait, and see what is committed");
    other.execute("COMMIT", ()).await.unwrap();
    assert_eq!(store.commit(&batch).await.unwrap().version, Version(8));
}

/// Commits episodes with the numbers from `FIRST` on, as many as `COUNT` says or until killed, and prints each.
async fn commit_in_child() {
    let number = |name| std::env::var(name).unwrap().parse::<u128>().unwrap();
    let store = TursoStore::open(std::env::var_os("STORE").unwrap()).await.unwrap();
    for number in (number("FIRST")..).take(usize::try_from(number("COUNT")).unwrap()) {
        put(&store, simple(number, "from a child")).await;
        println!("committed {number}");
    }
}

#[tokio::test]
async fn processes_share_a_new_file() {
    if process::is_child() {
        return commit_in_child().await;
    }
    let (test, (_folder, path)) = ("sharing::processes_share_a_new_file", place());
    let children: Vec<Child> = ["0", "1000", "2000", "3000"]
        .map(|first| process::spawn(test, &[("STORE", path.to_str().unwrap()), ("FIRST", first), ("COUNT", "50")]))
        .into();
    for child in children {
        process::wait(test, child);
    }
    let store = TursoStore::open(&path).await.unwrap();
    let health = store.health().await.unwrap();
    assert_eq!((health.episodes, health.version), (200, Version(200)));
    let all = store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap();
    assert!(all.is_sorted_by(|a, b| a.version < b.version));
}

#[tokio::test]
async fn what_a_killed_process_had_acknowledged_is_there() {
    if process::is_child() {
        return commit_in_child().await;
    }
    let (_folder, path) = place();
    let variables = [("STORE", path.to_str().unwrap()), ("FIRST", "0"), ("COUNT", "1000000")];
    let mut child = process::spawn("sharing::what_a_killed_process_had_acknowledged_is_there", &variables);
    let mut committed = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .filter(|line| line.as_ref().unwrap().starts_with("committed"));
    assert_eq!(committed.by_ref().take(20).count(), 20);
    child.kill().unwrap();
    child.wait().unwrap();
    let acknowledged = 20 + committed.count() as u64;
    let store = TursoStore::open(&path).await.unwrap();
    let episodes = store.health().await.unwrap().episodes;
    assert!((acknowledged..=acknowledged + 1).contains(&episodes), "{episodes} of {acknowledged}");
    assert_eq!(store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len() as u64, episodes);
    store.commit(&Batch::new().delete(Key::Episode(id(0)))).await.unwrap();
}
