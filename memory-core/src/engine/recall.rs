//! Recall: the episodes most like a task, what went wrong in them, and the notes that have to do with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Advised, Memory, RecalledNote};
use crate::learn::recovery_of;
use crate::limits;
use crate::{
    Episode, Error, Freshness, Hit, Key, MemoryStore as _, Pattern, PatternId, Record, Result, Role, Search, Status,
    Stored, Support, Task, Vector,
};

/// The share of the score that the words part has; the vector part has the rest.
const WORDS: f64 = 0.6;

/// What recall returns: data, each item with the reasons why it is there.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recollection {
    /// The text of the task that was asked about; empty by default.
    pub query: String,
    /// Episodes like the task, best first.
    pub episodes: Vec<Recalled>,
    /// Errors that these episodes met, with what repaired them, the most frequent first.
    pub pitfalls: Vec<Pitfall>,
    /// Notes that have to do with the task, best first: of this scope and of those above it.
    pub notes: Vec<RecalledNote>,
    /// What to do and to avoid on such a task, best supported first, that of another environment last.
    pub advice: Vec<Advised>,
    /// Whether everything was withheld by chance, for comparison; see
    /// [`MemoryBuilder::hold_out`](crate::MemoryBuilder::hold_out). All lists are then empty.
    pub withheld: bool,
    /// Why the episodes and notes were found by words only, if they were.
    pub degraded: Option<String>,
}

/// An episode like the task.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    /// The episode.
    pub episode: Arc<Episode>,
    /// How much it is like the task, in [0, 1]: the weighted mean of the parts, halved if the environment has drifted.
    pub score: f64,
    /// The part by words, in [0, 1]; see [`Hit::words`].
    pub words: f64,
    /// The part by vector: the cosine, with negative ones counted as 0.
    pub vector: f64,
    /// How its environment compares with that of the task.
    pub freshness: Freshness,
}

/// An error that episodes like the task met.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Pitfall {
    /// The pattern that holds the evidence.
    pub pattern: PatternId,
    /// The tool that failed.
    pub tool: String,
    /// The normalised text of the error; see [`error_signature`](crate::text::error_signature).
    pub error: String,
    /// How often the error was met, in this scope and the episode's domain.
    pub trials: f64,
    /// What was done about it, the most successful first.
    pub recoveries: Vec<Recovery>,
    /// How the environment compares in which the recalled episodes met it; of several, the best.
    pub freshness: Freshness,
}

/// What was done about an error.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// The tools used, in order; empty if nothing came after the error.
    pub tools: String,
    /// How many steps that took.
    pub steps: usize,
    /// The evidence for it: how often it was tried and how often it worked.
    pub support: Support,
    /// What the evidence makes of it.
    pub status: Status,
}

impl Memory {
    /// What the memory knows that helps with a task: up to `k` episodes that are most like it, the errors they met with
    /// what repaired them, and what to do and to avoid; and up to `k` notes that have to do with it, as by
    /// [`recall_notes`](Self::recall_notes). A task with a domain is compared with episodes of that domain only.
    ///
    /// Only what trusted sources told is recalled. Nothing is withheld and nothing attributed:
    /// [`OpenEpisode::recall`](crate::OpenEpisode::recall) does that.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for `k` outside 1..=100 or a text above the limit; the store's errors. An embedder
    /// that fails is told in the answer.
    pub async fn recall(&self, task: &Task, k: usize) -> Result<Recollection> {
        limits::k("k", k)?;
        self.inner.limits.query(&task.text)?;
        let (vector, degraded) = self.vector_of(Role::Query, &task.text).await;
        let found = async {
            let notes = self.nearest_notes(&task.text, vector.as_ref(), k).await?;
            let episodes = self.nearest_to(task, vector, k).await?;
            let pitfalls = self.pitfalls(&episodes).await?;
            let advice = self.advice_for(task).await?;
            let query = task.text.clone();
            Ok(Recollection { query, episodes, pitfalls, notes, advice, withheld: false, degraded })
        };
        found.await.map_err(|error: Error| error.in_operation("recall"))
    }

