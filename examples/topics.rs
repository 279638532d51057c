//! Does recall find the same work when it is described in other words?
//!
//! ```sh
//! cargo run --release --example topics -- [--store memory|turso:PATH] [--episodes 10000] [--check]
//! ```
//!
//! 400 topics: each a pair of an object and a component, with a domain, a language, two tags and a recipe of six tools.
//! Episodes of random topics are recorded; then 200 tasks are asked for that name object, component and domain with another verb
//! and qualifier. Of the five episodes recalled for each, those of the topic are right: recall@5 is their number divided by five, or
//! by as many as there are. With a database file, the store is then closed and opened, and everything asked again.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use knowhow_examples::{AnyError, StoreChoice, exit_code, progress};
use memory_core::{EpisodeId, Memory, Outcome, Recording, Step, Task};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};

/// Records episodes of 400 topics, and asks for them in other words.
#[derive(Debug, Parser)]
struct Arguments {
    /// `memory`, or `turso:PATH` for a new database file.
    #[arg(long, default_value = "memory")]
    store: StoreChoice,
    /// How many episodes.
    #[arg(long, default_value_t = 10_000)]
    episodes: usize,
    /// What the random numbers are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fail if recall@5 is below 0.97, or not the same after opening the file again.
    #[arg(long)]
    check: bool,
}

const OBJECTS: [&str; 40] = [
    "login",
    "invoice",
    "shopping cart",
    "password",
    "report",
    "search",
    "upload",
    "calendar",
    "chat",
    "coupon",
    "dashboard",
    "delivery",
    "discount",
    "download",
    "feedback",
    "gallery",
    "header",
    "inventory",
    "keyboard",
    "label",
    "ledger",
    "menu",
    "newsletter",
    "notification",
    "order",
    "payment",
    "playlist",
    "profile",
    "quota",
    "receipt",
    "refund",
    "reminder",
    "schedule",
    "session",
    "shipment",
    "signature",
    "subscription",
    "ticket",
    "voucher",
    "widget",
];
const COMPONENTS: [&str; 25] = [
    "cache",
    "parser",
    "router",
    "queue",
    "scheduler",
    "validator",
    "renderer",
    "serializer",
    "gateway",
    "exporter",
    "importer",
    "listener",
    "logger",
    "mapper",
    "monitor",
    "proxy",
    "resolver",
    "sampler",
    "scanner",
    "tokenizer",
    "tracker",
    "updater",
    "watcher",
    "worker",
    "builder",
];
const DOMAINS: [&str; 20] = [
    "billing",
    "identity",
    "catalog",
    "messaging",
    "analytics",
    "archive",
    "booking",
    "content",
    "customer",
    "finance",
    "fulfilment",
    "loyalty",
    "marketing",
    "media",
    "partner",
    "pricing",
    "reporting",
    "sales",
    "security",
    "support",
];
const LANGUAGES: [&str; 8] = ["rust", "python", "go", "java", "typescript", "ruby", "kotlin", "swift"];
const VERBS: [&str; 16] = [
    "repair",
    "extend",
    "simplify",
    "migrate",
    "speed up",
    "document",
    "replace",
    "test",
    "rewrite",
    "harden",
    "split",
    "rename",
    "audit",
    "configure",
    "deploy",
    "restore",
];
const QUALIFIERS: [&str; 16] = [
    "timeouts",
    "error messages",
    "defaults",
    "permissions",
    "retries",
    "encoding",
    "formatting",
    "limits",
    "paging",
    "ordering",
    "rounding",
    "translations",
    "validation",
    "metrics",
    "concurrency",
    "fallbacks",
];
const TOOLS: [&str; 14] = [
    "grep", "open", "read", "edit", "lint", "build", "test", "commit", "push", "profile", "trace", "query", "review",
    "diff",
];
const NOUNS: [&str; 24] = [
    "server", "client", "module", "branch", "buffer", "channel", "column", "cursor", "driver", "folder", "handle",
    "header", "index", "kernel", "layer", "matrix", "packet", "record", "region", "screen", "segment", "stream",
    "table", "thread",
];

struct Topic {
    object: &'static str,
    component: &'static str,
    domain: &'static str,
    language: &'static str,
    tags: [String; 2],
    recipe: Vec<&'static str>,
}

