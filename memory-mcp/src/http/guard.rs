//! What every request must pass: its host and origin, its token, its rate, the size of its body.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode, Uri, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use memory_core::{Error, ErrorKind, Result, Scope};
use serde_json::json;
use tracing::Instrument as _;
use uuid::Uuid;

use super::lasting::Lasting;
use super::{PATIENCE, Shared, sessions};
use crate::service::{Caller, Refusal, Right};
use crate::traces::{self, Trace};

/// By these names this server is reached from the machine it runs on.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The port of whoever names none.
const HTTP: u16 = 80;

/// Those that the log names.
const METHODS: [&str; 7] = ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"];

const REQUEST_ID: &str = "x-request-id";

/// Whose token it is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) scope: Scope,
    /// Of the token; nothing without tokens.
    pub(super) hash: [u8; 32],
}

/// By what a request is known: the id that its answer and the log have, and its place in a trace.
#[derive(Clone, Debug)]
struct Known {
    id: Arc<str>,
    trace: Trace,
}

/// Which hosts and origins are served. A page of another origin, or one whose name was made to lead here (DNS rebinding), is not.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<(String, Option<u16>)>,
    origins: Vec<String>,
}

impl Guard {
    pub(super) fn new(at: SocketAddr, hosts: &[String], origins: &[String]) -> Result<Self> {
        let mut known: Vec<(String, Option<u16>)> = LOOPBACK.map(|host| (host.to_owned(), Some(at.port()))).into();
        known.push((authority(&at.to_string()).map_or_else(|| at.ip().to_string(), |(host, _)| host), Some(at.port())));
        for host in hosts {
            known.push(authority(host).ok_or_else(|| Error::invalid("http.hosts", host, "a host, or host:port"))?);
        }
        let parsed = |origin: &String| {
            let uri: Option<Uri> = origin.parse().ok();
            let plain = uri.filter(|uri| uri.scheme().is_some() && uri.path() == "/" && uri.query().is_none());
            let range = "such as https://app.example.com";
            plain
                .map(|_| origin.trim_end_matches('/').to_ascii_lowercase())
                .ok_or_else(|| Error::invalid("http.origins", origin, range))
        };
        let mut origins = origins.iter().map(parsed).collect::<Result<Vec<String>>>()?;
        origins.extend(LOOPBACK.map(|host| format!("http://{host}:{}", at.port())));
        Ok(Self { hosts: known, origins })
    }

    /// HTTP/1.1 requests name exactly one host, and may name it again in their target (RFC 9112, section 3.2).
    fn knows_host(&self, request: &Request) -> bool {
        let mut named = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else { return false };
        let target = request.uri().authority().map(Authority::as_str);
        host.to_str().is_ok_and(|host| self.serves(host)) && target.is_none_or(|target| self.serves(target))
    }

    fn serves(&self, host: &str) -> bool {
        let Some((host, port)) = authority(host) else { return false };
        let port = port.unwrap_or(HTTP);
        self.hosts.iter().any(|known| known.0 == host && known.1.is_none_or(|known| known == port))
    }

    /// Programs send no origin.
    fn knows_origin(&self, request: &Request) -> bool {
        let mut named = request.headers().get_all(ORIGIN).iter();
        named.all(|origin| origin.to_str().is_ok_and(|origin| self.origins.contains(&origin.to_ascii_lowercase())))
    }
}

fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    let plain = !authority.as_str().contains('@') && !authority.host().is_empty();
    plain.then(|| (authority.host().to_ascii_lowercase(), authority.port_u16()))
}

/// A refusal as a response, for a program.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Forbidden { .. } => StatusCode::FORBIDDEN,
        Refusal::Failed(error) => status(error.kind()),
    };
    let mut response = (status, Json(json!({ "error": refusal.to_json() }))).into_response();
    if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds_to_wait(refusal)));
    }
    response
}

/// As long as is known, else a second.
fn seconds_to_wait(refusal: &Refusal) -> u64 {
    let Refusal::Failed(error) = refusal else { return 1 };
    error.retry_after().map_or(1, |after| after.as_secs() + u64::from(after.subsec_nanos() > 0))
}

/// What an error of this kind is answered with.
pub(super) fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists
        | ErrorKind::EpisodeClosed
        | ErrorKind::Held
        | ErrorKind::LeaseLost
        | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Busy | ErrorKind::Overloaded | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Full | ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer that no operation gave.
pub(super) fn plain(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "kind": kind, "message": message, "temporary": false } }))).into_response()
}

