//! An episode while it goes on.

use std::sync::Arc;

use chrono::TimeDelta;

use super::jobs::span;
use super::live::{self, Gone, Held, Live, Put, closed, step_key};
use super::predict::Stage;
use super::suggest::Neighbour;
use super::{Ack, Memory, Prediction, Recollection, Suggestion, without_open};
use crate::episode::{check_encoded_len, encoded_len};
use crate::limits;
use crate::{
    Commit, Durability, Episode, EpisodeId, Error, ErrorKind, Feedback, HeuristicId, Key, LoggedEpisode,
    MemoryStoreExt, OpenedEpisode, Outcome, Receipt, Record, Recording, Result, Role, Step, Stored, Task,
};

/// When the steps of an open episode are durable. The completed episode always is, as soon as it is acknowledged.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StepDurability {
    /// Each step is committed before it is acknowledged. A crash loses none, and [`Memory::resume`] goes on from there.
    #[default]
    Each,
    /// Steps are acknowledged as [`Buffered`](Durability::Buffered) and committed together as soon as there are `steps` of
    /// them, in the call that brings the last, or `within` has passed since the first, whatever the agent does. A crash loses
    /// at most `steps - 1` steps of each open episode, all of them acknowledged within this span: longer only while the store
    /// fails, which the next call tells, by trying again, and [`Health::jobs`](crate::Health::jobs).
    ///
    /// See [`batched`](Self::batched) for the usual numbers.
    Batched {
        /// How many steps are committed together at most, 1 to 1,000.
        steps: usize,
        /// How long a step waits at most, from 1 millisecond to 1 hour.
        within: TimeDelta,
    },
    /// Steps are held in memory and acknowledged as [`Volatile`](Durability::Volatile) until the episode is complete. A crash
    /// loses the steps of open episodes.
    AtCompletion,
}

impl StepDurability {
    /// Batches of 50 steps or 5 seconds.
    pub const fn batched() -> Self {
        Self::Batched { steps: 50, within: TimeDelta::seconds(5) }
    }

    pub(super) fn validate(self) -> Result<()> {
        let Self::Batched { steps, within } = self else { return Ok(()) };
        if !(1..=1_000).contains(&steps) {
            return Err(Error::invalid("step_durability.steps", steps, "1..=1000"));
        }
        if !(TimeDelta::milliseconds(1)..=TimeDelta::hours(1)).contains(&within) {
            return Err(Error::invalid("step_durability.within", within, "1 millisecond..=1 hour"));
        }
        Ok(())
    }
}

/// A handle of an episode that has begun: takes steps, answers what comes next, and ends with an outcome.
///
/// As long as there is a handle, the engine holds the episode: it renews the lease, and others cannot have it. Dropping the
/// last one leaves the episode open, writes what is buffered, and lets the lease run out; [`Memory::resume`] takes it up again,
/// [`Memory::delete`] gives it up, and otherwise a [sweep](Memory::sweep) closes it.
#[derive(Debug)]
pub struct OpenEpisode {
    memory: Memory,
    live: Arc<Live>,
    opened: OpenedEpisode,
    steps: Vec<Step>,
    /// How many of the steps, the first ones, are in the store or buffered.
    kept: usize,
    /// The bytes of the episode without its receipt if it were interrupted now; one that grows too large could not be closed.
    encoded: usize,
    closed: bool,
    /// Episodes like this one, looked up once.
    similar: Option<Arc<[Neighbour]>>,
}

