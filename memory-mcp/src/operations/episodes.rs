//! Recording what an agent does.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use memory_core::{
    Ack, Durability, EpisodeId, Error, ErrorKind, Outcome, Recording, Result, Search, Step, Task, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::recall::{Recalled, TOKENS, five};
use super::{Answer, Effect, Operation};
use crate::service::Caller;

/// Where a task belongs. Experience is compared within a domain.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Context {
    /// The field of work, such as `web` or a project's name. Use the same word each time.
    domain: Option<String>,
    /// The programming or natural language.
    language: Option<String>,
    /// Labels.
    tags: BTreeSet<String>,
    /// Facts that experience depends on, such as {"os": "linux", "node": "22"}.
    environment: BTreeMap<String, String>,
}

impl Context {
    /// A task in this context.
    pub(crate) fn task(self, text: String) -> Task {
        let Self { domain, language, tags, environment } = self;
        let mut task = Task::new(text);
        (task.domain, task.language, task.tags, task.environment) = (domain, language, tags, environment);
        task
    }
}

/// One call of a tool, or another action, and what came of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepInput {
    /// The tool that was used, always by the same name, such as `grep` or `run_tests`.
    tool: String,
    /// What was done with it, if the tool can do several things.
    #[serde(default)]
    action: String,
    /// What it was given, shortened to what matters.
    #[serde(default)]
    input: String,
    /// What it answered, or the error message, shortened to what matters.
    #[serde(default)]
    observation: String,
    /// Whether it worked; false if it failed.
    #[serde(default = "yes")]
    ok: bool,
    /// How long it took, in milliseconds.
    latency_ms: Option<u64>,
    /// How many tokens it took.
    tokens: Option<u64>,
}

fn yes() -> bool {
    true
}

impl From<StepInput> for Step {
    fn from(input: StepInput) -> Self {
        let StepInput { tool, action, input, observation, ok, latency_ms, tokens } = input;
        let mut step = Self::new(tool).action(action).input(input).ok(observation);
        (step.ok, step.latency_ms, step.tokens) = (ok, latency_ms, tokens);
        step
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VerdictInput {
    /// The task is done.
    Success,
    /// Part of it is done.
    Partial,
    /// It was tried and not done.
    Failure,
    /// It was decided not to try.
    Abstained,
}

impl From<VerdictInput> for Verdict {
    fn from(verdict: VerdictInput) -> Self {
        match verdict {
            VerdictInput::Success => Self::Success,
            VerdictInput::Partial => Self::Partial,
            VerdictInput::Failure => Self::Failure,
            VerdictInput::Abstained => Self::Abstained,
        }
    }
}

/// The answer to a write.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Written {
    /// The episode.
    pub(crate) episode: Uuid,
    /// `durable`: it is on disk. `buffered`: it will be within seconds. `volatile`: this memory keeps nothing.
    pub(crate) durability: String,
    /// Why it was kept without its vector, if so: until that is filled in, it is found by its words only.
    pub(crate) degraded: Option<String>,
    /// How many steps the episode has, after a step.
    pub(crate) steps: Option<usize>,
}

impl Answer for Written {}

impl Written {
    fn new(ack: Ack, steps: Option<usize>) -> Self {
        let Ack { episode, durability, degraded, .. } = ack;
        Self { episode: *episode.as_uuid(), durability: told(durability).to_owned(), degraded, steps }
    }
}

fn told(durability: Durability) -> &'static str {
    match durability {
        Durability::Durable => "durable",
        Durability::Buffered => "buffered",
        _ => "volatile",
    }
}

/// Begins an episode.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartEpisode {
    /// What is to be done, in a sentence or two.
    task: String,
    /// Where the task belongs.
    #[serde(default)]
    context: Context,
    /// How many similar episodes to recall at once, from 0 to 100.
    #[serde(default = "five")]
    recall: usize,
    /// The most tokens that the recalled text may have.
    #[serde(default = "tokens")]
    token_budget: usize,
}

pub(crate) fn tokens() -> usize {
    TOKENS
}

/// The answer to the beginning of an episode.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Started {
    /// The episode, for `record_step`, `suggest_next` and `complete_episode`.
    episode: Uuid,
    /// What earlier episodes tell about this task, if it was asked for.
    recalled: Option<Recalled>,
}

impl Answer for Started {
    fn text(&self) -> Option<String> {
        let recalled = self.recalled.as_ref().and_then(Answer::text).unwrap_or_default();
        Some(format!("episode {}\n{recalled}", self.episode).trim_end().to_owned())
    }
}

impl Operation for StartEpisode {
    const NAME: &'static str = "start_episode";
    const TITLE: &'static str = "Start an episode";
    const DESCRIPTION: &'static str = "Call this first when you begin a task that takes several steps. Returns the id of the \
        episode, and what worked and failed in similar earlier tasks. Then tell each step with record_step, and the end with \
        complete_episode.";
    const EFFECT: Effect = Effect::Adds;
    type Answer = Started;

