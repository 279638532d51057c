//! Opening a file: whose it is, which tables it has, and how connections are set.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libsql::Value;
use memory_core::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::encryption::DatabaseFile;
use crate::error::from_io;
use crate::maintenance::{beside, copy};
use crate::session::{BEGIN_READ, BEGIN_WRITE, Session, Sql};

/// `KnHw` in the header of the file.
const APPLICATION_ID: i64 = 0x4B6E_4877;

/// A change of the schema. What was released is never edited; changes are appended. Each runs in a transaction of its own, so that
/// a process that is killed leaves it done or not begun. There is no way back but the backup that is made before the first.
struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// What opening a file would change; see [`TursoStore::plan`](crate::TursoStore::plan).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationPlan {
    /// The version of the schema as it is.
    pub from: i64,
    /// The version that it would have.
    pub to: i64,
    /// The migrations that would run, as `version (name)`.
    pub migrations: Vec<String>,
    /// Where the file as it is would be kept; `None` if nothing would change.
    pub backup: Option<PathBuf>,
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
/// Servers do not let the number in the header be set: instead of it, two tables tell.
#[cfg(feature = "remote")]
const OWNER_OF_SERVER: Sql = Sql(
    "sqlite_schema",
    "SELECT (SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('migrations', 'definitions')) AS ours,
            (SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'libsql\\_%' ESCAPE '\\'
                                                  AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\') AS tables",
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
pub(crate) fn open_writer(file: &DatabaseFile, busy_timeout: Duration) -> Result<Session> {
    open_and_migrate(file, busy_timeout, MIGRATIONS)
}

/// Tries on a copy what opening the file would change.
pub(crate) fn plan(file: &DatabaseFile) -> Result<MigrationPlan> {
    plan_with(file, MIGRATIONS)
}

fn plan_with(file: &DatabaseFile, migrations: &[Migration]) -> Result<MigrationPlan> {
    let path = &file.path;
    let mut session = look_with(file, migrations)?;
    let applied = applied(&mut session, migrations)?;
    check_definitions(&mut session)?;
    let pending: Vec<&Migration> = migrations.iter().filter(|one| !applied.contains_key(&one.version)).collect();
    let from = applied.last_key_value().map_or(0, |(version, _)| *version);
    let mut plan = MigrationPlan { from, to: from, migrations: Vec::new(), backup: None };
    if let Some(last) = pending.last() {
        plan.to = last.version;
        plan.migrations = pending.iter().map(|one| format!("{} ({})", one.version, one.name)).collect();
        plan.backup = Some(backup_of(path, from));
        let trial = beside(path, ".plan");
        let tried =
            copy(&mut session, &trial).and_then(|()| open_and_migrate(&file.at(&*trial), Duration::ZERO, migrations));
        let tried = tried.map(drop);
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(beside(&trial, end));
        }
        let _ = std::fs::remove_file(backup_of(&trial, from));
        tried?;
    }
    Ok(plan)
}

/// Where a file of this schema is kept before it is changed.
fn backup_of(path: &Path, version: i64) -> PathBuf {
    beside(path, &format!(".schema-{version}.backup"))
}

fn open_and_migrate(file: &DatabaseFile, busy_timeout: Duration, migrations: &[Migration]) -> Result<Session> {
    let path = &file.path;
    check_path(path)?;
    check_log(file, busy_timeout)?;
    let mut session = Session::open(file.clone(), busy_timeout).map_err(|error| why_not(path, error))?;
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
    prepare(&mut session)?;
    session.script("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304")?;
    if let Some(from) = behind(&mut session, migrations)? {
        copy(&mut session, &backup_of(path, from))?;
    }
    while !migrate_once(&mut session, migrations)? {}
    Ok(session)
}

/// Opens a reader's connection to a file that the writer has opened before.
pub(crate) fn open_reader(file: &DatabaseFile, busy_timeout: Duration) -> Result<Session> {
    let mut session = Session::open(file.clone(), busy_timeout)?;
    prepare(&mut session)?;
    session.script("PRAGMA query_only = ON")?;
    Ok(session)
}

/// Whether all tables are there, as this library knows them, in a copy of a server's database. Fails if they are another's.
#[cfg(feature = "replica")]
pub(crate) fn check_tables(session: &mut Session) -> Result<bool> {
    const TABLES: Sql =
        Sql("sqlite_schema", "SELECT count(*) FROM sqlite_schema WHERE name IN ('migrations', 'definitions')");
    session.transaction(crate::session::BEGIN_READ, |session| {
        if session.first(TABLES, vec![], |row| row.integer(0))?.unwrap_or_default() == 0 {
            return Ok(false);
        }
        let applied = applied(session, MIGRATIONS)?;
        check_definitions(session)?;
        Ok(MIGRATIONS.iter().all(|migration| applied.contains_key(&migration.version)))
    })
}

/// Opens a connection to a server and brings the tables of its database up to date.
#[cfg(feature = "remote")]
pub(crate) fn open_server(server: &std::sync::Arc<crate::remote::server::Server>) -> Result<Session> {
    let mut session = Session::to_server(server);
    // Most of the time all is there, and nobody who writes need wait for this.
    let there = session.transaction(crate::session::BEGIN_READ, |session| {
        session.ahead(|| [OWNER_OF_SERVER, APPLIED, DEFINITIONS, DEFINED].map(|sql| (sql, vec![])).into())?;
        Ok(!check_owner(session)? && {
            let applied = applied(session, MIGRATIONS)?;
            check_definitions(session)?;
            MIGRATIONS.iter().all(|migration| applied.contains_key(&migration.version))
        })
    })?;
    if !there {
        while !migrate_once(&mut session, MIGRATIONS)? {}
    }
    session.settle();
    Ok(session)
}

/// Opens a file of this library that must be there, only to look at it.
pub(crate) fn open_to_look(file: &DatabaseFile) -> Result<Session> {
    let mut session = look_with(file, MIGRATIONS)?;
    session.script("PRAGMA query_only = ON")?;
    applied(&mut session, MIGRATIONS)?;
    Ok(session)
}

fn look_with(file: &DatabaseFile, migrations: &[Migration]) -> Result<Session> {
    let path = &file.path;
    if !path.is_file() {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no file {}", path.display())));
    }
    let busy_timeout = Duration::from_secs(5);
    check_log(file, busy_timeout)?;
    let mut session = Session::open(file.clone(), busy_timeout)?;
    if check_owner(&mut session)? {
        return Err(Error::new(ErrorKind::Foreign, format!("{} is empty", path.display())));
    }
    prepare(&mut session)?;
    applied(&mut session, migrations)?;
    Ok(session)
}

/// The version of the schema of a file that is older than this library's; `None` if it is new or up to date.
fn behind(session: &mut Session, migrations: &[Migration]) -> Result<Option<i64>> {
    if check_owner(session)? {
        return Ok(None);
    }
    session.transaction(BEGIN_READ, |session| {
        let applied = applied(session, migrations)?;
        check_definitions(session)?;
        let up_to_date = migrations.iter().all(|migration| applied.contains_key(&migration.version));
        // None at all: it was being made.
        Ok(applied.last_key_value().map(|(version, _)| *version).filter(|_| !up_to_date))
    })
}

/// The page cache grows as it is used, up to 16 MB a connection.
fn prepare(session: &mut Session) -> Result<()> {
    session.script("PRAGMA foreign_keys = ON; PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY")
}

/// SQLite says no more of these than that it cannot open the file.
pub(crate) fn check_path(path: &Path) -> Result<()> {
    let shown = path.display();
    if path.to_str().is_none_or(|text| text.contains('\0')) {
        return Err(Error::invalid("path", format_args!("{shown:?}"), "UTF-8 without zero bytes"));
    }
    if path.is_dir() {
        return Err(Error::invalid("path", format_args!("the folder {shown}"), "a file, or a new name in a folder"));
    }
    // A bare name is in the folder that the process is in.
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
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

/// Opens a file to find out whose it is, so that nothing in its folder is changed by that: whoever closes a file last moves its
/// write-ahead log into it, with any key and with none, unless it was opened only to be read; but where there is none, one that was
/// opened so leaves an empty one.
fn open_stranger(file: DatabaseFile, busy_timeout: Duration) -> Result<Session> {
    let has_log = has_log(&file.path);
    if has_log { Session::open_read_only(file, busy_timeout) } else { Session::open(file, busy_timeout) }
}

fn has_log(path: &Path) -> bool {
    beside(path, "-wal").metadata().is_ok_and(|log| log.len() > 0)
}

/// Refuses a file that is not of this library, or has another key, if there is a write-ahead log beside it.
fn check_log(file: &DatabaseFile, busy_timeout: Duration) -> Result<()> {
    look_if_log(file, busy_timeout, |session| check_owner(session).map(drop))
}

/// The same for a local copy, which tells nothing of its owner.
#[cfg(feature = "replica")]
pub(crate) fn check_log_of_copy(file: &DatabaseFile, busy_timeout: Duration) -> Result<()> {
    look_if_log(file, busy_timeout, |session| owner(session).map(drop))
}

fn look_if_log(
    file: &DatabaseFile,
    busy_timeout: Duration,
    check: impl FnOnce(&mut Session) -> Result<()>,
) -> Result<()> {
    if !has_log(&file.path) {
        return Ok(());
    }
    let looked = open_stranger(file.clone(), busy_timeout);
    match looked.and_then(|mut session| check(&mut session)) {
        // One that is busy has not been looked at.
        Err(error) if matches!(error.kind(), ErrorKind::Foreign | ErrorKind::Busy) => Err(error),
        // What else is wrong will be found again.
        _ => Ok(()),
    }
}

/// Refuses what is not of this library before anything is written. Says whether the file is new.
fn check_owner(session: &mut Session) -> Result<bool> {
    match owner(session)? {
        (0, 0) => Ok(true),
        (APPLICATION_ID, _) => Ok(false),
        (id, tables) => {
            let shown = session.path().display();
            let message = format!("{shown}: a database with application id {id:#x} and {tables} tables and indexes");
            Err(Error::new(ErrorKind::Foreign, message))
        }
    }
}

/// The application id and how many tables and indexes there are.
fn owner(session: &mut Session) -> Result<(i64, i64)> {
    #[cfg(feature = "remote")]
    if session.is_remote() {
        let owner = session.first(OWNER_OF_SERVER, vec![], |row| {
            Ok((if row.integer(0)? == 2 { APPLICATION_ID } else { 0 }, row.integer(1)?))
        })?;
        return Ok(owner.unwrap_or_default());
    }
    let owner = session.first(OWNER, vec![], |row| Ok((row.integer(0)?, row.integer(1)?)));
    match owner {
        Err(error) if error.kind() == ErrorKind::Foreign => Err(unreadable(session, error)),
        owner => Ok(owner?.unwrap_or_default()),
    }
}

/// SQLite says of an encrypted file only that it is no database, whether it has got no key or a wrong one.
fn unreadable(session: &Session, error: Error) -> Error {
    let why = match session.has_key() {
        false => "no database, or one that is encrypted and needs its key",
        true if is_plain(session.path()) => "a database that is not encrypted, and a key was given",
        true => "encrypted with another key than this, or no database",
    };
    Error::new(ErrorKind::Foreign, format!("{}: {why}", session.path().display())).with_source(error)
}

/// Whether it is a database that can be read without a key.
fn is_plain(path: &Path) -> bool {
    let session = open_stranger(DatabaseFile::new(path, None), Duration::ZERO);
    session.and_then(|mut session| session.first(OWNER, vec![], |row| row.integer(0))).is_ok()
}

/// Checks the tables and makes one missing step; says whether none was missing.
fn migrate_once(session: &mut Session, migrations: &[Migration]) -> Result<bool> {
    session.transaction(BEGIN_WRITE, |session| {
        if check_owner(session)? {
            if !session.is_remote() {
                session.script(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
            }
            session.script(BOOKKEEPING)?;
        }
        let applied = applied(session, migrations)?;
        check_definitions(session)?;
        let Some(next) = migrations.iter().find(|migration| !applied.contains_key(&migration.version)) else {
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
fn applied(session: &mut Session, migrations: &[Migration]) -> Result<BTreeMap<i64, String>> {
    let mut applied = BTreeMap::new();
    let mut rows = session.query(APPLIED, vec![])?;
    while let Some(row) = rows.next()? {
        applied.insert(row.integer(0)?, row.text(1)?);
    }
    let newest = migrations.last().map_or(0, |migration| migration.version);
    if let Some((found, _)) = applied.last_key_value().filter(|(found, _)| **found > newest) {
        let shown = session.path().display();
        let message = format!("{shown}: the schema has version {found}, this library knows versions up to {newest}");
        return Err(Error::new(ErrorKind::SchemaTooNew, message));
    }
    for Migration { version, name, sql } in migrations {
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
    use std::time::Instant;

    use memory_core::testkit::process;

    use super::*;
    use crate::encryption::EncryptionKey;

    /// Bug: a backup could not be restored as `knowhow.db`, because a bare name has a folder of no name.
    #[test]
    fn a_bare_name_is_a_path() {
        check_path(Path::new("no-such-file-yet.db")).unwrap();
        assert!(check_path(Path::new("no-such-folder/x.db")).unwrap_err().to_string().contains("no-such-folder"));
    }

    /// A second migration, which takes a while.
    const SECOND: Migration = Migration {
        version: 2,
        name: "numbers",
        sql: "CREATE TABLE numbers (number INTEGER PRIMARY KEY) STRICT;
              INSERT INTO numbers WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                  SELECT i FROM n;
              CREATE INDEX numbers_down ON numbers (number DESC);",
    };
    const NUMBERS: Sql = Sql("numbers", "SELECT count(*) FROM numbers");
    const VERSION: Sql = Sql("state", "SELECT version FROM state");
    #[cfg(feature = "encryption")]
    const KEY: Option<EncryptionKey> = Some(EncryptionKey::new([7; 32]));
    #[cfg(not(feature = "encryption"))]
    const KEY: Option<EncryptionKey> = None;

    fn both() -> [Migration; 2] {
        let [Migration { version, name, sql }] = MIGRATIONS else { panic!("the first and no other") };
        [Migration { version: *version, name, sql }, SECOND]
    }

    /// A file of the first schema in which something is written.
    fn first(folder: &Path) -> DatabaseFile {
        let file = DatabaseFile::new(folder.join("memory.db"), KEY);
        let mut session = open_writer(&file, Duration::from_secs(5)).unwrap();
        session.script("UPDATE state SET version = 77").unwrap();
        file
    }

    fn backup(file: &DatabaseFile) -> DatabaseFile {
        file.at(backup_of(&file.path, 1))
    }

    fn version(file: &DatabaseFile, migrations: &[Migration]) -> Option<u64> {
        look_with(file, migrations).unwrap().first(VERSION, vec![], |row| row.count(0)).unwrap()
    }

    #[test]
    fn a_plan_is_tried_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = first(folder.path());
        let nothing = MigrationPlan { from: 1, to: 1, migrations: vec![], backup: None };
        assert_eq!(plan(&file).unwrap(), nothing);
        let files = || folder.path().read_dir().unwrap().count();
        let before = files();
        let plan = plan_with(&file, &both()).unwrap();
        assert_eq!((plan.from, plan.to, plan.migrations), (1, 2, vec!["2 (numbers)".to_owned()]));
        assert_eq!(plan.backup, Some(folder.path().join("memory.db.schema-1.backup")));
        let impossible = [both().into_iter().next().unwrap(), Migration { sql: "CREATE TABLE state (x)", ..SECOND }];
        let error = plan_with(&file, &impossible).unwrap_err();
        assert!(error.to_string().contains("state already exists"), "{error}");
        assert_eq!((files(), version(&file, MIGRATIONS)), (before, Some(77)), "nothing is left of the trials");
    }

    #[test]
    fn before_a_migration_the_file_is_kept_and_leads_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = first(folder.path());
        let mut session = open_and_migrate(&file, Duration::from_secs(5), &both()).unwrap();
        assert_eq!(session.first(NUMBERS, vec![], |row| row.count(0)).unwrap(), Some(100_000));
        drop(session);
        let error = open_writer(&file, Duration::from_secs(5)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::SchemaTooNew);
        assert!(error.to_string().contains("version 2") && error.to_string().contains("up to 1"), "{error}");
        let back = file.at(folder.path().join("back.db"));
        crate::maintenance::restore(&backup(&file), &back.path).unwrap();
        assert_eq!(version(&back, MIGRATIONS), Some(77));
        open_writer(&back, Duration::from_secs(5)).unwrap();
        // Opened again, nothing is migrated, and the backup stays as it is.
        let made = backup(&file).path.metadata().unwrap().modified().unwrap();
        open_and_migrate(&file, Duration::from_secs(5), &both()).unwrap();
        assert_eq!(backup(&file).path.metadata().unwrap().modified().unwrap(), made);
    }

    #[test]
    fn a_migration_that_is_killed_is_done_or_not_begun() {
        let test = "schema::tests::a_migration_that_is_killed_is_done_or_not_begun";
        if process::is_child() {
            let file = DatabaseFile::new(PathBuf::from(std::env::var_os("STORE").unwrap()), KEY);
            open_and_migrate(&file, Duration::from_secs(5), &both()).unwrap();
            return;
        }
        // As long as it takes when nobody is killed.
        let folder = tempfile::tempdir().unwrap();
        let file = first(folder.path());
        let begun = Instant::now();
        assert!(process::spawn(test, &[("STORE", file.path.to_str().unwrap())]).wait().unwrap().success());
        let (whole, mut undone) = (begun.elapsed(), 0);
        for part in 0..16 {
            let folder = tempfile::tempdir().unwrap();
            let file = first(folder.path());
            let mut child = process::spawn(test, &[("STORE", file.path.to_str().unwrap())]);
            std::thread::sleep(whole * part / 15);
            child.kill().unwrap();
            child.wait().unwrap();
            let applied = applied(&mut look_with(&file, &both()).unwrap(), &both()).unwrap();
            undone += usize::from(applied.len() == 1);
            let mut session = open_and_migrate(&file, Duration::from_secs(5), &both()).unwrap();
            assert_eq!(session.first(NUMBERS, vec![], |row| row.count(0)).unwrap(), Some(100_000));
            assert_eq!(version(&file, &both()), Some(77));
            assert_eq!(version(&backup(&file), MIGRATIONS), Some(77));
        }
        println!("of 16 kills {undone} came before the migration was done");
        assert!(undone > 0);
    }

    /// Files out there hold these checksums: a migration that was released is never edited, not even its comments.
    #[test]
    fn released_migrations_stay_as_they_are() {
        let checksums: Vec<String> = MIGRATIONS.iter().map(|migration| checksum(migration.sql.as_bytes())).collect();
        assert_eq!(checksums, ["e51732c9-d2f0-56ea-bd44-63b7d7676d60"]);
    }
}
