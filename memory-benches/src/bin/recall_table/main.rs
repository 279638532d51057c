//! What recall costs and finds, by how many episodes are stored: all figures of one run in a table.
//!
//! ```sh
//! cargo run --release -p knowhow-memory-benches --bin recall-table
//! cargo run --release -p knowhow-memory-benches --bin recall-table -- --million --svg recall.svg --json recall.json
//! ```
//!
//! *Ways of searching* take turns in one run over one store: 100 queries each, then the next 100, some rounds over all 500. Each
//! looks for ten; all but the plain scan read the episodes found. Of exact searches, only 5 of 100 are timed. *Recall@10* is computed apart from the times.
//! *Inserting* is one commit of one episode; the figure is the median of those between the size before and this one.
//! *Index* is what the index takes beside the episodes and their vectors; *resident*, the growth of the process while the store
//! was filled, the episodes themselves included.
//! *Open* is how long it takes from the bytes of the index to the first answer.
//! *`Memory::recall`* asks for ten with the offline embedder, over 10,000 episodes that the memory has learned from.
//! *While others write*, the searches are by words and vector.

mod chart;
mod contended;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use contended::Contended;
use memory_benches::{Corpus, Experienced, Form, Kind, Query, Trial, progress, quantile};
use memory_core::{InMemoryStore, MemoryStore, Recording, Task};
use serde::Serialize;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const SEED: u64 = 1;
/// Queries of one way of searching before the next has its turn.
const BLOCK: usize = 100;
/// Exact searches of a block.
const EXACT: usize = 5;
/// How often an index is opened.
const OPENINGS: usize = 11;
/// Episodes of the memory that is asked as a whole.
const REMEMBERED: u32 = 10_000;

/// Measures recall.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many episodes to store.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000],
          value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    sizes: Vec<u32>,
    /// Measures 1,000,000 episodes without steps, too; this takes minutes and several gigabytes of memory.
    #[arg(long)]
    million: bool,
    /// How often all queries are asked.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where to draw the cost by size.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Where to write all figures.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// All figures of a run.
#[derive(Serialize)]
struct Report {
    seed: u64,
    rounds: u32,
    sizes: Vec<Measured>,
    memory_recall: Waited,
    while_others_write: Waited,
    writes_a_second: f64,
}

/// What was measured with so many episodes stored.
#[derive(Serialize)]
struct Measured {
    episodes: u32,
    /// Whether their steps are stored.
    whole: bool,
    ways: Vec<Way>,
    insert_us: f64,
    resident_bytes: Option<u64>,
    /// What the index takes beside the episodes and their vectors.
    index_bytes: u64,
    snapshot_bytes: usize,
    /// From its bytes to the first answer.
    open: Waited,
}

/// A way of searching.
#[derive(Serialize)]
struct Way {
    name: &'static str,
    #[serde(flatten)]
    waited: Waited,
    /// None of the scan, with which the others are compared.
    recall: Option<f64>,
    /// Its median divided by that of the plain scan.
    of_the_scan: f64,
}

