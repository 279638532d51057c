//! The tables that are searched, which follow the log: words, counts of scopes, and what filters need to know.
//!
//! Commits write records alone. What is searched is derived from them later, many at a time, beside the writers; a search that
//! finds records which are not in there yet has them taken in first. Like all that can be derived again, it needs no sync.

use std::collections::BTreeMap;

use libsql::Value;
use memory_core::{Episode, Error, ErrorKind, Key, LoggedEpisode, Note, Record, Result, Scope, Searched, StoredNote};

use crate::codec::{Field, body, decode, encode, integer, moment, record_key, tokens, tokens_in_scope, trust};
use crate::read::bounded_body;
#[cfg(feature = "remote")]
use crate::remote::program::{Program, guard};
use crate::session::{BEGIN_READ, Row, Session, Sql};

const PENDING: Sql = Sql(
    "records",
    concat!(
        "SELECT version, kind, id, ",
        bounded_body!(),
        " FROM (
             SELECT version, 0 AS kind, id, body FROM episode_records WHERE version > (SELECT indexed FROM state)
             UNION ALL
             SELECT version, 1, id, body FROM note_records WHERE version > (SELECT indexed FROM state)
             ORDER BY version LIMIT ?1)"
    ),
);
const INDEXED: Sql = Sql("state", "SELECT indexed FROM state");
const BEHIND: Sql = Sql(
    "state",
    "SELECT EXISTS (SELECT 1 FROM episode_records WHERE version > indexed)
            OR EXISTS (SELECT 1 FROM note_records WHERE version > indexed) FROM state",
);
const CHANGES_BEHIND: Sql = Sql("state", "SELECT version - indexed FROM state");
const UNCHANGED: Sql = Sql(
    "state",
    "SELECT indexed, (SELECT count(*) FROM episode_records WHERE version > ?1 AND version <= ?2)
                     + (SELECT count(*) FROM note_records WHERE version > ?1 AND version <= ?2) FROM state",
);
const SET_INDEXED: Sql = Sql("state", "UPDATE state SET indexed = ?1");
const COUNT: Sql = Sql(
    "scopes",
    "INSERT INTO scopes (id, scope, episodes, words, trace_words, notes, note_words) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
     ON CONFLICT (scope) DO UPDATE SET
         episodes = episodes + excluded.episodes, words = words + excluded.words,
         trace_words = trace_words + excluded.trace_words, notes = notes + excluded.notes,
         note_words = note_words + excluded.note_words
     RETURNING id",
);
const PUT_WORDS: Sql = Sql("words", "INSERT INTO words (rowid, tokens) VALUES (?1, ?2)");
#[cfg(feature = "remote")]
const PUT_WORDS_BY_NAME: &str =
    "INSERT INTO words (rowid, tokens) SELECT ?1, replace(?2, ' ', ' ' || id) FROM scopes WHERE scope = ?3";
/// Fails unless there are `?3` records between, and these are next.
#[cfg(feature = "remote")]
const UNCHANGED_GUARD: &str = guard!(
    "(SELECT indexed FROM state) = ?1 AND (SELECT count(*) FROM episode_records WHERE version > ?1 AND version <= ?2)
         + (SELECT count(*) FROM note_records WHERE version > ?1 AND version <= ?2) = ?3",
    "'others have changed what is to be indexed'"
);
const DELETE_WORDS: Sql = Sql("words", "DELETE FROM words WHERE rowid = ?1");
const DELETE_SCOPE: Sql = Sql("scopes", "DELETE FROM scopes WHERE id = ?1 AND episodes = 0 AND notes = 0");

/// The statements for one kind.
struct Statements {
    put: Sql,
    /// The same by the name of the scope.
    #[cfg(feature = "remote")]
    put_by_name: &'static str,
    /// Its scope and its words.
    find: Sql,
    /// The same, for a body that does not tell its scope any more.
    search: Sql,
    delete: Sql,
    discount: Sql,
}

