//! Learning: a pure fold of completed episodes into patterns.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, TimeDelta, Utc};
use foldhash::fast::RandomState;
use uuid::Uuid;

use crate::habit::{run, task_signature};
use crate::state::{self, Again, Class};
use crate::text::error_signature;
use crate::{
    Counts, Episode, Error, Evidence, HeuristicId, Key, LearnerId, Move, Pattern, PatternId, PatternKind, Result,
    Scope, Step, Support, Trust,
};

/// Names every learner; random, fixed for ever.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d0b_7a4e_50c1_4f0e_9c55_27d7_31f0_a9be);

/// Raised with every change of what [`Learner::observe`] returns.
const REVISION: u32 = 4;

/// How many moves a transition looks back at most.
const ORDER: usize = 3;

/// How many steps after an error a recovery may take.
pub(crate) const RECOVERY_STEPS: usize = 3;

/// How episodes become knowledge.
///
/// # Default
/// Time buckets of a day, a half-life of 90 days, a quorum of 3 episodes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learner {
    /// The width of the time buckets that evidence is counted in: a second to 10,000 days, in whole seconds. Part of the learner's identity.
    pub bucket: TimeDelta,
    /// The time in which evidence loses half of its weight when it is read: a bucket to 100,000 days, in whole
    /// seconds.
    pub half_life: TimeDelta,
    /// Distinct episodes below which a pattern is only a candidate; 1 or more.
    pub quorum: u32,
}

impl Default for Learner {
    fn default() -> Self {
        Self { bucket: TimeDelta::days(1), half_life: TimeDelta::days(90), quorum: 3 }
    }
}

impl Learner {
    /// Sets the width of the time buckets.
    #[must_use]
    pub fn with_bucket(mut self, bucket: TimeDelta) -> Self {
        self.bucket = bucket;
        self
    }

    /// Sets the half-life of evidence.
    #[must_use]
    pub fn with_half_life(mut self, half_life: TimeDelta) -> Self {
        self.half_life = half_life;
        self
    }

    /// Sets the quorum.
    #[must_use]
    pub fn with_quorum(mut self, quorum: u32) -> Self {
        self.quorum = quorum;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) outside the ranges given with the fields.
    pub fn validate(&self) -> Result<()> {
        let whole = |span: TimeDelta| span.subsec_nanos() == 0;
        if !(TimeDelta::seconds(1)..=TimeDelta::days(10_000)).contains(&self.bucket) || !whole(self.bucket) {
            return Err(Error::invalid("learner.bucket", self.bucket, "1 second ..= 10,000 days, in whole seconds"));
        }
        if !(self.bucket..=TimeDelta::days(100_000)).contains(&self.half_life) || !whole(self.half_life) {
            let range = format!("the bucket, {}, ..= 100,000 days, in whole seconds", self.bucket);
            return Err(Error::invalid("learner.half_life", self.half_life, range));
        }
        if self.quorum == 0 {
            return Err(Error::invalid("learner.quorum", self.quorum, "1 or more"));
        }
        Ok(())
    }

    /// Its identity: the same for every learner that observes the same.
    pub fn id(&self) -> LearnerId {
        let name = format!("revision={REVISION} bucket={}", self.bucket.num_seconds());
        LearnerId::new(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }

    /// The time bucket of a moment.
    pub fn bucket_of(&self, at: DateTime<Utc>) -> i64 {
        at.timestamp().div_euclid(self.bucket.num_seconds().max(1))
    }

    /// The weight of evidence at a moment.
    pub fn support(&self, evidence: &Evidence, now: DateTime<Utc>) -> Support {
        let half_life = self.half_life.num_seconds() as f64 / self.bucket.num_seconds().max(1) as f64;
        evidence.support(self.bucket_of(now), half_life)
    }

    /// Everything one episode shows: patterns with the evidence of this episode alone, each once, by rising id.
    ///
    /// Pure: it depends on nothing but the episode and the learner's identity.
    pub fn observe(&self, episode: &Episode) -> Vec<Pattern> {
        let bucket = self.bucket_of(episode.completed_at);
        let moves = episode.steps.iter().map(signature).collect();
        let mut observer = Observer { id: self.id(), bucket, episode, moves, found: HashMap::default() };
        observer.transitions();
        observer.sequences();
        observer.recoveries();
        observer.failures();
        observer.decisions();
        observer.states();
        observer.context();
        observer.habits();
        observer.exposure();
        let mut found: Vec<Pattern> = observer.found.into_values().collect();
        found.sort_unstable_by_key(|pattern| pattern.id);
        found
    }
}

struct Observer<'a> {
    id: LearnerId,
    bucket: i64,
    episode: &'a Episode,
    /// The signatures of its steps.
    moves: Vec<String>,
    /// By what names them within the episode: ids are costly, and computed once for each.
    found: HashMap<(PatternKind, Vec<String>), Pattern, RandomState>,
}

