//! The examples are the programs beside this folder: `cargo run --release --example quickstart`.

/// The program in the project's README, to see that it compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
