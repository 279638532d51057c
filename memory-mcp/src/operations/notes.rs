//! Free-standing things to remember.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use memory_core::{Error, NewNote, Note, NoteAck, NoteChange, NoteId, NoteKind, NoteQuery, Place, Result, Trust};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Answer, Effect, Operation};
use crate::service::Caller;

/// What sort of note it is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Something that is so.
    Fact,
    /// What someone wants.
    Preference,
    /// What was learned from experience.
    Lesson,
    /// What is to be done.
    Plan,
}

impl From<Kind> for NoteKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Fact => Self::Fact,
            Kind::Preference => Self::Preference,
            Kind::Lesson => Self::Lesson,
            Kind::Plan => Self::Plan,
        }
    }
}

/// A note.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NoteTold {
    /// Its id.
    pub(crate) id: Uuid,
    /// What it says.
    pub(crate) text: String,
    /// `fact`, `preference`, `lesson` or `plan`.
    pub(crate) kind: String,
    /// Labels.
    pub(crate) tags: BTreeSet<String>,
    /// How important it is, from 0 to 1.
    pub(crate) salience: f64,
    /// Who told it.
    pub(crate) source: String,
    /// `trusted` or `untrusted`.
    pub(crate) trust: String,
    /// When it was first told.
    pub(crate) created_at: DateTime<Utc>,
    /// When it was last told or changed.
    pub(crate) updated_at: DateTime<Utc>,
    /// When it is deleted; absent if never.
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// The thread it is a turn of, and its place there.
    pub(crate) thread: Option<String>,
    /// Its place in the thread, from 0.
    pub(crate) position: Option<u32>,
    /// How relevant it is to the query, from 0 to 1.
    pub(crate) score: Option<f64>,
}

impl NoteTold {
    fn new(note: &Note, score: Option<f64>) -> Self {
        Self {
            id: *note.id.as_uuid(),
            text: note.text.clone(),
            kind: note.kind.to_string(),
            tags: note.tags.clone(),
            salience: note.salience,
            source: note.source.clone(),
            trust: note.trust.to_string(),
            created_at: note.created_at,
            updated_at: note.updated_at,
            expires_at: note.expires_at,
            thread: note.place.as_ref().map(|place| place.thread.clone()),
            position: note.place.as_ref().map(|place| place.position),
            score,
        }
    }
}

impl Answer for NoteTold {}

/// The answer to a note that was written.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NoteWritten {
    /// Its id.
    id: Uuid,
    /// Whether the same was known already, and was told once more.
    merged: bool,
    /// Why it was kept without its vector, if so: until that is filled in, it is found by its words only.
    degraded: Option<String>,
}

impl Answer for NoteWritten {}

impl From<NoteAck> for NoteWritten {
    fn from(ack: NoteAck) -> Self {
        Self { id: *ack.id.as_uuid(), merged: ack.merged, degraded: ack.degraded }
    }
}

/// Stores a note.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreNote {
    /// What to remember: one thing, in words that will be understood without this conversation.
    text: String,
    /// What sort of note it is.
    #[serde(default = "fact")]
    kind: Kind,
    /// Labels.
    #[serde(default)]
    tags: BTreeSet<String>,
    /// How important it is, from 0 to 1.
    salience: Option<f64>,
    /// When to delete it.
    expires_at: Option<DateTime<Utc>>,
    /// The thread it is a turn of, such as a conversation; with `position`.
    thread: Option<String>,
    /// Its place in the thread, from 0.
    position: Option<u32>,
    /// When it was said, in the thread.
    said_at: Option<DateTime<Utc>>,
}

fn fact() -> Kind {
    Kind::Fact
}

impl StoreNote {
    fn note(self) -> Result<NewNote> {
        let Self { text, kind, tags, salience, expires_at, thread, position, said_at } = self;
        let mut note = NewNote::new(text).kind(kind.into());
        (note.tags, note.expires_at) = (tags, expires_at);
        note.salience = salience.unwrap_or(note.salience);
        note.place = match (thread, position) {
            (Some(thread), Some(position)) => {
                let mut place = Place::new(thread, position);
                place.at = said_at;
                Some(place)
            }
            (None, None) if said_at.is_none() => None,
            _ => {
                return Err(Error::invalid("thread, position and said_at", "some", "a thread and a position, or none"));
            }
        };
        Ok(note)
    }
}

impl Operation for StoreNote {
    const NAME: &'static str = "store_note";
    const TITLE: &'static str = "Store a note";
    const DESCRIPTION: &'static str = "Remember a fact, a preference, a lesson or a plan beyond this conversation. The same \
        text twice is one note.";
    const EFFECT: Effect = Effect::Sets;
    type Answer = NoteWritten;

    async fn run(self, caller: &Caller) -> Result<NoteWritten> {
        Ok(caller.memory().remember(self.note()?).await?.into())
    }
}

/// Reads a note.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetNote {
    /// The note.
    id: Uuid,
}

impl Operation for GetNote {
    const NAME: &'static str = "get_note";
    const TITLE: &'static str = "Get a note";
    const DESCRIPTION: &'static str = "Read one note by its id.";
    const EFFECT: Effect = Effect::Reads;
    type Answer = NoteTold;

