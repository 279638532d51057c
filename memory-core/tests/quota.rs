//! Quotas: what is refused, what makes room, and that the count is right whoever writes.
#![expect(clippy::unwrap_used, reason = "to fail a test is to panic")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use memory_core::testkit::{Fault, FaultyStore, Gate, Operation, samples};
use memory_core::{
    Batch, Changes, Commit, Error, ErrorKind, Hit, ImportOptions, InMemoryStore, Key, Memory, MemoryStore,
    MemoryStoreExt, NewNote, NoteQuery, Outcome, Page, Quota, QuotaStore, Record, RecordKind, Recording,
    RetentionPolicy, Scan, Scope, Search, Step, StoreHealth, StoreInfo, Stored, Task, Usage, Version,
};
use proptest::prelude::*;
use tokio::time::timeout;

fn episode(scope: &str, n: u32) -> Record {
    let mut episode = samples::episode(n, "fix the test");
    episode.scope = samples::scope(scope);
    samples::logged(episode)
}

fn note(scope: &str, n: u32) -> Record {
    let mut note = samples::note(n, "use tabs");
    note.scope = samples::scope(scope);
    samples::noted(note)
}

async fn put<S: MemoryStore>(store: &QuotaStore<S>, records: impl IntoIterator<Item = Record>) -> Result<(), Error> {
    store.commit(&records.into_iter().fold(Batch::new(), Batch::put)).await.map(|_| ())
}

async fn delete<S: MemoryStore>(store: &QuotaStore<S>, keys: impl IntoIterator<Item = Key>) {
    store.commit(&keys.into_iter().fold(Batch::new(), Batch::delete)).await.unwrap();
}

async fn refused<S: MemoryStore>(store: &QuotaStore<S>, records: impl IntoIterator<Item = Record>) -> String {
    let error = put(store, records).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::QuotaExceeded, false));
    error.to_string()
}

async fn usage<S: MemoryStore>(store: &QuotaStore<S>, scope: &str) -> [u64; 2] {
    let Usage { episodes, notes, .. } = store.usage(&samples::scope(scope)).await.unwrap();
    [episodes, notes]
}

fn key(n: u32) -> Key {
    Key::Episode(samples::episode_id(n))
}

fn busy() -> Error {
    Error::new(ErrorKind::Busy, "scripted")
}

#[tokio::test]
async fn what_would_be_too_much_is_refused_as_a_whole_and_deleting_makes_room() {
    let inner = InMemoryStore::new();
    let store = QuotaStore::new(inner.clone(), Quota::new().episodes(3).notes(1));
    put(&store, [episode("a", 1), episode("a", 2), note("a", 1)]).await.unwrap();
    let told = refused(&store, [episode("a", 3), episode("a", 4)]).await;
    assert_eq!(told, "quota exceeded: scope a has 2 episodes and would have 4; its quota is 3");
    let told = refused(&store, [episode("a", 3), note("a", 2)]).await;
    assert_eq!(told, "quota exceeded: scope a has 1 notes and would have 2; its quota is 1");
    assert_eq!(inner.health().await.unwrap().episodes, 2, "nothing of a refused batch is there");
    put(&store, [episode("a", 3)]).await.unwrap();
    put(&store, [episode("a", 3), episode("a", 2), note("a", 1)]).await.unwrap();
    put(&store, [episode("b", 11), episode("b", 12), episode("b", 13)]).await.unwrap();
    assert_eq!((usage(&store, "a").await, usage(&store, "b").await), ([3, 1], [3, 0]));
    refused(&store, [episode("b", 14), episode("a", 1)]).await;
    delete(&store, [key(2), key(99)]).await;
    put(&store, [episode("a", 5)]).await.unwrap();
    refused(&store, [episode("a", 6)]).await;
    // In one batch, what goes makes room for what comes.
    let batch = Batch::new().delete(key(5)).put(episode("a", 6)).delete(key(6)).put(episode("a", 7));
    store.commit(&batch).await.unwrap();
    assert_eq!(usage(&store, "a").await, [3, 1]);
    // A record may change its scope.
    refused(&store, [episode("b", 7)]).await;
    delete(&store, [key(11)]).await;
    put(&store, [episode("b", 7)]).await.unwrap();
    assert_eq!((usage(&store, "a").await, usage(&store, "b").await), ([2, 1], [3, 0]));
}

