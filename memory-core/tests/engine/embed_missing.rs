//! Vectors that are filled in after the embedder failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memory_core::testkit::invariants::stored_patterns;
use memory_core::testkit::{EmbedderFault, Fault, FaultyEmbedder, Gate, Operation};
use memory_core::{
    Embedder, Error, ErrorKind, HashEmbedder, Key, Learner, Memory, MemoryStore, MemoryStoreExt, NewNote, NoteFilter,
    Quota, QuotaStore, RecordKind, Result, Role, Scope, Search, Vector, VectorSpace,
};

use super::{Faulty, Manual, clock, count, faulty, fold_of_log, job, pass, record_all, worked};

/// A hash embedder that is down, or refuses some texts.
#[derive(Debug)]
struct Shaky {
    inner: HashEmbedder,
    down: AtomicBool,
    calls: AtomicUsize,
}

impl std::fmt::Display for Shaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shaky")
    }
}

impl Shaky {
    fn new(down: bool) -> Arc<Self> {
        Arc::new(Self { inner: HashEmbedder::new(), down: down.into(), calls: AtomicUsize::default() })
    }

    fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

#[async_trait::async_trait]
impl Embedder for Shaky {
    fn space(&self) -> &VectorSpace {
        self.inner.space()
    }

    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.health().await?;
        if texts.iter().any(|text| text.contains("refused")) {
            return Err(Error::invalid("texts[0]", "one of those", "others"));
        }
        self.inner.embed(role, texts).await
    }

    async fn health(&self) -> Result<()> {
        match self.down.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Unavailable, "the model is not loaded").with_temporary(true)),
            false => Ok(()),
        }
    }
}

async fn engine(store: &Faulty, embedder: impl Embedder, clock: &Manual) -> Memory {
    Memory::builder().store(Arc::clone(store)).embedder(embedder).clock(Arc::clone(clock)).build().await.unwrap()
}

/// How many episodes and notes a search by the vector of this text finds.
async fn found_by_vector(store: &dyn MemoryStore, text: &str) -> [usize; 2] {
    let vector = HashEmbedder::new().embed(Role::Query, &[text]).await.unwrap().remove(0);
    let search = Search::new(Scope::default()).vector(Some(vector));
    let searches = [search.clone(), search.for_notes(NoteFilter::default())];
    let [episodes, notes] = searches.map(|search| async move { store.search(&search).await.unwrap().len() });
    [episodes.await, notes.await]
}

