//! Notes: what an agent is told to keep in mind, across its sessions.
//!
//! A note of a session is evidence for a note of the agent: each telling in a session also goes, in the same batch, into
//! the agent's note of the same text, which keeps what each session told. Whether that is a candidate or a note to recall
//! follows from the evidence alone; see [`Note::status`]. What has a place is no such evidence.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::note_draft::Draft;
use super::projection::retry;
use super::{Inner, Memory};
use crate::note::folded;
use crate::text::strip_recalled;
use crate::{
    Batch, Cursor, Durability, Error, ErrorKind, MemoryStore as _, MemoryStoreExt as _, NewNote, Note, NoteChange,
    NoteFilter, NoteId, Place, Record, RecordKind, Result, Role, Scan, Scope, Stored, StoredNote, Telling, Trust,
    Vector, Version,
};

/// Texts that one call of the embedder gets at most.
pub(super) const EMBEDDED_TOGETHER: usize = 64;
/// Tellings that one batch holds at most.
const WRITTEN_TOGETHER: usize = 256;
/// How often expired notes are deleted beside the callers.
pub(super) const EXPIRY_PERIOD: Duration = Duration::from_secs(600);
/// Why a note lacks its vector though the embedder has just served: another spelling is embedded.
const TOLD_BEFORE: &str = "it was told before, without its vector";
/// Notes that one batch deletes at most.
const EXPIRY_STEP: usize = 256;

