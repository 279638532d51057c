//! `load recall`: what it costs to find ten episodes and to read them, and how many of the right ones are found.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use memory_benches::{Corpus, StoreChoice, Truth, progress, resident};
use memory_core::{InMemoryStore, Memory};
use memory_storage_redb::HotCache;
use memory_storage_turso::TursoStore;
use serde::Serialize;

use crate::AnyError;
use crate::embedder::Given;
use crate::fill::Fill;
use crate::openings::Openings;
use crate::report::{Versions, line, shown, write_json};
use crate::subject::builder;
use crate::ways::{Way, ask, judge};

/// What to search, and how.
#[derive(Debug, Args)]
pub(crate) struct Recall {
    /// How many episodes are stored; those that are missing are added first
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    episodes: u32,
    /// Where: memory, turso:PATH or redb:PATH; a new file, or one that was filled with the same seed
    #[arg(long)]
    store: StoreChoice,
    /// A cache before the store, in this file
    #[arg(long)]
    cache: Option<PathBuf>,
    /// How often all queries are asked, as far as there is time
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// What the episodes are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write all figures
    #[arg(long)]
    json: Option<PathBuf>,
}

/// All figures of a run.
#[derive(Serialize)]
struct Report {
    command: &'static str,
    store: String,
    episodes: u32,
    rounds: u32,
    seed: u64,
    dimensions: usize,
    versions: Versions,
    vector: Way,
    filtered: Way,
    hybrid: Way,
    words: Way,
    scan: Way,
    /// The median in a domain, divided by that in all.
    filtered_to_unfiltered: f64,
    /// Beside the stored records: the index of the store in memory, or of the cache; what the process grew by, of the others.
    memory_mb: Option<f64>,
    /// With the records or vectors that are kept in memory.
    resident_growth_mb: Option<f64>,
    bytes_per_record: Option<f64>,
    /// From the closed store to the answer of a search by words and vector, ten episodes read.
    open_to_first_search_ms: Option<f64>,
    /// From the closed store to the answer of `Memory::recall`.
    open_to_first_recall_ms: Option<f64>,
    openings: Option<usize>,
}

/// A memory that was opened, and what the process had before.
struct Opened {
    memory: Memory,
    index: Index,
    resident_before: Option<u64>,
}

/// Who has the index in memory, if anybody.
enum Index {
    InMemory(InMemoryStore),
    Cache(HotCache<TursoStore>),
    Nobody,
}

/// What it takes of memory to search, in MB.
#[derive(Clone, Copy)]
struct Taken {
    beside_records: Option<f64>,
    growth: Option<f64>,
}

impl Recall {
    pub(crate) fn run(&self) -> Result<(), AnyError> {
        let corpus = Corpus::new(self.seed);
        let store = self.store.behind(self.cache.as_deref())?;
        let fill = Fill { episodes: self.episodes, store: self.store.clone(), seed: self.seed };
        if self.store.file().is_some() {
            fill.apart()?;
        }
        let truth = self.truth(&corpus)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let report = runtime.block_on(self.measure(&store, &corpus, &truth, &fill))?;
        report.print(&mut io::stdout().lock())?;
        write_json(self.json.as_deref(), &report)
    }

