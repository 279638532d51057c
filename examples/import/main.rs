//! Takes over what another memory holds.
//!
//! ```sh
//! cargo run --example import -- mem0 examples/import/samples/mem0.json
//! cargo run --example import -- mcp-memory examples/import/samples/mcp-memory.jsonl
//! cargo run --example import -- self-learning-memory examples/import/samples/self-learning-memory.json --store turso:memory.db
//! ```
//!
//! Each format has a file here, which says its source, its version and what becomes of each field. What cannot be taken over is
//! counted under its name and told at the end. Importing a file twice writes no record twice.

mod mcp_memory;
mod mem0;
mod self_learning_memory;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use knowhow_examples::{AnyError, StoreChoice, exit_code};
use memory_core::{Memory, NewNote, Recording, Source};
use serde_json::{Map, Value};

/// Takes over what another memory holds.
#[derive(Debug, Parser)]
struct Arguments {
    /// What the file is of.
    format: Format,
    /// The file.
    file: PathBuf,
    /// `memory` to try it, `turso:PATH` for a database file.
    #[arg(long, default_value = "memory")]
    store: StoreChoice,
    /// Take it as hearsay: kept and counted apart, and not told.
    #[arg(long)]
    untrusted: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// What `get_all` or an export of mem0 gives.
    Mem0,
    /// The file of the MCP reference memory server.
    McpMemory,
    /// A backup of rust-self-learning-memory.
    SelfLearningMemory,
}

impl Format {
    fn read(self, text: &str) -> Result<Found, String> {
        match self {
            Self::Mem0 => mem0::read(text),
            Self::McpMemory => mcp_memory::read(text),
            Self::SelfLearningMemory => self_learning_memory::read(text),
        }
    }

    const fn source(self) -> &'static str {
        match self {
            Self::Mem0 => "mem0",
            Self::McpMemory => "mcp-memory",
            Self::SelfLearningMemory => "self-learning-memory",
        }
    }
}

/// What a file holds, in terms of this memory.
#[derive(Debug, Default)]
struct Found {
    episodes: Vec<Recording>,
    notes: Vec<NewNote>,
    left: LeftOut,
}

/// What was not taken over, and how often.
#[derive(Debug, Default, PartialEq)]
struct LeftOut(BTreeMap<String, u64>);

impl LeftOut {
    fn count(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    /// Counts each field that is there and holds something.
    fn fields(&mut self, of: &str, fields: &Map<String, Value>) {
        let is_empty = |value: &Value| match value {
            Value::Null => true,
            Value::Array(values) => values.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        fields.iter().filter(|(_, value)| !is_empty(value)).for_each(|(name, _)| self.count(format!("{of}: {name}")));
    }

    /// Those that may be tags.
    fn tags(&mut self, tags: impl IntoIterator<Item = String>) -> Vec<String> {
        let (fit, odd): (Vec<String>, Vec<String>) = tags.into_iter().partition(|tag| (1..=64).contains(&tag.len()));
        odd.iter().for_each(|_| self.count("tags that are empty or longer than 64 bytes"));
        fit.iter().skip(32).for_each(|_| self.count("tags after the first 32"));
        fit.into_iter().take(32).collect()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "everything was taken over");
        }
        writeln!(f, "not taken over:")?;
        self.0.iter().try_for_each(|(what, times)| writeln!(f, "  {times:>5}  {what}"))
    }
}

/// The JSON objects of a text: one a line.
fn lines(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(place, line)| {
        serde_json::from_str(line).map_err(|error| format!("line {}: {error}; allowed: a JSON object", place + 1))
    });
    parsed.collect()
}

/// Writes what was found, one by one, so that what this memory refuses is told and keeps nothing else out.
async fn write(memory: &Memory, found: Found) -> Result<LeftOut, AnyError> {
    let Found { episodes, notes, mut left } = found;
    for episode in episodes {
        if let Err(error) = memory.record(episode).await {
            left.count(format!("episodes refused: {error}"));
        }
    }
    for note in notes {
        if let Err(error) = memory.remember(note).await {
            left.count(format!("notes refused: {error}"));
        }
    }
    memory.project().await?;
    Ok(left)
}

