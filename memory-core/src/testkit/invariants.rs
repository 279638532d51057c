//! The invariants of learning as property tests, over any store.
//!
//! Whatever the order of the episodes, however the projection steps were cut, and whatever was deleted in between: what is
//! known is the fold of the episodes that are there. [`invariant_tests!`](crate::invariant_tests) makes a test of each.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::generated::fold;
use super::{Fault, FaultyStore, Gate, ManualClock, Operation, samples};
use crate::{
    Batch, Clock as _, Episode, Error, ErrorKind, Filter, Hit, ImportOptions, Learner, Memory, MemoryStore,
    MemoryStoreExt, NewNote, Pattern, PatternId, Record, RecordKind, Recording, RetentionPolicy, Scan, Search, Status,
};

/// Makes a `#[test]` of each invariant, named like it.
///
/// The arguments are how many random cases each is tried with, and an async function or closure that gives a fresh, empty
/// store and a guard that lives as long as the case.
///
/// ```
/// mod invariants {
///     memory_core::invariant_tests!(4, async || (memory_core::InMemoryStore::new(), ()));
/// }
/// ```
#[macro_export]
macro_rules! invariant_tests {
    (@tests [$cases:expr, $factory:expr] $($invariant:ident,)*) => {
        $(
            #[test]
            fn $invariant() {
                $crate::testkit::invariants::$invariant($cases, $factory);
            }
        )*
    };
    ($cases:expr, $factory:expr) => {
        $crate::invariant_tests! { @tests [$cases, $factory]
            rebuilding_gives_the_live_knowledge,
            order_does_not_matter,
            merging_is_learning_from_the_union,
            importing_is_learning_from_the_union,
            unlearning_leaves_no_trace,
            retention_leaves_no_trace,
            knowledge_as_of_a_moment_is_the_fold_until_then,
            no_status_is_stuck,
            each_episode_counts_exactly_once,
            lineage_names_the_episodes_behind,
            heuristics_are_what_a_recount_gives,
        }
    };
}

/// What happens to the episodes of a case, beside being recorded.
#[derive(Clone, Debug)]
struct Case {
    episodes: Vec<Episode>,
    /// For each episode: whether a projection step follows it.
    cuts: Vec<bool>,
    /// For each episode: whether it is deleted, and whether at once or at the end.
    deletions: Vec<Option<bool>>,
    /// The order of another telling.
    order: Vec<usize>,
}

fn cases() -> impl Strategy<Value = Case> {
    (samples::episodes(samples::scope("acme/coder"), 1..14), any::<u64>()).prop_flat_map(|(episodes, _)| {
        let count = episodes.len();
        let order = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
        let deletions = vec(prop_oneof![3 => Just(None), 1 => any::<bool>().prop_map(Some)], count);
        (Just(episodes), vec(any::<bool>(), count), deletions, order)
            .prop_map(|(episodes, cuts, deletions, order)| Case { episodes, cuts, deletions, order })
    })
}

