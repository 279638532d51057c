//! The open episodes that have a handle in this engine: their leases, and their steps on the way to the store.
//!
//! Every write of a handle goes with the condition that the record of the open episode is as this engine last saw it.
//! Who takes the episode over changes the record, so that no write of the old holder can follow, whatever the clocks say.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::projection::not_found;
use crate::clock::RisingClock;
use crate::{
    Batch, Durability, EpisodeId, Error, ErrorKind, HolderId, Key, Lease, MemoryStore, MemoryStoreExt, OpenedEpisode,
    OpenedStep, Record, Result, Step, Stored, Version,
};

/// How long buffered steps wait after a failure; each failure doubles it.
const RETRY: Duration = Duration::from_secs(1);
/// How long they wait at most.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The open episodes of an engine.
#[derive(Debug)]
pub(super) struct LiveEpisodes {
    store: Arc<dyn MemoryStore>,
    clock: Arc<RisingClock>,
    holder: HolderId,
    lease: TimeDelta,
    live: Mutex<BTreeMap<EpisodeId, Arc<Live>>>,
    /// Held while an episode is resumed, so that its handles share one [`Live`].
    pub(super) resuming: tokio::sync::Mutex<()>,
}

/// What the handles of one open episode share.
#[derive(Debug)]
pub(super) struct Live {
    id: EpisodeId,
    handles: AtomicUsize,
    /// Locked while something is written.
    pub(super) held: tokio::sync::Mutex<Held>,
    /// Changed only by who has locked `held`.
    pending: Mutex<Pending>,
}

/// What this engine knows of the stored episode.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) opened: OpenedEpisode,
    /// The version of the record of the open episode.
    pub(super) version: Version,
    /// How many steps are in the store.
    pub(super) stored: usize,
    /// Why nothing can be written any more.
    pub(super) gone: Option<Gone>,
    /// Whether a step that a caller was not told about may be in the store.
    unsure: bool,
    /// Whether the receipt has changed since the record was written.
    pub(super) unsaved: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Gone {
    /// Complete or deleted.
    Ended,
    /// Free, or someone else's.
    Taken,
}

/// Steps that were acknowledged as buffered.
#[derive(Debug, Default)]
struct Pending {
    steps: Vec<Step>,
    /// When they are to be written, if there are any.
    due: Option<Instant>,
    /// How often writing them has failed in a row.
    failures: u32,
}

/// What a write does to the record of the open episode, besides adding steps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Put<'a> {
    Nothing,
    /// Keeps the state of a checkpoint.
    State(&'a str),
    /// Frees the lease.
    Release,
}

impl Held {
    pub(super) fn new(opened: OpenedEpisode, version: Version, stored: usize) -> Self {
        Self { opened, version, stored, gone: None, unsure: false, unsaved: false }
    }

    fn batch(&self, steps: &[Step], record: Option<&OpenedEpisode>) -> Batch {
        let episode = self.opened.id;
        let mut batch = Batch::new()
            .require_unchanged(Key::Open(episode), Some(self.version))
            .require_absent(step_key(episode, self.stored));
        for (place, step) in steps.iter().enumerate() {
            let index = index(self.stored + place);
            batch = batch.put(Record::Step(OpenedStep { episode, index, step: step.clone() }));
        }
        // The last change: its version is that of the commit.
        record.iter().fold(batch, |batch, record| batch.put(Record::Open((*record).clone())))
    }

    /// Takes in the record as it was read.
    fn adopt(&mut self, holder: HolderId, stored: Option<Stored>) {
        match stored {
            Some(Stored { version, record: Record::Open(opened) }) => {
                if opened.lease.is_some_and(|lease| lease.holder == holder) {
                    // Only this engine adds to the receipt.
                    let receipt = self.opened.receipt.take();
                    (self.version, self.opened) = (version, OpenedEpisode { receipt, ..opened });
                } else {
                    self.gone = Some(Gone::Taken);
                }
            }
            _ => self.gone = Some(Gone::Ended),
        }
    }
}

impl Live {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handles(&self) -> usize {
        self.handles.load(Ordering::Relaxed)
    }

