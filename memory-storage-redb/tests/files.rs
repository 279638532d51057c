//! The file: what is refused, what is named, what survives a full disk.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{assert_sound, generated, place, put, put_space, simple, text};
use memory_core::testkit::{process, samples};
use memory_core::{
    Batch, Durability, ErrorKind, InMemoryStore, Key, Memory, MemoryStore, MemoryStoreExt, Record, RecordKind, Scan,
    Search, Version,
};
use memory_storage_redb::{Check, RedbConfig, RedbStore};

async fn refused(path: &Path) -> memory_core::Error {
    let error = RedbStore::open(path).await.unwrap_err();
    assert!(error.to_string().starts_with("open: "), "{error}");
    error
}

#[tokio::test]
async fn settings_outside_their_range_are_named() {
    let (_folder, path) = place();
    let default = RedbConfig::default();
    for (config, says) in [
        (default.with_busy_timeout(Duration::from_secs(3_601)), "busy_timeout is 3601s; allowed: 0s..=3600s"),
        (default.with_readers(0), "readers is 0; allowed: 1..=64"),
        (default.with_readers(65), "readers is 65; allowed: 1..=64"),
        (default.with_cache_bytes(1_000), "cache_bytes is 1000; allowed: 1048576..=1099511627776"),
    ] {
        let error = RedbStore::open_with(&path, config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(!path.exists());
    let least = default.with_busy_timeout(Duration::ZERO).with_readers(1).with_cache_bytes(1 << 20);
    put_space(&RedbStore::open_with(&path, least.with_check(Check::Always)).await.unwrap()).await;
}

#[tokio::test]
async fn the_store_says_what_and_where_it_is() {
    let (_folder, path) = place();
    let store = RedbStore::open(&path).await.unwrap();
    assert_eq!(store.to_string(), format!("RedbStore({})", path.display()));
    assert_eq!((store.info().name, store.info().durability), ("redb", Durability::Durable));
    let stack: Arc<dyn MemoryStore> = Arc::new(store);
    assert_eq!(stack.health().await.unwrap().version, Version(0));
}

#[tokio::test]
async fn files_of_others_are_refused_and_left_alone() {
    let (folder, path) = place();
    let text = "not a database ".repeat(1_000);
    std::fs::write(&path, &text).unwrap();
    let error = refused(&path).await;
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(refused(folder.path()).await.kind(), ErrorKind::Io);
    assert_eq!(refused(&folder.path().join("no/folder")).await.kind(), ErrorKind::Io);
    assert_eq!(refused(Path::new("a\0b")).await.kind(), ErrorKind::Invalid);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

async fn notes(store: &RedbStore, count: u32) {
    for n in 0..count {
        store.commit(&Batch::new().put(samples::noted(samples::note(n, &"x".repeat(9_000))))).await.unwrap();
    }
}

#[tokio::test]
async fn vacuum_gives_free_pages_back_to_the_disk() {
    let (folder, path) = place();
    let store = RedbStore::open(&path).await.unwrap();
    put_space(&store).await;
    notes(&store, 400).await;
    let gone = (10..400).map(|n| Key::Note(samples::note(n, "").id));
    store.commit(&gone.fold(Batch::new(), Batch::delete)).await.unwrap();
    let error = RedbStore::vacuum(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().starts_with("vacuum: "), "{error}");
    store.close().await.unwrap();

    let before = path.metadata().unwrap().len();
    let freed = RedbStore::vacuum(&path).await.unwrap();
    assert_eq!(path.metadata().unwrap().len(), before - freed);
    assert!(freed > before / 2, "{freed} of {before}");
    assert_sound(&path).await;
    let store = RedbStore::open(&path).await.unwrap();
    assert_eq!(store.scan_all(Scan::new(RecordKind::Note)).await.unwrap().len(), 10);
    notes(&store, 20).await;
    store.close().await.unwrap();
    assert_sound(&path).await;

    let missing = folder.path().join("missing");
    assert_eq!(RedbStore::vacuum(&missing).await.unwrap_err().kind(), ErrorKind::Io);
    assert!(!missing.exists());
    std::fs::write(&missing, "not a database ".repeat(1_000)).unwrap();
    assert_eq!(RedbStore::vacuum(&missing).await.unwrap_err().kind(), ErrorKind::Foreign);
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
    put(&RedbStore::open(&path).await.unwrap(), simple(1, "task")).await;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(&path, 0o444);
    mode(folder.path(), 0o555);
    let test = "read_only_files_and_folders_are_named";
    let paths = std::env::join_paths([&path, &folder.path().join("new.redb")]).unwrap();
    let errors = process::run_without_root(test, &[("PATHS", paths.to_str().unwrap())]);
    mode(folder.path(), 0o755);
    let Some(errors) = errors else {
        return println!("skipped: no process without root's powers can be started here");
    };
    let errors: Vec<&str> = errors.lines().filter(|line| line.starts_with("error ")).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().all(|line| line.contains(": ReadOnly:") && line.contains(".redb")), "{errors:?}");
}

#[cfg(unix)]
async fn open_and_print() {
    let paths = std::env::var_os("PATHS").unwrap();
    for path in std::env::split_paths(&paths) {
        match RedbStore::open(&path).await {
            Ok(_) => println!("opened {}", path.display()),
            Err(error) => println!("error {}: {:?}: {error}", path.display(), error.kind()),
        }
    }
}

/// A file that may not grow any more is a full disk to redb. The store says so, each time, and can still be read; when there is
/// room again, it goes on where it was.
#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_is_told_and_loses_nothing() {
    let test = "a_full_disk_is_told_and_loses_nothing";
    if process::is_child() {
        return fill_up().await;
    }
    let (_folder, path) = place();
    let printed = with_small_files(test, &path, 6_000);
    let written: u64 = printed.lines().find_map(|line| line.strip_prefix("written ")).unwrap().parse().unwrap();
    assert!(written > 50, "{written}");
    let store = RedbStore::open(&path).await.unwrap();
    assert_eq!(store.health().await.unwrap().episodes, written);
    put(&store, simple(1_000_000, "there is room again")).await;
    store.close().await.unwrap();
    assert_sound(&path).await;
}

/// What this test prints in a process whose files may have so many blocks, of 512 or 1,024 bytes.
#[cfg(unix)]
fn with_small_files(test: &str, path: &Path, blocks: u32) -> String {
    let inner = process::command(test, &[("STORE", path.to_str().unwrap())]);
    // The signal that comes with the limit is ignored, so that writing fails instead.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")])
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let child = limited.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    String::from_utf8(process::wait(test, child).stdout).unwrap()
}

/// A file that was made in part stayed beside.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_cannot_be_made_leaves_nothing() {
    let test = "a_file_that_cannot_be_made_leaves_nothing";
    if process::is_child() {
        let error = refused(Path::new(&std::env::var_os("STORE").unwrap())).await;
        return println!("refused as {:?}", error.kind());
    }
    let (folder, path) = place();
    let printed = with_small_files(test, &path, 1);
    assert!(printed.contains("refused as Full"), "{printed}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[cfg(unix)]
async fn fill_up() {
    let store = RedbStore::open(std::env::var_os("STORE").unwrap()).await.unwrap();
    put_space(&store).await;
    let mut dice = common::Dice::new(1);
    let (mut written, mut refused, mut round) = (0_u128, 0, 0);
    let mut seen = Version(0);
    while refused < 5 {
        round += 1;
        let derivable = Batch::new().put(samples::noted(samples::note(round, "not durable"))).as_derivable();
        if let Err(error) = store.commit(&derivable).await {
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        }
        seen = seen.max(store.health().await.unwrap().version);
        let mut record = generated(written, &mut dice).await;
        if let Record::Episode(logged) = &mut record {
            let episode = Arc::make_mut(&mut logged.episode);
            (0..500).for_each(|_| episode.outcome.summary.push_str(&text(&mut dice)));
        }
        match store.commit(&Batch::new().put(record)).await {
            Ok(_) => written += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                refused += 1;
            }
        }
        assert!(
            store.health().await.unwrap().version >= seen,
            "versions do not go back, though what was not durable is gone"
        );
        let episodes = store.scan(&Scan::new(RecordKind::Episode).limit(3)).await.unwrap().records.len() as u128;
        assert_eq!(episodes, written.min(3), "it can be read");
    }
    let health = store.health().await.unwrap();
    assert_eq!(u128::from(health.episodes), written);
    let search = Search::new(memory_core::Scope::default()).text("login");
    assert!(!store.search(&search).await.unwrap().is_empty());
    println!("written {written}");
    store.close().await.unwrap();
}

/// Texts that are commands, patterns or ends of something elsewhere are texts here, in every field.
#[tokio::test]
async fn texts_that_look_like_something_come_back_as_they_are() {
    let (_folder, path) = place();
    let mut texts = samples::awkward_texts();
    texts.extend([
        "\u{ff}\0\u{1}records".to_owned(),
        "../../etc/passwd".to_owned(),
        "${jndi:ldap://x}".to_owned(),
        "<script>alert(1)</script>".to_owned(),
        "{{7*7}} %s %n".to_owned(),
        "\u{0}".repeat(9_000),
    ]);
    let mut all: Vec<Record> = Vec::new();
    for (n, text) in (0..).zip(&texts) {
        let mut pattern = samples::pattern(n);
        (pattern.domain, pattern.signature) = (Some(text.clone()), vec![text.clone(), text.clone()]);
        pattern.branches = [(text.clone(), samples::evidence(1, [1, 1, 1]))].into();
        let mut habit = pattern.clone();
        habit.kind = memory_core::PatternKind::Habit;
        let (mut open, mut step) = (samples::open(1_000 + n), samples::step(1_000 + n, n));
        open.task = samples::episode_full_of(n, text).task;
        (open.state, open.source) = (Some(text.clone()), memory_core::Source::untrusted(text));
        step.step = memory_core::Step::new(text).action(text).input(text).error(text);
        let mut episode = samples::episode_full_of(n, text);
        episode.source = memory_core::Source::trusted(text);
        all.extend([
            samples::logged(episode),
            samples::noted(samples::note_full_of(n, text)),
            Record::Pattern(pattern),
            Record::Pattern(habit),
            Record::Open(open),
            Record::Step(step),
        ]);
    }
    let mut space = samples::space(3);
    (space.provider, space.model, space.query_prefix) = (texts[3].clone(), texts[6].clone(), texts[2].clone());
    all.push(Record::Space(space));
    let store = RedbStore::open(&path).await.unwrap();
    store.commit(&all.iter().cloned().fold(Batch::new(), Batch::put)).await.unwrap();
    store.close().await.unwrap();
    let store = RedbStore::open(&path).await.unwrap();
    let keys: Vec<Key> = all.iter().map(Record::key).collect();
    for (stored, record) in store.get(&keys).await.unwrap().into_iter().zip(&all) {
        assert_eq!(stored.unwrap().record, *record);
    }
    // They are searched as words, and found as they are.
    let memory = InMemoryStore::new();
    memory.commit(&all.iter().cloned().fold(Batch::new(), Batch::put)).await.unwrap();
    for text in &texts {
        let search = Search::new(memory_core::Scope::default()).text(text).trace(true).k(100);
        assert_eq!(store.search(&search).await.unwrap(), memory.search(&search).await.unwrap(), "{text:?}");
    }
}

/// An encoded episode of one byte too many is refused, and leaves nothing.
#[tokio::test]
async fn a_record_that_is_too_large_is_refused() {
    let (_folder, path) = place();
    let store = RedbStore::open(&path).await.unwrap();
    let sized = |bytes: usize| {
        let mut episode = samples::episode(1, "large");
        episode.outcome.summary = String::new();
        let rest = episode.encoded_len();
        episode.outcome.summary = "x".repeat(bytes - rest);
        samples::logged(episode)
    };
    let error = store.commit(&Batch::new().put(sized(10_000_001))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("10000001 bytes"), "{error}");
    assert_eq!(store.health().await.unwrap().version, Version(0));
    put(&store, sized(10_000_000)).await;
    let found = store.get_one(Key::Episode(samples::episode_id(1))).await.unwrap().unwrap();
    assert_eq!(found.record, sized(10_000_000));
    // Notes and patterns are not bounded by their form as JSON, but by what is written of them.
    let error = store.commit(&Batch::new().put(samples::noted(samples::note(1, &"x".repeat(10_000_000))))).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
}

/// Closing gives the file free at once, whoever else has a clone of the store.
#[tokio::test]
async fn a_store_that_was_closed_gives_the_file_free() {
    let (_folder, path) = place();
    for round in 0..3 {
        let store = RedbStore::open_with(&path, RedbConfig::default().with_busy_timeout(Duration::ZERO)).await.unwrap();
        let clone = store.clone();
        let memory = Memory::builder().store(store).build().await.unwrap();
        assert_eq!(memory.health().await.unwrap().store.episodes, round);
        put(&clone, simple(u128::from(round), "again")).await;
        memory.close().await.unwrap();
        assert_eq!(clone.health().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

/// What is overwritten is used again, although the state before the last commit can always still be read.
#[tokio::test]
async fn overwriting_does_not_make_the_file_grow() {
    let (_folder, path) = place();
    let store = RedbStore::open(&path).await.unwrap();
    let mut sizes = Vec::new();
    for round in 0..6 {
        for n in 0..150 {
            let mut batch = samples::one_of_each(n % 10).into_iter().fold(Batch::new(), Batch::put);
            batch.derivable = n % 3 > 0;
            store.commit(&batch).await.unwrap();
        }
        sizes.push(std::fs::metadata(&path).unwrap().len());
        assert!(sizes[round] <= sizes[0] * 2, "{sizes:?}");
    }
    assert_eq!(sizes[3], sizes[5], "{sizes:?}");
}
