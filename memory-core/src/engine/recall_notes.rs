//! Recalling notes: what a scope and those above it were told that has to do with a query.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::notes::noted;
use super::recall::{Ranked, above, weighed};
use super::{Memory, Parts};
use crate::rerank::diversified;
use crate::thread::{REACH, Turn, relevances};
use crate::{
    Hit, Intent, Key, MemoryStore as _, Note, NoteId, Place, Profile, Result, Role, Scope, Search, StoredNote, Trust,
    Vector, limits,
};

/// Of how many of the best by words, and of the best by vector, what stands beside them is read.
const BY_WORDS: usize = 30;
const BY_VECTOR: usize = 10;

/// Notes that have to do with a query.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct RecalledNotes {
    /// The notes, best first.
    pub notes: Vec<RecalledNote>,
    /// What was asked for.
    pub intent: Intent,
    /// If nothing was relevant enough to be told, though something was found: the highest relevance, which is below the
    /// [threshold](Profile::threshold).
    pub abstained: Option<f64>,
    /// Why they were found by words only, or are not reranked, if so.
    pub degraded: Option<String>,
}

/// A note that has to do with a query.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct RecalledNote {
    /// The note.
    pub note: Arc<Note>,
    /// How good it is, in [0, 1]: see [`Profile`].
    pub score: f64,
    /// What the score is made of.
    pub parts: Parts,
    /// The turns right before and after it in its thread, in order; none for a note without a place. Looked up for the 30 notes that
    /// are best by words and the 10 that are best by vector.
    pub around: Vec<Arc<Note>>,
}

impl Memory {
    /// Up to `k` notes that have to do with a query, of this scope and of those above it: what a session is told, its agent
    /// knows and its tenant knows. A note that several of them have comes once. What untrusted sources told does not come.
    ///
    /// The turns of a thread (notes with a [`Place`]) are ranked by what stands beside them, too: a question counts for its
    /// answer, a named month or year for the turns of that time, and the name of a [source](Note::source) for what it said.
    ///
    /// What counts is decided by the query's words: see [`Intent::of`] and [`Profile::of`].
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for `k` outside 1..=100 or a query above the limit; the store's errors. An embedder
    /// or a reranker that fails is told in the answer.
    pub async fn recall_notes(&self, query: &str, k: usize) -> Result<RecalledNotes> {
        self.recall_notes_with(query, k, &Profile::of(self.inner.intents.of(query))).await
    }

    /// The same, with a profile of the caller's choice.
    ///
    /// # Errors
    /// As [`recall_notes`](Self::recall_notes); [`Invalid`](crate::ErrorKind::Invalid) for a profile out of range.
    pub async fn recall_notes_with(&self, query: &str, k: usize, profile: &Profile) -> Result<RecalledNotes> {
        limits::k("k", k)?;
        profile.validate()?;
        self.inner.limits.query(query)?;
        let (vector, degraded) = self.vector_of(Role::Query, query).await;
        let found = self.nearest_notes(query, vector.as_ref(), k, profile).await;
        let Ranked { kept, best_below, degraded: unranked } =
            found.map_err(|error| error.in_operation("recall_notes"))?;
        let abstained = best_below.filter(|_| kept.is_empty());
        Ok(RecalledNotes { notes: kept, intent: profile.intent, abstained, degraded: degraded.or(unranked) })
    }

