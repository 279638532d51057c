//! Search: SQL reads and filters, memory-core scores.
//!
//! The episodes (or the notes) of the scope are read once, from an index that holds all that is needed of them; the postings of each term
//! are then looked up among them. Joining in SQL instead, term by term, took three times as long.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use memory_core::ranking::{Candidate, Collection, Posting, Scorer, best, frequencies};
use memory_core::{Filter, Hit, Key, NoteFilter, Result, Search, Searched, Version};

use crate::codec::{indexed_term, moment_at, searched_key, vector};
use crate::read::{filter_values, filtered, filtered_notes, note_filter_values, space};
use crate::session::{BEGIN_READ, Row, Session, Sql};

/// The statements that search one kind. `?1` is the scope, the others are those of its filter. Leaving out what is not asked
/// for halves the time.
struct Statements {
    collection: Sql,
    all: Sql,
    all_with_vectors: Sql,
    filtered: Sql,
    filtered_with_vectors: Sql,
    /// One row for each occurrence of `?1`, in all scopes.
    occurrences: Sql,
}

macro_rules! episodes {
    ($accepted:expr, $vector:literal, $vectors:literal) => {
        Sql(
            "episodes",
            concat!(
                "SELECT e.version, ",
                $accepted,
                " AS accepted, e.words, e.completed_at, e.completed_nanos, CAST(e.id AS BLOB) AS id, ",
                $vector,
                " AS vector FROM episodes AS e INDEXED BY episodes_search ",
                $vectors,
                " WHERE e.scope = ?1 ORDER BY e.version"
            ),
        )
    };
}
macro_rules! notes {
    ($accepted:expr, $vector:literal, $vectors:literal) => {
        Sql(
            "notes",
            concat!(
                "SELECT n.version, ",
                $accepted,
                " AS accepted, n.words, n.updated_at, n.updated_nanos, CAST(n.id AS BLOB) AS id, ",
                $vector,
                " AS vector FROM notes AS n INDEXED BY notes_search ",
                $vectors,
                " WHERE n.scope = ?1 ORDER BY n.version"
            ),
        )
    };
}
const EPISODES: Statements = Statements {
    collection: Sql("scopes", "SELECT episodes, words FROM scopes WHERE scope = ?1"),
    all: episodes!("1", "NULL", ""),
    all_with_vectors: episodes!("1", "v.vector", "LEFT JOIN vectors AS v ON v.episode = e.version"),
    filtered: episodes!(filtered!(), "NULL", ""),
    filtered_with_vectors: episodes!(filtered!(), "v.vector", "LEFT JOIN vectors AS v ON v.episode = e.version"),
    occurrences: Sql("episode_words", "SELECT doc FROM episode_words_vocab WHERE term = ?1"),
};
const NOTES: Statements = Statements {
    collection: Sql("note_scopes", "SELECT notes, words FROM note_scopes WHERE scope = ?1"),
    all: notes!("1", "NULL", ""),
    all_with_vectors: notes!("1", "v.vector", "LEFT JOIN note_vectors AS v ON v.note = n.version"),
    filtered: notes!(filtered_notes!(), "NULL", ""),
    filtered_with_vectors: notes!(filtered_notes!(), "v.vector", "LEFT JOIN note_vectors AS v ON v.note = n.version"),
    occurrences: Sql("note_words", "SELECT doc FROM note_words_vocab WHERE term = ?1"),
};

const fn statements(kind: Searched) -> &'static Statements {
    match kind {
        Searched::Episodes => &EPISODES,
        Searched::Notes => &NOTES,
    }
}

/// An episode or a note of the scope.
struct Document {
    version: u64,
    /// What can be a hit passed the filter.
    accepted: Option<Accepted>,
}

struct Accepted {
    key: Key,
    at: DateTime<Utc>,
    words: u64,
    cosine: Option<f64>,
}

