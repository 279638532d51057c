#![doc = include_str!("../README.md")]

mod codec;
mod config;
mod error;
mod indexing;
mod learned;
mod maintenance;
mod read;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "replica")]
mod replica;
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
#[cfg(feature = "remote")]
pub use remote::{RemoteConfig, TokenSource};
#[cfg(feature = "replica")]
pub use replica::{ReplicaConfig, SyncStatus};
pub use schema::MigrationPlan;
pub use stats::TursoStats;
pub use store::TursoStore;
