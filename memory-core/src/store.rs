//! The contract between the engine and a store.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    EpisodeId, Error, Hit, LearnerId, LoggedEpisode, Note, NoteId, NoteKind, OpenedEpisode, OpenedStep, Pattern,
    PatternId, Result, Scope, Search, Status, StoredNote, Trust, Vector, VectorSpace, Verdict,
};

/// The place of a change in the history of a store: 1 for the first, rising with every change, across all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u64);

/// The name of a record.
#[expect(clippy::exhaustive_enums, reason = "a store must be able to name every record")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The vector space of the store.
    Space,
    /// How far a learner has read the log.
    Watermark(LearnerId),
    /// A completed episode.
    Episode(EpisodeId),
    /// An open episode.
    Open(EpisodeId),
    /// A step of an open episode.
    Step(EpisodeId, u32),
    /// A pattern, of any kind but the next.
    Pattern(PatternId),
    /// A pattern of the kind [habit](crate::PatternKind::Habit): these are scanned apart.
    Habit(PatternId),
    /// A note.
    Note(NoteId),
    /// A completed episode or a note, by its id, whose vector is missing.
    Unembedded(Uuid),
}

/// The kind of a record.
#[expect(clippy::exhaustive_enums, reason = "a store must hold every kind of record")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// See [`Key::Space`].
    Space,
    /// See [`Key::Watermark`].
    Watermark,
    /// See [`Key::Episode`].
    Episode,
    /// See [`Key::Open`].
    Open,
    /// See [`Key::Step`].
    Step,
    /// See [`Key::Pattern`].
    Pattern,
    /// See [`Key::Habit`].
    Habit,
    /// See [`Key::Note`].
    Note,
    /// See [`Key::Unembedded`].
    Unembedded,
}

impl RecordKind {
    /// All kinds, in the order in which their keys sort.
    pub const ALL: [Self; 9] = [
        Self::Space,
        Self::Watermark,
        Self::Episode,
        Self::Open,
        Self::Step,
        Self::Pattern,
        Self::Habit,
        Self::Note,
        Self::Unembedded,
    ];

    /// The kind as one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Watermark => "watermark",
            Self::Episode => "episode",
            Self::Open => "open",
            Self::Step => "step",
            Self::Pattern => "pattern",
            Self::Habit => "habit",
            Self::Note => "note",
            Self::Unembedded => "unembedded",
        }
    }

    /// Whether changes of this kind are in the change feed. Patterns are not: they can be derived from the episodes, and
    /// the watermark tells when they moved. Open episodes and their steps are not: they end as an episode. What is still to be
    /// embedded is not: it ends as an episode or a note with a vector.
    pub const fn in_feed(self) -> bool {
        matches!(self, Self::Space | Self::Watermark | Self::Episode | Self::Note)
    }
}

impl Key {
    /// The kind of the record.
    pub const fn kind(&self) -> RecordKind {
        match self {
            Self::Space => RecordKind::Space,
            Self::Watermark(_) => RecordKind::Watermark,
            Self::Episode(_) => RecordKind::Episode,
            Self::Open(_) => RecordKind::Open,
            Self::Step(..) => RecordKind::Step,
            Self::Pattern(_) => RecordKind::Pattern,
            Self::Habit(_) => RecordKind::Habit,
            Self::Note(_) => RecordKind::Note,
            Self::Unembedded(_) => RecordKind::Unembedded,
        }
    }
}

/// How far a learner has read the log: the patterns hold exactly the episodes up to here. Or how far a store is a copy of another
/// one's log, if the learner [names one](LearnerId::names_a_log).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Whose it is.
    pub learner: LearnerId,
    /// The version of the last episode that was read.
    pub position: Version,
}

/// What a store keeps.
#[expect(clippy::large_enum_variant, reason = "every match on an open episode would pay for a box")]
#[expect(clippy::exhaustive_enums, reason = "a store must hold every kind of record")]
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The vector space of the store. It can be put once, and no commit changes or deletes it; see
    /// [`Memory::reembed`](crate::Memory::reembed).
    Space(VectorSpace),
    /// How far a learner has read the log.
    Watermark(Watermark),
    /// A completed episode.
    Episode(LoggedEpisode),
    /// An open episode.
    Open(OpenedEpisode),
    /// A step of an open episode.
    Step(OpenedStep),
    /// A pattern of any kind.
    Pattern(Pattern),
    /// A note.
    Note(StoredNote),
    /// That an episode or a note with this id has no vector yet, since the embedder failed. It is put together with the episode
    /// or the note, and deleted together with putting the vector.
    Unembedded(Uuid),
}

