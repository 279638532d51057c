//! Knowledge as a projection of the log: steps behind a watermark, views that include what lies beyond it, unlearning.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::Inner;
use crate::learn::Knowledge;
use crate::{
    Batch, Cursor, Episode, EpisodeId, Error, ErrorKind, Key, Learner, LearnerId, LoggedEpisode, MemoryStore,
    MemoryStoreExt, Pattern, PatternId, Record, RecordKind, Result, Scan, Scope, Stored, Version, Watermark,
};

/// Episodes that one projection step folds at most: the more, the more often one of them adds to what another has already
/// added to.
const STEP: u64 = 4_096;
/// Episodes that are read at once.
const PAGE: usize = 1_000;
/// How long there must be no completion before the projection begins, unless too many wait.
const QUIET: Duration = Duration::from_millis(100);
/// Completions that wait for it at most, while they go on.
const MOST_WAITING: u64 = 3 * STEP;
/// How long completions wait at most.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Episodes that are folded before other tasks get their turn.
const UNINTERRUPTED: usize = 16;
/// How long it waits at most after a failure; each failure doubles the wait.
const LONGEST_QUIET: Duration = Duration::from_secs(60);
/// Episodes beyond the watermark that a reader folds.
const MOST_BEHIND: u64 = 1_024;
/// Episodes of this process beyond the watermark past which a writer helps to project.
const MOST_UNPROJECTED: u64 = 4 * STEP;
/// The kinds of records that hold patterns.
const KINDS: [RecordKind; 2] = [RecordKind::Pattern, RecordKind::Habit];
/// How often a conditional batch is tried again when others got in between.
pub(crate) const TRIES: usize = 100;

/// What a learner knows of a store, and how it keeps up with the log.
#[derive(Debug)]
pub(crate) struct Projection {
    store: Arc<dyn MemoryStore>,
    learner: Learner,
    id: LearnerId,
    tail: Mutex<Tail>,
    /// Held from reading the watermark to writing it, so that a long batch of this engine is not always overtaken by short ones.
    /// What is right does not hang on it: other processes do not have it.
    moving: Mutex<()>,
    /// Completions of this process since its last step.
    behind: watch::Sender<u64>,
}

/// What lies beyond the watermark, folded.
#[derive(Debug, Default)]
struct Tail {
    /// The watermark record it starts from.
    base: Option<Version>,
    /// How far it has read.
    upto: Version,
    episodes: u64,
    knowledge: Knowledge,
}

/// Where knowledge stood when it was read: equal marks mean equal knowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    base: Option<Version>,
    upto: Version,
}

/// The watermark as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Base {
    /// The version of the record, by which a conditional batch knows it again.
    version: Option<Version>,
    position: Version,
}

impl Base {
    fn of(stored: Option<&Stored>) -> Self {
        match stored {
            Some(Stored { version, record: Record::Watermark(watermark) }) => {
                Self { version: Some(*version), position: watermark.position }
            }
            _ => Self::default(),
        }
    }
}

/// What a rebuild found.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Episodes that were read.
    pub episodes: u64,
    /// Patterns that follow from them.
    pub patterns: u64,
    /// Stored patterns that were different, missing or too many, and are right now. 0 unless the store was damaged.
    pub repaired: u64,
}

impl Projection {
    pub(crate) fn new(store: Arc<dyn MemoryStore>, learner: Learner) -> Self {
        let (tail, moving) = (Mutex::default(), Mutex::default());
        Self { store, learner, id: learner.id(), tail, moving, behind: watch::channel(0).0 }
    }

    pub(crate) fn learner(&self) -> &Learner {
        &self.learner
    }

    pub(crate) fn id(&self) -> LearnerId {
        self.id
    }

    /// Puts the first watermark of this learner, so that a deletion by another learner has something to tell it by. Those of the
    /// others are put again, so that a deletion that has not seen it cannot commit any more.
    pub(crate) async fn claim(&self) -> Result<()> {
        retry(|| async {
            if self.store.get_one(Key::Watermark(self.id)).await?.is_some() {
                return Ok(());
            }
            let others = self.other_learners().await?;
            let batch =
                others.into_iter().fold(self.batch_at(Base::default(), Version(0)), |batch, (version, theirs)| {
                    let unchanged = batch.require_unchanged(Key::Watermark(theirs.learner), Some(version));
                    unchanged.put(Record::Watermark(theirs))
                });
            self.store.commit(&batch).await.map(|_| ())
        })
        .await
    }

