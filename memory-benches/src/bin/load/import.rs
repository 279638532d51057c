//! `load import`: many finished episodes at once, in large commits.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use memory_benches::{Corpus, StoreChoice, progress};
use memory_core::{Batch, Key, LoggedEpisode, Memory, MemoryStore, Record};
use serde::Serialize;

use crate::lot::Lot;
use crate::report::{Versions, line, median, rate, shown, write_json};
use crate::rounds::{Rounds, Sizes, Turn, sample, shares};
use crate::syncs::Syncs;
use crate::{AnyError, BadArgument};

/// Rows that SQLite inserts together.
const RAW_ROWS: usize = 50;

/// What to import, and how.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// How many episodes are imported, in all rounds together
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    episodes: u32,
    /// Where: memory, turso:PATH or redb:PATH; the file must be new
    #[arg(long)]
    store: StoreChoice,
    /// How many episodes are committed together
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// In how many rounds: a share of the episodes, then the limit
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// What the episodes are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write all figures
    #[arg(long)]
    json: Option<PathBuf>,
}

/// All figures of a run. Rates of the memory are those of all rounds together; the limit is the median of the rounds.
#[derive(Serialize)]
struct Report {
    command: &'static str,
    store: String,
    episodes: u32,
    batch: u32,
    rounds: u32,
    seed: u64,
    dimensions: usize,
    versions: Versions,
    /// Until the last commit.
    committed_per_s: f64,
    /// Until all is indexed, learned and closed.
    imported_per_s: f64,
    /// Bare rows, 50 a transaction.
    raw_sqlite_per_s: f64,
    ratio_to_raw_sqlite: f64,
    /// The median of the ratios within each round.
    ratio_to_raw_sqlite_by_round: f64,
    /// Until all is indexed, learned and closed.
    syncs_per_record: Option<f64>,
    #[serde(flatten)]
    sizes: Sizes,
    rss_mb: Option<f64>,
    /// The imported episodes a second in the last round, divided by those in the first.
    first_to_last_rate: f64,
    by_round: Vec<Round>,
}

/// The figures of a round.
#[derive(Serialize)]
struct Round {
    records: u32,
    stored_before: u32,
    committed_s: f64,
    committed_per_s: f64,
    imported_s: f64,
    imported_per_s: f64,
    syncs: Option<u64>,
    raw_sqlite_per_s: f64,
    ratio_to_raw_sqlite: f64,
}

impl Round {
    fn new(stored_before: u32, records: u32, turn: &Turn<()>, raw_sqlite_per_s: f64) -> Self {
        let imported_per_s = rate(records, turn.sustained.time);
        Self {
            records,
            stored_before,
            committed_s: turn.acked.time.as_secs_f64(),
            committed_per_s: rate(records, turn.acked.time),
            imported_s: turn.sustained.time.as_secs_f64(),
            imported_per_s,
            syncs: turn.sustained.syncs,
            raw_sqlite_per_s,
            ratio_to_raw_sqlite: imported_per_s / raw_sqlite_per_s,
        }
    }
}

impl Import {
    /// Checks what no argument tells alone.
    pub(crate) fn check(&self) -> Result<(), BadArgument> {
        BadArgument::unless_enough(self.episodes, 1, self.rounds)
    }

    pub(crate) fn run(&self, syncs: &Syncs) -> Result<(), AnyError> {
        let mut rounds = Rounds::new(&self.store, self.seed, syncs)?;
        let bar = progress("importing", self.episodes);
        let mut by_round = Vec::new();
        for places in shares(self.episodes, self.rounds) {
            let (stored_before, records) = (places.start, u32::try_from(places.len())?);
            let lot = Lot::new(&rounds.corpus, places);
            let samples = lot.samples()?;
            let turn = rounds.turn(lot, async |memory, lot| {
                let took = import(memory, lot.episodes, self.batch, |count| bar.inc(count)).await?;
                Ok((took, ()))
            })?;
            let raw = rounds.raw.insert(&samples, sample(usize::try_from(records)?), RAW_ROWS)?;
            by_round.push(Round::new(stored_before, records, &turn, raw));
        }
        bar.finish_and_clear();
        let report = self.report(&rounds, by_round)?;
        report.print(&mut io::stdout().lock())?;
        write_json(self.json.as_deref(), &report)
    }

    fn report(&self, rounds: &Rounds<'_>, by_round: Vec<Round>) -> Result<Report, AnyError> {
        let totals = rounds.totals();
        let mid = |of: fn(&Round) -> f64| median(by_round.iter().map(of));
        let imported_per_s = rate(totals.records, totals.sustained.time);
        let raw_sqlite_per_s = mid(|round| round.raw_sqlite_per_s);
        let at = |round: Option<&Round>| round.map_or(f64::NAN, |round| round.imported_per_s);
        Ok(Report {
            command: "import",
            store: self.store.to_string(),
            episodes: self.episodes,
            batch: self.batch,
            rounds: self.rounds,
            seed: self.seed,
            dimensions: Corpus::DIMENSIONS,
            versions: Versions::new(Some(rounds.raw.version()?)),
            committed_per_s: rate(totals.records, totals.acked.time),
            imported_per_s,
            raw_sqlite_per_s,
            ratio_to_raw_sqlite: imported_per_s / raw_sqlite_per_s,
            ratio_to_raw_sqlite_by_round: mid(|round| round.ratio_to_raw_sqlite),
            syncs_per_record: totals.sustained.syncs_per_record(totals.records),
            sizes: rounds.sizes()?,
            rss_mb: totals.resident_mb,
            first_to_last_rate: at(by_round.last()) / at(by_round.first()),
            by_round,
        })
    }
}

/// Commits these episodes, so many together, one batch after the other; `advance` is called with how many there were. Says how
/// long that took.
pub(crate) async fn import(
    memory: &Memory,
    episodes: Vec<LoggedEpisode>,
    batch: u32,
    advance: impl Fn(u64),
) -> Result<Duration, AnyError> {
    let start = Instant::now();
    for episodes in episodes.chunks(usize::try_from(batch)?) {
        let batch = episodes.iter().fold(Batch::new(), |batch, logged| {
            batch.require_absent(Key::Episode(logged.episode.id)).put(Record::Episode(logged.clone()))
        });
        memory.store().commit(&batch).await?;
        advance(episodes.len() as u64);
    }
    Ok(start.elapsed())
}

impl Report {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { store, episodes, batch, rounds, .. } = self;
        writeln!(out, "{episodes} episodes imported, {batch} a commit, in {rounds} rounds, {store}\n")?;
        let mut line = |name, figure: Option<f64>, meaning| line(out, name, shown(figure), meaning);
        line("committed/s", Some(self.committed_per_s), "until the last commit")?;
        line("imported/s", Some(self.imported_per_s), "until indexed, learned and closed")?;
        line("raw SQLite/s", Some(self.raw_sqlite_per_s), "bare rows, 50 a transaction")?;
        line("imported of raw SQLite", Some(self.ratio_to_raw_sqlite), "")?;
        line("syncs a record", self.syncs_per_record, "until indexed, learned and closed")?;
        line("bytes a record", self.sizes.bytes_per_record, "all files, closed")?;
        line("of the logical bytes", self.sizes.ratio_to_logical, "JSON and vector")?;
        line("bytes a record, vacuumed", self.sizes.vacuumed_bytes_per_record, "free pages given back")?;
        line("resident MB", self.rss_mb, "the process, before it closed the store at last")?;
        line("last round of first", Some(self.first_to_last_rate), "imported/s")
    }
}
