//! Tasks that write at the same time, and what each of them saw.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use memory_benches::quantile;
use memory_core::{Ack, Memory, Recording};
use serde::Serialize;
use tokio::sync::Barrier;

use crate::AnyError;

/// What is called for an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `Memory::record`, once it is finished.
    Record,
    /// `Memory::start`, `OpenEpisode::step` for each step, and `OpenEpisode::complete`.
    Lifecycle,
}

/// What is called, in the order of [`Waits`].
const CALLS: [&str; 4] = ["record", "start", "step", "complete"];
const RECORD: usize = 0;
const START: usize = 1;
const STEP: usize = 2;
const COMPLETE: usize = 3;

/// How long each call of a kind took.
type Waits = [Vec<Duration>; CALLS.len()];

/// What one writer saw.
#[derive(Debug, Default)]
struct Seen {
    /// The first call and the acknowledgement of each episode.
    episodes: Vec<(Instant, Instant)>,
    waits: Waits,
}

/// What all writers saw.
#[derive(Debug, Default)]
pub(crate) struct Written {
    seen: Vec<Seen>,
}

/// How long the calls of one kind took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Wait {
    call: &'static str,
    pub(crate) calls: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

impl Wait {
    fn new(call: &'static str, times: &mut [Duration]) -> Self {
        let mut us = |share| 1e6 * quantile(times, share).as_secs_f64();
        Self { call, p50_us: us(500), p99_us: us(990), max_us: us(1_000), calls: times.len() }
    }
}

/// Lets so many tasks write these episodes, each its share, one after the other.
pub(crate) async fn write(
    memory: &Memory,
    recordings: Vec<Recording>,
    writers: usize,
    way: Way,
    bar: &ProgressBar,
) -> Result<Written, AnyError> {
    let mut shares: Vec<Vec<Recording>> = vec![Vec::new(); writers];
    for (place, recording) in recordings.into_iter().enumerate() {
        shares[place % writers].push(recording);
    }
    let ready = Arc::new(Barrier::new(writers));
    let tasks = shares.into_iter().map(|share| {
        let (memory, ready, bar) = (memory.clone(), Arc::clone(&ready), bar.clone());
        tokio::spawn(async move {
            ready.wait().await;
            write_share(&memory, share, way, &bar).await
        })
    });
    let mut written = Written::default();
    for task in tasks.collect::<Vec<_>>() {
        written.seen.push(task.await??);
    }
    Ok(written)
}

async fn write_share(
    memory: &Memory,
    share: Vec<Recording>,
    way: Way,
    bar: &ProgressBar,
) -> Result<Seen, memory_core::Error> {
    let mut seen = Seen::default();
    for recording in share {
        let start = Instant::now();
        let ack = match way {
            Way::Record => seen.waiting(RECORD, memory.record(recording)).await?,
            Way::Lifecycle => seen.live(memory, recording).await?,
        };
        seen.episodes.push((start, Instant::now()));
        check(ack)?;
        bar.inc(1);
    }
    Ok(seen)
}

/// An episode without its vector would be less work than was asked for.
fn check(ack: Ack) -> Result<(), memory_core::Error> {
    match ack.degraded {
        Some(why) => Err(memory_core::Error::new(memory_core::ErrorKind::Unavailable, why)),
        None => Ok(()),
    }
}

impl Seen {
    async fn live(&mut self, memory: &Memory, recording: Recording) -> memory_core::Result<Ack> {
        let Recording { task, steps, outcome, .. } = recording;
        let mut episode = self.waiting(START, memory.start(task)).await?;
        for step in steps {
            self.waiting(STEP, episode.step(step)).await?;
        }
        self.waiting(COMPLETE, episode.complete(outcome)).await
    }

    async fn waiting<T>(&mut self, call: usize, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let done = work.await;
        self.waits[call].push(start.elapsed());
        done
    }
}

impl Written {
    /// From the first call to the last acknowledgement.
    pub(crate) fn span(&self) -> Duration {
        let episodes = || self.seen.iter().flat_map(|seen| &seen.episodes);
        let (first, last) = (episodes().map(|(start, _)| *start).min(), episodes().map(|(_, end)| *end).max());
        first.zip(last).map(|(first, last)| last - first).unwrap_or_default()
    }

    /// The acknowledgements of the slowest writer, divided by those of the fastest, while all of them were writing; unknown if
    /// there were none then.
    pub(crate) fn slowest_to_fastest(&self) -> Option<f64> {
        let from = self.seen.iter().map(|seen| seen.episodes.first().map(|(start, _)| *start)).max()??;
        let until = self.seen.iter().map(|seen| seen.episodes.last().map(|(_, end)| *end)).min()??;
        let within = |seen: &Seen| seen.episodes.iter().filter(|(_, end)| (from..=until).contains(end)).count();
        let (slowest, fastest) = (self.seen.iter().map(within).min()?, self.seen.iter().map(within).max()?);
        (fastest > 0).then(|| slowest as f64 / fastest as f64)
    }

    /// How long an episode took, from its first call to its acknowledgement.
    pub(crate) fn episodes(&self) -> Wait {
        let times = self.seen.iter().flat_map(|seen| &seen.episodes).map(|(start, end)| *end - *start);
        Wait::new("episode", &mut times.collect::<Vec<_>>())
    }

    /// How long the calls took, of each kind that was called.
    pub(crate) fn calls(&self) -> Vec<Wait> {
        let called = CALLS.iter().enumerate().map(|(call, name)| {
            let times = self.seen.iter().flat_map(|seen| seen.waits[call].iter().copied());
            Wait::new(name, &mut times.collect::<Vec<_>>())
        });
        called.filter(|wait| wait.calls > 0).collect()
    }

    /// With what was written later.
    pub(crate) fn add(&mut self, later: Self) {
        self.seen.extend(later.seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writers by the milliseconds at which their episodes began and were acknowledged.
    fn written(seen: &[&[(u64, u64)]]) -> Written {
        let start = Instant::now();
        let at = |ms: &u64| start + Duration::from_millis(*ms);
        let seen = seen.iter().map(|episodes| Seen {
            episodes: episodes.iter().map(|(from, to)| (at(from), at(to))).collect(),
            ..Seen::default()
        });
        Written { seen: seen.collect() }
    }

    #[test]
    fn writers_are_compared_while_all_write() {
        // The second begins late and goes on alone: from 10 to 40 ms, four acknowledgements face two.
        let fast: &[(u64, u64)] = &[(0, 5), (5, 10), (10, 20), (20, 30), (30, 40)];
        let slow: &[(u64, u64)] = &[(10, 25), (25, 40), (40, 55), (55, 70)];
        let two = written(&[fast, slow]);
        assert_eq!(two.slowest_to_fastest(), Some(0.5));
        assert_eq!(two.span(), Duration::from_millis(70));
        assert_eq!(written(&[fast]).slowest_to_fastest(), Some(1.0));
        assert_eq!(written(&[fast, &[]]).slowest_to_fastest(), None, "one had nothing to do");
        assert_eq!(written(&[&[(0, 5)], &[(10, 20)]]).slowest_to_fastest(), None, "never at the same time");
    }

    #[test]
    fn all_episodes_count() {
        let wait = written(&[&[(0, 5), (5, 10)], &[(0, 30)]]).episodes();
        let ms = [wait.p50_us, wait.p99_us, wait.max_us].map(|us| (us / 1e3).round());
        assert_eq!((wait.calls, ms), (3, [5.0, 30.0, 30.0]));
    }
}