impl Record {
    /// The name of the record.
    pub fn key(&self) -> Key {
        match self {
            Self::Space(_) => Key::Space,
            Self::Watermark(watermark) => Key::Watermark(watermark.learner),
            Self::Episode(logged) => Key::Episode(logged.episode.id),
            Self::Open(open) => Key::Open(open.id),
            Self::Step(step) => Key::Step(step.episode, step.index),
            Self::Pattern(pattern) => pattern.key(),
            Self::Note(stored) => Key::Note(stored.note.id),
            Self::Unembedded(id) => Key::Unembedded(*id),
        }
    }

    /// Whose record it is; `None` for what belongs to the whole store. A step belongs to its episode.
    pub fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Space(_) | Self::Watermark(_) | Self::Step(_) | Self::Unembedded(_) => None,
            Self::Episode(logged) => Some(&logged.episode.scope),
            Self::Open(open) => Some(&open.scope),
            Self::Pattern(pattern) => Some(&pattern.scope),
            Self::Note(stored) => Some(&stored.note.scope),
        }
    }
}

/// A record with the version of its last change.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The version of its last change.
    pub version: Version,
    /// The record.
    pub record: Record,
}

/// Checks that a vector is of the store's space.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) if the store has no space, or one of another length.
pub fn check_vector(vector: &Vector, space: Option<&VectorSpace>) -> Result<()> {
    match space {
        Some(space) => space.check(vector),
        None => Err(Error::invalid("vector", "given", "none, as long as the store has no vector space")),
    }
}

/// What must hold for a batch to be written.
#[expect(clippy::exhaustive_enums, reason = "a store must check every condition")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no such record.
    Absent(Key),
    /// There is such a record.
    Present(Key),
    /// The record's last change is this one.
    Unchanged(Key, Version),
}

impl Condition {
    /// The error when it does not hold; `version` is what is there.
    pub fn conflict(&self, version: Option<Version>) -> Error {
        let there = version.map_or_else(|| "absent".to_owned(), |version| format!("at version {}", version.0));
        Error::new(crate::ErrorKind::Conflict, format!("{self:?} does not hold: the record is {there}"))
    }

    /// The record it speaks of.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Present(key) | Self::Unchanged(key, _) => key,
        }
    }
}

/// One change of a batch.
#[expect(clippy::large_enum_variant, reason = "nearly all changes are puts")]
#[expect(clippy::exhaustive_enums, reason = "a store must make every change")]
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Puts a record in place of the one with the same key, if any.
    Put(Record),
    /// Adds the evidence of a pattern to the one with the same id, or puts it if there is none. The other fields of both are
    /// the same. Only in a batch with a condition, since adding twice is not adding once.
    Add(Pattern),
    /// Deletes a record, if it is there.
    Delete(Key),
}

