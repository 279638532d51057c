//! Files that move to another vector space: while they are used, and while processes are killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Backwards, assert_sound, id, log, number, place, sql};
use memory_core::testkit::invariants::stored_patterns;
use memory_core::testkit::process;
use memory_core::{
    Embedder, ErrorKind, HashEmbedder, Key, Memory, MemoryStore, MemoryStoreExt, NewNote, Outcome, Record, RecordKind,
    Recording, Result, Role, Scan, Scope, Search, Step, Stored, Task, Vector,
};
use memory_storage_turso::{Replaced, TursoStore};

fn recording(number: u128) -> Recording {
    let steps = ["grep", "edit", "test"].map(|tool| Step::new(tool).input(format!("{number}")).ok("fine"));
    let task = Task::new(format!("fix the login of site {number}")).domain("web");
    Recording::new(task, Outcome::success("done")).steps(steps.to_vec()).id(id(number))
}

async fn open(path: &Path) -> TursoStore {
    TursoStore::open(path).await.unwrap()
}

async fn over(store: &TursoStore, embedder: impl Embedder) -> Memory {
    Memory::builder().store(store.clone()).embedder(embedder).build().await.unwrap()
}

async fn old(path: &Path) -> Memory {
    over(&open(path).await, HashEmbedder::new()).await
}

async fn live(memory: &Memory, episodes: u128) {
    for number in 0..episodes {
        memory.record(recording(number)).await.unwrap();
        if number % 4 == 0 {
            memory.remember(NewNote::new(format!("site {number} is slow"))).await.unwrap();
        }
    }
    let mut open = memory.start(Task::new("fix the logout")).await.unwrap();
    open.step(Step::new("grep").ok("here")).await.unwrap();
}

/// All episodes and notes, in the order of the store.
async fn documents(store: &dyn MemoryStore) -> Vec<Stored> {
    let mut all = store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap();
    all.extend(store.scan_all(Scan::new(RecordKind::Note)).await.unwrap());
    all
}

/// The vectors, in the same order, and the space.
async fn vectors(store: &dyn MemoryStore) -> (Option<Record>, Vec<Option<Vector>>) {
    let vector = |stored: Stored| stored.record.searchable().and_then(|searchable| searchable.vector.cloned());
    let space = store.get_one(Key::Space).await.unwrap().map(|stored| stored.record);
    (space, documents(store).await.into_iter().map(vector).collect())
}

/// Whether all vectors are of this embedder; the store's space must be.
async fn are_of(store: &TursoStore, embedder: &impl Embedder) -> bool {
    let space = store.get_one(Key::Space).await.unwrap().unwrap().record;
    let mut all = space == Record::Space(embedder.space().clone());
    for Stored { record, .. } in documents(store).await {
        let searchable = record.searchable().unwrap();
        let text = match &record {
            Record::Episode(logged) => logged.episode.task.text.clone(),
            Record::Note(stored) => stored.note.text.clone(),
            _ => continue,
        };
        all &= searchable.vector == embedder.embed(Role::Document, &[&text]).await.unwrap().first();
    }
    all
}

