//! Another embedder of the same space, when the first fails.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::{Embedder, Error, ErrorKind, Result, Role, Vector, VectorSpace};
use tokio::time::{Instant, timeout};

use crate::asking::{PROBE, ask};

/// How a [`Fallback`] looks after embedders that failed. It is checked when the fallback is made.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `pause` | 30 s | 10 ms ..= 1 day |
/// | `check_timeout` | 5 s | 10 ms ..= 1 h |
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallbackConfig {
    /// How long an embedder that failed is left alone before its health is asked for, and between two such questions.
    pub pause: Duration,
    /// How long a question about health, or for a vector to compare, may take.
    pub check_timeout: Duration,
}

impl Default for FallbackConfig {
    fn default() -> Self {
        Self { pause: Duration::from_secs(30), check_timeout: Duration::from_secs(5) }
    }
}

impl FallbackConfig {
    const PAUSE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(86_400);
    const CHECK_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3_600);

    /// Sets [`pause`](Self::pause).
    #[must_use]
    pub const fn with_pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets [`check_timeout`](Self::check_timeout).
    #[must_use]
    pub const fn with_check_timeout(mut self, timeout: Duration) -> Self {
        self.check_timeout = timeout;
        self
    }

    fn validate(&self) -> Result<()> {
        if !Self::PAUSE.contains(&self.pause) {
            return Err(Error::invalid("fallback.pause", format_args!("{:?}", self.pause), "10ms..=86400s"));
        }
        if !Self::CHECK_TIMEOUT.contains(&self.check_timeout) {
            let value = format_args!("{:?}", self.check_timeout).to_string();
            return Err(Error::invalid("fallback.check_timeout", value, "10ms..=3600s"));
        }
        Ok(())
    }
}

/// How a [`Fallback`] is doing.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackStats {
    /// Which of its embedders answers now, counted from 0.
    pub answering: usize,
    /// Its embedders, in order.
    pub members: Vec<FallbackMember>,
}

/// One embedder of a [`Fallback`]: events since it was made.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackMember {
    /// What it calls itself.
    pub name: String,
    /// Calls that it answered.
    pub answered: u64,
    /// Calls that it failed.
    pub failed: u64,
}

/// Several embedders of one space. The first that works answers; when it fails, the next does, and goes on doing so until one before
/// it is healthy again, which is asked after a [`pause`](FallbackConfig::pause), by one call.
///
/// Embedders of different spaces are refused, and so is one whose vectors are others in spite of what it says: each is asked for
/// the vector of the same text before it first answers, and these must agree (cosine of at least 0.999). That happens when the
/// fallback is made, or, for one that is down then, when it is needed.
///
/// A call that is [`Invalid`](ErrorKind::Invalid) is tried with the next embedder too, but does not count as an outage.
///
/// # Cancellation
/// A call that is dropped leaves nothing behind.
///
/// # Order
/// Inside of [`CachedEmbedder`](crate::CachedEmbedder) and [`BatchingEmbedder`](crate::BatchingEmbedder). Retries and breakers
/// around each embedder decide what counts as failed; their time is added up.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// use std::sync::Arc;
/// use memory_core::{Embedder, HashEmbedder, Role};
/// use memory_embed::{Fallback, FallbackConfig};
/// let both: Vec<Arc<dyn Embedder>> = vec![Arc::new(HashEmbedder::new()), Arc::new(HashEmbedder::new())];
/// let embedder = Fallback::between(both, FallbackConfig::default()).await?;
/// embedder.embed(Role::Query, &["log in"]).await?;
/// assert_eq!(embedder.stats().members[0].answered, 1);
/// # Ok::<(), memory_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Fallback {
    members: Vec<Member>,
    config: FallbackConfig,
    answering: AtomicUsize,
    /// When one before the one that answers is to be asked for its health.
    next_check: Mutex<Instant>,
    /// The vector of the probe, of the first that gave one.
    reference: OnceLock<Vector>,
}

