//! A model in the process itself.

mod bert;
mod files;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::{Embedder, Error, ErrorKind, Result, Role, Vector, VectorSpace};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::Model;
use crate::client::{Backend, Client, Failure};
use bert::Bert;
use files::Files;

/// Texts that go through the model together.
const PORTION: usize = 32;

/// A model of the BERT family, read from a directory and run on the processor: no server, no network.
///
/// The directory is one that sentence-transformers saves: `config.json`, `model.safetensors`, `tokenizer.json`,
/// `1_Pooling/config.json` (mean or first token), and `sentence_bert_config.json`, if it is there. A text of more tokens than
/// the model takes is split as one of too many bytes is ([`Model::too_long`]); none is cut.
///
/// One portion of 32 texts is computed at a time, on a thread for blocking work and on all processors; calls take turns.
///
/// # Cancellation
/// A portion that is being computed when its future is dropped is computed to its end, and the next call waits for it.
#[derive(Debug)]
pub struct LocalEmbedder {
    client: Client,
}

impl LocalEmbedder {
    /// Reads the model and embeds a text with it.
    ///
    /// Without a `model`, it is called as the directory is, with the prefixes that are known of that name. Without a
    /// [revision](Model::revision), that is a hash of the files that vectors depend on: another model is another space.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if a file is missing, unreadable or not of a model of the BERT family, or if `model` is
    /// not valid or says another length of vectors.
    pub async fn open(directory: impl AsRef<Path>, model: Option<Model>) -> Result<Self> {
        let directory = directory.as_ref().to_owned();
        let place = directory.clone();
        let (model, bert) = blocking(move || {
            let files = Files::read(&directory)?;
            let model = files.describe(model)?;
            Ok::<_, Error>((model, Bert::load(files)?))
        })
        .await?;
        let backend = Local { directory: place, bert: Arc::new(Mutex::new(bert)) };
        Ok(Self { client: Client::connect(backend, "local", model, PORTION).await? })
    }
}

impl fmt::Display for LocalEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalEmbedder({}, {})", self.client.backend(), self.client.space().model)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Embedder for LocalEmbedder {
    fn space(&self) -> &VectorSpace {
        self.client.space()
    }

    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        self.client.embed(role, texts).await
    }

    async fn health(&self) -> Result<()> {
        self.client.health().await
    }
}

/// The model, which one portion has at a time.
struct Local {
    directory: PathBuf,
    bert: Arc<Mutex<Bert>>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.directory.display())
    }
}

#[async_trait]
impl Backend for Local {
    async fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
        let texts = texts.to_vec();
        // Held until they are computed, even if nobody waits any more.
        let bert = Arc::clone(&self.bert).lock_owned().await;
        blocking(move || bert.vectors(&texts)).await
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }
}

/// Runs work on a thread that may block.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let done = spawn_blocking(work).await;
    done.map_err(|error| Error::new(ErrorKind::Unavailable, "the model's thread ended").with_source(error))?
}
