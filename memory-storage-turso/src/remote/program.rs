//! Statements of a writing transaction that go to the server in one request, with guards that keep the rest from running.
//!
//! The protocol lets a statement depend on whether another one failed, not on what it found. So a guard is a query that fails, in
//! a way that nothing else does, when what it looks for is not there, and tells in its error what is.

use libsql::Value;

use super::link::step;
use super::protocol::{Condition, Failure, Step};

/// A query that fails unless a condition holds, and then tells a text.
macro_rules! guard {
    ($holds:expr, $told:expr) => {
        concat!("SELECT CASE WHEN ", $holds, " THEN 1 ELSE json_extract('{}', 'knowhow: ' || ", $told, ") END")
    };
}
pub(crate) use guard;

/// What a guard tells, if this is the failure of one.
pub(crate) fn told(failure: &Failure) -> Option<&str> {
    failure.message.split_once("bad JSON path: 'knowhow: ")?.1.strip_suffix('\'')
}

/// Statements with one guard.
#[derive(Debug)]
pub(crate) struct Program {
    guard: (&'static str, Vec<Value>),
    writes: Vec<(&'static str, Vec<Value>)>,
}

impl Program {
    /// A program without statements, behind a guard.
    pub(crate) fn new(guard: &'static str, values: Vec<Value>) -> Self {
        Self { guard: (guard, values), writes: Vec::new() }
    }

    pub(crate) fn push(&mut self, sql: &'static str, values: Vec<Value>) {
        self.writes.push((sql, values));
    }

    /// The steps within a transaction, which is to be rolled back if one fails.
    pub(crate) fn within(&self) -> Vec<Step> {
        self.steps(0, None)
    }

    /// The steps with a transaction around them, which is over afterwards.
    pub(crate) fn alone(&self, begin: &'static str) -> Vec<Step> {
        let mut steps = vec![step(begin, vec![], None)];
        steps.extend(self.steps(1, Some(Condition::Ok { step: 0 })));
        let all_done = Condition::Ok { step: steps.len() - 1 };
        end(&mut steps, vec![all_done]);
        steps
    }

    /// Each step runs if the one before it succeeded.
    fn steps(&self, first: usize, begun: Option<Condition>) -> Vec<Step> {
        let guard = step(self.guard.0, self.guard.1.clone(), begun);
        let writes = self.writes.iter().enumerate();
        let writes = writes
            .map(|(before, (sql, values))| step(sql, values.clone(), Some(Condition::Ok { step: first + before })));
        std::iter::once(guard).chain(writes).collect()
    }
}

/// Appends the end of a transaction that the first step begins: what was done is kept if all this holds. Returns the place of the
/// step that keeps it.
pub(crate) fn end(steps: &mut Vec<Step>, mut conds: Vec<Condition>) -> usize {
    let begun = Condition::Ok { step: 0 };
    conds.push(begun.clone());
    let commit = steps.len();
    steps.push(step("COMMIT", vec![], Some(Condition::And { conds })));
    let not_kept = Condition::not_ok(commit);
    steps.push(step("ROLLBACK", vec![], Some(Condition::And { conds: vec![begun, not_kept] })));
    commit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_are_told_from_other_failures() {
        let failure = |message: &str| Failure { message: message.to_owned(), code: "SQLITE_UNKNOWN".to_owned() };
        let guard = failure("SQLite error: bad JSON path: 'knowhow: found 17'");
        assert_eq!(told(&guard), Some("found 17"));
        for other in ["SQLite error: bad JSON path: '$x'", "SQLite error: malformed JSON", ""] {
            assert_eq!(told(&failure(other)), None, "{other}");
        }
    }
}
