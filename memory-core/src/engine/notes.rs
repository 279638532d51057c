//! Notes: what an agent is told to keep in mind, across its sessions.
//!
//! A note of a session is evidence for a note of the agent: each telling in a session also goes, in the same batch, into
//! the agent's note of the same text, which keeps what each session told. Whether that is a candidate or a note to recall
//! follows from the evidence alone; see [`Note::status`].

use std::sync::Arc;
use std::time::Duration;

use super::projection::retry;
use super::{Inner, Memory};
use crate::text::strip_recalled;
use crate::{
    Batch, Cursor, Durability, Error, ErrorKind, Key, MemoryStore as _, MemoryStoreExt as _, NewNote, Note, NoteFilter,
    NoteId, Record, RecordKind, Result, Role, Scan, Scope, Stored, StoredNote, Telling, Trust, Vector, Version,
};

/// How often expired notes are deleted beside the callers.
pub(super) const EXPIRY_PERIOD: Duration = Duration::from_secs(600);
/// Notes that one batch deletes at most.
const EXPIRY_STEP: usize = 256;

/// The answer to telling a note.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteAck {
    /// The note.
    pub id: NoteId,
    /// How safe it is now.
    pub durability: Durability,
    /// Why the note was kept without its vector, if it was: it is found by words only.
    pub degraded: Option<String>,
    /// Whether it had been told before in this scope, and became one with that.
    pub merged: bool,
}

impl Memory {
    /// Keeps a note of this scope, without what the memory itself [supplied](crate::text::mark_recalled) of its text.
    ///
    /// What was told before, apart from case, white space and punctuation, becomes one with it; see [`Telling::merge`]. A
    /// note that has expired is as good as deleted: it is told anew.
    ///
    /// What trusted and untrusted [sources](crate::Source) tell does not mix: the same text is a note of each, with tellings and
    /// sessions of its own. The untrusted one is kept, and never recalled; it takes nothing from the trusted one.
    ///
    /// What is told in a session counts for the agent too. Told in as many distinct sessions as the learner's
    /// [quorum](crate::Learner::quorum), or in the agent's own scope, it is a note of the agent; before, it is a candidate,
    /// which is not recalled. What a session told counts as long as the agent's note has not expired as a whole.
    ///
    /// The agent's note keeps what each session told, for forgetting: a note that tens of thousands of sessions tell outgrows
    /// what a store takes for a record.
    ///
    /// Telling the same again after a failure whose outcome is unknown is safe for everything but [`Note::seen`], which may
    /// then count that telling twice.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) beyond the [`Limits`](crate::Limits), for a salience outside [0, 1], an expiry that has
    /// passed, or a text that is nothing but what the memory supplied; the store's errors.
    pub async fn remember(&self, note: NewNote) -> Result<NoteAck> {
        self.tell(note).await.map_err(|error| error.in_operation("remember"))
    }

    async fn tell(&self, mut note: NewNote) -> Result<NoteAck> {
        let now = self.inner.clock.now();
        let own = strip_recalled(&note.text).trim().to_owned();
        self.inner.limits.note(&note, &own, now)?;
        note.text = own;
        let trust = note.source.get_or_insert_with(|| self.source.clone()).trust;
        let (vector, degraded) = self.vector_of(Role::Document, &note.text).await;
        let told = &StoredTelling { telling: Telling::new(note.clone(), now), trust, text: note.text, vector };
        let (id, durability, merged) = retry(|| self.put_telling(told)).await?;
        Ok(NoteAck { id, durability, degraded, merged })
    }

