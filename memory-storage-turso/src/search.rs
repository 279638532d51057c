//! Search: SQL reads and filters, memory-core scores.
//!
//! The episodes of the scope are read once, from an index that holds all that is needed of them; the postings of each term
//! are then looked up among them. Joining in SQL instead, term by term, took three times as long.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use memory_core::ranking::{Candidate, Collection, Posting, Scorer, best, frequencies};
use memory_core::{EpisodeId, Filter, Hit, Result, Search, Vector, Version};

use crate::codec::{episode_id, indexed_term, moment_at, vector};
use crate::read::{filter_values, filtered, space};
use crate::session::{BEGIN_READ, Row, Session, Sql};

const COLLECTION: Sql = Sql("scopes", "SELECT episodes, words FROM scopes WHERE scope = ?1");

/// `?1` is the scope, the others are those of [`filtered`]. Leaving out what is not asked for halves the time.
macro_rules! documents {
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
const ALL: Sql = documents!("1", "NULL", "");
const ALL_WITH_VECTORS: Sql = documents!("1", "v.vector", "LEFT JOIN vectors AS v ON v.episode = e.version");
const FILTERED: Sql = documents!(filtered!(), "NULL", "");
const FILTERED_WITH_VECTORS: Sql =
    documents!(filtered!(), "v.vector", "LEFT JOIN vectors AS v ON v.episode = e.version");

/// One row for each occurrence, in all scopes.
const OCCURRENCES: Sql = Sql("episode_words", "SELECT doc FROM episode_words_vocab WHERE term = ?1");

/// An episode of the scope.
struct Document {
    version: u64,
    /// What can be a hit passed the filter.
    accepted: Option<Accepted>,
}

struct Accepted {
    id: EpisodeId,
    completed_at: DateTime<Utc>,
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

/// The episodes of the scope by rising version.
fn documents(session: &mut Session, search: &Search) -> Result<Vec<Document>> {
    let (sql, values) = if search.filter == Filter::default() {
        let sql = if search.vector.is_some() { ALL_WITH_VECTORS } else { ALL };
        (sql, vec![search.scope.as_str().into()])
    } else {
        let sql = if search.vector.is_some() { FILTERED_WITH_VECTORS } else { FILTERED };
        (sql, filter_values(Some(&search.scope), &search.filter))
    };
    let mut rows = session.query(sql, values)?;
    let mut documents = Vec::new();
    while let Some(row) = rows.next()? {
        documents.push(Document::new(&row, search.vector.as_ref())?);
    }
    Ok(documents)
}

/// The scores by words.
fn words(session: &mut Session, search: &Search, text: &str, documents: &[Document]) -> Result<HashMap<u64, f64>> {
    let collection = session.first(COLLECTION, vec![search.scope.as_str().into()], |row| {
        Ok(Collection { documents: row.count(0)?, terms: row.count(1)? })
    })?;
    let mut scorer = Scorer::new(collection.unwrap_or_default());
    let accepted = |version| place(documents, version).is_some_and(|place| documents[place].accepted.is_some());
    for term in frequencies(text).keys() {
        scorer.add_term(&postings(session, term, documents)?, accepted);
    }
    Ok(scorer.finish())
}

/// The postings of a term in the scope.
fn postings(session: &mut Session, term: &str, documents: &[Document]) -> Result<Vec<Posting>> {
    let mut frequencies = vec![0; documents.len()];
    let mut rows = session.query(OCCURRENCES, vec![indexed_term(term).into_owned().into()])?;
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
    fn new(row: &Row<'_>, query: Option<&Vector>) -> Result<Self> {
        let accepted = if row.integer(1)? == 0 { None } else { Some(Accepted::new(row, query)?) };
        Ok(Self { version: row.count(0)?, accepted })
    }

    fn candidate(&self, words: &HashMap<u64, f64>) -> Option<Candidate> {
        let Accepted { id, completed_at, cosine, .. } = *self.accepted.as_ref()?;
        let words = words.get(&self.version).copied().unwrap_or_default();
        let hit = Hit { id, version: Version(self.version), words, vector: cosine.unwrap_or_default() };
        Some(Candidate { hit, completed_at, compared: cosine.is_some() })
    }
}

impl Accepted {
    fn new(row: &Row<'_>, query: Option<&Vector>) -> Result<Self> {
        let cosine = match query {
            Some(query) => vector(row, 6)?.map(|vector| query.cosine(&vector)),
            None => None,
        };
        Ok(Self { id: episode_id(row, 5)?, completed_at: moment_at(row, 3)?, words: row.count(2)?, cosine })
    }
}
