//! The threads that run libSQL, whose local calls block: one writes, some read, each with a connection of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memory_core::{Commit, ErrorKind, Result};
use tokio::sync::{oneshot, watch};

use crate::TursoConfig;
use crate::error::{closed, from_io, panicked};
use crate::schema::{open_reader, open_writer};
use crate::session::Session;
use crate::write::{Encoded, Writer};

type Answer<T> = oneshot::Sender<Result<T>>;
type Read = Box<dyn FnOnce(&mut Session) + Send>;

/// A batch, and who waits for it.
struct Write {
    batch: Encoded,
    answer: Answer<Commit>,
}

/// The threads of an open store. They end when this is dropped or [closed](Self::close), after what is queued.
#[derive(Debug)]
pub(crate) struct Workers {
    queues: Mutex<Option<Queues>>,
    /// The writer, which ends last, holds the other end until its connection is closed.
    ended: watch::Sender<()>,
}

#[derive(Clone, Debug)]
struct Queues {
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
}

impl Workers {
    /// Opens the database and starts the threads.
    pub(crate) async fn start(path: Arc<Path>, config: TursoConfig) -> Result<Self> {
        let (ended, running) = watch::channel(());
        let (opened, opening) = oneshot::channel();
        let (writes, write_jobs) = mpsc::channel();
        let (reads, read_jobs) = mpsc::channel();
        let database = Database { path: Arc::clone(&path), config };
        spawn(&path, "knowhow-turso-writer", move || {
            run_writer(&database, &write_jobs, read_jobs, opened);
            drop(running);
        })?;
        opening.await.map_err(|_| closed())??;
        Ok(Self { queues: Mutex::new(Some(Queues { writes, reads })), ended })
    }

    /// Writes a batch.
    pub(crate) async fn write(&self, batch: Encoded) -> Result<Commit> {
        let (answer, answered) = oneshot::channel();
        self.queues()?.writes.send(Write { batch, answer }).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Runs a read.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = move |session: &mut Session| answer_read(session, answer, read);
        self.queues()?.reads.send(Box::new(job)).map_err(|_| closed())?;
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

/// What a thread needs to open a connection.
#[derive(Clone, Debug)]
struct Database {
    path: Arc<Path>,
    config: TursoConfig,
}

impl Database {
    fn writer(&self) -> Result<Writer> {
        let session = self.patiently(|| open_writer(&self.path, self.config.busy_timeout))?;
        Writer::new(session, self.config.max_bytes)
    }

    fn reader(&self) -> Result<Session> {
        self.patiently(|| open_reader(&self.path, self.config.busy_timeout))
    }

    /// Opens again as long as others are opening or closing the file, of which SQLite's own timeout does not know all.
    fn patiently<T>(&self, open: impl Fn() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            match open() {
                Err(error) if error.kind() == ErrorKind::Busy && start.elapsed() < self.config.busy_timeout => {
                    thread::sleep(Duration::from_millis(5));
                }
                done => return done,
            }
        }
    }
}

fn run_writer(database: &Database, jobs: &mpsc::Receiver<Write>, reads: mpsc::Receiver<Read>, opened: Answer<()>) {
    let (mut writer, readers) = match start(database, reads) {
        Ok(started) => started,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    if opened.send(Ok(())).is_err() {
        return;
    }
    // One job at a time is one transaction for each batch.
    while let Ok(Write { batch, answer }) = jobs.recv() {
        let done = catch_unwind(AssertUnwindSafe(|| writer.commit(batch)));
        let done = done.unwrap_or_else(|payload| {
            writer.recover();
            Err(panicked(&*payload))
        });
        let _ = answer.send(done);
    }
    for reader in readers {
        let _ = reader.join();
    }
    writer.finish();
}

/// Opens the writer, then starts as many readers as there should be and waits until all are open.
fn start(database: &Database, jobs: mpsc::Receiver<Read>) -> Result<(Writer, Vec<JoinHandle<()>>)> {
    let writer = database.writer()?;
    let jobs = Arc::new(Mutex::new(jobs));
    let mut readers = Vec::with_capacity(database.config.readers);
    for _ in 0..database.config.readers {
        let (opened, opening) = mpsc::channel();
        let (database, jobs) = (database.clone(), Arc::clone(&jobs));
        let path = Arc::clone(&database.path);
        readers.push(spawn(&path, "knowhow-turso-reader", move || run_reader(&database, &jobs, &opened))?);
        opening.recv().unwrap_or_else(|_| Err(closed()))?;
    }
    Ok((writer, readers))
}

fn run_reader(database: &Database, jobs: &Mutex<mpsc::Receiver<Read>>, opened: &mpsc::Sender<Result<()>>) {
    let mut session = match database.reader() {
        Ok(session) => session,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    let _ = opened.send(Ok(()));
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(&mut session),
            Err(mpsc::RecvError) => return,
        }
    }
}

/// Nobody needs the answer to a read whose future was dropped.
fn answer_read<T>(session: &mut Session, answer: Answer<T>, read: impl FnOnce(&mut Session) -> Result<T>) {
    if answer.is_closed() {
        return;
    }
    let done = catch_unwind(AssertUnwindSafe(|| read(&mut *session)));
    let done = done.unwrap_or_else(|payload| {
        session.recover();
        Err(panicked(&*payload))
    });
    let _ = answer.send(done);
}

fn spawn(path: &Path, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| from_io(path, error))
}

#[cfg(test)]
mod tests {
    use memory_core::Batch;

    use super::*;
    use crate::read::health;

    #[tokio::test]
    async fn a_request_that_panics_ends_alone() {
        let folder = tempfile::tempdir().unwrap();
        let config = TursoConfig::default().with_readers(1);
        let workers = Workers::start(folder.path().join("memory.db").into(), config).await.unwrap();
        let error = workers
            .read(|session| {
                session.transaction(crate::session::BEGIN_READ, |session| -> Result<()> {
                    let _rows = session.query(crate::session::Sql("", "SELECT 1"), vec![])?;
                    panic!("as if by accident")
                })
            })
            .await
            .unwrap_err();
        assert!(error.to_string().contains("the request panicked: as if by accident"), "{error}");
        assert_eq!(workers.read(health).await.unwrap().version.0, 0);
        workers.write(Encoded::new(&Batch::new()).unwrap()).await.unwrap();
        workers.close().await;
    }
}
