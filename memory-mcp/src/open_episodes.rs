//! The episodes that callers have open in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memory_core::{EpisodeId, OpenEpisode, Scope};

/// How long an episode is held that nobody asks for. Its lease then runs out, and it is closed as interrupted.
const IDLE: Duration = Duration::from_secs(6 * 3_600);

type Shared = Arc<tokio::sync::Mutex<OpenEpisode>>;

/// Handles by scope and id. What is not here may still be open in the store: it is resumed.
#[derive(Debug, Default)]
pub(crate) struct OpenEpisodes(Mutex<HashMap<(Scope, EpisodeId), Held>>);

#[derive(Debug)]
struct Held {
    episode: Shared,
    used: Instant,
}

impl OpenEpisodes {
    fn all(&self) -> MutexGuard<'_, HashMap<(Scope, EpisodeId), Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a handle, or gives the one that is kept already; lets go of those that were not asked for in a long time.
    pub(crate) fn keep(&self, scope: &Scope, episode: OpenEpisode) -> Shared {
        let (key, used) = ((scope.clone(), episode.id()), Instant::now());
        let mut all = self.all();
        all.retain(|_, held| used.duration_since(held.used) < IDLE);
        let held = || Held { episode: Arc::new(tokio::sync::Mutex::new(episode)), used };
        Arc::clone(&all.entry(key).or_insert_with(held).episode)
    }

    pub(crate) fn get(&self, scope: &Scope, id: EpisodeId) -> Option<Shared> {
        let mut all = self.all();
        let held = all.get_mut(&(scope.clone(), id))?;
        held.used = Instant::now();
        Some(Arc::clone(&held.episode))
    }

    /// Lets go of a handle.
    pub(crate) fn remove(&self, scope: &Scope, id: EpisodeId) {
        self.all().remove(&(scope.clone(), id));
    }
}
