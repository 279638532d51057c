//! Open episodes that nobody works on any more.

use super::{Memory, without_open};
use crate::{LoggedEpisode, MemoryStoreExt, OpenedEpisode, Record, RecordKind, Result, Role, Scan, Version};

impl Memory {
    /// Closes the open episodes, of all scopes, whose lease has run out: their process died, or gave them up without a word.
    /// Returns how many that were. It happens by itself, once in the time of a lease; this waits for it.
    ///
    /// An episode that has steps enters the log as [`Interrupted`](crate::Verdict::Interrupted), completed at the moment
    /// its lease ran out, and is learned from. One without steps is deleted: nothing was tried, so that there is nothing to
    /// learn, and it may be no more than a [`start`](Self::start) whose answer was lost and that was made again. One that was
    /// [handed over](crate::OpenEpisode::hand_over) has no lease and stays open until it is resumed or deleted.
    ///
    /// Of several processes that sweep at the same time, one closes an episode, and counts it. Leases are compared with this
    /// engine's clock: the clocks of the processes that share a store must agree to well within the time of a lease.
    ///
    /// # Errors
    /// The store's errors. Those that could be closed are closed all the same.
    pub async fn sweep(&self) -> Result<u64> {
        let result = self.close_orphans().await.map_err(|error| error.in_operation("sweep"));
        self.inner.jobs.sweep.ran(self.inner.clock.read(), &result);
        result
    }

    pub(super) async fn close_orphans(&self) -> Result<u64> {
        let (mut closed, mut result) = (0, Ok(()));
        for (version, opened) in self.orphans().await? {
            match self.close_orphan(version, opened).await {
                Ok(()) => closed += 1,
                // Someone else closed it, or took it up again.
                Err(error) if error.is_conflict() => {}
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.map(|()| closed)
    }

    /// The open episodes of all scopes that nobody works on any more.
    pub(super) async fn orphans(&self) -> Result<Vec<(Version, OpenedEpisode)>> {
        let stored = self.inner.store.scan_all(Scan::new(RecordKind::Open)).await?;
        let orphans = stored.into_iter().filter_map(|stored| match stored.record {
            Record::Open(opened) if self.inner.live.is_orphan(&opened) => Some((stored.version, opened)),
            _ => None,
        });
        Ok(orphans.collect())
    }

    async fn close_orphan(&self, version: Version, opened: OpenedEpisode) -> Result<()> {
        let (id, steps) = (opened.id, self.stored_steps(opened.id).await?);
        let batch = without_open(id, version, steps.len());
        if steps.is_empty() {
            return self.inner.store.commit(&batch).await.map(|_| ());
        }
        let episode = opened.into_interrupted(steps);
        let (vector, _) = self.vector_of(Role::Document, &episode.task.text).await;
        self.append(LoggedEpisode { episode: episode.into(), vector }, batch).await.map(|_| ())
    }
}
