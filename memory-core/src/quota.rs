//! How much each scope may hold.
//!
//! A quota is a decorator of the store, and not a setting of the engine, because every write goes through the store, whoever
//! makes it; and not a record in the store, because then all writers of a scope would wait for each other.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use foldhash::fast::RandomState;
use tokio::sync::watch;

use crate::episode::encoded_len;
use crate::{
    Batch, Change, Changes, Commit, Condition, Error, ErrorKind, FeedEntry, Hit, Key, LoggedEpisode, MemoryStore, Page,
    Record, RecordKind, Result, Scan, Scope, Search, StoreHealth, StoreInfo, Stored, StoredNote, Vector, Version,
};

/// How much a scope may hold. What is not set is not bounded.
///
/// ```
/// use memory_core::Quota;
/// let quota = Quota::new().episodes(10_000).notes(1_000);
/// assert_eq!(quota.to_string(), "10000 episodes, 1000 notes");
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Completed episodes.
    pub episodes: Option<u64>,
    /// Notes, with candidates, untrusted ones, and expired ones that are not deleted yet.
    pub notes: Option<u64>,
    /// Bytes of both, encoded as JSON, and four for each component of their vectors. What a store needs on disk is another
    /// number, and usually a larger one.
    pub bytes: Option<u64>,
}

impl Quota {
    /// No bounds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many completed episodes.
    #[must_use]
    pub fn episodes(mut self, episodes: u64) -> Self {
        self.episodes = Some(episodes);
        self
    }

    /// Sets how many notes.
    #[must_use]
    pub fn notes(mut self, notes: u64) -> Self {
        self.notes = Some(notes);
        self
    }

    /// Sets how many bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Each bound by its name.
    fn bounds(&self) -> [(&'static str, Option<u64>); 3] {
        [("episodes", self.episodes), ("notes", self.notes), ("bytes", self.bytes)]
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.bounds().into_iter().filter_map(|(what, most)| Some(format!("{} {what}", most?)));
        let set: Vec<String> = set.collect();
        f.write_str(if set.is_empty() { "no bounds" } else { "" })?;
        f.write_str(&set.join(", "))
    }
}

/// What a scope holds, of what its [`Quota`] counts.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Completed episodes.
    pub episodes: u64,
    /// Notes.
    pub notes: u64,
    /// Bytes, if the quota bounds them.
    pub bytes: Option<u64>,
}

/// A store around a store that refuses a batch with which a scope would hold more than its [`Quota`]:
/// [`QuotaExceeded`](ErrorKind::QuotaExceeded) names the scope, what is counted, how much it would be and the quota.
///
/// Batches that add nothing to what is bounded always pass, also where a scope holds more than its quota since that was
/// lowered; and what is deleted makes room. What is learned is not counted, since it is not the caller's to delete. Scopes
/// above or below another one are scopes of their own.
///
/// An open episode is not counted. Where `episodes` is bounded, none can be begun if there is no room for one more. If there is
/// no room when it is complete, completing it fails, and so does a [sweep](crate::Memory::sweep): it stays open until there is.
/// A note that is told in a session is a record of the agent's too: it needs room in both scopes.
///
/// # How it counts
/// A scope is counted when it is first written to: all of it is read once. From then on the change feed tells what has changed,
/// deletions and what other processes do too, before each batch that adds something. So the count is right after a restart,
/// and needs about 80 bytes of memory for each record.
///
/// - **Within a process** quotas are exact, however many write: what is under way is set aside, and before a batch is refused,
///   what is under way is waited for. Batches are not written one after the other.
/// - **Several processes** on one store should have the same quotas. Each sees what the others have written before it
///   writes, so that a scope exceeds its quota at most by what the others are writing in that moment. What is deleted is seen
///   at once.
/// - A commit whose future was dropped, and a store that writes it all the same, count from when the feed tells it.
///
/// # Order
/// Next to the store that is to be bounded; a retrying decorator goes around it. It costs a look at the feed for each batch that
/// adds to a bounded scope, and nothing for others.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// use memory_core::{ErrorKind, InMemoryStore, Memory, NewNote, Quota, QuotaStore};
/// let store = QuotaStore::new(InMemoryStore::new(), Quota::new().notes(1));
/// assert_eq!(store.to_string(), "QuotaStore(1 notes, InMemoryStore)");
/// let memory = Memory::builder().store(store).build().await?;
/// let note = memory.remember(NewNote::new("use tabs")).await?.id;
/// let error = memory.remember(NewNote::new("deploy on Mondays")).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
/// memory.forget(note).await?;
/// memory.remember(NewNote::new("deploy on Mondays")).await?;
/// # Ok::<(), memory_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct QuotaStore<S> {
    inner: S,
    quotas: Quotas,
    /// What is stored. Locked while the feed is read, and not while a batch is written.
    ledger: tokio::sync::Mutex<Ledger>,
    /// What is being written.
    under_way: Mutex<UnderWay>,
    /// Told when a batch is no longer under way.
    settled: watch::Sender<()>,
}

