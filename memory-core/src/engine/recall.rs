//! Recall: the episodes most like a task, what went wrong in them, and the notes that have to do with it.
//!
//! A search finds candidates by words, by what happened and by vector. Those that look best are then looked at closely: what
//! happened in them, their context, outcome and age, and, if there is one, what a [`Reranker`](crate::Reranker) says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Advised, Memory, RecalledNote};
use crate::agreement::agreed;
use crate::learn::recovery_of;
use crate::limits;
use crate::rerank::{diversified, reranked};
use crate::text::strip_recalled;
use crate::{
    Episode, Freshness, Hit, Intent, Key, LoggedEpisode, MemoryStore as _, Pattern, PatternId, Profile, Record, Result,
    Role, Search, Status, Stored, Support, Task, Vector, Verdict, Weights,
};

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
    /// What was asked for.
    pub intent: Intent,
    /// If nothing was relevant enough to be told, though something was found: the highest relevance of an episode or note,
    /// which is below the [threshold](Profile::threshold).
    pub abstained: Option<f64>,
    /// Why the episodes and notes were found by words only, or are not reranked, if so.
    pub degraded: Option<String>,
}

/// What a score is made of. All parts are in [0, 1]; see [`Profile`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// How much of the query its words cover: [`Hit::words`]; of a turn of a thread, those of the turns around it, too.
    pub words: f64,
    /// How much of the query what happened in it covers: [`Hit::trace`].
    pub trace: f64,
    /// The cosine of the vectors, with negative ones counted as 0.
    pub vector: f64,
    /// What a [`Reranker`](crate::Reranker) says, if there is one and it was asked about this.
    pub reranked: Option<f64>,
    /// How much it has to do with the query, going by the parts above and by what is like it or beside it; or what the
    /// reranker says.
    pub relevance: f64,
    /// How much of the language and the tags that the task names it has; 1 if the task names none. Notes have 1.
    pub context: f64,
    /// How well the episode ended: its reward, or 1 for a success, 0.6 in part, 0.2 otherwise. Notes have 1.
    pub evidence: f64,
    /// 1 for now, and one half for the learner's [half-life](crate::Learner::half_life) ago.
    pub recency: f64,
    /// How much the note is said to matter. Episodes have 1.
    pub salience: f64,
}

impl fmt::Display for Parts {
    /// The parts as people read them: the reasons for a score.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { words, trace, vector, reranked, relevance, context, evidence, recency, salience } = self;
        write!(f, "relevance {relevance:.2} (words {words:.2}, trace {trace:.2}, vector {vector:.2}")?;
        if let Some(reranked) = reranked {
            write!(f, ", reranked {reranked:.2}")?;
        }
        write!(f, "), context {context:.2}, evidence {evidence:.2}, recency {recency:.2}, salience {salience:.2}")
    }
}

