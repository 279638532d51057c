#![doc = include_str!("../README.md")]

mod codec;
mod config;
mod error;
mod indexing;
mod learned;
mod read;
mod schema;
mod search;
mod session;
mod stats;
mod store;
mod upkeep;
mod worker;
mod write;

pub use config::TursoConfig;
pub use stats::TursoStats;
pub use store::TursoStore;
