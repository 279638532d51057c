//! Drives rust-self-learning-memory over a folder: a request a line on stdin, an answer a line on stdout, both JSON, until stdin ends.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use do_memory_core::{Episode, ExecutionStep, MemoryConfig, SelfLearningMemory, TaskContext, TaskOutcome, TaskType};
use do_memory_storage_redb::RedbStorage;
use do_memory_storage_turso::TursoStorage;
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// `start_episode` takes no number, so an episode keeps its place in what its first step knows besides.
const PLACE: &str = "place";

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Insert { place: u32, text: String, context: TaskContext, steps: Vec<ExecutionStep>, outcome: TaskOutcome },
    Search { text: String, context: TaskContext, k: usize },
    Count,
}

struct Peer {
    memory: SelfLearningMemory,
    storage: Arc<TursoStorage>,
}

impl Peer {
    /// All is as it comes, but for the quality that an episode must have: none that is recorded by these calls reaches 0.7, which is
    /// asked for before anything is learned from it. The peer's own command line sets 0 as well.
    async fn open(folder: &Path) -> Result<Self> {
        let storage = Arc::new(TursoStorage::new_local(folder.join("memory.db")).await?);
        storage.initialize_schema().await?;
        let cache = Arc::new(RedbStorage::new(&folder.join("cache.redb")).await?);
        let config = MemoryConfig { quality_threshold: 0.0, ..MemoryConfig::default() };
        Ok(Self { memory: SelfLearningMemory::with_storage(config, storage.clone(), cache), storage })
    }

    async fn answer(&self, request: Request) -> Result<Value> {
        match request {
            Request::Insert { place, text, context, mut steps, outcome } => {
                steps.first_mut().ok_or("no step")?.metadata.insert(PLACE.to_owned(), place.to_string());
                let id = self.memory.start_episode(text, context, TaskType::Other).await;
                for step in steps {
                    self.memory.log_step(id, step).await;
                }
                // The only call that says when it could not store something.
                self.memory.complete_episode(id, outcome).await?;
                Ok(json!(place))
            }
            Request::Search { text, context, k } => {
                let found = self.memory.retrieve_relevant_context(text, context, k).await;
                found.iter().map(|episode| place_of(episode).map(Value::from)).collect()
            }
            Request::Count => Ok(json!(self.completed().await?)),
        }
    }

    /// What the memory counts itself takes in episodes that were only begun, or ends at 1,000.
    async fn completed(&self) -> Result<i64> {
        let connection = self.storage.get_connection().await?;
        let mut rows = connection.query("SELECT count(*) FROM episodes WHERE end_time IS NOT NULL", ()).await?;
        Ok(rows.next().await?.ok_or("no count")?.get(0)?)
    }
}

fn place_of(episode: &Episode) -> Result<u32> {
    let place = episode.steps.first().and_then(|step| step.metadata.get(PLACE));
    Ok(place.ok_or("an episode has lost its place")?.parse()?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or("which folder?")?;
    let peer = Peer::open(Path::new(&folder)).await?;
    for line in io::stdin().lines() {
        let answer = match serde_json::from_str(&line?) {
            Ok(request) => peer.answer(request).await,
            Err(unknown) => Err(unknown.into()),
        };
        let answer =
            answer.map_or_else(|error| json!({"error": error.to_string()}), |answer| json!({"answer": answer}));
        writeln!(io::stdout(), "{answer}")?;
    }
    Ok(())
}