fn check<F: Future<Output = ()>>(count: u32, property: impl Fn(Case) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = Config { cases: count, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&cases(), |case| {
        runtime.block_on(property(case));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

async fn open(store: impl MemoryStore) -> Memory {
    Memory::builder().store(store).scope(samples::scope("acme/coder")).build().await.unwrap()
}

async fn record(memory: &Memory, episode: &Episode) {
    memory.record(recording(episode)).await.unwrap();
}

fn recording(episode: &Episode) -> Recording {
    Recording::from(episode)
}

/// Records, projects and deletes as the case says; gives the episodes that are left.
async fn live(memory: &Memory, case: &Case) -> Vec<Episode> {
    for ((episode, cut), deletion) in case.episodes.iter().zip(&case.cuts).zip(&case.deletions) {
        record(memory, episode).await;
        if *cut {
            memory.project().await.unwrap();
        }
        if *deletion == Some(true) {
            memory.delete(episode.id).await.unwrap();
        }
    }
    for (episode, _) in case.episodes.iter().zip(&case.deletions).filter(|(_, deletion)| **deletion == Some(false)) {
        memory.delete(episode.id).await.unwrap();
    }
    let kept = case.episodes.iter().zip(&case.deletions).filter(|(_, deletion)| deletion.is_none());
    kept.map(|(episode, _)| episode.clone()).collect()
}

/// All stored patterns, of every kind and scope, by rising id.
pub async fn stored_patterns(store: &dyn MemoryStore) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for kind in [RecordKind::Pattern, RecordKind::Habit] {
        for stored in store.scan_all(Scan::new(kind)).await.unwrap() {
            let Record::Pattern(pattern) = stored.record else { panic!("{stored:?} is no pattern") };
            patterns.push(pattern);
        }
    }
    patterns.sort_by_key(|pattern| pattern.id);
    patterns
}

/// Projecting all episodes from nothing gives exactly the live knowledge, however the steps were cut; and puts right what
/// was damaged.
pub fn rebuilding_gives_the_live_knowledge<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    check(cases, async |case| {
        let (store, _guard) = factory().await;
        let memory = open(store).await;
        let left = live(&memory, &case).await;
        let expected = fold(&left);
        assert_eq!(memory.patterns().await.unwrap(), expected, "live, with what lies beyond the watermark");
        memory.project().await.unwrap();
        assert_eq!(memory.health().await.unwrap().episodes_behind, 0);
        assert_eq!(stored_patterns(memory.store()).await, expected, "stored");
        let rebuilt = memory.rebuild().await.unwrap();
        assert_eq!((rebuilt.episodes, rebuilt.patterns), (left.len() as u64, expected.len() as u64));
        assert_eq!(rebuilt.repaired, 0);
        if let Some(pattern) = expected.first() {
            let mut extra = pattern.clone();
            extra.id = PatternId::new(samples::uuid(7));
            let damage = Batch::new().delete(pattern.key()).put(Record::Pattern(extra));
            memory.store().commit(&damage).await.unwrap();
            assert_eq!(memory.rebuild().await.unwrap().repaired, 2);
            assert_eq!(stored_patterns(memory.store()).await, expected, "repaired");
        }
    });
}

/// Any permutation of completions gives the same knowledge.
pub fn order_does_not_matter<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    check(cases, async |case| {
        let ((one, _guard), (other, _other_guard)) = (factory().await, factory().await);
        let (one, other) = (open(one).await, open(other).await);
        for (episode, cut) in case.episodes.iter().zip(&case.cuts) {
            record(&one, episode).await;
            if *cut {
                one.project().await.unwrap();
            }
        }
        for place in &case.order {
            record(&other, &case.episodes[*place]).await;
        }
        assert_eq!(one.patterns().await.unwrap(), other.patterns().await.unwrap());
    });
}

/// Merging two stores, which may share episodes, is learning from the union.
pub fn merging_is_learning_from_the_union<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    check(cases, async |case| {
        let ((one, _guard), (other, _other_guard)) = (factory().await, factory().await);
        let (one, other) = (open(one).await, open(other).await);
        for (place, episode) in case.episodes.iter().enumerate() {
            if place % 3 != 0 {
                record(&one, episode).await;
            }
            if place % 3 != 1 {
                record(&other, episode).await;
            }
        }
        one.project().await.unwrap();
        for stored in other.store().scan_all(Scan::new(RecordKind::Episode)).await.unwrap() {
            let Record::Episode(logged) = stored.record else { panic!("{stored:?} is no episode") };
            record(&one, &logged.episode).await;
        }
        assert_eq!(one.patterns().await.unwrap(), fold(&case.episodes));
    });
}

