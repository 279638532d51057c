//! The state of an episode in a few classes, each of which tells a little of how it will end.
//!
//! All but one have few values and share one pattern, with a branch for each value; the shape of an input can be anything
//! and has patterns of its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;

use crate::text::strip_recalled;
use crate::{Step, Task};

/// The numbers of steps after which episodes under way are compared. What is not among them is compared with the next
/// smaller one.
pub(crate) const POINTS: [usize; 4] = [0, 1, 2, 4];

/// What a class is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// How many steps are done; with none done it holds every episode.
    Reached,
    /// How long the task's text is.
    TaskSize,
    /// What the last input looks like.
    InputShape,
    /// How the last step went, and whether its call or its result came before.
    LastStep,
    /// How many ids the last result holds.
    Ids,
    /// How many steps it took.
    Steps,
    /// How many words the last input has.
    Words,
}

/// One class that an episode is in: where its evidence is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) feature: Feature,
    pub(crate) signature: Vec<String>,
    pub(crate) branch: String,
}

impl Class {
    fn new(feature: Feature, branch: String) -> Self {
        Self { feature, signature: vec!["state".to_owned()], branch }
    }
}

/// Whether the last call and the last result came before in the same episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) call: bool,
    pub(crate) result: bool,
}

impl Again {
    /// All that are out of the ordinary.
    pub(crate) const SPECIAL: [Self; 3] =
        [Self { call: true, result: false }, Self { call: false, result: true }, Self { call: true, result: true }];

    /// Of the last of these steps.
    pub(crate) fn after(steps: &[Step]) -> Self {
        let Some((last, before)) = steps.split_last() else { return Self::default() };
        Self {
            call: before.iter().any(|step| call(step) == call(last)),
            result: before.iter().any(|step| result(step) == result(last)),
        }
    }

    /// Of each of these steps, in order.
    pub(crate) fn each(steps: &[Step]) -> impl Iterator<Item = Self> {
        let (mut calls, mut results) = (BTreeSet::new(), BTreeSet::new());
        steps.iter().map(move |step| Self { call: !calls.insert(call(step)), result: !results.insert(result(step)) })
    }

    /// As parts of a signature; none for an ordinary point.
    pub(crate) fn parts(self) -> impl Iterator<Item = &'static str> {
        [(self.call, "call again"), (self.result, "result again")]
            .into_iter()
            .filter_map(|(is, part)| is.then_some(part))
    }
}

fn call(step: &Step) -> (&str, Cow<'_, str>) {
    (&step.tool, own(&step.input))
}

fn result(step: &Step) -> Cow<'_, str> {
    own(&step.observation)
}

