//! Deriving heuristics from the evidence of habits: a pure function of the evidence and the time.
//!
//! For each domain and habit, episodes with and without it are compared within tasks ([`Contrast`]). What is believed:
//!
//! - at least the quorum of episodes, and 3 % of all, did it, and as many did not; at least five tasks tell the two apart;
//! - false discoveries are kept below 10 % over all habits of the scope that were tested ([`false_discovery_threshold`]).
//!
//! *Refining*: where the effect differs between tasks with and without a language or a tag (false discoveries among these
//! tests kept below 10 % again), the general heuristic gives way to special ones; where it does not, the general one stands
//! for all. *Resolving*: of several tools advised right after the same moves only one can be used; the better one is shown
//! if it is better with a probability of at least 0.9, otherwise all are contested.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use foldhash::fast::RandomState;

use crate::habit::{Window, each_habit, environment_of, moves_of, tool_of};
use crate::statistics::{Contrast, Rate, Stratum, false_discovery_threshold};
use crate::{Advice, Habit, Heuristic, Learner, LearnerId, Move, Pattern, Rival, Scope, Situation, Standing};

/// The share of false ones among what is believed.
const FALSE_DISCOVERIES: f64 = 0.1;
/// Tasks that must tell episodes with and without a habit apart.
const TASKS: usize = 5;
/// The share of episodes that must have a habit, and of those that must not.
const RARE: f64 = 0.03;
/// The odds ratio of success between short and long episodes from which the length gives the outcome away.
const GIVEN_AWAY: f64 = 5.0;
/// From which probability one of two contrary heuristics is taken for the better one.
const SURE: f64 = 0.9;
/// Contexts of a domain that are looked at apart, the most frequent ones.
const CONTEXTS: usize = 32;

/// The heuristics that the habits of a scope support, best supported first; those that are contrary are to be [resolved](resolve)
/// when it is known which are retired.
pub(crate) fn derive(learner: &Learner, scope: &Scope, rows: &[Pattern], now: DateTime<Utc>) -> Vec<Heuristic> {
    let mut domains: BTreeMap<Option<&str>, Vec<&Pattern>> = BTreeMap::new();
    for row in rows {
        domains.entry(row.domain.as_deref()).or_default().push(row);
    }
    let domains: Vec<Domain<'_>> =
        domains.into_iter().map(|(name, rows)| Domain::new(name, &rows, learner, now)).collect();
    let tests: Vec<Test<'_>> = domains.iter().flat_map(Domain::tests).collect();
    let general = tests.iter().filter_map(|test| Some(test.general?.p_value));
    let believed = false_discovery_threshold(general, FALSE_DISCOVERIES);
    let differences = tests.iter().filter_map(|test| Some(test.special.as_ref()?.differs));
    let different = false_discovery_threshold(differences, FALSE_DISCOVERIES);
    let within = |p_value: f64, threshold: Option<f64>| threshold.is_some_and(|threshold| p_value <= threshold);
    let mut heuristics = Vec::new();
    for test in &tests {
        let found = match (&test.special, test.general) {
            (Some(special), _) if within(special.differs, different) => special.situations(test.domain),
            (_, Some(general)) if within(general.p_value, believed) => vec![(test.domain.situation(), general)],
            _ => Vec::new(),
        };
        let made = found
            .into_iter()
            .map(|(situation, contrast)| test.domain.heuristic(learner.id(), scope, situation, test.habit, contrast));
        heuristics.extend(made);
    }
    heuristics.sort_by(|a, b| b.contrast.at_least().total_cmp(&a.contrast.at_least()).then(a.id.cmp(&b.id)));
    heuristics
}

/// The evidence of one task in one context.
struct Row<'a> {
    /// The place of the task among those of the domain.
    task: usize,
    /// Language, tags and environment, as in the signature.
    context: &'a [String],
    all: Rate,
}

/// The evidence of one domain.
struct Domain<'a> {
    name: Option<&'a str>,
    window: Window,
    quorum: f64,
    tasks: usize,
    rows: Vec<Row<'a>>,
    names: Names,
    /// For each habit the rows that have it, with its evidence.
    habits: BTreeMap<Numbers, Vec<(usize, Rate)>>,
}

