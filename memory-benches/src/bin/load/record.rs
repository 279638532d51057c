//! `load record`: one call for each finished episode, or its whole life call by call, by some writers at the same time.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use memory_benches::{Corpus, StoreChoice, progress};
use serde::Serialize;

use crate::limits::{append_growing, append_preallocated, group_commit};
use crate::lot::Lot;
use crate::report::{Versions, line, median, rate, shown, write_json};
use crate::rounds::{Phase, Rounds, Sizes, Turn, sample, shares};
use crate::syncs::Syncs;
use crate::writers::{Wait, Way, Written, write};
use crate::{AnyError, BadArgument};

/// What to record, and how.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// How many episodes are recorded, in all rounds together
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    episodes: u32,
    /// How many tasks record at the same time, each one episode after the other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    writers: u32,
    /// Where: memory, turso:PATH or redb:PATH; the file must be new
    #[arg(long)]
    store: StoreChoice,
    /// How many milliseconds longer each sync takes, of the store and of the limits
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    sync_delay_ms: u32,
    /// Begins each episode, adds its eight steps (committed in batches) and completes it, instead of recording it in one call
    #[arg(long)]
    lifecycle: bool,
    /// In how many rounds: a burst of the memory, then the limits
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// What the episodes are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write all figures
    #[arg(long)]
    json: Option<PathBuf>,
}

/// All figures of a run. Rates of the memory are those of all rounds together; limits are medians of the rounds.
#[derive(Serialize)]
struct Report {
    command: &'static str,
    store: String,
    episodes: u32,
    writers: u32,
    rounds: u32,
    sync_delay_ms: u32,
    lifecycle: bool,
    seed: u64,
    dimensions: usize,
    versions: Versions,
    acked_per_s: f64,
    sustained_per_s: f64,
    /// The limit that acknowledgements are compared with: of one writer, the growing file; of more, group commit.
    limit: &'static str,
    limit_per_s: f64,
    append_growing_per_s: f64,
    append_preallocated_per_s: f64,
    group_commit_per_s: Option<f64>,
    raw_sqlite_per_s: f64,
    ratio_to_limit: f64,
    ratio_to_raw_sqlite: f64,
    /// Medians of the ratios within each round.
    ratio_to_limit_by_round: f64,
    ratio_to_raw_sqlite_by_round: f64,
    /// Until the last acknowledgement.
    syncs_per_record: Option<f64>,
    /// Until all is indexed, learned and closed.
    sustained_syncs_per_record: Option<f64>,
    slowest_to_fastest: Option<f64>,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    calls: Vec<Wait>,
    #[serde(flatten)]
    sizes: Sizes,
    rss_mb: Option<f64>,
    rate_at_start: f64,
    rate_at_end: f64,
    /// The rate of the last round, divided by that of the first.
    first_to_last_rate: f64,
    by_round: Vec<Round>,
}

/// The figures of a round.
#[derive(Serialize)]
struct Round {
    records: u32,
    stored_before: u32,
    acked_s: f64,
    acked_per_s: f64,
    sustained_s: f64,
    sustained_per_s: f64,
    syncs: Option<u64>,
    sustained_syncs: Option<u64>,
    slowest_to_fastest: Option<f64>,
    p50_us: f64,
    p99_us: f64,
    append_growing_per_s: f64,
    append_preallocated_per_s: f64,
    group_commit_per_s: Option<f64>,
    raw_sqlite_per_s: f64,
    ratio_to_limit: f64,
    ratio_to_raw_sqlite: f64,
}

/// The limits of a round, in records a second.
struct Limits {
    growing: f64,
    preallocated: f64,
    group: Option<f64>,
    raw: f64,
}

