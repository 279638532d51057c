//! Many who record at the same time.

use memory_core::{Memory, Recording};
use tokio::task::JoinSet;

/// Records all of these at the same time, one task each, and waits for all acknowledgements.
///
/// # Panics
/// When the store fails, acknowledges less than it promises, or keeps an episode without its vector.
#[expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]
pub async fn record_at_once(memory: &Memory, recordings: impl IntoIterator<Item = Recording>) {
    let mut tasks = JoinSet::new();
    for recording in recordings {
        let memory = memory.clone();
        tasks.spawn(async move { memory.record(recording).await.unwrap() });
    }
    let promised = memory.store().info().durability;
    while let Some(ack) = tasks.join_next().await {
        let ack = ack.unwrap();
        assert_eq!((ack.durability, ack.degraded), (promised, None));
    }
}
