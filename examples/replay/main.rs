//! Replays real agent runs through a memory and scores what it says: the next tool, the chance of success, and the
//! episodes it finds, each asked before the run is told.
//!
//! ```sh
//! cargo run --release --example replay -- --learn LEARN.jsonl.gz --test TEST.jsonl.gz --store turso:replay.db
//! ```
//!
//! Every line of a file is one run:
//! `{"domain","task_id","intent","task_text","steps":[{"tool","args","ok","obs"}],"reward","success"}`; of it the memory
//! is asked with domain, task text and the steps so far, and told the rest afterwards. `task_id` and `intent` are for
//! scoring alone.
//!
//! | part | memory holds | asked |
//! |---|---|---|
//! | T1 | the learn file | next tool, at each step of the test file's successful runs |
//! | T2 | the test file's earlier runs | the same |
//! | T2b | the learn file and the test file's earlier runs | the same |
//! | T3 | the learn file (`online0`: the test file's earlier runs) | chance of success after 0, 2, 4 and all steps; how reliable it is |
//! | T4 | the test file's earlier runs | similar runs: the same task, the same intent |
//! | T5 | the learn file | which habits help or harm; tested again on the test file |
//!
//! `--poison 0.1` tells every tenth run of the learn file, chosen by a hash, wrongly: each tool replaced by another one of the
//! domain, and the run called a success. The memory trusts it like the rest; how much the figures move is what a tenth of
//! lies costs.

mod habits;
mod poison;
mod scores;
mod trajectories;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use habits::Claims;
use knowhow_examples::{AnyError, EmbedderChoice, StoreChoice, exit_code, progress, read_lines};
use memory_core::{EpisodeId, Memory, OpenEpisode, Scope};
use scores::{ByDomain, Forecasts, MACRO_6, Ranks, Retrieval, Score, figure};
use serde_json::{Value, json};
use trajectories::Trajectory;

/// Replays agent runs through a memory and scores its answers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs to learn from first: JSON lines, plain or gzipped.
    #[arg(long)]
    learn: PathBuf,
    /// Runs to be asked about, in order.
    #[arg(long)]
    test: PathBuf,
    /// `memory`, `turso:PATH`, `redb:PATH` or `cached:PATH` for a new file; with the feature `server` also `remote:URL` and
    /// `replica:PATH,URL`.
    #[arg(long, default_value = "memory")]
    store: StoreChoice,
    /// `hash`; with the feature `local` also `local:DIR`; with the feature `embedders` also `openai:URL,MODEL`, `ollama:URL,MODEL`
    /// and `mlx:URL,MODEL`.
    #[arg(long, default_value = "hash")]
    embedder: EmbedderChoice,
    /// The share of the runs to learn from that is told wrongly, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = poison::share)]
    poison: f64,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), AnyError> {
    let (mut learn, test) = (read_lines(&arguments.learn)?, read_lines(&arguments.test)?);
    poison::poison(&mut learn, arguments.poison);
    let embedder = arguments.embedder.open().await?;
    let builder = Memory::builder().scope(Scope::new("replay")?.agent("learned")?).embedder(embedder);
    let memory = arguments.store.build_new(builder).await?;
    // Before the work, so that a path that cannot be written is told at once.
    let json_file = arguments.json.as_ref().map(File::create).transpose()?;
    let began = Instant::now();
    let report = replay(&memory, &learn, &test).await?;
    let seconds = began.elapsed().as_secs_f64();
    let counts = format!("{} runs learned, {} asked about", learn.len(), test.len());
    writeln!(std::io::stdout(), "{}\n{counts}, in {seconds:.1} s ({})", report.table(), memory.store())?;
    if let Some(file) = json_file {
        let mut json = report.json();
        json["seconds"] = json!(seconds);
        json["store"] = json!(memory.store().to_string());
        serde_json::to_writer_pretty(file, &json)?;
    }
    memory.close().await?;
    Ok(())
}

/// All figures.
#[derive(Debug, Default)]
struct Report {
    /// The most frequent tool of the domain, for comparison: T1.
    baseline: ByDomain<Ranks>,
    t1: ByDomain<Ranks>,
    t2: Parts,
    t2b: Parts,
    t3: BTreeMap<&'static str, ByDomain<Forecasts>>,
    t4: ByDomain<Retrieval>,
    t5: BTreeMap<String, Claims>,
}

/// Next-tool scores over all runs, and apart for tasks that were met before or not.
#[derive(Debug, Default)]
struct Parts {
    all: ByDomain<Ranks>,
    new: ByDomain<Ranks>,
    seen: ByDomain<Ranks>,
}

