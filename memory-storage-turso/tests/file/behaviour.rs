//! What the store promises beyond giving the same answers as the one in memory: feed, conditions, order, end.

use crate::common::{episode, id, logged, moment, place, put, put_space, simple, vector};
use memory_core::testkit::samples;
use memory_core::{
    Batch, Cursor, Durability, ErrorKind, FeedEntry, HashEmbedder, Key, LearnerId, MemoryStore, MemoryStoreExt,
    OpenedEpisode, OpenedStep, Outcome, Pattern, PatternKind, Record, RecordKind, Scan, Scope, Search, Step, Task,
    Trust, Vector, Version, Watermark,
};
use memory_storage_turso::{TursoConfig, TursoStore};
use uuid::Uuid;

fn learner(number: u128) -> LearnerId {
    LearnerId::new(Uuid::from_u128(number))
}

fn pattern(scope: &Scope, signature: &str) -> Record {
    let signature = vec![signature.to_owned()];
    Record::Pattern(Pattern::new(learner(1), scope.clone(), Trust::Trusted, PatternKind::Transition, None, signature))
}

fn open_episode(number: u128, scope: &Scope) -> Record {
    let (task, open) = (Task::new("something"), OpenedEpisode { id: id(number), ..samples::open(1) });
    Record::Open(OpenedEpisode { scope: scope.clone(), task, started_at: moment(1), ..open })
}

fn step(number: u128, index: u32) -> Record {
    Record::Step(OpenedStep { episode: id(number), index, step: Step::new("ls").latency_ms(u64::MAX) })
}

#[tokio::test]
async fn every_kind_of_record_comes_back_after_reopening() {
    let (_folder, path) = place();
    let scope = Scope::new("acme").unwrap().agent("coder").unwrap();
    let task = Task::new("fix it").domain("web").language("rust").tag("x").environment("rustc", "1.95");
    let outcome = Outcome::partial("half").reward(0.1 + 0.2).reflection("again").artifact("patch", "+1 -1");
    let at = "2016-12-31T23:59:60.123456789Z".parse().unwrap();
    let full = logged(episode(1, &scope, task, outcome, at), Some(vector("fix it").await));
    let records = [
        Record::Space(memory_core::Embedder::space(&HashEmbedder::new()).clone()),
        Record::Watermark(Watermark { learner: learner(1), position: Version(u64::MAX) }),
        full,
        simple(2, "without a vector"),
        open_episode(3, &scope),
        step(3, u32::MAX),
        pattern(&scope, "+ls"),
    ];
    let store = TursoStore::open(&path).await.unwrap();
    let batch = records.iter().cloned().fold(Batch::new(), Batch::put);
    let commit = store.commit(&batch).await.unwrap();
    assert_eq!((commit.version, commit.durability), (Version(7), Durability::Durable));
    store.close().await.unwrap();

    let store = TursoStore::open(&path).await.unwrap();
    let keys: Vec<Key> = records.iter().map(Record::key).chain([Key::Open(id(99))]).collect();
    let stored = store.get(&keys).await.unwrap();
    for (number, record) in records.into_iter().enumerate() {
        let stored = stored[number].as_ref().unwrap();
        assert_eq!((stored.version.0, &stored.record), (number as u64 + 1, &record));
    }
    assert_eq!(stored[7], None);
    let health = store.health().await.unwrap();
    assert_eq!((health.version.0, health.episodes, health.open_episodes, health.patterns), (7, 2, 1, 1));
    assert_eq!(store.commit(&Batch::new()).await.unwrap().version, Version(7));
}

