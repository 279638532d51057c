//! Review: what a completed episode was worth, which steps made its chances, and that in words.

use std::collections::HashSet;

use super::Memory;
use super::predict::Stage;
use crate::learn::{RECOVERY_STEPS, repaired_at};
use crate::text::error_signature;
use crate::{Episode, EpisodeId, Result, Step, Verdict};

/// The weight of the outcome in the total reward.
const OUTCOME: f64 = 0.7;
/// The weight of the efficiency.
const EFFICIENCY: f64 = 0.2;
/// The weight of the recovery.
const RECOVERY: f64 = 0.1;
/// Errors that a reflection tells one by one.
const ERRORS_TOLD: usize = 3;

/// What a completed episode was worth, and why.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// Its worth, in parts.
    pub reward: Reward,
    /// What each step did to the chance of success, one entry a step, in order.
    pub credit: Vec<StepCredit>,
    /// The same in a few plain sentences: outcome, chances, errors and what repaired them, steps without use. Steps are counted
    /// from 1, numbers are whole percents, and errors are told by their [signature](crate::text::error_signature).
    pub reflection: String,
}

/// What an episode was worth: made from the episode alone.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reward {
    /// The reward that was told with the outcome; without one 1 for success, 0.5 for partial success, 0 for anything else.
    pub outcome: f64,
    /// The share of steps, in [0, 1], that neither failed nor repeated an earlier call: the same tool with the same input. 1
    /// without steps.
    pub efficiency: f64,
    /// The share of errors, in [0, 1], after which the same tool went well within three steps, as
    /// [`PatternKind::ErrorRecovery`](crate::PatternKind::ErrorRecovery) counts them. 1 without errors.
    pub recovery: f64,
    /// 0.7 of the outcome, 0.2 of the efficiency and 0.1 of the recovery, in [0, 1].
    pub total: f64,
}

/// What a step did to the chance of success, as far as the evidence tells.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepCredit {
    /// The place of the step, from 0.
    pub step: usize,
    /// The probability of success before it, in (0, 1).
    pub before: f64,
    /// The probability of success after it, in (0, 1). That of the last step is a prediction, too, and not the outcome.
    pub after: f64,
}

impl StepCredit {
    /// By how much the step raised the chance, in (-1, 1).
    pub fn change(&self) -> f64 {
        self.after - self.before
    }
}

impl Memory {
    /// What a completed episode was worth, and which of its steps made its chances.
    ///
    /// The chances are those that [`predict`](Self::predict) gives now for the first steps of the episode, ever more of them.
    /// The episode is not compared with itself, but its share of the patterns stays in them, as that of any other episode.
    ///
    /// Looks similar episodes up once, then reads a handful of patterns by their ids for each step: an episode of 1,000 steps
    /// takes 1,001 such reads, whatever else is stored.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such completed episode in this scope;
    /// [`Invalid`](crate::ErrorKind::Invalid) for a task text above the limit of this memory; the store's errors.
    pub async fn review(&self, id: EpisodeId) -> Result<Review> {
        let reviewed = async {
            let episode = self.episode(id).await?;
            let credit = self.credit(&episode).await?;
            let reward = Reward::of(&episode);
            let reflection = Facts { episode: &episode, credit: &credit }.tell();
            Ok(Review { reward, credit, reflection })
        };
        reviewed.await.map_err(|error: crate::Error| error.in_operation("review"))
    }

    async fn credit(&self, episode: &Episode) -> Result<Vec<StepCredit>> {
        let Episode { id, task, steps, .. } = episode;
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let mut similar = self.similar(task).await?;
        similar.retain(|neighbour| neighbour.episode.id != *id);
        let mut before = self.predict_with(Stage::Start, task, &[], &similar).await?.probability;
        let mut credit = Vec::with_capacity(steps.len());
        for step in 0..steps.len() {
            let after = self.predict_with(Stage::UnderWay, task, &steps[..=step], &similar).await?.probability;
            credit.push(StepCredit { step, before, after });
            before = after;
        }
        Ok(credit)
    }
}

