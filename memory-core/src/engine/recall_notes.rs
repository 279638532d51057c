//! Recalling notes: what a scope and those above it were told that has to do with a query.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Memory;
use super::notes::noted;
use crate::{Hit, Key, MemoryStore as _, Note, NoteId, Result, Role, Scope, Search, Trust, Vector, limits};

/// The shares of a note's score that salience and recency decide; the rest is relevance alone.
const SALIENCE: f64 = 0.2;
const RECENCY: f64 = 0.2;

/// Notes that have to do with a query.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct RecalledNotes {
    /// The notes, best first.
    pub notes: Vec<RecalledNote>,
    /// Why they were found by words only, if they were.
    pub degraded: Option<String>,
}

/// A note that has to do with a query.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct RecalledNote {
    /// The note.
    pub note: Arc<Note>,
    /// How good it is, in [0, 1]: its relevance, 0.6 words + 0.4 vector, times 0.6 + 0.2 salience + 0.2 recency.
    pub score: f64,
    /// The part by words, in [0, 1]; see [`Hit::words`].
    pub words: f64,
    /// The part by vector: the cosine, with negative ones counted as 0.
    pub vector: f64,
    /// How much it matters, in [0, 1].
    pub salience: f64,
    /// How recently it was told, in [0, 1]: 1 is now, and one half is the learner's
    /// [half-life](crate::Learner::half_life) ago.
    pub recency: f64,
}

impl Memory {
    /// Up to `k` notes that have to do with a query, of this scope and of those above it: what a session is told, its agent
    /// knows and its tenant knows. A note that several of them have comes once. What untrusted sources told does not come.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for `k` outside 1..=100 or a query above the limit; the store's errors. An embedder that
    /// fails is told in the answer.
    pub async fn recall_notes(&self, query: &str, k: usize) -> Result<RecalledNotes> {
        limits::k("k", k)?;
        self.inner.limits.query(query)?;
        let (vector, degraded) = self.vector_of(Role::Query, query).await;
        let notes = self.nearest_notes(query, vector.as_ref(), k).await;
        Ok(RecalledNotes { notes: notes.map_err(|error| error.in_operation("recall_notes"))?, degraded })
    }

    /// The `k` notes that have most to do with a query, best first.
    pub(super) async fn nearest_notes(
        &self,
        query: &str,
        vector: Option<&Vector>,
        k: usize,
    ) -> Result<Vec<RecalledNote>> {
        let filter = self.in_force().trust(Trust::Trusted);
        let (mut hits, mut scopes) = (Vec::new(), 0);
        for scope in std::iter::successors(Some(self.scope.clone()), Scope::parent) {
            let search =
                Search::new(scope).for_notes(filter.clone()).text(query).vector(vector.cloned()).k(Search::MAX_K);
            hits.extend(self.inner.store.search(&search).await?);
            scopes += 1;
        }
        hits.retain(|hit| hit.relevance() > 0.0);
        hits.sort_by(|a, b| b.relevance().total_cmp(&a.relevance()));
        // A text comes up to once a scope, and salience and recency decide no more than their shares: what is less relevant
        // than this cannot be among the best.
        let least = hits.get((scopes * k).min(hits.len()).saturating_sub(1)).map_or(0.0, Hit::relevance);
        hits.retain(|hit| hit.relevance() >= least * (1.0 - SALIENCE - RECENCY));
        let keys: Vec<Key> = hits.iter().map(|hit| hit.key.clone()).collect();
        let stored = self.inner.store.get(&keys).await?;
        // What is missing was deleted since the search.
        let found = hits.iter().zip(stored).filter_map(|(hit, stored)| Some((hit, noted(stored?)?.1.note)));
        let mut recalled: Vec<RecalledNote> = found.map(|(hit, note)| self.recalled_note(hit, note)).collect();
        recalled.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut told = BTreeSet::new();
        recalled.retain(|recalled| told.insert(NoteId::of(&self.scope, recalled.note.trust, &recalled.note.text)));
        recalled.truncate(k);
        Ok(recalled)
    }

    fn recalled_note(&self, hit: &Hit, note: Arc<Note>) -> RecalledNote {
        let age = (self.inner.clock.now() - note.updated_at).num_milliseconds().max(0) as f64;
        let recency = (-age / self.learner().half_life.num_milliseconds() as f64).exp2();
        let salience = note.salience;
        let weight = 1.0 - SALIENCE - RECENCY + SALIENCE * salience + RECENCY * recency;
        let score = hit.relevance() * weight;
        RecalledNote { note, score, words: hit.words, vector: hit.vector.max(0.0), salience, recency }
    }
}
