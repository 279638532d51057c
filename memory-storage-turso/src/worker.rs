//! The threads that run libSQL, whose local calls block: one writes, some read, one looks after what follows the log. Each has a
//! connection of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[cfg(feature = "replica")]
use memory_core::Version;
use memory_core::{Commit, Error, ErrorKind, Result};
use tokio::sync::{oneshot, watch};

use crate::encryption::DatabaseFile;
use crate::error::{closed, from_io, panicked};
use crate::learned::Deltas;
#[cfg(feature = "replica")]
use crate::read::progress;
#[cfg(feature = "remote")]
use crate::remote::server::Server;
#[cfg(feature = "replica")]
use crate::replica::Replica;
#[cfg(feature = "remote")]
use crate::schema::open_server;
use crate::schema::{open_reader, open_writer};
use crate::session::{BEGIN_READ, KnownSpace, Session};
use crate::upkeep::{self, catch_up};
use crate::write::{Encoded, Writer};
use crate::{TursoConfig, TursoStats, indexing};

type Answer<T> = oneshot::Sender<Result<T>>;
type Read = Box<dyn FnOnce(&mut Reader) + Send>;

/// Batches that share a transaction at most, and about as many bytes.
const MOST_BATCHES: usize = 256;
const MOST_BYTES: usize = 8 << 20;
/// How long the writer waits for those whom it has just answered, to come again: a share of the time that the last transaction
/// took, within these bounds.
const LINGER: [Duration; 2] = [Duration::from_micros(150), Duration::from_millis(1)];
const LINGER_SHARE: u32 = 8;

/// What the writer is asked to do.
pub(crate) enum Job {
    Batch(Write),
    Run(Box<dyn FnOnce(&mut Writer) + Send>),
}

impl Job {
    /// Something to do, and whom to tell what came of it.
    fn run<T>(
        work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
        tell: impl FnOnce(Result<T>) + Send + 'static,
    ) -> Self {
        Self::Run(Box::new(move |writer: &mut Writer| {
            let done = catch_unwind(AssertUnwindSafe(|| work(&mut *writer)));
            tell(done.unwrap_or_else(|payload| {
                writer.recover();
                Err(panicked(&*payload))
            }));
        }))
    }
}

/// A batch, and who waits for it.
pub(crate) struct Write {
    batch: Encoded,
    answer: Answer<Commit>,
    permit: Permit,
}

/// The threads of an open store. They end when this is dropped or [closed](Self::close), after what is queued.
#[derive(Debug)]
pub(crate) struct Workers {
    place: Place,
    shared: Arc<Shared>,
    /// The writer, which ends last, holds the other end until its connection is closed.
    ended: watch::Sender<()>,
}

/// What the threads and the callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    queues: Mutex<Option<Queues>>,
    pub(crate) counters: Arc<Counters>,
}

#[derive(Clone, Debug)]
struct Queues {
    writes: mpsc::Sender<Job>,
    reads: mpsc::Sender<Read>,
    /// Wakes the upkeep.
    wake: mpsc::SyncSender<()>,
}

/// What is counted while the store is open.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) transactions: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) index_steps: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) upkeep_failures: AtomicU64,
    writes_waiting: AtomicUsize,
    bytes_waiting: AtomicUsize,
    reads_waiting: AtomicUsize,
    connections: AtomicUsize,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A place among those that wait; given back when it is dropped.
struct Permit {
    counters: Arc<Counters>,
    /// `None` for a read.
    bytes: Option<usize>,
}

