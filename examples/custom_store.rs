//! A store of one's own: a journal of JSON lines, one for each batch, in front of a store in memory.
//!
//! ```sh
//! cargo run --example custom_store
//! cargo test -p knowhow-examples --example custom_store    # the contract of stores, over this one
//! ```
//!
//! A commit is acknowledged when its line is synced. Opening the file makes all batches again, in order, so that every record has
//! the version that it had. One process has the file at a time. Good for some ten thousand episodes: everything is held in
//! memory, and the file only grows.

use std::fmt;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use knowhow_examples::{AnyError, exit_code};
use memory_core::{
    Batch, Change, Changes, Commit, Durability, EpisodeId, Error, ErrorKind, Hit, InMemoryStore, Key, LearnerId,
    LoggedEpisode, Memory, MemoryStore, NoteId, OpenedEpisode, OpenedStep, Outcome, Page, Pattern, PatternId, Record,
    Recording, Result, Scan, Search, Step, StoreHealth, StoreInfo, Stored, StoredNote, Task, VectorSpace, Version,
    Watermark,
};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::RwLock;
use uuid::Uuid;

/// A store in a file of JSON lines.
#[derive(Clone, Debug)]
struct JournalStore {
    state: Arc<RwLock<State>>,
}

#[derive(Debug)]
struct State {
    /// All that was committed. Readers see it only while nobody writes, so nothing that is not yet in the file.
    memory: InMemoryStore,
    /// The end of the journal; locked until it is dropped, as it is when the store is closed.
    file: Option<File>,
}

/// One change of a batch; a line of the journal is a list of them.
#[expect(clippy::large_enum_variant, reason = "entries live as long as a line is written or read")]
#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    PutSpace(VectorSpace),
    PutWatermark(Watermark),
    PutEpisode(LoggedEpisode),
    PutOpen(OpenedEpisode),
    PutStep(OpenedStep),
    PutPattern(Pattern),
    PutNote(StoredNote),
    PutUnembedded(Uuid),
    Add(Pattern),
    Delete(Name),
}

/// A [`Key`] that can be written.
#[derive(Debug, Serialize, Deserialize)]
enum Name {
    Space,
    Watermark(LearnerId),
    Episode(EpisodeId),
    Open(EpisodeId),
    Step(EpisodeId, u32),
    Pattern(PatternId),
    Habit(PatternId),
    Note(NoteId),
    Unembedded(Uuid),
}

impl From<Change> for Entry {
    fn from(change: Change) -> Self {
        match change {
            Change::Put(Record::Space(space)) => Self::PutSpace(space),
            Change::Put(Record::Watermark(watermark)) => Self::PutWatermark(watermark),
            Change::Put(Record::Episode(episode)) => Self::PutEpisode(episode),
            Change::Put(Record::Open(open)) => Self::PutOpen(open),
            Change::Put(Record::Step(step)) => Self::PutStep(step),
            Change::Put(Record::Pattern(pattern)) => Self::PutPattern(pattern),
            Change::Put(Record::Note(note)) => Self::PutNote(note),
            Change::Put(Record::Unembedded(id)) => Self::PutUnembedded(id),
            Change::Add(pattern) => Self::Add(pattern),
            Change::Delete(key) => Self::Delete(match key {
                Key::Space => Name::Space,
                Key::Watermark(learner) => Name::Watermark(learner),
                Key::Episode(id) => Name::Episode(id),
                Key::Open(id) => Name::Open(id),
                Key::Step(id, index) => Name::Step(id, index),
                Key::Pattern(id) => Name::Pattern(id),
                Key::Habit(id) => Name::Habit(id),
                Key::Note(id) => Name::Note(id),
                Key::Unembedded(id) => Name::Unembedded(id),
            }),
        }
    }
}

impl From<Entry> for Change {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::PutSpace(space) => Self::Put(Record::Space(space)),
            Entry::PutWatermark(watermark) => Self::Put(Record::Watermark(watermark)),
            Entry::PutEpisode(episode) => Self::Put(Record::Episode(episode)),
            Entry::PutOpen(open) => Self::Put(Record::Open(open)),
            Entry::PutStep(step) => Self::Put(Record::Step(step)),
            Entry::PutPattern(pattern) => Self::Put(Record::Pattern(pattern)),
            Entry::PutNote(note) => Self::Put(Record::Note(note)),
            Entry::PutUnembedded(id) => Self::Put(Record::Unembedded(id)),
            Entry::Add(pattern) => Self::Add(pattern),
            Entry::Delete(name) => Self::Delete(match name {
                Name::Space => Key::Space,
                Name::Watermark(learner) => Key::Watermark(learner),
                Name::Episode(id) => Key::Episode(id),
                Name::Open(id) => Key::Open(id),
                Name::Step(id, index) => Key::Step(id, index),
                Name::Pattern(id) => Key::Pattern(id),
                Name::Habit(id) => Key::Habit(id),
                Name::Note(id) => Key::Note(id),
                Name::Unembedded(id) => Key::Unembedded(id),
            }),
        }
    }
}

impl JournalStore {
    /// Opens a journal, or makes an empty one.
    ///
    /// # Errors
    /// `Busy` if another process has it, `Corrupt` for a line that is none of ours, `Io`.
    async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path: PathBuf = path.as_ref().to_owned();
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).read(true).append(true).open(&path).map_err(|error| failed(&path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(ErrorKind::Busy, format!("another process has {}", path.display())));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
        }
        let mut bytes = std::fs::read(&path).map_err(|error| failed(&path, error))?;
        // A line without an end was cut off by a crash, and so was never acknowledged.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        file.set_len(whole as u64).map_err(|error| failed(&path, error))?;
        let memory = InMemoryStore::new();
        for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let place = format!("{}, line {}", path.display(), number + 1);
            let corrupt = |error: &dyn fmt::Display| Error::new(ErrorKind::Corrupt, format!("{place}: {error}"));
            let entries: Vec<Entry> = serde_json::from_slice(line).map_err(|error| corrupt(&error))?;
            memory.commit(&replayed(entries)).await.map_err(|error| corrupt(&error))?;
        }
        Ok(Self { state: Arc::new(RwLock::new(State { memory, file: Some(File::from_std(file)) })) })
    }
}

