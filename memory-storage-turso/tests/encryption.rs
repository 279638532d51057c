//! Encrypted files: what can be read of them without the key, and what happens with a wrong one.
#![cfg(feature = "encryption")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Backwards, episode, id, logged, moment, place, put, simple};
use memory_core::testkit::{process, samples};
use memory_core::{
    Error, ErrorKind, Key, Memory, MemoryStore, MemoryStoreExt, NewNote, Outcome, RecordKind, Recording, Scan, Scope,
    Search, Step, Task,
};
use memory_storage_turso::{EncryptionKey, TenantFolder, Tenants, TursoConfig, TursoStore};

/// A word that stands in episodes and notes, and nowhere else.
const MARKER: &str = "Quetzalcoatl";

fn with_key(byte: u8) -> TursoConfig {
    TursoConfig::default().with_encryption_key(EncryptionKey::new([byte; 32]))
}

async fn open(path: &Path, config: TursoConfig) -> TursoStore {
    TursoStore::open_with(path, config).await.unwrap()
}

mod contract {
    memory_core::contract_tests!(async || {
        let (folder, path) = super::place();
        (super::open(&path, super::with_key(1)).await, folder)
    });
}

mod invariants {
    memory_core::invariant_tests!(24, async || {
        let (folder, path) = super::place();
        (super::open(&path, super::with_key(1)).await, folder)
    });
}

/// The bytes of each file of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = folder.read_dir().unwrap().map(|file| file.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

/// The files of a folder in which a text stands.
fn with_text(folder: &Path, text: &str) -> Vec<String> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    files(folder).into_iter().filter(|(_, bytes)| holds(bytes)).map(|(name, _)| name).collect()
}

/// Records and learns, and looks for a text in all files: while the store is open, and after it was closed.
async fn readable(config: TursoConfig, text: &str) -> [Vec<String>; 2] {
    let (folder, path) = place();
    let store = open(&path, config).await;
    let memory = Memory::builder().store(store.clone()).build().await.unwrap();
    for number in 0..20 {
        let task = Task::new(format!("{MARKER} {number}")).domain("web");
        let steps = [Step::new("grep").input(MARKER).ok("found")];
        memory.record(Recording::new(task, Outcome::success(MARKER)).steps(steps)).await.unwrap();
        memory.remember(NewNote::new(format!("{MARKER} said {number}"))).await.unwrap();
    }
    memory.project().await.unwrap();
    assert!(!memory.recall(&Task::new(MARKER), 5).await.unwrap().episodes.is_empty());
    store.backup(folder.path().join("backup.db")).await.unwrap();
    let open = with_text(folder.path(), text);
    store.vacuum().await.unwrap();
    memory.close().await.unwrap();
    [open, with_text(folder.path(), text)]
}

#[tokio::test]
async fn nothing_of_the_text_stands_in_any_file() {
    // What the index holds is in small letters.
    for text in [MARKER, "SQLite format", "quetzalcoatl", "CREATE TABLE"] {
        assert_eq!(readable(with_key(1), text).await, [[""; 0], [""; 0]], "{text}");
        let [open, closed] = readable(TursoConfig::default(), text).await;
        assert!(open.contains(&"backup.db".to_owned()), "{text} is not found without encryption: {open:?}");
        assert!(text.starts_with("SQLite") || open.contains(&"memory.db-wal".to_owned()), "{text}: {open:?}");
        assert_eq!(closed, ["backup.db", "memory.db"], "{text}");
    }
}

#[tokio::test]
async fn another_process_reads_it_with_the_key_and_nobody_without() {
    let test = "another_process_reads_it_with_the_key_and_nobody_without";
    if process::is_child() {
        let store = open(std::env::var("STORE").unwrap().as_ref(), with_key(1)).await;
        let episodes = store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len();
        put(&store, simple(u128::try_from(episodes).unwrap(), MARKER)).await;
        // As one that is killed: its log stays beside the file.
        std::mem::forget(store);
        return;
    }
    let (folder, path) = place();
    for children in 1..=3 {
        process::run(test, &[("STORE", path.to_str().unwrap())]);
        let before = files(folder.path());
        assert!(before["memory.db-wal"].len() > 4_096);
        for (config, why) in [(TursoConfig::default(), "needs its key"), (with_key(2), "another key")] {
            assert_refused(&TursoStore::open_with(&path, config).await.unwrap_err(), why);
            assert_refused(&TursoStore::plan_with(&path, config).await.unwrap_err(), why);
            let mut after = files(folder.path());
            // It holds nothing but which pages of the log are used, and whoever reads makes it anew.
            after.insert("memory.db-shm".to_owned(), before["memory.db-shm"].clone());
            assert!(before == after, "something was changed: {config:?}");
        }
        let store = open(&path, with_key(1)).await;
        assert_eq!(store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len(), children);
        let found = store.search(&Search::new(Scope::default()).text(MARKER)).await.unwrap();
        assert_eq!(found.len(), children);
        assert_eq!(store.check().await.unwrap(), [""; 0]);
        store.close().await.unwrap();
    }
}