    /// The `k` notes that have most to do with a query, best first.
    pub(super) async fn nearest_notes(
        &self,
        query: &str,
        vector: Option<&Vector>,
        k: usize,
        profile: &Profile,
    ) -> Result<Ranked<RecalledNote>> {
        let (hits, closest) = self.note_hits(query, vector, k, profile).await?;
        let read = self.read_with_neighbours(hits, &closest).await?;
        let mut candidates = judged(query, read, profile);
        candidates.sort_by(|a, b| b.parts.relevance.total_cmp(&a.parts.relevance));
        // Of a text that several scopes have, the best.
        let mut told = BTreeSet::new();
        candidates.retain(|one| {
            let Note { id, trust, text, place, .. } = &*one.stored.note;
            told.insert(if place.is_some() { *id } else { NoteId::of(&self.scope, *trust, text) })
        });

        let close = candidates.len().min(profile.depth.max(k));
        let texts = || candidates[..close].iter().map(|one| one.stored.note.text.clone());
        let (opinions, degraded) = self.opinions(query, texts).await;
        if !opinions.is_empty() {
            candidates.truncate(close);
        }
        for (one, opinion) in candidates.iter_mut().zip(opinions) {
            (one.parts.reranked, one.parts.relevance) = (Some(opinion), opinion);
        }
        for one in &mut candidates {
            let Candidate { stored, parts, score, .. } = one;
            (parts.recency, parts.salience) = (self.recency(stored.note.updated_at), stored.note.salience);
            let shares = [(profile.recency, parts.recency), (profile.salience, parts.salience)];
            *score = weighed(parts.relevance, &shares);
        }
        let (candidates, best_below) = above(candidates, profile, |one| &one.parts);
        let likeness = |a: &Candidate, b: &Candidate| match (&a.stored.vector, &b.stored.vector) {
            (Some(a), Some(b)) => a.cosine(b).max(0.0),
            _ => 0.0,
        };
        let kept = diversified(candidates, k, profile.diversity, |one| one.score, likeness);
        let kept = kept.into_iter().map(|Candidate { stored, score, parts, around }| RecalledNote {
            note: stored.note,
            score,
            parts,
            around,
        });
        Ok(Ranked { kept: kept.collect(), best_below, degraded })
    }

    /// What searches of this scope and those above it find, as far as it is to be read, and the best of it by words or vector.
    async fn note_hits(
        &self,
        query: &str,
        vector: Option<&Vector>,
        k: usize,
        profile: &Profile,
    ) -> Result<(Vec<Hit>, BTreeSet<Key>)> {
        let filter = self.in_force().trust(Trust::Trusted);
        let (mut hits, mut scopes) = (Vec::new(), 0);
        for scope in std::iter::successors(Some(self.scope.clone()), Scope::parent) {
            let search = Search::new(scope).for_notes(filter.clone()).text(query).vector(vector.cloned());
            hits.extend(self.inner.store.search(&search.k(Search::MAX_K)).await?);
            scopes += 1;
        }
        hits.retain(|hit| profile.notes.relevance(hit) > 0.0);
        let mut best = |most: usize, score: &dyn Fn(&Hit) -> f64| -> BTreeSet<Key> {
            hits.sort_by(|a, b| score(b).total_cmp(&score(a)));
            hits.iter().filter(|hit| score(hit) > 0.0).take(most).map(|hit| hit.key.clone()).collect()
        };
        let mut closest = best(BY_WORDS, &|hit| hit.words);
        closest.append(&mut best(BY_VECTOR, &|hit| hit.vector));
        let relevance = |hit: &Hit| profile.notes.relevance(hit);
        hits.sort_by(|a, b| relevance(b).total_cmp(&relevance(a)));
        // A text comes up to once a scope, and salience and recency decide no more than their shares: what is less relevant than
        // this is not among the best.
        let last = (scopes * k).min(hits.len()).saturating_sub(1);
        let least = hits.get(last).map_or(0.0, relevance) * (1.0 - profile.salience - profile.recency);
        hits.retain(|hit| closest.contains(&hit.key) || relevance(hit) >= least);
        Ok((hits, closest))
    }