#[derive(Debug)]
struct Member {
    embedder: Arc<dyn Embedder>,
    /// Whether its vectors were compared.
    agrees: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// What the vectors of two embedders must at least have as cosine.
const ALIKE: f64 = 0.999;
const MEMBERS: RangeInclusive<usize> = 2..=16;

impl Fallback {
    /// The embedders, the preferred one first. One that cannot be reached now is compared later.
    ///
    /// # Errors
    /// - [`SpaceMismatch`](ErrorKind::SpaceMismatch): not all are of one space, or their vectors differ.
    /// - [`Invalid`](ErrorKind::Invalid): settings out of range, or not 2 to 16 embedders.
    pub async fn between(embedders: Vec<Arc<dyn Embedder>>, config: FallbackConfig) -> Result<Self> {
        config.validate()?;
        if !MEMBERS.contains(&embedders.len()) {
            return Err(Error::invalid("fallback.embedders", embedders.len(), "2..=16"));
        }
        if let Some(other) = embedders.iter().find(|embedder| embedder.space() != embedders[0].space()) {
            return Err(other_space(&*embedders[0], &**other));
        }
        let member = |embedder| Member {
            embedder,
            agrees: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        let fallback = Self {
            members: embedders.into_iter().map(member).collect(),
            config,
            answering: AtomicUsize::new(0),
            next_check: Mutex::new(Instant::now()),
            reference: OnceLock::new(),
        };
        for member in &fallback.members {
            match fallback.compare(member).await {
                Err(error) if error.kind() == ErrorKind::SpaceMismatch => return Err(error),
                Err(error) => tracing::warn!(embedder = %member.embedder, %error, "cannot be compared yet"),
                Ok(()) => {}
            }
        }
        Ok(fallback)
    }

    /// How it is doing.
    pub fn stats(&self) -> FallbackStats {
        let member = |member: &Member| FallbackMember {
            name: member.embedder.to_string(),
            answered: member.answered.load(Ordering::Relaxed),
            failed: member.failed.load(Ordering::Relaxed),
        };
        FallbackStats { answering: self.answering(), members: self.members.iter().map(member).collect() }
    }

    fn answering(&self) -> usize {
        self.answering.load(Ordering::Relaxed)
    }

    /// Succeeds if its vectors are those of the others.
    async fn compare(&self, member: &Member) -> Result<()> {
        if member.agrees.load(Ordering::Relaxed) {
            return Ok(());
        }
        let asked = self.in_time(member, ask(&*member.embedder, Role::Document, &[PROBE])).await?;
        let Some(vector) = asked.into_iter().next() else { return Ok(()) };
        let cosine = self.reference.get_or_init(|| vector.clone()).cosine(&vector);
        if cosine < ALIKE {
            let name = &member.embedder;
            let message = format!(
                "{name} says that its vectors are of {}, but they are not those of the others: cosine {cosine:.3} for {PROBE:?}; \
                 allowed: {ALIKE} or more",
                name.space()
            );
            return Err(Error::new(ErrorKind::SpaceMismatch, message));
        }
        member.agrees.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn in_time<T>(&self, member: &Member, asked: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.config.check_timeout;
        timeout(limit, asked).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::TimedOut, format!("{}: no answer to a check in {limit:?}", member.embedder)))
        })
    }

    /// Goes back to the first before the one that answers that is healthy, if it is time to ask.
    async fn go_back(&self) {
        let now = self.answering();
        if now == 0 || !self.is_time_to_check() {
            return;
        }
        for (place, member) in self.members[..now].iter().enumerate() {
            if self.in_time(member, member.embedder.health()).await.is_ok() {
                self.change(now, place);
                return;
            }
        }
    }

    /// True for one caller in a pause.
    fn is_time_to_check(&self) -> bool {
        let mut next = self.next_check.lock().unwrap_or_else(PoisonError::into_inner);
        let due = Instant::now() >= *next;
        if due {
            *next = Instant::now() + self.config.pause;
        }
        due
    }

    /// Another one answers from now on, unless a call beside this one has decided.
    fn change(&self, from: usize, to: usize) {
        let changed = self.answering.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if changed && from != to {
            *self.next_check.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + self.config.pause;
            let [from, to] = [from, to].map(|place| &self.members[place].embedder);
            tracing::warn!(%from, %to, "another embedder answers");
        }
    }

    async fn ask(&self, member: &Member, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        self.compare(member).await?;
        ask(&*member.embedder, role, texts).await
    }
}

fn other_space(first: &dyn Embedder, other: &dyn Embedder) -> Error {
    let message = format!(
        "{first} gives vectors of {}, and {other} of {}; allowed: embedders of one space (the same weights under two names are \
         given one by Model::with_identity)",
        first.space(),
        other.space()
    );
    Error::new(ErrorKind::SpaceMismatch, message)
}

/// The error of a call that all have failed.
fn all_failed(errors: &[Error]) -> Error {
    let find = |is: fn(&Error) -> bool| errors.iter().find(|error| is(error));
    let hopeful = find(Error::is_temporary).or(find(Error::is_persistent));
    let kind = hopeful.or(errors.first()).map_or(ErrorKind::Unavailable, Error::kind);
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let error =
        Error::new(kind, format!("all embedders failed: {}", told.join("; "))).with_temporary(hopeful.is_some());
    let error = if hopeful.is_some_and(Error::is_persistent) { error.into_persistent() } else { error };
    match errors.iter().filter_map(Error::retry_after).min() {
        Some(pause) => error.with_retry_after(pause),
        None => error,
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fallback(")?;
        for (place, member) in self.members.iter().enumerate() {
            let (comma, mark) =
                (if place > 0 { ", " } else { "" }, if place == self.answering() { "answering: " } else { "" });
            write!(f, "{comma}{mark}{}", member.embedder)?;
        }
        f.write_str(")")
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Embedder for Fallback {
    fn space(&self) -> &VectorSpace {
        self.members[0].embedder.space()
    }

    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        self.go_back().await;
        let begin = self.answering();
        let (mut errors, mut outage) = (Vec::new(), false);
        for place in (begin..self.members.len()).chain(0..begin) {
            let member = &self.members[place];
            match self.ask(member, role, texts).await {
                Ok(vectors) => {
                    member.answered.fetch_add(1, Ordering::Relaxed);
                    if outage {
                        self.change(begin, place);
                    }
                    return Ok(vectors);
                }
                Err(error) => {
                    member.failed.fetch_add(1, Ordering::Relaxed);
                    outage |= error.kind() != ErrorKind::Invalid;
                    errors.push(error);
                }
            }
        }
        Err(all_failed(&errors))
    }

    /// Succeeds if one of them is healthy.
    async fn health(&self) -> Result<()> {
        let mut errors = Vec::new();
        for member in &self.members {
            match self.in_time(member, member.embedder.health()).await {
                Ok(()) => return Ok(()),
                Err(error) => errors.push(error),
            }
        }
        Err(all_failed(&errors))
    }
}
