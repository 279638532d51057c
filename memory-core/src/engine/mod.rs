//! The engine: what an agent's program talks to.

mod builder;
mod open_episode;
mod predict;
pub(crate) mod projection;
mod recall;
mod suggest;

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use rand::rngs::StdRng;

pub use builder::MemoryBuilder;
pub use open_episode::{OpenEpisode, StepDurability};
pub use predict::Prediction;
pub use projection::Rebuilt;
pub use recall::{Pitfall, Recalled, Recollection, Recovery};
pub use suggest::{Reason, Suggestion};

use crate::clock::RisingClock;
use crate::learn::Knowledge;
use crate::{
    Batch, Durability, Embedder, Episode, EpisodeId, Error, ErrorKind, Filter, Key, Learner, Limits, LoggedEpisode,
    MemoryStore, MemoryStoreExt, OpenedEpisode, Pattern, PatternId, Record, RecordKind, Recording, Result, Role, Scan,
    Scope, StoreHealth, Stored, Support, Task, Vector,
};
use projection::{Projection, log_after, not_found, retry};

/// An agent's memory: records episodes, learns from them, and answers from what it has learned.
///
/// A handle of one scope; [`in_scope`](Self::in_scope) gives one of another. Clones share everything.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// use memory_core::{InMemoryStore, Memory, Outcome, Step, Task};
///
/// let memory = Memory::builder().store(InMemoryStore::new()).build().await?;
/// let mut episode = memory.start(Task::new("make the login test pass").domain("web")).await?;
/// episode.step(Step::new("grep").input("login").ok("src/auth.rs:42")).await?;
/// episode.step(Step::new("edit").input("src/auth.rs").ok("saved")).await?;
/// episode.complete(Outcome::success("the test passes")).await?;
///
/// let task = Task::new("make the logout test pass").domain("web");
/// let next = memory.suggest(&task, &[], 1).await?;
/// assert_eq!(next[0].tool, "grep");
/// # Ok::<(), memory_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Memory {
    inner: Arc<Inner>,
    scope: Scope,
}

#[derive(Debug)]
pub(crate) struct Inner {
    store: Arc<dyn MemoryStore>,
    embedder: Arc<dyn Embedder>,
    limits: Limits,
    clock: RisingClock,
    random: Mutex<StdRng>,
    step_durability: StepDurability,
    /// The probability that the best suggestion must have.
    abstain_below: f64,
    projection: Projection,
}

/// The answer to a write.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The episode that was written to.
    pub episode: EpisodeId,
    /// How safe the write is now.
    pub durability: Durability,
    /// Why the episode was kept without its vector, if it was: it is found by words only.
    pub degraded: Option<String>,
}

/// How a memory is doing.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The store.
    pub store: StoreHealth,
    /// Completed episodes that are not folded into the stored patterns yet. Readers fold them themselves.
    pub episodes_behind: u64,
    /// What the embedder says, if it cannot serve.
    pub embedder_error: Option<String>,
}

impl Memory {
    /// A builder with defaults for everything but the store.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    /// The same memory in another scope.
    #[must_use]
    pub fn in_scope(&self, scope: Scope) -> Self {
        Self { inner: Arc::clone(&self.inner), scope }
    }

    /// The scope of this handle.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The store it keeps everything in.
    pub fn store(&self) -> &Arc<dyn MemoryStore> {
        &self.inner.store
    }

    /// How it learns.
    pub fn learner(&self) -> &Learner {
        self.inner.projection.learner()
    }

    /// Begins an episode.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a task beyond the [`Limits`]; the store's errors.
    pub async fn start(&self, task: Task) -> Result<OpenEpisode> {
        self.inner.limits.task(&task).map_err(|error| error.in_operation("start"))?;
        let started_at = self.inner.clock.now();
        let opened = OpenedEpisode { id: self.new_id(started_at), scope: self.scope.clone(), task, started_at };
        let batch = Batch::new().require_absent(Key::Open(opened.id)).put(Record::Open(opened.clone()));
        self.inner.store.commit(&batch).await.map_err(|error| error.in_operation("start"))?;
        Ok(OpenEpisode::new(self.clone(), opened, Vec::new()))
    }

    /// Takes up an episode that was begun earlier, by this process or another one, with the steps that were kept.
    ///
    /// # Errors
    /// [`EpisodeClosed`](ErrorKind::EpisodeClosed) if it is complete; [`NotFound`](ErrorKind::NotFound) if there is no such
    /// episode in this scope; the store's errors.
    pub async fn resume(&self, id: EpisodeId) -> Result<OpenEpisode> {
        let stored = self.inner.store.get(&[Key::Open(id), Key::Episode(id)]).await?;
        match stored.into_iter().flatten().next().map(|stored| stored.record) {
            Some(Record::Open(opened)) if opened.scope == self.scope => {
                let steps = self.stored_steps(id).await?;
                Ok(OpenEpisode::new(self.clone(), opened, steps))
            }
            Some(Record::Episode(logged)) if logged.episode.scope == self.scope => {
                Err(Error::new(ErrorKind::EpisodeClosed, format!("episode {id} is complete")).in_operation("resume"))
            }
            _ => Err(not_found(id).in_operation("resume")),
        }
    }

