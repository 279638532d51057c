//! Embedders around embedders. Time is paused: it moves when nothing else does.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod batching;
mod cached;
mod contract;
mod counting;
mod fallback;
