//! One child process: JSON lines to it and from it, and what it says on standard error.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::ProcessConfig;

/// The program of the child.
const SCRIPT: &str = include_str!("../mlx_embedder.py");
/// An answer has 16 vectors, of 65,536 numbers of 25 bytes at most.
const LONGEST_LINE: u64 = 64 << 20;
/// How much of standard error is kept.
const KEPT: usize = 4_096;

#[derive(Debug)]
pub(super) struct Child {
    child: tokio::process::Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    words: Words,
    /// The number of the last request.
    last: u64,
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    texts: &'a [String],
}

#[derive(Deserialize)]
struct Ready {
    #[serde(rename = "ready")]
    _ready: bool,
}

#[derive(Deserialize)]
struct Line {
    id: u64,
    embeddings: Option<Vec<Vec<f32>>>,
    error: Option<String>,
    #[serde(default)]
    too_long: bool,
}

/// What a child answers.
#[derive(Debug)]
pub(super) enum Answer {
    Vectors(Vec<Vec<f32>>),
    Error { message: String, too_long: bool },
}

impl Child {
    /// Starts a child and waits until it has loaded the model.
    pub(super) async fn start(config: &ProcessConfig) -> Result<Self> {
        let mut child = Self::spawn(config)?;
        match child.read::<Ready>().await {
            Ok(_) => Ok(child),
            Err(error) => Err(child.end(error).await),
        }
    }

    fn spawn(config: &ProcessConfig) -> Result<Self> {
        let mut command = Command::new(&config.python);
        command.args(["-c", SCRIPT]).arg(&config.directory);
        // Nothing is downloaded, and no thread is left in the tokenizer.
        command.envs([("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| no_interpreter(&config.python, error))?;
        let (Some(requests), Some(answers), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(no_interpreter(&config.python, io::Error::other("it has no standard streams")));
        };
        Ok(Self { child, requests, answers: BufReader::new(answers), words: Words::of(errors), last: 0 })
    }

    /// Asks for the vectors of texts.
    ///
    /// # Errors
    /// That the child has ended, or answers something else. It is of no use afterwards.
    pub(super) async fn ask(&mut self, texts: &[String]) -> io::Result<Answer> {
        self.last += 1;
        let mut request = serde_json::to_vec(&Request { id: self.last, texts })?;
        request.push(b'\n');
        self.requests.write_all(&request).await?;
        self.requests.flush().await?;
        match self.read().await? {
            Line { id, .. } if id != self.last => Err(io::Error::other(format!("it answered request {id}"))),
            Line { embeddings: Some(vectors), .. } => Ok(Answer::Vectors(vectors)),
            Line { error: Some(message), too_long, .. } => Ok(Answer::Error { message, too_long }),
            Line { .. } => Err(io::Error::other("it answered neither with embeddings nor with an error")),
        }
    }

    async fn read<T: for<'a> Deserialize<'a>>(&mut self) -> io::Result<T> {
        let mut line = Vec::new();
        (&mut self.answers).take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_slice(&line).map_err(|error| {
            let begin = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
            io::Error::other(format!("its answer is {begin:?}: {error}"))
        })
    }

    /// Ends it; gives the error that tells why, with its last words.
    pub(super) async fn end(mut self, why: io::Error) -> Error {
        let status = tokio::time::timeout(Duration::from_millis(500), self.child.wait()).await;
        let how = match status {
            Ok(Ok(status)) => format!("ended ({status})"),
            _ => format!("was ended ({why})"),
        };
        let _ = self.child.start_kill();
        let message = format!("the child process {how}{}", self.words.last().await);
        Error::new(ErrorKind::Unavailable, message).with_temporary(true).with_source(why)
    }
}

fn no_interpreter(python: &Path, error: io::Error) -> Error {
    let value = format!("{}, which cannot be started: {error}", python.display());
    Error::invalid("python", value, "a Python interpreter with mlx-embeddings").with_source(error)
}

/// The end of what a child writes to standard error.
#[derive(Debug)]
struct Words {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Words {
    fn of(errors: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn(keep(errors, Arc::clone(&kept)));
        Self { kept, reader }
    }

    /// Of a child that has ended.
    async fn last(mut self) -> String {
        // Whoever it has started may hold the stream open.
        let _ = tokio::time::timeout(Duration::from_millis(500), &mut self.reader).await;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let words = String::from_utf8_lossy(&kept);
        if words.trim().is_empty() { String::new() } else { format!("; its last words: {}", words.trim()) }
    }
}

async fn keep(mut errors: impl AsyncRead + Unpin, kept: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 1_024];
    while let Ok(read @ 1..) = errors.read(&mut bytes).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&bytes[..read]);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
}