#[derive(Debug)]
struct Quotas {
    usual: Quota,
    special: BTreeMap<Scope, Quota>,
}

impl Quotas {
    fn of(&self, scope: &Scope) -> Quota {
        self.special.get(scope).copied().unwrap_or(self.usual)
    }

    fn is_bounded(&self, scope: &Scope) -> bool {
        self.of(scope) != Quota::default()
    }

    /// What a record adds to its scope, if it counts.
    fn amount(&self, record: &Record) -> Option<(Scope, Amount)> {
        let (scope, [episodes, notes]) = match record {
            Record::Episode(logged) => (&logged.episode.scope, [1, 0]),
            Record::Note(stored) => (&stored.note.scope, [0, 1]),
            _ => return None,
        };
        let bytes = if self.of(scope).bytes.is_some() { bytes_of(record) } else { 0 };
        Some((scope.clone(), Amount([episodes, notes, bytes])))
    }
}

fn bytes_of(record: &Record) -> i64 {
    let (encoded, vector) = match record {
        Record::Episode(LoggedEpisode { episode, vector }) => (encoded_len(episode), vector),
        Record::Note(StoredNote { note, vector }) => (encoded_len(note), vector),
        _ => return 0,
    };
    let bytes = encoded + vector.as_ref().map_or(0, Vector::dimensions) * size_of::<f32>();
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Episodes, notes and bytes, in the order of [`Quota::bounds`]; of changes, less than zero too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount([i64; 3]);

impl Amount {
    fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, other)| *mine = mine.saturating_add(other));
    }

    fn subtract(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, other)| *mine = mine.saturating_sub(other));
    }

    fn is_growth(&self) -> bool {
        self.0.iter().any(|amount| *amount > 0)
    }

    /// Only what is added.
    fn growth(self) -> Self {
        Self(self.0.map(|amount| amount.max(0)))
    }
}

type Records<T> = HashMap<Key, T, RandomState>;

/// The records of the scopes that are counted, as of a place in the feed or a little later.
#[derive(Debug, Default)]
struct Ledger {
    /// Where the feed is read on; `None` before the first scope is counted.
    upto: Option<Version>,
    scopes: Vec<(Scope, Amount)>,
    places: HashMap<Scope, usize>,
    /// In which scope each record is, and what it adds to it.
    records: Records<(usize, Amount)>,
    /// What this store has written itself, and need not read again when the feed tells it: as of which version it is known.
    written: Records<Version>,
}

impl Ledger {
    /// Takes note of what is there under a key: a record that counts, or none.
    fn set(&mut self, key: Key, there: Option<(Scope, Amount)>) {
        if let Some((place, amount)) = self.records.remove(&key) {
            self.scopes[place].1.subtract(amount);
        }
        if let Some((scope, amount)) = there
            && let Some(place) = self.places.get(&scope)
        {
            self.scopes[*place].1.add(amount);
            self.records.insert(key, (*place, amount));
        }
    }

    fn used(&self, scope: &Scope) -> Amount {
        self.places.get(scope).map(|place| self.scopes[*place].1).unwrap_or_default()
    }

    /// Takes in a whole scope.
    fn begin(&mut self, scope: &Scope, records: Vec<(Key, Amount)>) {
        self.places.insert(scope.clone(), self.scopes.len());
        self.scopes.push((scope.clone(), Amount::default()));
        records.into_iter().for_each(|(key, amount)| self.set(key, Some((scope.clone(), amount))));
    }

    /// What a batch changes in each scope.
    fn changes(&self, after: &Records<Option<(Scope, Amount)>>) -> BTreeMap<Scope, Amount> {
        let mut changes: BTreeMap<Scope, Amount> = BTreeMap::new();
        for (key, after) in after {
            if let Some((scope, amount)) = after {
                changes.entry(scope.clone()).or_default().add(*amount);
            }
            if let Some((place, before)) = self.records.get(key) {
                changes.entry(self.scopes[*place].0.clone()).or_default().subtract(*before);
            }
        }
        changes
    }

    /// Takes in what was written, unless the feed has told it already.
    fn wrote(&mut self, commit: Commit, after: Records<Option<(Scope, Amount)>>) {
        if self.upto >= Some(commit.version) {
            return;
        }
        for (key, after) in after {
            self.written.insert(key.clone(), commit.version);
            self.set(key, after);
        }
    }

    /// Whether the feed tells what this store has written itself.
    fn knows(&mut self, entry: &FeedEntry) -> bool {
        self.written.remove(&entry.key).is_some_and(|version| entry.version <= version)
    }
}

