//! An agent that asks its memory before each job, and explores a little by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use memory_core::statistics::Rate;
use memory_core::{Clock, InMemoryStore, Memory, Reason, Recalled, StepDurability, Suggestion};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::AnyError;
use crate::world::{Job, Moves, POINTS, TOOLS, World};

/// How many episodes it looks at: as many as a memory recalls at most.
const RECALLED: usize = 100;
/// The time in which an episode loses half of its weight with the agent.
const HALF_LIFE: TimeDelta = TimeDelta::days(60);
/// How much surer it is of what it saw than a strict statistician: it explores that much less.
const SURE: f64 = 10.0;

/// Time that passes between episodes only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calendar(Arc<AtomicI64>);

impl Calendar {
    pub(crate) fn pass(&self, time: TimeDelta) {
        self.0.fetch_add(time.num_seconds(), Ordering::Relaxed);
    }
}

impl Clock for Calendar {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(self.0.load(Ordering::Relaxed))
    }
}

/// A memory of its own for one run.
pub(crate) async fn memory(seed: u64, calendar: &Calendar, hold_out: f64) -> Result<Memory, AnyError> {
    let builder = Memory::builder().store(InMemoryStore::new()).clock(calendar.clone()).seed(seed);
    Ok(builder.hold_out(hold_out).step_durability(StepDurability::AtCompletion).build().await?)
}

/// An agent with a memory.
#[derive(Debug)]
pub(crate) struct Agent {
    memory: Memory,
    calendar: Calendar,
    random: StdRng,
}

impl Agent {
    pub(crate) fn new(seed: u64, memory: Memory, calendar: Calendar) -> Self {
        Self { memory, calendar, random: StdRng::seed_from_u64(!seed) }
    }

    /// Does a job and returns the moves it made.
    pub(crate) async fn work(&mut self, world: &mut World, job: Job) -> Result<Moves, AnyError> {
        let mut episode = self.memory.start(job.task()).await?;
        let recalled = episode.recall(RECALLED).await?.episodes;
        let mut moves = Moves::default();
        for point in 0..POINTS {
            let suggested = episode.suggest(TOOLS[point].len()).await?;
            moves[point] = self.choose(point, &recalled, &suggested);
            episode.step(world.step(job, point, moves[point])).await?;
        }
        episode.complete(world.outcome(job, moves)).await?;
        Ok(moves)
    }

    /// Draws a rate of success for each tool from what it may be by the evidence, and takes the best (W. R. Thompson, "On the
    /// likelihood that one unknown probability exceeds another in view of the evidence of two samples", 1933).
    fn choose(&mut self, point: usize, recalled: &[Recalled], suggested: &[Suggestion]) -> usize {
        let draws = TOOLS[point].map(|tool| {
            let prior = Rate::new(2.0, 2.0 * anywhere(tool, suggested));
            let worked = self.worked(point, tool, recalled).plus(prior);
            let mean = worked.share();
            mean + self.normal() * (mean * (1.0 - mean) / (SURE * worked.trials)).sqrt()
        });
        best(&draws)
    }

    /// How a tool fared in the episodes recalled, by the look of the step and by the end; the more alike and the newer, the
    /// more an episode counts.
    fn worked(&self, point: usize, tool: &str, recalled: &[Recalled]) -> Rate {
        let nearest = recalled.first().map_or(1.0, |recalled| recalled.score);
        let mut worked = Rate::default();
        for Recalled { episode, score, .. } in recalled {
            let Some(step) = episode.steps.get(point).filter(|step| step.tool == tool) else { continue };
            let age = (self.calendar.now() - episode.completed_at).num_seconds() as f64;
            let weight = (score / nearest).powi(2) * (-age / HALF_LIFE.num_seconds() as f64).exp2();
            let well = u8::from(step.ok) + u8::from(episode.succeeded());
            worked = worked.plus(Rate::new(2.0 * weight, weight * f64::from(well)));
        }
        worked
    }

    /// The moves that worked best in the episodes recalled, without trying anything.
    pub(crate) fn known_best(&self, recalled: &[Recalled]) -> Moves {
        let mut moves = Moves::default();
        for (point, chosen) in moves.iter_mut().enumerate() {
            *chosen =
                best(&TOOLS[point].map(|tool| self.worked(point, tool, recalled).plus(Rate::new(2.0, 1.0)).share()));
        }
        moves
    }

    /// A draw from the standard normal distribution (G. E. P. Box, M. E. Muller, 1958).
    fn normal(&mut self) -> f64 {
        let [radius, angle]: [f64; 2] = [self.random.random(), self.random.random()];
        (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

/// The share of successes among the episodes that used a tool at this point, on whatever job; one half if none did.
fn anywhere(tool: &str, suggested: &[Suggestion]) -> f64 {
    let reasons = suggested.iter().filter(|suggestion| suggestion.tool == tool).flat_map(|known| &known.reasons);
    let supports = reasons.filter_map(|reason| match reason {
        Reason::Transition { support, .. } => Some(support),
        _ => None,
    });
    supports.map(|support| (support.successes + 1.0) / (support.trials + 2.0)).next().unwrap_or(0.5)
}

/// The place of the largest value, the first of equals.
fn best(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, place| if values[place] > values[best] { place } else { best })
}
