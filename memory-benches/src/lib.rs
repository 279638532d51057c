#![doc = include_str!("../README.md")]
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
