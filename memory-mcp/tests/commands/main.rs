//! The commands, as people and scripts run them: the real program, real files.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod cache;
mod cleanup;
mod database;
mod doctor;
mod episodes;
mod knowledge;
mod peers;
mod place;
mod rebuild;
mod reembed;
mod scripts;
mod server;
mod settings;
#[path = "../../../memory-storage-turso/tests/common/sqld.rs"]
#[allow(dead_code, reason = "these tests use some of it")]
mod sqld;
mod statistics;
#[cfg(target_os = "linux")]
mod terminal;
mod token;
