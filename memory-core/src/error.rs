//! The one error type of the workspace.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The result of every fallible call of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms a program can act on.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A value is outside its allowed range; the message names field, value and range.
    Invalid,
    /// The record asked for is not there (or belongs to another scope).
    NotFound,
    /// A different record with the same id is already there.
    AlreadyExists,
    /// The episode is complete: it takes no more steps and no second outcome.
    EpisodeClosed,
    /// Another holder has the open episode; the message says until when. Temporary: leases end.
    Held,
    /// The handle has lost its episode: the lease ran out or was given up, and another holder may have taken it. What the
    /// handle has not written is not written; resume the episode to go on.
    LeaseLost,
    /// A condition of the batch does not hold; nothing was written. Read again, then decide.
    Conflict,
    /// The store holds vectors of another [`VectorSpace`](crate::VectorSpace).
    SpaceMismatch,
    /// The file is a database, but not one of this library (or no database at all); or what is imported is no export.
    Foreign,
    /// Stored bytes are not what was written.
    Corrupt,
    /// The store, or the export, was written by a newer version of the library.
    SchemaTooNew,
    /// The tables of the store are not the ones its migrations made.
    SchemaEdited,
    /// The store cannot be written: a read-only file, folder or connection.
    ReadOnly,
    /// No space left: the disk or the configured size of the store is used up.
    Full,
    /// A scope holds as much as it may; the message names scope, what is counted and the quota.
    QuotaExceeded,
    /// Another process holds the store for longer than the busy timeout.
    Busy,
    /// More is asked at once than is taken; nothing was done. Temporary: ask again when less is under way.
    Overloaded,
    /// More is asked in a span of time than is allowed; nothing was done. Temporary: [`retry_after`](Error::retry_after) says
    /// when to ask again, where that is known.
    RateLimited,
    /// It took longer than it may, and was given up; of a write nobody knows whether it was done. Temporary.
    TimedOut,
    /// The store or embedder cannot be reached, or was closed.
    Unavailable,
    /// An input/output failure of another kind.
    Io,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "invalid value",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::EpisodeClosed => "episode is closed",
            Self::Held => "held by another",
            Self::LeaseLost => "lease lost",
            Self::Conflict => "conflict",
            Self::SpaceMismatch => "other vector space",
            Self::Foreign => "not of this library",
            Self::Corrupt => "corrupt data",
            Self::SchemaTooNew => "schema is too new",
            Self::SchemaEdited => "schema was edited",
            Self::ReadOnly => "read only",
            Self::Full => "storage is full",
            Self::QuotaExceeded => "quota exceeded",
            Self::Busy => "busy",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate limited",
            Self::TimedOut => "timed out",
            Self::Unavailable => "unavailable",
            Self::Io => "input/output error",
        })
    }
}

/// An opaque error: a [`kind`](Self::kind), a message for people, the operation that failed, and the cause.
///
/// One pointer wide, so that a `Result` stays small.
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{}{kind}: {message}", operation.map(|operation| format!("{operation}: ")).unwrap_or_default())]
struct Inner {
    kind: ErrorKind,
    status: Status,
    retry_after: Option<Duration>,
    operation: Option<&'static str>,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Whether the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Permanent,
    Temporary,
    /// It might, but has been tried as often as was allowed.
    Persistent,
}

impl Error {
    /// An error of `kind` with a message that says what was wrong. Only [`ErrorKind::Busy`], [`ErrorKind::Overloaded`],
    /// [`ErrorKind::RateLimited`], [`ErrorKind::TimedOut`] and [`ErrorKind::Held`] start as temporary.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        use ErrorKind::{Busy, Held, Overloaded, RateLimited, TimedOut};
        let temporary = matches!(kind, Busy | Overloaded | RateLimited | TimedOut | Held);
        Self(Box::new(Inner {
            kind,
            status: if temporary { Status::Temporary } else { Status::Permanent },
            retry_after: None,
            operation: None,
            message: message.into(),
            source: None,
        }))
    }

    /// The error for a value outside its range: `field` is `value`, allowed is `range`.
    pub fn invalid(field: &str, value: impl fmt::Display, range: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Invalid, format!("{field} is {value}; allowed: {range}"))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Names the operation that failed; the innermost name stays.
    #[must_use]
    pub fn in_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Adds what else is to be known to the message.
    #[must_use]
    pub fn adding(mut self, more: impl fmt::Display) -> Self {
        self.0.message = format!("{}; {more}", self.0.message);
        self
    }

    /// Says where it was in front of the message.
    #[must_use]
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }

    /// Says whether the same call may succeed later without any change.
    #[must_use]
    pub fn with_temporary(mut self, temporary: bool) -> Self {
        self.0.status = if temporary { Status::Temporary } else { Status::Permanent };
        self
    }

    /// Says that a temporary error has been tried as often as was allowed, so that whoever gets it does not begin anew. It is
    /// no longer temporary then. Other errors stay as they are.
    #[must_use]
    pub fn into_persistent(mut self) -> Self {
        if self.0.status == Status::Temporary {
            self.0.status = Status::Persistent;
        }
        self
    }

    /// Says how long to wait before the same call may succeed.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Duration) -> Self {
        self.0.retry_after = Some(pause);
        self
    }

    /// The same error, without its cause, for another caller that waited for the same thing.
    #[must_use]
    pub fn again(&self) -> Self {
        let Inner { kind, status, retry_after, operation, ref message, source: _ } = *self.0;
        Self(Box::new(Inner { kind, status, retry_after, operation, message: message.clone(), source: None }))
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_temporary(&self) -> bool {
        self.0.status == Status::Temporary
    }

    /// Whether the same call might succeed later, but somebody has tried again already, and given up.
    pub fn is_persistent(&self) -> bool {
        self.0.status == Status::Persistent
    }

    /// How long to wait before the same call may succeed, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether a condition of a batch did not hold.
    pub fn is_conflict(&self) -> bool {
        self.0.kind == ErrorKind::Conflict
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn says_operation_kind_field_value_and_range() {
        let error = Error::invalid("k", 0, "1..=100").in_operation("recall").in_operation("outer");
        assert_eq!(error.to_string(), "recall: invalid value: k is 0; allowed: 1..=100");
        assert!(!error.is_temporary());
        assert!(StdError::source(&error).is_none());
        let cause = Error::new(ErrorKind::Io, "the cause");
        let error = Error::new(ErrorKind::Corrupt, "the effect").with_source(cause);
        assert_eq!(StdError::source(&error).map(ToString::to_string).as_deref(), Some("input/output error: the cause"));
        assert!(Error::new(ErrorKind::Busy, "locked").is_temporary());
        assert!(Error::new(ErrorKind::Held, "until noon").is_temporary());
    }

    #[test]
    fn says_whether_and_when_to_try_again() {
        let limited = Error::new(ErrorKind::RateLimited, "10 a second").with_retry_after(Duration::from_millis(80));
        assert!(limited.is_temporary() && !limited.is_persistent());
        assert_eq!(limited.retry_after(), Some(Duration::from_millis(80)));
        let again = limited.again();
        assert_eq!((again.to_string(), again.is_temporary()), (limited.to_string(), true));
        assert_eq!(again.retry_after(), limited.retry_after());
        let given_up = limited.into_persistent();
        assert!(given_up.is_persistent() && !given_up.is_temporary());
        assert!(!Error::invalid("k", 0, "1..=100").into_persistent().is_persistent());
    }
}
