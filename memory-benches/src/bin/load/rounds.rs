//! A run in rounds: in each the memory takes its share of the episodes, then the limits are measured. So a disturbed minute
//! disturbs both, and growth shows from the first round to the last.

use std::ops::Range;
use std::time::{Duration, Instant};

use memory_benches::{Corpus, StoreChoice};
use memory_core::Memory;
use serde::Serialize;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::AnyError;
use crate::lot::Lot;
use crate::raw_sqlite::RawSqlite;
use crate::report::resident_mb;
use crate::subject::Subject;
use crate::syncs::Syncs;

/// The fewest and the most records that a limit is measured with; there is a limit of time, too.
const LEAST: usize = 2_000;
const MOST: usize = 20_000;

/// What rounds are run with.
pub(crate) struct Rounds<'a> {
    pub(crate) corpus: Corpus,
    pub(crate) syncs: &'a Syncs,
    pub(crate) runtime: Runtime,
    pub(crate) subject: Subject,
    pub(crate) raw: RawSqlite,
    /// In the folder of the store: where the limits write.
    pub(crate) folder: TempDir,
    totals: Totals,
}

/// What is summed up over all rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) records: u32,
    pub(crate) logical_bytes: u64,
    pub(crate) acked: Phase,
    pub(crate) sustained: Phase,
    /// Of the process when it had written most.
    pub(crate) resident_mb: Option<f64>,
}

/// A part of a round, from its first call on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Phase {
    pub(crate) time: Duration,
    /// Unknown if those of one round are.
    pub(crate) syncs: Option<u64>,
}

/// A round of the memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn<T> {
    /// Until the last acknowledgement.
    pub(crate) acked: Phase,
    /// Until all is indexed and learned and the store is closed.
    pub(crate) sustained: Phase,
    /// What the writing told.
    pub(crate) written: T,
}

/// The size of a store's files.
#[derive(Serialize)]
pub(crate) struct Sizes {
    /// All files of the store once it is closed; none of a store without.
    pub(crate) bytes_per_record: Option<f64>,
    /// JSON and vector.
    pub(crate) logical_bytes_per_record: f64,
    pub(crate) ratio_to_logical: Option<f64>,
    /// All files, once the store has given its free pages back.
    pub(crate) vacuumed_bytes_per_record: Option<f64>,
}

impl<'a> Rounds<'a> {
    /// Opens the store, which must be empty.
    pub(crate) fn new(store: &StoreChoice, seed: u64, syncs: &'a Syncs) -> Result<Self, AnyError> {
        let folder = tempfile::Builder::new().prefix("load-limits-").tempdir_in(store.folder())?;
        let corpus = Corpus::new(seed);
        let mut subject = Subject::new(store.clone(), &corpus);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(subject.open_new())?;
        let raw = RawSqlite::create(&folder.path().join("raw.db"))?;
        let totals = Totals { acked: Phase::known(), sustained: Phase::known(), ..Totals::default() };
        Ok(Self { corpus, syncs, runtime, subject, raw, folder, totals })
    }

    /// Lets the memory take these episodes: `write` is timed, and what it leaves to be done.
    pub(crate) fn turn<T>(
        &mut self,
        lot: Lot,
        write: impl AsyncFnOnce(&Memory, Lot) -> Result<(Duration, T), AnyError>,
    ) -> Result<Turn<T>, AnyError> {
        let Self { syncs, runtime, subject, totals, .. } = self;
        let (records, logical_bytes) = (u32::try_from(lot.episodes.len())?, lot.logical_bytes());
        subject.embedder().only(lot.vectors());
        let memory = runtime.block_on(subject.open())?;
        let turn = syncs.delayed(|| {
            runtime.block_on(async {
                let (start, before) = (Instant::now(), syncs.count()?);
                let (time, written) = write(&memory, lot).await?;
                let acked = Phase { time, syncs: syncs.since(before)? };
                subject.settle(&memory).await?;
                totals.resident_mb = resident_mb();
                subject.close(memory).await?;
                let sustained = Phase { time: start.elapsed(), syncs: syncs.since(before)? };
                Ok(Turn { acked, sustained, written })
            })
        })?;
        totals.records += records;
        totals.logical_bytes += logical_bytes;
        totals.acked.add(turn.acked);
        totals.sustained.add(turn.sustained);
        Ok(turn)
    }

    pub(crate) const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How large the files are, which are closed by now.
    pub(crate) fn sizes(&self) -> Result<Sizes, AnyError> {
        let records = f64::from(self.totals.records);
        let choice = self.subject.choice();
        let per_record = || -> Result<_, AnyError> { Ok(choice.bytes()?.map(|bytes| bytes as f64 / records)) };
        let bytes_per_record = per_record()?;
        self.runtime.block_on(choice.vacuum())?;
        let vacuumed_bytes_per_record = per_record()?;
        let logical_bytes_per_record = self.totals.logical_bytes as f64 / records;
        let ratio_to_logical = bytes_per_record.map(|bytes| bytes / logical_bytes_per_record);
        Ok(Sizes { bytes_per_record, logical_bytes_per_record, ratio_to_logical, vacuumed_bytes_per_record })
    }
}

impl Phase {
    const fn known() -> Self {
        Self { time: Duration::ZERO, syncs: Some(0) }
    }

    fn add(&mut self, later: Self) {
        self.time += later.time;
        self.syncs = self.syncs.zip(later.syncs).map(|(syncs, later)| syncs + later);
    }

    pub(crate) fn syncs_per_record(&self, records: u32) -> Option<f64> {
        self.syncs.map(|syncs| syncs as f64 / f64::from(records))
    }
}

/// The places of the episodes of each round.
pub(crate) fn shares(episodes: u32, rounds: u32) -> impl Iterator<Item = Range<u32>> {
    let (all, of) = (u64::from(episodes), u64::from(rounds));
    let until = move |round: u32| u32::try_from(all * u64::from(round) / of).unwrap_or(episodes);
    (0..rounds).map(move |round| until(round)..until(round + 1))
}

/// How many records a limit is measured with in a round of so many.
pub(crate) fn sample(records: usize) -> usize {
    records.clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_share_all_episodes() {
        assert!(shares(10, 3).eq([0..3, 3..6, 6..10]));
        assert_eq!(shares(1_000_000, 1).last(), Some(0..1_000_000));
    }

    #[test]
    fn unknown_syncs_stay_unknown() {
        let mut sum = Phase::known();
        sum.add(Phase { time: Duration::from_secs(1), syncs: Some(3) });
        assert_eq!(sum.syncs_per_record(2), Some(1.5));
        sum.add(Phase { time: Duration::from_secs(1), syncs: None });
        sum.add(Phase { time: Duration::from_secs(1), syncs: Some(3) });
        assert_eq!((sum.time, sum.syncs_per_record(2)), (Duration::from_secs(3), None));
    }
}
