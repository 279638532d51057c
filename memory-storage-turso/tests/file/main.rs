//! The store over a database file.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod behaviour;
#[path = "../common/mod.rs"]
mod common;
mod contract;
mod crash;
mod like_in_memory;
mod maintenance;
mod odd_files;
mod processes;
mod reembed;
mod sharing;
