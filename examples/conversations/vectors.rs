//! Vectors that were computed before.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use knowhow_examples::read_lines;
use memory_core::{Embedder, Error, ErrorKind, Result, Role, Vector, VectorSpace};
use serde::Deserialize;

/// An embedder that knows the vectors of certain texts.
#[derive(Debug)]
pub(crate) struct GivenVectors {
    space: VectorSpace,
    vectors: HashMap<String, Vector>,
}

#[derive(Debug, Deserialize)]
struct Line {
    text: String,
    vector: Vector,
}

impl GivenVectors {
    /// Reads lines `{"text","vector"}`.
    pub(crate) fn read(path: &Path) -> std::result::Result<Self, String> {
        let lines: Vec<Line> = read_lines(path)?;
        let space = VectorSpace {
            provider: "given".to_owned(),
            model: path.display().to_string(),
            revision: String::new(),
            dimensions: lines.first().map_or(0, |line| line.vector.dimensions()),
            normalised: false,
            query_prefix: String::new(),
            document_prefix: String::new(),
        };
        Ok(Self { space, vectors: lines.into_iter().map(|line| (line.text, line.vector)).collect() })
    }
}

impl fmt::Display for GivenVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GivenVectors({})", self.space)
    }
}

#[async_trait]
impl Embedder for GivenVectors {
    fn space(&self) -> &VectorSpace {
        &self.space
    }

    async fn embed(&self, _role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        let vector = |text: &&str| {
            let missing = || Error::new(ErrorKind::NotFound, format!("there is no vector of {text:?}"));
            self.vectors.get(*text).cloned().ok_or_else(missing)
        };
        texts.iter().map(vector).collect()
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }
}
