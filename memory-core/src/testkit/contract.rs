//! The contract kit of stores: every promise of [`MemoryStore`] as a test.
//!
//! Each behaviour is an `async fn(&dyn MemoryStore)` that takes a fresh, empty store and panics if the promise in its
//! documentation does not hold. [`contract_tests!`](crate::contract_tests) makes a test of each; run it over every adapter
//! and every decorator. Some behaviours call the store from several threads at once, and so need the multi-threaded
//! runtime that the macro gives them.

mod batches;
mod concurrency;
mod feed;
mod lifecycle;
mod records;
mod scans;
mod searches;

pub use batches::*;
pub use concurrency::*;
pub use feed::*;
pub use lifecycle::*;
pub use records::*;
pub use scans::*;
pub use searches::*;

use crate::testkit::samples;
use crate::{
    Batch, Commit, Cursor, ErrorKind, FeedEntry, Hit, Key, MemoryStore, MemoryStoreExt, NoteFilter, Record, RecordKind,
    Scan, Scope, Search, StoreHealth, Stored, Version,
};

/// Makes one `#[tokio::test]` of each behaviour in [`contract`](crate::testkit::contract), named like it.
///
/// The argument is an async function or closure without arguments that gives a fresh, empty store and a guard that lives
/// as long as the test: a temporary folder, or `()`. The store is dropped before the guard. The calling crate needs
/// `tokio` with its macros and its multi-threaded runtime.
///
/// ```
/// mod contract {
///     memory_core::contract_tests!(async || (memory_core::InMemoryStore::new(), ()));
/// }
/// ```
#[macro_export]
macro_rules! contract_tests {
    (@tests [$factory:expr] $($behaviour:ident,)*) => {
        $(
            #[::tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                let (store, guard) = ($factory)().await;
                $crate::testkit::contract::$behaviour(&store).await;
                ::std::mem::drop(store);
                ::std::mem::drop(guard);
            }
        )*
    };
    (@names [] $($behaviour:ident,)*) => {
        [$(stringify!($behaviour)),*]
    };
    // The one list of behaviours.
    (@list $mode:ident $arguments:tt) => {
        $crate::contract_tests! { @$mode $arguments
            returns_every_kind_of_record_as_it_was_put,
            returns_awkward_texts_as_they_were_put,
            returns_extreme_numbers_as_they_were_put,
            returns_every_moment_to_the_nanosecond,
            tells_nothing_from_empty,
            returns_the_largest_episode,
            keeps_kinds_apart,
            get_answers_in_order_with_repeats_and_absences,
            get_takes_thousands_of_keys,
            put_replaces_and_raises_the_version,
            put_leaves_nothing_of_the_old_record,
            delete_removes_the_record,
            deleting_what_is_absent_changes_nothing,
            space_is_put_once,
            vectors_must_fit_the_space,
            versions_start_at_one_and_rise_in_batch_order,
            a_batch_may_change_a_record_twice,
            an_empty_batch_checks_its_conditions,
            each_condition_holds_or_conflicts,
            conditions_look_at_the_state_before_the_batch,
            a_failed_condition_writes_nothing,
            an_invalid_record_writes_nothing,
            another_space_writes_nothing,
            derivable_batches_are_visible_and_atomic,
            commits_are_as_safe_as_the_store_says,
            a_batch_may_have_thousands_of_changes,
            adding_to_patterns_sums_their_evidence,
            adding_needs_a_condition,
            scans_episodes_in_the_order_of_the_log,
            scans_other_kinds_in_the_order_of_keys,
            scan_pages_are_whole_at_every_limit,
            scan_pages_hold_up_to_a_thousand,
            scan_filters_by_every_field,
            scan_filters_notes_by_every_field,
            scan_stays_in_its_scope,
            scan_refuses_what_it_cannot_do,
            scan_goes_on_after_changes_between_pages,
            search_scores_are_those_of_a_hand_computed_corpus,
            search_agrees_with_a_plain_model,
            search_takes_rare_words_first,
            search_by_vector_misses_little,
            search_compares_no_zero_vectors,
            search_finds_what_happened,
            search_finds_the_same_after_deletes_and_replacements,
            search_unites_the_best_by_words_and_by_vector,
            search_breaks_ties_by_completion_then_id,
            search_filters_by_every_field,
            search_filters_notes_by_every_field,
            search_keeps_episodes_and_notes_apart,
            search_passes_over_recalled_text,
            search_statistics_do_not_depend_on_the_filter,
            search_stays_in_its_scope,
            search_takes_awkward_texts_as_words,
            search_without_a_match_is_empty,
            search_refuses_what_it_cannot_do,
            feed_tells_each_record_once_at_its_last_change,
            feed_pages_reach_the_end_at_every_limit,
            feed_leaves_out_derived_and_open_records,
            feed_refuses_limits_out_of_range,
            health_counts_go_up_and_down,
            health_counts_all_scopes,
            a_dropped_call_leaves_the_store_usable,
            close_makes_later_calls_unavailable,
            conditional_increments_are_not_lost,
            conditional_tellings_are_not_lost,
            followers_of_the_log_miss_nothing,
            followers_of_the_feed_miss_nothing,
            reads_see_whole_batches,
            reads_see_what_another_thread_was_told_is_written,
        }
    };
    ($factory:expr) => {
        $crate::contract_tests! { @list tests [$factory] }
    };
}

