//! The store in memory is the reference: the same batches must give the same answers here, whatever happens in between.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{Dice, WORDS, generated, generated_note, id, moment, note_id, place, put_space, text, vector, zeros};
use memory_core::testkit::samples;
use memory_core::{
    Batch, Condition, Error, Filter, Hit, InMemoryStore, Key, MemoryStore, MemoryStoreExt, NoteFilter, NoteKind,
    Record, RecordKind, Scan, Scope, Search, Trust, Verdict, Version,
};
use memory_storage_redb::RedbStore;

fn filters() -> Vec<Filter> {
    vec![
        Filter::default(),
        Filter::default().domain("web"),
        Filter::default().language("rust").verdict(Verdict::Failure),
        Filter::default().tag("a").tag("d,\"e\""),
        Filter::default().tag("\0zero"),
        Filter::default().completed(Some(moment(1_500)), Some(moment(9_500))),
        Filter::default().completed(Some(moment(1_501)), None).domain("data"),
        Filter::default().domain("none"),
    ]
}

fn note_filters() -> Vec<NoteFilter> {
    vec![
        NoteFilter::default(),
        NoteFilter::default().alive_at(moment(9_500)).quorum(2),
        NoteFilter::default().expired_at(moment(9_501)),
        NoteFilter::default().trust(Trust::Untrusted).quorum(2),
        NoteFilter::default().kind(NoteKind::Lesson),
        NoteFilter::default().tag("\0zero").kind(NoteKind::Fact),
        NoteFilter::default().thread("\0log").alive_at(moment(5_000)),
    ]
}

fn scopes() -> [Scope; 3] {
    [Scope::default(), Scope::new("other").unwrap(), Scope::new("nobody").unwrap()]
}

/// A record of any kind but the space, often one that is there already, sometimes in another scope than before.
async fn any_record(dice: &mut Dice) -> Record {
    let n = u32::try_from(dice.roll(60)).unwrap();
    let scope = scopes()[dice.roll(2)].clone();
    match dice.roll(8) {
        0..3 => generated(u128::from(n), dice).await,
        3 | 4 => generated_note(u128::from(n), dice).await,
        5 => samples::watermark(n % 3, u64::from(n)),
        6 => {
            let mut pattern = if dice.roll(2) == 0 { samples::pattern(n) } else { samples::habit(n) };
            pattern.scope = scope;
            pattern.domain = Some(text(dice));
            Record::Pattern(pattern)
        }
        _ if dice.roll(2) == 0 => Record::Step(samples::step(n % 5, n)),
        _ => {
            let mut open = samples::open(n);
            (open.scope, open.state) = (scope, Some(text(dice)));
            Record::Open(open)
        }
    }
}

/// A batch whose conditions hold more often than not.
async fn any_batch(memory: &InMemoryStore, dice: &mut Dice) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..dice.roll(6) {
        let record = any_record(dice).await;
        batch = match dice.roll(4) {
            0 => batch.delete(record.key()),
            _ => batch.put(record),
        };
    }
    for _ in 0..dice.roll(3) {
        let key = any_record(dice).await.key();
        let version = memory.get_one(key.clone()).await.unwrap().map(|stored| stored.version);
        batch.conditions.push(match (dice.roll(8), version) {
            (0, _) => Condition::Absent(key),
            (1, _) => Condition::Present(key),
            (2, _) => Condition::Unchanged(key, Version(7)),
            (_, Some(version)) => Condition::Unchanged(key, version),
            (_, None) => Condition::Absent(key),
        });
    }
    if dice.roll(40) == 0 {
        batch = batch.delete(Key::Space);
    }
    if dice.roll(40) == 0 {
        batch = batch.put(Record::Space(samples::space(3)));
    }
    batch.derivable = dice.roll(4) == 0;
    batch
}

fn said(error: &Error) -> String {
    error.to_string().replace("commit: ", "")
}

async fn commit_both(memory: &InMemoryStore, redb: &RedbStore, batch: &Batch) {
    match (memory.commit(batch).await, redb.commit(batch).await) {
        (Ok(expected), Ok(answer)) => assert_eq!(answer.version, expected.version),
        (Err(expected), Err(answer)) => assert_eq!(said(&answer), said(&expected)),
        (expected, answer) => panic!("{answer:?} instead of {expected:?} for {batch:?}"),
    }
}

/// What must be equal, bit by bit.
fn bits(hits: &[Hit]) -> Vec<(&Key, Version, [u64; 3])> {
    let scores = |hit: &Hit| [hit.words, hit.trace, hit.vector].map(f64::to_bits);
    hits.iter().map(|hit| (&hit.key, hit.version, scores(hit))).collect()
}

/// Asks both; answers how many hits there were.
async fn ask(memory: &InMemoryStore, redb: &RedbStore, search: &Search) -> usize {
    let (expected, answer) = (memory.search(search).await.unwrap(), redb.search(search).await.unwrap());
    assert_eq!(bits(&answer), bits(&expected), "{search:?}");
    answer.len()
}

/// A search of everything that can be asked in a random way.
async fn any_search(filtered: Search, round: usize, dice: &mut Dice) -> Search {
    let query = text(dice) + [" b", " c e", ""][dice.roll(3)];
    let mut search = filtered.k([1, 3, 10, 100][dice.roll(4)]).trace(dice.roll(2) > 0);
    if !round.is_multiple_of(3) {
        search = search.text(&query);
    }
    if round % 3 != 1 {
        let vector = if dice.roll(9) == 0 { zeros() } else { vector(&query).await };
        search = search.vector(Some(vector));
    }
    if dice.roll(2) == 0 { search.exact() } else { search }
}

