//! Moving to another vector space: what the copy has, what it goes on from, and what is refused.

use std::sync::Arc;

use chrono::TimeDelta;
use memory_core::testkit::generated::{Backwards, Dice, WORDS, text};
use memory_core::testkit::{EmbedderFault, Fault, FaultyEmbedder, Gate, Operation, samples};
use memory_core::{
    Embedder, ErrorKind, HashEmbedder, Key, Memory, MemoryStore, MemoryStoreExt, NewNote, NoteChange, Outcome, Record,
    RecordKind, Recording, Reembedded, Scan, Step, Task,
};

use crate::notes::{at, id_of, tell};
use crate::{Faulty, Manual, clock, count, faulty, fresh, lost, opened, record_all};

fn numbered(n: u32) -> Recording {
    Recording::from(&samples::episode(n, &format!("make test {n} pass")))
}

async fn over(store: &Faulty, embedder: impl Embedder, clock: &Manual) -> Memory {
    let builder = Memory::builder().store(Arc::clone(store)).embedder(embedder).clock(Arc::clone(clock)).seed(1);
    builder.build().await.unwrap()
}

async fn old() -> (Faulty, Manual, Memory) {
    let (store, clock) = (faulty(), clock());
    let memory = over(&store, HashEmbedder::new(), &clock).await;
    (store, clock, memory)
}

async fn new(store: &Faulty) -> Memory {
    over(store, Backwards::default(), &clock()).await
}

async fn reembed(memory: &Memory, into: &Faulty) -> Reembedded {
    memory.reembed(Arc::clone(into), Backwards::default()).await.unwrap()
}

async fn refused(memory: &Memory, into: &Faulty, embedder: impl Embedder) -> (ErrorKind, String) {
    let error = memory.reembed(Arc::clone(into), embedder).await.unwrap_err();
    (error.kind(), error.to_string())
}

/// Everything that is not derived, in the order of the store; with its vectors or without.
async fn records(store: &dyn MemoryStore, vectors: bool) -> Vec<Record> {
    let mut records = Vec::new();
    for kind in [RecordKind::Episode, RecordKind::Note, RecordKind::Open, RecordKind::Step] {
        records.extend(store.scan_all(Scan::new(kind)).await.unwrap().into_iter().map(|stored| stored.record));
    }
    for record in records.iter_mut().filter(|_| !vectors) {
        match record {
            Record::Episode(logged) => logged.vector = None,
            Record::Note(stored) => stored.vector = None,
            _ => {}
        }
    }
    records
}

/// Checks that a store is the copy of another one, with all vectors of the new space.
async fn assert_copied(from: &Faulty, copy: &Faulty) {
    assert_eq!(records(from, false).await, records(copy, false).await);
    for record in records(copy, true).await {
        let (text, vector) = match &record {
            Record::Episode(logged) => (&logged.episode.task.text, &logged.vector),
            Record::Note(stored) => (&stored.note.text, &stored.vector),
            _ => continue,
        };
        let embedded = Backwards::default().embed(memory_core::Role::Document, &[text]).await.unwrap();
        assert_eq!(vector.as_ref(), embedded.first(), "{text}");
    }
}

