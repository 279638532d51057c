//! A memory that holds many episodes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use memory_core::{Clock, EpisodeId, Error, ErrorKind, Memory, MemoryStore, Recording, Result, Task};
use tokio::runtime::Runtime;

use crate::{CpuTime, Workload};

/// A memory that has learned a [`Workload`], and the runtime it runs on: one thread, and those of the store.
#[derive(Debug)]
pub struct Experienced {
    runtime: Runtime,
    memory: Memory,
}

/// The clock of a benchmark stands at the end of the workload.
#[derive(Debug)]
struct Stopped(DateTime<Utc>);

impl Clock for Stopped {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

impl Experienced {
    /// Records these episodes, projecting them in the batches that the engine makes by itself, and the last of them here.
    ///
    /// # Errors
    /// The store's.
    pub fn new(
        store: impl AsyncFnOnce() -> Box<dyn MemoryStore>,
        episodes: impl Iterator<Item = Recording>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::new(ErrorKind::Io, "there is no runtime").with_source(error))?;
        let memory = runtime.block_on(async {
            let clock = Stopped(Workload::end());
            let memory = Memory::builder().store(store().await).clock(clock).seed(1).build().await?;
            for episode in episodes {
                memory.record(episode).await?;
            }
            memory.project().await?;
            Ok::<_, Error>(memory)
        })?;
        Ok(Self { runtime, memory })
    }

    /// The CPU time that so many turns take: each records the next of the episodes, around and around, and folds it into what
    /// is known. What a turn has learned is deleted again, unmeasured, so that all turns find the same.
    ///
    /// # Errors
    /// The store's.
    pub fn learning(&self, episodes: &[Recording], turns: u64) -> Result<Duration> {
        let turn = async |episode| {
            let start = CpuTime::now();
            let ack = self.memory.record(episode).await?;
            self.memory.project().await?;
            Ok((CpuTime::now() - start, ack.episode))
        };
        self.turns(episodes, turns, turn)
    }

    /// The CPU time that deriving heuristics takes so many times, each after one more episode, which is deleted again.
    ///
    /// # Errors
    /// The store's.
    pub fn deriving(&self, episodes: &[Recording], turns: u64) -> Result<Duration> {
        let turn = async |episode| {
            let ack = self.memory.record(episode).await?;
            self.memory.project().await?;
            let start = CpuTime::now();
            self.memory.heuristics().await?;
            Ok((CpuTime::now() - start, ack.episode))
        };
        self.turns(episodes, turns, turn)
    }

    /// The CPU time that reading an episode takes so many times, each after it was recorded, which is undone again.
    ///
    /// # Errors
    /// The store's.
    pub fn reading(&self, episodes: &[Recording], turns: u64) -> Result<Duration> {
        let turn = async |episode| {
            let ack = self.memory.record(episode).await?;
            self.memory.project().await?;
            let start = CpuTime::now();
            drop(black_box(self.memory.episode(ack.episode).await?));
            Ok((CpuTime::now() - start, ack.episode))
        };
        self.turns(episodes, turns, turn)
    }

    /// The time that each of these tasks waits for `Memory::recall` of so many, when all have been recalled once before.
    ///
    /// # Errors
    /// The store's.
    pub fn recalling(&self, tasks: &[Task], k: usize) -> Result<Vec<Duration>> {
        self.runtime.block_on(async {
            let mut times = Vec::with_capacity(tasks.len());
            for round in 0..2 {
                for task in tasks {
                    let start = Instant::now();
                    let recalled = self.memory.recall(task, k).await?;
                    let time = start.elapsed();
                    drop(black_box(recalled));
                    times.extend((round > 0).then_some(time));
                }
            }
            Ok(times)
        })
    }

    fn turns(
        &self,
        episodes: &[Recording],
        turns: u64,
        turn: impl AsyncFn(Recording) -> Result<(Duration, EpisodeId)>,
    ) -> Result<Duration> {
        self.runtime.block_on(async {
            let mut spent = Duration::ZERO;
            for (episode, _) in episodes.iter().cycle().zip(0..turns) {
                let (time, id) = turn(episode.clone()).await?;
                spent += time;
                self.memory.delete(id).await?;
            }
            Ok(spent)
        })
    }
}
