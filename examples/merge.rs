//! Two agents worked apart. Do they know together what one would know that did it all? And what does it cost?
//!
//! ```sh
//! cargo run --release --example merge -- [--store memory|turso:PATH] [--episodes 10000]
//! ```
//!
//! One agent does two thirds of the work, another one the last two thirds, so that a third is known to both. The second exports
//! what it knows into a file; the first imports it, twice, while a watch follows what changes. What is known then is compared with
//! what a memory knows that did all of the work. Then nine of ten episodes are let go, and a guest fills the quota it was given.
//! The program fails if anything is not as it should be.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use knowhow_examples::{AnyError, StoreChoice, exit_code};
use memory_core::{
    EpisodeId, ErrorKind, ImportOptions, InMemoryStore, Memory, NewNote, Outcome, Quota, QuotaStore, RecordKind,
    Recording, RetentionPolicy, Scope, Source, Step, Task, Version,
};
use tokio::fs::File;

/// Merges the memories of two agents, and looks after the result.
#[derive(Debug, Parser)]
struct Arguments {
    /// `memory`, or `turso:PATH` for a new database file: where the first agent keeps its memory.
    #[arg(long, default_value = "memory")]
    store: StoreChoice,
    /// How many episodes the work has.
    #[arg(long, default_value_t = 10_000)]
    episodes: u32,
}

/// The episode of this number: one of 50 tasks, which goes well if the agent reads before it edits.
fn episode(n: u32, now: DateTime<Utc>) -> Recording {
    let (task, reads) = (n % 50, !n.is_multiple_of(3));
    let first = if reads { Step::new("read").input("README.md").ok("42 lines") } else { Step::new("guess") };
    let last = Step::new("test");
    let (last, outcome) = if reads || n.is_multiple_of(7) {
        (last.ok("passed"), Outcome::success("it works"))
    } else {
        (last.error(format!("test {n} failed")), Outcome::failure("gave up"))
    };
    Recording::new(Task::new(format!("make test {task} of the parser pass")).domain("rust"), outcome)
        .id(EpisodeId::new(uuid::Uuid::from_u128(n.into())))
        .steps([first, Step::new("edit").input("src/parser.rs"), last])
        .completed_at(now - TimeDelta::minutes((n % 40_000).into()))
}

async fn work(memory: &Memory, numbers: std::ops::Range<u32>, now: DateTime<Utc>) -> Result<(), AnyError> {
    for n in numbers {
        memory.record(episode(n, now)).await?;
        if n.is_multiple_of(100) {
            memory.remember(NewNote::new(format!("test {n} is flaky"))).await?;
        }
    }
    memory.project().await?;
    Ok(())
}

/// Does something, and says how long it took.
async fn timed<T>(what: &str, done: impl Future<Output = memory_core::Result<T>>) -> Result<T, AnyError> {
    let begun = Instant::now();
    let result = done.await?;
    println!("{what}: {:.2} s", begun.elapsed().as_secs_f64());
    Ok(result)
}

fn check(holds: bool, what: &str) -> Result<(), AnyError> {
    if holds { Ok(()) } else { Err(format!("not as it should be: {what}").into()) }
}

/// Merges the second memory into the first by a file.
async fn merge(one: &Memory, other: &Memory, file: PathBuf) -> Result<(), AnyError> {
    let told = timed("export", other.export(File::create(&file).await?)).await?;
    println!("  {} episodes and {} notes, {} bytes", told.episodes, told.notes, std::fs::metadata(&file)?.len());
    let before = one.store().health().await?.version;
    let mut watch = one.watch(before);
    let over = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let mut seen = 0;
            loop {
                let last = over.load(Ordering::Acquire);
                match tokio::time::timeout(Duration::from_secs(1), watch.next()).await {
                    Ok(Some(entry)) => seen += u64::from(entry?.key.kind() == RecordKind::Episode),
                    // While it is imported, the next batch may take longer.
                    Err(_) if !last => {}
                    Ok(None) | Err(_) => return Ok::<u64, memory_core::Error>(seen),
                }
            }
        }
    });
    let told = timed("import", one.import(File::open(&file).await?, &ImportOptions::new())).await?;
    over.store(true, Ordering::Release);
    println!("  {} episodes and {} notes were new, {} were there", told.episodes, told.notes, told.skipped);
    check(watching.await?? == told.episodes, "a watch is told each episode once")?;
    let again = timed("import again", one.import(File::open(&file).await?, &ImportOptions::new())).await?;
    check(again.episodes + again.notes + again.merged == 0, "importing twice is importing once")?;
    std::fs::remove_file(file)?;
    Ok(())
}

async fn run(arguments: Arguments) -> Result<(), AnyError> {
    let Arguments { store, episodes } = arguments;
    let (third, now) = (episodes / 3, Utc::now());
    let one = store.build_new(Memory::builder()).await?;
    let [other, all] =
        [StoreChoice::Memory.build(Memory::builder()).await?, StoreChoice::Memory.build(Memory::builder()).await?];
    work(&one, 0..2 * third, now).await?;
    work(&other, third..3 * third, now).await?;
    work(&all, 0..3 * third, now).await?;

    let file = std::env::temp_dir().join(format!("knowhow-merge-{}.jsonl", std::process::id()));
    merge(&one, &other, file).await?;
    one.project().await?;
    let heuristics = one.heuristics().await?;
    check(heuristics.len() == all.heuristics().await?.len(), "both have the same rules")?;
    check(one.patterns().await?.len() == all.patterns().await?.len(), "both have the same patterns")?;
    println!(
        "both together know {} patterns and {} rules, as one would that did it all",
        one.patterns().await?.len(),
        heuristics.len()
    );

    let policy = RetentionPolicy::new().max_episodes(u64::from(episodes / 10).max(1));
    let removed = timed("retention", one.retain(&policy)).await?;
    println!("  {} episodes were let go", removed.episodes);
    check(one.rebuild().await?.repaired == 0, "what is known is what the rest shows")?;

    let store = QuotaStore::new(InMemoryStore::new(), Quota::new().episodes(100));
    let guest = Memory::builder().store(store).scope(Scope::new("guest")?).build().await?;
    let guest = guest.from_source(Source::untrusted("guest"))?;
    let mut file = Vec::new();
    one.export(&mut file).await?;
    let imported = guest.import(&file[..], &ImportOptions::new().batch(25)).await;
    let refused = imported.as_ref().is_err_and(|error| error.kind() == ErrorKind::QuotaExceeded);
    check(refused == (episodes / 10 > 100), "a quota bounds what a guest imports")?;
    if let Err(error) = imported {
        println!("the guest was told: {error}");
    }
    check(guest.store().health().await?.version > Version(0), "what there was room for is there")?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Arguments::parse()).await)
}