impl Observer<'_> {
    /// The pattern of this signature, and whether it is new.
    fn pattern(&mut self, kind: PatternKind, signature: Vec<String>) -> (&mut Pattern, bool) {
        match self.found.entry((kind, signature)) {
            Entry::Occupied(known) => (known.into_mut(), false),
            Entry::Vacant(new) => {
                let Episode { scope, task, source, .. } = self.episode;
                // What was shown is judged over all domains together.
                let domain = task.domain.clone().filter(|_| kind != PatternKind::Exposure);
                let signature = new.key().1.clone();
                (new.insert(Pattern::new(self.id, scope.clone(), source.trust, kind, domain, signature)), true)
            }
        }
    }

    /// Counts trials of a pattern's branch; the episode itself counts once.
    fn see(&mut self, kind: PatternKind, signature: Vec<String>, branch: &str, success: bool) {
        let bucket = self.bucket;
        count(self.pattern(kind, signature).0, bucket, branch, success);
    }

    /// Counts a pattern that an episode either contains or does not.
    fn see_once(&mut self, kind: PatternKind, signature: Vec<String>, success: bool) {
        let bucket = self.bucket;
        if let (pattern, true) = self.pattern(kind, signature) {
            count(pattern, bucket, "", success);
        }
    }

    fn transitions(&mut self) {
        for (place, step) in self.episode.steps.iter().enumerate() {
            for context in suffixes(&self.moves[..place]) {
                self.see(PatternKind::Transition, context, &step.tool, self.episode.succeeded());
            }
        }
    }

    fn sequences(&mut self) {
        for length in 2..=3 {
            for first in 0..(self.moves.len() + 1).saturating_sub(length) {
                let signature = self.moves[first..first + length].to_vec();
                self.see_once(PatternKind::ToolSequence, signature, self.episode.succeeded());
            }
        }
    }

    fn recoveries(&mut self) {
        let steps = &self.episode.steps;
        for (place, failed) in steps.iter().enumerate().filter(|(_, step)| !step.ok) {
            let repaired = repaired_at(steps, place);
            let window = place + 1..steps.len().min(place + 1 + RECOVERY_STEPS);
            let went_on = || window.clone().find(|place| steps[*place].ok);
            let end = repaired.or_else(went_on).map_or(window.end, |end| end + 1);
            let path: Vec<&str> = steps[window.start..end].iter().map(|step| step.tool.as_str()).collect();
            self.see(PatternKind::ErrorRecovery, error_of(failed), &path.join(" > "), repaired.is_some());
        }
    }

    fn failures(&mut self) {
        let failed = !self.episode.succeeded();
        let steps = &self.episode.steps;
        for (place, _) in steps.iter().enumerate().filter(|(_, step)| !step.ok) {
            for first in [place, place.saturating_sub(1)] {
                self.see_once(PatternKind::FailureMode, self.moves[first..=place].to_vec(), failed);
            }
        }
    }

    fn decisions(&mut self) {
        let steps = &self.episode.steps;
        for (pair, again) in steps.windows(2).zip(Again::each(steps)) {
            if again != Again::default() {
                self.see(PatternKind::Decision, decision(&pair[0], again), &pair[1].tool, self.episode.succeeded());
            }
        }
    }

    fn states(&mut self) {
        let Episode { task, steps, .. } = self.episode;
        let reached = state::POINTS.into_iter().filter(|done| *done == 0 || *done < steps.len());
        let under_way = reached.flat_map(|done| state::under_way(&steps[..done]));
        for class in under_way.chain([state::of_task(task)]).chain(state::finished(steps)) {
            self.see(PatternKind::Context, class.signature, &class.branch, self.episode.succeeded());
        }
    }

    /// How episodes fare in this context: language, tags, facts about the environment.
    fn context(&mut self) {
        for context in task_signature(&self.episode.task).into_iter().skip(1) {
            self.see_once(PatternKind::Context, vec![context], self.episode.succeeded());
        }
    }

    fn habits(&mut self) {
        let (signature, Episode { steps, .. }) = (task_signature(&self.episode.task), self.episode);
        let (bucket, succeeded) = (self.bucket, self.episode.succeeded());
        let (pattern, _) = self.pattern(PatternKind::Habit, signature);
        count(pattern, bucket, &run(steps), succeeded);
    }

    fn exposure(&mut self) {
        let succeeded = self.episode.succeeded();
        let Some(receipt) = &self.episode.receipt else { return };
        let arm = |withheld| if withheld { WITHHELD } else { SHOWN };
        self.see(PatternKind::Exposure, of_memory(), arm(receipt.withheld), succeeded);
        for (advice, shown) in &receipt.advice {
            self.see(PatternKind::Exposure, of_advice(*advice), arm(!shown), succeeded);
        }
        for (advice, feedback) in &receipt.feedback {
            self.see(PatternKind::Exposure, of_advice(*advice), feedback.as_str(), succeeded);
        }
    }
}

