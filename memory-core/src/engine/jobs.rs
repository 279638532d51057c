//! What goes on beside the callers: when each job runs, and what it tells of itself.
//!
//! A job is a [`Job`] in [`Jobs`], which keeps what is to be told of it, and a task that does the work and says so with
//! [`Job::ran`]. The tasks hold the engine weakly and end with it. Work that is done every so often is started with [`every`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::embed_missing::{EMBEDDING_PERIOD, FIRST_EMBEDDING, Rest};
use super::notes::{EXPIRY_PERIOD, expire};
use super::retention::{FIRST_RETENTION, RETENTION_PERIOD, Retention};
use super::{Inner, Memory};
use crate::{Result, Scope, Source};

/// How many times sooner than usual a job is run again after a first failure; each further one doubles the wait, up to the usual.
const SOONER: u32 = 10;

/// How a job that runs beside the callers is doing.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobHealth {
    /// `projection` folds episodes into patterns, `leases` renews the leases of open episodes, `sweep` closes those whose
    /// lease has run out, `steps` writes buffered steps, `consolidation` derives heuristics, `expiry` deletes expired notes,
    /// `embedding` fills in vectors that are missing since the embedder failed, `retention` deletes what the
    /// [policy](crate::MemoryBuilder::retention) does not keep, if there is one.
    pub name: &'static str,
    /// When it last ran, well or not; `None` before the first time.
    pub last_beat: Option<DateTime<Utc>>,
    /// What went wrong when it last ran; `None` if it went well.
    pub last_error: Option<String>,
    /// What waits for it. `projection`: episodes that are not folded yet; `leases`: handles of open episodes; `sweep`: open
    /// episodes, of all scopes, whose lease has run out; `steps`: steps that are not written yet; `consolidation`: scopes
    /// whose heuristics are being derived beside the callers; `expiry`: expired notes of all scopes; `embedding`: episodes and
    /// notes of all scopes without a vector; `retention`: episodes that it has found, this time or the last, and not deleted
    /// yet.
    pub queue: u64,
}

/// What is to be told of a job.
#[derive(Debug)]
pub(super) struct Job {
    name: &'static str,
    last: Mutex<Last>,
    ended: watch::Receiver<bool>,
}

#[derive(Clone, Debug, Default)]
struct Last {
    beat: Option<DateTime<Utc>>,
    error: Option<String>,
}

impl Job {
    fn new(name: &'static str, ended: &watch::Receiver<bool>) -> Self {
        Self { name, last: Mutex::default(), ended: ended.clone() }
    }

    /// Takes note that it ran, unless the jobs have ended: that the store was closed meanwhile is no fault of the job.
    pub(super) fn ran<T>(&self, now: DateTime<Utc>, result: &Result<T>) {
        if *self.ended.borrow() {
            return;
        }
        let error = result.as_ref().err().map(ToString::to_string);
        if let Some(error) = &error {
            tracing::warn!(job = self.name, %error, "a job failed; it is tried again later");
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Last { beat: Some(now), error };
    }

    pub(super) fn health(&self, queue: u64) -> JobHealth {
        let Last { beat, error } = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        JobHealth { name: self.name, last_beat: beat, last_error: error, queue }
    }
}

/// All jobs of an engine.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) projection: Job,
    pub(super) leases: Job,
    pub(super) sweep: Job,
    pub(super) steps: Job,
    pub(super) consolidation: Job,
    pub(super) expiry: Job,
    pub(super) embedding: Job,
    pub(super) retention: Job,
    /// When the queue of `embedding` is looked at next.
    pub(super) unembedded: Rest,
    /// Told when an episode has a first buffered step.
    buffered: watch::Sender<()>,
    /// Whether the jobs have ended, as they do before the store is closed. Gone with the engine.
    ended: watch::Sender<bool>,
}

impl Jobs {
    pub(super) fn new() -> Self {
        let (sender, ended) = watch::channel(false);
        Self {
            projection: Job::new("projection", &ended),
            leases: Job::new("leases", &ended),
            sweep: Job::new("sweep", &ended),
            steps: Job::new("steps", &ended),
            consolidation: Job::new("consolidation", &ended),
            expiry: Job::new("expiry", &ended),
            embedding: Job::new("embedding", &ended),
            retention: Job::new("retention", &ended),
            unembedded: Rest::default(),
            buffered: watch::channel(()).0,
            ended: sender,
        }
    }