    async fn run(self, caller: &Caller) -> Result<Started> {
        if self.recall > Search::MAX_K {
            return Err(Error::invalid("recall", self.recall, "0..=100"));
        }
        let open = caller.memory().start(self.context.task(self.task)).await?;
        let episode = *open.id().as_uuid();
        let recalled = match self.recall {
            0 => None,
            k => Some(Recalled::new(&open.recall(k).await?, self.token_budget)),
        };
        caller.service().open_episodes().keep(caller.memory().scope(), open);
        Ok(Started { episode, recalled })
    }
}

/// Tells a step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordStep {
    /// The episode, as `start_episode` returned it.
    episode: Uuid,
    /// The step.
    step: StepInput,
}

impl Operation for RecordStep {
    const NAME: &'static str = "record_step";
    const TITLE: &'static str = "Record a step";
    const DESCRIPTION: &'static str = "Tell a step of an open episode right after you took it: the tool, what it was given, \
        what it answered, and whether it worked. Failures teach most: tell them, too.";
    const EFFECT: Effect = Effect::Adds;
    type Answer = Written;

    async fn run(self, caller: &Caller) -> Result<Written> {
        let id = EpisodeId::new(self.episode);
        let open = caller.open_episode(id).await?;
        let mut open = open.lock().await;
        let ack = caller.settled(id, open.step(self.step.into()).await)?;
        Ok(Written::new(ack, Some(open.steps().len())))
    }
}

/// A result to keep.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArtifactInput {
    /// What it is called.
    name: String,
    /// Its text.
    content: String,
}

/// How a task ended.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutcomeInput {
    /// How it ended.
    verdict: VerdictInput,
    /// What came of it, in a sentence.
    #[serde(default)]
    summary: String,
    /// How good the result is, from 0 to 1, if that was measured.
    reward: Option<f64>,
    /// What to do otherwise next time.
    reflection: Option<String>,
    /// Results to keep.
    #[serde(default)]
    artifacts: Vec<ArtifactInput>,
}

impl From<OutcomeInput> for Outcome {
    fn from(input: OutcomeInput) -> Self {
        let OutcomeInput { verdict, summary, reward, reflection, artifacts } = input;
        let mut outcome = Self::new(verdict.into(), summary);
        (outcome.reward, outcome.reflection) = (reward, reflection);
        artifacts.into_iter().fold(outcome, |outcome, artifact| outcome.artifact(artifact.name, artifact.content))
    }
}

/// Ends an episode.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteEpisode {
    /// The episode, as `start_episode` returned it.
    episode: Uuid,
    /// How it ended.
    outcome: OutcomeInput,
}

impl Operation for CompleteEpisode {
    const NAME: &'static str = "complete_episode";
    const TITLE: &'static str = "Complete an episode";
    const DESCRIPTION: &'static str = "End an open episode with its outcome, as soon as you know it: then it is learned from. \
        Tell failures as failures: what is told wrongly teaches wrongly.";
    const EFFECT: Effect = Effect::Sets;
    type Answer = Written;

    async fn run(self, caller: &Caller) -> Result<Written> {
        let (id, outcome) = (EpisodeId::new(self.episode), Outcome::from(self.outcome));
        let completed = async {
            let open = caller.open_episode(id).await?;
            open.lock().await.complete(outcome.clone()).await
        };
        match caller.settled(id, completed.await) {
            // Told again: the answer to the first time may have been lost, or is not given yet.
            Err(error) if error.kind() == ErrorKind::EpisodeClosed => {
                let ended = caller.memory().episode(id).await?;
                let durability = told(caller.memory().store().info().durability).to_owned();
                let written = Written { episode: self.episode, durability, degraded: None, steps: None };
                if ended.outcome == outcome { Ok(written) } else { Err(error) }
            }
            ack => {
                let ack = ack?;
                caller.service().open_episodes().remove(caller.memory().scope(), id);
                Ok(Written::new(ack, None))
            }
        }
    }
}

/// Tells a whole episode at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordEpisode {
    /// What was to be done, in a sentence or two.
    task: String,
    /// Where the task belongs.
    #[serde(default)]
    context: Context,
    /// What was done, in order.
    #[serde(default)]
    steps: Vec<StepInput>,
    /// How it ended.
    outcome: OutcomeInput,
    /// An id of your choice, with which telling it again counts once.
    id: Option<Uuid>,
    /// When it began; with `completed_at`.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    completed_at: Option<DateTime<Utc>>,
}

impl Operation for RecordEpisode {
    const NAME: &'static str = "record_episode";
    const TITLE: &'static str = "Record a finished episode";
    const DESCRIPTION: &'static str = "Tell a whole finished task at once: what was to be done, the steps, the outcome. For \
        what was not told step by step.";
    const EFFECT: Effect = Effect::Adds;
    type Answer = Written;

    async fn run(self, caller: &Caller) -> Result<Written> {
        let Self { task, context, steps, outcome, id, started_at, completed_at } = self;
        let mut recording = Recording::new(context.task(task), outcome.into()).steps(steps.into_iter().map(Step::from));
        (recording.id, recording.started_at, recording.completed_at) =
            (id.map(EpisodeId::new), started_at, completed_at);
        Ok(Written::new(caller.memory().record(recording).await?, None))
    }
}