/// Moves a file, as often as it takes.
async fn move_to_new_space(memory: &Memory, path: &Path, copy: &Path) -> Result<Replaced> {
    loop {
        let into = open(copy).await;
        memory.reembed(into.clone(), Backwards::default()).await?;
        into.close().await?;
        match TursoStore::replace_vectors(path, copy).await {
            Err(error) if error.is_conflict() => {}
            done => return done,
        }
    }
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

/// Whoever had the file open neither gives nor takes vectors any more, and is told of the change after this version.
async fn refuses_vectors(memory: &Memory, store: &Arc<dyn MemoryStore>, before: memory_core::Version) {
    let vector = HashEmbedder::new().embed(Role::Query, &["login"]).await.unwrap().remove(0);
    let search = Search::new(Scope::default()).vector(Some(vector));
    assert_eq!(kind(store.search(&search).await), ErrorKind::SpaceMismatch);
    let episode = crate::common::episode(
        7_777,
        &Scope::default(),
        Task::new("x"),
        Outcome::success(""),
        crate::common::moment(0),
    );
    let batch = memory_core::Batch::new().put(crate::common::logged(episode, Some(crate::common::vector("x").await)));
    assert_eq!(kind(store.commit(&batch).await), ErrorKind::SpaceMismatch);
    assert_eq!(kind(store.get_one(Key::Episode(id(1))).await), ErrorKind::SpaceMismatch);
    assert_eq!(kind(store.scan(&Scan::new(RecordKind::Note)).await), ErrorKind::SpaceMismatch);
    assert_eq!(kind(memory.export(&mut Vec::new()).await), ErrorKind::SpaceMismatch);
    assert_eq!(store.health().await.unwrap().episodes, 99);
    let changed = store.changes(before, 10).await.unwrap().entries;
    assert!(changed.len() == 1 && changed[0].key == Key::Space, "caches are told: {changed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_vectors_of_a_file_change() {
    let (folder, path) = place();
    let copy = folder.path().join("copy.db");
    let memory = old(&path).await;
    live(&memory, 100).await;
    memory.project().await.unwrap();
    memory.delete(id(50)).await.unwrap();
    let into = open(&copy).await;
    let copied = memory.reembed(into.clone(), Backwards::default()).await.unwrap();
    assert_eq!((copied.episodes, copied.notes, copied.open_episodes), (99, 25, 1));
    assert!(are_of(&into, &Backwards::default()).await);
    // The copy serves as it is.
    let moved = over(&into, Backwards::default()).await;
    assert_eq!(moved.patterns().await.unwrap(), memory.patterns().await.unwrap());
    assert_eq!(moved.recall(&Task::new("fix the login of site 7"), 5).await.unwrap().episodes.len(), 5);
    moved.close().await.unwrap();
    assert_sound(&copy).await;

    let store = open(&path).await;
    let (before, patterns, health) =
        (documents(&store).await, stored_patterns(&store).await, store.health().await.unwrap());
    let replaced = TursoStore::replace_vectors(&path, &copy).await.unwrap();
    assert_eq!((replaced.vectors, replaced.without, replaced.version.0), (124, 0, health.version.0 + 1));
    let other: Arc<dyn MemoryStore> = Arc::new(store);
    for (memory, store) in [(&memory, memory.store()), (&memory, &other)] {
        refuses_vectors(memory, store, health.version).await;
    }
    let error = memory.record(recording(1_000)).await.unwrap_err();
    assert!(error.to_string().ends_with("after it was opened here: open it again"), "{error}");
    assert_eq!(kind(Memory::builder().store(open(&path).await).build().await), ErrorKind::SpaceMismatch);
    memory.close().await.unwrap();

    let store = open(&path).await;
    let after = documents(&store).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before.version == after.version));
    assert_eq!(before.len(), after.len());
    assert!(are_of(&store, &Backwards::default()).await);
    assert_eq!(stored_patterns(&store).await, patterns);
    let moved = over(&store, Backwards::default()).await;
    let vector = Backwards::default().embed(Role::Query, &["fix the login of site 7"]).await.unwrap().remove(0);
    let found = store.search(&Search::new(Scope::default()).vector(Some(vector)).k(1)).await.unwrap();
    assert_eq!(found[0].key, Key::Episode(id(7)));
    let open_episode = moved.open_episodes().await.unwrap();
    assert_eq!(open_episode.len(), 1, "it was left alone");
    moved.close().await.unwrap();
    assert_sound(&path).await;
}

