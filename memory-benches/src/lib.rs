//! What the benchmarks share: seeded episodes like those of real agents, a memory that holds many of them, CPU time.
//!
//! *Learning* is measured in CPU time (`benches/learning.rs`, `benches/heuristics.rs`) over a [`Workload`], whose episodes repeat
//! behaviour as those of agents do. *Recall* is measured in wall time over a [`Corpus`], whose words and vectors lie in
//! clusters: `benches/recall.rs` with Criterion, and the program `recall-table` with all figures in one run. Beside each time
//! stands recall@10, and the time of a plain scan of the same vectors in the same run: absolute times differ by more than
//! twice between a quiet and a disturbed minute of the same machine, their ratio hardly.
//!
//! ```sh
//! scripts/bench                                               # all benchmarks and their medians
//! RECALL_MILLION=1 scripts/bench recall/1000000               # the largest, which takes minutes
//! cargo run --release -p knowhow-memory-benches --bin recall-table -- --million --svg recall.svg --json recall.json
//! ```
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

mod corpus;
mod cpu;
mod experienced;
mod flat;
mod kind;
mod trial;
mod truth;
mod workload;

pub use corpus::{Corpus, Form, Query};
pub use cpu::CpuTime;
pub use experienced::Experienced;
pub use flat::FlatScan;
pub use kind::{Kind, search_and_get};
pub use trial::{Growth, Trial, quantile, resident};
pub use truth::Truth;
pub use workload::Workload;
