//! Listing and counting the notes of a scope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Memory;
use super::notes::noted;
use crate::store::check_limit;
use crate::{
    Cursor, Error, Key, MemoryStore as _, MemoryStoreExt as _, Note, NoteFilter, NoteId, NoteKind, RecordKind, Result,
    Scan, Scope, Status, Trust,
};

/// Names what a cursor belongs to; random, fixed for ever.
const QUERIES: Uuid = Uuid::from_u128(0x61c9_0f3a_5e27_4d84_b3d0_92af_18e6_7c45);

/// Which notes of a scope to list, for [`Memory::notes_page`]. Every part that is set must match. What has expired never comes.
///
/// # Default
///
/// All notes but candidates, 100 a page, from the beginning.
///
/// ```
/// use memory_core::{NoteKind, NoteQuery};
/// let query = NoteQuery::new().kind(NoteKind::Lesson).tag("deploy").limit(20);
/// assert!(!query.candidates && query.after.is_none());
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteQuery {
    /// Those of this kind.
    pub kind: Option<NoteKind>,
    /// Those with all these tags.
    pub tags: BTreeSet<String>,
    /// Those with a place in this thread.
    pub thread: Option<String>,
    /// Those whose sources are trusted so far, no more and no less.
    pub trust: Option<Trust>,
    /// Whether candidates come too; see [`Note::status`].
    pub candidates: bool,
    /// The most notes of a page, from 1 to 1,000.
    pub limit: usize,
    /// Where to go on: [`NotePage::next`] of the page before, of the same scope and with the same filters.
    pub after: Option<String>,
}

impl Default for NoteQuery {
    fn default() -> Self {
        let (kind, tags, thread, trust, after) = (None, BTreeSet::new(), None, None, None);
        Self { kind, tags, thread, trust, candidates: false, limit: 100, after }
    }
}

impl NoteQuery {
    /// All notes but candidates.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the kind.
    #[must_use]
    pub fn kind(mut self, kind: NoteKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Adds a tag that must be there.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Sets the thread.
    #[must_use]
    pub fn thread(mut self, thread: impl Into<String>) -> Self {
        self.thread = Some(thread.into());
        self
    }

    /// Sets how far the sources are trusted.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Lets candidates come too.
    #[must_use]
    pub fn with_candidates(mut self) -> Self {
        self.candidates = true;
        self
    }

    /// Sets the most notes of a page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Goes on after a page.
    #[must_use]
    pub fn after(mut self, cursor: Option<String>) -> Self {
        self.after = cursor;
        self
    }

    /// What a cursor of this query in this scope begins with.
    fn name_in(&self, scope: &Scope) -> String {
        let Self { kind, tags, thread, trust, candidates, limit: _, after: _ } = self;
        let name = format!("{scope}\n{kind:?}\n{tags:?}\n{thread:?}\n{trust:?}\n{candidates}");
        Uuid::new_v5(&QUERIES, name.as_bytes()).simple().to_string()
    }

    /// The place of the last note of the page before.
    fn place_after(&self, scope: &Scope) -> Result<Option<(u32, NoteId)>> {
        let Some(cursor) = &self.after else { return Ok(None) };
        let place = cursor.strip_prefix(&self.name_in(scope)).and_then(|rest| {
            let (position, id) = rest.strip_prefix('.')?.split_once('.')?;
            Some((position.parse().ok()?, NoteId::new(Uuid::try_parse(id).ok()?)))
        });
        let refused = || {
            let shown: String = cursor.chars().take(100).collect();
            Error::invalid("after", format_args!("{shown:?}"), "what a page of the same query in the same scope gave")
        };
        place.map(Some).ok_or_else(refused)
    }
}

/// One page of the notes of a scope.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct NotePage {
    /// The notes, in order.
    pub notes: Vec<Arc<Note>>,
    /// Where to go on, for [`NoteQuery::after`]; `None` at the end.
    pub next: Option<String>,
}

/// What the notes of a scope are, for [`Memory::note_statistics`].
///
/// Each note is counted once: as expired, else as a candidate, else as quarantined, else as active. All the rest is of the
/// active and the quarantined ones, which are those that [`Memory::notes_page`] lists by default.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoteStatistics {
    /// Notes that can be recalled.
    pub active: u64,
    /// Notes that too few sessions have told.
    pub candidates: u64,
    /// Notes of untrusted sources.
    pub quarantined: u64,
    /// Notes that have expired and are not deleted yet.
    pub expired: u64,
    /// How many there are of each kind, of those kinds that there are.
    pub kinds: BTreeMap<NoteKind, u64>,
    /// How often they were told, together.
    pub tellings: u64,
    /// Distinct threads.
    pub threads: u64,
    /// When the first of them was first told.
    pub oldest: Option<DateTime<Utc>>,
    /// When one of them was last told or changed.
    pub newest: Option<DateTime<Utc>>,
    /// Bytes of their texts.
    pub text_bytes: u64,
}

