//! `knowhow serve`, over real sockets.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod abuse;
mod access;
mod busy;
mod client;
mod conformance;
mod ending;
mod fields;
mod inside;
#[path = "../clients/installed.rs"]
mod installed;
mod leaks;
mod monitoring;
mod observing;
mod rest;
mod server;
mod sessions;
