//! Heuristics: what to do, or to avoid, in which situation, and how well that is supported.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::habit::{Habit, Window, contexts};
use crate::pattern::{add_to_name, domain_in_names};
use crate::statistics::{Contrast, Rate, difference, sequential_ratio};
use crate::{LearnerId, Scope, Step, Support, Task};

/// The identity of a heuristic: a UUID version 5 of learner, scope, situation, tool and advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeuristicId(Uuid);

impl HeuristicId {
    /// The heuristic of this UUID.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for HeuristicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who must agree before a heuristic is shown; see [`MemoryBuilder::consent`](crate::MemoryBuilder::consent).
pub trait Consent: fmt::Debug + Send + Sync + 'static {
    /// Whether a heuristic of a scope may be shown. Asked for each, each time: answers at once, from memory.
    fn allows(&self, scope: &Scope, heuristic: HeuristicId) -> bool;
}

impl<C: Consent + ?Sized> Consent for std::sync::Arc<C> {
    fn allows(&self, scope: &Scope, heuristic: HeuristicId) -> bool {
        (**self).allows(scope, heuristic)
    }
}

/// What a heuristic says about its habit.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Advice {
    /// Episodes that did it succeeded more.
    Do,
    /// Episodes that did it succeeded less.
    Avoid,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Do => "do",
            Self::Avoid => "avoid",
        })
    }
}

/// Whether a heuristic is shown. A function of the evidence, like everything about it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is shown.
    Active,
    /// Another one gives contrary advice for the same situation, and it is not clear which is better: both are shown as such.
    Contested,
    /// Another one gives contrary advice for the same situation, and is better in all likelihood: it is not shown.
    Outdone,
    /// Showing it did harm, or agents said so: it is not shown.
    Retired,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Contested => "contested",
            Self::Outdone => "outdone",
            Self::Retired => "retired",
        })
    }
}

/// When a heuristic applies.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Situation {
    /// The domain of the task.
    pub domain: Option<String>,
    /// What the task must have besides, `language=…` or `tag=…`: the advice is special to it.
    pub context: Option<String>,
    /// What the task must not have: there, the evidence is different.
    pub unless: BTreeSet<String>,
}

impl Situation {
    /// Whether a task is in it.
    pub fn fits(&self, task: &Task) -> bool {
        self.domain == task.domain && self.fits_context(|context| contexts(task).any(|one| one == *context))
    }

    /// Whether what has these parts of a context is in it, if the domain is right.
    pub(crate) fn fits_context(&self, has: impl Fn(&String) -> bool) -> bool {
        self.context.iter().all(&has) && !self.unless.iter().any(&has)
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.domain.as_deref().unwrap_or("any domain"))?;
        if let Some(context) = &self.context {
            write!(f, ", {context}")?;
        }
        for context in &self.unless {
            write!(f, ", not {context}")?;
        }
        Ok(())
    }
}

/// A rule derived from the evidence of many episodes: in this situation, this habit helps or harms.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Heuristic {
    /// Its identity.
    pub id: HeuristicId,
    /// When it applies.
    pub situation: Situation,
    /// What it is about.
    pub habit: Habit,
    /// Which part of an episode it is looked for in.
    pub window: Window,
    /// Whether to do it or to avoid it.
    pub advice: Advice,
    /// The evidence: episodes with and without it, compared within tasks.
    pub contrast: Contrast,
    /// The environments in which the habit was seen in this situation.
    pub environments: BTreeSet<BTreeMap<String, String>>,
    /// Whether it is shown.
    pub standing: Standing,
    /// The best contrary advice for the same situation, if there is one.
    pub rival: Option<Rival>,
    /// What showing it did, if it has been shown.
    pub uplift: Option<Uplift>,
}

/// Contrary advice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rival {
    /// The other heuristic.
    pub heuristic: HeuristicId,
    /// The probability that this one is better than the other.
    pub better: f64,
}

