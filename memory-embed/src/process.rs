//! MLX in a Python child process.

mod child;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::{Error, ErrorKind, Result};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::{Backend, Client, Failure};
use crate::{MlxEmbedder, Model};
use child::{Answer, Child};

/// Texts in a request.
const PORTION: usize = 16;
/// How long to wait before a start, when that of before has just failed; doubled with each that fails.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// The longest a limit may be.
const LONGEST_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How a child process is run.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessConfig {
    /// The directory of the model, as `mlx-embeddings` loads it.
    pub directory: PathBuf,
    /// The Python interpreter that has `mlx-embeddings`: a path, or a name that is looked for in `PATH`. Default: `python3`.
    pub python: PathBuf,
    /// How long it may take from the start until the model is loaded. Default: 2 minutes.
    pub start_limit: Duration,
    /// How long the answer to a request of up to 16 texts may take. Default: 2 minutes.
    pub request_limit: Duration,
    /// A child that ends is started again, at once the first time; if that fails, not before a pause that begins with 250 ms and
    /// doubles up to this. Default: 30 s.
    pub longest_pause: Duration,
}

impl ProcessConfig {
    /// With the model in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            python: "python3".into(),
            start_limit: Duration::from_secs(120),
            request_limit: Duration::from_secs(120),
            longest_pause: Duration::from_secs(30),
        }
    }

    /// Sets [`python`](Self::python).
    #[must_use]
    pub fn with_python(mut self, python: impl Into<PathBuf>) -> Self {
        self.python = python.into();
        self
    }

    /// Sets [`start_limit`](Self::start_limit) and [`request_limit`](Self::request_limit).
    #[must_use]
    pub const fn with_limits(mut self, start: Duration, request: Duration) -> Self {
        (self.start_limit, self.request_limit) = (start, request);
        self
    }

    /// Sets [`longest_pause`](Self::longest_pause).
    #[must_use]
    pub const fn with_longest_pause(mut self, pause: Duration) -> Self {
        self.longest_pause = pause;
        self
    }

    fn validate(&self) -> Result<()> {
        if !self.directory.is_dir() {
            return Err(Error::invalid("directory", format_args!("{:?}", self.directory), "the directory of a model"));
        }
        if self.python.as_os_str().is_empty() {
            return Err(Error::invalid("python", "empty", "a Python interpreter with mlx-embeddings"));
        }
        for (field, limit) in [("start_limit", self.start_limit), ("request_limit", self.request_limit)] {
            if limit.is_zero() || limit > LONGEST_LIMIT {
                return Err(Error::invalid(field, format_args!("{limit:?}"), "more than 0, up to 24 hours"));
            }
        }
        if !(SHORTEST_PAUSE..=LONGEST_LIMIT).contains(&self.longest_pause) {
            return Err(Error::invalid(
                "longest_pause",
                format_args!("{:?}", self.longest_pause),
                "250 ms to 24 hours",
            ));
        }
        Ok(())
    }
}

impl MlxEmbedder {
    /// Runs the model with `mlx-embeddings` in a Python child process, where there is no server for it: starts the child, and
    /// embeds a text with it.
    ///
    /// The child takes one request at a time. One that ends is started again by the next request, and a request that was under
    /// way is made once more. It ends with the embedder.
    ///
    /// # Cancellation
    /// A request that is under way when its future is dropped is finished, within its limit; the next one waits for it.
    ///
    /// # Errors
    /// - [`Invalid`](ErrorKind::Invalid) for settings out of range, a directory that is none, or an interpreter that cannot be
    ///   started.
    /// - [`Unavailable`](ErrorKind::Unavailable), with the last words of the child on standard error, if it ends.
    /// - [`TimedOut`](ErrorKind::TimedOut).
    pub async fn start(config: ProcessConfig, model: Model) -> Result<Self> {
        config.validate()?;
        let backend = MlxProcess {
            python: config.python.clone(),
            process: Arc::new(Mutex::new(Process { config, child: None, failures: 0, ended: None })),
        };
        // The space is that of a server with the model.
        Client::connect(backend, "mlx", model, PORTION).await.map(Self)
    }
}

