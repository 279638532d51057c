//! Ollama's `/api/embed`, row by row.

use memory_core::ErrorKind::{Invalid, RateLimited, Unavailable};
use memory_core::{Embedder, Role};
use memory_embed::{Model, OllamaEmbedder, ServerConfig};
use serde_json::{Value, json};

use crate::dialect::{Dialect, TINY, assert_alike, tiny};
use crate::peer::{Peer, ok, status};

fn good() -> Peer {
    Peer::start(|request| Dialect::Ollama.serve(request, tiny))
}

fn embedder(peer: &Peer) -> OllamaEmbedder {
    OllamaEmbedder::new(ServerConfig::new(peer.url()), Model::new("m").with_dimensions(TINY)).unwrap()
}

#[tokio::test]
async fn connecting_learns_the_dimensions_and_who_it_is() {
    let peer = good();
    let model = Model::new("nomic-embed-text:v1.5").with_revision("2");
    let embedder = OllamaEmbedder::connect(ServerConfig::new(peer.url()), model).await.unwrap();
    let space = embedder.space();
    assert_eq!((space.dimensions, space.normalised), (TINY, true));
    assert_eq!((&*space.provider, &*space.model, &*space.revision), ("ollama", "nomic-embed-text:v1.5", "2"));
    assert_eq!(embedder.to_string(), format!("OllamaEmbedder({}/api/embed, nomic-embed-text:v1.5)", peer.url()));
    let request = &peer.requests()[0];
    assert_eq!((&*request.method, &*request.path), ("POST", "/api/embed"));
    assert_eq!(request.body["input"], json!(["search_document: hello world"]));
}

#[tokio::test]
async fn roles_have_their_prefixes_since_the_server_adds_none() {
    let peer = good();
    let model = Model::new("embeddinggemma").with_dimensions(TINY);
    let embedder = OllamaEmbedder::new(ServerConfig::new(peer.url()), model).unwrap();
    for (role, prefix) in [(Role::Query, "task: search result | query: "), (Role::Document, "title: none | text: ")] {
        let vectors = embedder.embed(role, &["log in"]).await.unwrap();
        assert_alike(&vectors[0], &tiny(&format!("{prefix}log in")));
    }
}

#[tokio::test]
async fn nothing_is_asked_for_nothing_and_an_empty_text_is_one() {
    let peer = good();
    let embedder = embedder(&peer);
    assert!(embedder.embed(Role::Query, &[]).await.unwrap().is_empty());
    assert_eq!(peer.count(), 0, "the server answers 200 without vectors to that");
    assert_alike(&embedder.embed(Role::Query, &[""]).await.unwrap()[0], &tiny(""));
}

#[tokio::test]
async fn cutting_is_forbidden_and_shortening_only_asked_for_when_it_is_wished() {
    let peer = good();
    embedder(&peer).embed(Role::Query, &["a"]).await.unwrap();
    assert_eq!(peer.requests()[0].body, json!({"model": "m", "input": ["a"], "truncate": false}));

    let server = ServerConfig::new(peer.url()).with_shorten(true);
    let shortened = OllamaEmbedder::new(server.clone(), Model::new("m").with_dimensions(TINY)).unwrap();
    shortened.embed(Role::Query, &["a"]).await.unwrap();
    assert_eq!(peer.requests()[1].body["dimensions"], json!(TINY));

    // At or above the native length it is silently ignored.
    let more = OllamaEmbedder::new(server.clone(), Model::new("m").with_dimensions(99)).unwrap();
    let error = more.embed(Role::Query, &["a"]).await.unwrap_err().to_string();
    assert!(error.contains("a vector of 4 components") && error.contains("99 dimensions"), "{error}");

    let error = OllamaEmbedder::new(server, Model::new("m")).unwrap_err().to_string();
    assert!(error.contains("model.dimensions is not given"), "{error}");
}

#[tokio::test]
async fn its_errors_are_classified_by_status_and_message() {
    for (code, message, kind, temporary) in [
        (400, "invalid input type", Invalid, false),
        (400, "invalid model name", Invalid, false),
        (400, "embedding contains NaN or Inf values", Invalid, false),
        (500, "failed to encode response: json: unsupported value: NaN", Invalid, false),
        (404, "model 'm' not found", Unavailable, false),
        (404, "model \"m\" not found, try pulling it first", Unavailable, false),
        (499, "request canceled", Unavailable, true),
        (503, "server busy, please try again.  maximum pending requests exceeded", Unavailable, true),
        (429, "too many requests", RateLimited, true),
        (502, "bad gateway", Unavailable, true),
        (500, "llama runner process has terminated", Unavailable, true),
    ] {
        let peer = Peer::start(move |_| status(code, json!({"error": message})));
        let error = embedder(&peer).embed(Role::Query, &["a"]).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (kind, temporary), "{code} {message}: {error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_the_route_is_told_so() {
    let peer = Peer::start(|_| status(404, "404 page not found"));
    let error = embedder(&peer).embed(Role::Query, &["a"]).await.unwrap_err().to_string();
    assert!(error.contains("no /api/embed: is it Ollama"), "{error}");
}

#[tokio::test]
async fn vectors_of_different_lengths_in_one_answer_are_refused() {
    let peer = Peer::start(|_| ok(json!({"embeddings": [[1.0, 0.0, 0.0, 0.0], [1.0, 0.0]]})));
    let error = embedder(&peer).embed(Role::Query, &["a", "b"]).await.unwrap_err().to_string();
    assert!(error.contains("a vector of 2 components"), "{error}");
}

#[tokio::test]
async fn health_asks_for_the_version_and_for_nothing_else() {
    let peer = good();
    embedder(&peer).health().await.unwrap();
    let asked: Vec<(String, Value)> = peer.requests().into_iter().map(|request| (request.path, request.body)).collect();
    assert_eq!(asked, [("/api/version".to_owned(), Value::Null)]);
    let down = Peer::start(|_| status(503, ""));
    assert!(embedder(&down).health().await.unwrap_err().is_temporary());
}
