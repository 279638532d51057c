//! What can be wrong, looked at one by one, and what to do about it. No record is changed by looking, and no database file is made.
//! Opening does what it always does: episodes that wait may be learned from, the tables of a server's database are brought up to
//! date, and a damaged file of the cache is moved aside.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use memory_core::{Embedder, Error, ErrorKind, JobHealth, Memory, MemoryStore as _, VectorSpace};
use memory_mcp::config::{Config, Problem};
use memory_mcp::open::{Place, Plan};
use memory_storage_redb::{CacheMode, HotCache};
use memory_storage_turso::{TursoConfig, TursoStore};
use serde::Serialize;

use super::Failure;
use super::output::{Output, Paint, bytes, line};
use super::session::{NoEmbedder, missing, space_of};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How much room must be left on the disk, in megabytes
    #[arg(long, value_name = "MB", default_value_t = 256)]
    min_free: u64,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// What looking at one thing has found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    found: String,
    /// What to do.
    advice: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    state: State,
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, check: &'static str, state: State, found: impl Into<String>, advice: Option<&str>) {
        self.state = self.state.max(state);
        self.findings.push(Finding { check, state, found: found.into(), advice: advice.map(str::to_owned) });
    }

    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, State::Ok, found, None);
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, advice: &str) {
        self.add(check, State::Warn, found, Some(advice));
    }

    fn fail(&mut self, check: &'static str, found: impl Into<String>, advice: &str) {
        self.add(check, State::Fail, found, Some(advice));
    }

    fn failed(&mut self, check: &'static str, error: &Error) {
        self.fail(check, error.to_string(), remedy(error.kind()));
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        for Finding { check, state, found, advice } in &self.findings {
            let state = match state {
                State::Ok => paint.green("ok   "),
                State::Warn => paint.yellow("warn "),
                State::Fail => paint.red("FAIL "),
            };
            text += &format!("{state} {}  {}\n", paint.bold(&format!("{check:<13}")), line(found));
            if let Some(advice) = advice {
                text += &format!("{}do: {advice}\n", " ".repeat(21));
            }
        }
        text + match self.state {
            State::Ok => "\nNothing is wrong.",
            State::Warn => "\nIt works; see the warnings.",
            State::Fail => "\nSomething is wrong.",
        }
    }
}

/// What to do about an error of a store or an embedder.
fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unavailable | ErrorKind::TimedOut => {
            "start the server, or correct its address; if it refuses the token or key, renew that"
        }
        ErrorKind::Foreign => {
            "it is another program's file, or encrypted with another key: correct store.url or store.encryption_key"
        }
        ErrorKind::SchemaTooNew => {
            "use the newer version of knowhow that wrote it, or restore a backup of this version"
        }
        ErrorKind::SchemaEdited => "its tables were changed by hand: undo that, or `knowhow restore` a backup",
        ErrorKind::Corrupt => "stop what uses it, keep a copy of the file, and `knowhow restore` the last good backup",
        ErrorKind::ReadOnly => "let this user write to the file and its folder",
        ErrorKind::Full => "make room on the disk",
        ErrorKind::Busy => "another process writes for long: wait, and look again",
        ErrorKind::SpaceMismatch => "configure the embedder that it was made with, or move it with `knowhow reembed`",
        _ => "see what the message says, and look again",
    }
}

impl Doctor {
    pub(crate) async fn run(
        self,
        config: &Config,
        problems: Vec<Problem>,
        plan: Option<Plan>,
        out: Output,
    ) -> Result<(), Failure> {
        let mut report = Report { state: State::Ok, findings: Vec::new() };
        configuration(config, &problems, &mut report);
        if let Some(plan) = plan {
            Box::pin(self.look(&plan, &mut report)).await;
        }
        out.tell(&report, |paint| report.text(paint));
        if report.state == State::Fail { Err(Failure::Told(1)) } else { Ok(()) }
    }