#[tokio::test]
async fn a_copy_that_is_none_or_is_late_is_refused() {
    let (folder, path) = place();
    let [copy, other, used] = ["copy.db", "other.db", "used.db"].map(|name| folder.path().join(name));
    let memory = old(&path).await;
    live(&memory, 10).await;
    live(&old(&other).await, 3).await;
    let replace = |copy: &Path| TursoStore::replace_vectors(path.clone(), copy.to_owned());
    assert_eq!(kind(replace(&copy).await), ErrorKind::NotFound);
    assert_eq!(kind(TursoStore::replace_vectors(&copy, &path).await), ErrorKind::NotFound);
    assert_eq!(kind(replace(&path).await), ErrorKind::Invalid);
    assert_eq!(kind(replace(&other).await), ErrorKind::Foreign);
    assert_eq!(kind(replace(folder.path()).await), ErrorKind::NotFound);
    for into in [&copy, &used] {
        memory.reembed(open(into).await, Backwards::default()).await.unwrap();
        assert_eq!(kind(TursoStore::replace_vectors(&other, into).await), ErrorKind::Foreign);
    }
    let moved = over(&open(&used).await, Backwards::default()).await;
    moved.remember(NewNote::new("it is my turn now")).await.unwrap();
    assert_eq!(kind(replace(&used).await), ErrorKind::Foreign);
    // Steps and what is learned are no reason to copy again.
    memory.start(Task::new("another")).await.unwrap().step(Step::new("grep")).await.unwrap();
    memory.project().await.unwrap();
    memory.remember(NewNote::new("told since")).await.unwrap();
    let late = replace(&copy).await.unwrap_err();
    assert!(late.is_conflict() && late.to_string().contains("1 episodes and notes came into"), "{late}");
    assert_eq!(number(&path, "SELECT count(*) FROM vectors").await, 14, "nothing has changed");
    assert!(are_of(&open(&path).await, &HashEmbedder::new()).await);
    let replaced = move_to_new_space(&memory, &path, &copy).await.unwrap();
    assert_eq!((replaced.vectors, replaced.without), (14, 0));
    // Once more is no harm, and there is a way back, by the same means.
    assert_eq!(replace(&copy).await.unwrap().vectors, 14);
    let back = folder.path().join("back.db");
    let moved = over(&open(&path).await, Backwards::default()).await;
    let into = open(&back).await;
    moved.reembed(into.clone(), HashEmbedder::new()).await.unwrap();
    TursoStore::replace_vectors(&path, &back).await.unwrap();
    assert!(are_of(&open(&path).await, &HashEmbedder::new()).await);
}

/// A process that goes on in the old space is told so; the file moves under it, while others record.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_has_the_file_open_cannot_mix_spaces() {
    let test = "reembed::a_process_that_has_the_file_open_cannot_mix_spaces";
    if process::is_child() {
        let memory = old(Path::new(&std::env::var_os("STORE").unwrap())).await;
        for number in 1_000.. {
            match memory.record(recording(number)).await {
                Ok(ack) => assert_eq!(ack.degraded, None),
                Err(error) if error.kind() == ErrorKind::SpaceMismatch => break,
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(kind(memory.recall(&Task::new("fix the login"), 5).await), ErrorKind::SpaceMismatch);
        return;
    }
    let (folder, path) = place();
    let memory = old(&path).await;
    live(&memory, 200).await;
    let child = process::spawn(test, &[("STORE", path.to_str().unwrap())]);
    while log(&**memory.store()).await.len() < 220 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (memory, stop) = (memory.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut answers = 0;
            while !stop.load(Ordering::Relaxed) {
                match memory.recall(&Task::new("fix the login of site 7"), 5).await {
                    Ok(found) => assert_eq!(found.episodes.len(), 5),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::SpaceMismatch);
                        break;
                    }
                }
                answers += 1;
            }
            answers
        })
    };
    let replaced = move_to_new_space(&memory, &path, &folder.path().join("copy.db")).await.unwrap();
    process::wait(test, child);
    stop.store(true, Ordering::Relaxed);
    assert!(reader.await.unwrap() > 0);
    memory.close().await.unwrap();
    let store = open(&path).await;
    assert_eq!(documents(&store).await.len() as u64, replaced.vectors);
    assert!(are_of(&store, &Backwards::default()).await);
    store.close().await.unwrap();
    assert_sound(&path).await;
}

