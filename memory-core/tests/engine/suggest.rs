//! Which tool comes next, and how likely success is.

use std::sync::Arc;

use chrono::TimeDelta;
use memory_core::testkit::{EmbedderFault, FaultyEmbedder};
use memory_core::{
    HashEmbedder, InMemoryStore, Learner, Memory, Outcome, Reason, Recording, Scope, Step, Suggestion, Task,
};

use crate::{clock, failed, fresh, lost, record_all, worked};

fn login() -> Task {
    Task::new("fix the login")
}

fn assert_distribution(suggestions: &[Suggestion], tools: usize) {
    assert_eq!(suggestions.len(), tools, "{suggestions:#?}");
    let sum: f64 = suggestions.iter().map(|suggestion| suggestion.probability).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}: {suggestions:#?}");
    assert!(suggestions.is_sorted_by(|a, b| a.probability >= b.probability), "{suggestions:#?}");
    assert!(suggestions.iter().all(|suggestion| (0.0..=1.0).contains(&suggestion.probability)));
}

#[tokio::test(start_paused = true)]
async fn nothing_known_is_nothing_suggested_and_one_half() {
    let memory = fresh().await;
    assert!(memory.suggest(&login(), &[], 100).await.unwrap().is_empty());
    let predicted = memory.predict(&login(), &[Step::new("read")]).await.unwrap();
    let all = [predicted.probability, predicted.base_rate, predicted.by_steps, predicted.by_similar];
    assert_eq!(all, [0.5; 4]);
    assert!(!predicted.reliable);
    assert_eq!(memory.predict_finished(&login(), &[]).await.unwrap().probability, 0.5);
}

