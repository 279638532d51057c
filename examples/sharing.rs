//! Agents with scopes of their own, and what each learns of the other.
//!
//! ```sh
//! cargo run --example sharing
//! ```
//!
//! What an agent does stays in its scope. Three ways lead out of it: a note told in the tenant's scope is read by all of its agents; an
//! export is imported into another store as hearsay, which is kept apart; or as trusted, and then counts like work of one's own. (Within one
//! store an episode has one scope.) The program fails if one agent knows something too early, or too late. How two memories become
//! one, and what that costs, is in `merge`.

use std::process::ExitCode;

use knowhow_examples::{AnyError, exit_code};
use memory_core::{ImportOptions, InMemoryStore, Memory, NewNote, Outcome, Recording, Scope, Source, Step, Task};

async fn work(memory: &Memory, service: &str) -> Result<(), AnyError> {
    let steps = [
        Step::new("deploy").input(service).error("error: the schema is out of date"),
        Step::new("migrate").input(service).ok("3 changes"),
        Step::new("deploy").input(service).ok("live"),
    ];
    let task = Task::new(format!("bring {service} live")).domain("operations");
    memory.record(Recording::new(task, Outcome::success("it is live")).steps(steps)).await?;
    Ok(())
}

/// What it would do when a deployment fails.
async fn after_failing(memory: &Memory) -> Result<Option<String>, AnyError> {
    let task = Task::new("bring billing live").domain("operations");
    let failed = Step::new("deploy").input("billing").error("error: the schema is out of date");
    Ok(memory.suggest(&task, &[failed], 1).await?.into_iter().next().map(|suggestion| suggestion.tool))
}

fn check(holds: bool, what: &str) -> Result<(), AnyError> {
    println!("{} {what}", if holds { "yes:" } else { "NO: " });
    if holds { Ok(()) } else { Err(format!("not as it should be: {what}").into()) }
}

async fn run() -> Result<(), AnyError> {
    let tenant = Scope::new("acme")?;
    let team = Memory::builder().store(InMemoryStore::new()).scope(tenant.clone()).build().await?;
    let (anna, ben) = (team.in_scope(tenant.agent("anna")?), team.in_scope(tenant.agent("ben")?));

    for service in ["search", "profile", "catalog"] {
        work(&anna, service).await?;
    }
    check(after_failing(&anna).await?.as_deref() == Some("migrate"), "one knows what it has done")?;
    check(after_failing(&ben).await?.is_none(), "the other does not")?;

    anna.remember(NewNote::new("deploys are frozen on Fridays")).await?;
    check(ben.recall_notes("when may I deploy?", 5).await?.notes.is_empty(), "a note of one agent is its own")?;
    team.remember(NewNote::new("deploys are frozen on Fridays")).await?;
    check(
        ben.recall_notes("when may I deploy?", 5).await?.notes.len() == 1,
        "one of the tenant is for all its agents",
    )?;

    let mut export = Vec::new();
    let told = anna.export(&mut export).await?;
    println!("     an export has {} bytes: {} episodes, {} notes", export.len(), told.episodes, told.notes);
    let elsewhere =
        |name: &str| Ok::<_, AnyError>(Memory::builder().store(InMemoryStore::new()).scope(tenant.agent(name)?));
    let hearsay = elsewhere("carla")?.build().await?.from_source(Source::untrusted("anna"))?;
    hearsay.import(&export[..], &ImportOptions::new()).await?;
    check(after_failing(&hearsay).await?.is_none(), "what an untrusted source did is not suggested")?;
    check(!hearsay.quarantined().await?.is_empty(), "but kept, until own work confirms it")?;

    let dan = elsewhere("dan")?.build().await?;
    let tried = dan.import(&export[..], &ImportOptions::new().dry_run()).await?;
    check(
        tried.episodes == told.episodes && after_failing(&dan).await?.is_none(),
        "a dry run tells, and does nothing",
    )?;
    dan.import(&export[..], &ImportOptions::new()).await?;
    check(
        after_failing(&dan).await?.as_deref() == Some("migrate"),
        "what is imported as trusted counts like own work",
    )?;
    let again = dan.import(&export[..], &ImportOptions::new()).await?;
    check(again.episodes + again.notes + again.merged == 0, "importing twice is importing once")?;
    team.close().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run().await)
}