impl NoteStatistics {
    /// Counts all of a note but its thread; says whether it is neither expired nor a candidate.
    fn count(&mut self, note: &Note, quorum: u32, now: DateTime<Utc>) -> bool {
        let listed = note.lives_at(now) && note.status(quorum) != Status::Candidate;
        if listed {
            *self.kinds.entry(note.kind).or_default() += 1;
            self.tellings += u64::from(note.seen);
            self.oldest = Some(self.oldest.map_or(note.created_at, |oldest| oldest.min(note.created_at)));
            self.newest = self.newest.max(Some(note.updated_at));
            self.text_bytes += note.text.len() as u64;
        }
        *match (listed, note.lives_at(now), note.trust) {
            (true, _, Trust::Trusted) => &mut self.active,
            (true, _, Trust::Untrusted) => &mut self.quarantined,
            (false, true, _) => &mut self.candidates,
            (false, false, _) => &mut self.expired,
        } += 1;
        listed
    }
}

impl Memory {
    /// Lists notes of this scope, of whatever trust unless the query names one, page by page: by rising id; those of a thread by
    /// rising position, then by rising id.
    ///
    /// Going on from [`NotePage::next`] until it is `None` lists every note that was there all the time exactly once. A page
    /// of a thread reads all of the thread.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a limit outside 1..=1000, tags or a thread beyond the
    /// [`Limits`](crate::Limits), or a cursor that no page of the same query in the same scope gave; the store's errors.
    pub async fn notes_page(&self, query: &NoteQuery) -> Result<NotePage> {
        self.page(query).await.map_err(|error| error.in_operation("notes_page"))
    }

    async fn page(&self, query: &NoteQuery) -> Result<NotePage> {
        check_limit(query.limit)?;
        self.inner.limits.tags("tags", &query.tags)?;
        if let Some(thread) = &query.thread {
            self.inner.limits.thread("thread", thread)?;
        }
        let after = query.place_after(&self.scope)?;
        let mut filter = NoteFilter::default().alive_at(self.inner.clock.read());
        (filter.kind, filter.trust, filter.thread) = (query.kind, query.trust, query.thread.clone());
        filter.tags = query.tags.iter().cloned().collect();
        filter.quorum = (!query.candidates).then(|| self.learner().quorum);
        let scan = Scan::new(RecordKind::Note).scope(self.scope.clone()).notes(filter);
        let (notes, more) = match query.thread {
            Some(_) => self.page_of_thread(scan, after, query.limit).await?,
            None => self.page_by_id(scan, after, query.limit).await?,
        };
        let cursor = |note: &Arc<Note>| {
            let (position, id) = order(note);
            format!("{}.{position}.{id}", query.name_in(&self.scope))
        };
        let next = notes.last().filter(|_| more).map(cursor);
        Ok(NotePage { notes, next })
    }

    /// The notes, and whether there are more.
    async fn page_by_id(
        &self,
        mut scan: Scan,
        after: Option<(u32, NoteId)>,
        limit: usize,
    ) -> Result<(Vec<Arc<Note>>, bool)> {
        scan.after = after.map(|(_, id)| Cursor::Key(Key::Note(id)));
        let mut notes = Vec::new();
        loop {
            scan.limit = limit - notes.len();
            let page = self.inner.store.scan(&scan).await?;
            notes.extend(page.records.into_iter().filter_map(noted).map(|(_, stored)| stored.note));
            match page.next {
                Some(next) if notes.len() < limit => scan.after = Some(next),
                next => return Ok((notes, next.is_some())),
            }
        }
    }

    async fn page_of_thread(
        &self,
        scan: Scan,
        after: Option<(u32, NoteId)>,
        limit: usize,
    ) -> Result<(Vec<Arc<Note>>, bool)> {
        let stored = self.inner.store.scan_all(scan).await?.into_iter();
        let mut notes: Vec<Arc<Note>> = stored.filter_map(noted).map(|(_, stored)| stored.note).collect();
        notes.retain(|note| after.is_none_or(|after| order(note) > after));
        notes.sort_unstable_by_key(order);
        let more = notes.len() > limit;
        notes.truncate(limit);
        Ok((notes, more))
    }

    /// Counts the notes of this scope. It reads all of them.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn note_statistics(&self) -> Result<NoteStatistics> {
        let (now, quorum) = (self.inner.clock.read(), self.learner().quorum);
        let mut scan = Scan::new(RecordKind::Note).scope(self.scope.clone());
        let (mut statistics, mut threads) = (NoteStatistics::default(), BTreeSet::new());
        loop {
            let page = self.inner.store.scan(&scan).await.map_err(|error| error.in_operation("note_statistics"))?;
            for (_, stored) in page.records.into_iter().filter_map(noted) {
                let listed = statistics.count(&stored.note, quorum, now);
                threads.extend(stored.note.place.iter().filter(|_| listed).map(|place| place.thread.clone()));
            }
            match page.next {
                Some(next) => scan.after = Some(next),
                None => break,
            }
        }
        statistics.threads = threads.len() as u64;
        Ok(statistics)
    }
}

/// By position within a thread, else by id.
fn order(note: &Arc<Note>) -> (u32, NoteId) {
    (note.place.as_ref().map_or(0, |place| place.position), note.id)
}
