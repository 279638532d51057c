//! Commits.

use std::time::Duration;

use libsql::Value;
use memory_core::ranking::Terms;
use memory_core::{
    Batch, Change, Commit, Condition, Durability, Episode, Error, Key, LoggedEpisode, Note, Record, RecordKind, Result,
    Scope, StoredNote, Vector, VectorSpace, Version, check_vector,
};

use crate::codec::{Field, encode, encode_vector, integer, key_bytes, moment, tokens, tokens_in_scope, trust, version};
use crate::read::space;
use crate::session::{BEGIN_WRITE, Session, Sql};

const VERSION: Sql = Sql("counter", "SELECT version FROM counter");
const SET_VERSION: Sql = Sql("counter", "UPDATE counter SET version = ?1");
const RECORD: Sql = Sql("records", "SELECT version FROM records WHERE kind = ?1 AND key = ?2");
const PUT_RECORD: Sql = Sql(
    "records",
    "INSERT INTO records (kind, key, scope, version, body) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT DO UPDATE SET scope = excluded.scope, version = excluded.version, body = excluded.body",
);
const DELETE_RECORD: Sql = Sql("records", "DELETE FROM records WHERE kind = ?1 AND key = ?2");
/// The statements that write what is searched.
#[derive(Debug)]
struct Statements {
    find: Sql,
    put: Sql,
    put_vector: Sql,
    put_words: Sql,
    /// Answers the id of the scope.
    count: Sql,
    delete: Sql,
    delete_words: Sql,
    discount: Sql,
    delete_scope: Sql,
}

const EPISODES: Statements = Statements {
    find: Sql("episodes", "SELECT version, CAST(scope AS BLOB) AS scope, words, trace_words FROM episodes WHERE id = ?1"),
    put: Sql(
        "episodes",
        "INSERT INTO episodes (version, words, trace_words, id, scope, domain, language, tags, verdict, trusted, reward, steps,
                               started_at, completed_at, completed_nanos, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    ),
    put_vector: Sql("vectors", "INSERT INTO vectors (episode, vector) VALUES (?1, ?2)"),
    put_words: Sql("episode_words", "INSERT INTO episode_words (rowid, tokens) VALUES (?1, ?2)"),
    count: Sql(
        "scopes",
        "INSERT INTO scopes (scope, id, episodes, words, trace_words) VALUES (?1, ?2, 1, ?3, ?4)
         ON CONFLICT DO UPDATE SET episodes = episodes + 1, words = words + excluded.words,
                                   trace_words = trace_words + excluded.trace_words
         RETURNING id",
    ),
    delete: Sql("episodes", "DELETE FROM episodes WHERE version = ?1"),
    delete_words: Sql("episode_words", "DELETE FROM episode_words WHERE rowid = ?1"),
    discount: Sql(
        "scopes",
        "UPDATE scopes SET episodes = episodes - 1, words = words - ?2, trace_words = trace_words - ?3 WHERE scope = ?1",
    ),
    delete_scope: Sql("scopes", "DELETE FROM scopes WHERE scope = ?1 AND episodes = 0"),
};
const NOTES: Statements = Statements {
    find: Sql("notes", "SELECT version, CAST(scope AS BLOB) AS scope, words, 0 AS trace_words FROM notes WHERE id = ?1"),
    put: Sql(
        "notes",
        "INSERT INTO notes (version, words, id, scope, kind, tags, salience, thread, position, trusted, told_here, sessions,
                            updated_at, updated_nanos, expires_at, expires_nanos, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    ),
    put_vector: Sql("note_vectors", "INSERT INTO note_vectors (note, vector) VALUES (?1, ?2)"),
    put_words: Sql("note_words", "INSERT INTO note_words (rowid, tokens) VALUES (?1, ?2)"),
    count: Sql(
        "note_scopes",
        "INSERT INTO note_scopes (scope, id, notes, words, trace_words) VALUES (?1, ?2, 1, ?3, ?4)
         ON CONFLICT DO UPDATE SET notes = notes + 1, words = words + excluded.words,
                                   trace_words = trace_words + excluded.trace_words
         RETURNING id",
    ),
    delete: Sql("notes", "DELETE FROM notes WHERE version = ?1"),
    delete_words: Sql("note_words", "DELETE FROM note_words WHERE rowid = ?1"),
    discount: Sql(
        "note_scopes",
        "UPDATE note_scopes SET notes = notes - 1, words = words - ?2, trace_words = trace_words - ?3 WHERE scope = ?1",
    ),
    delete_scope: Sql("note_scopes", "DELETE FROM note_scopes WHERE scope = ?1 AND notes = 0"),
};

