//! Ways of searching that take turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use memory_benches::{Kind, Query, Truth, progress, quantile, search_and_get};
use memory_core::{Hit, MemoryStore};
use serde::Serialize;

use crate::AnyError;

/// Queries of one way before the next has its turn, and how long a turn takes at most.
const BLOCK: usize = 100;
const TURN: Duration = Duration::from_secs(2);
/// The one that the others are compared with is the last.
const KINDS: [Kind; 5] = [Kind::Vector, Kind::Filtered, Kind::Hybrid, Kind::Words, Kind::Scan];

/// A way of searching for ten, reading what was found; the scan reads nothing.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Way {
    searches: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    max_ms: f64,
    /// None of the scan, with which the others are compared.
    pub(crate) recall_at_10: Option<f64>,
    /// Its median, divided by that of a plain scan of the same vectors.
    pub(crate) ratio_to_scan: f64,
}

/// What came of asking in one way.
#[derive(Debug)]
pub(crate) struct Asked {
    kind: Kind,
    times: Vec<Duration>,
    /// What was found in the first round, and by which query.
    found: Vec<(usize, Vec<Hit>)>,
}

/// Asks the queries in all ways, block by block, some rounds over.
pub(crate) async fn ask(
    store: &dyn MemoryStore,
    truth: &Truth,
    queries: &[Query],
    rounds: u32,
) -> Result<[Asked; KINDS.len()], AnyError> {
    let mut all = KINDS.map(|kind| Asked { kind, times: Vec::new(), found: Vec::new() });
    let bar = progress("searching", rounds * u32::try_from(queries.len())?);
    let numbered: Vec<(usize, &Query)> = queries.iter().enumerate().collect();
    for round in 0..rounds {
        for block in numbered.chunks(BLOCK) {
            for asked in &mut all {
                asked.take_turn(store, truth, block, round == 0).await?;
            }
            bar.inc(u64::try_from(block.len())?);
        }
    }
    bar.finish_and_clear();
    Ok(all)
}

impl Asked {
    async fn take_turn(
        &mut self,
        store: &dyn MemoryStore,
        truth: &Truth,
        block: &[(usize, &Query)],
        first: bool,
    ) -> Result<(), AnyError> {
        let mut asked = block.iter().filter(|(_, query)| self.kind.asks(query)).peekable();
        if let Some((_, query)) = asked.peek() {
            // What the turn before has driven out of the caches is no cost of this one.
            self.search(store, truth, query).await?;
        }
        let start = Instant::now();
        for (number, query) in asked.take_while(|_| start.elapsed() < TURN) {
            let (time, found) = self.search(store, truth, query).await?;
            self.times.push(time);
            self.found.extend(first.then_some((*number, found)));
        }
        Ok(())
    }

    async fn search(
        &self,
        store: &dyn MemoryStore,
        truth: &Truth,
        query: &Query,
    ) -> Result<(Duration, Vec<Hit>), AnyError> {
        let search = self.kind.search(query);
        let start = Instant::now();
        let found = match &search {
            Some(search) => search_and_get(store, search).await?,
            None => {
                black_box(truth.scan(query));
                Vec::new()
            }
        };
        Ok((start.elapsed(), found))
    }

    fn way(&mut self, scan: Duration, truth: &Truth, queries: &[Query]) -> Way {
        let shares = self.found.iter().map(|(number, found)| truth.share(self.kind, &queries[*number], found));
        let recall_at_10 = shares.sum::<Option<f64>>().map(|shares| shares / self.found.len() as f64);
        let mut ms = |share| 1e3 * quantile(&mut self.times, share).as_secs_f64();
        let (p50_ms, p99_ms, max_ms) = (ms(500), ms(990), ms(1_000));
        let ratio_to_scan = p50_ms / (1e3 * scan.as_secs_f64());
        Way { searches: self.times.len(), p50_ms, p99_ms, max_ms, recall_at_10, ratio_to_scan }
    }
}

/// Says how long each way took and how much of what is right it found: by vector, by vector in a domain, by words and vector, by
/// words, and by a plain scan.
pub(crate) fn judge(mut all: [Asked; KINDS.len()], truth: &Truth, queries: &[Query]) -> [Way; KINDS.len()] {
    let scan = all.last_mut().map(|asked| quantile(&mut asked.times, 500)).unwrap_or_default();
    all.map(|mut asked| asked.way(scan, truth, queries))
}
