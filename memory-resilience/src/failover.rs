//! Another one answers when the first cannot.

use std::fmt::{self, Debug, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::{
    Batch, Changes, Commit, Error, ErrorKind, Hit, Key, MemoryStore, Page, Result, Scan, Search, StoreHealth,
    StoreInfo, Stored, Version,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::check::{TIMES, within};

/// One of the two of a [`Failover`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that is meant to answer.
    Primary,
    /// The one that answers otherwise.
    Secondary,
}

impl Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// What a [`Failover`] has done.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailoverStats {
    /// Who is asked first now.
    pub first: Side,
    /// Calls that the primary answered.
    pub by_primary: u64,
    /// Calls that the secondary answered.
    pub by_secondary: u64,
    /// How often it went from one to the other.
    pub switches: u64,
}

/// A store and a copy *of the same database*, with the same versions: a server, and a replica of it, say. The copy answers reads
/// when the store cannot. That it is one cannot be checked.
///
/// A call goes to the other one if the first fails with an error that is [temporary](Error::is_temporary),
/// [persistent](Error::is_persistent) or [`Unavailable`](ErrorKind::Unavailable); other errors are answers. Who has answered is
/// asked first from then on. While that is the secondary, one call in each `pause` first asks the primary for its health,
/// and goes back to it when it is well. If both fail, the error is that of the one asked first, and its message tells the other's.
///
/// For more than two, put one into another. For embedders, there is `Fallback` of `knowhow-memory-embed`.
///
/// - **Reads** go to the copy when the primary fails. A copy may be behind, so it is asked only once it has everything that was
///   written or read through this decorator before, as far as answers told a version; or else the read fails. So nobody
///   misses what they have seen. What *others* wrote shortly before the primary failed may be missing.
/// - **Writes never** go to the copy. A commit that fails, fails; and while the primary is down, all do.
/// - `health` of the copy says that it is [degraded](StoreHealth::degraded). `close` closes both.
///
/// # Order
/// Outside [`Timeout`](crate::Timeout) and [`CircuitBreaker`](crate::CircuitBreaker), one of each around each of the two, so that a
/// primary that hangs is given up and then not asked. [`Retry`](crate::Retry) goes around the failover; inside it, the other is
/// asked only after the last attempt.
///
/// # Cancellation
/// Dropping a call drops what it does inside. If that was a look at the primary, the next one comes after another `pause`.
#[derive(Debug)]
pub struct Failover<A, B> {
    primary: A,
    secondary: B,
    pause: Duration,
    turn: Mutex<Turn>,
    first: watch::Sender<Side>,
    /// The newest version that was told to anybody.
    seen: AtomicU64,
    /// The version that the copy was known to have.
    copied: AtomicU64,
}

#[derive(Debug, Default)]
struct Turn {
    /// When to look after the primary; `None` while it is asked first.
    look_at: Option<Instant>,
    by_primary: u64,
    by_secondary: u64,
    switches: u64,
}

impl<A: MemoryStore, B: MemoryStore> Failover<A, B> {
    /// Reads from a copy of the primary when the primary cannot answer. The primary is looked after at most once in each
    /// `pause`, from 1 ms to 1 day.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a pause out of its range.
    pub fn over_copy(primary: A, copy: B, pause: Duration) -> Result<Self> {
        within("pause", pause, TIMES)?;
        Ok(Self {
            primary,
            secondary: copy,
            pause,
            turn: Mutex::default(),
            first: watch::Sender::new(Side::Primary),
            seen: AtomicU64::new(0),
            copied: AtomicU64::new(0),
        })
    }

    /// A call of both stores that only reads.
    async fn read<T: Told>(&self, primary: impl Answer<T>, copy: impl Answer<T>) -> Result<T> {
        let copy = async {
            self.catch_up().await?;
            copy.await
        };
        let (primary, copy) = ((Side::Primary, primary), (Side::Secondary, copy));
        let answer = if self.is_primary_first().await {
            self.one_or_other(primary, copy).await?
        } else {
            self.one_or_other(copy, primary).await?
        };
        self.seen.fetch_max(answer.newest().0, Ordering::AcqRel);
        Ok(answer)
    }

    /// Whether the primary is asked first, after a look at it when it is time for one.
    async fn is_primary_first(&self) -> bool {
        {
            let mut turn = self.turn();
            let Some(look_at) = turn.look_at else { return true };
            let now = Instant::now();
            if now < look_at {
                return false;
            }
            turn.look_at = Some(now + self.pause);
        }
        self.primary.health().await.is_ok()
    }

    /// Fails if the copy lacks something that was told.
    async fn catch_up(&self) -> Result<()> {
        let seen = self.seen.load(Ordering::Acquire);
        if self.copied.load(Ordering::Acquire) < seen {
            let copied = self.secondary.health().await?.version.0;
            self.copied.fetch_max(copied, Ordering::AcqRel);
            if copied < seen {
                let message = format!("the copy is at version {copied}, and {seen} has been seen already");
                return Err(Error::new(ErrorKind::Unavailable, message).with_temporary(true));
            }
        }
        Ok(())
    }
}

