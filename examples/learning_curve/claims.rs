//! What is claimed, and the simulations that can refute it.

use std::collections::BTreeSet;
use std::fmt;

use chrono::TimeDelta;
use memory_core::{
    Advice, Heuristic, HeuristicId, Memory, Outcome, Recollection, Recording, Source, Standing, Step, Task,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::AnyError;
use crate::agent::{Agent, Calendar, memory};
use crate::world::{TOOLS, World, outcome};

/// When the world changes.
pub(crate) const CHANGE: usize = 200;
/// How many episodes the curve has.
pub(crate) const EPISODES: usize = 280;
/// How long an agent with work every few days takes for one: the half-life of evidence, 90 days, is 30 episodes.
const PACE: TimeDelta = TimeDelta::days(3);
/// An episode an hour, where nothing changes and all evidence is to count about alike.
const STEADY: TimeDelta = TimeDelta::hours(1);
/// How often recollections are withheld where their effect is measured.
const HOLD_OUT: f64 = 0.5;

/// One claim, and what came out.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) holds: bool,
    claim: &'static str,
    figures: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = if self.holds { "holds" } else { "FAILS" };
        write!(f, "{holds}: {}\n       {}", self.claim, self.figures)
    }
}

/// The chance of success of each episode of an agent with a memory.
pub(crate) async fn curve(seed: u64) -> Result<Vec<f64>, AnyError> {
    let (mut world, calendar) = (World::new(seed), Calendar::default());
    let mut agent = Agent::new(seed, memory(seed, &calendar, 0.0).await?, calendar.clone());
    let mut curve = Vec::with_capacity(EPISODES);
    for episode in 0..EPISODES {
        if episode == CHANGE {
            world.change();
        }
        let job = world.job();
        let moves = agent.work(&mut world, job).await?;
        curve.push(world.success(job, moves));
        calendar.pass(PACE);
    }
    Ok(curve)
}

/// What the mean curve must show.
pub(crate) fn of_curve(mean: &[f64]) -> [Claim; 2] {
    let around = |from: usize, to: usize| mean[from..to].iter().sum::<f64>() / (to - from) as f64;
    let (best, random) = (World::best(), World::at_random());
    let (learned, again) = (around(CHANGE - 20, CHANGE), around(CHANGE + 50, CHANGE + 60));
    let figures =
        |rate: f64| format!("{rate:.3}: {:.1} % of the best, {best:.3}; without {random:.3}", 100.0 * rate / best);
    [
        Claim {
            holds: learned >= 0.9 * best,
            claim: "after 200 episodes, an agent with memory succeeds at least 90 % as often as the best possible",
            figures: format!("episodes 180 to 200: {}", figures(learned)),
        },
        Claim {
            holds: again >= 0.8 * best,
            claim: "60 episodes after all has changed, it succeeds at least 80 % as often as the best possible",
            figures: format!("episodes 250 to 260: {}", figures(again)),
        },
    ]
}

/// A memory's own account of its effect, and the truth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    interval: (f64, f64),
    truth: f64,
}

/// An agent that does what the recollection says works best, or anything if it is withheld, in a world that stays as it is.
pub(crate) async fn measure_uplift(seed: u64) -> Result<Measured, AnyError> {
    const WARM_UP: usize = 60;
    const MEASURED: usize = 120;
    const RECALLED: usize = 30;
    let (mut world, mut random) = (World::new(seed), StdRng::seed_from_u64(!seed));
    let calendar = Calendar::default();
    let memory = memory(seed, &calendar, HOLD_OUT).await?;
    let agent = Agent::new(seed, memory.clone(), calendar.clone());
    let mut truth = 0.0;
    for turn in 0..WARM_UP + MEASURED {
        let job = world.job();
        let mut episode = memory.start(job.task()).await?;
        let mut moves = TOOLS.map(|tools| random.random_range(..tools.len()));
        if turn >= WARM_UP {
            let shown = agent.known_best(&memory.recall(&job.task(), RECALLED).await?.episodes);
            truth += (world.success(job, shown) - World::at_random()) / MEASURED as f64;
            if !episode.recall(RECALLED).await?.withheld {
                moves = shown;
            }
        }
        for (point, tool) in moves.into_iter().enumerate() {
            episode.step(world.step(job, point, tool)).await?;
        }
        episode.complete(world.outcome(job, moves)).await?;
        calendar.pass(STEADY);
    }
    let overall = memory.uplift().await?.overall.ok_or("nothing was withheld")?;
    Ok(Measured { interval: overall.interval, truth })
}

