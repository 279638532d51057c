//! Which steps of an episode are worth a look.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::learn::repaired_at;
use crate::text::terms;
use crate::{Recalled, Step};

/// The score of a step that failed, or that repaired one.
const TURN: f64 = 0.5;
/// How much of the score of the step beside it a step has: not so much that what is there for context comes before a turn.
const BESIDE: f64 = 0.4;
/// Bytes that are read of an episode's steps, shared evenly among their texts.
const READ: usize = 200_000;

/// A step of a recalled episode that is worth a look.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecalledStep<'a> {
    /// Which step of the episode it is; the first is 1.
    pub number: usize,
    /// The step.
    pub step: &'a Step,
    /// How much it is worth a look, in (0, 1]; see [`Recalled::steps_about`].
    pub score: f64,
}

impl Recalled {
    /// Up to `most` steps that have to do with a query, failed, or repaired one that had failed, and the steps right before and
    /// after these: those with the highest score, and of equal ones the earlier; in the order of the episode.
    ///
    /// The score of a step is the highest of:
    ///
    /// - the share of the query's distinct [terms](crate::text::terms) that are found in its tool, action, input and observation;
    /// - one half, if it failed, or if the same tool went well in it within three steps after it had failed;
    /// - 0.4 times what a step right beside it has from these.
    ///
    /// To bound the time, the first 200,000 bytes of an episode are searched: each of the three texts of a step is read up to
    /// an equal share of them, 66 bytes in an episode of 1,000 steps, and 1,333 bytes in one of 50.
    pub fn steps_about(&self, query: &str, most: usize) -> Vec<RecalledStep<'_>> {
        let steps = &self.episode.steps;
        let asked: HashSet<String> = terms(query).into_iter().collect();
        let read = READ / (3 * steps.len()).max(1);
        let mut own: Vec<f64> = steps.iter().map(|step| share(&asked, step, read)).collect();
        for place in (0..steps.len()).filter(|place| !steps[*place].ok) {
            let turns = std::iter::once(place).chain(repaired_at(steps, place));
            turns.for_each(|turn| own[turn] = own[turn].max(TURN));
        }
        let beside = |place: usize| own.get(place).copied().unwrap_or_default() * BESIDE;
        let scored = steps.iter().enumerate().map(|(place, step)| {
            let score = own[place].max(beside(place + 1)).max(beside(place.wrapping_sub(1)));
            RecalledStep { number: place + 1, step, score }
        });
        let mut scored: Vec<RecalledStep<'_>> = scored.filter(|step| step.score > 0.0).collect();
        // Scores are above 0: their bits have their order. The sort is stable.
        scored.sort_by_key(|step| Reverse(step.score.to_bits()));
        scored.truncate(most);
        scored.sort_by_key(|step| step.number);
        scored
    }
}

/// The share of these terms that are found in a step, of whose texts so many bytes are read each.
fn share(asked: &HashSet<String>, step: &Step, read: usize) -> f64 {
    if asked.is_empty() {
        return 0.0;
    }
    let texts = [&step.action, &step.input, &step.observation].map(|text| beginning(text, read));
    let said = std::iter::once(step.tool.as_str()).chain(texts).flat_map(terms);
    let found: HashSet<String> = said.filter(|term| asked.contains(term)).collect();
    found.len() as f64 / asked.len() as f64
}

/// The first so many bytes of a text; fewer, if the last character would be cut.
fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::tests::{episode, recalled};

    fn found(steps: Vec<Step>, query: &str, most: usize) -> Vec<(usize, f64)> {
        let recalled = recalled(episode(1, "task", steps), 1.0);
        recalled.steps_about(query, most).iter().map(|found| (found.number, found.score)).collect()
    }

    #[test]
    fn steps_are_found_by_the_terms_of_the_query_with_those_beside_them() {
        let step = Step::new;
        let steps = vec![
            step("plan"),
            step("grep").input("LOGIN tests"),
            step("read"),
            step("think"),
            step("fix_login").action("x").ok("y"),
        ];
        assert_eq!(found(steps.clone(), "the login test", 9), [(1, 0.4), (2, 1.0), (3, 0.4), (4, 0.2), (5, 0.5)]);
        assert_eq!(found(steps.clone(), "the login test", 3), [(1, 0.4), (2, 1.0), (5, 0.5)]);
        assert_eq!(found(steps.clone(), "database", 9), []);
        assert_eq!(found(steps, "", 9), []);
        assert_eq!(found(Vec::new(), "login", 9), []);
    }

    #[test]
    fn failed_steps_and_what_repaired_them_are_found_without_a_query() {
        let test = || Step::new("test");
        let steps = vec![
            Step::new("plan"),
            test().error("1 failed"),
            Step::new("edit"),
            test(),
            Step::new("commit"),
            Step::new("push"),
        ];
        assert_eq!(found(steps.clone(), "", 9), [(1, 0.2), (2, 0.5), (3, 0.2), (4, 0.5), (5, 0.2)]);
        assert_eq!(found(steps.clone(), "fail", 2), [(2, 1.0), (4, 0.5)]);
        assert_eq!(found(steps, "", 3), [(1, 0.2), (2, 0.5), (4, 0.5)], "of equal ones the earlier");
    }

    #[test]
    fn of_long_episodes_the_beginnings_are_read() {
        let about = |steps: usize, before: usize| {
            let text = format!("{} walrus {}", "é".repeat(before / 2), "x".repeat(9_000));
            !found(vec![Step::new("read").ok(text); steps], "walrus", 9).is_empty()
        };
        assert!(about(1, 9_000) && about(50, 1_300) && about(1_000, 50));
        assert!(!about(50, 1_340) && !about(1_000, 66));
    }
}
