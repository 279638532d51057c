//! A store to search, beside what is the right answer.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::time::{Duration, Instant};

use memory_core::index::{HybridIndex, IndexStats};
use memory_core::ranking::{Collection, Plan, Terms};
use memory_core::{Batch, Filter, Hit, InMemoryStore, Key, MemoryStore, Record, Search, Vector};

use crate::{Corpus, FlatScan, Form, Query};

/// How many are looked for.
const K: usize = 10;

/// A way of searching.
#[expect(clippy::exhaustive_enums, reason = "each has a row and a line")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// By vector, and reading the episodes found.
    Vector,
    /// The same, in one domain.
    Filtered,
    /// By words and by vector, and reading the episodes found.
    Hybrid,
    /// By words, and reading the episodes found.
    Words,
    /// By vector, exactly, and reading the episodes found.
    Exact,
    /// By vector, comparing all of them in the plain way; no episode is read.
    Scan,
}

impl Kind {
    /// All of them, the one that the others are compared with last.
    pub const ALL: [Self; 6] = [Self::Vector, Self::Filtered, Self::Hybrid, Self::Words, Self::Exact, Self::Scan];

    /// Its name, for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Filtered => "vector in a domain",
            Self::Hybrid => "words and vector",
            Self::Words => "words",
            Self::Exact => "vector, exact",
            Self::Scan => "plain f32 scan",
        }
    }

    /// Whether it is for this query: only every second one asks for a domain.
    pub const fn asks(self, query: &Query) -> bool {
        !matches!(self, Self::Filtered) || query.domain.is_some()
    }

    /// What a store is asked; `None` for the scan, which needs no store.
    pub fn search(self, query: &Query) -> Option<Search> {
        let search = Search::new(Default::default()).k(K);
        let vector = Some(query.vector.clone());
        Some(match self {
            Self::Vector => search.vector(vector),
            Self::Filtered => search.vector(vector).filter(domain(query)),
            Self::Hybrid => search.vector(vector).text(query.text.as_str()),
            Self::Words => search.text(query.text.as_str()),
            Self::Exact => search.vector(vector).exact(),
            Self::Scan => return None,
        })
    }
}

fn domain(query: &Query) -> Filter {
    query.domain.iter().fold(Filter::default(), |filter, domain| filter.domain(*domain))
}

/// Searches by this request and reads the episodes found, those that are still there.
///
/// # Panics
/// When the store fails.
pub async fn search_and_get(store: &InMemoryStore, search: &Search) -> Vec<Hit> {
    let hits = store.search(search).await.unwrap();
    let keys: Vec<Key> = hits.iter().map(|hit| hit.key.clone()).collect();
    black_box(store.get(&keys).await.unwrap());
    hits
}

/// What came of adding episodes to a trial.
#[derive(Debug)]
pub struct Growth {
    /// How long each commit of one episode took.
    pub commits: Vec<Duration>,
    /// How much the resident memory of the process grew meanwhile, where it tells.
    pub resident: Option<u64>,
}

/// A store with the first episodes of a corpus, the same vectors to be scanned, and their words to count.
#[derive(Debug)]
pub struct Trial {
    form: Form,
    store: InMemoryStore,
    size: u32,
    vectors: FlatScan,
    domains: Vec<Option<String>>,
    collection: Collection,
    /// The places that have a term, and how often.
    postings: HashMap<String, Vec<(usize, u64)>>,
    lengths: Vec<u64>,
}

impl Trial {
    /// A trial without episodes.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn new(form: Form) -> Self {
        let store = InMemoryStore::new();
        store.commit(&Batch::new().put(Record::Space(Corpus::space()))).await.unwrap();
        let (vectors, domains, collection) = (FlatScan::default(), Vec::new(), Collection::default());
        let (postings, lengths) = (HashMap::new(), Vec::new());
        Self { form, store, size: 0, vectors, domains, collection, postings, lengths }
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
    /// # Panics
    /// When the store fails.
    pub async fn grow(&mut self, corpus: &Corpus, size: u32, advance: impl Fn()) -> Growth {
        let places = self.size..size;
        let mut commits = Vec::with_capacity(places.len());
        let before = resident();
        for place in places.clone() {
            let batch = Batch::new().put(Record::Episode(corpus.episode(place, self.form)));
            let start = Instant::now();
            self.store.commit(&batch).await.unwrap();
            commits.push(start.elapsed());
            advance();
        }
        let resident = resident().zip(before).map(|(after, before)| after.saturating_sub(before));
        // Made again rather than kept: an episode is a function of its place.
        places.for_each(|place| self.know(corpus, place));
        self.size = size.max(self.size);
        Growth { commits, resident }
    }

    fn know(&mut self, corpus: &Corpus, place: u32) {
        let logged = corpus.episode(place, Form::Reduced);
        let task = &logged.episode.task;
        logged.vector.iter().for_each(|vector| self.vectors.push(vector));
        self.domains.push(task.domain.clone());
        let mut words = Terms::of(&task.text);
        task.tags.iter().for_each(|tag| words.add(tag, 1));
        for (term, frequency) in words.iter() {
            self.postings.entry(term.to_owned()).or_default().push((self.lengths.len(), frequency));
        }
        self.lengths.push(words.length());
        self.collection.documents += 1;
        self.collection.terms += words.length();
    }

    /// What the index of the store holds, and how it is as bytes.
    ///
    /// # Panics
    /// When the store is closed.
    pub fn index(&self) -> (IndexStats, Vec<u8>) {
        self.store.with_index(|index| (index.stats(), index.to_bytes())).unwrap()
    }