    /// Starts the task that projects beside the writers. It ends with the engine.
    pub(crate) fn spawn(inner: &Arc<Inner>) {
        let mut behind = inner.projection.behind.subscribe();
        behind.mark_changed();
        let engine = Arc::downgrade(inner);
        tokio::spawn(async move {
            let mut pause = Duration::ZERO;
            while behind.changed().await.is_ok() {
                tokio::time::sleep(pause).await;
                wait_for_quiet(&mut behind).await;
                let Some(inner) = Weak::upgrade(&engine) else { return };
                if inner.jobs.have_ended() {
                    return;
                }
                pause = match inner.project().await {
                    Ok(_) => Duration::ZERO,
                    Err(_) => {
                        behind.mark_changed();
                        LONGEST_QUIET.min(QUIET.max(pause * 2))
                    }
                };
            }
        });
    }

    /// Takes note of completions; helps when the projection is far behind.
    pub(crate) async fn completed(&self, episodes: u64) {
        self.behind.send_modify(|behind| *behind += episodes);
        if *self.behind.borrow() >= MOST_UNPROJECTED
            && let Err(error) = self.catch_up().await
        {
            tracing::warn!(%error, "projection step failed; it is tried again later");
        }
    }

    /// Projects what was completed until now; returns how many episodes that took. Writers may go on for ever: a step that is not
    /// full has read to the end of the log, and is the last.
    pub(crate) async fn catch_up(&self) -> Result<u64> {
        // The projection task is not woken: it would project for ever.
        self.behind.send_if_modified(|behind| {
            *behind = 0;
            false
        });
        let mut episodes = 0;
        loop {
            let folded = retry(|| self.step()).await?;
            episodes += folded;
            if folded < STEP {
                return Ok(episodes);
            }
        }
    }

    async fn base(&self) -> Result<Base> {
        Ok(Base::of(self.store.get_one(Key::Watermark(self.id)).await?.as_ref()))
    }

    /// One projection step; says how many episodes it folded. Fewer than a step has: to the end of the log.
    async fn step(&self) -> Result<u64> {
        let _one_at_a_time = self.moving.lock().await;
        let base = self.base().await?;
        let (mut learned, mut position, mut folded) = (Knowledge::default(), base.position, 0);
        let mut scan = log_after(position);
        while folded < STEP {
            scan.limit = usize::try_from(STEP - folded).unwrap_or(PAGE).min(PAGE);
            let page = self.store.scan(&scan).await?;
            for (place, (version, logged)) in episodes(&page.records).enumerate() {
                if place % UNINTERRUPTED == UNINTERRUPTED - 1 {
                    tokio::task::yield_now().await;
                }
                learned.learn(&self.learner, &logged.episode);
                (position, folded) = (version, folded + 1);
            }
            scan.after = page.next;
            if scan.after.is_none() {
                break;
            }
        }
        if folded == 0 {
            return Ok(0);
        }
        let batch = learned.into_patterns().into_iter().fold(self.batch_at(base, position), Batch::add_pattern);
        self.store.commit(&batch.as_derivable()).await?;
        tracing::debug!(episodes = folded, position = position.0, "projected");
        Ok(folded)
    }

    /// A batch that moves the watermark, if it is still as it was read. Every change of patterns goes with one.
    fn batch_at(&self, base: Base, position: Version) -> Batch {
        Batch::new()
            .require_unchanged(Key::Watermark(self.id), base.version)
            .put(Record::Watermark(Watermark { learner: self.id, position }))
    }

    async fn stored_patterns(&self, keys: &[Key]) -> Result<Vec<Option<Pattern>>> {
        Ok(self.store.get(keys).await?.into_iter().map(|stored| stored.and_then(pattern)).collect())
    }

    /// Patterns by id, as of now: what is stored, and what lies beyond the watermark.
    pub(crate) async fn patterns(&self, ids: &[PatternId]) -> Result<Vec<Option<Pattern>>> {
        let mut keys = vec![Key::Watermark(self.id)];
        keys.extend(ids.iter().map(|id| Key::Pattern(*id)));
        let keys = &keys;
        retry(|| async move {
            let mut stored = self.store.get(keys).await?.into_iter();
            let tail = self.tail(Base::of(stored.next().flatten().as_ref())).await?;
            let merged = ids.iter().zip(stored).map(|(id, stored)| {
                let beyond = tail.knowledge.get(*id);
                match (stored.and_then(pattern), beyond) {
                    (Some(mut pattern), Some(beyond)) => {
                        pattern.add(beyond);
                        Some(pattern)
                    }
                    (stored, beyond) => stored.or_else(|| beyond.cloned()),
                }
            });
            Ok(merged.collect())
        })
        .await
    }