/// Counts a trial of a branch by one episode, which itself counts with the first of them.
fn count(pattern: &mut Pattern, bucket: i64, branch: &str, success: bool) {
    let counts = Counts { episodes: 0, trials: 1, successes: u64::from(success) };
    match pattern.branches.get_mut(branch) {
        Some(evidence) => evidence.count(bucket, counts),
        None => {
            let evidence = Evidence::in_bucket(bucket, Counts { episodes: 1, ..counts });
            pattern.branches.insert(branch.to_owned(), evidence);
        }
    }
}

/// The branches of what was shown, and of what was withheld.
pub(crate) const SHOWN: &str = "shown";
pub(crate) const WITHHELD: &str = "withheld";

/// The signature of the evidence of all that is recalled.
fn of_memory() -> Vec<String> {
    vec!["memory".to_owned()]
}

/// The signature of the evidence of a heuristic.
fn of_advice(advice: HeuristicId) -> Vec<String> {
    vec!["advice".to_owned(), advice.to_string()]
}

/// The pattern of what came of showing a heuristic, or anything at all.
pub(crate) fn exposure_of(learner: LearnerId, scope: &Scope, advice: Option<HeuristicId>) -> Pattern {
    let signature = advice.map_or_else(of_memory, of_advice);
    trusted(learner, scope, PatternKind::Exposure, None, signature)
}

/// A pattern of trusted evidence: what answers rest on.
fn trusted(
    learner: LearnerId,
    scope: &Scope,
    kind: PatternKind,
    domain: Option<&str>,
    signature: Vec<String>,
) -> Pattern {
    Pattern::new(learner, scope.clone(), Trust::Trusted, kind, domain.map(str::to_owned), signature)
}

/// The signature of the point after a step with something about it that came before.
fn decision(last: &Step, again: Again) -> Vec<String> {
    std::iter::once(signature(last)).chain(again.parts().map(str::to_owned)).collect()
}

pub(crate) fn signature(step: &Step) -> String {
    Move::of(step).signature()
}

/// The step at which the tool of a failed step went well again, if it did soon enough to count as a recovery.
pub(crate) fn repaired_at(steps: &[Step], failed: usize) -> Option<usize> {
    let again = |step: &Step| step.ok && step.tool == steps[failed].tool;
    (failed + 1..steps.len().min(failed + 1 + RECOVERY_STEPS)).find(|place| again(&steps[*place]))
}

/// The signature of the error that a failed step met.
fn error_of(step: &Step) -> Vec<String> {
    vec![step.tool.clone(), error_signature(&step.observation)]
}

/// The signatures of the moves before the next step, from the most general to the most specific: nothing, the last move,
/// the last two, the last three. The start of the episode counts as a move.
pub(crate) fn contexts(steps: &[Step]) -> Vec<Vec<String>> {
    let moves: Vec<String> = steps[steps.len().saturating_sub(ORDER)..].iter().map(signature).collect();
    suffixes(&moves).into()
}

/// The same of the signatures of the steps.
fn suffixes(moves: &[String]) -> [Vec<String>; ORDER + 1] {
    std::array::from_fn(|order| {
        let starts = std::iter::repeat_with(|| Move::Start.signature()).take(order.saturating_sub(moves.len()));
        starts.chain(moves[moves.len().saturating_sub(order)..].iter().cloned()).collect()
    })
}

