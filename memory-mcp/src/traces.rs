//! Spans of requests and calls, for an OpenTelemetry collector: with feature `otel`, else they stay in the log.
//!
//! What is exported is what the spans have: names of operations, paths and scopes, ids, durations and kinds of errors. Events are
//! not: a message may quote what a server said, and that what it was sent.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod export;
#[cfg(feature = "otel")]
mod trace;

#[cfg(not(feature = "otel"))]
pub use absent::{Endpoint, Export};
#[cfg(feature = "otel")]
pub use export::{Endpoint, Export};

#[cfg(not(feature = "otel"))]
pub(crate) use absent::{Trace, continue_from, fail, tell};
#[cfg(feature = "otel")]
pub(crate) use trace::{Trace, continue_from, fail, tell};

/// Whether there is an export.
pub const CAN_BE_EXPORTED: bool = cfg!(feature = "otel");

/// What a span of a request is to a collector; in a log it says nothing.
pub(crate) const SERVER: Option<&str> = if cfg!(feature = "otel") { Some("server") } else { None };