impl Permit {
    fn take(counters: &Arc<Counters>, config: &TursoConfig, bytes: Option<usize>) -> Result<Self> {
        let (waiting, what) = match bytes {
            Some(_) => (&counters.writes_waiting, "writes"),
            None => (&counters.reads_waiting, "reads"),
        };
        let others = waiting.fetch_add(1, Ordering::Relaxed);
        let of_others = counters.bytes_waiting.fetch_add(bytes.unwrap_or_default(), Ordering::Relaxed);
        let permit = Self { counters: Arc::clone(counters), bytes };
        if others >= config.max_waiting {
            Counters::count(&counters.refused);
            let message = format!("{others} {what} wait already, as many as may (max_waiting)");
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        // One that is alone is taken however large it is.
        if let Some(own) = bytes
            && of_others > 0
            && of_others + own > config.max_waiting_bytes
        {
            Counters::count(&counters.refused);
            let most = config.max_waiting_bytes;
            let message = format!("writes of {of_others} bytes wait already, and {most} may (max_waiting_bytes)");
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        Ok(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let waiting = if self.bytes.is_some() { &self.counters.writes_waiting } else { &self.counters.reads_waiting };
        waiting.fetch_sub(1, Ordering::Relaxed);
        self.counters.bytes_waiting.fetch_sub(self.bytes.unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Workers {
    /// Opens the database and starts the threads.
    pub(crate) async fn start(place: Place, config: TursoConfig) -> Result<Self> {
        let (ended, running) = watch::channel(());
        let (opened, opening) = oneshot::channel();
        let (writes, write_jobs) = mpsc::channel();
        let (reads, read_jobs) = mpsc::channel();
        let (wake, woken) = mpsc::sync_channel(1);
        let queues = Queues { writes, reads, wake };
        let shared = Arc::new(Shared { queues: Mutex::new(Some(queues)), counters: Arc::default() });
        let (counters, deltas, space) = (Arc::clone(&shared.counters), Deltas::default(), KnownSpace::default());
        let path = Arc::clone(place.path());
        let database = Database { place: place.clone(), config, counters, deltas, space };
        let threads = Threads { database, shared: Arc::clone(&shared), reads: read_jobs, woken };
        spawn(&path, "knowhow-turso-writer", move || {
            threads.run(&write_jobs, opened);
            drop(running);
        })?;
        opening.await.map_err(|_| closed())??;
        Ok(Self { place, shared, ended })
    }

    /// Writes a batch.
    pub(crate) async fn write(&self, batch: Encoded, config: &TursoConfig) -> Result<Commit> {
        let (answer, answered) = oneshot::channel();
        let permit = Permit::take(&self.shared.counters, config, Some(batch.bytes()))?;
        // Who waits has no queue: a future that nobody polls any more would keep the threads from ending.
        self.shared.queues()?.writes.send(Job::Batch(Write { batch, answer, permit })).map_err(|_| closed())?;
        let done = answered.await.map_err(|_| closed())?;
        if let Ok(queues) = self.shared.queues() {
            // It is woken already if the channel is full, and gone if it is closed.
            let _ = queues.wake.try_send(());
        }
        done
    }

    /// Runs a read in a transaction of its own.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        config: &TursoConfig,
        read: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ask(config, |reader| reader.read(read)).await
    }

    /// Runs a read of what follows the log, in a transaction in which it has followed it to its end.
    pub(crate) async fn read_index<T: Send + 'static>(
        &self,
        config: &TursoConfig,
        announce: impl Fn(&mut Session) -> Result<()> + Send + 'static,
        read: impl Fn(&mut Session) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ask(config, |reader| reader.read_index(announce, read)).await
    }

    /// Runs something on a reader's connection, outside of transactions.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        config: &TursoConfig,
        work: impl FnOnce(&mut Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let permit = Permit::take(&self.shared.counters, config, None)?;
        let job = move |reader: &mut Reader| answer_read(reader, permit, answer, work);
        self.shared.queues()?.reads.send(Box::new(job)).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Runs something on the writer's connection, outside of transactions.
    pub(crate) async fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = Job::run(work, move |done| drop(answer.send(done)));
        self.shared.queues()?.writes.send(job).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Takes no more requests, lets the threads finish what is queued, and waits for their end.
    pub(crate) async fn close(&self) {
        drop(self.shared.lock().take());
        self.ended.closed().await;
        self.place.close();
        #[cfg(feature = "replica")]
        if let Place::Replica(replica) = &self.place {
            replica.ended().await;
        }
    }

    pub(crate) fn is_of_a_file(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    #[cfg(feature = "replica")]
    pub(crate) fn replica(&self) -> Option<&Replica> {
        match &self.place {
            Place::Replica(replica) => Some(replica),
            _ => None,
        }
    }

    pub(crate) fn stats(&self) -> TursoStats {
        let Counters { commits, transactions, reads, refused, index_steps, merges, upkeep_failures, .. } =
            &*self.shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let waiting = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) as u64;
        TursoStats {
            commits: load(commits),
            transactions: load(transactions),
            reads: load(reads),
            refused: load(refused),
            index_steps: load(index_steps),
            merges: load(merges),
            upkeep_failures: load(upkeep_failures),
            writes_waiting: waiting(&self.shared.counters.writes_waiting),
            reads_waiting: waiting(&self.shared.counters.reads_waiting),
            requests: self.place.requests(),
            connections: waiting(&self.shared.counters.connections),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.shared.lock().take());
        self.place.close();
    }
}

impl Shared {
    fn queues(&self) -> Result<Queues> {
        self.lock().clone().ok_or_else(closed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Queues>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the writer do something, and waits for it. Not for the writer itself.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        run_on(&self.queues()?.writes, work)
    }
}

/// Has the writer behind this queue do something, and waits for it.
fn run_on<T: Send + 'static>(
    writes: &mpsc::Sender<Job>,
    work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = mpsc::channel();
    writes.send(Job::run(work, move |done| drop(answer.send(done)))).map_err(|_| closed())?;
    answered.recv().map_err(|_| closed())?
}

/// Where the database is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    File(DatabaseFile),
    #[cfg(feature = "remote")]
    Server(Arc<Server>),
    /// The copy, and what stands for it in messages.
    #[cfg(feature = "replica")]
    Replica(Arc<Replica>),
}

impl Place {
    /// What stands for it in messages.
    pub(crate) fn path(&self) -> &Arc<Path> {
        match self {
            Self::File(file) => &file.path,
            #[cfg(feature = "remote")]
            Self::Server(server) => server.address(),
            #[cfg(feature = "replica")]
            Self::Replica(replica) => replica.path(),
        }
    }

    fn close(&self) {
        #[cfg(feature = "replica")]
        if let Self::Replica(replica) = self {
            replica.close();
        }
    }

    fn requests(&self) -> u64 {
        match self {
            Self::File(_) => 0,
            #[cfg(feature = "remote")]
            Self::Server(server) => server.requests(),
            #[cfg(feature = "replica")]
            Self::Replica(replica) => replica.server().requests(),
        }
    }

    fn open_writer(&self, busy_timeout: Duration) -> Result<Session> {
        match self {
            Self::File(file) => open_writer(file, busy_timeout),
            #[cfg(feature = "remote")]
            Self::Server(server) => open_server(server),
            #[cfg(feature = "replica")]
            Self::Replica(replica) => replica.open_writer(),
        }
    }

    fn open_reader(&self, busy_timeout: Duration) -> Result<Session> {
        match self {
            Self::File(file) => open_reader(file, busy_timeout),
            #[cfg(feature = "remote")]
            Self::Server(server) => Ok(Session::to_server(server)),
            #[cfg(feature = "replica")]
            Self::Replica(replica) => replica.open_reader(busy_timeout),
        }
    }

    /// A connection that reads what is to be looked after.
    fn open_for_upkeep(&self, busy_timeout: Duration) -> Result<Session> {
        match self {
            #[cfg(feature = "replica")]
            Self::Replica(replica) => Ok(Session::to_server(replica.server())),
            _ => self.open_reader(busy_timeout),
        }
    }

    /// Takes note of what came of commits, before their callers do.
    #[cfg_attr(not(feature = "replica"), expect(unused_variables, reason = "only a copy can be too old"))]
    fn told(&self, answers: &[Result<Commit>]) {
        #[cfg(feature = "replica")]
        if let Self::Replica(replica) = self {
            replica.told(answers);
        }
    }
}

/// What a thread needs to open a connection.
#[derive(Clone, Debug)]
struct Database {
    place: Place,
    config: TursoConfig,
    counters: Arc<Counters>,
    deltas: Deltas,
    space: KnownSpace,
}

impl Database {
    fn writer(&self) -> Result<Writer> {
        let mut session = self.connect(|| self.place.open_writer(self.config.busy_timeout))?;
        if !session.is_remote() {
            // It is known from now on. What may be wrong with it is told to whoever needs it.
            let _ = crate::read::space(&mut session);
        }
        Writer::new(session, self.config.max_bytes)
    }

    fn reader(&self) -> Result<Session> {
        self.connect(|| self.place.open_reader(self.config.busy_timeout))
    }

    fn for_upkeep(&self) -> Result<Session> {
        self.connect(|| self.place.open_for_upkeep(self.config.busy_timeout))
    }

    /// Opens again as long as others are opening or closing the file, of which SQLite's own timeout does not know all.
    fn connect(&self, open: impl Fn() -> Result<Session>) -> Result<Session> {
        let start = Instant::now();
        loop {
            match open() {
                Err(error) if error.kind() == ErrorKind::Busy && start.elapsed() < self.config.busy_timeout => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
                Ok(mut session) => {
                    session.share(&self.deltas, &self.space);
                    self.counters.connections.fetch_add(1, Ordering::Relaxed);
                    return Ok(session);
                }
            }
        }
    }
}

/// What the threads are made of.
struct Threads {
    database: Database,
    shared: Arc<Shared>,
    reads: mpsc::Receiver<Read>,
    woken: mpsc::Receiver<()>,
}

impl Threads {
    /// The writer's thread, which starts the others and ends after them.
    fn run(self, jobs: &mpsc::Receiver<Job>, opened: Answer<()>) {
        let Self { database, shared, reads, woken } = self;
        let (mut writer, others) = match start(&database, &shared, reads, woken) {
            Ok(started) => started,
            Err(error) => {
                let _ = opened.send(Err(error));
                return;
            }
        };
        drop(shared);
        if opened.send(Ok(())).is_err() {
            return;
        }
        let mut queue = Queue { jobs, next: None, expected: 1, linger: LINGER[0] };
        while let Some(work) = queue.next() {
            match work {
                Work::Run(run) => run(&mut writer),
                Work::Batches(writes) => {
                    let start = Instant::now();
                    queue.expected = write_all(&mut writer, writes, &database);
                    queue.linger = (start.elapsed() / LINGER_SHARE).clamp(LINGER[0], LINGER[1]);
                }
            }
            writer.session().settle();
        }
        for other in others {
            let _ = other.join();
        }
        // What is left can be done by whoever opens the file next.
        let _ = catch_unwind(AssertUnwindSafe(|| catch_up(&mut writer, &database.counters)));
        writer.finish();
    }
}

/// What the writer does next.
enum Work {
    Run(Box<dyn FnOnce(&mut Writer) + Send>),
    Batches(Vec<Write>),
}

/// The writer's queue, from which batches come together.
struct Queue<'a> {
    jobs: &'a mpsc::Receiver<Job>,
    /// What came behind the batches that were taken last.
    next: Option<Job>,
    /// How many batches there will be, if all who were answered come again.
    expected: usize,
    /// How long they are waited for.
    linger: Duration,
}

impl Queue<'_> {
    /// What is next; `None` at the end.
    fn next(&mut self) -> Option<Work> {
        match self.next.take().or_else(|| self.jobs.recv().ok())? {
            Job::Run(run) => Some(Work::Run(run)),
            Job::Batch(first) => Some(Work::Batches(self.together(first))),
        }
    }

    /// A batch, and those that wait behind it. Callers who were answered together come again one after the other: they are waited
    /// for, a little, since otherwise half of them would always wait for the other half.
    fn together(&mut self, first: Write) -> Vec<Write> {
        let (mut bytes, mut writes) = (first.batch.bytes(), vec![first]);
        let end = Instant::now() + self.linger;
        while writes.len() < MOST_BATCHES && bytes < MOST_BYTES {
            let job = if writes.len() < self.expected {
                self.jobs.recv_timeout(end.saturating_duration_since(Instant::now())).ok()
            } else {
                self.jobs.try_recv().ok()
            };
            match job {
                Some(Job::Batch(write)) => {
                    bytes += write.batch.bytes();
                    writes.push(write);
                }
                Some(run) => {
                    self.next = Some(run);
                    break;
                }
                None => break,
            }
        }
        writes
    }
}

/// Writes these together and answers; tells how many batches waited then, with these.
fn write_all(writer: &mut Writer, writes: Vec<Write>, database: &Database) -> usize {
    let (batches, answers): (Vec<Encoded>, Vec<(Answer<Commit>, Permit)>) =
        writes.into_iter().map(|write| (write.batch, (write.answer, write.permit))).unzip();
    let done = catch_unwind(AssertUnwindSafe(|| writer.commit(&batches)));
    let done = done.unwrap_or_else(|payload| {
        writer.recover();
        batches.iter().map(|_| Err(panicked(&*payload))).collect()
    });
    database.place.told(&done);
    Counters::count(&database.counters.transactions);
    database.counters.commits.fetch_add(done.iter().filter(|done| done.is_ok()).count() as u64, Ordering::Relaxed);
    let waiting = database.counters.writes_waiting.load(Ordering::Relaxed);
    for ((answer, permit), done) in answers.into_iter().zip(done) {
        drop(permit);
        let _ = answer.send(done);
    }
    waiting
}

/// Opens the writer, then starts the other threads and waits until all are open.
fn start(
    database: &Database,
    shared: &Arc<Shared>,
    jobs: mpsc::Receiver<Read>,
    woken: mpsc::Receiver<()>,
) -> Result<(Writer, Vec<JoinHandle<()>>)> {
    let writer = database.writer()?;
    let jobs = Arc::new(Mutex::new(jobs));
    let mut others = Vec::with_capacity(database.config.readers + 1);
    for _ in 0..database.config.readers {
        let (jobs, writes) = (Arc::clone(&jobs), shared.queues()?.writes);
        let place = database.place.clone();
        let run = move |session, counters| run_reader(Reader { place, session, writes, counters }, &jobs);
        others.push(open_and_run(database, "knowhow-turso-reader", Database::reader, run)?);
    }
    let shared = Arc::downgrade(shared);
    let run = move |session, _| upkeep::run(session, &shared, &woken);
    others.push(open_and_run(database, "knowhow-turso-upkeep", Database::for_upkeep, run)?);
    Ok((writer, others))
}

/// Starts a thread with a reader's connection, and waits until that is open.
fn open_and_run(
    database: &Database,
    name: &str,
    open: fn(&Database) -> Result<Session>,
    run: impl FnOnce(Session, Arc<Counters>) + Send + 'static,
) -> Result<JoinHandle<()>> {
    let (opened, opening) = mpsc::channel();
    let database = database.clone();
    let path = Arc::clone(database.place.path());
    let thread = spawn(&path, name, move || match open(&database) {
        Ok(session) => {
            let _ = opened.send(Ok(()));
            run(session, Arc::clone(&database.counters));
        }
        Err(error) => {
            let _ = opened.send(Err(error));
        }
    })?;
    opening.recv().unwrap_or_else(|_| Err(closed()))?;
    Ok(thread)
}

/// A connection that reads, and the way to the writer.
pub(crate) struct Reader {
    #[cfg_attr(not(feature = "replica"), expect(dead_code, reason = "only a copy can be too old"))]
    place: Place,
    pub(crate) session: Session,
    writes: mpsc::Sender<Job>,
    counters: Arc<Counters>,
}

impl Reader {
    /// Reads in a transaction.
    fn read<T: Send + 'static>(&mut self, read: impl FnOnce(&mut Session) -> Result<T> + Send + 'static) -> Result<T> {
        #[cfg(feature = "replica")]
        if let Place::Replica(replica) = &self.place {
            match replica.refresh() {
                Err(error) if error.kind() == ErrorKind::Busy => {
                    let done = run_on(&self.writes, |writer| writer.session().transaction(BEGIN_READ, read));
                    return self.answered_by_server(replica, done);
                }
                done => done?,
            }
        }
        self.session.transaction(BEGIN_READ, read)
    }

    /// Reads in a transaction in which the log has been followed to its end.
    fn read_index<T: Send + 'static>(
        &mut self,
        announce: impl Fn(&mut Session) -> Result<()>,
        read: impl Fn(&mut Session) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        /// Short steps after which the writer, behind whom nobody can append, is asked to do it all.
        const PATIENCE: usize = 4;
        #[cfg(feature = "replica")]
        if let Place::Replica(replica) = &self.place {
            let replica = Arc::clone(replica);
            return match replica.refresh() {
                Err(error) if error.kind() == ErrorKind::Busy => {
                    self.answered_by_server(&replica, self.read_on_writer(read))
                }
                done => done.and_then(|()| self.read_index_of(&replica, read)),
            };
        }
        let mut short = 0;
        while short < PATIENCE {
            let done = self.session.transaction(BEGIN_READ, |session| {
                announce(session)?;
                match indexing::is_behind(session)? {
                    true => Ok(None),
                    false => read(session).map(Some),
                }
            })?;
            if let Some(done) = done {
                return Ok(done);
            }
            let Some(step) = indexing::Step::read(&mut self.session, upkeep::STEP)? else { continue };
            short += usize::from(step.len() < upkeep::STEP);
            let counters = Arc::clone(&self.counters);
            match run_on(&self.writes, move |writer| upkeep::index(writer, step, &counters)) {
                Err(error) if error.is_conflict() => short += 1,
                done => done?,
            }
        }
        self.read_on_writer(read)
    }

