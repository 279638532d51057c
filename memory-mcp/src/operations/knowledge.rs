//! What was learned, and why it is believed.

use std::collections::BTreeMap;

use memory_core::{
    Belief, EpisodeId, Error, ErrorKind, Explanation, Heuristic, HeuristicId, Memory, Pattern, PatternId, PatternKind,
    Playbook, Result,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Answer, Effect, Operation};
use crate::service::Caller;

/// What is to be told.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Rules of one situation in order: what to do, what not.
    #[default]
    Playbooks,
    /// What helps and what harms in which situation, with its evidence.
    Rules,
    /// What usually comes next, which errors are repaired how, what precedes failure.
    Patterns,
}

/// Tells what was learned, or why something is believed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetKnowledge {
    /// What to tell.
    #[serde(default)]
    what: What,
    /// The id of a rule or a pattern: explain it instead, with the episodes for and against it.
    explain: Option<Uuid>,
    /// Only what is known in this domain.
    domain: Option<String>,
    /// Of patterns, only those whose kind, condition or continuation contains this.
    contains: Option<String>,
    /// How many at most, from 1 to 1,000.
    #[serde(default = "twenty")]
    limit: usize,
}

fn twenty() -> usize {
    20
}

/// What is known.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Knowledge {
    /// Playbooks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) playbooks: Vec<PlaybookTold>,
    /// Rules, best supported first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<RuleTold>,
    /// Patterns, most episodes first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) patterns: Vec<PatternTold>,
    /// How many there are in all.
    pub(crate) total: usize,
    /// Why the one that was asked for is believed.
    pub(crate) explanation: Option<Explained>,
}

/// A playbook.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PlaybookTold {
    /// When it applies.
    pub(crate) situation: String,
    /// What to do in order, and what not.
    pub(crate) text: String,
    /// The rules behind it.
    pub(crate) rules: Vec<Uuid>,
}

impl From<&Playbook> for PlaybookTold {
    fn from(playbook: &Playbook) -> Self {
        let plays = playbook.steps.iter().chain(&playbook.avoid);
        Self {
            situation: playbook.situation.to_string(),
            text: playbook.to_string().trim_end().to_owned(),
            rules: plays.map(|play| *play.heuristic.as_uuid()).collect(),
        }
    }
}

/// A rule.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RuleTold {
    /// Its id.
    pub(crate) id: Uuid,
    /// The rule, with its evidence.
    pub(crate) text: String,
    /// `active`, `contested`, `outdone` or `retired`.
    pub(crate) standing: String,
    /// Whether it is shown to agents: it is active or contested, and approved where that is needed.
    pub(crate) shown: bool,
}

impl RuleTold {
    fn new(heuristic: &Heuristic, shown: bool) -> Self {
        let (id, standing) = (*heuristic.id.as_uuid(), heuristic.standing.to_string());
        Self { id, text: heuristic.to_string(), standing, shown }
    }
}

/// A pattern.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PatternTold {
    /// Its id.
    pub(crate) id: Uuid,
    /// Its kind.
    pub(crate) kind: String,
    /// The domain it was seen in.
    pub(crate) domain: Option<String>,
    /// When it applies.
    pub(crate) condition: String,
    /// What then happens, most often first.
    pub(crate) branches: Vec<BranchTold>,
}

/// What happens in a pattern.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BranchTold {
    /// What comes; absent if the condition says all.
    pub(crate) then: Option<String>,
    /// Distinct episodes, decayed with age.
    pub(crate) episodes: f64,
    /// How often, decayed with age.
    pub(crate) trials: f64,
    /// How often for the pattern, decayed with age.
    pub(crate) successes: f64,
    /// `candidate`, `active`, `contested` or `retired`.
    pub(crate) status: String,
}

impl PatternTold {
    fn new(memory: &Memory, pattern: &Pattern) -> Self {
        let branch = |(then, evidence): (&String, _)| {
            let support = memory.support(evidence);
            BranchTold {
                then: Some(then.clone()).filter(|then| !then.is_empty()),
                episodes: support.episodes,
                trials: support.trials,
                successes: support.successes,
                status: support.status(memory.learner().quorum).to_string(),
            }
        };
        let mut branches: Vec<BranchTold> = pattern.branches.iter().map(branch).collect();
        branches.sort_by(|a, b| b.trials.total_cmp(&a.trials));
        Self {
            id: *pattern.id.as_uuid(),
            kind: pattern.kind.to_string(),
            domain: pattern.domain.clone(),
            condition: pattern.condition(),
            branches,
        }
    }

    fn episodes(&self) -> f64 {
        self.branches.iter().map(|branch| branch.episodes).sum()
    }