/// The names of moves and tools, each once, by rising name. Their numbers begin with 1.
struct Names(Vec<String>);

impl Names {
    fn of(runs: &[Vec<String>]) -> Self {
        let moves: BTreeSet<&str> = runs.iter().flatten().map(String::as_str).collect();
        let tools = moves.iter().map(|made| tool_of(made));
        let start = Move::Start.signature();
        let all: BTreeSet<&str> = moves.iter().copied().chain(tools).chain([start.as_str()]).collect();
        Self(all.into_iter().map(str::to_owned).collect())
    }

    /// The number of a name; 0 if it has none.
    fn number(&self, name: &str) -> u32 {
        let place = self.0.binary_search_by(|known| known.as_str().cmp(name));
        place.map_or(0, |place| u32::try_from(place + 1).unwrap_or(u32::MAX))
    }

    fn habit(&self, Numbers { after, tool }: Numbers) -> Habit {
        let name = |number: u32| self.0.get((number as usize).checked_sub(1)?).cloned();
        Habit { after: after.into_iter().filter_map(name).collect(), tool: name(tool).unwrap_or_default() }
    }
}

/// A habit by the numbers of its names, ordered as a [`Habit`] is. There are hundreds of thousands of them to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Numbers {
    /// Those of the moves right before, then 0.
    after: [u32; 2],
    tool: u32,
}

/// What the episodes of a domain did, each run once, and which of them each row has, with their evidence.
struct Runs {
    names: Names,
    moves: Vec<Vec<u32>>,
    of_rows: Vec<Vec<(usize, Rate)>>,
}

impl Runs {
    fn of<'a>(patterns: &[&'a Pattern], learner: &Learner, now: DateTime<Utc>) -> Self {
        let mut known: HashMap<&'a str, usize, RandomState> = HashMap::default();
        let mut runs: Vec<Vec<String>> = Vec::new();
        let mut of_rows = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let rated = pattern.branches.iter().map(|(run, evidence)| {
                let place = *known.entry(run).or_insert_with(|| {
                    runs.push(moves_of(run));
                    runs.len() - 1
                });
                (place, Rate::from(learner.support(evidence, now)))
            });
            of_rows.push(rated.collect());
        }
        let names = Names::of(&runs);
        let moves = runs.iter().map(|run| run.iter().map(|made| names.number(made)).collect()).collect();
        Self { names, moves, of_rows }
    }

    /// The evidence of all runs of each row that this window looks at.
    fn all(&self, window: Window) -> Vec<Rate> {
        let seen = |(run, _): &&(usize, Rate)| window.of(&self.moves[*run]).is_some();
        let all = |runs: &Vec<(usize, Rate)>| {
            runs.iter().filter(seen).fold(Rate::default(), |all, (_, rate)| all.plus(*rate))
        };
        self.of_rows.iter().map(all).collect()
    }

    /// For each habit within the window the rows that have it, with its evidence.
    fn habits(&self, window: Window) -> BTreeMap<Numbers, Vec<(usize, Rate)>> {
        let of_runs = self.habits_of_runs(window);
        let mut habits: BTreeMap<Numbers, Vec<(usize, Rate)>> = BTreeMap::new();
        for (row, runs) in self.of_rows.iter().enumerate() {
            let each = runs.iter().flat_map(|(run, rate)| of_runs[*run].iter().map(|habit| (*habit, *rate)));
            let mut all: Vec<(Numbers, Rate)> = each.collect();
            // Stable: evidence is added in the order of the runs.
            all.sort_by_key(|(habit, _)| *habit);
            for same in all.chunk_by(|a, b| a.0 == b.0) {
                let sum = same.iter().fold(Rate::default(), |sum, (_, rate)| sum.plus(*rate));
                habits.entry(same[0].0).or_default().push((row, sum));
            }
        }
        habits
    }

    /// The habits of each run, each once; none of those that the window does not look at.
    fn habits_of_runs(&self, window: Window) -> Vec<Vec<Numbers>> {
        let start = self.names.number(&Move::Start.signature());
        let tools = self.names.0.iter().map(|made| self.names.number(tool_of(made)));
        let tools: Vec<u32> = std::iter::once(0).chain(tools).collect();
        let habits_of = |moves: &Vec<u32>| {
            let mut habits = Vec::new();
            each_habit(window.of(moves).unwrap_or_default(), start, |before, made| {
                let mut after = [0; 2];
                after[..before.len()].copy_from_slice(before);
                habits.push(Numbers { after, tool: tools[*made as usize] });
            });
            habits.sort_unstable();
            habits.dedup();
            habits
        };
        self.moves.iter().map(habits_of).collect()
    }
}

