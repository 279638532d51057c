//! What a cache has, and where that stands.
//!
//! What is here may block, and is called where it may, unless it says otherwise. Locks are taken in this order: `keeping` or
//! `upkeep`, `contents`, the one writer of the file, `standing`; others are held for moments only.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use memory_core::{Changes, Error, ErrorKind, Hit, Key, Result, Search, Stored, Version};

use super::config::CacheConfig;
use super::contents::{Contents, Found, Misfit, Prepared};
use super::place::{Place, in_memory};
use super::state::State;
use super::stats::{CacheMode, CacheStats, Counters};
use crate::error::guarded;

/// What a cache has.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) config: CacheConfig,
    pub(super) counters: Counters,
    /// What errors call the place.
    name: Arc<Path>,
    /// `None` as long as they are lost, and when it is closed.
    contents: RwLock<Option<Contents>>,
    standing: Mutex<Standing>,
    /// Held by who opens, persists or closes the files.
    upkeep: Mutex<Upkeep>,
    unkept: Mutex<Unkept>,
    /// Held by who keeps what is not kept yet.
    keeping: Mutex<()>,
}

/// Records that were read from the primary and are still to be kept.
#[derive(Debug, Default)]
struct Unkept {
    records: Vec<Stored>,
    /// Whether somebody keeps them.
    at_work: bool,
}

/// So many records may wait for being kept.
const MOST_UNKEPT: usize = 1_000;

/// Where the contents stand.
#[derive(Debug)]
struct Standing {
    cursor: Cursor,
    /// Whether they are one state of the primary: not so before the first look at the feed, nor while a long stretch of it is
    /// applied.
    settled: bool,
    phase: Phase,
    /// Changes since the index was persisted.
    unsaved: u64,
    mode: CacheMode,
    /// What was wrong when the contents were given up last.
    fault: Option<Arc<Error>>,
}

/// What can be done with the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// They cannot be used, and are to be made anew.
    Lost(Loss),
    /// They are read, and the primary answers meanwhile.
    Behind,
    /// They answer.
    Ready,
    Closed,
}

/// Why there are no contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The place was not opened yet.
    Unopened,
    /// What is there is not what was written.
    Damaged,
    /// What is there is of another primary.
    Stranger,
    /// The place cannot be written or read.
    NoPlace,
}

/// Where the cache stands in the feed, and of which contents that is said: each change of them is another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) generation: u64,
    pub(super) version: Version,
}

#[derive(Debug)]
struct Upkeep {
    place: Place,
    /// How often what was in the place was thrown away because it was damaged.
    damages: u32,
}

/// After so many damages the place is not worth another try.
const MOST_DAMAGES: u32 = 3;

/// A stretch of the feed, with the records that it names.
#[derive(Debug)]
pub(super) struct Told {
    /// Where it begins.
    pub(super) cursor: Cursor,
    pub(super) changes: Changes,
    /// At the versions that the feed tells.
    pub(super) records: HashMap<Key, Stored>,
    /// Whether it reaches the end of the feed.
    pub(super) complete: bool,
}

/// What is not there can be asked for again: nothing that is behind the locks is left half done by a panic, which loses the
/// contents as a whole.
impl Shelf {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents(&self) -> RwLockReadGuard<'_, Option<Contents>> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents_mut(&self) -> RwLockWriteGuard<'_, Option<Contents>> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn upkeep(&self) -> MutexGuard<'_, Upkeep> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call that needs the contents; gives them up if it fails.
    fn or_lose<T>(&self, call: impl FnOnce() -> Result<T>) -> Option<T> {
        guarded(&self.name, call).map_err(|error| self.lose(error)).ok()
    }
}

/// Reasons as one, if there are any.
pub(super) fn joined(reasons: impl Iterator<Item = String>) -> Option<String> {
    reasons.reduce(|all, next| format!("{all}; {next}"))
}

/// What comes and goes as a whole.
impl Shelf {
    /// One without contents.
    pub(super) fn new(place: Place, config: CacheConfig) -> Self {
        let standing = Standing {
            cursor: Cursor { generation: 0, version: Version(0) },
            settled: false,
            phase: Phase::Lost(Loss::Unopened),
            unsaved: 0,
            mode: CacheMode::InMemory(None),
            fault: None,
        };
        Self {
            config,
            counters: Counters::default(),
            name: place.name(),
            contents: RwLock::default(),
            standing: Mutex::new(standing),
            upkeep: Mutex::new(Upkeep { place, damages: 0 }),
            unkept: Mutex::default(),
            keeping: Mutex::default(),
        }
    }

