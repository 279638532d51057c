//! The arithmetic of [`search`](crate::MemoryStore::search): stores count and filter; which records are candidates, their
//! scores and their order are decided here, so that every store gives the same answer to the same counts.
//!
//! Words are scored by BM25 (S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) with
//! the idf of Lucene, as a share of its upper bound.
//!
//! # Rare words first
//! A word that most records have tells little about each, and costs the most to look up. The terms of a query are therefore
//! taken rarest first, and those that would bring the records counted above a bound, [`candidates`], are *common*: a record is a
//! candidate if it has a term that is not. The best candidates by the other terms, [`rescored`] of them, are then scored by the
//! common ones, too. As long as the counts of all terms together are within the bound, none is common and nothing is missed.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::Hit;
use crate::text::each_term;

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// How many records the terms of a query have together before terms become common, in a collection of so many: 10,000, or a
/// quarter of all if that is more.
pub const fn candidates(documents: u64) -> u64 {
    if documents > 40_000 { documents / 4 } else { 10_000 }
}

/// How often a term counts in one record at most: more would hardly change a score.
pub const MOST_FREQUENT: u64 = 255;

/// How many of the best candidates are scored by the common terms, too.
pub const fn rescored(k: usize) -> usize {
    200 + 2 * k
}

/// The distinct terms of a text, or of several weighted ones, with how often they occur, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms(BTreeMap<String, u64>);

impl Terms {
    /// The terms of one text.
    pub fn of(text: &str) -> Self {
        let mut terms = Self::default();
        terms.add(text, 1);
        terms
    }

    /// Adds the terms of a text, each occurrence counting so many times.
    pub fn add(&mut self, text: &str, weight: u64) {
        self.add_first(usize::MAX, text, weight);
    }

    /// Adds the first so many terms of a text, each occurrence counting so many times.
    pub fn add_first(&mut self, most: usize, text: &str, weight: u64) {
        each_term(text, most, |term| {
            match self.0.get_mut(term) {
                Some(frequency) => *frequency += weight,
                None => drop(self.0.insert(term.to_owned(), weight)),
            };
        });
    }

    /// Each term with how often it counts, sorted by term.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(term, frequency)| (term.as_str(), (*frequency).min(MOST_FREQUENT)))
    }

    /// How often all terms count together.
    pub fn length(&self) -> u64 {
        self.iter().map(|(_, frequency)| frequency).sum()
    }

    /// How often a term counts.
    pub fn frequency(&self, term: &str) -> u64 {
        self.0.get(term).copied().unwrap_or_default().min(MOST_FREQUENT)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a collection counts: its records, and the terms in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    /// Records.
    pub documents: u64,
    /// The [lengths](Terms::length) of all records together.
    pub terms: u64,
}

/// A term of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryTerm {
    /// The term.
    pub term: String,
    /// How many records of the collection have it.
    pub found: u64,
    idf: f64,
}

/// How the words of a query are looked up in a collection and scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    terms: Vec<QueryTerm>,
    rare: usize,
    bound: f64,
    mean: f64,
}

impl Plan {
    /// The plan for these terms, each with how many records of the collection have it. With `exact`, no term is common.
    pub fn new(collection: Collection, counts: impl IntoIterator<Item = (String, u64)>, exact: bool) -> Self {
        let documents = collection.documents as f64;
        let idf = |found: u64| (1.0 + (documents - found as f64 + 0.5) / (found as f64 + 0.5)).ln();
        let mut terms: Vec<QueryTerm> =
            counts.into_iter().map(|(term, found)| QueryTerm { term, found, idf: idf(found) }).collect();
        terms.sort_by(|a, b| a.found.cmp(&b.found).then_with(|| a.term.cmp(&b.term)));
        let mut counted = 0;
        let within = terms.iter().take_while(|term| {
            // The rarest one that is found at all is taken whatever it costs.
            let first = counted == 0;
            counted += term.found;
            first || counted <= candidates(collection.documents)
        });
        let rare = if exact { terms.len() } else { within.count() };
        let bound = terms.iter().map(|term| term.idf * (K1 + 1.0)).sum();
        Self { terms, rare, bound, mean: (collection.terms as f64 / documents.max(1.0)).max(1.0) }
    }

    /// The terms that make a record a candidate, rarest first.
    pub fn rare(&self) -> &[QueryTerm] {
        &self.terms[..self.rare]
    }

    /// The terms that do not, rarest first.
    pub fn common(&self) -> &[QueryTerm] {
        &self.terms[self.rare..]
    }

    /// What a term adds to the score of a record of this length in which it counts so often. The parts of a record must be
    /// added in the order of [`rare`](Self::rare), then [`common`](Self::common), so that sums round alike.
    pub fn part(&self, term: &QueryTerm, frequency: u64, length: u64) -> f64 {
        let frequency = frequency as f64;
        let norm = K1 * (1.0 - B + B * length as f64 / self.mean);
        term.idf * frequency * (K1 + 1.0) / (frequency + norm) / self.bound
    }

