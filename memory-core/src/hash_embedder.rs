//! The embedder that is always there.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::text::terms;
use crate::{Embedder, Result, Role, Vector, VectorSpace};

/// An offline, deterministic embedder: signed feature hashing (K. Weinberger et al., "Feature Hashing for Large Scale Multitask
/// Learning", 2009) of stemmed words, pairs of them, and their character n-grams of 4 and 5 letters, into 512 dimensions,
/// normalised to length 1. A text without a term has the zero vector.
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
    pub const DIMENSIONS: usize = 512;

    const SEED: u64 = 2;
    const NGRAMS: std::ops::RangeInclusive<usize> = 4..=5;

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
    let terms = terms(text);
    let mut features: BTreeMap<String, f32> = BTreeMap::new();
    for (term, weight) in weights(terms.iter().cloned()) {
        let letters: Vec<char> = format!("^{term}$").chars().collect();
        for length in HashEmbedder::NGRAMS {
            for ngram in letters.windows(length) {
                *features.entry(format!("n {}", String::from_iter(ngram))).or_default() += weight;
            }
        }
        features.insert(format!("w {term}"), weight);
    }
    features.extend(weights(terms.windows(2).map(|pair| format!("p {} {}", pair[0], pair[1]))));

    let mut components = vec![0.0_f32; HashEmbedder::DIMENSIONS];
    for (feature, weight) in features {
        let hash = xxh3_64_with_seed(feature.as_bytes(), HashEmbedder::SEED);
        let [low, high, ..] = hash.to_le_bytes();
        let place = usize::from(u16::from_le_bytes([low, high])) % HashEmbedder::DIMENSIONS;
        components[place] += if hash >> 63 == 0 { weight } else { -weight };
    }
    let norm = components.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        components.iter_mut().for_each(|x| *x /= norm);
    }
    Vector::new(components)
}

/// Each distinct feature with its weight: 1 + ln of how often it occurs.
fn weights(features: impl Iterator<Item = String>) -> BTreeMap<String, f32> {
    let mut counts: BTreeMap<String, f32> = BTreeMap::new();
    features.for_each(|feature| *counts.entry(feature).or_default() += 1.0);
    counts.values_mut().for_each(|count| *count = 1.0 + count.ln());
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f64 {
        embed(a).unwrap().cosine(&embed(b).unwrap())
    }

    #[test]
    fn sees_spelling_and_not_meaning() {
        assert!(cosine("authenticate the user", "user authentication") > 0.5);
        assert!(cosine("fix the car", "repair an automobile") < 0.1);
    }

    #[test]
    fn a_text_without_terms_has_the_zero_vector() {
        assert_eq!(embed("the of -- !").unwrap(), Vector::new(vec![0.0; HashEmbedder::DIMENSIONS]).unwrap());
    }

    /// Stored vectors stay comparable only if the same text gives the same vector for ever.
    #[test]
    fn vectors_do_not_change_between_releases() {
        let vector = embed("make the login test pass").unwrap();
        let largest = vector.as_slice().iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        assert_eq!((largest.0, (largest.1 * 1e4).round()), GOLDEN);
    }

    const GOLDEN: (usize, f32) = (60, 3592.0);
}
