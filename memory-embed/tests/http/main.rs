//! Embedders of servers against a peer on loopback: real sockets, no model.
#![cfg(feature = "http")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod chaos;
mod contract;
mod dialect;
mod failures;
mod ollama;
mod openai;
mod peer;
mod route;
mod server;
