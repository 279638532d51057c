//! Commits: many batches in one transaction, which share its sync.

use std::time::Duration;

use libsql::Value;
use memory_core::{
    Batch, Change, Commit, Condition, Durability, Key, LoggedEpisode, Record, RecordKind, Result, Scope, StoredNote,
    Vector, VectorSpace, Version, check_vector,
};

use crate::codec::{check_numbers, encode, encode_vector, integer, key_bytes, version};
use crate::indexing;
use crate::learned::{self, Changed};
use crate::maintenance::{self, Vacuumed};
use crate::read::space;
use crate::session::{BEGIN_WRITE, Session, Sql};

const STATE: Sql = Sql("state", "SELECT version, indexed, EXISTS (SELECT 1 FROM deleted) FROM state");
const SET_VERSION: Sql = Sql("state", "UPDATE state SET version = ?1");
const RECORD: Sql = Sql("records", "SELECT version FROM records WHERE kind = ?1 AND key = ?2");
const PUT_RECORD: Sql = Sql(
    "records",
    "INSERT INTO records (kind, key, scope, version, body) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT DO UPDATE SET scope = excluded.scope, version = excluded.version, body = excluded.body",
);
const DELETE_RECORD: Sql = Sql("records", "DELETE FROM records WHERE kind = ?1 AND key = ?2");
const PUT_VECTOR: Sql = Sql("vectors", "INSERT INTO vectors (version, vector) VALUES (?1, ?2)");
const DELETE_VECTOR: Sql = Sql("vectors", "DELETE FROM vectors WHERE version = ?1");
const BURY: Sql = Sql("deleted", "INSERT OR REPLACE INTO deleted (version, kind, key) VALUES (?1, ?2, ?3)");
const UNEARTH: Sql = Sql("deleted", "DELETE FROM deleted WHERE kind = ?1 AND key = ?2");

/// The statements for a kind of record that is searched.
#[derive(Debug)]
struct Statements {
    find: Sql,
    put: Sql,
    delete: Sql,
}

const EPISODES: Statements = Statements {
    find: Sql("episode_records", "SELECT version FROM episode_records WHERE id = ?1"),
    put: Sql("episode_records", "INSERT INTO episode_records (version, id, body) VALUES (?1, ?2, ?3)"),
    delete: Sql("episode_records", "DELETE FROM episode_records WHERE version = ?1"),
};
const NOTES: Statements = Statements {
    find: Sql("note_records", "SELECT version FROM note_records WHERE id = ?1"),
    put: Sql("note_records", "INSERT INTO note_records (version, id, body) VALUES (?1, ?2, ?3)"),
    delete: Sql("note_records", "DELETE FROM note_records WHERE version = ?1"),
};

/// The statements for a record that is searched.
fn searched(key: &Key) -> Option<&'static Statements> {
    match key {
        Key::Episode(_) => Some(&EPISODES),
        Key::Note(_) => Some(&NOTES),
        _ => None,
    }
}

/// A batch on its way to the writer, encoded already, so that this work is not the writer's.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) changes: Vec<EncodedChange>,
    derivable: bool,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) enum EncodedChange {
    Document(Document),
    Space(VectorSpace, String),
    Put {
        key: Key,
        scope: Option<Scope>,
        body: String,
    },
    /// All changes of patterns, where the first of them stands.
    Patterns(Vec<Vec<u8>>),
    Delete(Key),
}

/// A record that is searched.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) key: Key,
    /// Whether the conditions say that it is not there yet.
    pub(crate) new: bool,
    pub(crate) vector: Option<Vector>,
    pub(crate) body: String,
}

impl Encoded {
    /// Checks and encodes a batch.
    pub(crate) fn new(batch: &Batch) -> Result<Self> {
        batch.validate()?;
        let mut encoded =
            Self { conditions: batch.conditions.clone(), changes: Vec::new(), derivable: batch.derivable, bytes: 0 };
        let mut patterns = Changed::of(batch);
        for change in &batch.changes {
            let own = match change {
                Change::Put(Record::Pattern(_)) | Change::Add(_) | Change::Delete(Key::Pattern(_) | Key::Habit(_)) => {
                    let Some(patterns) = patterns.take() else { continue };
                    EncodedChange::Patterns(patterns.encode()?)
                }
                Change::Put(record) => encoded.put(record)?,
                Change::Delete(key) => EncodedChange::Delete(key.clone()),
            };
            encoded.bytes += own.bytes();
            encoded.changes.push(own);
        }
        Ok(encoded)
    }

