//! Suggest: which tool comes next.
//!
//! Three sources are combined. *Transitions*: what came next after the same moves, in all episodes of the domain, backed off
//! from three moves to none (interpolation of I. Witten and T. Bell, "The zero-frequency problem", 1991). *Decision points*:
//! how that changes when the last call, or its result, came before in the same episode. *Similar episodes*: what came next in
//! them at the same point, which sharpens the distribution the more alike they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Memory;
use crate::learn::{contexts, decisions_after, transitions_after};
use crate::limits;
use crate::state::Again;
use crate::text::words;
use crate::{Advice, Episode, EpisodeId, HeuristicId, Pattern, PatternId, Result, Step, Support, Task};

/// The weight of what failed episodes did, beside what successful ones did.
const FAILED: f64 = 0.25;
/// The power of similarity that episodes weigh by: only close ones have a say.
const CLOSENESS: i32 = 3;
/// The weight that an episode gains by having made all the calls made so far, with the same input.
const SAME_CALLS: f64 = 0.2;
/// The weight of a call that a similar episode made next, beside 1, when it has been made already: it is not needed twice.
const MADE: f64 = 0.05;
/// The weight of what is known already beside the similar episodes, at each level.
const PRIOR: f64 = 1.0;
/// The weight of the transition after the last move beside what is special about the point, in occurrences.
const USUAL: f64 = 15.0;
/// What each tool is given in the transition after the last move, so that none is ruled out.
const UNSEEN: f64 = 0.3;
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
    /// How episodes fared that took it here: the evidence after as many of the last moves as at least a quorum of episodes
    /// took it after, or anywhere if there is no such quorum. None if it is known from similar episodes alone.
    pub worked: Support,
    /// What speaks for it: the most specific transition first, then the decision point, then the most similar episodes.
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
    /// It came next after the same move, when the call or its result had come before in the same episode, too.
    Decision {
        /// The pattern that holds the evidence.
        pattern: PatternId,
        /// The move and what came before, as people read them.
        after: String,
        /// How often it came next, and in how many episodes that succeeded.
        support: Support,
        /// How often anything came next.
        of: f64,
    },
    /// A heuristic says to do or to avoid it here. It tells about success, and does not change how likely the tool is to come
    /// next.
    Advice {
        /// The heuristic.
        heuristic: HeuristicId,
        /// What it says.
        advice: Advice,
        /// How large the effect is at least: a log odds ratio of success, negative for what is to be avoided.
        effect: f64,
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
    /// Which tools usually come next after these steps on this task, best first, up to `k`; none if nothing is known, or if
    /// the best is less likely than [`abstain_below`](crate::MemoryBuilder::abstain_below).
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
        Ok(self.nearest(task, NEIGHBOURS).await?.into_iter().map(Neighbour::new).collect())
    }

    pub(super) async fn suggest_with(
        &self,
        task: &Task,
        steps: &[Step],
        similar: &[Neighbour],
        k: usize,
    ) -> Result<Vec<Suggestion>> {
        let (learner, domain) = (self.inner.projection.id(), task.domain.as_deref());
        let mut asked = transitions_after(learner, &self.scope, domain, steps);
        let orders = asked.len();
        asked.extend(decisions_after(learner, &self.scope, domain, steps));
        let ids: Vec<PatternId> = asked.iter().map(|pattern| pattern.id).collect();
        let mut transitions = self.inner.projection.patterns(&ids).await?;
        let decisions = transitions.split_off(orders);
        let known = Known { transitions, decisions, again: Again::after(steps) };

        let here = Point::after(steps);
        let distribution = self.decided(self.backed_off(&known), &known);
        let mut advice = self.fitting(task).await?;
        advice.retain(|one| one.speaks_after(steps));
        let mut ranked: Vec<(String, f64)> = sharpened(distribution, similar, &here, steps).into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        if ranked.first().is_some_and(|(_, probability)| *probability < self.inner.abstain_below) {
            return Ok(Vec::new());
        }
        ranked.truncate(k);
        let suggestion = |(tool, probability): (String, f64)| {
            let mut reasons = self.reasons(&tool, &known, similar, &here);
            let about = advice.iter().filter(|one| one.habit.tool == tool);
            reasons.extend(about.map(|one| Reason::Advice {
                heuristic: one.id,
                advice: one.advice,
                effect: one.effect(),
            }));
            Suggestion { worked: self.worked(&tool, &known), tool, probability, reasons }
        };
        Ok(ranked.into_iter().map(suggestion).collect())
    }

    /// The distribution of the next tool after the transition patterns, which come from general to specific.
    fn backed_off(&self, known: &Known) -> Distribution {
        let mut distribution = Distribution::new();
        for pattern in known.transitions.iter().flatten() {
            let counts = self.counts(pattern);
            if counts.is_empty() {
                continue; // All of it has faded away.
            }
            let (sum, kinds): (f64, f64) = (counts.values().sum(), counts.len() as f64);
            if distribution.is_empty() {
                distribution = counts.into_iter().map(|(tool, weight)| (tool, weight / sum)).collect();
            } else {
                for (tool, probability) in &mut distribution {
                    let count = counts.get(tool).copied().unwrap_or_default();
                    *probability = (count + kinds * *probability) / (sum + kinds);
                }
            }
        }
        distribution
    }

    /// How often each tool came next, with failed episodes weighing less.
    fn counts(&self, pattern: &Pattern) -> Distribution {
        let weighed = pattern.branches.iter().map(|(tool, evidence)| {
            let support = self.support(evidence);
            (tool.clone(), support.successes + FAILED * (support.trials - support.successes))
        });
        weighed.filter(|(_, weight)| *weight > 0.0).collect()
    }

    /// Corrects a distribution by how much more often, or less, each tool came next where the same was special about the
    /// point. What is left of the transition after the last move when all special points are taken away is the ordinary one.
    fn decided(&self, mut distribution: Distribution, known: &Known) -> Distribution {
        let [_, Some(last_move), ..] = &known.transitions[..] else { return distribution };
        if known.decisions.is_empty() {
            return distribution;
        }
        let usual = self.counts(last_move);
        let here = match known.special() {
            Some(place) => known.decisions[place].as_ref().map(|pattern| self.counts(pattern)).unwrap_or_default(),
            None => known.decisions.iter().flatten().fold(usual.clone(), |rest, special| {
                let special = self.counts(special);
                let left =
                    |tool: &String, weight| f64::max(0.0, weight - special.get(tool).copied().unwrap_or_default());
                rest.into_iter().map(|(tool, weight)| (tool.clone(), left(&tool, weight))).collect()
            }),
        };
        let (all, all_here): (f64, f64) = (usual.values().sum(), here.values().sum());
        let tools = distribution.len() as f64;
        for (tool, probability) in &mut distribution {
            let of = |counts: &Distribution| counts.get(tool).copied().unwrap_or_default();
            let expected = (of(&usual) + UNSEEN) / (all + UNSEEN * tools);
            *probability *= (of(&here) + USUAL * expected) / (all_here + USUAL) / expected;
        }
        let sum: f64 = distribution.values().sum();
        distribution.values_mut().for_each(|probability| *probability /= sum);
        distribution
    }

    /// How episodes fared that took a tool here.
    fn worked(&self, tool: &str, known: &Known) -> Support {
        let supports = known.transitions.iter().flatten().filter_map(|pattern| pattern.branches.get(tool));
        let supports: Vec<Support> = supports.map(|evidence| self.support(evidence)).collect();
        let quorum = f64::from(self.learner().quorum);
        let specific = supports.iter().rev().find(|support| support.episodes >= quorum);
        specific.or(supports.first()).copied().unwrap_or_default()
    }

    fn reasons(&self, tool: &str, known: &Known, similar: &[Neighbour], here: &Point) -> Vec<Reason> {
        const SIMILAR: usize = 3;
        let told = |pattern: &Pattern| {
            let support = self.support(pattern.branches.get(tool)?);
            let of: f64 = pattern.branches.values().map(|evidence| self.support(evidence).trials).sum();
            Some((pattern.id, pattern.condition(), support, of))
        };
        let transition = known.transitions.iter().rev().flatten().find_map(told);
        let transition =
            transition.map(|(pattern, after, support, of)| Reason::Transition { pattern, after, support, of });
        let decision = known.special().and_then(|place| known.decisions[place].as_ref()).and_then(told);
        let decision = decision.map(|(pattern, after, support, of)| Reason::Decision { pattern, after, support, of });
        let similar =
            similar.iter().filter(|neighbour| neighbour.next_at(here)[1].iter().any(|step| step.tool == tool));
        let similar = similar.take(SIMILAR).map(|neighbour| Reason::Similar {
            episode: neighbour.episode.id,
            score: neighbour.score,
            succeeded: neighbour.episode.succeeded(),
        });
        transition.into_iter().chain(decision).chain(similar).collect()
    }
}