#[tokio::test]
async fn the_feed_tells_each_record_once_at_its_last_change() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let mark = |position| Record::Watermark(Watermark { learner: learner(1), position: Version(position) });
    put_space(&store).await;
    put(&store, simple(1, "one")).await;
    put(&store, simple(2, "two")).await;
    put(&store, mark(2)).await;
    put(&store, pattern(&Scope::default(), "+ls")).await;
    put(&store, simple(1, "one again")).await;
    put(&store, mark(3)).await;
    store.commit(&Batch::new().delete(Key::Episode(id(2))).delete(Key::Episode(id(7)))).await.unwrap();
    let told = |entries: &[FeedEntry]| -> Vec<(Key, bool)> {
        entries.iter().map(|entry| (entry.key.clone(), entry.deleted)).collect()
    };
    let expected = vec![
        (Key::Space, false),
        (Key::Episode(id(1)), false),
        (Key::Watermark(learner(1)), false),
        (Key::Episode(id(2)), true),
    ];
    let all = store.changes(Version(0), 1_000).await.unwrap();
    assert_eq!(told(&all.entries), expected);
    assert_eq!(all.upto, store.health().await.unwrap().version);
    assert!(all.entries.is_sorted_by(|a, b| a.version < b.version));
    // The same, one by one.
    let (mut since, mut entries) = (Version(0), Vec::new());
    loop {
        let changes = store.changes(since, 1).await.unwrap();
        if changes.entries.is_empty() {
            break;
        }
        entries.extend(changes.entries);
        since = changes.upto;
    }
    assert_eq!(entries, all.entries);
    // Putting a deleted record again takes its deletion out of the feed.
    put(&store, simple(2, "two again")).await;
    let last = store.changes(all.upto, 10).await.unwrap();
    assert_eq!(told(&last.entries), [(Key::Episode(id(2)), false)]);
    assert_eq!(store.changes(Version(0), 1_000).await.unwrap().entries.len(), 4);
    assert_eq!(store.changes(Version(u64::MAX), 10).await.unwrap().upto, Version(u64::MAX));
    assert_eq!(store.changes(Version(0), 0).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_batch_happens_as_a_whole_or_not_at_all() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let first = put(&store, simple(1, "one")).await.version;
    let key = Key::Episode(id(1));
    let refused = [
        Batch::new().require_absent(key.clone()),
        Batch::new().require_present(Key::Episode(id(2))),
        Batch::new().require_unchanged(key.clone(), Some(Version(first.0 + 1))),
        Batch::new().require_unchanged(key.clone(), None),
    ];
    for batch in refused {
        let error = store.commit(&batch.put(simple(2, "two"))).await.unwrap_err();
        assert!(error.is_conflict(), "{error}");
    }
    let good = Batch::new().require_unchanged(key.clone(), Some(first)).require_absent(Key::Space);
    // The second change fails: the vector has no space to be in.
    let lost = logged(
        episode(3, &Scope::default(), Task::new("x"), Outcome::success(""), moment(0)),
        Some(Vector::new(vec![1.0]).unwrap()),
    );
    let error = store.commit(&good.clone().put(simple(2, "two")).put(lost.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(store.get_one(Key::Episode(id(2))).await.unwrap(), None);
    assert_eq!(store.health().await.unwrap().version, first);
    put_space(&store).await;
    let error = store.commit(&Batch::new().put(lost)).await.unwrap_err();
    assert!(error.to_string().contains("1 long"), "{error}");
    let mut other = memory_core::Embedder::space(&HashEmbedder::new()).clone();
    other.revision = "2".to_owned();
    let error = store.commit(&Batch::new().put(Record::Space(other.clone()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SpaceMismatch);
    let batch = Batch::new().delete(Key::Space).put(Record::Space(other));
    assert_eq!(store.commit(&batch).await.unwrap_err().kind(), ErrorKind::Invalid);
    put_space(&store).await;
}

#[tokio::test]
async fn a_derivable_batch_is_not_called_durable_and_is_there() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let batch = Batch::new().put(pattern(&Scope::default(), "+ls")).as_derivable();
    assert_eq!(store.commit(&batch).await.unwrap().durability, Durability::Volatile);
    assert_eq!(store.health().await.unwrap().patterns, 1);
    assert_eq!(put(&store, simple(1, "one")).await.durability, Durability::Durable);
}

#[tokio::test]
async fn scans_go_by_key_within_kind_and_scope() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let other = Scope::new("other").unwrap();
    let mut batch = Batch::new().put(Record::Watermark(Watermark { learner: learner(9), position: Version(1) }));
    for number in 0..20 {
        let scope = if number % 4 == 0 { &other } else { &Scope::default() };
        batch = batch.put(open_episode(number * 7 % 20, scope)).put(pattern(scope, &format!("+{number}")));
        batch = batch.put(step(3, u32::try_from(number).unwrap() * 100)).put(step(4, 0));
    }
    store.commit(&batch).await.unwrap();
    let keys = async |scan: Scan| -> Vec<Key> {
        store.scan_all(scan).await.unwrap().iter().map(|stored| stored.record.key()).collect()
    };
    for (kind, scope, count) in [
        (RecordKind::Open, None, 20),
        (RecordKind::Open, Some(&other), 5),
        (RecordKind::Pattern, Some(&Scope::default()), 15),
        (RecordKind::Step, None, 21),
        (RecordKind::Step, Some(&other), 0),
        (RecordKind::Watermark, None, 1),
        (RecordKind::Space, None, 0),
    ] {
        let mut scan = Scan::new(kind).limit(4);
        scan.scope = scope.cloned();
        let keys = keys(scan).await;
        assert_eq!(keys.len(), count, "{kind:?} {scope:?}");
        assert!(keys.is_sorted() && keys.iter().all(|key| key.kind() == kind));
    }
    let after = Some(Cursor::Key(Key::Step(id(3), 1_850)));
    assert_eq!(keys(Scan::new(RecordKind::Step).after(after)).await, [Key::Step(id(3), 1_900), Key::Step(id(4), 0)]);
    let wrong = Scan::new(RecordKind::Step).after(Some(Cursor::Version(Version(1))));
    assert_eq!(store.scan(&wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_page_of_large_episodes_ends_early() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    for number in 0..5 {
        let outcome = Outcome::success("done").artifact("large", "x".repeat(6_000_000));
        let large = episode(number, &Scope::default(), Task::new("large"), outcome, moment(0));
        put(&store, logged(large, None)).await;
    }
    let page = store.scan(&Scan::new(RecordKind::Episode)).await.unwrap();
    assert_eq!((page.records.len(), page.next), (3, Some(Cursor::Version(Version(3)))));
    assert_eq!(store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap().len(), 5);
}

#[tokio::test]
async fn text_is_never_taken_for_sql_or_cut_off() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    put_space(&store).await;
    let evil = [
        "'; DROP TABLE episodes; --",
        "\" OR 1=1 --",
        "?1 :a @b $c",
        "NEAR(a b) AND * NOT ^ : -",
        "zero\0byte",
        "\u{FEFF}\u{202E}line\nbreak\ttab \u{10FFFF}",
        "{\"json\": [null]}",
        "%_\\",
    ];
    for (number, text) in evil.into_iter().enumerate() {
        let task = Task::new(text).domain(text).language(text).tag(text).environment(text, text);
        let mut outcome = Outcome::failure(text).reflection(text).artifact(text, text);
        outcome.summary.push_str(text);
        let mut evil = episode(number as u128, &Scope::default(), task, outcome, moment(0));
        evil.steps = vec![Step::new(text).action(text).input(text).error(text)];
        let record = logged(evil, None);
        put(&store, record.clone()).await;
        assert_eq!(store.get_one(record.key()).await.unwrap().unwrap().record, record);
        let filter = memory_core::Filter::default().domain(text).language(text).tag(text);
        let scan = Scan::new(RecordKind::Episode).filter(filter.clone());
        assert_eq!(store.scan_all(scan).await.unwrap().len(), 1, "{text:?}");
        let search = Search::new(Scope::default()).text(text).filter(filter);
        let found = store.search(&search).await.unwrap();
        assert_eq!(found.len(), usize::from(!memory_core::text::terms(text).is_empty()), "{text:?}");
        let mut pattern = Pattern::new(
            learner(2),
            Scope::default(),
            Trust::Trusted,
            PatternKind::ErrorRecovery,
            Some(text.to_owned()),
            vec![text.to_owned()],
        );
        pattern.branches.insert(text.to_owned(), memory_core::Evidence::in_bucket(-3, Default::default()));
        put(&store, Record::Pattern(pattern.clone())).await;
        let stored = store.get_one(pattern.key()).await.unwrap().unwrap();
        assert_eq!(stored.record, Record::Pattern(pattern));
    }
    assert_eq!(store.health().await.unwrap().episodes, evil.len() as u64);
}

#[tokio::test]
async fn words_of_any_length_are_found_whole() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let long = "x".repeat(40_000);
    put(&store, simple(1, &long)).await;
    put(&store, simple(2, &format!("{long}y"))).await;
    put(&store, simple(3, &"y".repeat(1_000))).await;
    for (text, expected) in [(long.clone(), 1), (format!("{long}y"), 2), ("y".repeat(1_000), 3)] {
        let found = store.search(&Search::new(Scope::default()).text(text)).await.unwrap();
        assert_eq!(found.iter().map(|hit| hit.key.clone()).collect::<Vec<_>>(), [Key::Episode(id(expected))]);
    }
}

#[tokio::test]
async fn an_oversize_record_is_refused_before_anything_is_written() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let outcome = Outcome::success("done").artifact("large", "x".repeat(10_000_000));
    let large = logged(episode(2, &Scope::default(), Task::new("large"), outcome, moment(0)), None);
    let mut wide = Step::new("cat");
    wide.observation = "\n".repeat(5_000_000);
    let wide = Record::Step(OpenedStep { episode: id(1), index: 0, step: wide });
    for record in [large, wide] {
        let error = store.commit(&Batch::new().put(simple(1, "small")).put(record)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("10000000 bytes"), "{error}");
    }
    assert_eq!(store.health().await.unwrap().version, Version(0));
}

/// JSON has neither infinite numbers nor such as are none.
#[tokio::test]
async fn a_number_that_json_has_not_is_refused() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let episode = |reward| {
        let outcome = Outcome::partial("half").reward(reward);
        logged(episode(1, &Scope::default(), Task::new("x"), outcome, moment(1)), None)
    };
    let note = |salience| {
        let mut note = samples::note(1, "x");
        note.salience = salience;
        samples::noted(note)
    };
    let refused = [
        ("outcome.reward", episode(f64::NAN)),
        ("outcome.reward", episode(f64::NEG_INFINITY)),
        ("note.salience", note(f64::INFINITY)),
    ];
    for (field, record) in refused {
        let error = store.commit(&Batch::new().put(simple(2, "beside it")).put(record)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(field) && error.to_string().contains("finite numbers"), "{error}");
        assert_eq!(store.health().await.unwrap().episodes, 0);
    }
    put(&store, episode(-1e300)).await;
    put(&store, note(0.5)).await;
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_ends_all_clones() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    let clone = store.clone();
    let writes: Vec<_> = (0..50)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(&Batch::new().put(simple(number, "queued"))).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let (first, second) = tokio::join!(store.close(), clone.close());
    first.and(second).unwrap();
    let mut written = 0;
    for write in writes {
        match write.await.unwrap() {
            Ok(_) => written += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
    }
    let errors = [
        clone.commit(&Batch::new()).await.unwrap_err(),
        clone.get(&[Key::Space]).await.unwrap_err(),
        clone.scan(&Scan::new(RecordKind::Open)).await.unwrap_err(),
        clone.search(&Search::new(Scope::default()).text("x")).await.unwrap_err(),
        clone.changes(Version(0), 1).await.unwrap_err(),
        clone.health().await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Unavailable));
    clone.close().await.unwrap();
    // The file is whole by itself: the log is empty or gone.
    let wal = path.with_extension("db-wal");
    assert!(!wal.exists() || wal.metadata().unwrap().len() == 0);
    let store = TursoStore::open(&path).await.unwrap();
    assert_eq!(store.health().await.unwrap().episodes, written);
}