/// Records, tells and leaves open the same in any memory.
async fn live(memory: &Memory) {
    record_all(memory, (1..=150).map(numbered)).await;
    for scope in ["acme", "acme/coder/s-1", "acme/coder/s-2"] {
        tell(&at(memory, scope), "run the linter").await;
        tell(&at(memory, scope), "Use tabs, not spaces").await;
    }
    at(memory, "acme").remember(NewNote::new("gone soon").expires_at(samples::time(50))).await.unwrap();
    record_all(&at(memory, "acme/coder"), (151..=160).map(numbered)).await;
    let mut open = opened(memory).await;
    open.step(Step::new("grep").input("login").ok("src/auth.rs:42")).await.unwrap();
    open.checkpoint("half-way").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_what_the_new_embedder_would_have_made_from_the_start() {
    let (store, _clock, memory) = old().await;
    let (copy, reference) = (faulty(), faulty());
    live(&memory).await;
    let always = new(&reference).await;
    live(&always).await;
    let done = reembed(&memory, &copy).await;
    assert_eq!((done.episodes, done.notes, done.deleted, done.open_episodes), (160, 9, 0, 1));
    assert_eq!(done.texts, 163, "texts that come together are embedded once");
    assert_eq!(done.upto, store.health().await.unwrap().version);
    assert_copied(&store, &copy).await;
    let [mut copied, mut recorded] = [records(&*copy, true).await, records(&*reference, true).await];
    for record in copied.iter_mut().chain(&mut recorded) {
        // Whose it is.
        if let Record::Open(open) = record {
            open.lease = None;
        }
    }
    assert!(copied == recorded);

    let moved = new(&copy).await;
    for scope in ["default", "acme", "acme/coder"] {
        let [memory, moved, always] = [&memory, &moved, &always].map(|memory| at(memory, scope));
        assert_eq!(moved.patterns().await.unwrap(), memory.patterns().await.unwrap());
        assert_eq!(moved.heuristics().await.unwrap(), memory.heuristics().await.unwrap());
        let task = Task::new("make test 3 pass");
        let found = moved.recall(&task, 20).await.unwrap();
        assert_eq!(found.episodes.len(), always.recall(&task, 20).await.unwrap().episodes.len());
        for (found, expected) in found.episodes.iter().zip(&always.recall(&task, 20).await.unwrap().episodes) {
            assert_eq!((&found.episode, &found.parts), (&expected.episode, &expected.parts));
        }
        assert_eq!(moved.suggest(&task, &[], 5).await.unwrap(), always.suggest(&task, &[], 5).await.unwrap());
        let [found, expected] = [
            moved.recall_notes("tabs or spaces", 9).await.unwrap(),
            always.recall_notes("tabs or spaces", 9).await.unwrap(),
        ];
        assert_eq!(found.notes.len(), expected.notes.len());
        for (found, expected) in found.notes.iter().zip(&expected.notes) {
            assert_eq!((&found.note, &found.parts), (&expected.note, &expected.parts));
        }
    }
    assert_eq!(moved.rebuild().await.unwrap().repaired, 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_call_takes_in_what_came_since() {
    let (store, clock, memory) = old().await;
    let copy = faulty();
    live(&memory).await;
    reembed(&memory, &copy).await;
    // The copy has learned from what is deleted afterwards.
    let moved = new(&copy).await;
    moved.project().await.unwrap();

    memory.delete(samples::episode_id(7)).await.unwrap();
    memory.delete(samples::episode_id(8)).await.unwrap();
    record_all(&memory, [numbered(200), Recording::from(&samples::episode(8, "another task of the same id"))]).await;
    let acme = at(&memory, "acme");
    acme.forget(id_of(&acme, "run the linter")).await.unwrap();
    tell(&acme, "use tabs not spaces").await;
    let changed = id_of(&acme, "gone soon");
    acme.update_note(changed, NoteChange::new().text("here to stay")).await.unwrap();
    let open = memory.open_episodes().await.unwrap()[0].id;
    clock.advance(TimeDelta::hours(1));
    memory.resume(open).await.unwrap().complete(Outcome::success("done")).await.unwrap();
    drop(opened(&memory).await);

    let done = reembed(&memory, &copy).await;
    assert_eq!((done.episodes, done.notes, done.deleted, done.open_episodes), (3, 2, 3, 2), "{done:?}");
    assert_copied(&store, &copy).await;
    assert_eq!(moved.patterns().await.unwrap(), memory.patterns().await.unwrap());
    assert_eq!(moved.rebuild().await.unwrap().repaired, 0);
    let embedder = Arc::new(FaultyEmbedder::new(Backwards::default()));
    let again = memory.reembed(Arc::clone(&copy), Arc::clone(&embedder)).await.unwrap();
    assert_eq!((again.episodes, again.notes, again.deleted, again.open_episodes), (0, 0, 0, 0));
    assert_eq!((again.upto, embedder.calls()), (store.health().await.unwrap().version, 0));

    // The copy can be copied on, back to the first space.
    let third = faulty();
    let back = moved.reembed(Arc::clone(&third), HashEmbedder::new()).await.unwrap();
    assert_eq!(back.episodes, 161);
    assert_eq!(records(&*third, true).await, records(&*store, true).await);
}

#[tokio::test(start_paused = true)]
async fn what_did_not_come_from_here_is_refused() {
    let (store, _, memory) = old().await;
    let other = fresh().await;
    record_all(&memory, (1..4).map(numbered)).await;
    record_all(&other, (1..4).map(numbered)).await;
    // A store of another space, even of the same length, is left as it is.
    let claimed = faulty();
    over(&claimed, HashEmbedder::new(), &clock()).await;
    assert_eq!(refused(&memory, &claimed, Backwards::default()).await.0, ErrorKind::SpaceMismatch);
    assert_eq!(count(&*claimed, RecordKind::Episode).await, 0);
    // The store itself, in its own space.
    reembed(&memory, &faulty()).await;
    let (kind, told) = refused(&memory, &store, HashEmbedder::new()).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert_eq!(told, "reembed: invalid value: into is the store of this memory; allowed: another store");
    // What others recorded.
    let used = faulty();
    record_all(&new(&used).await, [numbered(9)]).await;
    let (kind, told) = refused(&memory, &used, Backwards::default()).await;
    assert_eq!(kind, ErrorKind::Foreign);
    assert!(told.contains("1 episodes, 0 notes and 0 open episodes are in the store that"), "{told}");
    // A copy of another memory.
    let copy = faulty();
    reembed(&memory, &copy).await;
    assert_eq!(refused(&other, &copy, Backwards::default()).await.0, ErrorKind::Foreign);
    assert_eq!(refused(&memory, &copy, HashEmbedder::new()).await.0, ErrorKind::SpaceMismatch);
    // A copy that is put to use is one no more; what it lets go is its own business.
    let moved = new(&copy).await;
    moved.delete(samples::episode_id(1)).await.unwrap();
    assert_eq!(reembed(&memory, &copy).await.episodes, 0);
    tell(&moved, "it is my turn now").await;
    let (kind, told) = refused(&memory, &copy, Backwards::default()).await;
    assert_eq!((kind, told.contains("was put by others into the store that")), (ErrorKind::Foreign, true), "{told}");
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_it_goes_on_from_the_last_batch() {
    let (store, _, memory) = old().await;
    let copy = faulty();
    live(&memory).await;
    let embedder = Arc::new(FaultyEmbedder::new(Backwards::default()));
    for fault in [EmbedderFault::WrongCount, EmbedderFault::WrongLength] {
        embedder.script(fault);
        assert_eq!(refused(&memory, &copy, Arc::clone(&embedder)).await.0, ErrorKind::Invalid);
    }
    assert_eq!(count(&*copy, RecordKind::Episode).await, 0);
    // The answer to the second batch is lost: it is there.
    let commits = copy.calls(Operation::Commit);
    copy.script(Operation::Commit, commits + 2, Fault::After(lost()));
    let (kind, told) = refused(&memory, &copy, Arc::clone(&embedder)).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(told.contains("episodes and 0 notes were copied before"), "{told}");
    assert!(count(&*copy, RecordKind::Episode).await > 100, "{told}");
    embedder.script(EmbedderFault::Fail(lost()));
    assert_eq!(refused(&memory, &copy, Arc::clone(&embedder)).await.0, ErrorKind::Unavailable);
    let done = memory.reembed(Arc::clone(&copy), Arc::clone(&embedder)).await.unwrap();
    assert!(done.episodes < 60, "{done:?}");
    assert_copied(&store, &copy).await;
    let fields = copy.get(&[Key::Space]).await.unwrap();
    assert!(
        matches!(&fields[0].as_ref().unwrap().record, Record::Space(space) if space == Backwards::default().space())
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_read_and_written_while_it_is_copied() {
    let (store, _, memory) = old().await;
    let copy = faulty();
    record_all(&memory, (1..=100).map(numbered)).await;
    let gate = Gate::new();
    copy.script(Operation::Commit, 2, Fault::Hold(gate.clone()));
    let copying = {
        let (memory, copy) = (memory.clone(), Arc::clone(&copy));
        tokio::spawn(async move { reembed(&memory, &copy).await })
    };
    gate.reached().await;
    record_all(&memory, (101..=300).map(numbered)).await;
    memory.delete(samples::episode_id(1)).await.unwrap();
    tell(&memory, "use tabs").await;
    assert_eq!(memory.recall(&Task::new("make test 150 pass"), 5).await.unwrap().episodes.len(), 5);
    gate.open();
    let first = copying.await.unwrap();
    assert!(first.upto < store.health().await.unwrap().version, "it ends although others go on");
    let second = reembed(&memory, &copy).await;
    assert_eq!(first.episodes + second.episodes, 300 - u64::from(first.deleted + second.deleted == 0));
    assert_copied(&store, &copy).await;
}

/// Whatever happens between the calls, and whatever the copy has learned, it is in the end what the memory is.
#[tokio::test(start_paused = true)]
async fn a_copy_follows_whatever_happens() {
    for seed in 0..20 {
        let mut dice = Dice::new(77 + seed);
        let (store, clock, memory) = old().await;
        let copy = faulty();
        reembed(&memory, &copy).await;
        let moved = new(&copy).await;
        let mut failures = 0;
        for _ in 0..dice.roll(150) {
            let (scoped, n) = (at(&memory, dice.pick(&["acme", "acme/a", "acme/a/s"])), dice.roll(12));
            let id = samples::episode_id(u32::try_from(n).unwrap());
            match dice.roll(12) {
                0..=3 => {
                    let one = samples::episode(u32::try_from(n).unwrap(), &text(&mut dice));
                    let _ = scoped.record(Recording::from(&one)).await;
                }
                4 => drop(scoped.delete(id).await),
                5 | 6 => drop(scoped.remember(NewNote::new(dice.pick(WORDS))).await),
                7 => drop(scoped.forget(id_of(&scoped, dice.pick(WORDS))).await),
                8 => {
                    let mut open = opened(&scoped).await;
                    open.step(Step::new("grep").ok("")).await.unwrap();
                    if dice.roll(2) == 0 {
                        open.complete(Outcome::failure("no")).await.unwrap();
                    }
                }
                9 => {
                    clock.advance(TimeDelta::minutes(6));
                    memory.sweep().await.unwrap();
                }
                10 => drop(moved.project().await),
                _ => {
                    let commits = copy.calls(Operation::Commit) + dice.roll(3) as u64;
                    copy.script(Operation::Commit, commits, Fault::After(lost()));
                    failures += usize::from(memory.reembed(Arc::clone(&copy), Backwards::default()).await.is_err());
                }
            }
        }
        let done = loop {
            match memory.reembed(Arc::clone(&copy), Backwards::default()).await {
                Ok(done) => break done,
                Err(_) => failures += 1,
            }
        };
        assert_eq!(done.upto, store.health().await.unwrap().version, "seed {seed}, {failures} failures");
        assert_copied(&store, &copy).await;
        for scope in ["acme", "acme/a", "acme/a/s"] {
            let [memory, moved] = [&memory, &moved].map(|memory| at(memory, scope));
            assert_eq!(moved.patterns().await.unwrap(), memory.patterns().await.unwrap(), "seed {seed}");
        }
        assert_eq!(moved.rebuild().await.unwrap().repaired, 0, "seed {seed}");
    }
}
