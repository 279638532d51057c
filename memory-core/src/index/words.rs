//! The records that have a term.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::ScopeIndex;
use super::bits::Bits;
use crate::ranking::{Collection, Plan, QueryTerm, Terms, rescored};

/// The documents that have a term, by rising number.
#[derive(Debug, Default)]
pub(super) struct Postings {
    pub(super) documents: Vec<u32>,
    /// How often each of them has it.
    pub(super) frequencies: Vec<u8>,
}

impl Postings {
    fn push(&mut self, document: u32, frequency: u64) {
        // A quarter of spare room instead of twice as much: the lists are most of the index.
        if self.documents.len() == self.documents.capacity() {
            let room = self.documents.len() / 4 + 1;
            self.documents.reserve_exact(room);
            self.frequencies.reserve_exact(room);
        }
        self.documents.push(document);
        self.frequencies.push(u8::try_from(frequency).unwrap_or(u8::MAX));
    }

    fn iter(&self) -> impl Iterator<Item = (u32, u8)> {
        self.documents.iter().copied().zip(self.frequencies.iter().copied())
    }

    fn frequency(&self, document: u32) -> u64 {
        self.documents.binary_search(&document).map_or(0, |place| u64::from(self.frequencies[place]))
    }

    /// How many of the documents are live, if `removed` of all are not.
    fn found(&self, live: &Bits, removed: usize) -> u64 {
        let gone = if removed == 0 { 0 } else { self.documents.iter().filter(|one| !live.contains(**one)).count() };
        (self.documents.len() - gone) as u64
    }
}

/// The words of the documents of a scope: of what they are about, or of what happened.
#[derive(Debug, Default)]
pub(super) struct WordIndex {
    pub(super) terms: HashMap<Box<str>, Postings, Xxh3DefaultBuilder>,
    /// How long each document is, 0 for those that were removed.
    pub(super) lengths: Vec<u32>,
    /// Of all documents together.
    pub(super) length: u64,
}

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) query: &'a Terms,
    pub(super) accepted: &'a Bits,
    pub(super) exact: bool,
    pub(super) k: usize,
}

/// A score for each document of the largest scope so far, all of them 0 between searches, and those that are not.
#[derive(Debug, Default)]
pub(super) struct Scores {
    values: Vec<f64>,
    touched: Vec<u32>,
}

impl Scores {
    fn start(&mut self, documents: usize) {
        for document in self.touched.drain(..) {
            self.values[document as usize] = 0.0;
        }
        if self.values.len() < documents {
            self.values.resize(documents, 0.0);
        }
    }

    fn add(&mut self, document: u32, part: f64) {
        let value = &mut self.values[document as usize];
        if *value == 0.0 {
            self.touched.push(document);
        }
        *value += part;
    }

    fn of(&self, document: u32) -> f64 {
        self.values[document as usize]
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<f64>() + self.touched.capacity() * size_of::<u32>()
    }
}

/// What was found.
pub(super) struct Found<'a> {
    /// The best documents, in no order.
    pub(super) best: Vec<u32>,
    plan: Plan,
    scores: &'a Scores,
    index: &'a WordIndex,
    /// The documents whose scores are whole, by rising number; `None` if those of all are.
    whole: Option<Vec<u32>>,
}

impl Found<'_> {
    /// The score of an accepted document.
    pub(super) fn score(&self, document: u32) -> f64 {
        match &self.whole {
            Some(whole) if whole.binary_search(&document).is_err() => {
                let terms = self.plan.rare().iter().chain(self.plan.common());
                terms.map(|term| self.index.part(&self.plan, term, document)).sum()
            }
            _ => self.scores.of(document),
        }
    }
}

impl WordIndex {
    pub(super) fn push(&mut self, document: u32, terms: &Terms) {
        for (term, frequency) in terms.iter() {
            match self.terms.get_mut(term) {
                Some(postings) => postings.push(document, frequency),
                None => self.terms.entry(term.into()).or_default().push(document, frequency),
            }
        }
        let length = terms.length();
        self.lengths.push(u32::try_from(length).unwrap_or(u32::MAX));
        self.length += length;
    }

    /// Counts a removed document no more.
    pub(super) fn forget(&mut self, document: u32) {
        self.length -= u64::from(std::mem::take(&mut self.lengths[document as usize]));
    }

    /// The best documents by words. Scores are left in `scores` until the next search.
    pub(super) fn find<'a>(&'a self, asked: &Asked<'_>, scope: &ScopeIndex, scores: &'a mut Scores) -> Found<'a> {
        scores.start(self.lengths.len());
        let counts = asked.query.iter().map(|(term, _)| {
            let found = self.terms.get(term).map_or(0, |postings| postings.found(&scope.live, scope.removed));
            (term.to_owned(), found)
        });
        let documents = (scope.documents.len() - scope.removed) as u64;
        let plan = Plan::new(Collection { documents, terms: self.length }, counts, asked.exact);
        for term in plan.rare() {
            let Some(postings) = self.terms.get(&*term.term) else { continue };
            for (document, frequency) in postings.iter().filter(|(document, _)| asked.accepted.contains(*document)) {
                scores.add(document, plan.part(term, u64::from(frequency), self.length_of(document)));
            }
        }
        let mut best: Vec<(f64, u32)> =
            scores.touched.iter().map(|document| (scores.of(*document), *document)).collect();
        let mut whole = None;
        if !plan.common().is_empty() {
            scope.keep_best(&mut best, rescored(asked.k));
            for (score, document) in &mut best {
                for term in plan.common() {
                    scores.add(*document, self.part(&plan, term, *document));
                }
                *score = scores.of(*document);
            }
            let mut documents: Vec<u32> = best.iter().map(|(_, document)| *document).collect();
            documents.sort_unstable();
            whole = Some(documents);
        }
        scope.keep_best(&mut best, asked.k);
        let best = best.into_iter().map(|(_, document)| document).collect();
        Found { best, plan, scores, index: self, whole }
    }

    /// What a term adds to the score of a document.
    fn part(&self, plan: &Plan, term: &QueryTerm, document: u32) -> f64 {
        match self.terms.get(&*term.term).map_or(0, |postings| postings.frequency(document)) {
            0 => 0.0,
            frequency => plan.part(term, frequency, self.length_of(document)),
        }
    }

    fn length_of(&self, document: u32) -> u64 {
        u64::from(self.lengths[document as usize])
    }

    pub(super) fn renumber(&mut self, numbers: &[Option<u32>]) {
        for postings in self.terms.values_mut() {
            let mut kept = Postings::default();
            for (document, frequency) in postings.iter() {
                if let Some(number) = numbers[document as usize] {
                    kept.push(number, u64::from(frequency));
                }
            }
            *postings = kept;
        }
        self.terms.retain(|_, postings| !postings.documents.is_empty());
        let mut number = numbers.iter();
        self.lengths.retain(|_| number.next().is_some_and(Option::is_some));
    }

    pub(super) fn terms(&self) -> usize {
        self.terms.len()
    }

    pub(super) fn postings(&self) -> u64 {
        self.terms.values().map(|postings| postings.documents.len() as u64).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        let names: usize = self.terms.keys().map(|term| term.len()).sum();
        let list = |one: &Postings| one.documents.capacity() * size_of::<u32>() + one.frequencies.capacity();
        let lists: usize = self.terms.values().map(list).sum();
        let entry = size_of::<(Box<str>, Postings)>() + 1;
        names + lists + self.terms.capacity() * entry + self.lengths.capacity() * size_of::<u32>()
    }
}
