//! What holds of requests in every dialect: bounds of number and time, connections, secrets, configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memory_core::{Embedder, ErrorKind, Role};
use memory_embed::{Model, OllamaEmbedder, OpenAiEmbedder, ServerConfig, TooLong};

use crate::dialect::{ALL, Dialect, TINY, assert_alike, texts, tiny};
use crate::peer::{Peer, Reply, ok, status};

fn model() -> Model {
    Model::new("m").with_dimensions(TINY)
}

fn good() -> Peer {
    Peer::start(|request| Dialect::Ollama.serve(request, tiny))
}

fn late(pause: Duration) -> Peer {
    Peer::start(move |request| Reply::Late(pause, Box::new(Dialect::Ollama.serve(request, tiny))))
}

#[tokio::test]
async fn many_texts_are_sent_in_portions_and_come_back_in_order() {
    let peer = good();
    let server = ServerConfig::new(peer.url()).with_texts_per_request(10);
    let embedder = OllamaEmbedder::new(server, model()).unwrap();
    let all: Vec<String> = (0..25).map(|n| format!("text {n}")).collect();
    let vectors = embedder.embed(Role::Query, &all.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    for (vector, text) in vectors.iter().zip(&all) {
        assert_alike(vector, &tiny(text));
    }
    assert_eq!(peer.requests().iter().map(|request| texts(request).len()).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(peer.opened(), 1, "the connection is used again");
}

#[tokio::test]
async fn long_texts_are_guarded_here_because_servers_cut_silently() {
    let peer = good();
    let long = "word ".repeat(100);
    let split = model().with_longest_text(100, TooLong::Split);
    let split = OllamaEmbedder::new(ServerConfig::new(peer.url()), split).unwrap();
    split.embed(Role::Query, &[&long]).await.unwrap();
    assert!(peer.requests().iter().flat_map(texts).all(|text| text.len() <= 100));
    let refuse = model().with_longest_text(100, TooLong::Refuse);
    let refuse = OllamaEmbedder::new(ServerConfig::new(peer.url()), refuse).unwrap();
    let error = refuse.embed(Role::Query, &["short", &long]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("texts[1] is 500 bytes long; allowed: up to 100 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_bounded_also_when_callers_give_up() {
    let peer = late(Duration::from_millis(60));
    let server = ServerConfig::new(peer.url()).with_concurrency(3);
    let embedder = Arc::new(OllamaEmbedder::new(server, model()).unwrap());
    for _ in 0..20 {
        let call = embedder.embed(Role::Query, &["given up"]);
        assert!(tokio::time::timeout(Duration::from_millis(5), call).await.is_err());
    }
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let embedder = Arc::clone(&embedder);
            tokio::spawn(async move { embedder.embed(Role::Query, &[&format!("text {n}")]).await })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_alike(&call.await.unwrap().unwrap()[0], &tiny(&format!("text {n}")));
    }
    assert!(peer.most() <= 3, "{} connections at once", peer.most());
}

#[tokio::test]
async fn waiting_for_a_place_is_bounded_too() {
    let peer = Peer::start(|_| Reply::Hang);
    let limit = Duration::from_millis(150);
    let server = ServerConfig::new(peer.url()).with_concurrency(1).with_timeout(limit);
    let embedder = OllamaEmbedder::new(server, model()).unwrap();
    let begun = Instant::now();
    let (one, two) = tokio::join!(embedder.embed(Role::Query, &["a"]), embedder.embed(Role::Query, &["b"]));
    assert!(begun.elapsed() < limit * 3, "{:?}", begun.elapsed());
    let kinds = [one.unwrap_err(), two.unwrap_err()];
    assert_eq!(kinds[0].kind(), ErrorKind::TimedOut);
    let waited = &kinds[1];
    assert!(matches!(waited.kind(), ErrorKind::Overloaded | ErrorKind::TimedOut) && waited.is_temporary(), "{waited}");
    assert!(waited.to_string().contains(&peer.url()), "{waited}");
}

#[tokio::test]
async fn a_server_that_is_down_is_no_hindrance_to_starting_and_is_used_when_it_is_up() {
    let address = good().address();
    let embedder = OllamaEmbedder::new(ServerConfig::new(format!("http://{address}")), model()).unwrap();
    let error = embedder.embed(Role::Query, &["a"]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true));
    assert!(error.to_string().contains("is the server running?"), "{error}");
    assert!(embedder.health().await.is_err());
    let _peer = Peer::start_at(address, true, |request| Dialect::Ollama.serve(request, tiny));
    embedder.embed(Role::Query, &["a"]).await.unwrap();
    embedder.health().await.unwrap();
}

#[tokio::test]
async fn after_a_restart_of_the_server_the_next_call_works() {
    let mut peer = good();
    let address = peer.address();
    let embedder = OllamaEmbedder::new(ServerConfig::new(peer.url()), model()).unwrap();
    for _ in 0..5 {
        embedder.embed(Role::Query, &["a"]).await.unwrap();
        drop(peer);
        let error = embedder.embed(Role::Query, &["a"]).await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        peer = Peer::start_at(address, true, |request| Dialect::Ollama.serve(request, tiny));
    }
    drop(peer);
    let _peer = Peer::start_at(address, true, |request| Dialect::Ollama.serve(request, tiny));
    embedder.embed(Role::Query, &["a"]).await.expect("the old connection is not used, though nobody noticed its end");
}

#[tokio::test]
async fn connecting_fails_where_a_call_would() {
    for dialect in ALL {
        let peer = Peer::start(|_| status(503, r#"{"error":"loading"}"#));
        let error = dialect.connect(ServerConfig::new(peer.url()), Model::new("m")).await.unwrap_err();
        assert!(error.is_temporary() && error.to_string().contains("loading"), "{error}");
        let peer = Peer::start(move |_| ok(dialect.answer(&[vec![]])));
        let error = dialect.connect(ServerConfig::new(peer.url()), Model::new("m")).await.unwrap_err();
        assert!(error.to_string().contains("a vector of 0 components"), "{error}");
        let peer = Peer::start(move |_| ok(dialect.answer(&[tiny("a")])));
        let other = Model::new("m").with_dimensions(3);
        let error = dialect.connect(ServerConfig::new(peer.url()), other).await.unwrap_err();
        assert!(error.to_string().contains("a vector of 4 components"), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_sent() {
    let peer = good();
    let server = || ServerConfig::new(peer.url());
    for dialect in ALL {
        for (server, model, said) in [
            (server().with_timeout(Duration::ZERO), model(), "server.timeout is 0ns; allowed: 10ms..=3600s"),
            (server().with_connect_timeout(Duration::ZERO), model(), "server.connect_timeout is 0ns"),
            (server().with_concurrency(0), model(), "server.concurrency is 0; allowed: 1..=256"),
            (server().with_texts_per_request(0), model(), "server.texts_per_request is 0; allowed: 1..=2048"),
            (ServerConfig::new("localhost:11434"), model(), "server.url is one without http://; allowed: http://host"),
            (server(), Model::new("").with_dimensions(4), "model.name is \"\"; allowed: a name"),
            (server(), Model::new("m").with_dimensions(0), "model.dimensions is 0; allowed: 1..=65536"),
        ] {
            let refused = dialect.new_embedder(server.clone(), model.clone()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid);
            assert!(refused.to_string().contains(said), "{refused}");
            let refused = dialect.connect(server, model).await.unwrap_err();
            assert!(refused.to_string().contains(said), "{refused}");
        }
        let refused = dialect.new_embedder(server(), Model::new("m")).unwrap_err();
        assert!(refused.to_string().contains("model.dimensions is not given"), "{refused}");
    }
    assert_eq!(peer.count(), 0);
}

#[tokio::test]
async fn a_key_is_shown_nowhere() {
    const KEY: &str = "sk-very-secret";
    let seen = Arc::new(AtomicUsize::new(0));
    let (count, asked) = (Arc::clone(&seen), AtomicUsize::new(0));
    // As careless servers do, it repeats the key, also where it says that all is well.
    let peer = Peer::start(move |request| {
        count.fetch_add(usize::from(request.headers["authorization"].contains(KEY)), Ordering::Relaxed);
        let told = format!("Incorrect API key provided: {KEY}");
        match asked.fetch_add(1, Ordering::Relaxed) {
            0..3 => status(401, format!(r#"{{"error":"{told}"}}"#)),
            3 => status(200, format!(r#"{{"error":"{told}"}}"#)),
            4 => status(200, format!(r#"{{"data":"{told}"}}"#)),
            _ => status(200, r#"{"error":"\u0073k-very-secret"}"#.to_owned()),
        }
    });
    let server = ServerConfig::new(peer.url()).with_key(KEY);
    let embedder = OpenAiEmbedder::new(server.clone(), model()).unwrap();
    let mut shown = vec![format!("{server:?}"), format!("{embedder:?}"), embedder.to_string()];
    for error in [
        embedder.embed(Role::Query, &["a"]).await.unwrap_err(),
        embedder.health().await.unwrap_err(),
        OpenAiEmbedder::connect(server, model()).await.unwrap_err(),
        embedder.embed(Role::Query, &["a"]).await.unwrap_err(),
        embedder.embed(Role::Query, &["a"]).await.unwrap_err(),
        embedder.embed(Role::Query, &["a"]).await.unwrap_err(),
        OpenAiEmbedder::new(ServerConfig::new(peer.url()).with_key(format!("{KEY}\n")), model()).unwrap_err(),
        OpenAiEmbedder::new(ServerConfig::new(format!("http://{KEY}@host")), model()).unwrap_err(),
    ] {
        shown.extend([error.to_string(), format!("{error:?}"), format!("{error:#?}")]);
    }
    assert_eq!(seen.load(Ordering::Relaxed), 6, "the server got it");
    for text in shown {
        assert!(!text.contains("secret"), "{text}");
    }
}