/// An episode like the task.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    /// The episode.
    pub episode: Arc<Episode>,
    /// How good it is, in [0, 1]: see [`Profile`]; halved if the environment has drifted.
    pub score: f64,
    /// What the score is made of.
    pub parts: Parts,
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
    /// What counts is decided by the task's words: see [`Intent::of`] and [`Profile::of`].
    ///
    /// Only what trusted sources told is recalled. Nothing is withheld and nothing attributed:
    /// [`OpenEpisode::recall`](crate::OpenEpisode::recall) does that.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for `k` outside 1..=100 or a text above the limit; the store's errors. An embedder or
    /// a reranker that fails is told in the answer.
    pub async fn recall(&self, task: &Task, k: usize) -> Result<Recollection> {
        self.recall_with(task, k, &Profile::of(self.inner.intents.of(&task.text))).await
    }

    /// The same, with a profile of the caller's choice.
    ///
    /// # Errors
    /// As [`recall`](Self::recall); [`Invalid`](crate::ErrorKind::Invalid) for a profile out of range.
    pub async fn recall_with(&self, task: &Task, k: usize, profile: &Profile) -> Result<Recollection> {
        limits::k("k", k)?;
        profile.validate()?;
        self.inner.limits.query(&task.text)?;
        self.try_recall(task, k, profile).await.map_err(|error| error.in_operation("recall"))
    }

    async fn try_recall(&self, task: &Task, k: usize, profile: &Profile) -> Result<Recollection> {
        let (vector, mut degraded) = self.vector_of(Role::Query, &task.text).await;
        let notes = self.nearest_notes(&task.text, vector.as_ref(), k, profile).await?;
        let episodes = self.ranked(task, vector, k, profile).await?;
        degraded = degraded.or(episodes.degraded).or(notes.degraded);
        let best = [episodes.best_below, notes.best_below].into_iter().flatten().reduce(f64::max);
        let abstained = best.filter(|_| episodes.kept.is_empty() && notes.kept.is_empty());
        let pitfalls = self.pitfalls(&episodes.kept).await?;
        Ok(Recollection {
            query: task.text.clone(),
            episodes: episodes.kept,
            pitfalls,
            notes: notes.kept,
            advice: self.advice_for(task).await?,
            withheld: false,
            intent: profile.intent,
            abstained,
            degraded,
        })
    }

    /// The `k` episodes most like a task by words and vector alone, best first, each with how much it is. These are what
    /// [`suggest`](Self::suggest) and [`predict`](Self::predict) look at: they weigh by closeness, and want it plain.
    pub(super) async fn nearest(&self, task: &Task, k: usize) -> Result<Vec<(Arc<Episode>, f64)>> {
        const CLOSENESS: Weights = Weights::new(0.6, 0.0, 0.4);
        let (vector, _) = self.vector_of(Role::Query, &task.text).await;
        let mut hits = self.candidates(task, vector, CLOSENESS, Search::MAX_K).await?;
        hits.truncate(if task.environment.is_empty() { k } else { Search::MAX_K });
        let mut nearest: Vec<(Arc<Episode>, f64)> = self.episodes_of(&hits).await?;
        for (episode, closeness) in &mut nearest {
            *closeness *= Freshness::of(&episode.task.environment, &task.environment).factor();
        }
        nearest.sort_by(|a, b| b.1.total_cmp(&a.1));
        nearest.truncate(k);
        Ok(nearest)
    }

    /// What a search finds for a task, with how relevant it is, best first.
    async fn candidates(
        &self,
        task: &Task,
        vector: Option<Vector>,
        weights: Weights,
        most: usize,
    ) -> Result<Vec<(Hit, f64)>> {
        let search = Search::new(self.scope.clone())
            .text(task.text.clone())
            .trace(weights.trace > 0.0)
            .vector(vector)
            .filter(Self::comparable(task))
            .k(most);
        let relevance = |hit: Hit| {
            let relevance = weights.relevance(&hit);
            (hit, relevance)
        };
        let mut hits: Vec<(Hit, f64)> = self.inner.store.search(&search).await?.into_iter().map(relevance).collect();
        hits.retain(|(_, relevance)| *relevance > 0.0);
        // Stable: the store's order decides between equal ones.
        hits.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(hits)
    }

    /// The episodes of hits, with how relevant they are; without those that were deleted since the search.
    async fn episodes_of(&self, hits: &[(Hit, f64)]) -> Result<Vec<(Arc<Episode>, f64)>> {
        let found = self.logged_of(hits).await?.into_iter().zip(hits);
        Ok(found.filter_map(|(logged, (_, relevance))| Some((logged?.episode, *relevance))).collect())
    }

    async fn logged_of(&self, hits: &[(Hit, f64)]) -> Result<Vec<Option<LoggedEpisode>>> {
        let keys: Vec<Key> = hits.iter().map(|(hit, _)| hit.key.clone()).collect();
        let stored = self.inner.store.get(&keys).await?.into_iter();
        Ok(stored
            .map(|stored| match stored {
                Some(Stored { record: Record::Episode(logged), .. }) => Some(logged),
                _ => None,
            })
            .collect())
    }

    /// The `k` episodes to recall for a task, best first.
    async fn ranked(
        &self,
        task: &Task,
        vector: Option<Vector>,
        k: usize,
        profile: &Profile,
    ) -> Result<Ranked<Recalled>> {
        let looked_at = k.max(profile.depth);
        let mut hits = self.candidates(task, vector, profile.episodes, looked_at).await?;
        hits.truncate(looked_at);
        let stored = self.logged_of(&hits).await?;
        let (hits, stored): (Vec<_>, Vec<_>) =
            hits.into_iter().zip(stored).filter_map(|(hit, logged)| Some((hit, logged?))).unzip();
        let mut relevances: Vec<f64> = hits.iter().map(|(_, relevance)| *relevance).collect();

        let close = profile.depth.min(stored.len());
        let episodes: Vec<&Episode> = stored[..close].iter().map(|logged| &*logged.episode).collect();
        if profile.agreement > 0.0 {
            let moved = agreed(&episodes, &relevances[..close], profile.agreement);
            relevances[..close].copy_from_slice(&moved);
        }
        let texts = || stored.iter().map(|logged| described(&logged.episode));
        let (opinions, degraded) = self.opinions(&task.text, texts).await;

        let candidates = hits.iter().zip(stored).zip(relevances).enumerate();
        let candidates = candidates.map(|(place, (((hit, _), logged), relevance))| {
            let reranked = opinions.get(place).copied();
            let relevance = reranked.unwrap_or(relevance);
            let LoggedEpisode { episode, vector } = logged;
            let parts = Parts {
                words: hit.words,
                trace: hit.trace,
                vector: hit.vector.max(0.0),
                reranked,
                relevance,
                context: context(&episode, task),
                evidence: evidence(&episode),
                recency: self.recency(episode.completed_at),
                salience: 1.0,
            };
            let freshness = Freshness::of(&episode.task.environment, &task.environment);
            let shares = [
                (profile.context, parts.context),
                (profile.evidence, parts.evidence),
                (profile.recency, parts.recency),
            ];
            let score = weighed(relevance, &shares) * freshness.factor();
            (Recalled { episode, score, parts, freshness }, vector)
        });
        let (candidates, best_below) = above(candidates.collect(), profile, |(recalled, _)| &recalled.parts);
        let likeness = |(_, a): &(_, Option<Vector>), (_, b): &(_, Option<Vector>)| match (a, b) {
            (Some(a), Some(b)) => a.cosine(b).max(0.0),
            _ => 0.0,
        };
        let kept = diversified(candidates, k, profile.diversity, |(recalled, _)| recalled.score, likeness);
        Ok(Ranked { kept: kept.into_iter().map(|(recalled, _)| recalled).collect(), best_below, degraded })
    }

    /// What the reranker says of texts, if there is one; none and why, if it fails.
    pub(super) async fn opinions<T: Iterator<Item = String>>(
        &self,
        query: &str,
        texts: impl FnOnce() -> T,
    ) -> (Vec<f64>, Option<String>) {
        let Some(reranker) = &self.inner.reranker else { return (Vec::new(), None) };
        let texts: Vec<String> = texts().collect();
        if texts.is_empty() {
            return (Vec::new(), None);
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        match reranked(&**reranker, strip_recalled(query).trim(), &texts).await {
            Ok(opinions) => (opinions, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        }
    }

    /// 1 for now, and one half for the learner's half-life ago.
    pub(super) fn recency(&self, at: DateTime<Utc>) -> f64 {
        let age = (self.inner.clock.read() - at).num_milliseconds().max(0) as f64;
        (-age / self.learner().half_life.num_milliseconds() as f64).exp2()
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

/// What was found and is relevant enough.
pub(super) struct Ranked<T> {
    /// Best first.
    pub(super) kept: Vec<T>,
    /// The highest relevance of what is not relevant enough.
    pub(super) best_below: Option<f64>,
    /// Why the reranker has no part in it.
    pub(super) degraded: Option<String>,
}

/// Those that are relevant enough, and the highest relevance of the others.
pub(super) fn above<T>(all: Vec<T>, profile: &Profile, parts: impl Fn(&T) -> &Parts) -> (Vec<T>, Option<f64>) {
    let (kept, below): (Vec<T>, Vec<T>) = all.into_iter().partition(|one| parts(one).relevance >= profile.threshold);
    (kept, below.iter().map(|one| parts(one).relevance).reduce(f64::max))
}

/// Relevance, of which each share is decided by a part.
pub(super) fn weighed(relevance: f64, shares: &[(f64, f64)]) -> f64 {
    relevance * (1.0 + shares.iter().map(|(share, part)| share * (part - 1.0)).sum::<f64>())
}

/// How much of the language and the tags that a task names an episode has.
fn context(episode: &Episode, task: &Task) -> f64 {
    let language = task.language.as_ref().map(|language| f64::from(Some(language) == episode.task.language.as_ref()));
    let shared = task.tags.intersection(&episode.task.tags).count() as f64;
    let tags = (!task.tags.is_empty()).then(|| shared / task.tags.len() as f64);
    match (language, tags) {
        (Some(language), Some(tags)) => f64::midpoint(language, tags),
        (part, other) => part.or(other).unwrap_or(1.0),
    }
}

/// How well an episode ended.
fn evidence(episode: &Episode) -> f64 {
    episode.outcome.reward.unwrap_or(match episode.outcome.verdict {
        Verdict::Success => 1.0,
        Verdict::Partial => 0.6,
        Verdict::Failure | Verdict::Abstained | Verdict::Interrupted => 0.2,
    })
}

/// An episode as a reranker reads it.
fn described(episode: &Episode) -> String {
    format!("{}\n{}", strip_recalled(&episode.task.text), strip_recalled(&episode.outcome.summary))
}
