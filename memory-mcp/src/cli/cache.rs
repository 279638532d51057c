//! The hot cache.

use std::sync::Arc;

use clap::Subcommand;
use memory_core::MemoryStore as _;
use memory_storage_redb::{CacheMode, CacheStats, HotCache};
use memory_storage_turso::TursoStore;
use serde_json::{Value, json};

use super::Failure;
use super::output::{Paint, bytes, pairs};
use super::session::Session;
use super::terminal::spinner;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What the cache holds, and whether it can use its file
    Stats,
    /// Fill the cache, so that the next start is warm
    Warm,
}

type Cache = HotCache<Arc<TursoStore>>;

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let Some(path) = session.plan.cache() else {
            return match self {
                Self::Stats => {
                    session.out.tell(&json!({ "mode": "none" }), |_| "There is no cache: see store.cache.".to_owned());
                    Ok(())
                }
                Self::Warm => Err(Failure::Other("there is no cache to warm: see store.cache".to_owned())),
            };
        };
        let cache = HotCache::open(session.store().await?, path).await?;
        let done = match self {
            Self::Stats => Ok(cache.stats().await),
            Self::Warm => warm(&cache).await,
        };
        cache.close().await?;
        let stats = done?;
        session.out.tell(&told(&stats), |paint| text(&stats, paint));
        Ok(())
    }
}

/// Closing the cache then keeps what was read.
async fn warm(cache: &Cache) -> Result<CacheStats, Failure> {
    let stats = cache.stats().await;
    if let CacheMode::InMemory(Some(error)) = &stats.mode {
        return Err(Failure::Other(format!("the cache cannot be kept: {error}")));
    }
    let spinner = spinner("warming the cache");
    let warmed = cache.warm_up().await;
    spinner.finish_and_clear();
    warmed?;
    Ok(cache.stats().await)
}

fn mode(stats: &CacheStats) -> (&'static str, Option<String>) {
    match &stats.mode {
        CacheMode::Persistent => ("file", None),
        CacheMode::InMemory(error) => ("memory", error.as_ref().map(ToString::to_string)),
        _ => ("unknown", None),
    }
}

fn told(stats: &CacheStats) -> Value {
    let (mode, reason) = mode(stats);
    json!({
        "mode": mode,
        "reason": reason,
        "ready": stats.ready,
        "version": stats.version,
        "records": stats.entries,
        "bytes": stats.bytes,
        "searched": stats.index.documents,
        "vectors": stats.vectors,
        "vector_bytes": stats.vector_bytes,
        "last_error": stats.last_error.as_ref().map(ToString::to_string),
    })
}

fn text(stats: &CacheStats, paint: Paint) -> String {
    let (mode, reason) = mode(stats);
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let told = [
        ("kept in", format!("{mode}{reason}")),
        ("ready", if stats.ready { "yes" } else { "no: it is being filled" }.to_owned()),
        ("records", format!("{}, {}", stats.entries, bytes(stats.bytes))),
        ("searched", stats.index.documents.to_string()),
        ("vectors", format!("{}, {}", stats.vectors, bytes(stats.vector_bytes))),
        ("up to version", stats.version.0.to_string()),
    ];
    pairs(told, paint)
}
