//! Search: SQL reads and filters, memory-core plans and scores.
//!
//! What records are compared by comes in narrow rows: a posting with the length of its record, or a vector. Only for the few that
//! may be hits, more is read: what decides between equal scores, and bodies for the scores that are not known yet. A body costs as
//! much as thirty postings.

use std::collections::{BTreeMap, HashMap};

use libsql::Value;
use memory_core::ranking::{Candidate, Collection, Plan, QueryTerm, Terms, best, ordered, rescored};
use memory_core::{Filter, Hit, Key, NoteFilter, Record, Result, Search, Searched, Vector};

use crate::codec::{Field, body, decode, encode_vector, indexed_term, integer, moment_at, record_key, vector, version};
use crate::indexing;
use crate::read::{bounded_body, filter_values, filtered, filtered_notes, note_filter_values, one, space};
use crate::session::{Row, Session, Sql};

/// The statements that search one kind. `?1` is the id of the scope, the others up to `?19` are those of the filter, unless it is
/// said otherwise. Leaving out what is not asked for saves time.
struct Statements {
    scope: Sql,
    /// The records that have one of the tokens `?20`, a JSON array, token by token, with how long they are.
    postings: Postings,
    postings_of_trace: Postings,
    /// The vectors of the records.
    vectors: Sql,
    filtered_vectors: Sql,
    /// Those that may be among the nearest `?21` + 1 to the vector `?20`, as far as a distance that is wrong by `?22` tells.
    nearest: Sql,
    filtered_nearest: Sql,
    /// What decides between the equal scores of records: those of the versions `?2`, a JSON array.
    candidates: Sql,
    /// The text of the record of version `?1`.
    body: Sql,
}

struct Postings {
    all: Sql,
    filtered: Sql,
}

/// Where the tokens stand among the values: behind those of all filters.
const TOKENS_AT: usize = 20;

/// The tokens of the terms `?1`, a JSON array, and how many records have each.
const TOKENS: Sql = Sql(
    "words_tokens",
    "SELECT wanted.key, CAST(found.term AS BLOB) AS term, found.doc FROM json_each(?1) AS wanted
     CROSS JOIN words_tokens AS found WHERE found.term >= wanted.value || '·' AND found.term < wanted.value || '¸'",
);
/// The vector of the record of version `?1`.
const VECTOR: Sql = Sql("vectors", "SELECT vector FROM vectors WHERE version = ?1");