/// The statements for a record that is searched, and its id as they take it.
fn searched(key: &Key) -> Option<(&'static Statements, Value)> {
    match key {
        Key::Episode(id) => Some((&EPISODES, id.to_string().into())),
        Key::Note(id) => Some((&NOTES, id.to_string().into())),
        _ => None,
    }
}

const BURY: Sql = Sql("deleted", "INSERT OR REPLACE INTO deleted (version, kind, key) VALUES (?1, ?2, ?3)");
const UNEARTH: Sql = Sql("deleted", "DELETE FROM deleted WHERE kind = ?1 AND key = ?2");

/// A batch on its way to the writer, encoded already, so that this work is not the writer's.
#[derive(Debug)]
pub(crate) struct Encoded {
    conditions: Vec<Condition>,
    changes: Vec<EncodedChange>,
    derivable: bool,
}

#[derive(Debug)]
enum EncodedChange {
    PutDocument(Box<Document>),
    PutSpace(VectorSpace, String),
    Put { key: Key, scope: Option<Scope>, body: String },
    Delete(Key),
}

/// A record that is searched.
#[derive(Debug)]
struct Document {
    key: Key,
    statements: &'static Statements,
    scope: Scope,
    vector: Option<Vector>,
    /// What the text index holds of it, but for the scope.
    tokens: String,
    words: u64,
    trace_words: u64,
    /// What its table holds beside version and words.
    columns: Vec<Value>,
}

impl Encoded {
    /// Encodes a batch.
    pub(crate) fn new(batch: &Batch) -> Result<Self> {
        let changes = batch.changes.iter().map(EncodedChange::new).collect::<Result<_>>()?;
        Ok(Self { conditions: batch.conditions.clone(), changes, derivable: batch.derivable })
    }

    fn deletes_document(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, EncodedChange::Delete(key) if searched(key).is_some()))
    }
}

impl EncodedChange {
    fn new(change: &Change) -> Result<Self> {
        let record = match change {
            Change::Delete(Key::Space) => {
                return Err(Error::invalid("delete", "the vector space", "other records"));
            }
            Change::Delete(key) => return Ok(Self::Delete(key.clone())),
            Change::Put(record) => record,
        };
        let counted = || record.searchable().map(|found| [found.words(), found.trace()]).unwrap_or_default();
        let body = match record {
            Record::Episode(LoggedEpisode { episode, vector }) => {
                let counted = counted();
                let columns = episode_columns(episode, &counted[1])?;
                let document = Document::new(record.key(), &EPISODES, &episode.scope, &counted, columns);
                return Ok(document.with_vector(vector));
            }
            Record::Note(StoredNote { note, vector }) => {
                let document = Document::new(record.key(), &NOTES, &note.scope, &counted(), note_columns(note)?);
                return Ok(document.with_vector(vector));
            }
            Record::Space(space) => return Ok(Self::PutSpace(space.clone(), encode(space)?)),
            Record::Watermark(watermark) => encode(watermark)?,
            Record::Open(open) => encode(open)?,
            Record::Step(step) => encode(step)?,
            Record::Pattern(pattern) => encode(pattern)?,
        };
        Ok(Self::Put { key: record.key(), scope: record.scope().cloned(), body })
    }
}

impl Document {
    fn new(
        key: Key,
        statements: &'static Statements,
        scope: &Scope,
        [words, trace]: &[Terms; 2],
        columns: Vec<Value>,
    ) -> Self {
        let tokens = tokens(Field::Words, words) + &tokens(Field::Trace, trace);
        let (words, trace_words) = (words.length(), trace.length());
        Self { key, statements, scope: scope.clone(), vector: None, tokens, words, trace_words, columns }
    }