    /// Gives the contents up, because they fail.
    fn lose(&self, error: Error) {
        let loss = if is_damage(&error) { Loss::Damaged } else { Loss::NoPlace };
        self.give_up(loss, error);
    }

    /// Gives the contents up, because they are not of this primary.
    pub(super) fn disown(&self, error: Error) {
        self.give_up(Loss::Stranger, error);
    }

    fn give_up(&self, loss: Loss, error: Error) {
        tracing::warn!(%error, "the cache is made anew; until then the primary answers");
        let fault = self.counters.failed(error);
        let mut standing = self.standing();
        if !matches!(standing.phase, Phase::Lost(_) | Phase::Closed) {
            (standing.phase, standing.fault) = (Phase::Lost(loss), Some(fault));
        }
    }

    /// Gives the contents up, because the primary says something else of one of these records than they do.
    pub(super) fn contradict(&self, keys: &[Key], misfit: Misfit) {
        self.give_up(Loss::Damaged, misfit.error(keys));
    }

    /// Makes contents if they are lost: those of the place, or empty ones if they are of no use, in memory if the place cannot be
    /// used.
    pub(super) fn make(&self) {
        let mut upkeep = self.upkeep();
        let (loss, before, fault) = match &*self.standing() {
            Standing { phase: Phase::Lost(loss), mode, fault, .. } => (*loss, mode.clone(), fault.clone()),
            _ => return,
        };
        drop_quietly(&self.name, self.contents_mut().take());
        self.counters.rebuilds.add(usize::from(loss != Loss::Unopened));
        let made = match (loss, before) {
            (Loss::Unopened, _) => self.open(&mut upkeep),
            (Loss::NoPlace, _) => Err(fault),
            (_, CacheMode::InMemory(reason)) => Err(reason),
            (loss, CacheMode::Persistent) => self.open_anew(&mut upkeep, loss),
        };
        let (contents, mode) = match made {
            Ok(made) => made,
            Err(reason) => match guarded(&self.name, || Contents::empty(in_memory()?, &self.config)) {
                Ok(contents) => (contents, CacheMode::InMemory(reason)),
                Err(error) => return drop(self.counters.failed(error)),
            },
        };
        let version = contents.version();
        let mut slot = self.contents_mut();
        let mut standing = self.standing();
        let cursor = Cursor { generation: standing.cursor.generation + 1, version };
        *standing = Standing { cursor, settled: false, phase: Phase::Behind, unsaved: 0, mode, fault: None };
        *slot = Some(contents);
    }