/// Some rows of a domain, with the totals of the tasks.
struct Part {
    picked: Vec<bool>,
    tasks: Vec<Rate>,
    all: Rate,
}

/// What one habit makes in one domain.
struct Test<'a> {
    domain: &'a Domain<'a>,
    habit: Numbers,
    /// Over all tasks; `None` if too few of them tell.
    general: Option<Contrast>,
    /// Where the context makes the largest difference.
    special: Option<Special>,
}

/// What a habit makes with and without one part of the context.
struct Special {
    context: String,
    with: Contrast,
    without: Contrast,
    /// The chance of a difference as large as this, in any context, if there were none.
    differs: f64,
}

impl<'a> Domain<'a> {
    fn new(name: Option<&'a str>, patterns: &[&'a Pattern], learner: &Learner, now: DateTime<Utc>) -> Self {
        let tasks: BTreeSet<&str> = patterns.iter().map(|pattern| task_of(pattern)).collect();
        let tasks: BTreeMap<&str, usize> = tasks.into_iter().zip(0..).collect();
        let runs = Runs::of(patterns, learner, now);
        let (whole, early) = (runs.all(Window::Whole), runs.all(Window::Early));
        let mut lengths = vec![Stratum::default(); tasks.len()];
        for ((pattern, all), long) in patterns.iter().zip(&whole).zip(&early) {
            let sum = &mut lengths[tasks[task_of(pattern)]];
            *sum = Stratum { with: sum.with.plus(all.minus(*long)), without: sum.without.plus(*long) };
        }
        let (window, seen) =
            if given_away_by_length(lengths) { (Window::Early, early) } else { (Window::Whole, whole) };
        let row = |(pattern, all): (&&'a Pattern, Rate)| Row {
            task: tasks[task_of(pattern)],
            context: pattern.signature.get(1..).unwrap_or_default(),
            all,
        };
        let rows = patterns.iter().zip(seen).map(row).collect();
        let habits = runs.habits(window);
        Self { name, window, quorum: f64::from(learner.quorum), tasks: tasks.len(), rows, names: runs.names, habits }
    }

    fn situation(&self) -> Situation {
        Situation { domain: self.name.map(str::to_owned), ..Situation::default() }
    }

    fn part(&self, pick: impl Fn(&Row<'a>) -> bool) -> Part {
        let picked: Vec<bool> = self.rows.iter().map(pick).collect();
        let mut part = Part { picked, tasks: vec![Rate::default(); self.tasks], all: Rate::default() };
        for (row, _) in self.rows.iter().zip(&part.picked).filter(|(_, picked)| **picked) {
            part.tasks[row.task] = part.tasks[row.task].plus(row.all);
            part.all = part.all.plus(row.all);
        }
        part
    }

    /// All habits, tested.
    fn tests(&'a self) -> Vec<Test<'a>> {
        let (whole, contexts) = (self.part(|_| true), self.contexts());
        let test = |(habit, rows): (&Numbers, &Vec<(usize, Rate)>)| {
            let specials = contexts.iter().filter_map(|(context, [with, without])| {
                let (with, without) = (self.contrast(with, rows)?, self.contrast(without, rows)?);
                Some(Special { context: (*context).to_owned(), differs: with.same_as(&without), with, without })
            });
            let special = most_special(specials.collect());
            Test { domain: self, habit: *habit, general: self.contrast(&whole, rows), special }
        };
        self.habits.iter().map(test).collect()
    }

    /// The languages and tags that some tasks have and others do not, with the evidence of both.
    fn contexts(&self) -> Vec<(&'a str, [Part; 2])> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for context in self.rows.iter().flat_map(|row| row.context) {
            *counts.entry(context).or_default() += 1;
        }
        let special = |(context, count): &(&str, usize)| *count < self.rows.len() && environment_of(context).is_none();
        let mut frequent: Vec<(&str, usize)> = counts.into_iter().filter(special).collect();
        frequent.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        frequent.truncate(CONTEXTS);
        let parts = |(context, _): (&'a str, usize)| {
            let has = |row: &Row<'a>| row.context.iter().any(|one| one == context);
            (context, [self.part(has), self.part(|row| !has(row))])
        };
        frequent.into_iter().map(parts).collect()
    }

    /// What a habit, which these rows have, makes in a part of the domain; `None` if too few episodes or tasks tell.
    fn contrast(&self, part: &Part, rows: &[(usize, Rate)]) -> Option<Contrast> {
        let picked = || rows.iter().filter(|(place, _)| part.picked[*place]);
        let having: f64 = picked().map(|(_, rate)| rate.trials).sum();
        if having.min(part.all.trials - having) < self.quorum.max(RARE * part.all.trials) {
            return None;
        }
        let mut with: BTreeMap<usize, Rate> = BTreeMap::new();
        for (place, rate) in picked() {
            let task = with.entry(self.rows[*place].task).or_default();
            *task = task.plus(*rate);
        }
        let mut rest = part.all;
        let mut strata: Vec<Stratum> = Vec::with_capacity(with.len() + 1);
        for (task, with) in with {
            let all = part.tasks[task];
            rest = rest.minus(all);
            strata.push(Stratum { with, without: all.minus(with) });
        }
        strata.push(Stratum { with: Rate::default(), without: rest });
        Contrast::of(strata, TASKS)
    }

    fn heuristic(
        &self,
        learner: LearnerId,
        scope: &Scope,
        situation: Situation,
        habit: Numbers,
        contrast: Contrast,
    ) -> Heuristic {
        let rows = self.habits[&habit].iter().map(|(place, _)| self.rows[*place].context);
        let fitting = rows.filter(|context| situation.fits_context(|one| context.contains(one)));
        let environments = fitting.map(|context| context.iter().filter_map(|part| environment_of(part)).collect());
        let environments = environments.collect();
        let advised = (self.window, self.names.habit(habit));
        Heuristic { environments, ..Heuristic::new(learner, scope, situation, advised, contrast) }
    }
}

