//! An embedder of one's own: hashed groups of three letters, which see through misspellings.
//!
//! ```sh
//! cargo run --example custom_embedder
//! cargo test -p knowhow-examples --example custom_embedder    # the contract of embedders, over this one
//! ```

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use knowhow_examples::{AnyError, exit_code};
use memory_core::{
    Embedder, ErrorKind, HashEmbedder, InMemoryStore, Memory, Outcome, Recording, Result, Role, Task, Vector,
    VectorSpace,
};

/// Counts groups of three letters, each in one of 256 places.
#[derive(Clone, Debug)]
struct Trigrams {
    space: VectorSpace,
}

impl Trigrams {
    const DIMENSIONS: usize = 256;

    fn new() -> Self {
        Self {
            // Whatever changes the vectors of a text changes the revision: stores compare nothing across spaces.
            space: VectorSpace {
                provider: "example".to_owned(),
                model: "trigrams".to_owned(),
                revision: "1".to_owned(),
                dimensions: Self::DIMENSIONS,
                normalised: true,
                query_prefix: String::new(),
                document_prefix: String::new(),
            },
        }
    }
}

/// FNV-1a: the same on every machine and in every release, as stored vectors must be.
fn hash(letters: &[char]) -> u64 {
    letters.iter().fold(0xcbf2_9ce4_8422_2325, |hash, letter| (hash ^ u64::from(*letter)).wrapping_mul(0x100_0000_01b3))
}

fn embed(text: &str) -> Result<Vector> {
    let letters: Vec<char> = format!(" {} ", text.to_lowercase()).chars().collect();
    let mut components = vec![0.0_f32; Trigrams::DIMENSIONS];
    for group in letters.windows(3) {
        let place = hash(group) % Trigrams::DIMENSIONS as u64;
        components[usize::try_from(place).unwrap_or_default()] += 1.0;
    }
    let norm = components.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        components.iter_mut().for_each(|x| *x /= norm);
    }
    Vector::new(components)
}

impl fmt::Display for Trigrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trigrams")
    }
}

#[async_trait]
impl Embedder for Trigrams {
    fn space(&self) -> &VectorSpace {
        &self.space
    }

    async fn embed(&self, _role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        texts.iter().map(|text| embed(text)).collect()
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }
}

async fn run() -> Result<(), AnyError> {
    let store = Arc::new(InMemoryStore::new());
    let memory = Memory::builder().store(Arc::clone(&store)).embedder(Trigrams::new()).build().await?;
    for task in ["reset the password", "export the quarterly invoices", "rotate the certificates of the gateway"] {
        memory.record(Recording::new(Task::new(task), Outcome::success("done"))).await?;
    }

    let recollection = memory.recall(&Task::new("pasword resett"), 1).await?;
    let found = recollection.episodes.first().ok_or("nothing was found")?;
    println!("pasword resett -> {}: {}", found.episode.task.text, found.parts);
    if found.episode.task.text != "reset the password" || found.parts.words > 0.0 {
        return Err("the misspelt task, which shares no word with it, was not found by its vector".into());
    }

    let other = Memory::builder().store(store).embedder(HashEmbedder::new()).build().await;
    let error = other.err().ok_or("a store took vectors of two spaces")?;
    println!("with another embedder: {error}");
    if error.kind() != ErrorKind::SpaceMismatch { Err(error.into()) } else { Ok(()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run().await)
}

#[cfg(test)]
mod contract {
    memory_core::embedder_contract_tests!(async || super::Trigrams::new());
}