    /// The contents of the place, or the reason why they must be in memory.
    fn open(&self, upkeep: &mut Upkeep) -> Result<(Contents, CacheMode), Option<Arc<Error>>> {
        let loaded = match guarded(&self.name, || upkeep.place.open()) {
            Ok(tables) => guarded(&self.name, || Contents::load(tables, &self.config)),
            // That of a newer version of this library says whose it is.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.note_damage(error);
                upkeep.place.put_aside().map_err(|error| self.note(error))?;
                return self.open_empty(upkeep);
            }
            Err(error) => Err(error),
        };
        match loaded {
            Ok((contents, lost)) => {
                self.counters.rebuilds.add(lost.into());
                Ok((contents, upkeep.place.mode()))
            }
            Err(error) if is_damage(&error) => {
                self.note_damage(error);
                self.open_anew(upkeep, Loss::Damaged)
            }
            Err(error) => Err(self.note(error)),
        }
    }

    /// The same after what is in the place was thrown away.
    fn open_anew(&self, upkeep: &mut Upkeep, loss: Loss) -> Result<(Contents, CacheMode), Option<Arc<Error>>> {
        upkeep.damages += u32::from(loss == Loss::Damaged);
        if upkeep.damages > MOST_DAMAGES {
            return Err(self.counters.last_error());
        }
        upkeep.place.remove().map_err(|error| self.note(error))?;
        self.open_empty(upkeep)
    }

    fn open_empty(&self, upkeep: &Upkeep) -> Result<(Contents, CacheMode), Option<Arc<Error>>> {
        let made = guarded(&self.name, || Contents::empty(upkeep.place.open()?, &self.config));
        Ok((made.map_err(|error| self.note(error))?, upkeep.place.mode()))
    }

    fn note(&self, error: Error) -> Option<Arc<Error>> {
        tracing::warn!(%error, "the cache goes on in memory, without its file");
        Some(self.counters.failed(error))
    }

    fn note_damage(&self, error: Error) {
        tracing::warn!(%error, "the cache is damaged and made anew");
        self.counters.rebuilds.add(1);
        self.counters.failed(error);
    }

    /// Persists the index if that is due: if so much has changed as the settings say, and a sixteenth of what is indexed; or
    /// `anyway`, if one in 256 have changed. It is written as a whole, which must not become the most that is done.
    pub(super) fn persist(&self, anyway: bool) {
        let upkeep = self.upkeep();
        let unsaved = self.unsaved();
        if unsaved == 0 || !self.is_there() {
            return;
        }
        let documents = self.contents().as_ref().map_or(0, Contents::documents);
        let due = unsaved >= self.config.snapshot_changes && unsaved >= documents / 16;
        if due || anyway && unsaved >= documents / 256 {
            self.write_image(&upkeep, unsaved);
        }
    }

    fn write_image(&self, _upkeep: &Upkeep, unsaved: u64) {
        let version = self.cursor().version;
        let Some(image) = self.contents().as_ref().and_then(|contents| contents.image(version)) else { return };
        match guarded(&self.name, || image.write()) {
            Ok(()) => self.counters.snapshots.add(1),
            // What is there is as good as before; the next try may go better.
            Err(error) => return drop(self.counters.failed(error)),
        }
        let mut standing = self.standing();
        standing.unsaved = standing.unsaved.saturating_sub(unsaved);
    }

    /// Persists what is there, and lets go of the files.
    pub(super) fn close(&self) {
        self.keep();
        let upkeep = self.upkeep();
        let unsaved = self.unsaved();
        if unsaved > 0 && self.is_there() {
            self.write_image(&upkeep, unsaved);
        }
        self.standing().phase = Phase::Closed;
        drop_quietly(&self.name, self.contents_mut().take());
    }
}

/// Closing a damaged file may fail, or panic; there is nothing more to lose.
fn drop_quietly(name: &Path, contents: Option<Contents>) {
    if let Some(contents) = contents
        && let Err(error) = guarded(name, || contents.close())
    {
        tracing::warn!(%error, "the file of the cache could not be closed in order");
    }
}

/// Whether it is the fault of what is in the place, and not of the place: then it is of no use, and is made anew.
fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::SchemaTooNew | ErrorKind::SchemaEdited)
}

/// Where it stands.
impl Shelf {
    /// Why it does less than it was opened for, if it does.
    pub(super) fn degraded(&self) -> Option<String> {
        let Standing { phase, mode, .. } = &*self.standing();
        let place = match mode {
            CacheMode::InMemory(Some(error)) => Some(format!("the cache is in memory: {error}")),
            _ => None,
        };
        let doing = match phase {
            Phase::Lost(_) => Some("lost"),
            Phase::Behind => Some("warming up"),
            Phase::Ready | Phase::Closed => None,
        };
        let answers = doing.map(|doing| {
            let why = self.counters.last_error().map(|error| format!(" ({error})")).unwrap_or_default();
            format!("the cache is {doing}, and the primary answers{why}")
        });
        joined(place.into_iter().chain(answers))
    }

    pub(super) fn phase(&self) -> Phase {
        self.standing().phase
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.standing().cursor
    }

    fn unsaved(&self) -> u64 {
        self.standing().unsaved
    }

    /// Lets the contents answer, unless they have changed since.
    pub(super) fn set_ready(&self, cursor: &Cursor) -> bool {
        let mut standing = self.standing();
        let same = standing.cursor.generation == cursor.generation && standing.phase == Phase::Behind;
        if same {
            standing.phase = Phase::Ready;
        }
        same
    }

    /// Lets the primary answer until the contents have caught up.
    pub(super) fn fall_behind(&self) {
        let mut standing = self.standing();
        if standing.phase == Phase::Ready {
            standing.phase = Phase::Behind;
        }
    }