    /// The place of the next step.
    pub(super) fn next(&self, held: &Held) -> usize {
        held.stored + self.pending().steps.len()
    }

    /// Buffers a step if it may wait: fewer than `most` would then wait, and nothing stands in its way. Says whether it is
    /// the first; `None` if it is to be written now.
    pub(super) fn buffer(&self, held: &Held, step: &Step, most: usize, within: Duration) -> Option<bool> {
        let mut pending = self.pending();
        if held.gone.is_some() || held.unsure || pending.failures > 0 || pending.steps.len() + 1 >= most {
            return None;
        }
        pending.steps.push(step.clone());
        let first = pending.due.is_none();
        pending.due.get_or_insert_with(|| Instant::now() + within);
        Some(first)
    }

    /// The buffered step at this place.
    pub(super) fn buffered_at(&self, held: &Held, place: usize) -> Option<Step> {
        self.pending().steps.get(place.checked_sub(held.stored)?).cloned()
    }

    /// Takes note that the next steps are in the store.
    fn written(&self, held: &mut Held, count: usize) {
        held.stored += count;
        let mut pending = self.pending();
        let buffered = count.min(pending.steps.len());
        pending.steps.drain(..buffered);
        if pending.steps.is_empty() {
            *pending = Pending::default();
        }
    }

    fn failed(&self) {
        let mut pending = self.pending();
        if !pending.steps.is_empty() {
            let wait = RETRY.saturating_mul(1_u32.checked_shl(pending.failures).unwrap_or(u32::MAX));
            pending.due = Some(Instant::now() + wait.min(LONGEST_RETRY));
            pending.failures += 1;
        }
    }

    /// Takes note that the episode has ended with all its steps.
    pub(super) fn ended(&self, held: &mut Held) {
        held.gone = Some(Gone::Ended);
        *self.pending() = Pending::default();
    }
}

impl LiveEpisodes {
    pub(super) fn new(store: Arc<dyn MemoryStore>, clock: Arc<RisingClock>, lease: TimeDelta) -> Self {
        // Never from the seed of the engine: two engines with one seed are two holders.
        let holder = HolderId::new(uuid::Builder::from_random_bytes(rand::random()).into_uuid());
        let (live, resuming) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { store, clock, holder, lease, live, resuming }
    }

    pub(super) fn lease(&self) -> TimeDelta {
        self.lease
    }

    /// A lease of this engine that begins at this moment.
    pub(super) fn lease_at(&self, moment: DateTime<Utc>) -> Lease {
        let expires_at = moment.checked_add_signed(self.lease).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Lease { holder: self.holder, expires_at }
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<EpisodeId, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Live>> {
        self.map().values().cloned().collect()
    }

    pub(super) fn get(&self, id: EpisodeId) -> Option<Arc<Live>> {
        self.map().get(&id).cloned()
    }

    /// Takes up an episode for its first handle.
    pub(super) fn add(&self, held: Held) -> Arc<Live> {
        let (id, handles, pending) = (held.opened.id, AtomicUsize::new(0), Mutex::default());
        let live = Arc::new(Live { id, handles, held: tokio::sync::Mutex::new(held), pending });
        self.attach(&live);
        live
    }

    /// Counts one more handle.
    pub(super) fn attach(&self, live: &Arc<Live>) {
        let mut map = self.map();
        live.handles.fetch_add(1, Ordering::Relaxed);
        map.insert(live.id, Arc::clone(live));
    }

    /// Counts one handle less.
    pub(super) fn detach(&self, live: &Arc<Live>) {
        live.handles.fetch_sub(1, Ordering::Relaxed);
        self.forget_unless(live, |live| live.handles() > 0 || !live.pending().steps.is_empty());
        let lost = live.pending().steps.len();
        if live.handles() == 0 && lost > 0 && self.get(live.id).is_none() {
            tracing::warn!(episode = %live.id, steps = lost, "buffered steps of an episode that was lost are gone");
        }
    }

    /// Forgets an episode that cannot be written to any more.
    pub(super) fn forget(&self, live: &Live) {
        self.forget_unless(live, |_| false);
    }

    fn forget_unless(&self, live: &Live, needed: impl FnOnce(&Live) -> bool) {
        let mut map = self.map();
        if map.get(&live.id).is_some_and(|known| std::ptr::eq(&**known, live)) && !needed(live) {
            map.remove(&live.id);
        }
    }

    /// How many handles there are.
    pub(super) fn handles(&self) -> u64 {
        self.all().iter().map(|live| live.handles() as u64).sum()
    }

    /// How many steps are not written yet.
    pub(super) fn buffered(&self) -> u64 {
        self.all().iter().map(|live| live.pending().steps.len() as u64).sum()
    }

    /// When the first buffered steps are to be written.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.all().iter().filter_map(|live| live.pending().due).min()
    }