macro_rules! postings {
    ($length:literal, $from:literal, $filtered:expr) => {
        Postings { all: postings!($length, $from), filtered: postings!($length, $from, " AND ", $filtered) }
    };
    ($length:literal, $from:literal $(, $and:literal, $filtered:expr)?) => {
        Sql(
            "words_postings",
            concat!(
                "SELECT wanted.key, posting.doc, ",
                $length,
                " AS length FROM json_each(?20) AS wanted CROSS JOIN words_postings AS posting CROSS JOIN ",
                $from,
                " ON version = posting.doc WHERE posting.term = wanted.value AND scope = ?1"
                $(, $and, $filtered)?
            ),
        )
    };
}
macro_rules! vectors {
    ($from:literal $(, $and:literal, $filtered:expr)?) => {
        Sql(
            "vectors",
            concat!(
                "SELECT v.version, vector FROM ",
                $from,
                " CROSS JOIN vectors AS v USING (version) WHERE scope = ?1"
                $(, $and, $filtered)?
            ),
        )
    };
}
macro_rules! nearest {
    ($from:literal $(, $and:literal, $filtered:expr)?) => {
        Sql(
            "vectors",
            concat!(
                "WITH scored AS MATERIALIZED (
                     SELECT version, vector_distance_cos(vector, ?20) AS distance FROM ",
                $from,
                " CROSS JOIN vectors AS v USING (version) WHERE scope = ?1"
                $(, $and, $filtered)?,
                ")
                 SELECT scored.version, vector FROM scored CROSS JOIN vectors AS v ON v.version = scored.version
                 WHERE distance <= ?22 + coalesce(
                     (SELECT distance FROM scored WHERE distance IS NOT NULL ORDER BY distance LIMIT 1 OFFSET ?21), 3)"
            ),
        )
    };
}
macro_rules! candidates {
    ($table:literal, $at:literal) => {
        Sql(
            $table,
            concat!(
                "SELECT version, found.id, ",
                $at,
                " FROM json_each(?2) AS wanted CROSS JOIN ",
                $table,
                " AS found ON scope = ?1 AND version = wanted.value"
            ),
        )
    };
}
macro_rules! body {
    ($table:literal) => {
        Sql($table, concat!("SELECT id, ", bounded_body!(), " FROM ", $table, " WHERE version = ?1"))
    };
}
const EPISODES: Statements = Statements {
    scope: Sql("scopes", "SELECT id, episodes, words, trace_words FROM scopes WHERE scope = ?1 AND episodes > 0"),
    postings: postings!("words", "episode_index AS e", filtered!()),
    postings_of_trace: postings!("trace_words", "episode_index AS e", filtered!()),
    vectors: vectors!("episode_index AS e"),
    filtered_vectors: vectors!("episode_index AS e", " AND ", filtered!()),
    nearest: nearest!("episode_index AS e"),
    filtered_nearest: nearest!("episode_index AS e", " AND ", filtered!()),
    candidates: candidates!("episode_index", "completed_at, completed_nanos"),
    body: body!("episode_records"),
};
/// Notes have no trace: the statement for its postings counts no words for it.
const NOTES: Statements = Statements {
    scope: Sql("scopes", "SELECT id, notes, note_words, 0 FROM scopes WHERE scope = ?1 AND notes > 0"),
    postings: postings!("words", "note_index AS n", filtered_notes!()),
    postings_of_trace: postings!("0", "note_index AS n", filtered_notes!()),
    vectors: vectors!("note_index AS n"),
    filtered_vectors: vectors!("note_index AS n", " AND ", filtered_notes!()),
    nearest: nearest!("note_index AS n"),
    filtered_nearest: nearest!("note_index AS n", " AND ", filtered_notes!()),
    candidates: candidates!("note_index", "updated_at, updated_nanos"),
    body: body!("note_records"),
};

fn statements(kind: Searched) -> &'static Statements {
    match kind {
        Searched::Episodes => &EPISODES,
        Searched::Notes => &NOTES,
    }
}

/// Announces what a search asks first.
pub(crate) fn announce(session: &mut Session, search: &Search) -> Result<()> {
    session.ahead(|| {
        let space = search.vector.as_ref().map(|_| one(&Key::Space));
        let scope = (statements(search.kind).scope, vec![search.scope.as_str().into()]);
        [indexing::behind(), scope].into_iter().chain(space).collect()
    })
}

/// Within a transaction.
pub(crate) fn search(session: &mut Session, search: &Search) -> Result<Vec<Hit>> {
    let space = if search.vector.is_some() { space(session)? } else { None };
    search.validate(space.as_ref())?;
    let statements = statements(search.kind);
    let scope = session.first(statements.scope, vec![search.scope.as_str().into()], Scope::read)?;
    match scope {
        Some(scope) => Searching { session, search, statements, scope }.hits(),
        None => Ok(Vec::new()),
    }
}

/// What the store counts of a scope.
struct Scope {
    id: u64,
    words: Collection,
    trace: Collection,
}

impl Scope {
    fn read(row: &Row<'_>) -> Result<Self> {
        let documents = row.count(1)?;
        let [words, trace] = [row.count(2)?, row.count(3)?].map(|terms| Collection { documents, terms });
        Ok(Self { id: row.count(0)?, words, trace })
    }
}

/// The version of a record, and its score.
type Scored = (u64, f64);

/// What was found by one kind of words.
struct Found {
    plan: Plan,
    /// The best records, in no order.
    best: Vec<Scored>,
    /// The whole scores that are known.
    scores: HashMap<u64, f64>,
    /// Whether the score of each other accepted record is 0.
    complete: bool,
}

impl Found {
    fn score(&self, version: u64) -> Option<f64> {
        self.scores.get(&version).copied().or(self.complete.then_some(0.0))
    }
}

/// What the index holds of a term: a token for each count.
struct Token {
    text: String,
    frequency: u64,
    documents: u64,
}

