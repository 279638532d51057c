//! The hot cache.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bounds;
mod coherence;
mod common;
mod contract;
mod damage;
mod failures;
mod files;