    /// The stored patterns of a learner, in these kinds of records.
    async fn scan_patterns(
        &self,
        kinds: &[RecordKind],
        scope: Option<&Scope>,
        learner: LearnerId,
    ) -> Result<Vec<Pattern>> {
        let mut all = Vec::new();
        for kind in kinds {
            let scan = Scan { scope: scope.cloned(), ..Scan::new(*kind) };
            let stored = self.store.scan_all(scan).await?.into_iter().filter_map(pattern);
            all.extend(stored.filter(|pattern| pattern.learner == learner));
        }
        Ok(all)
    }

    /// All patterns of a scope, as of now, by rising id.
    pub(crate) async fn all_patterns(&self, scope: &Scope) -> Result<Vec<Pattern>> {
        Ok(self.patterns_in(&KINDS, scope).await?.1)
    }

    /// All habits of a scope, as of now, by rising id; and a mark that changes whenever they may.
    pub(crate) async fn habits(&self, scope: &Scope) -> Result<(Mark, Vec<Pattern>)> {
        self.patterns_in(&[RecordKind::Habit], scope).await
    }

    /// How far the log was read, and the record of the watermark.
    pub(crate) async fn mark(&self) -> Result<Mark> {
        retry(|| async {
            let base = self.base().await?;
            Ok(Mark { base: base.version, upto: self.tail(base).await?.upto })
        })
        .await
    }

    async fn patterns_in(&self, kinds: &[RecordKind], scope: &Scope) -> Result<(Mark, Vec<Pattern>)> {
        let watermark = &Key::Watermark(self.id);
        retry(|| async move {
            let before = self.store.get_one(watermark.clone()).await?;
            let stored = self.scan_patterns(kinds, Some(scope), self.id).await?;
            let tail = self.tail(Base::of(before.as_ref())).await?;
            if self.store.get_one(watermark.clone()).await? != before {
                return Err(Error::new(ErrorKind::Conflict, "patterns changed while they were read"));
            }
            let mut all = Knowledge::default();
            stored.into_iter().for_each(|pattern| all.add(pattern));
            let beyond = tail.knowledge.patterns().filter(|pattern| pattern.scope == *scope);
            let beyond = beyond.filter(|pattern| kinds.contains(&pattern.key().kind()));
            beyond.for_each(|pattern| all.add(pattern.clone()));
            Ok((Mark { base: tail.base, upto: tail.upto }, all.into_patterns()))
        })
        .await
    }

    /// Episodes that lie beyond the watermark.
    pub(crate) async fn behind(&self) -> Result<u64> {
        let mut count = 0;
        self.each_episode(log_after(self.base().await?.position), |_, _| count += 1).await?;
        Ok(count)
    }

