//! A second opinion on what was found.

use std::fmt::{Debug, Display};

use async_trait::async_trait;

use crate::{Error, Result};

/// Scores texts against a query, more slowly and better than a search: a cross-encoder, a model, a rule of the program's own.
///
/// A recall asks it once about episodes and once about notes: about as many of the most relevant as are wanted or as its
/// [`Profile::depth`](crate::Profile::depth) says, whichever is more. Its answer takes the place of their relevance, and nothing
/// that it was not asked about is returned.
///
/// ```
/// use async_trait::async_trait;
/// use memory_core::{InMemoryStore, Memory, Reranker, Result};
///
/// /// Texts that repeat the query to the letter are the best.
/// #[derive(Debug)]
/// struct Literal;
///
/// impl std::fmt::Display for Literal {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("Literal")
///     }
/// }
///
/// #[async_trait]
/// impl Reranker for Literal {
///     async fn rerank(&self, query: &str, texts: &[&str]) -> Result<Vec<f64>> {
///         Ok(texts.iter().map(|text| if text.contains(query) { 1.0 } else { 0.5 }).collect())
///     }
/// }
///
/// let builder = Memory::builder().store(InMemoryStore::new()).reranker(Literal);
/// ```
#[async_trait]
pub trait Reranker: Debug + Display + Send + Sync + 'static {
    /// How much each text has to do with the query, in [0, 1]: as many numbers as texts, in the same order.
    ///
    /// # Errors
    /// Its own. A recall then goes on without it, and says so.
    async fn rerank(&self, query: &str, texts: &[&str]) -> Result<Vec<f64>>;
}

/// Asks a reranker, and checks what it answers.
pub(crate) async fn reranked(reranker: &dyn Reranker, query: &str, texts: &[&str]) -> Result<Vec<f64>> {
    let scores = reranker.rerank(query, texts).await?;
    if scores.len() != texts.len() {
        let range = format_args!("{}, as many as texts", texts.len()).to_string();
        return Err(Error::invalid("reranker's answer", format_args!("{} scores", scores.len()), range));
    }
    match scores.iter().find(|score| !(0.0..=1.0).contains(*score)) {
        Some(score) => Err(Error::invalid("reranker's score", score, "0..=1")),
        None => Ok(scores),
    }
}

/// Orders things by their scores, best first, each losing up to `diversity` of its score by how much it is like one that
/// comes before; keeps the first `k`. `likeness` is in [0, 1].
pub(crate) fn diversified<T>(
    mut scored: Vec<T>,
    k: usize,
    diversity: f64,
    score: impl Fn(&T) -> f64,
    likeness: impl Fn(&T, &T) -> f64,
) -> Vec<T> {
    scored.sort_by(|a, b| score(b).total_cmp(&score(a)));
    if diversity == 0.0 {
        scored.truncate(k);
        return scored;
    }
    let mut kept: Vec<T> = Vec::with_capacity(k.min(scored.len()));
    // How much each one that is left is like the most similar one that is kept.
    let mut repeats = vec![0.0_f64; scored.len()];
    while kept.len() < k && !scored.is_empty() {
        let worth = |place: usize| score(&scored[place]) * (1.0 - diversity * repeats[place]);
        let Some(best) = (0..scored.len()).rev().max_by(|a, b| worth(*a).total_cmp(&worth(*b))) else { break };
        let taken = scored.remove(best);
        repeats.remove(best);
        for (repeats, left) in repeats.iter_mut().zip(&scored) {
            *repeats = repeats.max(likeness(&taken, left));
        }
        kept.push(taken);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_comes_later() {
        // Score and topic; those of one topic are the same.
        let scored = || vec![(0.9, 'a'), (0.85, 'a'), (0.5, 'b'), (0.8, 'c')];
        let order = |k, diversity| {
            let same = |a: &(f64, char), b: &(f64, char)| if a.1 == b.1 { 1.0 } else { 0.0 };
            diversified(scored(), k, diversity, |one| one.0, same)
        };
        assert_eq!(order(3, 0.0), [(0.9, 'a'), (0.85, 'a'), (0.8, 'c')]);
        assert_eq!(order(3, 0.5), [(0.9, 'a'), (0.8, 'c'), (0.5, 'b')]);
        assert_eq!(order(9, 0.1), [(0.9, 'a'), (0.8, 'c'), (0.85, 'a'), (0.5, 'b')]);
        assert_eq!(order(0, 0.5), []);
    }
}