    /// What the common terms add to the score of a record at most.
    pub fn most_by_common(&self) -> f64 {
        self.common().iter().map(|term| term.idf * (K1 + 1.0) / self.bound).sum()
    }

    /// The score of a record with these terms, in [0, 1].
    pub fn score(&self, terms: &Terms) -> f64 {
        let length = terms.length();
        let found = self.terms.iter().map(|term| (term, terms.frequency(&term.term)));
        let parts = found.filter(|(_, frequency)| *frequency > 0);
        // Not `sum`: that of nothing is -0, which sorts before 0.
        parts.fold(0.0, |score, (term, frequency)| score + self.part(term, frequency, length))
    }
}

/// A record that passed the filter, and what decides between equal scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The hit, if it is among the best.
    pub hit: Hit,
    /// The moment that decides between equal scores; see [`Searchable::at`](crate::Searchable::at).
    pub at: DateTime<Utc>,
}

impl Candidate {
    /// The order of equal scores: later moment first, then smaller id.
    fn tie(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at).then_with(|| self.hit.key.cmp(&other.hit.key))
    }
}

/// The best `k` by one score, in no order.
pub fn best(mut candidates: Vec<Candidate>, k: usize, score: fn(&Hit) -> f64) -> Vec<Candidate> {
    if k < candidates.len() {
        let order = |a: &Candidate, b: &Candidate| score(&b.hit).total_cmp(&score(&a.hit)).then_with(|| a.tie(b));
        candidates.select_nth_unstable_by(k, order);
        candidates.truncate(k);
    }
    candidates
}

/// All of them once, in the order that [`search`](crate::MemoryStore::search) promises.
pub fn ordered(mut candidates: Vec<Candidate>) -> Vec<Hit> {
    candidates.sort_unstable_by(|a, b| {
        let (first, second) = (&a.hit, &b.hit);
        let by_words = second.words.total_cmp(&first.words).then(second.vector.total_cmp(&first.vector));
        by_words.then(second.trace.total_cmp(&first.trace)).then_with(|| a.tie(b))
    });
    candidates.dedup_by(|a, b| a.hit.key == b.hit.key);
    candidates.into_iter().map(|candidate| candidate.hit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(counts: &[(&str, u64)], exact: bool) -> Plan {
        let counts = counts.iter().map(|(term, found)| ((*term).to_owned(), *found));
        Plan::new(Collection { documents: 20_000, terms: 40_000 }, counts, exact)
    }

    fn names(terms: &[QueryTerm]) -> Vec<&str> {
        terms.iter().map(|term| term.term.as_str()).collect()
    }

    #[test]
    fn scores_are_shares_of_the_bound() {
        let plan = Plan::new(Collection { documents: 2, terms: 4 }, [("a".to_owned(), 1), ("b".to_owned(), 1)], false);
        // Every record has the mean length, so that a single occurrence weighs exactly 1 of at most k1 + 1.
        let terms = Terms::of("b x");
        assert!((plan.score(&terms) - 0.5 / 2.2).abs() < 1e-12);
        assert_eq!(plan.score(&Terms::of("x y")).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn common_terms_add_no_more_than_their_bound() {
        let plan = plan(&[("d", 9_000), ("b", 8_000), ("c", 20_000)], false);
        let (added, most) = (plan.score(&Terms::of(&"c d ".repeat(200))), plan.most_by_common());
        assert!(added > 0.0 && added <= most && most < 1.0, "{added} of {most}");
        assert_eq!(Plan::new(Collection::default(), [], false).most_by_common(), 0.0);
    }

    #[test]
    fn terms_are_taken_rarest_first_up_to_the_bound() {
        let some = plan(&[("c", 9_000), ("a", 0), ("b", 1_000), ("d", 1)], false);
        assert_eq!((names(some.rare()), names(some.common())), (vec!["a", "d", "b"], vec!["c"]));
        let all = plan(&[("c", 9_000), ("b", 1_000)], false);
        assert_eq!(names(all.rare()), ["b", "c"], "exactly at the bound");
        let one = plan(&[("c", 20_000), ("z", 0), ("d", 20_000)], false);
        assert_eq!((names(one.rare()), names(one.common())), (vec!["z", "c"], vec!["d"]), "never none");
        let exact = plan(&[("c", 20_000), ("d", 20_000)], true);
        assert_eq!((names(exact.rare()), exact.common().len()), (vec!["c", "d"], 0));
    }

    #[test]
    fn a_term_counts_up_to_255_times() {
        let mut terms = Terms::of(&"a1 ".repeat(300));
        terms.add("b1 b1", 3);
        assert_eq!(terms.iter().collect::<Vec<_>>(), [("a1", 255), ("b1", 6)]);
        assert_eq!((terms.length(), terms.frequency("b1"), terms.frequency("c1")), (261, 6, 0));
    }
}