    /// Whether the contents are one state of the primary, and may answer.
    fn answers(&self) -> bool {
        let standing = self.standing();
        standing.phase == Phase::Ready && standing.settled
    }

    /// Whether there are contents, and no harm is known of them.
    fn is_there(&self) -> bool {
        matches!(self.phase(), Phase::Ready | Phase::Behind)
    }

    /// The feed told nothing after this place, up to a version. False if the contents have changed since.
    pub(super) fn heard_nothing(&self, cursor: &Cursor, upto: Version) -> bool {
        let mut standing = self.standing();
        let same = standing.cursor.generation == cursor.generation;
        if same {
            standing.cursor.version = standing.cursor.version.max(upto);
            standing.settled = true;
        }
        same
    }

    /// Changes the contents to what the feed told. False if they have changed since, or are lost.
    pub(super) fn apply(&self, told: Told) -> bool {
        let Told { cursor, changes, records, complete } = told;
        let prepared = self.or_lose(|| Ok(Prepared::new(&changes, records, complete, self.config.clock.now())));
        let Some(prepared) = prepared else { return false };
        let mut contents = self.contents_mut();
        let Some(contents) = contents.as_mut().filter(|_| self.cursor().generation == cursor.generation) else {
            return false;
        };
        if contents.are_of_another_space(&prepared) {
            self.disown(Error::new(ErrorKind::SpaceMismatch, "the primary was moved to another vector space"));
            return false;
        }
        self.standing().settled = false;
        let Some(evicted) = self.or_lose(|| contents.apply(prepared, changes.upto)) else { return false };
        self.counters.evictions.add(evicted);
        self.counters.changes.add(changes.entries.len());
        let mut standing = self.standing();
        standing.cursor = Cursor { generation: cursor.generation + 1, version: changes.upto };
        standing.settled = complete;
        standing.unsaved += changes.entries.len() as u64;
        true
    }
}

/// What it answers. `None`: the primary must.
impl Shelf {
    /// What there is of these records.
    pub(super) fn look_up(&self, keys: &[Key]) -> Option<Found> {
        let contents = self.contents();
        let contents = contents.as_ref().filter(|_| self.answers())?;
        let found = self.or_lose(|| contents.look_up(keys, self.config.clock.now(), self.config.ttl))?;
        self.counters.expirations.add(found.expired);
        Some(found)
    }

    /// The same where nothing may block; `None` also if that is not possible.
    pub(super) fn look_up_at_once(&self, keys: &[Key]) -> Option<Vec<Option<Stored>>> {
        let contents = self.contents.try_read().ok()?;
        let contents = contents.as_ref().filter(|_| self.answers())?;
        contents.look_up_at_once(keys, self.config.clock.now(), self.config.ttl)
    }

    /// Which of these records are not kept, as far as that can be told without waiting.
    pub(super) fn unkept_of(&self, keys: &[Key]) -> Vec<Key> {
        let contents = self.contents.try_read().ok();
        contents.as_deref().and_then(Option::as_ref).and_then(|contents| contents.unkept_of(keys)).unwrap_or_default()
    }

    /// Lets records that were read from the primary be kept, if they are what the cache knows of. Says whether somebody must
    /// [do that](Self::keep), because nobody does already. What is too much at once is not kept.
    pub(super) fn keep_later(&self, records: Vec<Stored>) -> bool {
        let mut unkept = self.unkept();
        let room = MOST_UNKEPT.saturating_sub(unkept.records.len());
        unkept.records.extend(records.into_iter().take(room));
        !unkept.records.is_empty() && !std::mem::replace(&mut unkept.at_work, true)
    }

    /// Keeps what there is to keep.
    pub(super) fn keep(&self) {
        loop {
            let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            let records = {
                let mut unkept = self.unkept();
                unkept.at_work = !unkept.records.is_empty();
                std::mem::take(&mut unkept.records)
            };
            if records.is_empty() {
                return;
            }
            let contents = self.contents();
            if let Some(contents) = contents.as_ref().filter(|_| self.is_there()) {
                let evicted = self.or_lose(|| contents.keep(records, self.config.clock.now()));
                self.counters.evictions.add(evicted.unwrap_or_default());
            }
        }
    }

