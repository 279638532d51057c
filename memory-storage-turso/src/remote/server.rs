//! One server: its address, the token for it, and requests to it, each with a timeout.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use memory_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::{Agent, BodyReader};

use super::RemoteConfig;
use super::protocol::{Batch, BatchResult, Pipeline, PipelineAnswer, Request, Response, Step, StreamResult};
use crate::error::{from_failure, from_status, from_ureq, retry_after, unreadable};

/// A server, as all threads of a store share it.
pub(crate) struct Server {
    /// Its address, which stands for the path of a file in messages.
    address: Arc<Path>,
    pipeline: String,
    cursor: String,
    agent: Agent,
    config: RemoteConfig,
    token: Mutex<Option<String>>,
    /// How many requests were sent.
    requests: AtomicU64,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).field("config", &self.config).finish_non_exhaustive()
    }
}

/// The longest answer to a pipeline that is read. Servers limit theirs to 10 MB of values, which are a third longer in JSON.
const LONGEST_ANSWER: u64 = 256 << 20;
/// No attempt begins later than this after the first: receipts of commits are kept for 15 minutes.
const LONGEST_INSISTENCE: Duration = Duration::from_secs(600);
/// The longest message of a server that goes into an error.
const LONGEST_MESSAGE: u64 = 1_000;

impl Server {
    pub(crate) fn new(url: &str, config: RemoteConfig) -> Result<Self> {
        config.validate()?;
        let base = base_url(url)?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(config.timeout))
            .max_idle_connections_per_host(config.store.readers + 2)
            .user_agent(concat!("knowhow/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self {
            address: PathBuf::from(&base).into(),
            pipeline: format!("{base}/v3/pipeline"),
            cursor: format!("{base}/v3/cursor"),
            agent,
            config,
            token: Mutex::new(None),
            requests: AtomicU64::new(0),
        })
    }

    pub(crate) fn address(&self) -> &Arc<Path> {
        &self.address
    }

    #[cfg(feature = "replica")]
    pub(crate) fn config(&self) -> &RemoteConfig {
        &self.config
    }

    /// Whether requests to it are encrypted.
    #[cfg(feature = "replica")]
    pub(crate) fn is_https(&self) -> bool {
        self.pipeline.starts_with("https:")
    }

    /// Whether its host is given by numbers.
    #[cfg(feature = "replica")]
    pub(crate) fn host_is_a_number(&self) -> bool {
        let address = self.address.to_string_lossy();
        let host = address.split_once("://").map_or("", |(_, host)| host);
        host.parse::<std::net::SocketAddr>().is_ok() || host.parse::<std::net::IpAddr>().is_ok()
    }

    /// The token that is used now.
    #[cfg(feature = "replica")]
    pub(crate) fn token_now(&self) -> Result<Option<String>> {
        self.token(None)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Sends requests on a stream, or on a new one.
    pub(crate) fn pipeline(&self, baton: Option<&str>, requests: &[Request<'_>]) -> Result<PipelineAnswer> {
        let mut text = Vec::new();
        let mut body = self.post(&self.pipeline, &Pipeline { baton, requests })?.take(LONGEST_ANSWER);
        body.read_to_end(&mut text).map_err(|error| unreadable(&self.address, error))?;
        self.decode(&text)
    }

    /// Runs a batch on a stream of its own.
    pub(crate) fn batch(&self, steps: &[Step]) -> Result<BatchResult> {
        let requests = [Request::Batch { batch: Batch { steps } }, Request::Close];
        self.first_of(self.pipeline(None, &requests)?)
    }

    /// The answer to the batch that a pipeline began with.
    pub(crate) fn first_of(&self, answer: PipelineAnswer) -> Result<BatchResult> {
        match answer.results.into_iter().next() {
            Some(StreamResult::Ok { response: Response::Batch { result } }) => Ok(result),
            Some(StreamResult::Error { error }) => Err(from_failure(&self.address, &error)),
            _ => Err(unreadable(&self.address, "a batch has no result")),
        }
    }

    /// Sends a batch whose rows are read one by one.
    pub(crate) fn cursor(&self, request: &super::protocol::Cursor<'_>) -> Result<BodyReader<'static>> {
        self.post(&self.cursor, request)
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, text: &[u8]) -> Result<T> {
        serde_json::from_slice(text).map_err(|error| unreadable(&self.address, error))
    }

    /// Sends one request; again with a new token if the server refuses the one that it was sent with, and so has done nothing.
    fn post(&self, url: &str, request: &impl Serialize) -> Result<BodyReader<'static>> {
        let body = serde_json::to_vec(request).map_err(|error| {
            Error::invalid("request", "not encodable", "values with a JSON form").with_source(error)
        })?;
        let token = self.token(None)?;
        match self.send(url, &body, token.as_deref()) {
            Err(refused) if refused.0 == Some(401) && self.config.token.is_some() => {
                let token = self.token(token.as_deref())?;
                self.send(url, &body, token.as_deref())
            }
            sent => sent,
        }
        .map_err(|(_, error)| error)
    }

    fn send(&self, url: &str, body: &[u8], token: Option<&str>) -> Result<BodyReader<'static>, (Option<u16>, Error)> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut request = self.agent.post(url).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.send(body).map_err(|error| (None, from_ureq(&self.address, error)))?;
        let status = answer.status().as_u16();
        let pause =
            answer.headers().get("retry-after").and_then(|header| retry_after(header.to_str().ok()?, Utc::now()));
        let mut body = answer.into_body().into_reader();
        if status == 200 {
            return Ok(body);
        }
        let mut message = Vec::new();
        let _ = body.by_ref().take(LONGEST_MESSAGE).read_to_end(&mut message);
        Err((Some(status), from_status(&self.address, status, &String::from_utf8_lossy(&message), pause)))
    }

    /// The token to use, other than the one that was refused.
    fn token(&self, refused: Option<&str>) -> Result<Option<String>> {
        let Some(source) = &self.config.token else { return Ok(None) };
        let mut known = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() || refused.is_some() && known.as_deref() == refused {
            let token = source.token()?;
            // It would end the header, or the request.
            if token.bytes().any(|byte| !byte.is_ascii_graphic()) {
                return Err(Error::invalid("token", "one with spaces or control characters", "visible ASCII"));
            }
            *known = Some(token);
        }
        Ok(known.clone())
    }

    /// Does something that may be done twice, until it succeeds or fails for good; at most so often as is configured.
    pub(crate) fn insist<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let (begun, mut failed) = (Instant::now(), 0);
        loop {
            match attempt() {
                Err(error) if may_pass(&error) => {
                    failed += 1;
                    if failed >= self.config.attempts || begun.elapsed() > LONGEST_INSISTENCE {
                        return Err(error);
                    }
                    std::thread::sleep(self.config.pause(failed));
                }
                done => return done,
            }
        }
    }
}

