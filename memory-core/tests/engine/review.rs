//! What a completed episode was worth, which steps made its chances, and that in words.

use memory_core::{ErrorKind, Memory, Outcome, Recording, Review, Reward, Scope, Step, Task};

use super::{failed, fresh, record_all, worked};

fn fix(outcome: Outcome, steps: impl IntoIterator<Item = Step>) -> Recording {
    Recording::new(Task::new("fix the login"), outcome).steps(steps)
}

async fn review(memory: &Memory, recording: Recording) -> Review {
    let id = memory.record(recording).await.unwrap().episode;
    memory.review(id).await.unwrap()
}

async fn reward(outcome: Outcome, steps: impl IntoIterator<Item = Step>) -> Reward {
    review(&fresh().await, fix(outcome, steps)).await.reward
}

fn parts(reward: Reward) -> [f64; 3] {
    [reward.outcome, reward.efficiency, reward.recovery]
}

fn ok(tool: &str) -> Step {
    Step::new(tool).ok("")
}

fn error(tool: &str) -> Step {
    Step::new(tool).error("not found")
}

#[tokio::test(start_paused = true)]
async fn the_outcome_is_what_was_told_or_else_the_verdict() {
    for (outcome, worth) in [
        (Outcome::success(""), 1.0),
        (Outcome::partial(""), 0.5),
        (Outcome::failure(""), 0.0),
        (Outcome::new(memory_core::Verdict::Abstained, ""), 0.0),
        (Outcome::failure("").reward(0.25), 0.25),
        (Outcome::success("").reward(0.0), 0.0),
    ] {
        let reward = reward(outcome, [ok("edit")]).await;
        assert_eq!(parts(reward), [worth, 1.0, 1.0]);
        assert!((reward.total - (0.7 * worth + 0.3)).abs() < 1e-12, "{reward:?}");
    }
    assert_eq!(reward(Outcome::success(""), [ok("edit")]).await.total, 1.0, "exactly");
}

#[tokio::test(start_paused = true)]
async fn errors_and_repeated_calls_cost_efficiency() {
    let efficiency = async |steps: &[Step]| reward(Outcome::success(""), steps.iter().cloned()).await.efficiency;
    let read = |input: &str| Step::new("read").input(input).ok("");
    assert_eq!(efficiency(&[read("a"), read("b")]).await, 1.0, "another input is another call");
    assert_eq!(efficiency(&[read("a"), ok("edit"), read("a"), ok("test")]).await, 0.75);
    assert_eq!(efficiency(&[read("a"), error("edit")]).await, 0.5);
    assert_eq!(efficiency(&[error("edit"), error("edit")]).await, 0.0, "a step is wasted once");
}

