//! The command line.

mod cache;
mod cleanup;
mod database;
mod demo;
mod doctor;
mod episodes;
mod knowledge;
mod log;
mod output;
mod rebuild;
mod reembed;
mod session;
mod settings;
mod statistics;
mod sync;
mod terminal;
mod token;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use memory_mcp::config::{Config, Problem};
use memory_mcp::http::HttpServer;
use memory_mcp::mcp::McpServer;
use memory_mcp::open::Plan;
use memory_mcp::service::Refusal;
use rmcp::ServiceExt as _;
use rmcp::service::ServerInitializeError;
use serde_json::{Value, json};
use tokio::time::Instant;

use log::Log;
use output::Output;
use session::Session;

/// How long calls that have begun may take when the client goes.
const DRAIN: Duration = Duration::from_secs(5);

const AFTER_HELP: &str = "\
Examples:
  knowhow demo                             a minute of what it does, in a store of its own
  knowhow mcp                              what an MCP client starts
  knowhow episodes search \"login test\"     what was done on tasks like this
  knowhow doctor                           what is wrong here, and what to do about it

Exit codes:
  0  done
  1  failed, or something was found that should not be so
  2  the arguments are not understood
  3  the configuration is wrong: `knowhow config check` tells all of it";

/// A memory for agents that learns from what they do.
#[derive(Debug, Parser)]
#[command(name = "knowhow", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// Configuration file, or KNOWHOW_CONFIG [default: ./knowhow.toml, else in ~/.config/knowhow]
    #[arg(long, global = true, env = "KNOWHOW_CONFIG", hide_env = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database file or server address; short for --set store.url=...
    #[arg(long, global = true, value_name = "PATH|URL")]
    store: Option<String>,
    /// Whose memory; short for --set scope=...
    #[arg(long, global = true, value_name = "TENANT[/AGENT[/SESSION]]")]
    scope: Option<String>,
    /// Any setting: `knowhow config check` lists them
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Answer in JSON, and tell failures as JSON on stderr
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an MCP client over stdin and stdout
    Mcp,
    /// Serve over HTTP: MCP at /mcp, the same operations at /v1, health and metrics
    Serve {
        /// Where to listen; short for --set http.bind=...
        #[arg(long, value_name = "ADDRESS:PORT")]
        bind: Option<String>,
    },
    /// What was done: list, show, search, export, import, delete
    #[command(subcommand)]
    Episodes(episodes::Command),
    /// What was learned: list, explain, approve, revoke
    #[command(subcommand)]
    Knowledge(knowledge::Command),
    /// How much there is, and whether it helps
    Stats,
    /// How the memory is doing; fails if something is degraded
    Health,
    /// Look for everything that can be wrong, and say what to do about it
    Doctor(doctor::Doctor),
    /// Bearer tokens for `knowhow serve`
    #[command(subcommand)]
    Token(token::Command),
    /// The settings
    #[command(subcommand)]
    Config(settings::Command),
    /// The hot cache beside the database
    #[command(subcommand)]
    Cache(cache::Command),
    /// The local copy of a server's database
    #[command(subcommand)]
    Sync(sync::Command),
    /// Copy the database into a new file, while others use it
    Backup(database::Backup),
    /// Make the database anew from a backup
    Restore(database::Restore),
    /// Bring the tables of the database up to date
    Migrate(database::Migrate),
    /// Delete what has expired, close what was left open, give space back to the disk
    Cleanup(cleanup::Cleanup),
    /// Move all vectors to the embedder that is configured
    ///
    /// The database is copied into FILE.reembed with vectors of that embedder, while others use it;
    /// then its vectors are exchanged at once. Ended in between, it goes on from there when it is
    /// started again. What has the database open must be started again afterwards.
    #[command(verbatim_doc_comment)]
    Reembed(reembed::Reembed),
    /// Learn again from all episodes, and put right what differs
    Rebuild(rebuild::Rebuild),
    /// Show in a minute what the memory does, in a store of its own
    Demo,
    /// Write what completes these commands in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

