//! The file format: one finished episode a line, as JSON, plain or gzipped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
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

/// Reads a file; an error names file and line.
pub(crate) fn read(path: &Path) -> Result<Vec<Trajectory>, String> {
    let place = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut start = [0; 2];
    let length = File::open(path).and_then(|mut file| file.read(&mut start)).map_err(|error| place(&error))?;
    let file = File::open(path).map_err(|error| place(&error))?;
    let reader: Box<dyn Read> =
        if length == 2 && start == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut all = Vec::new();
    for (number, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.map_err(|error| place(&error))?;
        if !line.trim().is_empty() {
            let parsed = serde_json::from_str(&line);
            all.push(parsed.map_err(|error| place(&format_args!("line {}: {error}", number + 1)))?);
        }
    }
    if all.is_empty() { Err(place(&"no episodes in it")) } else { Ok(all) }
}
