//! Taking over the vectors of a copy in another space.
//!
//! The copy could not take the place of the file itself: a process that has the file open would go on with it under its new name,
//! and with its write-ahead log under the old one, where whoever opens the copy finds a log that is not of it. Nor need it: of all
//! that is in the file, only the vectors and the space are other ones. So they are exchanged within it, in one transaction,
//! which all processes see as a whole or not at all, and which a kill undoes.

use std::path::Path;
use std::time::Duration;

use libsql::Value;
use memory_core::{Error, ErrorKind, Result, Version};

use crate::codec::integer;
use crate::encryption::DatabaseFile;
use crate::error::from_io;
use crate::maintenance::checkpoint;
use crate::schema::{open_to_look, open_writer};
use crate::session::{BEGIN_WRITE, Session, Sql};

const ATTACH: Sql = Sql("", "ATTACH ?1 AS copy");
/// How far the copy goes, and the version of the record in it that says so: that of the log whose name the file has.
const MARK: Sql = Sql(
    "records",
    "SELECT mark.body ->> '$.position', mark.version FROM (
         SELECT key FROM main.records
         WHERE kind = 'watermark' AND substr(hex(key), 13, 1) = '8' AND body ->> '$.position' = 0
         ORDER BY version LIMIT 1) AS name
     JOIN copy.records AS mark ON mark.kind = 'watermark' AND mark.key = name.key AND mark.body ->> '$.position' > 0",
);
macro_rules! later {
    ($database:literal) => {
        Sql(
            "records",
            concat!(
                "SELECT (SELECT count(*) FROM ",
                $database,
                ".episode_records WHERE version > ?1) + (SELECT count(*) FROM ",
                $database,
                ".note_records WHERE version > ?1)"
            ),
        )
    };
}
const LATER: Sql = later!("main");
const LATER_IN_COPY: Sql = later!("copy");
const CLEAR: Sql = Sql("vectors", "DELETE FROM main.vectors");
macro_rules! take {
    ($table:literal) => {
        Sql(
            "vectors",
            concat!(
                "INSERT INTO main.vectors SELECT own.version, vector FROM main.",
                $table,
                " AS own CROSS JOIN copy.",
                $table,
                " AS other ON other.id = own.id CROSS JOIN copy.vectors AS v ON v.version = other.version \
                 ORDER BY own.version"
            ),
        )
    };
}
const TAKE: [Sql; 2] = [take!("episode_records"), take!("note_records")];
const MOVE: [Sql; 2] = [
    Sql("state", "UPDATE main.state SET version = version + 1"),
    Sql(
        "records",
        "UPDATE main.records SET version = (SELECT version FROM main.state),
                body = (SELECT body FROM copy.records WHERE kind = 'space') WHERE kind = 'space'",
    ),
];
const RECORDS: Sql = Sql(
    "records",
    "SELECT (SELECT count(*) FROM main.episode_records) + (SELECT count(*) FROM main.note_records), version FROM main.state",
);

/// What came of replacing the vectors of a file.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Vectors that the file has now, all of the new space.
    pub vectors: u64,
    /// Episodes and notes that have none: they say nothing, or the copy had let them go.
    pub without: u64,
    /// The version of the change.
    pub version: Version,
}

/// Replaces all vectors of a file, and its space, by those of a copy.
///
/// If they are encrypted, both have the key of the file: what is attached is opened with the key of the connection.
pub(crate) fn replace_vectors(file: &DatabaseFile, copy: &Path, busy_timeout: Duration) -> Result<Replaced> {
    let copy = file.at(copy);
    // Both must be there, and of this library.
    drop(open_to_look(file)?);
    drop(open_to_look(&copy)?);
    let [own, other] =
        [file, &copy].map(|DatabaseFile { path, .. }| path.canonicalize().map_err(|error| from_io(path, error)));
    if own? == other? {
        return Err(Error::invalid("copy", copy.path.display(), "another file"));
    }
    drop(open_writer(&copy, busy_timeout)?);
    let mut session = open_writer(file, busy_timeout)?;
    session.execute(ATTACH, vec![Value::Text(copy.path.to_string_lossy().into_owned())])?;
    let replaced = session.transaction(BEGIN_WRITE, |session| exchange(session, &file.path, &copy.path))?;
    // It is done: what the log beside the file has is moved by the next one who can.
    let _ = checkpoint(&mut session);
    Ok(replaced)
}

fn exchange(session: &mut Session, path: &Path, copy: &Path) -> Result<Replaced> {
    let (path, copy) = (path.display(), copy.display());
    let Some((upto, marked)) = session.first(MARK, vec![], |row| Ok((row.count(0)?, row.count(1)?)))? else {
        return Err(Error::new(ErrorKind::Foreign, format!("{copy} is no copy of {path}")));
    };
    let count = |session: &mut Session, sql, version| {
        session.first(sql, vec![integer(version)], |row| row.count(0)).map(Option::unwrap_or_default)
    };
    let put = count(session, LATER_IN_COPY, marked)?;
    if put > 0 {
        let message = format!("{put} episodes and notes were put into {copy} that are not copied from {path}");
        return Err(Error::new(ErrorKind::Foreign, message));
    }
    let later = count(session, LATER, upto)?;
    if later > 0 {
        let message =
            format!("{later} episodes and notes came into {path} since it was copied: copy them, then try again");
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    session.execute(CLEAR, vec![])?;
    let mut vectors = 0;
    for take in TAKE {
        vectors += session.execute(take, vec![])?;
    }
    for change in MOVE {
        session.execute(change, vec![])?;
    }
    let (records, version) =
        session.first(RECORDS, vec![], |row| Ok((row.count(0)?, row.count(1)?)))?.unwrap_or_default();
    Ok(Replaced { vectors, without: records.saturating_sub(vectors), version: Version(version) })
}