    /// Writes the buffered steps that are due by then, or all of them. What fails is kept and becomes due again.
    pub(super) async fn flush(&self, by: Option<Instant>) -> Result<()> {
        let mut result = Ok(());
        for live in self.all() {
            let due = live.pending().due;
            if due.is_none_or(|due| by.is_some_and(|by| due > by)) {
                continue;
            }
            let mut held = live.held.lock().await;
            let written = self.write(&live, &mut held, &[], Put::Nothing).await;
            drop(held);
            self.forget_unless(&live, |live| live.handles() > 0 || !live.pending().steps.is_empty());
            result = result.and(written.map(|_| ()));
        }
        result
    }

    /// Renews the leases of the episodes that have handles, in one commit. Those being written to at this moment are left to
    /// that write, which renews a lease that is due.
    pub(super) async fn renew(&self) -> Result<()> {
        let lives = self.all();
        let in_use = lives.iter().filter(|live| live.handles() > 0);
        let mut held: Vec<_> = in_use.filter_map(|live| Some((live, live.held.try_lock().ok()?))).collect();
        held.retain(|(_, held)| held.gone.is_none());
        while !held.is_empty() {
            let lease = Some(self.lease_at(self.clock.read()));
            let batch = held.iter().fold(Batch::new(), |batch, (live, held)| {
                let renewed = OpenedEpisode { lease, ..held.opened.clone() };
                batch.require_unchanged(Key::Open(live.id), Some(held.version)).put(Record::Open(renewed))
            });
            let result = self.store.commit(&batch).await;
            if result.as_ref().is_err_and(|error| !error.is_conflict()) {
                return result.map(|_| ());
            }
            let keys: Vec<Key> = held.iter().map(|(live, _)| Key::Open(live.id)).collect();
            let mut changed = false;
            for ((_, held), stored) in held.iter_mut().zip(self.store.get(&keys).await?) {
                let before = held.version;
                held.adopt(self.holder, stored);
                changed |= held.gone.is_some() || held.version != before;
            }
            let (lost, left): (Vec<_>, _) = held.into_iter().partition(|(_, held)| held.gone.is_some());
            lost.iter().for_each(|(live, _)| self.forget(live));
            if result.is_ok() || !changed {
                return result.map(|_| ());
            }
            held = left;
        }
        Ok(())
    }

    /// Writes the buffered steps, `more` after them, and the record, in one commit.
    ///
    /// After an error the buffered steps stay buffered, and `more` is not counted: if it was written after all, it is found
    /// when it is given again.
    pub(super) async fn write(&self, live: &Live, held: &mut Held, more: &[Step], put: Put<'_>) -> Result<Durability> {
        let mut rest = live.pending().steps.clone();
        rest.extend_from_slice(more);
        held.unsure |= !more.is_empty();
        let result = self.write_all(live, held, rest, put).await;
        match &result {
            Ok(_) => held.unsure &= more.is_empty(),
            Err(_) => live.failed(),
        }
        result
    }

