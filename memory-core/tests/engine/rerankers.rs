//! A second opinion on what was found.

use std::fmt;
use std::sync::{Arc, Mutex};

use memory_core::text::mark_recalled;
use memory_core::{
    InMemoryStore, Memory, NewNote, Outcome, Profile, RecalledNotes, Recollection, Recording, Reranker, Result, Task,
};

use crate::{clock, lost};

type Answer = fn(&[&str]) -> Result<Vec<f64>>;

/// A query and the texts to be scored.
type Question = (String, Vec<String>);

/// A reranker that answers as it was told, and keeps what it was asked.
#[derive(Clone, Debug)]
struct Scripted {
    answer: Answer,
    asked: Arc<Mutex<Vec<Question>>>,
}

impl Scripted {
    fn new(answer: Answer) -> Self {
        Self { answer, asked: Arc::default() }
    }

    fn asked(&self) -> Vec<Question> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl fmt::Display for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait::async_trait]
impl Reranker for Scripted {
    async fn rerank(&self, query: &str, texts: &[&str]) -> Result<Vec<f64>> {
        let texts_asked = texts.iter().map(|text| (*text).to_owned()).collect();
        self.asked.lock().unwrap().push((query.to_owned(), texts_asked));
        (self.answer)(texts)
    }
}

/// The shorter, the better.
fn shortest(texts: &[&str]) -> Result<Vec<f64>> {
    Ok(texts.iter().map(|text| 1.0 / text.len() as f64).collect())
}

async fn over(store: &InMemoryStore, reranker: &Scripted) -> Memory {
    let builder = Memory::builder().store(store.clone()).clock(clock()).reranker(reranker.clone());
    builder.build().await.unwrap()
}

const TEXTS: [&str; 3] = ["fix the login page of the shop", "fix the login page", "login"];

/// Episodes and notes about the login.
async fn told() -> InMemoryStore {
    let store = InMemoryStore::new();
    let memory = crate::over(store.clone()).await;
    for text in TEXTS {
        memory.record(Recording::new(Task::new(text), Outcome::success(format!("{text}, done")))).await.unwrap();
        memory.remember(NewNote::new(text)).await.unwrap();
    }
    store
}

fn episodes(found: &Recollection) -> Vec<&str> {
    found.episodes.iter().map(|one| &one.episode.task.text[..]).collect()
}

fn notes(found: &RecalledNotes) -> Vec<&str> {
    found.notes.iter().map(|one| &one.note.text[..]).collect()
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts
}