/// The transition patterns that speak about what comes after these steps, from general to specific.
pub(crate) fn transitions_after(
    learner: LearnerId,
    scope: &Scope,
    domain: Option<&str>,
    steps: &[Step],
) -> Vec<Pattern> {
    let pattern = |signature| trusted(learner, scope, PatternKind::Transition, domain, signature);
    contexts(steps).into_iter().map(pattern).collect()
}

/// The decision patterns of the points after these steps that are out of the ordinary, in the order of [`Again::SPECIAL`].
pub(crate) fn decisions_after(learner: LearnerId, scope: &Scope, domain: Option<&str>, steps: &[Step]) -> Vec<Pattern> {
    let pattern = |last: &Step, again| {
        let signature = decision(last, again);
        trusted(learner, scope, PatternKind::Decision, domain, signature)
    };
    steps.last().map(|last| Again::SPECIAL.map(|again| pattern(last, again)).into()).unwrap_or_default()
}

/// The pattern that holds the evidence of a class of states.
pub(crate) fn context_of(learner: LearnerId, scope: &Scope, domain: Option<&str>, class: &Class) -> Pattern {
    trusted(learner, scope, PatternKind::Context, domain, class.signature.clone())
}

/// The recovery pattern that speaks about this failed step.
pub(crate) fn recovery_of(learner: LearnerId, scope: &Scope, domain: Option<&str>, step: &Step) -> Pattern {
    trusted(learner, scope, PatternKind::ErrorRecovery, domain, error_of(step))
}

/// Patterns by id, folded from episodes: what is learned from a log, or from a stretch of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Knowledge {
    patterns: HashMap<PatternId, Pattern, RandomState>,
}

impl Knowledge {
    /// Learns from one more episode.
    pub(crate) fn learn(&mut self, learner: &Learner, episode: &Episode) {
        learner.observe(episode).into_iter().for_each(|pattern| self.add(pattern));
    }

    /// Adds the evidence of a pattern.
    pub(crate) fn add(&mut self, pattern: Pattern) {
        match self.patterns.entry(pattern.id) {
            Entry::Vacant(vacant) => {
                vacant.insert(pattern);
            }
            // The smaller one is added to the larger one: what is stored has been seen in far more episodes.
            Entry::Occupied(mut known) if known.get().branches.len() <= pattern.branches.len() => {
                let smaller = known.insert(pattern);
                known.get_mut().add(&smaller);
            }
            Entry::Occupied(mut known) => known.get_mut().add(&pattern),
        }
    }

