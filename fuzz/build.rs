//! Does nothing: `Cargo.toml` says why it is here.

fn main() {}
