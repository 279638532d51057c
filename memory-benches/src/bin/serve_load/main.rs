//! Puts a server of `knowhow` under a steady load, and measures what its clients see.
//!
//! ```sh
//! cargo build --release -p knowhow-memory-mcp
//! serve-load recall --episodes 10000 --rate 1000 --seconds 60 --clients 64
//! serve-load record --rate 100 --seconds 600 --clients 16
//! serve-load overhead --calls 2000
//! ```
//!
//! The load is open: requests are due at even moments, whether those before them are answered or not, and a time is counted from the
//! moment a request was due. So a server that falls behind shows.

mod client;
mod overhead;
mod server;

mod steady;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Puts a server of knowhow under load and measures what its clients see
#[derive(Debug, Parser)]
#[command(name = "serve-load")]
struct Arguments {
    /// The binary
    #[arg(long, global = true, default_value = "target/release/knowhow", value_name = "PATH")]
    knowhow: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Recalls, over HTTP, from a memory of so many episodes
    Recall(steady::Recall),
    /// Records finished episodes, over HTTP, and counts what is there afterwards
    Record(steady::Record),
    /// What a call over stdin and stdout costs more than the same call in the library
    Overhead(overhead::Overhead),
}

fn main() -> ExitCode {
    let Arguments { knowhow, command } = Arguments::parse();
    let done = match command {
        Command::Recall(recall) => recall.run(&knowhow),
        Command::Record(record) => record.run(&knowhow),
        Command::Overhead(overhead) => overhead.run(&knowhow),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve-load: {error}");
            ExitCode::FAILURE
        }
    }
}