    /// Ends the jobs: those that run fail or succeed untold, and none begins again.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Whether they were [ended](Self::end).
    pub(super) fn have_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Wakes the job that writes buffered steps.
    pub(super) fn wake_steps(&self) {
        self.buffered.send_replace(());
    }
}

/// Starts the jobs of an engine, except the projection.
pub(super) fn spawn(inner: &Arc<Inner>) {
    let lease = inner.live.lease();
    let third = span(lease) / 3;
    every(inner, [third; 2], |jobs| &jobs.leases, async |inner| Some(inner.live.renew().await));
    // A lease's time before the first sweep, too: who starts again after a crash may resume what it left.
    let sweep = async |inner: Arc<Inner>| {
        let memory = Memory { inner, scope: Scope::default(), source: Source::default() };
        Some(memory.close_orphans().await.map(|_| ()))
    };
    every(inner, [span(lease); 2], |jobs| &jobs.sweep, sweep);
    every(inner, [EXPIRY_PERIOD; 2], |jobs| &jobs.expiry, async |inner| Some(expire(&inner).await.map(|_| ())));
    let embed = async |inner: Arc<Inner>| inner.embed_expected().await;
    every(inner, [FIRST_EMBEDDING, EMBEDDING_PERIOD], |jobs| &jobs.embedding, embed);
    if inner.retention.is_some() {
        every(
            inner,
            [FIRST_RETENTION, RETENTION_PERIOD],
            |jobs| &jobs.retention,
            async |inner| Some(retain(&inner).await),
        );
    }
    spawn_steps(inner);
}

async fn retain(inner: &Inner) -> Result<()> {
    let Some(Retention { policy, waiting }) = &inner.retention else { return Ok(()) };
    let removed = inner.retain(None, policy, waiting).await?;
    if removed.episodes > 0 {
        tracing::info!(episodes = removed.episodes, "deleted what the retention policy does not keep");
    }
    Ok(())
}

/// A span that was checked to be positive.
pub(super) fn span(span: TimeDelta) -> Duration {
    span.to_std().unwrap_or_default()
}

/// Does something for the first time after a while, then every so often, and sooner after a failure, until the engine ends or is
/// closed. `None`: there was no reason to run.
fn every<F>(
    inner: &Arc<Inner>,
    [first, period]: [Duration; 2],
    job: fn(&Jobs) -> &Job,
    run: impl Fn(Arc<Inner>) -> F + Send + 'static,
) where
    F: Future<Output = Option<Result<()>>> + Send,
{
    let mut ended = inner.jobs.ended.subscribe();
    let engine = Arc::downgrade(inner);
    tokio::spawn(async move {
        let (mut wait, mut sooner) = (first, period / SOONER);
        while timeout(wait, ended.changed()).await.is_err() {
            let Some(inner) = engine.upgrade() else { return };
            let result = run(Arc::clone(&inner)).await;
            if let Some(result) = &result {
                job(&inner.jobs).ran(inner.clock.read(), result);
            }
            (wait, sooner) = match result {
                Some(Err(_)) => (sooner, period.min(sooner * 2)),
                _ => (period, period / SOONER),
            };
        }
    });
}

/// Starts the job that writes buffered steps when they are due, and what is left when the engine ends.
fn spawn_steps(inner: &Arc<Inner>) {
    let mut buffered = inner.jobs.buffered.subscribe();
    let (engine, live) = (Arc::downgrade(inner), Arc::clone(&inner.live));
    tokio::spawn(async move {
        loop {
            let woken = match live.first_due() {
                Some(due) => timeout_at(due, buffered.changed()).await,
                None => Ok(buffered.changed().await),
            };
            match (woken, engine.upgrade()) {
                (Ok(Ok(())), _) => {}
                (Err(_), Some(inner)) => {
                    let result = live.flush(Some(Instant::now())).await;
                    inner.jobs.steps.ran(inner.clock.read(), &result);
                }
                _ => break,
            }
        }
        if let Err(error) = live.flush(None).await {
            tracing::warn!(%error, steps = live.buffered(), "buffered steps are lost");
        }
    });
}