    async fn look(&self, plan: &Plan, report: &mut Report) {
        let embedder = embedder(plan, report).await;
        let store = match plan.place() {
            Place::Memory => {
                report.warn("store", "memory: nothing is kept", "set store.url to a file if it should be");
                None
            }
            Place::File(path, config) => {
                self.disk(path, report);
                file(path, *config, report).await
            }
            Place::Server(url, ..) => server(plan, url, report).await,
        };
        let Some(store) = store.map(Arc::new) else { return };
        if matches!(plan.place(), Place::File(..)) {
            integrity(&store, report).await;
        }
        if let Some(space) = space(&store, embedder.as_deref(), report).await {
            jobs(&store, space, report).await;
        }
        cache(plan, &store, report).await;
        if let Err(error) = store.close().await {
            report.failed("store", &error);
        }
    }

    fn disk(&self, path: &Path, report: &mut Report) {
        let there =
            path.ancestors().skip(1).map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let Some(folder) = there.into_iter().find(|folder| folder.is_dir()) else { return };
        let free = match fs4::available_space(folder) {
            Ok(free) => free,
            Err(error) => return report.warn("disk", format!("{}: {error}", folder.display()), "look at the disk"),
        };
        let (size, needed) = (path.metadata().map_or(0, |file| file.len()), self.min_free.saturating_mul(1_000_000));
        let found = format!("{} free in {}", bytes(free), folder.display());
        if free < needed {
            let found = format!("{found}, less than {}", bytes(needed));
            report.fail("disk", found, "make room, or move the database (store.url); then `knowhow cleanup`");
        } else if free < size {
            let found = format!("{found}, less than the database has");
            report.warn("disk", found, "make room: backups, migrations and cleaning up each need as much for a while");
        } else {
            report.ok("disk", found);
        }
    }
}

fn configuration(config: &Config, problems: &[Problem], report: &mut Report) {
    if problems.is_empty() {
        report.ok("configuration", format!("store.url is {}", config.shown("store.url")));
    }
    for problem in problems {
        report.fail("configuration", problem.to_string(), "correct it; `knowhow config check` shows all settings");
    }
}

async fn embedder(plan: &Plan, report: &mut Report) -> Option<Arc<dyn Embedder>> {
    let embedder = match plan.embedder().await {
        Ok((embedder, _)) => embedder,
        Err(error) => {
            report.failed("embedder", &error);
            return None;
        }
    };
    match embedder.health().await {
        Ok(()) => report.ok("embedder", embedder.space().to_string()),
        Err(error) => report.failed("embedder", &error),
    }
    Some(embedder)
}

/// Opens a file that is there and up to date.
async fn file(path: &Path, config: TursoConfig, report: &mut Report) -> Option<TursoStore> {
    if !path.exists() {
        let advice = "correct store.url; or begin with `knowhow mcp`, `knowhow restore` or `knowhow episodes import`";
        report.fail("file", missing(path), advice);
        return None;
    }
    let plan = match TursoStore::plan_with(path, config).await {
        Ok(plan) => plan,
        Err(error) => {
            report.failed("file", &error);
            return None;
        }
    };
    report.ok("file", format!("{}, {}", path.display(), bytes(path.metadata().map_or(0, |file| file.len()))));
    if !plan.migrations.is_empty() {
        let found = format!("version {}, and this program's is {}: {}", plan.from, plan.to, plan.migrations.join(", "));
        let advice = "`knowhow migrate`, after `knowhow migrate --dry-run`: the file as it is will be kept beside it";
        report.warn("schema", found, advice);
        return None;
    }
    report.ok("schema", format!("version {}", plan.to));
    TursoStore::open_with(path, config).await.map_err(|error| report.failed("file", &error)).ok()
}