/// The context in which a habit differs most; the chance of that is the one of all contexts that were looked at, together (C. E.
/// Bonferroni, "Teoria statistica delle classi e calcolo delle probabilità", 1936).
fn most_special(all: Vec<Special>) -> Option<Special> {
    let looked_at = all.len() as f64;
    let most = all.into_iter().min_by(|a, b| a.differs.total_cmp(&b.differs))?;
    Some(Special { differs: (most.differs * looked_at).min(1.0), ..most })
}

impl Special {
    /// The situations in which the habit does something for sure.
    fn situations(&self, domain: &Domain<'_>) -> Vec<(Situation, Contrast)> {
        let with = Situation { context: Some(self.context.clone()), ..domain.situation() };
        let without = Situation { unless: BTreeSet::from([self.context.clone()]), ..domain.situation() };
        let both = [(with, self.with), (without, self.without)];
        both.into_iter().filter(|(_, contrast)| contrast.at_least() > 0.0).collect()
    }
}

fn task_of(pattern: &Pattern) -> &str {
    pattern.signature.first().map(String::as_str).unwrap_or_default()
}

/// Whether short episodes succeed so much more than long ones on the same task that the length gives the outcome away.
fn given_away_by_length(tasks: Vec<Stratum>) -> bool {
    Contrast::of(tasks, TASKS).is_some_and(|contrast| contrast.interval.0 > GIVEN_AWAY.ln())
}