    fn put(&self, record: &Record) -> Result<EncodedChange> {
        check_numbers(record)?;
        let key = record.key();
        let body = match record {
            Record::Episode(LoggedEpisode { episode, vector }) => return self.document(key, encode(episode)?, vector),
            Record::Note(StoredNote { note, vector }) => return self.document(key, encode(note)?, vector),
            Record::Space(space) => return Ok(EncodedChange::Space(space.clone(), encode(space)?)),
            Record::Watermark(watermark) => encode(watermark)?,
            Record::Open(open) => encode(open)?,
            Record::Step(step) => encode(step)?,
            Record::Pattern(pattern) => encode(pattern)?,
            Record::Unembedded(id) => encode(id)?,
        };
        Ok(EncodedChange::Put { key, scope: record.scope().cloned(), body })
    }

    fn document(&self, key: Key, body: String, vector: &Option<Vector>) -> Result<EncodedChange> {
        let absent = Condition::Absent(key.clone());
        let changed = |change: &EncodedChange| match change {
            EncodedChange::Document(document) => document.key == key,
            EncodedChange::Delete(deleted) => *deleted == key,
            _ => false,
        };
        let new = self.conditions.contains(&absent) && !self.changes.iter().any(changed);
        Ok(EncodedChange::Document(Document { key, new, vector: vector.clone(), body }))
    }

    /// About as many bytes as it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it can share a sync with others.
    pub(crate) fn is_derivable(&self) -> bool {
        self.derivable
    }

    fn makes_room(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, EncodedChange::Delete(key) if searched(key).is_some()))
    }
}

impl EncodedChange {
    fn bytes(&self) -> usize {
        64 + match self {
            Self::Document(document) => {
                document.body.len() + document.vector.as_ref().map_or(0, |vector| 4 * vector.as_slice().len())
            }
            Self::Space(_, body) | Self::Put { body, .. } => body.len(),
            Self::Patterns(deltas) => deltas.iter().map(Vec::len).sum(),
            Self::Delete(_) => 0,
        }
    }
}

/// The connection that writes.
pub(crate) struct Writer {
    session: Session,
    quota: Option<Quota>,
    /// Whether the connection is set to sync each commit.
    synced: bool,
    /// What the connection may use of the quota.
    room: Room,
    /// The vector space, once it is known; of a server's database.
    #[cfg(feature = "remote")]
    space: Option<VectorSpace>,
}

/// Who may use more than the quota, and how much more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Nothing more.
    Batches,
    /// What is derived: without it a full file could not be searched.
    Derived,
    /// Batches that delete an episode or a note, until its pages are free.
    Deletions,
}

/// The most bytes of the file, and its bytes of a page.
#[derive(Clone, Copy)]
struct Quota {
    bytes: u64,
    page: u64,
}

impl Quota {
    const SLACK_BYTES: u64 = 1 << 20;
    const MOST_PAGES: u64 = 0xFFFF_FFFE;

    fn new(session: &mut Session, bytes: u64) -> Result<Self> {
        const PAGE_SIZE: Sql = Sql("database header", "SELECT page_size FROM pragma_page_size");
        let page = session.first(PAGE_SIZE, vec![], |row| row.count(0))?.unwrap_or(4_096).max(512);
        Ok(Self { bytes, page })
    }

    fn pages(self, room: Room) -> u64 {
        let slack = match room {
            Room::Batches => 0,
            Room::Derived => Self::SLACK_BYTES,
            Room::Deletions => 2 * Self::SLACK_BYTES,
        };
        (self.bytes.saturating_add(slack) / self.page).min(Self::MOST_PAGES)
    }
}

impl Writer {
    /// Takes over a connection that [`open_writer`](crate::schema::open_writer) made.
    pub(crate) fn new(mut session: Session, max_bytes: Option<u64>) -> Result<Self> {
        let quota = max_bytes.map(|bytes| Quota::new(&mut session, bytes)).transpose()?;
        let mut writer = Self {
            session,
            quota,
            synced: true,
            room: Room::Batches,
            #[cfg(feature = "remote")]
            space: None,
        };
        writer.limit(Room::Batches)?;
        Ok(writer)
    }

    /// Writes batches, all in one transaction if that succeeds; each is answered for itself.
    pub(crate) fn commit(&mut self, batches: &[Encoded]) -> Vec<Result<Commit>> {
        #[cfg(feature = "remote")]
        if self.session.link().is_some() {
            return crate::remote::commit::commit(&mut self.session, &mut self.space, batches);
        }
        // Rooms for deletions may be used by nothing else.
        let alone = self.quota.is_some() && batches.iter().any(Encoded::makes_room);
        self.commit_by(if alone { 1 } else { batches.len().max(1) }, batches)
    }

