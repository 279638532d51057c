//! The store over a local copy of a server's database: reads are local, writes go to the server.
//!
//! libSQL brings the copy up to date, on a thread of its own. Readers use connections to the file as those of a local store do; what
//! this adds is when they must wait for the copy: until it has what this store was told is written, and after a conflict, which
//! says that the copy is too old. All upkeep is done on the server.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::client::HttpConnector;
use libsql::{Builder, Database};
use memory_core::{Commit, Error, ErrorKind, Result, Version};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use crate::RemoteConfig;
use crate::encryption::DatabaseFile;
use crate::error::{closed, from_io, from_libsql};
use crate::read;
use crate::remote::server::Server;
use crate::schema::{check_log_of_copy, check_tables, open_reader};
use crate::session::{BEGIN_READ, Session};

/// Settings of a [`TursoStore`](crate::TursoStore) over a local copy.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `remote` | [`RemoteConfig::default`] | as there |
/// | `interval` | 10 s | none, or 10 ms ..= 1 day |
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// How the server is reached.
    pub remote: RemoteConfig,
    /// How often the copy is brought up to date, beside when it must be; `None` leaves it to
    /// [`sync`](crate::TursoStore::sync).
    pub interval: Option<Duration>,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self { remote: RemoteConfig::default(), interval: Some(Duration::from_secs(10)) }
    }
}

impl ReplicaConfig {
    /// Sets how the server is reached.
    #[must_use]
    pub fn with_remote(mut self, remote: RemoteConfig) -> Self {
        self.remote = remote;
        self
    }

    /// Sets how often the copy is brought up to date.
    #[must_use]
    pub fn with_interval(mut self, interval: Option<Duration>) -> Self {
        self.interval = interval;
        self
    }

    fn validate(&self) -> Result<()> {
        let allowed = Duration::from_millis(10)..=Duration::from_secs(86_400);
        match self.interval.filter(|interval| !allowed.contains(interval)) {
            Some(interval) => Err(Error::invalid("interval", format_args!("{interval:?}"), "none, or 10ms..=86400s")),
            None => Ok(()),
        }
    }
}

/// How far a local copy has come.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// The version that the copy has.
    pub version: Version,
    /// When it was last known to have all that the server had; `None` if never since the store was opened.
    pub synced_at: Option<DateTime<Utc>>,
    /// How often it was brought up to date since then.
    pub syncs: u64,
    /// Why it could not be, the last time; `None` if it could.
    pub last_error: Option<String>,
}

type Waiting = oneshot::Sender<Result<Version>>;

/// A local copy, as all threads of a store share it.
#[derive(Debug)]
pub(crate) struct Replica {
    file: DatabaseFile,
    server: Arc<Server>,
    /// Asks the thread that brings it up to date; `None` when the store is closed.
    requests: Mutex<Option<mpsc::Sender<Waiting>>>,
    /// That thread holds the other end until it has closed the file.
    ended: watch::Sender<()>,
    status: Mutex<SyncStatus>,
    /// The last version that this store was told is written, or has read.
    acknowledged: AtomicU64,
    /// Whether something has shown that the copy is too old.
    stale: AtomicBool,
}