impl Heuristic {
    /// Puts one together; its id is computed.
    pub(crate) fn new(
        learner: LearnerId,
        scope: &Scope,
        situation: Situation,
        (window, habit): (Window, Habit),
        contrast: Contrast,
    ) -> Self {
        let advice = if contrast.log_odds > 0.0 { Advice::Do } else { Advice::Avoid };
        let advised = advice.to_string();
        let fields = [scope.as_str().as_bytes(), domain_in_names(situation.domain.as_deref()), advised.as_bytes()];
        let mut name = Vec::new();
        // After each list an empty field.
        add_to_name(&mut name, fields.into_iter().chain([&[][..]]));
        for list in [
            &mut situation.context.iter() as &mut dyn Iterator<Item = &String>,
            &mut situation.unless.iter(),
            &mut habit.after.iter().chain([&habit.tool]),
        ] {
            add_to_name(&mut name, list.map(String::as_bytes).chain([&[][..]]));
        }
        Self {
            id: HeuristicId(Uuid::new_v5(learner.as_uuid(), &name)),
            situation,
            habit,
            window,
            advice,
            contrast,
            environments: BTreeSet::new(),
            standing: Standing::Active,
            rival: None,
            uplift: None,
        }
    }

    /// What an episode with these steps says about it: whether it has the habit; `None` if its window does not look at it.
    pub fn is_in(&self, steps: &[Step]) -> Option<bool> {
        self.window.of(steps).map(|seen| self.habit.is_in(seen))
    }

    /// Whether it speaks about the step that comes after these: what it says to do is not done yet.
    pub(crate) fn speaks_after(&self, steps: &[Step]) -> bool {
        let done = || self.advice == Advice::Do && self.habit.after.is_empty() && self.habit.is_in(steps);
        self.window.sees_next(steps.len()) && self.habit.may_follow(steps) && !done()
    }

    /// Its effect at least, as a log odds ratio: negative if it says to avoid.
    pub(crate) fn effect(&self) -> f64 {
        let sign = if self.advice == Advice::Do { 1.0 } else { -1.0 };
        sign * self.contrast.at_least().max(0.0)
    }

    /// Whether it is shown.
    pub fn is_shown(&self) -> bool {
        matches!(self.standing, Standing::Active | Standing::Contested)
    }

    /// How the environment of a task compares with those that the evidence is from.
    pub fn freshness(&self, task: &Task) -> Freshness {
        let compared = self.environments.iter().map(|seen| Freshness::of(seen, &task.environment));
        compared.min().unwrap_or(Freshness::Unverifiable)
    }
}

impl fmt::Display for Heuristic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contrast { with, without, tasks, .. } = &self.contrast;
        write!(
            f,
            "{}: {} {} ({:.0} % of {:.0} episodes with it succeeded, {:.0} % of {:.0} without; {tasks} tasks tell)",
            self.situation,
            self.advice,
            self.habit,
            100.0 * with.share(),
            with.trials,
            100.0 * without.share(),
            without.trials,
        )
    }
}

/// Whether knowledge still fits the environment of a task. Ordered from good to bad.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// All facts that both environments name are the same.
    Fresh,
    /// The environments name no fact in common, so that nothing can be said.
    Unverifiable,
    /// These facts have changed.
    Drifted(Vec<String>),
}

impl Freshness {
    /// Compares the environment that something was learned in with that of a task.
    pub fn of(learned: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Self {
        let common = || learned.iter().filter_map(|(name, value)| Some((name, value, now.get(name)?)));
        let changed: Vec<String> = common().filter(|(_, was, is)| was != is).map(|(name, ..)| name.clone()).collect();
        match (common().next(), changed.is_empty()) {
            (None, _) => Self::Unverifiable,
            (Some(_), true) => Self::Fresh,
            (Some(_), false) => Self::Drifted(changed),
        }
    }

    /// How much of its score something keeps.
    pub(crate) const fn factor(&self) -> f64 {
        match self {
            Self::Fresh | Self::Unverifiable => 1.0,
            Self::Drifted(_) => 0.5,
        }
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("fresh"),
            Self::Unverifiable => f.write_str("unverifiable"),
            Self::Drifted(facts) => write!(f, "drifted: {}", facts.join(", ")),
        }
    }
}

