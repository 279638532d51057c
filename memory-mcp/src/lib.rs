#![doc = include_str!("../README.md")]

pub mod approvals;
pub mod config;
pub mod health;
mod hex;
pub mod http;
pub mod mcp;
pub mod metrics;
pub mod open;
mod open_episodes;
pub mod operations;
pub mod redact;
mod schema;
pub mod service;
pub mod traces;
