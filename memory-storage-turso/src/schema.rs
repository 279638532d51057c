//! Opening a file: whose it is, which tables it has, and how connections are set.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libsql::Value;
use memory_core::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::error::from_io;
use crate::session::{BEGIN_WRITE, Session, Sql};

/// `KnHw` in the header of the file.
const APPLICATION_ID: i64 = 0x4B6E_4877;

/// A change of the schema. What was released is never edited; changes are appended.
struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "init", sql: include_str!("../migrations/0001_init.sql") }];

/// Which migrations ran, and what the tables and indexes that they made look like.
const BOOKKEEPING: &str = "
    CREATE TABLE migrations (
        version INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        checksum TEXT NOT NULL,
        applied_at INTEGER NOT NULL -- microseconds since 1970
    ) STRICT;
    CREATE TABLE definitions (name TEXT PRIMARY KEY, checksum TEXT NOT NULL) STRICT, WITHOUT ROWID;";

const OWNER: Sql = Sql(
    "database header",
    "SELECT (SELECT application_id FROM pragma_application_id) AS application_id, (SELECT count(*) FROM sqlite_schema) AS tables",
);
const APPLIED: Sql =
    Sql("migrations", "SELECT version, CAST(checksum AS BLOB) AS checksum FROM migrations ORDER BY version");
const APPLY: Sql =
    Sql("migrations", "INSERT INTO migrations VALUES (?1, ?2, ?3, CAST(unixepoch('subsec') * 1000000 AS INTEGER))");
const DEFINITIONS: Sql = Sql(
    "sqlite_schema",
    "SELECT CAST(name AS BLOB) AS name, CAST(sql AS BLOB) AS sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
);
const DEFINED: Sql =
    Sql("definitions", "SELECT CAST(name AS BLOB) AS name, CAST(checksum AS BLOB) AS checksum FROM definitions");
const DEFINE: Sql = Sql(
    "definitions",
    "INSERT INTO definitions VALUES (?1, ?2) ON CONFLICT DO UPDATE SET checksum = excluded.checksum",
);
const JOURNAL: Sql = Sql("pragma", "SELECT CAST(journal_mode AS BLOB) AS journal_mode FROM pragma_journal_mode");

/// Opens the writer's connection: creates the file if there is none and brings its tables up to date.
pub(crate) fn open_writer(path: &Arc<Path>, busy_timeout: Duration) -> Result<Session> {
    check_path(path)?;
    let mut session = Session::open(Arc::clone(path), busy_timeout).map_err(|error| why_not(path, error))?;
    if check_owner(&mut session)? {
        // Two vectors or bodies would fit on a page of the usual size, and most of the rest of it would be empty.
        session.script("PRAGMA page_size = 8192")?;
    }
    session.script("PRAGMA journal_mode = WAL")?;
    let journal = session.first(JOURNAL, vec![], |row| row.text(0))?.unwrap_or_default();
    if journal != "wal" {
        let message = format!("{}: no write-ahead log can be made beside it (journal: {journal})", path.display());
        return Err(Error::new(ErrorKind::Io, message));
    }
    prepare(&session)?;
    session.script("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304")?;
    while !migrate_once(&mut session)? {}
    Ok(session)
}

/// Opens a reader's connection to a file that the writer has opened before.
pub(crate) fn open_reader(path: &Arc<Path>, busy_timeout: Duration) -> Result<Session> {
    let session = Session::open(Arc::clone(path), busy_timeout)?;
    prepare(&session)?;
    session.script("PRAGMA query_only = ON")?;
    Ok(session)
}

/// The page cache grows as it is used, up to 16 MB a connection.
fn prepare(session: &Session) -> Result<()> {
    session.script("PRAGMA foreign_keys = ON; PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY")
}

/// SQLite says no more of these than that it cannot open the file.
fn check_path(path: &Path) -> Result<()> {
    let shown = path.display();
    if path.to_str().is_none_or(|text| text.contains('\0')) {
        return Err(Error::invalid("path", format_args!("{shown:?}"), "UTF-8 without zero bytes"));
    }
    if path.is_dir() {
        return Err(Error::invalid("path", format_args!("the folder {shown}"), "a file, or a new name in a folder"));
    }
    match path.parent() {
        Some(parent) if !parent.is_dir() => {
            Err(Error::new(ErrorKind::Io, format!("{shown}: there is no folder {}", parent.display())))
        }
        _ => Ok(()),
    }
}

