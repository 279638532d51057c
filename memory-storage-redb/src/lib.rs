#![doc = include_str!("../README.md")]

mod cache;
mod codec;
mod error;
mod file;
mod index_file;
mod searching;

pub use cache::{CacheConfig, CacheMode, CacheStats, HotCache, WarmUp};