/// What an answer tells of the state that it was made from.
trait Told {
    /// The newest version in it.
    fn newest(&self) -> Version;
}

impl Told for Vec<Option<Stored>> {
    fn newest(&self) -> Version {
        self.iter().flatten().map(|stored| stored.version).max().unwrap_or_default()
    }
}

impl Told for Page {
    fn newest(&self) -> Version {
        self.records.iter().map(|stored| stored.version).max().unwrap_or_default()
    }
}

impl Told for Vec<Hit> {
    fn newest(&self) -> Version {
        self.iter().map(|hit| hit.version).max().unwrap_or_default()
    }
}

impl Told for Changes {
    /// Not `upto`, which may be what was asked for.
    fn newest(&self) -> Version {
        self.entries.last().map(|entry| entry.version).unwrap_or_default()
    }
}

impl Told for StoreHealth {
    fn newest(&self) -> Version {
        self.version
    }
}

/// A call that is made when it is awaited.
trait Answer<T>: Future<Output = Result<T>> + Send {}
impl<T, F: Future<Output = Result<T>> + Send> Answer<T> for F {}

/// Whether another one may know better.
fn is_no_answer(error: &Error) -> bool {
    error.is_temporary() || error.is_persistent() || error.kind() == ErrorKind::Unavailable
}

impl<A, B> Failover<A, B> {
    /// The one that is meant to answer.
    pub const fn primary(&self) -> &A {
        &self.primary
    }

    /// The one that answers otherwise.
    pub const fn secondary(&self) -> &B {
        &self.secondary
    }

    /// Takes out both.
    pub fn into_inner(self) -> (A, B) {
        (self.primary, self.secondary)
    }

    /// What it has done.
    pub fn stats(&self) -> FailoverStats {
        let Turn { look_at, by_primary, by_secondary, switches } = *self.turn();
        let first = if look_at.is_some() { Side::Secondary } else { Side::Primary };
        FailoverStats { first, by_primary, by_secondary, switches }
    }

    /// Follows who is asked first.
    pub fn subscribe(&self) -> watch::Receiver<Side> {
        self.first.subscribe()
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call of one of the two, and if that does not answer, of the other.
    async fn one_or_other<T>(&self, one: (Side, impl Answer<T>), other: (Side, impl Answer<T>)) -> Result<T> {
        let error = match one.1.await {
            Err(error) if is_no_answer(&error) => error,
            answer => return self.answered(one.0, answer),
        };
        match other.1.await {
            Err(also) if is_no_answer(&also) => Err(error.adding(format_args!("and the {}: {also}", other.0))),
            answer => self.answered(other.0, answer),
        }
    }

    /// Remembers who has answered.
    fn answered<T>(&self, side: Side, answer: Result<T>) -> Result<T> {
        let mut turn = self.turn();
        let switched = match side {
            Side::Primary => {
                turn.by_primary += 1;
                turn.look_at.take().is_some()
            }
            Side::Secondary => {
                turn.by_secondary += 1;
                let primary_was_first = turn.look_at.is_none();
                turn.look_at.get_or_insert_with(|| Instant::now() + self.pause);
                primary_was_first
            }
        };
        if switched {
            turn.switches += 1;
            self.first.send_replace(side);
        }
        drop(turn);
        match side {
            Side::Primary if switched => tracing::info!("the primary answers again"),
            Side::Secondary if switched => tracing::warn!("the secondary answers in place of the primary"),
            _ => {}
        }
        answer
    }
}

impl<A: Display, B: Display> Display for Failover<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failover({}, {})", self.primary, self.secondary)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<A: MemoryStore, B: MemoryStore> MemoryStore for Failover<A, B> {
    fn info(&self) -> StoreInfo {
        self.primary.info()
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        let commit = match self.primary.commit(batch).await {
            Err(error) if is_no_answer(&error) => return Err(error),
            answer => self.answered(Side::Primary, answer)?,
        };
        self.seen.fetch_max(commit.version.0, Ordering::AcqRel);
        Ok(commit)
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        self.read(self.primary.get(keys), self.secondary.get(keys)).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        self.read(self.primary.scan(scan), self.secondary.scan(scan)).await
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        self.read(self.primary.search(search), self.secondary.search(search)).await
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.read(self.primary.changes(since, limit), self.secondary.changes(since, limit)).await
    }

    async fn health(&self) -> Result<StoreHealth> {
        let copy = async {
            let health = self.secondary.health().await?;
            let degraded = Some("the primary does not answer: reads are of its copy, writes fail".to_owned());
            Ok(StoreHealth { degraded, ..health })
        };
        self.read(self.primary.health(), copy).await
    }

    async fn close(&self) -> Result<()> {
        self.primary.close().await.and(self.secondary.close().await)
    }
}
