//! The projection beside the writers: what it does by itself, and what reads see before it has.

use std::sync::Arc;
use std::time::Duration;

use memory_core::testkit::{Fault, FaultyStore, Gate, Operation, samples};
use memory_core::{
    Batch, Changes, Commit, Cursor, ErrorKind, Hit, InMemoryStore, Key, Memory, MemoryStore, NewNote, Outcome, Page,
    Record, RecordKind, Result, Scan, Search, Step, StoreHealth, StoreInfo, Stored, Task, Version,
};

use crate::{counts, faulty, fold_of_log, fresh, lost, opened, over, record_all, stored, worked};

async fn behind(memory: &Memory) -> u64 {
    memory.health().await.unwrap().episodes_behind
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn record(memory: &Memory, count: usize) {
    record_all(memory, (0..count).map(|_| worked("fix", &["grep", "edit"]))).await;
}

#[tokio::test(start_paused = true)]
async fn the_projection_catches_up_by_itself() {
    for count in [1, 63, 64, 65, 300] {
        let memory = fresh().await;
        record(&memory, count).await;
        assert_eq!((behind(&memory).await, stored(&memory).await.patterns), (count as u64, 0));
        assert_eq!(counts(&memory.patterns().await.unwrap(), "transition []", "grep"), [count as u64; 3]);
        pass(1).await;
        assert_eq!(behind(&memory).await, 0, "after {count}");
        assert_eq!(stored(&memory).await.patterns, memory.patterns().await.unwrap().len() as u64);
        assert_eq!(memory.patterns().await.unwrap(), fold_of_log(&memory, memory.learner()).await);
        assert_eq!(memory.project().await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn many_completions_are_projected_without_waiting() {
    for (count, left) in [(12_287, 12_287), (12_288, 0)] {
        let memory = fresh().await;
        pass(1).await;
        record(&memory, count).await;
        for _ in 0..4_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(behind(&memory).await, left);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_engine_left_is_projected() {
    let store = InMemoryStore::new();
    record(&over(store.clone()).await, 3).await;
    let memory = over(store).await;
    assert_eq!(behind(&memory).await, 3);
    pass(1).await;
    assert_eq!(behind(&memory).await, 0);
}

#[tokio::test(start_paused = true)]
async fn projecting_says_how_many_it_took() {
    let memory = fresh().await;
    assert_eq!(memory.project().await.unwrap(), 0);
    record(&memory, 5).await;
    assert_eq!((memory.project().await.unwrap(), memory.project().await.unwrap()), (5, 0));
    record(&memory, 600).await;
    assert_eq!((memory.project().await.unwrap(), behind(&memory).await), (600, 0));
    assert_eq!(memory.patterns().await.unwrap(), fold_of_log(&memory, memory.learner()).await);
}

#[tokio::test(start_paused = true)]
async fn a_projection_that_fails_is_tried_again_by_itself() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    pass(1).await;
    record(&memory, 3).await;
    let next = store.calls(Operation::Commit) + 1;
    (next..next + 3).for_each(|n| store.script(Operation::Commit, n, Fault::Before(lost())));
    let expected = fold_of_log(&memory, memory.learner()).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!((store.calls(Operation::Commit), behind(&memory).await), (next, 3));
    assert_eq!(memory.patterns().await.unwrap(), expected);
    assert_eq!(memory.suggest(&Task::new("fix"), &[], 1).await.unwrap()[0].tool, "grep");
    assert_eq!(memory.project().await.unwrap_err().to_string(), "project: unavailable: scripted");
    pass(60).await;
    assert_eq!(behind(&memory).await, 0);
    assert_eq!(memory.patterns().await.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_projection_step_whose_answer_was_lost_counts_once() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    record(&memory, 3).await;
    store.script_next(Operation::Commit, Fault::After(lost()));
    memory.project().await.unwrap_err();
    assert_eq!(memory.project().await.unwrap(), 0);
    assert_eq!(counts(&memory.patterns().await.unwrap(), "transition []", "grep"), [3, 3, 3]);
}

/// Bug: the projection task woke itself ten times a second for ever, idle or failing.
#[tokio::test(start_paused = true)]
async fn an_idle_memory_leaves_the_store_alone() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    record(&memory, 3).await;
    pass(10).await;
    let calls = || [Operation::Get, Operation::Scan, Operation::Commit].map(|operation| store.calls(operation));
    // Expired notes, orphans and what has no vector are looked for six times an hour.
    let [gets, scans, commits] = calls();
    pass(3_600).await;
    assert_eq!(calls(), [gets, scans + 18, commits]);
    memory.project().await.unwrap();
    let [gets, scans, commits] = calls();
    pass(3_600).await;
    assert_eq!(calls(), [gets, scans + 18, commits]);
}

/// Bug: only the projection asked ever less often; what looks for missing vectors did so every three seconds.
#[tokio::test(start_paused = true)]
async fn a_failing_store_is_asked_ever_less_often() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    store.get_ref().close().await.unwrap();
    pass(10).await;
    let calls = || [Operation::Get, Operation::Scan].map(|operation| store.calls(operation));
    let before = calls();
    pass(3_600).await;
    let asked = [0, 1].map(|place| calls()[place] - before[place]);
    assert!(asked.iter().all(|asked| (1..=150).contains(asked)), "{asked:?} times in an hour");
    drop(memory);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_closed_is_left_alone() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    record(&memory, 3).await;
    memory.close().await.unwrap();
    pass(10).await;
    let calls = || [Operation::Get, Operation::Scan, Operation::Commit].map(|operation| store.calls(operation));
    let before = calls();
    pass(3_600).await;
    assert_eq!(calls(), before);
}

/// Bug: a call that projects went on as long as anyone wrote.
#[tokio::test(start_paused = true)]
async fn projecting_beside_a_writer_ends() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    record(&memory, 2).await;
    let gate = Gate::new();
    store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let write = async {
        gate.reached().await;
        record(&memory, 1).await;
        gate.open();
    };
    let (projected, ()) = tokio::join!(memory.project(), write);
    assert_eq!((projected.unwrap(), behind(&memory).await), (2, 1));
}

/// An in-memory store with a page for each version, though it has no episode.
#[derive(Debug)]
struct Sparse(InMemoryStore);

impl std::fmt::Display for Sparse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sparse")
    }
}

#[async_trait::async_trait]
impl MemoryStore for Sparse {
    fn info(&self) -> StoreInfo {
        self.0.info()
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        self.0.commit(batch).await
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        self.0.get(keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        let page = self.0.scan(scan).await?;
        let after = match scan.after {
            Some(Cursor::Version(Version(after))) => after,
            _ => 0,
        };
        Ok(match page.records.first() {
            Some(first) if scan.kind == RecordKind::Episode && first.version.0 > after + 1 => {
                Page { records: Vec::new(), next: Some(Cursor::Version(Version(after + 1))) }
            }
            _ => page,
        })
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        self.0.search(search).await
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.0.changes(since, limit).await
    }

    async fn health(&self) -> Result<StoreHealth> {
        self.0.health().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

/// Bug: after a page without records, which a store may give before the end, the same page was asked for again, for ever.
#[tokio::test(start_paused = true)]
async fn an_empty_page_is_not_the_end_nor_read_again() {
    let memory = over(Sparse(InMemoryStore::new())).await;
    for _ in 0..3 {
        record(&memory, 1).await;
        memory.remember(NewNote::new("use tabs")).await.unwrap();
    }
    assert_eq!(counts(&memory.patterns().await.unwrap(), "transition []", "grep"), [3; 3]);
    assert_eq!((memory.project().await.unwrap(), behind(&memory).await), (3, 0));
    assert_eq!(counts(&memory.patterns().await.unwrap(), "transition []", "grep"), [3; 3]);
}

/// Bug: health read all of the feed after the last episode: each note since then.
#[tokio::test(start_paused = true)]
async fn health_does_not_read_the_feed() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    record(&memory, 2).await;
    assert_eq!((behind(&memory).await, store.calls(Operation::Changes)), (2, 0));
}

/// Bug: the projection of the same engine moved the watermark beside each attempt of a rebuild.
#[tokio::test(start_paused = true)]
async fn a_rebuild_is_not_overtaken_by_its_own_engine() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    record(&memory, 2).await;
    memory.project().await.unwrap();
    let mut damaged = memory.patterns().await.unwrap().remove(0);
    damaged.branches.clear();
    store.commit(&Batch::new().put(Record::Pattern(damaged))).await.unwrap();
    let gate = Gate::new();
    store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let elsewhere = memory.clone();
    let write = async {
        gate.reached().await;
        record(&memory, 1).await;
        let projecting = tokio::spawn(async move { elsewhere.project().await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        gate.open();
        projecting.await.unwrap().unwrap()
    };
    let commits = store.calls(Operation::Commit);
    let (rebuilt, projected) = tokio::join!(memory.rebuild(), write);
    assert_eq!((rebuilt.unwrap().repaired, projected), (1, 1));
    assert_eq!(store.calls(Operation::Commit), commits + 3, "the rebuild, the record and the projection, once each");
    assert_eq!(memory.patterns().await.unwrap(), fold_of_log(&memory, memory.learner()).await);
}

#[tokio::test(start_paused = true)]
async fn a_closed_memory_is_unavailable() {
    let store = InMemoryStore::new();
    let memory = over(store.clone()).await;
    let elsewhere = memory.clone();
    let mut open = opened(&memory).await;
    let id = memory.record(worked("fix", &["grep"])).await.unwrap().episode;
    memory.close().await.unwrap();
    let task = Task::new("fix");
    let kinds = [
        elsewhere.start(task.clone()).await.unwrap_err().kind(),
        elsewhere.record(worked("fix", &[])).await.unwrap_err().kind(),
        open.step(Step::new("grep")).await.unwrap_err().kind(),
        open.complete(Outcome::success("")).await.unwrap_err().kind(),
        open.suggest(1).await.unwrap_err().kind(),
        elsewhere.resume(id).await.unwrap_err().kind(),
        elsewhere.episode(id).await.unwrap_err().kind(),
        elsewhere.delete(id).await.unwrap_err().kind(),
        elsewhere.recall(&task, 1).await.unwrap_err().kind(),
        elsewhere.suggest(&task, &[], 1).await.unwrap_err().kind(),
        elsewhere.predict(&task, &[]).await.unwrap_err().kind(),
        elsewhere.patterns().await.unwrap_err().kind(),
        elsewhere.open_episodes().await.unwrap_err().kind(),
        elsewhere.project().await.unwrap_err().kind(),
        elsewhere.rebuild().await.unwrap_err().kind(),
        elsewhere.health().await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Unavailable; 16]);
}

#[tokio::test(start_paused = true)]
async fn closing_projects_first() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    record(&memory, 2).await;
    store.script_next(Operation::Close, Fault::Before(lost()));
    memory.close().await.unwrap_err();
    assert_eq!(behind(&memory).await, 0);
    memory.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_takes_the_task_and_the_store_with_it() {
    let store = Arc::new(InMemoryStore::new());
    let memory = over(Arc::clone(&store)).await;
    let (clone, open) = (memory.clone(), opened(&memory).await);
    pass(1).await;
    record(&memory, 1).await;
    drop(memory);
    drop(clone);
    assert_eq!(Arc::strong_count(&store), 2, "an open episode is a handle");
    drop(open);
    pass(1).await;
    assert_eq!(Arc::strong_count(&store), 1);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_finds_nothing_to_repair_in_a_sound_store() {
    let memory = fresh().await;
    record(&memory, 4).await;
    let rebuilt = memory.rebuild().await.unwrap();
    let patterns = memory.patterns().await.unwrap().len() as u64;
    assert_eq!((rebuilt.episodes, rebuilt.patterns, rebuilt.repaired), (4, patterns, 0));
    assert_eq!(behind(&memory).await, 0);
    let version = stored(&memory).await.version;
    memory.rebuild().await.unwrap();
    assert_eq!(stored(&memory).await.version, version, "nothing is written");
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_repairs_what_differs_is_missing_or_is_too_much() {
    let memory = fresh().await;
    record(&memory, 4).await;
    memory.project().await.unwrap();
    let sound = memory.patterns().await.unwrap();
    let mut changed = sound[0].clone();
    changed.add(&sound[0]);
    let mut foreign = samples::pattern(1);
    foreign.learner = memory.learner().id();
    let damage = Batch::new()
        .put(Record::Pattern(changed))
        .delete(sound[1].key())
        .put(Record::Pattern(foreign))
        .put(Record::Pattern(samples::pattern(2)));
    memory.store().commit(&damage).await.unwrap();
    assert_ne!(memory.patterns().await.unwrap(), sound);
    let rebuilt = memory.rebuild().await.unwrap();
    assert_eq!((rebuilt.episodes, rebuilt.patterns, rebuilt.repaired), (4, sound.len() as u64, 3));
    assert_eq!(memory.patterns().await.unwrap(), sound);
    assert_eq!(stored(&memory).await.patterns, sound.len() as u64 + 1, "other learners' are left alone");
    assert_eq!(memory.rebuild().await.unwrap().repaired, 0);
}

#[tokio::test(start_paused = true)]
async fn deleting_from_a_damaged_store_fails_whole_until_it_is_rebuilt() {
    for (missing, place) in [true, false].into_iter().flat_map(|missing| (0..6).map(move |place| (missing, place))) {
        let memory = fresh().await;
        let id = memory.record(worked("fix", &["grep"])).await.unwrap().episode;
        memory.project().await.unwrap();
        let mut patterns = memory.patterns().await.unwrap();
        assert_eq!(patterns.len(), 6, "each is damaged in its turn");
        let mut pattern = patterns.swap_remove(place);
        pattern.branches.clear();
        let damage =
            if missing { Batch::new().delete(pattern.key()) } else { Batch::new().put(Record::Pattern(pattern)) };
        memory.store().commit(&damage).await.unwrap();
        let before = stored(&memory).await;
        let error = memory.delete(id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(stored(&memory).await, before);
        assert_eq!(memory.rebuild().await.unwrap().repaired, 1);
        memory.delete(id).await.unwrap();
        let health = stored(&memory).await;
        assert_eq!((health.episodes, health.patterns), (0, 0));
    }
}

/// What lies beyond the watermark is bounded: a writer, and failing that a reader, projects.
#[tokio::test(start_paused = true)]
async fn what_readers_fold_is_bounded() {
    let store = faulty();
    let memory = over(Arc::clone(&store)).await;
    record(&memory, 16_383).await;
    assert!(behind(&memory).await > 0);
    record(&memory, 1).await;
    assert!(behind(&memory).await < 4_096, "the writer has helped");

    let reader = over(InMemoryStore::new()).await;
    for scope in ["a", "b"] {
        let writer = Memory::builder().store(Arc::clone(reader.store())).scope(samples::scope(scope));
        record(&writer.build().await.unwrap(), 600).await;
    }
    assert_eq!(behind(&reader).await, 1_200);
    assert!(reader.patterns().await.unwrap().is_empty());
    assert_eq!(behind(&reader).await, 0, "the reader has helped");
}

#[tokio::test(start_paused = true)]
async fn health_counts_what_is_there() {
    let memory = fresh().await;
    let empty = stored(&memory).await;
    assert_eq!((empty.episodes, empty.open_episodes, empty.patterns), (0, 0, 0));
    let mut open = opened(&memory).await;
    assert_eq!(stored(&memory).await.open_episodes, 1);
    open.step(Step::new("grep")).await.unwrap();
    open.complete(Outcome::success("")).await.unwrap();
    let done = memory.health().await.unwrap();
    assert_eq!((done.store.episodes, done.store.open_episodes, done.store.patterns), (1, 0, 0));
    assert_eq!((done.episodes_behind, done.embedder_error), (1, None));
    assert!(done.store.version > empty.version);
    memory.project().await.unwrap();
    let projected = memory.health().await.unwrap();
    assert_eq!(projected.store.patterns, memory.patterns().await.unwrap().len() as u64);
    assert_eq!(projected.episodes_behind, 0);
    memory.delete(open.id()).await.unwrap();
    let gone = stored(&memory).await;
    assert_eq!((gone.episodes, gone.open_episodes, gone.patterns), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn another_engine_on_the_same_store_sees_everything() {
    let store = InMemoryStore::new();
    let shared = FaultyStore::new(store.clone());
    let (one, other) = (over(store).await, over(shared).await);
    record(&one, 2).await;
    assert_eq!(counts(&other.patterns().await.unwrap(), "transition []", "grep"), [2; 3]);
    one.project().await.unwrap();
    record(&other, 1).await;
    for memory in [&one, &other] {
        assert_eq!(counts(&memory.patterns().await.unwrap(), "transition []", "grep"), [3; 3]);
    }
    assert_eq!(other.project().await.unwrap(), 1);
    assert_eq!(counts(&one.patterns().await.unwrap(), "transition []", "grep"), [3; 3]);
}
