//! Turns of a thread: found by what stands beside them.

use std::sync::Arc;

use chrono::{DateTime, TimeZone as _, Utc};
use memory_core::testkit::{EmbedderFault, FaultyEmbedder, samples};
use memory_core::{
    HashEmbedder, InMemoryStore, Memory, NewNote, Note, NoteId, Place, Profile, RecalledNote, RecalledNotes, Source,
    Task, Trust, Weights,
};

use crate::lost;
use crate::notes::{at, session, soon, tell};

const QUERY: &str = "Where does Ada keep her bicycle?";
const QUESTION: &str = "Where do you keep the bicycle, Ada?";
const ANSWER: &str = "In the cellar beside the old washing machine.";

/// A turn of the conversation `chat`.
fn turn(position: u32, text: &str) -> NewNote {
    NewNote::new(text).place(Place::new("chat", position))
}

/// A conversation in which a question is answered without any of its words.
fn chat() -> [NewNote; 4] {
    [
        turn(10, "It rains here today again, so we stay in."),
        turn(11, QUESTION),
        turn(12, ANSWER),
        turn(13, "The weather is better over there, they say."),
    ]
}

/// What is found by words alone: nothing comes by chance.
async fn by_words(memory: &Memory, query: &str) -> RecalledNotes {
    let profile = Profile::default().with_notes(Weights::new(1.0, 0.0, 0.0)).with_threshold(0.0);
    memory.recall_notes_with(query, 100, &profile).await.unwrap()
}

fn texts(notes: &[RecalledNote]) -> Vec<&str> {
    notes.iter().map(|one| &one.note.text[..]).collect()
}

fn around(one: &RecalledNote) -> Vec<&str> {
    one.around.iter().map(|note: &Arc<Note>| &note.text[..]).collect()
}

