//! Putting a memory together.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::announcing::Announcing;
use super::heuristics::{Derived, HoldOut};
use super::jobs::{self, Jobs};
use super::live::LiveEpisodes;
use super::projection::Projection;
use super::retention::{Retention, RetentionPolicy};
use super::{Inner, Memory, StepDurability};
use crate::clock::RisingClock;
use crate::profile::Intents;
use crate::{
    Batch, Clock, Consent, Embedder, Error, HashEmbedder, Key, Learner, Limits, MemoryStore, MemoryStoreExt, Record,
    Reranker, Result, Scope, Source, Stored, SystemClock, VectorSpace,
};

/// Puts a [`Memory`] together from a store and, where the defaults do not fit, other parts.
///
/// # Default
/// [`HashEmbedder`], no reranker, [`Learner::default`], [`Limits::default`], [`SystemClock`], scope `default`, each step durable on its own,
/// leases of 10 minutes, nothing held out, suggestions however unlikely, all episodes kept, every heuristic allowed, randomness from the operating system.
#[derive(Debug)]
pub struct MemoryBuilder {
    store: Option<Arc<dyn MemoryStore>>,
    embedder: Arc<dyn Embedder>,
    reranker: Option<Arc<dyn Reranker>>,
    learner: Learner,
    limits: Limits,
    clock: Arc<dyn Clock>,
    scope: Scope,
    seed: Option<u64>,
    step_durability: StepDurability,
    lease: TimeDelta,
    hold_out: f64,
    abstain_below: f64,
    retention: Option<RetentionPolicy>,
    consent: Option<Arc<dyn Consent>>,
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self {
            store: None,
            embedder: Arc::new(HashEmbedder::new()),
            reranker: None,
            learner: Learner::default(),
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            scope: Scope::default(),
            seed: None,
            step_durability: StepDurability::default(),
            lease: TimeDelta::minutes(10),
            hold_out: 0.0,
            abstain_below: 0.0,
            retention: None,
            consent: None,
        }
    }
}

