use memory_core::testkit::samples::{self, logged, logged_with, noted_with, vector};
use memory_core::{Batch, InMemoryStore, MemoryStore, NoteFilter, Scope, Step};
use redb::Durability;

use super::*;
use crate::file::{File, Options};
use crate::index_file;
use crate::tables::LAYOUT;

fn open(path: &Path) -> File {
    File::open(path.into(), &LAYOUT, Options { cache_bytes: 256 << 20, check: false }).unwrap()
}

fn tables(file: &File) -> Moment {
    Moment::of(file).unwrap()
}

/// Puts records as versions from this one on; the file has their vectors before the index has them.
fn put(file: &File, searching: &Searching, first: u64, records: &[Record]) {
    file.write(Durability::Immediate, |transaction| {
        let mut vectors = transaction.open_table(VECTORS).map_err(|error| file.error(error))?;
        for record in records {
            let searched = record.searchable().unwrap();
            put_vector(&mut vectors, &record.key(), searched.vector).map_err(|error| file.error(error))?;
        }
        Ok(())
    })
    .unwrap();
    let changes =
        (first..).zip(records).map(|(version, record)| Change::Put(Version(version), entry(record).map(Box::new)));
    searching.advance(changes, tables(file));
}

/// Writes the index as a store does.
fn save(file: &File, searching: &Searching) {
    let bytes = searching.to_bytes();
    let token = file.write(Durability::Immediate, |transaction| index_file::announce(file, transaction)).unwrap();
    index_file::write(file.path(), token, &bytes).unwrap();
}

fn records(numbers: std::ops::Range<u32>, dimensions: u32) -> Vec<Record> {
    const WORDS: [&str; 6] = ["login", "test", "deploy", "query", "report", "token"];
    let one = |n: u32| {
        let pick = |shift: u32| WORDS[(n.wrapping_mul(2_654_435_761) >> shift) as usize % WORDS.len()];
        let seed = n.wrapping_mul(2_246_822_519);
        let component = |d: u32| {
            f32::from(u8::try_from((seed ^ d.wrapping_mul(3_266_489_917)).rotate_left(d % 32) % 251).unwrap()) - 125.0
        };
        let vector = vector(&(0..dimensions).map(component).collect::<Vec<_>>());
        if n % 5 == 4 {
            return noted_with(samples::note(n, &format!("{} {} {n}", pick(3), pick(9))), vector);
        }
        let mut episode = samples::episode(n, &format!("{} {} {} {n}", pick(3), pick(7), pick(11)));
        episode.steps = vec![Step::new(pick(13)).input(pick(15)).ok(format!("{} {}", pick(17), n % 1_000))];
        if n % 5 == 3 { logged(episode) } else { logged_with(episode, vector) }
    };
    numbers.map(one).collect()
}

fn searches(dimensions: u32) -> Vec<Search> {
    let query =
        vector(&(0..dimensions).map(|d| f32::from(u8::try_from(d * 7 % 251).unwrap()) - 100.0).collect::<Vec<_>>());
    let search = || Search::new(Scope::default()).text("login token report").vector(Some(query.clone()));
    vec![
        search().trace(true),
        search().k(100).for_notes(NoteFilter::default()),
        Search::new(Scope::default()).vector(Some(query.clone())).k(20),
        search().k(3).exact(),
    ]
}

#[tokio::test]
async fn it_finds_what_the_store_in_memory_finds_before_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let file = open(&path);
    let searching = Searching::new(Arc::clone(file.path()), HybridIndex::new(), tables(&file));
    let all = [records(0..400, 24), records(350..500, 24)].concat();
    let in_memory = InMemoryStore::new();
    let batch = all.iter().cloned().fold(Batch::new().put(Record::Space(samples::space(24))), Batch::put);
    in_memory.commit(&batch).await.unwrap();
    // The vector space is the first change there.
    put(&file, &searching, 2, &all[..300]);
    save(&file, &searching);
    put(&file, &searching, 302, &all[300..]);
    let mut expected = Vec::new();
    for search in searches(24) {
        expected.push(in_memory.search(&search).await.unwrap());
        assert!(expected.last().unwrap().len() >= 3);
        assert_eq!(searching.search(&search).unwrap(), expected[expected.len() - 1]);
    }
    drop(searching);
    file.close().unwrap();
    let file = open(&path);
    let index = index_file::read(&file).unwrap().unwrap();
    assert_eq!(index.version(), Version(301));
    let searching = Searching::new(Arc::clone(file.path()), index, tables(&file));
    put(&file, &searching, 302, &all[300..]);
    for (search, expected) in searches(24).iter().zip(expected) {
        assert_eq!(searching.search(search).unwrap(), expected);
    }
    assert_eq!((searching.version(), searching.stats().documents), (Version(551), 500));
}

