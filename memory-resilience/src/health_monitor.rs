//! Whether what a program stands on is well.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use memory_core::{Clock, Embedder, Error, ErrorKind, MemoryStore, Result, SystemClock};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::check::{TIMES, name, within};

/// What comes of a probe: why it is well with reservations, if it is.
type Found = Result<Option<String>>;
type Probe = dyn Fn() -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync;

/// Something to be checked again and again, by name.
///
/// It is critical unless it is [optional](Self::optional), and may take 5 s unless another [timeout](Self::with_timeout) is set.
#[derive(Clone)]
pub struct Check {
    name: String,
    critical: bool,
    timeout: Duration,
    probe: Arc<Probe>,
}

impl Check {
    /// A check that is well when this succeeds.
    pub fn new<F: Future<Output = Result<()>> + Send + 'static>(
        name: impl Into<String>,
        probe: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self::of(name, move || {
            let answer = probe();
            async { answer.await.map(|()| None) }
        })
    }

    /// A check of a store by its own health; a store that is [degraded](memory_core::StoreHealth::degraded) is so here.
    pub fn store(name: impl Into<String>, store: impl MemoryStore) -> Self {
        let store = Arc::new(store);
        Self::of(name, move || {
            let store = Arc::clone(&store);
            async move { store.health().await.map(|health| health.degraded) }
        })
    }

    /// A check of an embedder by its own health.
    pub fn embedder(name: impl Into<String>, embedder: impl Embedder) -> Self {
        let embedder = Arc::new(embedder);
        Self::of(name, move || {
            let embedder = Arc::clone(&embedder);
            async move { embedder.health().await.map(|()| None) }
        })
    }

    fn of<F: Future<Output = Found> + Send + 'static>(
        name: impl Into<String>,
        probe: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        let timeout = Duration::from_secs(5);
        Self { name: name.into(), critical: true, timeout, probe: Arc::new(move || Box::pin(probe())) }
    }

    /// Says that a program can do without it: when it fails, all is degraded and not down.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.critical = false;
        self
    }

    /// Sets how long it may take: 1 ms ..= 1 day.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn validate(&self) -> Result<()> {
        name("check", &self.name)?;
        within(&format!("timeout of {}", self.name), self.timeout, TIMES)
    }

    /// Makes the check once, in a task of its own, so that one that panics is told like one that fails.
    async fn run(&self) -> Found {
        let probe = Arc::clone(&self.probe);
        let mut task = JoinSet::new();
        task.spawn(async move { probe().await });
        match timeout(self.timeout, task.join_next()).await {
            Ok(Some(Ok(found))) => found,
            Ok(_) => Err(Error::new(ErrorKind::Io, "the check panicked")),
            Err(_) => Err(Error::new(ErrorKind::TimedOut, format!("no answer within {:?}", self.timeout))),
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, critical, timeout, .. } = self;
        let mut shown = f.debug_struct("Check");
        shown.field("name", name).field("critical", critical).field("timeout", timeout).finish_non_exhaustive()
    }
}

/// How something is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthState {
    /// Well.
    Up,
    /// It serves, less well than it was asked to.
    Degraded,
    /// It does not serve, or has not been checked yet.
    Down,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        })
    }
}

/// What is known of one check.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Its name.
    pub name: String,
    /// Whether nothing goes without it.
    pub critical: bool,
    /// How it was when it was last checked.
    pub state: HealthState,
    /// Why it is not up.
    pub problem: Option<String>,
    /// When it last did not fail.
    pub last_success: Option<DateTime<Utc>>,
    /// How long the last check took.
    pub latency: Option<Duration>,
    /// How often it failed since it last did not.
    pub consecutive_failures: u32,
}

impl CheckReport {
    fn new(check: &Check) -> Self {
        Self {
            name: check.name.clone(),
            critical: check.critical,
            state: HealthState::Down,
            problem: Some("not checked yet".to_owned()),
            last_success: None,
            latency: None,
            consecutive_failures: 0,
        }
    }

    fn take(&mut self, found: Found, latency: Duration, now: DateTime<Utc>) {
        let before = self.state;
        self.latency = Some(latency);
        match found {
            Ok(problem) => {
                self.state = if problem.is_some() { HealthState::Degraded } else { HealthState::Up };
                (self.problem, self.last_success, self.consecutive_failures) = (problem, Some(now), 0);
            }
            Err(error) => {
                (self.state, self.problem) = (HealthState::Down, Some(error.to_string()));
                self.consecutive_failures = self.consecutive_failures.saturating_add(1);
            }
        }
        if self.state != before {
            let (name, problem) = (&self.name, self.problem.as_deref().unwrap_or("none"));
            tracing::info!(name, state = %self.state, problem, "the health has changed");
        }
    }

