//! A database for each tenant: kept apart, opened once, closed when others need the room, and removed.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use common::{episode, id, logged, moment, put};
use memory_core::testkit::{process, samples};
use memory_core::{
    Batch, Change, Changes, Commit, Error, ErrorKind, Hit, InMemoryStore, Key, Memory, MemoryStore, MemoryStoreExt,
    NewNote, OpenedEpisode, Outcome, Page, Record, RecordKind, Result, Scan, Scope, Search, StoreHealth, StoreInfo,
    Stored, StoredNote, Task, Version,
};
use memory_storage_turso::{TenantFolder, TenantPlace, TenantStore, Tenants, TursoConfig, TursoStore};
use tempfile::TempDir;

fn folder() -> (TempDir, Tenants) {
    let folder = tempfile::tempdir().unwrap();
    let tenants = Tenants::in_folder(folder.path(), TursoConfig::default()).unwrap();
    (folder, tenants)
}

/// At most so many open stores, in a folder.
fn few(most: usize) -> (TempDir, Tenants) {
    let folder = tempfile::tempdir().unwrap();
    let place = TenantFolder::new(folder.path(), TursoConfig::default());
    (folder, Tenants::new(place, most).unwrap())
}

fn scope(path: &str) -> Scope {
    samples::scope(path)
}

fn of(path: &str, number: u128) -> Record {
    logged(episode(number, &scope(path), Task::new("a task"), Outcome::success("done"), moment(0)), None)
}

async fn has(store: &dyn MemoryStore, number: u128) -> bool {
    store.get_one(Key::Episode(id(number))).await.unwrap().is_some()
}

fn refused<T: fmt::Debug>(done: Result<T>, kind: ErrorKind, text: &str) {
    let error = done.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

/// A tenant's store, and for what the contract asks about other tenants in the same store, the file itself.
#[derive(Debug)]
struct WithOthers(TenantStore, TursoStore);

impl WithOthers {
    fn of<'a>(&self, scopes: impl IntoIterator<Item = &'a Scope>) -> &dyn MemoryStore {
        let own = scopes.into_iter().all(|scope| scope.as_str().split('/').next() == Some(self.0.tenant()));
        if own { &self.0 } else { &self.1 }
    }
}

impl fmt::Display for WithOthers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl MemoryStore for WithOthers {
    fn info(&self) -> StoreInfo {
        self.0.info()
    }
    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        let scopes = batch.changes.iter().filter_map(|change| match change {
            Change::Put(record) => record.scope(),
            Change::Add(pattern) => Some(&pattern.scope),
            Change::Delete(_) => None,
        });
        self.of(scopes).commit(batch).await
    }
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        self.0.get(keys).await
    }
    async fn scan(&self, scan: &Scan) -> Result<Page> {
        self.of(&scan.scope).scan(scan).await
    }
    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        self.of([&search.scope]).search(search).await
    }
    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.0.changes(since, limit).await
    }
    async fn health(&self) -> Result<StoreHealth> {
        self.0.health().await
    }
    async fn close(&self) -> Result<()> {
        self.1.close().await?;
        self.0.close().await
    }
}

async fn with_others() -> (WithOthers, (Tenants, TempDir)) {
    let (folder, tenants) = folder();
    let store = tenants.store(&Scope::default()).await.unwrap();
    let file = TursoStore::open(tenants.place().file(&Scope::default())).await.unwrap();
    (WithOthers(store, file), (tenants, folder))
}

mod contract {
    memory_core::contract_tests!(super::with_others);
}

mod invariants {
    memory_core::invariant_tests!(24, super::with_others);
}

#[tokio::test]
async fn what_is_of_another_tenant_is_refused() {
    let (_folder, tenants) = folder();
    let acme = tenants.store(&scope("acme/coder")).await.unwrap();
    assert_eq!(acme.tenant(), "acme");
    for own in ["acme", "acme/coder", "acme/coder/s-1"] {
        put(&acme, of(own, 1)).await;
        assert_eq!(acme.scan_all(Scan::new(RecordKind::Episode).scope(scope(own))).await.unwrap().len(), 1);
    }
    for other in ["acme2", "Acme", "default", "acm", "acme2/coder", "coder/acme"] {
        let refused = |done| refused(done, ErrorKind::Invalid, &format!("scope is {other}; allowed: acme, and"));
        let open = Record::Open(OpenedEpisode { scope: scope(other), ..samples::open(2) });
        let mut note = samples::note(2, "a note");
        note.scope = scope(other);
        let note = Record::Note(StoredNote { note: note.into(), vector: None });
        for record in [of(other, 2), open, note, Record::Pattern(samples::pattern_in(&scope(other), 2))] {
            refused(acme.commit(&Batch::new().put(of("acme", 3)).put(record)).await.map(drop));
        }
        let add = Batch::new().require_absent(Key::Space).add_pattern(samples::pattern_in(&scope(other), 2));
        refused(acme.commit(&add).await.map(drop));
        refused(acme.scan(&Scan::new(RecordKind::Note).scope(scope(other))).await.map(drop));
        refused(acme.search(&Search::new(scope(other)).text("task")).await.map(drop));
    }
    assert!(!has(&acme, 3).await, "nothing of a batch that is refused is written");
    assert_eq!(acme.health().await.unwrap().version, Version(3));
}