/// The patterns that speak about a point.
struct Known {
    /// From general to specific.
    transitions: Vec<Option<Pattern>>,
    /// In the order of [`Again::SPECIAL`]; none before the first step.
    decisions: Vec<Option<Pattern>>,
    again: Again,
}

impl Known {
    /// The place of the decision that the point is, unless it is an ordinary one.
    fn special(&self) -> Option<usize> {
        Again::SPECIAL.iter().position(|special| *special == self.again)
    }
}

/// An episode like the task, prepared for being asked what came next in it.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) episode: Arc<Episode>,
    /// How like the task it is, in [0, 1].
    score: f64,
    /// The points before each of its steps.
    points: Vec<Point>,
    /// The calls it made, by step.
    calls: Vec<String>,
}

/// A step that came next in a similar episode.
#[derive(Clone, Copy, Debug)]
struct Next<'a> {
    tool: &'a str,
    call: &'a str,
}

impl Neighbour {
    pub(super) fn new((episode, score): (Arc<Episode>, f64)) -> Self {
        let steps = &episode.steps;
        let points = (0..steps.len()).map(|at| Point::after(&steps[..at])).collect();
        let calls = steps.iter().map(call).collect();
        Self { episode, score, points, calls }
    }

    /// How similar it is to the task, as a weight.
    pub(super) fn closeness(&self) -> f64 {
        self.score.powi(CLOSENESS)
    }

