//! Damage to the file, and to the index beside it: an error that says so, or the right answer. Never a wrong record, never a
//! panic that reaches a caller, never a hang.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Dice, text};
use memory_core::testkit::{process, samples};
use memory_core::{
    Batch, Error, ErrorKind, FeedEntry, Hit, Key, MemoryStore, MemoryStoreExt, NoteFilter, Record, RecordKind, Scan,
    Scope, Search, Stored, Version,
};
use memory_storage_redb::{Check, RedbConfig, RedbStore};
use tempfile::TempDir;

const TEST: &str = "damage_is_an_error_or_the_right_answer";
const PAGE: usize = 4_096;

/// How many cases there are; more, if someone asks for more.
fn cases() -> usize {
    std::env::var("DAMAGE_CASES").map_or(1_000, |cases| cases.parse().unwrap())
}

/// A folder in memory where there is one: nothing here is about disks.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What is in the file that is damaged.
struct Whole {
    database: Vec<u8>,
    index: Vec<u8>,
    records: BTreeMap<Key, Stored>,
    feed: Vec<FeedEntry>,
    hits: Vec<Vec<Hit>>,
}

fn searches() -> [Search; 2] {
    let search = Search::new(Scope::default()).text("login fails test password").trace(true).k(20);
    let search = search.vector(Some(samples::vector(&[1.0, 2.0, 3.0, 4.0])));
    [search.clone(), search.for_notes(NoteFilter::default())]
}

/// Two records that are searched, with vectors.
fn searched(number: u32, dice: &mut Dice) -> [Record; 2] {
    let mut vector = || samples::vector(&[0; 4].map(|_| f32::from(u8::try_from(dice.roll(200)).unwrap()) - 100.0));
    let vectors = [vector(), vector()];
    let [task, note] = [text(dice), text(dice)];
    let [of_episode, of_note] = vectors;
    [
        samples::logged_with(samples::episode(number, &task), of_episode),
        samples::noted_with(samples::note(number, &note), of_note),
    ]
}

async fn whole() -> Whole {
    let folder = folder();
    let path = folder.path().join("memory.redb");
    let store = RedbStore::open(&path).await.unwrap();
    store.commit(&Batch::new().put(Record::Space(samples::space(4)))).await.unwrap();
    let mut dice = Dice::new(17);
    for number in 0..30_u32 {
        let mut batch = samples::one_of_each(number).into_iter().fold(Batch::new(), Batch::put);
        batch = searched(1_000 + number, &mut dice).into_iter().fold(batch, Batch::put);
        store.commit(&batch).await.unwrap();
    }
    store.commit(&Batch::new().delete(Key::Episode(samples::episode_id(7)))).await.unwrap();
    let mut records = BTreeMap::new();
    for kind in RecordKind::ALL {
        for stored in store.scan_all(Scan::new(kind)).await.unwrap() {
            records.insert(stored.record.key(), stored);
        }
    }
    let feed = store.changes(Version(0), 1_000).await.unwrap().entries;
    let mut hits = Vec::new();
    for search in searches() {
        hits.push(store.search(&search).await.unwrap());
    }
    store.close().await.unwrap();
    let index = std::fs::read(folder.path().join("memory.redb.index")).unwrap();
    Whole { database: std::fs::read(&path).unwrap(), index, records, feed, hits }
}

/// Damages bytes where there is something to damage, and tells how.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) -> String {
    let used: Vec<usize> =
        (0..bytes.len() / PAGE).filter(|page| bytes[page * PAGE..][..PAGE].iter().any(|byte| *byte != 0)).collect();
    let page = used[dice.roll(used.len())] * PAGE;
    match dice.roll(8) {
        0 => {
            let length = dice.roll(bytes.len());
            bytes.truncate(length);
            format!("cut at {length}")
        }
        1 => {
            bytes[page..page + PAGE].fill_with(|| u8::try_from(dice.roll(256)).unwrap());
            format!("garbage at {page}")
        }
        2 => {
            bytes[page..page + PAGE].fill(0);
            format!("zeros at {page}")
        }
        3 => {
            let other = used[dice.roll(used.len())] * PAGE;
            bytes.copy_within(other..other + PAGE, page);
            format!("{other} copied to {page}")
        }
        flips => {
            let flips = if flips == 4 { 8 } else { 1 };
            let places: Vec<usize> = (0..flips).map(|_| page * 8 + dice.roll(PAGE * 8)).collect();
            places.iter().for_each(|place| bytes[place / 8] ^= 1 << (place % 8));
            format!("flipped {places:?}")
        }
    }
}

/// How a case went.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    unharmed: usize,
    told: usize,
    hidden: usize,
    kinds: BTreeSet<String>,
}

