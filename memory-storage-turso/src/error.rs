//! The one place that knows foreign errors.

use std::fmt::Display;
use std::path::Path;
#[cfg(feature = "remote")]
use std::time::Duration;

#[cfg(feature = "remote")]
use chrono::{DateTime, Utc};
use memory_core::{Error, ErrorKind, Key, VectorSpace};

#[cfg(feature = "remote")]
use crate::remote::{program::told, protocol::Failure};

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

/// SQLite's primary result codes, by the names that servers give them.
#[cfg(feature = "remote")]
fn code(name: &str) -> Option<i32> {
    Some(match name {
        "SQLITE_ERROR" | "SQLITE_UNKNOWN" | "SQL_INPUT_ERROR" => 1,
        "SQLITE_PERM" => 3,
        "SQLITE_BUSY" => 5,
        "SQLITE_LOCKED" => 6,
        "SQLITE_READONLY" => 8,
        "SQLITE_IOERR" => 10,
        "SQLITE_CORRUPT" => 11,
        "SQLITE_FULL" => 13,
        "SQLITE_TOOBIG" => 18,
        "SQLITE_CONSTRAINT" => 19,
        "SQLITE_NOTADB" => 26,
        _ => return None,
    })
}

/// The error for what a server says of a statement. One of its own codes: <https://github.com/tursodatabase/libsql/tree/main/libsql-server>.
#[cfg(feature = "remote")]
pub(crate) fn from_failure(address: &Path, failure: &Failure) -> Error {
    let Failure { message, code: name } = failure;
    if let Some(told) = told(failure) {
        return Error::new(ErrorKind::Conflict, format!("{}: {told}", address.display()));
    }
    let (kind, temporary) = match (name.as_str(), code(name)) {
        (_, Some(code)) => (kind(code, message), matches!(code, 5 | 6)),
        // Another one that writes took the lock from a transaction that had held it for five seconds.
        ("TRANSACTION_TIMEOUT" | "TRANSACTION_BUSY", None) => (ErrorKind::Busy, true),
        ("ARGS_INVALID", None) if message.contains("too big") => (ErrorKind::Invalid, false),
        ("BLOCKED", None) => (ErrorKind::ReadOnly, false),
        // The stream is gone, with what was not kept.
        ("STREAM_EXPIRED" | "", None) => (ErrorKind::Unavailable, true),
        _ if name.starts_with("AUTH") => (ErrorKind::Unavailable, false),
        _ => (ErrorKind::Io, false),
    };
    let message = if message.is_empty() { "no answer to a statement" } else { message };
    Error::new(kind, format!("{}: {message} ({name})", address.display())).with_temporary(temporary)
}

/// The error for an answer other than 200 of a server, with what its header `Retry-After` asks for.
#[cfg(feature = "remote")]
pub(crate) fn from_status(address: &Path, status: u16, message: &str, retry_after: Option<Duration>) -> Error {
    let (kind, temporary) = match status {
        // A stream that the server does not know any more: it was started anew, or the stream was idle too long.
        400 if message.contains("baton") || message.contains("STREAM_EXPIRED") => (ErrorKind::Unavailable, true),
        // A token that only lets read.
        403 if message.contains("Write permission") => (ErrorKind::ReadOnly, false),
        401 | 403 | 404 => (ErrorKind::Unavailable, false),
        413 => (ErrorKind::Invalid, false),
        429 => (ErrorKind::RateLimited, true),
        500 if message.contains("could not be parsed") => (ErrorKind::Io, false),
        408 | 500.. => (ErrorKind::Unavailable, true),
        _ => (ErrorKind::Io, false),
    };
    let refused = if status == 401 { "the server refuses the token, or asks for one: " } else { "" };
    let message = format!("{}: {refused}HTTP status {status}: {}", address.display(), message.trim());
    let error = Error::new(kind, message).with_temporary(temporary);
    retry_after.filter(|_| temporary).into_iter().fold(error, Error::with_retry_after)
}

/// What a header `Retry-After` asks for: seconds, or until a date (RFC 9110, 10.2.3); `None` if it cannot be read.
#[cfg(feature = "remote")]
pub(crate) fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    header.parse().map(Duration::from_secs).ok().or_else(|| {
        let until = DateTime::parse_from_rfc2822(header).ok()?;
        Some((until.to_utc() - now).to_std().unwrap_or_default())
    })
}

/// The error for a request that did not get through, or whose answer did not.
#[cfg(feature = "remote")]
pub(crate) fn from_ureq(address: &Path, error: ureq::Error) -> Error {
    let (kind, temporary) = match &error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => (ErrorKind::Invalid, false),
        ureq::Error::Tls(_) | ureq::Error::TlsRequired => (ErrorKind::Unavailable, false),
        _ => (ErrorKind::Unavailable, true),
    };
    Error::new(kind, format!("{}: {error}", address.display())).with_temporary(temporary).with_source(error)
}