/// How long was waited, in milliseconds.
#[derive(Clone, Copy, Serialize)]
struct Waited {
    episodes: u32,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Waited {
    fn new(episodes: u32, times: &mut [Duration]) -> Self {
        let mut ms = |share| 1e3 * quantile(times, share).as_secs_f64();
        Self { episodes, p50_ms: ms(500), p99_ms: ms(990), max_ms: ms(1_000) }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), AnyError> {
    let corpus = Corpus::new(SEED);
    let mut sizes = arguments.sizes.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let measured = runtime.block_on(async {
        // The smaller trial stays until the end: memory that it gave back would hide what the next one takes.
        let mut whole = Trial::new(Form::Whole).await?;
        let mut measured = measure(&mut whole, &corpus, &sizes, arguments.rounds).await?;
        if arguments.million {
            let mut reduced = Trial::new(Form::Reduced).await?;
            measured.extend(measure(&mut reduced, &corpus, &[1_000_000], arguments.rounds).await?);
        }
        Ok::<_, AnyError>(measured)
    })?;
    let memory_recall = memory_recall(&corpus)?;
    let bar = progress("store to write", contended::STORED);
    let Contended { mut times, writes_a_second } = contended::measure(&corpus, || bar.inc(1))?;
    bar.finish_and_clear();
    let while_others_write = Waited::new(contended::STORED, &mut times);
    let rounds = arguments.rounds;
    let report = Report { seed: SEED, rounds, sizes: measured, memory_recall, while_others_write, writes_a_second };
    print(&mut std::io::stdout(), &report)?;
    if let Some(path) = &arguments.svg {
        write(path, &chart::svg(&lines(&report)))?;
    }
    if let Some(path) = &arguments.json {
        write(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), AnyError> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Fills the trial to each of these sizes, and measures it there.
async fn measure(trial: &mut Trial, corpus: &Corpus, sizes: &[u32], rounds: u32) -> Result<Vec<Measured>, AnyError> {
    let queries = corpus.queries();
    let (mut measured, mut resident_bytes) = (Vec::new(), Some(0));
    for size in sizes {
        let bar = progress(format!("storing {size}"), size - trial.size());
        let mut growth = trial.grow(corpus, *size, || bar.inc(1)).await?;
        bar.finish_and_clear();
        resident_bytes = resident_bytes.zip(growth.resident).map(|(before, more)| before + more);
        let (stats, snapshot) = trial.index()?;
        let mut openings = Vec::new();
        for query in queries.iter().take(OPENINGS) {
            openings.push(trial.opening(&snapshot, query).await?);
        }
        measured.push(Measured {
            episodes: *size,
            whole: trial.form() == Form::Whole,
            ways: ways(trial, &queries, rounds).await?,
            insert_us: 1e6 * quantile(&mut growth.commits, 500).as_secs_f64(),
            resident_bytes,
            index_bytes: stats.bytes,
            snapshot_bytes: snapshot.len(),
            open: Waited::new(*size, &mut openings),
        });
    }
    Ok(measured)
}

/// Measures all ways of searching, which take turns.
async fn ways(trial: &Trial, queries: &[Query], rounds: u32) -> Result<Vec<Way>, AnyError> {
    let mut times = Kind::ALL.map(|kind| (kind, Vec::new()));
    let bar = progress(format!("searching {}", trial.size()), rounds * Corpus::QUERIES);
    for block in (0..rounds).flat_map(|_| queries.chunks(BLOCK)) {
        for (kind, times) in &mut times {
            // An exact search takes as long as it must: a few are enough.
            let most = if *kind == Kind::Exact { EXACT } else { BLOCK };
            let asked = || block.iter().filter(|query| kind.asks(query)).take(most);
            if let Some(first) = asked().next() {
                // What the turn before has driven out of the caches is no cost of this one.
                trial.time(*kind, first).await?;
            }
            for query in asked() {
                times.push(trial.time(*kind, query).await?);
            }
        }
        bar.inc(u64::try_from(block.len())?);
    }
    bar.finish_and_clear();
    let scan = times.iter_mut().find(|(kind, _)| *kind == Kind::Scan);
    let scan = scan.map(|(_, times)| quantile(times, 500)).unwrap_or_default();
    let mut ways = Vec::new();
    for (kind, mut times) in times {
        let of_the_scan = quantile(&mut times, 500).as_secs_f64() / scan.as_secs_f64();
        let waited = Waited::new(trial.size(), &mut times);
        ways.push(Way { name: kind.as_str(), waited, recall: trial.recall(kind, queries).await?, of_the_scan });
    }
    Ok(ways)
}

fn memory_recall(corpus: &Corpus) -> Result<Waited, AnyError> {
    const K: usize = 10;
    let bar = progress("remembering", REMEMBERED);
    let episodes = (0..REMEMBERED).map(|place| {
        bar.inc(1);
        Recording::from(&*corpus.episode(place, Form::Whole).episode)
    });
    let store = async || Box::new(InMemoryStore::new()) as Box<dyn MemoryStore>;
    let experienced = Experienced::new(store, episodes)?;
    bar.finish_and_clear();
    let task = |query: &Query| query.domain.iter().fold(Task::new(&query.text), |task, domain| task.domain(*domain));
    let tasks: Vec<Task> = corpus.queries().iter().map(task).collect();
    Ok(Waited::new(REMEMBERED, &mut experienced.recalling(&tasks, K)?))
}

fn print(out: &mut impl Write, report: &Report) -> Result<(), AnyError> {
    let Report { sizes, memory_recall, while_others_write, writes_a_second, .. } = report;
    writeln!(
        out,
        "{:>10}  {:20}{:>10}{:>10}{:>12}{:>12}",
        "episodes", "way", "p50 ms", "p99 ms", "recall@10", "of the scan"
    )?;
    for Measured { episodes, ways, .. } in sizes {
        for Way { name, waited: Waited { p50_ms, p99_ms, .. }, recall, of_the_scan } in ways {
            let recall = recall.map_or("-".to_owned(), |recall| format!("{recall:.4}"));
            writeln!(out, "{episodes:>10}  {name:20}{p50_ms:10.3}{p99_ms:10.3}{recall:>12}{of_the_scan:12.3}")?;
        }
    }
    writeln!(
        out,
        "\n{:>10}{:>12}{:>12}{:>16}{:>12}{:>12}",
        "episodes", "insert µs", "index MB", "bytes an epis.", "resident MB", "open ms"
    )?;
    for Measured { episodes, whole, insert_us, resident_bytes, index_bytes, open, .. } in sizes {
        let resident = resident_bytes.map_or("unknown".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
        let (index, each) = (*index_bytes as f64 / 1e6, index_bytes / u64::from(*episodes));
        let form = if *whole { "" } else { "  without steps" };
        writeln!(out, "{episodes:>10}{insert_us:12.1}{index:12.1}{each:>16}{resident:>12}{:12.2}{form}", open.p50_ms)?;
    }
    let Waited { episodes, p50_ms, p99_ms, .. } = memory_recall;
    writeln!(out, "\nMemory::recall of 10 among {episodes}: p50 {p50_ms:.3} ms, p99 {p99_ms:.3} ms")?;
    let Waited { episodes, p50_ms, p99_ms, max_ms } = while_others_write;
    writeln!(
        out,
        "words and vector among {episodes} while {} tasks write {writes_a_second:.0} batches/s: p50 {p50_ms:.3} ms, \
         p99 {p99_ms:.3} ms, max {max_ms:.3} ms",
        contended::WRITERS
    )?;
    Ok(())
}

/// The medians, a line for each way of searching.
fn lines(report: &Report) -> Vec<chart::Line> {
    let line = |kind: Kind| {
        let name = kind.as_str();
        let ways = report.sizes.iter().flat_map(|sized| &sized.ways).filter(|way| way.name == name);
        let points = ways.map(|way| (f64::from(way.waited.episodes), way.waited.p50_ms));
        chart::Line { name, points: points.collect() }
    };
    Kind::ALL.map(line).into()
}
