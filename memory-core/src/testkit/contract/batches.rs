//! Batches happen whole, in order, and only if their conditions hold.

use super::{commit, delete, follow, get, get_all, innocent, numbers, observe, put, refuse, scan, search, words};
use crate::testkit::samples::{self, episode, episode_id, logged, logged_with, vector};
use crate::{
    Batch, Condition, Durability, Episode, ErrorKind, Key, MemoryStore, Pattern, Record, RecordKind, Scan, Stored,
    VectorSpace, Version,
};

/// The first change of a store has version 1; each change has one of its own, rising in the order of the batch, all those of
/// patterns one together; the answer names the last.
pub async fn versions_start_at_one_and_rise_in_batch_order(store: &dyn MemoryStore) {
    assert_eq!(store.health().await.expect("healthy").version, Version(0), "nothing has changed yet");
    assert_eq!(put(store, [samples::watermark(9, 0)]).await, Version(1), "the first change");
    let mut last = Version(1);
    for n in 1..=3 {
        let records: Vec<Record> = samples::one_of_each(n).into_iter().rev().collect();
        let version = put(store, records.clone()).await;
        let mut of_patterns = None;
        for stored in get_all(store, &records).await {
            if matches!(stored.record, Record::Pattern(_)) && of_patterns.is_some() {
                assert_eq!(Some(stored.version), of_patterns, "the patterns of a batch have one version");
                continue;
            }
            assert!(stored.version > last, "{stored:?} comes after {last:?}");
            last = stored.version;
            of_patterns = of_patterns.or(matches!(stored.record, Record::Pattern(_)).then_some(last));
        }
        assert_eq!(version, last, "the answer is the version of the last change");
        assert_eq!(store.health().await.expect("healthy").version, last);
    }
}

/// The changes of a batch are made in order: the last one of a record counts.
pub async fn a_batch_may_change_a_record_twice(store: &dyn MemoryStore) {
    let [first, second, kept] = [episode(1, "first task"), episode(1, "second task"), episode(2, "kept task")];
    let gone = logged(episode(3, "task that comes and goes"));
    let batch = Batch::new()
        .put(logged(first))
        .put(gone.clone())
        .delete(Key::Episode(episode_id(2)))
        .put(logged(kept))
        .delete(gone.key())
        .put(logged(second.clone()));
    put(store, [logged(episode(2, "kept task"))]).await;
    let version = commit(store, &batch).await.version;
    let stored = get(store, Key::Episode(episode_id(1))).await.expect("put");
    assert_eq!((stored.version, stored.record), (version, logged(second)), "the last put counts");
    assert_eq!(get(store, gone.key()).await, None, "put, then deleted");
    assert_eq!(numbers(&scan(store, Scan::new(RecordKind::Episode)).await), [2, 1]);
    assert_eq!(search(store, &words("task")).await.len(), 2);
    assert!(search(store, &words("first")).await.is_empty(), "the first text was replaced");
    let feed = follow(store, Version(0), 10).await.0;
    let of_gone: Vec<bool> = feed.iter().filter(|entry| entry.key == gone.key()).map(|entry| entry.deleted).collect();
    assert_eq!((of_gone, feed.len()), (vec![true], 3), "each record once, at its last change: {feed:?}");
    assert_eq!(store.health().await.expect("healthy").episodes, 2);
}

/// An empty batch checks its conditions, changes nothing, and answers with the version of the store.
pub async fn an_empty_batch_checks_its_conditions(store: &dyn MemoryStore) {
    assert_eq!(commit(store, &Batch::new()).await.version, Version(0), "an empty store");
    let version = put(store, samples::one_of_each(1)).await;
    let before = observe(store).await;
    assert_eq!(commit(store, &Batch::new()).await.version, version);
    let (there, absent) = (Key::Episode(episode_id(1)), Key::Episode(episode_id(2)));
    let holds = Batch::new().require_present(there.clone()).require_absent(absent.clone());
    assert_eq!(commit(store, &holds).await.version, version);
    assert_eq!(observe(store).await, before);
    refuse(store, &Batch::new().require_absent(there), ErrorKind::Conflict, "an empty batch").await;
    refuse(store, &Batch::new().require_present(absent), ErrorKind::Conflict, "an empty batch").await;
}

