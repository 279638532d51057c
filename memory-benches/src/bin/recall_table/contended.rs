//! Recall while others write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memory_benches::{Corpus, Form, Trial, hybrid, search_and_get};
use memory_core::{Batch, InMemoryStore, MemoryStore, Record, Search};

use crate::AnyError;

/// Episodes that are stored before.
pub(crate) const STORED: u32 = 20_000;
/// Tasks that write.
pub(crate) const WRITERS: u32 = 4;
/// Threads that all tasks share.
const THREADS: usize = 2;
/// Searches of the one task that reads.
const SEARCHES: usize = 2_000;
/// Episodes that each writer puts around and around, of which half are there at a time.
const WRITTEN: u32 = 500;

/// What came of it.
pub(crate) struct Contended {
    /// How long each search took, reading what it found included.
    pub(crate) times: Vec<Duration>,
    /// Batches that were written in a second meanwhile.
    pub(crate) writes_a_second: f64,
}

/// Searches by words and vector, one after the other, while other tasks put episodes and delete earlier ones as fast as they
/// can. Every task lets the others have their turn after each call, as those that wait for something do.
pub(crate) fn measure(corpus: &Corpus, advance: impl Fn()) -> Result<Contended, AnyError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).build()?;
    let searches: Vec<Search> = corpus.queries().iter().map(hybrid).collect();
    runtime.block_on(async {
        let mut trial = Trial::new(Form::Whole).await?;
        trial.grow(corpus, STORED, advance).await?;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let first = STORED + writer * WRITTEN;
                let episodes = (first..first + WRITTEN).map(|place| corpus.episode(place, Form::Whole));
                let records = episodes.map(Record::Episode).collect();
                tokio::spawn(write(trial.store().clone(), records, Arc::clone(&stop), Arc::clone(&written)))
            })
            .collect();
        let (start, before) = (Instant::now(), written.load(Ordering::Relaxed));
        let times = tokio::spawn(search(trial.store().clone(), searches)).await;
        let span = start.elapsed().as_secs_f64();
        let meanwhile = written.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await??;
        }
        Ok(Contended { times: times??, writes_a_second: meanwhile as f64 / span })
    })
}

async fn search(store: InMemoryStore, searches: Vec<Search>) -> memory_core::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(SEARCHES);
    for search in searches.iter().cycle().take(SEARCHES) {
        let start = Instant::now();
        search_and_get(&store, search).await?;
        times.push(start.elapsed());
        tokio::task::yield_now().await;
    }
    Ok(times)
}

/// Puts the next record, and deletes the one that was put half a round before.
async fn write(
    store: InMemoryStore,
    records: Vec<Record>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> memory_core::Result<()> {
    let half = records.len() / 2;
    for (record, earlier) in records.iter().zip(records.iter().cycle().skip(half)).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        store.commit(&Batch::new().put(record.clone()).delete(earlier.key())).await?;
        written.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
    Ok(())
}
