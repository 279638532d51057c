//! Asking an embedder that need not keep its promises.

use memory_core::{Embedder, Error, ErrorKind, Result, Role, Vector};

/// What is embedded to see what an embedder gives.
pub(crate) const PROBE: &str = "hello world";

/// The vectors of texts; an error if the answer has another number of them, or one of another space.
pub(crate) async fn ask<E: Embedder + ?Sized>(embedder: &E, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
    let vectors = embedder.embed(role, texts).await?;
    let wrong = |what| Err(Error::new(ErrorKind::Unavailable, format!("{embedder} answered {what}")));
    if vectors.len() != texts.len() {
        return wrong(format!("{} vectors for {} texts", vectors.len(), texts.len()));
    }
    let space = embedder.space();
    match vectors.iter().find_map(|vector| space.check(vector).err()) {
        Some(error) => wrong(error.to_string()),
        None => Ok(vectors),
    }
}
