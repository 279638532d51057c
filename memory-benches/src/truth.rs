//! What is the right answer to a query.

use std::collections::{HashMap, HashSet};

use memory_core::ranking::{Collection, Plan, Terms};
use memory_core::{Hit, Key};

use crate::kind::K;
use crate::{Corpus, FlatScan, Form, Kind, Query};

/// The vectors of the first episodes of a corpus, to be scanned, and their words to count.
#[derive(Debug, Default)]
pub struct Truth {
    vectors: FlatScan,
    domains: Vec<Option<String>>,
    collection: Collection,
    /// The places that have a term, and how often.
    postings: HashMap<String, Vec<(usize, u64)>>,
    lengths: Vec<u64>,
}

impl Truth {
    /// Adds the episode of this place, which must be the next.
    pub fn add(&mut self, corpus: &Corpus, place: u32) {
        let logged = corpus.episode(place, Form::Reduced);
        let task = &logged.episode.task;
        logged.vector.iter().for_each(|vector| self.vectors.push(vector));
        self.domains.push(task.domain.clone());
        let mut words = Terms::of(&task.text);
        task.tags.iter().for_each(|tag| words.add(tag, 1));
        for (term, frequency) in words.iter() {
            self.postings.entry(term.to_owned()).or_default().push((self.lengths.len(), frequency));
        }
        self.lengths.push(words.length());
        self.collection.documents += 1;
        self.collection.terms += words.length();
    }

    /// Scans the vectors in the plain way.
    pub fn scan(&self, query: &Query) -> Vec<(usize, f32)> {
        self.vectors.nearest(&query.vector, K, |_| true)
    }

    /// The share of the right answers among what a query found by this way. Right are the ten best, and whatever is as good as
    /// the tenth; by words and vector, the ten best by each of them. 1 if there is nothing to find; `None` of the scan, which
    /// says what is right.
    pub fn share(&self, kind: Kind, query: &Query, found: &[Hit]) -> Option<f64> {
        let found: HashSet<usize> = found.iter().filter_map(place).collect();
        let right = match kind {
            Kind::Scan => return None,
            Kind::Vector | Kind::Exact => vec![self.nearest(query, None)],
            Kind::Filtered => vec![self.nearest(query, query.domain)],
            Kind::Words => vec![self.matching(query)],
            Kind::Hybrid => vec![self.nearest(query, None), self.matching(query)],
        };
        let (mut hits, mut wanted) = (0, 0);
        for right in right {
            let most = right.len().min(K);
            hits += right.iter().filter(|number| found.contains(number)).count().min(most);
            wanted += most;
        }
        Some(if wanted > 0 { hits as f64 / wanted as f64 } else { 1.0 })
    }

    /// The places of the ten nearest in a domain or in all; ties of single precision at the tenth place have no meaning here.
    pub fn nearest(&self, query: &Query, domain: Option<&str>) -> Vec<usize> {
        let accept = |number: usize| domain.is_none() || self.domains[number].as_deref() == domain;
        let nearest = self.vectors.nearest(&query.vector, K, accept);
        nearest.into_iter().map(|(number, _)| number).collect()
    }

    /// The best by words, with all that are as good as the tenth.
    fn matching(&self, query: &Query) -> Vec<usize> {
        const ROUNDING: f64 = 1e-6;
        let found = |term: &str| self.postings.get(term).map_or(0, |postings| postings.len() as u64);
        let query = Terms::of(&query.text);
        let counts = query.iter().map(|(term, _)| (term.to_owned(), found(term)));
        let plan = Plan::new(self.collection, counts, true);
        let mut scores: HashMap<usize, f64> = HashMap::new();
        for term in plan.rare() {
            for (place, frequency) in self.postings.get(&term.term).into_iter().flatten() {
                *scores.entry(*place).or_default() += plan.part(term, *frequency, self.lengths[*place]);
            }
        }
        let mut falling: Vec<f64> = scores.values().copied().collect();
        falling.sort_unstable_by(|a, b| b.total_cmp(a));
        let least = falling.get(K - 1).copied().unwrap_or_default() - ROUNDING;
        let best = scores.into_iter().filter(|(_, score)| *score >= least);
        best.map(|(place, _)| place).collect()
    }
}

fn place(hit: &Hit) -> Option<usize> {
    match &hit.key {
        Key::Episode(id) => usize::try_from(Corpus::place(id)).ok(),
        _ => None,
    }
}