/// Commits what must succeed.
async fn commit(store: &dyn MemoryStore, batch: &Batch) -> Commit {
    store.commit(batch).await.expect("the batch is written")
}

/// Puts records in one batch; gives the version of the last.
async fn put(store: &dyn MemoryStore, records: impl IntoIterator<Item = Record>) -> Version {
    commit(store, &records.into_iter().fold(Batch::new(), Batch::put)).await.version
}

/// Deletes records in one batch.
async fn delete(store: &dyn MemoryStore, keys: impl IntoIterator<Item = Key>) -> Version {
    commit(store, &keys.into_iter().fold(Batch::new(), Batch::delete)).await.version
}

/// Commits what must fail in this way and leave no trace.
async fn refuse(store: &dyn MemoryStore, batch: &Batch, kind: ErrorKind, why: &str) {
    let before = observe(store).await;
    let keys: Vec<Key> = batch.conditions.iter().map(|condition| condition.key().clone()).collect();
    let records = store.get(&keys).await.expect("reads");
    match store.commit(batch).await {
        Ok(commit) => panic!("{why}: written as {commit:?}, though it must be refused as {kind:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{why}: {error}"),
    }
    assert_eq!(observe(store).await, before, "{why}: a refused batch changes nothing");
    assert_eq!(store.get(&keys).await.expect("reads"), records, "{why}: a refused batch changes nothing");
}

/// Reads one record.
async fn get(store: &dyn MemoryStore, key: Key) -> Option<Stored> {
    store.get_one(key).await.expect("reads")
}

/// Reads records that are there, in order.
async fn get_all(store: &dyn MemoryStore, records: &[Record]) -> Vec<Stored> {
    let keys: Vec<Key> = records.iter().map(Record::key).collect();
    let found = store.get(&keys).await.expect("reads");
    assert_eq!(found.len(), keys.len(), "as many answers as keys");
    found.into_iter().zip(keys).map(|(stored, key)| stored.unwrap_or_else(|| panic!("{key:?} is there"))).collect()
}

/// Puts records, reads them back, and checks that they are the same.
async fn check_round_trip(store: &dyn MemoryStore, records: Vec<Record>) {
    put(store, records.iter().cloned()).await;
    for (stored, record) in get_all(store, &records).await.iter().zip(&records) {
        assert_eq!(stored.record, *record, "a record comes back exactly as it was put");
    }
}

/// Scans all pages and checks that each keeps the limit and that they come to an end.
async fn scan(store: &dyn MemoryStore, mut scan: Scan) -> Vec<Stored> {
    let mut all = Vec::new();
    for _ in 0..100_000 {
        let page = store.scan(&scan).await.expect("scans");
        assert!(page.records.len() <= scan.limit, "{} records on a page of {}", page.records.len(), scan.limit);
        all.extend(page.records);
        assert!(page.next.is_none() || page.next != scan.after, "a page goes on after the page before");
        match page.next {
            Some(next) => scan.after = Some(next),
            None => return all,
        }
    }
    panic!("the scan does not end");
}

/// Follows the feed to its end, so many entries at a time; checks the order and `upto` on the way.
async fn follow(store: &dyn MemoryStore, mut since: Version, limit: usize) -> (Vec<FeedEntry>, Version) {
    let mut all = Vec::new();
    loop {
        let changes = store.changes(since, limit).await.expect("reads the feed");
        assert!(changes.entries.len() <= limit, "{} entries of at most {limit}", changes.entries.len());
        assert!(changes.upto >= since, "the feed goes on from {since:?} to {:?}", changes.upto);
        let mut last = since;
        for entry in &changes.entries {
            assert!(entry.version > last, "versions rise after {last:?}: {entry:?}");
            assert!(entry.version <= changes.upto, "no entry beyond what has been told: {entry:?}");
            last = entry.version;
        }
        all.extend(changes.entries);
        if changes.upto == since {
            return (all, since);
        }
        since = changes.upto;
    }
}