pub(crate) fn of_uplift(runs: &[Measured]) -> Claim {
    let covered = |run: &&Measured| (run.interval.0..=run.interval.1).contains(&run.truth);
    let share = runs.iter().filter(covered).count() as f64 / runs.len() as f64;
    let truth = runs.iter().map(|run| run.truth).sum::<f64>() / runs.len() as f64;
    Claim {
        holds: (0.93..=0.97).contains(&share),
        claim: "the 95 % interval of the uplift that a memory tells covers the true uplift in 93 to 97 % of runs",
        figures: format!("{:.1} % of {} runs; the true uplift is {truth:.3} in the mean", 100.0 * share, runs.len()),
    }
}

/// The tool that planted episodes speak for, and the others to begin with.
const PLANTED: &str = "shortcut";
const OTHERS: [&str; 4] = ["read", "measure", "ask", "plan"];

/// What became of planted advice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    /// After how many exposures it was gone: retired, or not derived any more.
    gone: Option<usize>,
    retired: bool,
}

/// Plants advice by 256 episodes that speak for a tool, and then lets an agent follow what it is shown: with the tool, it
/// succeeds with the chance `with`, otherwise with `without`.
pub(crate) async fn plant(seed: u64, with: f64, without: f64) -> Result<Fate, AnyError> {
    const EXPOSURES: usize = 60;
    const MOST: usize = 600;
    let (calendar, mut random) = (Calendar::default(), StdRng::seed_from_u64(seed));
    let memory = memory(seed, &calendar, HOLD_OUT).await?;
    for turn in 0..256 {
        let tool = if turn % 2 == 0 { PLANTED } else { OTHERS[turn / 2 % 4] };
        let told = outcome(&mut random, if turn % 2 == 0 { 0.9 } else { 0.3 });
        memory.record(Recording::new(text(turn / 16), told).steps([tool, "finish"].map(Step::new))).await?;
        calendar.pass(STEADY);
    }
    let mut known = BTreeSet::new();
    let mut exposures = 0;
    for _ in 0..MOST {
        let planted: Vec<Heuristic> = memory.heuristics().await?.into_iter().filter(is_planted).collect();
        let retired = planted.iter().any(|one| one.standing == Standing::Retired);
        if !planted.iter().any(Heuristic::is_shown) {
            return Ok(Fate { gone: Some(exposures), retired });
        }
        if exposures == EXPOSURES {
            break;
        }
        known.extend(planted.iter().map(|one| one.id));
        exposures += usize::from(follow(&memory, &mut random, &known, [with, without]).await?);
        calendar.pass(STEADY);
    }
    Ok(Fate::default())
}

fn text(number: usize) -> Task {
    let names = ["login", "invoice", "cache", "parser", "router", "mailer", "queue", "report"];
    let verb = if number.is_multiple_of(2) { "repair" } else { "extend" };
    Task::new(format!("{verb} the {}", names[number / 2 % names.len()])).domain("workshop")
}

fn is_planted(one: &Heuristic) -> bool {
    one.advice == Advice::Do && one.habit.tool == PLANTED
}

/// One episode of an agent that does as advised; whether the planted advice was shown or withheld in it.
async fn follow(
    memory: &Memory,
    random: &mut StdRng,
    planted: &BTreeSet<HeuristicId>,
    [with, without]: [f64; 2],
) -> Result<bool, AnyError> {
    let mut episode = memory.start(text(random.random_range(..16))).await?;
    let tool = advised(&episode.recall(1).await?, random);
    for step in [tool, "finish"] {
        episode.step(Step::new(step)).await?;
    }
    episode.complete(outcome(random, if tool == PLANTED { with } else { without })).await?;
    let receipt = episode.receipt().await.unwrap_or_default();
    Ok(receipt.advice.keys().any(|advice| planted.contains(advice)))
}