#[tokio::test(start_paused = true)]
async fn its_order_wins() {
    let store = told().await;
    let reranker = Scripted::new(shortest);
    let memory = over(&store, &reranker).await;
    let profile = Profile::default().with_threshold(0.0);
    let task = Task::new("fix the login page of the shop");
    let plain = crate::over(store).await.recall_with(&task, 5, &profile).await.unwrap();
    assert_eq!(episodes(&plain), TEXTS);
    assert!(plain.episodes.iter().all(|one| one.parts.reranked.is_none()));

    let found = memory.recall_with(&task, 5, &profile).await.unwrap();
    let turned: Vec<&str> = TEXTS.into_iter().rev().collect();
    assert_eq!((episodes(&found), found.degraded.as_deref()), (turned.clone(), None));
    for (before, now) in plain.episodes.iter().rev().zip(&found.episodes) {
        let said = 1.0 / (2.0 * now.episode.task.text.len() as f64 + ", done\n".len() as f64);
        assert!((now.parts.relevance - said).abs() < 1e-12, "{now:?}");
        assert_eq!(now.parts.reranked, Some(now.parts.relevance));
        assert_eq!((now.parts.words, now.parts.vector), (before.parts.words, before.parts.vector), "the rest stays");
        crate::profiles::check(now, &profile);
    }
    let found = memory.recall_notes_with(&task.text, 5, &profile).await.unwrap();
    assert_eq!(notes(&found), turned);
    assert!(found.notes.iter().all(|one| one.parts.reranked == Some(1.0 / one.note.text.len() as f64)));

    // What it finds irrelevant is not told.
    let found = memory.recall_with(&task, 5, &profile.with_threshold(0.1)).await.unwrap();
    assert_eq!((episodes(&found), found.notes.len(), found.abstained), (vec![], 1, None));
    let found = memory.recall_with(&task, 5, &profile.with_threshold(0.9)).await.unwrap();
    assert_eq!(found.abstained, Some(0.2), "by its opinion");
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_once_with_the_query_and_the_texts() {
    let store = told().await;
    let reranker = Scripted::new(shortest);
    let memory = over(&store, &reranker).await;
    let told: Vec<String> = TEXTS.iter().map(|text| (*text).to_owned()).collect();
    let described = sorted(TEXTS.iter().map(|text| format!("{text}\n{text}, done")).collect());

    memory.recall_notes("login", 1).await.unwrap();
    let [(query, texts)] = &reranker.asked()[..] else { panic!("asked once") };
    assert_eq!((&query[..], sorted(texts.clone())), ("login", sorted(told.clone())), "all that was found");
    memory.recall(&Task::new("login"), 1).await.unwrap();
    let mut asked = reranker.asked();
    asked.iter_mut().for_each(|(_, texts)| texts.sort_unstable());
    asked.sort_unstable();
    assert_eq!(asked, [("login".to_owned(), sorted(told)), ("login".to_owned(), described)], "of both kinds once");

    // What the memory supplied asks for nothing.
    memory.recall_notes(&format!("{}login", mark_recalled("walrus")), 1).await.unwrap();
    assert_eq!(reranker.asked()[0].0, "login");

    // It is asked of as many as are looked at closely, or are wanted, and nothing else comes.
    let task = Task::new("fix the login page");
    for (k, depth, expected) in [(1, 1, 1), (1, 2, 2), (3, 1, 3)] {
        let profile = Profile::default().with_depth(depth).with_threshold(0.0);
        let found = memory.recall_with(&task, k, &profile).await.unwrap();
        let asked = reranker.asked();
        assert!(asked.iter().all(|(_, texts)| texts.len() == expected), "{asked:?}");
        assert_eq!((found.episodes.len(), found.notes.len()), (k, k));
        assert!(found.episodes.iter().all(|one| one.parts.reranked.is_some()));
        assert!(found.notes.iter().all(|one| one.parts.reranked.is_some()));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_found_is_not_reranked() {
    let reranker = Scripted::new(shortest);
    let memory = over(&told().await, &reranker).await;
    for query in ["", "the of"] {
        memory.recall(&Task::new(query), 5).await.unwrap();
        memory.recall_notes(query, 5).await.unwrap();
    }
    let empty = over(&InMemoryStore::new(), &reranker).await;
    empty.recall(&Task::new("login"), 5).await.unwrap();
    empty.recall_notes("login", 5).await.unwrap();
    assert_eq!(reranker.asked(), []);
}

#[tokio::test(start_paused = true)]
async fn recall_goes_on_without_one_that_fails_and_says_so() {
    let store = told().await;
    let without = crate::over(store.clone()).await;
    let task = Task::new("fix the login page");
    let answers: [(Answer, &str); 6] = [
        (|_| Err(lost()), "unavailable: scripted"),
        (|texts| Ok(vec![0.5; texts.len() - 1]), "reranker's answer is 2 scores; allowed: 3, as many as texts"),
        (|texts| Ok(vec![0.5; texts.len() + 1]), "reranker's answer is 4 scores; allowed: 3, as many as texts"),
        (|texts| Ok(vec![f64::NAN; texts.len()]), "reranker's score is NaN; allowed: 0..=1"),
        (|_| Ok(vec![0.1, 0.2, 1.5]), "reranker's score is 1.5; allowed: 0..=1"),
        (|_| Ok(vec![0.1, -0.5, 1.0]), "reranker's score is -0.5; allowed: 0..=1"),
    ];
    for (answer, why) in answers {
        let memory = over(&store, &Scripted::new(answer)).await;
        let (found, plain) = (memory.recall(&task, 5).await.unwrap(), without.recall(&task, 5).await.unwrap());
        assert_eq!((&found.episodes, &found.notes), (&plain.episodes, &plain.notes), "{why}");
        assert_eq!((found.episodes.len(), found.notes.len()), (3, 3));
        let degraded = found.degraded.unwrap();
        assert!(degraded.contains(why), "{degraded}, not {why}");
        let (found, plain) =
            (memory.recall_notes("login", 5).await.unwrap(), without.recall_notes("login", 5).await.unwrap());
        assert_eq!(found.notes, plain.notes, "{why}");
        assert!(found.degraded.unwrap().contains(why));
    }
}