/// Three episodes, one of which went through steps, and two notes.
async fn write(memory: &Memory) {
    record_all(memory, [worked("make the login test pass", &["grep", "edit"]), worked("deploy the server", &["ssh"])])
        .await;
    let mut open = super::opened(memory).await;
    open.step(memory_core::Step::new("grep").ok("found")).await.unwrap();
    assert!(open.complete(memory_core::Outcome::success("")).await.unwrap().degraded.is_some());
    for text in ["the login test is flaky", "deploys need a token"] {
        let told = memory.remember(NewNote::new(text)).await.unwrap();
        assert!(told.degraded.unwrap().contains("not loaded"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_while_the_embedder_was_down_gets_its_vector_when_it_is_up_again() {
    let (store, embedder, clock) = (faulty(), Shaky::new(true), clock());
    let memory = engine(&store, Arc::clone(&embedder), &clock).await;
    write(&memory).await;
    assert_eq!(found_by_vector(&*store, "login test").await, [0, 0]);
    let recalled = memory.recall(&memory_core::Task::new("make the login test pass again"), 5).await.unwrap();
    assert!(recalled.degraded.unwrap().contains("not loaded"));
    assert!(!recalled.episodes.is_empty(), "recall goes on by words");

    pass(&clock, 5).await;
    let told = job(&memory, "embedding").await;
    assert_eq!(told.queue, 5);
    assert!(told.last_beat.is_some() && told.last_error.unwrap().contains("not loaded"));
    assert!(memory.health().await.unwrap().embedder_error.is_some());
    memory.project().await.unwrap();
    let learned = stored_patterns(&*store).await;

    embedder.set_down(false);
    pass(&clock, 5).await;
    let told = job(&memory, "embedding").await;
    assert_eq!((told.queue, told.last_error), (0, None));
    assert_eq!(memory.health().await.unwrap().embedder_error, None);
    assert_eq!(found_by_vector(&*store, "login test").await, [3, 2]);
    assert_eq!(memory.embed_missing().await.unwrap(), 0, "once");

    memory.project().await.unwrap();
    assert_eq!(stored_patterns(&*store).await, learned, "nothing is learned twice");
    assert_eq!(fold_of_log(&memory, &Learner::default()).await, learned);
}

/// The queue is in the store: the next engine goes on with it, and of several each fills in what is left.
#[tokio::test(start_paused = true)]
async fn another_engine_fills_in_what_one_left() {
    let (store, clock) = (faulty(), clock());
    let one = engine(&store, Shaky::new(true), &clock).await;
    write(&one).await;
    one.project().await.unwrap();
    let learned = stored_patterns(&*store).await;
    drop(one);
    assert_eq!(count(&*store, RecordKind::Unembedded).await, 5);
    let (two, three) =
        (engine(&store, HashEmbedder::new(), &clock).await, engine(&store, HashEmbedder::new(), &clock).await);
    let (by_two, by_three) = tokio::join!(two.embed_missing(), three.embed_missing());
    assert_eq!(by_two.unwrap() + by_three.unwrap(), 5);
    assert_eq!(count(&*store, RecordKind::Unembedded).await, 0);
    two.project().await.unwrap();
    assert_eq!(stored_patterns(&*store).await, learned);
}

/// An engine does not ask the store all the time what others may have left; within ten minutes it does.
#[tokio::test(start_paused = true)]
async fn an_engine_that_runs_already_fills_in_what_another_left() {
    let (store, clock) = (faulty(), clock());
    let idle = engine(&store, HashEmbedder::new(), &clock).await;
    pass(&clock, 5).await;
    let other = engine(&store, Shaky::new(true), &clock).await;
    write(&other).await;
    drop(other);
    pass(&clock, 540).await;
    assert_eq!(job(&idle, "embedding").await.queue, 5);
    pass(&clock, 60).await;
    assert_eq!(job(&idle, "embedding").await.queue, 0);
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_refused_does_not_hold_up_the_others() {
    let (store, embedder, clock) = (faulty(), Shaky::new(true), clock());
    let memory = engine(&store, Arc::clone(&embedder), &clock).await;
    record_all(&memory, (0..100).map(|n| worked(&format!("task {n}"), &["grep"]))).await;
    record_all(&memory, [worked("a refused task", &["grep"])]).await;
    embedder.set_down(false);
    let error = memory.embed_missing().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("the text of "), "{error}");
    let told = job(&memory, "embedding").await;
    assert_eq!(told.queue, 1);
    assert!(told.last_error.unwrap().contains("one of those"));
    // It is offered again every ten minutes.
    let before = embedder.calls();
    pass(&clock, 1800).await;
    assert!((3..=9).contains(&(embedder.calls() - before)), "{} times", embedder.calls() - before);
    assert!(job(&memory, "embedding").await.last_error.unwrap().contains("one of those"));
}

/// Bug: one scope at its quota kept all others from getting their vectors, and what they say was embedded again every three
/// seconds.
#[tokio::test(start_paused = true)]
async fn a_scope_without_room_does_not_hold_up_the_others() {
    let (store, clock) = (faulty(), clock());
    let full = memory_core::testkit::samples::scope("full");
    let down = engine(&store, Shaky::new(true), &clock).await;
    record_all(&down.in_scope(full.clone()), (0..3).map(|n| worked(&format!("task {n}"), &["grep"]))).await;
    record_all(&down, (0..100).map(|n| worked(&format!("task {n}"), &["grep"]))).await;
    drop(down);
    let embedder = Shaky::new(false);
    let bounded = QuotaStore::new(Arc::clone(&store), Quota::new()).with_scope(full, Quota::new().bytes(1));
    let builder = Memory::builder().store(bounded).embedder(Arc::clone(&embedder)).clock(Arc::clone(&clock));
    let memory = builder.build().await.unwrap();
    let error = memory.embed_missing().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error}");
    assert_eq!(job(&memory, "embedding").await.queue, 3);
    assert_eq!(found_by_vector(&*store, "task 1").await, [10, 0]);
    let before = embedder.calls();
    pass(&clock, 1800).await;
    assert!((4..=16).contains(&(embedder.calls() - before)), "{} times", embedder.calls() - before);
}

#[tokio::test(start_paused = true)]
async fn a_call_for_many_texts_is_one() {
    let (store, clock) = (faulty(), clock());
    let down = engine(&store, Shaky::new(true), &clock).await;
    record_all(&down, (0..128).map(|n| worked(&format!("task {n}"), &["grep"]))).await;
    drop(down);
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    embedder.script(EmbedderFault::WrongLength);
    let memory = engine(&store, Arc::clone(&embedder), &clock).await;
    // The answer that cannot be is asked for again text by text; the other half of the queue takes one call.
    assert_eq!(memory.embed_missing().await.unwrap(), 128);
    assert_eq!(embedder.calls(), 1 + 64 + 1);
}

/// What is deleted, changed or written while it is embedded is then what it was made, with the vector of what it is.
#[tokio::test(start_paused = true)]
async fn what_changes_meanwhile_is_not_undone() {
    let (store, clock) = (faulty(), clock());
    let down = engine(&store, Shaky::new(true), &clock).await;
    record_all(&down, [worked("keep this", &["grep"]), worked("delete this", &["ssh"])]).await;
    let note = down.remember(NewNote::new("an old text")).await.unwrap().id;
    drop(down);
    let memory = engine(&store, HashEmbedder::new(), &clock).await;
    let gate = Gate::new();
    store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let other = async {
        gate.reached().await;
        let other = engine(&store, HashEmbedder::new(), &clock).await;
        let all = store.scan_all(memory_core::Scan::new(RecordKind::Episode)).await.unwrap();
        let gone = all.iter().find_map(|stored| match &stored.record {
            memory_core::Record::Episode(logged) if logged.episode.task.text == "delete this" => {
                Some(logged.episode.id)
            }
            _ => None,
        });
        other.delete(gone.unwrap()).await.unwrap();
        other.forget(note).await.unwrap();
        gate.open();
        gone.unwrap()
    };
    let (embedded, gone) = tokio::join!(memory.embed_missing(), other);
    assert_eq!(embedded.unwrap(), 1);
    assert!(store.get_one(Key::Episode(gone)).await.unwrap().is_none());
    assert!(store.get_one(Key::Note(note)).await.unwrap().is_none());
    assert_eq!(count(&*store, RecordKind::Unembedded).await, 0);
    assert_eq!(found_by_vector(&*store, "keep").await, [1, 0]);
    memory.project().await.unwrap();
    assert_eq!(stored_patterns(&*store).await, fold_of_log(&memory, &Learner::default()).await);
}

/// An answer that is lost after all was written: tried again, it is not written twice.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_harmless() {
    let (store, clock) = (faulty(), clock());
    let down = engine(&store, Shaky::new(true), &clock).await;
    record_all(&down, [worked("make it work", &["grep"])]).await;
    drop(down);
    let memory = engine(&store, HashEmbedder::new(), &clock).await;
    store.script_next(Operation::Commit, Fault::After(super::lost()));
    assert_eq!(memory.embed_missing().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(memory.embed_missing().await.unwrap(), 0);
    assert_eq!(found_by_vector(&*store, "make it work").await, [1, 0]);
    memory.project().await.unwrap();
    assert_eq!(stored_patterns(&*store).await, fold_of_log(&memory, &Learner::default()).await);
}