impl OpenEpisode {
    pub(super) fn new(memory: Memory, live: Arc<Live>, opened: OpenedEpisode, steps: Vec<Step>) -> Self {
        // A moment with a fraction of a second takes up to 10 bytes more than one without.
        let bare = OpenedEpisode { receipt: None, ..opened.clone() };
        let encoded = bare.into_interrupted(steps.clone()).encoded_len() + 10;
        Self { memory, live, opened, kept: steps.len(), steps, encoded, closed: false, similar: None }
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
    /// What it showed, or [withheld](crate::MemoryBuilder::hold_out), is added to the episode's [receipt](Self::receipt), and
    /// its outcome is attributed to it. The receipt is kept with the next write of this handle.
    ///
    /// # Errors
    /// As [`Memory::recall`]; [`Invalid`](ErrorKind::Invalid) if the episode had no room for the receipt.
    pub async fn recall(&self, k: usize) -> Result<Recollection> {
        let recalled = self.memory.recall(self.task(), k).await?;
        let (recalled, receipt) = self.memory.hold_out(self.id(), recalled);
        let mut held = self.live.held.lock().await;
        let mut receipts = held.opened.receipt.clone().unwrap_or_default();
        receipts.add(receipt);
        check_encoded_len(self.encoded + encoded_len(&receipts)).map_err(|error| error.in_operation("recall"))?;
        held.opened.receipt = Some(receipts);
        held.unsaved = true;
        Ok(recalled)
    }

    /// What this episode's recalls have shown or withheld so far; `None` before the first.
    pub async fn receipt(&self) -> Option<Receipt> {
        self.live.held.lock().await.opened.receipt.clone()
    }

    /// Says what became of a piece of advice that was shown. What is said last counts; it is kept with the next write of this
    /// handle, and enters the evidence with the episode.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it was not shown in this episode; [`EpisodeClosed`](ErrorKind::EpisodeClosed) if the
    /// episode is complete.
    pub async fn feedback(&mut self, advice: HeuristicId, feedback: Feedback) -> Result<()> {
        self.check_open().map_err(|error| error.in_operation("feedback"))?;
        let mut held = self.live.held.lock().await;
        match &mut held.opened.receipt {
            Some(receipt) if receipt.advice.get(&advice) == Some(&true) => {
                receipt.feedback.insert(advice, feedback);
                held.unsaved = true;
                Ok(())
            }
            _ => Err(Error::invalid("advice", advice, "advice that this episode was shown").in_operation("feedback")),
        }
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
    /// [`LeaseLost`](ErrorKind::LeaseLost) if another holder has taken the episode over, which says how many buffered steps
    /// were not written; [`NotFound`](ErrorKind::NotFound) if the episode was deleted; the store's errors, those of writing
    /// earlier, buffered steps too.
    pub async fn step(&mut self, step: Step) -> Result<Ack> {
        self.try_step(step).await.map_err(|error| error.in_operation("step"))
    }

    async fn try_step(&mut self, step: Step) -> Result<Ack> {
        self.check_open()?;
        self.memory.inner.limits.step(self.steps.len(), &step)?;
        // The comma between the steps, too.
        let encoded = self.encoded + encoded_len(&step) + 1;
        let receipt = encoded_len(&self.live.held.lock().await.opened.receipt);
        check_encoded_len(encoded + receipt)?;
        let durability = self.keep(&step).await?;
        if self.memory.inner.step_durability != StepDurability::AtCompletion {
            self.kept += 1;
        }
        self.encoded = encoded;
        self.steps.push(step);
        Ok(self.ack(durability))
    }

    /// Writes a step, buffers it, or leaves it to the handle.
    async fn keep(&self, step: &Step) -> Result<Durability> {
        let all = &self.memory.inner.live;
        let mut held = self.live.held.lock().await;
        if let Some(gone) = held.gone {
            return Err(all.why_gone(&self.live, gone).await?);
        }
        let batched = match self.memory.inner.step_durability {
            StepDurability::AtCompletion => return Ok(Durability::Volatile),
            StepDurability::Each => None,
            StepDurability::Batched { steps, within } => Some((steps, span(within))),
        };
        if self.kept < self.live.next(&held) {
            return self.keep_again(&mut held, step).await;
        }
        match batched.and_then(|(most, within)| self.live.buffer(&held, step, most, within)) {
            None => all.write(&self.live, &mut held, std::slice::from_ref(step), Put::Nothing).await,
            Some(first) => {
                if first {
                    self.memory.inner.jobs.wake_steps();
                }
                Ok(Durability::Buffered)
            }
        }
    }

    /// Takes a step at a place where there is one: from another handle of this engine, or from this one before.
    async fn keep_again(&self, held: &mut Held, step: &Step) -> Result<Durability> {
        let (inner, place) = (&self.memory.inner, self.kept);
        let buffered = self.live.buffered_at(held, place);
        if buffered.as_ref() == Some(step) {
            return Ok(Durability::Buffered);
        }
        let stored = inner.store.get_one(step_key(self.id(), place)).await?;
        if buffered.is_none() && live::step(stored).as_ref() == Some(step) {
            return Ok(inner.store.info().durability);
        }
        inner.live.catch_up(&self.live, held, &mut Vec::new()).await?;
        match held.gone {
            Some(gone) => Err(inner.live.why_gone(&self.live, gone).await?),
            None => Err(Error::new(ErrorKind::Conflict, format!("another handle has added step {place}"))),
        }
    }

    /// Makes all steps so far durable, now.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) if another holder has taken the episode over;
    /// [`Conflict`](ErrorKind::Conflict) if there is a step that this handle does not know;
    /// [`EpisodeClosed`](ErrorKind::EpisodeClosed) and [`NotFound`](ErrorKind::NotFound) if the episode has ended; the store's
    /// errors. The steps are then kept as they were, and written later.
    pub async fn flush(&mut self) -> Result<Ack> {
        self.settle(Put::Nothing).await.map_err(|error| error.in_operation("flush"))
    }

    /// Makes all steps so far durable, and with them a text from which an agent can go on: a plan, JSON, anything.
    ///
    /// It replaces the one before; whoever [resumes](Memory::resume) the episode finds it in [`state`](Self::state). It ends
    /// with the episode.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) above [`Limits::state_bytes`](crate::Limits::state_bytes); otherwise as
    /// [`flush`](Self::flush).
    pub async fn checkpoint(&mut self, state: impl Into<String>) -> Result<Ack> {
        let state = state.into();
        let limits = &self.memory.inner.limits;
        limits.state(&state).map_err(|error| error.in_operation("checkpoint"))?;
        let ack = self.settle(Put::State(&state)).await.map_err(|error| error.in_operation("checkpoint"))?;
        self.opened.state = Some(state);
        Ok(ack)
    }

    /// The text of the last [`checkpoint`](Self::checkpoint): of this handle, or the one that it was resumed with.
    pub fn state(&self) -> Option<&str> {
        self.opened.state.as_deref()
    }

    /// Makes all steps durable and gives the episode up, so that whoever wants can [resume](Memory::resume) it at once, in
    /// this process or another. It stays open until then: no sweep closes it. All handles of this engine have then lost it.
    ///
    /// After an error the handle is as before, and the episode can be handed over again.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn hand_over(&mut self) -> Result<EpisodeId> {
        match self.settle(Put::Release).await {
            // Of an earlier try whose answer was lost.
            Err(error) if error.kind() == ErrorKind::LeaseLost && self.is_free().await? => {}
            result => drop(result.map_err(|error| error.in_operation("hand_over"))?),
        }
        Ok(self.id())
    }

    /// Whether the episode is open, with all the steps of this handle, and nobody's.
    async fn is_free(&self) -> Result<bool> {
        let stored = self.memory.inner.store.get_one(Key::Open(self.id())).await?;
        let free = matches!(stored, Some(Stored { record: Record::Open(opened), .. }) if opened.lease.is_none());
        Ok(free && self.memory.stored_steps(self.id()).await? == self.steps)
    }

    /// Writes all steps that are not written yet, and the record.
    async fn settle(&mut self, put: Put<'_>) -> Result<Ack> {
        self.check_open()?;
        let mut held = self.live.held.lock().await;
        self.check_known(&held)?;
        let rest = &self.steps[self.kept..];
        let durability = self.memory.inner.live.write(&self.live, &mut held, rest, put).await?;
        drop(held);
        self.kept = self.steps.len();
        Ok(self.ack(durability))
    }

    fn ack(&self, durability: Durability) -> Ack {
        Ack { episode: self.id(), durability, degraded: None }
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
    /// written after all; [`LeaseLost`](ErrorKind::LeaseLost) if another holder has taken the episode over; the store's errors.
    pub async fn complete(&mut self, outcome: Outcome) -> Result<Ack> {
        self.try_complete(outcome).await.map_err(|error| error.in_operation("complete"))
    }

    async fn try_complete(&mut self, outcome: Outcome) -> Result<Ack> {
        self.check_open()?;
        self.memory.inner.limits.outcome(&outcome)?;
        let completed_at = self.memory.inner.clock.now();
        let (vector, degraded) = self.memory.vector_of(Role::Document, &self.task().text).await;
        let mut held = self.live.held.lock().await;
        self.check_known(&held)?;
        let episode = held.opened.clone().into_episode(self.steps.clone(), outcome, completed_at);
        episode.check_encoded_size()?;
        let logged = LoggedEpisode { episode: Arc::new(episode), vector };
        let ack = match self.append(&mut held, logged.clone()).await {
            Ok(commit) => Ack { degraded, ..self.ack(commit.durability) },
            Err(error) => match held.gone {
                Some(Gone::Ended) => self.ended_as(&logged.episode, error).await?,
                _ => return Err(error),
            },
        };
        self.live.ended(&mut held);
        drop(held);
        self.memory.inner.live.forget(&self.live);
        self.closed = true;
        Ok(ack)
    }

    /// Moves the episode into the log. Buffered steps need not be written any more.
    async fn append(&self, held: &mut Held, logged: LoggedEpisode) -> Result<Commit> {
        let all = &self.memory.inner.live;
        loop {
            if let Some(gone) = held.gone {
                return Err(all.why_gone(&self.live, gone).await?);
            }
            let batch = without_open(self.id(), held.version, held.stored);
            match self.memory.append(logged.clone(), batch).await {
                Err(error) if error.is_conflict() => {
                    // Steps of an earlier write whose answer was lost may be in the store.
                    let mut rest = self.steps.get(held.stored..).unwrap_or_default().to_vec();
                    if !all.catch_up(&self.live, held, &mut rest).await? {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    /// The answer if the episode has ended in just this way: by an earlier try whose answer was lost, or by another handle.
    async fn ended_as(&self, intended: &Episode, error: Error) -> Result<Ack> {
        let intended = Recording { completed_at: None, ..Recording::from(intended) };
        match self.memory.inner.store.get_episode(self.id()).await? {
            Some(logged) if self.memory.recorded_as(&intended, &logged.episode) => Ok(self.memory.ack_again(&logged)),
            _ => Err(error),
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.closed { Err(closed(self.id())) } else { Ok(()) }
    }

    /// Checks that no other handle of this engine has added a step.
    fn check_known(&self, held: &Held) -> Result<()> {
        let there = self.live.next(held);
        if held.gone.is_some() || there == self.kept {
            return Ok(());
        }
        let what = format!("there are {there} steps, of which this handle knows {}", self.kept);
        Err(Error::new(ErrorKind::Conflict, what))
    }
}

impl Drop for OpenEpisode {
    fn drop(&mut self) {
        self.memory.inner.live.detach(&self.live);
    }
}