/// The answer to telling or changing a note.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteAck {
    /// The note, as it is named now.
    pub id: NoteId,
    /// How safe it is now.
    pub durability: Durability,
    /// Why the note was kept without its vector, if it was: it is found by words only.
    pub degraded: Option<String>,
    /// Whether it had been told before in this scope, and became one with that. Of a change: whether a note of the new text was
    /// there, and became one with it.
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
    /// A note with a [place](NewNote::place) is what was said there, and no fact: the same text at another place is another note,
    /// it stays in its session, and its place takes no other text, unless by [`update_note`](Self::update_note).
    ///
    /// Telling the same again after a failure whose outcome is unknown is safe for everything but [`Note::seen`], which may
    /// then count that telling twice.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) beyond the [`Limits`](crate::Limits), for a salience outside [0, 1], an expiry that has
    /// passed, or a text that is nothing but what the memory supplied; [`AlreadyExists`](ErrorKind::AlreadyExists) if another
    /// text has the note's place; the store's errors.
    pub async fn remember(&self, note: NewNote) -> Result<NoteAck> {
        let told = async {
            let mut told = [self.telling("note".to_owned(), note)?];
            self.embed_tellings(&mut told).await;
            Ok(self.write_tellings(&told).await?.swap_remove(0))
        };
        told.await.map_err(|error: Error| error.in_operation("remember"))
    }

    /// Keeps many notes of this scope, each as by [`remember`](Self::remember) and after those before it, and much faster than
    /// one by one. The answers are in the order of the notes; [`Note::created_at`] rises with it.
    ///
    /// All notes are checked before the first is written, their places too. They are embedded up to 64 in a call of the
    /// embedder, and written up to 256 in a batch. Of an embedder that fails, the answers tell.
    ///
    /// # Errors
    /// As [`remember`](Self::remember); the error names the first note that is wrong by its index, as `notes[3]`, and nothing
    /// is written. Of a failure on the way, the error says how many of the first notes are written; of those after them, up
    /// to 256 may be if its outcome is unknown. Telling all of them again is safe for everything but [`Note::seen`].
    pub async fn remember_all(&self, notes: impl IntoIterator<Item = NewNote>) -> Result<Vec<NoteAck>> {
        let told = notes.into_iter().enumerate().map(|(index, note)| self.telling(format!("notes[{index}]"), note));
        let told = told.collect::<Result<Vec<_>>>();
        let all = async { self.tell_all(told?).await };
        all.await.map_err(|error| error.in_operation("remember_all"))
    }

    async fn tell_all(&self, mut told: Vec<StoredTelling>) -> Result<Vec<NoteAck>> {
        self.check_places(&told).await?;
        let (count, mut acks) = (told.len(), Vec::with_capacity(told.len()));
        for told in told.chunks_mut(WRITTEN_TOGETHER) {
            self.embed_tellings(told).await;
            match self.write_tellings(told).await {
                Ok(written) => acks.extend(written),
                Err(error) => {
                    let written = acks.len();
                    return Err(error.adding(format_args!("the first {written} of {count} notes are written")));
                }
            }
        }
        Ok(acks)
    }

    /// What is told by a note now, which errors call by this name.
    fn telling(&self, name: String, mut note: NewNote) -> Result<StoredTelling> {
        let now = self.inner.clock.now();
        let own = strip_recalled(&note.text).trim().to_owned();
        self.inner.limits.note(&name, &note, &own, now)?;
        note.text.clone_from(&own);
        let trust = note.source.get_or_insert_with(|| self.source.clone()).trust;
        let place = note.place.take();
        let (telling, vector, degraded) = (Telling::new(note, now), None, None);
        Ok(StoredTelling { name, telling, trust, place, text: own, vector, degraded })
    }

    /// Checks that no two of the notes, and none of them and a stored one, have one place and different texts.
    async fn check_places(&self, told: &[StoredTelling]) -> Result<()> {
        let placed: Vec<&StoredTelling> = told.iter().filter(|told| told.place.is_some()).collect();
        let mut texts = HashMap::new();
        for told in &placed {
            told.check_text(texts.entry(told.id(&self.scope)).or_insert(&told.text))?;
        }
        for placed in placed.chunks(WRITTEN_TOGETHER) {
            let mut draft = Draft::default();
            self.read_notes(&mut draft, placed.iter().map(|told| told.id(&self.scope))).await?;
            for told in placed {
                if let Some(before) = draft.get(told.id(&self.scope)).filter(|before| told.follows(before)) {
                    told.check_text(&before.text)?;
                }
            }
        }
        Ok(())
    }

    /// Embeds what is told; what cannot be embedded says why.
    async fn embed_tellings(&self, told: &mut [StoredTelling]) {
        for told in told.chunks_mut(EMBEDDED_TOGETHER) {
            let texts: Vec<&str> = told.iter().map(|told| &told.text[..]).collect();
            match self.embed_all(Role::Document, &texts).await {
                Ok(vectors) => told.iter_mut().zip(vectors).for_each(|(told, vector)| told.vector = Some(vector)),
                Err(error) => told.iter_mut().for_each(|told| told.degraded = Some(error.to_string())),
            }
        }
    }

    /// Adds tellings to the notes of this scope, in one batch. Those of a session go to the notes of the agent too.
    async fn write_tellings(&self, told: &[StoredTelling]) -> Result<Vec<NoteAck>> {
        retry(|| self.put_tellings(told)).await
    }

    async fn put_tellings(&self, told: &[StoredTelling]) -> Result<Vec<NoteAck>> {
        let session = self.scope.as_session();
        let session_for = |told: &StoredTelling| session.as_ref().filter(|_| told.place.is_none());
        let mut draft = Draft::default();
        let ids = told.iter().flat_map(|told| {
            let above = session_for(told).map(|(agent, _)| told.id(agent));
            [told.id(&self.scope)].into_iter().chain(above)
        });
        told.iter().for_each(|told| draft.know(&told.text, told.vector.clone()));
        self.read_notes(&mut draft, ids).await?;
        let mut written = Vec::with_capacity(told.len());
        for told in told {
            let id = told.id(&self.scope);
            let merged = told.add_to(&mut draft, &self.scope, None)?;
            if let Some(own) = draft.get(id).and_then(|note| note.here()) {
                self.inner.limits.tags(&format!("{}.tags, of all times it was told,", told.name), &own.tags)?;
            }
            if let Some((agent, session)) = session_for(told) {
                told.add_to(&mut draft, agent, Some(session))?;
            }
            written.push((id, merged));
        }
        // When all is told: the last telling may have brought a text with it.
        let lacks = |id: NoteId| draft.get(id).is_some_and(|note| !draft.knows(&note.text));
        let why = |told: &StoredTelling| told.degraded.clone().unwrap_or_else(|| TOLD_BEFORE.to_owned());
        let degraded: Vec<_> = written.iter().zip(told).map(|((id, _), told)| lacks(*id).then(|| why(told))).collect();
        let durability = self.inner.commit(&draft.into_batch()).await?.durability;
        let acks = written.into_iter().zip(degraded);
        Ok(acks.map(|((id, merged), degraded)| NoteAck { id, durability, degraded, merged }).collect())
    }

    /// Reads a note of this scope that has not expired; a candidate too.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none; the store's errors.
    pub async fn note(&self, id: NoteId) -> Result<Arc<Note>> {
        self.note_in(&mut Draft::default(), id).await
    }

    /// Reads a note of this scope, that has not expired, into a draft.
    async fn note_in(&self, draft: &mut Draft, id: NoteId) -> Result<Arc<Note>> {
        self.read_notes(draft, [id]).await?;
        let now = self.inner.clock.read();
        let own = draft.get(id).filter(|note| note.scope == self.scope && note.lives_at(now));
        own.cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no note {id} in this scope")))
    }

    /// The notes that are neither expired nor candidates now.
    pub(super) fn in_force(&self) -> NoteFilter {
        NoteFilter::default().alive_at(self.inner.clock.read()).quorum(self.learner().quorum)
    }

    /// Changes a note of this scope: the change takes the place of what was told in it. When it was first told, by whom and
    /// how often stays.
    ///
    /// Another text is another identity, unless the note has a place: the answer tells the new id, and the old one is gone.
    /// If there is a note of the new text already, both become one; see [`Telling::merge`]. A new text is embedded again.
    ///
    /// What a session changes is also changed of what it told the agent's note. What an agent changes is from then on told by the
    /// agent itself, all that its sessions told of it included; a candidate becomes a note of the agent.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such note in this scope, or it has expired;
    /// [`Invalid`](ErrorKind::Invalid) for an empty change, beyond the limits that [`remember`](Self::remember) has, and for a
    /// trusted note if the source of this handle is not trusted; the store's errors.
    pub async fn update_note(&self, id: NoteId, change: NoteChange) -> Result<NoteAck> {
        let changed = async {
            let now = self.inner.clock.now();
            let own = change.text.as_deref().map(|text| strip_recalled(text).trim().to_owned());
            self.inner.limits.note_change(&change, own.as_deref(), now)?;
            let change = &NoteChange { text: own, ..change };
            retry(|| self.put_change(id, change, now)).await
        };
        changed.await.map_err(|error: Error| error.in_operation("update_note"))
    }

    async fn put_change(&self, id: NoteId, change: &NoteChange, now: DateTime<Utc>) -> Result<NoteAck> {
        let mut draft = Draft::default();
        let before = self.note_in(&mut draft, id).await?;
        let trust = before.trust;
        if self.source.trust < trust {
            let range = format!("{}, for {}", self.source.trust, self.source);
            return Err(Error::invalid("the trust of the note", trust, range));
        }
        let telling = change.applied_to(before.as_telling(), now);
        let note = match before.place.clone() {
            Some(place) => Note::at(self.scope.clone(), trust, place, telling.clone()),
            None => Note::new(self.scope.clone(), trust, telling.clone()),
        };
        let new_id = note.id;
        self.read_notes(&mut draft, [new_id]).await?;
        draft.set(id, None);
        let other = draft.get(new_id).filter(|other| other.lives_at(now)).map(|other| Note::clone(other));
        let merged = other.is_some();
        let note = other.map_or(note, |other| other.told(telling));
        if let Some(own) = note.here() {
            self.inner.limits.tags("change.tags, with those of the same text,", &own.tags)?;
        }
        let text = note.text.clone();
        draft.set(new_id, Some(note));
        if let Some((agent, session)) = self.scope.as_session().filter(|_| before.place.is_none()) {
            self.change_evidence(&mut draft, (&agent, session), &before, change, now).await?;
        }
        let degraded = self.embed_draft(&mut draft).await.filter(|_| !draft.knows(&text));
        let commit = self.inner.commit(&draft.into_batch()).await?;
        Ok(NoteAck { id: new_id, durability: commit.durability, degraded, merged })
    }

    /// Changes what a session told of the agent's note, if it did.
    async fn change_evidence(
        &self,
        draft: &mut Draft,
        (agent, session): (&Scope, &str),
        before: &Note,
        change: &NoteChange,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let id = |text: &str| NoteId::of(agent, before.trust, text);
        let (old, new) = (id(&before.text), id(change.text.as_ref().unwrap_or(&before.text)));
        self.read_notes(draft, [old, new]).await?;
        let Some(theirs) = draft.get(old).map(|note| Note::clone(note)) else { return Ok(()) };
        let Some(told) = theirs.told_in(session) else { return Ok(()) };
        draft.set(old, theirs.without_session(session));
        let telling = change.applied_to(told, now);
        let note = match draft.get(new).filter(|note| note.lives_at(now)) {
            Some(note) => Note::clone(note).told_in_session(session, telling),
            None => Note::from_session(agent.clone(), session, before.trust, telling),
        };
        draft.set(new, Some(note));
        Ok(())
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
        let mut draft = Draft::default();
        let note = self.note_in(&mut draft, id).await?;
        draft.set(id, None);
        if let Some((agent, session)) = self.scope.as_session().filter(|_| note.place.is_none()) {
            let above = NoteId::of(&agent, note.trust, &note.text);
            self.read_notes(&mut draft, [above]).await?;
            let theirs = draft.get(above).filter(|theirs| theirs.tellings.contains_key(session));
            if let Some(theirs) = theirs.map(|theirs| Note::clone(theirs)) {
                draft.set(above, theirs.without_session(session));
                // Without a vector it is found by words only.
                self.embed_draft(&mut draft).await;
            }
        }
        self.inner.commit(&draft.into_batch()).await.map(|_| ())
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
    /// What errors call it.
    name: String,
    telling: Telling,
    trust: Trust,
    place: Option<Place>,
    text: String,
    vector: Option<Vector>,
    degraded: Option<String>,
}

