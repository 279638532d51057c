//! What readers of a store see while others write: always one committed state as a whole.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use memory_core::testkit::samples;
use memory_core::{Batch, Hit, InMemoryStore, Key, MemoryStore, Record, Scope, Search, Stored, Version};

const WRITERS: u32 = 4;
const READERS: u32 = 2;
/// Pairs of episodes that each writer makes.
const PAIRS: u32 = 150;

/// What happens to a pair after it was put.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Stays,
    IsReplaced,
    IsDeleted,
}

/// Two episodes that share a word which no other has; they are always written in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    writer: u32,
    number: u32,
}

impl Pair {
    fn fate(self) -> Fate {
        [Fate::Stays, Fate::IsReplaced, Fate::IsDeleted][self.number as usize % 3]
    }

    fn word(self) -> String {
        let letters = |number: u32| -> String {
            number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
        };
        format!("q{}z{}z", letters(self.writer), letters(self.number))
    }

    fn keys(self) -> [Key; 2] {
        let first = 2 * (self.writer * PAIRS + self.number) + 1;
        [first, first + 1].map(|n| Key::Episode(samples::episode_id(n)))
    }

    /// Every telling of a pair has the same number in both texts.
    fn batch(self, telling: u32) -> Batch {
        let first = 2 * (self.writer * PAIRS + self.number) + 1;
        [first, first + 1].into_iter().fold(Batch::new(), |batch, n| {
            let episode = samples::episode(n, &format!("common {} telling {telling}", self.word()));
            batch.put(samples::logged_with(episode, samples::vector(&[n as f32, 1.0])))
        })
    }
}

/// The version of a commit, and which telling it put; `None` is a deletion.
type Committed = (Version, Option<u32>);

/// What the writers were told, for the readers to compare with.
#[derive(Debug, Default)]
struct Told {
    /// The acknowledged commits of each pair.
    commits: Mutex<BTreeMap<Pair, Vec<Committed>>>,
    /// Writers that are at work.
    working: AtomicUsize,
}

/// What a reader saw of a pair: the versions of both hits.
type Seen = BTreeSet<(Pair, Version, Version)>;

async fn write(store: Arc<dyn MemoryStore>, told: Arc<Told>, writer: u32) {
    for number in 0..PAIRS {
        let pair = Pair { writer, number };
        let tell = |version, telling| told.commits.lock().unwrap().entry(pair).or_default().push((version, telling));
        tell(store.commit(&pair.batch(0)).await.unwrap().version, Some(0));
        tokio::task::yield_now().await;
        // The fate of an earlier pair, so that a reader has time to meet both states.
        let earlier = Pair { writer, number: number.saturating_sub(5) };
        let tell = |version, telling| told.commits.lock().unwrap().entry(earlier).or_default().push((version, telling));
        match earlier.fate() {
            Fate::Stays => {}
            Fate::IsReplaced => tell(store.commit(&earlier.batch(1)).await.unwrap().version, Some(1)),
            Fate::IsDeleted => {
                let [a, b] = earlier.keys();
                tell(store.commit(&Batch::new().delete(a).delete(b)).await.unwrap().version, None);
            }
        }
        tokio::task::yield_now().await;
    }
    told.working.fetch_sub(1, Ordering::SeqCst);
}

/// Looks for the pairs that the writers have told of, the latest ones more than others, until all is written.
async fn read(store: Arc<dyn MemoryStore>, told: Arc<Told>, reader: u32) -> Seen {
    let mut seen = Seen::new();
    let mut turn = reader;
    while told.working.load(Ordering::SeqCst) > 0 {
        turn += 1;
        let known: Vec<(Pair, Version)> = {
            let commits = told.commits.lock().unwrap();
            let writer = turn % WRITERS;
            let own = commits.range(Pair { writer, number: 0 }..=Pair { writer, number: PAIRS });
            own.rev().take(8).filter_map(|(pair, commits)| Some((*pair, commits.last()?.0))).collect()
        };
        for (pair, acknowledged) in known {
            if let Some((first, second)) =
                look(store.as_ref(), pair, acknowledged, (turn / WRITERS).is_multiple_of(2)).await
            {
                seen.insert((pair, first, second));
            }
        }
        tokio::task::yield_now().await;
    }
    seen
}

