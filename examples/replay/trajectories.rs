//! One finished episode a line of the files.

use memory_core::{Outcome, Step, Task};
use serde::Deserialize;

/// One run of an agent. Fields that only scoring may read are marked.
#[derive(Debug, Deserialize)]
pub(crate) struct Trajectory {
    pub(crate) domain: String,
    /// For scoring only.
    pub(crate) task_id: String,
    /// For scoring only.
    pub(crate) intent: String,
    pub(crate) task_text: String,
    pub(crate) steps: Vec<Move>,
    /// Told to the memory when the episode is over.
    pub(crate) reward: f64,
    /// Told to the memory when the episode is over.
    pub(crate) success: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Move {
    pub(crate) tool: String,
    args: String,
    ok: bool,
    obs: String,
}

impl Move {
    pub(crate) fn step(&self) -> Step {
        let step = Step::new(&self.tool).input(&self.args);
        if self.ok { step.ok(&self.obs) } else { step.error(&self.obs) }
    }
}

impl Trajectory {
    pub(crate) fn task(&self) -> Task {
        Task::new(&self.task_text).domain(&self.domain)
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let outcome = match (self.success, self.reward > 0.0) {
            (true, _) => Outcome::success(""),
            (false, true) => Outcome::partial(""),
            (false, false) => Outcome::failure(""),
        };
        outcome.reward(self.reward)
    }
}
