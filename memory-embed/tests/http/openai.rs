//! OpenAI's `/v1/embeddings`, as OpenAI and the MLX servers speak it, row by row.

use memory_core::ErrorKind::{Invalid, Unavailable};
use memory_core::{Embedder, Role};
use memory_embed::{MlxEmbedder, Model, OpenAiEmbedder, ServerConfig};
use serde_json::json;

use crate::dialect::{Dialect, TINY, assert_alike, tiny};
use crate::peer::{Peer, Reply, ok, status};

fn good() -> Peer {
    Peer::start(|request| Dialect::OpenAi.serve(request, tiny))
}

fn model() -> Model {
    Model::new("m").with_dimensions(TINY)
}

fn mlx(peer: &Peer) -> MlxEmbedder {
    MlxEmbedder::new(ServerConfig::new(peer.url()), model()).unwrap()
}

#[tokio::test]
async fn an_address_without_a_path_gets_the_version() {
    let peer = Peer::start(|_| ok(Dialect::OpenAi.answer(&[tiny("a")])));
    for (path, asked) in [
        ("", "/v1/embeddings"),
        ("/", "/v1/embeddings"),
        ("/v1", "/v1/embeddings"),
        ("/v1/", "/v1/embeddings"),
        ("/api/openai", "/api/openai/embeddings"),
        ("/proxy/v1", "/proxy/v1/embeddings"),
    ] {
        let server = ServerConfig::new(peer.url() + path);
        OpenAiEmbedder::new(server, model()).unwrap().embed(Role::Query, &["a"]).await.unwrap();
        assert_eq!(peer.requests().last().unwrap().path, asked);
    }
}

#[tokio::test]
async fn requests_have_the_key_and_what_all_servers_understand() {
    let peer = good();
    let server = ServerConfig::new(peer.url()).with_key("sk-1");
    OpenAiEmbedder::new(server, model()).unwrap().embed(Role::Query, &["a", ""]).await.unwrap();
    let request = &peer.requests()[0];
    assert_eq!(request.headers["authorization"], "Bearer sk-1");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.body, json!({"model": "m", "input": ["a", " "], "encoding_format": "float"}));

    mlx(&peer).embed(Role::Query, &["a"]).await.unwrap();
    assert!(!peer.requests()[1].headers.contains_key("authorization"));

    let server = ServerConfig::new(peer.url()).with_shorten(true);
    OpenAiEmbedder::new(server, model()).unwrap().embed(Role::Query, &["a"]).await.unwrap();
    assert_eq!(peer.requests()[2].body["dimensions"], json!(TINY));
}

#[tokio::test]
async fn vectors_are_sorted_by_index() {
    let peer = Peer::start(|_| {
        let item = |index, text| json!({"object": "embedding", "index": index, "embedding": tiny(text)});
        ok(json!({"object": "list", "data": [item(2, "c"), item(0, "a"), item(1, "b")], "usage": null}))
    });
    let vectors = mlx(&peer).embed(Role::Query, &["a", "b", "c"]).await.unwrap();
    for (vector, text) in vectors.iter().zip(["a", "b", "c"]) {
        assert_alike(vector, &tiny(text));
    }
}

