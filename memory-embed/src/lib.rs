#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod asking;
mod batching;
mod cached;
#[cfg(any(feature = "http", feature = "local", feature = "process"))]
mod client;
mod fallback;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "local")]
mod local;
#[cfg(any(feature = "http", feature = "local", feature = "process"))]
mod model;
#[cfg(any(feature = "http", feature = "local", feature = "process"))]
mod pieces;
#[cfg(feature = "process")]
mod process;

pub use batching::{BatchingConfig, BatchingEmbedder, BatchingStats};
pub use cached::{CacheConfig, CacheStats, CachedEmbedder};
pub use fallback::{Fallback, FallbackConfig, FallbackMember, FallbackStats};
#[cfg(feature = "http")]
pub use http::{MlxEmbedder, OllamaEmbedder, OpenAiEmbedder, RouteEmbedder, Secret, ServerConfig};
#[cfg(feature = "local")]
pub use local::LocalEmbedder;
#[cfg(any(feature = "http", feature = "local", feature = "process"))]
pub use model::{Model, TooLong};
#[cfg(feature = "process")]
pub use process::ProcessConfig;
