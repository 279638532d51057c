//! The store over a libSQL server.
//!
//! libSQL's own client for Rust needs two requests for each query and takes no parameters in batches, so that this speaks the
//! server's protocol itself ([`protocol`]): every value is a parameter, a commit of many batches is one request, failures come with
//! their codes, and each request has a timeout.

pub(crate) mod commit;
mod config;
pub(crate) mod link;
pub(crate) mod program;
pub(crate) mod protocol;
pub(crate) mod server;

pub use config::{RemoteConfig, TokenSource};
