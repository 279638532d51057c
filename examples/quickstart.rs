//! A pretend coding agent with a memory: records a few small episodes, then asks what it has learned.
//!
//! ```sh
//! cargo run --example quickstart            # creates knowhow.db here
//! cargo run --example quickstart            # goes on from it
//! cargo run --example quickstart -- my.db   # another file
//! ```

use std::process::ExitCode;

use memory_core::{Memory, Outcome, PatternKind, Reason, Recollection, Status, Step, Suggestion, Task};
use memory_storage_turso::TursoStore;

/// What the agent lived through: a task, steps as `tool | input | observation` (`!` before an error), and the end.
const EPISODES: &[(&str, &[&str], Result<&str, &str>)] = &[
    (
        "make the failing login test pass",
        &[
            "cargo test | login | !test result: FAILED. 11 passed; 1 failed",
            "grep | fn login | src/auth.rs:42: pub fn login(",
            "edit | src/auth.rs | saved",
            "cargo test | login | 12 passed",
        ],
        Ok("an empty password is rejected with 401"),
    ),
    (
        "make the failing logout test pass",
        &[
            "cargo test | logout | !test result: FAILED. 11 passed; 1 failed",
            "grep | fn logout | src/auth.rs:88: pub fn logout(",
            "edit | src/auth.rs | saved",
            "cargo test | logout | 7 passed",
        ],
        Ok("the cookie is cleared"),
    ),
    (
        "make the failing signup test pass",
        &[
            "edit | src/signup.rs | saved",
            "cargo test | signup | !test result: FAILED. 11 passed; 1 failed",
            "edit | src/signup.rs | saved",
            "cargo test | signup | !test result: FAILED. 11 passed; 1 failed",
        ],
        Err("guessed without looking; gave up"),
    ),
    (
        "add a --json flag to the export command",
        &[
            "grep | struct ExportArgs | src/cli.rs:17: struct ExportArgs {",
            "edit | src/cli.rs | saved",
            "cargo build | | !error[E0433]: failed to resolve: use of undeclared crate `serde_json`",
            "cargo add | serde_json | Adding serde_json v1.0 to dependencies",
            "cargo build | | Finished",
        ],
        Ok("export --json works"),
    ),
    (
        "add a --csv flag to the export command",
        &[
            "grep | struct ExportArgs | src/cli.rs:17: struct ExportArgs {",
            "edit | src/cli.rs | saved",
            "cargo build | | !error[E0433]: failed to resolve: use of undeclared crate `csv`",
            "cargo add | csv | Adding csv v1.3 to dependencies",
            "cargo build | | Finished",
        ],
        Ok("export --csv works"),
    ),
    (
        "make the failing password reset test pass",
        &[
            "cargo test | reset | !test result: FAILED. 11 passed; 1 failed",
            "grep | fn reset | src/auth.rs:131: pub fn reset_password(",
            "edit | src/auth.rs | saved",
            "cargo test | reset | 5 passed",
        ],
        Ok("tokens expire after an hour"),
    ),
];

#[tokio::main]
async fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| "knowhow.db".to_owned());
    match work(&path).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn work(path: &str) -> Result<(), memory_core::Error> {
    let memory = Memory::builder().store(TursoStore::open(path).await?).build().await?;
    let before = memory.health().await?.store.episodes;
    match before {
        0 => println!("{path} is new.\n"),
        _ => println!("{path} remembers {before} episodes from earlier runs.\n"),
    }

    println!("The agent works:");
    for (task, steps, end) in EPISODES {
        let mut episode = memory.start(Task::new(*task).domain("rust")).await?;
        for step in *steps {
            episode.step(parse(step)).await?;
        }
        let (mark, outcome) = match end {
            Ok(summary) => ("done  ", Outcome::success(*summary)),
            Err(summary) => ("failed", Outcome::failure(*summary)),
        };
        let ack = episode.complete(outcome).await?;
        println!("  {mark}  {task} ({} steps, {:?})", steps.len(), ack.durability);
    }

    let task = Task::new("make the failing session timeout test pass").domain("rust");
    println!("\nA new task: {}\n", task.text);
    let mut episode = memory.start(task).await?;
    let recollection = episode.recall(3).await?;
    print_recollection(&recollection);
    let prompt = recollection.to_prompt(300);
    println!("As text for a model, in {} of 300 tokens:\n{prompt}", prompt.tokens);

    println!("\nHow to begin?");
    print_suggestions(&episode.suggest(3).await?);
    let chance = episode.predict().await?;
    println!("  chance of success: {:.0} %", 100.0 * chance.probability);

    let failed = "cargo test | session | !test result: FAILED. 11 passed; 1 failed";
    println!("\nThe agent runs the test, and it fails. And now?");
    episode.step(parse(failed)).await?;
    print_suggestions(&episode.suggest(3).await?);
    // A question, not an experience: given up, it teaches nothing.
    memory.delete(episode.id()).await?;

    print_patterns(&memory).await?;
    memory.project().await?;
    let held = memory.health().await?.store;
    println!(
        "\n{path} now holds {} episodes and {} patterns. Run it again: it goes on from there.",
        held.episodes, held.patterns
    );
    memory.close().await
}

