//! Calls that come at about the same time, in one request.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::{Embedder, Error, ErrorKind, Result, Role, Vector, VectorSpace};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::asking::ask;

/// How a [`BatchingEmbedder`] collects. It is checked when the embedder is made.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `window` | 5 ms | 100 µs ..= 1 s |
/// | `texts` | 32 | 2..=2,048 |
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchingConfig {
    /// How long the first call of a batch waits for others. A call that stays alone takes so much longer.
    pub window: Duration,
    /// Texts in a batch at most; a full one does not wait. A call with as many is passed on at once.
    pub texts: usize,
}

impl Default for BatchingConfig {
    fn default() -> Self {
        Self { window: Duration::from_millis(5), texts: 32 }
    }
}

impl BatchingConfig {
    const WINDOW: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(1);
    const TEXTS: RangeInclusive<usize> = 2..=2_048;

    /// Sets [`window`](Self::window).
    #[must_use]
    pub const fn with_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets [`texts`](Self::texts).
    #[must_use]
    pub const fn with_texts(mut self, texts: usize) -> Self {
        self.texts = texts;
        self
    }

    fn validate(&self) -> Result<()> {
        if !Self::WINDOW.contains(&self.window) {
            return Err(Error::invalid("batching.window", format_args!("{:?}", self.window), "100µs..=1s"));
        }
        if !Self::TEXTS.contains(&self.texts) {
            return Err(Error::invalid("batching.texts", self.texts, "2..=2048"));
        }
        Ok(())
    }
}

/// How a [`BatchingEmbedder`] is doing: events since it was made.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchingStats {
    /// Calls that it got.
    pub calls: u64,
    /// Texts in them.
    pub texts: u64,
    /// Calls of the embedder that it made of them.
    pub requests: u64,
    /// Batches that were refused as [`Invalid`](ErrorKind::Invalid), and whose calls were made one by one.
    pub taken_apart: u64,
}

/// An embedder that makes one call of those that come within a few milliseconds. Each gets the vectors of its own texts, in order.
///
/// If the joint call is [`Invalid`](ErrorKind::Invalid), one of the texts may be to blame, and each call is made by itself. Any
/// other error is told to all.
///
/// # Cancellation
/// A call that is dropped harms no other. Its texts are left out if the batch is not on its way.
///
/// # Order
/// Inside of [`CachedEmbedder`](crate::CachedEmbedder); outside of retries, breakers and limits, which then see requests, and
/// not each of the calls. Its batch should fit into one request of the embedder
/// (`ServerConfig::texts_per_request`).
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// use memory_core::{Embedder, HashEmbedder, Role};
/// use memory_embed::{BatchingConfig, BatchingEmbedder};
/// let embedder = BatchingEmbedder::new(HashEmbedder::new(), BatchingConfig::default())?;
/// let (one, two) = tokio::join!(embedder.embed(Role::Query, &["one"]), embedder.embed(Role::Query, &["two"]));
/// assert_eq!((one?.len(), two?.len()), (1, 1));
/// assert_eq!((embedder.stats().calls, embedder.stats().requests), (2, 1));
/// # Ok::<(), memory_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct BatchingEmbedder<E>(Arc<Inner<E>>);

#[derive(Debug)]
struct Inner<E> {
    embedder: E,
    config: BatchingConfig,
    /// Of queries and of documents.
    batches: [Mutex<Batch>; 2],
    calls: AtomicU64,
    texts: AtomicU64,
    requests: AtomicU64,
    taken_apart: AtomicU64,
}

/// The batch that is being collected.
#[derive(Debug, Default)]
struct Batch {
    number: u64,
    texts: usize,
    calls: Vec<Call>,
}

/// A call that waits for its answer.
#[derive(Debug)]
struct Call {
    texts: Vec<String>,
    answer: oneshot::Sender<Result<Vec<Vector>>>,
}

impl Batch {
    /// What was collected, for another to begin.
    fn take(&mut self) -> Vec<Call> {
        self.number += 1;
        self.texts = 0;
        std::mem::take(&mut self.calls)
    }
}

impl<E: Embedder> BatchingEmbedder<E> {
    /// The embedder with its calls in batches.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for settings out of range.
    pub fn new(embedder: E, config: BatchingConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self(Arc::new(Inner {
            embedder,
            config,
            batches: Default::default(),
            calls: AtomicU64::new(0),
            texts: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            taken_apart: AtomicU64::new(0),
        })))
    }
}

