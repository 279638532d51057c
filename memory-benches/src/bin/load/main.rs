//! Puts a store under the load that the goals speak of, and measures it beside what the disk and SQLite can do at best.
//!
//! ```sh
//! load record --episodes 10000 --writers 16 --store turso:m.db --json record.json
//! load record --episodes 10000 --writers 16 --store turso:d.db --sync-delay-ms 2
//! load import --episodes 10000 --store turso:i.db
//! load recall --episodes 10000 --store turso:r.db
//! load export --episodes 10000 corpus
//! ```
//!
//! What each figure means is told in the README of this crate.

mod acknowledge;
mod embedder;
mod export;
mod fill;
mod import;
mod limits;
mod lot;
mod openings;
mod raw_sqlite;
mod recall;
mod record;
mod report;
mod rounds;
mod subject;
mod syncs;
mod ways;
mod writers;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Puts a store under load and measures it beside what the disk and SQLite can do at best
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Records finished episodes, one call each, by some writers at the same time
    ///
    /// Example: load record --episodes 10000 --writers 16 --store turso:m.db --json record.json
    Record(record::Record),
    /// Finds ten episodes and reads them, by vector, by words, and by both
    ///
    /// Example: load recall --episodes 10000 --store turso:r.db --json recall.json
    Recall(recall::Recall),
    /// Imports many finished episodes in large commits
    ///
    /// Example: load import --episodes 10000 --store turso:i.db --json import.json
    Import(import::Import),
    /// Writes the episodes, their vectors, the queries and the right answers to files, for other programs
    ///
    /// Example: load export --episodes 10000 corpus
    Export(export::Export),
    /// Records one by one and says each that is acknowledged, to be killed
    #[command(hide = true)]
    Acknowledge(acknowledge::Acknowledge),
    /// Fills a store for `recall`, which calls it
    #[command(hide = true)]
    Fill(fill::Fill),
}

/// Arguments that do not fit together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadArgument {
    #[error(
        "invalid value '{episodes}' for '--episodes': allowed: {least} and more, one for each of {writers} writers in each of \
         {rounds} rounds"
    )]
    FewEpisodes { episodes: u32, writers: u32, rounds: u32, least: u64 },
}

impl BadArgument {
    /// Checks that every writer has something to do in every round.
    fn unless_enough(episodes: u32, writers: u32, rounds: u32) -> Result<(), Self> {
        let least = u64::from(writers) * u64::from(rounds);
        if u64::from(episodes) < least { Err(Self::FewEpisodes { episodes, writers, rounds, least }) } else { Ok(()) }
    }
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    if let Err(error) = command.check() {
        Arguments::command().error(ErrorKind::ValueValidation, error).exit();
    }
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn check(&self) -> Result<(), BadArgument> {
        match self {
            Self::Record(record) => record.check(),
            Self::Import(import) => import.check(),
            Self::Recall(_) | Self::Export(_) | Self::Acknowledge(_) | Self::Fill(_) => Ok(()),
        }
    }

    fn run(&self) -> Result<ExitCode, AnyError> {
        match self {
            Self::Record(record) => syncs::measured(record.delay(), |syncs| record.run(syncs)),
            Self::Import(import) => syncs::measured(Duration::ZERO, |syncs| import.run(syncs)),
            Self::Recall(recall) => recall.run().map(|()| ExitCode::SUCCESS),
            Self::Export(export) => export.run().map(|()| ExitCode::SUCCESS),
            Self::Acknowledge(acknowledge) => acknowledge.run().map(|()| ExitCode::SUCCESS),
            Self::Fill(fill) => fill.run().map(|()| ExitCode::SUCCESS),
        }
    }
}
