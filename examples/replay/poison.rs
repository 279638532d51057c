//! Runs that are told wrongly.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::trajectories::Trajectory;

/// Parses a share in 0..=1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("allowed: 0..=1".to_owned()) }
}

/// Poisons this share of the runs, always the same ones, and with a larger share more: each tool becomes another one of the
/// domain, and the run a success.
pub(crate) fn poison(runs: &mut [Trajectory], share: f64) {
    let mut tools: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for run in &*runs {
        tools.entry(run.domain.clone()).or_default().extend(run.steps.iter().map(|one| one.tool.clone()));
    }
    for (run, seed) in runs.iter_mut().zip(0..) {
        let mut random = StdRng::seed_from_u64(seed);
        if random.random::<f64>() < share {
            let tools: Vec<&String> = tools.get(&run.domain).into_iter().flatten().collect();
            falsify(run, &tools, &mut random);
        }
    }
}

fn falsify(run: &mut Trajectory, tools: &[&String], random: &mut StdRng) {
    for one in &mut run.steps {
        let others: Vec<&&String> = tools.iter().filter(|tool| ***tool != one.tool).collect();
        if !others.is_empty() {
            one.tool = String::clone(others[random.random_range(..others.len())]);
        }
    }
    (run.success, run.reward) = (true, 1.0);
}