async fn replay(memory: &Memory, learn: &[Trajectory], test: &[Trajectory]) -> Result<Report, AnyError> {
    let mut report = Report::default();
    let bar = progress(learn.len() + 3 * test.len(), "runs");

    bar.set_message("learning");
    for run in learn {
        let mut episode = memory.start(run.task()).await?;
        for one in &run.steps {
            episode.step(one.step()).await?;
        }
        episode.complete(run.outcome()).await?;
        bar.inc(1);
    }

    bar.set_message("T5: claiming");
    report.t5 = habits::retest(&memory.heuristics().await?, test);

    bar.set_message("T1, T3: asking");
    report.baseline = most_frequent_tool(learn, test);
    for run in test {
        let mut episode = memory.start(run.task()).await?;
        ask_frozen(&mut report, &mut episode, run).await?;
        memory.delete(episode.id()).await?;
        bar.inc(1);
    }

    bar.set_message("T2, T4: asking and learning");
    let online = memory.in_scope(Scope::new("replay")?.agent("online")?);
    let mut told: HashMap<EpisodeId, &Trajectory> = HashMap::new();
    let mut met = HashSet::new();
    for run in test {
        let mut episode = online.start(run.task()).await?;
        ask_retrieval(&mut report.t4, &episode, run, &told).await?;
        let chance = episode.predict().await?.probability;
        report.t3.entry("online0").or_default().of(&run.domain).add(chance, run.success);
        ask_next_tools(&mut report.t2, &mut episode, run, &met).await?;
        let ack = episode.complete(run.outcome()).await?;
        told.insert(ack.episode, run);
        met.insert(run.task_id.as_str());
        bar.inc(1);
    }

    bar.set_message("T2b: asking and learning");
    met.clear();
    for run in test {
        let mut episode = memory.start(run.task()).await?;
        ask_next_tools(&mut report.t2b, &mut episode, run, &met).await?;
        episode.complete(run.outcome()).await?;
        met.insert(run.task_id.as_str());
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Asks at every step, learns nothing.
async fn ask_frozen(report: &mut Report, episode: &mut OpenEpisode, run: &Trajectory) -> Result<(), AnyError> {
    // The length of these gives the outcome away: they end with the first right answer.
    let ends_when_right = ["sql", "bash", "ctf"].contains(&run.domain.as_str());
    for (done, one) in run.steps.iter().enumerate() {
        if let Some(part) = [(0, "0"), (2, "2"), (4, "4")].iter().find(|(after, _)| *after == done) {
            let chance = episode.predict().await?.probability;
            report.t3.entry(part.1).or_default().of(&run.domain).add(chance, run.success);
        }
        if run.success {
            let next = episode.suggest(100).await?;
            report.t1.of(&run.domain).add(next.iter().map(|next| next.tool.as_str()), &one.tool);
        }
        episode.step(one.step()).await?;
    }
    if !ends_when_right {
        let chance = episode.predict_finished().await?.probability;
        report.t3.entry("all").or_default().of(&run.domain).add(chance, run.success);
    }
    Ok(())
}

/// Asks at every step of a successful run, and tells the steps.
async fn ask_next_tools(
    parts: &mut Parts,
    episode: &mut OpenEpisode,
    run: &Trajectory,
    met: &HashSet<&str>,
) -> Result<(), AnyError> {
    let part = if met.contains(run.task_id.as_str()) { &mut parts.seen } else { &mut parts.new };
    for one in &run.steps {
        if run.success {
            let next = episode.suggest(100).await?;
            for ranks in [&mut parts.all, &mut *part] {
                ranks.of(&run.domain).add(next.iter().map(|next| next.tool.as_str()), &one.tool);
            }
        }
        episode.step(one.step()).await?;
    }
    Ok(())
}

/// Asks for similar runs among the earlier ones of the domain.
async fn ask_retrieval(
    scores: &mut ByDomain<Retrieval>,
    episode: &OpenEpisode,
    run: &Trajectory,
    told: &HashMap<EpisodeId, &Trajectory>,
) -> Result<(), AnyError> {
    const K: usize = 5;
    let recalled = episode.recall(100).await?;
    let found: Vec<&Trajectory> =
        recalled.episodes.iter().filter_map(|one| told.get(&one.episode.id).copied()).collect();
    let earlier = || told.values().filter(|other| other.domain == run.domain);

    let same = earlier().filter(|other| other.task_id == run.task_id).count();
    if same > 0 && ["retail", "airline"].contains(&run.domain.as_str()) {
        let hits = found.iter().take(K).filter(|other| other.task_id == run.task_id).count();
        scores.of(&run.domain).same_task.push(hits as f64 / same.min(K) as f64);
    }
    let alike = |other: &&&Trajectory| other.task_id != run.task_id && other.intent == run.intent;
    let available = earlier().filter(alike).map(|other| &other.task_id).collect::<HashSet<_>>().len();
    if available > 0 && ["retail", "airline", "sql", "bash"].contains(&run.domain.as_str()) {
        let mut tasks = HashSet::from([&run.task_id]);
        let others = found.iter().filter(|other| tasks.insert(&other.task_id));
        let hits = others.take(K).filter(|other| other.intent == run.intent).count();
        scores.of(&run.domain).same_intent.push(hits as f64 / available.min(K) as f64);
    }
    Ok(())
}

/// The simplest baseline, a check of the scorer: always the domain's most frequent tools, failed runs weighing a quarter.
fn most_frequent_tool(learn: &[Trajectory], test: &[Trajectory]) -> ByDomain<Ranks> {
    let mut counts: HashMap<&str, BTreeMap<&str, u32>> = HashMap::new();
    for run in learn {
        let tools = counts.entry(&run.domain).or_default();
        for one in &run.steps {
            *tools.entry(&one.tool).or_default() += if run.success { 4 } else { 1 };
        }
    }
    let mut scores = ByDomain::<Ranks>::default();
    for run in test.iter().filter(|run| run.success) {
        let mut ranked: Vec<(&str, u32)> =
            counts.get(run.domain.as_str()).into_iter().flatten().map(|(tool, count)| (*tool, *count)).collect();
        ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for one in &run.steps {
            scores.of(&run.domain).add(ranked.iter().map(|(tool, _)| *tool), &one.tool);
        }
    }
    scores
}

impl Report {
    fn json(&self) -> Value {
        let parts =
            |parts: &Parts| json!({"all": parts.all.json(), "new": parts.new.json(), "seen": parts.seen.json()});
        let t3: serde_json::Map<String, Value> =
            self.t3.iter().map(|(name, scores)| ((*name).to_owned(), t3_json(scores))).collect();
        json!({
            "t1": self.t1.json(),
            "t2": parts(&self.t2),
            "t2b": parts(&self.t2b),
            "t3": t3,
            "t4": self.t4.json(),
            "t5": habits::json(&self.t5),
            "baseline_t1": self.baseline.json(),
        })
    }

    fn table(&self) -> String {
        let asked: BTreeSet<&str> = self.t3.values().flat_map(|scores| scores.0.keys().map(String::as_str)).collect();
        let known = MACRO_6.into_iter().filter(|domain| asked.contains(domain));
        let domains: Vec<&str> =
            known.chain(asked.iter().copied().filter(|domain| !MACRO_6.contains(domain))).collect();
        let titles = domains.iter().chain(&["macro-6"]).map(|domain| format!("{domain:>10}"));
        let mut table = format!("{:44}{}\n", "", titles.collect::<String>());
        for (title, ranks) in [
            ("T1  next tool, other tasks", &self.t1),
            ("    (most frequent tool)", &self.baseline),
            ("T2  next tool, online", &self.t2.all),
            ("    tasks not met before", &self.t2.new),
            ("    tasks met before", &self.t2.seen),
            ("T2b next tool, online after learning", &self.t2b.all),
        ] {
            for name in ["hit1", "hit3", "mrr"] {
                table += &row(&format!("{title}: {name}"), ranks, name, &domains);
            }
        }
        for (after, forecasts) in &self.t3 {
            let title = match *after {
                "online0" => "T3  success, from the start, online".to_owned(),
                after => format!("T3  success, {after} steps known"),
            };
            for name in ["auc", "brier"] {
                table += &row(&format!("{title}: {name}"), forecasts, name, &domains);
            }
        }
        table += &row("T4  similar runs: same task R@5", &self.t4, "same_task_r5", &domains);
        table += &row("T4  similar runs: same intent P@5", &self.t4, "intent_p5", &domains);
        table + &self.reliability() + "\n" + &habits::table(&self.t5)
    }

    /// How often forecasts came true, by tenths of the forecast probability.
    fn reliability(&self) -> String {
        let titles: String =
            (1..=10).map(|tenths| format!("{:>7}", format!("<{:.1}", f64::from(tenths) / 10.0))).collect();
        let mut table = format!("{:44}{titles}\n", "T3  reliability: forecast");
        let shown = |value: Option<f64>| value.map_or_else(|| format!("{:>7}", "-"), |value| format!("{value:7.2}"));
        for (after, forecasts) in &self.t3 {
            let bins = forecasts.reliability();
            let runs: String = bins.iter().map(|bin| format!("{:7}", bin.runs)).collect();
            table += &format!("{:44}{runs}\n", format!("    {after}: runs"));
            table += &format!("{:44}{}\n", "    mean forecast", bins.map(|bin| shown(bin.forecast)).concat());
            table += &format!("{:44}{}\n", "    share of successes", bins.map(|bin| shown(bin.came)).concat());
        }
        table
    }
}

/// The figures of a part of T3, with the reliability of the forecasts of all its domains together.
fn t3_json(scores: &ByDomain<Forecasts>) -> Value {
    let mut json = scores.json();
    let bins = scores.reliability().map(|bin| json!({"n": bin.runs, "forecast": bin.forecast, "successes": bin.came}));
    json["reliability"] = bins.into_iter().collect();
    json
}

fn row<S: Score>(title: &str, scores: &ByDomain<S>, name: &str, domains: &[&str]) -> String {
    let by_domain = domains.iter().map(|domain| scores.0.get(*domain).and_then(|score| figure(score, name)));
    let shown = by_domain.chain([scores.macro_6(name)]).map(|value| match value {
        Some(value) => format!("{value:10.3}"),
        None => format!("{:>10}", "-"),
    });
    format!("{title:44}{}\n", shown.collect::<String>())
}
