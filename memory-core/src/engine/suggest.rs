//! Suggest: which tool comes next.

//!
//! Two sources are combined. *Transitions*: what came next after the same moves, in all episodes of the domain, backed off
//! from three moves to none (interpolation of I. Witten and T. Bell, "The zero-frequency problem", 1991). *Similar episodes*:
//! what came next in them at the same point, which sharpens the distribution the more alike they are.

use std::collections::{BTreeMap, BTreeSet};

use super::Memory;
use super::recall::Recalled;
use crate::learn::{contexts, transitions_after};
use crate::limits;
use crate::text::words;
use crate::{EpisodeId, Pattern, PatternId, Result, Step, Support, Task};

/// The weight of what failed episodes did, beside what successful ones did.
const FAILED: f64 = 0.25;
/// The power of similarity that episodes weigh by: only close ones have a say.
const CLOSENESS: i32 = 3;
/// The weight that an episode gains by having made all the calls made so far, with the same input.
const SAME_CALLS: f64 = 0.2;
/// The weight of the transitions beside the similar episodes, at the same point of any order above zero.
const PRIOR: f64 = 0.5;
/// The same for what similar episodes did at any point.
const PRIOR_ANYWHERE: f64 = 2.0;
/// At how many levels two points in episodes can be alike.
const LEVELS: usize = 5;

/// A tool that may come next.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// The tool.
    pub tool: String,
    /// How likely it is to come next in an episode that succeeds, in [0, 1]. Over all tools ever seen here they sum to 1.
    pub probability: f64,
    /// What speaks for it: the most specific transition first, then the most similar episodes.
    pub reasons: Vec<Reason>,
}

/// Why a tool is suggested.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// It came next after the same moves.
    Transition {
        /// The pattern that holds the evidence.
        pattern: PatternId,
        /// The moves, as people read them; empty for anything.
        after: String,
        /// How often it came next, and in how many episodes that succeeded.
        support: Support,
        /// How often anything came next.
        of: f64,
    },
    /// It came next at this point of a similar episode.
    Similar {
        /// The episode.
        episode: EpisodeId,
        /// How similar, in [0, 1].
        score: f64,
        /// Whether the episode succeeded.
        succeeded: bool,
    },
}

impl Memory {
    /// Which tools usually come next after these steps on this task, best first, up to `k`; none if nothing is known.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for `k` outside 1..=100 or a text above the limit; the store's errors.
    pub async fn suggest(&self, task: &Task, steps: &[Step], k: usize) -> Result<Vec<Suggestion>> {
        limits::k("k", k)?;
        let similar = self.similar(task).await?;
        self.suggest_with(task, steps, &similar, k).await.map_err(|error| error.in_operation("suggest"))
    }
}

type Distribution = BTreeMap<String, f64>;

impl Memory {
    /// The episodes that `suggest` and `predict` look at.
    pub(super) async fn similar(&self, task: &Task) -> Result<Vec<Neighbour>> {
        const NEIGHBOURS: usize = 30;
        self.inner.limits.query(&task.text)?;
        Ok(self.nearest(task, NEIGHBOURS).await?.0.into_iter().map(Neighbour::new).collect())
    }

    pub(super) async fn suggest_with(
        &self,
        task: &Task,
        steps: &[Step],
        similar: &[Neighbour],
        k: usize,
    ) -> Result<Vec<Suggestion>> {
        let asked = transitions_after(self.inner.projection.id(), &self.scope, task.domain.as_deref(), steps);
        let ids: Vec<PatternId> = asked.iter().map(|pattern| pattern.id).collect();
        let learned: Vec<Pattern> = self.inner.projection.patterns(&ids).await?.into_iter().flatten().collect();
        let backed_off = self.backed_off(&learned);
        let here = Point::after(steps);
        let sharpened = sharpened(backed_off, similar, &here, steps);
        let mut ranked: Vec<(String, f64)> = sharpened.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ranked.truncate(k);
        let suggestion = |(tool, probability): (String, f64)| {
            let reasons = self.reasons(&tool, &learned, similar, &here);
            Suggestion { tool, probability, reasons }
        };
        Ok(ranked.into_iter().map(suggestion).collect())
    }

    /// The distribution of the next tool after the transition patterns, which come from general to specific.
    fn backed_off(&self, learned: &[Pattern]) -> Distribution {
        let mut distribution = Distribution::new();
        for pattern in learned {
            let weighed = pattern.branches.iter().map(|(tool, evidence)| {
                let support = self.support(evidence);
                (tool, support.successes + FAILED * (support.trials - support.successes))
            });
            let counts: BTreeMap<&String, f64> = weighed.filter(|(_, weight)| *weight > 0.0).collect();
            if counts.is_empty() {
                continue; // All of it has faded away.
            }
            let (sum, kinds): (f64, f64) = (counts.values().sum(), counts.len() as f64);
            if distribution.is_empty() {
                distribution = counts.iter().map(|(tool, weight)| ((*tool).clone(), weight / sum)).collect();
            } else {
                for (tool, probability) in &mut distribution {
                    let count = counts.get(tool).copied().unwrap_or_default();
                    *probability = (count + kinds * *probability) / (sum + kinds);
                }
            }
        }
        distribution
    }