const EPISODES: Statements = Statements {
    put: Sql(
        "episode_index",
        "INSERT INTO episode_index (scope, version, words, trace_words, domain, language, verdict, tags, completed_at,
                                    completed_nanos, trusted, id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    ),
    #[cfg(feature = "remote")]
    put_by_name: "INSERT INTO episode_index (scope, version, words, trace_words, domain, language, verdict, tags, completed_at,
                                             completed_nanos, trusted, id)
                  SELECT scopes.id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 FROM scopes WHERE scope = ?1",
    find: Sql(
        "episode_index",
        "SELECT i.scope, words, trace_words FROM episode_index AS i
         WHERE i.version = ?1 AND i.scope = (
             SELECT id FROM scopes WHERE scope = (
                 SELECT CASE WHEN json_valid(body) THEN body ->> '$.scope' END FROM episode_records WHERE version = ?1))",
    ),
    search: Sql("episode_index", "SELECT scope, words, trace_words FROM episode_index WHERE version = ?1"),
    delete: Sql("episode_index", "DELETE FROM episode_index WHERE scope = ?1 AND version = ?2"),
    discount: Sql(
        "scopes",
        "UPDATE scopes SET episodes = episodes - 1, words = words - ?2, trace_words = trace_words - ?3 WHERE id = ?1",
    ),
};
const NOTES: Statements = Statements {
    put: Sql(
        "note_index",
        "INSERT INTO note_index (scope, version, words, told_here, sessions, updated_at, updated_nanos, expires_at,
                                 expires_nanos, trusted, kind, tags, thread, id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    ),
    #[cfg(feature = "remote")]
    put_by_name: "INSERT INTO note_index (scope, version, words, told_here, sessions, updated_at, updated_nanos, expires_at,
                                          expires_nanos, trusted, kind, tags, thread, id)
                  SELECT scopes.id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14 FROM scopes WHERE scope = ?1",
    find: Sql(
        "note_index",
        "SELECT i.scope, words, 0 FROM note_index AS i
         WHERE i.version = ?1 AND i.scope = (
             SELECT id FROM scopes WHERE scope = (
                 SELECT CASE WHEN json_valid(body) THEN body ->> '$.scope' END FROM note_records WHERE version = ?1))",
    ),
    search: Sql("note_index", "SELECT scope, words, 0 FROM note_index WHERE version = ?1"),
    delete: Sql("note_index", "DELETE FROM note_index WHERE scope = ?1 AND version = ?2"),
    discount: Sql("scopes", "UPDATE scopes SET notes = notes - 1, note_words = note_words - ?2 - 0 * ?3 WHERE id = ?1"),
};

fn statements(kind: Searched) -> &'static Statements {
    match kind {
        Searched::Episodes => &EPISODES,
        Searched::Notes => &NOTES,
    }
}

/// Whether there are records that are not taken in yet. Within a transaction.
pub(crate) fn is_behind(session: &mut Session) -> Result<bool> {
    Ok(session.first(BEHIND, vec![], |row| row.count(0))?.unwrap_or_default() > 0)
}

/// Whether there are some up to this version. Within a transaction.
#[cfg(feature = "replica")]
pub(crate) fn is_behind_of(session: &mut Session, upto: memory_core::Version) -> Result<bool> {
    const BEHIND_OF: Sql = Sql(
        "state",
        "SELECT EXISTS (SELECT 1 FROM episode_records WHERE version > indexed AND version <= ?1)
                OR EXISTS (SELECT 1 FROM note_records WHERE version > indexed AND version <= ?1) FROM state",
    );
    Ok(session.first(BEHIND_OF, vec![integer(upto.0)], |row| row.count(0))?.unwrap_or_default() > 0)
}

/// What [`is_behind`] asks.
pub(crate) fn behind() -> (Sql, Vec<Value>) {
    (BEHIND, vec![])
}

/// How many changes there were since the last record that was taken in: at least as many as there are records that were not.
pub(crate) fn changes_behind(session: &mut Session) -> Result<u64> {
    session.whole(|| vec![(CHANGES_BEHIND, vec![])])?;
    Ok(session.first(CHANGES_BEHIND, vec![], |row| row.count(0))?.unwrap_or_default())
}

/// Records on their way into the tables that are searched.
#[derive(Debug)]
pub(crate) struct Step {
    from: u64,
    upto: u64,
    /// How many there are, also those that cannot be read: they are left out, and reading them tells why.
    records: u64,
    documents: Vec<Document>,
}

