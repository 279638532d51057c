//! An agent in a simulated world, with and without a memory: how fast it learns, what it does when the world changes, and
//! whether what the memory says about itself is true.
//!
//! ```sh
//! cargo run --example learning_curve                     # prints the curve, writes learning_curve.svg
//! cargo run --example learning_curve -- --check          # and fails if a claim does
//! ```
//!
//! *World.* Jobs of three kinds come in fifteen texts. Each asks for two moves, with three tools to choose from each time, one
//! of them best; an episode succeeds with a chance of 10 %, and 40 % more for each best move. A step tells an error 10 % of the
//! time with a best move, and 80 % otherwise. At episode 200 other tools become best, everywhere, without a word.
//! *Time.* There is an episode every three days, so that the default half-life of evidence, 90 days, is 30 episodes.
//! *Without* memory, an agent chooses at random: its chance of success is computed. *With* memory, it draws by what worked in
//! the episodes that the memory recalls and suggests; alike and new ones count more.
//!
//! The uplift of showing memories, and the fate of planted advice, are simulated apart, at one episode an hour, with half of
//! the recollections withheld. Following the harmful advice lowers the chance of success from 0.85 to 0.15, following the
//! helpful one raises it from 0.5 to 0.6. An exposure is an episode for which this advice was shown or withheld apart from
//! the rest; those for which all was withheld do not count.

mod agent;
mod chart;
mod claims;
mod world;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use claims::{CHANGE, Claim};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use world::World;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Simulates an agent with and without a memory.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many worlds to simulate; the uplift takes 500 runs whatever is given here.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Where to write the curve.
    #[arg(long, default_value = "learning_curve.svg")]
    svg: PathBuf,
    /// Checks what is claimed of the memory; exits with 1 and names the claim if one fails.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all claims that were checked hold.
fn run(arguments: &Arguments) -> Result<bool, AnyError> {
    let curves = each_seed("curve", arguments.seeds, claims::curve)?;
    let mean: Vec<f64> = (0..claims::EPISODES)
        .map(|episode| curves.iter().map(|curve| curve[episode]).sum::<f64>() / curves.len() as f64)
        .collect();
    let mut out = std::io::stdout();
    writeln!(out, "{}", table(&mean))?;
    std::fs::write(&arguments.svg, draw(&mean)).map_err(|error| format!("{}: {error}", arguments.svg.display()))?;
    if !arguments.check {
        return Ok(true);
    }
    let claims = check(arguments.seeds, &mean)?;
    for claim in &claims {
        writeln!(out, "{claim}")?;
    }
    let failed: Vec<&Claim> = claims.iter().filter(|claim| !claim.holds).collect();
    failed.iter().for_each(|claim| eprintln!("{claim}"));
    Ok(failed.is_empty())
}

fn check(seeds: u64, mean: &[f64]) -> Result<Vec<Claim>, AnyError> {
    const UPLIFT_RUNS: u64 = 500;
    let mut claims = Vec::from(claims::of_curve(mean));
    claims.push(claims::of_uplift(&each_seed("uplift", UPLIFT_RUNS, claims::measure_uplift)?));
    claims.push(claims::of_harmful(&each_seed("harmful advice", seeds, |seed| claims::plant(seed, 0.15, 0.85))?));
    claims.push(claims::of_helpful(&each_seed("helpful advice", seeds, |seed| claims::plant(seed, 0.6, 0.5))?));
    claims.extend(each_seed("poison", 1, claims::poison)?);
    Ok(claims)
}

/// Runs a simulation for each seed, on all cores; the answers are in the order of the seeds.
fn each_seed<T, F>(what: &'static str, seeds: u64, simulate: impl Fn(u64) -> F + Sync) -> Result<Vec<T>, AnyError>
where
    T: Send,
    F: Future<Output = Result<T, AnyError>>,
{
    let bar = ProgressBar::new(seeds).with_message(what);
    bar.set_style(ProgressStyle::with_template("{msg:16} {wide_bar} {pos}/{len} runs, {eta} left")?);
    let (next, done) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<(), AnyError> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return Ok(());
            }
            // One for each run, so that nothing of a run goes on beside the next.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            let answer = runtime.block_on(simulate(seed))?;
            done.lock().map_err(|_| "another thread panicked")?.push((seed, answer));
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a simulation panicked")?)
    })?;
    bar.finish_and_clear();
    let mut done = done.into_inner().map_err(|_| "a thread panicked")?;
    done.sort_by_key(|(seed, _)| *seed);
    Ok(done.into_iter().map(|(_, answer)| answer).collect())
}

fn table(mean: &[f64]) -> String {
    const EVERY: usize = 20;
    let mut table = format!("{:>10}{:>10}{:>10}{:>10}\n", "episodes", "with", "without", "best");
    for (place, part) in mean.chunks(EVERY).enumerate() {
        let from = place * EVERY;
        let with = part.iter().sum::<f64>() / part.len() as f64;
        let changed = if from == CHANGE { "   the world has changed" } else { "" };
        let range = format!("{from}-{}", from + part.len());
        table += &format!("{range:>10}{with:10.3}{:10.3}{:10.3}{changed}\n", World::at_random(), World::best());
    }
    table
}

fn draw(mean: &[f64]) -> String {
    let [without, best] = [World::at_random(), World::best()].map(|chance| vec![chance; mean.len()]);
    let lines = [
        ("with memory", "#bf5af2", mean),
        ("without", "#d29922", without.as_slice()),
        ("best possible", "#2da44e", best.as_slice()),
    ];
    chart::svg(&lines, CHANGE)
}
