//! The one place that knows foreign errors.

use std::fmt::Display;
use std::path::Path;

use memory_core::{Error, ErrorKind, Key};

/// The error for what libSQL reports about the database at this path.
pub(crate) fn from_libsql(path: &Path, error: libsql::Error) -> Error {
    let (kind, code) = match &error {
        libsql::Error::SqliteFailure(code, message) => (kind(*code, message), Some(*code)),
        libsql::Error::ConnectionFailed(message) => connection_failed(message),
        _ => (ErrorKind::Io, None),
    };
    let code = code.map(|code| format!(" (SQLite code {code})")).unwrap_or_default();
    Error::new(kind, format!("{}: {error}{code}", path.display())).with_source(error)
}

/// SQLite's result codes: <https://www.sqlite.org/rescode.html>. The low byte of an extended code is its primary code.
fn kind(code: i32, message: &str) -> ErrorKind {
    match code & 0xFF {
        1 if message.contains("malformed JSON") => ErrorKind::Corrupt,
        1 if message.contains("no such") => ErrorKind::SchemaEdited,
        5 | 6 => ErrorKind::Busy,
        3 | 8 => ErrorKind::ReadOnly,
        11 | 19 => ErrorKind::Corrupt,
        13 => ErrorKind::Full,
        18 => ErrorKind::Invalid,
        26 => ErrorKind::Foreign,
        _ => ErrorKind::Io,
    }
}

/// A connection that cannot be opened tells its code only at the end of its message.
fn connection_failed(message: &str) -> (ErrorKind, Option<i32>) {
    let code = message.rsplit(' ').next().and_then(|code| code.parse().ok());
    (code.map_or(ErrorKind::Io, |code| kind(code, message)), code)
}

/// The error for a failure of the file system at this path.
pub(crate) fn from_io(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => ErrorKind::ReadOnly,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        std::io::ErrorKind::InvalidInput => ErrorKind::Invalid,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("{}: {error}", path.display())).with_source(error)
}

/// The error for a value that no version of this library writes into this column.
pub(crate) fn corrupt_column(table: &str, column: &str, found: impl Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{table}.{column} holds {found}"))
}

/// The error for a record whose stored text is not what was written.
pub(crate) fn corrupt_record(key: &Key, error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the stored {key:?} does not decode: {error}")).with_source(error)
}

/// The error of every call after the end of the store.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store is closed")
}

/// The error of a request that panicked.
pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Error {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Error::new(ErrorKind::Io, format!("the request panicked: {text}"))
}