/// The first and last of all: gives the request an id, refuses other hosts and origins, logs and counts.
pub(super) async fn observe(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let (id, started) = (request_id(&request), Instant::now());
    let under_way = (!sessions::is_open_ended(&request)).then(|| shared.under_way.token());
    // A method is a word of the client's choice.
    let method = request.method().as_str();
    let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("-");
    // Not the path that was asked for: it may be anything.
    let path = request.extensions().get::<axum::extract::MatchedPath>().map(|path| path.as_str().to_owned());
    let path = path.as_deref().unwrap_or("-");
    let span = tracing::info_span!("request", request_id = %id, method, path, otel.kind = traces::SERVER);
    traces::continue_from(&span, request.headers());
    request.extensions_mut().insert(Known { id: id.as_str().into(), trace: Trace::of(&span) });
    let mut response = async {
        if !shared.guard.knows_host(&request) {
            return plain(StatusCode::MISDIRECTED_REQUEST, "unknown_host", "this host is not served; see http.hosts");
        }
        if !shared.guard.knows_origin(&request) {
            return plain(StatusCode::FORBIDDEN, "unknown_origin", "this origin is not served; see http.origins");
        }
        next.run(request).await
    }
    .instrument(span.clone())
    .await;
    let status = response.status().as_u16();
    shared.service.metrics().answered(status);
    let milliseconds = started.elapsed().as_secs_f64() * 1_000.0;
    span.in_scope(|| tracing::info!(status, milliseconds, "answered"));
    traces::tell(&span, "http.response.status_code", i64::from(status));
    if response.status().is_server_error() {
        traces::fail(&span, status.to_string());
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response.map(|body| Lasting::body(body, std::future::pending(), under_way))
}

/// The client's, if it is a word of at most 64 bytes; else a new one.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let word = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|one| one.is_ascii_alphanumeric() || b"-_.".contains(&one))
    };
    given.filter(word).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Finds out who asks, and takes the body in, as far as both are allowed.
pub(super) async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (identity, mut caller, rate) = match identify(&shared, &request) {
        Ok(known) => known,
        Err(response) => return *response,
    };
    if let Some(Known { id, trace }) = request.extensions().get() {
        caller = caller.for_request(Arc::clone(id)).in_trace(trace.clone());
    }
    if let Err(after) = shared.rates.take(&identity.name, rate) {
        let error = Error::new(ErrorKind::RateLimited, "more requests than allowed").with_temporary(true);
        return refused(&Refusal::Failed(error.with_retry_after(after)));
    }
    let (mut parts, body) = request.into_parts();
    if body.size_hint().lower() > shared.max_body_bytes as u64 {
        return too_large(&shared);
    }
    let body = match tokio::time::timeout(PATIENCE, to_bytes(body, shared.max_body_bytes)).await {
        Ok(Ok(bytes)) => Body::from(bytes),
        Ok(Err(_)) => return too_large(&shared),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "timed_out", "the body took too long"),
    };
    parts.extensions.insert(caller);
    parts.extensions.insert(identity);
    // Nothing further in needs the token.
    parts.headers.remove(AUTHORIZATION);
    next.run(Request::from_parts(parts, body)).await
}

fn too_large(shared: &Shared) -> Response {
    let message = format!("the body has more than {} bytes, or broke off", shared.max_body_bytes);
    plain(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message)
}

/// Whether whoever sends a request that needs no token has one for everything.
pub(super) fn is_admin(shared: &Shared, request: &Request) -> bool {
    identify(shared, request).is_ok_and(|(_, caller, _)| caller.right() == Right::Admin)
}

type Identified = (Identity, Caller, Option<u32>);

fn identify(shared: &Shared, request: &Request) -> Result<Identified, Box<Response>> {
    let Some(tokens) = &shared.tokens else {
        let scope = shared.owner.memory().scope().clone();
        return Ok((Identity { name: String::new(), scope, hash: [0; 32] }, shared.owner.clone(), None));
    };
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer =
        presented.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let token = bearer.and_then(|(_, token)| tokens.find(token.trim())).ok_or_else(|| {
        let mut response = plain(StatusCode::UNAUTHORIZED, "unauthorized", "a valid bearer token is needed");
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Box::new(response)
    })?;
    let (name, scope) = (token.source.name.clone(), token.scope.clone());
    let (identity, rate) = (Identity { name, scope, hash: token.hash }, token.rate_per_minute);
    let caller = Caller::new(Arc::clone(&shared.service), token.scope, token.source, token.right);
    Ok((identity, caller.map_err(|error| Box::new(refused(&Refusal::Failed(error))))?, rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_when_to_try_again() {
        let refused = |kind: ErrorKind, after: Option<u64>| {
            let error = Error::new(kind, "x");
            let after = after.map(std::time::Duration::from_millis);
            let answer = refused(&Refusal::Failed(after.into_iter().fold(error, Error::with_retry_after)));
            let after = answer.headers().get(RETRY_AFTER).map(|after| after.to_str().unwrap().to_owned());
            (answer.status().as_u16(), after.unwrap_or_default())
        };
        for (kind, after, told) in [
            (ErrorKind::RateLimited, Some(1_200), (429, "2")),
            (ErrorKind::Overloaded, None, (503, "1")),
            (ErrorKind::Busy, Some(10), (503, "1")),
            (ErrorKind::Unavailable, Some(30_000), (503, "30")),
            (ErrorKind::NotFound, None, (404, "")),
            (ErrorKind::Corrupt, None, (500, "")),
        ] {
            assert_eq!(refused(kind, after), (told.0, told.1.to_owned()), "{kind}");
        }
    }

    #[test]
    fn whoever_names_no_port_means_80() {
        let guard = Guard::new(([127, 0, 0, 1], 80).into(), &["memory.example:8443".to_owned()], &[]).unwrap();
        for (host, served) in [
            ("localhost", true),
            ("localhost:80", true),
            ("localhost:81", false),
            ("[::1]", true),
            ("memory.example:8443", true),
            ("memory.example", false),
        ] {
            assert_eq!(guard.serves(host), served, "{host}");
        }
    }
}