#[tokio::test]
async fn a_scope_may_have_a_quota_of_its_own() {
    let quota = Quota::new().episodes(1);
    let store = QuotaStore::new(InMemoryStore::new(), quota)
        .with_scope(samples::scope("big"), Quota::new().episodes(5))
        .with_scope(samples::scope("free"), Quota::new());
    put(&store, (1..=5).map(|n| episode("big", n))).await.unwrap();
    put(&store, (11..=30).map(|n| episode("free", n))).await.unwrap();
    put(&store, [episode("a", 41)]).await.unwrap();
    put(&store, [episode("a/b", 42)]).await.unwrap();
    for (scope, n) in [("big", 51), ("a", 52), ("a/b", 53)] {
        assert!(refused(&store, [episode(scope, n)]).await.contains(&format!("scope {scope} has")));
    }
    assert_eq!(store.quota(&samples::scope("a")), quota);
    assert_eq!(store.to_string(), "QuotaStore(1 episodes, InMemoryStore)");
    let none = QuotaStore::new(InMemoryStore::new(), Quota::new());
    assert_eq!(none.to_string(), "QuotaStore(no bounds, InMemoryStore)");
    assert_eq!(Quota::new().notes(2).bytes(3).to_string(), "2 notes, 3 bytes");
}

#[tokio::test]
async fn bytes_are_those_of_records_and_vectors() {
    let Record::Episode(logged) = episode("a", 1) else { panic!("an episode") };
    let each = logged.episode.encoded_len() as u64;
    let store = QuotaStore::new(InMemoryStore::new(), Quota::new().bytes(each + 8));
    put(&store, [Record::Space(samples::space(2))]).await.unwrap();
    let with_vector = samples::logged_with(logged.episode.as_ref().clone(), samples::vector(&[1.0, 2.0]));
    put(&store, [with_vector.clone()]).await.unwrap();
    assert_eq!(store.usage(&samples::scope("a")).await.unwrap().bytes, Some(each + 8));
    let told = refused(&store, [note("a", 1)]).await;
    assert!(told.contains(&format!("scope a has {} bytes and would have ", each + 8)), "{told}");
    // A longer record in place of another.
    let mut longer = logged.episode.as_ref().clone();
    longer.outcome.summary.push_str("123456789");
    let told = refused(&store, [samples::logged(longer.clone())]).await;
    assert!(told.ends_with(&format!("would have {}; its quota is {}", each + 9, each + 8)), "{told}");
    longer.outcome.summary.pop();
    put(&store, [samples::logged(longer)]).await.unwrap();
    put(&store, [with_vector]).await.unwrap();
    assert_eq!(usage(&store, "a").await, [1, 0]);
}

#[tokio::test]
async fn the_count_is_right_after_a_restart_and_when_others_write() {
    let inner = InMemoryStore::new();
    let quota = Quota::new().episodes(5).notes(5);
    let one = QuotaStore::new(inner.clone(), quota);
    put(&one, (1..=4).map(|n| episode("a", n))).await.unwrap();
    // A second store on the same records is another process, and a process that starts again.
    let other = QuotaStore::new(inner.clone(), quota);
    assert_eq!(usage(&other, "a").await, [4, 0]);
    put(&other, [episode("a", 5), note("a", 1)]).await.unwrap();
    refused(&one, [episode("a", 6)]).await;
    delete(&other, [key(1), key(2)]).await;
    put(&one, [episode("a", 6)]).await.unwrap();
    put(&other, [episode("a", 7)]).await.unwrap();
    refused(&one, [episode("a", 8)]).await;
    refused(&other, [episode("a", 8)]).await;
    // Who knows nothing of quotas.
    let writes = (20..30).fold(Batch::new(), |batch, n| batch.put(episode("a", n)));
    inner.commit(&writes).await.unwrap();
    assert_eq!((usage(&one, "a").await, usage(&other, "a").await), ([15, 1], [15, 1]));
    assert!(
        refused(&one, [episode("a", 8)]).await.ends_with("scope a has 15 episodes and would have 16; its quota is 5")
    );
    put(&one, [episode("a", 20), note("a", 2)]).await.unwrap();
    let deletes = (20..30).fold(Batch::new(), |batch, n| batch.delete(key(n)));
    inner.commit(&deletes.delete(key(7))).await.unwrap();
    put(&one, [episode("a", 8)]).await.unwrap();
    assert_eq!(usage(&other, "a").await, [5, 2]);
}

