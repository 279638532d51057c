//! What an operator does with a file: check it, back it up, restore it, make it smaller.

use std::fs::File;
use std::path::{Path, PathBuf};

use libsql::Value;
use memory_core::{Error, ErrorKind, RecordKind, Result, Scan, Version};

use crate::encryption::{DatabaseFile, EncryptionKey};
use crate::error::from_io;
use crate::learned::Learned;
use crate::schema::{check_path, open_to_look};
use crate::session::{BEGIN_READ, Session, Sql};

/// What must not be found in a sound file: a name, and a query that counts it.
const SOUND: &[(&str, Sql)] = &[
    ("damaged pages", Sql("integrity", "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'")),
    (
        "scopes whose episodes are counted wrong",
        Sql(
            "scopes",
            "SELECT count(*) FROM (
                 SELECT scope, count(*), sum(words), sum(trace_words) FROM episode_index GROUP BY scope
                 EXCEPT SELECT id, episodes, words, trace_words FROM scopes)",
        ),
    ),
    (
        "scopes whose notes are counted wrong",
        Sql(
            "scopes",
            "SELECT count(*) FROM (
                 SELECT scope, count(*), sum(words) FROM note_index GROUP BY scope
                 EXCEPT SELECT id, notes, note_words FROM scopes)",
        ),
    ),
    ("empty scopes", Sql("scopes", "SELECT count(*) FROM scopes WHERE episodes = 0 AND notes = 0")),
    (
        "records counted in a scope that are not there",
        Sql(
            "scopes",
            "SELECT abs((SELECT coalesce(sum(episodes) + sum(notes), 0) FROM scopes)
                        - (SELECT count(*) FROM episode_index) - (SELECT count(*) FROM note_index))",
        ),
    ),
    (
        "index rows of no episode",
        Sql(
            "episode_index",
            "SELECT count(*) FROM episode_index AS i LEFT JOIN episode_records AS r USING (version)
             LEFT JOIN scopes AS s ON s.id = i.scope
             WHERE r.id IS NOT i.id OR s.scope IS NOT CASE WHEN json_valid(body) THEN body ->> '$.scope' END",
        ),
    ),
    (
        "index rows of no note",
        Sql(
            "note_index",
            "SELECT count(*) FROM note_index AS i LEFT JOIN note_records AS r USING (version)
             LEFT JOIN scopes AS s ON s.id = i.scope
             WHERE r.id IS NOT i.id OR s.scope IS NOT CASE WHEN json_valid(body) THEN body ->> '$.scope' END",
        ),
    ),
    (
        "records that search has passed over",
        Sql(
            "state",
            "SELECT count(*) FROM state, (
                 SELECT version FROM episode_records UNION ALL SELECT version FROM note_records) AS r
             WHERE r.version <= indexed AND r.version NOT IN (
                 SELECT version FROM episode_index UNION ALL SELECT version FROM note_index)",
        ),
    ),
    (
        "words of no record",
        Sql(
            "words",
            "SELECT count(*) FROM words_postings WHERE doc NOT IN (
                 SELECT version FROM episode_index UNION ALL SELECT version FROM note_index)",
        ),
    ),
    (
        "records with too few or too many words",
        Sql(
            "words",
            "SELECT count(*) FROM (
                 SELECT version, words, trace_words, 0 FROM episode_index
                 UNION ALL SELECT version, 0, 0, words FROM note_index
                 EXCEPT SELECT doc, sum(count * (field LIKE '%w')), sum(count * (field LIKE '%t')),
                               sum(count * (field LIKE '%n')) FROM (
                     SELECT doc, substr(term, instr(term, '·') + 1) AS count,
                            substr(term, 1, length(searched.scope) + 1) AS field
                     FROM (SELECT version, scope FROM episode_index UNION ALL SELECT version, scope FROM note_index)
                         AS searched
                     JOIN words_postings ON doc = version)
                 GROUP BY doc)
             WHERE words + trace_words > 0",
        ),
    ),
    (
        "words of no scope",
        Sql(
            "words",
            "SELECT count(*) FROM words_tokens
             WHERE NOT EXISTS (SELECT 1 FROM scopes WHERE term GLOB id || '[wtn]*·*')",
        ),
    ),
    (
        "vectors of no record",
        Sql(
            "vectors",
            "SELECT count(*) FROM vectors WHERE version NOT IN (
                 SELECT version FROM episode_records UNION ALL SELECT version FROM note_records)",
        ),
    ),
    (
        "patterns before the first block",
        Sql("pattern_blocks", "SELECT coalesce(min(first) <> zeroblob(17), 0) FROM pattern_blocks"),
    ),
];
const COPY: Sql = Sql("", "VACUUM INTO ?1");
const READ_ONLY: Sql = Sql("pragma", "SELECT query_only FROM pragma_query_only");
const PAGES: Sql = Sql("database header", "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size");
const VERSION: Sql = Sql("state", "SELECT version FROM state");

