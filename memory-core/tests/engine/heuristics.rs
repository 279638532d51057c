//! Heuristics: derived from habits, compared within tasks, refined, resolved, judged by what showing them did.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::testkit::{Fault, Gate, Operation};
use memory_core::{
    Advice, Advised, Basis, Consent, ErrorKind, Feedback, Freshness, Heuristic, HeuristicId, InMemoryStore, Memory,
    Outcome, Reason, Receipt, Recording, Scope, Source, Standing, Step, Task, Window,
};

use super::{faulty, fresh, job, lost, record_all};

/// One run of a task: its tools, and whether it succeeded.
fn run(task: Task, tools: &[&str], success: bool) -> Recording {
    let outcome = if success { Outcome::success("") } else { Outcome::failure("") };
    Recording::new(task, outcome).steps(tools.iter().map(|tool| Step::new(*tool).ok("")))
}

fn task(number: usize) -> Task {
    let names = ["login", "invoice", "cache", "parser", "router", "mailer", "queue", "report"];
    Task::new(format!("repair {}", names[number])).domain("web")
}

/// Eight tasks, each run with and without a first look at the tests; the runs with it succeed `with` times of four, the
/// others `without` times.
fn runs(tasks: impl Fn(usize) -> Task, with: usize, without: usize) -> Vec<Recording> {
    let of_task = |number: usize| {
        let tasks = &tasks;
        let tested = (0..4).map(move |turn| run(tasks(number), &["test", "edit"], turn < with));
        let untested = (0..4).map(move |turn| run(tasks(number), &["read", "edit"], turn < without));
        tested.chain(untested).collect::<Vec<_>>()
    };
    (0..8).flat_map(of_task).collect()
}

async fn learned(recordings: impl IntoIterator<Item = Recording>) -> Memory {
    let memory = fresh().await;
    record_all(&memory, recordings).await;
    memory
}

fn find<'a>(heuristics: &'a [Heuristic], habit: &str) -> Option<&'a Heuristic> {
    heuristics.iter().find(|one| one.habit.to_string() == habit)
}

