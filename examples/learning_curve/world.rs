//! The world: jobs of a few kinds, each with hidden best moves, noise, and a day on which everything changes.

use memory_core::{Outcome, Step, Task};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The tools to choose from, at each point of an episode.
pub(crate) const TOOLS: [[&str; 3]; POINTS] = [["search", "ask", "browse"], ["edit", "call", "script"]];
/// How many choices an episode asks for, one after the other.
pub(crate) const POINTS: usize = 2;
/// The kinds of jobs, told apart by nothing but their words.
const KINDS: [&str; 3] = ["refund the damaged order", "rebook the cancelled flight", "unlock the blocked account"];
/// Who they are for: with the kinds, 15 texts that come again and again.
const PEOPLE: [&str; 5] = ["Ada", "Boris", "Chandra", "Dolores", "Emil"];
/// The chance of success of an episode without any best move.
const BASE: f64 = 0.1;
/// What each best move adds to it.
const GAIN: f64 = 0.4;
/// How likely a best move, and any other, is to go well by the look of it.
const GOES_WELL: [f64; 2] = [0.9, 0.2];

/// One tool for each point, by its place in [`TOOLS`].
pub(crate) type Moves = [usize; POINTS];

/// Something to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    kind: usize,
    person: usize,
}

impl Job {
    pub(crate) fn task(self) -> Task {
        Task::new(format!("{} of {}", KINDS[self.kind], PEOPLE[self.person])).domain("desk")
    }
}

/// What works, for each kind of job; agents do not see it.
#[derive(Debug)]
pub(crate) struct World {
    best: [Moves; KINDS.len()],
    random: StdRng,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let best = KINDS.map(|_| TOOLS.map(|tools| random.random_range(..tools.len())));
        Self { best, random }
    }

    /// From now on another tool is best, everywhere.
    pub(crate) fn change(&mut self) {
        for (best, tools) in self.best.iter_mut().flat_map(|moves| moves.iter_mut().zip(TOOLS)) {
            *best = (*best + self.random.random_range(1..tools.len())) % tools.len();
        }
    }

    pub(crate) fn job(&mut self) -> Job {
        Job { kind: self.random.random_range(..KINDS.len()), person: self.random.random_range(..PEOPLE.len()) }
    }

    /// Makes a move and tells how it looked.
    pub(crate) fn step(&mut self, job: Job, point: usize, tool: usize) -> Step {
        let best = self.best[job.kind][point] == tool;
        let step = Step::new(TOOLS[point][tool]);
        let well = self.random.random_bool(GOES_WELL[usize::from(!best)]);
        if well { step.ok("done") } else { step.error("that did not work") }
    }

    /// The chance of success.
    pub(crate) fn success(&self, job: Job, moves: Moves) -> f64 {
        let right = self.best[job.kind].iter().zip(moves).filter(|(best, tool)| *best == tool);
        BASE + GAIN * right.count() as f64
    }

    /// The chance of success of the best policy, in every world.
    pub(crate) fn best() -> f64 {
        BASE + GAIN * POINTS as f64
    }

    /// The chance of success of an agent that chooses at random.
    pub(crate) fn at_random() -> f64 {
        BASE + TOOLS.iter().map(|tools| GAIN / tools.len() as f64).sum::<f64>()
    }

    /// How an episode ends.
    pub(crate) fn outcome(&mut self, job: Job, moves: Moves) -> Outcome {
        let success = self.success(job, moves);
        outcome(&mut self.random, success)
    }
}

/// An outcome with this chance of success.
pub(crate) fn outcome(random: &mut StdRng, success: f64) -> Outcome {
    if random.random_bool(success) { Outcome::success("done") } else { Outcome::failure("not done") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chances of success of all policies for one job.
    fn chances(world: &World, job: Job) -> Vec<f64> {
        let of = |first| (0..3).map(move |second| world.success(job, [first, second]));
        (0..3).flat_map(of).collect()
    }

    #[test]
    fn the_best_policy_is_best_and_the_random_one_the_mean() {
        let mut world = World::new(1);
        for _ in 0..20 {
            let job = world.job();
            let chances = chances(&world, job);
            let best = chances.iter().copied().fold(0.0, f64::max);
            assert!((best - World::best()).abs() < 1e-9);
            assert_eq!(chances.iter().filter(|chance| **chance == best).count(), 1);
            assert!((chances.iter().sum::<f64>() / 9.0 - World::at_random()).abs() < 1e-9);
        }
    }

    #[test]
    fn after_the_change_nothing_that_was_best_still_is() {
        let mut world = World::new(2);
        let before = world.best;
        world.change();
        assert!(before.iter().flatten().zip(world.best.iter().flatten()).all(|(was, is)| was != is));
    }
}
