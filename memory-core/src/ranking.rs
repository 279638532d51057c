//! The arithmetic of [`search`](crate::MemoryStore::search): stores count and filter, the scores and their order are made
//! here, so that every store gives the same answer to the same counts.
//!
//! Words are scored by BM25 (S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) with
//! the idf of Lucene, as a share of its upper bound.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use crate::Hit;

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// What a collection counts: its documents, and the terms in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    /// Documents.
    pub documents: u64,
    /// Terms in all documents together, repeated ones counted each time.
    pub terms: u64,
}

/// Scores documents by words for one query by adding the postings of one term after another.
#[derive(Debug)]
pub struct Scorer {
    collection: Collection,
    scores: HashMap<u64, f64>,
    bound: f64,
}

/// One document that contains a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The document's number.
    pub document: u64,
    /// How often the term is in it.
    pub frequency: u64,
    /// How many terms it has in all.
    pub length: u64,
}

impl Scorer {
    /// A scorer over this collection.
    pub fn new(collection: Collection) -> Self {
        Self { collection, scores: HashMap::new(), bound: 0.0 }
    }

    /// Adds a distinct term of the query with all its postings in the collection. `accept` says which documents may be
    /// found; all of them count for how rare the term is. Terms must be added in the same order everywhere (sorted), so
    /// that sums round alike.
    pub fn add_term(&mut self, postings: &[Posting], mut accept: impl FnMut(u64) -> bool) {
        let (documents, found) = (self.collection.documents as f64, postings.len() as f64);
        let idf = (1.0 + (documents - found + 0.5) / (found + 0.5)).ln();
        self.bound += idf * (K1 + 1.0);
        let mean = (self.collection.terms as f64 / documents.max(1.0)).max(1.0);
        for posting in postings.iter().filter(|posting| accept(posting.document)) {
            let frequency = posting.frequency as f64;
            let norm = K1 * (1.0 - B + B * posting.length as f64 / mean);
            *self.scores.entry(posting.document).or_default() += idf * frequency * (K1 + 1.0) / (frequency + norm);
        }
    }

    /// The documents found and their scores in (0, 1].
    pub fn finish(self) -> HashMap<u64, f64> {
        self.scores.into_iter().map(|(document, score)| (document, score / self.bound)).collect()
    }
}

/// A record that passed the filter and has a word in common with the query, a vector to compare, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The hit, if it is among the best.
    pub hit: Hit,
    /// The moment that decides between equal scores; see [`Searchable::at`](crate::Searchable::at).
    pub at: DateTime<Utc>,
    /// Whether there was a vector to compare.
    pub compared: bool,
}

impl Candidate {
    /// The order of equal scores: later moment first, then smaller id.
    fn tie(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at).then_with(|| self.hit.key.cmp(&other.hit.key))
    }

    fn by_words(&self, other: &Self) -> Ordering {
        other.hit.words.total_cmp(&self.hit.words).then_with(|| self.tie(other))
    }

    fn by_vector(&self, other: &Self) -> Ordering {
        other.hit.vector.total_cmp(&self.hit.vector).then_with(|| self.tie(other))
    }
}

/// The union of the best `k` by words and the best `k` by vector, in the order that
/// [`search`](crate::MemoryStore::search) promises.
pub fn best(candidates: Vec<Candidate>, k: usize) -> Vec<Hit> {
    let compared = candidates.iter().filter(|candidate| candidate.compared).collect();
    let found = candidates.iter().filter(|candidate| candidate.hit.words > 0.0).collect();
    let mut kept = first(compared, k, Candidate::by_vector);
    kept.extend(first(found, k, Candidate::by_words));
    let order = |a: &&Candidate, b: &&Candidate| {
        b.hit.words.total_cmp(&a.hit.words).then(b.hit.vector.total_cmp(&a.hit.vector)).then_with(|| a.tie(b))
    };
    kept.sort_unstable_by(order);
    kept.dedup_by(|a, b| a.hit.key == b.hit.key);
    kept.into_iter().map(|candidate| candidate.hit.clone()).collect()
}

/// The first `k` in an order, themselves in no order.
fn first(mut candidates: Vec<&Candidate>, k: usize, order: fn(&Candidate, &Candidate) -> Ordering) -> Vec<&Candidate> {
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k, |a, b| order(a, b));
        candidates.truncate(k);
    }
    candidates
}

/// The distinct terms of a text with their frequencies, sorted.
pub fn frequencies(text: &str) -> BTreeMap<String, u64> {
    let mut frequencies = BTreeMap::new();
    for term in crate::text::terms(text) {
        *frequencies.entry(term).or_default() += 1;
    }
    frequencies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_shares_of_the_bound() {
        let mut scorer = Scorer::new(Collection { documents: 2, terms: 4 });
        let posting = |document, frequency| Posting { document, frequency, length: 2 };
        scorer.add_term(&[posting(0, 1)], |_| true);
        scorer.add_term(&[posting(0, 1), posting(1, 2)], |document| document == 0);
        let scores = scorer.finish();
        // Every document has the mean length, so that a single occurrence weighs exactly 1 of at most k1 + 1.
        assert_eq!(scores.len(), 1);
        assert!((scores[&0] - 1.0 / 2.2).abs() < 1e-6);
    }
}