/// What the effect of showing something is measured against.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Episodes for which it was withheld by chance: the difference is what showing it caused.
    Withheld,
    /// Episodes that did otherwise and were shown nothing: the difference may have other causes. Used as long as nothing has
    /// been withheld.
    Observed,
}

/// The effect of showing something on the success of episodes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uplift {
    /// Episodes that were shown it, with the weight they have now.
    pub shown: Rate,
    /// Episodes to compare with.
    pub compared: Rate,
    /// What these are.
    pub basis: Basis,
    /// The share of successes among those shown, less that of the others.
    pub difference: f64,
    /// Its 95 % interval; see [`difference`].
    pub interval: (f64, f64),
}

impl Uplift {
    pub(crate) fn new(shown: Rate, compared: Rate, basis: Basis) -> Self {
        let (difference, interval) = difference(shown, compared);
        Self { shown, compared, basis, difference, interval }
    }

    /// Whether showing it does harm. Since this is asked after every episode, the interval, which holds for one look, will
    /// not do: the [`sequential_ratio`] must speak against chance with at least 20 to 1.
    pub fn is_harmful(&self) -> bool {
        const SURE: f64 = 20.0;
        self.difference < 0.0 && sequential_ratio(self.shown, self.compared) >= SURE
    }
}

impl From<Support> for Rate {
    fn from(support: Support) -> Self {
        Self::new(support.trials, support.successes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(facts: &[(&str, &str)]) -> BTreeMap<String, String> {
        facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn freshness_compares_what_both_name() {
        let now = environment(&[("rustc", "1.95"), ("lock", "a")]);
        assert_eq!(Freshness::of(&environment(&[("rustc", "1.95"), ("os", "x")]), &now), Freshness::Fresh);
        assert_eq!(
            Freshness::of(&environment(&[("rustc", "1.90"), ("lock", "a")]), &now),
            Freshness::Drifted(vec!["rustc".to_owned()])
        );
        assert_eq!(Freshness::of(&environment(&[("os", "x")]), &now), Freshness::Unverifiable);
        assert_eq!(Freshness::of(&now, &environment(&[])), Freshness::Unverifiable);
    }

    #[test]
    fn situations_fit_domain_and_context() {
        let task = Task::new("x").domain("web").tag("auth").language("rust");
        let situation = |context: Option<&str>, unless: &[&str]| Situation {
            domain: Some("web".to_owned()),
            context: context.map(str::to_owned),
            unless: unless.iter().map(|one| (*one).to_owned()).collect(),
        };
        assert!(situation(None, &[]).fits(&task));
        assert!(situation(Some("tag=auth"), &["tag=other"]).fits(&task));
        assert!(!situation(Some("language=go"), &[]).fits(&task));
        assert!(!situation(None, &["language=rust"]).fits(&task));
        assert!(!Situation::default().fits(&task));
    }

    #[test]
    fn uplift_is_harmful_when_that_is_no_chance_however_often_one_looks() {
        let uplift = |shown, withheld| Uplift::new(Rate::new(30.0, shown), Rate::new(30.0, withheld), Basis::Withheld);
        assert!(uplift(9.0, 21.0).is_harmful());
        assert!(!uplift(15.0, 18.0).is_harmful());
        assert!(!uplift(21.0, 9.0).is_harmful());
        let early = Uplift::new(Rate::new(3.0, 0.0), Rate::new(3.0, 3.0), Basis::Withheld);
        assert!(early.interval.1 < 0.0 && !early.is_harmful(), "one look in twenty is below zero by chance");
    }
}
