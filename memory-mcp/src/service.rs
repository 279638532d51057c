//! What serves all callers of a process: the memory, the episodes they have open, and what is counted.

use std::fmt;
use std::sync::Arc;

use memory_core::{EpisodeId, Error, ErrorKind, Memory, OpenEpisode, Result, Scope, Source};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::approvals::Approvals;
use crate::metrics::{Breaker, Metrics};
use crate::open_episodes::OpenEpisodes;
use crate::redact::Redactor;
use crate::traces::Trace;

/// What a caller may do. Each includes those before it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Ask.
    Read,
    /// Record, change and delete what is the caller's.
    Write,
    /// See the whole store, and approve what was learned.
    Admin,
}

impl Right {
    /// All rights.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// The right as one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// The right of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_str() == name)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What serves all callers of a process.
#[derive(Debug)]
pub struct Service {
    memory: Memory,
    open_episodes: OpenEpisodes,
    redactor: Option<Redactor>,
    approvals: Option<Approvals>,
    metrics: Metrics,
    calls: TaskTracker,
}

impl Service {
    /// A service of a memory; with a redactor, what callers tell is redacted before anything else happens to it; with
    /// approvals, what was learned is shown only when it is approved. The state of the breakers is told with the metrics.
    pub fn new(
        memory: Memory,
        redactor: Option<Redactor>,
        approvals: Option<Approvals>,
        breakers: Vec<Breaker>,
    ) -> Arc<Self> {
        let (open_episodes, metrics) = (OpenEpisodes::default(), Metrics::new(breakers));
        Arc::new(Self { memory, open_episodes, redactor, approvals, metrics, calls: TaskTracker::new() })
    }

    /// The memory, in the scope that it was configured with.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The episodes that callers have open.
    pub(crate) fn open_episodes(&self) -> &OpenEpisodes {
        &self.open_episodes
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The calls that have begun.
    pub(crate) fn calls(&self) -> &TaskTracker {
        &self.calls
    }

    /// Lets all calls that have begun end, also those whose callers have gone, until then at most, and closes the memory.
    ///
    /// # Errors
    /// Those of closing the memory.
    pub async fn close(&self, until: Instant) -> Result<()> {
        self.calls.close();
        if timeout_at(until, self.calls.wait()).await.is_err() {
            tracing::warn!(calls = self.calls.len(), "calls were still under way when the memory was closed");
        }
        self.memory.close().await
    }

    /// What is approved; `None` if nothing needs to be.
    pub fn approvals(&self) -> Option<&Approvals> {
        self.approvals.as_ref()
    }

    /// Redacts all texts of a call's arguments.
    pub(crate) fn redact(&self, arguments: &mut Value) {
        if let Some(redactor) = &self.redactor {
            self.metrics.redacted(&redactor.redact_json(arguments));
        }
    }
}

/// Who asks: a scope, a source and a right.
#[derive(Clone, Debug)]
pub struct Caller {
    service: Arc<Service>,
    memory: Memory,
    right: Right,
    request: Option<Arc<str>>,
    trace: Trace,
}

impl Caller {
    /// A caller of a service.
    ///
    /// # Errors
    /// [`Invalid`](memory_core::ErrorKind::Invalid) for a source whose name is beyond the limits.
    pub fn new(service: Arc<Service>, scope: Scope, source: Source, right: Right) -> Result<Self> {
        let memory = service.memory.in_scope(scope).from_source(source)?;
        Ok(Self { service, memory, right, request: None, trace: Trace::default() })
    }

    /// The same caller, in a request of this id, by which the log tells what belongs together.
    #[must_use]
    pub fn for_request(self, id: Arc<str>) -> Self {
        Self { request: Some(id), ..self }
    }

    /// The same caller, whose calls continue this trace.
    pub(crate) fn in_trace(self, trace: Trace) -> Self {
        Self { trace, ..self }
    }

    /// The trace that its calls continue.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The id of the request that it asks in, if that has one.
    pub fn request(&self) -> Option<&str> {
        self.request.as_deref()
    }

    /// What serves it.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The memory in the caller's scope.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What it may do.
    pub fn right(&self) -> Right {
        self.right
    }

    /// An open episode of the caller's scope, for one call at a time.
    pub(crate) async fn open_episode(&self, id: EpisodeId) -> Result<Arc<Mutex<OpenEpisode>>> {
        match self.service.open_episodes.get(self.memory.scope(), id) {
            Some(open) => Ok(open),
            None => Ok(self.service.open_episodes.keep(self.memory.scope(), self.memory.resume(id).await?)),
        }
    }

    /// Takes note of what is approved now.
    pub(crate) async fn refresh(&self) -> Result<()> {
        match &self.service.approvals {
            Some(approvals) => approvals.refresh(&self.service.memory).await,
            None => Ok(()),
        }
    }

    /// Lets go of an open episode that this handle has lost, or that has ended.
    pub(crate) fn settled<T>(&self, id: EpisodeId, result: Result<T>) -> Result<T> {
        use ErrorKind::{Conflict, EpisodeClosed, LeaseLost, NotFound};
        if let Err(error) = &result
            && matches!(error.kind(), Conflict | EpisodeClosed | LeaseLost | NotFound)
        {
            self.service.open_episodes.remove(self.memory.scope(), id);
        }
        result
    }
}

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The caller may not.
    #[error("not allowed: this needs the right to {needs}, and the caller has the right to {has}")]
    Forbidden {
        /// What would be needed.
        needs: Right,
        /// What the caller may.
        has: Right,
    },
    /// The memory refused it, or could not do it.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Refusal {
    /// What kind it is, as one word.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Forbidden { .. } => "forbidden".to_owned(),
            Self::Failed(error) => name_of(error.kind()),
        }
    }

    /// The refusal for a program: what kind it is, and whether, and in how many seconds, it is worth trying again.
    pub fn to_json(&self) -> Value {
        let (temporary, after) = match self {
            Self::Forbidden { .. } => (false, None),
            // Who has tried again meanwhile, and given up, is in this process; the caller may try later.
            Self::Failed(error) => (error.is_temporary() || error.is_persistent(), error.retry_after()),
        };
        let mut told = json!({ "kind": self.kind(), "message": self.to_string(), "temporary": temporary });
        if let Some(after) = after {
            told["retry_after_seconds"] = after.as_secs_f64().into();
        }
        told
    }
}

/// A kind of error as one word.
pub(crate) fn name_of(kind: ErrorKind) -> String {
    kind.to_string().replace([' ', '/'], "_")
}
