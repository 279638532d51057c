//! Following what changes in a store, as a stream.
//!
//! A store answers what changed when it is asked ([`MemoryStore::changes`]), and nothing else: that is all that a database
//! shared by several processes can promise. A [`Watch`] asks every so often and makes a stream of the answers. What the engine
//! it comes from has written it asks for at once.

use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{Changes, Error, FeedEntry, MemoryStore, Result, Version};

/// Entries that are read at once.
const PAGE: usize = 1_000;
/// How long two reads are apart at least where the first reached the end, so that a busy writer is not asked after each commit.
const SPACING: Duration = Duration::from_millis(5);
/// How long the longest interval is, and how long a failing store is left alone at most, unless the interval is longer.
const LONGEST: Duration = Duration::from_secs(3_600);
const LONGEST_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// A stream of what changes in a store, of all its scopes: see [`Memory::watch`](crate::Memory::watch).
///
/// Each [entry](FeedEntry) names a record that was put or deleted, in the order of the [versions](Version), those of other
/// processes too. The feed holds each record at its last change: one that changes twice before it is told is told once, as it
/// is now, and one that changes again afterwards is told again. Nothing is told twice, and nothing that is there at the end is
/// left out. Derived records and open episodes are not in the feed; see [`RecordKind::in_feed`](crate::RecordKind::in_feed).
///
/// It belongs to whoever runs the store: entries are of all scopes, and of a deleted record nobody can say any more whose it
/// was. Who wants those of one scope [gets](MemoryStore::get) the records and looks at their [scope](crate::Record::scope).
///
/// # Going on
/// Everything up to [`position`](Self::position) has been told. Keep it, or the version of the last entry that was worked off,
/// and a new watch goes on from there, in another process too. To begin with what comes from now on, begin at the version that
/// [`health`](MemoryStore::health) tells.
///
/// # Errors
/// A [temporary](Error::is_temporary) or [persistent](Error::is_persistent) error is told, and the stream goes on: the store is
/// asked again, ever less often up to every 30 seconds, and each further failure is told too. Any other error is told, and the
/// stream ends: after [`close`](MemoryStore::close) with [`Unavailable`](crate::ErrorKind::Unavailable). No entry is lost: a new
/// watch from `position` goes on.
///
/// # Cancellation
/// [`next`](Self::next) may be dropped at any time. Nothing runs beside the caller: a watch that is not asked does not read, and
/// dropping it costs nothing. It keeps the store alive, not the engine.
///
/// # Default
/// The store is asked every 200 milliseconds.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// use memory_core::{InMemoryStore, Key, Memory, NewNote, RecordKind, Version};
///
/// let memory = Memory::builder().store(InMemoryStore::new()).build().await?;
/// let note = memory.remember(NewNote::new("deploys are frozen on Fridays")).await?.id;
/// let mut watch = memory.watch(Version(0));
/// while let Some(entry) = watch.next().await {
///     let entry = entry?;
///     if entry.key.kind() == RecordKind::Note {
///         assert_eq!((entry.key, entry.deleted), (Key::Note(note), false));
///         break;
///     }
/// }
/// # Ok::<(), memory_core::Error>(())
/// # }).unwrap();
/// ```
pub struct Watch {
    store: Arc<dyn MemoryStore>,
    interval: Duration,
    position: Version,
    /// What was read and not told yet.
    entries: std::vec::IntoIter<FeedEntry>,
    /// Where the feed is read on.
    upto: Version,
    /// The earliest and the latest moment of the next read; `None` is at once.
    due: Option<(Instant, Instant)>,
    /// How often reading has failed in a row.
    failures: u32,
    ended: bool,
    /// What tells of commits; away while something is read.
    commits: Option<watch::Receiver<()>>,
    /// The read that is under way. The lock is never waited for: it makes the watch `Sync`.
    reading: Mutex<Option<Pin<Box<Reading>>>>,
}

type Reading = dyn Future<Output = (Result<Changes>, Option<watch::Receiver<()>>)> + Send;

impl Watch {
    /// The changes of a store after this version; [`Version(0)`](Version) begins with the first.
    pub fn new(store: Arc<dyn MemoryStore>, since: Version) -> Self {
        Self::woken(store, since, None)
    }

