//! Explain: why something is believed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::Memory;
use crate::habit::task_signature;
use crate::{
    Advice, Counts, Episode, EpisodeId, Error, ErrorKind, Evidence, Heuristic, HeuristicId, Pattern, PatternId,
    PatternKind, Result, Trust,
};

/// Something that a memory believes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Belief {
    /// A pattern.
    Pattern(PatternId),
    /// A heuristic.
    Heuristic(HeuristicId),
}

impl From<PatternId> for Belief {
    fn from(id: PatternId) -> Self {
        Self::Pattern(id)
    }
}

impl From<HeuristicId> for Belief {
    fn from(id: HeuristicId) -> Self {
        Self::Heuristic(id)
    }
}

/// Why something is believed.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What is believed, in words.
    pub what: String,
    /// The least trust among the episodes behind it.
    pub trust: Trust,
    /// The evidence over time, for each branch: the beginning of each time bucket that has some, and the counts in it. A
    /// heuristic has one branch, of the episodes that have its habit.
    pub over_time: BTreeMap<String, Vec<(DateTime<Utc>, Counts)>>,
    /// The episodes that speak for it, in the order of the log.
    pub episodes_for: Vec<EpisodeId>,
    /// The episodes that speak against it, in the order of the log. One that does both is in both lists.
    pub episodes_against: Vec<EpisodeId>,
    /// The patterns that a heuristic was derived from; empty for a pattern, which comes from episodes alone.
    pub derived_from: Vec<PatternId>,
}

impl Memory {
    /// Why something is believed: the counts over time, the episodes for and against it, and what it was derived from.
    ///
    /// Reads the log of the scope.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if nothing like it is believed in this scope now; the store's errors.
    pub async fn explain(&self, belief: impl Into<Belief>) -> Result<Explanation> {
        match belief.into() {
            Belief::Pattern(id) => self.explain_pattern(id).await,
            Belief::Heuristic(id) => self.explain_heuristic(id).await,
        }
        .map_err(|error| error.in_operation("explain"))
    }

    async fn explain_pattern(&self, id: PatternId) -> Result<Explanation> {
        let all = self.patterns().await?;
        let pattern = all.iter().find(|pattern| pattern.id == id).ok_or_else(|| unknown(id))?;
        let over_time = pattern.branches.iter().map(|(branch, evidence)| (branch.clone(), self.over_time(evidence)));
        let mut explanation = Explanation {
            what: pattern.to_string(),
            trust: pattern.trust,
            over_time: over_time.collect(),
            episodes_for: Vec::new(),
            episodes_against: Vec::new(),
            derived_from: Vec::new(),
        };
        self.each_episode(|episode| {
            let observed = self.learner().observe(episode).into_iter().find(|observed| observed.id == id);
            let counts = observed.iter().flat_map(|observed| observed.branches.values()).map(Evidence::total);
            let (successes, trials) =
                counts.fold((0, 0), |sum, counts| (sum.0 + counts.successes, sum.1 + counts.trials));
            explanation.episodes_for.extend((successes > 0).then_some(episode.id));
            explanation.episodes_against.extend((successes < trials).then_some(episode.id));
        })
        .await?;
        Ok(explanation)
    }

    async fn explain_heuristic(&self, id: HeuristicId) -> Result<Explanation> {
        let heuristics = self.heuristics().await?;
        let heuristic = heuristics.iter().find(|one| one.id == id).ok_or_else(|| unknown(id))?;
        let mut explanation = Explanation {
            what: heuristic.to_string(),
            trust: Trust::Trusted,
            over_time: BTreeMap::new(),
            episodes_for: Vec::new(),
            episodes_against: Vec::new(),
            derived_from: Vec::new(),
        };
        let mut evidence = Evidence::default();
        let mut rows = std::collections::BTreeSet::new();
        self.each_episode(|episode| {
            if !speaks_of(heuristic, episode) {
                return;
            }
            let success = u64::from(episode.succeeded());
            let bucket = self.learner().bucket_of(episode.completed_at);
            evidence.add(&Evidence::in_bucket(bucket, Counts { episodes: 1, trials: 1, successes: success }));
            let agrees = episode.succeeded() == (heuristic.advice == Advice::Do);
            let list = if agrees { &mut explanation.episodes_for } else { &mut explanation.episodes_against };
            list.push(episode.id);
            rows.insert(self.habits_of(episode));
        })
        .await?;
        explanation.over_time.insert(heuristic.habit.to_string(), self.over_time(&evidence));
        explanation.derived_from = rows.into_iter().collect();
        Ok(explanation)
    }

    /// The pattern that holds the habits of an episode's task.
    fn habits_of(&self, episode: &Episode) -> PatternId {
        let Episode { scope, task, source, .. } = episode;
        let (learner, domain) = (self.inner.projection.id(), task.domain.clone());
        Pattern::new(learner, scope.clone(), source.trust, PatternKind::Habit, domain, task_signature(task)).id
    }

    fn over_time(&self, evidence: &Evidence) -> Vec<(DateTime<Utc>, Counts)> {
        let beginning = |bucket: i64| {
            let seconds = bucket.saturating_mul(self.learner().bucket.num_seconds());
            DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MIN_UTC)
        };
        evidence.buckets().map(|(bucket, counts)| (beginning(bucket), counts)).collect()
    }
}

/// Whether an episode has the habit, in the situation, from a source that counts.
fn speaks_of(heuristic: &Heuristic, episode: &Episode) -> bool {
    episode.source.trust == Trust::Trusted
        && heuristic.situation.fits(&episode.task)
        && heuristic.is_in(&episode.steps) == Some(true)
}

fn unknown(id: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::NotFound, format!("nothing called {id} is believed in this scope"))
}
