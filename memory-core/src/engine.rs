//! The engine: what an agent's program talks to.

mod announcing;
mod builder;
mod embed_missing;
mod explain;
mod export;
mod heuristics;
mod import;
mod jobs;
mod list_notes;
mod live;
mod note_draft;
mod notes;
mod open_episode;
mod predict;
mod projection;
mod recall;
mod recall_notes;
mod reembed;
mod retention;
mod review;
mod suggest;
mod sweep;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use rand::rngs::StdRng;

pub use builder::MemoryBuilder;
pub use explain::{Belief, Explanation};
pub use heuristics::{Advised, UpliftReport};
pub use jobs::JobHealth;
pub use list_notes::{NotePage, NoteQuery, NoteStatistics};
pub use notes::NoteAck;
pub use open_episode::{OpenEpisode, StepDurability};
pub use predict::Prediction;
pub use projection::Rebuilt;
pub use recall::{Parts, Pitfall, Recalled, Recollection, Recovery};
pub use recall_notes::{RecalledNote, RecalledNotes};
pub use reembed::Reembedded;
pub use retention::{Removed, RetentionPolicy};
pub use review::{Review, Reward, StepCredit};
pub use suggest::{Reason, Suggestion};

use crate::clock::RisingClock;
use crate::learn::Knowledge;
use crate::profile::Intents;
use crate::text::strip_recalled;
use crate::{
    Batch, Commit, Consent, Durability, Embedder, Episode, EpisodeId, Error, ErrorKind, Filter, Key, Learner, Limits,
    LoggedEpisode, MemoryStore, MemoryStoreExt, OpenedEpisode, Pattern, PatternId, Record, RecordKind, Recording,
    Reranker, Result, Role, Scan, Scope, Source, StoreHealth, Stored, Support, Task, Trust, Vector, Version, Watch,
};
use embed_missing::put_or_queue;
use jobs::Jobs;
use live::{Held, LiveEpisodes, Put, closed, step, step_key};
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
    source: Source,
}

#[derive(Debug)]
pub(crate) struct Inner {
    store: Arc<dyn MemoryStore>,
    /// Told of this engine's commits.
    commits: tokio::sync::watch::Receiver<()>,
    embedder: Arc<dyn Embedder>,
    reranker: Option<Arc<dyn Reranker>>,
    intents: Intents,
    limits: Limits,
    clock: Arc<RisingClock>,
    random: Mutex<StdRng>,
    step_durability: StepDurability,
    /// The probability that the best suggestion must have.
    abstain_below: f64,
    retention: Option<retention::Retention>,
    consent: Option<Arc<dyn Consent>>,
    projection: Projection,
    derived: heuristics::Derived,
    hold_out: heuristics::HoldOut,
    live: Arc<LiveEpisodes>,
    jobs: Jobs,
}

impl Inner {
    async fn project(&self) -> Result<u64> {
        let result = self.projection.catch_up().await;
        self.jobs.projection.ran(self.clock.read(), &result);
        result
    }
}

/// The answer to a write.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The episode that was written to.
    pub episode: EpisodeId,
    /// How safe the write is now.
    pub durability: Durability,
    /// Why the episode was kept without its vector, if it was: it is found by words only, until its vector is
    /// [filled in](Memory::embed_missing).
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
    /// What goes on beside the callers in this engine.
    pub jobs: Vec<JobHealth>,
}

impl Memory {
    /// A builder with defaults for everything but the store.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    /// The same memory in another scope.
    #[must_use]
    pub fn in_scope(&self, scope: Scope) -> Self {
        Self { scope, ..self.clone() }
    }

    /// The same memory for what another source tells. What an untrusted source tells is kept and counted apart, and nothing
    /// that it alone has shown is ever suggested, recalled or advised; see [`quarantined`](Self::quarantined) and, for notes,
    /// [`remember`](Self::remember).
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a name outside 1 to 128 bytes.
    pub fn from_source(&self, source: Source) -> Result<Self> {
        self.inner.limits.source(&source)?;
        Ok(Self { source, ..self.clone() })
    }

    /// The scope of this handle.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The store it keeps everything in.
    pub fn store(&self) -> &Arc<dyn MemoryStore> {
        &self.inner.store
    }

