//! What the examples share: which store and which embedder to use, and files of JSON lines. The examples are the programs beside this folder:
//! `cargo run --example quickstart`.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use memory_core::{InMemoryStore, Memory, MemoryBuilder, MemoryStore, StoreHealth};
use memory_storage_redb::{HotCache, RedbStore};
use memory_storage_turso::TursoStore;
#[cfg(feature = "server")]
use memory_storage_turso::{RemoteConfig, ReplicaConfig};
use serde::de::DeserializeOwned;

mod embedder;

pub use embedder::EmbedderChoice;

/// The program in the project's README, to see that it compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

/// The steps of the guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
mod guide {}

/// Whatever can go wrong in an example.
pub type AnyError = Box<dyn std::error::Error>;

/// How an example ends: an error is told on standard error.
pub fn exit_code(done: Result<(), AnyError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Where an example keeps its memory.
#[expect(clippy::exhaustive_enums, reason = "the examples know all stores")]
#[derive(Clone, Debug)]
pub enum StoreChoice {
    /// In the memory of the process.
    Memory,
    /// In a database file.
    Turso(PathBuf),
    /// In a redb file.
    Redb(PathBuf),
    /// In a database file, behind a hot cache in the redb file beside it.
    Cached(PathBuf),
    /// In the database of the libSQL server at this address.
    #[cfg(feature = "server")]
    Remote(String),
    /// The same, with a copy of it in a file.
    #[cfg(feature = "server")]
    Replica(PathBuf, String),
}

#[cfg(not(feature = "server"))]
const ALLOWED: &str =
    "allowed: memory, turso:PATH, redb:PATH, cached:PATH; with the feature `server` a server's address";
#[cfg(feature = "server")]
const ALLOWED: &str = "allowed: memory, turso:PATH, redb:PATH, cached:PATH, remote:URL, replica:PATH,URL";

impl FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory),
            Some(("turso", path)) if !path.is_empty() => Ok(Self::Turso(path.into())),
            Some(("redb", path)) if !path.is_empty() => Ok(Self::Redb(path.into())),
            Some(("cached", path)) if !path.is_empty() => Ok(Self::Cached(path.into())),
            #[cfg(feature = "server")]
            Some(("remote", url)) if !url.is_empty() => Ok(Self::Remote(url.to_owned())),
            #[cfg(feature = "server")]
            Some(("replica", place)) => match place.split_once(',') {
                Some((path, url)) if !path.is_empty() && !url.is_empty() => {
                    Ok(Self::Replica(path.into(), url.to_owned()))
                }
                _ => Err(ALLOWED.to_owned()),
            },
            _ => Err(ALLOWED.to_owned()),
        }
    }
}

impl StoreChoice {
    /// Builds a memory over the store.
    ///
    /// # Errors
    /// Those of the store and of [`MemoryBuilder::build`].
    pub async fn build(&self, builder: MemoryBuilder) -> Result<Memory, AnyError> {
        let store: Arc<dyn MemoryStore> = match self {
            Self::Memory => Arc::new(InMemoryStore::new()),
            Self::Turso(path) => Arc::new(TursoStore::open(path).await?),
            Self::Redb(path) => Arc::new(RedbStore::open(path).await?),
            Self::Cached(path) => {
                Arc::new(HotCache::open(TursoStore::open(path).await?, path.with_extension("redb")).await?)
            }
            #[cfg(feature = "server")]
            Self::Remote(url) => Arc::new(TursoStore::open_remote(url, RemoteConfig::default()).await?),
            #[cfg(feature = "server")]
            Self::Replica(path, url) => Arc::new(TursoStore::open_replica(path, url, ReplicaConfig::default()).await?),
        };
        Ok(builder.store(store).build().await?)
    }

    /// The same over a store with nothing in it.
    ///
    /// # Errors
    /// As [`build`](Self::build); that there is something in it.
    pub async fn build_new(&self, builder: MemoryBuilder) -> Result<Memory, AnyError> {
        let memory = self.build(builder).await?;
        let held = memory.health().await?.store;
        if held.episodes + held.notes > 0 {
            let StoreHealth { episodes, notes, .. } = held;
            let store = memory.store();
            return Err(format!("{store} holds {episodes} episodes and {notes} notes already; name a new file").into());
        }
        Ok(memory)
    }
}

/// Reads a file with one JSON value a line, plain or gzipped.
///
/// # Errors
/// What went wrong, with file and line; that there is nothing in it.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, String> {
    let place = |error: &dyn Display| format!("{}: {error}", path.display());
    let mut start = [0; 2];
    let length = File::open(path).and_then(|mut file| file.read(&mut start)).map_err(|error| place(&error))?;
    let file = File::open(path).map_err(|error| place(&error))?;
    let reader: Box<dyn Read> =
        if length == 2 && start == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut all = Vec::new();
    for (number, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.map_err(|error| place(&error))?;
        if !line.trim().is_empty() {
            let parsed = serde_json::from_str(&line);
            all.push(parsed.map_err(|error| place(&format_args!("line {}: {error}", number + 1)))?);
        }
    }
    if all.is_empty() { Err(place(&"nothing in it")) } else { Ok(all) }
}

/// A progress bar of so many things.
pub fn progress(length: usize, things: &str) -> ProgressBar {
    let template = format!("{{msg:28}} {{wide_bar}} {{pos}}/{{len}} {things}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style)
}