    /// How long it takes to have an index again from bytes and to find the first answer.
    ///
    /// # Panics
    /// When the store or the index fails.
    pub async fn opening(&self, snapshot: &[u8], query: &Query) -> Duration {
        let search = Kind::Hybrid.search(query).unwrap();
        let hits = self.store.search(&search.clone().k(Search::MAX_K)).await.unwrap();
        let keys: Vec<Key> = hits.into_iter().map(|hit| hit.key).collect();
        let stored = self.store.get(&keys).await.unwrap().into_iter().flatten();
        let vectors: HashMap<Key, Vector> = stored
            .filter_map(|stored| Some((stored.record.key(), stored.record.searchable()?.vector?.clone())))
            .collect();
        let start = Instant::now();
        let index = HybridIndex::from_bytes(snapshot).unwrap();
        let found = black_box(index.search(&search, |key| vectors.get(key).cloned()));
        let took = start.elapsed();
        assert!(!found.is_empty());
        took
    }

    /// Scans the vectors in the plain way.
    pub fn scan(&self, query: &Query) -> Vec<(usize, f32)> {
        self.vectors.nearest(&query.vector, K, |_| true)
    }

    /// How long a query takes.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn time(&self, kind: Kind, query: &Query) -> Duration {
        let search = kind.search(query);
        let start = Instant::now();
        match &search {
            Some(search) => drop(black_box(search_and_get(&self.store, search).await)),
            None => drop(black_box(self.scan(query))),
        }
        start.elapsed()
    }

    /// Recall@10: the share of the right answers that was found, on average over the queries. Right are the ten best, and whatever
    /// is as good as the tenth; by words and vector, the ten best by each of them.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn recall(&self, kind: Kind, queries: &[Query]) -> f64 {
        let (mut shares, mut asked) = (0.0, 0_u32);
        // Exact searches miss nothing or are wrong at once.
        let most = if kind == Kind::Exact { 20 } else { queries.len() };
        for query in queries.iter().filter(|query| kind.asks(query)).take(most) {
            let found: HashSet<usize> = match kind.search(query) {
                Some(search) => search_and_get(&self.store, &search).await.iter().filter_map(place).collect(),
                None => self.scan(query).into_iter().map(|(number, _)| number).collect(),
            };
            let right = match kind {
                Kind::Vector | Kind::Exact | Kind::Scan => vec![self.nearest(query, None)],
                Kind::Filtered => vec![self.nearest(query, query.domain)],
                Kind::Words => vec![self.matching(query)],
                Kind::Hybrid => vec![self.nearest(query, None), self.matching(query)],
            };
            let (mut hits, mut wanted) = (0, 0);
            for right in right {
                let most = right.len().min(K);
                hits += right.iter().filter(|number| found.contains(number)).count().min(most);
                wanted += most;
            }
            shares += if wanted > 0 { hits as f64 / wanted as f64 } else { 1.0 };
            asked += 1;
        }
        shares / f64::from(asked.max(1))
    }

    /// The nearest in a domain or in all; ties of single precision at the tenth place have no meaning here.
    fn nearest(&self, query: &Query, domain: Option<&str>) -> Vec<usize> {
        let accept = |number: usize| domain.is_none() || self.domains[number].as_deref() == domain;
        let nearest = self.vectors.nearest(&query.vector, K, accept);
        nearest.into_iter().map(|(number, _)| number).collect()
    }

    /// The best by words, with all that are as good as the tenth.
    fn matching(&self, query: &Query) -> Vec<usize> {
        const ROUNDING: f64 = 1e-6;
        let found = |term: &str| self.postings.get(term).map_or(0, |postings| postings.len() as u64);
        let query = Terms::of(&query.text);
        let counts = query.iter().map(|(term, _)| (term.to_owned(), found(term)));
        let plan = Plan::new(self.collection, counts, true);
        let mut scores: HashMap<usize, f64> = HashMap::new();
        for term in plan.rare() {
            for (place, frequency) in self.postings.get(&term.term).into_iter().flatten() {
                *scores.entry(*place).or_default() += plan.part(term, *frequency, self.lengths[*place]);
            }
        }
        let mut falling: Vec<f64> = scores.values().copied().collect();
        falling.sort_unstable_by(|a, b| b.total_cmp(a));
        let least = falling.get(K - 1).copied().unwrap_or_default() - ROUNDING;
        let best = scores.into_iter().filter(|(_, score)| *score >= least);
        best.map(|(place, _)| place).collect()
    }
}

fn place(hit: &Hit) -> Option<usize> {
    match &hit.key {
        Key::Episode(id) => usize::try_from(Corpus::place(id)).ok(),
        _ => None,
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
        let mut trial = Trial::new(Form::Reduced).await;
        trial.grow(&corpus, 100, || ()).await;
        let growth = trial.grow(&corpus, 200, || ()).await;
        assert_eq!((trial.size(), growth.commits.len()), (200, 100));
        for kind in Kind::ALL {
            let recall = trial.recall(kind, &queries).await;
            // 200 are few enough for every index to look at all of them.
            assert!(recall > 0.999, "{kind:?}: {recall}");
            assert!(trial.time(kind, &queries[1]).await > Duration::ZERO, "{kind:?}");
        }
        let mut batch = Batch::new();
        for place in (0..200).step_by(2) {
            batch = batch.delete(Key::Episode(corpus.episode(place, Form::Reduced).episode.id));
        }
        trial.store().commit(&batch).await.unwrap();
        for kind in [Kind::Vector, Kind::Filtered, Kind::Hybrid, Kind::Words, Kind::Exact] {
            let recall = trial.recall(kind, &queries).await;
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