    fn with_vector(mut self, vector: &Option<Vector>) -> EncodedChange {
        self.vector.clone_from(vector);
        EncodedChange::PutDocument(Box::new(self))
    }
}

/// JSON has no other numbers.
fn check_finite(field: &str, number: Option<f64>) -> Result<()> {
    match number.filter(|number| !number.is_finite()) {
        Some(number) => Err(Error::invalid(field, number, "finite numbers")),
        None => Ok(()),
    }
}

fn episode_columns(episode: &Episode, trace: &Terms) -> Result<Vec<Value>> {
    check_finite("outcome.reward", episode.outcome.reward)?;
    let (completed_at, completed_nanos) = moment(episode.completed_at);
    Ok(vec![
        integer(trace.length()),
        episode.id.to_string().into(),
        episode.scope.as_str().into(),
        episode.task.domain.clone().into(),
        episode.task.language.clone().into(),
        encode(&episode.task.tags)?.into(),
        episode.outcome.verdict.as_str().into(),
        trust(episode.source.trust),
        episode.outcome.reward.into(),
        integer(episode.steps.len() as u64),
        moment(episode.started_at).0.into(),
        completed_at.into(),
        completed_nanos.into(),
        encode(episode)?.into(),
    ])
}

fn note_columns(note: &Note) -> Result<Vec<Value>> {
    check_finite("note.salience", Some(note.salience))?;
    let (updated_at, updated_nanos) = moment(note.updated_at);
    let (expires_at, expires_nanos) = note.expires_at.map(moment).unzip();
    let (thread, position) = note.place.as_ref().map(|place| (place.thread.clone(), place.position)).unzip();
    Ok(vec![
        note.id.to_string().into(),
        note.scope.as_str().into(),
        note.kind.as_str().into(),
        encode(&note.tags)?.into(),
        note.salience.into(),
        thread.into(),
        position.into(),
        trust(note.trust),
        i64::from(note.here().is_some()).into(),
        integer(note.sessions() as u64),
        updated_at.into(),
        updated_nanos.into(),
        expires_at.into(),
        expires_nanos.into(),
        encode(note)?.into(),
    ])
}

/// The connection that writes.
pub(crate) struct Writer {
    session: Session,
    quota: Option<Quota>,
    /// Whether the connection is set to sync each commit.
    synced: bool,
    /// Whether the connection is set to the quota for batches that make room.
    beyond_quota: bool,
}

/// The most pages of the file: for all batches, and for those that make room.
#[derive(Clone, Copy)]
struct Quota {
    pages: u64,
    pages_to_delete: u64,
}

impl Quota {
    /// What a batch that deletes an episode or a note may need until its pages are free.
    const SLACK_BYTES: u64 = 1 << 20;
    const MOST_PAGES: u64 = 0xFFFF_FFFE;

    fn new(session: &mut Session, bytes: u64) -> Result<Self> {
        const PAGE_SIZE: Sql = Sql("database header", "SELECT page_size FROM pragma_page_size");
        let page = session.first(PAGE_SIZE, vec![], |row| row.count(0))?.unwrap_or(4_096).max(512);
        let pages = |bytes: u64| (bytes / page).min(Self::MOST_PAGES);
        Ok(Self { pages: pages(bytes), pages_to_delete: pages(bytes.saturating_add(Self::SLACK_BYTES)) })
    }
}

impl Writer {
    /// Takes over a connection that [`open_writer`](crate::schema::open_writer) made.
    pub(crate) fn new(mut session: Session, max_bytes: Option<u64>) -> Result<Self> {
        let quota = max_bytes.map(|bytes| Quota::new(&mut session, bytes)).transpose()?;
        if let Some(quota) = quota {
            session.script(&format!("PRAGMA max_page_count = {}", quota.pages))?;
        }
        Ok(Self { session, quota, synced: true, beyond_quota: false })
    }