    /// The same on the writer's connection, in a transaction that nobody can append behind.
    fn read_on_writer<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let counters = Arc::clone(&self.counters);
        run_on(&self.writes, move |writer| {
            writer.derive(|session| {
                while let Some(step) = indexing::Step::read_within(session, upkeep::STEP)? {
                    step.write(session)?;
                    Counters::count(&counters.index_steps);
                }
                read(session)
            })
        })
    }
}

#[cfg(feature = "replica")]
impl Reader {
    /// The same in a copy, which only the server can have follow the log. If others write all the time, the server is read in its
    /// place; if that cannot be reached, what the copy has taken in must do, as long as that is all that this store was told is
    /// written.
    fn read_index_of<T: Send + 'static>(
        &mut self,
        replica: &Replica,
        read: impl Fn(&mut Session) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        /// Syncs after which the server is read. They bring all that others wrote, and so take longer than such a read.
        const PATIENCE: usize = 2;
        // What is told while it reads is for those who come later.
        let told = replica.acknowledged();
        for _ in 0..PATIENCE {
            if let Some(done) = self.read_unless(indexing::is_behind, &read)? {
                return Ok(done);
            }
            let counters = Arc::clone(&self.counters);
            let caught_up = run_on(&self.writes, move |writer| upkeep::catch_up_index(writer, &counters));
            match caught_up.and_then(|()| replica.sync()) {
                Ok(_) => {}
                // Others change what is to be indexed, or the server has nothing for the copy.
                Err(error) if error.is_conflict() || error.kind() == ErrorKind::Busy => break,
                Err(error) => {
                    let done = self.read_unless(|session| indexing::is_behind_of(session, told), &read)?;
                    return done.ok_or(error);
                }
            }
        }
        self.answered_by_server(replica, self.read_on_writer(read))
    }

    /// What the server said in the place of the copy: no later read is older.
    fn answered_by_server<T>(&self, replica: &Replica, done: Result<T>) -> Result<T> {
        if done.is_ok() {
            let [version, ..] = run_on(&self.writes, |writer| writer.session().transaction(BEGIN_READ, progress))?;
            replica.saw(Version(version));
        }
        done
    }

    /// Reads in a transaction, unless this holds there.
    fn read_unless<T>(
        &mut self,
        behind: impl FnOnce(&mut Session) -> Result<bool>,
        read: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<Option<T>> {
        self.session.transaction(BEGIN_READ, |session| match behind(session)? {
            true => Ok(None),
            false => read(session).map(Some),
        })
    }
}

