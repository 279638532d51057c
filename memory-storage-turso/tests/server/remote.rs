//! A store over a server: what it does when the server or the way there fails, and what its calls cost.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::sqld::{Sqld, Wire};
use crate::common::{
    Backwards, Dice, assert_sound, episode, fold, generated, generated_note, id, log, logged, moment, note_id, place,
    put, put_space, simple, sql, vector,
};
use memory_core::testkit::invariants::stored_patterns;
use memory_core::testkit::kills::{self, kills_from_env};
use memory_core::testkit::process;
use memory_core::{
    Batch, Durability, Episode, ErrorKind, HashEmbedder, Key, Memory, MemoryStore, MemoryStoreExt, Outcome, Record,
    RecordKind, Recording, Scan, Scope, Search, Step, Task, Version,
};
use memory_storage_turso::{RemoteConfig, TursoConfig, TursoStore};

/// Gives up soon.
fn impatient() -> RemoteConfig {
    RemoteConfig::default().with_attempts(2).with_backoff(Duration::from_millis(1)).with_timeout(Duration::from_secs(5))
}

async fn open(server: &Sqld) -> TursoStore {
    TursoStore::open_remote(&server.url(), impatient()).await.unwrap()
}

async fn refused(url: &str, config: RemoteConfig) -> memory_core::Error {
    TursoStore::open_remote(url, config).await.unwrap_err()
}