    /// Reads what was found, and the turns around the closest of those that have a place.
    async fn read_with_neighbours(&self, hits: Vec<Hit>, closest: &BTreeSet<Key>) -> Result<Vec<Read>> {
        let keys: Vec<Key> = hits.iter().map(|hit| hit.key.clone()).collect();
        // What is missing was deleted since the search.
        let stored = self.inner.store.get(&keys).await?.into_iter().zip(hits);
        let mut read: Vec<Read> = stored
            .filter_map(|(stored, hit)| {
                let (_, stored) = noted(stored?)?;
                Some(Read { stored, words: hit.words, cosine: hit.vector.max(0.0) })
            })
            .collect();
        let known: BTreeSet<NoteId> = read.iter().map(|one| one.stored.note.id).collect();
        let close = read.iter().filter(|one| closest.contains(&Key::Note(one.stored.note.id)));
        let placed = close.filter_map(|one| Some((&one.stored.note, one.stored.note.place.as_ref()?)));
        let beside: BTreeSet<NoteId> = placed
            .flat_map(|(note, place)| around(place, REACH).map(|beside| NoteId::at(&note.scope, note.trust, &beside)))
            .filter(|id| !known.contains(id))
            .collect();
        if beside.is_empty() {
            return Ok(read);
        }
        let keys: Vec<Key> = beside.into_iter().map(Key::Note).collect();
        let filter = self.in_force();
        let found = self.inner.store.get(&keys).await?.into_iter();
        let found = found.filter_map(|stored| noted(stored?).map(|(_, stored)| stored));
        let found = found.filter(|stored| filter.matches(&stored.note));
        read.extend(found.map(|stored| Read { stored, words: 0.0, cosine: 0.0 }));
        Ok(read)
    }
}

/// A note that was read, because a search found it or because it stands beside one that was found.
struct Read {
    stored: StoredNote,
    words: f64,
    cosine: f64,
}

/// A note that may be recalled.
struct Candidate {
    stored: StoredNote,
    score: f64,
    parts: Parts,
    around: Vec<Arc<Note>>,
}

/// The places up to so far around one.
fn around(place: &Place, reach: u32) -> impl Iterator<Item = Place> + '_ {
    let range = place.position.saturating_sub(reach)..=place.position.saturating_add(reach);
    range.filter(|position| *position != place.position).map(|position| Place::new(place.thread.clone(), position))
}

/// How relevant what was read is to a query.
fn judged(query: &str, read: Vec<Read>, profile: &Profile) -> Vec<Candidate> {
    let placed: Vec<(usize, &Read, &Place)> =
        (0..).zip(&read).filter_map(|(at, one)| Some((at, one, one.stored.note.place.as_ref()?))).collect();
    let turns: Vec<Turn<'_>> =
        placed.iter().map(|(_, one, place)| Turn { note: &one.stored.note, place, cosine: one.cosine }).collect();
    let found = relevances(query, &turns, profile.notes);
    let of_turns: BTreeMap<usize, (f64, f64)> =
        placed.iter().zip(found).map(|((at, ..), one)| (*at, (one.words, one.whole))).collect();
    let turn_at: BTreeMap<(&Scope, &str, u32), &Arc<Note>> = placed
        .iter()
        .map(|(_, one, place)| ((&one.stored.note.scope, &*place.thread, place.position), &one.stored.note))
        .collect();
    let beside = |note: &Note| -> Vec<Arc<Note>> {
        let places = note.place.iter().flat_map(|place| around(place, 1));
        let turns = places.filter_map(|place| turn_at.get(&(&note.scope, &*place.thread, place.position)).copied());
        turns.map(Arc::clone).collect()
    };
    let arounds: Vec<Vec<Arc<Note>>> = read.iter().map(|one| beside(&one.stored.note)).collect();
    let Profile { notes: weights, .. } = profile;
    read.into_iter()
        .zip(arounds)
        .enumerate()
        .map(|(at, (Read { stored, words, cosine }, around))| {
            let plain = (weights.words * words + weights.vector * cosine) / (weights.words + weights.vector);
            let (words, relevance) = of_turns.get(&at).copied().unwrap_or((words, plain));
            let parts = Parts { words, vector: cosine, relevance, context: 1.0, evidence: 1.0, ..Parts::default() };
            Candidate { stored, score: 0.0, parts, around }
        })
        .filter(|one| one.parts.relevance > 0.0)
        .collect()
}
