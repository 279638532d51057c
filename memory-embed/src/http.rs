//! Models on servers.
//!
//! `config.rs` says how a server is reached, `server.rs` sends requests, `answer.rs` tells what an answer means; what differs
//! between servers is a [`Dialect`](dialect::Dialect) in a module of its own.

mod answer;
mod config;
mod dialect;
mod embedders;
mod ollama;
mod openai;
mod route;
mod server;

pub use config::{Secret, ServerConfig};
pub use embedders::{MlxEmbedder, OllamaEmbedder, OpenAiEmbedder, RouteEmbedder};
