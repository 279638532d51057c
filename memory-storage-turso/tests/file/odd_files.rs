//! Files that are not what they should be, and quotas.

use std::path::Path;
use std::time::Duration;

use crate::common::{
    assert_sound, episode, fold, id, log, logged, moment, note_id, number, place, put, put_space, simple, sql, vector,
};
#[cfg(unix)]
use memory_core::testkit::invariants::stored_patterns;
use memory_core::testkit::process;
use memory_core::{
    Batch, ErrorKind, HashEmbedder, Key, Memory, MemoryStore, MemoryStoreExt, NewNote, Note, NoteFilter, Outcome,
    Pattern, Record, RecordKind, Recording, Scan, Scope, Search, Step, StoredNote, Task, Telling, Trust, VectorSpace,
    Version,
};
use memory_storage_turso::{TursoConfig, TursoStore};

/// A file with a few episodes, closed.
async fn small(path: &Path, episodes: u128) {
    let store = TursoStore::open(path).await.unwrap();
    put_space(&store).await;
    let mut batch = Batch::new();
    for number in 0..episodes {
        let text = format!("task {number} of many");
        let one = episode(number, &Scope::default(), Task::new(&text), Outcome::success(text.repeat(20)), moment(0));
        batch = batch.put(logged(one, Some(vector(&text).await)));
    }
    store.commit(&batch).await.unwrap();
    store.close().await.unwrap();
}

async fn refused(path: &Path) -> memory_core::Error {
    TursoStore::open(path).await.unwrap_err()
}