    /// The weight of its say on what comes next: more if it made the calls made so far.
    fn weight(&self, made: &[String]) -> f64 {
        let calls: BTreeSet<&String> = self.calls.iter().collect();
        let same = made.iter().filter(|call| calls.contains(call)).count() as f64;
        let share = if made.is_empty() { 0.0 } else { same / made.len() as f64 };
        let weight = self.closeness() + SAME_CALLS * share;
        if self.episode.succeeded() { weight } else { FAILED * weight }
    }

    /// What came next in it, at each level at which its points can be like this one.
    fn next_at(&self, here: &Point) -> [Vec<Next<'_>>; LEVELS] {
        let mut next: [Vec<Next<'_>>; LEVELS] = Default::default();
        for ((point, step), call) in self.points.iter().zip(&self.episode.steps).zip(&self.calls) {
            point.in_common(here).for_each(|level| next[level].push(Next { tool: &step.tool, call }));
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
/// them, then after the same last call. At each level a neighbour has one vote of its weight, shared by what it did next.
fn sharpened(mut distribution: Distribution, neighbours: &[Neighbour], here: &Point, steps: &[Step]) -> Distribution {
    let made: Vec<String> = steps.iter().map(call).collect();
    let distinct: BTreeSet<&str> = made.iter().map(String::as_str).collect();
    let mut votes: [BTreeMap<&str, f64>; LEVELS] = Default::default();
    for neighbour in neighbours {
        let weight = neighbour.weight(&made);
        for (votes, next) in votes.iter_mut().zip(neighbour.next_at(here)) {
            let share = |next: &Next<'_>| if distinct.contains(next.call) { MADE } else { 1.0 };
            let all: f64 = next.iter().map(share).sum();
            next.iter().for_each(|next| *votes.entry(next.tool).or_default() += weight * share(next) / all);
        }
    }
    for votes in &votes {
        let cast: f64 = votes.values().sum();
        if cast <= 0.0 {
            continue;
        }
        let prior = if distribution.is_empty() { 0.0 } else { PRIOR };
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
