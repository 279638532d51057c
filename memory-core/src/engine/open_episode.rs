//! An episode while it goes on.

use std::sync::Arc;

use super::predict::Stage;
use super::suggest::Neighbour;
use super::{Ack, Memory, Prediction, Recollection, Suggestion, recorded_as, without_open};
use crate::episode::{check_encoded_len, encoded_len};
use crate::limits;
use crate::{
    Batch, Durability, Episode, EpisodeId, Error, ErrorKind, Key, MemoryStoreExt, OpenedEpisode, OpenedStep, Outcome,
    Record, Recording, Result, Step, Stored, Task,
};

/// When the steps of an open episode are durable. The completed episode always is, as soon as it is acknowledged.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StepDurability {
    /// Each step is committed before it is acknowledged. A crash loses none, and [`Memory::resume`] goes on from there.
    #[default]
    Each,
    /// Steps are held in memory and acknowledged as [`Volatile`](Durability::Volatile) until the episode is complete. A crash
    /// loses the steps of open episodes.
    AtCompletion,
}

/// A handle of an episode that has begun: takes steps, answers what comes next, and ends with an outcome.
///
/// Dropping it leaves the episode open; [`Memory::resume`] takes it up again, [`Memory::delete`] gives it up.
#[derive(Debug)]
pub struct OpenEpisode {
    memory: Memory,
    opened: OpenedEpisode,
    steps: Vec<Step>,
    /// How many of the steps, the first ones, are in the store.
    stored: usize,
    /// The bytes of task and steps when encoded; an episode that grows too large could not be completed.
    encoded: usize,
    closed: bool,
    /// Episodes like this one, looked up once.
    similar: Option<Arc<[Neighbour]>>,
}

impl OpenEpisode {
    pub(super) fn new(memory: Memory, opened: OpenedEpisode, steps: Vec<Step>) -> Self {
        let encoded = encoded_len(&opened) + steps.iter().map(encoded_len).sum::<usize>();
        Self { memory, opened, stored: steps.len(), steps, encoded, closed: false, similar: None }
    }

    /// The identity of the episode, by which it can be resumed.
    pub fn id(&self) -> EpisodeId {
        self.opened.id
    }

    /// What is to be done.
    pub fn task(&self) -> &Task {
        &self.opened.task
    }

    /// The steps so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What the memory knows that helps with this task; see [`Memory::recall`].
    ///
    /// # Errors
    /// As [`Memory::recall`].
    pub async fn recall(&self, k: usize) -> Result<Recollection> {
        self.memory.recall(self.task(), k).await
    }

    /// Which tools usually come next, best first, up to `k`; see [`Memory::suggest`].
    ///
    /// Episodes like this one are looked up at the first call and kept for the later ones.
    ///
    /// # Errors
    /// As [`Memory::suggest`].
    pub async fn suggest(&mut self, k: usize) -> Result<Vec<Suggestion>> {
        limits::k("k", k)?;
        let similar = self.similar().await?;
        self.memory.suggest_with(&self.opened.task, &self.steps, &similar, k).await
    }

    /// How likely the episode is to succeed, going by the task and the steps so far; see [`Memory::predict`].
    ///
    /// # Errors
    /// As [`Memory::predict`].
    pub async fn predict(&mut self) -> Result<Prediction> {
        let similar = self.similar().await?;
        self.memory.predict_with(Stage::after(&self.steps), &self.opened.task, &self.steps, &similar).await
    }

    /// How likely the episode is a success if it has ended with these steps, before its outcome is known; see
    /// [`Memory::predict_finished`].
    ///
    /// # Errors
    /// As [`Memory::predict_finished`].
    pub async fn predict_finished(&mut self) -> Result<Prediction> {
        let similar = self.similar().await?;
        self.memory.predict_with(Stage::Finished, &self.opened.task, &self.steps, &similar).await
    }

    async fn similar(&mut self) -> Result<Arc<[Neighbour]>> {
        if let Some(similar) = &self.similar {
            return Ok(Arc::clone(similar));
        }
        let similar: Arc<[Neighbour]> = self.memory.similar(self.task()).await?.into();
        self.similar = Some(Arc::clone(&similar));
        Ok(similar)
    }