struct World {
    random: StdRng,
    topics: Vec<Topic>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut pairs: Vec<(&str, &str)> =
            OBJECTS.iter().flat_map(|object| COMPONENTS.iter().map(move |component| (*object, *component))).collect();
        pairs.shuffle(&mut random);
        let topics = pairs.into_iter().take(400).map(|(object, component)| Topic {
            object,
            component,
            domain: pick(&DOMAINS, &mut random),
            language: pick(&LANGUAGES, &mut random),
            tags: [tag(&mut random), tag(&mut random)],
            recipe: TOOLS.sample(&mut random, 6).copied().collect(),
        });
        let topics = topics.collect();
        Self { random, topics }
    }

    /// A task of a topic.
    fn task(&mut self, topic: usize) -> Task {
        let Topic { object, component, domain, language, ref tags, .. } = self.topics[topic];
        let (verb, qualifier) = (pick(&VERBS, &mut self.random), pick(&QUALIFIERS, &mut self.random));
        let text = format!("{verb} {object} {qualifier} in the {component} of the {domain} service");
        tags.iter().fold(Task::new(text).domain(domain).language(language), |task, tag| task.tag(tag))
    }

    /// The next episode, and its topic.
    fn episode(&mut self) -> (Recording, usize) {
        let topic = self.random.random_range(0..self.topics.len());
        let task = self.task(topic).tag(tag(&mut self.random));
        let mut steps = Vec::with_capacity(8);
        while steps.len() < 8 {
            let recipe = &self.topics[topic].recipe;
            let tool = recipe[steps.len() % recipe.len()];
            let step = Step::new(tool).action(words(6, &mut self.random));
            if steps.len() < 7 && self.random.random_bool(0.12) {
                steps.push(step.clone().error(words(30, &mut self.random)));
            }
            steps.push(step.ok(words(30, &mut self.random)));
        }
        let outcome = match self.random.random_range(0..100) {
            0..75 => Outcome::success("done"),
            75..90 => Outcome::partial("in part"),
            _ => Outcome::failure("gave up"),
        };
        (Recording::new(task, outcome).steps(steps), topic)
    }
}

fn pick(from: &[&'static str], random: &mut StdRng) -> &'static str {
    from.choose(random).copied().unwrap_or_default()
}

/// One of 60 tags.
fn tag(random: &mut StdRng) -> String {
    format!("team-{}", random.random_range(0..60))
}

fn words(count: usize, random: &mut StdRng) -> String {
    (0..count).map(|_| pick(&NOUNS, random)).collect::<Vec<_>>().join(" ")
}

/// How well all queries were answered.
#[derive(Debug, PartialEq)]
struct Figures {
    recall_at_5: f64,
    same_topic_at_1: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), AnyError> {
    let mut world = World::new(arguments.seed);
    let memory = arguments.store.build_new(Memory::builder()).await?;
    let bar = progress(arguments.episodes, "episodes");
    bar.set_message("recording");
    let mut topics: HashMap<EpisodeId, usize> = HashMap::new();
    for _ in 0..arguments.episodes {
        let (episode, topic) = world.episode();
        topics.insert(memory.record(episode).await?.episode, topic);
        bar.inc(1);
    }
    bar.finish_and_clear();
    memory.project().await?;

    let queries: Vec<(Task, usize)> = (0..200)
        .map(|_| {
            let topic = world.random.random_range(0..world.topics.len());
            (world.task(topic), topic)
        })
        .collect();
    let figures = ask(&memory, &queries, &topics, "").await?;
    memory.close().await?;
    if let StoreChoice::Turso(_) = arguments.store {
        let memory = arguments.store.build(Memory::builder()).await?;
        let again = ask(&memory, &queries, &topics, ", opened again").await?;
        memory.close().await?;
        if arguments.check && again != figures {
            return Err("the answers changed with opening the file again".into());
        }
    }
    if arguments.check && figures.recall_at_5 < 0.97 {
        return Err("recall@5 is below 0.97".into());
    }
    Ok(())
}

async fn ask(
    memory: &Memory,
    queries: &[(Task, usize)],
    topics: &HashMap<EpisodeId, usize>,
    when: &str,
) -> Result<Figures, AnyError> {
    let (mut recall, mut first, mut asked) = (0.0, 0.0, 0.0);
    let began = Instant::now();
    for (task, topic) in queries {
        let available = topics.values().filter(|other| *other == topic).count().min(5);
        if available == 0 {
            continue;
        }
        let found = memory.recall(task, 5).await?.episodes;
        let right = |recalled: &&memory_core::Recalled| topics.get(&recalled.episode.id) == Some(topic);
        recall += found.iter().filter(right).count() as f64 / available as f64;
        first += f64::from(found.first().is_some_and(|recalled| right(&recalled)));
        asked += 1.0;
    }
    let ms = began.elapsed().as_secs_f64() * 1_000.0 / asked;
    let figures = Figures { recall_at_5: recall / asked, same_topic_at_1: first / asked };
    writeln!(
        std::io::stdout(),
        "recall@5 {:.3}, same topic first {:.3}: {asked} queries over {} episodes, {ms:.2} ms each ({}{when})",
        figures.recall_at_5,
        figures.same_topic_at_1,
        topics.len(),
        memory.store(),
    )?;
    Ok(figures)
}