/// Each condition, on each kind of record, holds when it is true and is a conflict when it is not.
pub async fn each_condition_holds_or_conflicts(store: &dyn MemoryStore) {
    let mut all = samples::one_of_each(1);
    all.push(Record::Space(samples::space(2)));
    let check = async |holds: bool, condition: Condition| {
        let mut batch = Batch::new();
        batch.conditions.push(condition.clone());
        if holds {
            store.commit(&batch).await.unwrap_or_else(|error| panic!("{condition:?} holds: {error}"));
        } else {
            refuse(store, &batch, ErrorKind::Conflict, &format!("{condition:?} does not hold")).await;
        }
    };
    let (patterns, all): (Vec<Record>, Vec<Record>) =
        all.into_iter().partition(|record| matches!(record, Record::Pattern(_)));
    for key in patterns.iter().map(Record::key) {
        let batch = innocent(70).require_absent(key);
        refuse(store, &batch, ErrorKind::Invalid, "patterns change under the condition of a watermark").await;
    }
    for key in all.iter().map(Record::key) {
        check(true, Condition::Absent(key.clone())).await;
        check(false, Condition::Present(key.clone())).await;
        check(false, Condition::Unchanged(key.clone(), Version(0))).await;
        check(false, Condition::Unchanged(key, Version(1))).await;
    }
    put(store, all.clone()).await;
    for record in all {
        let key = record.key();
        let old = get(store, key.clone()).await.expect("put").version;
        let new = put(store, [record]).await;
        check(false, Condition::Absent(key.clone())).await;
        check(true, Condition::Present(key.clone())).await;
        check(true, Condition::Unchanged(key.clone(), new)).await;
        for stale in [old, Version(0), Version(new.0 - 1), Version(new.0 + 1)] {
            check(false, Condition::Unchanged(key.clone(), stale)).await;
        }
    }
    delete(store, [Key::Episode(episode_id(1))]).await;
    check(true, Condition::Absent(Key::Episode(episode_id(1)))).await;
    check(false, Condition::Present(Key::Episode(episode_id(1)))).await;
}

/// Conditions are checked before the first change: a batch may require the absence of what it puts.
pub async fn conditions_look_at_the_state_before_the_batch(store: &dyn MemoryStore) {
    let record = logged(episode(1, "a new task"));
    let if_new = Batch::new().require_absent(record.key()).put(record.clone());
    let version = commit(store, &if_new).await.version;
    refuse(store, &if_new, ErrorKind::Conflict, "it is there by now").await;
    let if_unchanged =
        Batch::new().put(record.clone()).require_unchanged(record.key(), Some(version)).delete(record.key());
    commit(store, &if_unchanged).await;
    let if_there = Batch::new().put(record.clone()).require_present(record.key());
    refuse(store, &if_there, ErrorKind::Conflict, "it is not there before the batch").await;
}

/// One failing condition among several, in any place, leaves nothing of the batch.
pub async fn a_failed_condition_writes_nothing(store: &dyn MemoryStore) {
    put(store, samples::one_of_each(1)).await;
    let holds = Condition::Present(Key::Episode(episode_id(1)));
    let fails = Condition::Absent(Key::Episode(episode_id(1)));
    for place in 0..3 {
        let mut batch = innocent(2).delete(Key::Episode(episode_id(1)));
        batch.conditions = vec![holds.clone(), holds.clone()];
        batch.conditions.insert(place, fails.clone());
        refuse(store, &batch, ErrorKind::Conflict, &format!("condition {place} fails")).await;
    }
}