/// The error for an answer that broke off, or is none.
#[cfg(feature = "remote")]
pub(crate) fn unreadable(address: &Path, error: impl Display) -> Error {
    let message = format!("{}: the answer cannot be read: {error}", address.display());
    Error::new(ErrorKind::Unavailable, message).with_temporary(true)
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

/// The error of a store whose vectors were replaced by those of another space since it was opened.
pub(crate) fn moved(from: &VectorSpace, to: &VectorSpace) -> Error {
    let message = format!("the store was moved from {from} to {to} after it was opened here: open it again");
    Error::new(ErrorKind::SpaceMismatch, message)
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

#[cfg(all(test, feature = "remote"))]
mod tests {
    use super::*;

    /// Texts of sqld 0.24.32.
    #[test]
    fn failures_of_a_server_are_told_apart() {
        use ErrorKind::{Busy, Conflict, Corrupt, Full, Invalid, Io, SchemaEdited, Unavailable};
        for (message, code, kind, temporary) in [
            ("SQLite error: UNIQUE constraint failed: t.a", "SQLITE_CONSTRAINT", Corrupt, false),
            ("SQLite error: database is locked", "SQLITE_BUSY", Busy, true),
            ("SQLite error: database or disk is full", "SQLITE_FULL", Full, false),
            ("SQLite error: string or blob too big", "SQLITE_TOOBIG", Invalid, false),
            ("Arguments do not match SQL parameters: string or blob too big", "ARGS_INVALID", Invalid, false),
            ("SQLite error: no such table: nix", "SQLITE_UNKNOWN", SchemaEdited, false),
            ("SQL input error: no such column: nix (at offset 7)", "SQL_INPUT_ERROR", SchemaEdited, false),
            ("SQLite error: malformed JSON", "SQLITE_UNKNOWN", Corrupt, false),
            ("SQLite error: bad JSON path: 'knowhow: 17'", "SQLITE_UNKNOWN", Conflict, false),
            ("Transaction timed out", "TRANSACTION_TIMEOUT", Busy, true),
            ("The stream has expired due to inactivity", "STREAM_EXPIRED", Unavailable, true),
            ("SQL string could not be parsed: syntax error around L1:6: `selec`", "SQL_PARSE_ERROR", Io, false),
            ("Operation was blocked", "BLOCKED", ErrorKind::ReadOnly, false),
        ] {
            let failure = Failure { message: message.to_owned(), code: code.to_owned() };
            let error = from_failure(Path::new("http://host"), &failure);
            assert_eq!((error.kind(), error.is_temporary()), (kind, temporary), "{message}");
            assert!(error.to_string().contains("http://host"), "{error}");
        }
        for (status, message, kind, temporary) in [
            (400, "Received an invalid baton", Unavailable, true),
            (
                400,
                r#"{"message":"The stream has expired due to inactivity","code":"STREAM_EXPIRED"}"#,
                Unavailable,
                true,
            ),
            (400, "Cannot deserialize client message from JSON", Io, false),
            (401, r#"{"error":"Unauthorized: `The JWT has expired`"}"#, Unavailable, false),
            (
                403,
                r#"{"error":"Authorization forbidden: Current session doesn't not have Write permission to namespace default"}"#,
                ErrorKind::ReadOnly,
                false,
            ),
            (404, "", Unavailable, false),
            (429, "", ErrorKind::RateLimited, true),
            (500, r#"{"error":"Internal Error: `SQL string could not be parsed: …`"}"#, Io, false),
            (503, "", Unavailable, true),
        ] {
            let error = from_status(Path::new("http://host"), status, message, None);
            assert_eq!((error.kind(), error.is_temporary()), (kind, temporary), "{status} {message}");
        }
    }

    #[test]
    fn when_to_try_again_is_read_in_seconds_or_as_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-11-26T08:49:00Z").unwrap().to_utc();
        for (header, pause) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Thu, 26 Nov 2026 08:49:37 GMT", Some(37)),
            ("Thu, 26 Nov 2026 08:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Thu, 26 Nov 2026", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(retry_after(header, now), pause.map(Duration::from_secs), "{header:?}");
        }
    }

    #[test]
    fn a_hint_stays_with_what_may_pass_and_with_its_copy() {
        let hint = Some(Duration::from_secs(7));
        for (status, told) in [(429, hint), (503, hint), (404, None)] {
            let error = from_status(Path::new("http://host"), status, "", hint);
            assert_eq!(error.retry_after(), told, "{status}");
            let copy = error.again();
            assert_eq!((copy.retry_after(), copy.to_string()), (told, error.to_string()));
            assert_eq!((copy.kind(), copy.is_temporary()), (error.kind(), error.is_temporary()));
        }
    }
}