    /// Writes a batch in a transaction of its own.
    pub(crate) fn commit(&mut self, batch: Encoded) -> Result<Commit> {
        let durability = if batch.derivable { Durability::Volatile } else { Durability::Durable };
        self.tune(!batch.derivable, batch.deletes_document())?;
        let version = self.session.transaction(BEGIN_WRITE, |session| write(session, batch))?;
        Ok(Commit { version, durability })
    }

    /// Makes the connection usable again after a panic.
    pub(crate) fn recover(&mut self) {
        self.session.recover();
    }

    /// Moves the write-ahead log into the file, unless others are reading or writing; then the last of them does it.
    pub(crate) fn finish(&self) {
        let _ = self.session.set_busy_timeout(Duration::ZERO);
        let _ = self.session.script("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    /// Sets what cannot be set within a transaction. What is remembered is what is set, also after a failure.
    fn tune(&mut self, synced: bool, beyond_quota: bool) -> Result<()> {
        if synced != self.synced {
            self.session.script(if synced { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })?;
            self.synced = synced;
        }
        if let Some(quota) = self.quota.filter(|_| beyond_quota != self.beyond_quota) {
            let pages = if beyond_quota { quota.pages_to_delete } else { quota.pages };
            self.session.script(&format!("PRAGMA max_page_count = {pages}"))?;
            self.beyond_quota = beyond_quota;
        }
        Ok(())
    }
}

fn write(session: &mut Session, batch: Encoded) -> Result<Version> {
    for condition in &batch.conditions {
        check(session, condition)?;
    }
    let start = session.first(VERSION, vec![], |row| row.count(0))?.unwrap_or_default();
    let mut transaction = Transaction { session, version: start, space: None };
    for change in batch.changes {
        match change {
            EncodedChange::PutDocument(document) => transaction.put_document(*document)?,
            EncodedChange::PutSpace(space, body) => transaction.put_space(space, body)?,
            EncodedChange::Put { key, scope, body } => transaction.put(&key, scope.as_ref(), body)?,
            EncodedChange::Delete(key) => transaction.delete(&key)?,
        }
    }
    let end = transaction.version;
    if end != start {
        session.execute(SET_VERSION, vec![integer(end)])?;
    }
    Ok(Version(end))
}

fn check(session: &mut Session, condition: &Condition) -> Result<()> {
    let found = match searched(condition.key()) {
        Some((statements, id)) => session.first(statements.find, vec![id], |row| version(row, 0))?,
        None => session.first(RECORD, place(condition.key()), |row| version(row, 0))?,
    };
    let holds = match condition {
        Condition::Absent(_) => found.is_none(),
        Condition::Present(_) => found.is_some(),
        Condition::Unchanged(_, expected) => found == Some(*expected),
    };
    if holds { Ok(()) } else { Err(condition.conflict(found)) }
}

fn place(key: &Key) -> Vec<Value> {
    vec![key.kind().as_str().into(), key_bytes(key).into()]
}

/// The changes of one batch.
struct Transaction<'a> {
    session: &'a mut Session,
    version: u64,
    /// The vector space, once it is known.
    space: Option<VectorSpace>,
}

impl Transaction<'_> {
    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn space(&mut self) -> Result<Option<&VectorSpace>> {
        if self.space.is_none() {
            self.space = space(self.session)?;
        }
        Ok(self.space.as_ref())
    }

    fn put_space(&mut self, space: VectorSpace, body: String) -> Result<()> {
        if let Some(old) = self.space()?.filter(|old| **old != space) {
            return Err(old.mismatch(&space));
        }
        self.space = Some(space);
        self.put(&Key::Space, None, body)
    }

    fn put(&mut self, key: &Key, scope: Option<&Scope>, body: String) -> Result<()> {
        let version = self.next_version();
        if key.kind().in_feed() {
            self.session.execute(UNEARTH, place(key))?;
        }
        let mut values = place(key);
        values.extend([scope.map(Scope::as_str).into(), integer(version), body.into()]);
        self.session.execute(PUT_RECORD, values).map(drop)
    }

