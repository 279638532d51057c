//! Vectors without a model.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use memory_benches::Corpus;
use memory_core::{Embedder, Error, ErrorKind, Result, Role, Vector, VectorSpace};

/// Answers with the vectors it was given before: what a model costs is no cost of a memory.
#[derive(Debug)]
pub(crate) struct Given {
    space: VectorSpace,
    vectors: RwLock<HashMap<String, Vector>>,
}

impl Given {
    pub(crate) fn new() -> Self {
        Self { space: Corpus::space(), vectors: RwLock::default() }
    }

    /// Knows the vectors of these texts from now on, and of no others.
    pub(crate) fn only(&self, vectors: impl IntoIterator<Item = (String, Vector)>) {
        *self.vectors.write().unwrap_or_else(PoisonError::into_inner) = vectors.into_iter().collect();
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

#[async_trait]
impl Embedder for Given {
    fn space(&self) -> &VectorSpace {
        &self.space
    }

    async fn embed(&self, _: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        let vectors = self.vectors.read().unwrap_or_else(PoisonError::into_inner);
        let unknown = |text: &&str| Error::new(ErrorKind::NotFound, format!("no vector was given for {text:?}"));
        texts.iter().map(|text| vectors.get(*text).cloned().ok_or_else(|| unknown(text))).collect()
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }
}