fn assert_refused(error: &Error, text: &str) {
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn a_wrong_key_is_refused_while_others_write() {
    let (_folder, path) = place();
    let store = open(&path, with_key(1)).await;
    for number in 0..20 {
        put(&store, simple(number, MARKER)).await;
        for config in [with_key(2), TursoConfig::default()] {
            assert_eq!(TursoStore::open_with(&path, config).await.unwrap_err().kind(), ErrorKind::Foreign);
        }
        let other = open(&path, with_key(1)).await;
        assert!(other.get_one(Key::Episode(id(number))).await.unwrap().is_some());
        other.close().await.unwrap();
    }
    assert_eq!(store.check().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_file_that_is_not_encrypted_is_refused_with_a_key() {
    let (folder, path) = place();
    let store = open(&path, TursoConfig::default()).await;
    put(&store, simple(1, MARKER)).await;
    let text = "not encrypted, and a key was given";
    assert_refused(&TursoStore::open_with(&path, with_key(1)).await.unwrap_err(), text);
    // The locks of the store that is open have outlived that.
    put(&store, simple(2, MARKER)).await;
    store.close().await.unwrap();
    let before = files(folder.path());
    assert_refused(&TursoStore::open_with(&path, with_key(1)).await.unwrap_err(), text);
    assert!(before == files(folder.path()), "a key has changed something");
    let store = open(&path, TursoConfig::default()).await;
    assert_eq!(store.health().await.unwrap().episodes, 2);
}

#[tokio::test]
async fn a_backup_has_the_key_of_its_store() {
    let (folder, path) = place();
    let [backup, to] = ["backup.db", "restored.db"].map(|name| folder.path().join(name));
    let store = open(&path, with_key(1)).await;
    put(&store, simple(1, MARKER)).await;
    let made = store.backup(&backup).await.unwrap();
    assert_eq!(made.bytes, backup.metadata().unwrap().len());
    assert_refused(&TursoStore::restore(&backup, &to).await.unwrap_err(), "needs its key");
    assert_refused(&TursoStore::restore_with(&backup, &to, with_key(2)).await.unwrap_err(), "another key");
    assert_refused(&TursoStore::plan(&path).await.unwrap_err(), "needs its key");
    assert_eq!(TursoStore::plan_with(&path, with_key(1)).await.unwrap().backup, None);
    assert!(!to.exists());
    assert_eq!(TursoStore::restore_with(&backup, &to, with_key(1)).await.unwrap(), made);
    let restored = open(&to, with_key(1)).await;
    let get = async |store: &TursoStore| store.get_one(Key::Episode(id(1))).await.unwrap().unwrap();
    assert_eq!(get(&restored).await, get(&store).await);
}

#[tokio::test]
async fn vectors_are_replaced_by_those_of_a_copy_with_the_same_key() {
    let (folder, path) = place();
    let [same, other] = ["same.db", "other.db"].map(|name| folder.path().join(name));
    let memory = Memory::builder().store(open(&path, with_key(1)).await).build().await.unwrap();
    memory.record(Recording::new(Task::new(MARKER), Outcome::success("done"))).await.unwrap();
    for (copy, key) in [(&same, 1), (&other, 2)] {
        let copy = open(copy, with_key(key)).await;
        memory.reembed(copy.clone(), Backwards::default()).await.unwrap();
        copy.close().await.unwrap();
    }
    memory.close().await.unwrap();
    assert_refused(&TursoStore::replace_vectors(&path, &same).await.unwrap_err(), "needs its key");
    assert_refused(&TursoStore::replace_vectors_with(&path, &other, with_key(1)).await.unwrap_err(), "another key");
    let replaced = TursoStore::replace_vectors_with(&path, &same, with_key(1)).await.unwrap();
    assert_eq!(replaced.vectors, 1);
    assert_eq!(with_text(folder.path(), MARKER), [""; 0]);
    let store = open(&path, with_key(1)).await;
    assert_eq!(store.check().await.unwrap(), [""; 0]);
    let memory = Memory::builder().store(store).embedder(Backwards::default()).build().await.unwrap();
    assert_eq!(memory.recall(&Task::new(MARKER), 5).await.unwrap().episodes.len(), 1);
}

#[tokio::test]
async fn the_key_stands_in_no_message() {
    let (_folder, path) = place();
    let store = open(&path, with_key(0xAB)).await;
    let shown = format!("{:?} {store:?} {store}", with_key(0xAB));
    let error = TursoStore::open_with(&path, with_key(0xAC)).await.unwrap_err();
    for text in [shown, format!("{error} {error:?}")] {
        let text = text.to_lowercase();
        assert!(!["171", "abab", "172", "acac"].iter().any(|part| text.contains(part)), "{text}");
    }
}

#[tokio::test]
async fn each_tenant_may_have_a_key_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let [acme, unknown] = ["acme", "unknown"].map(samples::scope);
    let config = |tenant: &str| match tenant {
        "unknown" => Err(Error::new(ErrorKind::NotFound, "there is no key of this tenant")),
        name => Ok(with_key(name.as_bytes()[0])),
    };
    let tenants = Tenants::new(TenantFolder::with_settings(folder.path(), config), 8).unwrap();
    let task = episode(1, &acme, Task::new("a task"), Outcome::success("done"), moment(0));
    put(&tenants.store(&acme).await.unwrap(), logged(task, None)).await;
    let error = tenants.store(&unknown).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("no key"), "{error}");
    tenants.close().await.unwrap();
    let file = tenants.place().file(&acme);
    let error = TursoStore::open_with(&file, config("other").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    let store = open(&file, config("acme").unwrap()).await;
    assert!(store.get_one(Key::Episode(id(1))).await.unwrap().is_some());
}

#[cfg(feature = "remote")]
#[tokio::test]
async fn the_database_of_a_server_takes_no_key() {
    let config = memory_storage_turso::RemoteConfig::default().with_store(with_key(1));
    let error = TursoStore::open_remote("http://127.0.0.1:1", config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("encryption_key is EncryptionKey(…); allowed: unset"), "{error}");
}