#[derive(Debug)]
struct Document {
    version: u64,
    kind: Searched,
    scope: Scope,
    /// What the text index holds of it, but for the scope.
    tokens: String,
    words: u64,
    trace_words: u64,
    /// What its table holds beside scope, version and words.
    columns: Vec<Value>,
}

impl Step {
    /// Reads the next so many records; `None` if there are none.
    pub(crate) fn read(session: &mut Session, most: usize) -> Result<Option<Self>> {
        session.transaction(BEGIN_READ, |session| {
            session.whole(|| vec![(INDEXED, vec![]), (PENDING, vec![integer(most as u64)])])?;
            Self::read_within(session, most)
        })
    }

    /// The same within a transaction.
    pub(crate) fn read_within(session: &mut Session, most: usize) -> Result<Option<Self>> {
        let from = session.first(INDEXED, vec![], |row| row.count(0))?.unwrap_or_default();
        let mut step = Self { from, upto: from, records: 0, documents: Vec::new() };
        let mut rows = session.query(PENDING, vec![integer(most as u64)])?;
        while let Some(row) = rows.next()? {
            (step.upto, step.records) = (row.count(0)?, step.records + 1);
            let kind = if row.count(1)? == 0 { Searched::Episodes } else { Searched::Notes };
            let document = record_key(&row, 2, kind)
                .and_then(|key| decode(&key, &body(&row, 3)?, None))
                .and_then(|record| Document::of(step.upto, &record));
            step.documents.extend(document.ok());
        }
        Ok((step.records > 0).then_some(step))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.records).unwrap_or(usize::MAX)
    }

    /// Takes them in, within a transaction; a conflict if another process did, or if one of them is gone.
    pub(crate) fn write(self, session: &mut Session) -> Result<()> {
        #[cfg(feature = "remote")]
        if let Some(link) = session.link() {
            return link.run(&self.program());
        }
        let range = vec![integer(self.from), integer(self.upto)];
        let now = session.first(UNCHANGED, range, |row| Ok((row.count(0)?, row.count(1)?)))?;
        if now != Some((self.from, self.records)) {
            return Err(Error::new(ErrorKind::Conflict, "others have changed what is to be indexed"));
        }
        let scopes = self.count(session)?;
        for document in self.documents {
            let scope = scopes.get(&document.scope).copied().unwrap_or_default();
            document.write(session, scope)?;
        }
        session.execute(SET_INDEXED, vec![integer(self.upto)]).map(drop)
    }

    /// The same in one request.
    #[cfg(feature = "remote")]
    fn program(self) -> Program {
        let mut program =
            Program::new(UNCHANGED_GUARD, vec![integer(self.from), integer(self.upto), integer(self.records)]);
        for (scope, (first, sum)) in self.sums() {
            program.push(COUNT.1, count_values(scope, first, sum));
        }
        for Document { version, kind, scope, tokens, words, columns, .. } in self.documents {
            let (version, scope) = (integer(version), Value::from(scope.as_str()));
            let values = [vec![scope.clone(), version.clone(), integer(words)], columns].concat();
            program.push(statements(kind).put_by_name, values);
            program.push(PUT_WORDS_BY_NAME, vec![version, tokens.into(), scope]);
        }
        program.push(SET_INDEXED.1, vec![integer(self.upto)]);
        program
    }

    /// Counts them in their scopes; gives the ids of these.
    fn count(&self, session: &mut Session) -> Result<BTreeMap<Scope, u64>> {
        let mut ids = BTreeMap::new();
        for (scope, (first, sum)) in self.sums() {
            let id = session.first(COUNT, count_values(scope, first, sum), |row| row.count(0))?.unwrap_or(first);
            ids.insert(scope.clone(), id);
        }
        Ok(ids)
    }

    /// What is counted in each scope, and the first version there.
    fn sums(&self) -> BTreeMap<&Scope, (u64, [u64; 5])> {
        let mut sums: BTreeMap<&Scope, (u64, [u64; 5])> = BTreeMap::new();
        for document in &self.documents {
            let (_, sum) = sums.entry(&document.scope).or_insert((document.version, [0; 5]));
            let own = match document.kind {
                Searched::Episodes => [1, document.words, document.trace_words, 0, 0],
                Searched::Notes => [0, 0, 0, 1, document.words],
            };
            sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
        }
        sums
    }
}