impl<E> BatchingEmbedder<E> {
    /// The embedder that gets the batches.
    pub fn get_ref(&self) -> &E {
        &self.0.embedder
    }

    /// How it is doing.
    pub fn stats(&self) -> BatchingStats {
        let Inner { calls, texts, requests, taken_apart, .. } = &*self.0;
        let [calls, texts, requests, taken_apart] =
            [calls, texts, requests, taken_apart].map(|count| count.load(Ordering::Relaxed));
        BatchingStats { calls, texts, requests, taken_apart }
    }
}

impl<E: Embedder> Inner<E> {
    fn batch(&self, role: Role) -> MutexGuard<'_, Batch> {
        let batch = match role {
            Role::Query => &self.batches[0],
            Role::Document => &self.batches[1],
        };
        batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call to the batch that is being collected, and sends off what is full; gives the number of its batch.
    fn join(self: &Arc<Self>, role: Role, call: Call) -> u64 {
        let mut batch = self.batch(role);
        if batch.texts + call.texts.len() > self.config.texts {
            self.send_off(role, batch.take());
        }
        let number = batch.number;
        batch.texts += call.texts.len();
        batch.calls.push(call);
        if batch.texts == self.config.texts {
            self.send_off(role, batch.take());
        }
        number
    }

    /// Sends off a batch whose window is over, unless it is on its way already.
    fn end(self: &Arc<Self>, role: Role, number: u64) {
        let mut batch = self.batch(role);
        if batch.number == number {
            self.send_off(role, batch.take());
        }
    }

    fn send_off(self: &Arc<Self>, role: Role, calls: Vec<Call>) {
        if !calls.is_empty() {
            tokio::spawn(Arc::clone(self).run(role, calls));
        }
    }

    async fn run(self: Arc<Self>, role: Role, mut calls: Vec<Call>) {
        calls.retain(|call| !call.answer.is_closed());
        let texts: Vec<&str> = calls.iter().flat_map(|call| &call.texts).map(String::as_str).collect();
        if texts.is_empty() {
            return;
        }
        match self.ask(role, &texts).await {
            Ok(vectors) => {
                let mut vectors = vectors.into_iter();
                for call in calls {
                    let own = vectors.by_ref().take(call.texts.len()).collect();
                    let _gone = call.answer.send(Ok(own));
                }
            }
            Err(error) if error.kind() == ErrorKind::Invalid && calls.len() > 1 => {
                self.taken_apart.fetch_add(1, Ordering::Relaxed);
                for call in calls {
                    tokio::spawn(Arc::clone(&self).run_alone(role, call));
                }
            }
            Err(error) => {
                for call in calls {
                    let _gone = call.answer.send(Err(error.again()));
                }
            }
        }
    }

    async fn run_alone(self: Arc<Self>, role: Role, call: Call) {
        let texts: Vec<&str> = call.texts.iter().map(String::as_str).collect();
        let answer = self.ask(role, &texts).await;
        let _gone = call.answer.send(answer);
    }

    async fn ask(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        ask(&self.embedder, role, texts).await
    }
}

impl<E: fmt::Display> fmt::Display for BatchingEmbedder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchingEmbedder({}, {:?})", self.0.embedder, self.0.config.window)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<E: Embedder> Embedder for BatchingEmbedder<E> {
    fn space(&self) -> &VectorSpace {
        self.0.embedder.space()
    }

    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.0.texts.fetch_add(u64::try_from(texts.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if texts.len() >= self.0.config.texts {
            return self.0.ask(role, texts).await;
        }
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, mut answered) = oneshot::channel();
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        let number = self.0.join(role, Call { texts, answer });
        // Each call looks at the clock: the first one may be dropped, or its runtime end.
        let answer = match timeout(self.0.config.window, &mut answered).await {
            Ok(answer) => answer,
            Err(_) => {
                self.0.end(role, number);
                answered.await
            }
        };
        answer.unwrap_or_else(|_| {
            let why = "a batch broke off: the embedder panicked, or the runtime of another call ended";
            Err(Error::new(ErrorKind::Io, format!("{}: {why}", self.0.embedder)))
        })
    }

    async fn health(&self) -> Result<()> {
        self.0.embedder.health().await
    }
}