#[tokio::test]
async fn a_lowered_quota_lets_less_through_but_not_more() {
    let inner = InMemoryStore::new();
    put(&QuotaStore::new(inner.clone(), Quota::new()), (1..=5).map(|n| episode("a", n))).await.unwrap();
    let store = QuotaStore::new(inner, Quota::new().episodes(2));
    put(&store, [episode("a", 1)]).await.unwrap();
    refused(&store, [episode("a", 6)]).await;
    store.commit(&Batch::new().delete(key(1)).put(episode("a", 6))).await.unwrap();
    delete(&store, [2, 3, 4].map(key)).await;
    refused(&store, [episode("a", 7)]).await;
    delete(&store, [key(5)]).await;
    put(&store, [episode("a", 7)]).await.unwrap();
    assert_eq!(usage(&store, "a").await, [2, 0]);
}

#[tokio::test]
async fn failures_leave_the_count_right() {
    let inner = Arc::new(FaultyStore::new(InMemoryStore::new()));
    let store = QuotaStore::new(Arc::clone(&inner), Quota::new().episodes(2));
    for operation in [Operation::Health, Operation::Scan, Operation::Changes, Operation::Commit] {
        inner.script_next(operation, Fault::Before(busy()));
        assert_eq!(put(&store, [episode("a", 1)]).await.unwrap_err().kind(), ErrorKind::Busy, "{operation:?}");
    }
    put(&store, [episode("a", 1)]).await.unwrap();
    // Written, though it failed: the feed tells.
    inner.script_next(Operation::Commit, Fault::After(busy()));
    put(&store, [episode("a", 2)]).await.unwrap_err();
    refused(&store, [episode("a", 3)]).await;
    assert_eq!(usage(&store, "a").await, [2, 0]);
    delete(&store, [key(1)]).await;
    // Not written: there is room still.
    for _ in 0..3 {
        inner.script_next(Operation::Commit, Fault::Before(busy()));
        put(&store, [episode("a", 3)]).await.unwrap_err();
    }
    // A condition that does not hold.
    let conflict = Batch::new().require_present(key(77)).put(episode("a", 3));
    assert!(store.commit(&conflict).await.unwrap_err().is_conflict());
    put(&store, [episode("a", 3)]).await.unwrap();
    // Where there is no room, what is there already is still told to be there.
    let again = Batch::new().require_absent(key(3)).put(episode("a", 3));
    assert!(store.commit(&again).await.unwrap_err().is_conflict());
    inner.script_next(Operation::Get, Fault::Before(busy()));
    inner.get_ref().commit(&Batch::new().put(episode("a", 9))).await.unwrap();
    assert_eq!(put(&store, [episode("a", 4)]).await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(usage(&store, "a").await, [3, 0]);
    store.close().await.unwrap();
    assert_eq!(put(&store, [episode("a", 4)]).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_set_aside_and_waited_for() {
    let inner = Arc::new(FaultyStore::new(InMemoryStore::new()));
    let store = Arc::new(QuotaStore::new(Arc::clone(&inner), Quota::new().episodes(1)));
    for fails in [true, false] {
        let gate = Gate::new();
        let next = inner.calls(Operation::Commit) + 1;
        inner.script(Operation::Commit, next, Fault::Hold(gate.clone()));
        let (held, waiting) = (Arc::clone(&store), Arc::clone(&store));
        let held = tokio::spawn(async move {
            let batch = Batch::new().put(episode("a", 1));
            held.commit(&if fails { batch.require_present(key(77)) } else { batch }).await
        });
        gate.reached().await;
        let waiting = tokio::spawn(async move { put(&waiting, [episode("a", 2)]).await });
        put(&store, [episode("b", 11)]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished(), "it is not known yet whether there is room");
        gate.open();
        assert_eq!(held.await.unwrap().is_err(), fails);
        let second = waiting.await.unwrap();
        assert_eq!(second.is_ok(), fails);
        assert_eq!(usage(&store, "a").await, [1, 0]);
        delete(&store, [key(1), key(2)]).await;
    }
    // One whose caller went away is waited for no more.
    let gate = Gate::new();
    inner.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    assert!(timeout(Duration::from_secs(1), put(&store, [episode("a", 1)])).await.is_err());
    put(&store, [episode("a", 2)]).await.unwrap();
    refused(&store, [episode("a", 3)]).await;
}

#[tokio::test]
async fn what_adds_nothing_is_not_looked_at() {
    let inner = Arc::new(FaultyStore::new(InMemoryStore::new()));
    let store = QuotaStore::new(Arc::clone(&inner), Quota::new().episodes(2));
    put(&store, [episode("a", 1)]).await.unwrap();
    let calls =
        |store: &FaultyStore<_>| [Operation::Changes, Operation::Get, Operation::Scan].map(|one| store.calls(one));
    let before = calls(&inner);
    let others =
        samples::one_of_each(3).into_iter().filter(|record| !matches!(record, Record::Episode(_) | Record::Note(_)));
    put(&store, others).await.unwrap();
    delete(&store, [key(1)]).await;
    assert_eq!(calls(&inner), before);
    put(&store, (5..7).map(|n| episode("a", n))).await.unwrap();
    let [changes, gets, scans] = [0, 1, 2].map(|place| calls(&inner)[place] - before[place]);
    assert!((1..=2).contains(&changes), "{changes}");
    assert_eq!((gets, scans), (0, 0), "what it wrote itself is not read again");
    refused(&store, [episode("a", 8)]).await;
    assert_eq!(inner.calls(Operation::Get), before[1]);
}

/// What may happen to a store with quotas, and to the records beneath.
#[derive(Clone, Debug)]
enum Act {
    /// Puts and deletes in one batch, through one of two stores with quotas, or beneath.
    Batch {
        through: usize,
        puts: Vec<(bool, usize, u32)>,
        deletes: Vec<(bool, u32)>,
        fails: Option<bool>,
    },
    Restart(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let put = (any::<bool>(), 0..3_usize, 1..9_u32);
    let batch = (
        0..3_usize,
        proptest::collection::vec(put, 0..4),
        proptest::collection::vec((any::<bool>(), 1..9_u32), 0..3),
        proptest::option::weighted(0.15, any::<bool>()),
    );
    let batch = batch.prop_map(|(through, puts, deletes, fails)| Act::Batch { through, puts, deletes, fails });
    let act = prop_oneof![9 => batch, 1 => (0..2_usize).prop_map(Act::Restart)];
    proptest::collection::vec(act, 1..25)
}

const SCOPES: [&str; 3] = ["a", "b", "free"];
const MOST: [usize; 2] = [3, 2];

/// What is there: of each key, its scope.
type Model = BTreeMap<Key, usize>;

fn counted(model: &Model, scope: usize) -> [usize; 2] {
    let of = |kind| model.iter().filter(|(key, at)| key.kind() == kind && **at == scope).count();
    [of(RecordKind::Episode), of(RecordKind::Note)]
}

fn with_quota(inner: &Arc<FaultyStore<InMemoryStore>>) -> QuotaStore<Arc<FaultyStore<InMemoryStore>>> {
    let quota = Quota::new().episodes(MOST[0] as u64).notes(MOST[1] as u64);
    QuotaStore::new(Arc::clone(inner), quota).with_scope(samples::scope("free"), Quota::new())
}

async fn agrees_with_a_model(acts: Vec<Act>) {
    let inner = Arc::new(FaultyStore::new(InMemoryStore::new()));
    let mut stores = [with_quota(&inner), with_quota(&inner)];
    let mut model = Model::new();
    for act in acts {
        let (through, puts, deletes, fails) = match act {
            Act::Restart(which) => {
                stores[which] = with_quota(&inner);
                continue;
            }
            Act::Batch { through, puts, deletes, fails } => (through, puts, deletes, fails),
        };
        let (mut batch, mut after) = (Batch::new(), model.clone());
        for (is_note, scope, n) in puts {
            let record = if is_note { note(SCOPES[scope], n) } else { episode(SCOPES[scope], n) };
            after.insert(record.key(), scope);
            batch = batch.put(record);
        }
        for (is_note, n) in deletes {
            let key = if is_note { Key::Note(samples::note_id(n)) } else { key(n) };
            after.remove(&key);
            batch = batch.delete(key);
        }
        let exceeds = |scope: usize| {
            let (before, after) = (counted(&model, scope), counted(&after, scope));
            (0..2).any(|what| after[what] > before[what] && after[what] > MOST[what])
        };
        let expected = through < 2 && (0..2).any(exceeds);
        if let Some(written) = fails {
            let fault = if written { Fault::After(busy()) } else { Fault::Before(busy()) };
            inner.script_next(Operation::Commit, fault);
        }
        let result = match stores.get(through) {
            Some(store) => store.commit(&batch).await,
            None => inner.commit(&batch).await,
        };
        let kind = result.err().map(|error| error.kind());
        if expected {
            assert_eq!(kind, Some(ErrorKind::QuotaExceeded), "{batch:?}\nafter {model:?}");
            if fails.is_some() {
                // The fault waits for the next commit: it is used up here.
                let _ = inner.commit(&Batch::new()).await;
            }
            continue;
        }
        assert_eq!(kind, fails.map(|_| ErrorKind::Busy), "{batch:?}\nafter {model:?}");
        if fails != Some(false) {
            model = after;
        }
    }
    for store in &stores {
        for (place, scope) in SCOPES.into_iter().enumerate() {
            assert_eq!(usage(store, scope).await, counted(&model, place).map(|count| count as u64), "{scope}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two stores with quotas over the same records, writes beneath them, restarts and failures: exactly those batches
    /// are refused that a plain count refuses.
    #[test]
    fn exactly_what_exceeds_is_refused(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(agrees_with_a_model(acts));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_fill_a_scope_to_the_last_place_and_no_further() {
    const MOST: u32 = 100;
    for round in 0..10 {
        let inner = InMemoryStore::new();
        let store = Arc::new(QuotaStore::new(inner.clone(), Quota::new().episodes(u64::from(MOST))));
        let writers = (0..8_u32).map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let (mut written, mut deleted) = (0_i64, 0);
                for n in 0..60 {
                    let n = writer * 1_000 + n;
                    match put(&store, [episode("a", n)]).await {
                        Ok(()) => written += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::QuotaExceeded),
                    }
                    if n % 7 == 3 && store.get_one(key(n)).await.unwrap().is_some() {
                        delete(&store, [key(n)]).await;
                        deleted += 1;
                    }
                    let there = store.health().await.unwrap().episodes;
                    assert!(there <= u64::from(MOST), "{there}");
                }
                written - deleted
            })
        });
        let mut left = 0;
        for writer in writers.collect::<Vec<_>>() {
            left += writer.await.unwrap();
        }
        let there = inner.health().await.unwrap().episodes;
        assert_eq!(
            (there, left),
            (u64::from(MOST), i64::from(MOST)),
            "round {round}: more was asked for than there was room"
        );
        assert_eq!(usage(&store, "a").await, [u64::from(MOST), 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_one_is_refused_while_there_is_room() {
    // Exactly as much is written as there is room for, all at once, many times over.
    for _ in 0..50 {
        let store = Arc::new(QuotaStore::new(InMemoryStore::new(), Quota::new().episodes(32)));
        let writers = (0..32).map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { put(&store, [episode("a", n)]).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_processes_exceed_it_by_what_is_under_way_at_most() {
    const MOST: u64 = 50;
    const WRITERS: u32 = 4;
    let inner = InMemoryStore::new();
    let writers = (0..WRITERS).map(|writer| {
        let store = QuotaStore::new(inner.clone(), Quota::new().episodes(MOST));
        tokio::spawn(async move {
            for n in 0..50 {
                let _ = put(&store, [episode("a", writer * 1_000 + n)]).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let there = inner.health().await.unwrap().episodes;
    assert!((MOST..MOST + u64::from(WRITERS)).contains(&there), "{there}");
}

/// A store that lets others go first, by chance, before and after each call: so that what may happen between what is read and
/// what is written does happen, on one thread and the same way each time.
#[derive(Debug)]
struct Straggling {
    inner: InMemoryStore,
    chance: AtomicU64,
}

impl Straggling {
    async fn after<T>(&self, call: impl Future<Output = T>) -> T {
        self.wait().await;
        let result = call.await;
        self.wait().await;
        result
    }

    async fn wait(&self) {
        // The generator of D. H. Lehmer, as in C++'s minstd_rand.
        let next = self.chance.load(Ordering::Relaxed) * 48_271 % 2_147_483_647;
        self.chance.store(next, Ordering::Relaxed);
        for _ in 0..next % 4 {
            tokio::task::yield_now().await;
        }
    }
}

impl fmt::Display for Straggling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Straggling({})", self.inner)
    }
}

#[async_trait]
impl MemoryStore for Straggling {
    fn info(&self) -> StoreInfo {
        self.inner.info()
    }
    async fn commit(&self, batch: &Batch) -> Result<Commit, Error> {
        self.after(self.inner.commit(batch)).await
    }
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, Error> {
        self.after(self.inner.get(keys)).await
    }
    async fn scan(&self, scan: &Scan) -> Result<Page, Error> {
        self.after(self.inner.scan(scan)).await
    }
    async fn search(&self, search: &Search) -> Result<Vec<Hit>, Error> {
        self.after(self.inner.search(search)).await
    }
    async fn changes(&self, since: Version, limit: usize) -> Result<Changes, Error> {
        self.after(self.inner.changes(since, limit)).await
    }
    async fn health(&self) -> Result<StoreHealth, Error> {
        self.after(self.inner.health()).await
    }
    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

/// Another process, which deletes what was written last, a few times: perhaps before its writer has been told that it is written.
async fn deletes_beneath(inner: InMemoryStore, seed: u64) -> u32 {
    let mut deleted = 0;
    for turn in 0..60 {
        tokio::task::yield_now().await;
        if !(turn + seed).is_multiple_of(11) {
            continue;
        }
        let last = inner.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().pop();
        let key = last.map(|stored| stored.record.key());
        // Those of number 1 of three are deleted by who wrote them.
        if let Some(Key::Episode(id)) = key
            && id.as_uuid().as_u128() % 3 != 1
        {
            inner.commit(&Batch::new().delete(Key::Episode(id))).await.unwrap();
            deleted += 1;
        }
    }
    deleted
}

/// Six writers who together ask for this much more than there is room for; one in three of what they write is deleted again.
async fn written_by_chance(seed: u64, most: u64, each: u32) {
    const WRITERS: u32 = 6;
    let inner = InMemoryStore::new();
    let straggling = Straggling { inner: inner.clone(), chance: AtomicU64::new(seed * 2 + 1) };
    let store = Arc::new(QuotaStore::new(straggling, Quota::new().episodes(most)));
    let writers = (0..WRITERS).map(|writer| {
        let (store, inner) = (Arc::clone(&store), inner.clone());
        tokio::spawn(async move {
            let (mut refused, mut deleted) = (0, 0_u32);
            for n in (0..each).map(|n| writer * 1_000 + n) {
                match put(&store, [episode("a", n)]).await {
                    Ok(()) if n % 3 == 1 => {
                        delete(&store, [key(n)]).await;
                        deleted += 1;
                    }
                    Ok(()) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
                        refused += 1;
                    }
                }
                let there = inner.health().await.unwrap().episodes;
                assert!(there <= most, "{there}, seed {seed}");
            }
            (refused, deleted)
        })
    });
    let (writers, other) = (writers.collect::<Vec<_>>(), tokio::spawn(deletes_beneath(inner.clone(), seed)));
    let (mut refused, mut deleted) = (0, 0);
    for writer in writers {
        let (one_refused, one_deleted) = writer.await.unwrap();
        (refused, deleted) = (refused + one_refused, deleted + one_deleted);
    }
    deleted += other.await.unwrap();
    let there = inner.health().await.unwrap().episodes;
    assert_eq!(there, u64::from(WRITERS * each - refused - deleted), "seed {seed}");
    assert_eq!(usage(&store, "a").await, [there, 0], "seed {seed}");
    let enough = u64::from(WRITERS * each) <= most;
    assert!(!enough || refused == 0, "{refused} were refused though there was room, seed {seed}");
}

#[tokio::test]
async fn whatever_happens_in_between_quotas_are_exact() {
    for seed in 0..300 {
        written_by_chance(seed, 8, 6).await;
        written_by_chance(seed, 24, 4).await;
    }
}

async fn memory(quota: Quota) -> Memory {
    let store = QuotaStore::new(InMemoryStore::new(), quota);
    Memory::builder().store(store).scope(samples::scope("acme/coder")).build().await.unwrap()
}

fn recording(n: u32) -> Recording {
    Recording::from(&samples::episode(n, "make the test pass"))
}

fn exceeded<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error}");
    error.to_string()
}

#[tokio::test]
async fn an_engine_tells_which_quota_stands_in_its_way() {
    let memory = memory(Quota::new().episodes(2)).await;
    let mut one = memory.start(Task::new("fix")).await.unwrap();
    one.step(Step::new("read")).await.unwrap();
    memory.record(recording(1)).await.unwrap();
    memory.record(recording(2)).await.unwrap();
    let told = exceeded(memory.record(recording(3)).await);
    assert_eq!(told, "record: quota exceeded: scope acme/coder has 2 episodes and would have 3; its quota is 2");
    assert!(exceeded(memory.start(Task::new("fix")).await.map(|_| ())).starts_with("start: quota exceeded: "));
    assert_eq!(memory.record(recording(2)).await.unwrap().episode, samples::episode_id(2), "again what is there");
    // What is open goes on, and ends when there is room.
    one.step(Step::new("edit")).await.unwrap();
    assert!(exceeded(one.complete(Outcome::success("done")).await).starts_with("complete: quota exceeded: "));
    memory.delete(samples::episode_id(1)).await.unwrap();
    one.complete(Outcome::success("done")).await.unwrap();
    assert_eq!(memory.episode(one.id()).await.unwrap().steps.len(), 2);
    memory.project().await.unwrap();
    assert!(!memory.patterns().await.unwrap().is_empty());
    assert_eq!(memory.retain(&RetentionPolicy::new().max_episodes(1)).await.unwrap().episodes, 1);
    memory.record(recording(4)).await.unwrap();
    memory.in_scope(samples::scope("acme/tester")).record(recording(5)).await.unwrap();
}

#[tokio::test]
async fn notes_of_sessions_need_room_with_the_agent_too() {
    let memory = memory(Quota::new().notes(2)).await;
    let session = |name: &str| memory.in_scope(samples::scope(&format!("acme/coder/{name}")));
    for text in ["use tabs", "deploy on Mondays"] {
        session("s-1").remember(NewNote::new(text)).await.unwrap();
    }
    let told = exceeded(session("s-2").remember(NewNote::new("run the linter")).await);
    assert!(told.contains("scope acme/coder has 2 notes and would have 3"), "{told}");
    session("s-2").remember(NewNote::new("use tabs")).await.unwrap();
    let told = exceeded(session("s-1").remember_all(["use tabs", "a third"].map(NewNote::new)).await);
    assert!(told.ends_with("; the first 0 of 2 notes are written"), "{told}");
    let id = session("s-2").notes_page(&NoteQuery::new()).await.unwrap().notes[0].id;
    session("s-2").forget(id).await.unwrap();
    session("s-2").remember(NewNote::new("use tabs")).await.unwrap();
}

#[tokio::test]
async fn an_import_stops_where_the_room_ends_and_goes_on_from_there() {
    let full = memory(Quota::new()).await;
    for n in 1..=50 {
        full.record(recording(n)).await.unwrap();
    }
    let mut file = Vec::new();
    full.export(&mut file).await.unwrap();
    let small = memory(Quota::new().episodes(25)).await;
    let options = ImportOptions::new().batch(10);
    let told = exceeded(small.import(&file[..], &options).await);
    assert_eq!(
        told,
        "import: quota exceeded: scope acme/coder has 20 episodes and would have 30; its quota is 25; \
         all up to line 21 is imported"
    );
    small.retain(&RetentionPolicy::new().max_episodes(5)).await.unwrap();
    let stored = small.store().scan_all(Scan::new(RecordKind::Episode).scope(small.scope().clone())).await.unwrap();
    assert_eq!(stored.len(), 5);
    assert_eq!(*small.scope(), Scope::try_from("acme/coder".to_owned()).unwrap());
}