impl Tally {
    /// Takes in an answer; an error must say what is wrong.
    fn take<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        answer
            .map_err(|error| {
                use ErrorKind::{Corrupt, Foreign, Io, SchemaEdited, SchemaTooNew, Unavailable};
                assert!(
                    matches!(error.kind(), Corrupt | Foreign | Io | SchemaEdited | SchemaTooNew | Unavailable),
                    "{error}"
                );
                self.kinds.insert(format!("{:?}", error.kind()));
                self.told += 1;
            })
            .ok()
    }
}

/// Does everything that can be done with a store, and compares all answers with what is right.
async fn exercise(path: &Path, config: RedbConfig, whole: &Whole, tally: &mut Tally) {
    let before = (tally.told, tally.hidden);
    let Some(store) = tally.take(RedbStore::open_with(path, config).await) else {
        tally.refused += 1;
        return;
    };
    let mut hidden = 0;
    let keys: Vec<Key> = whole.records.keys().cloned().collect();
    for keys in keys.chunks(10) {
        for (found, key) in tally.take(store.get(keys).await).into_iter().flatten().zip(keys) {
            match found {
                Some(found) => assert_eq!(found, whole.records[key]),
                None => hidden += 1,
            }
        }
    }
    for kind in RecordKind::ALL {
        let Some(found) = tally.take(store.scan_all(Scan::new(kind)).await) else { continue };
        let keys: BTreeSet<Key> = found.iter().map(|stored| stored.record.key()).collect();
        found.iter().for_each(|stored| assert_eq!(whole.records[&stored.record.key()], *stored));
        assert_eq!(keys.len(), found.len(), "one is there twice");
        let count = whole.records.keys().filter(|key| key.kind() == kind).count();
        hidden += usize::from(found.len() < count);
    }
    if let Some(changes) = tally.take(store.changes(Version(0), 1_000).await) {
        changes.entries.iter().for_each(|entry| assert!(whole.feed.contains(entry), "{entry:?}"));
        hidden += usize::from(changes.entries.len() < whole.feed.len());
    }
    for (search, expected) in searches().iter().zip(&whole.hits) {
        if let Some(found) = tally.take(store.search(search).await)
            && found != *expected
        {
            found.iter().for_each(|hit| assert!(whole.records.contains_key(&hit.key), "{hit:?}"));
            hidden += 1;
        }
    }
    let new = samples::logged(samples::episode(5_000, "a new one"));
    // Writing to a damaged file that was not checked can end the process.
    if config.check != Check::Never
        && tally.take(store.commit(&Batch::new().put(new.clone())).await).is_some()
        && let Some(found) = tally.take(store.get_one(new.key()).await)
    {
        assert_eq!(found.map(|stored| stored.record), Some(new));
    }
    store.close().await.unwrap();
    tally.hidden += usize::from(hidden > 0);
    assert!(hidden == 0 || config.check == Check::Never, "what was checked hides nothing");
    tally.unharmed += usize::from((tally.told, tally.hidden) == before);
}

async fn run_cases() {
    let whole = whole().await;
    let folder = folder();
    let path = folder.path().join("memory.redb");
    let mut tally = Tally::default();
    let first: usize = std::env::var("FIRST").unwrap().parse().unwrap();
    for case in first..cases() {
        let mut dice = Dice::new(1_000_003 * (case as u64 + 1));
        let (mut database, mut index) = (whole.database.clone(), whole.index.clone());
        let of_index = case % 5 == 4;
        let how = damage(if of_index { &mut index } else { &mut database }, &mut dice);
        println!("case {case}: {how}, in the index: {of_index}");
        std::fs::write(&path, &database).unwrap();
        std::fs::write(index_of(&path), &index).unwrap();
        let config = RedbConfig::default().with_cache_bytes(1 << 20).with_check(check_of(case));
        let (told, hidden) = (tally.told, tally.hidden);
        let limit = tokio::time::timeout(Duration::from_secs(20), exercise(&path, config, &whole, &mut tally)).await;
        limit.unwrap_or_else(|_| panic!("case {case} hangs"));
        if of_index {
            assert_eq!((tally.told, tally.hidden), (told, hidden), "a damaged index is made anew");
        }
    }
    println!("of {} {tally:?}", cases() - first);
    assert!(first > 0 || tally.refused > 50 && tally.unharmed > 50, "{tally:?}");
}

fn check_of(case: usize) -> Check {
    [Check::IfChanged, Check::Always, Check::Never][case % 3]
}

fn index_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.index", path.display()))
}