    /// What it means for all.
    fn weight(&self) -> HealthState {
        if self.critical { self.state } else { self.state.min(HealthState::Degraded) }
    }
}

/// What is known of all checks.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// The checks, in the order in which they were given.
    pub checks: Vec<CheckReport>,
}

impl HealthReport {
    /// How all is: down if a critical check is, degraded if any is not up, or else up.
    pub fn state(&self) -> HealthState {
        self.checks.iter().map(CheckReport::weight).max().unwrap_or(HealthState::Up)
    }

    /// Succeeds if no critical check is down: a program that stands on them can take requests.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable), which is temporary and names the checks that are down, and why.
    pub fn readiness(&self) -> Result<()> {
        let down = self.checks.iter().filter(|check| check.weight() == HealthState::Down);
        let down: Vec<String> =
            down.map(|check| format!("{}: {}", check.name, check.problem.as_deref().unwrap_or("down"))).collect();
        if down.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, down.join("; ")).with_temporary(true))
    }
}

/// How a [`HealthMonitor`] works.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `interval` | 10 s | 1 ms ..= 1 day |
/// | `clock` | that of the machine | |
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct MonitorConfig {
    /// How long to wait from the end of a check to when it is made again.
    pub interval: Duration,
    /// Where the moments in reports come from.
    pub clock: Arc<dyn Clock>,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), clock: Arc::new(SystemClock) }
    }
}

impl MonitorConfig {
    /// Sets how long to wait between two checks.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets where moments come from.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

/// Makes checks again and again, each beside the others and bounded in time, and tells how all is.
///
/// It stops when it is dropped, and drops the checks that are under way.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// use memory_core::{HashEmbedder, InMemoryStore};
/// use memory_resilience::{Check, HealthMonitor, HealthState, MonitorConfig};
///
/// let checks = vec![
///     Check::store("memory", InMemoryStore::new()),
///     Check::embedder("model", HashEmbedder::new()).optional(),
///     Check::new("licence", async || Ok(())),
/// ];
/// let monitor = HealthMonitor::start(checks, MonitorConfig::default())?;
/// assert!(monitor.report().readiness().is_err(), "nothing is checked yet");
/// let mut reports = monitor.subscribe();
/// let report = reports.wait_for(|report| report.state() == HealthState::Up).await.unwrap();
/// assert_eq!(report.checks[0].consecutive_failures, 0);
/// # drop(report);
/// # Ok::<(), memory_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct HealthMonitor {
    reports: watch::Receiver<HealthReport>,
    /// Ends them when it is dropped.
    _checks: JoinSet<()>,
}

impl HealthMonitor {
    /// Begins to check. Must be called within a tokio runtime with time enabled.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for no checks, two of one name, a name outside 1 to 128 bytes, and a timeout or an
    /// interval out of its range.
    pub fn start(checks: Vec<Check>, config: MonitorConfig) -> Result<Self> {
        validate(&checks, config.interval)?;
        let reports = checks.iter().map(CheckReport::new).collect();
        let reports = Arc::new(watch::Sender::new(HealthReport { checks: reports }));
        let receiver = reports.subscribe();
        let mut running = JoinSet::new();
        for (place, check) in checks.into_iter().enumerate() {
            running.spawn(repeat(check, place, config.clone(), Arc::clone(&reports)));
        }
        Ok(Self { reports: receiver, _checks: running })
    }

    /// What is known now.
    pub fn report(&self) -> HealthReport {
        self.reports.borrow().clone()
    }

    /// Follows what is known: after each check. A receiver that is slow may miss reports, but never the last one. It ends when the
    /// monitor is dropped.
    pub fn subscribe(&self) -> watch::Receiver<HealthReport> {
        self.reports.clone()
    }

    /// Succeeds if no critical check is down; see [`HealthReport::readiness`].
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable), as there.
    pub fn readiness(&self) -> Result<()> {
        self.reports.borrow().readiness()
    }
}

fn validate(checks: &[Check], interval: Duration) -> Result<()> {
    within("interval", interval, TIMES)?;
    if checks.is_empty() {
        return Err(Error::invalid("checks", "empty", "at least one"));
    }
    let mut names = BTreeSet::new();
    for check in checks {
        check.validate()?;
        if !names.insert(&check.name) {
            return Err(Error::invalid(
                "check",
                format_args!("{:?} twice", check.name),
                "names that are all different",
            ));
        }
    }
    Ok(())
}

async fn repeat(check: Check, place: usize, config: MonitorConfig, reports: Arc<watch::Sender<HealthReport>>) {
    loop {
        let begun = Instant::now();
        let found = check.run().await;
        let (latency, now) = (begun.elapsed(), config.clock.now());
        reports.send_modify(|report| report.checks[place].take(found, latency, now));
        sleep(config.interval).await;
    }
}
