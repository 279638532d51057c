#![doc = include_str!("../README.md")]

mod cache;
mod codec;
mod config;
mod error;
mod file;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod index_file;
mod read;
mod searching;
mod store;
mod tables;
mod worker;
mod write;
mod writer;

pub use cache::{CacheConfig, CacheMode, CacheStats, HotCache, WarmUp};
pub use config::{Check, RedbConfig};
pub use store::RedbStore;