/// An invalid record among good ones leaves nothing of the batch: a vector of another length, an oversize episode.
pub async fn an_invalid_record_writes_nothing(store: &dyn MemoryStore) {
    put(store, samples::one_of_each(1)).await;
    put(store, [Record::Space(samples::space(2))]).await;
    let mut large = episode(9, "task too large");
    large.steps[0].observation = "x".repeat(Episode::MAX_ENCODED_BYTES);
    let short = logged_with(episode(9, "task with a short vector"), vector(&[1.0]));
    for (bad, why) in [(logged(large), "an oversize episode"), (short, "a vector of another length")] {
        let mut batch = innocent(2).delete(Key::Episode(episode_id(1))).put(bad);
        batch.changes.extend(innocent(3).changes);
        refuse(store, &batch, ErrorKind::Invalid, why).await;
    }
}

/// Another vector space among good records leaves nothing of the batch, also if both spaces come in one batch.
pub async fn another_space_writes_nothing(store: &dyn MemoryStore) {
    let [space, other] = [2, 3].map(|dimensions| Record::Space(samples::space(dimensions)));
    let both = innocent(1).put(space.clone()).put(other.clone());
    refuse(store, &both, ErrorKind::SpaceMismatch, "two spaces in one batch").await;
    put(store, [space]).await;
    let mut batch = innocent(1).put(other);
    batch.changes.extend(innocent(2).changes);
    refuse(store, &batch, ErrorKind::SpaceMismatch, "another space").await;
    let longer = VectorSpace { revision: "2".to_owned(), ..samples::space(2) };
    refuse(store, &innocent(1).put(Record::Space(longer)), ErrorKind::SpaceMismatch, "another revision").await;
}

/// A derivable batch is visible at once, whole, under its conditions, and in order with the others.
pub async fn derivable_batches_are_visible_and_atomic(store: &dyn MemoryStore) {
    let first = put(store, samples::one_of_each(1)).await;
    let watermark = Key::Watermark(samples::learner(2));
    let batch = innocent(2).require_absent(watermark).delete(Key::Episode(episode_id(1))).as_derivable();
    let version = commit(store, &batch).await.version;
    assert!(version > first, "ordered with the rest");
    let records: Vec<Record> =
        get_all(store, &samples::one_of_each(2)).await.into_iter().map(|one| one.record).collect();
    assert_eq!(records, samples::one_of_each(2), "visible at once");
    assert_eq!(get(store, Key::Episode(episode_id(1))).await, None, "visible at once");
    refuse(store, &batch, ErrorKind::Conflict, "a derivable batch has conditions").await;
    let invalid = innocent(3).put(logged_with(episode(9, "a task"), vector(&[1.0]))).as_derivable();
    refuse(store, &invalid, ErrorKind::Invalid, "a derivable batch is atomic").await;
    assert!(put(store, samples::one_of_each(3)).await > version, "ordered with the rest");
}

/// What is acknowledged is as safe as the store says, unless it is derivable; the store has a name.
pub async fn commits_are_as_safe_as_the_store_says(store: &dyn MemoryStore) {
    let info = store.info();
    assert!(!info.name.is_empty() && !store.to_string().is_empty(), "a name for people");
    let plain = commit(store, &innocent(1)).await;
    assert_eq!(plain.durability, info.durability, "an acknowledged batch is as safe as the store says");
    let derivable = commit(store, &innocent(2).as_derivable()).await;
    let may_be = [info.durability, Durability::Volatile];
    assert!(may_be.contains(&derivable.durability), "a derivable batch is no safer than the store");
    assert_eq!(store.info(), info, "the store stays what it is");
}

/// One batch may have thousands of changes and conditions.
pub async fn a_batch_may_have_thousands_of_changes(store: &dyn MemoryStore) {
    let records: Vec<Record> = (0..3_000).map(|n| Record::Pattern(samples::pattern(n))).collect();
    let open: Vec<Record> = (0..3_000).map(|n| Record::Open(samples::open(n))).collect();
    let all = [records.clone(), open.clone()].concat();
    let new = open.iter().fold(Batch::new(), |batch, record| batch.require_absent(record.key()));
    let new = all.iter().fold(new, |batch, record| batch.put(record.clone()));
    let version = commit(store, &new).await.version;
    let health = store.health().await.expect("healthy");
    assert_eq!((health.patterns, health.open_episodes), (3_000, 3_000));
    let stored = get_all(store, &open).await;
    assert!(stored.is_sorted_by(|a, b| a.version < b.version), "versions rise in the order of the batch");
    assert_eq!(stored.last().map(|last| last.version), Some(version));
    assert!(get_all(store, &records).await.iter().all(|one| one.version < stored[0].version), "patterns came before");
    refuse(store, &new, ErrorKind::Conflict, "thousands of changes").await;
    delete(store, all.iter().map(Record::key)).await;
    let health = store.health().await.expect("healthy");
    assert_eq!((health.patterns, health.open_episodes), (0, 0));
}