impl Reward {
    fn of(episode: &Episode) -> Self {
        let steps = &episode.steps;
        let outcome = episode.outcome.reward.unwrap_or(match episode.outcome.verdict {
            Verdict::Success => 1.0,
            Verdict::Partial => 0.5,
            _ => 0.0,
        });
        let uses = uses(steps);
        let efficiency = share(uses.iter().filter(|one| **one == Use::New).count(), steps.len());
        let errors: Vec<usize> = errors(steps).collect();
        let repaired = errors.iter().filter(|place| repaired_at(steps, **place).is_some()).count();
        let recovery = share(repaired, errors.len());
        // From the lightest to the heaviest, so that full marks add up to 1 exactly.
        let total = RECOVERY * recovery + EFFICIENCY * efficiency + OUTCOME * outcome;
        Self { outcome, efficiency, recovery, total }
    }
}

/// What a step was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    New,
    Failed,
    Repeated,
}

fn uses(steps: &[Step]) -> Vec<Use> {
    let mut calls = HashSet::new();
    let each = steps.iter().map(|step| match (calls.insert((&step.tool, &step.input)), step.ok) {
        (_, false) => Use::Failed,
        (true, true) => Use::New,
        (false, true) => Use::Repeated,
    });
    each.collect()
}

fn errors(steps: &[Step]) -> impl Iterator<Item = usize> {
    steps.iter().enumerate().filter(|(_, step)| !step.ok).map(|(place, _)| place)
}

/// The share of a part in a whole; 1 of nothing.
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// What a reflection is made from.
struct Facts<'a> {
    episode: &'a Episode,
    credit: &'a [StepCredit],
}

impl Facts<'_> {
    fn tell(&self) -> String {
        let mut told = vec![self.outcome()];
        told.extend(self.chances());
        told.extend(self.errors());
        told.extend(self.waste());
        told.join(" ")
    }

    fn outcome(&self) -> String {
        format!("Outcome: {} after {}.", self.episode.outcome.verdict, counted(self.episode.steps.len()))
    }

    /// The chance at the start, and the steps that changed it most, where that is seen in whole percents.
    fn chances(&self) -> Vec<String> {
        let Some(first) = self.credit.first() else { return Vec::new() };
        let by_change = |a: &&StepCredit, b: &&StepCredit| a.change().total_cmp(&b.change());
        // The first one of equal changes.
        let best = self.credit.iter().rev().max_by(by_change).filter(|credit| credit.change() > 0.0);
        let worst = self.credit.iter().min_by(by_change).filter(|credit| credit.change() < 0.0);
        let most = |credit: &StepCredit, changed: &str| {
            let (step, [before, after]) = (self.step(credit.step), [credit.before, credit.after].map(percent));
            (before != after).then(|| format!("{step} {changed} it most, from {before} to {after}."))
        };
        let start = format!("The chance of success was {} at the start.", percent(first.before));
        let raised = best.and_then(|best| most(best, "raised"));
        let lowered = worst.and_then(|worst| most(worst, "lowered"));
        std::iter::once(start).chain(raised).chain(lowered).collect()
    }

    fn errors(&self) -> Vec<String> {
        let mut errors = errors(&self.episode.steps);
        let mut told: Vec<String> = errors.by_ref().take(ERRORS_TOLD).map(|place| self.error(place)).collect();
        let more = errors.count();
        told.extend((more > 0).then(|| format!("Of the other steps, {more} failed.")));
        told
    }

    fn error(&self, place: usize) -> String {
        let steps = &self.episode.steps;
        let (step, error) = (self.step(place), error_signature(&steps[place].observation));
        let failed =
            if error.is_empty() { format!("{step} failed") } else { format!("{step} failed with \"{error}\"") };
        match repaired_at(steps, place) {
            Some(repair) => {
                let path: Vec<&str> = steps[place + 1..=repair].iter().map(|step| step.tool.as_str()).collect();
                format!("{failed}; {} repaired it.", path.join(" > "))
            }
            None => format!("{failed}; nothing repaired it within {RECOVERY_STEPS} steps."),
        }
    }

    fn waste(&self) -> Option<String> {
        let uses = uses(&self.episode.steps);
        let count = |wanted: Use| uses.iter().filter(|one| **one == wanted).count();
        let (failed, repeated) = (count(Use::Failed), count(Use::Repeated));
        let steps = counted(uses.len());
        (failed + repeated > 0).then(|| {
            format!("Wasted: {} of {steps} ({failed} failed, {repeated} repeated an earlier call).", failed + repeated)
        })
    }

    fn step(&self, place: usize) -> String {
        format!("Step {} ({})", place + 1, self.episode.steps[place].tool)
    }
}

fn counted(steps: usize) -> String {
    if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}
