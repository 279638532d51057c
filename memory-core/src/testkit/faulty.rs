//! Stores and embedders that fail by a script.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::{
    Batch, Changes, Commit, Embedder, Error, Hit, Key, MemoryStore, Page, Result, Role, Scan, Search, StoreHealth,
    StoreInfo, Stored, Vector, VectorSpace, Version,
};

/// An operation of a store that can fail.
#[expect(clippy::exhaustive_enums, reason = "it lists the operations of a store")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`MemoryStore::commit`].
    Commit,
    /// [`MemoryStore::get`].
    Get,
    /// [`MemoryStore::scan`].
    Scan,
    /// [`MemoryStore::search`].
    Search,
    /// [`MemoryStore::changes`].
    Changes,
    /// [`MemoryStore::health`].
    Health,
    /// [`MemoryStore::close`].
    Close,
}

/// What happens to one call.
#[non_exhaustive]
#[derive(Debug)]
pub enum Fault {
    /// The call answers with this error and is not made.
    Before(Error),
    /// The call is made, and if it succeeds, answers with this error all the same: a failure whose outcome the caller
    /// cannot know.
    After(Error),
    /// The call waits at the gate, then is made.
    Hold(Gate),
}

/// Where a [held](Fault::Hold) call waits. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<GateState>);

#[derive(Debug)]
struct GateState {
    reached: Semaphore,
    opened: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(GateState { reached: Semaphore::new(0), opened: Semaphore::new(0) }))
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until a call stands at the gate. Each call that comes is told once.
    pub async fn reached(&self) {
        take(&self.0.reached).await;
    }

    /// Lets one call pass: the one that waits, or else the next that comes.
    pub fn open(&self) {
        self.0.opened.add_permits(1);
    }

    async fn pass(&self) {
        self.0.reached.add_permits(1);
        take(&self.0.opened).await;
    }
}

async fn take(permits: &Semaphore) {
    permits.acquire().await.expect("it is never closed").forget();
}

/// A store around a store that counts the calls and fails some of them by a script. With an empty script it adds nothing.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use memory_core::testkit::{Fault, FaultyStore, Operation};
/// use memory_core::{Error, ErrorKind, InMemoryStore, MemoryStore};
/// let store = FaultyStore::new(InMemoryStore::new());
/// store.script(Operation::Health, 2, Fault::Before(Error::new(ErrorKind::Busy, "scripted")));
/// assert!(store.health().await.is_ok());
/// assert_eq!(store.health().await.unwrap_err().kind(), ErrorKind::Busy);
/// assert!(store.health().await.is_ok());
/// assert_eq!(store.calls(Operation::Health), 3);
/// # });
/// ```
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: S,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    calls: HashMap<Operation, u64>,
    faults: HashMap<(Operation, u64), Fault>,
}

impl<S> FaultyStore<S> {
    /// The store with an empty script.
    pub fn new(inner: S) -> Self {
        Self { inner, script: Mutex::default() }
    }

    /// Sets what happens to the `n`-th call of an operation, counted from 1 for the first call ever.
    pub fn script(&self, operation: Operation, n: u64, fault: Fault) {
        self.lock().faults.insert((operation, n), fault);
    }

    /// Sets what happens to the next call of an operation.
    pub fn script_next(&self, operation: Operation, fault: Fault) {
        let mut script = self.lock();
        let next = script.calls.get(&operation).copied().unwrap_or_default() + 1;
        script.faults.insert((operation, next), fault);
    }

    /// How often an operation was called, failed calls too.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.lock().calls.get(&operation).copied().unwrap_or_default()
    }

    /// The store inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, operation: Operation) -> Option<Fault> {
        let mut script = self.lock();
        let calls = script.calls.entry(operation).or_default();
        *calls += 1;
        let place = (operation, *calls);
        script.faults.remove(&place)
    }

    async fn run<T>(&self, operation: Operation, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.count(operation) {
            None => call.await,
            Some(Fault::Before(error)) => Err(error),
            Some(Fault::After(error)) => call.await.and(Err(error)),
            Some(Fault::Hold(gate)) => {
                gate.pass().await;
                call.await
            }
        }
    }
}

impl<S: fmt::Display> fmt::Display for FaultyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: MemoryStore> MemoryStore for FaultyStore<S> {
    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        self.run(Operation::Commit, self.inner.commit(batch)).await
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        self.run(Operation::Get, self.inner.get(keys)).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        self.run(Operation::Scan, self.inner.scan(scan)).await
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        self.run(Operation::Search, self.inner.search(search)).await
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.run(Operation::Changes, self.inner.changes(since, limit)).await
    }

    async fn health(&self) -> Result<StoreHealth> {
        self.run(Operation::Health, self.inner.health()).await
    }

    async fn close(&self) -> Result<()> {
        self.run(Operation::Close, self.inner.close()).await
    }
}

/// What happens to one call of [`embed`](Embedder::embed).
#[non_exhaustive]
#[derive(Debug)]
pub enum EmbedderFault {
    /// It answers with this error.
    Fail(Error),
    /// It leaves out the last vector.
    WrongCount,
    /// Each vector lacks its last component, or has one more where there is but one.
    WrongLength,
}

/// An embedder around an embedder that counts the calls of [`embed`](Embedder::embed) and spoils the next ones by a script.
#[derive(Debug)]
pub struct FaultyEmbedder<E> {
    inner: E,
    script: Mutex<(u64, VecDeque<EmbedderFault>)>,
}

impl<E> FaultyEmbedder<E> {
    /// The embedder with an empty script.
    pub fn new(inner: E) -> Self {
        Self { inner, script: Mutex::default() }
    }

    /// Adds what happens to the next call that has no fault yet.
    pub fn script(&self, fault: EmbedderFault) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).1.push_back(fault);
    }

    /// How often it was asked to embed.
    pub fn calls(&self) -> u64 {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn count(&self) -> Option<EmbedderFault> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.0 += 1;
        script.1.pop_front()
    }
}

impl<E: fmt::Display> fmt::Display for FaultyEmbedder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyEmbedder({})", self.inner)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<E: Embedder> Embedder for FaultyEmbedder<E> {
    fn space(&self) -> &VectorSpace {
        self.inner.space()
    }

    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        let fault = self.count();
        if let Some(EmbedderFault::Fail(error)) = fault {
            return Err(error);
        }
        let mut vectors = self.inner.embed(role, texts).await?;
        match fault {
            Some(EmbedderFault::WrongCount) => drop(vectors.pop()),
            Some(EmbedderFault::WrongLength) => {
                for vector in &mut vectors {
                    let length = vector.dimensions();
                    let mut components = vector.as_slice().to_vec();
                    components.resize(if length > 1 { length - 1 } else { 2 }, 0.0);
                    *vector = Vector::new(components)?;
                }
            }
            _ => {}
        }
        Ok(vectors)
    }

    async fn health(&self) -> Result<()> {
        self.inner.health().await
    }
}