    async fn run(self, caller: &Caller) -> Result<NoteTold> {
        Ok(NoteTold::new(&*caller.memory().note(NoteId::new(self.id)).await?, None))
    }
}

/// Finds notes, or lists them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FindNotes {
    /// What they should be about: the most relevant come first. Without it, notes are listed page by page.
    query: Option<String>,
    /// Only of this sort, in a list.
    kind: Option<Kind>,
    /// Only with these labels, in a list.
    #[serde(default)]
    tags: BTreeSet<String>,
    /// Only of this thread, in a list.
    thread: Option<String>,
    /// How many at most, from 1 to 100.
    #[serde(default = "ten")]
    limit: usize,
    /// Where a list goes on: `next` of the page before.
    after: Option<String>,
}

fn ten() -> usize {
    10
}

/// Notes.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Notes {
    /// The notes.
    notes: Vec<NoteTold>,
    /// Where the list goes on; absent at its end.
    next: Option<String>,
    /// What went wrong while searching, if something did; the answer is then by words only.
    degraded: Option<String>,
}

impl Answer for Notes {}

impl FindNotes {
    async fn search(self, caller: &Caller, query: &str) -> Result<Notes> {
        if self.kind.is_some() || !self.tags.is_empty() || self.thread.is_some() || self.after.is_some() {
            return Err(Error::invalid("kind, tags, thread and after", "some", "none, with a query"));
        }
        let found = caller.memory().recall_notes(query, self.limit).await?;
        caller.service().metrics().recalled(!found.notes.is_empty());
        let notes = found.notes.iter().map(|found| NoteTold::new(&found.note, Some(found.score)));
        Ok(Notes { notes: notes.collect(), next: None, degraded: found.degraded })
    }

    async fn list(self, caller: &Caller) -> Result<Notes> {
        if !(1..=100).contains(&self.limit) {
            return Err(Error::invalid("limit", self.limit, "1..=100"));
        }
        let mut query = NoteQuery::new().trust(Trust::Trusted).limit(self.limit).after(self.after);
        (query.kind, query.tags, query.thread) = (self.kind.map(NoteKind::from), self.tags, self.thread);
        let page = caller.memory().notes_page(&query).await?;
        let notes = page.notes.iter().map(|note| NoteTold::new(note, None));
        Ok(Notes { notes: notes.collect(), next: page.next, degraded: None })
    }
}

impl Operation for FindNotes {
    const NAME: &'static str = "find_notes";
    const TITLE: &'static str = "Find notes";
    const DESCRIPTION: &'static str = "Find notes that have to do with a query; or, without a query, list them, by kind, tags \
        or thread.";
    const EFFECT: Effect = Effect::Reads;
    type Answer = Notes;

    async fn run(mut self, caller: &Caller) -> Result<Notes> {
        match self.query.take() {
            Some(query) => self.search(caller, &query).await,
            None => self.list(caller).await,
        }
    }
}

/// Changes a note.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateNote {
    /// The note.
    id: Uuid,
    /// What it shall say. Its id may change with it: the answer tells.
    text: Option<String>,
    /// What sort of note it shall be.
    kind: Option<Kind>,
    /// All its labels.
    tags: Option<BTreeSet<String>>,
    /// How important it shall be, from 0 to 1.
    salience: Option<f64>,
    /// When to delete it.
    expires_at: Option<DateTime<Utc>>,
    /// Never to delete it by itself.
    #[serde(default)]
    never_expires: bool,
}

impl Operation for UpdateNote {
    const NAME: &'static str = "update_note";
    const TITLE: &'static str = "Update a note";
    const DESCRIPTION: &'static str =
        "Change a note that is no longer right: its text, kind, labels, importance or expiry.";
    const EFFECT: Effect = Effect::Sets;
    type Answer = NoteWritten;

    async fn run(self, caller: &Caller) -> Result<NoteWritten> {
        let Self { id, text, kind, tags, salience, expires_at, never_expires } = self;
        if never_expires && expires_at.is_some() {
            return Err(Error::invalid("expires_at and never_expires", "both", "one of them"));
        }
        let mut change = NoteChange::new();
        (change.text, change.kind, change.tags, change.salience) = (text, kind.map(NoteKind::from), tags, salience);
        change.expires_at = if never_expires { Some(None) } else { expires_at.map(Some) };
        Ok(caller.memory().update_note(NoteId::new(id), change).await?.into())
    }
}

/// Deletes a note.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteNote {
    /// The note.
    id: Uuid,
}

/// The answer to a deletion.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Deleted {
    /// What is gone.
    deleted: Uuid,
}

impl Answer for Deleted {}

impl Operation for DeleteNote {
    const NAME: &'static str = "delete_note";
    const TITLE: &'static str = "Delete a note";
    const DESCRIPTION: &'static str = "Delete a note that is wrong or no longer wanted, for good.";
    const EFFECT: Effect = Effect::Deletes;
    type Answer = Deleted;

    async fn run(self, caller: &Caller) -> Result<Deleted> {
        caller.memory().forget(NoteId::new(self.id)).await?;
        Ok(Deleted { deleted: self.id })
    }
}
