//! Prompts: texts apart by NUL, which stand wherever a record may have text; then two bytes of budget.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use memory_core::testkit::prompts::check;
use memory_core::{
    EstimatedTokens, Freshness, InMemoryStore, Memory, Move, NewNote, Note, Outcome, Place, Recollection, Recording,
    Step, Task, TokenCounter as _,
};

use crate::runtime;

/// What is recalled of a small memory: something of everything.
static TEMPLATE: LazyLock<Recollection> = LazyLock::new(|| {
    let recollection = runtime().block_on(recalled()).unwrap();
    let Recollection { episodes, pitfalls, notes, advice, .. } = &recollection;
    assert!(![episodes.len(), pitfalls.len(), notes.len(), advice.len(), pitfalls[0].recoveries.len()].contains(&0));
    recollection
});

/// Eight tasks, on which it helps to look at the tests first, and whose error is repaired by an edit.
async fn recalled() -> memory_core::Result<Recollection> {
    let memory = Memory::builder().store(InMemoryStore::new()).build().await?;
    for (number, turn) in (0..8).flat_map(|number| (0..8).map(move |turn| (number, turn))) {
        let (tested, success) = (turn < 4, [true, true, true, false, true, false, false, false][turn]);
        let outcome = if success { Outcome::success("done") } else { Outcome::failure("no") };
        let first = Step::new(if tested { "test" } else { "read" }).ok("seen");
        let steps = [first, Step::new("build").error("it fails"), Step::new("edit").ok("done")];
        let task = Task::new(format!("repair login {number}")).domain("web");
        memory.record(Recording::new(task, outcome).steps(steps)).await?;
    }
    memory.remember(NewNote::new("repair the login tests").place(Place::new("chat", 1))).await?;
    memory.recall(&Task::new("repair login 1").domain("web"), 3).await
}

pub(crate) fn run(data: &[u8]) {
    let Some((data, budget)) = data.split_last_chunk::<2>() else { return };
    let data = String::from_utf8_lossy(data);
    let texts: Vec<&str> = data.split('\0').collect();
    let recollection = full_of(&texts);
    for budget in [usize::from(u16::from_be_bytes(*budget)), usize::MAX] {
        let prompt = recollection.to_prompt(budget);
        assert!(prompt.tokens <= budget);
        assert_eq!(prompt.tokens, if prompt.text.is_empty() { 0 } else { EstimatedTokens.count(&prompt.text) });
        assert!(budget < usize::MAX || prompt.left_out == 0, "there was room for all");
        check(&recollection, &prompt);
    }
}

/// The template with these texts, in turn, in place of its own.
fn full_of(texts: &[&str]) -> Recollection {
    let mut next = texts.iter().cycle().map(|text| (*text).to_owned());
    let mut text = || next.next().unwrap_or_default();
    let mut recollection = TEMPLATE.clone();
    recollection.query = text();
    for one in &mut recollection.episodes {
        let mut episode = (*one.episode).clone();
        (episode.task.text, episode.outcome.summary, episode.source.name) = (text(), text(), text());
        for step in &mut episode.steps {
            (step.tool, step.action, step.input, step.observation) = (text(), text(), text(), text());
        }
        (one.episode, one.freshness) = (Arc::new(episode), Freshness::Drifted(vec![text()]));
    }
    for pitfall in &mut recollection.pitfalls {
        (pitfall.tool, pitfall.error) = (text(), text());
        // Only the best is told, if it ever worked.
        pitfall.recoveries.retain(|recovery| !recovery.tools.is_empty() && recovery.support.successes > 0.0);
        pitfall.recoveries.truncate(1);
        pitfall.recoveries.iter_mut().for_each(|recovery| recovery.tools = text());
    }
    for one in &mut recollection.notes {
        let mut note = Note::clone(&one.note);
        (note.text, note.source, note.place) = (text(), text(), Some(Place::new(text(), 1)));
        one.note = Arc::new(note);
    }
    for one in &mut recollection.advice {
        let heuristic = &mut one.heuristic;
        heuristic.habit.tool = text();
        heuristic.habit.after = vec![Move::Ok(&text()).signature(), Move::Error(&text()).signature()];
        (heuristic.situation.domain, heuristic.situation.context) = (Some(text()), Some(text()));
        heuristic.situation.unless = BTreeSet::from([text()]);
    }
    recollection
}