#[derive(Debug)]
struct MlxProcess {
    python: PathBuf,
    process: Arc<Mutex<Process>>,
}

impl fmt::Display for MlxProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the child process of {}", self.python.display())
    }
}

#[async_trait]
impl Backend for MlxProcess {
    async fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
        let texts = texts.to_vec();
        let mut process = Arc::clone(&self.process).lock_owned().await;
        // In a task of its own, which goes on if nobody waits any more: no request is left half written or half read.
        let answer = tokio::spawn(async move { process.vectors(&texts).await }).await;
        answer.map_err(|error| Error::new(ErrorKind::Unavailable, "the task of the child ended").with_source(error))?
    }

    /// Asks the child, which is started again if it has ended.
    async fn health(&self) -> Result<()> {
        self.vectors(&[]).await?;
        Ok(())
    }
}

/// A child, or none at the moment.
#[derive(Debug)]
struct Process {
    config: ProcessConfig,
    child: Option<Child>,
    /// Children that ended, or did not start, since the last answer.
    failures: u32,
    /// When the last of them did.
    ended: Option<Instant>,
}

/// Why a request has no answer.
enum Unanswered {
    /// The child ended under way.
    Ended(Error),
    Failed(Failure),
}

impl Process {
    async fn vectors(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
        match self.attempt(texts).await {
            // Once more, with a new child.
            Err(Unanswered::Ended(_)) => self.attempt(texts).await.map_err(Failure::from),
            done => done.map_err(Failure::from),
        }
    }

    async fn attempt(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, Unanswered> {
        let mut child = self.running().await.map_err(|error| Unanswered::Failed(error.into()))?;
        let asked = tokio::time::timeout(self.config.request_limit, child.ask(texts)).await;
        let unanswered = match asked {
            Ok(Ok(answer)) => {
                (self.child, self.failures) = (Some(child), 0);
                return answer.into_vectors().map_err(Unanswered::Failed);
            }
            Ok(Err(error)) => Unanswered::Ended(child.end(error).await),
            Err(_) => Unanswered::Failed(self.too_slow("answer", self.config.request_limit).into()),
        };
        self.note_end();
        Err(unanswered)
    }

    /// The child, started if there is none.
    async fn running(&mut self) -> Result<Child> {
        if let Some(child) = self.child.take() {
            return Ok(child);
        }
        self.wait_is_over()?;
        let started = tokio::time::timeout(self.config.start_limit, Child::start(&self.config)).await;
        let started = started.unwrap_or_else(|_| Err(self.too_slow("load its model", self.config.start_limit)));
        started.inspect_err(|_| self.note_end())
    }

    fn note_end(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.ended = Some(Instant::now());
    }

    /// Refuses to start a child when too many have ended just now.
    fn wait_is_over(&self) -> Result<()> {
        let Some((ended, doublings)) = self.ended.zip(self.failures.checked_sub(2)) else { return Ok(()) };
        let pause = SHORTEST_PAUSE.saturating_mul(1 << doublings.min(20)).min(self.config.longest_pause);
        let left = pause.saturating_sub(ended.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        let message = format!("the child process ended {} times; it is started again in {left:.1?}", self.failures);
        Err(Error::new(ErrorKind::Unavailable, message).with_temporary(true).with_retry_after(left))
    }

    fn too_slow(&self, what: &str, limit: Duration) -> Error {
        let python = self.config.python.display();
        Error::new(ErrorKind::TimedOut, format!("the child process ({python}) took more than {limit:?} to {what}"))
    }
}

impl Answer {
    fn into_vectors(self) -> Result<Vec<Vec<f32>>, Failure> {
        match self {
            Self::Vectors(vectors) => Ok(vectors),
            Self::Error { message, too_long } => {
                let error = Error::new(ErrorKind::Invalid, format!("the child process answered: {message}"));
                Err(if too_long { Failure::TooLong(error) } else { Failure::Other(error) })
            }
        }
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Ended(error) => Self::Other(error),
            Unanswered::Failed(failure) => failure,
        }
    }
}