pub(crate) fn search(session: &mut Session, search: &Search) -> Result<Vec<Hit>> {
    session.transaction(BEGIN_READ, |session| {
        let space = if search.vector.is_some() { space(session)? } else { None };
        search.validate(space.as_ref())?;
        let documents = documents(session, search)?;
        let words = match &search.text {
            Some(text) => words(session, search, text, &documents)?,
            None => HashMap::new(),
        };
        let candidates = documents.iter().filter_map(|document| document.candidate(&words));
        Ok(best(candidates.collect(), search.k))
    })
}

/// The episodes or notes of the scope by rising version.
fn documents(session: &mut Session, search: &Search) -> Result<Vec<Document>> {
    let statements = statements(search.kind);
    let (sql, values) = if search.filter == Filter::default() && search.notes == NoteFilter::default() {
        let sql = if search.vector.is_some() { statements.all_with_vectors } else { statements.all };
        (sql, vec![search.scope.as_str().into()])
    } else {
        let sql = if search.vector.is_some() { statements.filtered_with_vectors } else { statements.filtered };
        let values = match search.kind {
            Searched::Episodes => filter_values(Some(&search.scope), &search.filter),
            Searched::Notes => note_filter_values(Some(&search.scope), &search.notes),
        };
        (sql, values)
    };
    let mut rows = session.query(sql, values)?;
    let mut documents = Vec::new();
    while let Some(row) = rows.next()? {
        documents.push(Document::new(&row, search)?);
    }
    Ok(documents)
}

/// The scores by words.
fn words(session: &mut Session, search: &Search, text: &str, documents: &[Document]) -> Result<HashMap<u64, f64>> {
    let statements = statements(search.kind);
    let collection = session.first(statements.collection, vec![search.scope.as_str().into()], |row| {
        Ok(Collection { documents: row.count(0)?, terms: row.count(1)? })
    })?;
    let mut scorer = Scorer::new(collection.unwrap_or_default());
    let accepted = |version| place(documents, version).is_some_and(|place| documents[place].accepted.is_some());
    for term in frequencies(text).keys() {
        scorer.add_term(&postings(session, statements.occurrences, term, documents)?, accepted);
    }
    Ok(scorer.finish())
}

/// The postings of a term in the scope.
fn postings(session: &mut Session, occurrences: Sql, term: &str, documents: &[Document]) -> Result<Vec<Posting>> {
    let mut frequencies = vec![0; documents.len()];
    let mut rows = session.query(occurrences, vec![indexed_term(term).into_owned().into()])?;
    while let Some(row) = rows.next()? {
        if let Some(place) = place(documents, row.count(0)?) {
            frequencies[place] += 1;
        }
    }
    let counted = documents.iter().zip(frequencies).filter(|(_, frequency)| *frequency > 0);
    let posting = |(document, frequency): (&Document, u64)| Posting {
        document: document.version,
        frequency,
        length: document.accepted.as_ref().map_or(0, |accepted| accepted.words),
    };
    Ok(counted.map(posting).collect())
}

fn place(documents: &[Document], version: u64) -> Option<usize> {
    documents.binary_search_by_key(&version, |document| document.version).ok()
}

impl Document {
    fn new(row: &Row<'_>, search: &Search) -> Result<Self> {
        let accepted = if row.integer(1)? == 0 { None } else { Some(Accepted::new(row, search)?) };
        Ok(Self { version: row.count(0)?, accepted })
    }

    fn candidate(&self, words: &HashMap<u64, f64>) -> Option<Candidate> {
        let Accepted { key, at, cosine, .. } = self.accepted.as_ref()?;
        let words = words.get(&self.version).copied().unwrap_or_default();
        let vector = cosine.unwrap_or_default();
        let hit = Hit { key: key.clone(), version: Version(self.version), words, vector };
        Some(Candidate { hit, at: *at, compared: cosine.is_some() })
    }
}

impl Accepted {
    fn new(row: &Row<'_>, search: &Search) -> Result<Self> {
        let cosine = match &search.vector {
            Some(query) => vector(row, 6)?.map(|vector| query.cosine(&vector)),
            None => None,
        };
        Ok(Self { key: searched_key(row, 5, search.kind)?, at: moment_at(row, 3)?, words: row.count(2)?, cosine })
    }
}
