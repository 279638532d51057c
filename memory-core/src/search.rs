//! What a search asks, and what it finds.

use chrono::{DateTime, Utc};

use crate::ranking::Terms;
use crate::store::{check_filters, check_vector};
use crate::{
    Error, Filter, Key, LoggedEpisode, NoteFilter, Record, RecordKind, Result, Scope, StoredNote, Vector, VectorSpace,
    Version,
};

/// What a search looks for.
#[expect(clippy::exhaustive_enums, reason = "a store must search all of it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Searched {
    /// Completed episodes.
    Episodes,
    /// Notes.
    Notes,
}

impl Searched {
    /// The kind of the records.
    pub const fn kind(self) -> RecordKind {
        match self {
            Self::Episodes => RecordKind::Episode,
            Self::Notes => RecordKind::Note,
        }
    }
}

/// A request for the completed episodes, or the notes, most like a text, a vector, or both.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What is looked for.
    pub kind: Searched,
    /// Whose records.
    pub scope: Scope,
    /// Words to look for, with no syntax of any kind; the engine bounds its length.
    pub text: Option<String>,
    /// Whether the words are also looked for in what happened; see [`Hit::trace`].
    pub trace: bool,
    /// A query vector in the store's space. One of zeros has no direction: nothing is found by it.
    pub vector: Option<Vector>,
    /// Which records, of episodes.
    pub filter: Filter,
    /// Which records, of notes.
    pub notes: NoteFilter,
    /// The best so many by words, by trace and by vector are returned, 1 to 100.
    pub k: usize,
    /// Whether nothing may be missed for speed; see [`MemoryStore::search`](crate::MemoryStore::search).
    pub exact: bool,
}

impl Search {
    /// The largest `k`.
    pub const MAX_K: usize = 100;

    /// A search for episodes in this scope, for no words yet, k = 10, not exact.
    pub fn new(scope: Scope) -> Self {
        Self {
            kind: Searched::Episodes,
            scope,
            text: None,
            trace: false,
            vector: None,
            filter: Filter::default(),
            notes: NoteFilter::default(),
            k: 10,
            exact: false,
        }
    }

    /// The same search for notes, those that pass this filter.
    #[must_use]
    pub fn for_notes(mut self, notes: NoteFilter) -> Self {
        (self.kind, self.notes) = (Searched::Notes, notes);
        self
    }

    /// Looks for these words.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Looks for the words in what happened, too.
    #[must_use]
    pub fn trace(mut self, trace: bool) -> Self {
        self.trace = trace;
        self
    }

    /// Looks for this vector.
    #[must_use]
    pub fn vector(mut self, vector: Option<Vector>) -> Self {
        self.vector = vector;
        self
    }

    /// Sets the filter.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets how many.
    #[must_use]
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// Asks for the best, however long that takes.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// The query vector, if it has a direction.
    pub fn direction(&self) -> Option<&Vector> {
        self.vector.as_ref().filter(|vector| vector.norm() > 0.0)
    }

    /// Checks what every store must refuse; `space` is the store's.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), as [`MemoryStore::search`](crate::MemoryStore::search) says.
    pub fn validate(&self, space: Option<&VectorSpace>) -> Result<()> {
        if !(1..=Self::MAX_K).contains(&self.k) {
            return Err(Error::invalid("search.k", self.k, "1..=100"));
        }
        check_filters("search", self.kind.kind(), &self.filter, &self.notes)?;
        match &self.vector {
            Some(vector) => check_vector(vector, space),
            None if self.text.is_none() => Err(Error::invalid("search", "empty", "a text, a vector or both")),
            None => Ok(()),
        }
    }
}

/// A record that a search found, with all its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The completed episode or the note, as was asked for.
    pub key: Key,
    /// The version of the record.
    pub version: Version,
    /// The share of the query's information that the record's [words](Searchable::words) cover, in [0, 1]: BM25 (k1 = 1.2,
    /// b = 0.75) divided by its upper bound for the query; 0 when no word matches or no text was given.
    /// The statistics are those of all such records of the scope, whatever the filter.
    pub words: f64,
    /// The same for the record's [trace](Searchable::trace); 0 when it was not asked for.
    pub trace: f64,
    /// The cosine of query and record, in [-1, 1]; 0 when either has no vector, or one of zeros.
    pub vector: f64,
}

/// What a [search](crate::MemoryStore::search) finds a record by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Searchable<'a> {
    /// What has to be asked for.
    pub kind: Searched,
    /// In which scope.
    pub scope: &'a Scope,
    /// The vector of the text.
    pub vector: Option<&'a Vector>,
    /// The moment that decides between equal scores: the end of an episode, the last telling of a note.
    pub at: DateTime<Utc>,
    content: Content<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Content<'a> {
    Episode(&'a crate::Episode),
    Note(&'a crate::Note),
}

impl Record {
    /// What a search finds the record by; `None` for what is not searched.
    pub fn searchable(&self) -> Option<Searchable<'_>> {
        Some(match self {
            Self::Episode(LoggedEpisode { episode, vector }) => Searchable {
                kind: Searched::Episodes,
                scope: &episode.scope,
                vector: vector.as_ref(),
                at: episode.completed_at,
                content: Content::Episode(episode),
            },
            Self::Note(StoredNote { note, vector }) => Searchable {
                kind: Searched::Notes,
                scope: &note.scope,
                vector: vector.as_ref(),
                at: note.updated_at,
                content: Content::Note(note),
            },
            _ => return None,
        })
    }
}

/// How many terms of each text of a trace count: a long observation must not drown the rest.
const TRACE_TERMS: usize = 30;

impl Searchable<'_> {
    /// The words of what the record is about: the text of the task or the note, and the tags.
    pub fn words(&self) -> Terms {
        let (text, tags) = match self.content {
            Content::Episode(episode) => (&episode.task.text, &episode.task.tags),
            Content::Note(note) => (&note.text, &note.tags),
        };
        let mut terms = Terms::default();
        terms.add(text, 1);
        tags.iter().for_each(|tag| terms.add(tag, 1));
        terms
    }

    /// The words of what happened: of each step the tool, what it was meant to do, its input, and what was observed, or the error
    /// (which counts twice); and the summary of the outcome. Of each text the first 30 terms count. Notes have none.
    pub fn trace(&self) -> Terms {
        let mut terms = Terms::default();
        if let Content::Episode(episode) = self.content {
            for step in &episode.steps {
                for text in [&step.tool, &step.action, &step.input] {
                    terms.add_first(TRACE_TERMS, text, 1);
                }
                terms.add_first(TRACE_TERMS, &step.observation, if step.ok { 1 } else { 2 });
            }
            terms.add_first(TRACE_TERMS, &episode.outcome.summary, 1);
        }
        terms
    }

    /// The vector, if it has a direction.
    pub fn direction(&self) -> Option<&Vector> {
        self.vector.filter(|vector| vector.norm() > 0.0)
    }
}
