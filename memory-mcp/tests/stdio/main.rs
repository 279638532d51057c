//! `knowhow mcp`, as a client sees it that speaks plain JSON-RPC over the child's stdin and stdout.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod crashes;
mod malformed;
mod redaction;
mod sharing;
mod tools;
