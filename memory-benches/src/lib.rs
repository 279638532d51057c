//! What the benchmarks share: seeded episodes like those of real agents, a memory that holds many of them, CPU time.
//!
//! The benchmarks are in `benches/`; `scripts/bench` runs them and prints their medians.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

mod corpus;
mod cpu;
mod experienced;
mod flat;
mod workload;

pub use corpus::{Corpus, Form, Query};
pub use cpu::CpuTime;
pub use experienced::Experienced;
pub use flat::FlatScan;
pub use workload::Workload;
