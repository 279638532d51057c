//! What one process leaves behind, others find: records, knowledge, open episodes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Ahead, Dice, assert_sound, fold, log, place, text};
use chrono::TimeDelta;
use memory_core::testkit::extremes::{assert_kept, put_all, records, space};
use memory_core::testkit::invariants::stored_patterns;
use memory_core::testkit::{process, samples};
use memory_core::{
    Durability, Episode, ErrorKind, Memory, MemoryStore, MemoryStoreExt, NewNote, NoteQuery, Outcome, RecordKind, Scan,
    Step, StepDurability, Task, Verdict,
};
use memory_storage_turso::TursoStore;

/// The store that the parent names.
async fn store_of_child() -> TursoStore {
    TursoStore::open(std::env::var_os("STORE").unwrap()).await.unwrap()
}

async fn memory(store: &TursoStore) -> Memory {
    Memory::builder().store(store.clone()).build().await.unwrap()
}

#[tokio::test]
async fn every_type_goes_from_process_to_process_unchanged() {
    let test = "processes::every_type_goes_from_process_to_process_unchanged";
    let (one, other) = ([vec![space()], records(0)].concat(), records(100_000));
    if process::is_child() {
        let store = store_of_child().await;
        match std::env::var("ROLE").unwrap().as_str() {
            "writer" => put_all(&store, &one).await,
            _ => assert_kept(&store, &[one, other].concat()).await,
        }
        return;
    }
    let kinds: Vec<RecordKind> = one.iter().map(|record| record.key().kind()).collect();
    assert!(RecordKind::ALL.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let (_folder, path) = place();
    let path = path.to_str().unwrap();
    process::run(test, &[("STORE", path), ("ROLE", "writer")]);
    let store = TursoStore::open(path).await.unwrap();
    assert_kept(&store, &one).await;
    put_all(&store, &other).await;
    // The store stays open: its log is beside the file and not in it yet.
    process::run(test, &[("STORE", path), ("ROLE", "reader")]);
    assert_kept(&store, &[one, other].concat()).await;
}

/// Three processes that each tell the same in a session of their own: the fourth knows it as the agent's.
#[tokio::test]
async fn what_is_told_in_other_processes_is_recalled_and_adds_up() {
    let test = "processes::what_is_told_in_other_processes_is_recalled_and_adds_up";
    let in_session = |memory: &Memory, session: &str| memory.in_scope(samples::scope(&format!("acme/coder/{session}")));
    if process::is_child() {
        let memory = in_session(&memory(&store_of_child().await).await, &std::env::var("SESSION").unwrap());
        memory.remember(NewNote::new("Use tabs.").tag(memory.scope().as_str())).await.unwrap();
        return;
    }
    let (_folder, path) = place();
    let path = path.to_str().unwrap();
    let memory = memory(&TursoStore::open(path).await.unwrap()).await;
    let fourth = in_session(&memory, "s-4");
    for (told, session) in ["s-1", "s-2", "s-3"].into_iter().enumerate() {
        assert!(fourth.recall_notes("tabs", 5).await.unwrap().notes.is_empty(), "told in {told} sessions");
        process::run(test, &[("STORE", path), ("SESSION", session)]);
        assert_eq!(
            in_session(&memory, session).notes_page(&NoteQuery::new()).await.unwrap().notes[0].text,
            "Use tabs."
        );
    }
    let found = fourth.recall_notes("tabs", 5).await.unwrap().notes;
    let note = &found[0].note;
    assert_eq!((found.len(), note.scope.as_str(), note.seen, note.sessions()), (1, "acme/coder", 3, 3));
    assert_eq!(note.tags.len(), 3);
    assert!(found[0].parts.words > 0.0 && found[0].parts.vector > 0.0);
    memory.close().await.unwrap();
    assert_sound(path.as_ref()).await;
}

/// Prints each warning: what goes wrong beside the callers is told to nobody else.
struct Warnings;

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn event(&self, event: &tracing::Event<'_>) {
        println!("warning: {event:?}");
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

const PROCESSES: usize = 2;
const TASKS: usize = 4;
const EPISODES: usize = 50;

/// What one task of a process does as its episode of this number.
fn intended(process: usize, task: usize, number: usize) -> (Task, [Step; 3], Outcome) {
    let mut dice = Dice::new(1 + (process * TASKS + task) as u64 * 1_000_003 + number as u64 * 7_919);
    let words = format!("{} by {process} {task} {number}", text(&mut dice));
    let mut step = || {
        let step = Step::new(dice.pick(&["grep", "edit", "cargo test"])).input("src");
        if dice.roll(3) == 0 { step.error(dice.pick(&["not found", "E0425"])) } else { step.ok("fine") }
    };
    let steps = [step(), step(), step()];
    let verdict = [Verdict::Success, Verdict::Failure][dice.roll(2)];
    (Task::new(words).domain(dice.pick(&["web", "data"])), steps, Outcome::new(verdict, "over"))
}

async fn work(memory: Memory, process: usize, task: usize) {
    for number in 0..EPISODES {
        let (asked, steps, outcome) = intended(process, task, number);
        let mut open = memory.start(asked).await.unwrap();
        for step in steps {
            open.step(step).await.unwrap();
        }
        if number % 10 == 0 {
            open.suggest(1).await.unwrap();
            memory.patterns().await.unwrap();
            memory.project().await.unwrap();
        }
        open.complete(outcome).await.unwrap();
    }
}

/// Waits until all processes have opened the store, so that they work at the same time.
async fn meet(process: usize) {
    let path = std::env::var("STORE").unwrap();
    let here = |process: usize| format!("{path}.here{process}");
    std::fs::write(here(process), "").unwrap();
    while !(0..PROCESSES).all(|process| std::path::Path::new(&here(process)).exists()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn work_in_child() {
    tracing::subscriber::set_global_default(Warnings).unwrap();
    let process = std::env::var("PROCESS").unwrap().parse().unwrap();
    let memory = memory(&store_of_child().await).await;
    meet(process).await;
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(work(memory.clone(), process, task))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_learn_from_one_file_count_everything_once() {
    let test = "processes::processes_that_learn_from_one_file_count_everything_once";
    if process::is_child() {
        return work_in_child().await;
    }
    let (_folder, path) = place();
    let start =
        |process: usize| process::spawn(test, &[("STORE", path.to_str().unwrap()), ("PROCESS", &process.to_string())]);
    let children: Vec<_> = (0..PROCESSES).map(start).collect();
    for child in children {
        let printed = String::from_utf8(process::wait(test, child).stdout).unwrap();
        assert!(!printed.contains("warning"), "{printed}");
    }
    let store = TursoStore::open(&path).await.unwrap();
    let before = store.health().await.unwrap();
    assert_eq!((before.episodes, before.open_episodes), (400, 0));
    assert!(before.patterns > 0, "the children projected");

    let memory = memory(&store).await;
    let episodes: Vec<_> = log(&store).await.into_iter().map(|(_, episode)| episode).collect();
    let mut left: BTreeMap<String, _> = (0..PROCESSES * TASKS * EPISODES)
        .map(|n| intended(n / EPISODES / TASKS, n / EPISODES % TASKS, n % EPISODES))
        .map(|intended| (intended.0.text.clone(), intended))
        .collect();
    for episode in &episodes {
        let (task, steps, outcome) = left.remove(&episode.task.text).unwrap_or_else(|| panic!("{episode:?} twice"));
        assert_eq!((&episode.task, &episode.steps[..], &episode.outcome), (&task, &steps[..], &outcome));
    }
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(memory.patterns().await.unwrap(), fold(&episodes));
    memory.project().await.unwrap();
    assert_eq!(memory.health().await.unwrap().episodes_behind, 0);
    assert_eq!(stored_patterns(&store).await, fold(&episodes));
    let rebuilt = memory.rebuild().await.unwrap();
    assert_eq!((rebuilt.episodes, rebuilt.repaired), (400, 0));
    store.close().await.unwrap();
    assert_sound(&path).await;
    let process = |episode: &Episode| episode.task.text.rsplit(' ').nth(2).map(str::to_owned);
    let turns = episodes.windows(2).filter(|two| process(&two[0]) != process(&two[1])).count();
    println!("the processes took turns {turns} times; {} patterns were projected by them", before.patterns);
    assert!(turns > 1, "they worked one after the other");
}

/// The step of this number in an episode that goes on and on.
fn endless(number: usize) -> Step {
    Step::new(["grep", "edit"][number % 2]).input(format!("step {number}")).ok("fine").tokens(number as u64)
}

/// Adds steps until killed; each acknowledgement is printed when it has come.
async fn go_on_until_killed(memory: Memory) {
    let mut open = memory.start(Task::new("begun by one process").domain("web")).await.unwrap();
    loop {
        let ack = open.step(endless(open.steps().len())).await.unwrap();
        println!("step {} {:?}", open.id(), ack.durability);
    }
}

/// A child that adds steps and was killed after so many of them: the episode, and how safe each step was said to be.
fn kill_while_it_goes_on(test: &str, path: &Path, least: usize) -> (String, Vec<String>) {
    let mut child = process::spawn(test, &[("STORE", path.to_str().unwrap())]);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut steps = lines.filter_map(|line| line.strip_prefix("step ").map(str::to_owned));
    let mut told: Vec<String> = steps.by_ref().take(least).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    told.extend(steps.filter(|line| line.ends_with("able") || line.ends_with("ed"))); // The last line may be cut off.
    let id = told[0].split(' ').next().unwrap().to_owned();
    (id, told.into_iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn what_a_killed_process_began_another_one_completes() {
    if process::is_child() {
        return go_on_until_killed(memory(&store_of_child().await).await).await;
    }
    let (_folder, path) = place();
    let (id, told) = kill_while_it_goes_on("processes::what_a_killed_process_began_another_one_completes", &path, 5);
    let acknowledged = told.len();

    let store = TursoStore::open(&path).await.unwrap();
    let early = memory(&store).await;
    let opened = early.open_episodes().await.unwrap();
    assert_eq!((opened.len(), opened[0].id.to_string()), (1, id));
    let error = early.resume(opened[0].id).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Held, true), "nobody knows yet that it died");
    let memory = Memory::builder().store(store).clock(Ahead(1)).build().await.unwrap();
    let mut open = memory.resume(opened[0].id).await.unwrap();
    let kept = open.steps().len();
    assert!((acknowledged..=acknowledged + 1).contains(&kept), "{kept} of {acknowledged}");
    open.step(endless(kept)).await.unwrap();
    open.complete(Outcome::success("by the other process")).await.unwrap();

    let episode = memory.episode(open.id()).await.unwrap();
    assert_eq!(episode.task, Task::new("begun by one process").domain("web"));
    assert_eq!(episode.steps, (0..=kept).map(endless).collect::<Vec<_>>());
    assert_eq!((episode.started_at, &*episode.outcome.summary), (opened[0].started_at, "by the other process"));
    assert_eq!(memory.open_episodes().await.unwrap(), []);
    assert_eq!(memory.store().scan_all(Scan::new(RecordKind::Step)).await.unwrap(), []);
    assert_eq!(memory.resume(open.id()).await.unwrap_err().kind(), ErrorKind::EpisodeClosed);
    assert_eq!(memory.patterns().await.unwrap(), fold([&episode]));
}

#[tokio::test]
async fn what_a_killed_process_left_another_one_sweeps() {
    let test = "processes::what_a_killed_process_left_another_one_sweeps";
    let build = |store: TursoStore| Memory::builder().store(store).lease(TimeDelta::seconds(1)).build();
    if process::is_child() {
        return go_on_until_killed(build(store_of_child().await).await.unwrap()).await;
    }
    let (_folder, path) = place();
    let (id, told) = kill_while_it_goes_on(test, &path, 5);
    let store = TursoStore::open(&path).await.unwrap();
    let memory = build(store.clone()).await.unwrap();
    let opened = memory.open_episodes().await.unwrap().remove(0);
    assert_eq!(opened.id.to_string(), id);
    let mut alive = memory.start(Task::new("goes on")).await.unwrap();
    alive.step(endless(0)).await.unwrap();

    let begun = Instant::now();
    let episode = loop {
        match memory.episode(opened.id).await {
            Ok(episode) => break episode,
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(60), "nobody swept it"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let kept = episode.steps.len();
    assert!((told.len()..=told.len() + 1).contains(&kept), "{kept} of {}", told.len());
    assert_eq!(episode.steps, (0..kept).map(endless).collect::<Vec<_>>());
    assert_eq!(
        (episode.outcome.verdict, episode.completed_at),
        (Verdict::Interrupted, opened.lease.unwrap().expires_at)
    );
    assert_eq!(memory.patterns().await.unwrap(), fold([&episode]));

    // The one that goes on outlives its first lease many times over.
    while begun.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    alive.complete(Outcome::success("")).await.unwrap();
    assert_eq!((store.health().await.unwrap().episodes, memory.sweep().await.unwrap()), (2, 0));
    assert_eq!(store.scan_all(Scan::new(RecordKind::Step)).await.unwrap(), []);
    memory.close().await.unwrap();
    assert_sound(&path).await;
}

#[tokio::test]
async fn a_kill_loses_no_more_buffered_steps_than_a_batch_less_one() {
    let test = "processes::a_kill_loses_no_more_buffered_steps_than_a_batch_less_one";
    if process::is_child() {
        let durability = StepDurability::Batched { steps: 10, within: TimeDelta::hours(1) };
        let builder = Memory::builder().store(store_of_child().await).step_durability(durability);
        return go_on_until_killed(builder.build().await.unwrap()).await;
    }
    let mut lost = Vec::new();
    for least in [1, 9, 10, 11, 25, 59] {
        let (_folder, path) = place();
        let (id, told) = kill_while_it_goes_on(test, &path, least);
        for (place, durability) in told.iter().enumerate() {
            assert_eq!(durability, if place % 10 == 9 { "Durable" } else { "Buffered" }, "step {place}");
        }
        let store = TursoStore::open(&path).await.unwrap();
        let memory = Memory::builder().store(store).clock(Ahead(1)).build().await.unwrap();
        let opened = memory.open_episodes().await.unwrap().remove(0);
        assert_eq!(opened.id.to_string(), id);
        let open = memory.resume(opened.id).await.unwrap();
        let kept = open.steps().len();
        assert_eq!(open.steps(), (0..kept).map(endless).collect::<Vec<_>>());
        assert!(kept.is_multiple_of(10) && kept + 10 > told.len(), "{kept} of {}", told.len());
        assert!(kept >= told.iter().rposition(|told| told == "Durable").map_or(0, |last| last + 1));
        lost.push(told.len().saturating_sub(kept));
    }
    println!("lost {lost:?} steps that were acknowledged as buffered");
    assert!(lost.iter().all(|lost| *lost <= 9));
}

#[tokio::test]
async fn the_timer_has_written_what_a_waiting_process_left() {
    let test = "processes::the_timer_has_written_what_a_waiting_process_left";
    if process::is_child() {
        let durability = StepDurability::Batched { steps: 1_000, within: TimeDelta::milliseconds(50) };
        let builder = Memory::builder().store(store_of_child().await).step_durability(durability);
        let memory = builder.build().await.unwrap();
        let mut open = memory.start(Task::new("begun by one process")).await.unwrap();
        for number in 0..5 {
            assert_eq!(open.step(endless(number)).await.unwrap().durability, Durability::Buffered);
        }
        println!("waiting");
        return std::future::pending().await;
    }
    let (_folder, path) = place();
    let mut child = process::spawn(test, &[("STORE", path.to_str().unwrap())]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "waiting"));
    let (store, begun) = (TursoStore::open(&path).await.unwrap(), Instant::now());
    while store.scan_all(Scan::new(RecordKind::Step)).await.unwrap().len() < 5 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody wrote them");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let memory = Memory::builder().store(store).clock(Ahead(1)).build().await.unwrap();
    assert_eq!(memory.sweep().await.unwrap(), 1);
    let episode = log(memory.store()).await.remove(0).1;
    assert_eq!(episode.steps, (0..5).map(endless).collect::<Vec<_>>());
}
