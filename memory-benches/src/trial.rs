//! A store to search, beside what is the right answer.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use memory_core::index::{HybridIndex, IndexStats};
use memory_core::{Batch, InMemoryStore, Key, MemoryStore, Record, Result, Search, Vector};

use crate::kind::{hybrid, search_and_get};
use crate::{Corpus, Form, Kind, Query, Truth};

/// What came of adding episodes to a trial.
#[derive(Debug)]
pub struct Growth {
    /// How long each commit of one episode took.
    pub commits: Vec<Duration>,
    /// How much the resident memory of the process grew meanwhile, where it tells.
    pub resident: Option<u64>,
}

/// A store with the first episodes of a corpus, and what is right to find in it.
#[derive(Debug)]
pub struct Trial {
    form: Form,
    store: InMemoryStore,
    size: u32,
    truth: Truth,
}

impl Trial {
    /// A trial without episodes.
    ///
    /// # Errors
    /// The store's.
    pub async fn new(form: Form) -> Result<Self> {
        let store = InMemoryStore::new();
        store.commit(&Batch::new().put(Record::Space(Corpus::space()))).await?;
        Ok(Self { form, store, size: 0, truth: Truth::default() })
    }

    /// The store.
    pub const fn store(&self) -> &InMemoryStore {
        &self.store
    }

    /// How much of each episode is stored.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// How many episodes there are.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Adds the next episodes of the corpus, one a commit, until there are so many. The memory of the process grows by the
    /// store alone while it is looked at; what the right answers need is made afterwards. `advance` is called once for each.
    ///
    /// # Errors
    /// The store's.
    pub async fn grow(&mut self, corpus: &Corpus, size: u32, advance: impl Fn()) -> Result<Growth> {
        let places = self.size..size;
        let mut commits = Vec::with_capacity(places.len());
        let before = resident();
        for place in places.clone() {
            let batch = Batch::new().put(Record::Episode(corpus.episode(place, self.form)));
            let start = Instant::now();
            self.store.commit(&batch).await?;
            commits.push(start.elapsed());
            advance();
        }
        let resident = resident().zip(before).map(|(after, before)| after.saturating_sub(before));
        // Made again rather than kept: an episode is a function of its place.
        places.for_each(|place| self.truth.add(corpus, place));
        self.size = size.max(self.size);
        Ok(Growth { commits, resident })
    }

    /// What the index of the store holds, and how it is as bytes.
    ///
    /// # Errors
    /// The store's.
    pub fn index(&self) -> Result<(IndexStats, Vec<u8>)> {
        self.store.with_index(|index| (index.stats(), index.to_bytes()))
    }

    /// How long it takes to have an index again from bytes and to find the first answer.
    ///
    /// # Errors
    /// The store's and the index's.
    ///
    /// # Panics
    /// When nothing is found.
    pub async fn opening(&self, snapshot: &[u8], query: &Query) -> Result<Duration> {
        let search = hybrid(query);
        let hits = self.store.search(&search.clone().k(Search::MAX_K)).await?;
        let keys: Vec<Key> = hits.into_iter().map(|hit| hit.key).collect();
        let stored = self.store.get(&keys).await?.into_iter().flatten();
        let vectors: HashMap<Key, Vector> = stored
            .filter_map(|stored| Some((stored.record.key(), stored.record.searchable()?.vector?.clone())))
            .collect();
        let start = Instant::now();
        let index = HybridIndex::from_bytes(snapshot)?;
        let found = black_box(index.search(&search, |key| vectors.get(key).cloned()));
        let took = start.elapsed();
        assert!(!found.is_empty());
        Ok(took)
    }

    /// How long a query takes.
    ///
    /// # Errors
    /// The store's.
    pub async fn time(&self, kind: Kind, query: &Query) -> Result<Duration> {
        let search = kind.search(query);
        let start = Instant::now();
        match &search {
            Some(search) => drop(black_box(search_and_get(&self.store, search).await?)),
            None => drop(black_box(self.truth.scan(query))),
        }
        Ok(start.elapsed())
    }

    /// Recall@10: the share of the right answers that was found, on average over the queries; see [`Truth::share`]. `None` of the scan.
    ///
    /// # Errors
    /// The store's.
    pub async fn recall(&self, kind: Kind, queries: &[Query]) -> Result<Option<f64>> {
        let (mut shares, mut asked) = (0.0, 0_u32);
        // Exact searches miss nothing or are wrong at once.
        let most = if kind == Kind::Exact { 20 } else { queries.len() };
        for query in queries.iter().filter(|query| kind.asks(query)).take(most) {
            let Some(search) = kind.search(query) else { return Ok(None) };
            let found = search_and_get(&self.store, &search).await?;
            let Some(share) = self.truth.share(kind, query, &found) else { return Ok(None) };
            shares += share;
            asked += 1;
        }
        Ok(Some(shares / f64::from(asked.max(1))))
    }
}

/// The resident memory of this process in bytes, where the system tells it as Linux does.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}

/// The duration that so many of a thousand do not exceed: 500 for the median; zero of none.
pub fn quantile(durations: &mut [Duration], of_thousand: usize) -> Duration {
    durations.sort_unstable();
    let last = durations.len().saturating_sub(1);
    durations.get((last * of_thousand + 500) / 1_000).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The store finds all that is right, by every way; were it to lose some, recall would tell.
    #[tokio::test]
    async fn recall_counts_what_is_found() {
        let corpus = Corpus::new(3);
        let queries: Vec<Query> = corpus.queries().into_iter().take(20).collect();
        let mut trial = Trial::new(Form::Reduced).await.unwrap();
        trial.grow(&corpus, 100, || ()).await.unwrap();
        let growth = trial.grow(&corpus, 200, || ()).await.unwrap();
        assert_eq!((trial.size(), growth.commits.len()), (200, 100));
        for kind in Kind::ALL {
            let recall = trial.recall(kind, &queries).await.unwrap();
            assert_eq!(recall.is_none(), kind == Kind::Scan, "it is not compared with itself");
            // 200 are few enough for every index to look at all of them.
            assert!(recall.is_none_or(|recall| recall > 0.999), "{kind:?}: {recall:?}");
            assert!(trial.time(kind, &queries[1]).await.unwrap() > Duration::ZERO, "{kind:?}");
        }
        let mut batch = Batch::new();
        for place in (0..200).step_by(2) {
            batch = batch.delete(Key::Episode(corpus.episode(place, Form::Reduced).episode.id));
        }
        trial.store().commit(&batch).await.unwrap();
        for kind in [Kind::Vector, Kind::Filtered, Kind::Hybrid, Kind::Words, Kind::Exact] {
            let recall = trial.recall(kind, &queries).await.unwrap().unwrap();
            assert!((0.3..0.7).contains(&recall), "{kind:?} without every second episode: {recall}");
        }
    }

    #[test]
    fn quantiles_are_of_the_sorted() {
        let mut durations: Vec<Duration> = (0..=100).rev().map(Duration::from_millis).collect();
        let millis = [0, 500, 990, 1_000].map(|share| quantile(&mut durations, share).as_millis());
        assert_eq!(millis, [0, 50, 99, 100]);
        assert_eq!(quantile(&mut [], 500), Duration::ZERO);
    }
}