    fn unkept(&self) -> MutexGuard<'_, Unkept> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same as [`search`](Self::search), where nothing may block; `None` also if that is not possible.
    pub(super) fn search_at_once(&self, search: &Search) -> Option<Result<Vec<Hit>>> {
        let contents = self.contents.try_read().ok()?;
        let contents = contents.as_ref().filter(|_| self.answers())?;
        if let Err(refused) = search.validate(contents.space()) {
            return Some(Err(refused));
        }
        self.or_lose(|| Ok(contents.search_at_once(search)))?.map(Ok)
    }

    /// What is found, or why the search is refused.
    pub(super) fn search(&self, search: &Search) -> Option<Result<Vec<Hit>>> {
        let contents = self.contents();
        let contents = contents.as_ref().filter(|_| self.answers())?;
        if let Err(refused) = search.validate(contents.space()) {
            return Some(Err(refused));
        }
        self.or_lose(|| contents.search(search)).map(Ok)
    }

    /// Clears away what has expired.
    pub(super) fn expire(&self) {
        let contents = self.contents();
        if let Some(contents) = contents.as_ref().filter(|_| self.is_there()) {
            let expired = self.or_lose(|| contents.expire(self.config.clock.now(), self.config.ttl));
            self.counters.expirations.add(expired.unwrap_or_default());
        }
    }

    /// What is remembered of the primary, and up to so many records from all over, with their versions.
    pub(super) fn remembered(&self, most: u32) -> Option<(State, Vec<(Key, Version)>)> {
        let contents = self.contents();
        let contents = contents.as_ref()?;
        self.or_lose(|| contents.remembered(most))
    }

    /// Figures, when all is kept that was read until now.
    pub(super) fn stats(&self) -> CacheStats {
        self.keep();
        let contents = self.contents();
        let kept = contents.as_ref().map(Contents::stats).unwrap_or_default();
        let standing = self.standing();
        let counters = &self.counters;
        CacheStats {
            mode: standing.mode.clone(),
            ready: standing.phase == Phase::Ready,
            version: standing.cursor.version,
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            searches: counters.searches.get(),
            passed_on: counters.passed_on.get(),
            changes: counters.changes.get(),
            evictions: counters.evictions.get(),
            expirations: counters.expirations.get(),
            rebuilds: counters.rebuilds.get(),
            snapshots: counters.snapshots.get(),
            entries: kept.entries,
            bytes: kept.bytes,
            vectors: kept.vectors,
            vector_bytes: kept.vector_bytes,
            index: kept.index,
            last_error: counters.last_error(),
        }
    }
}

#[cfg(test)]
mod tests {
    use memory_core::testkit::samples::{episode, logged, space};
    use memory_core::{FeedEntry, Record};

    use super::*;

    /// What a feed tells of one record, from here on.
    fn told(cursor: Cursor, version: u64, record: &Record, complete: bool) -> Told {
        let (version, key) = (Version(version), record.key());
        let stored = Stored { version, record: record.clone() };
        let entries = vec![FeedEntry { version, key: key.clone(), deleted: false }];
        Told { cursor, changes: Changes { entries, upto: version }, records: [(key, stored)].into(), complete }
    }

    /// Of two who applied what the feed told from one place on, as after a reader was dropped, the second must look again.
    #[test]
    fn a_stretch_is_applied_where_it_begins_or_not_at_all() {
        let shelf = Shelf::new(Place::Memory, CacheConfig::default());
        shelf.make();
        let start = shelf.cursor();
        let [old, new] = ["old", "new"].map(|text| logged(episode(1, text)));
        assert!(shelf.apply(told(start, 5, &new, true)));
        assert!(!shelf.apply(told(start, 3, &old, true)), "it is applied to something else");
        assert!(!shelf.heard_nothing(&start, Version(3)));
        let cursor = shelf.cursor();
        assert_eq!(cursor.version, Version(5));
        assert!(shelf.set_ready(&cursor) && !shelf.set_ready(&start));
        let found = shelf.look_up(&[new.key()]).unwrap();
        assert_eq!(found.complete(Vec::new()).unwrap()[0].as_ref().map(|stored| &stored.record), Some(&new));

        // Nor is it once the contents are others.
        shelf.disown(Error::new(ErrorKind::Foreign, "as if"));
        assert!(shelf.look_up(&[new.key()]).is_none());
        shelf.make();
        assert!(!shelf.apply(told(cursor, 9, &new, true)) && !shelf.heard_nothing(&cursor, Version(9)));
        assert_eq!((shelf.cursor().version, shelf.counters.rebuilds.get()), (Version(0), 1));
        // What is told in part does not answer.
        assert!(shelf.apply(told(shelf.cursor(), 7, &new, false)) && shelf.set_ready(&shelf.cursor()));
        assert!(shelf.look_up(&[new.key()]).is_none());
        assert!(shelf.heard_nothing(&shelf.cursor(), Version(7)) && shelf.look_up(&[new.key()]).is_some());
        shelf.close();
        shelf.make();
        assert_eq!(shelf.phase(), Phase::Closed);
        assert!(!shelf.apply(told(shelf.cursor(), 8, &new, true)));
    }

