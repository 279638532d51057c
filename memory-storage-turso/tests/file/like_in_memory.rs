//! The store in memory is the reference: the same batches must give the same answers here.

use crate::common::{
    Dice, WORDS, generated, generated_note, id, moment, note_id, place, put_space, text, vector, zeros,
};
use memory_core::{
    Batch, Filter, Hit, InMemoryStore, Key, MemoryStore, MemoryStoreExt, NoteFilter, NoteKind, Record, RecordKind,
    Scan, Scope, Search, Stored, Trust, Verdict,
};
use memory_storage_turso::TursoStore;

/// Both stores with the same so many generated episodes and as many notes, of which some were replaced and some deleted.
async fn both(path: &std::path::Path, count: u128) -> (InMemoryStore, TursoStore) {
    let (memory, turso) = (InMemoryStore::new(), TursoStore::open(path).await.unwrap());
    put_space(&memory).await;
    put_space(&turso).await;
    let mut dice = Dice::new(7);
    let mut batches = Vec::new();
    for first in (0..count).step_by(50) {
        let mut batch = Batch::new();
        for number in first..first + 50 {
            batch = batch.put(generated(number, &mut dice).await);
            batch = batch.put(generated_note(number, &mut dice).await);
        }
        batches.push(batch);
    }
    for number in (0..count).step_by(9) {
        batches.push(Batch::new().put(generated(number, &mut dice).await).delete(Key::Episode(id(number + 1))));
        let note = generated_note(number, &mut dice).await;
        batches.push(Batch::new().put(note).delete(Key::Note(note_id(number + 1))));
    }
    for batch in &batches {
        memory.commit(batch).await.unwrap();
        turso.commit(batch).await.unwrap();
    }
    (memory, turso)
}

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
        NoteFilter::default().quorum(3),
        NoteFilter::default().trust(Trust::Trusted),
        NoteFilter::default().trust(Trust::Untrusted).quorum(2),
        NoteFilter::default().kind(NoteKind::Lesson),
        NoteFilter::default().tag("a").tag("d,\"e\""),
        NoteFilter::default().tag("\0zero").kind(NoteKind::Fact),
        NoteFilter::default().thread("chat"),
        NoteFilter::default().thread("\0log").alive_at(moment(5_000)),
    ]
}

/// What must be equal, bit by bit; versions are the store's own.
fn bits(hits: &[Hit]) -> Vec<(Key, [u64; 3])> {
    let scores = |hit: &Hit| [hit.words, hit.trace, hit.vector].map(f64::to_bits);
    hits.iter().map(|hit| (hit.key.clone(), scores(hit))).collect()
}

/// Asks both; answers how many hits there were.
async fn ask(memory: &InMemoryStore, turso: &TursoStore, search: &Search) -> usize {
    let (expected, answer) = (memory.search(search).await.unwrap(), turso.search(search).await.unwrap());
    assert_eq!(bits(&answer), bits(&expected), "{search:?}");
    answer.len()
}

#[tokio::test]
async fn finds_the_same_with_the_same_scores_in_the_same_order() {
    let (_folder, path) = place();
    let (memory, turso) = both(&path, 500).await;
    let mut dice = Dice::new(99);
    let (mut found, mut asked) = (0, 0);
    for scope in [Scope::default(), Scope::new("other").unwrap(), Scope::new("nobody").unwrap()] {
        let any = || Search::new(scope.clone());
        let episodes = filters().into_iter().map(|filter| any().filter(filter));
        let notes = note_filters().into_iter().map(|filter| any().for_notes(filter));
        for filtered in episodes.chain(notes) {
            for round in 0..12 {
                let query = text(&mut dice) + [" b", " c e", ""][dice.roll(3)];
                let k = [1, 3, 10, 100][dice.roll(4)];
                let mut search = filtered.clone().k(k).trace(dice.roll(2) > 0);
                if round % 3 != 0 {
                    search = search.text(&query);
                }
                if round % 3 != 1 {
                    // The store in memory compares the vectors of all records only then.
                    let vector = if dice.roll(9) == 0 { zeros() } else { vector(&query).await };
                    search = search.vector(Some(vector)).exact();
                }
                found += ask(&memory, &turso, &search).await;
                asked += 1;
            }
        }
    }
    assert!(found > 5 * asked, "{found} hits of {asked} searches");
}

