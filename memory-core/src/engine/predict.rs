//! Predict: how likely an episode is to succeed.
//!
//! Everything is added up in log-odds: the base rate of the domain, what speaks against it in the state that the episode is
//! in, and what speaks against it in how similar episodes ended. Each estimate is shrunk towards the more general one by as
//! many episodes as its constant says, and weighs less than 1, because the estimates are not independent of each other.

use std::collections::{BTreeMap, BTreeSet};

use super::Memory;
use super::suggest::Neighbour;
use crate::learn::context_of;
use crate::state::{self, Class, Feature};
use crate::{Move, PatternId, Result, Step, Support, Task};

/// Episodes, half of them successes, that a domain starts with: the base rate of a new domain moves slowly.
const EVEN: f64 = 20.0;
/// The weight of the base rate beside the episodes that got as far.
const BASE: f64 = 3.0;
/// The weight of these beside the ones in the same class.
const REACHED: f64 = 20.0;

/// How likely an episode is to succeed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The probability of success, in (0, 1).
    pub probability: f64,
    /// The share of successes in the domain, with ten successes and ten failures added.
    pub base_rate: f64,
    /// The estimate from how episodes in the same state fared: as far, after such a last step; at the start, with a task
    /// of such a length.
    pub by_steps: f64,
    /// The estimate from how similar episodes ended; under way, of those that began with the same moves.
    pub by_similar: f64,
    /// Whether there is enough behind it: as many episodes in the domain, decayed, as the learner's quorum.
    pub reliable: bool,
}

/// How far an episode has come, and so what tells of its end. The weights were fitted across domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Start,
    UnderWay,
    Finished,
}

impl Stage {
    /// Of an episode that goes on after these steps.
    pub(super) fn after(steps: &[Step]) -> Self {
        if steps.is_empty() { Self::Start } else { Self::UnderWay }
    }

    fn classes(self, task: &Task, steps: &[Step]) -> Vec<Class> {
        match self {
            Self::Start => vec![state::of_task(task)],
            Self::UnderWay => state::under_way(steps),
            Self::Finished => state::finished(steps),
        }
    }

    /// How much of what a class says is believed.
    fn belief(self, feature: Feature) -> f64 {
        match (self, feature) {
            (_, Feature::Reached) => 1.0,
            (_, Feature::TaskSize) => 0.25,
            (_, Feature::InputShape) => 0.75,
            (_, Feature::LastStep) => 0.65,
            (Self::Finished, Feature::Ids) => 0.8,
            (_, Feature::Ids) => 0.3,
            (_, Feature::Steps | Feature::Words) => 0.6,
        }
    }

    /// How much of what similar episodes say is believed, and the weight that the general estimate has beside them.
    fn similar(self) -> (f64, f64) {
        match self {
            Self::Start => (0.6, 0.2),
            Self::UnderWay => (0.9, 1.5),
            Self::Finished => (0.3, 0.2),
        }
    }

    /// The weight of each similar episode. Before anything is done, and after the end, runs of one other task share a voice:
    /// how that task went is one thing to learn. Under way, each weighs by how much of what was done it did first, too.
    fn weights(self, task: &Task, steps: &[Step], similar: &[Neighbour]) -> Vec<f64> {
        if self == Self::UnderWay {
            return similar.iter().map(|one| one.closeness() * one.began_like(steps)).collect();
        }
        let mut runs: BTreeMap<&str, f64> = BTreeMap::new();
        similar.iter().for_each(|one| *runs.entry(one.task()).or_default() += 1.0);
        let voices = |one: &Neighbour| if one.task() == task.text { 1.0 } else { runs[one.task()] };
        similar.iter().map(|one| one.closeness() / voices(one)).collect()
    }
}

impl Memory {
    /// How likely a task is to succeed after these steps, when more are to come. One half if nothing is known.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a text above the limit; the store's errors.
    pub async fn predict(&self, task: &Task, steps: &[Step]) -> Result<Prediction> {
        self.predict_at(Stage::after(steps), task, steps).await.map_err(|error| error.in_operation("predict"))
    }

    /// How likely an episode that has ended with these steps is a success, when its outcome is not known yet. One half if
    /// nothing is known.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub async fn predict_finished(&self, task: &Task, steps: &[Step]) -> Result<Prediction> {
        let predicted = self.predict_at(Stage::Finished, task, steps).await;
        predicted.map_err(|error| error.in_operation("predict_finished"))
    }

    async fn predict_at(&self, stage: Stage, task: &Task, steps: &[Step]) -> Result<Prediction> {
        let similar = self.similar(task).await?;
        self.predict_with(stage, task, steps, &similar).await
    }

    pub(super) async fn predict_with(
        &self,
        stage: Stage,
        task: &Task,
        steps: &[Step],
        similar: &[Neighbour],
    ) -> Result<Prediction> {
        let mut classes = vec![state::reached(0)];
        classes.extend(stage.classes(task, steps));
        let supports = self.supports(task, &classes).await?;
        let base = supports[0];
        let base_rate = (base.successes + EVEN / 2.0) / (base.trials + EVEN);

        let (mut general, mut odds) = (base_rate, log_odds(base_rate));
        for (class, support) in classes.iter().zip(supports).skip(1) {
            let prior = if class.feature == Feature::Reached { BASE } else { REACHED };
            let estimate = shrunk(support.successes, support.trials, prior, general);
            odds += stage.belief(class.feature) * (log_odds(estimate) - log_odds(general));
            if class.feature == Feature::Reached {
                general = estimate;
            }
        }
        let by_steps = probability(odds);

        let (belief, prior) = stage.similar();
        let weights = stage.weights(task, steps, similar);
        let succeeded = similar.iter().zip(&weights).filter(|(one, _)| one.succeeded()).map(|(_, weight)| weight).sum();
        let by_similar = shrunk(succeeded, weights.iter().sum(), prior, general);
        odds += belief * (log_odds(by_similar) - log_odds(general));
        let reliable = base.episodes >= f64::from(self.learner().quorum);
        Ok(Prediction { probability: probability(odds), base_rate, by_steps, by_similar, reliable })
    }

    /// The evidence of each class.
    async fn supports(&self, task: &Task, classes: &[Class]) -> Result<Vec<Support>> {
        let learner = self.inner.projection.id();
        let id = |class: &Class| context_of(learner, &self.scope, task.domain.as_deref(), class).id;
        let ids: BTreeSet<PatternId> = classes.iter().map(id).collect();
        let ids: Vec<PatternId> = ids.into_iter().collect();
        let learned = self.inner.projection.patterns(&ids).await?;
        let support = |class: &Class| {
            let pattern = learned[ids.binary_search(&id(class)).ok()?].as_ref()?;
            pattern.branches.get(&class.branch).map(|evidence| self.support(evidence))
        };
        Ok(classes.iter().map(|class| support(class).unwrap_or_default()).collect())
    }
}

impl Neighbour {
    fn task(&self) -> &str {
        &self.episode.task.text
    }

    fn succeeded(&self) -> bool {
        self.episode.succeeded()
    }

    /// The share of these steps that it began with, too: the same tools, which went as well.
    fn began_like(&self, steps: &[Step]) -> f64 {
        let pairs = self.episode.steps.iter().zip(steps);
        let alike = pairs.take_while(|(one, other)| Move::of(one) == Move::of(other)).count();
        alike as f64 / steps.len() as f64
    }
}

/// A share of successes in trials, with trials of the more general share added.
fn shrunk(successes: f64, trials: f64, prior: f64, general: f64) -> f64 {
    (successes + prior * general) / (trials + prior)
}

fn log_odds(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

fn probability(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}