fn filtered_searches() -> Vec<Search> {
    let in_scope = |scope: Scope| {
        let any = move || Search::new(scope.clone());
        let notes = note_filters().into_iter().map({
            let any = any.clone();
            move |filter| any().for_notes(filter)
        });
        filters().into_iter().map(move |filter| any().filter(filter)).chain(notes)
    };
    scopes().into_iter().flat_map(in_scope).collect()
}

/// Compares all that can be read.
async fn compare(memory: &InMemoryStore, redb: &RedbStore, dice: &mut Dice) {
    assert_eq!(redb.health().await.unwrap(), memory.health().await.unwrap());
    for kind in RecordKind::ALL {
        for scope in [None, Some(scopes()[0].clone()), Some(scopes()[1].clone())] {
            let mut scan = Scan::new(kind).limit(1 + dice.roll(9));
            scan.scope = scope;
            match kind {
                RecordKind::Episode => scan.filter = filters().swap_remove(dice.roll(8)),
                RecordKind::Note => scan.notes = note_filters().swap_remove(dice.roll(7)),
                _ => {}
            }
            let expected = memory.scan_all(scan.clone()).await.unwrap();
            assert_eq!(redb.scan_all(scan.clone()).await.unwrap(), expected, "{scan:?}");
            let keys: Vec<Key> = expected.iter().map(|stored| stored.record.key()).collect();
            assert_eq!(redb.get(&keys).await.unwrap(), memory.get(&keys).await.unwrap());
        }
    }
    let (mut since, limit) = (Version(0), 1 + dice.roll(30));
    loop {
        let changes = memory.changes(since, limit).await.unwrap();
        assert_eq!(redb.changes(since, limit).await.unwrap(), changes);
        if changes.upto == since {
            break;
        }
        since = changes.upto;
    }
    for (round, filtered) in filtered_searches().into_iter().enumerate() {
        ask(memory, redb, &any_search(filtered, round, dice).await).await;
    }
}

/// Random batches, of which some are refused, and reopening at random: after a close, with a snapshot of the index, with an old
/// one, without one.
#[tokio::test]
async fn random_batches_give_the_same_answers() {
    let (folder, path) = place();
    let (memory, mut redb) = (InMemoryStore::new(), RedbStore::open(&path).await.unwrap());
    let snapshot = folder.path().join("memory.redb.index");
    let mut dice = Dice::new(20_260_202);
    let mut old = None;
    put_space(&memory).await;
    put_space(&redb).await;
    for round in 0..400 {
        let batch = any_batch(&memory, &mut dice).await;
        commit_both(&memory, &redb, &batch).await;
        if round % 40 == 39 {
            compare(&memory, &redb, &mut dice).await;
        }
        if dice.roll(25) == 0 {
            redb.close().await.unwrap();
            match dice.roll(3) {
                0 => drop(std::fs::remove_file(&snapshot)),
                1 => drop(old.as_ref().map(|old| std::fs::write(&snapshot, old).unwrap())),
                _ => {}
            }
            old = std::fs::read(&snapshot).ok();
            redb = RedbStore::open(&path).await.unwrap();
        }
    }
    compare(&memory, &redb, &mut dice).await;
}

/// Both stores with so many generated episodes and as many notes, of which some were replaced and some deleted.
async fn both(path: &Path, count: u128) -> (InMemoryStore, RedbStore) {
    let (memory, redb) = (InMemoryStore::new(), RedbStore::open(path).await.unwrap());
    put_space(&memory).await;
    put_space(&redb).await;
    let mut dice = Dice::new(7);
    for first in (0..count).step_by(50) {
        let mut batch = Batch::new();
        for number in first..first + 50 {
            batch = batch.put(generated(number, &mut dice).await).put(generated_note(number, &mut dice).await);
        }
        for number in (first..first + 50).step_by(9) {
            batch = batch.delete(Key::Episode(id(number + 1))).delete(Key::Note(note_id(number + 1)));
            batch = batch.put(generated(number, &mut dice).await);
        }
        commit_both(&memory, &redb, &batch).await;
    }
    (memory, redb)
}

/// Enough that not all vectors are compared, that words are too common to be looked at, and that the index saves itself.
#[tokio::test]
async fn finds_the_same_among_thousands_before_and_after_a_restart() {
    let (folder, path) = place();
    let (memory, redb) = both(&path, 1_500).await;
    let mut dice = Dice::new(99);
    let mut searches = Vec::new();
    for (round, filtered) in filtered_searches().into_iter().enumerate() {
        searches.push(any_search(filtered, round, &mut dice).await);
    }
    searches.push(Search::new(Scope::default()).text(WORDS.join(" ")).k(100));
    let mut found = 0;
    for search in &searches {
        found += ask(&memory, &redb, search).await;
    }
    assert!(found > 5 * searches.len(), "{found} hits of {} searches", searches.len());
    let snapshot = folder.path().join("memory.redb.index");
    assert!(snapshot.exists(), "it was saved while it grew");
    for without in [false, true] {
        redb.close().await.unwrap();
        if without {
            std::fs::remove_file(&snapshot).unwrap();
        }
        let redb = RedbStore::open(&path).await.unwrap();
        for search in &searches {
            ask(&memory, &redb, search).await;
        }
        redb.close().await.unwrap();
    }
}