    /// The same, asking at once when it is told of a commit.
    pub(crate) fn woken(store: Arc<dyn MemoryStore>, since: Version, commits: Option<watch::Receiver<()>>) -> Self {
        Self {
            store,
            interval: Duration::from_millis(200),
            position: since,
            entries: Vec::new().into_iter(),
            upto: since,
            due: None,
            failures: 0,
            ended: false,
            commits,
            reading: Mutex::default(),
        }
    }

    /// Sets how often the store is asked for what others have written, from 5 milliseconds to 1 hour.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) outside that range.
    pub fn every(mut self, interval: Duration) -> Result<Self> {
        if !(SPACING..=LONGEST).contains(&interval) {
            return Err(Error::invalid("interval", format_args!("{interval:?}"), "5 milliseconds..=1 hour"));
        }
        self.interval = interval;
        Ok(self)
    }

    /// Everything up to here has been told: a new watch from here goes on where this one is.
    pub fn position(&self) -> Version {
        self.position
    }

    /// The next entry, as soon as there is one; `None` after an error that ended the stream.
    ///
    /// Must be called within a tokio runtime with time enabled.
    ///
    /// # Errors
    /// The store's errors; see [`Watch`].
    pub async fn next(&mut self) -> Option<Result<FeedEntry>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn tell(&mut self) -> Option<FeedEntry> {
        let entry = self.entries.next()?;
        self.position = if self.entries.as_slice().is_empty() { self.upto } else { entry.version };
        Some(entry)
    }

    /// Waits for the read that is under way, or makes one.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Changes>> {
        let reading = self.reading.get_mut().unwrap_or_else(PoisonError::into_inner);
        let reading = reading
            .get_or_insert_with(|| Box::pin(read(Arc::clone(&self.store), self.upto, self.due, self.commits.take())));
        let (result, commits) = ready!(reading.as_mut().poll(context));
        self.commits = commits;
        *self.reading.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        Poll::Ready(result)
    }

    fn take(&mut self, changes: Changes) {
        let now = Instant::now();
        self.failures = 0;
        self.due = match changes.entries.len() {
            0 => Some((now + SPACING, now + self.interval)),
            PAGE => None,
            // Perhaps not the end: a store may answer with less than it was asked for.
            _ => Some((now + SPACING, now + SPACING)),
        };
        if changes.entries.is_empty() {
            self.position = changes.upto;
        }
        self.upto = changes.upto;
        self.entries = changes.entries.into_iter();
    }

    fn failed(&mut self, error: &Error) {
        self.ended = !error.is_temporary() && !error.is_persistent();
        let wait = self.interval.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let now = Instant::now();
        self.due = Some((now + SPACING, now + wait.min(LONGEST_AFTER_FAILURE.max(self.interval))));
        self.failures += 1;
    }
}

impl Stream for Watch {
    type Item = Result<FeedEntry>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watch = self.get_mut();
        loop {
            if let Some(entry) = watch.tell() {
                return Poll::Ready(Some(Ok(entry)));
            }
            if watch.ended {
                return Poll::Ready(None);
            }
            match ready!(watch.poll_read(context)) {
                Ok(changes) => watch.take(changes),
                Err(error) => {
                    watch.failed(&error);
                    return Poll::Ready(Some(Err(error.in_operation("watch"))));
                }
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, interval, position, ended, .. } = self;
        let mut shown = f.debug_struct("Watch");
        shown.field("store", store).field("interval", interval).field("position", position).field("ended", ended);
        shown.finish_non_exhaustive()
    }
}

/// Reads on when it is due: at the latest moment, or, if there was a commit, from the earliest on.
async fn read(
    store: Arc<dyn MemoryStore>,
    since: Version,
    due: Option<(Instant, Instant)>,
    mut commits: Option<watch::Receiver<()>>,
) -> (Result<Changes>, Option<watch::Receiver<()>>) {
    if let Some((earliest, latest)) = due {
        let committed = async {
            if let Some(commits) = &mut commits
                && commits.changed().await.is_ok()
            {
                return;
            }
            // Nobody tells: there is only the time.
            pending().await
        };
        let _ = timeout_at(latest, committed).await;
        sleep_until(earliest).await;
    }
    // Before the read: a commit beside it is read next.
    commits.iter_mut().for_each(watch::Receiver::mark_unchanged);
    (store.changes(since, PAGE).await, commits)
}