impl Replica {
    /// How long to wait for the thread that writes the copy, when no other time is set.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Opens the copy, and brings it up to date if the server can be reached.
    pub(crate) fn open(path: &Path, url: &str, config: &ReplicaConfig) -> Result<Arc<Self>> {
        config.validate()?;
        let server = Arc::new(Server::new(url, config.remote.clone())?);
        if server.is_https() && !cfg!(feature = "replica-tls") {
            let message =
                format!("url is {url}; without the feature `replica-tls`, only a copy of http:// can be made");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let path: PathBuf = std::path::absolute(path).map_err(|error| from_io(path, error))?;
        let (requests, asked) = mpsc::channel();
        let (ended, running) = watch::channel(());
        let replica = Arc::new(Self {
            file: DatabaseFile::new(path, config.remote.store.encryption_key),
            server,
            requests: Mutex::new(Some(requests)),
            ended,
            status: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            stale: AtomicBool::new(false),
        });
        let (syncing, interval) = (Arc::clone(&replica), config.interval);
        let run = move || {
            if let Some(mut thread) = Syncing::new(&syncing) {
                drop(syncing);
                thread.run(&asked, interval);
            }
            drop(running);
        };
        let spawned = thread::Builder::new().name("knowhow-turso-sync".to_owned()).spawn(run);
        spawned.map_err(|error| from_io(&replica.file.path, error))?;
        Ok(replica)
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    pub(crate) fn path(&self) -> &Arc<Path> {
        &self.file.path
    }

    /// A connection to the server for what is written and derived; and the first sync. Without the server, what is there will do if
    /// it is whole.
    pub(crate) fn open_writer(&self) -> Result<Session> {
        check_log_of_copy(&self.file, Self::PATIENCE).map_err(|error| no_copy(&self.file.path, error))?;
        let reached = crate::schema::open_server(&self.server).and_then(|session| self.sync().map(|_| session));
        match reached {
            Ok(session) => Ok(session),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let there = self.file.path.exists() && {
                    let mut local = self.open_reader(Self::PATIENCE)?;
                    check_tables(&mut local)?
                };
                if there { Ok(Session::to_server(&self.server)) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn open_reader(&self, busy_timeout: Duration) -> Result<Session> {
        open_reader(&self.file, busy_timeout)
    }

    /// Takes note of what came of commits.
    pub(crate) fn told(&self, answers: &[Result<Commit>]) {
        for answer in answers {
            match answer {
                Ok(commit) => self.saw(commit.version),
                Err(error) if error.is_conflict() => self.stale.store(true, Ordering::SeqCst),
                Err(_) => {}
            }
        }
    }

    /// Takes note of a version that this store has seen: no later read is older.
    pub(crate) fn saw(&self, version: Version) {
        self.acknowledged.fetch_max(version.0, Ordering::SeqCst);
    }

    pub(crate) fn acknowledged(&self) -> Version {
        Version(self.acknowledged.load(Ordering::SeqCst))
    }

    /// Brings the copy up to date if it is older than what this store was told. That fails as `Busy` if the server is there, and has
    /// nothing for the copy.
    pub(crate) fn refresh(&self) -> Result<()> {
        // What is told while it syncs is for those who come later.
        let told = self.acknowledged();
        let stale = self.stale.swap(false, Ordering::SeqCst);
        if !stale && self.status().version >= told {
            return Ok(());
        }
        let done = self.sync();
        if done.is_err() && stale {
            self.stale.store(true, Ordering::SeqCst);
        }
        match done? {
            version if version < told => {
                let message = format!("{}: the copy ends before what was written", self.file.path.display());
                Err(Error::new(ErrorKind::Unavailable, message).with_temporary(true))
            }
            _ => Ok(()),
        }
    }

    /// Brings the copy up to date with the server as it is now; says how far it has come. Blocks.
    pub(crate) fn sync(&self) -> Result<Version> {
        self.request()?.blocking_recv().map_err(|_| closed())?
    }

    /// Asks for the same.
    pub(crate) fn request(&self) -> Result<oneshot::Receiver<Result<Version>>> {
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.as_ref().ok_or_else(closed)?.send(answer).map_err(|_| closed())?;
        Ok(answered)
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, SyncStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread that brings it up to date.
    pub(crate) fn close(&self) {
        drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) {
        self.ended.closed().await;
    }
}

/// Says of a file that cannot be read as a copy what that means.
fn no_copy(path: &Path, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Busy => error,
        _ => {
            let message = format!("{}: no copy, or not with this key", path.display());
            Error::new(ErrorKind::Foreign, message).with_source(error)
        }
    }
}

/// What the thread has that brings the copy up to date.
struct Syncing {
    file: DatabaseFile,
    server: Arc<Server>,
    replica: std::sync::Weak<Replica>,
    runtime: Runtime,
    /// libSQL's side of it, with the token with which it was made.
    database: Option<(Database, Option<String>)>,
}

impl Syncing {
    fn new(replica: &Arc<Replica>) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let (file, server) = (replica.file.clone(), Arc::clone(&replica.server));
        let syncing = Self { file, server, replica: Arc::downgrade(replica), runtime, database: None };
        // What is there already, as far as it can be read.
        if let Ok([version, ..]) = syncing.here() {
            replica.status().version = Version(version);
        }
        Some(syncing)
    }

    fn run(&mut self, asked: &mpsc::Receiver<Waiting>, interval: Option<Duration>) {
        loop {
            let first = match interval {
                Some(interval) => match asked.recv_timeout(interval) {
                    Ok(waiting) => Some(waiting),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                },
                None => match asked.recv() {
                    Ok(waiting) => Some(waiting),
                    Err(mpsc::RecvError) => return,
                },
            };
            // Those who ask before it begins can have the same answer.
            let waiting: Vec<Waiting> = first.into_iter().chain(asked.try_iter()).collect();
            let done = self.sync();
            let Some(replica) = self.replica.upgrade() else { return };
            note(&mut replica.status(), &done);
            for one in waiting {
                let _ = one.send(match &done {
                    Ok(version) => Ok(*version),
                    Err(error) => Err(error.again()),
                });
            }
        }
    }

    /// Asks the server how far it is, and fetches what is missing.
    fn sync(&mut self) -> Result<Version> {
        self.prepare()?;
        let mut session = Session::to_server(&self.server);
        let there = session.transaction(BEGIN_READ, read::progress)?;
        session.settle();
        if let Ok(here) = self.here()
            && here.iter().zip(there).all(|(here, there)| *here >= there)
        {
            return Ok(Version(here[0]));
        }
        for last in [false, true] {
            match self.fetch() {
                // With a new token, if that may be why.
                Err(error) if last || error.is_temporary() => return Err(error.with_temporary(true)),
                Err(_) => self.database = None,
                Ok(()) => break,
            }
        }
        self.here().map(|[version, ..]| Version(version))
    }

    /// Has libSQL look at the file, which it refuses if it is no copy.
    fn prepare(&mut self) -> Result<()> {
        let token = self.server.token_now()?;
        if self.database.as_ref().is_none_or(|(_, used)| *used != token) {
            self.database = Some((self.build(token.clone())?, token));
        }
        Ok(())
    }

    fn fetch(&mut self) -> Result<()> {
        self.prepare()?;
        let Some((database, _)) = &self.database else { return Err(closed()) };
        let timeout = self.server.config().timeout;
        let done = self.runtime.block_on(async { tokio::time::timeout(timeout, database.sync()).await });
        match done {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                // It is compacting its log, and has no snapshot yet from which this copy could go on.
                let compacts = error.to_string().contains("snapshot not found");
                let kind = if compacts { ErrorKind::Busy } else { ErrorKind::Unavailable };
                let message = format!("{}: {error}", self.server.address().display());
                Err(Error::new(kind, message).with_source(error).with_temporary(compacts))
            }
            Err(_) => {
                // What it was doing is dropped with it.
                self.database = None;
                let message = format!("{}: no sync within {timeout:?}", self.server.address().display());
                Err(Error::new(ErrorKind::Unavailable, message).with_temporary(true))
            }
        }
    }

    fn build(&self, token: Option<String>) -> Result<Database> {
        let url = self.server.address().display().to_string();
        let builder = Builder::new_remote_replica(&self.file.path, url.clone(), token.unwrap_or_default());
        let builder = if let Some(key) = self.file.key { builder.encryption_config(key.config()) } else { builder };
        // Of an address of numbers, libSQL takes the first for the name of the database.
        let by_number = self.server.host_is_a_number();
        let builder = if by_number { builder.namespace("default") } else { builder };
        let builder = if self.server.is_https() { builder } else { builder.connector(HttpConnector::new()) };
        let built = self.runtime.block_on(builder.read_your_writes(false).build());
        built.map_err(|error| {
            let message = error.to_string();
            let error = from_libsql(&self.file.path, error);
            if message.contains("wal_index") {
                Error::new(ErrorKind::Foreign, error.to_string())
            } else if message.contains("file is not a database") {
                no_copy(&self.file.path, error)
            } else {
                error
            }
        })
    }

    /// How far the copy has come.
    fn here(&self) -> Result<[u64; 3]> {
        if !self.file.path.exists() {
            return Err(closed());
        }
        open_reader(&self.file, Replica::PATIENCE)?.transaction(BEGIN_READ, read::progress)
    }
}

fn note(status: &mut SyncStatus, done: &Result<Version>) {
    match done {
        Ok(version) => {
            status.version = *version;
            status.synced_at = Some(Utc::now());
            status.syncs += 1;
            status.last_error = None;
        }
        Err(error) => status.last_error = Some(error.to_string()),
    }
}