    /// Follows what changes in the store, of all scopes, after a version: what this engine writes is told at once, what others
    /// write within 200 milliseconds.
    ///
    /// This is for whoever runs the store: to refresh a view, to replicate, to call hooks. See [`Watch`].
    pub fn watch(&self, since: Version) -> Watch {
        Watch::woken(Arc::clone(&self.inner.store), since, Some(self.inner.commits.clone()))
    }

    /// How it learns.
    pub fn learner(&self) -> &Learner {
        self.inner.projection.learner()
    }

    /// Begins an episode, which this engine holds as long as there is a handle; see [`MemoryBuilder::lease`].
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a task beyond the [`Limits`]; the store's errors.
    pub async fn start(&self, task: Task) -> Result<OpenEpisode> {
        self.inner.limits.task(&task).map_err(|error| error.in_operation("start"))?;
        let started_at = self.inner.clock.now();
        let (id, scope, source) = (self.new_id(started_at), self.scope.clone(), self.source.clone());
        let lease = Some(self.inner.live.lease_at(started_at));
        let opened = OpenedEpisode { id, scope, task, started_at, source, receipt: None, lease, state: None };
        let batch = Batch::new().require_absent(Key::Open(id)).put(Record::Open(opened.clone()));
        let commit = self.inner.store.commit(&batch).await.map_err(|error| error.in_operation("start"))?;
        let live = self.inner.live.add(Held::new(opened.clone(), commit.version, 0));
        Ok(OpenEpisode::new(self.clone(), live, opened, Vec::new()))
    }

    /// Takes up an episode that was begun earlier, by this process or another one, with the steps and the
    /// [state](OpenEpisode::state) that were kept. Its lease must be free, or have run out, or be this engine's; it is then
    /// this engine's. Of several that resume an episode at the same time, one gets it.
    ///
    /// # Errors
    /// [`Held`](ErrorKind::Held), which is temporary, if another engine has it; [`EpisodeClosed`](ErrorKind::EpisodeClosed)
    /// if it is complete; [`NotFound`](ErrorKind::NotFound) if there is no such episode in this scope; the store's errors.
    pub async fn resume(&self, id: EpisodeId) -> Result<OpenEpisode> {
        let _one_at_a_time = self.inner.live.resuming.lock().await;
        retry(|| self.try_resume(id)).await.map_err(|error| error.in_operation("resume"))
    }

    async fn try_resume(&self, id: EpisodeId) -> Result<OpenEpisode> {
        let stored = self.inner.store.get(&[Key::Open(id), Key::Episode(id)]).await?;
        let (version, opened) = match stored.into_iter().flatten().next() {
            Some(Stored { version, record: Record::Open(opened) }) if opened.scope == self.scope => (version, opened),
            Some(Stored { record: Record::Episode(logged), .. }) if logged.episode.scope == self.scope => {
                return Err(closed(id));
            }
            _ => return Err(not_found(id)),
        };
        match self.share(id).await? {
            Some(handle) => Ok(handle),
            None => self.take(opened, version).await,
        }
    }

    /// Another handle of an episode that this engine has, with all its steps.
    async fn share(&self, id: EpisodeId) -> Result<Option<OpenEpisode>> {
        let all = &self.inner.live;
        let Some(live) = all.get(id) else { return Ok(None) };
        let mut held = live.held.lock().await;
        all.catch_up(&live, &mut held, &mut Vec::new()).await?;
        if held.gone.is_some() {
            return Ok(None);
        }
        all.write(&live, &mut held, &[], Put::Nothing).await?;
        let steps = self.stored_steps(id).await?;
        held.stored = steps.len();
        all.attach(&live);
        Ok(Some(OpenEpisode::new(self.clone(), Arc::clone(&live), held.opened.clone(), steps)))
    }

    /// The first handle of an episode, if it can be taken.
    async fn take(&self, mut opened: OpenedEpisode, version: Version) -> Result<OpenEpisode> {
        if let Some(held) = self.inner.live.held_by_another(&opened) {
            return Err(held);
        }
        opened.lease = Some(self.inner.live.lease_at(self.inner.clock.read()));
        let open = Key::Open(opened.id);
        let batch = Batch::new().require_unchanged(open, Some(version)).put(Record::Open(opened.clone()));
        let commit = self.inner.store.commit(&batch).await?;
        let steps = self.stored_steps(opened.id).await?;
        let live = self.inner.live.add(Held::new(opened.clone(), commit.version, steps.len()));
        Ok(OpenEpisode::new(self.clone(), live, opened, steps))
    }

