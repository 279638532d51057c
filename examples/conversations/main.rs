//! Tells a memory long conversations, turn by turn, then asks questions about them and scores what it recalls.
//!
//! ```sh
//! cargo run --release --example conversations -- FILE [--store memory|turso:PATH] [--embedder EMBEDDER] [--json FILE]
//! ```
//!
//! Every line of the file is a turn or a question, as in LoCoMo (A. Maharana et al., "Evaluating Very Long-Term Conversational
//! Memory of LLM Agents", 2024):
//! `{"kind":"turn","conv","turn_id","session","time","speaker","text"}`,
//! `{"kind":"question","conv","qid","question","category","evidence":[turn_id]}`. Each conversation has a scope of its own, each
//! session is a thread, each turn a note of the one who speaks. A question is answered by ranking the turns of its conversation;
//! scored are the turns that its evidence names.
//!
//! EMBEDDER is `hash`, the offline one, which is used without, or with the feature `local` `local:DIR`, a model in a directory, or
//! with the feature `embedders` `openai:URL,MODEL`, `ollama:URL,MODEL` or `mlx:URL,MODEL`.

mod scores;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::Parser;
use knowhow_examples::{AnyError, EmbedderChoice, StoreChoice, exit_code, progress, read_lines};
use memory_core::{Memory, NewNote, NoteId, Place, Scope, Search, Source};
use scores::{Figures, Scores};
use serde::Deserialize;
use serde_json::json;

/// Asks a memory about conversations and scores what it recalls.
#[derive(Debug, Parser)]
struct Arguments {
    /// Turns and questions: JSON lines, plain or gzipped.
    file: PathBuf,
    /// `memory`, or `turso:PATH` for a new database file.
    #[arg(long, default_value = "memory")]
    store: StoreChoice,
    /// `hash`; with the feature `local` also `local:DIR`; with the feature `embedders` also `openai:URL,MODEL`, `ollama:URL,MODEL`
    /// and `mlx:URL,MODEL`.
    #[arg(long, default_value = "hash")]
    embedder: EmbedderChoice,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Turn(Turn),
    Question(Question),
}

#[derive(Debug, Deserialize)]
struct Turn {
    conv: String,
    turn_id: String,
    session: u32,
    time: DateTime<Utc>,
    speaker: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Question {
    conv: String,
    qid: String,
    question: String,
    category: String,
    evidence: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), AnyError> {
    let (mut turns, mut questions) = (Vec::new(), Vec::new());
    for line in read_lines(&arguments.file)? {
        match line {
            Line::Turn(turn) => turns.push(turn),
            Line::Question(question) => questions.push(question),
        }
    }
    let builder = Memory::builder().scope(Scope::new("conversations")?).embedder(arguments.embedder.open().await?);
    let memory = arguments.store.build_new(builder).await?;
    // Before the work, so that a path that cannot be written is told at once.
    let json_file = arguments.json.as_ref().map(File::create).transpose()?;

    let told = tell(&memory, &turns).await?;
    let (scores, took) = ask(&memory, &questions, &told).await?;
    let ms_per_query = took.as_secs_f64() * 1_000.0 / questions.len().max(1) as f64;
    let mut out = std::io::stdout();
    writeln!(out, "{}", scores.table())?;
    writeln!(
        out,
        "{} turns, {} questions, {ms_per_query:.2} ms a question ({})",
        turns.len(),
        questions.len(),
        memory.store()
    )?;
    if let Some(file) = json_file {
        let mut json = scores.json();
        json["ms_per_query"] = json!(ms_per_query);
        serde_json::to_writer_pretty(file, &json)?;
    }
    memory.close().await?;
    Ok(())
}

/// The notes of the turns of a conversation.
type Told = HashMap<NoteId, String>;

/// Tells all turns, conversation by conversation, in order.
async fn tell(memory: &Memory, turns: &[Turn]) -> Result<BTreeMap<String, Told>, AnyError> {
    let bar = progress(turns.len(), "turns");
    bar.set_message("telling");
    let mut conversations: BTreeMap<&str, Vec<&Turn>> = BTreeMap::new();
    for turn in turns {
        conversations.entry(&turn.conv).or_default().push(turn);
    }
    let mut told = BTreeMap::new();
    for (conversation, turns) in conversations {
        let mut positions: HashMap<u32, u32> = HashMap::new();
        let notes = turns.iter().map(|turn| {
            let next = positions.entry(turn.session).or_default();
            let place = Place::new(format!("session {}", turn.session), *next).at(turn.time);
            *next += 1;
            let source = Source::trusted(&turn.speaker);
            NewNote::new(format!("{}: {}", turn.speaker, turn.text)).place(place).source(source)
        });
        let acks = scope(memory, conversation)?.remember_all(notes).await?;
        bar.inc(acks.len() as u64);
        let turns = turns.iter().map(|turn| turn.turn_id.clone());
        told.insert(conversation.to_owned(), acks.into_iter().map(|ack| ack.id).zip(turns).collect());
    }
    bar.finish_and_clear();
    Ok(told)
}

fn scope(memory: &Memory, conversation: &str) -> Result<Memory, AnyError> {
    Ok(memory.in_scope(Scope::new("conversations")?.agent(conversation)?))
}

/// Asks all questions, and says how long the answers took.
async fn ask(
    memory: &Memory,
    questions: &[Question],
    told: &BTreeMap<String, Told>,
) -> Result<(Scores, Duration), AnyError> {
    let bar = progress(questions.len(), "questions");
    bar.set_message("asking");
    let (mut scores, mut took) = (Scores::default(), Duration::ZERO);
    for question in questions {
        let Question { conv, qid, question, category, evidence } = question;
        let turns = told.get(conv).ok_or_else(|| format!("{qid}: there are no turns of {conv}"))?;
        let memory = scope(memory, conv)?;
        let began = Instant::now();
        let found = memory.recall_notes(question, Search::MAX_K).await?;
        took += began.elapsed();
        let ranked = found.notes.iter().filter_map(|recalled| turns.get(&recalled.note.id)).map(String::as_str);
        scores.add(conv, category, Figures::of(ranked, evidence));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((scores, took))
}