struct Searching<'a> {
    session: &'a mut Session,
    search: &'a Search,
    statements: &'static Statements,
    scope: Scope,
}

impl Searching<'_> {
    fn hits(mut self) -> Result<Vec<Hit>> {
        let query = Terms::of(self.search.text.as_deref().unwrap_or_default());
        let field = match self.search.kind {
            Searched::Episodes => Field::Words,
            Searched::Notes => Field::Note,
        };
        let asked = if self.search.trace { &query } else { &Terms::default() };
        let first = [self.tokens_query(field, &query), self.tokens_query(Field::Trace, asked), self.near_query()];
        self.session.ahead(|| first.into_iter().flatten().collect())?;
        let words = self.find(field, &query, self.scope.words)?;
        let trace = self.find(Field::Trace, asked, self.scope.trace)?;
        let near = self.near()?;

        let by_words = words.best.iter().chain(&trace.best).map(|(version, _)| (*version, None));
        let mut cosines: BTreeMap<u64, Option<f64>> = by_words.collect();
        cosines.extend(near.into_iter().map(|(version, cosine)| (version, Some(cosine))));
        self.announce_hits(&cosines, &words, &trace)?;
        let mut candidates = self.candidates(cosines.keys())?;
        for Candidate { hit, .. } in &mut candidates {
            let version = hit.version.0;
            hit.words = self.score(&words, version, field)?;
            hit.trace = self.score(&trace, version, Field::Trace)?;
            hit.vector = match cosines.get(&version) {
                Some(Some(cosine)) => *cosine,
                _ => self.cosine(version)?,
            };
        }
        Ok(ordered(candidates))
    }

    /// The best by one kind of words.
    fn find(&mut self, field: Field, query: &Terms, collection: Collection) -> Result<Found> {
        let tokens = self.tokens(field, query)?;
        let counts = tokens.iter().map(|(term, tokens)| {
            let found = tokens.iter().map(|token| token.documents).sum();
            ((*term).to_owned(), found)
        });
        let plan = Plan::new(collection, counts, self.search.exact);
        let mut scores = self.scores_by_rare(field, &plan, &tokens)?;
        let complete = plan.common().is_empty();
        if !complete {
            let chosen = self.best(scores.into_iter().collect(), rescored(self.search.k))?;
            scores = HashMap::new();
            let promising = promising(chosen, self.search.k, plan.most_by_common());
            self.session.ahead(|| {
                promising.iter().map(|(version, _)| (self.statements.body, vec![integer(*version)])).collect()
            })?;
            for (version, _) in promising {
                scores.insert(version, plan.score(&self.terms(version, field)?));
            }
        }
        let best = self.best(scores.iter().map(|(version, score)| (*version, *score)).collect(), self.search.k)?;
        Ok(Found { plan, best, scores, complete })
    }

    /// The tokens of each term of the query.
    fn tokens<'q>(&mut self, field: Field, query: &'q Terms) -> Result<Vec<(&'q str, Vec<Token>)>> {
        let mut tokens: Vec<(&str, Vec<Token>)> = query.iter().map(|(term, _)| (term, Vec::new())).collect();
        let Some((sql, values)) = self.tokens_query(field, query) else { return Ok(tokens) };
        let mut rows = self.session.query(sql, values)?;
        while let Some(row) = rows.next()? {
            let (place, text, documents) = (row.count(0)?, row.text(1)?, row.count(2)?);
            let frequency = text.rsplit_once('·').and_then(|(_, frequency)| frequency.parse().ok());
            let frequency = frequency.ok_or_else(|| row.corrupt(1, &text))?;
            let term = usize::try_from(place).ok().and_then(|place| tokens.get_mut(place));
            let (_, tokens) = term.ok_or_else(|| row.corrupt(0, place))?;
            tokens.push(Token { text, frequency, documents });
        }
        Ok(tokens)
    }

    /// What asks for the tokens, if there are any terms.
    fn tokens_query(&self, field: Field, query: &Terms) -> Option<(Sql, Vec<Value>)> {
        let wanted: Vec<String> =
            query.iter().map(|(term, _)| format!("{}{}", self.scope.id, indexed_term(field, term))).collect();
        (!wanted.is_empty()).then(|| (TOKENS, vec![json(wanted.into_iter())]))
    }

    /// What the rare terms give to each accepted record that has one.
    fn scores_by_rare(
        &mut self,
        field: Field,
        plan: &Plan,
        tokens: &[(&str, Vec<Token>)],
    ) -> Result<HashMap<u64, f64>> {
        let of = |term: &QueryTerm| tokens.iter().find(|(own, _)| *own == term.term);
        let rare = plan.rare().iter().filter_map(|term| Some((term, of(term)?)));
        let rare: Vec<(&QueryTerm, &Token)> =
            rare.flat_map(|(term, (_, tokens))| tokens.iter().map(move |token| (term, token))).collect();
        let mut scores = HashMap::new();
        if rare.is_empty() {
            return Ok(scores);
        }
        let postings = match field {
            Field::Words | Field::Note => &self.statements.postings,
            Field::Trace => &self.statements.postings_of_trace,
        };
        let (sql, mut values) = self.filtered(postings.all, postings.filtered);
        values.resize(TOKENS_AT - 1, Value::Null);
        values.push(json(rare.iter().map(|(_, token)| token.text.clone())));
        let mut rows = self.session.query(sql, values)?;
        while let Some(row) = rows.next()? {
            let place = row.count(0)?;
            let token = usize::try_from(place).ok().and_then(|place| rare.get(place));
            let (term, token) = token.ok_or_else(|| row.corrupt(0, place))?;
            *scores.entry(row.count(1)?).or_default() += plan.part(term, token.frequency, row.count(2)?);
        }
        Ok(scores)
    }

    /// The nearest by vector, of those that have a direction.
    fn near(&mut self) -> Result<Vec<Scored>> {
        let Some(query) = self.search.direction() else { return Ok(Vec::new()) };
        let Some((sql, values)) = self.near_query() else { return Ok(Vec::new()) };
        let mut compared = Vec::new();
        let mut rows = self.session.query(sql, values)?;
        while let Some(row) = rows.next()? {
            if let Some(cosine) = cosine(query, &row, 1)? {
                compared.push((row.count(0)?, cosine));
            }
        }
        drop(rows);
        self.best(compared, self.search.k)
    }

    /// What asks for the vectors that may be nearest, if there is one to compare them with. A server compares them itself, roughly, so
    /// that few are sent.
    fn near_query(&self) -> Option<(Sql, Vec<Value>)> {
        let query = self.search.direction()?;
        if !self.session.is_remote() {
            return Some(self.filtered(self.statements.vectors, self.statements.filtered_vectors));
        }
        let (sql, mut values) = self.filtered(self.statements.nearest, self.statements.filtered_nearest);
        values.resize(TOKENS_AT - 1, Value::Null);
        // A sum of as many products of 32-bit floats, and of the squares, is wrong by less, relative to 1.
        let rounding = 4.0 * query.as_slice().len() as f64 * f64::from(f32::EPSILON);
        values.extend([encode_vector(query), integer(self.search.k as u64 - 1), Value::Real(rounding)]);
        Some((sql, values))
    }

    /// Announces what the hits and their scores are read from.
    fn announce_hits(&mut self, hits: &BTreeMap<u64, Option<f64>>, words: &Found, trace: &Found) -> Result<()> {
        let (statements, scope, asked) = (self.statements, self.scope.id, self.search.direction().is_some());
        self.session.ahead(|| {
            let mut queries = vec![(statements.candidates, vec![integer(scope), json(hits.keys().copied())])];
            for (version, cosine) in hits {
                let unknown = [words, trace].into_iter().filter(|found| found.score(*version).is_none());
                queries.extend(unknown.map(|_| (statements.body, vec![integer(*version)])));
                queries.extend((asked && cosine.is_none()).then(|| (VECTOR, vec![integer(*version)])));
            }
            queries
        })
    }

    /// The statement to use, of that for all and that with a filter, and its values.
    fn filtered(&self, all: Sql, filtered: Sql) -> (Sql, Vec<Value>) {
        let Search { kind, filter, notes, .. } = self.search;
        let scope = integer(self.scope.id);
        if *filter == Filter::default() && *notes == NoteFilter::default() {
            return (all, vec![scope]);
        }
        let values = match kind {
            Searched::Episodes => filter_values(scope, filter),
            Searched::Notes => note_filter_values(scope, notes),
        };
        (filtered, values)
    }

    /// The best so many, in no order. What decides between equal scores is only read where it does.
    fn best(&mut self, mut scored: Vec<Scored>, most: usize) -> Result<Vec<Scored>> {
        if scored.len() <= most {
            return Ok(scored);
        }
        let least = last_of_best(&mut scored, most);
        scored.retain(|(_, score)| score.total_cmp(&least).is_ge());
        let (mut kept, equal): (Vec<Scored>, Vec<Scored>) =
            scored.into_iter().partition(|(_, score)| score.total_cmp(&least).is_gt());
        let left = most - kept.len();
        if equal.len() == left {
            kept.extend(equal);
            return Ok(kept);
        }
        let equal = self.candidates(equal.iter().map(|(version, _)| version))?;
        kept.extend(best(equal, left, |_| 0.0).into_iter().map(|candidate| (candidate.hit.version.0, least)));
        Ok(kept)
    }

    /// These records, without their scores.
    fn candidates<'v>(&mut self, versions: impl Iterator<Item = &'v u64>) -> Result<Vec<Candidate>> {
        let mut rows =
            self.session.query(self.statements.candidates, vec![integer(self.scope.id), json(versions.copied())])?;
        let mut candidates = Vec::new();
        while let Some(row) = rows.next()? {
            let (version, key) = (version(&row, 0)?, record_key(&row, 1, self.search.kind)?);
            let hit = Hit { key, version, words: 0.0, trace: 0.0, vector: 0.0 };
            candidates.push(Candidate { hit, at: moment_at(&row, 2)? });
        }
        Ok(candidates)
    }

    fn score(&mut self, found: &Found, version: u64, field: Field) -> Result<f64> {
        match found.score(version) {
            Some(score) => Ok(score),
            None => Ok(found.plan.score(&self.terms(version, field)?)),
        }
    }

    /// The terms of a record.
    fn terms(&mut self, version: u64, field: Field) -> Result<Terms> {
        let record = self.session.first(self.statements.body, vec![integer(version)], |row| {
            decode(&record_key(row, 0, self.search.kind)?, &body(row, 1)?, None)
        })?;
        let searchable = record.as_ref().and_then(Record::searchable);
        let terms = searchable.map(|searchable| match field {
            Field::Words | Field::Note => searchable.words(),
            Field::Trace => searchable.trace(),
        });
        Ok(terms.unwrap_or_default())
    }

    /// The cosine of the query and a record; 0 where there is none.
    fn cosine(&mut self, version: u64) -> Result<f64> {
        let Some(query) = self.search.direction() else { return Ok(0.0) };
        let cosine = self.session.first(VECTOR, vec![integer(version)], |row| cosine(query, row, 0))?;
        Ok(cosine.flatten().unwrap_or_default())
    }
}

/// The cosine of a vector and that of a column, if that has a direction.
fn cosine(query: &Vector, row: &Row<'_>, index: i32) -> Result<Option<f64>> {
    let own = vector(row, index)?.filter(|vector| vector.norm() > 0.0);
    Ok(own.map(|own| query.cosine(&own)))
}

/// The score of the last of the best so many; there are more.
fn last_of_best(scored: &mut [Scored], most: usize) -> f64 {
    let (_, (_, last), _) = scored.select_nth_unstable_by(most - 1, |a, b| b.1.total_cmp(&a.1));
    *last
}

/// Those that may be among the best `k`, if each score may still rise by so much.
fn promising(mut scored: Vec<Scored>, k: usize, rise: f64) -> Vec<Scored> {
    if k < scored.len() {
        // Beyond all rounding.
        let least = last_of_best(&mut scored, k) - rise - 1e-9;
        scored.retain(|(_, score)| *score >= least);
    }
    scored
}

/// A JSON array as a value.
fn json<T: Into<serde_json::Value>>(items: impl Iterator<Item = T>) -> Value {
    serde_json::Value::from_iter(items).to_string().into()
}