    async fn stored_steps(&self, id: EpisodeId) -> Result<Vec<crate::Step>> {
        const CHUNK: usize = 100;
        let mut steps = Vec::new();
        loop {
            let before = steps.len();
            let keys: Vec<Key> = (before..before + CHUNK).map(|place| step_key(id, place)).collect();
            steps.extend(self.inner.store.get(&keys).await?.into_iter().map_while(step));
            if steps.len() < before + CHUNK {
                return Ok(steps);
            }
        }
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
        let Recording { task, steps, outcome, source, receipt, .. } = recording.clone();
        let mut episode = Episode::new(id, self.scope.clone(), task, steps, outcome, started_at, completed_at);
        episode.source = source.unwrap_or_else(|| self.source.clone());
        episode.receipt = receipt;
        episode.check_encoded_size().map_err(|error| error.in_operation("record"))?;
        let (vector, degraded) = self.vector_of(Role::Document, &episode.task.text).await;
        let logged = LoggedEpisode { episode: Arc::new(episode), vector };
        match self.append(logged, Batch::new().require_absent(Key::Open(id))).await {
            Ok(commit) => Ok(Ack { episode: id, durability: commit.durability, degraded }),
            Err(error) if error.is_conflict() => match self.inner.store.get_episode(id).await? {
                Some(logged) if self.recorded_as(&recording, &logged.episode) => Ok(self.ack_again(&logged)),
                _ => Err(Error::new(ErrorKind::AlreadyExists, format!("another episode has the id {id}"))),
            },
            Err(error) => Err(error),
        }
        .map_err(|error| error.in_operation("record"))
    }

    /// Appends an episode to the log, in one commit with the rest of the batch.
    async fn append(&self, logged: LoggedEpisode, batch: Batch) -> Result<Commit> {
        let batch = batch.require_absent(Key::Episode(logged.episode.id));
        let batch = put_or_queue(batch, Record::Episode(logged));
        let commit = self.inner.commit(&batch).await?;
        self.inner.projection.completed(1).await;
        Ok(commit)
    }

    /// Whether an episode is what a recording asked for; what the recording left to the engine is not compared.
    fn recorded_as(&self, recording: &Recording, episode: &Episode) -> bool {
        episode.scope == self.scope
            && episode.task == recording.task
            && episode.steps == recording.steps
            && episode.outcome == recording.outcome
            && episode.source == *recording.source.as_ref().unwrap_or(&self.source)
            && episode.receipt == recording.receipt
            && recording.started_at.is_none_or(|at| at.min(episode.completed_at) == episode.started_at)
            && recording.completed_at.is_none_or(|at| at == episode.completed_at)
    }

    /// The answer to a write that had happened already.
    fn ack_again(&self, logged: &LoggedEpisode) -> Ack {
        let lacks = logged.vector.is_none() && !own_text(&logged.episode).trim().is_empty();
        let degraded = lacks.then(|| "it was written before, without its vector".to_owned());
        Ack { episode: logged.episode.id, durability: self.inner.store.info().durability, degraded }
    }

    /// The vector of a text without what the memory supplied, or why there is none. There is none, and no reason to tell,
    /// if nothing is left of the text.
    async fn vector_of(&self, role: Role, text: &str) -> (Option<Vector>, Option<String>) {
        let own = strip_recalled(text);
        if own.trim().is_empty() {
            return (None, None);
        }
        match self.embed(role, &own).await {
            Ok(vector) => (Some(vector), None),
            Err(error) => (None, Some(error.to_string())),
        }
    }

    async fn embed(&self, role: Role, text: &str) -> Result<Vector> {
        let vector = self.embed_all(role, &[text]).await?.pop();
        vector.ok_or_else(|| Error::invalid("embedder's answer", "empty", "as many vectors as texts"))
    }

