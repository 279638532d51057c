//! The largest value that is accepted and the smallest that is refused, for every limit.

use chrono::TimeDelta;
use memory_core::testkit::samples;
use memory_core::{
    Episode, Error, ErrorKind, InMemoryStore, Limits, Memory, NewNote, Outcome, Recording, Result, Scope, Source, Step,
    StepDurability, Task,
};

use crate::{clock, fresh, over, stored, worked};

/// Recordings at and beyond a limit, and what the refusal says.
struct Bound {
    accepted: Recording,
    refused: Recording,
    message: &'static str,
}

fn plain(outcome: Outcome) -> Recording {
    Recording::new(Task::new("fix"), outcome)
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn bound<T>(make: impl Fn(T) -> Recording, accepted: T, refused: T, message: &'static str) -> Bound {
    Bound { accepted: make(accepted), refused: make(refused), message }
}

fn tagged(count: usize) -> Recording {
    Recording::new((0..count).fold(Task::new("fix"), |task, n| task.tag(format!("{n}"))), Outcome::success(""))
}

fn in_environment(count: usize) -> Recording {
    let task = (0..count).fold(Task::new("fix"), |task, n| task.environment(format!("{n}"), ""));
    Recording::new(task, Outcome::success(""))
}

fn bounds() -> Vec<Bound> {
    let task = |task: Task| Recording::new(task, Outcome::success(""));
    let words = |text: String| task(Task::new(text));
    let domain = |bytes| task(Task::new("fix").domain(text(bytes)));
    let language = |bytes| task(Task::new("fix").language(text(bytes)));
    let tag = |bytes| task(Task::new("fix").tag(text(bytes)));
    let fact = |bytes| task(Task::new("fix").environment(text(bytes), ""));
    let value = |bytes| task(Task::new("fix").environment("os", text(bytes)));
    let step = |step: Step| plain(Outcome::success("")).step(step);
    let tool = |bytes| step(Step::new(text(bytes)));
    let steps = |count| plain(Outcome::success("")).steps((0..count).map(|_| Step::new("read")));
    let reward = |reward| plain(Outcome::success("").reward(reward));
    let artifact = |bytes| plain(Outcome::success("").artifact(text(bytes), ""));
    vec![
        bound(words, text(10_000), text(10_001), "task.text is 10001 bytes; allowed: up to 10000 bytes"),
        bound(words, "ä".repeat(5_000), "ä".repeat(5_001), "task.text is 10002 bytes; allowed: up to 10000 bytes"),
        bound(words, "x".into(), String::new(), "task.text is blank; allowed: some words"),
        bound(words, " x ".into(), " \t\n\u{3000}".into(), "task.text is blank; allowed: some words"),
        bound(domain, 128, 129, "task.domain (bytes) is 129; allowed: 1..=128"),
        bound(domain, 1, 0, "task.domain (bytes) is 0; allowed: 1..=128"),
        bound(language, 128, 129, "task.language (bytes) is 129; allowed: 1..=128"),
        bound(language, 1, 0, "task.language (bytes) is 0; allowed: 1..=128"),
        bound(tagged, 32, 33, "task.tags is 33; allowed: 0..=32"),
        bound(tag, 64, 65, "task.tags: bytes of a tag is 65; allowed: 1..=64"),
        bound(tag, 1, 0, "task.tags: bytes of a tag is 0; allowed: 1..=64"),
        bound(in_environment, 32, 33, "task.environment is 33; allowed: 0..=32"),
        bound(fact, 128, 129, "task.environment (bytes) is 129; allowed: 1..=128"),
        bound(fact, 1, 0, "task.environment (bytes) is 0; allowed: 1..=128"),
        bound(value, 10_000, 10_001, "task.environment value is 10001 bytes; allowed: up to 10000 bytes"),
        bound(tool, 128, 129, "step.tool (bytes) is 129; allowed: 1..=128"),
        bound(tool, 1, 0, "step.tool (bytes) is 0; allowed: 1..=128"),
        bound(
            |bytes| step(Step::new("read").action(text(bytes))),
            10_000,
            10_001,
            "step.action is 10001 bytes; allowed: up to 10000 bytes",
        ),
        bound(
            |bytes| step(Step::new("read").input(text(bytes))),
            10_000,
            10_001,
            "step.input is 10001 bytes; allowed: up to 10000 bytes",
        ),
        bound(
            |bytes| step(Step::new("read").ok(text(bytes))),
            10_000,
            10_001,
            "step.observation is 10001 bytes; allowed: up to 10000 bytes",
        ),
        bound(
            |bytes| step(Step::new("read").error(text(bytes))),
            10_000,
            10_001,
            "step.observation is 10001 bytes; allowed: up to 10000 bytes",
        ),
        bound(steps, 1_000, 1_001, "steps is 1001; allowed: 0..=1000"),
        bound(
            |bytes| plain(Outcome::failure(text(bytes))),
            10_000,
            10_001,
            "outcome.summary is 10001 bytes; allowed: up to 10000 bytes",
        ),
        bound(
            |bytes| plain(Outcome::failure("").reflection(text(bytes))),
            10_000,
            10_001,
            "outcome.reflection is 10001 bytes; allowed: up to 10000 bytes",
        ),
        bound(reward, 0.0, -0.1, "outcome.reward is -0.1; allowed: 0..=1"),
        bound(reward, 1.0, 1.1, "outcome.reward is 1.1; allowed: 0..=1"),
        bound(reward, 0.5, f64::NAN, "outcome.reward is NaN; allowed: 0..=1"),
        bound(reward, 0.5, f64::INFINITY, "outcome.reward is inf; allowed: 0..=1"),
        bound(reward, 0.5, f64::NEG_INFINITY, "outcome.reward is -inf; allowed: 0..=1"),
        bound(artifact, 128, 129, "artifact.name (bytes) is 129; allowed: 1..=128"),
        bound(artifact, 1, 0, "artifact.name (bytes) is 0; allowed: 1..=128"),
        bound(
            |bytes| plain(Outcome::success("").artifact("patch", text(bytes))),
            1_000_000,
            1_000_001,
            "artifact.content is 1000001 bytes; allowed: up to 1000000 bytes",
        ),
    ]
}

fn assert_invalid(error: &Error, message: &str) {
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().ends_with(message), "{error} does not say {message}");
    assert!(!error.is_temporary());
}