    /// What lies beyond a watermark. It is kept from one read to the next and read on from where it ended.
    async fn tail(&self, base: Base) -> Result<tokio::sync::MutexGuard<'_, Tail>> {
        let mut tail = self.tail.lock().await;
        if tail.base != base.version {
            *tail = Tail { base: base.version, upto: base.position, ..Tail::default() };
        }
        let mut scan = log_after(tail.upto);
        loop {
            let page = self.store.scan(&scan).await?;
            for (version, logged) in episodes(&page.records) {
                tail.knowledge.learn(&self.learner, &logged.episode);
                tail.upto = version;
                tail.episodes += 1;
            }
            if tail.episodes > MOST_BEHIND {
                *tail = Tail::default();
                drop(tail);
                self.catch_up().await?;
                return Err(Error::new(ErrorKind::Conflict, "the watermark moved to bound what readers fold"));
            }
            scan.after = page.next;
            if scan.after.is_none() {
                return Ok(tail);
            }
        }
    }

    /// Deletes a completed episode and takes away what was learned from it, in one batch.
    pub(crate) async fn unlearn(&self, scope: &Scope, id: EpisodeId) -> Result<()> {
        let gone = self.unlearn_all(Some(scope), &[id], TRIES).await?;
        if gone.is_empty() { Err(not_found(id)) } else { Ok(()) }
    }

    /// Deletes those of these completed episodes that are there, and of this scope, and takes away what was learned from them,
    /// in one batch, which is tried so many times; gives their ids.
    pub(crate) async fn unlearn_all(
        &self,
        scope: Option<&Scope>,
        ids: &[EpisodeId],
        tries: usize,
    ) -> Result<Vec<EpisodeId>> {
        retry_up_to(tries, || async move {
            let _one_at_a_time = self.moving.lock().await;
            let (batch, gone) = self.unlearning(scope, ids).await?;
            if gone.is_empty() {
                return Ok(gone);
            }
            self.store.commit(&batch).await.map(|_| gone)
        })
        .await
    }

    /// Lets episodes be put again, with other vectors: what was learned from them is taken away, and learned again from their new
    /// places in the log. The batch is completed with those puts before it is committed.
    pub(crate) async fn relearn(&self, ids: &[EpisodeId], complete: impl FnOnce(Batch) -> Batch) -> Result<()> {
        {
            let _one_at_a_time = self.moving.lock().await;
            let (batch, _) = self.unlearning(None, ids).await?;
            self.store.commit(&complete(batch)).await?;
        }
        self.completed(ids.len() as u64).await;
        Ok(())
    }

    /// The batch that does so, and the ids; an empty one if there are none.
    pub(crate) async fn unlearning(&self, scope: Option<&Scope>, ids: &[EpisodeId]) -> Result<(Batch, Vec<EpisodeId>)> {
        let mut keys = vec![Key::Watermark(self.id)];
        // Each once, whatever is asked for: what it showed can be taken away but once.
        let mut seen = HashSet::new();
        keys.extend(ids.iter().filter(|id| seen.insert(**id)).map(|id| Key::Episode(*id)));
        let mut stored = self.store.get(&keys).await?.into_iter();
        let base = Base::of(stored.next().flatten().as_ref());
        // The watermark is put again even where it stays, so that a projection step that has read the episodes
        // already cannot commit any more.
        let (mut batch, mut learned, mut gone) = (self.batch_at(base, base.position), Knowledge::default(), Vec::new());
        for stored in stored.flatten() {
            let Stored { version, record: Record::Episode(logged) } = stored else { continue };
            if scope.is_some_and(|scope| logged.episode.scope != *scope) {
                continue;
            }
            let key = Key::Episode(logged.episode.id);
            batch = batch.require_unchanged(key.clone(), Some(version)).delete(key);
            gone.push(logged.episode.id);
            if version <= base.position {
                learned.learn(&self.learner, &logged.episode);
            }
        }
        if gone.is_empty() {
            return Ok((Batch::new(), gone));
        }
        batch = match self.without(batch, learned).await {
            // Evidence that another process took away after the watermark was read is not missing.
            Err(error) if error.kind() == ErrorKind::Corrupt && self.base().await? != base => {
                Err(Error::new(ErrorKind::Conflict, "patterns changed while they were read").with_source(error))
            }
            done => done,
        }?;
        Ok((self.forget_other_learners(batch).await?, gone))
    }

    /// Adds to a batch what takes evidence away from the stored patterns.
    async fn without(&self, mut batch: Batch, learned: Knowledge) -> Result<Batch> {
        let stored = self.stored_patterns(&learned.keys()).await?;
        for (observed, stored) in learned.patterns().zip(stored) {
            let mut pattern = stored.ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, format!("pattern {} of an episode is gone; rebuild", observed.id))
            })?;
            pattern.subtract(observed)?;
            batch = if pattern.branches.is_empty() {
                batch.delete(pattern.key())
            } else {
                batch.put(Record::Pattern(pattern))
            };
        }
        Ok(batch)
    }

    /// Adds to a batch what removes the knowledge of learners with other settings: they would keep traces of a deleted
    /// episode. They derive it again when they are next used. Their watermarks go back to the start but stay, so that every
    /// deletion changes them and tells their engines that what these have read of the log is no longer so.
    async fn forget_other_learners(&self, mut batch: Batch) -> Result<Batch> {
        for (version, watermark) in self.other_learners().await? {
            batch = batch
                .require_unchanged(Key::Watermark(watermark.learner), Some(version))
                .put(Record::Watermark(Watermark { position: Version(0), ..watermark }));
            if watermark.position == Version(0) {
                continue;
            }
            let theirs = self.scan_patterns(&KINDS, None, watermark.learner).await?;
            batch = theirs.iter().fold(batch, |batch, pattern| batch.delete(pattern.key()));
        }
        Ok(batch)
    }

    /// The watermarks of learners with other settings.
    async fn other_learners(&self) -> Result<Vec<(Version, Watermark)>> {
        let stored = self.store.scan_all(Scan::new(RecordKind::Watermark)).await?;
        let watermarks = stored.into_iter().filter_map(|stored| match stored.record {
            Record::Watermark(watermark) => Some((stored.version, watermark)),
            _ => None,
        });
        Ok(watermarks.filter(|(_, theirs)| theirs.learner != self.id && !theirs.learner.names_a_log()).collect())
    }

    /// Reads all pages of a scan of episodes, each episode once: one that gets its vector meanwhile comes again at a later place.
    pub(crate) async fn each_episode(&self, mut scan: Scan, mut each: impl FnMut(Version, &Episode)) -> Result<()> {
        let mut lacking = HashSet::new();
        loop {
            let page = self.store.scan(&scan).await?;
            for (version, logged) in episodes(&page.records) {
                let id = logged.episode.id;
                if !lacking.contains(&id) {
                    each(version, &logged.episode);
                }
                if logged.vector.is_none() {
                    lacking.insert(id);
                }
            }
            match page.next {
                Some(next) => scan.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Derives all patterns again from the log and puts right what is stored, in one batch.
    pub(crate) async fn rebuild(&self) -> Result<Rebuilt> {
        self.catch_up().await?;
        retry(|| async move {
            let _one_at_a_time = self.moving.lock().await;
            let base = self.base().await?;
            let mut knowledge = Knowledge::default();
            let mut rebuilt = Rebuilt::default();
            self.each_episode(log_after(Version(0)), |version, episode| {
                if version <= base.position {
                    knowledge.learn(&self.learner, episode);
                    rebuilt.episodes += 1;
                }
            })
            .await?;
            let stored = self.scan_patterns(&KINDS, None, self.id).await?;
            let mut stored: BTreeMap<Key, Pattern> =
                stored.into_iter().map(|pattern| (pattern.key(), pattern)).collect();
            let mut batch = self.batch_at(base, base.position);
            for pattern in knowledge.into_patterns() {
                rebuilt.patterns += 1;
                if stored.remove(&pattern.key()).as_ref() != Some(&pattern) {
                    rebuilt.repaired += 1;
                    batch = batch.put(Record::Pattern(pattern));
                }
            }
            rebuilt.repaired += stored.len() as u64;
            batch = stored.into_keys().fold(batch, Batch::delete);
            if rebuilt.repaired > 0 {
                self.store.commit(&batch).await?;
            }
            Ok(rebuilt)
        })
        .await
    }
}

/// Waits until there was no completion for a while, or there are enough of them, or they have waited long enough.
async fn wait_for_quiet(behind: &mut watch::Receiver<u64>) {
    let end = tokio::time::Instant::now() + LONGEST_WAIT;
    while *behind.borrow_and_update() < MOST_WAITING && tokio::time::Instant::now() < end {
        match tokio::time::timeout(QUIET, behind.changed()).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

/// Tries again as long as others get in between.
pub(crate) async fn retry<T, F: Future<Output = Result<T>>>(attempt: impl FnMut() -> F) -> Result<T> {
    retry_up_to(TRIES, attempt).await
}

async fn retry_up_to<T, F: Future<Output = Result<T>>>(tries: usize, mut attempt: impl FnMut() -> F) -> Result<T> {
    let mut result = attempt().await;
    for _ in 1..tries {
        match &result {
            Err(error) if error.is_conflict() => tokio::task::yield_now().await,
            _ => return result,
        }
        result = attempt().await;
    }
    result
}

/// All episodes after a position, in the order of the log.
pub(crate) fn log_after(position: Version) -> Scan {
    Scan::new(RecordKind::Episode).after(Some(Cursor::Version(position)))
}

fn episodes(records: &[Stored]) -> impl Iterator<Item = (Version, &LoggedEpisode)> {
    records.iter().filter_map(|stored| match &stored.record {
        Record::Episode(logged) => Some((stored.version, logged)),
        _ => None,
    })
}

fn pattern(stored: Stored) -> Option<Pattern> {
    match stored.record {
        Record::Pattern(pattern) => Some(pattern),
        _ => None,
    }
}

pub(crate) fn not_found(id: EpisodeId) -> Error {
    Error::new(ErrorKind::NotFound, format!("no episode {id} in this scope"))
}