/// Changes that happen together or not at all, under conditions.
///
/// ```
/// use memory_core::{Batch, Key, Record, Watermark, LearnerId, Version};
/// # let learner = LearnerId::new(Default::default());
/// let batch = Batch::new()
///     .require_absent(Key::Watermark(learner))
///     .put(Record::Watermark(Watermark { learner, position: Version(0) }));
/// assert_eq!(batch.changes.len(), 1);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// All must hold before the first change.
    pub conditions: Vec<Condition>,
    /// The changes, in order. Each gets a version of its own, in this order; but all those of patterns get one together, where
    /// the first of them stands.
    pub changes: Vec<Change>,
    /// Whether everything in it can be derived from what is already durable. A store may acknowledge such a batch before it
    /// has reached the disk, as long as it is atomic and ordered with the rest.
    pub derivable: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record to put.
    #[must_use]
    pub fn put(mut self, record: Record) -> Self {
        self.changes.push(Change::Put(record));
        self
    }

    /// Adds a pattern whose evidence is to be added.
    #[must_use]
    pub fn add_pattern(mut self, pattern: Pattern) -> Self {
        self.changes.push(Change::Add(pattern));
        self
    }

    /// Adds a record to delete.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.changes.push(Change::Delete(key));
        self
    }

    /// Requires that there is no such record.
    #[must_use]
    pub fn require_absent(mut self, key: Key) -> Self {
        self.conditions.push(Condition::Absent(key));
        self
    }

    /// Requires that there is such a record.
    #[must_use]
    pub fn require_present(mut self, key: Key) -> Self {
        self.conditions.push(Condition::Present(key));
        self
    }

    /// Requires that the record is as it was read: at this version, or absent.
    #[must_use]
    pub fn require_unchanged(mut self, key: Key, version: Option<Version>) -> Self {
        self.conditions.push(match version {
            Some(version) => Condition::Unchanged(key, version),
            None => Condition::Absent(key),
        });
        self
    }

    /// Checks what every store must refuse, whatever it holds.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for deleting the vector space, an episode that is too large, a condition on a
    /// pattern, and adding without a condition.
    pub fn validate(&self) -> Result<()> {
        let pattern = |key: &Key| matches!(key.kind(), RecordKind::Pattern | RecordKind::Habit);
        if let Some(condition) = self.conditions.iter().find(|condition| pattern(condition.key())) {
            return Err(Error::invalid("condition", format_args!("{condition:?}"), "records other than patterns"));
        }
        for change in &self.changes {
            match change {
                Change::Delete(Key::Space) => {
                    return Err(Error::invalid("delete", "the vector space", "other records"));
                }
                Change::Put(Record::Episode(logged)) => logged.episode.check_encoded_size()?,
                Change::Add(_) if self.conditions.is_empty() => {
                    return Err(Error::invalid("batch.conditions", "empty", "at least one, in a batch that adds"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Says that everything in it can be derived again; see [`derivable`](Self::derivable).
    #[must_use]
    pub fn as_derivable(mut self) -> Self {
        self.derivable = true;
        self
    }
}

/// How safe acknowledged data is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// On disk: it survives the process and the machine.
    Durable,
    /// In the memory of this process and on its way to disk, where it is after a bounded time or number of writes; see
    /// [`StepDurability::Batched`](crate::StepDurability::Batched). Only an engine acknowledges so, never a store.
    Buffered,
    /// In memory: it is gone with the process.
    Volatile,
}

/// The answer to a batch that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The version of its last change; of the store, if the batch had none.
    pub version: Version,
    /// How safe it is now.
    pub durability: Durability,
}

/// Which records a scan or a search looks at. Every part that is set must match; the default matches all.
///
/// Texts are compared byte for byte. Only records of [`RecordKind::Episode`] can be filtered; on other kinds every part must be
/// unset.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The domain is this one.
    pub domain: Option<String>,
    /// The language is this one.
    pub language: Option<String>,
    /// All these tags are there.
    pub tags: Vec<String>,
    /// The verdict is this one.
    pub verdict: Option<Verdict>,
    /// Completed at this moment or later.
    pub completed_from: Option<DateTime<Utc>>,
    /// Completed before this moment.
    pub completed_before: Option<DateTime<Utc>>,
    /// The source is trusted at least so far.
    pub trust: Option<Trust>,
}

impl Filter {
    /// Sets the domain.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Sets the language.
    #[must_use]
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = Some(language.into());
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Sets the verdict.
    #[must_use]
    pub fn verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = Some(verdict);
        self
    }

    /// Sets the span of completion times: from the first moment, before the second.
    #[must_use]
    pub fn completed(mut self, from: Option<DateTime<Utc>>, before: Option<DateTime<Utc>>) -> Self {
        (self.completed_from, self.completed_before) = (from, before);
        self
    }

    /// Sets how far the source must be trusted at least.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Whether a completed episode matches.
    pub fn matches(&self, episode: &crate::Episode) -> bool {
        let same = |want: &Option<String>, have: &Option<String>| want.is_none() || want == have;
        same(&self.domain, &episode.task.domain)
            && same(&self.language, &episode.task.language)
            && self.tags.iter().all(|tag| episode.task.tags.contains(tag))
            && self.verdict.is_none_or(|verdict| verdict == episode.outcome.verdict)
            && self.completed_from.is_none_or(|from| episode.completed_at >= from)
            && self.completed_before.is_none_or(|before| episode.completed_at < before)
            && self.trust.is_none_or(|trust| episode.source.trust >= trust)
    }
}

/// Which notes a scan or a search looks at. Every part that is set must match; the default matches all.
///
/// Texts are compared byte for byte. On records of other kinds than [`RecordKind::Note`] every part must be unset.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoteFilter {
    /// It has not expired by this moment.
    pub alive_at: Option<DateTime<Utc>>,
    /// It has expired by this moment.
    pub expired_at: Option<DateTime<Utc>>,
    /// It is no candidate at this quorum; see [`Note::status`].
    pub quorum: Option<u32>,
    /// Its sources are trusted so far, no more and no less.
    pub trust: Option<Trust>,
    /// It is of this kind.
    pub kind: Option<NoteKind>,
    /// All these tags are there.
    pub tags: Vec<String>,
    /// It has a place in this thread.
    pub thread: Option<String>,
}