async fn run(arguments: Arguments) -> Result<(), AnyError> {
    let Arguments { format, file, store, untrusted } = arguments;
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let found = format.read(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{}: {} episodes, {} notes", file.display(), found.episodes.len(), found.notes.len());
    let memory = store.build(Memory::builder()).await?;
    let source = if untrusted { Source::untrusted(format.source()) } else { Source::trusted(format.source()) };
    let left = write(&memory.from_source(source)?, found).await?;
    print!("{left}");
    let held = memory.health().await?.store;
    println!("{} holds {} episodes and {} notes", memory.store(), held.episodes, held.notes);
    memory.close().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Arguments::parse()).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory_core::InMemoryStore;

    fn left(counts: &[(&str, u64)]) -> LeftOut {
        LeftOut(counts.iter().map(|(what, times)| ((*what).to_owned(), *times)).collect())
    }

    async fn imported(format: Format, text: &str) -> (Memory, LeftOut) {
        let memory = Memory::builder().store(InMemoryStore::new()).build().await.unwrap();
        let mut told = None;
        for _ in 0..2 {
            let left = write(&memory, format.read(text).unwrap()).await.unwrap();
            assert!(told.is_none_or(|told| told == left), "the second time it tells the same");
            told = Some(left);
        }
        (memory, told.unwrap())
    }

    async fn held(memory: &Memory) -> (u64, u64) {
        let held = memory.health().await.unwrap().store;
        (held.episodes, held.notes)
    }

    #[tokio::test]
    async fn takes_over_mem0() {
        let (memory, told) = imported(Format::Mem0, include_str!("samples/mem0.json")).await;
        assert_eq!(held(&memory).await, (0, 3));
        let expected = left(&[
            ("memories that have expired", 1),
            ("memory: created_at", 4),
            ("memory: hash", 4),
            ("memory: updated_at", 2),
            ("metadata: confidence", 1),
            ("relations", 1),
        ]);
        assert_eq!(told, expected);
        let found = memory.recall_notes("what may I cook for dinner?", 1).await.unwrap().notes;
        assert_eq!(found[0].note.text, "Cooks vegetarian dinners on weekdays");
    }

    #[tokio::test]
    async fn takes_over_the_mcp_memory_server() {
        let (memory, told) = imported(Format::McpMemory, include_str!("samples/mcp-memory.jsonl")).await;
        assert_eq!(held(&memory).await, (0, 6));
        assert_eq!(told, left(&[("entity: importance", 1), ("lines of type \"comment\"", 1)]));
        let found = memory.recall_notes("who maintains the gateway?", 1).await.unwrap().notes;
        assert_eq!(found[0].note.text, "platform team maintains gateway");
    }

    #[tokio::test]
    async fn takes_over_self_learning_memory() {
        let sample = include_str!("samples/self-learning-memory.json");
        let (memory, told) = imported(Format::SelfLearningMemory, sample).await;
        assert_eq!(held(&memory).await, (3, 0));
        let expected = left(&[
            ("backup: patterns", 1),
            ("episode: metadata", 1),
            ("episode: patterns", 1),
            ("episodes that have not ended", 1),
            ("reward: all but its total", 2),
            ("reward: totals outside 0..=1", 1),
            ("step: metadata", 1),
            ("step: timestamp", 6),
        ]);
        assert_eq!(told, expected);
        let task = memory_core::Task::new("fix the failing parser test").domain("parsing");
        let failed = memory_core::Step::new("cargo test").error("test result: FAILED. 1 failed");
        assert_eq!(memory.suggest(&task, &[failed], 1).await.unwrap()[0].tool, "read_file");
    }

    #[test]
    fn says_what_is_no_such_file() {
        for (format, text) in [
            (Format::Mem0, "{}"),
            (Format::Mem0, r#"{"results": [{"id": 1}]}"#),
            (Format::McpMemory, "{\"type\": \"entity\"}"),
            (Format::McpMemory, "[]"),
            (Format::SelfLearningMemory, r#"{"episodes": [{}]}"#),
            (Format::SelfLearningMemory, "nothing"),
        ] {
            assert!(!format.read(text).unwrap_err().is_empty(), "{format:?} {text}");
        }
    }
}