/// Whether what failed may succeed when it is tried again.
pub(crate) fn may_pass(error: &Error) -> bool {
    error.is_temporary() && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Busy)
}

/// The address as requests use it: scheme, host and port.
fn base_url(url: &str) -> Result<String> {
    const RANGE: &str = "http://host, https://host or libsql://host, with a port or without";
    // Only what cannot hold a secret is shown.
    let invalid = |shown: &str| Error::invalid("url", shown, RANGE);
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("one without a scheme"))?;
    let scheme = match scheme {
        "http" => "http",
        "https" | "libsql" => "https",
        other => return Err(invalid(&format!("one that begins with {other:.20}://"))),
    };
    if rest.contains('@') || rest.contains('?') || rest.contains('#') {
        return Err(invalid("one with a user, a query or a fragment (tokens belong into the configuration)"));
    }
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.is_empty() || host.contains('/') || host.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(invalid(&format!("{scheme}://{host:.80}")));
    }
    if scheme == "https" && !cfg!(feature = "tls") {
        let message =
            format!("url is https://{host}; without the feature `tls` of this crate, only http:// can be reached");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_show_no_secrets() {
        for url in ["http://localhost:8080", "http://localhost:8080/"] {
            assert_eq!(base_url(url).unwrap(), "http://localhost:8080");
        }
        #[cfg(feature = "tls")]
        assert_eq!(base_url("libsql://db.turso.io").unwrap(), "https://db.turso.io");
        #[cfg(not(feature = "tls"))]
        for url in ["libsql://db.turso.io", "https://db.turso.io"] {
            let error = base_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("`tls`"), "{error}");
        }
        for url in [
            "",
            "localhost:8080",
            "file:///secret",
            "http://",
            "http:///secret",
            "http://host/secret",
            "http://me:secret@host",
            "http://host?authToken=secret",
            "http://host#secret",
            "http://host\r\nx: secret",
        ] {
            let error = base_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert!(!error.to_string().contains("me:secret") && !error.to_string().contains("=secret"), "{error}");
        }
    }

    #[test]
    fn a_token_is_asked_for_once_and_again_when_it_is_refused() {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let source = move || Ok(format!("token-{}", count.fetch_add(1, Ordering::Relaxed)));
        let config = RemoteConfig::default().with_token_source(source);
        let server = Server::new("http://localhost:1", config).unwrap();
        assert_eq!(server.token(None).unwrap().unwrap(), "token-0");
        assert_eq!(server.token(None).unwrap().unwrap(), "token-0");
        assert_eq!(server.token(Some("token-0")).unwrap().unwrap(), "token-1");
        // Another thread was refused with the old one: the new one is known already.
        assert_eq!(server.token(Some("token-0")).unwrap().unwrap(), "token-1");
        assert!(!format!("{server:?}").contains("token-"), "{server:?}");
        let config = RemoteConfig::default().with_token("two\r\nlines");
        let error = Server::new("http://localhost:1", config).unwrap().token(None).unwrap_err();
        assert!(error.to_string().contains("token") && !error.to_string().contains("lines"), "{error}");
    }

    #[test]
    fn a_server_that_is_asked_too_often_says_when_to_ask_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n[]") {
                stream.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            let answer = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nwait";
            std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
        });
        let server = Server::new(&url, RemoteConfig::default()).unwrap();
        let error = server.post(&server.pipeline, &[0_u8; 0]).err().unwrap();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::RateLimited, true));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.to_string().contains("HTTP status 429: wait"), "{error}");
        peer.join().unwrap();
    }
}