#[tokio::test(start_paused = true)]
async fn a_habit_that_helps_on_every_task_becomes_advice() {
    let memory = learned(runs(task, 3, 1)).await;
    let heuristics = memory.heuristics().await.unwrap();
    let test = find(&heuristics, "test").unwrap();
    assert_eq!((test.advice, test.standing), (Advice::Do, Standing::Active));
    let contrast = test.contrast;
    assert_eq!([contrast.with.trials, contrast.with.successes].map(f64::round), [32.0, 24.0]);
    assert_eq!([contrast.without.trials, contrast.without.successes].map(f64::round), [32.0, 8.0]);
    assert_eq!(contrast.tasks, 8);
    assert!(contrast.at_least() > 0.0 && contrast.p_value < 0.03, "{contrast:?}");
    assert_eq!(find(&heuristics, "read").unwrap().advice, Advice::Avoid);
    assert!(find(&heuristics, "edit").is_none(), "all episodes edit");
    let recalled = memory.recall(&task(0), 5).await.unwrap();
    assert!(recalled.advice.iter().any(|advised| advised.heuristic.id == test.id));
    assert!(memory.recall(&Task::new("repair login").domain("other"), 5).await.unwrap().advice.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_habit_of_easy_tasks_is_no_advice() {
    // Easy tasks are begun with the test and hard ones are not; within a task it makes no difference.
    let mut recordings = Vec::new();
    for number in 0..8 {
        let easy = number < 4;
        let (often, seldom) = if easy { ("test", "read") } else { ("read", "test") };
        for turn in 0..12 {
            let tool = if turn < 8 { often } else { seldom };
            recordings.push(run(task(number), &[tool, "edit"], (turn % 4 == 0) != easy));
        }
        // Not quite the same everywhere: else there would be nothing to test.
        recordings.push(run(task(number), &["test", "edit"], number % 2 == 0));
    }
    let memory = learned(recordings).await;
    let heuristics = memory.heuristics().await.unwrap();
    assert!(heuristics.is_empty(), "{heuristics:?}");
}

#[tokio::test(start_paused = true)]
async fn chance_is_no_advice() {
    let memory = learned(runs(task, 2, 2)).await;
    assert!(memory.heuristics().await.unwrap().is_empty());
    let memory = learned(runs(task, 3, 1).into_iter().take(3 * 8)).await;
    assert!(memory.heuristics().await.unwrap().is_empty(), "three tasks are too few to tell");
}

#[tokio::test(start_paused = true)]
async fn what_differs_by_context_becomes_special() {
    let tagged = |number: usize| task(number).tag("legacy");
    let memory = learned(runs(task, 4, 0).into_iter().chain(runs(tagged, 0, 4))).await;
    let heuristics = memory.heuristics().await.unwrap();
    let test: Vec<&Heuristic> = heuristics.iter().filter(|one| one.habit.to_string() == "test").collect();
    let of = |advice: Advice| test.iter().find(|one| one.advice == advice).unwrap();
    assert_eq!(of(Advice::Avoid).situation.context.as_deref(), Some("tag=legacy"));
    assert!(of(Advice::Do).situation.unless.contains("tag=legacy"));
    let advised = memory.recall(&tagged(0), 5).await.unwrap().advice;
    assert!(advised.iter().all(|one| one.heuristic.habit.tool != "test" || one.heuristic.advice == Advice::Avoid));
    assert!(!advised.is_empty());

    let memory = learned(runs(task, 4, 0).into_iter().chain(runs(tagged, 4, 0))).await;
    let heuristics = memory.heuristics().await.unwrap();
    assert!(heuristics.iter().all(|one| one.situation.context.is_none() && one.situation.unless.is_empty()));
    assert!(find(&heuristics, "test").is_some(), "where the contexts agree, the general one stands");
}

#[tokio::test(start_paused = true)]
async fn what_is_special_has_the_environments_of_its_own_situation() {
    let modern = |number: usize| task(number).environment("rustc", "1.95");
    let legacy = |number: usize| task(number).tag("legacy").environment("rustc", "1.60");
    let memory = learned(runs(modern, 4, 0).into_iter().chain(runs(legacy, 0, 4))).await;
    let heuristics = memory.heuristics().await.unwrap();
    for (advice, own, other) in [(Advice::Do, "1.95", "1.60"), (Advice::Avoid, "1.60", "1.95")] {
        let mut of = heuristics.iter().filter(|one| one.habit.to_string() == "test" && one.advice == advice);
        let test = of.next().unwrap();
        assert_eq!(test.environments.iter().flat_map(|one| one.values()).collect::<Vec<_>>(), [own], "{test}");
        let drifted = Freshness::Drifted(vec!["rustc".to_owned()]);
        assert_eq!(test.freshness(&task(0).environment("rustc", other)), drifted, "{test}");
    }
}

/// Each task is begun with one of three tools; for each, how many of five runs succeed.
fn beginnings(successes: [(&str, usize); 3]) -> Vec<Recording> {
    let runs = move |number| {
        let begun = successes.into_iter().flat_map(move |(tool, successes)| {
            (0..5).map(move |turn| run(task(number), &[tool, "edit"], (turn + number) % 5 < successes))
        });
        begun.collect::<Vec<_>>()
    };
    (0..8).flat_map(runs).collect()
}

#[tokio::test(start_paused = true)]
async fn contrary_advice_is_resolved_or_contested() {
    let memory = learned(beginnings([("plan", 5), ("test", 5), ("guess", 0)])).await;
    let heuristics = memory.heuristics().await.unwrap();
    let [plan, test] =
        ["plan right after the start", "test right after the start"].map(|habit| find(&heuristics, habit).unwrap());
    assert_eq!((plan.standing, test.standing), (Standing::Contested, Standing::Contested));
    let (one, other) = (plan.rival.unwrap(), test.rival.unwrap());
    assert_eq!((one.heuristic, other.heuristic), (test.id, plan.id));
    assert!((one.better - 0.5).abs() < 0.3 && (one.better + other.better - 1.0).abs() < 1e-9);
    let playbooks = memory.playbooks().await.unwrap();
    let contested = playbooks[0].steps.iter().filter(|play| play.contested).count();
    assert_eq!(contested, 2, "{}", playbooks[0]);
}

#[tokio::test(start_paused = true)]
async fn a_playbook_puts_what_agrees_in_order() {
    let mut recordings = Vec::new();
    for number in 0..8 {
        for turn in 0..4 {
            recordings.push(run(task(number), &["plan", "edit", "test"], turn != number % 4));
            recordings.push(run(task(number), &["guess", "edit", "commit"], turn == number % 4));
        }
    }
    let memory = learned(recordings).await;
    let playbooks = memory.playbooks().await.unwrap();
    let [playbook] = &playbooks[..] else { panic!("{playbooks:#?}") };
    let tools: Vec<&str> = playbook.steps.iter().map(|play| play.habit.tool.as_str()).collect();
    assert_eq!(tools.first(), Some(&"plan"), "{playbook}");
    assert!(tools.contains(&"test") && playbook.avoid.iter().any(|play| play.habit.tool == "guess"), "{playbook}");
    assert_eq!(playbook.situation.to_string(), "web");
    assert!((playbook.check.followed - 0.75).abs() < 1e-9 && (playbook.check.otherwise - 0.25).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn untrusted_evidence_never_becomes_advice() {
    let memory = fresh().await;
    let forum = memory.from_source(Source::untrusted("forum")).unwrap();
    record_all(&forum, runs(task, 4, 0)).await;
    assert!(memory.heuristics().await.unwrap().is_empty());
    let recalled = memory.recall(&task(0), 5).await.unwrap();
    assert!(recalled.advice.is_empty() && recalled.episodes.is_empty());
    assert!(memory.suggest(&task(0), &[], 5).await.unwrap().is_empty());
    assert!(!memory.quarantined().await.unwrap().is_empty());
    // The quorum of trusted episodes confirms what they show, and only that.
    record_all(&memory, runs(task, 4, 0).into_iter().take(3)).await;
    let quarantined = memory.quarantined().await.unwrap();
    let left = |pattern: &str| quarantined.iter().any(|one| one.to_string() == pattern);
    assert!(!left("tool_sequence [test > edit]"), "{quarantined:#?}");
    assert!(left("tool_sequence [read > edit]"));
}

#[tokio::test(start_paused = true)]
async fn advice_from_another_environment_is_labelled_and_comes_last() {
    let memory = learned(runs(|number| task(number).environment("rustc", "1.90"), 4, 0)).await;
    let freshness = async |task: Task| {
        let advice = memory.recall(&task, 5).await.unwrap().advice;
        assert!(!advice.is_empty());
        advice.into_iter().map(|one| one.freshness).max().unwrap()
    };
    assert_eq!(freshness(task(0).environment("rustc", "1.90")).await, Freshness::Fresh);
    assert_eq!(freshness(task(0)).await, Freshness::Unverifiable);
    let drifted = Freshness::Drifted(vec!["rustc".to_owned()]);
    assert_eq!(freshness(task(0).environment("rustc", "1.95")).await, drifted);
    let recalled = memory.recall(&task(0).environment("rustc", "1.95"), 5).await.unwrap();
    let fresh = memory.recall(&task(0).environment("rustc", "1.90"), 5).await.unwrap();
    assert_eq!(recalled.episodes[0].freshness, drifted);
    assert!((recalled.episodes[0].score * 2.0 - fresh.episodes[0].score).abs() < 1e-9, "demoted");
}

/// A run that was shown this advice, or had it withheld.
fn shown(advice: HeuristicId, shown: bool, success: bool) -> Recording {
    let mut receipt = Receipt::default();
    receipt.advice.insert(advice, shown);
    let mut recording = run(Task::new("something else"), &["look"], success);
    recording.receipt = Some(receipt);
    recording
}

async fn first(memory: &Memory) -> Heuristic {
    find(&memory.heuristics().await.unwrap(), "test").unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn advice_that_harms_retires() {
    let memory = learned(runs(task, 3, 1)).await;
    let advice = first(&memory).await;
    assert_eq!(advice.uplift, None);
    record_all(&memory, (0..10).map(|_| shown(advice.id, true, false))).await;
    let observed = first(&memory).await;
    assert_eq!(observed.uplift.unwrap().basis, Basis::Observed, "nothing was withheld so far");
    record_all(&memory, (0..10).map(|turn| shown(advice.id, false, turn > 1))).await;
    let judged = first(&memory).await;
    let uplift = judged.uplift.unwrap();
    assert_eq!(
        (uplift.basis, uplift.shown.trials.round(), uplift.compared.successes.round()),
        (Basis::Withheld, 10.0, 8.0)
    );
    assert!((uplift.difference + 0.8).abs() < 1e-9 && uplift.is_harmful());
    assert_eq!(judged.standing, Standing::Retired);
    assert_eq!(memory.uplift().await.unwrap().heuristics[&advice.id], uplift);
    let recalled = memory.recall(&task(0), 5).await.unwrap();
    assert!(recalled.advice.iter().all(|one| one.heuristic.id != advice.id), "not shown any more");
}

#[tokio::test(start_paused = true)]
async fn advice_that_agents_call_harmful_retires() {
    let memory = learned(runs(task, 3, 1)).await;
    let advice = first(&memory).await;
    let said = |feedback: Feedback| {
        let mut recording = shown(advice.id, true, true);
        recording.receipt.as_mut().unwrap().feedback.insert(advice.id, feedback);
        recording
    };
    record_all(&memory, [said(Feedback::Harmful), said(Feedback::Harmful)]).await;
    assert_eq!(first(&memory).await.standing, Standing::Active, "fewer than the quorum");
    record_all(&memory, [said(Feedback::Harmful)]).await;
    assert_eq!(first(&memory).await.standing, Standing::Retired);
    record_all(&memory, (0..9).map(|_| said(Feedback::Used))).await;
    assert_eq!(first(&memory).await.standing, Standing::Active, "most found it of use");
}

#[tokio::test(start_paused = true)]
async fn where_episodes_end_when_the_task_is_done_only_early_choices_count() {
    // Runs end with the first right answer: all that a run does before it succeeds, failed runs do more often.
    let mut recordings = Vec::new();
    for number in 0..24 {
        let task = || Task::new(format!("repair part{number}")).domain("web");
        for turn in 0..3 {
            recordings.push(run(task(), &["plan", "query"], true));
            recordings.push(run(task(), &["query", "query", "query", "query"], turn == 0));
            recordings.push(run(task(), &["plan", "query", "query", "query"], turn != number % 3));
        }
    }
    let memory = learned(recordings).await;
    let heuristics = memory.heuristics().await.unwrap();
    let plan = find(&heuristics, "plan").unwrap();
    assert_eq!((plan.advice, plan.window), (Advice::Do, Window::Early));
    let counted = [plan.contrast.with.trials, plan.contrast.without.trials].map(f64::round);
    assert_eq!(counted, [72.0, 72.0], "short runs are left out");
    assert_eq!((plan.is_in(&[]), plan.is_in(&["plan", "a", "b", "c"].map(Step::new))), (None, Some(true)));

    let memory = learned(runs(task, 4, 0)).await;
    assert_eq!(first(&memory).await.window, Window::Whole, "where all runs are as long, the length gives nothing away");
}

#[tokio::test(start_paused = true)]
async fn heuristics_are_derived_again_when_episodes_come_and_go() {
    let store = InMemoryStore::new();
    let memory = super::over(store).await;
    let mut ids = Vec::new();
    for recording in runs(task, 4, 0) {
        ids.push(memory.record(recording).await.unwrap().episode);
    }
    assert!(!memory.heuristics().await.unwrap().is_empty());
    for id in ids {
        memory.delete(id).await.unwrap();
    }
    assert!(memory.heuristics().await.unwrap().is_empty());
    assert!(memory.recall(&task(0), 5).await.unwrap().advice.is_empty());
}

#[tokio::test(start_paused = true)]
async fn explain_names_counts_over_time_and_episodes_for_and_against() {
    let memory = learned(runs(task, 3, 1)).await;
    let advice = first(&memory).await;
    let why = memory.explain(advice.id).await.unwrap();
    assert_eq!((why.episodes_for.len(), why.episodes_against.len(), why.derived_from.len()), (24, 8, 8));
    let (at, counts) = why.over_time["test"][0];
    assert_eq!((counts.episodes, counts.successes), (32, 24));
    assert!(at <= memory.episode(why.episodes_for[0]).await.unwrap().completed_at);
    assert!(why.what.starts_with("web: do test (75 % of 32 episodes"), "{}", why.what);

    let habits = memory.explain(why.derived_from[0]).await.unwrap();
    assert_eq!((habits.episodes_for.len(), habits.episodes_against.len()), (4, 4), "one task");
    let gone = memory.explain(HeuristicId::new(Default::default())).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn slow_derivation_goes_on_beside_recall_and_health_tells() {
    let (store, gate) = (faulty(), Gate::new());
    let memory = super::over(Arc::clone(&store)).await;
    record_all(&memory, runs(task, 4, 0)).await;
    let hold = || store.script_next(Operation::Scan, Fault::Hold(gate.clone()));
    let pass = async || {
        gate.reached().await;
        tokio::time::advance(Duration::from_millis(10)).await;
        gate.open();
    };
    assert_eq!(job(&memory, "consolidation").await.last_beat, None);
    hold();
    let (known, ()) = tokio::join!(memory.heuristics(), pass());
    assert!(job(&memory, "consolidation").await.last_beat.is_some());

    record_all(&memory, runs(|number| task(number).tag("new"), 0, 4)).await;
    let advice = async || memory.recall(&task(0).tag("new"), 1).await.unwrap().advice;
    let special = |advice: &[Advised]| advice.iter().any(|one| one.heuristic.situation.context.is_some());
    assert_eq!(advice().await.len(), known.unwrap().len(), "not due yet");
    assert_eq!(job(&memory, "consolidation").await.queue, 0);
    tokio::time::advance(Duration::from_millis(300)).await;
    assert!(!special(&advice().await), "it does not wait");
    assert_eq!(job(&memory, "consolidation").await.queue, 1);
    store.script_next(Operation::Scan, Fault::Before(lost()));
    renewed(&memory).await;
    assert!(job(&memory, "consolidation").await.last_error.is_some());
    assert!(!special(&advice().await), "the next caller tries again");
    renewed(&memory).await;
    assert_eq!(job(&memory, "consolidation").await.last_error, None);
    assert!(special(&advice().await));
}

/// Bug: heuristics that were looked at again and found to be as they should were due at every recall from then on.
#[tokio::test(start_paused = true)]
async fn what_is_found_unchanged_is_not_due_at_once() {
    let (store, gate) = (faulty(), Gate::new());
    let memory = super::over(Arc::clone(&store)).await;
    record_all(&memory, runs(task, 4, 0)).await;
    memory.project().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.script_next(Operation::Scan, Fault::Hold(gate.clone()));
    let pass = async {
        gate.reached().await;
        tokio::time::advance(Duration::from_millis(10)).await;
        gate.open();
    };
    let (known, ()) = tokio::join!(memory.heuristics(), pass);
    let waits = async || {
        assert_eq!(memory.recall(&task(0), 1).await.unwrap().advice.len(), known.as_ref().unwrap().len());
        job(&memory, "consolidation").await.queue
    };
    tokio::time::advance(Duration::from_millis(300)).await;
    assert_eq!(waits().await, 1);
    renewed(&memory).await;
    assert_eq!(waits().await, 0);
    tokio::time::advance(Duration::from_millis(300)).await;
    assert_eq!(waits().await, 1);
}

async fn renewed(memory: &Memory) {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        if job(memory, "consolidation").await.queue == 0 {
            return;
        }
    }
    panic!("it is never derived again");
}

#[tokio::test(start_paused = true)]
async fn suggestions_name_the_advice_about_the_next_step() {
    let memory = learned(runs(task, 4, 0)).await;
    let about = async |steps: &[Step], tool: &str| {
        let suggestions = memory.suggest(&task(0), steps, 9).await.unwrap();
        let reasons = suggestions.into_iter().filter(|one| one.tool == tool).flat_map(|one| one.reasons);
        let advice = reasons.filter_map(|reason| match reason {
            Reason::Advice { advice, effect, .. } => Some((advice, effect)),
            _ => None,
        });
        advice.collect::<Vec<_>>()
    };
    let test = about(&[], "test").await;
    assert_eq!(test.len(), 2, "anywhere, and right after the start");
    assert!(test.iter().all(|(advice, effect)| *advice == Advice::Do && *effect > 0.0), "{test:?}");
    let read = about(&[], "read").await;
    assert!(read.iter().all(|(advice, effect)| *advice == Advice::Avoid && *effect < 0.0) && !read.is_empty());
    assert_eq!(about(&[Step::new("test")], "test").await, [], "it is done");
    assert_eq!(about(&[Step::new("test")], "edit").await.len(), 1, "edit right after test");
}

#[tokio::test(start_paused = true)]
async fn of_contrary_advice_the_better_one_is_shown_with_its_probability() {
    let memory = learned(beginnings([("plan", 5), ("test", 3), ("guess", 0)])).await;
    let heuristics = memory.heuristics().await.unwrap();
    let of = |habit: &str| find(&heuristics, habit).unwrap_or_else(|| panic!("{habit} is not in {heuristics:#?}"));
    let (plan, test) = (of("plan right after the start"), of("test right after the start"));
    assert_eq!((plan.standing, test.standing), (Standing::Active, Standing::Outdone), "{plan}, {test}");
    let rival = plan.rival.unwrap();
    assert!(rival.heuristic == test.id && rival.better > 0.9, "{rival:?}");
    let shown = memory.recall(&task(0), 1).await.unwrap().advice;
    assert!(shown.iter().any(|one| one.heuristic.id == plan.id) && shown.iter().all(|one| one.heuristic.id != test.id));
}

#[tokio::test(start_paused = true)]
async fn what_was_outdone_is_shown_when_the_better_one_is_retired() {
    let memory = learned(beginnings([("plan", 5), ("test", 3), ("guess", 0)])).await;
    let of = async |habit: &str| find(&memory.heuristics().await.unwrap(), habit).unwrap().clone();
    let (plan, test) = ("plan right after the start", "test right after the start");
    assert_eq!(of(test).await.standing, Standing::Outdone);
    let said = |plan: &Heuristic| {
        let mut recording = shown(plan.id, true, true);
        recording.receipt.as_mut().unwrap().feedback.insert(plan.id, Feedback::Harmful);
        recording
    };
    let harmful = said(&of(plan).await);
    record_all(&memory, [harmful.clone(), harmful.clone(), harmful]).await;
    assert_eq!(of(plan).await.standing, Standing::Retired);
    let test = of(test).await;
    assert_eq!((test.standing, test.rival), (Standing::Active, None));
}

#[tokio::test(start_paused = true)]
async fn an_empty_memory_believes_nothing() {
    let memory = fresh().await;
    assert_eq!((memory.heuristics().await.unwrap(), memory.playbooks().await.unwrap()), (vec![], vec![]));
    assert_eq!(memory.quarantined().await.unwrap(), []);
    let uplift = memory.uplift().await.unwrap();
    assert!(uplift.overall.is_none() && uplift.heuristics.is_empty());
    let recalled = memory.recall(&task(0), 1).await.unwrap();
    assert!(recalled.advice.is_empty() && recalled.episodes.is_empty() && !recalled.withheld);
}

/// Allows what was approved.
#[derive(Debug, Default)]
struct Approved(Mutex<BTreeSet<HeuristicId>>);

impl Consent for Approved {
    fn allows(&self, scope: &Scope, heuristic: HeuristicId) -> bool {
        *scope == Scope::default() && self.0.lock().unwrap().contains(&heuristic)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_allowed_is_not_shown() {
    let approved = Arc::new(Approved::default());
    let memory = Memory::builder().store(InMemoryStore::new()).consent(Arc::clone(&approved)).build().await.unwrap();
    record_all(&memory, runs(task, 3, 1)).await;
    let advice = first(&memory).await;
    assert_eq!((advice.standing, memory.shows(&advice)), (Standing::Active, false));
    let told = async || {
        let mut open = memory.start(task(0)).await.unwrap();
        let recalled: Vec<HeuristicId> =
            open.recall(5).await.unwrap().advice.iter().map(|advised| advised.heuristic.id).collect();
        let receipt: Vec<HeuristicId> = open.receipt().await.unwrap().advice.into_keys().collect();
        let suggestions = open.suggest(5).await.unwrap();
        let mut reasons = suggestions.iter().flat_map(|one| &one.reasons);
        let suggested = reasons.any(|reason| matches!(reason, Reason::Advice { .. }));
        (recalled, receipt, suggested, memory.playbooks().await.unwrap().len())
    };
    assert_eq!(told().await, (vec![], vec![], false, 0));
    approved.0.lock().unwrap().insert(advice.id);
    assert_eq!(told().await, (vec![advice.id], vec![advice.id], true, 1));
    assert!(memory.shows(&advice));
}