    async fn stored_steps(&self, id: EpisodeId) -> Result<Vec<crate::Step>> {
        const CHUNK: u32 = 100;
        let mut steps = Vec::new();
        for first in (0_u32..).step_by(CHUNK as usize) {
            let keys: Vec<Key> = (first..first + CHUNK).map(|index| Key::Step(id, index)).collect();
            let mut ended = false;
            for stored in self.inner.store.get(&keys).await? {
                match stored {
                    Some(Stored { record: Record::Step(step), .. }) => steps.push(step.step),
                    _ => ended = true,
                }
            }
            if ended {
                break;
            }
        }
        Ok(steps)
    }

    /// Records a finished episode in one commit.
    ///
    /// Recording the same id with the same content again changes nothing and succeeds, so that it can be retried after a
    /// failure whose outcome is unknown.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) beyond the [`Limits`]; [`AlreadyExists`](ErrorKind::AlreadyExists) if the id belongs
    /// to another episode, open or complete; the store's errors.
    pub async fn record(&self, recording: Recording) -> Result<Ack> {
        self.inner.limits.recording(&recording).map_err(|error| error.in_operation("record"))?;
        let completed_at = recording.completed_at.unwrap_or_else(|| self.inner.clock.now());
        let id = recording.id.unwrap_or_else(|| self.new_id(completed_at));
        let started_at = recording.started_at.unwrap_or(completed_at).min(completed_at);
        let Recording { task, steps, outcome, .. } = recording.clone();
        let episode = Episode::new(id, self.scope.clone(), task, steps, outcome, started_at, completed_at);
        let batch = Batch::new().require_absent(Key::Open(id));
        match self.append(episode, batch).await {
            Err(error) if error.is_conflict() => match self.inner.store.get_episode(id).await? {
                Some(logged) if recorded_as(&recording, &logged.episode, &self.scope) => Ok(self.ack_again(&logged)),
                _ => Err(Error::new(ErrorKind::AlreadyExists, format!("another episode has the id {id}"))),
            },
            result => result,
        }
        .map_err(|error| error.in_operation("record"))
    }

    /// Appends an episode to the log, in one commit with the rest of the batch.
    async fn append(&self, episode: Episode, batch: Batch) -> Result<Ack> {
        episode.check_encoded_size()?;
        let (vector, degraded) = match self.embed(Role::Document, &episode.task.text).await {
            Ok(vector) => (Some(vector), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let id = episode.id;
        let logged = LoggedEpisode { episode: Arc::new(episode), vector };
        let batch = batch.require_absent(Key::Episode(id)).put(Record::Episode(logged));
        let commit = self.inner.store.commit(&batch).await?;
        self.inner.projection.completed().await;
        Ok(Ack { episode: id, durability: commit.durability, degraded })
    }

    /// The answer to a write that had happened already.
    fn ack_again(&self, logged: &LoggedEpisode) -> Ack {
        let degraded = logged.vector.is_none().then(|| "it was written before, without its vector".to_owned());
        Ack { episode: logged.episode.id, durability: self.inner.store.info().durability, degraded }
    }

    async fn embed(&self, role: Role, text: &str) -> Result<Vector> {
        let vectors = self.inner.embedder.embed(role, &[text]).await?;
        let count = vectors.len();
        match <[Vector; 1]>::try_from(vectors) {
            Ok([vector]) => self.inner.embedder.space().check(&vector).map(|()| vector),
            Err(_) => Err(Error::invalid("embedder's answer", format_args!("{count} vectors"), "1, as many as texts")),
        }
    }

    fn new_id(&self, at: DateTime<Utc>) -> EpisodeId {
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or_default();
        let random = self.inner.random.lock().unwrap_or_else(PoisonError::into_inner).random();
        EpisodeId::new(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Reads a completed episode of this scope.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none; the store's errors.
    pub async fn episode(&self, id: EpisodeId) -> Result<Arc<Episode>> {
        match self.inner.store.get_episode(id).await? {
            Some(logged) if logged.episode.scope == self.scope => Ok(logged.episode),
            _ => Err(not_found(id)),
        }
    }

    /// Deletes an episode, complete or open, and everything learned from it: patterns, words and vectors are then what they
    /// would be had it never been recorded.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such episode in this scope; the store's errors.
    pub async fn delete(&self, id: EpisodeId) -> Result<()> {
        retry(|| async move {
            match self.inner.store.get_one(Key::Open(id)).await? {
                Some(Stored { record: Record::Open(opened), .. }) if opened.scope == self.scope => {
                    let steps = self.stored_steps(id).await?;
                    let batch = without_open(id, steps.len());
                    self.inner.store.commit(&batch).await.map(|_| ())
                }
                _ => self.inner.projection.unlearn(&self.scope, id).await,
            }
        })
        .await
        .map_err(|error| error.in_operation("delete"))
    }

    /// Folds what lies beyond the watermark into the stored patterns now; returns how many episodes that took.
    ///
    /// It happens by itself beside the writers; this waits for it.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn project(&self) -> Result<u64> {
        self.inner.projection.catch_up().await.map_err(|error| error.in_operation("project"))
    }

    /// Derives all patterns of the store, of all scopes, again from the log, and puts right what differs.
    ///
    /// Reads the whole log. The patterns are kept in memory while it runs.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn rebuild(&self) -> Result<Rebuilt> {
        self.inner.projection.rebuild().await.map_err(|error| error.in_operation("rebuild"))
    }

    /// All patterns of this scope as of now, by rising id. None of them is missing what this process has recorded.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn patterns(&self) -> Result<Vec<Pattern>> {
        self.inner.projection.all_patterns(&self.scope).await
    }

    /// All patterns of this scope as of a moment: the fold of the episodes completed by then.
    ///
    /// Reads the log of the scope up to that moment.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn patterns_as_of(&self, moment: DateTime<Utc>) -> Result<Vec<Pattern>> {
        let mut knowledge = Knowledge::default();
        self.each_episode(|episode| {
            if episode.completed_at <= moment {
                knowledge.learn(self.learner(), episode);
            }
        })
        .await?;
        Ok(knowledge.into_patterns())
    }

