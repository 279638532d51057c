//! The server over HTTP/1.1: MCP at `/mcp` (streamable HTTP), the same operations at `/v1/…`, and what operators ask for.
//!
//! | path | who | what |
//! |---|---|---|
//! | `/mcp` | any token | [MCP](crate::mcp) |
//! | `POST /v1/<operation>` | any token, with the right the operation needs | an operation, JSON to JSON |
//! | `GET /openapi.json` | anyone | what `/v1` takes and answers |
//! | `GET /health` | anyone | that the process is alive, and how it is, or was in the last second; details for admins |
//! | `GET /ready` | anyone | 200 if the store answers, or did in the last second, and the tokens can be read, else 503 |
//! | `GET /metrics`, `/metrics.json` | admin | what is counted |
//!
//! Without a file of tokens, whoever reaches it is its owner: so it then listens on the loopback interface only.

mod guard;
mod lasting;
mod observe;
mod openapi;
mod rate;
mod recent;
mod rest;
mod sessions;
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use memory_core::{Error, ErrorKind, Health, Result, StoreHealth};
use rmcp::transport::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::StreamableHttpService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::mcp::McpServer;
use crate::service::{Caller, Service};
use guard::Guard;
use rate::Rates;
use recent::Recent;
use sessions::Sessions;
pub use tokens::NewToken;
use tokens::Tokens;

/// How the server is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The file of tokens.
    pub tokens: Option<PathBuf>,
    /// Hosts that requests may name besides loopback and `bind`, with or without a port.
    pub hosts: Vec<String>,
    /// Origins of web pages that may send requests, such as `https://app.example.com`.
    pub origins: Vec<String>,
    /// Requests a minute for each token that has no rate of its own.
    pub rate_per_minute: u32,
    /// The largest body of a request, in bytes.
    pub max_body_bytes: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8787)),
            tokens: None,
            hosts: Vec::new(),
            origins: Vec::new(),
            rate_per_minute: 6_000,
            max_body_bytes: 4_194_304,
        }
    }
}

impl HttpConfig {
    fn check_bind(&self) -> Result<()> {
        if self.tokens.is_some() || self.bind.ip().is_loopback() {
            return Ok(());
        }
        Err(Error::invalid("http.bind", self.bind, "a loopback address, or a file of tokens in http.tokens"))
    }

    /// What is seen without opening anything, by the key of the setting.
    pub(crate) fn check(&self) -> [(&'static str, Result<()>); 3] {
        let guard = |hosts: &[String], origins: &[String]| Guard::new(self.bind, hosts, origins).map(drop);
        [
            ("http.bind", self.check_bind()),
            ("http.hosts", guard(&self.hosts, &[])),
            ("http.origins", guard(&[], &self.origins)),
        ]
    }
}

/// Connections at once; more wait.
const CONNECTIONS: usize = 1_024;
/// How long a client may take for the headers of a request, and for its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// Headers of a request, and bytes of them.
const HEADERS: (usize, usize) = (64, 65_536);
/// How long requests that are under way have when the server is told to end.
const DRAIN: Duration = Duration::from_secs(10);

/// What requests are answered from.
#[derive(Debug)]
struct Shared {
    service: Arc<Service>,
    /// Who everyone is without tokens.
    owner: Caller,
    tokens: Option<Tokens>,
    rates: Rates,
    sessions: Sessions,
    guard: Guard,
    health: Recent<Result<Health>>,
    store: Recent<Result<StoreHealth>>,
    /// Requests that are to be answered before the server ends.
    under_way: TaskTracker,
    max_body_bytes: usize,
}

/// A server that listens.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    router: Router,
    service: Arc<Service>,
    under_way: TaskTracker,
    /// Ends MCP sessions and streams.
    ending: CancellationToken,
}

impl HttpServer {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for an address other than loopback without tokens, for a file of tokens that cannot be
    /// read, and for hosts and origins that are none; [`Io`](ErrorKind::Io) if the address cannot be had.
    pub async fn bind(service: Arc<Service>, owner: Caller, config: HttpConfig) -> Result<Self> {
        config.check_bind()?;
        let tokens = config.tokens.map(Tokens::read).transpose()?;
        let listener = TcpListener::bind(config.bind).await.map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot listen on {}", config.bind)).with_source(error)
        })?;
        let at = listener.local_addr().unwrap_or(config.bind);
        let (ending, under_way) = (CancellationToken::new(), TaskTracker::new());
        let shared = Arc::new(Shared {
            service: Arc::clone(&service),
            owner,
            tokens,
            rates: Rates::new(config.rate_per_minute)?,
            sessions: Sessions::default(),
            guard: Guard::new(at, &config.hosts, &config.origins)?,
            health: Recent::default(),
            store: Recent::default(),
            under_way: under_way.clone(),
            max_body_bytes: config.max_body_bytes,
        });
        Ok(Self { listener, router: router(&shared, &ending), service, under_way, ending })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `end` is ready; then lets requests that are under way end, and calls whose clients have gone, for ten seconds
    /// at most, and closes the memory.
    ///
    /// # Errors
    /// Those of closing the memory.
    pub async fn serve(self, end: impl Future<Output = ()>) -> Result<()> {
        let (connections, graceful) = (Arc::new(Semaphore::new(CONNECTIONS)), GracefulShutdown::new());
        let mut end = pin!(end);
        loop {
            let accepted = async {
                let permit = Arc::clone(&connections).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, stream) = tokio::select! {
                (permit, accepted) = accepted => match accepted {
                    Ok((stream, _)) => (permit, stream),
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = &mut end => break,
            };
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_headers(HEADERS.0)
                .max_buf_size(HEADERS.1)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router.clone()));
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended badly");
                }
                drop(permit);
            });
        }
        drop(self.listener);
        self.under_way.close();
        let answered = async {
            self.under_way.wait().await;
            self.ending.cancel();
        };
        let until = Instant::now() + DRAIN;
        if timeout_at(until, async { tokio::join!(graceful.shutdown(), answered) }).await.is_err() {
            tracing::warn!("requests were still under way when the server ended");
        }
        self.service.close(until).await
    }
}

fn router(shared: &Arc<Shared>, ending: &CancellationToken) -> Router {
    // Hosts and origins are checked for all paths, by the guard.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_max_request_body_bytes(shared.max_body_bytes)
        .with_cancellation_token(ending.clone());
    let sessions = Arc::clone(&shared.sessions.manager);
    let mcp = StreamableHttpService::new(|| Ok(McpServer::per_request()), sessions, config);
    let callers = Router::new()
        .nest_service("/mcp", mcp)
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(shared), sessions::keep_apart))
        .route("/v1/{operation}", post(rest::call))
        .route("/metrics", get(observe::metrics))
        .route("/metrics.json", get(observe::metrics_json))
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(shared), guard::admit));
    let anyone = Router::new()
        .route("/health", get(observe::health))
        .route("/ready", get(observe::ready))
        .route("/openapi.json", get(openapi::document));
    callers
        .merge(anyone)
        .fallback(rest::no_such_path)
        .method_not_allowed_fallback(rest::no_such_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(shared), guard::observe))
        .with_state(Arc::clone(shared))
}
