//! An MCP session belongs to the token that opened it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::{Extension, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use memory_core::{Error, ErrorKind};
use rmcp::transport::streamable_http_server::session::SessionManager as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;

use super::Shared;
use super::guard::{Identity, refused};
use super::lasting::Lasting;
use crate::service::Refusal;

const HEADER: &str = "mcp-session-id";
/// Sessions of one owner at once; the oldest makes room for another one.
const MOST: usize = 256;

/// Whose each session is.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) manager: Arc<LocalSessionManager>,
    owned: Mutex<HashMap<String, (Identity, Instant)>>,
}

impl Identity {
    /// Whether sessions of the one are the other's. A token that takes another's place keeps the sessions.
    fn owns_with(&self, other: &Self) -> bool {
        (&self.name, &self.scope) == (&other.name, &other.scope)
    }
}

impl Sessions {
    fn owned(&self) -> MutexGuard<'_, HashMap<String, (Identity, Instant)>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that nobody is known to own is nobody's.
    fn is_of(&self, session: &str, identity: &Identity) -> bool {
        self.owned().get(session).is_some_and(|(owner, _)| owner.owns_with(identity))
    }

    async fn add(&self, session: &str, identity: Identity) {
        let since = Instant::now();
        let alive: HashSet<String> = self.manager.sessions.read().await.keys().map(ToString::to_string).collect();
        let oldest = self.own(session, identity, &alive, since);
        if let Some(oldest) = oldest {
            // It may have ended by itself.
            let _ = self.manager.close_session(&oldest.into()).await;
        }
    }

    /// Takes note of a session; gives the one that has to make room for it. Those that are not among the living are given up,
    /// unless they were opened since these were looked at.
    fn own(&self, session: &str, identity: Identity, alive: &HashSet<String>, since: Instant) -> Option<String> {
        let mut owned = self.owned();
        owned.retain(|session, (_, opened)| *opened >= since || alive.contains(session));
        let own = || owned.iter().filter(|(_, (owner, _))| owner.owns_with(&identity));
        let oldest = own().min_by_key(|(_, (_, opened))| *opened).map(|(session, _)| session.clone());
        let oldest = oldest.filter(|_| own().count() >= MOST);
        if let Some(oldest) = &oldest {
            owned.remove(oldest);
        }
        owned.insert(session.to_owned(), (identity, Instant::now()));
        oldest
    }
}

/// Whether the answer lasts for as long as the client listens.
pub(super) fn is_open_ended(request: &Request) -> bool {
    let listens = request.headers().get("mcp-method").is_some_and(|method| method == "subscriptions/listen");
    let path = request.uri().path();
    (path == "/mcp" || path.starts_with("/mcp/")) && (request.method() == Method::GET || listens)
}

/// Hides a session from everyone else, takes note of new ones, and ends streams whose token is taken out.
pub(super) async fn keep_apart(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    request: Request,
    next: Next,
) -> Response {
    let session = request.headers().get(HEADER).map(|session| session.to_str().unwrap_or_default().to_owned());
    if session.as_deref().is_some_and(|session| !shared.sessions.is_of(session, &identity)) {
        return refused(&Refusal::Failed(Error::new(ErrorKind::NotFound, "there is no such session")));
    }
    let response = next.run(request).await;
    if session.is_none()
        && let Some(new) = response.headers().get(HEADER).and_then(|value| value.to_str().ok())
    {
        shared.sessions.add(new, identity.clone()).await;
    }
    let taken_out = async move {
        match &shared.tokens {
            Some(tokens) => tokens.taken_out(&identity.hash).await,
            None => std::future::pending().await,
        }
    };
    response.map(|body| Lasting::body(body, taken_out, None))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memory_core::Scope;

    use super::*;

    /// One that was opened while another one was taken note of lost its owner: it was not among those that lived before.
    #[test]
    fn only_the_dead_are_given_up() {
        let (sessions, before) = (Sessions::default(), Instant::now());
        let identity = || Identity { name: "ci".to_owned(), scope: Scope::default(), hash: [0; 32] };
        let own = |session: &str, alive: &[&str], since| {
            sessions.own(session, identity(), &alive.iter().map(|session| (*session).to_owned()).collect(), since)
        };
        for (session, alive) in [("one", &["one"][..]), ("two", &["one", "two"]), ("three", &["one", "three"])] {
            assert_eq!(own(session, alive, before), None);
        }
        assert!(["one", "two", "three"].iter().all(|session| sessions.is_of(session, &identity())));
        own("four", &["one", "four"], Instant::now() + Duration::from_secs(1));
        assert!(["one", "four"].iter().all(|session| sessions.is_of(session, &identity())));
        assert!(["two", "three"].iter().all(|session| !sessions.is_of(session, &identity())));
    }

    /// Whoever ends the server waits for all else.
    #[test]
    fn streams_are_open_ended() {
        for (method, path, lasts) in [
            (Method::GET, "/mcp", true),
            (Method::GET, "/mcp/", true),
            (Method::GET, "/mcp/x?y", true),
            (Method::POST, "/mcp/", false),
            (Method::GET, "/mcpx", false),
            (Method::GET, "/metrics", false),
        ] {
            let mut request = Request::new(axum::body::Body::empty());
            (*request.method_mut(), *request.uri_mut()) = (method, path.parse().unwrap());
            assert_eq!(is_open_ended(&request), lasts, "{path}");
        }
    }
}
