//! Every promise of an embedder, in each dialect, against a peer that gives the hash embedder's vectors.

use std::sync::{Arc, LazyLock};

use memory_core::{Embedder, embedder_contract_tests};
use memory_embed::{Model, ServerConfig};

use crate::dialect::{Dialect, hashed};
use crate::peer::Peer;

async fn embedder(peer: &Peer, dialect: Dialect) -> Arc<dyn Embedder> {
    dialect.connect(ServerConfig::new(peer.url()), Model::new("hash")).await.unwrap()
}

macro_rules! contract {
    ($name:ident, $dialect:expr) => {
        mod $name {
            use super::*;

            static PEER: LazyLock<Peer> =
                LazyLock::new(|| Peer::start_forgetful(|request| $dialect.serve(request, hashed)));
            embedder_contract_tests!(async || embedder(&PEER, $dialect).await);
        }
    };
}
contract!(ollama, Dialect::Ollama);
contract!(openai, Dialect::OpenAi);
contract!(mlx, Dialect::Mlx);
contract!(route, Dialect::Route);
