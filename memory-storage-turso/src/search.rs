//! Search: SQL filters and counts, memory-core scores.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use libsql::Value;
use memory_core::ranking::{Candidate, Collection, Posting, Scorer, best, frequencies};
use memory_core::{EpisodeId, Hit, Result, Search, Vector, Version};

use crate::codec::{episode_id, indexed_term, moment_at, vector};
use crate::read::{filter_values, filtered, space};
use crate::session::{BEGIN_READ, Row, Session, Sql};

const COLLECTION: Sql = Sql("scopes", "SELECT episodes, words FROM scopes WHERE scope = ?1");

/// The order of the joins is fixed and the index is named, so that no row of `episodes` itself is read.
const POSTINGS: Sql = Sql(
    "episode_words",
    concat!(
        "SELECT v.doc, v.frequency, e.words, ",
        filtered!(),
        " AS accepted, e.completed_at, e.completed_nanos, CAST(e.id AS BLOB) AS id
         FROM (SELECT doc, count(*) AS frequency FROM episode_words_vocab WHERE term = ?10 GROUP BY doc) AS v
         CROSS JOIN episodes AS e INDEXED BY episodes_search WHERE e.scope = ?1 AND e.version = v.doc"
    ),
);
const VECTORS: Sql = Sql(
    "vectors",
    concat!(
        "SELECT e.version, v.vector, e.completed_at, e.completed_nanos, CAST(e.id AS BLOB) AS id
         FROM episodes AS e INDEXED BY episodes_search CROSS JOIN vectors AS v
         WHERE e.scope = ?1 AND v.episode = e.version AND ",
        filtered!()
    ),
);

/// An episode that passed the filter.
struct Document {
    id: EpisodeId,
    completed_at: DateTime<Utc>,
    cosine: Option<f32>,
}

pub(crate) fn search(session: &mut Session, search: &Search) -> Result<Vec<Hit>> {
    session.transaction(BEGIN_READ, |session| {
        let space = if search.vector.is_some() { space(session)? } else { None };
        search.validate(space.as_ref())?;
        let collection = session.first(COLLECTION, vec![search.scope.as_str().into()], |row| {
            Ok(Collection { documents: row.count(0)?, terms: row.count(1)? })
        })?;
        let Some(collection) = collection else { return Ok(Vec::new()) };
        let mut found = Found { values: filter_values(Some(&search.scope), &search.filter), documents: HashMap::new() };
        if let Some(vector) = &search.vector {
            found.compare(session, vector)?;
        }
        let words = match &search.text {
            Some(text) => found.count(session, collection, text)?,
            None => HashMap::new(),
        };
        Ok(best(found.candidates(&words), search.k))
    })
}

/// What is known of the episodes that can be hits; they are numbered by version.
struct Found {
    values: Vec<Value>,
    documents: HashMap<u64, Document>,
}

impl Found {
    fn compare(&mut self, session: &mut Session, query: &Vector) -> Result<()> {
        let mut rows = session.query(VECTORS, self.values.clone())?;
        while let Some(row) = rows.next()? {
            let cosine = vector(&row, 1)?.map(|vector| query.cosine(&vector));
            self.documents.insert(row.count(0)?, document(&row, 2, cosine)?);
        }
        Ok(())
    }

    fn count(&mut self, session: &mut Session, collection: Collection, text: &str) -> Result<HashMap<u64, f64>> {
        let mut scorer = Scorer::new(collection);
        for term in frequencies(text).keys() {
            let postings = self.postings(session, term)?;
            scorer.add_term(&postings, |document| self.documents.contains_key(&document));
        }
        Ok(scorer.finish())
    }

    /// The postings of a term in the scope. Those of them that pass the filter become known documents.
    fn postings(&mut self, session: &mut Session, term: &str) -> Result<Vec<Posting>> {
        let mut values = self.values.clone();
        values.push(indexed_term(term).into_owned().into());
        let mut rows = session.query(POSTINGS, values)?;
        let mut postings = Vec::new();
        while let Some(row) = rows.next()? {
            let posting = Posting { document: row.count(0)?, frequency: row.count(1)?, length: row.count(2)? };
            if row.integer(3)? != 0 && !self.documents.contains_key(&posting.document) {
                self.documents.insert(posting.document, document(&row, 4, None)?);
            }
            postings.push(posting);
        }
        Ok(postings)
    }

    fn candidates(&self, words: &HashMap<u64, f64>) -> Vec<Candidate> {
        let candidate = |(number, document): (&u64, &Document)| Candidate {
            hit: Hit {
                id: document.id,
                version: Version(*number),
                words: words.get(number).copied().unwrap_or_default(),
                vector: document.cosine.unwrap_or_default(),
            },
            completed_at: document.completed_at,
            compared: document.cosine.is_some(),
        };
        self.documents.iter().map(candidate).collect()
    }
}

fn document(row: &Row<'_>, columns: i32, cosine: Option<f32>) -> Result<Document> {
    Ok(Document { id: episode_id(row, columns + 2)?, completed_at: moment_at(row, columns)?, cosine })
}