/// What is being written to each scope, by how many batches.
type UnderWay = HashMap<Scope, (usize, Amount)>;

/// What a batch is about to add to scopes; it is set aside until this is dropped.
struct Reservation<'a, S> {
    store: &'a QuotaStore<S>,
    growth: BTreeMap<Scope, Amount>,
}

impl<S> Drop for Reservation<'_, S> {
    fn drop(&mut self) {
        let mut under_way = self.store.under_way();
        for (scope, growth) in &self.growth {
            if let Some((batches, amount)) = under_way.get_mut(scope) {
                *batches -= 1;
                amount.subtract(*growth);
                if *batches == 0 {
                    under_way.remove(scope);
                }
            }
        }
        drop(under_way);
        self.store.settled.send_replace(());
    }
}

/// That there is no room.
struct Refusal {
    error: Error,
    /// Whether nothing is under way in that scope: what is may fail, and may be counted twice, as such and as stored.
    is_final: bool,
}

/// What a batch means to the quotas.
struct Asked {
    /// What there will be under each key that counts.
    after: Records<Option<(Scope, Amount)>>,
    /// The scopes that it may add to.
    scopes: Vec<Scope>,
    /// Those in which it begins an episode.
    begun: Vec<Scope>,
}

impl<S> QuotaStore<S> {
    /// The store, with this quota for each scope.
    pub fn new(inner: S, quota: Quota) -> Self {
        Self {
            inner,
            quotas: Quotas { usual: quota, special: BTreeMap::new() },
            ledger: tokio::sync::Mutex::default(),
            under_way: Mutex::default(),
            settled: watch::channel(()).0,
        }
    }

    /// Sets the quota of one scope, in place of that for each.
    #[must_use]
    pub fn with_scope(mut self, scope: Scope, quota: Quota) -> Self {
        self.quotas.special.insert(scope, quota);
        self
    }

    /// The quota of a scope.
    pub fn quota(&self, scope: &Scope) -> Quota {
        self.quotas.of(scope)
    }

    /// The store inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The store inside, without quotas.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a batch means to the quotas; `None` if nothing.
    fn asked(&self, batch: &Batch) -> Option<Asked> {
        let mut asked = Asked { after: Records::default(), scopes: Vec::new(), begun: Vec::new() };
        for change in &batch.changes {
            if let Change::Delete(key) = change
                && is_counted(key.kind())
            {
                asked.after.insert(key.clone(), None);
            }
            let Change::Put(record) = change else { continue };
            // In a scope without bounds, too: it may have come there from another one.
            if let Some(there) = self.quotas.amount(record) {
                asked.after.insert(record.key(), Some(there));
            }
            let Some(scope) = record.scope().filter(|scope| self.quotas.is_bounded(scope)) else { continue };
            match record {
                Record::Episode(_) | Record::Note(_) => asked.scopes.push(scope.clone()),
                Record::Open(_) if self.begins(batch, record, scope) => {
                    asked.scopes.push(scope.clone());
                    asked.begun.push(scope.clone());
                }
                _ => {}
            }
        }
        Some(asked).filter(|asked| !asked.scopes.is_empty())
    }

    /// Whether a batch begins an open episode in a scope whose episodes are bounded.
    fn begins(&self, batch: &Batch, open: &Record, scope: &Scope) -> bool {
        self.quotas.of(scope).episodes.is_some() && batch.conditions.contains(&Condition::Absent(open.key()))
    }

    /// Checks that a scope has room for what is added to it, besides what is under way.
    fn check(&self, ledger: &Ledger, scope: &Scope, added: Amount) -> std::result::Result<(), Refusal> {
        let aside = self.under_way().get(scope).map(|(_, amount)| *amount);
        let used = ledger.used(scope);
        let mut after = used;
        after.add(aside.unwrap_or_default());
        after.add(added);
        for (place, (what, most)) in self.quotas.of(scope).bounds().into_iter().enumerate() {
            let (most, after) = (most.unwrap_or(u64::MAX), u64::try_from(after.0[place]).unwrap_or_default());
            if added.0[place] > 0 && after > most {
                let used = used.0[place];
                let message = format!("scope {scope} has {used} {what} and would have {after}; its quota is {most}");
                return Err(Refusal {
                    error: Error::new(ErrorKind::QuotaExceeded, message),
                    is_final: aside.is_none(),
                });
            }
        }
        Ok(())
    }

