//! Keeping no more episodes than are wanted.
//!
//! What is let go is unlearned as if each episode had been deleted by itself, but up to 256 in a batch: what they showed is added up
//! first, so that a pattern that all of them share is read and written once for the batch.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::projection::{TRIES, log_after};
use super::{Inner, Memory};
use crate::{EpisodeId, Error, Filter, MemoryStore as _, Result, Scope, Version};

/// How often it is looked beside the callers, and for the first time.
pub(super) const RETENTION_PERIOD: Duration = Duration::from_secs(3_600);
pub(super) const FIRST_RETENTION: Duration = Duration::from_secs(60);
/// Episodes that one batch removes at most.
const REMOVED_TOGETHER: usize = 256;
/// How often a batch of several is tried before it is halved.
const TRIES_TOGETHER: usize = 4;
/// How many of the removed episodes are named.
const MOST_NAMED: usize = 1_000;

/// How long and how many completed episodes are kept. Everything that is set must hold.
///
/// Nothing else decides: an episode is let go for its age, never for how it ended. What is learned is what the episodes that
/// are left show, and were failures kept and successes let go, all that was ever tried would look bad.
///
/// Notes have an [expiry](crate::NewNote::expires_at) of their own, and open episodes a [lease](crate::MemoryBuilder::lease).
///
/// # Default
/// Nothing is set, which [`Memory::retain`] and [`MemoryBuilder::retention`](crate::MemoryBuilder::retention) refuse.
///
/// ```
/// use chrono::TimeDelta;
/// use memory_core::RetentionPolicy;
/// let policy = RetentionPolicy::new().max_age(TimeDelta::days(365)).max_episodes(10_000);
/// assert_eq!(policy.max_episodes, Some(10_000));
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// How long after its end an episode is kept; 1 second to 100,000 days.
    pub max_age: Option<TimeDelta>,
    /// How many episodes of each scope are kept, those that ended last; 1 or more.
    pub max_episodes: Option<u64>,
}

impl RetentionPolicy {
    /// Nothing is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long an episode is kept.
    #[must_use]
    pub fn max_age(mut self, max_age: TimeDelta) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Sets how many episodes of each scope are kept.
    #[must_use]
    pub fn max_episodes(mut self, max_episodes: u64) -> Self {
        self.max_episodes = Some(max_episodes);
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        if *self == Self::default() {
            return Err(Error::invalid("retention", "empty", "max_age, max_episodes or both"));
        }
        let longest = TimeDelta::days(100_000);
        match (self.max_age, self.max_episodes) {
            (Some(age), _) if !(TimeDelta::seconds(1)..=longest).contains(&age) => {
                Err(Error::invalid("retention.max_age", age, "1 second..=100,000 days"))
            }
            (_, Some(0)) => Err(Error::invalid("retention.max_episodes", 0, "1 or more")),
            _ => Ok(()),
        }
    }
}

/// What was let go.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many episodes.
    pub episodes: u64,
    /// The first 1,000 of them, those that ended first before the others.
    pub ids: Vec<EpisodeId>,
}

impl Removed {
    fn add(&mut self, gone: Vec<EpisodeId>) {
        self.episodes += gone.len() as u64;
        let room = MOST_NAMED - self.ids.len();
        self.ids.extend(gone.into_iter().take(room));
    }
}

/// What an engine keeps by itself.
#[derive(Debug)]
pub(super) struct Retention {
    pub(super) policy: RetentionPolicy,
    /// Episodes that were found and are not removed yet.
    pub(super) waiting: AtomicU64,
}

impl Retention {
    pub(super) fn new(policy: RetentionPolicy) -> Self {
        Self { policy, waiting: AtomicU64::default() }
    }
}

impl Memory {
    /// Deletes the completed episodes of this scope that a policy does not keep, and everything learned from them, as
    /// [`delete`](Self::delete) does: what is known afterwards is what the episodes that are left show.
    ///
    /// Up to 256 are deleted in one batch, those that ended first before the others. What is completed meanwhile is looked at the
    /// next time. Of several that do this at the same time, each counts what it removed itself.
    ///
    /// It reads the episodes that are too old; with [`max_episodes`](RetentionPolicy::max_episodes), all of the scope.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a policy that is empty or out of range; the store's errors: the message says how
    /// many were removed before.
    pub async fn retain(&self, policy: &RetentionPolicy) -> Result<Removed> {
        let waiting = AtomicU64::default();
        let result = self.inner.retain(Some(&self.scope), policy, &waiting).await;
        result.map_err(|error| error.in_operation("retain"))
    }