    /// The vectors of texts, in order: as many, and of the embedder's space.
    async fn embed_all(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        embed_all(&*self.inner.embedder, role, texts).await
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
    /// would be had it never been recorded. Whoever holds an open one is told at the next write.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such episode in this scope; the store's errors.
    pub async fn delete(&self, id: EpisodeId) -> Result<()> {
        retry(|| async move {
            match self.inner.store.get_one(Key::Open(id)).await? {
                Some(Stored { version, record: Record::Open(opened) }) if opened.scope == self.scope => {
                    let steps = self.stored_steps(id).await?;
                    let batch = without_open(id, version, steps.len());
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
        self.inner.project().await.map_err(|error| error.in_operation("project"))
    }

    /// Derives all patterns of the store, of all scopes, again from the log, and puts right what differs.
    ///
    /// Reads the whole log. The patterns are kept in memory while it runs. This engine projects and deletes nothing meanwhile:
    /// readers that are more than 1,024 episodes behind wait, and so do writers that are more than 16,384 behind.
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
        self.learner().support(evidence, self.inner.clock.read())
    }

    /// How the memory is doing.
    ///
    /// # Errors
    /// The store's errors; an embedder that fails is told in the answer.
    pub async fn health(&self) -> Result<Health> {
        let store = self.inner.store.health().await?;
        let episodes_behind = self.inner.projection.behind().await?;
        let embedder_error = self.inner.embedder.health().await.err().map(|error| error.to_string());
        let jobs = &self.inner.jobs;
        let mut told = vec![
            jobs.projection.health(episodes_behind),
            jobs.leases.health(self.inner.live.handles()),
            jobs.sweep.health(self.orphans().await?.len() as u64),
            jobs.steps.health(self.inner.live.buffered()),
            jobs.consolidation.health(self.inner.derived.renewing()),
            jobs.expiry.health(notes::count_expired(&self.inner).await?),
            jobs.embedding.health(self.inner.count_unembedded().await?),
        ];
        if let Some(retention) = &self.inner.retention {
            told.push(jobs.retention.health(retention.waiting.load(Ordering::Relaxed)));
        }
        Ok(Health { store, episodes_behind, embedder_error, jobs: told })
    }

    /// Writes buffered steps, projects what is left and closes the store. All handles of this memory then answer
    /// [`Unavailable`](ErrorKind::Unavailable). Closing twice is fine. Episodes that are still open are held until their
    /// leases run out; [hand them over](OpenEpisode::hand_over) first to let others go on at once.
    ///
    /// # Errors
    /// The store's errors; those of buffered steps that could not be written, which are then lost: the store is closed all
    /// the same. That it could not project is none: whoever opens the store next does. What runs beside the callers has ended
    /// in any case.
    pub async fn close(&self) -> Result<()> {
        self.inner.jobs.end();
        let flushed = self.inner.live.flush(None).await;
        if let Err(error) = self.project().await {
            tracing::warn!(%error, "closing without having projected all");
        }
        let closed = self.inner.store.close().await;
        closed.and(flushed).map_err(|error| error.in_operation("close"))
    }

    /// Episodes like a task are looked for in its domain, among those of trusted sources.
    fn comparable(task: &Task) -> Filter {
        let trusted = Filter::default().trust(Trust::Trusted);
        task.domain.iter().fold(trusted, |filter, domain| filter.domain(domain.clone()))
    }
}

/// The text that an episode is embedded by: what the task says, without what the memory supplied.
fn own_text(episode: &Episode) -> String {
    strip_recalled(&episode.task.text).into_owned()
}

/// The vectors of texts, in order: as many, and of the embedder's space.
async fn embed_all(embedder: &dyn Embedder, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
    let vectors = embedder.embed(role, texts).await?;
    if vectors.len() != texts.len() {
        let (count, range) = (vectors.len(), format!("{}, as many as texts", texts.len()));
        return Err(Error::invalid("embedder's answer", format_args!("{count} vectors"), range));
    }
    let space = embedder.space();
    vectors.iter().try_for_each(|vector| space.check(vector)).map(|()| vectors)
}

/// The batch that removes an open episode and its steps, if the record is at this version and there are no more steps.
fn without_open(id: EpisodeId, version: Version, steps: usize) -> Batch {
    let (open, end) = (Key::Open(id), step_key(id, steps));
    let batch = Batch::new().require_unchanged(open.clone(), Some(version)).require_absent(end).delete(open);
    (0..steps).fold(batch, |batch, place| batch.delete(step_key(id, place)))
}