/// What to begin with: what is advised, otherwise anything that is not advised against.
fn advised(recalled: &Recollection, random: &mut StdRng) -> &'static str {
    let all = [[PLANTED].as_slice(), &OTHERS].concat();
    let says = |advice: Advice, tool: &str| {
        let heuristics = recalled.advice.iter().map(|advised| &advised.heuristic);
        heuristics.into_iter().any(|one| one.advice == advice && one.habit.tool == tool)
    };
    let open: Vec<&str> = all.iter().copied().filter(|tool| !says(Advice::Avoid, tool)).collect();
    let advised = all.iter().copied().find(|tool| says(Advice::Do, tool));
    let open = if open.is_empty() { all } else { open };
    advised.unwrap_or_else(|| open[random.random_range(..open.len())])
}

pub(crate) fn of_harmful(runs: &[Fate]) -> Claim {
    let gone: Vec<usize> = runs.iter().filter_map(|fate| fate.gone).collect();
    let retired = runs.iter().filter(|fate| fate.retired).count();
    let mean = gone.iter().sum::<usize>() as f64 / gone.len().max(1) as f64;
    Claim {
        holds: gone.len() as f64 >= 0.95 * runs.len() as f64,
        claim: "harmful advice is gone within 60 exposures in at least 95 % of runs",
        figures: format!(
            "{} of {} runs, {retired} of them retired; after {mean:.0} exposures in the mean",
            gone.len(),
            runs.len()
        ),
    }
}

pub(crate) fn of_helpful(runs: &[Fate]) -> Claim {
    let retired = runs.iter().filter(|fate| fate.retired).count();
    let gone = runs.iter().filter(|fate| fate.gone.is_some() && !fate.retired).count();
    Claim {
        holds: retired as f64 <= 0.05 * runs.len() as f64,
        claim: "helpful advice is retired at any time within its first 60 exposures in at most 5 % of runs",
        figures: format!("{retired} of {} runs; in {gone} more it was not supported any more", runs.len()),
    }
}

/// What comes up of a thousand episodes that one untrusted source told, beside twenty trusted ones.
pub(crate) async fn poison(seed: u64) -> Result<Claim, AnyError> {
    let (mut world, calendar) = (World::new(seed), Calendar::default());
    let memory = memory(seed, &calendar, 0.0).await?;
    let forum = memory.from_source(Source::untrusted("forum"))?;
    for turn in 0..1_000 {
        let (bad, outcome) =
            if turn % 2 == 0 { ("poison", Outcome::success("")) } else { ("search", Outcome::failure("")) };
        forum.record(Recording::new(world.job().task(), outcome).step(Step::new(bad))).await?;
        calendar.pass(STEADY);
    }
    let alone = came_up(&memory, &mut world).await?;
    let mut agent = Agent::new(seed, memory.clone(), calendar);
    for _ in 0..20 {
        let job = world.job();
        agent.work(&mut world, job).await?;
    }
    let beside = came_up(&memory, &mut world).await?;
    Ok(Claim {
        holds: alone + beside == 0 && !memory.quarantined().await?.is_empty(),
        claim: "1,000 episodes of an untrusted source bring nothing into advice, recollections or suggestions",
        figures: format!("{} things came up", alone + beside),
    })
}

/// Advice, and whatever else comes from the untrusted source.
async fn came_up(memory: &Memory, world: &mut World) -> Result<usize, AnyError> {
    let mut came_up = 0;
    for _ in 0..20 {
        let task = world.job().task();
        let recalled = memory.recall(&task, 100).await?;
        let told = recalled.episodes.iter().filter(|recalled| recalled.episode.source.name == "forum").count();
        let suggested = memory.suggest(&task, &[], 100).await?;
        let poison = suggested.iter().filter(|suggestion| suggestion.tool == "poison").count();
        came_up += recalled.advice.len() + told + poison;
    }
    Ok(came_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_fail_when_they_do_not_hold() {
        let mean = vec![World::at_random(); EPISODES];
        assert!(of_curve(&mean).iter().all(|claim| !claim.holds));
        assert!(of_curve(&vec![World::best(); EPISODES]).iter().all(|claim| claim.holds));
        let fates = [Fate { gone: Some(9), retired: true }, Fate::default()];
        assert!(!of_harmful(&fates).holds && !of_helpful(&fates).holds);
        let measured = Measured { interval: (0.1, 0.2), truth: 0.3 };
        assert!(of_uplift(&[measured]).to_string().starts_with("FAILS"));
    }
}