#[tokio::test(start_paused = true)]
async fn the_tool_that_followed_in_successful_episodes_comes_first() {
    let memory = fresh().await;
    let bad = (0..3).map(|_| failed("fix the login", &["guess", "edit"]));
    let good = (0..3).map(|_| worked("fix the login", &["grep", "read", "edit", "test"]));
    record_all(&memory, bad.chain(good)).await;
    let mut open = memory.start(login()).await.unwrap();
    for tool in ["grep", "read", "edit", "test"] {
        let suggested = open.suggest(100).await.unwrap();
        assert_eq!(suggested[0].tool, tool);
        assert_distribution(&suggested, 5);
        assert_eq!(memory.suggest(&login(), open.steps(), 100).await.unwrap(), suggested);
        assert_eq!(open.suggest(1).await.unwrap(), suggested[..1], "the best of them");
        open.step(Step::new(tool).ok("")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_episodes_did_weighs_less() {
    let memory = fresh().await;
    record_all(&memory, [worked("fix the login", &["grep"]), failed("fix the login", &["guess"])]).await;
    let suggested = memory.suggest(&login(), &[], 100).await.unwrap();
    assert_distribution(&suggested, 2);
    assert_eq!(suggested[0].tool, "grep");
    assert!(suggested[0].probability > 2.0 * suggested[1].probability && suggested[1].probability > 0.0);
}

/// The formula by hand, for transitions alone: no similar episodes.
#[tokio::test(start_paused = true)]
async fn without_similar_episodes_transitions_decide() {
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let builder = Memory::builder().store(InMemoryStore::new()).embedder(Arc::clone(&embedder));
    let memory = builder.build().await.unwrap();
    record_all(&memory, [worked("a", &["grep", "edit"]), worked("a", &["grep", "edit"]), failed("a", &["read"])]).await;
    embedder.script(EmbedderFault::Fail(lost()));
    let suggested = memory.suggest(&Task::new("zebra"), &[], 100).await.unwrap();
    assert_distribution(&suggested, 3);
    // Two successes weigh 2, one failure 0.25. Any place: grep 2, edit 2, read 0.25. At the start: grep 2, read 0.25; the
    // start is one, two and three moves long.
    for (suggestion, (tool, anywhere, at_start)) in
        suggested.iter().zip([("grep", 2.0, 2.0), ("read", 0.25, 0.25), ("edit", 2.0, 0.0)])
    {
        let backed_off = (0..3).fold(anywhere / 4.25, |general, _| (at_start + 2.0 * general) / (2.25 + 2.0));
        assert_eq!(suggestion.tool, tool);
        assert!((suggestion.probability - backed_off).abs() < 1e-12, "{suggestion:?}, not {backed_off}");
        assert!(matches!(&suggestion.reasons[..], [Reason::Transition { .. }]));
    }
}

#[tokio::test(start_paused = true)]
async fn reasons_carry_the_evidence() {
    let memory = fresh().await;
    let recordings = [
        worked("fix the login", &["grep", "edit"]),
        worked("fix the login", &["grep", "edit"]),
        failed("fix the login", &["grep", "edit"]),
        worked("fix the login", &["grep", "read"]),
    ];
    record_all(&memory, recordings).await;
    let suggested = memory.suggest(&login(), &[Step::new("grep").ok("")], 100).await.unwrap();
    assert_eq!(suggested[0].tool, "edit");
    let Reason::Transition { pattern, after, support, of } = &suggested[0].reasons[0] else {
        panic!("{:?}", suggested[0].reasons)
    };
    let patterns = memory.patterns().await.unwrap();
    let most_specific = patterns.iter().find(|found| found.id == *pattern).unwrap();
    assert_eq!((most_specific.signature.join(" "), &after[..]), ("^ ^ +grep".to_owned(), "(start) > grep"));
    assert_eq!((support.episodes, support.trials, support.successes, *of), (3.0, 3.0, 2.0, 4.0));
    let similar: Vec<(f64, bool)> = suggested[0].reasons[1..]
        .iter()
        .map(|reason| match reason {
            Reason::Similar { score, succeeded, .. } => (*score, *succeeded),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(similar.len(), 3);
    assert_eq!(similar.iter().filter(|(_, succeeded)| *succeeded).count(), 2);
    assert!(similar.iter().all(|(score, _)| (0.5..=1.0).contains(score)), "{similar:?}");
}

#[tokio::test(start_paused = true)]
async fn domains_and_scopes_are_learned_apart() {
    let memory = fresh().await;
    let elsewhere = memory.in_scope(Scope::new("other").unwrap());
    let outcome = || Outcome::success("");
    memory.record(Recording::new(login().domain("web"), outcome()).step(Step::new("grep"))).await.unwrap();
    memory.record(Recording::new(login().domain("data"), outcome()).step(Step::new("select"))).await.unwrap();
    memory.record(Recording::new(login(), outcome()).step(Step::new("think"))).await.unwrap();
    elsewhere.record(Recording::new(login().domain("web"), outcome()).step(Step::new("curl"))).await.unwrap();
    let tools = async |memory: &Memory, task: Task| -> Vec<String> {
        let suggested = memory.suggest(&task, &[], 100).await.unwrap();
        let sum: f64 = suggested.iter().map(|suggestion| suggestion.probability).sum();
        assert!(suggested.is_empty() || (sum - 1.0).abs() < 1e-9);
        suggested.into_iter().map(|suggestion| suggestion.tool).collect()
    };
    assert_eq!(tools(&memory, login().domain("web")).await, ["grep"]);
    assert_eq!(tools(&memory, login().domain("data")).await, ["select"]);
    assert_eq!(tools(&elsewhere, login().domain("web")).await, ["curl"]);
    assert_eq!(tools(&memory, login().domain("ops")).await, [""; 0]);
}

/// A task without a domain is compared with episodes of every domain, but patterns are those learned without one.
/// Bug: where there were none of these, the probabilities did not sum to 1.
#[tokio::test(start_paused = true)]
async fn without_a_domain_similar_episodes_of_all_domains_decide() {
    let memory = fresh().await;
    for (domain, tool) in [("web", "grep"), ("web", "grep"), ("data", "select")] {
        let recording = Recording::new(login().domain(domain), Outcome::success(""));
        memory.record(recording.step(Step::new(tool))).await.unwrap();
    }
    let suggested = memory.suggest(&login(), &[], 100).await.unwrap();
    assert_distribution(&suggested, 2);
    assert_eq!(suggested[0].tool, "grep");
}

#[tokio::test(start_paused = true)]
async fn a_call_made_before_points_to_what_followed_it() {
    let memory = fresh().await;
    let episode = |input: &str, next: &str| {
        let steps = [Step::new("open").input(input).ok(""), Step::new(next).ok("")];
        Recording::new(login(), Outcome::success("")).steps(steps)
    };
    record_all(&memory, [episode("a.rs", "edit"), episode("b.rs", "test"), episode("b.rs", "test")]).await;
    let suggested = memory.suggest(&login(), &[Step::new("open").input("a.rs").ok("")], 1).await.unwrap();
    assert_eq!(suggested[0].tool, "edit");
}

#[tokio::test(start_paused = true)]
async fn an_episode_that_made_the_same_calls_weighs_more() {
    let memory = fresh().await;
    let begun = |input: &str| [Step::new("open").input(input).ok(""), Step::new("list").ok("")];
    let episode = |input: &str, next: &str| {
        let recording = Recording::new(login(), Outcome::success("")).steps(begun(input));
        recording.step(Step::new(next).ok(""))
    };
    record_all(&memory, [episode("a.rs", "write"), episode("b.rs", "edit")]).await;
    for (input, next) in [("a.rs", "write"), ("b.rs", "edit")] {
        assert_eq!(memory.suggest(&login(), &begun(input), 1).await.unwrap()[0].tool, next);
    }
}

#[tokio::test(start_paused = true)]
async fn the_prediction_follows_the_evidence() {
    let memory = fresh().await;
    let mut last = 0.5;
    for n in 1..=5_u32 {
        record_all(&memory, [worked("fix the login", &["grep", "edit"])]).await;
        let predicted = memory.predict(&login(), &[]).await.unwrap();
        assert!(predicted.probability > last && predicted.probability < 1.0, "{predicted:?}");
        assert!((predicted.base_rate - f64::from(n + 10) / f64::from(n + 20)).abs() < 1e-12);
        assert_eq!(predicted.reliable, n >= 3, "{predicted:?}");
        last = predicted.probability;
    }
    for _ in 0..5 {
        record_all(&memory, [failed("fix the login", &["guess"])]).await;
        let predicted = memory.predict(&login(), &[]).await.unwrap();
        assert!(predicted.probability < last && predicted.probability > 0.0, "{predicted:?}");
        last = predicted.probability;
    }
    let after = async |tool| memory.predict(&login(), &[Step::new(tool).ok("")]).await.unwrap();
    let (good, bad) = (after("grep").await, after("guess").await);
    assert!(good.by_steps > good.base_rate && good.probability > bad.probability, "{good:?} {bad:?}");
    assert!(good.by_similar > bad.by_similar, "begun alike: {good:?} {bad:?}");
}

#[tokio::test(start_paused = true)]
async fn similar_episodes_move_the_prediction() {
    let memory = fresh().await;
    let good = (0..4).map(|_| worked("fix the login", &["grep"]));
    let bad = (0..4).map(|_| failed("deploy the server", &["grep"]));
    record_all(&memory, good.chain(bad)).await;
    let like = async |text| memory.predict(&Task::new(text), &[]).await.unwrap();
    let (good, bad) = (like("fix the login").await, like("deploy the server").await);
    assert_eq!((good.base_rate, bad.base_rate), (0.5, 0.5));
    assert!(good.by_similar > 0.8 && good.probability > 0.65, "{good:?}");
    assert!(bad.by_similar < 0.2 && bad.probability < 0.35, "{bad:?}");
    let mut open = memory.start(Task::new("fix the login")).await.unwrap();
    assert_eq!(open.predict().await.unwrap(), good);
}

/// The formula by hand, without similar episodes.
#[tokio::test(start_paused = true)]
async fn without_similar_episodes_the_state_decides() {
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let builder = Memory::builder().store(InMemoryStore::new()).embedder(Arc::clone(&embedder));
    let memory = builder.build().await.unwrap();
    let run = |input: &str, outcome| {
        let steps = [Step::new("open").input(input).ok("x"), Step::new("edit").input("now").ok("y")];
        Recording::new(Task::new("a task"), outcome).steps(steps)
    };
    let good = (0..6).map(|_| run(r#"{"path": 1}"#, Outcome::success("")));
    let bad = (0..2).map(|_| run("a file", Outcome::failure("")));
    record_all(&memory, good.chain(bad)).await;
    embedder.script(EmbedderFault::Fail(lost()));
    let zebra = Task::new("zebra");
    let odds = |p: f64| (p / (1.0 - p)).ln();
    let sure = |odds: f64| 1.0 / (1.0 + (-odds).exp());
    // Six of eight succeeded, beside ten of twenty that every domain starts with. All eight got as far, with such a step.
    let base = (6.0 + 10.0) / (8.0 + 20.0);
    let begun = (6.0 + 3.0 * base) / (8.0 + 3.0);
    let same = (6.0 + 20.0 * begun) / (8.0 + 20.0);
    for (input, good, trials) in [(r#"{"path": 7}"#, 6.0, 6.0), ("a file", 0.0, 2.0), ("other", 0.0, 0.0)] {
        let shape = (good + 20.0 * begun) / (trials + 20.0);
        let same_state = (0.65 + 0.3) * (odds(same) - odds(begun));
        let expected = sure(odds(begun) + same_state + 0.75 * (odds(shape) - odds(begun)));
        let predicted = memory.predict(&zebra, &[Step::new("open").input(input).ok("z")]).await.unwrap();
        assert!((predicted.base_rate - base).abs() < 1e-12 && (predicted.by_similar - begun).abs() < 1e-12);
        assert!((predicted.probability - expected).abs() < 1e-12, "{predicted:?}, not {expected}");
        assert_eq!(predicted.probability, predicted.by_steps);
    }
}

#[tokio::test(start_paused = true)]
async fn an_episode_that_has_ended_is_judged_by_its_end() {
    let memory = fresh().await;
    let ended = |input: &str| [Step::new("search").ok("found"), Step::new("finish").input(input).ok("")];
    let run = |input: &str, outcome| Recording::new(login(), outcome).steps(ended(input));
    for _ in 0..10 {
        record_all(&memory, [run("yes", Outcome::success("")), run("I do not know that", Outcome::failure(""))]).await;
    }
    let mut judged = Vec::new();
    for input in ["yes", "I do not know that"] {
        let finished = memory.predict_finished(&login(), &ended(input)).await.unwrap();
        let mut open = memory.start(login()).await.unwrap();
        for step in ended(input) {
            open.step(step).await.unwrap();
        }
        assert_eq!(open.predict_finished().await.unwrap(), finished);
        assert_ne!(open.predict().await.unwrap(), finished, "it may go on");
        judged.push(finished.probability);
    }
    assert!(judged[0] > 0.55 && judged[1] < 0.45, "{judged:?}");
}

/// Ten runs of one other task are one thing to learn about tasks, not ten.
#[tokio::test(start_paused = true)]
async fn runs_of_one_other_task_share_a_voice() {
    let memory = fresh().await;
    let many = (0..10).map(|_| failed("fix the login page", &["grep"]));
    record_all(&memory, many.chain([worked("fix the login form", &["grep"])])).await;
    let predicted = memory.predict(&Task::new("fix the login menu"), &[]).await.unwrap();
    assert!(predicted.by_similar > 0.3, "one task went well, one went wrong: {predicted:?}");
    let own = memory.predict(&Task::new("fix the login page"), &[]).await.unwrap();
    assert!(own.by_similar < 0.1, "its own runs each count: {own:?}");
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_repeated_call_is_learned_apart() {
    let memory = fresh().await;
    let test = || Step::new("test").input("all").ok("3 failed");
    let once = |result: &str| Recording::new(Task::new("a"), Outcome::success("")).steps([test(), Step::new(result)]);
    let again = || once("edit").steps([Step::new("list").ok("x"), test(), Step::new("ask")]);
    record_all(&memory, (0..4).flat_map(|_| [once("edit"), again()])).await;
    let zebra = Task::new("zebra");
    let next = async |steps: &[Step]| memory.suggest(&zebra, steps, 100).await.unwrap();
    let first = next(&[Step::new("open").ok(""), test()]).await;
    let second = next(&[test(), Step::new("open").ok(""), test()]).await;
    assert_distribution(&first, 4);
    assert_distribution(&second, 4);
    let of = |suggested: &[Suggestion], tool: &str| suggested.iter().find(|one| one.tool == tool).unwrap().clone();
    assert!(of(&first, "ask").probability < of(&second, "ask").probability / 1.3, "{first:#?} {second:#?}");
    assert!(of(&first, "edit").probability > of(&second, "edit").probability * 1.3, "{first:#?} {second:#?}");
    let reason = of(&second, "ask").reasons.into_iter().find(|reason| matches!(reason, Reason::Decision { .. }));
    let Some(Reason::Decision { pattern, after, support, of: all }) = reason else { panic!("{second:#?}") };
    assert_eq!(after, "test > call again > result again");
    assert_eq!((support.trials, support.successes, all), (4.0, 4.0, 4.0));
    assert!(memory.patterns().await.unwrap().iter().any(|found| found.id == pattern));
    assert!(!first.iter().flat_map(|one| &one.reasons).any(|reason| matches!(reason, Reason::Decision { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_made_is_not_needed_twice() {
    let memory = fresh().await;
    let open = |input: &str| Step::new("open").input(input).ok(input);
    let run = [open("a"), open("b"), Step::new("edit").input("a").ok("")];
    record_all(&memory, [Recording::new(login(), Outcome::success("")).steps(run)]).await;
    let next = async |steps: &[Step]| memory.suggest(&login(), steps, 1).await.unwrap()[0].tool.clone();
    let wait = || Step::new("wait").ok("");
    assert_eq!(next(&[open("y"), wait(), open("z")]).await, "open");
    assert_eq!(next(&[open("b"), wait(), open("z")]).await, "edit", "b is open already");
}

#[tokio::test(start_paused = true)]
async fn suggestions_tell_how_the_tool_worked_here() {
    let memory = fresh().await;
    let good = (0..3).map(|_| worked("fix the login", &["grep", "edit"]));
    let bad = [failed("fix the login", &["edit", "read"]), failed("fix the login", &["grep", "read"])];
    record_all(&memory, good.chain(bad)).await;
    let suggested = memory.suggest(&login(), &[Step::new("grep").ok("")], 100).await.unwrap();
    let worked = |tool: &str| {
        let found = suggested.iter().find(|suggestion| suggestion.tool == tool).unwrap().worked;
        (found.episodes, found.trials, found.successes)
    };
    assert_eq!(worked("edit"), (3.0, 3.0, 3.0), "after grep, where three episodes took it; elsewhere it failed once");
    assert_eq!(worked("read"), (2.0, 2.0, 0.0), "anywhere, for want of a quorum after grep");
}

#[tokio::test(start_paused = true)]
async fn it_abstains_below_the_threshold() {
    let over = async |threshold| {
        let builder = Memory::builder().store(InMemoryStore::new()).clock(clock()).abstain_below(threshold);
        builder.build().await
    };
    for (threshold, abstains) in [(0.0, false), (0.3, false), (0.99, true)] {
        let memory = over(threshold).await.unwrap();
        record_all(&memory, [worked("fix the login", &["grep"]), worked("fix the login", &["read"])]).await;
        assert_eq!(memory.suggest(&login(), &[], 1).await.unwrap().is_empty(), abstains, "{threshold}");
    }
    for threshold in [-0.1, 1.1, f64::NAN] {
        let error = over(threshold).await.unwrap_err().to_string();
        assert!(error.contains("abstain_below") && error.contains(&threshold.to_string()) && error.contains("0..=1"));
    }
}

/// Bug: evidence so old that its weight rounds to zero made every probability NaN.
#[tokio::test(start_paused = true)]
async fn evidence_that_has_faded_away_leaves_a_distribution() {
    let clock = clock();
    let second = TimeDelta::seconds(1);
    let learner = Learner::default().with_bucket(second).with_half_life(second);
    let builder = Memory::builder().store(InMemoryStore::new()).clock(Arc::clone(&clock)).learner(learner);
    let memory = builder.build().await.unwrap();
    record_all(&memory, [worked("fix the login", &["grep", "edit"])]).await;
    clock.advance(TimeDelta::days(1));
    assert_distribution(&memory.suggest(&login(), &[], 100).await.unwrap(), 2);
    record_all(&memory, [worked("fix the login", &["read"])]).await;
    let suggested = memory.suggest(&login(), &[Step::new("grep").ok("")], 100).await.unwrap();
    assert_distribution(&suggested, 3);
    assert!(memory.predict(&login(), &[Step::new("grep").ok("")]).await.unwrap().probability.is_finite());
}
