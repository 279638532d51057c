//! Notes as they were read and as they are to be.
//!
//! Whoever changes notes reads them into a draft, changes them there, and commits the draft as one batch, under the condition
//! that all of them are still what was read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::Memory;
use super::embed_missing::put_or_queue;
use crate::{Batch, Key, MemoryStore as _, Note, NoteId, Record, Result, Role, Stored, StoredNote, Vector, Version};

#[derive(Default)]
pub(super) struct Draft {
    /// In the order in which they were read, which is the order of the changes.
    notes: Vec<Drafted>,
    places: HashMap<NoteId, usize>,
    /// What is known of vectors, by text.
    vectors: HashMap<String, Vector>,
}

struct Drafted {
    id: NoteId,
    version: Option<Version>,
    note: Option<Arc<Note>>,
    changed: bool,
}

impl Draft {
    /// The note as it is to be; `None` if there is none, or it was not read.
    pub(super) fn get(&self, id: NoteId) -> Option<&Arc<Note>> {
        self.places.get(&id).and_then(|place| self.notes[*place].note.as_ref())
    }

    /// Puts a note in place of what was read under its id, or nothing.
    pub(super) fn set(&mut self, id: NoteId, note: Option<Note>) {
        if let Some(place) = self.places.get(&id) {
            let drafted = &mut self.notes[*place];
            (drafted.note, drafted.changed) = (note.map(Arc::new), true);
        }
    }

    /// Takes note of the vector of a text.
    pub(super) fn know(&mut self, text: &str, vector: Option<Vector>) {
        if let Some(vector) = vector {
            self.vectors.entry(text.to_owned()).or_insert(vector);
        }
    }

    /// Whether the vector of a text is known.
    pub(super) fn knows(&self, text: &str) -> bool {
        self.vectors.contains_key(text)
    }

    /// The texts of changed notes whose vectors are not known.
    pub(super) fn unknown_texts(&self) -> BTreeSet<String> {
        let changed = self.notes.iter().filter(|drafted| drafted.changed).filter_map(|drafted| drafted.note.as_ref());
        changed.map(|note| &note.text).filter(|text| !self.knows(text)).cloned().collect()
    }

    fn read(&mut self, id: NoteId, stored: Option<Stored>) {
        let (version, note) = match stored {
            Some(Stored { version, record: Record::Note(StoredNote { note, vector }) }) => {
                self.know(&note.text, vector);
                (Some(version), Some(note))
            }
            _ => (None, None),
        };
        self.places.insert(id, self.notes.len());
        self.notes.push(Drafted { id, version, note, changed: false });
    }

    /// The changes, under the condition that nothing has changed since it was read. A note whose text has no known vector has
    /// none.
    pub(super) fn into_batch(self) -> Batch {
        let Self { notes, vectors, .. } = self;
        notes.into_iter().fold(Batch::new(), |batch, Drafted { id, version, note, changed }| {
            let batch = batch.require_unchanged(Key::Note(id), version);
            match note {
                _ if !changed => batch,
                Some(note) => {
                    let vector = vectors.get(&note.text).cloned();
                    put_or_queue(batch, Record::Note(StoredNote { note, vector }))
                }
                None => batch.delete(Key::Note(id)),
            }
        })
    }
}

impl Memory {
    /// Reads notes into a draft, those that it does not have yet.
    pub(super) async fn read_notes(&self, draft: &mut Draft, ids: impl IntoIterator<Item = NoteId>) -> Result<()> {
        let mut seen = HashSet::new();
        let new = ids.into_iter().filter(|id| !draft.places.contains_key(id) && seen.insert(*id));
        let wanted: Vec<NoteId> = new.collect();
        let keys: Vec<Key> = wanted.iter().map(|id| Key::Note(*id)).collect();
        for (id, stored) in wanted.into_iter().zip(self.inner.store.get(&keys).await?) {
            draft.read(id, stored);
        }
        Ok(())
    }

    /// Embeds the texts of changed notes whose vectors are not known; says why not, if it cannot.
    pub(super) async fn embed_draft(&self, draft: &mut Draft) -> Option<String> {
        let texts = draft.unknown_texts();
        let texts: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
        if texts.is_empty() {
            return None;
        }
        match self.embed_all(Role::Document, &texts).await {
            Ok(vectors) => {
                texts.iter().zip(vectors).for_each(|(text, vector)| draft.know(text, Some(vector)));
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }
}