/// The batch of a line. What was added to a pattern was added under a condition that held then; any that holds will do now.
fn replayed(entries: Vec<Entry>) -> Batch {
    let nowhere = Key::Step(EpisodeId::new(Uuid::nil()), u32::MAX);
    let mut batch = Batch::new().require_absent(nowhere);
    batch.changes = entries.into_iter().map(Change::from).collect();
    batch
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{}: {error}", path.display())).with_source(error)
}

impl State {
    async fn commit(&mut self, batch: Batch) -> Result<Commit> {
        let before = self.memory.health().await?.version;
        let done = self.memory.commit(&batch).await?;
        if done.version > before {
            let entries: Vec<Entry> = batch.changes.into_iter().map(Entry::from).collect();
            if let Err(error) = self.append(&entries).await {
                // Memory has what the file may lack: nobody is to read that. Opening the file again tells what is in it.
                self.memory.close().await?;
                return Err(Error::new(ErrorKind::Io, format!("the journal: {error}")).with_source(error));
            }
        }
        Ok(Commit { durability: Durability::Durable, ..done })
    }

    async fn append(&mut self, entries: &[Entry]) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(entries)?;
        line.push(b'\n');
        let file = self.file.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        file.write_all(&line).await?;
        file.sync_data().await
    }
}

impl fmt::Display for JournalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JournalStore")
    }
}

#[async_trait]
impl MemoryStore for JournalStore {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("journal", Durability::Durable)
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        let (mut state, batch) = (Arc::clone(&self.state).write_owned().await, batch.clone());
        // In a task of its own, so that it is not cut off in the middle when the caller is.
        let written = tokio::spawn(async move { state.commit(batch).await }).await;
        written.unwrap_or_else(|error| Err(Error::new(ErrorKind::Unavailable, error.to_string()).with_source(error)))
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        self.state.read().await.memory.get(keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        self.state.read().await.memory.scan(scan).await
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        self.state.read().await.memory.search(search).await
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.state.read().await.memory.changes(since, limit).await
    }

    async fn health(&self) -> Result<StoreHealth> {
        self.state.read().await.memory.health().await
    }

    async fn close(&self) -> Result<()> {
        let mut state = self.state.write().await;
        state.file = None;
        state.memory.close().await
    }
}

async fn run() -> Result<(), AnyError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("memory.jsonl");

    let memory = Memory::builder().store(JournalStore::open(&path).await?).build().await?;
    for (test, file) in [("login", "src/auth.rs"), ("logout", "src/auth.rs"), ("signup", "src/signup.rs")] {
        let steps = [
            Step::new("cargo test").input(test).error("test result: FAILED. 1 failed"),
            Step::new("edit").input(file).ok("saved"),
            Step::new("cargo test").input(test).ok("test result: ok"),
        ];
        let task = Task::new(format!("make the {test} test pass"));
        memory.record(Recording::new(task, Outcome::success("it passes")).steps(steps)).await?;
    }
    memory.close().await?;
    drop(memory);
    println!("{} bytes in {} lines", std::fs::metadata(&path)?.len(), std::fs::read_to_string(&path)?.lines().count());

    // As a crash in the middle of a line leaves it.
    let mut torn = std::fs::OpenOptions::new().append(true).open(&path)?;
    std::io::Write::write_all(&mut torn, br#"[{"PutEpisode":{"epi"#)?;
    drop(torn);

    let memory = Memory::builder().store(JournalStore::open(&path).await?).build().await?;
    let steps = [Step::new("cargo test").error("test result: FAILED. 1 failed")];
    let next = memory.suggest(&Task::new("make the search test pass"), &steps, 1).await?;
    let next = next.first().map(|suggestion| suggestion.tool.as_str());
    println!("opened again: {} episodes; after a failed test: {next:?}", memory.health().await?.store.episodes);
    if memory.health().await?.store.episodes != 3 || next != Some("edit") {
        return Err("what was acknowledged is not there".into());
    }
    let second = JournalStore::open(&path).await;
    if second.as_ref().is_ok() || second.is_err_and(|error| error.kind() != ErrorKind::Busy) {
        return Err("two had the file at once".into());
    }
    memory.close().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run().await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory_core::testkit::extremes;

    mod contract {
        memory_core::contract_tests!(async || {
            let folder = tempfile::tempdir().unwrap();
            (super::JournalStore::open(folder.path().join("memory.jsonl")).await.unwrap(), folder)
        });
    }

    #[tokio::test]
    async fn a_file_that_is_opened_again_holds_every_record_as_it_was_put() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.jsonl");
        let store = JournalStore::open(&path).await.unwrap();
        store.commit(&Batch::new().put(extremes::space())).await.unwrap();
        let records = extremes::records(0);
        extremes::put_all(&store, &records).await;
        let before = store.changes(Version(0), 1_000).await.unwrap();
        drop(store);

        let store = JournalStore::open(&path).await.unwrap();
        extremes::assert_kept(&store, &records).await;
        assert_eq!(store.changes(Version(0), 1_000).await.unwrap(), before);
    }

    #[tokio::test]
    async fn a_line_that_was_changed_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.jsonl");
        std::fs::write(&path, "[]\n[{\"Put\":1}]\n").unwrap();
        let error = JournalStore::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