    async fn write_all(&self, live: &Live, held: &mut Held, mut rest: Vec<Step>, put: Put<'_>) -> Result<Durability> {
        loop {
            if let Some(gone) = held.gone {
                return Err(self.why_gone(live, gone).await?);
            }
            if rest.is_empty() && matches!(put, Put::Nothing) && !held.unsaved {
                return Ok(self.store.info().durability);
            }
            let record = self.record(live, held, put);
            match self.store.commit(&held.batch(&rest, record.as_ref())).await {
                Ok(commit) => {
                    if let Some(record) = record {
                        (held.version, held.opened, held.unsaved) = (commit.version, record, false);
                    }
                    live.written(held, rest.len());
                    if matches!(put, Put::Release) {
                        held.gone = Some(Gone::Taken);
                        self.forget(live);
                    }
                    return Ok(commit.durability);
                }
                Err(error) if error.is_conflict() && self.catch_up(live, held, &mut rest).await? => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The record that goes with a write. While there are handles, a lease is renewed when a third of it is over.
    fn record(&self, live: &Live, held: &Held, put: Put<'_>) -> Option<OpenedEpisode> {
        let now = self.clock.read();
        let due = |lease: Lease| lease.expires_at - now <= self.lease * 2 / 3;
        let lease = Some(self.lease_at(now));
        match put {
            Put::Nothing if live.handles() > 0 && held.opened.lease.is_some_and(due) => {
                Some(OpenedEpisode { lease, ..held.opened.clone() })
            }
            Put::Nothing => held.unsaved.then(|| held.opened.clone()),
            Put::State(state) => Some(OpenedEpisode { lease, state: Some(state.to_owned()), ..held.opened.clone() }),
            Put::Release => Some(OpenedEpisode { lease: None, ..held.opened.clone() }),
        }
    }

    /// After a conflict: reads what is there. Takes out of `rest` what is written already, and says whether anything has come
    /// to light that changes the next try. Another step at the next place has not: it is a conflict for good.
    pub(super) async fn catch_up(&self, live: &Live, held: &mut Held, rest: &mut Vec<Step>) -> Result<bool> {
        let steps = (0..rest.len()).map(|place| step_key(live.id, held.stored + place));
        let keys: Vec<Key> = std::iter::once(Key::Open(live.id)).chain(steps).collect();
        let mut found = self.store.get(&keys).await?.into_iter();
        let before = held.version;
        held.adopt(self.holder, found.next().flatten());
        if held.gone.is_some() {
            self.forget(live);
            return Ok(true);
        }
        let same = found.map_while(step).zip(&*rest).take_while(|(there, step)| there == *step).count();
        rest.drain(..same);
        live.written(held, same);
        Ok(same > 0 || held.version != before)
    }

    /// The error of an episode that cannot be written to any more.
    pub(super) async fn why_gone(&self, live: &Live, gone: Gone) -> Result<Error> {
        let id = live.id;
        Ok(match gone {
            Gone::Taken => {
                let lost = live.pending().steps.len();
                let what = format!("episode {id} was given up or taken over; {lost} buffered steps were not written");
                Error::new(ErrorKind::LeaseLost, what)
            }
            Gone::Ended if self.store.get_episode(id).await?.is_some() => closed(id),
            Gone::Ended => not_found(id),
        })
    }

    /// The error for who wants an episode that another has; `None` if it can be taken.
    pub(super) fn held_by_another(&self, opened: &OpenedEpisode) -> Option<Error> {
        let lease = opened.lease.filter(|lease| lease.holder != self.holder)?;
        (lease.expires_at > self.clock.read()).then(|| {
            let (id, until) = (opened.id, lease.expires_at);
            Error::new(ErrorKind::Held, format!("episode {id} is held by {} until {until}", lease.holder))
        })
    }

    /// Whether nobody works on an episode any more: its lease has run out, and it is not in use here.
    pub(super) fn is_orphan(&self, opened: &OpenedEpisode) -> bool {
        opened.lease.is_some_and(|lease| lease.expires_at <= self.clock.read()) && self.get(opened.id).is_none()
    }
}

pub(super) fn closed(id: EpisodeId) -> Error {
    Error::new(ErrorKind::EpisodeClosed, format!("episode {id} is complete"))
}

fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

pub(super) fn step_key(id: EpisodeId, place: usize) -> Key {
    Key::Step(id, index(place))
}

pub(super) fn step(stored: Option<Stored>) -> Option<Step> {
    match stored?.record {
        Record::Step(step) => Some(step.step),
        _ => None,
    }
}
