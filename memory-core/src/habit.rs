//! Habits: what episodes of one task did, and how they fared. The evidence that heuristics are derived from.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::learn::signature;
use crate::text::{strip_recalled, terms};
use crate::{Move, Step, Task};

/// The moves of an episode that habits are looked for in, as the branch of a pattern: up to 50, each once for all episodes that
/// made the same ones. Every habit follows from them, and there are some fifty of these to a run.
pub(crate) fn run(steps: &[Step]) -> String {
    serde_json::Value::from(moves(&steps[..steps.len().min(WHOLE)])).to_string()
}

/// The moves of a [run](run()); none for what is no run.
pub(crate) fn moves_of(run: &str) -> Vec<String> {
    serde_json::from_str(run).unwrap_or_default()
}

fn moves(steps: &[Step]) -> Vec<String> {
    steps.iter().map(signature).collect()
}

/// The first steps that the early window sees.
const EARLY: usize = 3;
/// The first steps that the whole window sees: later ones are too late to be advice, and rows stay small.
const WHOLE: usize = 50;
/// What a part of a task's signature begins with that states a fact about the environment.
const ENVIRONMENT: &str = "environment ";

/// Using a tool, anywhere or right after certain moves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Habit {
    /// Up to two moves right before, written as [`Move`] does; empty for anywhere in the episode.
    pub after: Vec<String>,
    /// The tool, whether it then went well or not: the agent chooses only what it tries.
    pub tool: String,
}

impl Habit {
    /// All habits within these moves.
    pub(crate) fn of(moves: &[String]) -> BTreeSet<Self> {
        let mut habits = BTreeSet::new();
        each_habit(moves, Move::Start.signature(), |after, made| {
            habits.insert(Self { after: after.to_vec(), tool: tool_of(made).to_owned() });
        });
        habits
    }

    /// Whether the moves before it are the last of these steps.
    pub(crate) fn may_follow(&self, steps: &[Step]) -> bool {
        match self.after.as_slice() {
            [start] if *start == Move::Start.signature() => steps.is_empty(),
            after => {
                let last = steps.len().checked_sub(after.len()).and_then(|first| steps.get(first..));
                last.is_some_and(|last| last.iter().map(signature).eq(after.iter().cloned()))
            }
        }
    }

    /// Whether these steps have it.
    pub fn is_in(&self, steps: &[Step]) -> bool {
        Self::of(&moves(steps)).contains(self)
    }
}

/// Calls `each` with all habits within these moves, some of them more than once: the moves right before, and the move that is made.
pub(crate) fn each_habit<M>(moves: &[M], start: M, mut each: impl FnMut(&[M], &M)) {
    for (place, made) in moves.iter().enumerate() {
        (0..=place.min(2)).for_each(|count| each(&moves[place - count..place], made));
    }
    if let Some(first) = moves.first() {
        each(&[start], first);
    }
}

/// The tool of a move.
pub(crate) fn tool_of(made: &str) -> &str {
    made.get(1..).unwrap_or_default()
}

impl fmt::Display for Habit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tool)?;
        let moves = self.after.iter().map(|part| match Move::parse(part) {
            Some(Move::Start) => "the start".to_owned(),
            Some(one) => one.to_string(),
            None => part.clone(),
        });
        let moves: Vec<String> = moves.collect();
        if moves.is_empty() { Ok(()) } else { write!(f, " right after {}", moves.join(" > ")) }
    }
}

/// Which part of an episode a habit is looked for in.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// All of it; up to 50 steps.
    Whole,
    /// Its first three steps, in episodes that go on after them. Where episodes end as soon as the task is done, long ones
    /// have failed so far, and whatever fills them would look harmful (immortal time bias). Comparing what was done up to one
    /// point among those that reached it avoids this (landmark analysis: J. R. Anderson, K. C. Cain, R. D. Gelber,
    /// "Analysis of survival by tumor response", 1983).
    Early,
}