impl NoteFilter {
    /// Lets through what has not expired by this moment.
    #[must_use]
    pub fn alive_at(mut self, moment: DateTime<Utc>) -> Self {
        self.alive_at = Some(moment);
        self
    }

    /// Lets through what has expired by this moment.
    #[must_use]
    pub fn expired_at(mut self, moment: DateTime<Utc>) -> Self {
        self.expired_at = Some(moment);
        self
    }

    /// Lets through what is no candidate at this quorum.
    #[must_use]
    pub fn quorum(mut self, quorum: u32) -> Self {
        self.quorum = Some(quorum);
        self
    }

    /// Lets through what sources tell that are trusted so far.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Lets through what is of this kind.
    #[must_use]
    pub fn kind(mut self, kind: NoteKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Adds a tag that must be there.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Lets through what has a place in this thread.
    #[must_use]
    pub fn thread(mut self, thread: impl Into<String>) -> Self {
        self.thread = Some(thread.into());
        self
    }

    /// Whether a note matches.
    pub fn matches(&self, note: &Note) -> bool {
        self.alive_at.is_none_or(|moment| note.lives_at(moment))
            && self.expired_at.is_none_or(|moment| !note.lives_at(moment))
            && self.quorum.is_none_or(|quorum| note.status(quorum) != Status::Candidate)
            && self.trust.is_none_or(|trust| note.trust == trust)
            && self.kind.is_none_or(|kind| note.kind == kind)
            && self.tags.iter().all(|tag| note.tags.contains(tag))
            && self.thread.as_ref().is_none_or(|thread| note.place.as_ref().is_some_and(|at| at.thread == *thread))
    }
}

/// Checks that filters are set on the kinds that they are for.
pub(crate) fn check_filters(of: &str, kind: RecordKind, filter: &Filter, notes: &NoteFilter) -> Result<()> {
    if kind != RecordKind::Episode && *filter != Filter::default() {
        let range = "unset, except for episodes";
        return Err(Error::invalid(&format!("{of}.filter"), format_args!("{filter:?}"), range));
    }
    if kind != RecordKind::Note && *notes != NoteFilter::default() {
        let range = "unset, except for notes";
        return Err(Error::invalid(&format!("{of}.notes"), format_args!("{notes:?}"), range));
    }
    Ok(())
}

/// Where a scan goes on.
#[expect(clippy::exhaustive_enums, reason = "a store must take every cursor")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// After this version; for episodes, which are scanned in the order of the log.
    Version(Version),
    /// After this key; for all other kinds, which are scanned in the order of their keys.
    Key(Key),
}

/// A request to read records of one kind, page by page.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The kind of the records.
    pub kind: RecordKind,
    /// Whose records; `None` reads those of every scope and is for the engine's own upkeep. Records without a scope of their
    /// own ([`Record::scope`]) are read only with `None`.
    pub scope: Option<Scope>,
    /// Which records, of episodes.
    pub filter: Filter,
    /// Which records, of notes.
    pub notes: NoteFilter,
    /// Where to go on; `None` starts at the beginning.
    pub after: Option<Cursor>,
    /// The longest page, from 1 to 1,000 records.
    pub limit: usize,
}

impl Scan {
    /// A scan of all records of a kind, from the beginning, up to 1,000 a page.
    pub fn new(kind: RecordKind) -> Self {
        let (filter, notes) = (Filter::default(), NoteFilter::default());
        Self { kind, scope: None, filter, notes, after: None, limit: 1_000 }
    }

    /// Stays within one scope.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Sets the filter.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets the filter of notes.
    #[must_use]
    pub fn notes(mut self, notes: NoteFilter) -> Self {
        self.notes = notes;
        self
    }

    /// Goes on after this place.
    #[must_use]
    pub fn after(mut self, cursor: Option<Cursor>) -> Self {
        self.after = cursor;
        self
    }