#[tokio::test]
async fn places_that_are_missing_twice_there_or_out_of_range_are_refused() {
    let item = |index| json!({"index": index, "embedding": tiny("a")});
    for (data, said) in [
        (json!([item(json!(0)), item(json!(0))]), "index 0 twice"),
        (json!([item(json!(0)), item(json!(2))]), "index 2 of 2"),
        (json!([item(json!(0)), {"embedding": tiny("a")}]), "missing field `index`"),
        (json!([item(json!(0))]), "1 vectors for 2 texts"),
    ] {
        let body = json!({"object": "list", "data": data});
        let peer = Peer::start(move |_| ok(&body));
        let error = mlx(&peer).embed(Role::Query, &["a", "b"]).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (Unavailable, false));
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn vectors_in_base64_are_read_though_nobody_asked_for_them() {
    // 0.5, -0.5, 0.5, -0.5: numbers of four bytes, the lowest first.
    let peer = Peer::start(|_| ok(json!({"data": [{"index": 0, "embedding": "AAAAPwAAAL8AAAA/AAAAvw=="}]})));
    let vectors = mlx(&peer).embed(Role::Query, &["a"]).await.unwrap();
    assert_eq!(vectors[0].as_slice(), [0.5, -0.5, 0.5, -0.5]);
}

#[tokio::test]
async fn vectors_are_brought_to_length_one_unless_the_model_says_otherwise() {
    let peer = Peer::start(|_| ok(Dialect::OpenAi.answer(&[vec![3.0, 0.0, 4.0, 0.0]])));
    assert_eq!(mlx(&peer).embed(Role::Query, &["a"]).await.unwrap()[0].as_slice(), [0.6, 0.0, 0.8, 0.0]);
    let as_they_are = MlxEmbedder::new(ServerConfig::new(peer.url()), model().with_normalised(false)).unwrap();
    assert_eq!(as_they_are.embed(Role::Query, &["a"]).await.unwrap()[0].as_slice(), [3.0, 0.0, 4.0, 0.0]);
}

#[tokio::test]
async fn the_errors_of_mlx_servers_are_understood() {
    for (code, body, kind, temporary, said) in [
        // mlx-vlm.
        (
            400,
            json!({"detail": "Model x is not available for embeddings"}),
            Unavailable,
            false,
            "does not have the model",
        ),
        (500, json!({"detail": "boom"}), Unavailable, true, "boom"),
        (
            422,
            json!({"detail": [{"loc": ["body", "input"], "msg": "Field required"}]}),
            Invalid,
            false,
            "Field required",
        ),
        // vllm-mlx.
        (400, json!({"detail": "Model x is not in the list of allowed models"}), Unavailable, false, "have the model"),
        // mlx-openai-server.
        (500, json!({"detail": {"error": {"message": "wrapped", "type": "t"}}}), Unavailable, true, "wrapped"),
        (503, json!({"error": {"message": "Model handler not initialized"}}), Unavailable, true, "not initialized"),
        // mlx-omni-server.
        (500, json!({"detail": "every failure"}), Unavailable, true, "every failure"),
        // mlx-lm.
        (404, json!("Not Found"), Unavailable, false, "mlx-lm's has none"),
    ] {
        let peer = Peer::start(move |_| status(code, &body));
        let error = mlx(&peer).embed(Role::Query, &["a"]).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (kind, temporary), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_no_limit_that_passes() {
    let body = json!({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}});
    let peer = Peer::start(move |_| status(429, &body));
    let openai = OpenAiEmbedder::new(ServerConfig::new(peer.url()), model()).unwrap();
    let error = openai.embed(Role::Query, &["a"]).await.unwrap_err();
    assert!(!error.is_temporary() && error.to_string().contains("nothing left"), "{error}");
}

#[tokio::test]
async fn health_asks_what_the_server_knows_and_a_vector_at_last() {
    let asked = async |mlx: bool, script: fn(&str) -> Reply| {
        let peer = Peer::start(move |request| script(&request.path));
        let server = ServerConfig::new(peer.url());
        let health = match mlx {
            true => MlxEmbedder::new(server, model()).unwrap().health().await,
            false => OpenAiEmbedder::new(server, model()).unwrap().health().await,
        };
        let paths: Vec<String> = peer.requests().into_iter().map(|request| request.path).collect();
        (health.map_err(|error| error.is_temporary()), paths.join(" "))
    };
    assert_eq!(asked(true, |_| ok("{}")).await, (Ok(()), "/health".to_owned()));
    assert_eq!(asked(false, |_| ok("{}")).await, (Ok(()), "/v1/models".to_owned()));
    assert_eq!(asked(true, |_| status(503, "")).await, (Err(true), "/health".to_owned()));
    assert_eq!(asked(false, |_| status(401, "")).await, (Err(false), "/v1/models".to_owned()));
    let embeds = |path: &str| match path {
        "/v1/embeddings" => ok(Dialect::OpenAi.answer(&[tiny("a")])),
        _ => status(404, ""),
    };
    assert_eq!(asked(true, embeds).await, (Ok(()), "/health /v1/models /v1/embeddings".to_owned()));
    assert_eq!(asked(false, |_| status(404, "")).await, (Err(false), "/v1/models /health /v1/embeddings".to_owned()));
}

#[tokio::test]
async fn two_servers_of_the_same_weights_can_be_of_one_space() {
    let (one, two) = (good(), good());
    let identity = |model: Model| model.with_dimensions(TINY).with_identity("nomic", "embed-text-v1.5");
    let ollama =
        memory_embed::OllamaEmbedder::new(ServerConfig::new(one.url()), identity(Model::new("nomic-embed-text:v1.5")));
    let mlx = MlxEmbedder::new(
        ServerConfig::new(two.url()),
        identity(Model::new("mlx-community/nomic-embed-text-v1.5-bf16")),
    );
    let (ollama, mlx) = (ollama.unwrap(), mlx.unwrap());
    assert_eq!(ollama.space(), mlx.space());
    mlx.embed(Role::Query, &["a"]).await.unwrap();
    assert_eq!(two.requests()[0].body["model"], "mlx-community/nomic-embed-text-v1.5-bf16");
}