    /// Adds a telling to the note of this scope, and of a session also to that of the agent.
    async fn put_telling(&self, told: &StoredTelling) -> Result<(NoteId, Durability, bool)> {
        let agent = self.scope.as_session();
        let mut places = vec![(self.scope.clone(), None)];
        places.extend(agent.map(|(agent, session)| (agent, Some(session))));
        let ids: Vec<NoteId> = places.iter().map(|(scope, _)| NoteId::of(scope, told.trust, &told.text)).collect();
        let before = self.stored_notes(&ids).await?;
        let merged = before[0].as_ref().is_some_and(|(_, before)| told.follows(before));
        let mut batch = Batch::new();
        for (((scope, session), id), before) in places.into_iter().zip(&ids).zip(before) {
            let (version, before) = before.unzip();
            let stored = told.added_to(before.filter(|before| told.follows(before)), scope, session);
            if let Some(own) = stored.note.here() {
                self.inner.limits.tags("note.tags, of all times it was told,", &own.tags)?;
            }
            batch = batch.require_unchanged(Key::Note(*id), version).put(Record::Note(stored));
        }
        let commit = self.inner.store.commit(&batch).await?;
        Ok((ids[0], commit.durability, merged))
    }

    async fn stored_notes(&self, ids: &[NoteId]) -> Result<Vec<Option<(Version, StoredNote)>>> {
        let keys: Vec<Key> = ids.iter().map(|id| Key::Note(*id)).collect();
        Ok(self.inner.store.get(&keys).await?.into_iter().map(|stored| stored.and_then(noted)).collect())
    }

    /// Reads a note of this scope that has not expired; a candidate too.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none; the store's errors.
    pub async fn note(&self, id: NoteId) -> Result<Arc<Note>> {
        let now = self.inner.clock.now();
        match self.inner.store.get_one(Key::Note(id)).await?.and_then(noted) {
            Some((_, StoredNote { note, .. })) if note.scope == self.scope && note.lives_at(now) => Ok(note),
            _ => Err(no_note(id)),
        }
    }

    /// All notes of this scope that are neither expired nor candidates, of whatever trust: by falling salience, then the last
    /// told first, then by rising id.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn notes(&self) -> Result<Vec<Arc<Note>>> {
        let scan = Scan::new(RecordKind::Note).scope(self.scope.clone()).notes(self.in_force());
        let stored = self.inner.store.scan_all(scan).await?;
        let mut notes: Vec<Arc<Note>> = stored.into_iter().filter_map(noted).map(|(_, stored)| stored.note).collect();
        notes.sort_by(|a, b| b.salience.total_cmp(&a.salience).then(b.updated_at.cmp(&a.updated_at)));
        Ok(notes)
    }

    /// The notes that are neither expired nor candidates now.
    pub(super) fn in_force(&self) -> NoteFilter {
        NoteFilter::default().alive_at(self.inner.clock.now()).quorum(self.learner().quorum)
    }

    /// Deletes a note of this scope. A session's note takes with it what it told the agent's note; an agent's note, or a
    /// candidate for one, takes what all sessions told of it, whose own notes stay.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such note in this scope, or it has expired; the store's errors.
    pub async fn forget(&self, id: NoteId) -> Result<()> {
        retry(|| self.delete_note(id)).await.map_err(|error| error.in_operation("forget"))
    }

    async fn delete_note(&self, id: NoteId) -> Result<()> {
        let now = self.inner.clock.now();
        let found = self.stored_notes(&[id]).await?.pop().flatten();
        let of_scope =
            |(_, stored): &(Version, StoredNote)| stored.note.scope == self.scope && stored.note.lives_at(now);
        let (version, stored) = found.filter(of_scope).ok_or_else(|| no_note(id))?;
        let mut batch = Batch::new().require_unchanged(Key::Note(id), Some(version)).delete(Key::Note(id));
        if let Some((agent, session)) = self.scope.as_session() {
            let above = NoteId::of(&agent, stored.note.trust, &stored.note.text);
            batch = self.without_evidence(batch, above, session).await?;
        }
        self.inner.store.commit(&batch).await.map(|_| ())
    }

    /// Adds to a batch what takes away what a session told of an agent's note.
    async fn without_evidence(&self, batch: Batch, id: NoteId, session: &str) -> Result<Batch> {
        let (version, before) = self.stored_notes(&[id]).await?.pop().flatten().unzip();
        let batch = batch.require_unchanged(Key::Note(id), version);
        let Some(StoredNote { note, vector }) = before else { return Ok(batch) };
        let Some(left) = Note::clone(&note).without_session(session) else {
            return Ok(batch.delete(Key::Note(id)));
        };
        let vector = if left.text == note.text { vector } else { self.vector_of(Role::Document, &left.text).await.0 };
        Ok(batch.put(Record::Note(StoredNote { note: left.into(), vector })))
    }

    /// Deletes the expired notes of all scopes; returns how many there were.
    ///
    /// It happens by itself every ten minutes beside the callers. No answer depends on when.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn expire_notes(&self) -> Result<u64> {
        let result = expire(&self.inner).await.map_err(|error| error.in_operation("expire_notes"));
        self.inner.jobs.expiry.ran(self.inner.clock.read(), &result);
        result
    }
}