    /// Sets the longest page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Checks what every store must refuse.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), as [`MemoryStore::scan`] says.
    pub fn validate(&self) -> Result<()> {
        check_limit(self.limit)?;
        let episodes = self.kind == RecordKind::Episode;
        let fits = match &self.after {
            None => true,
            Some(Cursor::Version(_)) => episodes,
            Some(Cursor::Key(key)) => !episodes && key.kind() == self.kind,
        };
        if !fits {
            let range = format!("a cursor of a scan of {} records", self.kind.as_str());
            return Err(Error::invalid("scan.after", format_args!("{:?}", self.after), range));
        }
        check_filters("scan", self.kind, &self.filter, &self.notes)
    }
}

/// Checks the limit of a page or of a stretch of the feed.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) outside 1..=1000.
pub fn check_limit(limit: usize) -> Result<()> {
    if (1..=1_000).contains(&limit) { Ok(()) } else { Err(Error::invalid("limit", limit, "1..=1000")) }
}

/// One page of a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The records, in order. There may be fewer than the limit, even none, before the end is reached.
    pub records: Vec<Stored>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// One entry of the change feed: the last change of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    /// When it changed.
    pub version: Version,
    /// What changed.
    pub key: Key,
    /// Whether the change was a deletion.
    pub deleted: bool,
}

/// A stretch of the change feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The entries, by rising version. A record that changed several times appears once, at its last change.
    pub entries: Vec<FeedEntry>,
    /// Everything up to here has been told; ask on from here. What was asked for, when that is the end of the feed.
    pub upto: Version,
}

/// What a store is and can do.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its name, for people.
    pub name: &'static str,
    /// What an acknowledged batch is, unless it is derivable.
    pub durability: Durability,
}

impl StoreInfo {
    /// A store of this name and durability.
    pub const fn new(name: &'static str, durability: Durability) -> Self {
        Self { name, durability }
    }
}

/// How a store is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// The version of the last change.
    pub version: Version,
    /// Completed episodes, of all scopes.
    pub episodes: u64,
    /// Open episodes, of all scopes.
    pub open_episodes: u64,
    /// Patterns of all scopes, learners and kinds.
    pub patterns: u64,
    /// Notes, of all scopes, candidates and expired ones too.
    pub notes: u64,
    /// Why it serves less well than it was asked to, if it does: a cache that cannot use its file, say.
    pub degraded: Option<String>,
}

/// As many records or fewer that pass the filter are all compared by vector, also by a search that is not exact.
pub const COMPARED: usize = 100;

