//! The embedder that is always there.

use std::fmt;

use async_trait::async_trait;
use xxhash_rust::xxh3::xxh3_64;

use crate::text::{terms, words};
use crate::{Embedder, Result, Role, Vector, VectorSpace};

/// An offline, deterministic embedder: signed feature hashing (K. Weinberger et al., "Feature Hashing for Large Scale Multitask
/// Learning", 2009) of stemmed words and of character n-grams of 3 to 5 letters, normalised to length 1.
///
/// It needs no model, no network and no training, and gives the same vector on every machine. It sees *spelling*, not
/// meaning: "log in" and "login", "authenticate" and "authentication" come out alike; "car" and "automobile" do not, nor
/// does a text and its translation. Where that matters, use an embedder with a model.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use memory_core::{Embedder, HashEmbedder, Role};
/// let vectors = HashEmbedder::new().embed(Role::Document, &["reset the password", "password resets"]).await?;
/// assert!(vectors[0].cosine(&vectors[1]) > 0.5);
/// # Ok::<(), memory_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct HashEmbedder {
    space: VectorSpace,
}

impl HashEmbedder {
    /// The length of its vectors.
    pub const DIMENSIONS: usize = 256;

    const NGRAMS: std::ops::RangeInclusive<usize> = 3..=5;
    const WORD_WEIGHT: f32 = 1.0;
    const NGRAM_WEIGHT: f32 = 0.5;

    /// The embedder.
    pub fn new() -> Self {
        Self {
            space: VectorSpace {
                provider: "knowhow".to_owned(),
                model: "hash".to_owned(),
                revision: "1".to_owned(),
                dimensions: Self::DIMENSIONS,
                normalised: true,
                query_prefix: String::new(),
                document_prefix: String::new(),
            },
        }
    }
}

impl Default for HashEmbedder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for HashEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashEmbedder")
    }
}

#[async_trait]
impl Embedder for HashEmbedder {
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

fn embed(text: &str) -> Result<Vector> {
    let mut components = vec![0.0_f32; HashEmbedder::DIMENSIONS];
    let mut add = |feature: &str, weight: f32| {
        let hash = xxh3_64(feature.as_bytes());
        let sign = if hash >> 63 == 0 { weight } else { -weight };
        let [low, high, ..] = hash.to_le_bytes();
        components[usize::from(u16::from_le_bytes([low, high])) % HashEmbedder::DIMENSIONS] += sign;
    };
    for term in terms(text) {
        add(&format!("w:{term}"), HashEmbedder::WORD_WEIGHT);
    }
    for word in words(text) {
        let letters: Vec<char> = format!("<{word}>").chars().collect();
        for length in HashEmbedder::NGRAMS {
            for ngram in letters.windows(length) {
                let ngram: String = ngram.iter().collect();
                add(&format!("c:{ngram}"), HashEmbedder::NGRAM_WEIGHT);
            }
        }
    }
    let norm = components.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        components.iter_mut().for_each(|x| *x /= norm);
    }
    Vector::new(components)
}