/// Searches.
async fn search(store: &dyn MemoryStore, search: &Search) -> Vec<Hit> {
    let hits = store.search(search).await.unwrap_or_else(|error| panic!("{error}, for {search:?}"));
    assert!(hits.len() <= 3 * search.k, "{} hits for k = {}", hits.len(), search.k);
    for hit in &hits {
        assert!((0.0..=1.0).contains(&hit.words), "{hit:?}: the words score is in [0, 1]");
        assert!((-1.0..=1.0).contains(&hit.vector), "{hit:?}: the vector score is in [-1, 1]");
    }
    hits
}

/// A search in the default scope for these words, with the largest k.
fn words(text: &str) -> Search {
    Search::new(Scope::default()).text(text).k(Search::MAX_K)
}

/// A search in the default scope for notes with these words, with the largest k.
fn note_words(text: &str) -> Search {
    words(text).for_notes(NoteFilter::default())
}

/// The numbers of the records a search found, in order; see [`samples::episode_id`].
fn found(hits: &[Hit]) -> Vec<u128> {
    hits.iter().map(|hit| number_of(&hit.key)).collect()
}

/// The number in the key of a record, for records made by [`samples`].
fn number(stored: &Stored) -> u128 {
    number_of(&stored.record.key())
}

fn number_of(key: &Key) -> u128 {
    match key {
        Key::Space => 0,
        Key::Watermark(learner) => learner.as_uuid().as_u128(),
        Key::Episode(id) | Key::Open(id) | Key::Step(id, _) => id.as_uuid().as_u128(),
        Key::Pattern(id) | Key::Habit(id) => id.as_uuid().as_u128(),
        Key::Note(id) => id.as_uuid().as_u128(),
        Key::Unembedded(id) => id.as_u128(),
    }
}

/// The numbers of the records, in order.
fn numbers(records: &[Stored]) -> Vec<u128> {
    records.iter().map(number).collect()
}

/// All that can be seen of a store through its own methods.
#[derive(Debug, PartialEq)]
struct Observed {
    health: StoreHealth,
    records: Vec<Stored>,
    feed: Vec<FeedEntry>,
    hits: Vec<Hit>,
    note_hits: Vec<Hit>,
}

/// Looks at everything: all records by scans, the feed, and what the words `task` and `note` of most samples find.
async fn observe(store: &dyn MemoryStore) -> Observed {
    let mut records = Vec::new();
    for kind in RecordKind::ALL {
        records.extend(scan(store, Scan::new(kind)).await);
    }
    Observed {
        health: store.health().await.expect("healthy"),
        records,
        feed: follow(store, Version(0), 1_000).await.0,
        hits: search(store, &words("task")).await,
        note_hits: search(store, &note_words("note")).await,
    }
}

/// A batch of one record of each kind, none of them there: what a refused batch must leave no trace of.
fn innocent(n: u32) -> Batch {
    samples::one_of_each(n).into_iter().fold(Batch::new(), Batch::put)
}

/// The cursor after a record in a scan of its kind.
fn cursor(stored: &Stored) -> Cursor {
    match stored.record {
        Record::Episode(_) => Cursor::Version(stored.version),
        _ => Cursor::Key(stored.record.key()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_list_names_every_behaviour() {
        let sources = [
            include_str!("contract/batches.rs"),
            include_str!("contract/concurrency.rs"),
            include_str!("contract/feed.rs"),
            include_str!("contract/lifecycle.rs"),
            include_str!("contract/records.rs"),
            include_str!("contract/scans.rs"),
            include_str!("contract/searches.rs"),
        ];
        let lines = sources.iter().flat_map(|source| source.lines());
        let written: Vec<&str> = lines
            .filter_map(|line| line.strip_prefix("pub async fn "))
            .filter_map(|line| line.split_once('(').map(|(name, _)| name))
            .collect();
        let listed: Vec<&str> = crate::contract_tests!(@list names []).into();
        assert_eq!(BTreeSet::from_iter(&written), BTreeSet::from_iter(&listed));
        assert_eq!(written.len(), listed.len());
    }
}
