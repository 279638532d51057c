//! What recalls show or withhold, what agents say about it, and what it did to the outcome.

use std::collections::BTreeSet;
use std::sync::Arc;

use memory_core::testkit::{Fault, Operation};
use memory_core::{
    Basis, ErrorKind, Feedback, InMemoryStore, Key, Memory, MemoryBuilder, MemoryStoreExt, NewNote, NoteId, Outcome,
    Record, Recording, Step, Task,
};

use super::{clock, faulty, lost, over, record_all, worked};

fn task(number: usize) -> Task {
    let names = ["login", "invoice", "cache", "parser", "router", "mailer", "queue", "report"];
    Task::new(format!("repair {}", names[number % 8])).domain("web")
}

/// A memory that advises to begin with a test.
async fn advising(builder: impl Fn(MemoryBuilder) -> MemoryBuilder) -> Memory {
    let builder = builder(Memory::builder().store(InMemoryStore::new()).clock(clock()).seed(7));
    let memory = builder.build().await.unwrap();
    let runs = (0..64).map(|turn| {
        let tested = turn % 16 < 8;
        let outcome = if tested != (turn / 8 % 7 == 0) { Outcome::success("") } else { Outcome::failure("") };
        let tool = if tested { "test" } else { "read" };
        Recording::new(task(turn), outcome).steps([Step::new(tool), Step::new("edit")])
    });
    record_all(&memory, runs).await;
    memory
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_attributed_to_what_was_shown_exactly_once() {
    let memory = advising(|builder| builder).await;
    let mut episode = memory.start(task(0)).await.unwrap();
    assert_eq!(episode.receipt().await, None);
    let recalled = episode.recall(3).await.unwrap();
    episode.recall(3).await.unwrap();
    let receipt = episode.receipt().await.unwrap();
    let shown: Vec<_> = recalled.advice.iter().map(|advised| advised.heuristic.id).collect();
    assert!(!shown.is_empty() && !receipt.withheld && !recalled.withheld);
    assert!(shown.iter().all(|id| receipt.advice[id]) && receipt.advice.len() == shown.len());
    assert_eq!(receipt.episodes, recalled.episodes.iter().map(|recalled| recalled.episode.id).collect());
    episode.feedback(shown[0], Feedback::Used).await.unwrap();
    episode.step(Step::new("test").ok("")).await.unwrap();

    // The receipt is kept with the step: another handle has it.
    let resumed = memory.resume(episode.id()).await.unwrap();
    assert_eq!(resumed.receipt().await.unwrap().feedback[&shown[0]], Feedback::Used);
    episode.complete(Outcome::success("")).await.unwrap();
    episode.complete(Outcome::success("")).await.unwrap_err();
    let kept = memory.episode(episode.id()).await.unwrap().receipt.clone().unwrap();
    assert_eq!(kept.advice, receipt.advice);
    let patterns = memory.patterns().await.unwrap();
    assert_eq!(super::counts(&patterns, "exposure [memory]", "shown"), [1, 1, 1]);
    let of_advice = format!("exposure [advice > {}]", shown[0]);
    assert_eq!(super::counts(&patterns, &of_advice, "shown"), [1, 1, 1]);
    assert_eq!(super::counts(&patterns, &of_advice, "used"), [1, 1, 1]);

    memory.delete(episode.id()).await.unwrap();
    let left = memory.patterns().await.unwrap();
    assert!(left.iter().all(|pattern| !pattern.to_string().starts_with("exposure")), "nothing is left of it");
}

#[tokio::test(start_paused = true)]
async fn feedback_is_about_what_was_shown() {
    let memory = advising(|builder| builder).await;
    let mut episode = memory.start(task(0)).await.unwrap();
    let advice = memory.heuristics().await.unwrap()[0].id;
    let error = episode.feedback(advice, Feedback::Harmful).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(&advice.to_string()), "{error}");
    episode.recall(1).await.unwrap();
    episode.feedback(advice, Feedback::Ignored).await.unwrap();
    episode.feedback(advice, Feedback::Harmful).await.unwrap();
    episode.complete(Outcome::success("")).await.unwrap();
    assert_eq!(episode.feedback(advice, Feedback::Used).await.unwrap_err().kind(), ErrorKind::EpisodeClosed);
    let patterns = memory.patterns().await.unwrap();
    let of_advice = format!("exposure [advice > {advice}]");
    assert_eq!(super::counts(&patterns, &of_advice, "harmful"), [1, 1, 1]);
    let said = patterns.iter().find(|pattern| pattern.to_string() == of_advice).unwrap();
    assert!(!said.branches.contains_key("ignored"), "what was said last counts");
}