fn parse(line: &str) -> Step {
    let mut parts = line.split('|').map(str::trim);
    let mut part = || parts.next().unwrap_or_default();
    let (tool, input, observation) = (part(), part(), part());
    let step = Step::new(tool).input(input);
    match observation.strip_prefix('!') {
        Some(error) => step.error(error),
        None => step.ok(observation),
    }
}

fn print_recollection(recollection: &Recollection) {
    println!("Similar episodes:");
    for recalled in &recollection.episodes {
        let episode = &recalled.episode;
        let tools: Vec<&str> = episode.steps.iter().map(|step| step.tool.as_str()).collect();
        println!(
            "  {:.2}  {} -> {}: {}",
            recalled.score, episode.task.text, episode.outcome.verdict, episode.outcome.summary
        );
        println!("        {}", recalled.parts);
        println!("        {}", tools.join(" > "));
    }
    println!("Pitfalls they met:");
    for pitfall in &recollection.pitfalls {
        println!("  {} said \"{}\" ({:.0} times)", pitfall.tool, pitfall.error, pitfall.trials);
        for recovery in &pitfall.recoveries {
            let tools = if recovery.tools.is_empty() { "nothing" } else { &recovery.tools };
            let support = recovery.support;
            println!("      {tools}: worked {:.0} of {:.0} ({})", support.successes, support.trials, recovery.status);
        }
    }
}

fn print_suggestions(suggestions: &[Suggestion]) {
    for suggestion in suggestions {
        println!("  {:3.0} %  {}", 100.0 * suggestion.probability, suggestion.tool);
        for reason in suggestion.reasons.iter().take(2) {
            match reason {
                Reason::Transition { after, support, of, .. } => {
                    let after = if after.is_empty() { "any step" } else { after };
                    let (times, succeeded) = (support.trials, support.successes);
                    println!(
                        "         came after {after} {times:.0} of {of:.0} times, {succeeded:.0} times with success"
                    );
                }
                Reason::Similar { score, succeeded, .. } if *score > 0.1 => {
                    let how = if *succeeded { "succeeded" } else { "did not succeed" };
                    println!("         came next in an episode {:.0} % alike, which {how}", 100.0 * score);
                }
                _ => {}
            }
        }
    }
}

async fn print_patterns(memory: &Memory) -> Result<(), memory_core::Error> {
    println!("\nWhat its own runs have taught it, surest first:");
    let mut lines = Vec::new();
    for pattern in memory.patterns().await? {
        let said = match pattern.kind {
            PatternKind::ToolSequence => "succeeded",
            PatternKind::FailureMode => "failed",
            _ => continue,
        };
        for evidence in pattern.branches.values() {
            let support = memory.support(evidence);
            let ((low, high), of, times) = (support.interval(), support.trials, support.successes);
            if support.status(memory.learner().quorum) == Status::Active {
                let said = format!("{said} {times:.0} of {of:.0} times, 90 % interval {low:.2} to {high:.2}");
                lines.push((low, format!("  {}: {said}", pattern.condition())));
            }
        }
    }
    lines.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    lines.iter().take(6).for_each(|(_, line)| println!("{line}"));
    Ok(())
}
