//! The one place that knows foreign errors.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use memory_core::{Error, ErrorKind, Result};

/// The error for what redb reports about the database at this path.
pub(crate) fn from_redb(path: &Path, error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    if let redb::Error::Io(error) = error {
        return from_io(path, error);
    }
    let kind = match &error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => ErrorKind::Busy,
        redb::Error::Corrupted(_) | redb::Error::LockPoisoned(_) | redb::Error::TransactionPoisoned => {
            ErrorKind::Corrupt
        }
        redb::Error::ValueTooLarge(_) => ErrorKind::Invalid,
        redb::Error::DatabaseClosed => ErrorKind::Unavailable,
        redb::Error::UpgradeRequired(_) => ErrorKind::Foreign,
        redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableIsNotMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableDoesNotExist(_) => ErrorKind::SchemaEdited,
        _ => ErrorKind::Io,
    };
    let path = path.display();
    let message = match kind {
        ErrorKind::Busy => format!("{path} is open in another process, or by another store of this one"),
        _ => format!("{path}: {error}"),
    };
    Error::new(kind, message).with_source(error)
}

/// The error for a failure of the file system at this path.
pub(crate) fn from_io(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => ErrorKind::ReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => ErrorKind::Full,
        io::ErrorKind::InvalidInput => ErrorKind::Invalid,
        // What redb says of bytes that are not its own.
        io::ErrorKind::InvalidData => ErrorKind::Foreign,
        // A page lies behind the end of the file.
        io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("{}: {error}", path.display())).with_source(error)
}

/// Runs what reads or writes the database at this path. redb panics where it meets bytes that it has not written: that is
/// damage, and told as such. Everything is usable afterwards: redb ends what the panic broke off, and poisons what it must.
pub(crate) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let message = format!("{}: redb panicked: {}", path.display(), text_of(&*payload));
        Err(Error::new(ErrorKind::Corrupt, message))
    })
}

/// What a panic says.
fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The error of every call after the end of the store.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store is closed")
}