impl MemoryBuilder {
    /// Sets the store. Required.
    #[must_use]
    pub fn store(mut self, store: impl MemoryStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets the embedder.
    #[must_use]
    pub fn embedder(mut self, embedder: impl Embedder) -> Self {
        self.embedder = Arc::new(embedder);
        self
    }

    /// Sets who has the last word on how relevant each thing is that a recall looks at closely.
    #[must_use]
    pub fn reranker(mut self, reranker: impl Reranker) -> Self {
        self.reranker = Some(Arc::new(reranker));
        self
    }

    /// Sets how it learns.
    #[must_use]
    pub fn learner(mut self, learner: Learner) -> Self {
        self.learner = learner;
        self
    }

    /// Sets how large things may be.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the scope of the first handle.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Withholds, with this probability in [0, 1], everything that an episode's recalls would show, and of what is shown
    /// the advice on each tool with the same probability: so that [`Memory::uplift`] can compare. Chance is made from the
    /// [`seed`](Self::seed) and the episode's id.
    #[must_use]
    pub fn hold_out(mut self, probability: f64) -> Self {
        self.hold_out = probability;
        self
    }

    /// Makes the ids it gives, and what it holds out, repeatable.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets when steps are durable.
    #[must_use]
    pub fn step_durability(mut self, step_durability: StepDurability) -> Self {
        self.step_durability = step_durability;
        self
    }

    /// Sets the probability, in [0, 1], that the best suggestion must have: below it [`suggest`](Memory::suggest) returns
    /// none.
    #[must_use]
    pub fn abstain_below(mut self, probability: f64) -> Self {
        self.abstain_below = probability;
        self
    }

    /// Sets how long an open episode stays this engine's without a sign of life, from 1 second to 1 day.
    ///
    /// The engine renews the leases of the episodes that have a handle, three times in this span. If the process dies, or the
    /// handle is dropped, others can [resume](Memory::resume) the episode when the lease has run out, until a
    /// [sweep](Memory::sweep) closes it, which happens within the next such span.
    #[must_use]
    pub fn lease(mut self, lease: TimeDelta) -> Self {
        self.lease = lease;
        self
    }

    /// Deletes the completed episodes, of all scopes, that a policy does not keep, and what was learned from them; see
    /// [`Memory::retain_all`]. It happens beside the callers, a minute after the engine was built and then every hour.
    #[must_use]
    pub fn retention(mut self, policy: RetentionPolicy) -> Self {
        self.retention = Some(policy);
        self
    }

    /// Shows no heuristic, in advice, suggestions or playbooks, that this does not allow. Without, all are allowed.
    #[must_use]
    pub fn consent(mut self, consent: impl Consent) -> Self {
        self.consent = Some(Arc::new(consent));
        self
    }

    /// Checks everything, claims the store for the embedder's vector space, and starts the jobs beside the caller; see
    /// [`Health::jobs`](crate::Health::jobs).
    ///
    /// Must be called within a tokio runtime with time enabled; the jobs stop with that runtime or with the last handle.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a setting out of range or a missing store;
    /// [`SpaceMismatch`](crate::ErrorKind::SpaceMismatch) if the store holds vectors of another space; the store's errors.
    pub async fn build(self) -> Result<Memory> {
        let store = self.store.ok_or_else(|| Error::invalid("store", "not set", "a MemoryStore"))?;
        self.learner.validate()?;
        self.limits.validate()?;
        for (field, probability) in [("hold_out", self.hold_out), ("abstain_below", self.abstain_below)] {
            if !(0.0..=1.0).contains(&probability) {
                return Err(Error::invalid(field, probability, "0..=1"));
            }
        }
        self.step_durability.validate()?;
        self.retention.as_ref().map_or(Ok(()), RetentionPolicy::validate)?;
        if !(TimeDelta::seconds(1)..=TimeDelta::days(1)).contains(&self.lease) {
            return Err(Error::invalid("lease", self.lease, "1 second..=1 day"));
        }
        let (store, commits) = Announcing::new(store);
        let store: Arc<dyn MemoryStore> = Arc::new(store);
        claim(&*store, self.embedder.space()).await?;
        let projection = Projection::new(Arc::clone(&store), self.learner);
        projection.claim().await?;
        let clock = Arc::new(RisingClock::new(self.clock));
        let inner = Arc::new(Inner {
            projection,
            live: Arc::new(LiveEpisodes::new(Arc::clone(&store), Arc::clone(&clock), self.lease)),
            jobs: Jobs::new(),
            store,
            commits,
            embedder: self.embedder,
            reranker: self.reranker,
            intents: Intents::default(),
            limits: self.limits,
            clock,
            random: Mutex::new(self.seed.map_or_else(rand::make_rng, StdRng::seed_from_u64)),
            step_durability: self.step_durability,
            derived: Derived::default(),
            hold_out: HoldOut { probability: self.hold_out, seed: self.seed.unwrap_or_default() },
            abstain_below: self.abstain_below,
            retention: self.retention.map(Retention::new),
            consent: self.consent,
        });
        Projection::spawn(&inner);
        jobs::spawn(&inner);
        Ok(Memory { inner, scope: self.scope, source: Source::default() })
    }
}

/// Sets the vector space of a new store, or checks that of an older one.
pub(super) async fn claim(store: &dyn MemoryStore, space: &VectorSpace) -> Result<()> {
    if space.dimensions == 0 {
        return Err(Error::invalid("embedder.space.dimensions", 0, "1 or more"));
    }
    if store.get_one(Key::Space).await?.is_none() {
        let batch = Batch::new().require_absent(Key::Space).put(Record::Space(space.clone()));
        match store.commit(&batch).await {
            Err(error) if error.is_conflict() => {}
            result => return result.map(|_| ()),
        }
    }
    match store.get_one(Key::Space).await? {
        Some(Stored { record: Record::Space(held), .. }) if held != *space => Err(held.mismatch(space)),
        _ => Ok(()),
    }
}