/// Finds contrary advice among what is not retired: different tools to use right after the same moves in the same situation.
pub(crate) fn resolve(heuristics: &mut [Heuristic]) {
    let mut contrary: BTreeMap<(Situation, Vec<String>), Vec<usize>> = BTreeMap::new();
    let stands = |one: &Heuristic| one.standing != Standing::Retired;
    let advised = |one: &Heuristic| stands(one) && one.advice == Advice::Do && !one.habit.after.is_empty();
    for (place, one) in heuristics.iter().enumerate().filter(|(_, one)| advised(one)) {
        contrary.entry((one.situation.clone(), one.habit.after.clone())).or_default().push(place);
    }
    for mut places in contrary.into_values().filter(|places| places.len() > 1) {
        places.sort_by(|a, b| {
            let [a, b] = [a, b].map(|place| &heuristics[*place]);
            b.contrast.log_odds.total_cmp(&a.contrast.log_odds).then(a.id.cmp(&b.id))
        });
        let best = places[0];
        let (best_id, best_contrast) = (heuristics[best].id, heuristics[best].contrast);
        for (rank, place) in places.iter().enumerate().skip(1) {
            let better = best_contrast.better_than(&heuristics[*place].contrast);
            let other = heuristics[*place].id;
            let sure = better >= SURE;
            heuristics[*place].rival = Some(Rival { heuristic: best_id, better: 1.0 - better });
            heuristics[*place].standing = if sure { Standing::Outdone } else { Standing::Contested };
            if rank == 1 {
                heuristics[best].rival = Some(Rival { heuristic: other, better });
            }
            if !sure {
                heuristics[best].standing = Standing::Contested;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Do it right after the start", with an effect and the reach of its interval.
    fn advice(tool: &str, log_odds: f64, reach: f64) -> Heuristic {
        let contrast = Contrast {
            with: Rate::new(20.0, 15.0),
            without: Rate::new(20.0, 5.0),
            tasks: 5,
            log_odds,
            p_value: 0.01,
            interval: (log_odds - reach, log_odds + reach),
        };
        let habit = Habit { after: vec![Move::Start.signature()], tool: tool.to_owned() };
        let learner = Learner::default().id();
        Heuristic::new(learner, &Scope::default(), Situation::default(), (Window::Whole, habit), contrast)
    }

    #[test]
    fn the_best_of_three_is_contested_by_any_that_may_be_better() {
        let mut all = [advice("a", 2.0, 0.4), advice("b", 1.0, 0.4), advice("c", 0.9, 4.0)];
        resolve(&mut all);
        assert_eq!(
            all.each_ref().map(|one| one.standing),
            [Standing::Contested, Standing::Outdone, Standing::Contested]
        );
        assert_eq!(all[2].rival.unwrap().heuristic, all[0].id);
    }

    #[test]
    fn looking_at_more_contexts_makes_none_more_likely_to_be_special() {
        let contrast = advice("a", 1.0, 0.5).contrast;
        let special = |(n, differs): (usize, f64)| Special {
            context: format!("tag={n}"),
            with: contrast,
            without: contrast,
            differs,
        };
        let most = |differs: &[f64]| most_special(differs.iter().copied().enumerate().map(special).collect());
        let told = |one: Special| (one.context, one.differs);
        assert_eq!(most(&[0.04]).map(told), Some(("tag=0".to_owned(), 0.04)));
        assert_eq!(most(&[0.5, 0.04, 0.9]).map(told), Some(("tag=1".to_owned(), 0.12)));
        assert_eq!(most(&[0.5, 0.4, 0.9]).map(told), Some(("tag=1".to_owned(), 1.0)));
        assert!(most(&[]).is_none());
    }

    #[test]
    fn what_is_retired_outdoes_nothing() {
        let mut all = [advice("a", 2.0, 0.4), advice("b", 1.0, 0.4)];
        all[0].standing = Standing::Retired;
        resolve(&mut all);
        assert_eq!(
            all.each_ref().map(|one| (one.standing, one.rival)),
            [(Standing::Retired, None), (Standing::Active, None)]
        );
    }
}