    fn put_document(&mut self, document: Document) -> Result<()> {
        let Document { key, statements, scope, vector, tokens, words, trace_words, columns } = document;
        if let Some(vector) = &vector {
            check_vector(vector, self.space()?)?;
        }
        if !self.remove_document(&key)? {
            self.session.execute(UNEARTH, place(&key))?;
        }
        let version = self.next_version();
        let values = [vec![integer(version), integer(words)], columns].concat();
        self.session.execute(statements.put, values)?;
        if let Some(vector) = &vector {
            self.session.execute(statements.put_vector, vec![integer(version), encode_vector(vector)])?;
        }
        let counted = vec![scope.as_str().into(), integer(version), integer(words), integer(trace_words)];
        let scope = self.session.first(statements.count, counted, |row| row.count(0))?.unwrap_or(version);
        let tokens = tokens_in_scope(&tokens, scope);
        self.session.execute(statements.put_words, vec![integer(version), tokens.into()]).map(drop)
    }

    fn delete(&mut self, key: &Key) -> Result<()> {
        let deleted = match key.kind() {
            RecordKind::Episode | RecordKind::Note => self.remove_document(key)?,
            _ => self.session.execute(DELETE_RECORD, place(key))? > 0,
        };
        if !deleted {
            return Ok(());
        }
        let version = self.next_version();
        if key.kind().in_feed() {
            let mut values = vec![integer(version)];
            values.extend(place(key));
            self.session.execute(BURY, values)?;
        }
        Ok(())
    }

    /// Removes a record that is searched from all tables; says whether it was there. Its vector goes with it.
    fn remove_document(&mut self, key: &Key) -> Result<bool> {
        let Some((statements, id)) = searched(key) else { return Ok(false) };
        let found = self.session.first(statements.find, vec![id], |row| {
            Ok((row.count(0)?, row.text(1)?, vec![integer(row.count(2)?), integer(row.count(3)?)]))
        })?;
        let Some((version, scope, lengths)) = found else { return Ok(false) };
        self.session.execute(statements.delete, vec![integer(version)])?;
        self.session.execute(statements.delete_words, vec![integer(version)])?;
        self.session.execute(statements.discount, [vec![scope.as_str().into()], lengths].concat())?;
        self.session.execute(statements.delete_scope, vec![scope.into()])?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use memory_core::{LearnerId, Watermark};
    use uuid::Uuid;

    use super::*;
    use crate::schema::open_writer;

    #[test]
    fn only_derivable_batches_go_without_a_sync() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("memory.db").into();
        let session = open_writer(&path, Duration::from_secs(1)).unwrap();
        let mut writer = Writer::new(session, Some(1 << 20)).unwrap();
        let learner = LearnerId::new(Uuid::nil());
        let put = Batch::new().put(Record::Watermark(Watermark { learner, position: Version(1) }));
        let conflict = put.clone().require_absent(Key::Watermark(learner));
        let delete = Batch::new().delete(Key::Episode(memory_core::EpisodeId::new(Uuid::nil())));
        // FULL is 2, NORMAL is 1.
        for (batch, synchronous, pages) in [
            (put.clone(), 2, 256),
            (put.clone().as_derivable(), 1, 256),
            (conflict.clone(), 2, 256),
            (conflict.as_derivable(), 1, 256),
            (delete.clone(), 2, 512),
            (delete.as_derivable(), 1, 512),
            (put, 2, 256),
        ] {
            let _ = writer.commit(Encoded::new(&batch).unwrap());
            const SYNCHRONOUS: Sql = Sql("", "SELECT synchronous FROM pragma_synchronous");
            let set = writer.session.first(SYNCHRONOUS, vec![], |row| row.integer(0)).unwrap();
            assert_eq!(set, Some(synchronous), "{batch:?}");
            const PAGES: Sql = Sql("", "SELECT max_page_count FROM pragma_max_page_count");
            let set = writer.session.first(PAGES, vec![], |row| row.integer(0)).unwrap();
            assert_eq!(set, Some(pages), "{batch:?}");
        }
    }
}