    fn reasons(&self, tool: &str, learned: &[Pattern], similar: &[Neighbour], here: &Point) -> Vec<Reason> {
        const SIMILAR: usize = 3;
        let specific = learned.iter().rev().find_map(|pattern| Some((pattern, pattern.branches.get(tool)?)));
        let transition = specific.map(|(pattern, evidence)| Reason::Transition {
            pattern: pattern.id,
            after: pattern.condition(),
            support: self.support(evidence),
            of: pattern.branches.values().map(|evidence| self.support(evidence).trials).sum(),
        });
        let similar = similar.iter().filter(|neighbour| neighbour.next_at(here)[1].contains(&tool));
        let similar = similar.take(SIMILAR).map(|neighbour| Reason::Similar {
            episode: neighbour.recalled.episode.id,
            score: neighbour.recalled.score,
            succeeded: neighbour.recalled.episode.succeeded(),
        });
        transition.into_iter().chain(similar).collect()
    }
}

/// An episode like the task, prepared for being asked what came next in it.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) recalled: Recalled,
    /// The points before each of its steps.
    points: Vec<Point>,
    calls: BTreeSet<String>,
}

impl Neighbour {
    pub(super) fn new(recalled: Recalled) -> Self {
        let steps = &recalled.episode.steps;
        let points = (0..steps.len()).map(|at| Point::after(&steps[..at])).collect();
        let calls = steps.iter().map(call).collect();
        Self { recalled, points, calls }
    }

    /// How similar it is to the task, as a weight.
    pub(super) fn closeness(&self) -> f64 {
        self.recalled.score.powi(CLOSENESS)
    }

    /// The weight of its say on what comes next: more if it made the calls made so far.
    fn weight(&self, made: &[String]) -> f64 {
        let same = made.iter().filter(|call| self.calls.contains(*call)).count() as f64;
        let share = if made.is_empty() { 0.0 } else { same / made.len() as f64 };
        let weight = self.closeness() + SAME_CALLS * share;
        if self.recalled.episode.succeeded() { weight } else { FAILED * weight }
    }

    /// What came next in it, at each level at which its points can be like this one.
    fn next_at(&self, here: &Point) -> [Vec<&str>; LEVELS] {
        let mut next: [Vec<&str>; LEVELS] = Default::default();
        for (point, step) in self.points.iter().zip(&self.recalled.episode.steps) {
            point.in_common(here).for_each(|level| next[level].push(&step.tool));
        }
        next
    }
}

/// A point in an episode, as far as it can be like another one.
#[derive(Debug)]
struct Point {
    contexts: Vec<Vec<String>>,
    last_call: Option<String>,
}

impl Point {
    fn after(steps: &[Step]) -> Self {
        Self { contexts: contexts(steps), last_call: steps.last().map(call) }
    }

    /// The levels at which two points are alike: 0 always, 1 to 3 for as many last moves, 4 for the last call.
    fn in_common(&self, other: &Self) -> impl Iterator<Item = usize> {
        let moves = self.contexts.iter().zip(&other.contexts).take_while(|(a, b)| a == b);
        let call = (self.last_call == other.last_call).then_some(LEVELS - 1);
        (0..moves.count()).chain(call)
    }
}

/// A tool with its input, apart from case and punctuation.
fn call(step: &Step) -> String {
    let input: Vec<String> = words(&step.input).collect();
    format!("{}({})", step.tool, input.join(" "))
}

/// Sharpens a distribution by what the neighbours did next, first anywhere, then after the same last moves, ever more of
/// them, then after the same last call. At each level a neighbour has one vote of its weight.
fn sharpened(mut distribution: Distribution, neighbours: &[Neighbour], here: &Point, steps: &[Step]) -> Distribution {
    let made: Vec<String> = steps.iter().map(call).collect();
    let mut votes: [BTreeMap<&str, f64>; LEVELS] = Default::default();
    for neighbour in neighbours {
        let weight = neighbour.weight(&made);
        for (votes, next) in votes.iter_mut().zip(neighbour.next_at(here)) {
            let vote = weight / next.len() as f64;
            next.into_iter().for_each(|tool| *votes.entry(tool).or_default() += vote);
        }
    }
    for (level, votes) in votes.iter().enumerate() {
        let cast: f64 = votes.values().sum();
        if cast <= 0.0 {
            continue;
        }
        let prior = match level {
            _ if distribution.is_empty() => 0.0,
            0 => PRIOR_ANYWHERE,
            _ => PRIOR,
        };
        let sum = cast + prior;
        distribution.values_mut().for_each(|probability| *probability *= prior / sum);
        for (tool, weight) in votes {
            match distribution.get_mut(*tool) {
                Some(probability) => *probability += weight / sum,
                None => {
                    distribution.insert((*tool).to_owned(), weight / sum);
                }
            }
        }
    }
    distribution
}