fn run_reader(mut reader: Reader, jobs: &Mutex<mpsc::Receiver<Read>>) {
    loop {
        if let Ok(jobs) = jobs.try_lock()
            && let Ok(job) = jobs.try_recv()
        {
            drop(jobs);
            job(&mut reader);
            continue;
        }
        reader.session.settle();
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(&mut reader),
            Err(mpsc::RecvError) => return,
        }
    }
}

/// Nobody needs the answer to a read whose future was dropped. Who has it waits no more.
fn answer_read<T>(reader: &mut Reader, permit: Permit, answer: Answer<T>, read: impl FnOnce(&mut Reader) -> Result<T>) {
    if answer.is_closed() {
        return;
    }
    Counters::count(&reader.counters.reads);
    let done = catch_unwind(AssertUnwindSafe(|| read(&mut *reader)));
    let done = done.unwrap_or_else(|payload| {
        reader.session.recover();
        Err(panicked(&*payload))
    });
    drop(permit);
    let _ = answer.send(done);
}

pub(crate) fn spawn(path: &Path, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
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
        let place = Place::File(DatabaseFile::new(folder.path().join("memory.db"), None));
        let workers = Workers::start(place, config).await.unwrap();
        let panics = |session: &mut Session| -> Result<()> {
            let _rows = session.query(crate::session::Sql("", "SELECT 1"), vec![])?;
            panic!("as if by accident")
        };
        let error = workers.read(&config, panics).await.unwrap_err();
        assert!(error.to_string().contains("the request panicked: as if by accident"), "{error}");
        assert_eq!(workers.read(&config, health).await.unwrap().version.0, 0);
        workers.write(Encoded::new(&Batch::new()).unwrap(), &config).await.unwrap();
        workers.close().await;
    }

    #[test]
    fn writes_that_wait_do_not_keep_reads_out() {
        let (counters, config) = (Arc::default(), TursoConfig::default().with_max_waiting_bytes(1 << 20));
        let _large = Permit::take(&counters, &config, Some(2 << 20)).unwrap();
        let refused = Permit::take(&counters, &config, Some(1)).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
        Permit::take(&counters, &config, None).unwrap();
    }

    /// It once waited for such futures, which had the way to the threads.
    #[tokio::test]
    async fn closing_does_not_wait_for_futures_that_nobody_polls() {
        let folder = tempfile::tempdir().unwrap();
        let config = TursoConfig::default();
        let place = Place::File(DatabaseFile::new(folder.path().join("memory.db"), None));
        let workers = Workers::start(place, config).await.unwrap();
        let mut read = std::pin::pin!(workers.read(&config, health));
        let mut write = std::pin::pin!(workers.write(Encoded::new(&Batch::new()).unwrap(), &config));
        tokio::select! {
            biased;
            _ = &mut read => {}
            _ = &mut write => {}
            () = std::future::ready(()) => {}
        }
        tokio::time::timeout(Duration::from_secs(30), workers.close()).await.unwrap();
    }
}
