//! Health, dropped calls, and the end.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::{delete, get, innocent, observe, put, words};
use crate::testkit::samples::{self, episode, episode_id, logged, noted};
use crate::{Batch, ErrorKind, Key, MemoryStore, Note, PatternId, Record, RecordKind, Scan, StoreHealth, Version};

/// Every count of the health moves up with a put and down with a delete, and not with a replacement; the version moves with
/// every change.
pub async fn health_counts_go_up_and_down(store: &dyn MemoryStore) {
    let counts = |episodes, open_episodes, patterns, notes| {
        move |health: StoreHealth| {
            let found = (health.episodes, health.open_episodes, health.patterns, health.notes);
            assert_eq!(found, (episodes, open_episodes, patterns, notes), "episodes, open episodes, patterns, notes");
        }
    };
    let health = async || store.health().await.expect("healthy");
    assert_eq!(health().await, StoreHealth::default(), "an empty store");
    let version = put(store, [logged(episode(1, "a task")), logged(episode(2, "a task"))]).await;
    counts(2, 0, 0, 0)(health().await);
    assert_eq!(health().await.version, version, "the version of the last change");
    put(store, [Record::Open(samples::open(3)), Record::Step(samples::step(3, 0)), samples::watermark(1, 1)]).await;
    counts(2, 1, 0, 0)(health().await);
    put(store, (1..=4).map(|n| Record::Pattern(samples::pattern(n)))).await;
    counts(2, 1, 4, 0)(health().await);
    put(store, samples::one_of_each(1)).await;
    counts(2, 2, 5, 1)(health().await);
    put(store, [noted(samples::note(1, "a note")), noted(samples::note(2, "a note"))]).await;
    counts(2, 2, 5, 2)(health().await);
    delete(store, [Key::Note(samples::note_id(1)), Key::Note(samples::note_id(9))]).await;
    counts(2, 2, 5, 1)(health().await);
    let patterns = [Key::Pattern(PatternId::new(samples::uuid(4))), Key::Habit(PatternId::new(samples::uuid(1)))];
    let version = delete(store, [Key::Episode(episode_id(1))].into_iter().chain(patterns)).await;
    counts(1, 2, 3, 1)(health().await);
    assert_eq!(health().await.version, version, "the version of the last change, a deletion");
    delete(store, [Key::Open(episode_id(1)), Key::Open(episode_id(3)), Key::Episode(episode_id(2))]).await;
    counts(0, 0, 3, 1)(health().await);
}

/// Health counts records of all scopes and patterns of all learners.
pub async fn health_counts_all_scopes(store: &dyn MemoryStore) {
    for n in 1..=3 {
        let scope = samples::scope(&format!("tenant{n}/agent"));
        let (mut episode, mut open, mut pattern) = (episode(n, "a task"), samples::open(n), samples::pattern(n));
        let note = noted(Note { scope: scope.clone(), ..samples::note(n, "a note") });
        (episode.scope, open.scope, pattern.scope) = (scope.clone(), scope.clone(), scope);
        pattern.learner = samples::learner(n);
        put(store, [logged(episode), Record::Open(open), Record::Pattern(pattern), note]).await;
    }
    let health = store.health().await.expect("healthy");
    assert_eq!((health.episodes, health.open_episodes, health.patterns, health.notes), (3, 3, 3, 3));
}

/// Polls a call up to so often, then drops it.
async fn abandon<T>(polls: u32, call: impl Future<Output = T>) {
    let mut call = pin!(call);
    for _ in 0..polls {
        if poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// A call that is dropped before its end, however far it got, leaves the store usable; a dropped batch is there whole or
/// not at all, and its versions still rise.
pub async fn a_dropped_call_leaves_the_store_usable(store: &dyn MemoryStore) {
    let mut last = put(store, samples::one_of_each(1)).await;
    let scan = Scan::new(RecordKind::Episode);
    for (n, polls) in (10..).zip((0..14).map(|power| (1_u32 << power) >> 1)) {
        abandon(polls, store.commit(&innocent(n))).await;
        abandon(polls, store.get(&[Key::Episode(episode_id(1))])).await;
        abandon(polls, store.scan(&scan)).await;
        abandon(polls, store.search(&words("task"))).await;
        abandon(polls, store.changes(Version(0), 10)).await;
        abandon(polls, store.health()).await;

        let version = put(store, [samples::watermark(1, u64::from(n))]).await;
        assert!(version > last, "versions still rise");
        last = version;
        let stored = get(store, Key::Watermark(samples::learner(1))).await.expect("put");
        assert_eq!((stored.version, stored.record), (version, samples::watermark(1, u64::from(n))));
        let keys: Vec<Key> = samples::one_of_each(n).iter().map(Record::key).collect();
        let found = store.get(&keys).await.expect("reads");
        let there = found.iter().flatten().count();
        assert!(there == 0 || there == keys.len(), "a batch dropped after {polls} polls is there in part: {found:?}");
        observe(store).await;
    }
}

/// After closing, every call is unavailable; closing again is fine, and the store still says what it is.
pub async fn close_makes_later_calls_unavailable(store: &dyn MemoryStore) {
    put(store, samples::one_of_each(1)).await;
    let (info, name) = (store.info(), store.to_string());
    store.close().await.expect("closes");
    store.close().await.expect("closes twice");
    let answers = [
        ("commit", store.commit(&innocent(2)).await.err()),
        ("an empty commit", store.commit(&Batch::new()).await.err()),
        ("get", store.get(&[Key::Episode(episode_id(1))]).await.err()),
        ("scan", store.scan(&Scan::new(RecordKind::Episode)).await.err()),
        ("search", store.search(&words("task")).await.err()),
        ("changes", store.changes(Version(0), 10).await.err()),
        ("health", store.health().await.err()),
    ];
    for (call, error) in answers {
        let kind = error.as_ref().map(crate::Error::kind);
        assert_eq!(kind, Some(ErrorKind::Unavailable), "{call} after closing: {error:?}");
    }
    store.close().await.expect("closes a third time");
    assert_eq!((store.info(), store.to_string()), (info, name), "it stays what it is");
}