#[tokio::test]
async fn settings_and_addresses_are_checked_before_anything_is_sent() {
    let url = "http://127.0.0.1:1";
    for (url, config, text) in [
        (url, RemoteConfig::default().with_timeout(Duration::ZERO), "timeout is 0ns; allowed: 100ms..=3600s"),
        (url, RemoteConfig::default().with_attempts(0), "attempts is 0; allowed: 1..=100"),
        (url, RemoteConfig::default().with_backoff(Duration::ZERO), "backoff is 0ns; allowed: 1ms..=60s"),
        (url, RemoteConfig::default().with_store(TursoConfig::default().with_readers(0)), "readers is 0"),
        (url, RemoteConfig::default().with_store(TursoConfig::default().with_max_bytes(1 << 20)), "max_bytes is"),
        ("ftp://host", RemoteConfig::default(), "url is one that begins with ftp://"),
        #[cfg(not(feature = "tls"))]
        ("libsql://db.turso.io", RemoteConfig::default(), "without the feature `tls`"),
    ] {
        let error = refused(url, config).await;
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_soon_and_as_temporary() {
    let begun = Instant::now();
    let error = refused("http://127.0.0.1:1", impatient()).await;
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:1"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

/// A server that says this to whatever it is asked, and closes; nothing if it is none.
fn liar(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for mut client in listener.incoming().flatten() {
            match answer {
                None => silent.push(client),
                Some(answer) => {
                    let _ = client.read(&mut [0; 4096]);
                    let _ = client.write_all(answer.as_bytes());
                }
            }
        }
    });
    url
}

#[tokio::test]
async fn what_is_no_libsql_server_is_an_error_and_never_a_panic() {
    for answer in [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<html",
        "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"baton\":",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"baton\":null}",
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"baton\":null}\n{\"type\":\"row\",\"row\":[]}\n           ",
        "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n{\"baton\":null}\n{\"type\":\"step_error\",\"step\":99,\"error\":{\"message\":\"\",\"code\":\"\"}}",
        "HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
    ] {
        let error = refused(&liar(Some(answer)), impatient()).await;
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Io), "{answer:?}: {error}");
    }
    let begun = Instant::now();
    let error = refused(&liar(None), impatient().with_timeout(Duration::from_millis(200))).await;
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "it waits for ever");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_server_without_tls_is_an_error_over_https() {
    let Some(server) = Sqld::start() else { return };
    let error = refused(&server.url().replace("http:", "https:"), impatient()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn databases_of_others_are_left_alone() {
    let Some(server) = Sqld::start() else { return };
    server.sql(&["CREATE TABLE pilots (name TEXT)"]);
    let error = refused(&server.url(), impatient()).await;
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
    assert!(server.sql(&["SELECT count(*) FROM sqlite_schema"]).contains(r#""value":"1""#));

    let Some(server) = Sqld::start() else { return };
    open(&server).await.close().await.unwrap();
    server.sql(&["INSERT INTO migrations VALUES (99, 'future', 'x', 0)"]);
    let error = refused(&server.url(), impatient()).await;
    assert_eq!(error.kind(), ErrorKind::SchemaTooNew, "{error}");
    server.sql(&["DELETE FROM migrations WHERE version = 99", "DROP TABLE vectors"]);
    let error = refused(&server.url(), impatient()).await;
    assert_eq!(error.kind(), ErrorKind::SchemaEdited, "{error}");
}

#[tokio::test]
async fn a_store_outlives_its_server() {
    let Some(mut server) = Sqld::start() else { return };
    let store = open(&server).await;
    put(&store, simple(1, "before")).await;
    server.kill();
    let batch = Batch::new().put(simple(2, "meanwhile"));
    let search = Search::new(Scope::default()).k(3).text("before");
    for error in [
        store.get_one(Key::Episode(id(1))).await.unwrap_err(),
        store.commit(&batch).await.unwrap_err(),
        store.scan(&Scan::new(RecordKind::Episode)).await.unwrap_err(),
        store.search(&search).await.unwrap_err(),
        store.changes(Version(0), 10).await.unwrap_err(),
        store.health().await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
    }
    server.restart();
    assert!(store.get_one(Key::Episode(id(1))).await.unwrap().is_some());
    store.commit(&batch).await.unwrap();
    assert_eq!(store.search(&search).await.unwrap().len(), 1);
    assert_eq!(store.health().await.unwrap().episodes, 2);
    store.close().await.unwrap();
}

/// The address of a way that loses answers, and a store at its end.
async fn over(server: &Sqld) -> (Wire, TursoStore) {
    let wire = Wire::to(server);
    let config = RemoteConfig::default().with_backoff(Duration::from_millis(1));
    let store = TursoStore::open_remote(&wire.url(), config).await.unwrap();
    (wire, store)
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_made_once_and_answered() {
    let Some(server) = Sqld::start() else { return };
    let (wire, store) = over(&server).await;
    put(&store, simple(1, "first")).await;
    for lost in 1..=4 {
        let key = Key::Episode(id(10 + lost));
        let before = store.health().await.unwrap();
        let batch = Batch::new().require_absent(key.clone()).put(simple(10 + lost, "once"));
        wire.lose(usize::try_from(lost).unwrap());
        let commit = store.commit(&batch).await.unwrap();
        assert_eq!((commit.version.0, commit.durability), (before.version.0 + 1, Durability::Durable));
        assert_eq!(wire.left_to_lose(), 0, "the answers were lost");
        assert_eq!(store.get_one(key).await.unwrap().unwrap().version, commit.version);
        assert_eq!(store.health().await.unwrap().episodes, before.episodes + 1);
        // A second one is another commit.
        assert_eq!(store.commit(&batch).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    // A refusal whose answer was lost is a refusal again.
    let refused = Batch::new().require_absent(Key::Episode(id(1))).put(simple(1, "again"));
    wire.lose(1);
    assert!(store.commit(&refused).await.unwrap_err().to_string().contains("the record is at version 1"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn reads_whose_answers_are_lost_are_asked_again() {
    let Some(server) = Sqld::start() else { return };
    let (wire, store) = over(&server).await;
    put(&store, simple(1, "find me")).await;
    wire.lose(2);
    assert!(store.get_one(Key::Episode(id(1))).await.unwrap().is_some());
    wire.lose(2);
    assert_eq!(store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len(), 1);
    wire.lose(1);
    assert_eq!(store.search(&Search::new(Scope::default()).k(3).text("find")).await.unwrap().len(), 1);
    assert_eq!(wire.left_to_lose(), 0);
    // When all answers are lost, the outcome is unknown, and the caller is told so.
    wire.lose(usize::MAX);
    let error = store.commit(&Batch::new().put(simple(2, "unknown"))).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
    wire.lose(0);
    assert!(store.get_one(Key::Episode(id(2))).await.unwrap().is_some(), "it was written");
}

fn recording(number: u128) -> Recording {
    let task = Task::new(format!("fix bug {number} of the parser"));
    let steps = [Step::new("grep").input(format!("{number}")).ok("found"), Step::new("cargo test").error("E0425")];
    let mut recording = Recording::new(task, Outcome::success("done")).steps(steps);
    recording.id = Some(id(number));
    recording
}

/// Records numbers from `FIRST` on until killed, each again as long as it fails for a time; prints those acknowledged.
async fn record_until_killed() {
    let [url, first] = ["STORE", "FIRST"].map(|name| std::env::var(name).unwrap());
    let store = TursoStore::open_remote(&url, impatient()).await.unwrap();
    let memory = Memory::builder().store(store).build().await.unwrap();
    let mut number = first.parse().unwrap();
    loop {
        match memory.record(recording(number)).await {
            Ok(_) => {
                println!("done {number}");
                number += 1;
            }
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
    }
}

/// A process that records until it is killed, and what reads, and counts, what it says is acknowledged.
fn recorder(test: &str, url: &str, first: u128, done: &Arc<AtomicUsize>) -> (Child, JoinHandle<BTreeSet<u128>>) {
    let mut child = process::spawn(test, &[("STORE", url), ("FIRST", &first.to_string())]);
    let (output, done) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(done));
    let read = move || {
        let numbers = output
            .lines()
            .map(Result::unwrap)
            .filter_map(|line| line.strip_prefix("done ").map(|number| number.parse().unwrap()));
        let count = |_: &u128| {
            done.fetch_add(1, Ordering::SeqCst);
        };
        numbers.inspect(count).collect()
    };
    (child, std::thread::spawn(read))
}

/// Kills the server again and again while so many processes record, and these at the end.
async fn nothing_is_lost_or_counts_twice(test: &str, writers: usize) {
    if process::is_child() {
        return record_until_killed().await;
    }
    let Some(mut server) = Sqld::start() else { return };
    open(&server).await.close().await.unwrap(); // Here is the schema made.
    let (done, kills, mut dice) = (Arc::new(AtomicUsize::new(0)), kills_from_env(100), Dice::new(5));
    let first = |writer: usize| 1_000_000 * (1 + writer as u128);
    let children: Vec<_> = (0..writers).map(|one| recorder(test, &server.url(), first(one), &done)).collect();
    for kill in 0..kills {
        let (before, begun) = (done.load(Ordering::SeqCst), Instant::now());
        while done.load(Ordering::SeqCst) < before + 3 {
            assert!(begun.elapsed() < Duration::from_secs(30), "nothing is recorded after {kill} kills");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(dice.roll(10_000) as u64)).await;
        server.kill();
        server.restart();
    }
    let mut acknowledged = BTreeSet::new();
    for (mut child, reading) in children {
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it failed by itself");
        acknowledged.extend(reading.join().unwrap());
    }

    let store = open(&server).await;
    let memory = Memory::builder().store(store.clone()).build().await.unwrap();
    memory.project().await.unwrap();
    let log = log(&store).await;
    let ids: BTreeSet<_> = log.iter().map(|(_, episode)| episode.id).collect();
    assert_eq!(ids.len(), log.len(), "no episode is there twice");
    for number in &acknowledged {
        assert!(ids.contains(&id(*number)), "{number} was acknowledged");
    }
    // Each writer may have one more that it was not told of.
    assert!(log.len() <= acknowledged.len() + writers, "{} of {}", log.len(), acknowledged.len());
    let episodes: Vec<Arc<Episode>> = log.into_iter().map(|(_, episode)| episode).collect();
    assert_eq!(stored_patterns(&store).await, fold(&episodes), "all evidence counts once");
    assert_eq!(store.health().await.unwrap().episodes, episodes.len() as u64);
    let hits = store.search(&Search::new(Scope::default()).k(100).text("parser")).await.unwrap();
    assert_eq!(hits.len(), episodes.len().min(100));
    println!("{} acknowledged by {writers} processes over {kills} kills", acknowledged.len());
    memory.close().await.unwrap();
    assert_server_sound(server).await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed_and_nothing_counts_twice() {
    let test = "remote::nothing_acknowledged_is_lost_when_the_server_is_killed_and_nothing_counts_twice";
    nothing_is_lost_or_counts_twice(test, 1).await;
}

#[tokio::test]
async fn nothing_acknowledged_by_two_processes_is_lost_when_the_server_is_killed() {
    let test = "remote::nothing_acknowledged_by_two_processes_is_lost_when_the_server_is_killed";
    nothing_is_lost_or_counts_twice(test, 2).await;
}

/// The processes are killed, and the server goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_can_be_killed_while_they_record_over_a_server() {
    let test = "remote::two_processes_can_be_killed_while_they_record_over_a_server";
    let open_url =
        async |url: &Path| TursoStore::open_remote(url.to_str().unwrap(), RemoteConfig::default()).await.unwrap();
    let kill = async |url: &Path| {
        let kills = kills_from_env(40);
        kills::two_processes_can_be_killed_while_they_record_and_learn(test, url, kills, open_url, async |_| {}).await;
    };
    if process::is_child() {
        return kill(Path::new("")).await;
    }
    let Some(server) = Sqld::start() else { return };
    kill(Path::new(&server.url())).await;
    assert_server_sound(server).await;
}

const TWO_PROCESSES: &str = "remote::two_processes_share_a_server";

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_a_server() {
    let record = async |url: String, first: u128| {
        let store = TursoStore::open_remote(&url, RemoteConfig::default()).await.unwrap();
        let memory = Memory::builder().store(store.clone()).build().await.unwrap();
        for number in first..first + 40 {
            memory.record(recording(number)).await.unwrap();
            if number % 7 == 0 {
                let _ = memory.project().await;
            }
        }
        memory.close().await.unwrap();
    };
    if process::is_child() {
        return record(std::env::var("STORE").unwrap(), 1_000).await;
    }
    let Some(server) = Sqld::start() else { return };
    let child = process::spawn(TWO_PROCESSES, &[("STORE", &server.url())]);
    record(server.url(), 2_000).await;
    process::wait(TWO_PROCESSES, child);
    let store = open(&server).await;
    let memory = Memory::builder().store(store.clone()).build().await.unwrap();
    memory.project().await.unwrap();
    let episodes: Vec<Arc<Episode>> = log(&store).await.into_iter().map(|(_, episode)| episode).collect();
    assert_eq!(episodes.len(), 80);
    assert_eq!(stored_patterns(&store).await, fold(&episodes));
    assert_eq!(store.search(&Search::new(Scope::default()).k(100).text("parser bug")).await.unwrap().len(), 80);
}

/// Of a key pair made for this test: the public key, a token that expired in 2023, one that ends in 2200, one that only reads.
const JWT_KEY: &str = "JasE0R6LbwRJT-97zm6Aie77gWi1IoMJg-2tMybEn-w";
const EXPIRED: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJhIjoicnciLCJleHAiOjE3MDAwMDAwMDB9.08WJyqGhUdyalkFZnSDPmo3XLFDlDQ44ab_8qq56CdpfqzBy21kn1IgEwWDh0fI5UvC6_A2GwEF6htP3MHecAQ";
const VALID: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJhIjoicnciLCJleHAiOjcyNTgxMTg0MDB9.0X65VfXjgjahASU-tpGAMwFkjGQ8NNWAnZ1xfhpQOyTppVJ3AgLFNX7DKLS4t3lgLAC5BLleew95plZ6VbIUBg";
const READS: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJhIjoicm8iLCJleHAiOjcyNTgxMTg0MDB9.vl6Z3pHSFmNR0RdW5nOde2xJDbaUW2jtyJ2u2MnpAJ4lfX75pKwbHiEqk3uimINhaVcztWXsRTPUmn3_oXW9Dg";

#[tokio::test]
async fn an_expired_token_is_replaced_and_no_token_is_ever_shown() {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), JWT_KEY).unwrap();
    let Some(server) = Sqld::start_with(&["--auth-jwt-key-file", key.path().to_str().unwrap()]) else { return };
    let shown = |error: &memory_core::Error| format!("{error} {error:?}");
    for config in [impatient(), impatient().with_token(EXPIRED), impatient().with_token("x.y.z")] {
        let error = refused(&server.url(), config).await;
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, false), "{error}");
        assert!(error.to_string().contains("refuses the token"), "{error}");
        assert!(!shown(&error).contains(EXPIRED) && !shown(&error).contains("x.y.z"), "{error:?}");
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let source = move || Ok(if count.fetch_add(1, Ordering::SeqCst) == 0 { EXPIRED } else { VALID }.to_owned());
    let store = TursoStore::open_remote(&server.url(), impatient().with_token_source(source)).await.unwrap();
    put(&store, simple(1, "with a new token")).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2, "asked once at first, and once when that was refused");
    assert!(!format!("{store:?}").contains(VALID));

    let reader = TursoStore::open_remote(&server.url(), impatient().with_token(READS)).await.unwrap();
    assert!(reader.get_one(Key::Episode(id(1))).await.unwrap().is_some());
    let error = reader.commit(&Batch::new().put(simple(2, "not allowed"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");

    let failing = || Err(memory_core::Error::new(ErrorKind::Io, "the vault is closed"));
    let error = refused(&server.url(), impatient().with_token_source(failing)).await;
    assert!(error.to_string().contains("the vault is closed"), "{error}");
}

#[tokio::test]
async fn what_a_server_cannot_hold_is_refused_and_what_it_can_is_kept() {
    let Some(server) = Sqld::start() else { return };
    let store = open(&server).await;
    let of_size = |number: u128, bytes: usize, piece: &str| {
        let Record::Episode(mut logged) = simple(number, "large") else { unreachable!() };
        let episode = Arc::make_mut(&mut logged.episode);
        let rest = bytes - serde_json::to_string(&*episode).unwrap().len();
        episode.steps[0].observation.push_str(&piece.repeat(rest / piece.len()));
        Record::Episode(logged)
    };
    let error = store.commit(&Batch::new().put(of_size(1, 4_100_000, "x"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("encoded record is 41000") && error.to_string().contains("4000000"), "{error}");
    // Others in the same moment are not touched by it.
    let (large, small) = (Batch::new().put(of_size(2, 3_900_000, "x")), Batch::new().put(simple(3, "small")));
    let too_large = Batch::new().put(of_size(4, 4_100_000, "x"));
    let (large, small, too_large) = tokio::join!(store.commit(&large), store.commit(&small), store.commit(&too_large));
    assert_eq!((large.is_ok(), small.is_ok(), too_large.is_ok()), (true, true, false));
    let stored = store.get_one(Key::Episode(id(2))).await.unwrap().unwrap();
    assert_eq!(stored.record, of_size(2, 3_900_000, "x"));
    assert_eq!(store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len(), 2);
    assert_eq!(store.search(&Search::new(Scope::default()).k(5).text("large")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_follows_the_log_is_sound_after_replacing_and_deleting() {
    let Some(server) = Sqld::start() else { return };
    let (store, mut dice) = (open(&server).await, Dice::new(7));
    put_space(&store).await;
    for turn in 0..60 {
        let mut batch = Batch::new();
        for _ in 0..1 + dice.roll(5) {
            let number = dice.roll(40) as u128;
            batch = match dice.roll(5) {
                0 => batch.delete(Key::Episode(id(number))),
                1 => batch.delete(Key::Note(note_id(number))),
                2 => batch.put(generated_note(number, &mut dice).await),
                _ => batch.put(generated(number, &mut dice).await),
            };
        }
        store.commit(&batch).await.unwrap();
        // What is taken in, and what is not yet, is replaced and deleted.
        if turn % 3 == 0 {
            store.search(&Search::new(Scope::default()).text("login")).await.unwrap();
        }
    }
    store.close().await.unwrap();
    assert_server_sound(server).await;
}

/// Checks the server's file as one of this library, which it is but for the number in its header.
async fn assert_server_sound(mut server: Sqld) {
    server.kill();
    sql(&server.file(), &format!("PRAGMA application_id = {}", 0x4B6E_4877)).await;
    assert_sound(&server.file()).await;
}

/// The row by which it was known was once deleted before it, so that it stayed.
#[tokio::test]
async fn a_scope_goes_with_the_last_of_its_records() {
    let Some(server) = Sqld::start() else { return };
    let store = open(&server).await;
    let of = |number: u128, tenant: &str| {
        let outcome = Outcome::success("done");
        let scope = Scope::new(tenant).unwrap();
        logged(episode(number, &scope, Task::new("a task"), outcome, moment(0)), None)
    };
    for (number, tenant) in [(1, "deleted"), (2, "replaced"), (3, "kept"), (4, "kept")] {
        put(&store, of(number, tenant)).await;
    }
    let search = Search::new(Scope::new("kept").unwrap()).k(9).text("task");
    assert_eq!(store.search(&search).await.unwrap().len(), 2);
    store.commit(&Batch::new().delete(Key::Episode(id(1))).delete(Key::Episode(id(3)))).await.unwrap();
    put(&store, of(2, "moved")).await;
    assert_eq!(store.search(&search).await.unwrap().len(), 1);
    store.close().await.unwrap();
    let scopes = server.sql(&["SELECT group_concat(scope) FROM (SELECT scope FROM scopes ORDER BY scope)"]);
    assert!(scopes.contains(r#""value":"kept,moved""#), "{scopes}");
    assert_server_sound(server).await;
}

#[tokio::test]
async fn pages_of_large_records_are_whole() {
    let Some(server) = Sqld::start() else { return };
    let store = open(&server).await;
    // Together far more than a server answers at once.
    for number in 0..12 {
        let Record::Episode(mut logged) = simple(number, "page") else { unreachable!() };
        Arc::make_mut(&mut logged.episode).steps[0].observation.push_str(&"z".repeat(2_000_000));
        put(&store, Record::Episode(logged)).await;
    }
    let keys: Vec<Key> = (0..12).map(|number| Key::Episode(id(number))).collect();
    assert_eq!(store.get(&keys).await.unwrap().iter().flatten().count(), 12);
    assert_eq!(store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len(), 12);
    let in_scope = Scan::new(RecordKind::Episode).scope(Scope::default());
    assert_eq!(store.scan_all(in_scope).await.unwrap().len(), 12);
    assert_eq!(store.search(&Search::new(Scope::default()).k(20).text("page")).await.unwrap().len(), 12);
}

#[tokio::test]
async fn calls_take_few_requests() {
    let Some(server) = Sqld::start() else { return };
    let config = RemoteConfig::default().with_store(TursoConfig::default().with_readers(1));
    let store = TursoStore::open_remote(&server.url(), config).await.unwrap();
    put_space(&store).await;
    for number in 0..300 {
        let task = format!("fix the {} test of module {number}", if number % 3 == 0 { "login" } else { "parser" });
        let Record::Episode(of) = simple(number, &task) else { unreachable!() };
        let Ok(episode) = Arc::try_unwrap(of.episode) else { unreachable!() };
        put(&store, logged(episode, Some(vector(&task).await))).await;
    }
    let by_both = Search::new(Scope::default())
        .k(10)
        .text("login test of module 77")
        .vector(Some(vector("login test of module 77").await));
    store.search(&by_both).await.unwrap();
    let mut settled = store.stats().requests;
    // The upkeep, and the ends of read transactions, go on beside the calls.
    let mut quiet = async || {
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let requests = store.stats().requests;
            if requests == std::mem::replace(&mut settled, requests) {
                return requests;
            }
        }
    };
    let mut most: Vec<(&str, u64, u64)> = Vec::new();
    macro_rules! count {
        ($what:literal, $most:literal, $call:expr) => {
            let before = quiet().await;
            $call;
            let counted = store.stats().requests - before;
            let mut times = Vec::new();
            for _ in 0..21 {
                let begun = Instant::now();
                $call;
                times.push(begun.elapsed());
            }
            times.sort();
            println!("{}: {counted} requests, {:?} (median of {})", $what, times[times.len() / 2], times.len());
            most.push(($what, $most, counted));
        };
    }
    let keys: Vec<Key> = (0..100).map(|number| Key::Episode(id(number))).collect();
    count!("get one", 1, store.get_one(keys[0].clone()).await.unwrap());
    count!("get a hundred", 1, store.get(&keys).await.unwrap());
    count!("scan a page", 1, store.scan(&Scan::new(RecordKind::Episode).limit(100)).await.unwrap());
    let in_scope = Scan::new(RecordKind::Episode).scope(Scope::default()).limit(100);
    count!("scan a page of a scope", 1, store.scan(&in_scope).await.unwrap());
    count!("feed", 1, store.changes(Version(0), 100).await.unwrap());
    let by_words = Search::new(Scope::default()).k(10).text("login module 77");
    count!("search by words", 6, store.search(&by_words).await.unwrap());
    count!("search by words and vector", 7, store.search(&by_both).await.unwrap());
    count!("health", 3, store.health().await.unwrap());
    // One more if the upkeep has noticed already.
    count!("commit", 2, put(&store, simple(1_000, "one more")).await);
    for (what, most, counted) in most {
        assert!(counted <= most, "{what}: {counted} requests");
    }
}

/// A memory moves from a file to a server, and on to another one, each time to another vector space.
#[tokio::test]
async fn a_memory_can_be_copied_to_a_server_and_from_one() {
    let (Some(server), Some(other)) = (Sqld::start(), Sqld::start()) else { return };
    let (_folder, path) = place();
    let memory = Memory::builder().store(TursoStore::open(&path).await.unwrap()).build().await.unwrap();
    for number in 0..150 {
        let done = Recording::new(Task::new(format!("fix the login of site {number}")), Outcome::success("done"));
        memory.record(done.id(id(number)).step(Step::new("grep").ok("here"))).await.unwrap();
    }
    memory.start(Task::new("fix the logout")).await.unwrap().step(Step::new("grep")).await.unwrap();
    let into = open(&server).await;
    memory.reembed(into.clone(), Backwards::default()).await.unwrap();
    memory.delete(id(3)).await.unwrap();
    let copied = memory.reembed(into.clone(), Backwards::default()).await.unwrap();
    assert_eq!((copied.episodes, copied.deleted), (0, 1));
    let moved = Memory::builder().store(into).embedder(Backwards::default()).build().await.unwrap();
    let copied = moved.reembed(open(&other).await, HashEmbedder::new()).await.unwrap();
    assert_eq!((copied.episodes, copied.open_episodes), (149, 1));
    let back = Memory::builder().store(open(&other).await).build().await.unwrap();
    for memory in [&moved, &back] {
        assert_eq!(memory.patterns().await.unwrap().len(), fold(episodes(&back).await.iter()).len());
        let found = memory.recall(&Task::new("fix the login of site 7"), 1).await.unwrap();
        assert_eq!(found.episodes[0].episode.id, id(7));
    }
    assert_eq!(episodes(&back).await, episodes(&memory).await);
}

async fn episodes(memory: &Memory) -> Vec<Arc<Episode>> {
    log(&**memory.store()).await.into_iter().map(|(_, episode)| episode).collect()
}