#[tokio::test]
async fn tenants_share_nothing() {
    let (folder, tenants) = folder();
    for (number, tenant) in ["acme", "Acme", "..", "a:b", "con"].into_iter().enumerate() {
        let store = tenants.store(&scope(tenant)).await.unwrap();
        let memory = Memory::builder().store(store).scope(scope(tenant)).build().await.unwrap();
        memory.remember(NewNote::new(format!("the secret of {number}"))).await.unwrap();
    }
    assert_eq!(tenants.list().await.unwrap(), ["..", "Acme", "a:b", "acme", "con"]);
    for tenant in ["acme", "Acme", "..", "a:b", "con"] {
        let store = tenants.store(&scope(tenant)).await.unwrap();
        assert_eq!(store.scan_all(Scan::new(RecordKind::Note)).await.unwrap().len(), 1, "{tenant}");
        assert!(tenants.place().file(&scope(tenant)).starts_with(folder.path()));
        assert!(tenants.place().file(&scope(tenant)).is_file());
    }
    // An operator looks after a tenant's file while it is in use.
    let file = TursoStore::open(tenants.place().file(&scope("acme"))).await.unwrap();
    assert_eq!(file.check().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn the_one_used_longest_ago_makes_room_and_what_is_held_stays() {
    let (_folder, tenants) = few(2);
    let one = tenants.store(&scope("one")).await.unwrap();
    put(&one, of("one", 1)).await;
    drop(tenants.store(&scope("two")).await.unwrap());
    drop(tenants.store(&scope("three")).await.unwrap());
    assert!(has(&one, 1).await, "the one that is held is still open");
    let three = tenants.store(&scope("three")).await.unwrap();
    let stats = tenants.stats();
    assert_eq!((stats.open, stats.opened, stats.closed), (2, 3, 1), "the third is open still, the second not");
    let error = tenants.store(&scope("two")).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    refused(Err::<(), _>(error), ErrorKind::Overloaded, "2 stores of tenants are open and in use");
    // A clone holds it, too; one that is closed does not.
    let clone = one.clone();
    drop(one);
    refused(tenants.store(&scope("two")).await, ErrorKind::Overloaded, "in use");
    clone.close().await.unwrap();
    refused(clone.health().await, ErrorKind::Unavailable, "closed");
    drop(tenants.store(&scope("two")).await.unwrap());
    assert!(three.health().await.is_ok());
    // Of two that nobody holds, the one that was used last stays.
    let two = tenants.store(&scope("two")).await.unwrap();
    three.health().await.unwrap();
    two.health().await.unwrap();
    three.health().await.unwrap();
    drop((two, three));
    drop(tenants.store(&scope("one")).await.unwrap());
    let opened = tenants.stats().opened;
    let one = tenants.store(&scope("one")).await.unwrap();
    drop(tenants.store(&scope("three")).await.unwrap());
    assert_eq!(tenants.stats().opened, opened, "both were open");
    assert!(has(&one, 1).await, "what was written before it was closed is there");
}

#[tokio::test]
async fn only_a_sensible_number_may_be_open() {
    for most in [0, 10_001, usize::MAX] {
        let place = TenantFolder::new("nowhere", TursoConfig::default());
        let text = format!("most_open is {most}; allowed: 1..=10000");
        refused(Tenants::new(place, most), ErrorKind::Invalid, &text);
    }
    let none = TursoConfig::default().with_readers(0);
    refused(Tenants::in_folder("nowhere", none), ErrorKind::Invalid, "readers is 0");
    let tenants = Tenants::in_folder("no/such/folder", TursoConfig::default()).unwrap();
    refused(tenants.store(&scope("acme")).await, ErrorKind::Io, "no/such/folder");
    refused(tenants.list().await, ErrorKind::Io, "no/such/folder");
    assert_eq!((tenants.stats().open, tenants.stats().opened), (0, 0));
}

/// Stores in memory that count how many of a tenant are open at once, and that fail to open when told to.
#[derive(Debug, Default)]
struct Counted {
    opened: AtomicUsize,
    fails: AtomicUsize,
}

#[async_trait]
impl TenantPlace for Counted {
    type Store = InMemoryStore;

    async fn open(&self, _: &str) -> Result<InMemoryStore> {
        tokio::task::yield_now().await;
        if self.fails.load(Ordering::SeqCst) > 0 {
            self.fails.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Io, "not today"));
        }
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(InMemoryStore::new())
    }

    async fn list(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: &str) -> Result<bool> {
        Ok(false)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_asks_at_once_gets_the_same_store() {
    let tenants = Tenants::new(Counted::default(), 8).unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..64_u128 {
        let tenants = tenants.clone();
        asking.spawn(async move {
            let tenant = format!("t{}", number % 4);
            let store = tenants.store(&scope(&tenant)).await.unwrap();
            put(&store, of(&tenant, number)).await;
            store
        });
    }
    let stores = asking.join_all().await;
    assert_eq!((tenants.place().opened.load(Ordering::SeqCst), tenants.stats().open), (4, 4));
    for store in &stores {
        assert_eq!(store.health().await.unwrap().episodes, 16);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_tenants_than_may_be_open_are_served_in_turn() {
    let (_folder, tenants) = few(3);
    let mut writing = tokio::task::JoinSet::new();
    for task in 0..6_u128 {
        let tenants = tenants.clone();
        writing.spawn(async move {
            for number in 0..20 {
                let tenant = format!("t{}", (task + number) % 5);
                let store = loop {
                    match tenants.store(&scope(&tenant)).await {
                        Err(error) if error.kind() == ErrorKind::Overloaded => tokio::task::yield_now().await,
                        done => break done.unwrap(),
                    }
                };
                assert!(tenants.stats().open <= 3);
                put(&store, of(&tenant, task * 100 + number)).await;
            }
        });
    }
    writing.join_all().await;
    let mut episodes = 0;
    for tenant in tenants.list().await.unwrap() {
        episodes += tenants.store(&scope(&tenant)).await.unwrap().health().await.unwrap().episodes;
    }
    assert_eq!(episodes, 120);
    assert!(tenants.stats().closed > 0);
}

#[tokio::test]
async fn one_that_does_not_open_takes_no_room() {
    let tenants = Tenants::new(Counted::default(), 1).unwrap();
    tenants.place().fails.store(2, Ordering::SeqCst);
    for _ in 0..2 {
        refused(tenants.store(&scope("acme")).await, ErrorKind::Io, "not today");
    }
    // Nor does one that nobody waits for any more.
    let asked = scope("acme");
    let dropped = Box::pin(tenants.store(&asked));
    assert!(futures_poll_once(dropped).await);
    assert_eq!(tenants.store(&scope("acme")).await.unwrap().health().await.unwrap().episodes, 0);
}

/// Polls once, then drops; says whether it was not done.
async fn futures_poll_once(mut future: std::pin::Pin<Box<impl Future>>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn another_process_finds_the_tenants() {
    let test = "another_process_finds_the_tenants";
    let open = |path: &str| Tenants::in_folder(path, TursoConfig::default()).unwrap();
    if process::is_child() {
        let tenants = open(&std::env::var("STORE").unwrap());
        for (tenant, number) in [("acme", 1), ("Acme", 2), ("..", 3)] {
            put(&tenants.store(&scope(tenant)).await.unwrap(), of(tenant, number)).await;
        }
        tenants.remove(&scope("acme")).await.unwrap();
        put(&tenants.store(&scope("acme")).await.unwrap(), of("acme", 4)).await;
        // As one that is killed.
        std::process::exit(0);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let child = process::command(test, &[("STORE", path)]).status().unwrap();
    assert!(child.success());
    let tenants = open(path);
    assert_eq!(tenants.list().await.unwrap(), ["..", "Acme", "acme"]);
    for (tenant, number) in [("Acme", 2), ("..", 3), ("acme", 4)] {
        let store = tenants.store(&scope(tenant)).await.unwrap();
        assert!(has(&store, number).await, "{tenant}");
        assert_eq!(store.health().await.unwrap().episodes, 1, "{tenant}");
    }
}

#[tokio::test]
async fn a_tenant_is_removed_when_nobody_holds_it() {
    let (folder, tenants) = folder();
    let [acme, other] = [scope("acme"), scope("other")];
    assert!(!tenants.remove(&acme).await.unwrap());
    let store = tenants.store(&acme).await.unwrap();
    put(&store, of("acme", 1)).await;
    put(&tenants.store(&other).await.unwrap(), of("other", 1)).await;
    refused(tenants.remove(&acme).await, ErrorKind::Busy, "the store of tenant acme is in use");
    assert!(has(&store, 1).await);
    // What a process left that was killed while it removed the tenant before.
    let left = folder.path().join("removed-t-acme~0");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("memory.db"), "what is left").unwrap();
    drop(store);
    assert!(tenants.remove(&scope("acme/coder")).await.unwrap(), "of any of its scopes");
    assert_eq!(tenants.list().await.unwrap(), ["other"]);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing of it is left");
    assert!(!has(&tenants.store(&acme).await.unwrap(), 1).await, "it begins anew");
    assert!(has(&tenants.store(&other).await.unwrap(), 1).await);
}

#[tokio::test]
async fn closing_ends_all_of_them() {
    let (_folder, tenants) = folder();
    let store = tenants.store(&scope("acme")).await.unwrap();
    put(&store, of("acme", 1)).await;
    drop(tenants.store(&scope("other")).await.unwrap());
    tenants.close().await.unwrap();
    tenants.close().await.unwrap();
    refused(store.health().await, ErrorKind::Unavailable, "closed");
    refused(tenants.store(&scope("acme")).await, ErrorKind::Unavailable, "closed");
    assert_eq!((tenants.stats().open, tenants.stats().closed), (0, 2));
    assert_eq!(tenants.list().await.unwrap(), ["acme", "other"]);
}
