#![doc = include_str!("../README.md")]

mod codec;
mod config;
mod error;
mod indexing;
mod learned;
mod maintenance;
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
pub use maintenance::{Backup, Vacuumed};
pub use schema::MigrationPlan;
pub use stats::TursoStats;
pub use store::TursoStore;