    fn contains(&self, what: &str) -> bool {
        let branches = self.branches.iter().filter_map(|branch| branch.then.as_deref());
        [&self.kind[..], &self.condition[..]].into_iter().chain(branches).any(|text| text.contains(what))
    }
}

/// Why something is believed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Explained {
    /// What is believed.
    pub(crate) what: String,
    /// The least trust among the episodes behind it.
    pub(crate) trust: String,
    /// The episodes for it, in order.
    pub(crate) episodes_for: Vec<Uuid>,
    /// The episodes against it, in order.
    pub(crate) episodes_against: Vec<Uuid>,
    /// Counts over time, by branch.
    pub(crate) over_time: BTreeMap<String, Vec<CountsTold>>,
}

/// Counts in a span of time.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CountsTold {
    /// When the span begins.
    from: chrono::DateTime<chrono::Utc>,
    /// Distinct episodes.
    episodes: u64,
    /// How often.
    trials: u64,
    /// How often for it.
    successes: u64,
}

impl From<Explanation> for Explained {
    fn from(explanation: Explanation) -> Self {
        let ids = |ids: Vec<EpisodeId>| ids.into_iter().map(|id| *id.as_uuid()).collect();
        let counts = |(from, counts): (_, memory_core::Counts)| CountsTold {
            from,
            episodes: counts.episodes,
            trials: counts.trials,
            successes: counts.successes,
        };
        let over_time = explanation.over_time.into_iter();
        Self {
            what: explanation.what,
            trust: explanation.trust.to_string(),
            episodes_for: ids(explanation.episodes_for),
            episodes_against: ids(explanation.episodes_against),
            over_time: over_time.map(|(name, spans)| (name, spans.into_iter().map(counts).collect())).collect(),
        }
    }
}

impl Answer for Knowledge {}

impl Operation for GetKnowledge {
    const NAME: &'static str = "get_knowledge";
    const TITLE: &'static str = "Get what was learned";
    const DESCRIPTION: &'static str = "Lists what was learned from all episodes: playbooks, rules or patterns, with their \
        evidence; or explains one of them by the episodes for and against it.";
    const EFFECT: Effect = Effect::Reads;
    type Answer = Knowledge;

    async fn run(self, caller: &Caller) -> Result<Knowledge> {
        if !(1..=1_000).contains(&self.limit) {
            return Err(Error::invalid("limit", self.limit, "1..=1000"));
        }
        match self.explain {
            Some(id) => explain(caller, id).await,
            None => self.list(caller).await,
        }
    }
}

async fn explain(caller: &Caller, id: Uuid) -> Result<Knowledge> {
    let explained = match caller.memory().explain(Belief::Heuristic(HeuristicId::new(id))).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            caller.memory().explain(Belief::Pattern(PatternId::new(id))).await?
        }
        explained => explained?,
    };
    Ok(Knowledge { total: 1, explanation: Some(explained.into()), ..Knowledge::default() })
}

impl GetKnowledge {
    async fn list(self, caller: &Caller) -> Result<Knowledge> {
        let memory = caller.memory();
        let here = |domain: &Option<String>| self.domain.is_none() || *domain == self.domain;
        let mut known = Knowledge::default();
        match self.what {
            What::Playbooks => {
                let all = memory.playbooks().await?;
                let fitting: Vec<&Playbook> = all.iter().filter(|one| here(&one.situation.domain)).collect();
                known.total = fitting.len();
                known.playbooks = fitting.into_iter().take(self.limit).map(PlaybookTold::from).collect();
            }
            What::Rules => {
                let all = memory.heuristics().await?;
                let fitting: Vec<&Heuristic> = all.iter().filter(|one| here(&one.situation.domain)).collect();
                known.total = fitting.len();
                let told = |one: &Heuristic| RuleTold::new(one, memory.shows(one));
                known.rules = fitting.into_iter().take(self.limit).map(told).collect();
            }
            What::Patterns => {
                let all = memory.patterns().await?;
                let for_people = |one: &&Pattern| !matches!(one.kind, PatternKind::Habit | PatternKind::Exposure);
                let fitting = all.iter().filter(for_people).filter(|one| here(&one.domain));
                let mut fitting: Vec<PatternTold> = fitting.map(|one| PatternTold::new(memory, one)).collect();
                fitting.retain(|one| self.contains.as_ref().is_none_or(|what| one.contains(what)));
                fitting.sort_by(|a, b| b.episodes().total_cmp(&a.episodes()));
                known.total = fitting.len();
                fitting.truncate(self.limit);
                known.patterns = fitting;
            }
        }
        Ok(known)
    }
}
