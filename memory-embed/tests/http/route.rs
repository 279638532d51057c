//! The older `/embed`.

use memory_core::ErrorKind::{Invalid, RateLimited};
use memory_core::{Embedder, Role};
use memory_embed::{Model, RouteEmbedder, ServerConfig};
use serde_json::json;

use crate::dialect::{TINY, assert_alike, tiny};
use crate::peer::{Peer, ok, status};

fn embedder(peer: &Peer) -> RouteEmbedder {
    RouteEmbedder::new(ServerConfig::new(peer.url()), Model::new("m").with_dimensions(TINY)).unwrap()
}

#[tokio::test]
async fn one_vector_may_stand_alone() {
    let peer = Peer::start(|_| ok(json!({"embedding": tiny("a")})));
    assert_alike(&embedder(&peer).embed(Role::Query, &["a"]).await.unwrap()[0], &tiny("a"));
    assert_eq!(peer.requests()[0].path, "/embed");
    assert_eq!(peer.requests()[0].body, json!({"model": "m", "input": ["a"], "texts": ["a"]}));
}

#[tokio::test]
async fn its_errors_are_understood() {
    let body = json!({"error": {"code": "bad_input", "message": "the cause"}});
    for (code, kind) in [(422, Invalid), (429, RateLimited)] {
        let body = body.clone();
        let peer = Peer::start(move |_| status(code, &body));
        let error = embedder(&peer).embed(Role::Query, &["a"]).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains("the cause (bad_input)"), "{error}");
    }
}

#[tokio::test]
async fn health_is_asked_for_by_its_own_path() {
    let peer = Peer::start(|_| ok("ok"));
    embedder(&peer).health().await.unwrap();
    assert_eq!(peer.requests()[0].path, "/health");
}