#[test]
fn a_damaged_or_missing_vector_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = open(&folder.path().join("file"));
    let searching = Searching::new(Arc::clone(file.path()), HybridIndex::new(), tables(&file));
    let records = records(0..50, 24);
    put(&file, &searching, 1, &records);
    for damage in [&[1, 2, 3][..], b"nothing but text", &[]] {
        file.write(Durability::None, |transaction| {
            let mut vectors = transaction.open_table(VECTORS).unwrap();
            match damage {
                [] => remove_vector(&mut vectors, &records[0].key()).unwrap(),
                _ => drop(vectors.insert(&*key_bytes(&records[0].key()), damage).unwrap()),
            }
            Ok(())
        })
        .unwrap();
        // The moment of the index is the one before.
        assert!(searching.search(&searches(24)[2]).is_ok());
        searching.advance([], tables(&file));
        let error = searching.search(&searches(24)[2]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("Episode(EpisodeId(00000000-"), "{error}");
        put(&file, &searching, 100, &records[..1]);
        assert!(searching.search(&searches(24)[2]).is_ok());
    }
}

#[test]
fn a_snapshot_is_taken_only_by_the_state_that_it_belongs_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let snapshot = folder.path().join("file.index");
    let file = open(&path);
    assert!(index_file::read(&file).unwrap().is_none(), "there is none");
    let searching = Searching::new(Arc::clone(file.path()), HybridIndex::new(), tables(&file));
    put(&file, &searching, 1, &records(0..20, 8));
    save(&file, &searching);
    let first = std::fs::read(&snapshot).unwrap();
    let taken = |bytes: &[u8]| {
        std::fs::write(&snapshot, bytes).unwrap();
        let taken = index_file::read(&file).unwrap().is_some();
        assert_eq!(snapshot.exists(), taken, "what is refused is taken away");
        taken
    };
    assert!(taken(&first));
    for damaged in [&first[..10], &first[..40], b"knowhow index 2\n and what that holds", &[]] {
        assert!(!taken(damaged));
    }
    for place in 0..first.len() {
        let mut flipped = first.clone();
        flipped[place] ^= 1 << (place % 8);
        // The stamp is not of the index.
        assert_eq!(taken(&flipped), (32..64).contains(&place), "flipped at {place}");
    }
    // The next is announced and never written; the one after that is.
    file.write(Durability::Immediate, |transaction| index_file::announce(&file, transaction)).unwrap();
    assert!(taken(&first));
    save(&file, &searching);
    let last = std::fs::read(&snapshot).unwrap();
    assert!(taken(&last));
    assert!(!taken(&first), "an old one that came back");
    let other = open(&folder.path().join("other"));
    save(&other, &Searching::new(Arc::clone(other.path()), HybridIndex::new(), tables(&other)));
    assert!(!taken(&std::fs::read(folder.path().join("other.index")).unwrap()), "that of another database");
}

#[test]
fn a_database_is_known_as_it_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let file = open(&path);
    index_file::stamp(&path);
    assert!(!index_file::is_as_it_was_closed(&path), "there is no snapshot to stamp");
    save(&file, &Searching::new(Arc::clone(file.path()), HybridIndex::new(), tables(&file)));
    assert!(!index_file::is_as_it_was_closed(&path));
    file.close().unwrap();
    index_file::stamp(&path);
    assert!(index_file::is_as_it_was_closed(&path));
    let file = open(&path);
    assert!(index_file::read(&file).unwrap().is_some());
    put(&file, &Searching::new(Arc::clone(file.path()), HybridIndex::new(), tables(&file)), 1, &records(0..2, 8));
    drop(file);
    assert!(!index_file::is_as_it_was_closed(&path), "it was opened");
    index_file::stamp(&path);
    std::fs::write(&path, std::fs::read(&path).unwrap()).unwrap();
    assert!(!index_file::is_as_it_was_closed(&path), "it was written");
}