    fn truth(&self, corpus: &Corpus) -> Result<Truth, AnyError> {
        let bar = progress("making right answers", self.episodes);
        let mut truth = Truth::default();
        for place in 0..self.episodes {
            truth.add(corpus, place);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(truth)
    }

    async fn measure(
        &self,
        store: &StoreChoice,
        corpus: &Corpus,
        truth: &Truth,
        fill: &Fill,
    ) -> Result<Report, AnyError> {
        let queries = corpus.queries();
        let embedder = Arc::new(Given::new());
        embedder.only(queries.iter().map(|query| (query.text.clone(), query.vector.clone())));
        let opened = Opened::new(store, &embedder).await?;
        if store.file().is_none() {
            fill.fill(&opened.memory, corpus).await?;
        }
        let asked = ask(opened.memory.store(), truth, &queries, self.rounds).await?;
        let taken = opened.taken().await?;
        let ways = judge(asked, truth, &queries);
        opened.memory.close().await?;
        let openings = Openings::measure(store, &embedder, &queries).await?;
        self.report(store, ways, taken, openings)
    }

    fn report(
        &self,
        store: &StoreChoice,
        ways: [Way; 5],
        taken: Taken,
        openings: Option<Openings>,
    ) -> Result<Report, AnyError> {
        let [vector, filtered, hybrid, words, scan] = ways;
        Ok(Report {
            command: "recall",
            store: store.to_string(),
            episodes: self.episodes,
            rounds: self.rounds,
            seed: self.seed,
            dimensions: Corpus::DIMENSIONS,
            versions: Versions::new(None),
            filtered_to_unfiltered: filtered.p50_ms / vector.p50_ms,
            vector,
            filtered,
            hybrid,
            words,
            scan,
            memory_mb: taken.beside_records,
            resident_growth_mb: taken.growth,
            bytes_per_record: store.bytes()?.map(|bytes| bytes as f64 / f64::from(self.episodes)),
            open_to_first_search_ms: openings.map(|openings| openings.search_ms),
            open_to_first_recall_ms: openings.map(|openings| openings.recall_ms),
            openings: openings.map(|openings| openings.count),
        })
    }
}

impl Opened {
    async fn new(store: &StoreChoice, embedder: &Arc<Given>) -> Result<Self, AnyError> {
        let resident_before = resident();
        let index = match store {
            StoreChoice::Memory => Index::InMemory(InMemoryStore::new()),
            StoreChoice::Cached(path, cache) => {
                Index::Cache(HotCache::open(TursoStore::open(path).await?, cache).await?)
            }
            _ => Index::Nobody,
        };
        let builder = match &index {
            Index::InMemory(store) => builder(embedder).store(store.clone()),
            Index::Cache(store) => builder(embedder).store(store.clone()),
            Index::Nobody => builder(embedder).store(store.open().await?),
        };
        Ok(Self { memory: builder.build().await?, index, resident_before })
    }

    async fn taken(&self) -> Result<Taken, AnyError> {
        let growth =
            resident().zip(self.resident_before).map(|(after, before)| after.saturating_sub(before) as f64 / 1e6);
        let beside_records = match &self.index {
            Index::InMemory(store) => Some(store.with_index(|index| index.stats().bytes)? as f64 / 1e6),
            Index::Cache(store) => Some(store.stats().await.index.bytes as f64 / 1e6),
            Index::Nobody => growth,
        };
        Ok(Taken { beside_records, growth })
    }
}

impl Report {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { store, episodes, .. } = self;
        writeln!(out, "ten of {episodes} episodes, {store}\n")?;
        writeln!(out, "{:28}{:>12}{:>12}{:>12}{:>12}", "", "p50 ms", "p99 ms", "recall@10", "of the scan")?;
        let ways = [
            ("vector", self.vector),
            ("vector in a domain", self.filtered),
            ("words and vector", self.hybrid),
            ("words", self.words),
            ("plain f32 scan, no reading", self.scan),
        ];
        for (name, Way { p50_ms, p99_ms, recall_at_10, ratio_to_scan, .. }) in ways {
            let recall = recall_at_10.map_or("-".to_owned(), |recall| format!("{recall:.4}"));
            writeln!(out, "{name:28}{p50_ms:12.3}{p99_ms:12.3}{recall:>12}{ratio_to_scan:12.3}")?;
        }
        writeln!(out)?;
        let mut line = |name, figure: Option<f64>, meaning| line(out, name, shown(figure), meaning);
        line("filtered of unfiltered", Some(self.filtered_to_unfiltered), "medians")?;
        line("memory MB", self.memory_mb, "to search, beside the stored records")?;
        line("resident growth MB", self.resident_growth_mb, "of the process, from before it opened the store")?;
        line("bytes a record", self.bytes_per_record, "all files, closed")?;
        line("open to first search ms", self.open_to_first_search_ms, "words and vector, ten episodes read")?;
        line("open to first recall ms", self.open_to_first_recall_ms, "Memory::recall of ten")
    }
}