/// Where episodes and knowledge are kept.
///
/// An implementation writes all eight methods; there are no defaults, so that a decorator cannot forget one.
/// The contract kit (feature `testkit`) checks every promise made here.
///
/// # Guarantees
/// - A read sees one committed state as a whole, and every batch acknowledged before the read began.
/// - Versions rise in the order in which batches become visible: once a reader has seen version *n*, nothing at or
///   below *n* appears later. The log can therefore be followed by position.
/// - A dropped future leaves the store usable; whether its batch was written is then unknown.
/// - Records come back exactly as they were put.
#[async_trait]
pub trait MemoryStore: Debug + Display + Send + Sync + 'static {
    /// What the store is and can do.
    fn info(&self) -> StoreInfo;

    /// Writes all changes of the batch if all its conditions hold, or nothing.
    ///
    /// The answer comes when the batch is as safe as [`StoreInfo::durability`] says, unless it is
    /// [derivable](Batch::derivable). Putting a record that is there already replaces it and gives it a new version.
    /// Deleting what is not there changes nothing; a pattern's deletion takes a version all the same. An empty batch is a check
    /// of its conditions.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) when a condition does not hold;
    /// [`Invalid`](crate::ErrorKind::Invalid) for a vector without a space or of another length than the space's, and for what
    /// [`Batch::validate`] refuses;
    /// [`SpaceMismatch`](crate::ErrorKind::SpaceMismatch) for putting another space than the one already there;
    /// the store's own errors. After any error nothing of the batch is there, except after a failure whose outcome the store
    /// could not learn: then all or nothing of it is there.
    async fn commit(&self, batch: &Batch) -> Result<Commit>;

    /// Reads records by key: as many answers as keys, in the same order, `None` for what is not there. A key may appear twice.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for stored bytes that do not decode; the store's own errors.
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>>;

    /// Reads one page of the records of a kind: episodes by rising version, other kinds by rising key.
    ///
    /// Going on from [`Page::next`] until it is `None` reads every record that was there all the time exactly once.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a limit outside 1..=1000, a cursor of another kind of scan, or a filter
    /// on another kind than it is for; the store's own errors.
    async fn scan(&self, scan: &Scan) -> Result<Page>;

    /// Finds the completed episodes, or the notes, of a scope that are most like a text, a vector, or both.
    ///
    /// The answer is the union of the best `k` by words (those with a matching word), the best `k` by trace, if that is asked
    /// for (those with a matching word in it), and the best `k` by vector (those with one that has a direction); each hit has
    /// all its scores, exactly. Equal scores are ordered by later [moment](crate::Searchable::at), then by smaller id.
    /// The hits come by falling words score, then falling vector score, then falling trace score, then that order.
    ///
    /// Which records are candidates by words is decided by [rare words first](crate::ranking#rare-words-first), the same in
    /// every store. By vector, a store may miss some of the best where more than [`COMPARED`] records pass the filter: it
    /// finds at least nine of ten of the best ten on ordinary vectors. An [exact](Search::exact) search misses nothing.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for `k` outside 1..=100, a filter on another kind than it is for, a vector of
    /// the wrong length or in a store without a space, or neither text nor vector; the store's own errors.
    async fn search(&self, search: &Search) -> Result<Vec<Hit>>;

    /// Tells what changed after a version, oldest first, up to `limit` (1..=1000) entries.
    ///
    /// The feed holds each record of the [kinds in it](RecordKind::in_feed) once, at its last change, deleted ones too.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a limit outside 1..=1000; the store's own errors.
    async fn changes(&self, since: Version, limit: usize) -> Result<Changes>;

    /// Reads how the store is doing; fails if it cannot serve.
    ///
    /// # Errors
    /// The store's own errors.
    async fn health(&self) -> Result<StoreHealth>;

    /// Ends all work in order. Later calls fail with [`Unavailable`](crate::ErrorKind::Unavailable); closing twice is fine.
    ///
    /// # Errors
    /// The store's own errors.
    async fn close(&self) -> Result<()>;
}

macro_rules! forward_store {
    ($pointer:ty) => {
        #[async_trait]
        impl<S: MemoryStore + ?Sized> MemoryStore for $pointer {
            fn info(&self) -> StoreInfo {
                (**self).info()
            }
            async fn commit(&self, batch: &Batch) -> Result<Commit> {
                (**self).commit(batch).await
            }
            async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
                (**self).get(keys).await
            }
            async fn scan(&self, scan: &Scan) -> Result<Page> {
                (**self).scan(scan).await
            }
            async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
                (**self).search(search).await
            }
            async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
                (**self).changes(since, limit).await
            }
            async fn health(&self) -> Result<StoreHealth> {
                (**self).health().await
            }
            async fn close(&self) -> Result<()> {
                (**self).close().await
            }
        }
    };
}
forward_store!(Arc<S>);
forward_store!(Box<S>);

/// Typed conveniences over any [`MemoryStore`].
#[async_trait]
pub trait MemoryStoreExt: MemoryStore {
    /// Reads one record.
    ///
    /// # Errors
    /// As [`MemoryStore::get`].
    async fn get_one(&self, key: Key) -> Result<Option<Stored>> {
        Ok(self.get(&[key]).await?.pop().flatten())
    }

    /// Reads a completed episode of any scope.
    ///
    /// # Errors
    /// As [`MemoryStore::get`].
    async fn get_episode(&self, id: EpisodeId) -> Result<Option<LoggedEpisode>> {
        Ok(match self.get_one(Key::Episode(id)).await? {
            Some(Stored { record: Record::Episode(logged), .. }) => Some(logged),
            _ => None,
        })
    }

    /// Reads all pages of a scan.
    ///
    /// # Errors
    /// As [`MemoryStore::scan`].
    async fn scan_all(&self, mut scan: Scan) -> Result<Vec<Stored>> {
        let mut all = Vec::new();
        loop {
            let page = self.scan(&scan).await?;
            all.extend(page.records);
            match page.next {
                Some(next) => scan.after = Some(next),
                None => return Ok(all),
            }
        }
    }
}

impl<S: MemoryStore + ?Sized> MemoryStoreExt for S {}
