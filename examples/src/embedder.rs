//! Which embedder an example uses.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use memory_core::{Embedder, HashEmbedder};
#[cfg(feature = "local")]
use memory_embed::LocalEmbedder;
#[cfg(feature = "embedders")]
use memory_embed::{MlxEmbedder, Model, OllamaEmbedder, OpenAiEmbedder, ServerConfig};

use crate::AnyError;

/// Where an example has its vectors from.
#[expect(clippy::exhaustive_enums, reason = "the examples know all embedders")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmbedderChoice {
    /// The offline embedder.
    Hash,
    /// A model in this directory; needs the feature `local`.
    Local(PathBuf),
    /// A model on a server that speaks as OpenAI does: address and model; needs the feature `embedders`, as the next two.
    OpenAi(String, String),
    /// A model that Ollama serves.
    Ollama(String, String),
    /// A model on an MLX server.
    Mlx(String, String),
}

const ALLOWED: &str = "allowed: hash, local:DIR, openai:URL,MODEL, ollama:URL,MODEL, mlx:URL,MODEL";

impl FromStr for EmbedderChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((kind, place)) = text.split_once(':') else {
            return if text == "hash" { Ok(Self::Hash) } else { Err(ALLOWED.to_owned()) };
        };
        let on_server = place.split_once(',').filter(|(url, model)| !url.is_empty() && !model.is_empty());
        let on_server = on_server.map(|(url, model)| (url.to_owned(), model.to_owned()));
        match (kind, on_server) {
            ("local", _) if !place.is_empty() => Ok(Self::Local(place.into())),
            ("openai", Some((url, model))) => Ok(Self::OpenAi(url, model)),
            ("ollama", Some((url, model))) => Ok(Self::Ollama(url, model)),
            ("mlx", Some((url, model))) => Ok(Self::Mlx(url, model)),
            _ => Err(ALLOWED.to_owned()),
        }
    }
}

impl EmbedderChoice {
    /// Opens the embedder.
    ///
    /// # Errors
    /// Those of the embedder; which feature it needs, if this program was built without.
    pub async fn open(&self) -> Result<Arc<dyn Embedder>, AnyError> {
        match self {
            Self::Hash => Ok(Arc::new(HashEmbedder::new())),
            #[cfg(feature = "local")]
            Self::Local(directory) => Ok(Arc::new(LocalEmbedder::open(directory, None).await?)),
            #[cfg(not(feature = "local"))]
            Self::Local(_) => Err("this program was built without local:DIR; build it with --features local".into()),
            #[cfg(feature = "embedders")]
            Self::OpenAi(url, model) => {
                Ok(Arc::new(OpenAiEmbedder::connect(ServerConfig::new(url), Model::new(model)).await?))
            }
            #[cfg(feature = "embedders")]
            Self::Ollama(url, model) => {
                Ok(Arc::new(OllamaEmbedder::connect(ServerConfig::new(url), Model::new(model)).await?))
            }
            #[cfg(feature = "embedders")]
            Self::Mlx(url, model) => {
                Ok(Arc::new(MlxEmbedder::connect(ServerConfig::new(url), Model::new(model)).await?))
            }
            #[cfg(not(feature = "embedders"))]
            Self::OpenAi(..) | Self::Ollama(..) | Self::Mlx(..) => {
                Err("this program was built without embedders on servers; build it with --features embedders".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let (url, model) = ("http://127.0.0.1:8080".to_owned(), "nomic-embed-text:v1.5".to_owned());
        for (text, choice) in [
            ("hash", EmbedderChoice::Hash),
            ("local:C:/a folder", EmbedderChoice::Local("C:/a folder".into())),
            ("mlx:http://127.0.0.1:8080,nomic-embed-text:v1.5", EmbedderChoice::Mlx(url, model)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
        }
    }

    #[test]
    fn what_is_no_name_is_told_what_is() {
        for text in ["", "Hash", "local", "local:", "openai:http://there", "openai:,m", "ollama:http://there,", "x:y"] {
            assert_eq!(text.parse::<EmbedderChoice>(), Err(ALLOWED.to_owned()), "{text}");
        }
    }
}