#[tokio::test]
async fn settings_outside_their_range_are_named() {
    let (_folder, path) = place();
    for (config, text) in [
        (TursoConfig::default().with_readers(0), "readers is 0; allowed: 1..=64"),
        (TursoConfig::default().with_readers(65), "readers is 65; allowed: 1..=64"),
        (TursoConfig::default().with_max_bytes(1_000), "max_bytes is 1000; allowed: 1048576 and more"),
        (TursoConfig::default().with_busy_timeout(Duration::from_secs(3_601)), "busy_timeout is 3601s; allowed"),
    ] {
        let error = TursoStore::open_with(&path, config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with(&format!("open: invalid value: {text}")), "{error}");
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn paths_that_cannot_be_a_file_are_named() {
    let (folder, path) = place();
    let missing = folder.path().join("no/such/folder/memory.db");
    let error = refused(&missing).await;
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("no/such/folder"), "{error}");
    assert_eq!(refused(folder.path()).await.kind(), ErrorKind::Invalid);
    assert_eq!(refused(Path::new("")).await.kind(), ErrorKind::Invalid);
    assert_eq!(refused(&folder.path().join("zero\0byte")).await.kind(), ErrorKind::Invalid);
    // A file where a folder should be.
    std::fs::write(&path, "").unwrap();
    assert_eq!(refused(&path.join("memory.db")).await.kind(), ErrorKind::Io);
}

#[tokio::test]
async fn databases_of_others_are_left_alone() {
    let (folder, path) = place();
    std::fs::write(&path, "This is a letter, not a database. ".repeat(100)).unwrap();
    assert_eq!(refused(&path).await.kind(), ErrorKind::Foreign);
    let others = folder.path().join("others.db");
    sql(&others, "CREATE TABLE episodes (title TEXT); INSERT INTO episodes VALUES ('Pilot')").await;
    let before = std::fs::read(&others).unwrap();
    let error = refused(&others).await;
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert!(error.to_string().contains("others.db"), "{error}");
    assert_eq!(std::fs::read(&others).unwrap(), before);
    let marked = folder.path().join("marked.db");
    sql(&marked, "PRAGMA application_id = 77; PRAGMA journal_mode = WAL").await;
    assert_eq!(refused(&marked).await.kind(), ErrorKind::Foreign);
    // An empty file is nobody's.
    let empty = folder.path().join("empty.db");
    std::fs::write(&empty, "").unwrap();
    TursoStore::open(&empty).await.unwrap();
    assert_eq!(number(&empty, "PRAGMA application_id").await, 0x4B6E_4877);
}

#[tokio::test]
async fn a_newer_schema_is_named_with_both_versions() {
    let (_folder, path) = place();
    small(&path, 1).await;
    sql(&path, "INSERT INTO migrations VALUES (2, 'future', 'x', 0); ALTER TABLE episode_records ADD COLUMN mood TEXT")
        .await;
    let error = refused(&path).await;
    assert_eq!(error.kind(), ErrorKind::SchemaTooNew);
    assert!(error.to_string().contains("version 2") && error.to_string().contains("up to 1"), "{error}");
}

#[tokio::test]
async fn what_was_edited_by_hand_is_named() {
    for (edit, name) in [
        ("UPDATE migrations SET checksum = 'x'", "migration 1 (init)"),
        ("ALTER TABLE episode_records ADD COLUMN mood TEXT", "episode_records"),
        ("ALTER TABLE records RENAME COLUMN body TO text", "records"),
        ("DROP TABLE vectors", "vectors"),
        ("DROP INDEX notes_by_scope", "notes_by_scope"),
        ("DROP VIEW episodes", "episodes"),
        ("DROP TABLE migrations", "migrations"),
    ] {
        let (_folder, path) = place();
        small(&path, 1).await;
        sql(&path, edit).await;
        let error = refused(&path).await;
        assert_eq!(error.kind(), ErrorKind::SchemaEdited, "{edit}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn what_others_add_beside_the_tables_does_no_harm() {
    let (_folder, path) = place();
    small(&path, 3).await;
    sql(
        &path,
        "CREATE INDEX mine ON episode_records (body ->> '$.outcome.reward'); CREATE VIEW tasks AS SELECT task FROM episodes;
         CREATE TABLE remarks (text); ANALYZE; VACUUM",
    )
    .await;
    let store = TursoStore::open(&path).await.unwrap();
    put(&store, simple(9, "a new task")).await;
    let found = store.search(&Search::new(Scope::default()).text("task 2")).await.unwrap();
    assert_eq!((found.len(), found[0].key.clone()), (4, Key::Episode(id(2))));
    assert_eq!(number(&path, "SELECT count(*) FROM tasks WHERE task LIKE '%task%'").await, 4);
}

/// Adds three notes with vectors, of which one expires.
async fn put_notes(path: &Path) {
    let store = TursoStore::open(path).await.unwrap();
    for number in 0..3 {
        let mut new = NewNote::new(format!("note {number} of many"));
        new.expires_at = (number == 1).then(|| moment(5));
        let mut note = Note::new(Scope::default(), Trust::Trusted, Telling::new(new, moment(0)));
        note.id = note_id(number);
        let vector = Some(vector(&note.text).await);
        put(&store, Record::Note(StoredNote { note: note.into(), vector })).await;
    }
    store.close().await.unwrap();
}

/// Runs every kind of call; only typed errors of these kinds may come back.
async fn exercise(path: &Path, damage: &str) -> usize {
    let typed = |error: &memory_core::Error| {
        let kinds = [ErrorKind::Corrupt, ErrorKind::Foreign, ErrorKind::SchemaEdited, ErrorKind::Io];
        // Without a trace of its record, the vector space was never put.
        let no_space = error.to_string().contains("no vector space");
        assert!(no_space || kinds.contains(&error.kind()), "{damage}: {error:?}");
        assert!(!error.to_string().contains("panicked"), "{damage}: {error}");
    };
    let store = match TursoStore::open_with(path, TursoConfig::default().with_readers(1)).await {
        Ok(store) => store,
        Err(error) => {
            typed(&error);
            return 1;
        }
    };
    let keys: Vec<Key> = (0..60).map(|number| Key::Episode(id(number))).collect();
    let mut search = Search::new(Scope::default()).text("task 7 of many auth").trace(true).k(100);
    let mut errors: Vec<memory_core::Error> = Vec::new();
    for key in keys {
        errors.extend(store.get_one(key).await.err());
    }
    errors.extend(store.scan_all(Scan::new(RecordKind::Episode)).await.err());
    errors.extend(store.scan_all(Scan::new(RecordKind::Pattern)).await.err());
    errors.extend(store.search(&search).await.err());
    search.vector = Some(vector("task 7").await);
    errors.extend(store.search(&search).await.err());
    for number in 0..3 {
        errors.extend(store.get_one(Key::Note(note_id(number))).await.err());
    }
    errors.extend(store.scan_all(Scan::new(RecordKind::Note)).await.err());
    let expired = Scan::new(RecordKind::Note).notes(NoteFilter::default().expired_at(moment(1 << 40)));
    errors.extend(store.scan_all(expired).await.err());
    errors.extend(store.search(&search.for_notes(NoteFilter::default().quorum(2))).await.err());
    errors.extend(store.changes(Version(0), 1_000).await.err());
    errors.extend(store.health().await.err());
    errors.extend(store.commit(&Batch::new().put(simple(1, "task 1 anew"))).await.err());
    errors.extend(store.commit(&Batch::new().delete(Key::Episode(id(2)))).await.err());
    errors.extend(store.commit(&Batch::new().delete(Key::Note(note_id(1)))).await.err());
    errors.iter().for_each(typed);
    store.close().await.unwrap();
    errors.len()
}

#[tokio::test]
async fn garbage_in_the_file_is_an_error_and_never_a_panic() {
    let (folder, path) = place();
    small(&path, 60).await;
    put_notes(&path).await;
    let good = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.db");
    let mut noticed = 0;
    for page in 0..good.len() / 4_096 {
        for (at, length, byte) in [(0, 4_096, 0xA5), (0, 100, 0xFF), (1_000, 1_500, 0xC3), (200, 3_800, 0)] {
            let mut bytes = good.clone();
            let start = page * 4_096 + at;
            let end = (start + length).min(bytes.len());
            bytes[start..end].fill(byte);
            std::fs::write(&damaged, bytes).unwrap();
            noticed += usize::from(exercise(&damaged, &format!("page {page} at {at}")).await > 0);
            for rest in ["damaged.db-wal", "damaged.db-shm"] {
                let _ = std::fs::remove_file(folder.path().join(rest));
            }
        }
    }
    assert!(noticed > good.len() / 4_096, "{noticed} of {} pages", good.len() / 4_096);
}

#[tokio::test]
async fn bodies_that_are_not_what_was_written_are_corrupt_and_named() {
    let (_folder, path) = place();
    small(&path, 3).await;
    put_notes(&path).await;
    sql(
        &path,
        "UPDATE note_records SET body = json_set(body, '$.kind', 'x') WHERE version = 6;
         UPDATE vectors SET vector = x'00' WHERE version = 7;
         UPDATE episode_records SET body = '{\"id\": 1}' WHERE version = 2;
         UPDATE episode_records SET body = json_object('id', hex(zeroblob(5000000))) WHERE version = 3;
         UPDATE vectors SET vector = x'0000807F' WHERE version = 4;
         UPDATE records SET body = 'null' WHERE kind = 'space'",
    )
    .await;
    let store = TursoStore::open(&path).await.unwrap();
    for (key, text) in [
        (Key::Episode(id(0)), "does not decode"),
        (Key::Episode(id(1)), "episode_records.body holds more than 10000000 bytes"),
        (Key::Episode(id(2)), "episode_records.vector holds"),
        (Key::Note(note_id(1)), "does not decode"),
        (Key::Note(note_id(2)), "note_records.vector holds"),
        (Key::Space, "Space does not decode"),
    ] {
        let error = store.get_one(key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(text), "{error}");
    }
    // What is not damaged is still there, and what is damaged can be deleted.
    put(&store, simple(7, "fine")).await;
    let batch = (0..3).fold(Batch::new(), |batch, number| batch.delete(Key::Episode(id(number))));
    store.commit(&batch).await.unwrap();
    assert_eq!(store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_store_can_be_read_and_is_usable_again_after_deleting() {
    let (_folder, path) = place();
    let store = TursoStore::open_with(&path, TursoConfig::default().with_max_bytes(2 << 20)).await.unwrap();
    let large = |number: u128| {
        let outcome = Outcome::success("x".repeat(3_000)).artifact("a", "y".repeat(30_000));
        logged(episode(number, &Scope::default(), Task::new(format!("task {number}")), outcome, moment(0)), None)
    };
    let mut written = 0;
    let error = loop {
        match store.commit(&Batch::new().put(large(written))).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(written > 20);
    // Small ones too, until nothing at all goes in any more.
    let mut small = 10_000;
    while store.commit(&Batch::new().put(simple(small, "small"))).await.is_ok() {
        small += 1;
    }
    assert_eq!(store.get(&[Key::Episode(id(0)), Key::Episode(id(written))]).await.unwrap()[1], None);
    let search = Search::new(Scope::default()).text("task 3").k(1);
    assert_eq!(store.search(&search).await.unwrap()[0].key, Key::Episode(id(3)));
    assert_eq!(store.health().await.unwrap().episodes, u64::try_from(written + small - 10_000).unwrap());
    for number in 0..written / 2 {
        store.commit(&Batch::new().delete(Key::Episode(id(number)))).await.unwrap();
    }
    for number in 0..written / 4 {
        store.commit(&Batch::new().put(large(number))).await.unwrap();
    }
    assert_eq!(store.search(&search).await.unwrap()[0].key, Key::Episode(id(3)));
    store.close().await.unwrap();
    assert!(path.metadata().unwrap().len() <= 4 << 20);
}

#[tokio::test]
async fn a_full_memory_keeps_what_it_has_and_goes_on_after_deleting() {
    let (_folder, path) = place();
    let store = TursoStore::open_with(&path, TursoConfig::default().with_max_bytes(2 << 20)).await.unwrap();
    let memory = Memory::builder().store(store.clone()).build().await.unwrap();
    let step = |number: usize| Step::new("grep").input(format!("{number}")).error("y".repeat(5_000));
    let recording = |number: u128| {
        let outcome = Outcome::success("done").artifact("a", "y".repeat(30_000));
        let steps = [Step::new("grep").ok("found"), Step::new(format!("tool {}", number % 7)).error("no")];
        Recording::new(Task::new(format!("task {number}")), outcome).id(id(number)).steps(steps)
    };
    let mut open = memory.start(Task::new("open while the store fills up")).await.unwrap();
    open.step(step(0)).await.unwrap();
    let mut written = 0;
    let full = loop {
        match memory.record(recording(written)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::Full, "{full}");
    let full = loop {
        if let Err(error) = open.step(step(open.steps().len())).await {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::Full, "{full}");
    let outcome = Outcome::success("done").artifact("large", "z".repeat(100_000));
    assert_eq!(open.complete(outcome.clone()).await.unwrap_err().kind(), ErrorKind::Full);
    // Patterns that do not fit are folded by their readers.
    assert!(memory.project().await.err().is_none_or(|error| error.kind() == ErrorKind::Full));

    for absent in [id(written), open.id()] {
        assert_eq!(memory.episode(absent).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(memory.health().await.unwrap().store.episodes, u64::try_from(written).unwrap());
    let resumed = memory.resume(open.id()).await.unwrap();
    assert_eq!(resumed.steps(), (0..open.steps().len()).map(step).collect::<Vec<_>>());
    assert_eq!(memory.patterns().await.unwrap(), known(&store).await);

    for number in 0..written / 2 {
        memory.delete(id(number)).await.unwrap();
        assert_eq!(memory.patterns().await.unwrap(), known(&store).await, "{number} is deleted");
    }
    open.complete(outcome.clone()).await.unwrap();
    assert_eq!(memory.episode(open.id()).await.unwrap().outcome, outcome);
    for number in [0, written] {
        memory.record(recording(number)).await.unwrap();
    }
    memory.project().await.unwrap();
    assert_eq!(stored_patterns(&store).await, known(&store).await);
    assert_eq!(memory.rebuild().await.unwrap().repaired, 0);
    memory.close().await.unwrap();
    assert_sound(&path).await;
    assert!(written > 20 && path.metadata().unwrap().len() <= 3 << 20);
}

/// What follows from the log.
async fn known(store: &TursoStore) -> Vec<Pattern> {
    fold(log(store).await.iter().map(|(_, episode)| episode))
}

#[tokio::test]
async fn a_memory_of_another_vector_space_is_refused_and_changes_nothing() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let own = memory_core::Embedder::space(&HashEmbedder::new()).clone();
    let other = VectorSpace { revision: format!("{} of others", own.revision), ..own.clone() };
    let one = episode(1, &Scope::default(), Task::new("one"), Outcome::success("done"), moment(0));
    let records = [Record::Space(other.clone()), logged(one, Some(vector("one").await))];
    store.commit(&records.iter().cloned().fold(Batch::new(), Batch::put)).await.unwrap();
    let before = (store.health().await.unwrap(), store.changes(Version(0), 1_000).await.unwrap());
    let error = Memory::builder().store(store.clone()).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SpaceMismatch);
    assert!(error.to_string().contains(&own.to_string()) && error.to_string().contains(&other.to_string()), "{error}");
    assert_eq!((store.health().await.unwrap(), store.changes(Version(0), 1_000).await.unwrap()), before);
    for record in records {
        assert_eq!(store.get_one(record.key()).await.unwrap().map(|stored| stored.record), Some(record));
    }
}

/// The child runs without root's powers, because file permissions do not bind root.
#[cfg(unix)]
#[tokio::test]
async fn read_only_files_and_folders_are_named() {
    use std::os::unix::fs::PermissionsExt;
    if process::is_child() {
        return open_and_print().await;
    }
    let (folder, path) = place();
    small(&path, 1).await;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(&path, 0o444);
    mode(folder.path(), 0o555);
    let test = "odd_files::read_only_files_and_folders_are_named";
    let paths = std::env::join_paths([&path, &folder.path().join("new.db")]).unwrap();
    let errors = process::run_without_root(test, &[("PATHS", paths.to_str().unwrap())]);
    mode(folder.path(), 0o755);
    let Some(errors) = errors else {
        return println!("skipped: no process without root's powers can be started here");
    };
    let errors: Vec<&str> = errors.lines().filter(|line| line.starts_with("error ")).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().all(|line| line.contains(": ReadOnly:") && line.contains(".db")), "{errors:?}");
}

#[cfg(unix)]
async fn open_and_print() {
    let paths = std::env::var_os("PATHS").unwrap();
    for path in std::env::split_paths(&paths) {
        match TursoStore::open(&path).await {
            Ok(_) => println!("opened {}", path.display()),
            Err(error) => println!("error {}: {:?}: {error}", path.display(), error.kind()),
        }
    }
}

#[tokio::test]
async fn records_of_the_wrong_key_are_corrupt() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let mark = |number| {
        let learner = memory_core::LearnerId::new(uuid::Uuid::from_u128(number));
        Record::Watermark(memory_core::Watermark { learner, position: Version(7) })
    };
    store.commit(&Batch::new().put(mark(1)).put(mark(2))).await.unwrap();
    sql(&path, "UPDATE records SET body = (SELECT body FROM records ORDER BY key LIMIT 1)").await;
    let errors = [
        store.get_one(mark(2).key()).await.unwrap_err(),
        store.scan_all(Scan::new(RecordKind::Watermark)).await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Corrupt), "{errors:?}");
    assert!(store.get_one(mark(1).key()).await.unwrap().is_some());
}

/// The README shows how to read a file with plain SQL.
#[tokio::test]
async fn the_queries_in_the_readme_work() {
    let (_folder, path) = place();
    small(&path, 3).await;
    let readme = include_str!("../../README.md");
    let queries: Vec<&str> = readme.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(queries.len(), 2);
    sql(&path, &queries.concat()).await;
    sql(&path, "INSERT INTO words (words) VALUES ('optimize')").await;
    assert_eq!(number(&path, "SELECT count(*) FROM episodes WHERE task LIKE 'task % of many'").await, 3);
    TursoStore::open(&path).await.unwrap();
}