    /// A primary whose vectors were replaced tells no more of it than that its space is another.
    #[test]
    fn in_another_vector_space_everything_is_read_anew() {
        let shelf = Shelf::new(Place::Memory, CacheConfig::default());
        shelf.make();
        let [old, new] = [3, 4].map(|dimensions| Record::Space(space(dimensions)));
        let one = logged(episode(1, "one"));
        assert!(shelf.apply(told(shelf.cursor(), 1, &old, true)));
        assert!(shelf.apply(told(shelf.cursor(), 2, &one, true)) && shelf.set_ready(&shelf.cursor()));
        assert!(shelf.apply(told(shelf.cursor(), 3, &old, true)), "the same one is put again");
        assert!(shelf.look_up(&[one.key()]).is_some());
        assert!(!shelf.apply(told(shelf.cursor(), 4, &new, true)));
        assert_eq!(shelf.phase(), Phase::Lost(Loss::Stranger));
        assert!(shelf.look_up(&[one.key()]).is_none());
        shelf.make();
        assert_eq!((shelf.cursor().version, shelf.phase()), (Version(0), Phase::Behind));
        assert!(shelf.apply(told(shelf.cursor(), 4, &new, true)));
    }

    /// What was read from the primary before the cache heard of a newer version is not kept.
    #[test]
    fn only_what_the_cache_knows_of_is_kept() {
        let shelf = Shelf::new(Place::Memory, CacheConfig::default());
        shelf.make();
        let [old, new] = ["old", "new"].map(|text| logged(episode(1, text)));
        let unknown = logged(episode(2, "unknown"));
        assert!(shelf.apply(told(shelf.cursor(), 5, &new, false)) && shelf.heard_nothing(&shelf.cursor(), Version(5)));
        assert!(shelf.set_ready(&shelf.cursor()));
        let stored = |version, record: &Record| Stored { version: Version(version), record: record.clone() };
        assert!(shelf.keep_later(vec![stored(3, &old), stored(4, &unknown)]), "somebody must");
        assert!(!shelf.keep_later(vec![stored(3, &old)]), "somebody does");
        shelf.keep();
        assert_eq!(shelf.stats().entries, 0);
        assert!(shelf.keep_later(vec![stored(5, &new)]));
        assert_eq!(shelf.stats().entries, 1);
        assert!(!shelf.keep_later(Vec::new()));
    }

    /// A place that damages what is written there is not tried for ever.
    #[test]
    fn a_place_that_does_damage_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::File(folder.path().join("cache").into());
        let shelf = Shelf::new(place, CacheConfig::default());
        shelf.make();
        for damages in 1..=4 {
            shelf.lose(Error::new(ErrorKind::Corrupt, "as if"));
            shelf.lose(Error::new(ErrorKind::Io, "what comes of it does not count"));
            assert_eq!(shelf.phase(), Phase::Lost(Loss::Damaged));
            shelf.make();
            let CacheStats { mode, rebuilds, .. } = shelf.stats();
            assert_eq!((rebuilds, shelf.phase()), (damages, Phase::Behind));
            assert_eq!(matches!(mode, CacheMode::Persistent), damages <= u64::from(MOST_DAMAGES), "{mode:?}");
        }
        // Nor is it afterwards, whatever happens.
        shelf.disown(Error::new(ErrorKind::Foreign, "as if"));
        shelf.make();
        assert!(matches!(shelf.stats().mode, CacheMode::InMemory(Some(_))));
        shelf.close();
    }
}
