#![doc = include_str!("../README.md")]

mod at_once;
mod clocks;
mod corpus;
mod experienced;
mod flat;
mod kind;
mod progress;
mod store_choice;
mod trial;
mod truth;
mod workload;

pub use at_once::record_at_once;
pub use clocks::{CpuTime, by_cpu_time, by_wall_time};
pub use corpus::{Corpus, Form, Query};
pub use experienced::Experienced;
pub use flat::FlatScan;
pub use kind::{Kind, hybrid, search_and_get};
pub use progress::progress;
pub use store_choice::{NoStore, StoreChoice};
pub use trial::{Growth, Trial, quantile, resident};
pub use truth::Truth;
pub use workload::Workload;
