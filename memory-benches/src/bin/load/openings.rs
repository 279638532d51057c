//! How long it takes from a closed store to the first answer.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memory_benches::{Query, StoreChoice, hybrid, search_and_get};
use memory_core::{MemoryStore as _, Task};

use crate::AnyError;
use crate::embedder::Given;
use crate::report::median;
use crate::subject::builder;

/// How often the store is opened, and how long that takes at most in all.
const OPENINGS: usize = 11;
const LONGEST: Duration = Duration::from_secs(20);
const K: usize = 10;

/// Medians of several openings of a store whose files were just read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Openings {
    /// To the answer of a search by words and vector, ten episodes read.
    pub(crate) search_ms: f64,
    /// To the answer of `Memory::recall`.
    pub(crate) recall_ms: f64,
    pub(crate) count: usize,
}

impl Openings {
    /// Opens the store for these queries; there is nothing to measure of one that does not outlive its closing.
    pub(crate) async fn measure(
        store: &StoreChoice,
        embedder: &Arc<Given>,
        queries: &[Query],
    ) -> Result<Option<Self>, AnyError> {
        if store.file().is_none() {
            return Ok(None);
        }
        let (mut searches, mut recalls) = (Vec::new(), Vec::new());
        let start = Instant::now();
        for query in queries.iter().take(OPENINGS) {
            searches.push(to_first_search(store, query).await?);
            recalls.push(to_first_recall(store, embedder, query).await?);
            if start.elapsed() > LONGEST {
                break;
            }
        }
        let ms = |times: &[Duration]| median(times.iter().map(|time| 1e3 * time.as_secs_f64()));
        Ok(Some(Self { search_ms: ms(&searches), recall_ms: ms(&recalls), count: searches.len() }))
    }
}

async fn to_first_search(store: &StoreChoice, query: &Query) -> Result<Duration, AnyError> {
    let search = hybrid(query);
    let start = Instant::now();
    let store = store.open().await?;
    black_box(search_and_get(&store, &search).await?);
    let took = start.elapsed();
    store.close().await?;
    Ok(took)
}

async fn to_first_recall(store: &StoreChoice, embedder: &Arc<Given>, query: &Query) -> Result<Duration, AnyError> {
    let task = query.domain.iter().fold(Task::new(&query.text), |task, domain| task.domain(*domain));
    let start = Instant::now();
    let memory = builder(embedder).store(store.open().await?).build().await?;
    black_box(memory.recall(&task, K).await?);
    let took = start.elapsed();
    memory.close().await?;
    Ok(took)
}