async fn server(plan: &Plan, url: &str, report: &mut Report) -> Option<TursoStore> {
    let store = match plan.turso().await {
        Ok(store) => store?,
        Err(error) => {
            report.failed("server", &error);
            return None;
        }
    };
    match store.health().await {
        Ok(health) => {
            report.ok("server", format!("{url} answers, at version {}", health.version.0));
            Some(store)
        }
        Err(error) => {
            report.failed("server", &error);
            None
        }
    }
}

async fn integrity(store: &TursoStore, report: &mut Report) {
    match store.check().await {
        Ok(wrong) if wrong.is_empty() => report.ok("integrity", "the file is sound"),
        Ok(wrong) => report.fail("integrity", wrong.join("; "), remedy(ErrorKind::Corrupt)),
        Err(error) => report.failed("integrity", &error),
    }
}

/// The space of the store's vectors, if there is one.
async fn space(store: &TursoStore, embedder: Option<&dyn Embedder>, report: &mut Report) -> Option<VectorSpace> {
    let held = match space_of(store).await {
        Ok(held) => held,
        Err(error) => {
            report.failed("vector space", &error);
            return None;
        }
    };
    match (&held, embedder) {
        (Some(held), Some(embedder)) if held != embedder.space() => {
            report.failed("vector space", &held.mismatch(embedder.space()));
        }
        (Some(held), Some(_)) => report.ok("vector space", held.to_string()),
        (Some(held), None) => {
            report.warn("vector space", format!("{held}; there is no embedder to compare"), "see the embedder above");
        }
        (None, _) => report.ok("vector space", "none yet: nothing has been stored"),
    }
    held
}

async fn cache(plan: &Plan, store: &Arc<TursoStore>, report: &mut Report) {
    let Some(path) = plan.cache() else { return report.ok("cache", "none is configured") };
    if !path.exists() {
        return report.ok("cache", format!("{} is not there yet", path.display()));
    }
    let cache = match HotCache::open(Arc::clone(store), path).await {
        Ok(cache) => cache,
        Err(error) => return report.failed("cache", &error),
    };
    match cache.stats().await.mode {
        CacheMode::InMemory(Some(error)) if error.kind() == ErrorKind::Busy => {
            let advice = "if it is to be quick, too: stop the other process, give each its own file (store.cache), or let them \
                share one server";
            report.warn("cache", format!("{error}: others begin with an empty one in memory"), advice);
        }
        CacheMode::InMemory(Some(error)) => report.failed("cache", &error),
        _ => report.ok("cache", path.display().to_string()),
    }
    if let Err(error) = cache.close().await {
        report.failed("cache", &error);
    }
}

async fn jobs(store: &Arc<TursoStore>, space: VectorSpace, report: &mut Report) {
    let health = async {
        let memory = Memory::builder().store(Arc::clone(store)).embedder(NoEmbedder(space)).build().await?;
        memory.health().await
    };
    match health.await {
        Ok(health) => waiting(&health.jobs, report),
        Err(error) => report.failed("jobs", &error),
    }
}

/// From how much that waits something is to be done.
const TOO_MANY: u64 = 1_000;

fn waiting(jobs: &[JobHealth], report: &mut Report) {
    let mut all_well = true;
    for (name, what, most, advice) in [
        ("sweep", "open episodes left behind", 0, "`knowhow cleanup` closes them; a running server does, too"),
        ("expiry", "expired notes", TOO_MANY, "`knowhow cleanup` deletes them; a running server does, too"),
        ("embedding", "records without a vector", 0, "let the embedder run: a running server fills them in"),
        ("projection", "episodes not learned from yet", TOO_MANY, "let a server run, or `knowhow rebuild`"),
    ] {
        let queue = jobs.iter().find(|job| job.name == name).map_or(0, |job| job.queue);
        if queue > most {
            all_well = false;
            report.warn("jobs", format!("{what}: {queue}"), advice);
        }
    }
    if all_well {
        report.ok("jobs", "nothing waits");
    }
}
