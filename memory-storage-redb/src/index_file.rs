//! The snapshot of an index beside its database, in a file of its own.
//!
//! It is read whole, in one go, and it is not worth a place in the database: redb would copy 70 MB through its cache, round
//! them up to the next power of two, and never give the space back. A file that is written under another name, synced and
//! renamed is either the old one or the new one.
//!
//! # Which snapshot belongs to which database
//! Any of the two files may be restored from a copy, or left by a crash that the other did not see. So each snapshot has a
//! random token, and the database says, durably and *before* the snapshot is written, which tokens it takes: the new one, and
//! the last, in case the new file is never written. A database that says so holds all that the snapshot was made of, because
//! the token is committed after that.
//!
//! # Whether the database was changed
//! redb trusts a file that was closed in order, and a damaged page that it trusts can end the process: it panics in a place that
//! cannot be caught. Checking all pages takes more than a second for each gigabyte. So whoever closes a database [stamps](stamp)
//! the snapshot with the size of the database and the moment of its last change, and it need not be checked as long as
//! [that is so](is_as_it_was_closed). What comes back from a copy, was cut off or edited is checked.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use memory_core::index::HybridIndex;
use memory_core::{Error, ErrorKind, Result};
use redb::{ReadableTable, WriteTransaction};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::from_io;
use crate::file::{ABOUT, File, sync_folder};

/// The row of [`ABOUT`] that holds the tokens, 16 bytes each, the last one last.
const TOKENS: &str = "index";

/// What the file begins with. The token follows, then the [`Stamp`], then the bytes of the index, which have a checksum of their
/// own.
const MAGIC: [u8; 16] = *b"knowhow index 1\n";

/// Where the stamp stands.
const STAMP: usize = 32;

/// Size of the database, seconds and nanoseconds of its last change, and a checksum; zeros for a database that is open.
type Stamp = [u8; 32];

/// Names one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token([u8; 16]);

/// Announces a snapshot in a transaction, which must be durable before the snapshot is [written](write()), and must come
/// after everything that the snapshot holds.
pub(crate) fn announce(file: &File, transaction: &WriteTransaction) -> Result<Token> {
    let token = Token(Uuid::now_v7().into_bytes());
    let mut about = transaction.open_table(ABOUT).map_err(|error| file.error(error))?;
    let mut tokens = match about.get(TOKENS).map_err(|error| file.error(error))? {
        Some(row) => row.value().last_chunk::<16>().map(|last| last.to_vec()).unwrap_or_default(),
        None => Vec::new(),
    };
    tokens.extend_from_slice(&token.0);
    about.insert(TOKENS, &tokens[..]).map_err(|error| file.error(error))?;
    Ok(token)
}

/// Writes a snapshot that was [announced](announce), in place of the one that is there.
///
/// # Errors
/// [`Full`](ErrorKind::Full), [`ReadOnly`](ErrorKind::ReadOnly) or [`Io`](ErrorKind::Io); the old one is there then.
pub(crate) fn write(database: &Path, token: Token, index: &[u8]) -> Result<()> {
    let path = beside(database, ".index");
    let aside = beside(database, ".index.new");
    let written =
        write_synced(&aside, &[&MAGIC, &token.0, &Stamp::default(), index]).and_then(|()| fs::rename(&aside, &path));
    written.and_then(|()| sync_folder(&path)).map_err(|error| from_io(&path, error))
}

/// Reads the snapshot that belongs to the database as it is now; none if there is none, or it is damaged or of another
/// version of the library: then it is taken away, and the index must be made anew.
///
/// # Errors
/// What is wrong with the database.
pub(crate) fn read(file: &File) -> Result<Option<HybridIndex>> {
    let path = beside(file.path(), ".index");
    let tokens = tokens(file)?;
    match read_index(&path, &tokens) {
        Ok(index) => Ok(index),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the index is made anew");
            remove(file.path());
            Ok(None)
        }
    }
}

/// Says in the snapshot that the database was just closed in order. Nothing is wrong if it is not said: then it is checked.
pub(crate) fn stamp(database: &Path) {
    let write = |stamp: Stamp| {
        let mut file = fs::OpenOptions::new().write(true).open(beside(database, ".index"))?;
        file.seek(SeekFrom::Start(STAMP as u64))?;
        file.write_all(&stamp)
    };
    if let Err(error) = stamp_of(database).and_then(write)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %database.display(), %error, "the database will be checked when it is opened next");
    }
}

/// Whether the database is as it was closed last, as far as size and time tell.
pub(crate) fn is_as_it_was_closed(database: &Path) -> bool {
    let mut head = [0; STAMP + size_of::<Stamp>()];
    let read = fs::File::open(beside(database, ".index")).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && stamp_of(database).is_ok_and(|stamp| head[STAMP..] == stamp)
}

fn stamp_of(database: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(database)?;
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let mut stamp = Stamp::default();
    stamp[..8].copy_from_slice(&metadata.len().to_le_bytes());
    stamp[8..16].copy_from_slice(&changed.as_secs().to_le_bytes());
    stamp[16..24].copy_from_slice(&u64::from(changed.subsec_nanos()).to_le_bytes());
    let checksum = xxh3_64(&stamp[..24]);
    stamp[24..].copy_from_slice(&checksum.to_le_bytes());
    Ok(stamp)
}

/// Takes the snapshot away, so that the index is made anew next time.
pub(crate) fn remove(database: &Path) {
    for ending in [".index", ".index.new"] {
        // One that stays is refused by its token, or is as good as any.
        let _ = fs::remove_file(beside(database, ending));
    }
}

/// The file beside a database whose name has this ending, too.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = database.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn write_synced(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

fn tokens(file: &File) -> Result<Vec<u8>> {
    let transaction = file.read()?;
    file.guarded(|| {
        let about = transaction.open_table(ABOUT).map_err(|error| file.error(error))?;
        let row = about.get(TOKENS).map_err(|error| file.error(error))?;
        Ok(row.map(|row| row.value().to_vec()).unwrap_or_default())
    })
}

fn read_index(path: &Path, tokens: &[u8]) -> Result<Option<HybridIndex>> {
    let failed = |error| from_io(path, error);
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut head = [0; STAMP + size_of::<Stamp>()];
    file.read_exact(&mut head).map_err(failed)?;
    let (magic, token) = head[..STAMP].split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(Error::new(ErrorKind::Corrupt, "it is of another format"));
    }
    if !tokens.as_chunks::<16>().0.iter().any(|known| known == token) {
        return Err(Error::new(ErrorKind::Corrupt, "it belongs to another state of the database"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    HybridIndex::from_bytes(&bytes).map(Some)
}