fn count_values(scope: &Scope, first: u64, sum: [u64; 5]) -> Vec<Value> {
    let mut values = vec![integer(first), scope.as_str().into()];
    values.extend(sum.map(integer));
    values
}

/// The bytes of the longest value that the tables will hold of a record: its tokens, with the number of the scope before each.
#[cfg(feature = "remote")]
pub(crate) fn longest_value(key: &Key, body: &str) -> Result<usize> {
    const LONGEST_NUMBER: usize = 20;
    let document = Document::of(0, &decode(key, body.as_bytes(), None)?)?;
    let tokens = document.tokens.bytes().filter(|byte| *byte == b' ').count();
    Ok(document.tokens.len() + LONGEST_NUMBER * tokens)
}

impl Document {
    fn of(version: u64, record: &Record) -> Result<Self> {
        let searchable = record.searchable().ok_or_else(|| Error::new(ErrorKind::Corrupt, "nothing to search"))?;
        let (words, trace) = (searchable.words(), searchable.trace());
        let field = match searchable.kind {
            Searched::Episodes => Field::Words,
            Searched::Notes => Field::Note,
        };
        let columns = match record {
            Record::Episode(LoggedEpisode { episode, .. }) => episode_columns(episode, trace.length())?,
            Record::Note(StoredNote { note, .. }) => note_columns(note)?,
            _ => Vec::new(),
        };
        Ok(Self {
            version,
            kind: searchable.kind,
            scope: searchable.scope.clone(),
            tokens: tokens(field, &words) + &tokens(Field::Trace, &trace),
            words: words.length(),
            trace_words: trace.length(),
            columns,
        })
    }

    fn write(self, session: &mut Session, scope: u64) -> Result<()> {
        let version = integer(self.version);
        let values = [vec![integer(scope), version.clone(), integer(self.words)], self.columns].concat();
        session.execute(statements(self.kind).put, values)?;
        let tokens = tokens_in_scope(&self.tokens, scope);
        session.execute(PUT_WORDS, vec![version, tokens.into()]).map(drop)
    }
}

fn episode_columns(episode: &Episode, trace_words: u64) -> Result<Vec<Value>> {
    let (completed_at, completed_nanos) = moment(episode.completed_at);
    Ok(vec![
        integer(trace_words),
        episode.task.domain.clone().into(),
        episode.task.language.clone().into(),
        episode.outcome.verdict.as_str().into(),
        encode(&episode.task.tags)?.into(),
        completed_at.into(),
        completed_nanos.into(),
        trust(episode.source.trust),
        Value::Blob(episode.id.as_uuid().as_bytes().to_vec()),
    ])
}

fn note_columns(note: &Note) -> Result<Vec<Value>> {
    let (updated_at, updated_nanos) = moment(note.updated_at);
    let (expires_at, expires_nanos) = note.expires_at.map(moment).unzip();
    Ok(vec![
        i64::from(note.here().is_some()).into(),
        integer(note.sessions() as u64),
        updated_at.into(),
        updated_nanos.into(),
        expires_at.into(),
        expires_nanos.into(),
        trust(note.trust),
        note.kind.as_str().into(),
        encode(&note.tags)?.into(),
        note.place.as_ref().map(|place| place.thread.clone()).into(),
        Value::Blob(note.id.as_uuid().as_bytes().to_vec()),
    ])
}

/// Takes out a record that was taken in and is still there, within a transaction.
pub(crate) fn remove(session: &mut Session, key: &Key, version: u64) -> Result<()> {
    let kind = if matches!(key, Key::Note(_)) { Searched::Notes } else { Searched::Episodes };
    let statements = statements(kind);
    let mut found = None;
    for sql in [statements.find, statements.search] {
        if found.is_none() {
            let read = |row: &Row<'_>| Ok([row.count(0)?, row.count(1)?, row.count(2)?]);
            found = session.first(sql, vec![integer(version)], read)?;
        }
    }
    // What could not be read was never taken in.
    let Some([scope, words, trace_words]) = found else { return Ok(()) };
    session.execute(statements.delete, vec![integer(scope), integer(version)])?;
    session.execute(DELETE_WORDS, vec![integer(version)])?;
    session.execute(statements.discount, vec![integer(scope), integer(words), integer(trace_words)])?;
    session.execute(DELETE_SCOPE, vec![integer(scope)]).map(drop)
}
