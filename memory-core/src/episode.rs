//! What an agent did: task, steps, outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Receipt, Result, Scope, Source, Vector};

/// The identity of an episode. Given by the engine (UUID version 7, so that ids sort by time) or by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EpisodeId(Uuid);

impl EpisodeId {
    /// The episode of this UUID.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for EpisodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of one who holds open episodes: one engine ([`Memory`](crate::Memory)) in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HolderId(Uuid);

impl HolderId {
    /// The holder of this UUID.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is to be done, and in which situation.
///
/// ```
/// use memory_core::Task;
/// let task = Task::new("make the login test pass").domain("web").language("rust").tag("auth");
/// assert_eq!(task.text, "make the login test pass");
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The task in words; up to 10,000 bytes, not blank.
    pub text: String,
    /// The field of work. Patterns are learned, and similar episodes searched, within one domain.
    pub domain: Option<String>,
    /// The language of the work, natural or programming.
    pub language: Option<String>,
    /// Up to 32 tags of 1 to 64 bytes.
    pub tags: BTreeSet<String>,
    /// The environment's fingerprint: versions of tools, hash of a lock file, anything that makes knowledge go stale.
    pub environment: BTreeMap<String, String>,
}

impl Task {
    /// A task in words, without context.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Sets the domain.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Sets the language.
    #[must_use]
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = Some(language.into());
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Adds a fact about the environment.
    #[must_use]
    pub fn environment(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }
}

/// One move of the agent and what the environment answered.
///
/// ```
/// use memory_core::Step;
/// let step = Step::new("grep").input("auth").ok("src/auth.rs:42");
/// assert!(step.ok);
/// let failed = Step::new("cargo test").error("error[E0425]: cannot find value `x`");
/// assert!(!failed.ok);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The tool: a function name, a shell word, an action verb. 1 to 128 bytes.
    pub tool: String,
    /// What the step was meant to do, in words.
    pub action: String,
    /// The arguments, as JSON text or plain text.
    pub input: String,
    /// What came back: the result, or the error's text.
    pub observation: String,
    /// Whether the environment accepted the step.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// How many tokens it cost.
    pub tokens: Option<u64>,
}

impl Step {
    /// A step with this tool that went well and returned nothing.
    pub fn new(tool: impl Into<String>) -> Self {
        Self {
            tool: tool.into(),
            action: String::new(),
            input: String::new(),
            observation: String::new(),
            ok: true,
            latency_ms: None,
            tokens: None,
        }
    }

    /// Sets what the step was meant to do.
    #[must_use]
    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.action = action.into();
        self
    }

    /// Sets the arguments.
    #[must_use]
    pub fn input(mut self, input: impl Into<String>) -> Self {
        self.input = input.into();
        self
    }

    /// The environment accepted the step and answered this.
    #[must_use]
    pub fn ok(mut self, observation: impl Into<String>) -> Self {
        self.ok = true;
        self.observation = observation.into();
        self
    }

    /// The environment refused the step with this error text.
    #[must_use]
    pub fn error(mut self, observation: impl Into<String>) -> Self {
        self.ok = false;
        self.observation = observation.into();
        self
    }

    /// Sets the time it took, in milliseconds.
    #[must_use]
    pub fn latency_ms(mut self, latency_ms: u64) -> Self {
        self.latency_ms = Some(latency_ms);
        self
    }

    /// Sets its cost in tokens.
    #[must_use]
    pub fn tokens(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }
}

/// How an episode ended.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The task was done.
    Success,
    /// Part of the task was done.
    Partial,
    /// The task was not done.
    Failure,
    /// The agent declined to act.
    Abstained,
    /// The episode was cut off.
    Interrupted,
}

impl Verdict {
    /// The verdict as one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Failure => "failure",
            Self::Abstained => "abstained",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something the episode produced and that is worth keeping whole: a patch, a report, a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name; 1 to 128 bytes.
    pub name: String,
    /// Its text; up to 1,000,000 bytes.
    pub content: String,
}