impl Command {
    /// Whether it serves others. The rest tell what went wrong where they answer, and log only if that was asked for.
    fn serves(&self) -> bool {
        matches!(self, Self::Mcp | Self::Serve { .. })
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("give it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the configuration is wrong:\n{}", .0.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n"))]
    Config(Vec<Problem>),
    #[error(transparent)]
    Memory(#[from] memory_core::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Other(String),
    /// What was told already is not as it should be.
    #[error("")]
    Told(u8),
}

impl Failure {
    /// 1: it failed; 3: the configuration is wrong. clap ends with 2 for arguments that it does not know.
    fn code(&self) -> u8 {
        match self {
            Self::Config(_) => 3,
            Self::Told(code) => *code,
            _ => 1,
        }
    }

    /// A failure of the file system.
    fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Other(format!("{}: {error}", path.display()))
    }

    fn to_json(&self) -> Value {
        let error = match self {
            Self::Memory(error) => Refusal::Failed(error.again()).to_json(),
            Self::Refused(refusal) => refusal.to_json(),
            Self::Config(problems) => {
                json!({ "kind": "configuration", "message": self.to_string(), "problems": settings::told(problems) })
            }
            Self::Other(message) => json!({ "kind": "failed", "message": message, "temporary": false }),
            Self::Told(_) => Value::Null,
        };
        json!({ "error": error })
    }

    fn tell(&self, json: bool) {
        match self {
            Self::Told(_) => {}
            _ if json => eprintln!("{}", self.to_json()),
            _ => eprintln!("knowhow: {self}"),
        }
    }
}

pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell(json);
            ExitCode::from(failure.code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let out = Output::new(global.json);
    if let Command::Completions { shell } = command {
        return completions(shell);
    }
    let (config, mut problems) = configured(&global, &command);
    let log = Log::new(&config).map_err(|more| problems.extend(more)).ok();
    let plan = Plan::new(&config).map_err(|more| problems.extend(more)).ok().filter(|_| problems.is_empty());
    let log = log.filter(|log| log.is_wanted() || command.serves());
    // Ends last: with what the end of all else has told.
    let _export = log.map(|log| log.start(command.serves())).transpose()?;
    if let Command::Config(settings::Command::Check) = command {
        return settings::check(&config, &problems, out);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Other(error.to_string()))?;
    match (command, plan) {
        (Command::Doctor(doctor), plan) => runtime.block_on(doctor.run(&config, problems, plan, out)),
        (Command::Demo, _) => runtime.block_on(demo::run(out)),
        (command, Some(plan)) => runtime.block_on(work(command, &Session { plan, out })),
        (_, None) => Err(Failure::Config(problems)),
    }
}

/// The configuration, and what is wrong with it.
fn configured(global: &Global, command: &Command) -> (Config, Vec<Problem>) {
    let mut flags = global.set.clone();
    flags.extend(global.store.clone().map(|store| ("store.url".to_owned(), store)));
    flags.extend(global.scope.clone().map(|scope| ("scope".to_owned(), scope)));
    if let Command::Serve { bind: Some(bind) } = command {
        flags.push(("http.bind".to_owned(), bind.clone()));
    }
    Config::load(global.config.as_deref(), |name| std::env::var(name).ok(), &flags)
}

async fn work(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::Mcp => mcp(&session.plan).await,
        Command::Serve { .. } => serve(&session.plan).await,
        Command::Episodes(command) => Box::pin(command.run(session)).await,
        Command::Knowledge(command) => Box::pin(command.run(session)).await,
        Command::Stats => Box::pin(statistics::stats(session)).await,
        Command::Health => Box::pin(statistics::health(session)).await,
        Command::Cache(command) => Box::pin(command.run(session)).await,
        Command::Sync(command) => Box::pin(command.run(session)).await,
        Command::Backup(backup) => backup.run(session).await,
        Command::Restore(restore) => Box::pin(restore.run(session)).await,
        Command::Migrate(migrate) => migrate.run(session).await,
        Command::Cleanup(cleanup) => Box::pin(cleanup.run(session)).await,
        Command::Reembed(reembed) => Box::pin(reembed.run(session)).await,
        Command::Rebuild(rebuild) => Box::pin(rebuild.run(session)).await,
        Command::Token(command) => command.run(session),
        // Those that need no plan are done.
        Command::Doctor(_) | Command::Config(_) | Command::Demo | Command::Completions { .. } => Ok(()),
    }
}

async fn mcp(plan: &Plan) -> Result<(), Failure> {
    let service = plan.service().await?;
    let server = McpServer::new(plan.owner(Arc::clone(&service))?);
    let running = server.serve(rmcp::transport::stdio()).await.map_err(|error| Failure::Other(begun_badly(&error)))?;
    let ended = running.waiting().await;
    service.close(Instant::now() + DRAIN).await?;
    ended.map(|_| ()).map_err(|error| Failure::Other(error.to_string()))
}

/// Why a client was not served. What it sent instead of a greeting is not told: it may be anything.
fn begun_badly(error: &ServerInitializeError) -> String {
    match error {
        ServerInitializeError::ExpectedInitializeRequest(_) => "the client did not begin with initialize".to_owned(),
        error => error.to_string(),
    }
}

async fn serve(plan: &Plan) -> Result<(), Failure> {
    let service = plan.service().await?;
    let owner = plan.owner(Arc::clone(&service))?;
    let server = HttpServer::bind(service, owner, plan.http().clone()).await?;
    // Whoever reads the line may tell it to end at once.
    let end = told_to_end().map_err(|error| Failure::Other(error.to_string()))?;
    if let Ok(address) = server.address() {
        eprintln!("knowhow: serving http://{address}/mcp and http://{address}/v1");
    }
    Ok(server.serve(end).await?)
}

/// Ready when the process is interrupted or told to end, from when this returns on.
#[cfg(unix)]
fn told_to_end() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

/// Ready when the process is interrupted.
#[cfg(not(unix))]
fn told_to_end() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "knowhow", &mut script);
    output::print(&String::from_utf8_lossy(&script));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }
}
