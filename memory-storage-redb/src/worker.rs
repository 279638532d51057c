//! The threads that call redb, whose calls block: one writes, some read.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use memory_core::{Commit, Error, ErrorKind, Result};
use tokio::sync::{oneshot, watch};

use crate::RedbConfig;
use crate::error::{closed, from_io, guarded};
use crate::searching::Searching;
use crate::write::Prepared;
use crate::writer::{Write, Writer};

type Answer<T> = oneshot::Sender<Result<T>>;
type Read = Box<dyn FnOnce(&Searching) + Send>;

/// So many batches that wait at once share a transaction, and so its sync.
const MOST_TOGETHER: usize = 128;

/// So many batches wait at most, and as many reads; who comes then is refused.
const MOST_WAITING: usize = 10_000;

/// The threads of an open store. They end when this is dropped or [closed](Self::close), after what is queued.
#[derive(Debug)]
pub(crate) struct Workers {
    path: Arc<Path>,
    queues: Mutex<Option<Queues>>,
    /// The writer, which ends last, holds the other end until the file is closed.
    ended: watch::Sender<()>,
}

#[derive(Clone, Debug)]
struct Queues {
    writes: mpsc::SyncSender<Write>,
    reads: mpsc::SyncSender<Read>,
}

impl Workers {
    /// Opens the file and starts the threads.
    pub(crate) async fn start(path: Arc<Path>, config: RedbConfig) -> Result<Self> {
        let (ended, running) = watch::channel(());
        let (opened, opening) = oneshot::channel();
        let (writes, write_jobs) = mpsc::sync_channel(MOST_WAITING);
        let (reads, read_jobs) = mpsc::sync_channel(MOST_WAITING);
        let own = Arc::clone(&path);
        spawn(&path, "knowhow-redb-writer", move || {
            run_writer(own, config, &write_jobs, read_jobs, opened);
            drop(running);
        })?;
        opening.await.map_err(|_| closed())??;
        Ok(Self { path, queues: Mutex::new(Some(Queues { writes, reads })), ended })
    }

    /// Writes a batch.
    pub(crate) async fn write(&self, batch: Prepared) -> Result<Commit> {
        let (answer, answered) = oneshot::channel();
        enqueue(&self.queues()?.writes, Write { batch, answer })?;
        answered.await.map_err(|_| closed())?
    }

    /// Runs a read.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Searching) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let path = Arc::clone(&self.path);
        let job = move |searching: &Searching| answer_read(&path, searching, answer, read);
        enqueue::<Read>(&self.queues()?.reads, Box::new(job))?;
        answered.await.map_err(|_| closed())?
    }

    /// Takes no more requests, lets the threads finish what is queued, and waits for their end.
    pub(crate) async fn close(&self) {
        drop(self.lock().take());
        self.ended.closed().await;
    }

    fn queues(&self) -> Result<Queues> {
        self.lock().clone().ok_or_else(closed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Queues>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn enqueue<T>(queue: &mpsc::SyncSender<T>, job: T) -> Result<()> {
    queue.try_send(job).map_err(|refused| match refused {
        mpsc::TrySendError::Full(_) => {
            Error::new(ErrorKind::Overloaded, format!("{MOST_WAITING} calls wait already, as many as may"))
        }
        mpsc::TrySendError::Disconnected(_) => closed(),
    })
}

/// Runs what is done to a file that no store has open.
pub(crate) async fn once<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    let own = path.to_owned();
    spawn(path, "knowhow-redb-once", move || drop(answer.send(guarded(&own, work))))?;
    answered.await.map_err(|_| closed())?
}

fn run_writer(
    path: Arc<Path>,
    config: RedbConfig,
    jobs: &mpsc::Receiver<Write>,
    reads: mpsc::Receiver<Read>,
    opened: Answer<()>,
) {
    let (mut writer, readers) = match start(path, config, reads) {
        Ok(started) => started,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    if opened.send(Ok(())).is_ok() {
        while let Ok(first) = jobs.recv() {
            let others = jobs.try_iter().take(MOST_TOGETHER - 1);
            writer.run(std::iter::once(first).chain(others).collect());
        }
    }
    for reader in readers {
        let _ = reader.join();
    }
    writer.finish();
}

/// Opens the file, then starts as many readers as there should be.
fn start(path: Arc<Path>, config: RedbConfig, jobs: mpsc::Receiver<Read>) -> Result<(Writer, Vec<JoinHandle<()>>)> {
    let writer = Writer::open(Arc::clone(&path), config)?;
    let jobs = Arc::new(Mutex::new(jobs));
    let readers = (0..config.readers).map(|_| {
        let (jobs, searching) = (Arc::clone(&jobs), Arc::clone(writer.searching()));
        spawn(&path, "knowhow-redb-reader", move || run_reader(&jobs, &searching))
    });
    let readers = readers.collect::<Result<_>>()?;
    Ok((writer, readers))
}

fn run_reader(jobs: &Mutex<mpsc::Receiver<Read>>, searching: &Searching) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(searching),
            Err(mpsc::RecvError) => return,
        }
    }
}

/// Nobody needs the answer to a read whose future was dropped.
fn answer_read<T>(path: &Path, searching: &Searching, answer: Answer<T>, read: impl FnOnce(&Searching) -> Result<T>) {
    if !answer.is_closed() {
        let _ = answer.send(guarded(path, || read(searching)));
    }
}

fn spawn(path: &Path, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| from_io(path, error))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn more_calls_than_may_wait_are_refused_and_the_others_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("file").into();
        let workers = Arc::new(Workers::start(path, RedbConfig::default().with_readers(1)).await.unwrap());
        let (started, starting) = oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let blocked = Arc::clone(&workers);
        let first = tokio::spawn(async move {
            let work = move |_: &Searching| {
                started.send(()).unwrap();
                let _ = released.recv();
                Ok(())
            };
            blocked.read(work).await
        });
        starting.await.unwrap();
        let counters = || Arc::new(AtomicUsize::new(0));
        let (asked, refused) = (counters(), counters());
        let others: Vec<_> = (0..MOST_WAITING + 3)
            .map(|_| {
                let (workers, asked, refused) = (Arc::clone(&workers), Arc::clone(&asked), Arc::clone(&refused));
                tokio::spawn(async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = workers.read(|_| Ok(())).await {
                        assert!(error.kind() == ErrorKind::Overloaded && error.is_temporary(), "{error}");
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        while asked.load(Ordering::Relaxed) < others.len() {
            tokio::task::yield_now().await;
        }
        drop(release);
        first.await.unwrap().unwrap();
        for one in others {
            one.await.unwrap();
        }
        assert_eq!(refused.load(Ordering::Relaxed), 3);
        workers.read(|_| Ok(())).await.unwrap();
        workers.close().await;
    }
}
