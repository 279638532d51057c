#![doc = include_str!("../README.md")]

mod codec;
mod config;
mod error;
mod read;
mod schema;
mod search;
mod session;
mod store;
mod worker;
mod write;

pub use config::TursoConfig;
pub use store::TursoStore;
