//! What is recalled follows from what is there, not from how it came there.

use std::sync::Arc;

use memory_core::testkit::samples;
use memory_core::{
    Batch, Embedder as _, Episode, HashEmbedder, InMemoryStore, Intent, Key, LoggedEpisode, Memory, NewNote, Note,
    Place, Profile, RecalledNotes, Recollection, Record, Role, Scope, Source, StoredNote, Task, Telling, Trust,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::over;

const WORDS: [&str; 8] = ["fix", "login", "test", "report", "deploy", "query", "Ada", "unexpected"];

/// Random notes of one scope: with and without places, some of them untrusted, some told at the same moment.
fn notes(scope: Scope, count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Note>> {
    let words = vec(select(&WORDS[..]), 1..5);
    let place = proptest::option::of((select(vec!["chat", "log"]), 0..9_u32));
    let note = (words, place, 0..4_i64, 0..5_u8, any::<bool>());
    let note = note.prop_map(move |(words, place, second, salience, asks)| {
        let text = format!("{}{}", words.join(" "), if asks { "?" } else { "" });
        let new = NewNote::new(text).salience(f64::from(salience) / 4.0).source(Source::trusted(words[0]));
        let telling = Telling::new(new, samples::time(second));
        let trust = if salience == 4 { Trust::Untrusted } else { Trust::Trusted };
        match place {
            Some((thread, position)) => Note::at(scope.clone(), trust, Place::new(thread, position), telling),
            None => Note::new(scope.clone(), trust, telling),
        }
    });
    vec(note, count).prop_map(|mut notes| {
        // The last of each identity would win, whatever the order.
        notes.sort_by_key(|note| note.id);
        notes.dedup_by_key(|note| note.id);
        notes
    })
}

/// Random episodes and notes of the default scope.
fn known() -> impl Strategy<Value = (Vec<Episode>, Vec<Note>)> {
    (samples::episodes(Scope::default(), 0..25), notes(Scope::default(), 0..25))
}

async fn records(episodes: Vec<Episode>, notes: Vec<Note>) -> Vec<Record> {
    let embedder = HashEmbedder::new();
    let vector = async |text: &str| embedder.embed(Role::Document, &[text]).await.unwrap().pop();
    let mut records = Vec::new();
    for episode in episodes {
        let vector = vector(&episode.task.text).await;
        records.push(Record::Episode(LoggedEpisode { episode: Arc::new(episode), vector }));
    }
    for note in notes {
        let vector = vector(&note.text).await;
        records.push(Record::Note(StoredNote { note: Arc::new(note), vector }));
    }
    records
}

async fn put(memory: &Memory, records: &[Record]) {
    for some in records.chunks(200) {
        let batch = some.iter().cloned().fold(Batch::new(), Batch::put);
        memory.store().commit(&batch).await.unwrap();
    }
}

async fn delete(memory: &Memory, keys: &[Key]) {
    for some in keys.chunks(200) {
        let batch = some.iter().cloned().fold(Batch::new(), Batch::delete);
        memory.store().commit(&batch).await.unwrap();
    }
}

/// What is recalled for several tasks, with several profiles.
async fn all(memory: &Memory) -> Vec<(Recollection, RecalledNotes)> {
    memory.project().await.unwrap();
    let mut found = Vec::new();
    for text in ["fix the login test", "unexpected query of Ada", "Did Ada deploy the report?", "line 12: unexpected"] {
        for profile in [Profile::of(Intent::of(text)), Profile::default().with_threshold(0.0).with_diversity(0.4)] {
            for (k, task) in [(3, Task::new(text)), (100, Task::new(text).tag("auth").environment("lock", "fix"))] {
                let notes = memory.recall_notes_with(text, k, &profile).await.unwrap();
                found.push((memory.recall_with(&task, k, &profile).await.unwrap(), notes));
            }
        }
    }
    found
}

fn paused(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_in_which_it_came_does_not_matter(((episodes, notes), places) in known().prop_flat_map(|known| {
        let places: Vec<usize> = (0..known.0.len() + known.1.len()).collect();
        (Just(known), Just(places).prop_shuffle())
    })) {
        paused(async {
            let records = records(episodes, notes).await;
            let (one, other) = (over(InMemoryStore::new()).await, over(InMemoryStore::new()).await);
            put(&one, &records).await;
            for some in places.chunks(3) {
                put(&other, &some.iter().map(|place| records[*place].clone()).collect::<Vec<_>>()).await;
            }
            prop_assert_eq!(all(&one).await, all(&other).await);
            Ok(())
        })?;
    }
}

/// Episodes and notes that are like those of [`known`], and none of them: 330 of each, so many that the index makes room
/// when they go.
async fn others() -> Vec<Record> {
    let text = |n: u32| format!("{} {} number{n}", WORDS[n as usize % 8], WORDS[n as usize / 8 % 8]);
    let episodes = (0..330).map(|n| samples::episode(n, &text(n))).collect();
    let note = |n: u32| {
        let telling = Telling::new(NewNote::new(text(n)), samples::time(i64::from(n % 4)));
        match n % 3 {
            // Right after the turns that stay.
            0 => Note::at(Scope::default(), Trust::Trusted, Place::new("chat", 9 + n), telling),
            _ => Note::new(Scope::default(), Trust::Trusted, telling),
        }
    };
    records(episodes, (0..330).map(note).collect()).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_deleted_leaves_no_trace((episodes, notes) in known(), cut in 0..=25_usize) {
        paused(async {
            let (records, others) = (records(episodes, notes).await, others().await);
            let (one, other) = (over(InMemoryStore::new()).await, over(InMemoryStore::new()).await);
            put(&one, &records).await;
            let (first, second) = records.split_at(cut.min(records.len()));
            put(&other, first).await;
            put(&other, &others).await;
            put(&other, second).await;
            if !records.is_empty() {
                let counts = |found: Vec<(Recollection, RecalledNotes)>| -> usize {
                    found.iter().map(|(found, notes)| found.episodes.len() + notes.notes.len()).sum()
                };
                prop_assert!(counts(all(&other).await) > counts(all(&one).await), "they would be found");
            }
            delete(&other, &others.iter().map(Record::key).collect::<Vec<_>>()).await;
            // The projection learned from them, too, and they went without its knowing.
            other.rebuild().await.unwrap();
            prop_assert_eq!(all(&other).await, all(&one).await);
            Ok(())
        })?;
    }
}
