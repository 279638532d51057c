#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod codec;
mod config;
mod encryption;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod indexing;
mod learned;
mod maintenance;
mod read;
#[cfg(feature = "remote")]
mod remote;
mod replace_vectors;
#[cfg(feature = "replica")]
mod replica;
mod schema;
mod search;
mod session;
mod stats;
mod store;
mod tenants;
mod upkeep;
mod worker;
mod write;

pub use config::TursoConfig;
#[cfg(feature = "encryption")]
pub use encryption::EncryptionKey;
pub use maintenance::{Backup, Vacuumed};
#[cfg(feature = "remote")]
pub use remote::{RemoteConfig, TokenSource};
pub use replace_vectors::Replaced;
#[cfg(feature = "replica")]
pub use replica::{ReplicaConfig, SyncStatus};
pub use schema::MigrationPlan;
pub use stats::TursoStats;
pub use store::TursoStore;
pub use tenants::{TenantFolder, TenantPlace, TenantStats, TenantStore, Tenants};
