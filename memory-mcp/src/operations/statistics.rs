//! How much there is, and whether it helps.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use memory_core::{NoteStatistics, Result, Uplift};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Answer, Effect, Operation};
use crate::service::{Caller, Right};

/// Tells how much there is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetStatistics {}

/// How much there is, and whether it helps.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Statistics {
    /// Whose it is.
    pub(crate) scope: String,
    /// Episodes that have begun and not ended.
    pub(crate) open_episodes: usize,
    /// Playbooks that are shown.
    pub(crate) playbooks: usize,
    /// Rules by standing.
    pub(crate) rules: BTreeMap<String, usize>,
    /// Notes.
    pub(crate) notes: NotesTold,
    /// What showing what is known did to the success of episodes; absent before anything was shown.
    pub(crate) uplift: Option<UpliftTold>,
    /// Of the whole store, all scopes, for whoever may see that.
    pub(crate) store: Option<StoreTold>,
}

/// How many notes there are.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NotesTold {
    /// Those that are recalled.
    pub(crate) active: u64,
    /// Those that too few sessions have told yet.
    pub(crate) candidates: u64,
    /// Those of untrusted sources.
    pub(crate) quarantined: u64,
    /// When the oldest was told.
    pub(crate) oldest: Option<DateTime<Utc>>,
    /// When the newest was told.
    pub(crate) newest: Option<DateTime<Utc>>,
}

impl From<NoteStatistics> for NotesTold {
    fn from(notes: NoteStatistics) -> Self {
        let NoteStatistics { active, candidates, quarantined, oldest, newest, .. } = notes;
        Self { active, candidates, quarantined, oldest, newest }
    }
}

/// What showing something did.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UpliftTold {
    /// The share of successes among episodes that were shown it, less that of the others.
    pub(crate) difference: f64,
    /// The lower end of its 95 % interval.
    pub(crate) low: f64,
    /// The upper end of its 95 % interval.
    pub(crate) high: f64,
    /// Episodes that were shown it, decayed with age.
    pub(crate) shown: f64,
    /// Episodes it is compared with, decayed with age.
    pub(crate) compared: f64,
}

impl From<&Uplift> for UpliftTold {
    fn from(uplift: &Uplift) -> Self {
        let (low, high) = uplift.interval;
        let (shown, compared) = (uplift.shown.trials, uplift.compared.trials);
        Self { difference: uplift.difference, low, high, shown, compared }
    }
}

/// How the store is doing.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StoreTold {
    /// Completed episodes.
    pub(crate) episodes: u64,
    /// Open episodes.
    pub(crate) open_episodes: u64,
    /// Patterns.
    pub(crate) patterns: u64,
    /// Notes.
    pub(crate) notes: u64,
    /// Completed episodes that are not folded into the patterns yet.
    pub(crate) episodes_behind: u64,
    /// What is not as it should be, if something is.
    pub(crate) degraded: Option<String>,
    /// Why the embedder cannot serve, if so.
    pub(crate) embedder_error: Option<String>,
}

impl Answer for Statistics {}

impl Operation for GetStatistics {
    const NAME: &'static str = "get_statistics";
    const TITLE: &'static str = "Get statistics";
    const DESCRIPTION: &'static str = "How much is remembered and learned, and whether recalling it has helped.";
    const EFFECT: Effect = Effect::Reads;
    type Answer = Statistics;

    async fn run(self, caller: &Caller) -> Result<Statistics> {
        let memory = caller.memory();
        let mut rules = BTreeMap::new();
        for rule in memory.heuristics().await? {
            *rules.entry(rule.standing.to_string()).or_default() += 1;
        }
        let store = if caller.right() == Right::Admin { Some(store(caller).await?) } else { None };
        Ok(Statistics {
            scope: memory.scope().to_string(),
            open_episodes: memory.open_episodes().await?.len(),
            playbooks: memory.playbooks().await?.len(),
            rules,
            notes: memory.note_statistics().await?.into(),
            uplift: memory.uplift().await?.overall.as_ref().map(UpliftTold::from),
            store,
        })
    }
}

async fn store(caller: &Caller) -> Result<StoreTold> {
    let health = caller.memory().health().await?;
    Ok(StoreTold {
        episodes: health.store.episodes,
        open_episodes: health.store.open_episodes,
        patterns: health.store.patterns,
        notes: health.store.notes,
        episodes_behind: health.episodes_behind,
        degraded: health.store.degraded,
        embedder_error: health.embedder_error,
    })
}