/// Searches for a pair, whose last change that is known here was at `acknowledged`: the versions of both hits.
async fn look(
    store: &dyn MemoryStore,
    pair: Pair,
    acknowledged: Version,
    by_vector_too: bool,
) -> Option<(Version, Version)> {
    let vector = by_vector_too.then(|| samples::vector(&[1.0, pair.number as f32]));
    let search = Search::new(Scope::default()).text(pair.word()).vector(vector);
    let hits: Vec<Hit> = store.search(&search).await.unwrap().into_iter().filter(|hit| hit.words > 0.0).collect();
    let there = store.get(&pair.keys()).await.unwrap();
    assert_eq!(there[0].is_some(), there[1].is_some(), "{pair:?}: one of both is there");
    let telling = |stored: &Option<Stored>| stored.as_ref().map(|stored| text(stored).to_owned());
    assert_eq!(telling(&there[0]), telling(&there[1]), "{pair:?}: two tellings are mixed");
    let mut found: Vec<&Key> = hits.iter().map(|hit| &hit.key).collect();
    found.sort_unstable();
    if found.is_empty() {
        assert_eq!(pair.fate(), Fate::IsDeleted, "{pair:?} was acknowledged and is not found");
        assert!(there[0].is_none(), "{pair:?} comes back after it was deleted");
        return None;
    }
    assert_eq!(found, pair.keys().iter().collect::<Vec<_>>(), "{pair:?}: not both");
    for hit in &hits {
        let stored = there.iter().flatten().find(|stored| stored.record.key() == hit.key);
        match stored {
            Some(stored) => assert!(hit.version <= stored.version, "{pair:?}: found before it was committed"),
            None => assert_eq!(pair.fate(), Fate::IsDeleted, "{pair:?} is found and not there"),
        }
    }
    let [first, second] = pair.keys().map(|key| hits.iter().find(|hit| hit.key == key).unwrap().version);
    assert!(first < second, "{pair:?}: changes of a batch have their versions in order");
    assert!(second >= acknowledged, "{pair:?}: an acknowledged change is not seen");
    Some((first, second))
}

fn text(stored: &Stored) -> &str {
    match &stored.record {
        Record::Episode(logged) => &logged.episode.task.text,
        other => panic!("{:?} is no episode", other.key()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_search_sees_batches_as_a_whole_while_others_write() {
    let store: Arc<dyn MemoryStore> = Arc::new(InMemoryStore::new());
    store.commit(&Batch::new().put(Record::Space(samples::space(2)))).await.unwrap();
    let told = Arc::new(Told { working: AtomicUsize::new(WRITERS as usize), ..Told::default() });
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&store), Arc::clone(&told), writer))).collect();
    let readers: Vec<_> =
        (0..READERS).map(|reader| tokio::spawn(read(Arc::clone(&store), Arc::clone(&told), reader))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut seen = Seen::new();
    for reader in readers {
        seen.extend(reader.await.unwrap());
    }
    let commits = told.commits.lock().unwrap().clone();
    for (pair, first, second) in &seen {
        // A commit tells the version of its last change, which is the second of a pair.
        let put = commits[pair].iter().any(|(version, telling)| version == second && telling.is_some());
        assert!(put, "{pair:?} was seen at {first:?} and {second:?}, where no batch put it: {:?}", commits[pair]);
    }
    let met = |fate| seen.iter().filter(|(pair, ..)| pair.fate() == fate).count();
    assert!(met(Fate::Stays) > 0 && met(Fate::IsReplaced) > 0, "the readers were at work: {}", seen.len());
    // When all is done, the search finds exactly what is there.
    for (pair, commits) in &commits {
        let (last, telling) = commits[commits.len() - 1];
        let found = look(store.as_ref(), *pair, last, true).await;
        assert_eq!(found.map(|(_, second)| second), telling.map(|_| last), "{pair:?}");
    }
}
