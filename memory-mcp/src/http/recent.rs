//! An answer that is shared for a moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer is shared, from when it came.
const SHARED: Duration = Duration::from_secs(1);

/// The last answer to a question that many ask: it is asked once, by one of those who ask at the same time.
#[derive(Debug)]
pub(super) struct Recent<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Recent<T> {
    /// The last answer, or one that is asked for now. Whoever goes away before it has come leaves asking to the next.
    pub(super) async fn or_ask(&self, ask: impl Future<Output = T>) -> Arc<T> {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < SHARED
        {
            return Arc::clone(answer);
        }
        let answer = Arc::new(ask.await);
        *last = Some((Instant::now(), Arc::clone(&answer)));
        answer
    }
}