/// The words of a query are in more records together than are candidates; some hits come by vector or by trace alone.
#[tokio::test]
async fn takes_the_same_rare_words_first() {
    let (_folder, path) = place();
    let (memory, turso) = both(&path, 3_000).await;
    let mut dice = Dice::new(5);
    let few = Filter::default().domain("web").language("rust").tag("b");
    let any = || Search::new(Scope::default());
    for filtered in [any(), any().filter(few), any().for_notes(NoteFilter::default())] {
        let few = filtered.filter != Filter::default();
        for round in 0..6 {
            let mut query = text(&mut dice);
            while query.len() < 300 {
                query = format!("{query} {}", text(&mut dice));
            }
            let mut search = filtered.clone().text(&query).k([1, 3, 10, 100][dice.roll(4)]).trace(round % 2 > 0);
            if round % 3 == 0 && few {
                search = search.vector(Some(vector(&text(&mut dice)).await));
            }
            let hits = ask(&memory, &turso, &search).await;
            assert!(hits >= search.k.min(30), "{hits} of {search:?}");
            let mut exact = search.clone().exact();
            ask(&memory, &turso, &exact).await;
            exact.vector = Some(vector(&query).await);
            ask(&memory, &turso, &exact).await;
        }
    }
    // It makes a difference which words are common.
    let search = any().text(WORDS.join(" ")).k(100);
    assert_ne!(turso.search(&search).await.unwrap(), turso.search(&search.clone().exact()).await.unwrap());
}

#[tokio::test]
async fn scans_gets_and_counts_the_same() {
    let (_folder, path) = place();
    let (memory, turso) = both(&path, 500).await;
    let plain = |all: Vec<Stored>| all.into_iter().map(|stored| stored.record).collect::<Vec<Record>>();
    for scope in [None, Some(Scope::default()), Some(Scope::new("nobody").unwrap())] {
        for filter in filters() {
            let mut scan = Scan::new(RecordKind::Episode).filter(filter).limit(7);
            scan.scope = scope.clone();
            let expected = plain(memory.scan_all(scan.clone()).await.unwrap());
            assert_eq!(plain(turso.scan_all(scan).await.unwrap()), expected);
        }
    }
    for scope in [None, Some(Scope::default()), Some(Scope::new("nobody").unwrap())] {
        for filter in note_filters() {
            let mut scan = Scan::new(RecordKind::Note).notes(filter.clone()).limit(7);
            scan.scope = scope.clone();
            let expected = plain(memory.scan_all(scan.clone()).await.unwrap());
            assert!(scope == Some(Scope::new("nobody").unwrap()) || expected.len() > 20, "{filter:?}");
            assert_eq!(plain(turso.scan_all(scan).await.unwrap()), expected);
        }
    }
    let notes = (0..502).map(|number| Key::Note(note_id(number)));
    let keys: Vec<Key> = (0..502).map(|number| Key::Episode(id(number))).chain([Key::Space]).chain(notes).collect();
    let [expected, answer] = [memory.get(&keys).await.unwrap(), turso.get(&keys).await.unwrap()];
    let records = |all: Vec<Option<Stored>>| all.into_iter().map(|one| one.map(|one| one.record)).collect::<Vec<_>>();
    assert_eq!(records(answer), records(expected));
    let [expected, answer] = [memory.health().await.unwrap(), turso.health().await.unwrap()];
    assert_eq!((answer.episodes, answer.notes), (expected.episodes, expected.notes));
}

/// What is counted wrong changes all scores of its scope, so that it would be noticed by the searches, too.
#[tokio::test]
async fn counts_are_exact_after_replacing_deleting_emptying_and_refilling() {
    let (_folder, path) = place();
    let (memory, turso) = both(&path, 500).await;
    turso.close().await.unwrap();
    crate::common::assert_sound(&path).await;
    assert_eq!(crate::common::number(&path, "SELECT count(*) FROM scopes").await, 2);
    let last = crate::common::number(&path, "SELECT max(id) FROM scopes").await;
    // Deleting everything leaves nothing behind but the tombstones.
    let turso = TursoStore::open(&path).await.unwrap();
    let mut all = turso.scan_all(Scan::new(RecordKind::Episode)).await.unwrap();
    all.extend(turso.scan_all(Scan::new(RecordKind::Note)).await.unwrap());
    let batch = all.iter().fold(Batch::new(), |batch, stored| batch.delete(stored.record.key()));
    turso.commit(&batch).await.unwrap();
    memory.commit(&batch).await.unwrap();
    turso.close().await.unwrap();
    for table in
        ["episodes", "notes", "vectors", "scopes", "episode_index", "note_index", "words_postings", "words_tokens"]
    {
        assert_eq!(crate::common::number(&path, &format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    // The scopes come again, one record in each batch, of which some are replaced in another scope.
    let turso = TursoStore::open(&path).await.unwrap();
    let mut dice = Dice::new(70);
    for number in (0..60).chain(0..60) {
        let batch = Batch::new().put(generated(number, &mut dice).await).put(generated_note(number, &mut dice).await);
        memory.commit(&batch).await.unwrap();
        turso.commit(&batch).await.unwrap();
    }
    for scope in [Scope::default(), Scope::new("other").unwrap()] {
        for search in [Search::new(scope.clone()), Search::new(scope).for_notes(NoteFilter::default())] {
            ask(&memory, &turso, &search.text(WORDS.join(" ")).trace(true).k(100)).await;
        }
    }
    turso.close().await.unwrap();
    crate::common::assert_sound(&path).await;
    let again = format!("SELECT count(*) FROM scopes WHERE id > {last}");
    assert_eq!(crate::common::number(&path, &again).await, 2, "no scope has the id of one that was there");
}