    /// Sets aside what a batch adds, if there is room in all scopes.
    fn reserve(&self, ledger: &Ledger, asked: &Asked) -> std::result::Result<Reservation<'_, S>, Refusal> {
        let changes = ledger.changes(&asked.after);
        for (scope, change) in &changes {
            self.check(ledger, scope, *change)?;
        }
        for scope in &asked.begun {
            let mut with_one_more = changes.get(scope).copied().unwrap_or_default();
            with_one_more.add(Amount([1, 0, 0]));
            self.check(ledger, scope, with_one_more)?;
        }
        let growing = changes.into_iter().filter(|(_, change)| change.is_growth());
        let growth: BTreeMap<Scope, Amount> = growing.map(|(scope, change)| (scope, change.growth())).collect();
        let mut under_way = self.under_way();
        for (scope, growth) in &growth {
            let (batches, amount) = under_way.entry(scope.clone()).or_default();
            *batches += 1;
            amount.add(*growth);
        }
        drop(under_way);
        Ok(Reservation { store: self, growth })
    }
}

impl<S: MemoryStore> QuotaStore<S> {
    /// What a scope holds now. A scope that was not counted before is read as a whole.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn usage(&self, scope: &Scope) -> Result<Usage> {
        let ledger = self.counted(std::slice::from_ref(scope)).await?;
        let [episodes, notes, bytes] = ledger.used(scope).0.map(|amount| u64::try_from(amount).unwrap_or_default());
        Ok(Usage { episodes, notes, bytes: self.quota(scope).bytes.map(|_| bytes) })
    }

    /// The ledger, with these scopes, as of now.
    async fn counted(&self, scopes: &[Scope]) -> Result<tokio::sync::MutexGuard<'_, Ledger>> {
        let mut ledger = self.ledger.lock().await;
        if ledger.upto.is_none() {
            ledger.upto = Some(self.inner.health().await?.version);
        }
        for scope in scopes {
            if !ledger.places.contains_key(scope) {
                // What changes meanwhile comes from the feed.
                let records = self.read_scope(scope).await?;
                ledger.begin(scope, records);
            }
        }
        self.catch_up(&mut ledger).await?;
        Ok(ledger)
    }

    async fn read_scope(&self, scope: &Scope) -> Result<Vec<(Key, Amount)>> {
        let mut records = Vec::new();
        for kind in [RecordKind::Episode, RecordKind::Note] {
            let mut scan = Scan::new(kind).scope(scope.clone()).limit(256);
            loop {
                let page = self.inner.scan(&scan).await?;
                let counted = page.records.iter().filter_map(|stored| {
                    let (_, amount) = self.quotas.amount(&stored.record)?;
                    Some((stored.record.key(), amount))
                });
                records.extend(counted);
                match page.next {
                    Some(next) => scan.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(records)
    }

    /// Follows the feed to its end.
    async fn catch_up(&self, ledger: &mut Ledger) -> Result<()> {
        loop {
            let changes = self.inner.changes(ledger.upto.unwrap_or_default(), 1_000).await?;
            let mut unknown = Vec::new();
            for entry in changes.entries.iter().filter(|entry| is_counted(entry.key.kind())) {
                if ledger.knows(entry) {
                    continue;
                }
                if entry.deleted {
                    ledger.set(entry.key.clone(), None);
                } else {
                    unknown.push(entry.key.clone());
                }
            }
            if !unknown.is_empty() {
                let stored = self.inner.get(&unknown).await?;
                for (key, stored) in unknown.into_iter().zip(stored) {
                    ledger.set(key, stored.and_then(|stored| self.quotas.amount(&stored.record)));
                }
            }
            ledger.upto = Some(changes.upto);
            if changes.entries.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sets aside what a batch adds, as soon as it is clear whether there is room.
    async fn admit(&self, asked: &Asked) -> Result<Reservation<'_, S>> {
        loop {
            let mut settled = self.settled.subscribe();
            let ledger = self.counted(&asked.scopes).await?;
            match self.reserve(&ledger, asked) {
                Ok(reservation) => return Ok(reservation),
                Err(Refusal { error, is_final: true }) => return Err(error),
                Err(_) => {
                    drop(ledger);
                    let _ = settled.changed().await;
                }
            }
        }
    }
}

const fn is_counted(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::Episode | RecordKind::Note)
}

impl<S: fmt::Display> fmt::Display for QuotaStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuotaStore({}, {})", self.quotas.usual, self.inner)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: MemoryStore> MemoryStore for QuotaStore<S> {
    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        let Some(asked) = self.asked(batch) else { return self.inner.commit(batch).await };
        let reservation = self.admit(&asked).await?;
        let result = self.inner.commit(batch).await;
        // Whoever checks has the ledger locked from reading the feed on: it sees this as set aside, or in the ledger.
        let mut ledger = self.ledger.lock().await;
        if let Ok(commit) = result {
            ledger.wrote(commit, asked.after);
        }
        drop(reservation);
        drop(ledger);
        result
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        self.inner.get(keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        self.inner.scan(scan).await
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        self.inner.search(search).await
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.inner.changes(since, limit).await
    }

    async fn health(&self) -> Result<StoreHealth> {
        self.inner.health().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
