//! Requests to one server: pooled, bounded in number, in time and in what is read.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use ureq::http::{HeaderMap, header};
use ureq::{Agent, RequestBuilder};

use super::answer::Answer;
use super::dialect::{Asked, Dialect, Routes};
use super::{Secret, ServerConfig};
use crate::Model;
use crate::asking::PROBE;
use crate::client::{Backend, Failure};

/// A model on a server.
pub(super) struct Server {
    dialect: &'static Dialect,
    routes: Routes,
    model: String,
    /// To which length vectors are to be cut, if they are.
    dimensions: Option<usize>,
    config: ServerConfig,
    agent: Agent,
    /// One permit for each request that may be under way.
    places: Arc<Semaphore>,
}

/// What is read of an answer, for each text: the longest vector, in 32 letters a number.
const BYTES_PER_TEXT: u64 = 2 << 20;
/// What is read of an answer at most.
const LONGEST_ANSWER: u64 = 256 << 20;
/// What is read of the answer to a probe, or of a failure.
const LONGEST_MESSAGE: u64 = 64 << 10;
/// The longest time that a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Server {
    pub(super) fn new(dialect: &'static Dialect, config: ServerConfig, model: &Model) -> Result<Self> {
        let routes = dialect.routes(config.validated()?);
        if config.shorten && model.dimensions.is_none() {
            let range = "given, if the server is to shorten vectors to it";
            return Err(Error::invalid("model.dimensions", "not given", range));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(config.connect_timeout))
            .max_idle_connections(config.concurrency)
            .max_idle_connections_per_host(config.concurrency)
            .user_agent(concat!("knowhow/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self {
            dialect,
            routes,
            model: model.name.clone(),
            dimensions: model.dimensions.filter(|_| config.shorten),
            places: Arc::new(Semaphore::new(config.concurrency)),
            config,
            agent,
        })
    }

    /// Sends one request when there is a place for it. Its place is free when it has ended, also if nobody waits for it any more.
    async fn ask(&self, request: Request) -> Result<Answer> {
        let limit = self.config.timeout.min(request.timeout);
        let deadline = Instant::now() + limit;
        let place = timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            let message = format!("no place for a request in {limit:?}: {} are under way", self.config.concurrency);
            return Err(Error::new(ErrorKind::Overloaded, format!("{}: {message}", request.url)));
        };
        let (agent, key) = (self.agent.clone(), self.config.key.clone());
        let url = request.url.clone();
        let late = || Error::new(ErrorKind::TimedOut, format!("{url}: no whole answer in {limit:?}"));
        let sent = tokio::task::spawn_blocking(move || {
            let _place = place;
            let rest = deadline.saturating_duration_since(Instant::now());
            request.send(&agent, key, rest)
        });
        match timeout_at(deadline, sent).await {
            Ok(Ok(Err(error))) if error.kind() == ErrorKind::TimedOut => Err(late().with_source(error)),
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                Err(Error::new(ErrorKind::Io, format!("{url}: the request broke off")).with_source(error))
            }
            Err(_) => Err(late()),
        }
    }

    /// What a failed answer means.
    fn failure(&self, url: &str, answer: &Answer) -> Failure {
        answer.failure(url, &self.model, self.dialect.no_route)
    }

    fn probe(&self, url: &str) -> Request {
        Request { url: url.to_owned(), body: None, longest: LONGEST_MESSAGE, timeout: PROBE_TIMEOUT }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, dimensions, config, .. } = self;
        let mut shown = f.debug_struct("Server");
        shown.field("model", model).field("dimensions", dimensions).field("config", config).finish_non_exhaustive()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.routes.embed)
    }
}

#[async_trait]
impl Backend for Server {
    async fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
        let url = &self.routes.embed;
        let asked = Asked { model: &self.model, texts, dimensions: self.dimensions };
        let count = u64::try_from(texts.len()).unwrap_or(u64::MAX);
        let request = Request {
            url: url.clone(),
            body: Some((self.dialect.request)(&asked).to_string()),
            longest: count.saturating_add(1).saturating_mul(BYTES_PER_TEXT).min(LONGEST_ANSWER),
            timeout: Duration::MAX,
        };
        let answer = self.ask(request).await?;
        if !answer.is_success() {
            return Err(self.failure(url, &answer));
        }
        (self.dialect.read)(&answer.body).map_err(|why| Failure::Other(answer.unreadable(url, &why)))
    }

    /// Asks what is cheap; for a vector only where the server knows none of that.
    async fn health(&self) -> Result<()> {
        for url in &self.routes.probes {
            let answer = self.ask(self.probe(url)).await?;
            match answer.status {
                404 | 405 => {}
                _ if answer.is_success() => return Ok(()),
                _ => return Err(self.failure(url, &answer).into()),
            }
        }
        Ok(self.vectors(&[PROBE.to_owned()]).await.map(drop)?)
    }
}

/// A request; without a body it is a GET.
struct Request {
    url: String,
    body: Option<String>,
    /// Bytes of the answer that are read at most; a longer one is an error.
    longest: u64,
    timeout: Duration,
}

impl Request {
    fn send(&self, agent: &Agent, key: Option<Secret>, timeout: Duration) -> Result<Answer> {
        let shown = key.as_ref().map(Secret::reveal);
        let sent = match &self.body {
            Some(body) => {
                let request = agent.post(&self.url).header(header::CONTENT_TYPE, "application/json");
                prepared(request, shown, timeout).send(body)
            }
            None => prepared(agent.get(&self.url), shown, timeout).call(),
        };
        let (head, body) = sent.map_err(|error| self.unreached(error))?.into_parts();
        let mut text = Vec::new();
        let mut reader = body.into_reader().take(self.longest + 1);
        reader.read_to_end(&mut text).map_err(|error| self.unreached(error.into()))?;
        if u64::try_from(text.len()).is_ok_and(|length| length > self.longest) {
            let message = format!("{}: the answer is longer than {} bytes", self.url, self.longest);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(Answer { status: head.status.as_u16(), retry_after: retry_after(&head.headers), body: text, key })
    }

    /// The error for a request that did not get through, or whose answer did not.
    fn unreached(&self, error: ureq::Error) -> Error {
        use ureq::Error::{BadUri, Http, Timeout, Tls, TlsRequired};
        let (kind, temporary) = match &error {
            Timeout(_) => (ErrorKind::TimedOut, true),
            BadUri(_) | Http(_) => (ErrorKind::Invalid, false),
            Tls(_) | TlsRequired => (ErrorKind::Unavailable, false),
            _ => (ErrorKind::Unavailable, true),
        };
        let hint = match &error {
            ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
                "is the server running? "
            }
            _ => "",
        };
        Error::new(kind, format!("{}: {hint}{error}", self.url)).with_temporary(temporary).with_source(error)
    }
}

fn prepared<B>(request: RequestBuilder<B>, key: Option<&str>, timeout: Duration) -> RequestBuilder<B> {
    let request = match key {
        Some(key) => request.header(header::AUTHORIZATION, format!("Bearer {key}")),
        None => request,
    };
    request.config().timeout_global(Some(timeout)).build()
}

/// `Retry-After` in seconds. A date is left out.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}