impl StoredTelling {
    /// The note of this scope that it is of.
    fn id(&self, scope: &Scope) -> NoteId {
        match &self.place {
            Some(place) => NoteId::at(scope, self.trust, place),
            None => NoteId::of(scope, self.trust, &self.text),
        }
    }

    /// Whether it is told of a note that has not expired.
    fn follows(&self, before: &Note) -> bool {
        before.lives_at(self.telling.updated_at)
    }

    /// Checks that what is there already is the same.
    fn check_text(&self, there: &str) -> Result<()> {
        match &self.place {
            Some(place) if folded(there) != folded(&self.text) => {
                let message = format!("{}: another text has {place}", self.name);
                Err(Error::new(ErrorKind::AlreadyExists, message))
            }
            _ => Ok(()),
        }
    }

    /// Adds it to the note of this scope, in this session of it or in the scope itself; says whether it had been told before.
    fn add_to(&self, draft: &mut Draft, scope: &Scope, session: Option<&str>) -> Result<bool> {
        let (id, scope, telling) = (self.id(scope), scope.clone(), self.telling.clone());
        let before = draft.get(id).filter(|before| self.follows(before)).map(|before| Note::clone(before));
        let merged = before.is_some();
        if let Some(before) = &before {
            self.check_text(&before.text)?;
        }
        let note = match (before, session, &self.place) {
            (Some(before), None, _) => before.told(telling),
            (Some(before), Some(session), _) => before.told_in_session(session, telling),
            (None, Some(session), _) => Note::from_session(scope, session, self.trust, telling),
            (None, None, Some(place)) => Note::at(scope, self.trust, place.clone(), telling),
            (None, None, None) => Note::new(scope, self.trust, telling),
        };
        draft.set(id, Some(note));
        Ok(merged)
    }
}

pub(super) async fn expire(inner: &Inner) -> Result<u64> {
    let filter = expired(inner);
    let (mut deleted, mut after) = (0, None);
    loop {
        let scan = &Scan::new(RecordKind::Note).notes(filter.clone()).limit(EXPIRY_STEP).after(after);
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