/// Finds out why a file cannot be opened: SQLite does not tell. A file that is there is not touched, since closing it would
/// end the locks that other stores of this process have on it.
fn why_not(path: &Path, error: Error) -> Error {
    match std::fs::File::create_new(path) {
        Err(reason) if reason.kind() != std::io::ErrorKind::AlreadyExists => from_io(path, reason),
        _ => error,
    }
}

/// Refuses what is not of this library before anything is written. Says whether the file is new.
fn check_owner(session: &mut Session) -> Result<bool> {
    let owner = session.first(OWNER, vec![], |row| Ok((row.integer(0)?, row.integer(1)?)))?;
    match owner.unwrap_or_default() {
        (0, 0) => Ok(true),
        (APPLICATION_ID, _) => Ok(false),
        (id, tables) => {
            let shown = session.path().display();
            let message = format!("{shown}: a database with application id {id:#x} and {tables} tables and indexes");
            Err(Error::new(ErrorKind::Foreign, message))
        }
    }
}

/// Checks the tables and makes one missing step; says whether none was missing.
fn migrate_once(session: &mut Session) -> Result<bool> {
    session.transaction(BEGIN_WRITE, |session| {
        if check_owner(session)? {
            session.script(&format!("PRAGMA application_id = {APPLICATION_ID};{BOOKKEEPING}"))?;
        }
        let applied = applied(session)?;
        check_definitions(session)?;
        let Some(next) = MIGRATIONS.iter().find(|migration| !applied.contains_key(&migration.version)) else {
            return Ok(true);
        };
        let before = definitions(session)?;
        session.script(next.sql)?;
        let values = [Value::Integer(next.version), next.name.to_owned().into(), checksum(next.sql.as_bytes()).into()];
        session.execute(APPLY, values.into())?;
        for (name, checksum) in definitions(session)? {
            if before.get(&name) != Some(&checksum) {
                session.execute(DEFINE, vec![name.into(), checksum.into()])?;
            }
        }
        Ok(false)
    })
}

/// The versions and checksums of the migrations that ran, all of them ours and as we know them.
fn applied(session: &mut Session) -> Result<BTreeMap<i64, String>> {
    let mut applied = BTreeMap::new();
    let mut rows = session.query(APPLIED, vec![])?;
    while let Some(row) = rows.next()? {
        applied.insert(row.integer(0)?, row.text(1)?);
    }
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.version);
    if let Some((found, _)) = applied.last_key_value().filter(|(found, _)| **found > newest) {
        let shown = session.path().display();
        let message = format!("{shown}: the schema has version {found}, this library knows versions up to {newest}");
        return Err(Error::new(ErrorKind::SchemaTooNew, message));
    }
    for Migration { version, name, sql } in MIGRATIONS {
        if applied.get(version).is_some_and(|found| *found != checksum(sql.as_bytes())) {
            return Err(edited(
                session,
                format_args!("migration {version} ({name}) ran with another text than this library's"),
            ));
        }
    }
    Ok(applied)
}

/// Compares tables and indexes with what the migrations made. What others added beside them is none of our business.
fn check_definitions(session: &mut Session) -> Result<()> {
    let found = definitions(session)?;
    let mut rows = session.query(DEFINED, vec![])?;
    while let Some(row) = rows.next()? {
        let (name, checksum) = (row.text(0)?, row.text(1)?);
        match found.get(&name) {
            Some(found) if *found == checksum => {}
            Some(_) => {
                return Err(edited(
                    session,
                    format_args!("the definition of {name} is not the one that its migration made"),
                ));
            }
            None => return Err(edited(session, format_args!("{name} is missing"))),
        }
    }
    Ok(())
}

/// The checksums of all definitions of tables and indexes.
fn definitions(session: &mut Session) -> Result<BTreeMap<String, String>> {
    let mut definitions = BTreeMap::new();
    let mut rows = session.query(DEFINITIONS, vec![])?;
    while let Some(row) = rows.next()? {
        definitions.insert(row.text(0)?, checksum(&row.blob(1)?));
    }
    Ok(definitions)
}

fn edited(session: &Session, message: impl Display) -> Error {
    Error::new(ErrorKind::SchemaEdited, format!("{}: {message}", session.path().display()))
}

fn checksum(text: &[u8]) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files out there hold these checksums: a migration that was released is never edited, not even its comments.
    #[test]
    fn released_migrations_stay_as_they_are() {
        let checksums: Vec<String> = MIGRATIONS.iter().map(|migration| checksum(migration.sql.as_bytes())).collect();
        assert_eq!(checksums, ["cd065480-82dc-5f8a-ac46-ec37bc80a18d"]);
    }
}
