//! What an operator does: check, back up, restore, make smaller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Dice, assert_sound, fold, generated, generated_note, id, log, place, put_space, simple, sql};
use memory_core::testkit::invariants::stored_patterns;
use memory_core::{
    Batch, ErrorKind, Key, Memory, MemoryStore, MemoryStoreExt, Outcome, Recording, Scope, Search, Step, Task,
};
use memory_storage_turso::TursoStore;

fn recording(number: usize) -> Recording {
    let steps = ["grep", "edit", "test"].map(|tool| Step::new(tool).input(format!("{number}")).ok("fine"));
    Recording::new(Task::new(format!("fix the login of site {number}")), Outcome::success("done")).steps(steps.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_made_while_others_write_is_one_consistent_state() {
    let (folder, path) = place();
    let memory = Memory::builder().store(TursoStore::open(&path).await.unwrap()).build().await.unwrap();
    let store = TursoStore::open(&path).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (memory, stop) = (memory.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    memory.record(recording(1_000 * writer + count)).await.unwrap();
                    if count % 20 == 0 {
                        memory.project().await.unwrap();
                    }
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut backups = Vec::new();
    for number in 0..4 {
        let to = folder.path().join(format!("backup {number}.db"));
        backups.push((store.backup(&to).await.unwrap(), to));
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    assert!(backups.is_sorted_by(|(a, _), (b, _)| a.version <= b.version), "{backups:?}");
    for (backup, from) in backups {
        assert_eq!(backup.bytes, from.metadata().unwrap().len());
        let to = folder.path().join("restored.db");
        assert_eq!(TursoStore::restore(&from, &to).await.unwrap().version, backup.version);
        let restored = TursoStore::open(&to).await.unwrap();
        assert_eq!(restored.health().await.unwrap().version, backup.version);
        let memory = Memory::builder().store(restored.clone()).build().await.unwrap();
        memory.project().await.unwrap();
        let episodes: Vec<_> = log(&restored).await.into_iter().map(|(_, episode)| episode).collect();
        assert!(episodes.len() <= written);
        assert_eq!(stored_patterns(&restored).await, fold(&episodes));
        assert_eq!(memory.rebuild().await.unwrap().repaired, 0);
        memory.close().await.unwrap();
        assert_sound(&to).await;
        for file in folder.path().read_dir().unwrap().map(|file| file.unwrap().path()) {
            if file.to_string_lossy().contains("restored") {
                std::fs::remove_file(file).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_is_there_is_not_written_over_and_what_is_damaged_is_not_restored() {
    let (folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    crate::common::put(&store, simple(1, "the only task")).await;
    assert_eq!(store.search(&Search::new(Scope::default()).text("task")).await.unwrap().len(), 1);
    let backup = folder.path().join("backup.db");
    assert_eq!(store.backup(&path).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    std::fs::write(folder.path().join("backup.db.partial"), "left by who was killed").unwrap();
    store.backup(&backup).await.unwrap();
    assert_eq!(store.backup(&backup).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let nowhere = store.backup(folder.path().join("no folder/x.db")).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Io, "{nowhere}");
    assert_eq!(TursoStore::restore(&backup, &path).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let to = folder.path().join("restored.db");
    let absent = TursoStore::restore(folder.path().join("absent.db"), &to).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    let text = folder.path().join("text.db");
    std::fs::write(&text, "no database".repeat(1_000)).unwrap();
    assert_eq!(TursoStore::restore(&text, &to).await.unwrap_err().kind(), ErrorKind::Foreign);
    sql(&backup, "DELETE FROM episode_records").await;
    let damaged = TursoStore::restore(&backup, &to).await.unwrap_err();
    assert_eq!(damaged.kind(), ErrorKind::Corrupt, "{damaged}");
    assert!(!to.exists());
}

#[tokio::test]
async fn a_check_names_what_is_wrong() {
    for (damage, named) in [
        ("UPDATE scopes SET words = words + 1", "counted wrong"),
        ("DELETE FROM words WHERE rowid = (SELECT min(version) FROM episode_records)", "too few or too many words"),
        ("DELETE FROM episode_index WHERE version = (SELECT min(version) FROM episode_records)", "passed over"),
        ("INSERT INTO vectors VALUES (99999, x'00')", "vectors of no record"),
        ("UPDATE pattern_blocks SET entries = substr(entries, 2)", "checksum is wrong"),
        ("UPDATE pattern_deltas SET entries = substr(entries, 2)", "checksum is wrong"),
    ] {
        let (_folder, path) = place();
        let store = TursoStore::open(&path).await.unwrap();
        let memory = Memory::builder().store(store.clone()).build().await.unwrap();
        let of_blocks = damage.contains("blocks");
        for number in 0..if of_blocks { 120 } else { 3 } {
            memory.record(recording(number)).await.unwrap();
            if of_blocks {
                memory.project().await.unwrap();
            }
        }
        memory.close().await.unwrap();
        assert_sound(&path).await;
        sql(&path, damage).await;
        let store = TursoStore::open(&path).await.unwrap();
        let problems = store.check().await.unwrap();
        assert!(problems.iter().any(|problem| problem.contains(named)), "{damage}: {problems:?}");
        if named == "checksum is wrong" {
            let error = stored_patterns_error(&store).await;
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
    }
}

async fn stored_patterns_error(store: &TursoStore) -> memory_core::Error {
    store.scan_all(memory_core::Scan::new(memory_core::RecordKind::Pattern)).await.unwrap_err()
}

#[tokio::test]
async fn vacuum_gives_room_back_and_the_log_beside_the_file_stays_small() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    put_space(&store).await;
    let mut dice = Dice::new(5);
    let wal = path.with_file_name("memory.db-wal");
    for part in 0..30 {
        let mut batch = Batch::new();
        for number in 0..100 {
            batch = batch.put(generated(100 * part + number, &mut dice).await);
        }
        store.commit(&batch.put(generated_note(part, &mut dice).await)).await.unwrap();
        assert!(wal.metadata().unwrap().len() < 32 << 20);
    }
    let batch = (0..2_900).fold(Batch::new(), |batch, number| batch.delete(Key::Episode(id(number))));
    store.commit(&batch).await.unwrap();
    assert!(store.checkpoint().await.unwrap());
    assert_eq!(wal.metadata().unwrap().len(), 0);
    let before = path.metadata().unwrap().len();
    let vacuumed = store.vacuum().await.unwrap();
    assert_eq!((vacuumed.before, vacuumed.after), (before, path.metadata().unwrap().len()));
    assert!(vacuumed.after < before / 4, "{vacuumed:?}");
    let found = store.search(&Search::new(Scope::default()).text(crate::common::WORDS.join(" ")).k(100)).await.unwrap();
    assert!(!found.is_empty() && found.len() <= 100);
    store.close().await.unwrap();
    assert_sound(&path).await;
}
