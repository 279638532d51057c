//! The feed tells what changed, in order, once.

use super::{delete, follow, get, put};
use crate::testkit::samples::{self, episode, episode_id, logged, note, noted};
use crate::{ErrorKind, FeedEntry, Key, MemoryStore, Record, Version};

fn summary(entries: &[FeedEntry]) -> Vec<(Key, bool)> {
    entries.iter().map(|entry| (entry.key.clone(), entry.deleted)).collect()
}

/// The feed has each record once, where it changed last, with the version that get tells; deleted records too.
pub async fn feed_tells_each_record_once_at_its_last_change(store: &dyn MemoryStore) {
    assert_eq!(follow(store, Version(0), 10).await, (Vec::new(), Version(0)), "an empty store");
    let [one, two, three] = [1, 2, 3].map(|n| Key::Episode(episode_id(n)));
    let [kept, told_again, forgotten] = [1, 2, 3].map(|n| Key::Note(samples::note_id(n)));
    let mark = Key::Watermark(samples::learner(1));
    put(store, (1..=3).map(|n| logged(episode(n, "a task")))).await;
    put(store, (1..=3).map(|n| noted(note(n, "a note")))).await;
    put(store, [samples::watermark(1, 1), Record::Space(samples::space(2))]).await;
    let (entries, upto) = follow(store, Version(0), 10).await;
    let mut puts: Vec<Key> = vec![one.clone(), two.clone(), three.clone()];
    puts.extend([kept.clone(), told_again.clone(), forgotten.clone(), mark.clone(), Key::Space]);
    assert_eq!(summary(&entries), puts.iter().map(|key| (key.clone(), false)).collect::<Vec<_>>());
    for entry in &entries {
        let stored = get(store, entry.key.clone()).await.expect("put");
        assert_eq!(stored.version, entry.version, "the version that get tells, of {entry:?}");
    }
    let version = put(store, [logged(episode(1, "a new task"))]).await;
    let deleted = delete(store, [two.clone()]).await;
    put(store, [samples::watermark(1, 2)]).await;
    delete(store, [forgotten.clone()]).await;
    put(store, [noted(note(2, "a note told again"))]).await;
    let later =
        [(one.clone(), false), (two.clone(), true), (mark.clone(), false), (forgotten, true), (told_again, false)];
    let (entries, _) = follow(store, upto, 10).await;
    assert_eq!(summary(&entries), later, "since the last time");
    assert_eq!((entries[0].version, entries[1].version), (version, deleted));
    let (entries, upto) = follow(store, Version(0), 10).await;
    assert_eq!(summary(&entries[..3]), [(three, false), (kept, false), (Key::Space, false)], "from the beginning");
    assert_eq!(summary(&entries[3..]), later, "from the beginning");
    put(store, [logged(episode(2, "a task that is back"))]).await;
    assert_eq!(summary(&follow(store, upto, 10).await.0), [(two.clone(), false)]);
    let all = follow(store, Version(0), 10).await.0;
    assert_eq!(all.iter().filter(|entry| entry.key == two).count(), 1, "once, though put, deleted and put again");
    let far = Version(u64::MAX);
    assert!(
        store.changes(far, 1).await.expect("reads").entries.is_empty(),
        "nothing after the last version there can be"
    );
}

/// Stretches of any length, put together, are the whole, and end.
pub async fn feed_pages_reach_the_end_at_every_limit(store: &dyn MemoryStore) {
    for n in 1..=6 {
        put(store, samples::one_of_each(n)).await;
    }
    delete(store, [3, 5].map(|n| Key::Episode(episode_id(n)))).await;
    put(store, (100..150).map(|n| Record::Pattern(samples::pattern(n)))).await;
    let (all, end) = follow(store, Version(0), 1_000).await;
    assert_eq!(all.len(), 18, "six episodes, six watermarks and six notes: {all:?}");
    for limit in [1, 2, 5, 6, 17, 18, 19] {
        assert_eq!(follow(store, Version(0), limit).await.0, all, "{limit} at a time");
    }
    for place in 0..all.len() {
        assert_eq!(follow(store, all[place].version, 3).await.0, all[place + 1..], "after {:?}", all[place]);
    }
    put(store, [samples::watermark(1, 99)]).await;
    assert_eq!(follow(store, end, 1).await.0.len(), 1, "what comes later is told later");
}

/// Patterns, open episodes and their steps are not in the feed, and do not stop it either.
pub async fn feed_leaves_out_derived_and_open_records(store: &dyn MemoryStore) {
    let derived = |n: u32| {
        [Record::Open(samples::open(n)), Record::Step(samples::step(n, 0)), Record::Pattern(samples::pattern(n))]
    };
    put(store, derived(1)).await;
    put(store, derived(2)).await;
    delete(store, derived(2).map(|record| record.key())).await;
    let (entries, upto) = follow(store, Version(0), 1).await;
    assert_eq!(entries, []);
    put(store, [logged(episode(1, "a task")), samples::watermark(1, 1), Record::Space(samples::space(1))]).await;
    put(store, derived(3)).await;
    for since in [Version(0), upto] {
        for limit in [1, 2, 3, 4, 1_000] {
            let kinds: Vec<_> = follow(store, since, limit).await.0.iter().map(|entry| entry.key.kind()).collect();
            assert_eq!(kinds.len(), 3, "{kinds:?}");
            assert!(kinds.iter().all(|kind| kind.in_feed()), "{kinds:?}");
        }
    }
}

/// A limit out of 1..=1000 is invalid.
pub async fn feed_refuses_limits_out_of_range(store: &dyn MemoryStore) {
    for limit in [0, 1_001, usize::MAX] {
        let answer = store.changes(Version(0), limit).await;
        let kind = answer.as_ref().map_err(crate::Error::kind).err();
        assert_eq!(kind, Some(ErrorKind::Invalid), "limit {limit} gave {answer:?}");
    }
    for limit in [1, 1_000] {
        store.changes(Version(0), limit).await.expect("a limit in range");
    }
}