/// What two memories know that have heard parts of the same.
#[derive(Clone, Debug)]
struct Shared {
    /// Each with whether the one and the other memory has it; one of them does.
    episodes: Vec<(Episode, [bool; 2])>,
    /// Notes in the order of their telling, each told in one scope.
    notes: Vec<(&'static str, NewNote, [bool; 2])>,
    /// Commits of the first import that fail, and whether they are made all the same.
    failures: Vec<(u64, bool)>,
    /// The most records of a batch.
    batch: usize,
}

fn shared() -> impl Strategy<Value = Shared> {
    let heard = || select(vec![[true, true], [true, false], [false, true]]);
    let scope = select(vec!["acme", "acme/coder", "acme/coder/s-1", "acme/coder/s-2", "acme/coder/s-3"]);
    let text = select(vec!["fix the login test", "Fix the login test!", "deploy the report", "query the users"]);
    let note = (scope, text, select(crate::NoteKind::ALL.to_vec()), 0..3_u8, samples::source(), heard()).prop_map(
        |(scope, text, kind, tag, source, heard)| {
            let note = NewNote::new(text).kind(kind).source(source).salience(f64::from(tag) / 3.0);
            (scope, (0..tag).fold(note, |note, tag| note.tag(tag.to_string())), heard)
        },
    );
    let episodes = samples::episodes(samples::scope("acme/coder"), 1..14);
    let heard = vec(heard(), 14);
    (episodes, heard, vec(note, 0..8), vec((1..8_u64, any::<bool>()), 0..3), 1..5_usize).prop_map(
        |(episodes, heard, notes, failures, batch)| Shared {
            episodes: episodes.into_iter().zip(heard).collect(),
            notes,
            failures,
            batch,
        },
    )
}

/// Importing what another memory exported is learning from the union, also if both know some of it, if the import fails on
/// the way and is made again, and if it is made twice: patterns, heuristics, notes and what is recalled. Only how often a note
/// was told is then what the memory knows that heard it more often.
pub fn importing_is_learning_from_the_union<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = Config { cases: cases.div_ceil(2), failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&shared(), |shared| {
        runtime.block_on(imported(&factory, shared));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

async fn imported<S: MemoryStore, G>(factory: &impl AsyncFn() -> (S, G), shared: Shared) {
    let ((one, _guard), (other, _other_guard), (union, _union_guard)) =
        (factory().await, factory().await, factory().await);
    let clock = Arc::new(ManualClock::new(samples::time(0)));
    let open = async |store: Arc<dyn MemoryStore>| {
        let builder = Memory::builder().store(store).scope(samples::scope("acme/coder"));
        builder.clock(Arc::clone(&clock)).build().await.unwrap()
    };
    let faulty = Arc::new(FaultyStore::new(one));
    let (one, other, union) =
        (open(Arc::<FaultyStore<S>>::clone(&faulty)).await, open(Arc::new(other)).await, open(Arc::new(union)).await);
    for (second, (scope, note, heard)) in (0..).zip(&shared.notes) {
        clock.set(samples::time(second));
        for (memory, hears) in [(&one, heard[0]), (&other, heard[1]), (&union, true)] {
            if hears {
                memory.in_scope(samples::scope(scope)).remember(note.clone()).await.unwrap();
            }
        }
    }
    for (episode, heard) in &shared.episodes {
        for (memory, hears) in [(&one, heard[0]), (&other, heard[1]), (&union, true)] {
            if hears {
                record(memory, episode).await;
            }
        }
    }
    clock.set(samples::time(6 * 86_400));
    let mut file = Vec::new();
    other.export_all(&mut file).await.unwrap();
    let begun = faulty.calls(Operation::Commit);
    for (call, made) in &shared.failures {
        let error = Error::new(ErrorKind::Unavailable, "the answer was lost");
        let fault = if *made { Fault::After(error) } else { Fault::Before(error) };
        faulty.script(Operation::Commit, begun + call, fault);
    }
    let options = ImportOptions::new().batch(shared.batch);
    let mut tries = 0;
    while one.import_all(&file[..], &options).await.is_err() {
        tries += 1;
        assert!(tries <= shared.failures.len(), "each failure fails one import");
    }
    for _ in 0..2 {
        assert_eq!(known(&one).await, known(&union).await);
        let again = one.import_all(&file[..], &options).await.unwrap();
        assert_eq!((again.episodes, again.notes, again.merged), (0, 0, 0));
    }
}

/// All that a memory knows of these scopes, as text, but for how often notes were told.
async fn known(memory: &Memory) -> String {
    let mut known = format!("{:#?}\n{:#?}\n", memory.patterns().await.unwrap(), memory.heuristics().await.unwrap());
    for stored in memory.store().scan_all(Scan::new(RecordKind::Note)).await.unwrap() {
        let Record::Note(stored) = stored.record else { panic!("{stored:?} is no note") };
        let mut note = stored.note.as_ref().clone();
        note.seen = 0;
        note.tellings.values_mut().for_each(|telling| telling.seen = 0);
        known.push_str(&format!("{note:#?} {:?}\n", stored.vector));
    }
    for text in ["fix login", "test report deploy", "query"] {
        let recalled = memory.recall(&crate::Task::new(text), 10).await.unwrap();
        let crate::Recollection { episodes, pitfalls, notes, advice, abstained, .. } = recalled;
        let notes: Vec<_> = notes.iter().map(|note| (note.note.id, note.score, note.parts)).collect();
        known.push_str(&format!("{episodes:#?} {pitfalls:#?} {notes:#?} {advice:#?} {abstained:?}\n"));
    }
    known
}

/// Deleting an episode leaves exactly what never having seen it would leave: patterns, words and vectors.
pub fn unlearning_leaves_no_trace<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    check(cases, async |case| {
        let ((store, _guard), (other, _other_guard)) = (factory().await, factory().await);
        let (memory, never_saw) = (open(store).await, open(other).await);
        let left = live(&memory, &case).await;
        for episode in &left {
            record(&never_saw, episode).await;
        }
        for memory in [&memory, &never_saw] {
            memory.project().await.unwrap();
        }
        assert_eq!(stored_patterns(memory.store()).await, stored_patterns(never_saw.store()).await);
        for text in ["fix login", "test report deploy", "query"] {
            let (found, expected) = (found(&memory, text).await, found(&never_saw, text).await);
            assert_eq!(found, expected, "{text}");
        }
        for gone in case.episodes.iter().filter(|episode| !left.contains(episode)) {
            assert_eq!(memory.episode(gone.id).await.unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(memory.delete(gone.id).await.unwrap_err().kind(), ErrorKind::NotFound);
        }
        assert_eq!(memory.health().await.unwrap().store.episodes, left.len() as u64);
    });
}

/// Letting go of what a policy does not keep leaves exactly what never having seen it would leave, in every scope by itself.
pub fn retention_leaves_no_trace<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = Config { cases: cases.div_ceil(2), failure_persistence: None, ..Config::default() };
    let policy = (proptest::option::of(1..130_i64), proptest::option::of(1..8_u64), any::<bool>());
    let result = TestRunner::new(config).run(&(cases_of_two_scopes(), policy), |(episodes, (hours, most, all))| {
        let policy = RetentionPolicy { max_age: hours.map(TimeDelta::hours), max_episodes: most };
        if policy != RetentionPolicy::default() {
            runtime.block_on(retained(&factory, &episodes, policy, all));
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Episodes of two scopes, each with whether a projection step follows it.
fn cases_of_two_scopes() -> impl Strategy<Value = Vec<(Episode, bool)>> {
    let of = |scope| samples::episodes(samples::scope(scope), 0..12);
    (of("acme/coder"), of("acme/tester"), vec(any::<bool>(), 24)).prop_flat_map(|(one, other, cuts)| {
        let episodes: Vec<(Episode, bool)> = one.into_iter().chain(other).zip(cuts).collect();
        Just(episodes).prop_shuffle()
    })
}

async fn retained<S: MemoryStore, G>(
    factory: &impl AsyncFn() -> (S, G),
    episodes: &[(Episode, bool)],
    policy: RetentionPolicy,
    all: bool,
) {
    let ((one, _guard), (other, _other_guard)) = (factory().await, factory().await);
    let now = samples::time(5 * 86_400);
    let open = async |store: Arc<dyn MemoryStore>| {
        let builder = Memory::builder().store(store).scope(samples::scope("acme/coder"));
        builder.clock(ManualClock::new(now)).build().await.unwrap()
    };
    let (memory, never_saw) = (open(Arc::new(one)).await, open(Arc::new(other)).await);
    for (episode, cut) in episodes {
        record(&memory.in_scope(episode.scope.clone()), episode).await;
        if *cut {
            memory.project().await.unwrap();
        }
    }
    // The definition, in as few words as possible.
    let newer = |episode: &Episode, than: &Episode| {
        episode.scope == than.scope && (episode.completed_at, episode.id) > (than.completed_at, than.id)
    };
    let kept = |episode: &Episode| {
        let newer = episodes.iter().filter(|(other, _)| newer(other, episode)).count() as u64;
        (!all && episode.scope != *memory.scope())
            || policy.max_age.is_none_or(|age| episode.completed_at >= now - age)
                && policy.max_episodes.is_none_or(|most| newer < most)
    };
    let (left, gone): (Vec<&Episode>, Vec<&Episode>) =
        episodes.iter().map(|(episode, _)| episode).partition(|one| kept(one));
    let removed = if all { memory.retain_all(&policy).await } else { memory.retain(&policy).await };
    let mut expected: Vec<_> = gone.iter().map(|episode| (episode.completed_at, episode.id)).collect();
    expected.sort_unstable();
    assert_eq!(removed.unwrap().ids, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    for episode in left {
        record(&never_saw.in_scope(episode.scope.clone()), episode).await;
    }
    for memory in [&memory, &never_saw] {
        memory.project().await.unwrap();
    }
    assert_eq!(stored_patterns(memory.store()).await, stored_patterns(never_saw.store()).await);
    assert_eq!(memory.rebuild().await.unwrap().repaired, 0);
    for scope in ["acme/coder", "acme/tester"] {
        let [one, other] = [&memory, &never_saw].map(|memory| memory.in_scope(samples::scope(scope)));
        assert_eq!(known(&one).await, known(&other).await);
    }
    let again = if all { memory.retain_all(&policy).await } else { memory.retain(&policy).await };
    assert_eq!(again.unwrap().episodes, 0);
}

/// What a search by words and by vector finds, without versions, which count deletions too.
async fn found(memory: &Memory, text: &str) -> Vec<(crate::Key, f64, f64)> {
    let vector = match &memory.store().scan_all(Scan::new(RecordKind::Episode)).await.unwrap()[..] {
        [first, ..] => match &first.record {
            Record::Episode(logged) => logged.vector.clone(),
            _ => None,
        },
        [] => None,
    };
    let search = Search::new(memory.scope().clone()).text(text).vector(vector).filter(Filter::default()).k(100);
    let hits = memory.store().search(&search).await.unwrap();
    hits.into_iter().map(|Hit { key, words, vector, .. }| (key, words, vector)).collect()
}

/// Knowledge at a moment is the fold of the episodes completed by then.
pub fn knowledge_as_of_a_moment_is_the_fold_until_then<S: MemoryStore, G>(
    cases: u32,
    factory: impl AsyncFn() -> (S, G),
) {
    check(cases, async |case| {
        let (store, _guard) = factory().await;
        let memory = open(store).await;
        let left = live(&memory, &case).await;
        let completions = left.iter().map(|episode| episode.completed_at);
        for moment in completions.flat_map(|at| [at - TimeDelta::nanoseconds(1), at]) {
            let expected = fold(left.iter().filter(|episode| episode.completed_at <= moment));
            assert_eq!(memory.patterns_as_of(moment).await.unwrap(), expected, "{moment}");
        }
        assert_eq!(memory.patterns_as_of(Utc::now()).await.unwrap(), memory.patterns().await.unwrap());
    });
}

/// Status is a function of the evidence and the time, never of the path that led there.
pub fn no_status_is_stuck<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    check(cases, async |case| {
        let ((store, _guard), (other, _other_guard)) = (factory().await, factory().await);
        let clock = Arc::new(ManualClock::new(samples::time(0)));
        let open = async |store: Arc<dyn MemoryStore>| {
            let builder = Memory::builder().store(store).scope(samples::scope("acme/coder"));
            builder.clock(Arc::clone(&clock)).build().await.unwrap()
        };
        let (winding, direct) = (open(Arc::new(store)).await, open(Arc::new(other)).await);
        let mut left = Vec::new();
        for (episode, deletion) in case.episodes.iter().zip(&case.deletions) {
            record(&winding, episode).await;
            statuses(&winding).await;
            match deletion {
                Some(_) => winding.delete(episode.id).await.unwrap(),
                None => left.push(episode),
            }
        }
        for episode in left {
            record(&direct, episode).await;
        }
        for days in [0, 2, 90, 2_000] {
            clock.set(samples::time(days * 86_400));
            assert_eq!(statuses(&winding).await, statuses(&direct).await, "after {days} days");
        }
        let aged = statuses(&winding).await;
        assert!(
            aged.values().all(|status| *status == Status::Candidate),
            "evidence of years ago is no evidence: {aged:?}"
        );
    });
}

async fn statuses(memory: &Memory) -> BTreeMap<(PatternId, String), Status> {
    let quorum = memory.learner().quorum;
    let mut statuses = BTreeMap::new();
    for pattern in memory.patterns().await.unwrap() {
        for (branch, evidence) in &pattern.branches {
            statuses.insert((pattern.id, branch.clone()), memory.support(evidence).status(quorum));
        }
    }
    statuses
}

/// An episode appended twice is one; a write or a projection step that is retried after an ambiguous failure, or raced by
/// another engine on the same store, counts once.
pub fn each_episode_counts_exactly_once<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    check(cases, async |case| {
        let (store, _guard) = factory().await;
        let store = Arc::new(store);
        // What is held back is a commit of this one, also where it projects by itself: the other could not go on else.
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&store)));
        let (one, other) = (open(Arc::clone(&faulty)).await, open(Arc::clone(&store)).await);
        let ambiguous = || Fault::After(Error::new(ErrorKind::Unavailable, "the answer was lost"));
        for (place, (episode, cut)) in case.episodes.iter().zip(&case.cuts).enumerate() {
            faulty.script_next(Operation::Commit, ambiguous());
            let mut tries = 0;
            while one.record(recording(episode)).await.is_err() {
                tries += 1;
                assert!(tries < 10, "a retried write succeeds");
            }
            record(&other, episode).await;
            if *cut {
                raced(&faulty, &one, &other, case.episodes.get(place + 1)).await;
            } else {
                faulty.script_next(Operation::Commit, ambiguous());
                let _ = one.project().await;
            }
        }
        let mut changed = recording(&case.episodes[0]);
        changed.outcome.summary.push('!');
        assert_eq!(one.record(changed).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        raced(&faulty, &one, &other, None).await;
        let _ = one.project().await;
        one.project().await.expect("only one commit fails");
        assert_eq!(stored_patterns(&store).await, fold(&case.episodes));
        assert_eq!(one.health().await.unwrap().store.episodes, case.episodes.len() as u64);
    });
}

/// Holds a projection step back just before it is written, until the other engine has projected the same episodes and one
/// more.
async fn raced<S: MemoryStore>(faulty: &FaultyStore<S>, one: &Memory, other: &Memory, more: Option<&Episode>) {
    let gate = Gate::new();
    faulty.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let mut late = pin!(one.project());
    tokio::select! {
        // There was nothing left to project: the next commit finds the gate open.
        done = &mut late => {
            gate.open();
            done.unwrap();
        }
        () = gate.reached() => {
            if let Some(episode) = more {
                record(other, episode).await;
            }
            other.project().await.unwrap();
            gate.open();
            late.await.unwrap();
        }
    }
}

/// Every pattern can name the episodes behind it, and their observations add up to it.
pub fn lineage_names_the_episodes_behind<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    check(cases.div_ceil(4), async |case| {
        let (store, _guard) = factory().await;
        let memory = open(store).await;
        let left = live(&memory, &case).await;
        for pattern in memory.patterns().await.unwrap() {
            let lineage = memory.lineage(pattern.id).await.unwrap();
            let behind = left.iter().filter(|episode| lineage.contains(&episode.id));
            let expected = fold(behind).into_iter().find(|other| other.id == pattern.id);
            assert_eq!(expected, Some(pattern));
        }
        for gone in case.episodes.iter().filter(|episode| !left.contains(episode)) {
            for observed in Learner::default().observe(gone) {
                assert!(!memory.lineage(observed.id).await.unwrap().contains(&gone.id));
            }
        }
    });
}

/// The evidence of every heuristic is what counting the episodes again gives, whatever the path: which way the episodes
/// came, how the projection steps were cut, and what was deleted.
pub fn heuristics_are_what_a_recount_gives<S: MemoryStore, G>(cases: u32, factory: impl AsyncFn() -> (S, G)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = Config { cases: cases.div_ceil(8), failure_persistence: None, ..Config::default() };
    let (derived, order) = (std::cell::Cell::new(0), any::<u64>());
    let result = TestRunner::new(config).run(&(habitual_episodes(), order), |(episodes, order)| {
        derived.set(derived.get() + runtime.block_on(recounted(&factory, &episodes, order)));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    assert!(derived.get() > 0, "a habit was planted");
}

/// Episodes of eight tasks over three days; one habit helps.
fn habitual_episodes() -> impl Strategy<Value = Vec<Episode>> {
    let one = (0..8_u32, any::<bool>(), 0..10_u32, 0..3_i64, samples::source(), any::<bool>());
    vec(one, 150..180).prop_map(|parts| {
        let episodes = (0..).zip(parts).map(|(n, (task, has, luck, day, source, tagged))| {
            let mut episode = samples::episode(n, &format!("task{task}"));
            episode.scope = samples::scope("acme/coder");
            episode.task.tags.extend(tagged.then(|| "auth".to_owned()));
            episode.steps = [if has { "test" } else { "read" }, "edit"].map(crate::Step::new).into();
            if luck >= if has { 9 } else { 1 } {
                episode.outcome = crate::Outcome::failure("");
            }
            episode.completed_at = samples::time(day * 86_400 + i64::from(n));
            episode.source = source;
            episode
        });
        episodes.collect()
    })
}

/// Checks one case; gives how many heuristics there were.
async fn recounted<S: MemoryStore, G>(factory: &impl AsyncFn() -> (S, G), episodes: &[Episode], order: u64) -> usize {
    let ((one, _guard), (other, _other_guard)) = (factory().await, factory().await);
    let clock = Arc::new(ManualClock::new(samples::time(40 * 86_400)));
    let open = async |store: Arc<dyn MemoryStore>| {
        let builder = Memory::builder().store(store).scope(samples::scope("acme/coder"));
        builder.clock(Arc::clone(&clock)).build().await.unwrap()
    };
    let (one, other) = (open(Arc::new(one)).await, open(Arc::new(other)).await);
    let kept = |place: usize| (order >> (place % 60)) & 1 == 0 || place.is_multiple_of(3);
    for (place, episode) in episodes.iter().enumerate() {
        record(&one, episode).await;
        if place % 16 == 5 {
            one.project().await.unwrap();
        }
    }
    for (_, gone) in episodes.iter().enumerate().filter(|(place, _)| !kept(*place)) {
        one.delete(gone.id).await.unwrap();
    }
    let left: Vec<&Episode> =
        episodes.iter().enumerate().filter(|(place, _)| kept(*place)).map(|(_, episode)| episode).collect();
    for episode in left.iter().rev() {
        record(&other, episode).await;
    }
    let heuristics = one.heuristics().await.unwrap();
    assert_eq!(heuristics, other.heuristics().await.unwrap(), "whatever the path");
    for heuristic in &heuristics {
        let speaking = left.iter().filter(|episode| heuristic.situation.fits(&episode.task));
        let trusted = speaking.filter(|episode| episode.source.trust == crate::Trust::Trusted);
        let mut counted = [[0.0; 2]; 2];
        for episode in trusted {
            let Some(has) = heuristic.is_in(&episode.steps) else { continue };
            let days = (clock.now().timestamp().div_euclid(86_400)
                - episode.completed_at.timestamp().div_euclid(86_400)) as f64;
            let weight = 0.5_f64.powf(days / 90.0);
            counted[usize::from(has)][0] += weight;
            counted[usize::from(has)][1] += if episode.succeeded() { weight } else { 0.0 };
        }
        let contrast = heuristic.contrast;
        let rates = [contrast.without, contrast.with].map(|rate| [rate.trials, rate.successes]);
        for (found, expected) in rates.into_iter().flatten().zip(counted.into_iter().flatten()) {
            assert!((found - expected).abs() < 1e-9, "{found} is not {expected}: {heuristic}");
        }
    }
    heuristics.len()
}