/// What is told, ready to be added to notes.
struct StoredTelling {
    telling: Telling,
    trust: Trust,
    text: String,
    vector: Option<Vector>,
}

impl StoredTelling {
    /// Whether it is told of a note that has not expired.
    fn follows(&self, before: &StoredNote) -> bool {
        before.note.lives_at(self.telling.updated_at)
    }

    /// The note of this scope with the telling, which was in this session of it or in the scope itself.
    fn added_to(&self, before: Option<StoredNote>, scope: Scope, session: Option<&str>) -> StoredNote {
        let (before, known) = before.map(|before| (Note::clone(&before.note), before.vector)).unzip();
        let known = before.as_ref().map(|before: &Note| before.text.clone()).zip(known.flatten());
        let telling = self.telling.clone();
        let note = match (before, session) {
            (Some(before), None) => before.told(telling),
            (Some(before), Some(session)) => before.told_in_session(session, telling),
            (None, None) => Note::new(scope, self.trust, telling),
            (None, Some(session)) => Note::from_session(scope, session, self.trust, telling),
        };
        // The text is that of the note before, or else the one that was told.
        let vector = match known {
            Some((text, vector)) if text == note.text => Some(vector),
            _ => self.vector.clone().filter(|_| note.text == self.text),
        };
        StoredNote { note: note.into(), vector }
    }
}

pub(super) async fn expire(inner: &Inner) -> Result<u64> {
    let filter = expired(inner);
    let (mut deleted, mut after) = (0, None);
    loop {
        let scan = &Scan::new(RecordKind::Note).notes(filter).limit(EXPIRY_STEP).after(after);
        let (count, next) = retry(|| expire_page(inner, scan)).await?;
        deleted += count;
        match next {
            Some(next) => after = Some(next),
            None => return Ok(deleted),
        }
    }
}

fn expired(inner: &Inner) -> NoteFilter {
    NoteFilter::default().expired_at(inner.clock.read())
}

/// How many expired notes there are, of all scopes.
pub(super) async fn count_expired(inner: &Inner) -> Result<u64> {
    let scan = Scan::new(RecordKind::Note).notes(expired(inner));
    Ok(inner.store.scan_all(scan).await?.len() as u64)
}

/// Deletes one page of expired notes, if none of them was told again meanwhile.
async fn expire_page(inner: &Inner, scan: &Scan) -> Result<(u64, Option<Cursor>)> {
    let page = inner.store.scan(scan).await?;
    let batch = page.records.iter().fold(Batch::new(), |batch, stored| {
        let key = stored.record.key();
        batch.require_unchanged(key.clone(), Some(stored.version)).delete(key)
    });
    if !page.records.is_empty() {
        inner.store.commit(&batch).await?;
    }
    Ok((page.records.len() as u64, page.next))
}

pub(super) fn noted(stored: Stored) -> Option<(Version, StoredNote)> {
    match stored.record {
        Record::Note(note) => Some((stored.version, note)),
        _ => None,
    }
}

fn no_note(id: NoteId) -> Error {
    Error::new(ErrorKind::NotFound, format!("no note {id} in this scope"))
}