async fn answered(memory: &Memory) -> bool {
    texts(&by_words(memory, QUERY).await.notes).contains(&ANSWER)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_found_by_the_words_of_its_question() {
    let (_, memory) = session().await;
    let memory = at(&memory, "acme");
    memory.remember_all(chat()).await.unwrap();
    for n in 0..20 {
        tell(&memory, &format!("a fact about something else, number {n}")).await;
    }
    let found = memory.recall_notes(QUERY, 5).await.unwrap();
    assert_eq!(texts(&found.notes)[0], ANSWER);
    let [answer, question] = &found.notes[..2] else { panic!("{found:?}") };
    assert_eq!(around(answer), [QUESTION, "The weather is better over there, they say."]);
    assert_eq!(around(question), ["It rains here today again, so we stay in.", ANSWER]);
    assert!(answer.parts.words > 0.0 && answer.parts.relevance > question.parts.relevance);
    let recalled = memory.recall(&Task::new(QUERY), 5).await.unwrap();
    assert_eq!(recalled.notes, found.notes, "a recollection has them, too");
    assert!(found.notes.iter().all(|one| (0.0..=1.0).contains(&one.score)));
}

#[tokio::test(start_paused = true)]
async fn the_first_and_the_last_place_have_neighbours_on_one_side() {
    let (_, memory) = session().await;
    let memory = at(&memory, "acme");
    memory.remember_all([turn(0, "The bicycle is red."), turn(1, "And rather old, too.")]).await.unwrap();
    let end = u32::MAX;
    memory.remember_all([turn(end - 1, "Nothing else to say here."), turn(end, "Sell the bicycle.")]).await.unwrap();
    let found = by_words(&memory, "bicycle").await.notes;
    let of = |text: &str| around(found.iter().find(|one| one.note.text == text).unwrap());
    assert_eq!(of("The bicycle is red."), ["And rather old, too."]);
    assert_eq!(of("And rather old, too."), ["The bicycle is red."]);
    assert_eq!(of("Sell the bicycle."), ["Nothing else to say here."]);
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_is_gone_does_not_count() {
    let (clock, memory) = session().await;
    let memory = at(&memory, "acme");
    memory.remember_all(chat()).await.unwrap();
    assert!(answered(&memory).await);
    memory.forget(NoteId::at(memory.scope(), Trust::Trusted, &Place::new("chat", 11))).await.unwrap();
    assert!(!answered(&memory).await, "its question was deleted");

    let mut told = chat();
    told[1] = turn(11, QUESTION).expires_at(soon(10));
    let memory = at(&memory, "other");
    memory.remember_all(told).await.unwrap();
    assert!(answered(&memory).await);
    tell(&memory, "the bicycle is red").await;
    clock.set(soon(10));
    assert!(!answered(&memory).await, "its question expired");

    // Nor does one that expired show beside what is found.
    let memory = at(&memory, "third");
    let told = [turn(1, "Soon over.").expires_at(soon(20)), turn(2, "The bicycle is red."), turn(3, "I see.")];
    memory.remember_all(told).await.unwrap();
    clock.set(soon(20));
    let found = by_words(&memory, "red bicycle").await.notes;
    assert_eq!((&found[0].note.text[..], around(&found[0])), ("The bicycle is red.", vec!["I see."]));
}

#[tokio::test(start_paused = true)]
async fn turns_of_another_thread_or_scope_are_no_neighbours() {
    let (_, memory) = session().await;
    let agent = at(&memory, "acme/coder");
    let asked = |thread: &str, position| NewNote::new(QUESTION).place(Place::new(thread, position));
    agent.remember(turn(12, ANSWER)).await.unwrap();
    agent.remember(asked("log", 11)).await.unwrap();
    assert_eq!(texts(&by_words(&agent, QUERY).await.notes), [QUESTION], "of another thread");
    agent.remember(asked("chat", 9)).await.unwrap();
    assert!(!answered(&agent).await, "three places before");
    at(&agent, "acme").remember(asked("chat", 11)).await.unwrap();
    let found = by_words(&agent, QUERY).await.notes;
    assert_eq!(texts(&found), [QUESTION; 3], "of the tenant, in which a thread has the same name");
    assert!(found.iter().all(|one| one.around.is_empty()), "{found:?}");
    agent.remember(asked("chat", 11)).await.unwrap();
    assert!(answered(&agent).await);
}

#[tokio::test(start_paused = true)]
async fn untrusted_turns_neither_come_nor_count() {
    let (_, memory) = session().await;
    let memory = at(&memory, "acme");
    let forum = memory.from_source(Source::untrusted("forum")).unwrap();
    memory.remember(turn(12, ANSWER)).await.unwrap();
    forum.remember_all(chat()).await.unwrap();
    assert_eq!(by_words(&memory, QUERY).await.notes, []);
    let found = by_words(&memory, "washing machine").await.notes;
    assert_eq!((texts(&found), around(&found[0])), (vec![ANSWER], vec![]));
    memory.remember(turn(11, QUESTION)).await.unwrap();
    let found = by_words(&forum, QUERY).await.notes;
    assert_eq!(texts(&found), [ANSWER, QUESTION]);
    assert!(found.iter().all(|one| one.note.trust == Trust::Trusted));
    assert!(found.iter().flat_map(|one| &one.around).all(|note| note.trust == Trust::Trusted));
}

fn said(year: i32, month: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(year, month, 14, 9, 0, 0).single().unwrap()
}

/// Turns with one text at places far apart, each changed by its number.
async fn apart(change: impl Fn(u32, NewNote) -> NewNote) -> Memory {
    let (_, memory) = session().await;
    let memory = at(&memory, "acme");
    let told = (0..3).map(|n| change(n, turn(10 * n, "I rode the bicycle along the river.")));
    memory.remember_all(told).await.unwrap();
    memory
}

fn positions(found: &RecalledNotes) -> Vec<u32> {
    found.notes.iter().map(|one| one.note.place.as_ref().unwrap().position).collect()
}

#[tokio::test(start_paused = true)]
async fn turns_with_one_text_at_different_places_all_come() {
    let memory = apart(|_, note| note).await;
    let mut found = positions(&by_words(&memory, "bicycle river").await);
    assert_eq!(positions(&memory.recall_notes("bicycle river", 1).await.unwrap()).len(), 1);
    found.sort_unstable();
    assert_eq!(found, [0, 10, 20]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_the_month_that_is_named_comes_first() {
    let months = [said(2023, 5), said(2023, 6), said(2024, 5)];
    let dated = |n: u32, note: NewNote| {
        let place = note.place.clone().unwrap().at(months[n as usize]);
        note.place(place)
    };
    let memory = apart(dated).await;
    let first = async |query: &str| positions(&by_words(&memory, query).await)[0];
    assert_eq!(first("bicycle river in May 2023").await, 0);
    assert_eq!(first("bicycle river in June").await, 10);
    assert_eq!(first("bicycle river in 2024").await, 20);
    let found = by_words(&memory, "bicycle river in June 2025").await.notes;
    assert!(found.windows(2).all(|two| (two[0].parts.relevance - two[1].parts.relevance).abs() < 1e-12), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn the_words_of_a_source_come_first_when_it_is_named() {
    let names = ["Melanie", "Caroline", "Bob"];
    let memory = apart(|n, note| note.source(Source::trusted(names[n as usize]))).await;
    for (n, name) in (0..).zip(names) {
        let found = by_words(&memory, &format!("What did {name} say of the bicycle by the river?")).await;
        assert_eq!((positions(&found)[0], &found.notes[0].note.source[..]), (10 * n, name));
        assert!(found.notes[0].parts.relevance > found.notes[1].parts.relevance);
    }
}

#[tokio::test(start_paused = true)]
async fn notes_with_and_without_a_place_come_in_one_list() {
    let (_, memory) = session().await;
    let memory = at(&memory, "acme");
    memory.remember_all(chat()).await.unwrap();
    tell(&memory, "Ada keeps her bicycle locked").await;
    tell(&memory, "the bicycle shop closes at six").await;
    let found = memory.recall_notes(QUERY, 10).await.unwrap().notes;
    assert_eq!(found[0].note.text, "Ada keeps her bicycle locked");
    for text in [ANSWER, QUESTION, "the bicycle shop closes at six"] {
        assert_eq!(texts(&found).iter().filter(|found| **found == text).count(), 1, "{text} in {found:?}");
    }
    assert!(found.is_sorted_by(|a, b| a.score >= b.score));
    assert!(found.iter().all(|one| one.note.place.is_some() || one.around.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn without_an_embedder_turns_are_found_by_words() {
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let builder = Memory::builder().store(InMemoryStore::new()).embedder(Arc::clone(&embedder));
    let memory = builder.scope(samples::scope("acme")).build().await.unwrap();
    memory.remember_all(chat()).await.unwrap();
    embedder.script(EmbedderFault::Fail(lost()));
    let found = memory.recall_notes(QUERY, 5).await.unwrap();
    assert_eq!((found.degraded.as_deref(), found.abstained), (Some("unavailable: scripted"), None));
    assert_eq!(texts(&found.notes)[0], ANSWER);
    assert!(found.notes.iter().all(|one| one.parts.vector == 0.0 && one.parts.words > 0.0));
}