    /// The same for all scopes, each by itself. It happens by itself if the engine was built
    /// [with a policy](crate::MemoryBuilder::retention).
    ///
    /// With [`max_episodes`](RetentionPolicy::max_episodes) it reads the whole log, unless the store has no more episodes than
    /// that.
    ///
    /// # Errors
    /// As [`retain`](Self::retain).
    pub async fn retain_all(&self, policy: &RetentionPolicy) -> Result<Removed> {
        let waiting = AtomicU64::default();
        let result = self.inner.retain(None, policy, &waiting).await;
        result.map_err(|error| error.in_operation("retain_all"))
    }
}

/// When an episode ended, and which one it is: the order in which they are let go.
type Ended = (DateTime<Utc>, EpisodeId);

impl Inner {
    pub(super) async fn retain(
        &self,
        scope: Option<&Scope>,
        policy: &RetentionPolicy,
        waiting: &AtomicU64,
    ) -> Result<Removed> {
        policy.validate()?;
        let due: Vec<EpisodeId> = self.not_kept(scope, policy).await?.into_iter().map(|(_, id)| id).collect();
        let (mut removed, mut rest, mut together) = (Removed::default(), &due[..], REMOVED_TOGETHER);
        while !rest.is_empty() {
            waiting.store(rest.len() as u64, Ordering::Relaxed);
            let (now, later) = rest.split_at(together.min(rest.len()));
            let tries = if now.len() > 1 { TRIES_TOGETHER } else { TRIES };
            match self.projection.unlearn_all(scope, now, tries).await {
                Ok(gone) => {
                    rest = later;
                    together = REMOVED_TOGETHER.min(together * 2);
                    removed.add(gone);
                }
                // Another process projects faster than this one can write so much.
                Err(error) if error.is_conflict() && now.len() > 1 => together = now.len() / 2,
                Err(error) => return Err(error.adding(format_args!("{} were removed before", removed.episodes))),
            }
        }
        waiting.store(0, Ordering::Relaxed);
        Ok(removed)
    }

    /// The episodes that a policy does not keep, those that ended first before the others.
    async fn not_kept(&self, scope: Option<&Scope>, policy: &RetentionPolicy) -> Result<Vec<Ended>> {
        let earliest = policy.max_age.and_then(|age| self.clock.read().checked_sub_signed(age));
        let mut due = match policy.max_episodes {
            Some(most) if self.may_be_more(scope, most).await? => self.too_many(scope, earliest, most).await?,
            _ => self.too_old(scope, earliest).await?,
        };
        due.sort_unstable();
        Ok(due)
    }

    /// Whether a scope may have more episodes than this.
    async fn may_be_more(&self, scope: Option<&Scope>, most: u64) -> Result<bool> {
        Ok(scope.is_some() || self.store.health().await?.episodes > most)
    }

    /// The episodes that ended before a moment.
    async fn too_old(&self, scope: Option<&Scope>, earliest: Option<DateTime<Utc>>) -> Result<Vec<Ended>> {
        let mut due = Vec::new();
        if earliest.is_some() {
            let mut scan = log_after(Version(0)).filter(Filter::default().completed(None, earliest));
            scan.scope = scope.cloned();
            self.projection.each_episode(scan, |_, episode| due.push((episode.completed_at, episode.id))).await?;
        }
        Ok(due)
    }

    /// The episodes that ended before a moment, and of each scope those that ended before the last `most`.
    async fn too_many(&self, scope: Option<&Scope>, earliest: Option<DateTime<Utc>>, most: u64) -> Result<Vec<Ended>> {
        let (mut due, mut kept) = (Vec::new(), HashMap::<Scope, BinaryHeap<Reverse<Ended>>>::new());
        let mut scan = log_after(Version(0));
        scan.scope = scope.cloned();
        self.projection
            .each_episode(scan, |_, episode| {
                let ended = (episode.completed_at, episode.id);
                if earliest.is_some_and(|earliest| episode.completed_at < earliest) {
                    due.push(ended);
                    return;
                }
                if !kept.contains_key(&episode.scope) {
                    kept.insert(episode.scope.clone(), BinaryHeap::new());
                }
                if let Some(kept) = kept.get_mut(&episode.scope) {
                    kept.push(Reverse(ended));
                    if kept.len() as u64 > most {
                        due.extend(kept.pop().map(|Reverse(first)| first));
                    }
                }
            })
            .await?;
        Ok(due)
    }
}