impl Record {
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.sync_delay_ms.into())
    }

    /// Checks what no argument tells alone.
    pub(crate) fn check(&self) -> Result<(), BadArgument> {
        BadArgument::unless_enough(self.episodes, self.writers, self.rounds)
    }

    pub(crate) fn run(&self, syncs: &Syncs) -> Result<(), AnyError> {
        let mut rounds = Rounds::new(&self.store, self.seed, syncs)?;
        let bar = progress("recording", self.episodes);
        let (mut by_round, mut all) = (Vec::new(), Written::default());
        for places in shares(self.episodes, self.rounds) {
            let stored_before = places.start;
            let lot = Lot::new(&rounds.corpus, places);
            let (samples, recordings) = (lot.samples()?, lot.recordings());
            let recorded = recordings.len();
            let turn = rounds.turn(lot, async |memory, lot| {
                drop(lot);
                let written = write(memory, recordings, self.writers(), self.way(), &bar).await?;
                Ok((written.span(), written))
            })?;
            let limits = self.limits(&mut rounds, &samples, sample(recorded))?;
            by_round.push(Round::new(stored_before, &turn, &limits));
            all.add(turn.written);
        }
        bar.finish_and_clear();
        let report = self.report(&rounds, by_round, &all)?;
        report.print(&mut io::stdout().lock())?;
        write_json(self.json.as_deref(), &report)
    }

    fn writers(&self) -> usize {
        usize::try_from(self.writers).unwrap_or(usize::MAX)
    }

    const fn way(&self) -> Way {
        if self.lifecycle { Way::Lifecycle } else { Way::Record }
    }

    fn limits(&self, rounds: &mut Rounds<'_>, records: &[Vec<u8>], most: usize) -> Result<Limits, AnyError> {
        let Rounds { syncs, folder, raw, .. } = rounds;
        let folder = folder.path();
        syncs.delayed(|| {
            Ok(Limits {
                growing: append_growing(folder, records, most)?,
                preallocated: append_preallocated(folder, records, most)?,
                group: match self.writers() {
                    1 => None,
                    writers => Some(group_commit(folder, records, most, writers)?),
                },
                raw: raw.insert(records, most, 1)?,
            })
        })
    }

    fn report(&self, rounds: &Rounds<'_>, by_round: Vec<Round>, all: &Written) -> Result<Report, AnyError> {
        let totals = rounds.totals();
        let mid = |of: fn(&Round) -> f64| median(by_round.iter().map(of));
        let group = median(by_round.iter().filter_map(|round| round.group_commit_per_s));
        let group_commit_per_s = group.is_finite().then_some(group);
        let append_growing_per_s = mid(|round| round.append_growing_per_s);
        let limit_per_s = group_commit_per_s.unwrap_or(append_growing_per_s);
        let raw_sqlite_per_s = mid(|round| round.raw_sqlite_per_s);
        let acked_per_s = rate(totals.records, totals.acked.time);
        let sustained_per_s = rate(totals.records, totals.sustained.time);
        let at = |round: Option<&Round>| round.map_or(f64::NAN, |round| round.acked_per_s);
        let (rate_at_start, rate_at_end) = (at(by_round.first()), at(by_round.last()));
        let Wait { p50_us, p99_us, max_us, .. } = all.episodes();
        Ok(Report {
            command: "record",
            store: self.store.to_string(),
            episodes: self.episodes,
            writers: self.writers,
            rounds: self.rounds,
            sync_delay_ms: self.sync_delay_ms,
            lifecycle: self.lifecycle,
            seed: self.seed,
            dimensions: Corpus::DIMENSIONS,
            versions: Versions::new(Some(rounds.raw.version()?)),
            acked_per_s,
            sustained_per_s,
            limit: if self.writers > 1 { "group commit" } else { "append to a growing file" },
            limit_per_s,
            append_growing_per_s,
            append_preallocated_per_s: mid(|round| round.append_preallocated_per_s),
            group_commit_per_s,
            raw_sqlite_per_s,
            ratio_to_limit: acked_per_s / limit_per_s,
            ratio_to_raw_sqlite: sustained_per_s / raw_sqlite_per_s,
            ratio_to_limit_by_round: mid(|round| round.ratio_to_limit),
            ratio_to_raw_sqlite_by_round: mid(|round| round.ratio_to_raw_sqlite),
            syncs_per_record: totals.acked.syncs_per_record(totals.records),
            sustained_syncs_per_record: totals.sustained.syncs_per_record(totals.records),
            slowest_to_fastest: fairness(&by_round),
            p50_us,
            p99_us,
            max_us,
            calls: all.calls(),
            sizes: rounds.sizes()?,
            rss_mb: totals.resident_mb,
            rate_at_start,
            rate_at_end,
            first_to_last_rate: rate_at_end / rate_at_start,
            by_round,
        })
    }
}

