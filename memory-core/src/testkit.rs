//! What tests of stores, embedders, decorators and learning are made of.
//!
//! - [`contract`]: every promise of [`MemoryStore`](crate::MemoryStore) as a test; [`contract_tests!`](crate::contract_tests)
//!   runs them all over one store.
//! - [`embedder`]: the same for [`Embedder`](crate::Embedder), with
//!   [`embedder_contract_tests!`](crate::embedder_contract_tests).
//! - [`invariants`]: what must hold of learning whatever happens, as property tests; with
//!   [`invariant_tests!`](crate::invariant_tests).
//! - [`samples`]: records to store, from plain to awkward, and random episodes to learn from.
//! - [`extremes`]: records of every kind that are hard to keep, and whether a store has kept them.
//! - [`generated`]: records that look random and are the same every time, to compare stores by.
//! - [`kills`]: processes that are killed while they record, learn, or make their file.
//! - [`FaultyStore`] and [`FaultyEmbedder`]: fail, hold and count calls by a script.
//! - [`ManualClock`]: time that moves when it is told to.
//! - [`prompts`]: whether what was recalled stands in a prompt as it should, and nothing breaks out of its quotes.
//! - [`process`]: the same test in another process, to reopen what it stored or to be killed.
//!
//! Everything here panics when a test is to fail.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "to fail a test is to panic, which the module's documentation says once"
)]

mod clock;
pub mod contract;
pub mod embedder;
pub mod extremes;
mod faulty;
pub mod generated;
pub mod invariants;
pub mod kills;
pub mod process;
pub mod prompts;
pub mod samples;

pub use clock::ManualClock;
pub use faulty::{EmbedderFault, Fault, FaultyEmbedder, FaultyStore, Gate, Operation};
