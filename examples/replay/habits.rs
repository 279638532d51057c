//! T5: habits claimed from one set of runs, tested again on another.

use std::collections::BTreeMap;

use memory_core::{Advice, Heuristic, Step};
use serde_json::{Map, Value, json};

use crate::trajectories::Trajectory;

/// The most habits claimed in one domain.
const MOST: usize = 20;
/// Episodes of the test file that must have a habit, so that it can be tested.
const TESTABLE: usize = 10;
/// In these, runs end with the first right answer: only the first steps of runs that go on after them count.
const ENDS_WHEN_RIGHT: [&str; 3] = ["sql", "bash", "ctf"];
const FIRST_STEPS: usize = 3;

/// How the claims of one domain fared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claims {
    claimed: usize,
    testable: usize,
    same_sign: usize,
    hold: usize,
}

/// Tests the first claims of each domain again.
pub(crate) fn retest(heuristics: &[Heuristic], test: &[Trajectory]) -> BTreeMap<String, Claims> {
    let mut domains: BTreeMap<String, Claims> = BTreeMap::new();
    for run in test {
        domains.entry(run.domain.clone()).or_default();
    }
    for claim in heuristics {
        let Some(claims) = claim.situation.domain.as_ref().and_then(|domain| domains.get_mut(domain)) else { continue };
        if claims.claimed == MOST {
            continue;
        }
        claims.claimed += 1;
        let runs = test.iter().filter(|run| claim.situation.fits(&run.task()));
        let rows: Vec<Row<'_>> = runs.filter_map(|run| Row::of(claim, run)).collect();
        if rows.iter().filter(|row| row.has).count() < TESTABLE {
            continue;
        }
        let sign = if claim.advice == Advice::Do { 1.0 } else { -1.0 };
        let (log_odds, z) = mantel_haenszel(&rows);
        claims.testable += 1;
        claims.same_sign += usize::from(sign * log_odds > 0.0);
        claims.hold += usize::from(sign * z >= 1.64);
    }
    domains
}

struct Row<'a> {
    has: bool,
    success: bool,
    task: &'a str,
}

impl<'a> Row<'a> {
    fn of(claim: &Heuristic, run: &'a Trajectory) -> Option<Self> {
        let steps: Vec<Step> = run.steps.iter().map(|one| one.step()).collect();
        let seen = match ENDS_WHEN_RIGHT.contains(&run.domain.as_str()) {
            true if steps.len() <= FIRST_STEPS => return None,
            true => &steps[..FIRST_STEPS],
            false => &steps[..],
        };
        Some(Self { has: claim.habit.is_in(seen), success: run.success, task: &run.task_id })
    }
}

/// The common log odds ratio, and z with continuity correction, stratified by task.
fn mantel_haenszel(rows: &[Row<'_>]) -> (f64, f64) {
    let mut strata: BTreeMap<&str, [[f64; 2]; 2]> = BTreeMap::new();
    for row in rows {
        strata.entry(row.task).or_default()[usize::from(row.has)][usize::from(row.success)] += 1.0;
    }
    let (mut up, mut down, mut seen, mut expected, mut variance) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for [[without_failed, without], [with_failed, with]] in strata.into_values() {
        let (has, successes) = (with + with_failed, with + without);
        let n = has + without + without_failed;
        if n < 2.0 {
            continue;
        }
        up += with * without_failed / n;
        down += with_failed * without / n;
        seen += with;
        expected += has * successes / n;
        variance += has * (n - has) * successes * (n - successes) / (n * n * (n - 1.0));
    }
    let beyond: f64 = seen - expected;
    let z = if variance > 0.0 { (beyond.abs() - 0.5).max(0.0).copysign(beyond) / f64::sqrt(variance) } else { 0.0 };
    (f64::ln((up + 0.5) / (down + 0.5)), z)
}

/// The figures of each domain, and of all together.
pub(crate) fn json(domains: &BTreeMap<String, Claims>) -> Value {
    let all = domains.values().fold(Claims::default(), |sum, one| Claims {
        claimed: sum.claimed + one.claimed,
        testable: sum.testable + one.testable,
        same_sign: sum.same_sign + one.same_sign,
        hold: sum.hold + one.hold,
    });
    let figures = |claims: &Claims| {
        let Claims { claimed, testable, same_sign, hold } = claims;
        json!({"claimed": claimed, "testable": testable, "same_sign": same_sign, "hold": hold})
    };
    let mut map: Map<String, Value> =
        domains.iter().map(|(domain, claims)| (domain.clone(), figures(claims))).collect();
    map.insert("all".to_owned(), figures(&all));
    Value::Object(map)
}

/// The figures as people read them.
pub(crate) fn table(domains: &BTreeMap<String, Claims>) -> String {
    let mut table = String::from("T5  habits claimed          claimed  testable  same sign  hold\n");
    let json = json(domains);
    for (domain, figures) in json.as_object().into_iter().flatten() {
        let figure = |name: &str| figures[name].as_u64().unwrap_or_default();
        table += &format!(
            "    {domain:24}{:7}{:10}{:11}{:6}\n",
            figure("claimed"),
            figure("testable"),
            figure("same_sign"),
            figure("hold")
        );
    }
    table
}