/// The median of the rounds in which it is known.
fn fairness(by_round: &[Round]) -> Option<f64> {
    let fairness = median(by_round.iter().filter_map(|round| round.slowest_to_fastest));
    fairness.is_finite().then_some(fairness)
}

impl Round {
    fn new(stored_before: u32, turn: &Turn<Written>, limits: &Limits) -> Self {
        let Phase { time: acked, syncs } = turn.acked;
        let Phase { time: sustained, syncs: sustained_syncs } = turn.sustained;
        let episodes = turn.written.episodes();
        let records = u32::try_from(episodes.calls).unwrap_or(u32::MAX);
        let (acked_per_s, sustained_per_s) = (rate(records, acked), rate(records, sustained));
        Self {
            records,
            stored_before,
            acked_s: acked.as_secs_f64(),
            acked_per_s,
            sustained_s: sustained.as_secs_f64(),
            sustained_per_s,
            syncs,
            sustained_syncs,
            slowest_to_fastest: turn.written.slowest_to_fastest(),
            p50_us: episodes.p50_us,
            p99_us: episodes.p99_us,
            append_growing_per_s: limits.growing,
            append_preallocated_per_s: limits.preallocated,
            group_commit_per_s: limits.group,
            raw_sqlite_per_s: limits.raw,
            ratio_to_limit: acked_per_s / limits.group.unwrap_or(limits.growing),
            ratio_to_raw_sqlite: sustained_per_s / limits.raw,
        }
    }
}

impl Report {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { store, episodes, writers, rounds, sync_delay_ms, .. } = self;
        let way = if self.lifecycle { "begun, stepped and completed" } else { "recorded" };
        writeln!(
            out,
            "{episodes} episodes {way} by {writers} in {rounds} rounds, {store}, syncs {sync_delay_ms} ms longer\n"
        )?;
        let mut line = |name, figure: Option<f64>, meaning| line(out, name, shown(figure), meaning);
        line("acknowledged/s", Some(self.acked_per_s), "first call to last acknowledgement")?;
        line("sustained/s", Some(self.sustained_per_s), "until indexed, learned and closed")?;
        line("limit/s", Some(self.limit_per_s), self.limit)?;
        line("preallocated/s", Some(self.append_preallocated_per_s), "append to a preallocated file")?;
        line("raw SQLite/s", Some(self.raw_sqlite_per_s), "one bare row a transaction, one writer")?;
        line("acknowledged of limit", Some(self.ratio_to_limit), "")?;
        line("sustained of raw SQLite", Some(self.ratio_to_raw_sqlite), "")?;
        line("syncs a record", self.syncs_per_record, "until the last acknowledgement")?;
        line("syncs a record, in all", self.sustained_syncs_per_record, "until indexed, learned and closed")?;
        line("slowest of fastest", self.slowest_to_fastest, "acknowledgements of writers, while all write")?;
        line("p50 µs", Some(self.p50_us), "an episode")?;
        line("p99 µs", Some(self.p99_us), "")?;
        line("bytes a record", self.sizes.bytes_per_record, "all files, closed")?;
        line("of the logical bytes", self.sizes.ratio_to_logical, "JSON and vector")?;
        line("bytes a record, vacuumed", self.sizes.vacuumed_bytes_per_record, "free pages given back")?;
        line("resident MB", self.rss_mb, "the process, before it closed the store at last")?;
        line("last round of first", Some(self.first_to_last_rate), "acknowledged/s")?;
        writeln!(
            out,
            "\n{:>10}{:>10}{:>12}{:>12}{:>12}{:>12}",
            "stored", "records", "acked/s", "sustained/s", "of limit", "of SQLite"
        )?;
        for Round {
            stored_before, records, acked_per_s, sustained_per_s, ratio_to_limit, ratio_to_raw_sqlite, ..
        } in &self.by_round
        {
            writeln!(
                out,
                "{stored_before:>10}{records:>10}{acked_per_s:12.0}{sustained_per_s:12.0}{ratio_to_limit:12.3}{ratio_to_raw_sqlite:12.3}"
            )?;
        }
        Ok(())
    }
}
