//! The store over a libSQL server, and over a local copy of its database.
#![cfg(feature = "remote")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
mod remote;
mod remote_contract;
#[cfg(feature = "replica")]
mod replica;
#[cfg(feature = "replica")]
mod replica_contract;
