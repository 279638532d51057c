//! The embedders of servers.

use std::fmt;

use async_trait::async_trait;
use memory_core::{Embedder, Result, Role, Vector, VectorSpace};

use super::ServerConfig;
use super::dialect::Dialect;
use super::ollama::OLLAMA;
use super::openai::{MLX, OPENAI};
use super::route::ROUTE;
use super::server::Server;
use crate::Model;
use crate::client::Client;

async fn connect(dialect: &'static Dialect, server: ServerConfig, model: Model) -> Result<Client> {
    let portion = server.texts_per_request;
    let server = Server::new(dialect, server, &model)?;
    Client::connect(server, dialect.provider, model, portion).await
}

fn new(dialect: &'static Dialect, server: ServerConfig, model: Model) -> Result<Client> {
    let portion = server.texts_per_request;
    let server = Server::new(dialect, server, &model)?;
    Client::new(server, dialect.provider, model, portion)
}

macro_rules! server_embedder {
    ($(#[$docs:meta])* $name:ident speaks $dialect:ident) => {
        $(#[$docs])*
        ///
        /// A model it does not have, a key it refuses and a route it lacks are permanent errors; a server that cannot be
        /// reached, that is busy, or whose answer breaks off are temporary ones, with
        /// [`retry_after`](memory_core::Error::retry_after) if the server says. Every error names the address.
        ///
        /// # Cancellation
        /// A call that is dropped leaves nothing behind: a request under way ends by itself, within its timeout, and keeps its
        /// place among the [concurrent](ServerConfig::concurrency) ones until then.
        #[derive(Debug)]
        pub struct $name(pub(crate) Client);

        impl $name {
            /// Asks the server for a vector, and so learns their length; or sees that it is
            /// [`Model::dimensions`], if these are given.
            ///
            /// # Errors
            /// - [`Invalid`](memory_core::ErrorKind::Invalid) for settings out of range.
            /// - What asking the server fails with.
            pub async fn connect(server: ServerConfig, model: Model) -> Result<Self> {
                connect(&$dialect, server, model).await.map(Self)
            }

            /// Asks nothing, so that a program can start while the server is down. [`Model::dimensions`] must be given.
            ///
            /// # Errors
            /// [`Invalid`](memory_core::ErrorKind::Invalid) for settings out of range, or dimensions that are not given.
            pub fn new(server: ServerConfig, model: Model) -> Result<Self> {
                new(&$dialect, server, model).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self(client) = self;
                write!(f, "{}({}, {})", stringify!($name), client.backend(), client.space().model)
            }
        }

        #[deny(clippy::missing_trait_methods)]
        #[async_trait]
        impl Embedder for $name {
            fn space(&self) -> &VectorSpace {
                self.0.space()
            }

            async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
                self.0.embed(role, texts).await
            }

            async fn health(&self) -> Result<()> {
                self.0.health().await
            }
        }
    };
}

server_embedder! {
    /// A model of an Ollama server, by its own `/api/embed`. The usual address is `http://127.0.0.1:11434`.
    ///
    /// ```
    /// use memory_embed::{Model, OllamaEmbedder, ServerConfig};
    /// use memory_core::Embedder;
    /// let server = ServerConfig::new("http://127.0.0.1:11434");
    /// let embedder = OllamaEmbedder::new(server, Model::new("nomic-embed-text").with_dimensions(768))?;
    /// assert_eq!(embedder.space().query_prefix, "search_query: ");
    /// # Ok::<(), memory_core::Error>(())
    /// ```
    OllamaEmbedder speaks OLLAMA
}

server_embedder! {
    /// A model of any server that speaks OpenAI's `/v1/embeddings`: OpenAI, LM Studio, vLLM, llama.cpp's, and many more.
    ///
    /// The address ends before `/embeddings`; one without a path gets `/v1`.
    ///
    /// ```
    /// use memory_embed::{Model, OpenAiEmbedder, ServerConfig};
    /// let server = ServerConfig::new("http://127.0.0.1:1234").with_key("lm-studio");
    /// let embedder = OpenAiEmbedder::new(server, Model::new("bge-small-en-v1.5").with_dimensions(384))?;
    /// assert_eq!(embedder.to_string(), "OpenAiEmbedder(http://127.0.0.1:1234/v1/embeddings, bge-small-en-v1.5)");
    /// # Ok::<(), memory_core::Error>(())
    /// ```
    OpenAiEmbedder speaks OPENAI
}

server_embedder! {
    /// A model of a server over MLX: mlx-vlm, vllm-mlx, mlx-openai-server or mlx-omni-server, which speak OpenAI's
    /// `/v1/embeddings`. mlx-lm's server has no embeddings.
    ///
    /// The address ends before `/embeddings`; one without a path gets `/v1`.
    ///
    /// ```
    /// use memory_embed::{MlxEmbedder, Model, ServerConfig};
    /// let server = ServerConfig::new("http://127.0.0.1:8080");
    /// let embedder = MlxEmbedder::new(server, Model::new("all-MiniLM-L6-v2").with_dimensions(384))?;
    /// # Ok::<(), memory_core::Error>(())
    /// ```
    MlxEmbedder speaks MLX
}

server_embedder! {
    /// A model of a server with the older route `/embed`, which takes `input` or `texts` and answers `embeddings` or
    /// `embedding`.
    ///
    /// ```
    /// use memory_embed::{Model, RouteEmbedder, ServerConfig};
    /// let server = ServerConfig::new("http://127.0.0.1:9000");
    /// let embedder = RouteEmbedder::new(server, Model::new("minilm").with_dimensions(384))?;
    /// # Ok::<(), memory_core::Error>(())
    /// ```
    RouteEmbedder speaks ROUTE
}
