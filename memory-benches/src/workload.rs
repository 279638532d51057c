//! Seeded episodes like those of real agents.

use chrono::{DateTime, TimeDelta, Utc};
use memory_core::{Episode, EpisodeId, Outcome, Recording, Scope, Step, Task};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// A domain: its name, its tools in the order they usually come, and what its tasks are about.
type Domain = (&'static str, &'static [&'static str], &'static [&'static str]);

const DOMAINS: [Domain; 6] = [
    (
        "web",
        &["grep", "open", "read", "edit", "lint", "test", "commit"],
        &["login", "session", "router", "form", "cookie"],
    ),
    ("data", &["list_tables", "describe", "select", "explain", "export"], &["orders", "invoices", "revenue", "users"]),
    ("ops", &["ssh", "ps", "tail", "systemctl", "curl", "rollback"], &["gateway", "queue", "cache", "proxy", "disk"]),
    ("retail", &["find_user", "get_order", "get_product", "exchange", "refund"], &["shoes", "lamp", "kettle", "desk"]),
    ("docs", &["search", "fetch", "summarise", "cite", "write"], &["changelog", "manual", "tutorial", "glossary"]),
    ("mobile", &["build", "install", "tap", "screenshot", "log", "patch"], &["camera", "map", "widget", "keyboard"]),
];
const VERBS: [&str; 8] = ["repair", "extend", "review", "migrate", "speed up", "explain", "replace", "monitor"];
const DETAILS: [&str; 8] = [
    "after the update",
    "for guests",
    "on slow lines",
    "in production",
    "with two tenants",
    "at night",
    "offline",
    "again",
];
const ERRORS: [&str; 6] = [
    "error: cannot find value 'total' in 'main.rs'",
    "permission denied: /var/lib/app/17",
    "timeout after 30 s",
    "404 not found: order W4711",
    "syntax error near line 12",
    "assertion failed: left 3, right 4",
];
/// The share of tasks that were met before.
const REPEATED: f64 = 0.5;
/// Tasks that may come again.
const KNOWN: usize = 500;
/// How often a step fails.
const ERROR: f64 = 0.15;
/// How often the next tool is the usual one.
const USUAL: f64 = 0.7;
/// Between the ends of two episodes: 100,000 of them take 90 days.
pub(crate) const PACE: TimeDelta = TimeDelta::seconds(78);

/// Makes episodes, one after the other, of six domains with five to seven tools each: half of their tasks are new, the others
/// come again; 15 % of the steps fail, and more than half of those are tried again; the more errors, the less success.
#[derive(Debug)]
pub struct Workload {
    random: StdRng,
    known: Vec<Task>,
    made: i32,
}

impl Workload {
    /// The same seed makes the same episodes.
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), known: Vec::new(), made: 0 }
    }

    /// The end of 100,000 episodes.
    pub fn end() -> DateTime<Utc> {
        beginning() + PACE * 100_000
    }

    /// The next episode, of so many steps.
    pub fn episode(&mut self, steps: usize) -> Recording {
        let task = self.task();
        self.run(task, steps)
    }

    /// The next episode, of this task, which [`new_task`](Self::new_task) has made.
    pub fn run(&mut self, task: Task, steps: usize) -> Recording {
        let known = DOMAINS.iter().find(|(name, ..)| task.domain.as_deref() == Some(*name));
        let (_, tools, _) = known.unwrap_or(&DOMAINS[0]);
        let steps = self.steps(tools, steps);
        let errors = steps.iter().filter(|step| !step.ok).count() as f64 / steps.len().max(1) as f64;
        let success = self.random.random_bool((0.9 - 2.0 * errors).clamp(0.1, 0.9));
        let outcome = if success { Outcome::success("done") } else { Outcome::failure("gave up") };
        self.made += 1;
        Recording::new(task, outcome).steps(steps).completed_at(beginning() + PACE * self.made)
    }

    /// The next episode, completed.
    pub fn completed(&mut self, steps: usize) -> Episode {
        let Recording { task, steps, outcome, completed_at, .. } = self.episode(steps);
        let (id, at) = (EpisodeId::new(Default::default()), completed_at.unwrap_or_else(beginning));
        Episode::new(id, Scope::default(), task, steps, outcome, at, at)
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.random.random_range(0..from.len())]
    }

    /// A task that was not met before.
    pub fn new_task(&mut self) -> Task {
        let (domain, _, topics) = DOMAINS[self.random.random_range(0..DOMAINS.len())];
        let (verb, topic, detail) = (self.pick(&VERBS), self.pick(topics), self.pick(&DETAILS));
        let number = self.random.random_range(0..1_000_000);
        Task::new(format!("{verb} the {topic} {detail}, ticket {number}")).domain(domain).tag(topic)
    }

    fn task(&mut self) -> Task {
        if self.random.random_bool(REPEATED)
            && let Some(known) = self.known.choose(&mut self.random)
        {
            return known.clone();
        }
        let task = self.new_task();
        if self.known.len() < KNOWN {
            self.known.push(task.clone());
        }
        task
    }

    fn steps(&mut self, tools: &[&str], count: usize) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::with_capacity(count);
        let mut tool = 0;
        while steps.len() < count {
            let input = format!("{{\"target\": \"{}\"}}", self.random.random_range(0..50));
            let step = Step::new(tools[tool]).input(input);
            if self.random.random_bool(ERROR) {
                steps.push(step.error(self.pick(&ERRORS)));
                if self.random.random_bool(0.6) {
                    continue;
                }
            } else {
                steps.push(step.ok("ok, 42 lines"));
            }
            let usual = self.random.random_bool(USUAL);
            tool = if usual { (tool + 1) % tools.len() } else { self.random.random_range(0..tools.len()) };
        }
        steps
    }
}

pub(crate) fn beginning() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default()
}
