//! Playbooks: heuristics of one situation, put in order.

use std::fmt;

use crate::{Advice, Habit, Heuristic, HeuristicId, Move, Situation, Standing};

/// What to do in one situation: heuristics that agree, as one ordered list.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Playbook {
    /// When it applies; [`Situation::unless`] names where it does not.
    pub situation: Situation,
    /// What to do, in order.
    pub steps: Vec<Play>,
    /// What not to do, best supported first.
    pub avoid: Vec<Play>,
    /// How to see that it worked.
    pub check: Check,
}

/// One part of a playbook.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Play {
    /// The heuristic behind it.
    pub heuristic: HeuristicId,
    /// What to do, or to avoid.
    pub habit: Habit,
    /// Whether contrary advice is about as well supported: then there are several plays for the same moment.
    pub contested: bool,
    /// How large its effect is at least: the near end of the 95 % interval of the log odds ratio.
    pub at_least: f64,
}

/// How to see that a playbook worked: how often episodes succeeded that followed its best supported play, and others.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The play that the shares are of.
    pub heuristic: HeuristicId,
    /// The share of successes among episodes that followed it.
    pub followed: f64,
    /// The share of successes among episodes that did not.
    pub otherwise: f64,
}

impl Playbook {
    /// Puts heuristics together, which come best supported first; only those that are shown.
    pub fn compose(heuristics: &[Heuristic]) -> Vec<Self> {
        let mut situations: Vec<(&Situation, Vec<&Heuristic>)> = Vec::new();
        for one in heuristics.iter().filter(|one| one.is_shown()) {
            match situations.iter_mut().find(|(situation, _)| **situation == one.situation) {
                Some((_, list)) => list.push(one),
                None => situations.push((&one.situation, vec![one])),
            }
        }
        let playbook = |(situation, list): (&Situation, Vec<&Heuristic>)| {
            let check = Check::of(list.first()?);
            let (steps, avoid): (Vec<_>, Vec<_>) = list.into_iter().partition(|one| one.advice == Advice::Do);
            let avoid = avoid.into_iter().map(Play::of).collect();
            Some(Self { situation: situation.clone(), steps: in_order(&steps), avoid, check })
        };
        situations.into_iter().filter_map(playbook).collect()
    }
}

/// First what to begin with; then what comes after a tool that is in the list already, behind it; the rest, best
/// supported first.
fn in_order(advised: &[&Heuristic]) -> Vec<Play> {
    let start = Move::Start.signature();
    let mut ordered: Vec<&Heuristic> = Vec::new();
    let begins = |one: &&&Heuristic| one.habit.after.first() == Some(&start);
    ordered.extend(advised.iter().filter(begins));
    let mut rest: Vec<&Heuristic> = advised.iter().filter(|one| !begins(one)).copied().collect();
    while !rest.is_empty() {
        let follows = |one: &&Heuristic| {
            let last = one.habit.after.last().and_then(|last| Move::parse(last));
            let tool = match last {
                Some(Move::Ok(tool) | Move::Error(tool)) => tool,
                _ => return false,
            };
            ordered.iter().any(|done| done.habit.tool == tool)
        };
        let next = rest.iter().position(follows).unwrap_or(0);
        ordered.push(rest.remove(next));
    }
    ordered.into_iter().map(Play::of).collect()
}

impl Play {
    fn of(heuristic: &Heuristic) -> Self {
        Self {
            heuristic: heuristic.id,
            habit: heuristic.habit.clone(),
            contested: heuristic.standing == Standing::Contested,
            at_least: heuristic.contrast.at_least(),
        }
    }
}

impl Check {
    fn of(heuristic: &Heuristic) -> Self {
        let (with, without) = (heuristic.contrast.with.share(), heuristic.contrast.without.share());
        let (followed, otherwise) = match heuristic.advice {
            Advice::Do => (with, without),
            Advice::Avoid => (without, with),
        };
        Self { heuristic: heuristic.id, followed, otherwise }
    }
}

impl fmt::Display for Playbook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "When: {}", self.situation)?;
        for (number, play) in self.steps.iter().enumerate() {
            let contested = if play.contested { " (contested)" } else { "" };
            writeln!(f, "{}. {}{contested}", number + 1, play.habit)?;
        }
        for play in &self.avoid {
            writeln!(f, "Not: {}", play.habit)?;
        }
        let Check { followed, otherwise, .. } = self.check;
        write!(f, "It works if about {:.0} % succeed, not {:.0} %", 100.0 * followed, 100.0 * otherwise)
    }
}