/// The end of an episode.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// What came of it, in words; up to 10,000 bytes.
    pub summary: String,
    /// The reward in [0, 1], if there was one.
    pub reward: Option<f64>,
    /// What the agent would tell itself next time, in words; up to 10,000 bytes.
    pub reflection: Option<String>,
    /// What was produced.
    pub artifacts: Vec<Artifact>,
}

impl Outcome {
    /// An outcome with this verdict.
    pub fn new(verdict: Verdict, summary: impl Into<String>) -> Self {
        Self { verdict, summary: summary.into(), reward: None, reflection: None, artifacts: Vec::new() }
    }

    /// The task was done.
    pub fn success(summary: impl Into<String>) -> Self {
        Self::new(Verdict::Success, summary)
    }

    /// Part of the task was done.
    pub fn partial(summary: impl Into<String>) -> Self {
        Self::new(Verdict::Partial, summary)
    }

    /// The task was not done.
    pub fn failure(summary: impl Into<String>) -> Self {
        Self::new(Verdict::Failure, summary)
    }

    /// Sets the reward.
    #[must_use]
    pub fn reward(mut self, reward: f64) -> Self {
        self.reward = Some(reward);
        self
    }

    /// Sets the reflection.
    #[must_use]
    pub fn reflection(mut self, reflection: impl Into<String>) -> Self {
        self.reflection = Some(reflection.into());
        self
    }

    /// Adds an artifact.
    #[must_use]
    pub fn artifact(mut self, name: impl Into<String>, content: impl Into<String>) -> Self {
        self.artifacts.push(Artifact { name: name.into(), content: content.into() });
        self
    }
}

/// A completed episode: one entry of the log, the only source of truth.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Its identity.
    pub id: EpisodeId,
    /// Whose it is.
    pub scope: Scope,
    /// What was to be done.
    pub task: Task,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended. Evidence counts in the time bucket of this moment.
    pub completed_at: DateTime<Utc>,
    /// Who told it.
    pub source: Source,
    /// What the memory showed or withheld while it went on; `None` if it was not asked.
    pub receipt: Option<Receipt>,
}

impl Episode {
    /// Puts an episode together, of the default source and without a receipt. Stores call this when they read one back; agents use
    /// [`Memory::start`](crate::Memory::start) or [`Memory::record`](crate::Memory::record).
    pub fn new(
        id: EpisodeId,
        scope: Scope,
        task: Task,
        steps: Vec<Step>,
        outcome: Outcome,
        started_at: DateTime<Utc>,
        completed_at: DateTime<Utc>,
    ) -> Self {
        let (source, receipt) = (Source::default(), None);
        Self { id, scope, task, steps, outcome, started_at, completed_at, source, receipt }
    }

    /// The most bytes an episode may have when it is encoded.
    pub const MAX_ENCODED_BYTES: usize = 10_000_000;

    /// The bytes of the episode encoded as JSON, without its vector.
    pub fn encoded_len(&self) -> usize {
        encoded_len(self)
    }

    /// Checks that the episode is not too large for any store.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) above [`MAX_ENCODED_BYTES`](Self::MAX_ENCODED_BYTES).
    pub fn check_encoded_size(&self) -> Result<()> {
        check_encoded_len(self.encoded_len())
    }

    /// Whether the task was done.
    pub fn succeeded(&self) -> bool {
        self.outcome.verdict == Verdict::Success
    }
}

/// The bytes of a value encoded as JSON.
pub(crate) fn encoded_len(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Writing to a counter cannot fail, and everything that is stored has a JSON form.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// Checks the size of an encoded episode.
pub(crate) fn check_encoded_len(encoded: usize) -> Result<()> {
    if encoded <= Episode::MAX_ENCODED_BYTES {
        return Ok(());
    }
    let range = format_args!("up to {} bytes", Episode::MAX_ENCODED_BYTES).to_string();
    Err(Error::invalid("encoded episode", format_args!("{encoded} bytes"), range))
}

/// An episode as the log holds it: with the vector of its task text, if it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedEpisode {
    /// The episode.
    pub episode: std::sync::Arc<Episode>,
    /// The document vector of the task text, in the store's vector space.
    pub vector: Option<Vector>,
}

