//! The examples are the programs beside this folder: `cargo run --release --example quickstart`.