/// Records an episode call by call. A call that is refused must not have written anything.
async fn live(memory: &Memory, recording: Recording) -> Result<()> {
    let mut before = stored(memory).await;
    let going = async || -> Result<()> {
        let mut open = memory.start(recording.task).await?;
        for step in recording.steps {
            before = stored(memory).await;
            let steps = open.steps().len();
            if let Err(error) = open.step(step).await {
                assert_eq!(open.steps().len(), steps, "the handle is as before");
                return Err(error);
            }
        }
        before = stored(memory).await;
        open.complete(recording.outcome).await.map(|_| ())
    };
    let result = going().await;
    if result.is_err() {
        assert_eq!(stored(memory).await, before, "a refused call writes nothing");
    }
    result
}

#[tokio::test(start_paused = true)]
async fn recording_takes_what_is_at_a_limit_and_refuses_what_is_beyond() {
    let memory = fresh().await;
    for (place, Bound { accepted, refused, message }) in bounds().into_iter().enumerate() {
        memory.record(accepted).await.unwrap_or_else(|error| panic!("{message}: {error}"));
        let before = stored(&memory).await;
        assert_invalid(&memory.record(refused).await.unwrap_err(), message);
        assert_eq!(stored(&memory).await, before, "{message}: nothing is written");
        assert_eq!(before.episodes, place as u64 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn going_step_by_step_has_the_same_limits() {
    for durability in [StepDurability::Each, StepDurability::AtCompletion] {
        let builder = Memory::builder().store(InMemoryStore::new()).step_durability(durability);
        let memory = builder.build().await.unwrap();
        for Bound { accepted, refused, message } in bounds() {
            live(&memory, accepted).await.unwrap_or_else(|error| panic!("{message}: {error}"));
            assert_invalid(&live(&memory, refused).await.unwrap_err(), message);
        }
        assert_eq!(stored(&memory).await.episodes, bounds().len() as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_refused_leaves_the_episode_going() {
    let memory = fresh().await;
    let mut open = memory.start(Task::new("fix")).await.unwrap();
    open.step(Step::new("")).await.unwrap_err();
    open.step(Step::new("read")).await.unwrap();
    open.complete(Outcome::success("").reward(2.0)).await.unwrap_err();
    open.step(Step::new("edit")).await.unwrap();
    open.complete(Outcome::success("").reward(1.0)).await.unwrap();
    assert_eq!(memory.episode(open.id()).await.unwrap().steps.len(), 2);
}

/// An episode that is this long when it is encoded, with the times that a manual clock gives to a live one.
fn encoded(bytes: usize) -> Episode {
    let started = samples::time(0);
    let mut outcome = Outcome::success("");
    for n in 0..=9 {
        outcome = outcome.artifact(format!("{n}"), "");
    }
    let task = Task::new("fix");
    let completed = started + TimeDelta::microseconds(1);
    let mut episode =
        Episode::new(samples::episode_id(7), Scope::default(), task, Vec::new(), outcome, started, completed);
    let mut rest = bytes - episode.encoded_len();
    for artifact in &mut episode.outcome.artifacts {
        artifact.content = text(rest.min(1_000_000));
        rest -= artifact.content.len();
    }
    assert_eq!((rest, episode.encoded_len()), (0, bytes));
    episode
}

#[tokio::test(start_paused = true)]
async fn an_encoded_episode_has_ten_million_bytes_at_most() {
    let message = "encoded episode is 10000001 bytes; allowed: up to 10000000 bytes";
    for (bytes, fits) in [(10_000_000, true), (10_000_001, false)] {
        let episode = encoded(bytes);
        let recording = Recording::new(episode.task.clone(), episode.outcome.clone())
            .id(episode.id)
            .started_at(episode.started_at)
            .completed_at(episode.completed_at);
        let memory = fresh().await;
        let before = stored(&memory).await;
        match memory.record(recording.clone()).await {
            Ok(_) => assert_eq!(memory.episode(episode.id).await.unwrap().encoded_len(), bytes),
            Err(error) => {
                assert_invalid(&error, message);
                assert_eq!(stored(&memory).await, before);
            }
        }
        assert_eq!(stored(&memory).await.episodes == 1, fits);

        let memory = Memory::builder().store(InMemoryStore::new()).clock(clock()).build().await.unwrap();
        let result = live(&memory, recording).await;
        assert_eq!(result.is_ok(), fits, "{result:?}");
        result.err().iter().for_each(|error| assert_invalid(error, message));
    }
}

#[tokio::test(start_paused = true)]
async fn an_episode_does_not_end_before_it_begins() {
    let memory = fresh().await;
    let at = samples::time(50);
    let from = |seconds| worked("fix", &[]).started_at(at + TimeDelta::seconds(seconds)).completed_at(at);
    memory.record(from(0)).await.unwrap();
    let error = memory.record(from(1)).await.unwrap_err();
    let message = "started_at is 2026-01-01 00:00:51 UTC; allowed: up to completed_at, 2026-01-01 00:00:50 UTC";
    assert_invalid(&error, message);
    assert_eq!(stored(&memory).await.episodes, 1);
}

#[tokio::test(start_paused = true)]
async fn questions_have_limits() {
    let memory = fresh().await;
    memory.record(worked("fix", &["read"])).await.unwrap();
    let task = Task::new(text(10_000));
    let long = Task::new(text(10_001));
    let message = "query is 10001 bytes; allowed: up to 10000 bytes";
    memory.recall(&task, 1).await.unwrap();
    memory.suggest(&task, &[], 1).await.unwrap();
    memory.predict(&task, &[]).await.unwrap();
    assert_invalid(&memory.recall(&long, 1).await.unwrap_err(), message);
    assert_invalid(&memory.suggest(&long, &[], 1).await.unwrap_err(), message);
    assert_invalid(&memory.predict(&long, &[]).await.unwrap_err(), message);

    let task = Task::new("fix");
    let mut open = memory.start(task.clone()).await.unwrap();
    for k in [1, 100] {
        assert_eq!(memory.recall(&task, k).await.unwrap().episodes.len(), 1);
        assert_eq!(open.recall(k).await.unwrap().episodes.len(), 1);
        assert_eq!(memory.suggest(&task, &[], k).await.unwrap().len(), 1);
        assert_eq!(open.suggest(k).await.unwrap().len(), 1);
    }
    for (k, message) in [(0, "k is 0; allowed: 1..=100"), (101, "k is 101; allowed: 1..=100")] {
        assert_invalid(&memory.recall(&task, k).await.unwrap_err(), message);
        assert_invalid(&open.recall(k).await.unwrap_err(), message);
        assert_invalid(&memory.suggest(&task, &[], k).await.unwrap_err(), message);
        assert_invalid(&open.suggest(k).await.unwrap_err(), message);
    }
}

#[test]
fn names_of_scopes_have_limits() {
    let tenant = Scope::new(&text(128)).unwrap();
    let agent = tenant.agent(&text(128)).unwrap();
    agent.session(&text(128)).unwrap();
    for bad in ["", "a b", "ä", "a/b", &text(129)] {
        for error in [Scope::new(bad).err(), tenant.agent(bad).err(), agent.session(bad).err()] {
            let error = error.unwrap();
            assert_invalid(&error, &format!("({} bytes); allowed: [A-Za-z0-9._:-]{{1,128}}", bad.len()));
            assert!(error.to_string().starts_with("invalid value: scope."), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn limits_can_be_set() {
    let limits = Limits::default().with_task_bytes(5).with_observation_bytes(4).with_steps(2).with_artifact_bytes(3);
    let limits = limits.with_tags(1).with_tag_bytes(2).with_name_bytes(6).with_note_bytes(7);
    let memory = Memory::builder().store(InMemoryStore::new()).limits(limits).build().await.unwrap();
    let task = || Task::new("12345").tag("12").domain("123456");
    let step = || Step::new("123456").input("1234");
    let outcome = || Outcome::success("1234").artifact("123456", "123");
    let good = Recording::new(task(), outcome()).steps([step(), step()]);
    memory.record(good.clone()).await.unwrap();
    let with = |task: Task| Recording::new(task, Outcome::success(""));
    let ended = |outcome: Outcome| Recording::new(task(), outcome);
    let refused = [
        with(Task::new("123456")),
        with(task().tag("x")),
        with(Task::new("1").tag("123")),
        with(task().language("1234567")),
        good.clone().step(step()),
        with(task()).step(step().ok("12345")),
        ended(outcome().reflection("12345")),
        ended(outcome().artifact("1", "1234")),
    ];
    for recording in refused {
        let error = memory.record(recording).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(memory.recall(&Task::new("123456"), 1).await.unwrap_err().kind(), ErrorKind::Invalid);
    let note = |text: &str| NewNote::new(text).source(Source::trusted("123456")).tag("12");
    memory.remember(note("1234567")).await.unwrap();
    let named = note("1").source(Source::trusted("1234567"));
    for note in [note("12345678"), named, note("2").tag("x"), NewNote::new("3").tag("123")] {
        assert_eq!(memory.remember(note).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(stored(&memory).await.episodes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_closed_store_cannot_be_built_on() {
    let store = InMemoryStore::new();
    over(store.clone()).await.close().await.unwrap();
    assert_eq!(Memory::builder().store(store).build().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn an_episode_that_can_still_be_completed_takes_no_step_too_many() {
    let memory = fresh().await;
    let mut open = memory.start(Task::new("fix")).await.unwrap();
    let step = Step::new("read").action(text(10_000)).input(text(10_000)).ok(text(10_000));
    let mut taken = 0;
    let error = loop {
        match open.step(step.clone()).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!((300..334).contains(&taken), "{taken}");
    assert!(error.to_string().contains("encoded episode is") && error.to_string().contains("up to 10000000 bytes"));
    // What is shown needs room, too.
    let known = (0..100).map(|number| worked(&format!("fix {number}"), &["read"]));
    crate::record_all(&memory, known).await;
    while open.step(Step::new("read")).await.is_ok() {
        taken += 1;
    }
    let error = open.recall(100).await.unwrap_err();
    assert!(error.to_string().contains("recall: invalid value: encoded episode is"), "{error}");
    open.complete(Outcome::success("as far as it went")).await.unwrap();
    assert_eq!(memory.episode(open.id()).await.unwrap().steps.len(), taken);
}
