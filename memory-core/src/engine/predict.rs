//! Predict: how likely an episode is to succeed.
//!
//! Three estimates are added up in log-odds: the base rate of the domain, how episodes fared from the same point on, and
//! how similar episodes ended.

use super::Memory;
use super::suggest::Neighbour;
use crate::learn::{context_after, transitions_after};
use crate::{Pattern, Result, Step, Support, Task};

/// The weight of the more general estimate beside the evidence of the more specific one, in episodes.
const GENERAL: f64 = 5.0;
/// The weight of the base rate beside the similar episodes.
const BASE: f64 = 0.1;
/// How much of what an estimate says against the base rate is believed.
const BELIEF: f64 = 0.7;

/// How likely an episode is to succeed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The probability of success, in (0, 1).
    pub probability: f64,
    /// The share of successes in the domain, with one success and one failure added.
    pub base_rate: f64,
    /// The estimate from how episodes fared after the same steps; the base rate at the start.
    pub by_steps: f64,
    /// The estimate from how similar episodes ended.
    pub by_similar: f64,
}

impl Memory {
    /// How likely a task is to succeed after these steps. One half if nothing is known.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a text above the limit; the store's errors.
    pub async fn predict(&self, task: &Task, steps: &[Step]) -> Result<Prediction> {
        let similar = self.similar(task).await?;
        self.predict_with(task, steps, &similar).await.map_err(|error| error.in_operation("predict"))
    }

    pub(super) async fn predict_with(&self, task: &Task, steps: &[Step], similar: &[Neighbour]) -> Result<Prediction> {
        let (learner, domain) = (self.inner.projection.id(), task.domain.as_deref());
        let mut asked = vec![context_after(learner, &self.scope, domain, &[])];
        if !steps.is_empty() {
            asked.push(context_after(learner, &self.scope, domain, steps));
            asked.extend(transitions_after(learner, &self.scope, domain, steps).into_iter().skip(2));
        }
        let ids: Vec<_> = asked.iter().map(|pattern| pattern.id).collect();
        let learned = self.inner.projection.patterns(&ids).await?;
        let mut estimates =
            learned.iter().map(|pattern| pattern.as_ref().map(|pattern| self.whole(pattern)).unwrap_or_default());
        let base = estimates.next().unwrap_or_default();
        let base_rate = (base.successes + 1.0) / (base.trials + 2.0);
        let by_steps = estimates
            .fold(base_rate, |general, support| (support.successes + GENERAL * general) / (support.trials + GENERAL));
        let all: f64 = similar.iter().map(Neighbour::closeness).sum();
        let succeeded = similar.iter().filter(|neighbour| neighbour.recalled.episode.succeeded());
        let succeeded: f64 = succeeded.map(Neighbour::closeness).sum();
        let by_similar = (succeeded + BASE * base_rate) / (all + BASE);
        let against = |estimate| BELIEF * (log_odds(estimate) - log_odds(base_rate));
        let odds = log_odds(base_rate) + against(by_steps) + against(by_similar);
        Ok(Prediction { probability: 1.0 / (1.0 + (-odds).exp()), base_rate, by_steps, by_similar })
    }

    /// The evidence of all branches together.
    fn whole(&self, pattern: &Pattern) -> Support {
        pattern.branches.values().map(|evidence| self.support(evidence)).fold(Support::default(), |sum, one| Support {
            episodes: sum.episodes + one.episodes,
            trials: sum.trials + one.trials,
            successes: sum.successes + one.successes,
        })
    }
}

fn log_odds(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}