/// An episode that has begun and not yet ended, as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedEpisode {
    /// Its identity.
    pub id: EpisodeId,
    /// Whose it is.
    pub scope: Scope,
    /// What is to be done.
    pub task: Task,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Who tells it.
    pub source: Source,
    /// What the memory showed or withheld so far.
    pub receipt: Option<Receipt>,
    /// Who works on it; `None` after it was [handed over](crate::OpenEpisode::hand_over), until someone resumes it.
    pub lease: Option<Lease>,
    /// What the agent kept at its last [checkpoint](crate::OpenEpisode::checkpoint), if there was one.
    pub state: Option<String>,
}

/// The right to work on an open episode. Its holder renews it; when it runs out, others may take the episode or close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whose it is.
    pub holder: HolderId,
    /// From this moment on it is no more.
    pub expires_at: DateTime<Utc>,
}

impl OpenedEpisode {
    /// The episode that it becomes.
    pub(crate) fn into_episode(self, steps: Vec<Step>, outcome: Outcome, completed_at: DateTime<Utc>) -> Episode {
        let Self { id, scope, task, started_at, source, receipt, lease: _, state: _ } = self;
        let completed_at = completed_at.max(started_at);
        Episode { id, scope, task, steps, outcome, started_at, completed_at, source, receipt }
    }

    /// The episode that it becomes when its lease runs out: it ends with the lease, whoever notices and when.
    pub(crate) fn into_interrupted(self, steps: Vec<Step>) -> Episode {
        let ended = self.lease.map_or(self.started_at, |lease| lease.expires_at);
        self.into_episode(steps, Outcome::new(Verdict::Interrupted, "its lease ran out"), ended)
    }
}

/// A step of an open episode, as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedStep {
    /// The episode it belongs to.
    pub episode: EpisodeId,
    /// Its place, from 0.
    pub index: u32,
    /// The step.
    pub step: Step,
}

/// A finished episode on its way into the log, for [`Memory::record`](crate::Memory::record).
///
/// ```
/// use memory_core::{Outcome, Recording, Step, Task};
/// let recording = Recording::new(Task::new("list the users"), Outcome::success("12 users"))
///     .step(Step::new("select").ok("12 rows"));
/// assert_eq!(recording.steps.len(), 1);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Its identity; `None` lets the engine choose. Recording the same id and content twice is recording once.
    pub id: Option<EpisodeId>,
    /// What was to be done.
    pub task: Task,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began; `None` means when it ended. Later than an end that is now, it is taken for now: the clock of the
    /// caller may be ahead of the engine's, and tick finer.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended; `None` means now.
    pub completed_at: Option<DateTime<Utc>>,
    /// Who tells it; `None` means the source of the [`Memory`](crate::Memory) it is given to.
    pub source: Option<Source>,
    /// What a memory showed or withheld while it went on.
    pub receipt: Option<Receipt>,
}

/// To tell another memory.
impl From<&Episode> for Recording {
    fn from(episode: &Episode) -> Self {
        let Episode { id, scope: _, task, steps, outcome, started_at, completed_at, source, receipt } = episode.clone();
        Self {
            id: Some(id),
            task,
            steps,
            outcome,
            started_at: Some(started_at),
            completed_at: Some(completed_at),
            source: Some(source),
            receipt,
        }
    }
}

impl Recording {
    /// An episode without steps that ended now.
    pub fn new(task: Task, outcome: Outcome) -> Self {
        Self {
            id: None,
            task,
            steps: Vec::new(),
            outcome,
            started_at: None,
            completed_at: None,
            source: None,
            receipt: None,
        }
    }

    /// Sets the identity.
    #[must_use]
    pub fn id(mut self, id: EpisodeId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets who tells it.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Adds a step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds steps.
    #[must_use]
    pub fn steps(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// Sets when it began.
    #[must_use]
    pub fn started_at(mut self, at: DateTime<Utc>) -> Self {
        self.started_at = Some(at);
        self
    }

    /// Sets when it ended.
    #[must_use]
    pub fn completed_at(mut self, at: DateTime<Utc>) -> Self {
        self.completed_at = Some(at);
        self
    }
}