/// A backup that was made.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The version of the last change in it.
    pub version: Version,
    /// Its bytes.
    pub bytes: u64,
}

/// What making a file smaller has gained.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vacuumed {
    /// The bytes of the database file before, without its write-ahead log.
    pub before: u64,
    /// The bytes after.
    pub after: u64,
}

/// Looks for everything that is wrong, in one state of the file.
pub(crate) fn check(session: &mut Session) -> Result<Vec<String>> {
    session.transaction(BEGIN_READ, |session| {
        let mut problems = Vec::new();
        for (what, query) in SOUND {
            match session.first(*query, vec![], |row| row.count(0)) {
                Ok(Some(0) | None) => {}
                Ok(Some(count)) => problems.push(format!("{count} {what}")),
                Err(error) if error.kind() == ErrorKind::Corrupt => problems.push(format!("{what}: {error}")),
                Err(error) => return Err(error),
            }
        }
        for kind in [RecordKind::Pattern, RecordKind::Habit] {
            if let Err(error) = read_all(session, kind) {
                problems.push(error.to_string());
            }
        }
        Ok(problems)
    })
}

fn read_all(session: &mut Session, kind: RecordKind) -> Result<()> {
    let mut scan = Scan::new(kind);
    loop {
        match Learned::read(session)?.scan(session, &scan)?.next {
            Some(next) => scan.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Copies one state of the file into a new one, which has the same key. Writers go on meanwhile.
pub(crate) fn back_up(session: &mut Session, to: &Path, key: Option<EncryptionKey>) -> Result<Backup> {
    let to = new_file(to)?;
    copy(session, &to)?;
    let bytes = to.metadata().map_err(|error| from_io(&to, error))?.len();
    let version = open_to_look(&DatabaseFile::new(to, key))?.first(VERSION, vec![], |row| row.count(0))?;
    Ok(Backup { version: Version(version.unwrap_or_default()), bytes })
}

/// Makes a database file of a backup, after checking it.
pub(crate) fn restore(from: &DatabaseFile, to: &Path) -> Result<Backup> {
    check_path(&from.path)?;
    let mut backup = open_to_look(from)?;
    let problems = check(&mut backup)?;
    if let Some(first) = problems.first() {
        let message = format!("{}: {first}, and {} more problems", from.path.display(), problems.len() - 1);
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    back_up(&mut backup, to, from.key)
}

/// The whole path of a new file, of which nothing is there yet.
fn new_file(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).map_err(|error| from_io(path, error))?;
    check_path(&path)?;
    match ["", "-wal", "-shm"].map(|end| beside(&path, end)).into_iter().find(|path| path.exists()) {
        Some(there) => Err(Error::new(ErrorKind::AlreadyExists, format!("{} is there already", there.display()))),
        None => Ok(path),
    }
}

/// The path with something behind it.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Copies one state of the file; what is there under the name is replaced, when the copy is whole and on disk.
pub(crate) fn copy(session: &mut Session, to: &Path) -> Result<()> {
    let partial = beside(to, ".partial");
    // What a process left that was killed half-way.
    let _ = std::fs::remove_file(&partial);
    // A connection that only reads may write no other file either.
    let read_only = session.first(READ_ONLY, vec![], |row| row.count(0))? == Some(1);
    session.script("PRAGMA query_only = OFF")?;
    let copied = session.execute(COPY, vec![Value::Text(partial.to_string_lossy().into_owned())]);
    if read_only {
        session.script("PRAGMA query_only = ON")?;
    }
    let copied = copied.and_then(|_| move_in_place(&partial, to));
    if copied.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    copied
}

/// Gives a file that was written its name, for good.
fn move_in_place(partial: &Path, to: &Path) -> Result<()> {
    let done = File::open(partial).and_then(|file| file.sync_all()).and_then(|()| {
        std::fs::rename(partial, to)?;
        // The name is on disk only when the folder is.
        to.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    });
    done.map_err(|error| from_io(to, error))
}

/// Gives free pages back. Others who write wait as long as it takes, which is about a second for each 100 MB.
pub(crate) fn vacuum(session: &mut Session) -> Result<Vacuumed> {
    let size = |session: &mut Session| Ok(session.first(PAGES, vec![], |row| row.count(0))?.unwrap_or_default());
    let before = size(session)?;
    session.script("VACUUM")?;
    // It is done: the file gets smaller when the log beside it is moved into it, by the next one who can.
    let _ = checkpoint(session);
    Ok(Vacuumed { before, after: size(session)? })
}

/// Moves the write-ahead log into the file and empties it, unless others keep it busy.
pub(crate) fn checkpoint(session: &mut Session) -> Result<bool> {
    const CHECKPOINT: Sql = Sql("", "PRAGMA wal_checkpoint(TRUNCATE)");
    Ok(session.first(CHECKPOINT, vec![], |row| row.count(0))? == Some(0))
}