#[tokio::test]
async fn dropping_the_last_handle_or_a_future_leaves_nothing_wedged() {
    let (_folder, path) = place();
    let store = TursoStore::open_with(&path, TursoConfig::default().with_readers(1)).await.unwrap();
    for number in 0..20 {
        let batch = Batch::new().put(simple(number, "dropped"));
        let commit = store.commit(&batch);
        let search = Search::new(Scope::default()).text("dropped");
        let search = store.search(&search);
        tokio::select! { biased; _ = async {} => {}, _ = commit => {}, _ = search => {} }
    }
    put(&store, simple(100, "kept")).await;
    assert!(store.health().await.unwrap().episodes >= 1);
    drop(store);
    let store = TursoStore::open(&path).await.unwrap();
    assert!(store.get_episode(id(100)).await.unwrap().is_some());
}

#[tokio::test]
async fn it_says_what_it_is() {
    let (_folder, path) = place();
    let store = TursoStore::open(&path).await.unwrap();
    assert_eq!(store.to_string(), format!("TursoStore({})", path.display()));
    assert_eq!((store.info().name, store.info().durability), ("turso", Durability::Durable));
    let stack: std::sync::Arc<dyn MemoryStore> = std::sync::Arc::new(store);
    assert_eq!(stack.health().await.unwrap().version, Version(0));
}