    /// The episodes of this scope that a pattern was learned from, in the order of the log.
    ///
    /// Reads the log of the scope.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn lineage(&self, pattern: PatternId) -> Result<Vec<EpisodeId>> {
        let mut lineage = Vec::new();
        self.each_episode(|episode| {
            if self.learner().observe(episode).iter().any(|observed| observed.id == pattern) {
                lineage.push(episode.id);
            }
        })
        .await?;
        Ok(lineage)
    }

    async fn each_episode(&self, mut each: impl FnMut(&Episode)) -> Result<()> {
        let log = log_after(crate::Version(0)).scope(self.scope.clone());
        self.inner.projection.each_episode(log, |_, episode| each(episode)).await
    }

    /// The open episodes of this scope.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn open_episodes(&self) -> Result<Vec<OpenedEpisode>> {
        let scan = Scan::new(RecordKind::Open).scope(self.scope.clone());
        let opened = self.inner.store.scan_all(scan).await?.into_iter().filter_map(|stored| match stored.record {
            Record::Open(opened) => Some(opened),
            _ => None,
        });
        Ok(opened.collect())
    }

    /// The weight that evidence has now.
    pub fn support(&self, evidence: &crate::Evidence) -> Support {
        self.learner().support(evidence, self.inner.clock.now())
    }

    /// How the memory is doing.
    ///
    /// # Errors
    /// The store's errors; an embedder that fails is told in the answer.
    pub async fn health(&self) -> Result<Health> {
        let store = self.inner.store.health().await?;
        let episodes_behind = self.inner.projection.behind().await?;
        let embedder_error = self.inner.embedder.health().await.err().map(|error| error.to_string());
        Ok(Health { store, episodes_behind, embedder_error })
    }

    /// Projects what is left and closes the store. All handles of this memory then answer
    /// [`Unavailable`](ErrorKind::Unavailable). Closing twice is fine.
    ///
    /// # Errors
    /// The store's errors. That it could not project is none: whoever opens the store next does.
    pub async fn close(&self) -> Result<()> {
        if let Err(error) = self.project().await {
            tracing::warn!(%error, "closing without having projected all");
        }
        self.inner.store.close().await
    }

    /// Episodes like a task are looked for in its domain.
    fn same_domain(task: &Task) -> Filter {
        task.domain.iter().fold(Filter::default(), |filter, domain| filter.domain(domain.clone()))
    }
}

/// The batch that removes an open episode and its steps, if there are no more steps than these.
fn without_open(id: EpisodeId, steps: usize) -> Batch {
    let end = u32::try_from(steps).unwrap_or(u32::MAX);
    let batch = Batch::new().require_present(Key::Open(id)).require_absent(Key::Step(id, end)).delete(Key::Open(id));
    (0..end).fold(batch, |batch, index| batch.delete(Key::Step(id, index)))
}

/// Whether an episode is what a recording asked for; what the recording left to the engine is not compared.
fn recorded_as(recording: &Recording, episode: &Episode, scope: &Scope) -> bool {
    episode.scope == *scope
        && episode.task == recording.task
        && episode.steps == recording.steps
        && episode.outcome == recording.outcome
        && recording.started_at.is_none_or(|at| at.min(episode.completed_at) == episode.started_at)
        && recording.completed_at.is_none_or(|at| at == episode.completed_at)
}