    pub(crate) fn get(&self, id: PatternId) -> Option<&Pattern> {
        self.patterns.get(&id)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.patterns.values().map(Pattern::key).collect()
    }

    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.patterns.values()
    }

    /// All of them, by rising id.
    pub(crate) fn into_patterns(self) -> Vec<Pattern> {
        let mut patterns: Vec<Pattern> = self.patterns.into_values().collect();
        patterns.sort_unstable_by_key(|pattern| pattern.id);
        patterns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EpisodeId, Outcome, Task};

    fn episode(steps: Vec<Step>, outcome: Outcome) -> Episode {
        let at = DateTime::from_timestamp(86_400 * 3 + 5, 0).unwrap();
        let task = Task::new("fix it").domain("web");
        Episode::new(EpisodeId::new(Uuid::nil()), Scope::default(), task, steps, outcome, at, at)
    }

    fn find<'a>(patterns: &'a [Pattern], text: &str) -> &'a Pattern {
        patterns
            .iter()
            .find(|pattern| pattern.to_string() == text)
            .unwrap_or_else(|| panic!("{text} not in {patterns:#?}"))
    }

    fn counts(pattern: &Pattern, branch: &str) -> [u64; 3] {
        pattern.branches[branch].total().into()
    }

    #[test]
    fn sees_transitions_sequences_recoveries_and_failures() {
        let steps = vec![
            Step::new("test").error("error 12 in 'a.rs'"),
            Step::new("edit").ok(""),
            Step::new("test").ok("passed"),
            Step::new("test").ok("passed"),
        ];
        let patterns = Learner::default().observe(&episode(steps.clone(), Outcome::success("")));
        assert_eq!(counts(find(&patterns, "transition []"), "test"), [1, 3, 3]);
        assert_eq!(counts(find(&patterns, "transition [(start)]"), "test"), [1, 1, 1]);
        assert_eq!(counts(find(&patterns, "transition [(start) > test!]"), "edit"), [1, 1, 1]);
        assert_eq!(counts(find(&patterns, "transition [test! > edit > test]"), "test"), [1, 1, 1]);
        assert_eq!(counts(find(&patterns, "tool_sequence [test! > edit]"), ""), [1, 1, 1]);
        assert_eq!(counts(find(&patterns, "error_recovery [test > error # in '…']"), "edit > test"), [1, 1, 1]);
        assert_eq!(counts(find(&patterns, "failure_mode [test!]"), ""), [1, 1, 0]);
        assert_eq!(counts(find(&patterns, "context [state]"), "0 steps"), [1, 1, 1]);
        assert_eq!(counts(find(&patterns, "context [state]"), "1 steps, error"), [1, 1, 1]);
        assert_eq!(counts(find(&patterns, "context [state]"), "ended, 4 steps"), [1, 1, 1]);
        assert!(!find(&patterns, "context [state]").branches.contains_key("4 steps"), "it did not go on");
        assert_eq!(patterns[0].branches.values().next().unwrap().buckets().next().unwrap().0, 3);

        let failed = Learner::default().observe(&episode(steps, Outcome::failure("")));
        assert_eq!(counts(find(&failed, "failure_mode [test!]"), ""), [1, 1, 1]);
        assert_eq!(counts(find(&failed, "transition []"), "edit"), [1, 1, 0]);
    }

    #[test]
    fn an_error_that_is_not_repaired_counts_against_its_recovery() {
        let steps = vec![Step::new("open").error("denied"), Step::new("list").ok(""), Step::new("list").ok("")];
        let patterns = Learner::default().observe(&episode(steps, Outcome::failure("")));
        assert_eq!(counts(find(&patterns, "error_recovery [open > denied]"), "list"), [1, 1, 0]);
        let steps = vec![Step::new("open").error("denied")];
        let patterns = Learner::default().observe(&episode(steps, Outcome::failure("")));
        assert_eq!(counts(find(&patterns, "error_recovery [open > denied]"), ""), [1, 1, 0]);
        let steps = ["open", "list", "read", "stat", "grep"].map(|tool| Step::new(tool).error("denied"));
        let patterns = Learner::default().observe(&episode(steps.into(), Outcome::failure("")));
        assert_eq!(counts(find(&patterns, "error_recovery [open > denied]"), "list > read > stat"), [1, 1, 0]);
    }

    #[test]
    fn points_out_of_the_ordinary_are_decisions() {
        let list = Step::new("list").ok("a");
        let steps = vec![list.clone(), Step::new("open").ok("b"), list.clone(), list, Step::new("edit").ok("b")];
        let patterns = Learner::default().observe(&episode(steps, Outcome::success("")));
        let decisions: Vec<&Pattern> = patterns.iter().filter(|one| one.kind == PatternKind::Decision).collect();
        assert_eq!(decisions.len(), 1, "what has nothing after it decides nothing: {decisions:#?}");
        let again = find(&patterns, "decision [list > call again > result again]");
        assert_eq!([counts(again, "list"), counts(again, "edit")], [[1, 1, 1]; 2]);
    }

    #[test]
    fn a_typical_episode_makes_at_most_54_patterns() {
        let tool = |place: usize| format!("tool{place}");
        let steps = (0..8).map(|place| Step { ok: place % 4 != 3, ..Step::new(tool(place)) }).collect();
        let patterns = Learner::default().observe(&episode(steps, Outcome::success("")));
        assert!(patterns.len() <= 54, "{}", patterns.len());
        assert!(patterns.is_sorted_by_key(|pattern| pattern.id));
    }

    #[test]
    fn refuses_settings_out_of_range() {
        assert!(Learner::default().validate().is_ok());
        assert!(Learner::default().with_bucket(TimeDelta::zero()).validate().is_err());
        assert!(Learner::default().with_half_life(TimeDelta::hours(1)).validate().is_err());
        assert!(Learner::default().with_quorum(0).validate().is_err());
    }

    #[test]
    fn the_identity_changes_with_what_is_observed_only() {
        let learner = Learner::default();
        assert_eq!(learner.id(), learner.with_quorum(9).id());
        assert_ne!(learner.id(), learner.with_bucket(TimeDelta::hours(1)).id());
    }
}