    /// Adds a step.
    ///
    /// After an error the handle is as before, and the same step can be given again: if it was written after all, it
    /// counts once.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) beyond the [`Limits`](crate::Limits); [`EpisodeClosed`](ErrorKind::EpisodeClosed) if the
    /// episode is complete; [`Conflict`](ErrorKind::Conflict) if another handle has added a step;
    /// [`NotFound`](ErrorKind::NotFound) if the episode was deleted; the store's errors.
    pub async fn step(&mut self, step: Step) -> Result<Ack> {
        self.try_step(step).await.map_err(|error| error.in_operation("step"))
    }

    async fn try_step(&mut self, step: Step) -> Result<Ack> {
        self.check_open()?;
        self.memory.inner.limits.step(self.steps.len(), &step)?;
        let encoded = self.encoded + encoded_len(&step);
        check_encoded_len(encoded)?;
        let durability = match self.memory.inner.step_durability {
            StepDurability::AtCompletion => Durability::Volatile,
            StepDurability::Each => {
                let durability = self.commit_step(&step).await?;
                self.stored += 1;
                durability
            }
        };
        self.encoded = encoded;
        self.steps.push(step);
        Ok(Ack { episode: self.id(), durability, degraded: None })
    }

    async fn commit_step(&self, step: &Step) -> Result<Durability> {
        let index = u32::try_from(self.steps.len())
            .map_err(|_| Error::invalid("steps", self.steps.len(), format_args!("up to {}", u32::MAX)))?;
        let key = Key::Step(self.id(), index);
        let record = OpenedStep { episode: self.id(), index, step: step.clone() };
        let batch = Batch::new()
            .require_present(Key::Open(self.id()))
            .require_absent(key.clone())
            .put(Record::Step(record.clone()));
        match self.memory.inner.store.commit(&batch).await {
            Ok(commit) => Ok(commit.durability),
            Err(error) if error.is_conflict() => match self.memory.inner.store.get_one(key).await? {
                Some(Stored { record: Record::Step(stored), .. }) if stored == record => {
                    Ok(self.memory.inner.store.info().durability)
                }
                Some(_) => Err(error),
                None => Err(self.why_not_open().await?),
            },
            Err(error) => Err(error),
        }
    }

    /// Ends the episode: it enters the log in one commit and is learned from.
    ///
    /// After an error the handle is as before, and the same outcome can be given again: if it was written after all, it
    /// counts once.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) beyond the [`Limits`](crate::Limits); [`EpisodeClosed`](ErrorKind::EpisodeClosed) if the
    /// episode is complete already; [`NotFound`](ErrorKind::NotFound) if it was deleted; [`Conflict`](ErrorKind::Conflict) if
    /// there is a step that this handle does not know: from another handle, or from a failed [`step`](Self::step) that was
    /// written after all; the store's errors.
    pub async fn complete(&mut self, outcome: Outcome) -> Result<Ack> {
        self.try_complete(outcome).await.map_err(|error| error.in_operation("complete"))
    }

    async fn try_complete(&mut self, outcome: Outcome) -> Result<Ack> {
        self.check_open()?;
        self.memory.inner.limits.outcome(&outcome)?;
        let OpenedEpisode { id, scope, task, started_at } = self.opened.clone();
        let completed_at = self.memory.inner.clock.now().max(started_at);
        let intended = Recording::new(task.clone(), outcome.clone()).steps(self.steps.clone()).started_at(started_at);
        let episode = Episode::new(id, scope, task, self.steps.clone(), outcome, started_at, completed_at);
        let batch = without_open(id, self.stored);
        match self.memory.append(episode, batch).await {
            Ok(ack) => {
                self.closed = true;
                Ok(ack)
            }
            Err(error) if error.is_conflict() => match self.memory.inner.store.get_episode(id).await? {
                Some(logged) if recorded_as(&intended, &logged.episode, self.memory.scope()) => {
                    self.closed = true;
                    Ok(self.memory.ack_again(&logged))
                }
                _ => match self.memory.inner.store.get_one(Key::Open(id)).await? {
                    Some(_) => Err(error),
                    None => Err(self.why_not_open().await?),
                },
            },
            Err(error) => Err(error),
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.closed { Err(closed(self.id())) } else { Ok(()) }
    }

    /// The error of an episode that is open no more.
    async fn why_not_open(&self) -> Result<Error> {
        let logged = self.memory.inner.store.get_episode(self.id()).await?;
        Ok(if logged.is_some() { closed(self.id()) } else { super::not_found(self.id()) })
    }
}

fn closed(id: EpisodeId) -> Error {
    Error::new(ErrorKind::EpisodeClosed, format!("episode {id} is complete"))
}
