//! A store over a local copy of a server's database: with the server away, behind it, and brought up to date.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::sqld::Sqld;
use crate::common::{fold, id, log, place, put, simple, sql};
use memory_core::testkit::invariants::stored_patterns;
use memory_core::{
    Batch, Episode, ErrorKind, Key, LearnerId, Memory, MemoryStore, MemoryStoreExt, Outcome, Record, RecordKind,
    Recording, Scan, Scope, Search, Step, Task, Version, Watermark,
};
use memory_storage_turso::{RemoteConfig, ReplicaConfig, TursoStore};

/// Gives up soon, and brings the copy up to date only when it must.
fn config() -> ReplicaConfig {
    let remote = RemoteConfig::default().with_attempts(2).with_backoff(Duration::from_millis(1));
    ReplicaConfig::default().with_remote(remote).with_interval(None)
}

/// As it comes, but for a machine that is slow.
fn patient() -> ReplicaConfig {
    ReplicaConfig::default().with_remote(RemoteConfig::default().with_timeout(Duration::from_secs(600)))
}

async fn open(path: &Path, server: &Sqld) -> TursoStore {
    TursoStore::open_replica(path, &server.url(), config()).await.unwrap()
}

async fn has(store: &TursoStore, number: u128) -> bool {
    store.get_one(Key::Episode(id(number))).await.unwrap().is_some()
}

async fn found(store: &TursoStore, text: &str) -> usize {
    store.search(&Search::new(Scope::default()).k(50).text(text)).await.unwrap().len()
}

#[tokio::test]
async fn what_a_store_wrote_it_reads_and_what_others_wrote_comes_with_a_sync() {
    let Some(server) = Sqld::start() else { return };
    let ((_one_folder, one), (_two_folder, two)) = (place(), place());
    let (one, two) = (open(&one, &server).await, open(&two, &server).await);
    for number in 1..=5 {
        let commit = put(&one, simple(number, "first writer")).await;
        let stored = one.get_one(Key::Episode(id(number))).await.unwrap().unwrap();
        assert_eq!(stored.version, commit.version, "it reads what it was told is written");
        assert_eq!(found(&one, "writer").await, usize::try_from(number).unwrap());
    }
    assert!(!has(&two, 5).await, "nobody has brought the other copy up to date");
    assert_eq!(two.sync().await.unwrap(), Version(5));
    assert!(has(&two, 5).await);
    assert_eq!(found(&two, "writer").await, 5);
    // Its own writes bring it up to date with those of the others.
    put(&one, simple(6, "first writer")).await;
    put(&two, simple(7, "second writer")).await;
    assert!(has(&two, 6).await && has(&two, 7).await);
    assert_eq!(two.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len(), 7);
    // So does a conflict, which says that what was read was old.
    let learner = LearnerId::new(uuid::Uuid::nil());
    let mark = |position| Record::Watermark(Watermark { learner, position: Version(position) });
    let version = put(&one, mark(1)).await.version;
    let batch = Batch::new().require_absent(Key::Watermark(learner)).put(mark(2));
    assert!(two.commit(&batch).await.unwrap_err().is_conflict());
    assert_eq!(two.get_one(Key::Watermark(learner)).await.unwrap().unwrap().version, version);
}

