//! rust-self-learning-memory (<https://github.com/d-o-hub/rust-self-learning-memory>), version 0.1.40: what `memory-cli backup create`
//! writes as JSON (an object with `episodes` and `patterns`) or as JSON lines (an episode a line). The types are `Episode` of
//! `memory-core/src/episode/structs/mod.rs`, and those of `memory-core/src/types`.
//!
//! | there | here |
//! |---|---|
//! | an episode that has ended | an episode with the same id and times |
//! | `context.domain`, `.language` | domain and language |
//! | `context.framework`, `.tags`, `tags`, `task_type` | tags: the framework and the type as `framework:…`, `type:…` |
//! | `context.complexity` | a tag, `complexity:…` |
//! | a step's `parameters_json`, `latency_ms`, `tokens_used` | input, latency, tokens |
//! | a step's `Success`, `Error`, `Timeout`, or no result | ok; error; the errors `timed out` and `no result` |
//! | `PartialSuccess` | partial: the verdict, and what was completed and failed, in its summary |
//! | `Abstained` | abstained: the reason, and the signals in its summary |
//! | `reward.total`, where it is within 0..=1 | reward |
//! | `reflection` | reflection: a line for each of its sentences |
//! | patterns, heuristics, features, checkpoints, metadata | counted and left out: what is learned is learned again, from the episodes |

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use memory_core::{EpisodeId, Outcome, Recording, Step, Task, Verdict};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{Found, LeftOut, lines};

#[derive(Deserialize)]
struct Episode {
    episode_id: Uuid,
    task_type: String,
    task_description: String,
    context: Context,
    start_time: DateTime<Utc>,
    end_time: Option<DateTime<Utc>>,
    steps: Vec<StepOf>,
    outcome: Option<OutcomeOf>,
    reward: Option<Reward>,
    reflection: Option<Reflection>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct Context {
    language: Option<String>,
    framework: Option<String>,
    complexity: String,
    domain: String,
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct StepOf {
    tool: String,
    action: String,
    parameters_json: String,
    result: Option<ResultOf>,
    latency_ms: u64,
    tokens_used: Option<u64>,
    step_number: u64,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
enum ResultOf {
    Success { output: String },
    Error { message: String },
    Timeout,
}

#[derive(Deserialize)]
enum OutcomeOf {
    Success { verdict: String, artifacts: Vec<String> },
    PartialSuccess { verdict: String, completed: Vec<String>, failed: Vec<String> },
    Failure { reason: String, error_details: Option<String> },
    Abstained { reason: String, stopped_at_step: u64, infeasibility_signals: Vec<String> },
}

#[derive(Deserialize)]
struct Reward {
    total: f64,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Reflection {
    successes: Vec<String>,
    improvements: Vec<String>,
    insights: Vec<String>,
}

pub(crate) fn read(text: &str) -> Result<Found, String> {
    let mut found = Found::default();
    let episodes = match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(mut backup) if backup.contains_key("episodes") => {
            for name in ["backup_id", "timestamp"] {
                backup.remove(name);
            }
            let episodes = backup.remove("episodes").unwrap_or_default();
            found.left.fields("backup", &backup);
            serde_json::from_value(episodes).map_err(|error| format!("episodes: {error}"))?
        }
        _ => lines(text)?,
    };
    for (place, episode) in episodes.into_iter().enumerate() {
        let episode = serde_json::from_value(Value::Object(episode));
        let episode = episode.map_err(|error| format!("episode {}: {error}", place + 1))?;
        found.episodes.extend(recording(episode, &mut found.left));
    }
    Ok(found)
}

/// The recording of an episode, if that has ended.
fn recording(episode: Episode, left: &mut LeftOut) -> Option<Recording> {
    let Episode { context, mut steps, reward, reflection, tags, rest, .. } = episode;
    left.fields("episode", &rest);
    let (Some(ended), Some(outcome)) = (episode.end_time, episode.outcome) else {
        left.count("episodes that have not ended");
        return None;
    };
    let Context { language, framework, complexity, domain, tags: more } = context;
    let named = [format!("type:{}", episode.task_type), format!("complexity:{complexity}")];
    let tags = named.into_iter().chain(framework.map(|name| format!("framework:{name}"))).chain(more).chain(tags);
    let task = Task::new(episode.task_description).domain(domain);
    let task = language.into_iter().fold(task, Task::language);
    let task = left.tags(tags).into_iter().fold(task, Task::tag);

    let mut outcome = ended_as(outcome);
    if let Some(Reward { total, rest }) = reward {
        if (0.0..=1.0).contains(&total) {
            outcome = outcome.reward(total);
        } else {
            left.count("reward: totals outside 0..=1");
        }
        if !rest.is_empty() {
            left.count("reward: all but its total");
        }
    }
    if let Some(Reflection { successes, improvements, insights }) = reflection {
        let said = [successes, improvements, insights].concat();
        if !said.is_empty() {
            outcome = outcome.reflection(said.join("\n"));
        }
    }
    steps.sort_by_key(|step| step.step_number);
    let steps = steps.into_iter().map(|step| done(step, left)).collect::<Vec<_>>();
    let recording = Recording::new(task, outcome).id(EpisodeId::new(episode.episode_id)).steps(steps);
    Some(recording.started_at(episode.start_time).completed_at(ended))
}

fn done(step: StepOf, left: &mut LeftOut) -> Step {
    let StepOf { tool, action, parameters_json, result, latency_ms, tokens_used, step_number: _, rest } = step;
    left.fields("step", &rest);
    let step = Step::new(tool).action(action).input(parameters_json).latency_ms(latency_ms);
    let step = tokens_used.into_iter().fold(step, Step::tokens);
    match result {
        Some(ResultOf::Success { output }) => step.ok(output),
        Some(ResultOf::Error { message }) => step.error(message),
        Some(ResultOf::Timeout) => step.error("timed out"),
        None => step.error("no result"),
    }
}

fn ended_as(outcome: OutcomeOf) -> Outcome {
    let with = |said: String, what: &str, list: &[String]| {
        if list.is_empty() { said } else { format!("{said}; {what}: {}", list.join(", ")) }
    };
    match outcome {
        OutcomeOf::Success { verdict, artifacts } => {
            let named = artifacts.into_iter().enumerate();
            named.fold(Outcome::success(verdict), |outcome, (place, artifact)| {
                outcome.artifact(format!("artifact {}", place + 1), artifact)
            })
        }
        OutcomeOf::PartialSuccess { verdict, completed, failed } => {
            Outcome::partial(with(with(verdict, "completed", &completed), "failed", &failed))
        }
        OutcomeOf::Failure { reason, error_details } => {
            Outcome::failure(with(reason, "details", &error_details.into_iter().collect::<Vec<_>>()))
        }
        OutcomeOf::Abstained { reason, stopped_at_step, infeasibility_signals } => {
            let reason = format!("{reason}; stopped at step {stopped_at_step}");
            Outcome::new(Verdict::Abstained, with(reason, "signals", &infeasibility_signals))
        }
    }
}