/// The file and the copy that a child was told of.
fn files_of_child() -> [PathBuf; 2] {
    ["STORE", "COPY"].map(|name| std::env::var_os(name).unwrap().into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_can_be_killed_while_it_copies() {
    let test = "reembed::a_process_can_be_killed_while_it_copies";
    if process::is_child() {
        let [path, copy] = files_of_child();
        old(&path).await.reembed(open(&copy).await, Backwards::default()).await.unwrap();
        return;
    }
    let (folder, path) = place();
    let memory = old(&path).await;
    live(&memory, 1_000).await;
    let [trial, copy] = ["trial.db", "copy.db"].map(|name| folder.path().join(name));
    let copying =
        |copy: &Path| process::spawn(test, &[("STORE", path.to_str().unwrap()), ("COPY", copy.to_str().unwrap())]);
    let begun = Instant::now();
    process::wait(test, copying(&trial));
    let (whole, mut progress) = (begun.elapsed(), vec![0]);
    for part in 0..12 {
        // Others go on, and what was copied is deleted.
        memory.record(recording(10_000 + part)).await.unwrap();
        memory.delete(id(part * 2)).await.unwrap();
        let mut child = copying(&copy);
        tokio::time::sleep(whole * u32::try_from(part).unwrap() / 12).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let store = open(&copy).await;
        progress.push(log(&store).await.len());
        store.close().await.unwrap();
    }
    println!("episodes after each kill: {progress:?}");
    let done = memory.reembed(open(&copy).await, Backwards::default()).await.unwrap();
    assert!(done.episodes < 1_000, "{done:?}");
    let store = open(&copy).await;
    let episodes = |log: Vec<(_, _)>| log.into_iter().map(|(_, episode)| episode).collect::<Vec<_>>();
    assert_eq!(episodes(log(&store).await), episodes(log(&**memory.store()).await));
    assert_eq!(store.health().await.unwrap().notes, 250);
    assert!(are_of(&store, &Backwards::default()).await);
    store.close().await.unwrap();
    assert_sound(&copy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_can_be_killed_while_it_replaces_the_vectors() {
    let test = "reembed::a_process_can_be_killed_while_it_replaces_the_vectors";
    if process::is_child() {
        let [path, copy] = files_of_child();
        println!("begins");
        TursoStore::replace_vectors(&path, &copy).await.unwrap();
        return;
    }
    let (folder, path) = place();
    let memory = old(&path).await;
    live(&memory, 1_000).await;
    let copy = folder.path().join("copy.db");
    let into = open(&copy).await;
    memory.reembed(into.clone(), Backwards::default()).await.unwrap();
    let (before, after) = (vectors(&**memory.store()).await, vectors(&into).await);
    into.close().await.unwrap();
    memory.close().await.unwrap();
    // Begins to replace in a file of its own.
    let replacing = |trial: &Path| {
        std::fs::copy(&path, trial).unwrap();
        let files = [("STORE", trial.to_str().unwrap()), ("COPY", copy.to_str().unwrap())];
        let mut child = process::spawn(test, &files);
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "begins"));
        (child, Instant::now())
    };
    let (mut child, begun) = replacing(&folder.path().join("trial.db"));
    assert!(child.wait().unwrap().success());
    let (whole, mut moved) = (begun.elapsed(), 0);
    for part in 0..24 {
        let trial = folder.path().join(format!("trial {part}.db"));
        let (mut child, _) = replacing(&trial);
        tokio::time::sleep(whole * part / 20).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let store = open(&trial).await;
        let now = vectors(&store).await;
        assert!(now == before || now == after, "{part}: either all is replaced or nothing");
        moved += u32::from(now == after);
        store.close().await.unwrap();
        assert_sound(&trial).await;
        assert_eq!(TursoStore::replace_vectors(&trial, &copy).await.unwrap().vectors, 1_250);
        assert_eq!(vectors(&open(&trial).await).await, after);
    }
    println!("of 24 kills within {whole:?} {moved} came after the vectors were replaced");
    assert!((1..24).contains(&moved));
}

/// A file that had no space when it was opened is used in the first that it gets.
#[tokio::test]
async fn a_store_that_was_opened_before_its_space_was_set_knows_it_all_the_same() {
    for claimed_here in [false, true] {
        let (folder, path) = place();
        let early = open(&path).await;
        let memory = old(&path).await;
        if claimed_here {
            sql(&path, "DELETE FROM records WHERE kind = 'space'").await;
        }
        let early = over(&early, HashEmbedder::new()).await;
        memory.record(recording(1)).await.unwrap();
        move_to_new_space(&memory, &path, &folder.path().join("copy.db")).await.unwrap();
        assert_eq!(kind(early.record(recording(2)).await), ErrorKind::SpaceMismatch);
    }
}