/// Searches gave up, as `Busy`: whatever they had indexed, the writer had meanwhile been told of more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_is_answered_however_quick_the_writers_are() {
    let Some(server) = Sqld::start() else { return };
    let (_folder, path) = place();
    let store = TursoStore::open_replica(&path, &server.url(), patient()).await.unwrap();
    let other = TursoStore::open_remote(&server.url(), RemoteConfig::default()).await.unwrap();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // The one goes on with new episodes, the other with the same few.
    let writers = [(store.clone(), 1_000_000), (other, 3)].map(|(store, numbers)| {
        let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
        tokio::spawn(async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                put(&store, simple(numbers + number % numbers, "quick")).await;
                written.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for number in 1..=5 {
        put(&store, simple(10 + number, &format!("slow number{number}"))).await;
        assert_eq!(found(&store, &format!("number{number}")).await, 1);
        let page = store.scan(&Scan::new(RecordKind::Episode).scope(Scope::default())).await.unwrap();
        assert!(!page.records.is_empty());
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    println!("{} commits beside 5 searches", written.load(Ordering::Relaxed));
}

/// Reads failed as `Unavailable`: a server that compacts its log has no snapshot yet for the copy to go on from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_though_the_server_compacts_its_log() {
    // After each MB, not 200 of them.
    let Some(server) = Sqld::start_with(&["--max-log-size", "1"]) else { return };
    let (_folder, path) = place();
    let store = TursoStore::open_replica(&path, &server.url(), patient()).await.unwrap();
    let mut syncs_refused = 0;
    for number in 1..=200 {
        put(&store, simple(number, &format!("number{number} {}", "long ".repeat(1_000)))).await;
        assert!(store.get_one(Key::Episode(id(number))).await.unwrap().is_some(), "{number}");
        assert_eq!(store.health().await.unwrap().episodes, u64::try_from(number).unwrap());
        assert_eq!(found(&store, &format!("number{number}")).await, 1);
        match store.sync().await {
            Ok(_) => {}
            Err(error) => {
                assert!(error.kind() == ErrorKind::Busy && error.is_temporary(), "{error}");
                syncs_refused += 1;
            }
        }
    }
    println!("{syncs_refused} of 200 syncs were refused");
}

#[tokio::test]
async fn the_status_moves() {
    let Some(mut server) = Sqld::start() else { return };
    let (_folder, path) = place();
    let store = open(&path, &server).await;
    let first = store.sync_status().unwrap();
    assert_eq!((first.version, first.syncs, first.last_error.clone()), (Version(0), 1, None));
    put(&store, simple(1, "one")).await;
    assert_eq!(store.sync().await.unwrap(), Version(1));
    let second = store.sync_status().unwrap();
    assert_eq!((second.version, second.syncs), (Version(1), 2));
    assert!(second.synced_at > first.synced_at);
    server.kill();
    let error = store.sync().await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
    let third = store.sync_status().unwrap();
    assert_eq!((third.version, third.synced_at), (second.version, second.synced_at));
    assert!(third.last_error.unwrap().contains(&server.url()));
    server.restart();
    assert_eq!(store.sync().await.unwrap(), Version(1));
    assert_eq!(store.sync_status().unwrap().last_error, None);
    let (_folder, local) = place();
    let local = TursoStore::open(&local).await.unwrap();
    assert_eq!((local.sync_status(), local.sync().await.unwrap_err().kind()), (None, ErrorKind::Invalid));
}

#[tokio::test]
async fn the_interval_brings_what_others_wrote() {
    let Some(server) = Sqld::start() else { return };
    let (_folder, path) = place();
    let config = config().with_interval(Some(Duration::from_millis(20)));
    let store = TursoStore::open_replica(&path, &server.url(), config).await.unwrap();
    let other = TursoStore::open_remote(&server.url(), RemoteConfig::default()).await.unwrap();
    put(&other, simple(1, "from elsewhere")).await;
    let begun = Instant::now();
    while !has(&store, 1).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never comes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn without_the_server_it_opens_and_reads_and_catches_up_later() {
    let Some(mut server) = Sqld::start() else { return };
    let (_folder, path) = place();
    let store = open(&path, &server).await;
    for number in 1..=20 {
        put(&store, simple(number, "kept at home")).await;
    }
    assert_eq!(found(&store, "home").await, 20);
    store.close().await.unwrap();
    server.kill();

    let store = open(&path, &server).await;
    assert!(has(&store, 20).await);
    assert_eq!(found(&store, "home").await, 20);
    assert_eq!(store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len(), 20);
    assert_eq!(store.health().await.unwrap().episodes, 20);
    let error = store.commit(&Batch::new().put(simple(21, "not now"))).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
    assert!(has(&store, 20).await, "reading goes on");

    server.restart();
    let other = TursoStore::open_remote(&server.url(), RemoteConfig::default()).await.unwrap();
    put(&other, simple(22, "written at home meanwhile")).await;
    store.sync().await.unwrap();
    assert!(has(&store, 22).await);
    assert_eq!(found(&store, "home").await, 21);
    put(&store, simple(23, "at home again")).await;
    assert_eq!(found(&store, "home").await, 22);
}

#[tokio::test]
async fn what_cannot_be_a_copy_is_refused() {
    let (_folder, path) = place();
    let error = TursoStore::open_replica(&path, "http://127.0.0.1:1", config()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
    let interval = config().with_interval(Some(Duration::ZERO));
    let error = TursoStore::open_replica(&path, "http://127.0.0.1:1", interval).await.unwrap_err();
    assert!(error.to_string().contains("interval is 0ns"), "{error}");
    #[cfg(not(feature = "tls"))]
    {
        let error = TursoStore::open_replica(&path, "libsql://db.turso.io", config()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let Some(server) = Sqld::start() else { return };
    // What did not become a copy for want of a server becomes one later.
    put(&open(&path, &server).await, simple(1, "at last")).await;
    let (_folder, path) = place();
    sql(&path, "CREATE TABLE pilots (name TEXT)").await;
    let error = TursoStore::open_replica(&path, &server.url(), config()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
    let (_folder, path) = place();
    drop(TursoStore::open(&path).await.unwrap());
    let error = TursoStore::open_replica(&path, &server.url(), config()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_learn_the_same() {
    let Some(server) = Sqld::start() else { return };
    let record = async |first: u128| {
        let (folder, path) = place();
        let store = open(&path, &server).await;
        let memory = Memory::builder().store(store.clone()).build().await.unwrap();
        for number in first..first + 25 {
            let steps =
                [Step::new("grep").input(format!("{number}")).ok("found"), Step::new("cargo test").error("E0425")];
            let recording = Recording::new(Task::new(format!("bug {number}")), Outcome::success("done")).steps(steps);
            memory.record(recording).await.unwrap();
            if number % 7 == 0 {
                let _ = memory.project().await;
            }
        }
        (memory, store, folder)
    };
    let ((one, store, _one_folder), (_two, other, _two_folder)) = tokio::join!(record(1_000), record(2_000));
    store.sync().await.unwrap();
    one.project().await.unwrap();
    let episodes: Vec<Arc<Episode>> = log(&store).await.into_iter().map(|(_, episode)| episode).collect();
    assert_eq!(episodes.len(), 50);
    other.sync().await.unwrap();
    for store in [&store, &other] {
        assert_eq!(stored_patterns(store).await, fold(&episodes));
        assert_eq!(found(store, "bug").await, 50);
    }
}

#[cfg(feature = "encryption")]
#[tokio::test]
async fn a_copy_may_be_encrypted() {
    let Some(server) = Sqld::start() else { return };
    let (folder, path) = place();
    let with_key = |byte| {
        let key = memory_storage_turso::EncryptionKey::new([byte; 32]);
        let remote = RemoteConfig::default().with_attempts(2);
        let store = memory_storage_turso::TursoConfig::default().with_encryption_key(key);
        ReplicaConfig::default().with_remote(remote.with_store(store)).with_interval(None)
    };
    for number in 1..=2 {
        let store = TursoStore::open_replica(&path, &server.url(), with_key(1)).await.unwrap();
        put(&store, simple(number, "Quetzalcoatl")).await;
        assert_eq!(found(&store, "quetzalcoatl").await, usize::try_from(number).unwrap());
        store.close().await.unwrap();
    }
    assert!(path.exists());
    for file in folder.path().read_dir().unwrap().map(|file| file.unwrap().path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(12).any(|part| part.eq_ignore_ascii_case(b"Quetzalcoatl")), "{file:?}");
    }
    for config in [with_key(2), config()] {
        let error = TursoStore::open_replica(&path, &server.url(), config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
        assert!(error.to_string().contains("not with this key"), "{error}");
    }
    let store = TursoStore::open_replica(&path, &server.url(), with_key(1)).await.unwrap();
    assert_eq!(found(&store, "quetzalcoatl").await, 2);
}