#[tokio::test(start_paused = true)]
async fn errors_that_the_same_tool_repairs_within_three_steps_are_recovered_from() {
    let recovery = async |steps: &[Step]| reward(Outcome::success(""), steps.iter().cloned()).await.recovery;
    assert_eq!(recovery(&[error("test"), ok("edit"), ok("read"), ok("test")]).await, 1.0);
    assert_eq!(recovery(&[error("test"), ok("edit"), ok("read"), ok("grep"), ok("test")]).await, 0.0, "too late");
    assert_eq!(recovery(&[error("test"), ok("test"), ok("edit"), error("commit")]).await, 0.5);
    assert_eq!(recovery(&[error("test")]).await, 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_total_weighs_outcome_efficiency_and_recovery() {
    let reward = reward(Outcome::partial(""), [error("test"), ok("edit"), error("test"), ok("test")]).await;
    assert_eq!(parts(reward), [0.5, 0.25, 1.0]);
    assert!((reward.total - (0.7 * 0.5 + 0.2 * 0.25 + 0.1)).abs() < 1e-12);
}

/// Four runs that begin with a look and succeed, four that begin with a guess and fail.
async fn experienced() -> Memory {
    let memory = fresh().await;
    record_all(&memory, (0..4).map(|_| worked("fix the login", &["look", "edit", "test"]))).await;
    record_all(&memory, (0..4).map(|_| failed("fix the login", &["guess", "edit", "give up"]))).await;
    memory
}

#[tokio::test(start_paused = true)]
async fn each_step_is_credited_with_the_change_of_the_prediction() {
    let memory = experienced().await;
    let steps = [ok("look"), ok("edit"), ok("give up")];
    let reviewed = review(&memory, fix(Outcome::failure(""), steps.clone())).await;
    let [look, edit, give_up] = &reviewed.credit[..] else { panic!("{reviewed:?}") };
    assert_eq!([look.step, edit.step, give_up.step], [0, 1, 2]);
    assert_eq!((look.after, edit.after), (edit.before, give_up.before));
    assert!(look.change() > 0.1 && give_up.change() < -0.02, "{reviewed:?}");
    assert!(reviewed.credit.iter().all(|credit| credit.after > 0.0 && credit.after < 1.0));
    assert!(give_up.after > 0.0, "a prediction, not the outcome");
    let other = review(&memory, fix(Outcome::failure(""), [ok("guess"), ok("edit"), ok("give up")])).await;
    assert!(other.credit[0].change() < 0.0, "{other:?}");
}

#[tokio::test(start_paused = true)]
async fn an_episode_is_not_compared_with_itself() {
    let memory = fresh().await;
    let reviewed = review(&memory, worked("fix the login", &["look"])).await;
    let predicted = memory.predict(&Task::new("fix the login"), &[]).await.unwrap();
    assert!(reviewed.credit[0].before < predicted.probability - 0.1, "{reviewed:?}, {predicted:?}");
}

#[tokio::test(start_paused = true)]
async fn the_reflection_tells_the_numbers() {
    let memory = experienced().await;
    let steps = [
        ok("look"),
        ok("edit"),
        Step::new("test").error("error 12 in 'a.rs'"),
        Step::new("edit").input("a.rs").ok(""),
        ok("test"),
        ok("look"),
        ok("give up"),
    ];
    let reviewed = review(&memory, fix(Outcome::partial(""), steps)).await;
    let told = [
        "Outcome: partial after 7 steps. The chance of success was 49 % at the start.",
        "Step 1 (look) raised it most, from 49 % to 67 %. Step 4 (edit) lowered it most, from 62 % to 50 %.",
        "Step 3 (test) failed with \"error # in '…'\"; edit > test repaired it.",
        "Wasted: 3 of 7 steps (1 failed, 2 repeated an earlier call).",
    ];
    assert_eq!(reviewed.reflection, told.join(" "));
}

#[tokio::test(start_paused = true)]
async fn three_errors_are_told_and_the_rest_counted() {
    let steps = ["a", "b", "c", "d", "e"].map(|tool| Step::new(tool).error(""));
    let reviewed = review(&fresh().await, fix(Outcome::failure(""), steps)).await;
    assert_eq!(reviewed.reward.total, 0.0);
    let told = [
        "Outcome: failure after 5 steps. The chance of success was 47 % at the start.",
        "Step 1 (a) lowered it most, from 47 % to 33 %.",
        "Step 1 (a) failed; nothing repaired it within 3 steps.",
        "Step 2 (b) failed; nothing repaired it within 3 steps.",
        "Step 3 (c) failed; nothing repaired it within 3 steps.",
        "Of the other steps, 2 failed.",
        "Wasted: 5 of 5 steps (5 failed, 0 repeated an earlier call).",
    ];
    assert_eq!(reviewed.reflection, told.join(" "));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_so_is_not_told() {
    let reviewed = review(&fresh().await, worked("fix the login", &["look"])).await;
    let told = [
        "Outcome: success after 1 step. The chance of success was 53 % at the start.",
        "Step 1 (look) lowered it most, from 53 % to 52 %.",
    ];
    assert_eq!(reviewed.reflection, told.join(" "));
}

#[tokio::test(start_paused = true)]
async fn without_steps_there_is_nothing_to_credit() {
    let reviewed = review(&fresh().await, fix(Outcome::failure(""), [])).await;
    assert_eq!(parts(reviewed.reward), [0.0, 1.0, 1.0]);
    assert!(reviewed.credit.is_empty());
    assert_eq!(reviewed.reflection, "Outcome: failure after 0 steps.");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_steps_are_credited_one_by_one() {
    let memory = experienced().await;
    let tools = ["look", "edit", "test", "guess"];
    let step = |place: usize| {
        let step = Step::new(tools[place % 4]).input(format!("{}", place / 8));
        if place.is_multiple_of(5) { step.error("not found") } else { step.ok("") }
    };
    let reviewed = review(&memory, fix(Outcome::success(""), (0..1_000).map(step))).await;
    assert_eq!(reviewed.credit.len(), 1_000);
    assert!(reviewed.credit.windows(2).all(|pair| pair[0].after == pair[1].before));
    // Every fifth step fails, and is tried again too late; of the others, every second repeats a call.
    assert_eq!((reviewed.reward.efficiency, reviewed.reward.recovery), (0.4, 0.0));
    assert!(reviewed.reflection.len() < 1_000, "{}", reviewed.reflection);
}

#[tokio::test(start_paused = true)]
async fn only_completed_episodes_of_the_scope_are_reviewed() {
    let memory = fresh().await;
    let open = memory.start(Task::new("fix the login")).await.unwrap();
    let id = memory.record(worked("fix the login", &[])).await.unwrap().episode;
    let elsewhere = memory.in_scope(Scope::new("other").unwrap());
    for error in [memory.review(open.id()).await.unwrap_err(), elsewhere.review(id).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().starts_with("review: "), "{error}");
    }
}
