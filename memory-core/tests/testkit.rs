//! What the testkit itself promises to those who test with it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use memory_core::testkit::{EmbedderFault, Fault, FaultyEmbedder, FaultyStore, Gate, Operation, process, samples};
use memory_core::{
    Batch, Embedder, Error, ErrorKind, HashEmbedder, InMemoryStore, Key, MemoryStore, MemoryStoreExt, RecordKind, Role,
    Scan, Search, Version,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

fn busy() -> Error {
    Error::new(ErrorKind::Busy, "scripted")
}

#[tokio::test]
async fn a_fault_before_is_not_applied_and_one_after_is() {
    let store = FaultyStore::new(InMemoryStore::new());
    assert_eq!(store.to_string(), "FaultyStore(InMemoryStore)");
    store.script(Operation::Commit, 1, Fault::Before(busy()));
    store.script(Operation::Commit, 2, Fault::After(busy()));
    let key = Key::Watermark(samples::learner(1));
    let batch = Batch::new().put(samples::watermark(1, 1));
    for written in [false, true] {
        assert_eq!(store.commit(&batch).await.unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(store.get_ref().get_one(key.clone()).await.unwrap().is_some(), written);
    }
    store.commit(&batch).await.unwrap();
    assert_eq!((store.calls(Operation::Commit), store.calls(Operation::Get)), (3, 0));
}

#[tokio::test]
async fn a_failure_of_the_inner_store_is_not_hidden_by_a_fault_after() {
    let store = FaultyStore::new(InMemoryStore::new());
    store.script_next(Operation::Commit, Fault::After(busy()));
    let batch = Batch::new().require_present(Key::Space);
    assert_eq!(store.commit(&batch).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn every_operation_has_a_script_of_its_own() {
    let store = FaultyStore::new(InMemoryStore::new());
    let operations = [
        Operation::Commit,
        Operation::Get,
        Operation::Scan,
        Operation::Search,
        Operation::Changes,
        Operation::Health,
        Operation::Close,
    ];
    for operation in operations {
        store.script_next(operation, Fault::Before(busy()));
    }
    for round in 0..2 {
        let errors = [
            store.commit(&Batch::new()).await.err(),
            store.get(&[]).await.err(),
            store.scan(&Scan::new(RecordKind::Open)).await.err(),
            store.search(&Search::new(samples::scope("a")).text("b")).await.err(),
            store.changes(Version(0), 1).await.err(),
            store.health().await.err(),
            store.close().await.err(),
        ];
        assert!(errors.iter().all(|error| error.is_some() == (round == 0)), "round {round}: {errors:?}");
    }
    assert!(operations.iter().all(|operation| store.calls(*operation) == 2));
}

#[tokio::test]
async fn a_held_call_waits_at_its_gate() {
    let store = FaultyStore::new(InMemoryStore::new());
    let gate = Gate::new();
    store.script(Operation::Commit, 1, Fault::Hold(gate.clone()));
    let batch = Batch::new().put(samples::watermark(1, 1));
    let watch = async {
        gate.reached().await;
        assert_eq!(store.health().await.unwrap().version, Version(0), "not yet made");
        gate.open();
    };
    let (commit, ()) = tokio::join!(store.commit(&batch), watch);
    assert_eq!(commit.unwrap().version, Version(1));
}

#[tokio::test]
async fn an_embedder_spoils_its_next_calls() {
    let embedder = FaultyEmbedder::new(HashEmbedder::new());
    embedder.script(EmbedderFault::Fail(busy()));
    embedder.script(EmbedderFault::WrongCount);
    embedder.script(EmbedderFault::WrongLength);
    let embed = || embedder.embed(Role::Query, &["one", "two"]);
    assert_eq!(embed().await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(embed().await.unwrap().len(), 1);
    assert!(embed().await.unwrap().iter().all(|vector| vector.dimensions() == HashEmbedder::DIMENSIONS - 1));
    assert!(embed().await.unwrap().iter().all(|vector| vector.dimensions() == HashEmbedder::DIMENSIONS));
    assert_eq!(embedder.calls(), 4);
}

#[test]
fn random_episodes_repeat_behaviour_and_differ() {
    let mut runner = TestRunner::deterministic();
    let strategy = samples::episodes(samples::scope("acme/coder"), 200);
    let episodes = strategy.new_tree(&mut runner).unwrap().current();
    let distinct =
        |of: &dyn Fn(&memory_core::Episode) -> String| episodes.iter().map(of).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(&|episode| episode.id.to_string()), 200);
    assert_eq!(distinct(&|episode| format!("{:?}", episode.task.domain)), 3);
    assert_eq!(distinct(&|episode| episode.outcome.verdict.to_string()), 5);
    assert_eq!(distinct(&|episode| episode.steps.len().to_string()), 9);
    assert_eq!(distinct(&|episode| (episode.completed_at - samples::time(0)).num_days().to_string()), 5);
    let failed = episodes.iter().flat_map(|episode| &episode.steps).filter(|step| !step.ok).count();
    let steps = episodes.iter().map(|episode| episode.steps.len()).sum::<usize>();
    assert!((steps / 6..steps / 2).contains(&failed), "{failed} of {steps} steps failed");
    assert!(distinct(&|episode| format!("{:?}", episode.steps.first().map(|step| (&step.tool, step.ok)))) <= 9);
}

#[test]
fn random_episodes_shrink_to_the_least_that_fails() {
    let mut runner = TestRunner::deterministic();
    let strategy = samples::episodes(samples::scope("a"), 0..30);
    let failing = |episodes: &[memory_core::Episode]| episodes.iter().any(|one| one.steps.iter().any(|step| !step.ok));
    let mut tree = (0..100)
        .map(|_| strategy.new_tree(&mut runner).unwrap())
        .find(|tree| failing(&tree.current()))
        .expect("one in four steps fails");
    loop {
        let moved = if failing(&tree.current()) { tree.simplify() } else { tree.complicate() };
        if !moved {
            break;
        }
    }
    let least = tree.current();
    assert!(failing(&least));
    assert_eq!((least.len(), least[0].steps.len(), least[0].task.domain.as_deref()), (1, 1, None), "{least:?}");
}

#[test]
fn a_child_process_runs_the_same_test() {
    let name = "a_child_process_runs_the_same_test";
    if process::is_child() {
        println!("child says {}", std::env::var("WORD").unwrap());
        return;
    }
    let variables = [("WORD", "walrus")];
    for output in [process::run(name, &variables), process::wait(name, process::spawn(name, &variables))] {
        assert!(String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "child says walrus"));
    }
    let misnamed = std::panic::catch_unwind(|| process::run("no_such_test", &[]));
    assert!(misnamed.is_err(), "a child that runs no test is no success");
}

#[test]
fn a_child_process_can_be_killed() {
    if process::is_child() {
        println!("child is ready");
        loop {
            std::thread::park();
        }
    }
    let mut child = process::spawn("a_child_process_can_be_killed", &[]);
    let output = BufReader::new(child.stdout.take().unwrap());
    let ready = output.lines().any(|line| line.unwrap().contains("child is ready"));
    assert!(ready, "the child speaks before it waits");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}
