//! An agent with real tools that repairs folders, and makes fewer mistakes once it has a memory of having done so.
//!
//! ```sh
//! cargo run --example agent_loop
//! ```
//!
//! Each task is a temporary folder whose `run.sh` fails for a reason. The agent has a command for each of five repairs, and no idea
//! which helps. Before it begins it recalls; when a command fails with an error that it has read about, it does what repaired it
//! then; else it takes the suggested command, if there is one that it has not tried yet; else any. No model is behind it.
//!
//! It goes through ten tasks twice, other folders with other names the second time. The program fails if the second round does not
//! need at most half of the wrong commands of the first, and if an agent that begins the second round with an empty memory does as well.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::{Command, ExitCode};

use knowhow_examples::{AnyError, exit_code};
use memory_core::text::error_signature;
use memory_core::{InMemoryStore, Memory, OpenEpisode, Outcome, Recollection, Step, Task};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// What the agent can do: the name of a tool, and the command behind it.
const TOOLS: [(&str, &str); 6] = [
    ("run", "./run.sh"),
    ("unlock", "rm lock"),
    ("make folder", "mkdir out"),
    ("restore settings", "test ! -e settings && cp settings.default settings"),
    ("make executable", "test ! -x run.sh && chmod +x run.sh"),
    ("fetch input", "test ! -e input && echo 1 2 3 > input"),
];

/// What is wrong with a folder: a command that breaks it.
const FAULTS: [&str; 5] = ["touch lock", "rm -r out", "rm settings", "chmod -x run.sh", "rm input"];

const SCRIPT: &str = r#"#!/bin/sh
fail() { echo "error: $1" >&2; exit 1; }
[ ! -e lock ] || fail "another run holds the lock"
[ -e settings ] || fail "no settings found"
[ -e input ] || fail "there is nothing to read"
[ -d out ] || fail "cannot write the report"
cat input > out/report
"#;

/// Runs a command in the folder: what it printed, or what it said when it failed.
fn shell(folder: &Path, command: &str) -> Result<String, AnyError> {
    let output = Command::new("sh").args(["-c", command]).current_dir(folder).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr).into()) }
}

/// A folder in which the script works, and then does not any more.
fn broken_folder(fault: &str) -> Result<tempfile::TempDir, AnyError> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("run.sh"), SCRIPT)?;
    let setup = "chmod +x run.sh && mkdir out && touch settings settings.default input";
    shell(folder.path(), &format!("{setup} && ./run.sh && {fault}"))?;
    Ok(folder)
}

/// Does one thing, and tells the memory.
async fn act(episode: &mut OpenEpisode, folder: &Path, tool: &str) -> Result<Result<(), String>, AnyError> {
    let command = TOOLS.iter().find(|(name, _)| *name == tool).map(|(_, command)| *command).ok_or("no such tool")?;
    let step = Step::new(tool).input(command);
    let (step, done) = match shell(folder, command) {
        Ok(printed) => (step.ok(printed), Ok(())),
        Err(error) => (step.error(error.to_string()), Err(error.to_string())),
    };
    episode.step(step).await?;
    Ok(done)
}

/// What the recollection says that repaired this error, tool by tool.
fn recovery(recollection: &Recollection, error: &str) -> VecDeque<String> {
    let signature = error_signature(error);
    let met = recollection.pitfalls.iter().find(|pitfall| pitfall.tool == "run" && pitfall.error == signature);
    let best = met.and_then(|pitfall| pitfall.recoveries.iter().find(|recovery| recovery.support.successes > 0.0));
    best.map(|recovery| recovery.tools.split(" > ").map(str::to_owned).collect()).unwrap_or_default()
}

/// Repairs a folder; how many of its commands were of no use.
async fn solve(memory: &Memory, name: &str, fault: &str, random: &mut StdRng) -> Result<u32, AnyError> {
    let folder = broken_folder(fault)?;
    let task = Task::new(format!("make the {name} report run again")).domain("reports");
    let mut episode = memory.start(task).await?;
    let recollection = episode.recall(10).await?;
    let mut useless = 0;
    let mut tried = BTreeSet::new();
    while let Err(error) = act(&mut episode, folder.path(), "run").await? {
        let read = recovery(&recollection, &error).into_iter().find(|tool| tool != "run" && !tried.contains(tool));
        let suggested = episode.suggest(5).await?.into_iter().map(|suggestion| suggestion.tool);
        let suggested: Vec<String> = suggested.filter(|tool| tool != "run" && !tried.contains(tool)).collect();
        let left: Vec<&str> = TOOLS[1..].iter().map(|(name, _)| *name).filter(|name| !tried.contains(*name)).collect();
        let any = left.choose(random).map(|name| (*name).to_owned());
        let tool = read.or(suggested.into_iter().next()).or(any).ok_or("nothing is left to try")?;
        // Each repair fails where there is nothing to repair.
        let helped = act(&mut episode, folder.path(), &tool).await?.is_ok();
        useless += u32::from(!helped);
        tried.insert(tool);
    }
    episode.complete(Outcome::success("the report is there")).await?;
    Ok(useless)
}

/// Repairs ten folders, two with each fault.
async fn round(memory: &Memory, names: &[&str; 10], random: &mut StdRng) -> Result<u32, AnyError> {
    let mut useless = 0;
    for (name, fault) in names.iter().zip(FAULTS.iter().cycle()) {
        useless += solve(memory, name, fault, random).await?;
    }
    Ok(useless)
}

async fn new_memory() -> Result<Memory, AnyError> {
    Ok(Memory::builder().store(InMemoryStore::new()).seed(1).build().await?)
}

const FIRST: [&str; 10] =
    ["sales", "stock", "payroll", "churn", "traffic", "energy", "quality", "returns", "weather", "budget"];
const SECOND: [&str; 10] =
    ["audit", "fleet", "claims", "orders", "visits", "safety", "rental", "tickets", "harvest", "training"];

async fn run() -> Result<(), AnyError> {
    let memory = new_memory().await?;
    let first = round(&memory, &FIRST, &mut StdRng::seed_from_u64(1)).await?;
    println!("first round:  {first} useless commands in ten tasks");
    let second = round(&memory, &SECOND, &mut StdRng::seed_from_u64(2)).await?;
    println!("second round: {second}");
    let without = round(&new_memory().await?, &SECOND, &mut StdRng::seed_from_u64(2)).await?;
    println!("second round, had it forgotten the first: {without}");
    if 2 * second > first || 2 * second > without {
        return Err("what it recalled did not help".into());
    }
    memory.close().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    exit_code(run().await)
}