    /// The same, with at most so many in one transaction.
    fn commit_by(&mut self, most: usize, batches: &[Encoded]) -> Vec<Result<Commit>> {
        let mut answers = Vec::with_capacity(batches.len());
        for together in batches.chunks(most) {
            match self.try_commit(together) {
                Ok(done) => answers.extend(done),
                // Those behind it would each wait as long again.
                Err(error) if error.is_temporary() => {
                    let left = batches.len() - answers.len();
                    answers.extend(std::iter::repeat_with(|| Err(error.again())).take(left));
                    break;
                }
                // One of them is to blame.
                Err(_) if together.len() > 1 => answers.extend(self.commit_by(1, together)),
                Err(error) => answers.push(Err(error)),
            }
        }
        answers
    }

    /// Writes those whose conditions hold in one transaction. Fails, with nothing written, when the transaction does.
    fn try_commit(&mut self, batches: &[Encoded]) -> Result<Vec<Result<Commit>>> {
        let synced = !batches.iter().all(Encoded::is_derivable);
        let makes_room = batches.iter().any(Encoded::makes_room);
        self.tune(synced, if makes_room { Room::Deletions } else { Room::Batches })?;
        let durability = if synced { Durability::Durable } else { Durability::Volatile };
        let answers = self.session.transaction(BEGIN_WRITE, |session| {
            let mut transaction = Transaction::begin(session)?;
            let answers: Result<Vec<Result<Commit>>> = batches
                .iter()
                .map(|batch| {
                    if let Err(refused) = transaction.check(batch) {
                        return Ok(Err(refused));
                    }
                    transaction.write(batch)?;
                    Ok(Ok(Commit { version: Version(transaction.version), durability }))
                })
                .collect();
            transaction.end()?;
            answers
        })?;
        for (batch, _) in batches.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()) {
            for change in &batch.changes {
                if let EncodedChange::Space(space, _) = change {
                    self.session.know_space(space);
                }
            }
        }
        Ok(answers)
    }

    /// Writes something that can be derived again, in a transaction of its own.
    pub(crate) fn derive<T>(&mut self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.tune(false, Room::Derived)?;
        self.session.transaction(BEGIN_WRITE, work)
    }

    /// Gives free pages back.
    pub(crate) fn vacuum(&mut self) -> Result<Vacuumed> {
        let done = maintenance::vacuum(&mut self.session);
        // The limit of a file that was larger was its size.
        self.limit(self.room)?;
        done
    }

    /// The connection, for what is not written in a transaction.
    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Makes the connection usable again after a panic.
    pub(crate) fn recover(&mut self) {
        self.session.recover();
    }

    /// Moves the write-ahead log into the file, unless others are reading or writing; then the last of them does it.
    pub(crate) fn finish(&mut self) {
        #[cfg(feature = "remote")]
        if self.session.link().is_some() {
            return;
        }
        let _ = self.session.set_busy_timeout(Duration::ZERO);
        let _ = self.session.script("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    /// Sets what cannot be set within a transaction. What is remembered is what is set, also after a failure.
    fn tune(&mut self, synced: bool, room: Room) -> Result<()> {
        #[cfg(feature = "remote")]
        if self.session.link().is_some() {
            return Ok(());
        }
        if synced != self.synced {
            self.session.script(if synced { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })?;
            self.synced = synced;
        }
        if room == self.room { Ok(()) } else { self.limit(room) }
    }

    fn limit(&mut self, room: Room) -> Result<()> {
        if let Some(quota) = self.quota {
            self.session.script(&format!("PRAGMA max_page_count = {}", quota.pages(room)))?;
            self.room = room;
        }
        Ok(())
    }
}

pub(crate) fn place(key: &Key) -> Vec<Value> {
    vec![key.kind().as_str().into(), key_bytes(key).into()]
}

/// The changes of one transaction.
struct Transaction<'a> {
    session: &'a mut Session,
    start: u64,
    version: u64,
    /// Records up to this version are in the tables that are searched.
    indexed: u64,
    /// Whether anything is known as deleted.
    deleted: bool,
    /// The vector space, once it is known.
    space: Option<VectorSpace>,
}

impl<'a> Transaction<'a> {
    fn begin(session: &'a mut Session) -> Result<Self> {
        let state = session.first(STATE, vec![], |row| Ok((row.count(0)?, row.count(1)?, row.count(2)?)))?;
        let (version, indexed, deleted) = state.unwrap_or_default();
        Ok(Self { session, start: version, version, indexed, deleted: deleted > 0, space: None })
    }