/// Adding to a pattern sums the evidence of each branch and bucket; where there is none, it puts it. Puts, adds and deletes of
/// one pattern in one batch happen in order.
pub async fn adding_to_patterns_sums_their_evidence(store: &dyn MemoryStore) {
    let watermark = Key::Watermark(samples::learner(1));
    let mut last = None;
    let mut add = async |patterns: Vec<Pattern>| {
        let batch = Batch::new().require_unchanged(watermark.clone(), last).put(samples::watermark(1, 7));
        let version = commit(store, &patterns.into_iter().fold(batch, Batch::add_pattern).as_derivable()).await.version;
        last = get(store, watermark.clone()).await.map(|stored| stored.version);
        version
    };
    let with = |branch: &str, bucket: i64, counts: [u64; 3]| {
        let mut pattern = samples::pattern(1);
        pattern.branches = [(branch.to_owned(), samples::evidence(bucket, counts))].into();
        pattern
    };
    let other = samples::habit(2);
    let version = add(vec![with("a", 5, [1, 2, 1]), other.clone()]).await;
    let known = async |key: Key| get(store, key).await.expect("added");
    let key = samples::pattern(1).key();
    assert_eq!(known(key.clone()).await, Stored { version, record: Record::Pattern(with("a", 5, [1, 2, 1])) });
    let version = add(vec![with("a", 5, [1, 1, 0]), with("b", -3, [1, 1, 1]), with("a", 4, [2, 2, 2])]).await;
    let mut sum = with("a", 5, [2, 3, 1]);
    sum.add(&with("a", 4, [2, 2, 2]));
    sum.add(&with("b", -3, [1, 1, 1]));
    assert_eq!(known(key.clone()).await, Stored { version, record: Record::Pattern(sum.clone()) });
    assert_eq!(known(other.key()).await.record, Record::Pattern(other.clone()), "others stay");
    let scanned = scan(store, Scan::new(RecordKind::Pattern)).await;
    assert_eq!(scanned, [Stored { version, record: Record::Pattern(sum.clone()) }], "scanned once, as a sum");
    assert_eq!(store.health().await.expect("healthy").patterns, 2);

    let batch =
        Batch::new().require_present(watermark.clone()).add_pattern(with("a", 5, [9, 9, 9])).delete(key.clone());
    commit(
        store,
        &batch.add_pattern(with("c", 1, [1, 1, 1])).put(Record::Pattern(other.clone())).add_pattern(other.clone()),
    )
    .await;
    assert_eq!(known(key.clone()).await.record, Record::Pattern(with("c", 1, [1, 1, 1])), "deleted, then added");
    let mut twice = other.clone();
    twice.add(&other);
    assert_eq!(known(other.key()).await.record, Record::Pattern(twice), "put, then added to");
    delete(store, [key.clone()]).await;
    assert_eq!(get(store, key).await, None);
    assert_eq!(store.health().await.expect("healthy").patterns, 1);
}

/// Adding without a condition is refused: a retry would count twice.
pub async fn adding_needs_a_condition(store: &dyn MemoryStore) {
    let batch = innocent(1).add_pattern(samples::pattern(9));
    refuse(store, &batch, ErrorKind::Invalid, "it adds, and may be retried").await;
    let stale = batch.require_present(Key::Watermark(samples::learner(80)));
    refuse(store, &stale, ErrorKind::Conflict, "its condition does not hold").await;
}