#[tokio::test(start_paused = true)]
async fn holding_out_withholds_by_chance_and_uplift_compares() {
    let memory = advising(|builder| builder.hold_out(0.5)).await;
    let (mut withheld, mut less) = (0, 0);
    for turn in 0..200 {
        let mut episode = memory.start(task(turn)).await.unwrap();
        let recalled = episode.recall(3).await.unwrap();
        assert_eq!(episode.recall(3).await.unwrap().withheld, recalled.withheld, "decided once");
        let receipt = episode.receipt().await.unwrap();
        withheld += usize::from(recalled.withheld);
        if recalled.withheld {
            assert!(recalled.episodes.is_empty() && recalled.advice.is_empty() && recalled.pitfalls.is_empty());
        }
        less += usize::from(receipt.advice.values().any(|shown| !shown));
        // Shown memories help: three in four succeed instead of one in four.
        let success = turn % 4 == 0 || (!recalled.withheld && turn % 4 != 1);
        let (tool, outcome) = if success { ("test", Outcome::success("")) } else { ("read", Outcome::failure("")) };
        for tool in [tool, "edit"] {
            episode.step(Step::new(tool)).await.unwrap();
        }
        episode.complete(outcome).await.unwrap();
    }
    assert!((70..=130).contains(&withheld), "{withheld} of 200");
    assert!(less > 20, "of those shown something, single advice was withheld in {less}");
    let uplift = memory.uplift().await.unwrap();
    let overall = uplift.overall.unwrap();
    assert_eq!(overall.basis, Basis::Withheld);
    assert_eq!(
        [overall.shown.trials, overall.compared.trials].map(f64::round),
        [(200 - withheld) as f64, withheld as f64]
    );
    assert!(overall.interval.0 < 0.5 && 0.5 < overall.interval.1 && overall.interval.0 > 0.0, "{overall:?}");
    assert!(!uplift.heuristics.is_empty());
}

#[tokio::test(start_paused = true)]
async fn notes_are_in_the_receipt_and_withheld_with_the_rest() {
    let memory = advising(|builder| builder.hold_out(0.5)).await;
    let tell = async |text: &str| memory.remember(NewNote::new(text)).await.unwrap().id;
    let mut withheld = 0;
    for turn in 0..20 {
        let early = tell(&format!("repair the login with care, case {turn}")).await;
        let mut episode = memory.start(task(0)).await.unwrap();
        let recalled = episode.recall(3).await.unwrap();
        let shown: BTreeSet<NoteId> = recalled.notes.iter().map(|recalled| recalled.note.id).collect();
        assert_eq!(shown, if recalled.withheld { [].into() } else { [early].into() });
        assert_eq!(episode.receipt().await.unwrap().notes, shown);
        // What was shown stays, although it is forgotten; what another recall shows comes to it.
        memory.forget(early).await.unwrap();
        let late = tell(&format!("the login again, case {turn}")).await;
        episode.recall(3).await.unwrap();
        let shown: BTreeSet<NoteId> = if recalled.withheld { [].into() } else { [early, late].into() };
        assert_eq!(episode.receipt().await.unwrap().notes, shown);
        episode.complete(Outcome::success("")).await.unwrap();
        assert_eq!(memory.episode(episode.id()).await.unwrap().receipt.as_ref().unwrap().notes, shown);
        memory.forget(late).await.unwrap();
        withheld += usize::from(recalled.withheld);
    }
    assert!((1..20).contains(&withheld), "{withheld} of 20");
}

#[tokio::test(start_paused = true)]
async fn everything_can_be_held_out_and_nothing_by_default() {
    let memory = advising(|builder| builder.hold_out(1.0)).await;
    let episode = memory.start(task(0)).await.unwrap();
    assert!(episode.recall(3).await.unwrap().withheld);
    assert!(!memory.recall(&task(0), 3).await.unwrap().withheld, "asked without an episode, it answers");
    let memory = advising(|builder| builder).await;
    for turn in 0..50 {
        assert!(!memory.start(task(turn)).await.unwrap().recall(1).await.unwrap().withheld);
    }
    assert_eq!(memory.uplift().await.unwrap().overall, None, "nothing was withheld");
}

#[tokio::test(start_paused = true)]
async fn a_probability_out_of_range_is_refused() {
    for probability in [-0.1, 1.1, f64::NAN] {
        let error = Memory::builder().store(InMemoryStore::new()).hold_out(probability).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("hold_out") && error.to_string().contains("0..=1"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_kept_with_the_next_step_and_survives_a_lost_answer() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    record_all(&memory, [worked("repair login", &["look"])]).await;
    let mut episode = memory.start(Task::new("repair login")).await.unwrap();
    let episode_id = episode.id();
    let kept = async || match store.get_one(Key::Open(episode_id)).await.unwrap().unwrap().record {
        Record::Open(opened) => opened.receipt,
        other => panic!("{other:?}"),
    };
    store.script_next(Operation::Commit, Fault::After(lost()));
    episode.step(Step::new("look")).await.unwrap_err();
    episode.recall(1).await.unwrap();
    assert_eq!(kept().await, None, "it waits for the next write");
    // What is there is read again, without the receipt: only this engine knows it.
    episode.step(Step::new("look")).await.unwrap();
    episode.step(Step::new("edit")).await.unwrap();
    let receipt = kept().await.unwrap();
    assert_eq!((receipt.episodes.len(), episode.receipt().await), (1, Some(receipt.clone())));
    episode.complete(Outcome::success("")).await.unwrap();
    assert_eq!(memory.episode(episode.id()).await.unwrap().receipt, Some(receipt));
}