    fn end(self) -> Result<()> {
        if self.version != self.start {
            self.session.execute(SET_VERSION, vec![integer(self.version)])?;
        }
        Ok(())
    }

    /// Checks everything that can be wrong with a batch before its first change.
    fn check(&mut self, batch: &Encoded) -> Result<()> {
        for condition in &batch.conditions {
            let found = self.find(condition.key())?;
            let holds = match condition {
                Condition::Absent(_) => found.is_none(),
                Condition::Present(_) => found.is_some(),
                Condition::Unchanged(_, expected) => found == Some(*expected),
            };
            if !holds {
                return Err(condition.conflict(found));
            }
        }
        let mut own: Option<&VectorSpace> = None;
        for change in &batch.changes {
            match change {
                EncodedChange::Space(new, _) => {
                    if let Some(old) = own.or(self.space()?).filter(|old| *old != new) {
                        return Err(old.mismatch(new));
                    }
                    own = Some(new);
                }
                EncodedChange::Document(Document { vector: Some(vector), .. }) => {
                    check_vector(vector, own.or(self.space()?))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn find(&mut self, key: &Key) -> Result<Option<Version>> {
        match searched(key) {
            Some(statements) => self.session.first(statements.find, vec![key_bytes(key).into()], |row| version(row, 0)),
            None => self.session.first(RECORD, place(key), |row| version(row, 0)),
        }
    }

    fn write(&mut self, batch: &Encoded) -> Result<()> {
        for change in &batch.changes {
            match change {
                EncodedChange::Document(document) => self.put_document(document)?,
                EncodedChange::Space(space, body) => {
                    self.put(&Key::Space, None, body)?;
                    self.space = Some(space.clone());
                }
                EncodedChange::Put { key, scope, body } => self.put(key, scope.as_ref(), body)?,
                EncodedChange::Patterns(deltas) => {
                    let version = self.next_version();
                    learned::write(self.session, version, deltas)?;
                }
                EncodedChange::Delete(key) => self.delete(key)?,
            }
        }
        Ok(())
    }

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

    fn put(&mut self, key: &Key, scope: Option<&Scope>, body: &str) -> Result<()> {
        let version = self.next_version();
        self.unearth(key)?;
        let mut values = place(key);
        values.extend([scope.map(Scope::as_str).into(), integer(version), body.into()]);
        self.session.execute(PUT_RECORD, values).map(drop)
    }

    fn put_document(&mut self, document: &Document) -> Result<()> {
        let Document { key, new, vector, body } = document;
        let Some(statements) = searched(key) else { return Ok(()) };
        if *new || !self.remove_document(key)? {
            self.unearth(key)?;
        }
        let version = self.next_version();
        let values = vec![integer(version), key_bytes(key).into(), body.as_str().into()];
        self.session.execute(statements.put, values)?;
        if let Some(vector) = vector {
            self.session.execute(PUT_VECTOR, vec![integer(version), encode_vector(vector)])?;
        }
        Ok(())
    }

    fn unearth(&mut self, key: &Key) -> Result<()> {
        if self.deleted && key.kind().in_feed() {
            self.session.execute(UNEARTH, place(key))?;
        }
        Ok(())
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
            self.deleted = true;
        }
        Ok(())
    }

    /// Removes a record that is searched from all tables; says whether it was there.
    fn remove_document(&mut self, key: &Key) -> Result<bool> {
        let Some(statements) = searched(key) else { return Ok(false) };
        let Some(Version(version)) = self.find(key)? else { return Ok(false) };
        if version <= self.indexed {
            indexing::remove(self.session, key, version)?;
        }
        self.session.execute(statements.delete, vec![integer(version)])?;
        self.session.execute(DELETE_VECTOR, vec![integer(version)])?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use memory_core::{ErrorKind, LearnerId, Watermark};
    use uuid::Uuid;

    use super::*;
    use crate::encryption::DatabaseFile;
    use crate::schema::open_writer;

    #[test]
    fn only_derivable_batches_go_without_a_sync() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::new(folder.path().join("memory.db"), None);
        let session = open_writer(&file, Duration::from_secs(1)).unwrap();
        let mut writer = Writer::new(session, Some(1 << 20)).unwrap();
        let learner = LearnerId::new(Uuid::nil());
        let put = Batch::new().put(Record::Watermark(Watermark { learner, position: Version(1) }));
        let conflict = put.clone().require_absent(Key::Watermark(learner));
        let delete = Batch::new().delete(Key::Episode(memory_core::EpisodeId::new(Uuid::nil())));
        // FULL is 2, NORMAL is 1.
        for (batch, synchronous, pages) in [
            (put.clone(), 2, 128),
            (put.clone().as_derivable(), 1, 128),
            (conflict.clone(), 2, 128),
            (conflict.as_derivable(), 1, 128),
            (delete.clone(), 2, 384),
            (delete.as_derivable(), 1, 384),
            (put, 2, 128),
        ] {
            let _ = writer.commit(&[Encoded::new(&batch).unwrap()]);
            const SYNCHRONOUS: Sql = Sql("", "SELECT synchronous FROM pragma_synchronous");
            let set = writer.session.first(SYNCHRONOUS, vec![], |row| row.integer(0)).unwrap();
            assert_eq!(set, Some(synchronous), "{batch:?}");
            const PAGES: Sql = Sql("", "SELECT max_page_count FROM pragma_max_page_count");
            let set = writer.session.first(PAGES, vec![], |row| row.integer(0)).unwrap();
            assert_eq!(set, Some(pages), "{batch:?}");
        }
    }

    /// Each batch once waited by itself for a file that another process writes to.
    #[test]
    fn a_group_waits_once_for_a_busy_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::new(folder.path().join("memory.db"), None);
        let mut other = open_writer(&file, Duration::from_secs(1)).unwrap();
        let session = open_writer(&file, Duration::ZERO).unwrap();
        let mut writer = Writer::new(session, Some(1 << 20)).unwrap();
        let put = Batch::new()
            .put(Record::Watermark(Watermark { learner: LearnerId::new(Uuid::nil()), position: Version(1) }));
        let delete = Batch::new().delete(Key::Episode(memory_core::EpisodeId::new(Uuid::nil())));
        for batches in [[&put; 3], [&delete; 3]] {
            let batches = batches.map(|batch| Encoded::new(batch).unwrap());
            let answers = other.transaction(BEGIN_WRITE, |_| Ok(writer.commit(&batches))).unwrap();
            let errors: Vec<_> = answers.into_iter().map(Result::unwrap_err).collect();
            assert!(errors.len() == 3 && errors.iter().all(|error| error.kind() == ErrorKind::Busy), "{errors:?}");
            // What was tried has a cause of its own.
            assert!(errors.iter().skip(1).all(|error| std::error::Error::source(error).is_none()), "{errors:?}");
            assert!(writer.commit(&batches).iter().all(Result::is_ok));
        }
    }

    /// `PRAGMA max_page_count` of a file that is larger sets its size, once and for all.
    #[test]
    fn a_file_that_was_too_large_has_its_limit_once_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::new(folder.path().join("memory.db"), None);
        let mut session = open_writer(&file, Duration::from_secs(1)).unwrap();
        session.script("CREATE TABLE filler (bytes); INSERT INTO filler VALUES (zeroblob(3000000))").unwrap();
        let mut writer = Writer::new(session, Some(1 << 20)).unwrap();
        const PAGES: Sql = Sql("", "SELECT max_page_count FROM pragma_max_page_count");
        let limit = |writer: &mut Writer| writer.session.first(PAGES, vec![], |row| row.integer(0)).unwrap().unwrap();
        assert!(limit(&mut writer) > 128);
        writer.session.script("DROP TABLE filler").unwrap();
        let vacuumed = writer.vacuum().unwrap();
        assert!(vacuumed.after < 1 << 20, "{vacuumed:?}");
        assert_eq!(limit(&mut writer), 128);
    }

    /// Without it, a full file could not be searched.
    #[test]
    fn what_is_derived_may_still_be_written_to_a_full_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::new(folder.path().join("memory.db"), None);
        let session = open_writer(&file, Duration::from_secs(1)).unwrap();
        let mut writer = Writer::new(session, Some(1 << 20)).unwrap();
        let full = (0..).find_map(|number| {
            let text = format!("task {number} {}", "of many ".repeat(100));
            let batch = Batch::new().put(memory_core::testkit::generated::simple(number, &text));
            writer.commit(&[Encoded::new(&batch).unwrap()]).remove(0).err()
        });
        assert_eq!(full.unwrap().kind(), ErrorKind::Full);
        crate::upkeep::catch_up_index(&mut writer, &crate::worker::Counters::default()).unwrap();
        assert!(!writer.session.transaction(crate::session::BEGIN_READ, indexing::is_behind).unwrap());
    }
}
