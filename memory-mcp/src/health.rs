//! How the memory is doing, as JSON.

use memory_core::{Health, JobHealth};
use serde_json::{Value, json};

/// All that is known.
pub fn told(health: &Health) -> Value {
    let jobs: Vec<Value> = health.jobs.iter().map(job).collect();
    json!({
        "status": if is_well(health) { "ok" } else { "degraded" },
        "store": {
            "version": health.store.version,
            "episodes": health.store.episodes,
            "open_episodes": health.store.open_episodes,
            "patterns": health.store.patterns,
            "notes": health.store.notes,
            "degraded": health.store.degraded,
        },
        "episodes_behind": health.episodes_behind,
        "embedder_error": health.embedder_error,
        "jobs": jobs,
    })
}

/// Whether nothing is degraded and no job has failed.
pub fn is_well(health: &Health) -> bool {
    health.store.degraded.is_none()
        && health.embedder_error.is_none()
        && health.jobs.iter().all(|job| job.last_error.is_none())
}

fn job(job: &JobHealth) -> Value {
    json!({ "name": job.name, "last_beat": job.last_beat, "last_error": job.last_error, "queue": job.queue })
}
