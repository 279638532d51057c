//! What must hold whatever the input: a function for each target, which panics where it does not. `scripts/fuzz` runs them
//! under libFuzzer, and the tests run what is in the corpus.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "to fail is to panic")]

mod codec;
mod configuration;
mod import;
mod mcp;
mod prompt;
mod records;
mod redaction;
mod search;

use tokio::runtime::{Builder, Runtime};

/// A name, and what runs an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("codec", codec::run),
    ("configuration", configuration::run),
    ("import", import::run),
    ("mcp", mcp::run),
    ("prompt", prompt::run),
    ("records", records::run),
    ("redaction", redaction::run),
    ("search", search::run),
];

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
