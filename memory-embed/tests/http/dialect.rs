//! The languages of servers, from the server's side.

use std::sync::Arc;

use memory_core::{Embedder, HashEmbedder, Result, Role, Vector};
use memory_embed::{MlxEmbedder, Model, OllamaEmbedder, OpenAiEmbedder, RouteEmbedder, ServerConfig};
use serde_json::{Value, json};

use crate::peer::{Reply, Request, ok, status};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialect {
    Ollama,
    OpenAi,
    Mlx,
    Route,
}

pub(crate) const ALL: [Dialect; 4] = [Dialect::Ollama, Dialect::OpenAi, Dialect::Mlx, Dialect::Route];

impl Dialect {
    pub(crate) fn route(self) -> &'static str {
        match self {
            Self::Ollama => "/api/embed",
            Self::OpenAi | Self::Mlx => "/v1/embeddings",
            Self::Route => "/embed",
        }
    }

    /// An answer with these vectors.
    pub(crate) fn answer(self, vectors: &[Vec<f32>]) -> String {
        match self {
            Self::Ollama => json!({"model": "m", "embeddings": vectors, "total_duration": 1}),
            Self::Route => json!({"embeddings": vectors}),
            Self::OpenAi | Self::Mlx => {
                let item = |(place, vector)| json!({"object": "embedding", "index": place, "embedding": vector});
                let data: Vec<Value> = vectors.iter().enumerate().map(item).collect();
                json!({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})
            }
        }
        .to_string()
    }

    /// Answers as a server of this kind does that gives these vectors.
    pub(crate) fn serve(self, request: &Request, vector: impl Fn(&str) -> Vec<f32>) -> Reply {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/api/version" | "/health" | "/v1/models") => ok(r#"{"status":"ok"}"#),
            ("POST", path) if path == self.route() => {
                let vectors: Vec<Vec<f32>> = texts(request).iter().map(|text| vector(text)).collect();
                ok(self.answer(&vectors))
            }
            _ => status(404, r#"{"detail":"Not Found"}"#),
        }
    }

    pub(crate) fn new_embedder(self, server: ServerConfig, model: Model) -> Result<Arc<dyn Embedder>> {
        Ok(match self {
            Self::Ollama => Arc::new(OllamaEmbedder::new(server, model)?),
            Self::OpenAi => Arc::new(OpenAiEmbedder::new(server, model)?),
            Self::Mlx => Arc::new(MlxEmbedder::new(server, model)?),
            Self::Route => Arc::new(RouteEmbedder::new(server, model)?),
        })
    }

    pub(crate) async fn connect(self, server: ServerConfig, model: Model) -> Result<Arc<dyn Embedder>> {
        Ok(match self {
            Self::Ollama => Arc::new(OllamaEmbedder::connect(server, model).await?),
            Self::OpenAi => Arc::new(OpenAiEmbedder::connect(server, model).await?),
            Self::Mlx => Arc::new(MlxEmbedder::connect(server, model).await?),
            Self::Route => Arc::new(RouteEmbedder::connect(server, model).await?),
        })
    }
}

/// The texts that a request is about.
pub(crate) fn texts(request: &Request) -> Vec<String> {
    serde_json::from_value(request.body["input"].clone()).unwrap()
}

/// The length of [`tiny`] vectors.
pub(crate) const TINY: usize = 4;

/// A vector of length 1 that depends on every letter.
pub(crate) fn tiny(text: &str) -> Vec<f32> {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let [a, b, c, d, ..] = hash.to_be_bytes();
    let numbers = [a, b, c, d].map(|byte| f32::from(byte) + 1.0);
    let norm = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    numbers.iter().map(|x| x / norm).collect()
}

/// The vector that the hash embedder gives.
pub(crate) fn hashed(text: &str) -> Vec<f32> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let vectors = runtime.block_on(HashEmbedder::new().embed(Role::Document, &[text])).unwrap();
    vectors[0].as_slice().to_vec()
}

pub(crate) fn assert_alike(vector: &Vector, expected: &[f32]) {
    let alike = vector.as_slice().iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-5);
    assert!(alike && vector.dimensions() == expected.len(), "{vector:?} is not {expected:?}");
}