/// The key of the record whose row has this key.
fn store_key(row: &[u8]) -> Key {
    let id = |bytes: &[u8]| uuid::Uuid::from_slice(&bytes[..16]).unwrap();
    match row {
        [1] => Key::Space,
        [2, rest @ ..] => Key::Watermark(memory_core::LearnerId::new(id(rest))),
        [3, rest @ ..] => Key::Episode(memory_core::EpisodeId::new(id(rest))),
        [4, rest @ ..] => Key::Open(memory_core::EpisodeId::new(id(rest))),
        [5, rest @ ..] => Key::Step(memory_core::EpisodeId::new(id(rest)), 0),
        [6, rest @ ..] => Key::Pattern(memory_core::PatternId::new(id(rest))),
        [7, rest @ ..] => Key::Habit(memory_core::PatternId::new(id(rest))),
        [8, rest @ ..] => Key::Note(memory_core::NoteId::new(id(rest))),
        [9, rest @ ..] => Key::Unembedded(id(rest)),
        other => panic!("{other:?}"),
    }
}

/// In a process of its own, because redb ends the process when it meets some damage while it commits or closes: that may happen
/// where the file was not to be checked, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error_or_the_right_answer() {
    if process::is_child() {
        return run_cases().await;
    }
    let (mut first, mut ended) = (0, 0);
    loop {
        let output =
            process::command(TEST, &[("FIRST", &first.to_string()), ("RUST_BACKTRACE", "0")]).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            println!("{}; ended {ended}", printed.lines().find(|line| line.starts_with("of ")).unwrap());
            break;
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = errors.lines().rev().take(12).collect();
        let last = printed.lines().rfind(|line| line.starts_with("case ")).unwrap();
        let case: usize = last.split([' ', ':']).nth(1).unwrap().parse().unwrap();
        let by_redb = errors.iter().any(|line| line.contains("panic in a destructor during cleanup"));
        assert!(by_redb && check_of(case) == Check::Never, "{}: {last}\n{errors:#?}", output.status);
        (first, ended) = (case + 1, ended + 1);
    }
    assert!(ended <= 1 + cases() / 1_000, "{ended}");
}

/// The records and vectors in the file each have a checksum; the pages have theirs, which only a check on opening reads. Here
/// bytes of values are changed behind redb's back by someone who mends the pages' checksums: through redb itself.
#[tokio::test]
async fn values_that_were_changed_are_told() {
    use redb::{Database, TableDefinition};
    const TABLES: [&str; 2] = ["records", "vectors"];
    let folder = folder();
    let path = folder.path().join("memory.redb");
    let whole = whole().await;
    std::fs::write(&path, &whole.database).unwrap();
    let mut dice = Dice::new(23);
    for round in 0..30 {
        std::fs::write(&path, &whole.database).unwrap();
        let name = TABLES[round % 2];
        let definition: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(name);
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let changed = {
            use redb::ReadableTable;
            let mut table = transaction.open_table(definition).unwrap();
            let rows: Vec<(Vec<u8>, Vec<u8>)> = table
                .iter()
                .unwrap()
                .map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).unwrap())
                .filter(|(_, value)| !value.is_empty())
                .collect();
            let (key, mut value) = rows[dice.roll(rows.len())].clone();
            match dice.roll(3) {
                0 => value.truncate(dice.roll(value.len())),
                1 => value = rows.iter().find(|(other, _)| *other != key).unwrap().1.clone(),
                _ => {
                    let place = dice.roll(value.len() * 8);
                    value[place / 8] ^= 1 << (place % 8);
                }
            }
            table.insert(&key[..], &value[..]).unwrap();
            key
        };
        transaction.commit().unwrap();
        drop(database);
        let store = match RedbStore::open(&path).await {
            Ok(store) => store,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                continue; // The vector space, or no index and so all was read.
            }
        };
        let mut told = 0;
        for (key, expected) in &whole.records {
            match store.get_one(key.clone()).await {
                Ok(found) => assert_eq!(found.as_ref(), Some(expected)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    assert!(error.to_string().contains(&format!("{key:?}")), "{error} names no {key:?}");
                    told += 1;
                }
            }
        }
        assert_eq!(told, 1, "{name}: {changed:02x?}");
        // One bad record does not keep others from being written, also together with it.
        let key = store_key(&changed);
        let replace = whole.records[&key].record.clone();
        let (replace, new) = (Batch::new().put(replace), Batch::new().put(samples::watermark(900, 1)));
        let (replaced, put) = tokio::join!(store.commit(&replace), store.commit(&new));
        put.unwrap();
        assert!(replaced.is_ok() == (name == "vectors"), "{key:?}: {replaced:?}");
        store.commit(&Batch::new().put(samples::watermark(901, 1))).await.unwrap();
        let found = store.get_one(samples::watermark(901, 1).key()).await.unwrap();
        assert_eq!(found.unwrap().record, samples::watermark(901, 1));
        store.close().await.unwrap();
    }
}