impl Window {
    /// Whether it sees the step that comes after so many.
    pub(crate) const fn sees_next(self, steps: usize) -> bool {
        match self {
            Self::Whole => steps < WHOLE,
            Self::Early => steps < EARLY,
        }
    }

    /// The steps or moves of an episode that the window sees; `None` if it does not look at such an episode.
    pub(crate) fn of<T>(self, steps: &[T]) -> Option<&[T]> {
        match self {
            Self::Whole => Some(&steps[..steps.len().min(WHOLE)]),
            Self::Early => steps.get(..EARLY).filter(|_| steps.len() > EARLY),
        }
    }
}

/// The signature of a task: its terms, then each part of its context. Tasks of the same terms are the same task.
pub(crate) fn task_signature(task: &Task) -> Vec<String> {
    let distinct: BTreeSet<String> = terms(&strip_recalled(&task.text)).into_iter().collect();
    let distinct: Vec<String> = distinct.into_iter().collect();
    let environment = task.environment.iter().filter_map(environment_part);
    std::iter::once(distinct.join(" ")).chain(contexts(task)).chain(environment).collect()
}

/// A fact about the environment as a part of a task's signature.
fn environment_part(fact: (&String, &String)) -> Option<String> {
    Some(format!("{ENVIRONMENT}{}", serde_json::to_string(&fact).ok()?))
}

/// The fact about the environment that a part of a task's signature states, if it does.
pub(crate) fn environment_of(part: &str) -> Option<(String, String)> {
    serde_json::from_str(part.strip_prefix(ENVIRONMENT)?).ok()
}

/// The parts of a task's context that heuristics may be special to: `language=…`, `tag=…`.
pub(crate) fn contexts(task: &Task) -> impl Iterator<Item = String> {
    let language = task.language.iter().map(|language| format!("language={language}"));
    language.chain(task.tags.iter().map(|tag| format!("tag={tag}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Vec<Step> {
        vec![Step::new("grep").error(""), Step::new("edit"), Step::new("test"), Step::new("test")]
    }

    #[test]
    fn habits_are_attempts_after_up_to_two_moves() {
        let habits: Vec<String> = Habit::of(&moves(&steps()[..3])).iter().map(ToString::to_string).collect();
        assert_eq!(
            habits,
            [
                "edit",
                "grep",
                "test",
                "test right after edit",
                "edit right after grep!",
                "test right after grep! > edit",
                "grep right after the start",
            ]
        );
        assert!(Habit { after: vec!["-grep".to_owned()], tool: "edit".to_owned() }.is_in(&steps()));
        assert!(!Habit { after: vec!["+grep".to_owned()], tool: "edit".to_owned() }.is_in(&steps()));
    }

    #[test]
    fn a_run_gives_its_moves_back_and_windows_look_at_a_part() {
        let run = run(&steps());
        assert_eq!(run, r#"["-grep","+edit","+test","+test"]"#);
        assert_eq!(moves_of(&run), moves(&steps()));
        assert_eq!(Window::Early.of(&moves_of(&run)).unwrap().len(), 3);
        assert_eq!(Window::Early.of(&steps()[..3]), None, "an episode of three steps ends there");
        assert!(moves_of("no run").is_empty());
        let long = vec![Step::new("wait"); 60];
        assert_eq!(moves_of(&super::run(&long)).len(), 50);
    }

    #[test]
    fn tasks_of_the_same_words_are_the_same() {
        let task = Task::new("Fix the login!").tag("auth").language("rust").environment("rustc", "1.95");
        let same = Task { text: "login: FIXING".to_owned(), ..task.clone() };
        assert_eq!(
            task_signature(&task),
            ["fix login", "language=rust", "tag=auth", "environment [\"rustc\",\"1.95\"]"]
        );
        assert_eq!(environment_of(&task_signature(&task)[3]), Some(("rustc".to_owned(), "1.95".to_owned())));
        assert_eq!(task_signature(&task), task_signature(&same));
    }
}