/// A text without space around it, and without what the memory supplied.
fn own(text: &str) -> Cow<'_, str> {
    match strip_recalled(text) {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// How long the task's text is: a class for every factor of about 1.6 in words.
pub(crate) fn of_task(task: &Task) -> Class {
    const MOST: u32 = 7;
    let words = own(&task.text).split_whitespace().count() as u64;
    let size = ((words + 1).saturating_pow(3).ilog2() / 2).min(MOST);
    Class::new(Feature::TaskSize, format!("task size {size}"))
}

/// How many steps are done.
pub(crate) fn reached(steps: usize) -> Class {
    Class::new(Feature::Reached, after(steps))
}

/// The classes of an episode under way; only the first one before its first step.
pub(crate) fn under_way(steps: &[Step]) -> Vec<Class> {
    let mut classes = vec![reached(steps.len())];
    if let Some(last) = steps.last() {
        let after = after(steps.len());
        let went = if last.ok { "ok" } else { "error" };
        let again: String = Again::after(steps).parts().map(|part| format!(", {part}")).collect();
        classes.push(Class::new(Feature::LastStep, format!("{after}, {went}{again}")));
        classes.push(Class::new(Feature::Ids, format!("{after}, {} ids", ids(last))));
        let signature = vec!["input".to_owned(), shape(&own(&last.input))];
        classes.push(Class { feature: Feature::InputShape, signature, branch: after });
    }
    classes
}

/// The classes of an episode that has ended.
pub(crate) fn finished(steps: &[Step]) -> Vec<Class> {
    const MOST_STEPS: usize = 12;
    const MOST_WORDS: usize = 8;
    let words = steps.last().map_or(0, |last| own(&last.input).split_whitespace().take(MOST_WORDS).count());
    vec![
        Class::new(Feature::Steps, format!("ended, {} steps", steps.len().min(MOST_STEPS))),
        Class::new(Feature::Words, format!("ended, {words} words")),
        Class::new(Feature::Ids, format!("ended, {} ids", steps.last().map_or(0, ids))),
    ]
}

fn after(steps: usize) -> String {
    let point = POINTS.into_iter().rfind(|point| *point <= steps).unwrap_or_default();
    format!("{point} steps")
}

/// How many distinct ids a result holds, six standing for more: words of four and more characters with a digit.
fn ids(step: &Step) -> usize {
    const MOST: usize = 6;
    let result = result(step);
    let words = result.split(|c: char| !c.is_alphanumeric() && c != '_');
    let ids = words.filter(|word| word.chars().nth(3).is_some() && word.contains(char::is_numeric));
    ids.collect::<BTreeSet<_>>().len().min(MOST)
}

/// What an input looks like: the keys of a JSON object, or how any other text begins.
fn shape(input: &str) -> String {
    const KEYS: usize = 64;
    const START: usize = 6;
    match serde_json::from_str::<BTreeMap<String, IgnoredAny>>(input) {
        Ok(object) => object.into_keys().collect::<Vec<_>>().join(",").chars().take(KEYS).collect(),
        Err(_) => input.chars().take(START).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branches(classes: Vec<Class>) -> Vec<String> {
        classes.into_iter().map(|class| class.branch).collect()
    }

    #[test]
    fn an_episode_under_way_is_in_these_classes() {
        assert_eq!(branches(under_way(&[])), ["0 steps"]);
        let open = Step::new("open").input("a.rs").ok("order W123 of u_42, twice W123");
        let list = Step::new("list").error("");
        let after = |steps: &[Step]| branches(under_way(steps));
        assert_eq!(after(std::slice::from_ref(&open)), ["1 steps", "1 steps, ok", "1 steps, 2 ids", "1 steps"]);
        let steps = [list.clone(), open.clone(), list.clone(), open.clone()];
        assert_eq!(after(&steps[..3])[..2], ["2 steps", "2 steps, error, call again, result again"]);
        let other = Step { input: "b.rs".to_owned(), ..open.clone() };
        assert_eq!(after(&[list.clone(), list, open, other])[1], "4 steps, ok, result again");
    }

    #[test]
    fn again_is_the_same_for_each_step_as_for_the_last_one() {
        let step = |tool: &str, input: &str, result: &str| Step::new(tool).input(input).ok(result);
        let steps =
            [step("a", "x", "1"), step("b", "x", "1"), step("a", "x ", "2"), step("a", "y", " 2"), step("b", "x", "1")];
        let each: Vec<Again> = Again::each(&steps).collect();
        assert_eq!(each, (1..=steps.len()).map(|end| Again::after(&steps[..end])).collect::<Vec<_>>());
        let special = Again::SPECIAL;
        assert_eq!(each, [Again::default(), special[1], special[0], special[1], special[2]]);
    }

    #[test]
    fn an_episode_that_has_ended_is_in_these_classes() {
        assert_eq!(branches(finished(&[])), ["ended, 0 steps", "ended, 0 words", "ended, 0 ids"]);
        let last = Step::new("finish").input("one two  three").ok("a1b2 c345 d678 e901 f234 g567 h890 12 abcd");
        assert_eq!(branches(finished(&vec![last; 20])), ["ended, 12 steps", "ended, 3 words", "ended, 6 ids"]);
    }

    #[test]
    fn inputs_have_the_shape_of_their_keys_or_of_their_start() {
        assert_eq!(shape(r#"{"b": [1, {"c": 2}], "a": null}"#), "a,b");
        assert_eq!(shape("SELECT name FROM users"), "SELECT");
        assert_eq!(shape("[1, 2]"), "[1, 2]");
        assert_eq!(shape(""), "");
    }

    #[test]
    fn tasks_are_classed_by_the_logarithm_of_their_words() {
        let size = |words: usize| of_task(&Task::new("word ".repeat(words))).branch;
        let sizes = [0, 1, 2, 3, 10, 24, 25, 10_000].map(size);
        let expected = [0, 1, 2, 3, 5, 6, 7, 7].map(|size: u32| format!("task size {size}"));
        assert_eq!(sizes, expected);
    }
}
