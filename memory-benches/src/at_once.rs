//! Many who record at the same time.

use memory_core::{Error, ErrorKind, Memory, Recording, Result};
use tokio::task::JoinSet;

/// Records all of these at the same time, one task each, and waits for all acknowledgements.
///
/// # Errors
/// The store's; [`Corrupt`](ErrorKind::Corrupt) when it acknowledges less than it promises, or keeps an episode without its vector.
pub async fn record_at_once(memory: &Memory, recordings: impl IntoIterator<Item = Recording>) -> Result<()> {
    let mut tasks = JoinSet::new();
    for recording in recordings {
        let memory = memory.clone();
        tasks.spawn(async move { memory.record(recording).await });
    }
    let promised = memory.store().info().durability;
    while let Some(ack) = tasks.join_next().await {
        let ack = ack.map_err(|error| Error::new(ErrorKind::Io, "recording ended").with_source(error))??;
        if ack.durability != promised || ack.degraded.is_some() {
            let message = format!("{ack:?} in place of {promised:?} with a vector");
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
    }
    Ok(())
}