    /// The `k` episodes most like a task, best first, and why by words only if so.
    pub(super) async fn nearest(&self, task: &Task, k: usize) -> Result<(Vec<Recalled>, Option<String>)> {
        let (vector, degraded) = self.vector_of(Role::Query, &task.text).await;
        Ok((self.nearest_to(task, vector, k).await?, degraded))
    }

    async fn nearest_to(&self, task: &Task, vector: Option<Vector>, k: usize) -> Result<Vec<Recalled>> {
        let search = Search::new(self.scope.clone())
            .text(task.text.clone())
            .vector(vector)
            .filter(Self::comparable(task))
            .k(Search::MAX_K);
        let mut hits = self.inner.store.search(&search).await?;
        hits.retain(|hit| hit.relevance() > 0.0);
        // Stable: the store's order decides between equal scores.
        hits.sort_by(|a, b| b.relevance().total_cmp(&a.relevance()));
        let drifts = !task.environment.is_empty();
        hits.truncate(if drifts { Search::MAX_K } else { k });
        let keys: Vec<Key> = hits.iter().map(|hit| hit.key.clone()).collect();
        let stored = self.inner.store.get(&keys).await?;
        let recalled = hits.iter().zip(stored).filter_map(|(hit, stored)| match stored {
            Some(Stored { record: Record::Episode(logged), .. }) => {
                let freshness = Freshness::of(&logged.episode.task.environment, &task.environment);
                let score = hit.relevance() * freshness.factor();
                let (words, vector) = (hit.words, hit.vector.max(0.0));
                Some(Recalled { episode: logged.episode, score, words, vector, freshness })
            }
            _ => None, // Deleted since the search.
        });
        let mut recalled: Vec<Recalled> = recalled.collect();
        recalled.sort_by(|a, b| b.score.total_cmp(&a.score));
        recalled.truncate(k);
        Ok(recalled)
    }

    async fn pitfalls(&self, episodes: &[Recalled]) -> Result<Vec<Pitfall>> {
        let learner = self.inner.projection.id();
        let mut met: BTreeMap<PatternId, &Freshness> = BTreeMap::new();
        for Recalled { episode, freshness, .. } in episodes {
            for step in episode.steps.iter().filter(|step| !step.ok) {
                let id = recovery_of(learner, &self.scope, episode.task.domain.as_deref(), step).id;
                let best = met.entry(id).or_insert(freshness);
                *best = freshness.min(*best);
            }
        }
        let ids: Vec<PatternId> = met.keys().copied().collect();
        let learned = self.inner.projection.patterns(&ids).await?;
        let known = met.into_values().zip(learned).filter_map(|(freshness, pattern)| Some((freshness, pattern?)));
        let mut pitfalls: Vec<Pitfall> = known.map(|(freshness, pattern)| self.pitfall(pattern, freshness)).collect();
        pitfalls.sort_by(|a, b| b.trials.total_cmp(&a.trials).then(a.pattern.cmp(&b.pattern)));
        Ok(pitfalls)
    }

    fn pitfall(&self, pattern: Pattern, freshness: &Freshness) -> Pitfall {
        let quorum = self.learner().quorum;
        let mut recoveries: Vec<Recovery> = pattern
            .branches
            .into_iter()
            .map(|(tools, evidence)| {
                let support = self.support(&evidence);
                let steps = tools.split(" > ").filter(|tool| !tool.is_empty()).count();
                Recovery { tools, steps, support, status: support.status(quorum) }
            })
            .collect();
        recoveries.sort_by(|a, b| b.support.interval().0.total_cmp(&a.support.interval().0));
        let trials = recoveries.iter().map(|recovery| recovery.support.trials).sum();
        let mut signature = pattern.signature.into_iter();
        Pitfall {
            pattern: pattern.id,
            tool: signature.next().unwrap_or_default(),
            error: signature.next().unwrap_or_default(),
            trials,
            recoveries,
            freshness: freshness.clone(),
        }
    }
}

impl Hit {
    /// How much it has to do with the query, in [0, 1]: the weighted mean of both scores, with negative ones counted as 0.
    pub(super) fn relevance(&self) -> f64 {
        WORDS * self.words + (1.0 - WORDS) * self.vector.max(0.0)
    }
}
