//! Notes that are changed.

use std::sync::Arc;

use memory_core::testkit::{EmbedderFault, Fault, FaultyEmbedder, Gate, Operation, samples};
use memory_core::text::mark_recalled;
use memory_core::{
    Durability, ErrorKind, HashEmbedder, InMemoryStore, Memory, NewNote, NoteChange, NoteId, NoteKind, Place, Source,
    Status, Trust,
};

use crate::notes::{all_notes, at, id_of, listed, of_agent, recalled, session, session_over, soon, tell};
use crate::{faulty, lost, stored};

fn change() -> NoteChange {
    NoteChange::new()
}

#[tokio::test(start_paused = true)]
async fn what_a_change_names_takes_the_place_of_what_was_told() {
    let (clock, memory) = session().await;
    let memory = at(&memory, "acme");
    let note = NewNote::new("use tabs").tag("a").salience(0.9).source(Source::trusted("user"));
    let id = memory.remember(note.clone()).await.unwrap().id;
    memory.remember(note).await.unwrap();
    let before = memory.note(id).await.unwrap();
    clock.set(soon(5));
    let lower = change().salience(0.1).tags(["b", "c"]).kind(NoteKind::Preference).expires_at(soon(60));
    let ack = memory.update_note(id, lower).await.unwrap();
    assert_eq!((ack.id, ack.merged, ack.degraded, ack.durability), (id, false, None, Durability::Volatile));
    let note = memory.note(id).await.unwrap();
    assert_eq!((&note.text[..], note.salience, note.kind), ("use tabs", 0.1, NoteKind::Preference));
    assert_eq!(note.tags.iter().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(note.expires_at, Some(soon(60)));
    assert_eq!((note.created_at, note.updated_at, note.seen), (before.created_at, soon(5), 2));
    assert_eq!((&note.source[..], note.trust), ("user", Trust::Trusted));
    memory.update_note(id, change().never_expires().tags(Vec::<String>::new())).await.unwrap();
    let note = memory.note(id).await.unwrap();
    assert_eq!((note.expires_at, note.tags.len(), note.kind), (None, 0, NoteKind::Preference));

    // Another spelling is the same note, another text another one.
    let ack = memory.update_note(id, change().text("Use TABS!")).await.unwrap();
    assert_eq!((ack.id, &memory.note(id).await.unwrap().text[..]), (id, "Use TABS!"));
    let ack = memory.update_note(id, change().text("  use spaces ").salience(0.7)).await.unwrap();
    assert_eq!((ack.id, ack.merged), (id_of(&memory, "use spaces"), false));
    assert_eq!(memory.note(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let moved = memory.note(ack.id).await.unwrap();
    assert_eq!((&moved.text[..], moved.salience, moved.seen), ("use spaces", 0.7, 2));
    assert_eq!(moved.created_at, before.created_at);
    assert_eq!(stored(&memory).await.notes, 1);
    assert!(recalled(&memory, "tabs").await.iter().all(|text| text == "use spaces"), "found by likeness at most");
    let found = memory.recall_notes("use spaces", 1).await.unwrap().notes.remove(0);
    assert!(found.parts.words > 0.0 && found.parts.vector > 0.999, "{found:?}");
    // The old text is free again.
    assert!(!tell(&memory, "use tabs").await.merged);
}

#[tokio::test(start_paused = true)]
async fn a_change_to_a_text_that_is_there_makes_both_one() {
    let (clock, memory) = session().await;
    let memory = at(&memory, "acme");
    memory.remember(NewNote::new("use tabs").tag("a").salience(0.2)).await.unwrap();
    clock.set(soon(1));
    let id = memory.remember(NewNote::new("use spaces").tag("b").salience(0.8)).await.unwrap().id;
    let ack = memory.update_note(id, change().text("Use tabs.")).await.unwrap();
    assert_eq!((ack.id, ack.merged), (id_of(&memory, "use tabs"), true));
    let note = memory.note(ack.id).await.unwrap();
    assert_eq!((&note.text[..], note.seen, note.salience, note.tags.len()), ("use tabs", 2, 0.8, 2));
    assert!(all_notes(&memory).await.iter().all(|stored| stored.vector.is_some()));
    assert_eq!(stored(&memory).await.notes, 1);
    // Tags that are too many only together.
    let many = |from: usize| (from..from + 20).map(|n| format!("{n}")).collect::<Vec<_>>();
    memory.update_note(ack.id, change().tags(many(0))).await.unwrap();
    let id = tell(&memory, "use spaces").await.id;
    let error = memory.update_note(id, change().text("use tabs").tags(many(20))).await.unwrap_err();
    assert!(error.to_string().contains("change.tags, with those of the same text, is 40; allowed: 0..=32"), "{error}");
    // One that has expired is as good as deleted.
    memory.update_note(ack.id, change().expires_at(soon(9))).await.unwrap();
    clock.set(soon(9));
    let moved = memory.update_note(id, change().text("use tabs")).await.unwrap();
    assert_eq!((moved.id, moved.merged), (ack.id, false));
    assert_eq!(memory.note(moved.id).await.unwrap().tags.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_note_with_a_place_stays_there() {
    let (_, memory) = session().await;
    let told = memory.remember(NewNote::new("yes").place(Place::new("chat", 3))).await.unwrap();
    let ack = memory.update_note(told.id, change().text("no").tags(["edited"])).await.unwrap();
    assert_eq!((ack.id, ack.merged), (told.id, false));
    let note = memory.note(told.id).await.unwrap();
    assert_eq!((&note.text[..], note.place.clone(), note.tags.len()), ("no", Some(Place::new("chat", 3)), 1));
    assert_eq!(stored(&memory).await.notes, 1, "nothing went to the agent");
    let error = memory.remember(NewNote::new("yes").place(Place::new("chat", 3))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(memory.remember(NewNote::new("No.").place(Place::new("chat", 3))).await.unwrap().merged);
}

#[tokio::test(start_paused = true)]
async fn what_a_session_changes_is_changed_of_its_evidence() {
    let (clock, memory) = session().await;
    let sessions = [1, 2].map(|session| at(&memory, &format!("acme/coder/s-{session}")));
    for session in &sessions {
        session.remember(NewNote::new("use tabs").salience(0.5).tag("a")).await.unwrap();
    }
    let id = id_of(&sessions[0], "use tabs");
    clock.set(soon(1));
    sessions[0].update_note(id, change().salience(0.9).tags(["b"])).await.unwrap();
    let agents = of_agent(&memory, "use tabs").await.unwrap();
    assert_eq!((agents.salience, agents.tags.len(), agents.seen, agents.sessions()), (0.9, 2, 2, 2));
    sessions[0].update_note(id, change().salience(0.1)).await.unwrap();
    let agents = of_agent(&memory, "use tabs").await.unwrap();
    assert_eq!((agents.salience, agents.updated_at > soon(1)), (0.5, true), "what the other session told stays");
    assert_eq!(agents.tellings["s-1"].created_at, samples::time(0));

    // Another text is evidence for another note.
    let ack = sessions[0].update_note(id, change().text("use spaces")).await.unwrap();
    let left = of_agent(&memory, "use tabs").await.unwrap();
    assert_eq!(left.tellings.keys().collect::<Vec<_>>(), ["s-2"]);
    assert_eq!((left.salience, left.tags.len()), (0.5, 1));
    let new = of_agent(&memory, "use spaces").await.unwrap();
    assert_eq!(new.tellings.keys().collect::<Vec<_>>(), ["s-1"]);
    assert_eq!(new.status(2), Status::Candidate);
    sessions[1].update_note(id_of(&sessions[1], "use tabs"), change().text("Use spaces")).await.unwrap();
    assert!(of_agent(&memory, "use tabs").await.is_none());
    assert_eq!(of_agent(&memory, "use spaces").await.unwrap().status(2), Status::Active);
    assert!(all_notes(&memory).await.iter().all(|stored| stored.vector.is_some()));
    sessions[0].forget(ack.id).await.unwrap();
    let left = of_agent(&memory, "use spaces").await.unwrap();
    assert_eq!((left.sessions(), &left.text[..]), (1, "Use spaces"));

    // What the agent forgot does not come back by a change.
    let agent = at(&memory, "acme/coder");
    agent.forget(id_of(&agent, "use spaces")).await.unwrap();
    sessions[1].update_note(id_of(&sessions[1], "use spaces"), change().salience(1.0)).await.unwrap();
    assert!(of_agent(&memory, "use spaces").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_changes_is_told_by_itself() {
    let (_, memory) = session().await;
    let agent = at(&memory, "acme/coder");
    for session in ["s-1", "s-2"] {
        let session = at(&memory, &format!("acme/coder/{session}"));
        session.remember(NewNote::new("use tabs").salience(0.9)).await.unwrap();
    }
    assert!(listed(&agent).await.is_empty(), "a candidate");
    let id = id_of(&agent, "use tabs");
    let ack = agent.update_note(id, change().salience(0.2)).await.unwrap();
    let note = agent.note(ack.id).await.unwrap();
    assert_eq!((note.salience, note.seen, note.sessions()), (0.2, 2, 0));
    assert_eq!(note.status(3), Status::Active);
    let ack = agent.update_note(id, change().text("use spaces")).await.unwrap();
    assert_eq!(recalled(&agent, "use").await, ["use spaces"]);
    let first = at(&memory, "acme/coder/s-1");
    first.forget(id_of(&first, "use tabs")).await.unwrap();
    assert_eq!(agent.note(ack.id).await.unwrap().seen, 2, "the session's note is its own");
    tell(&first, "use spaces").await;
    assert_eq!((agent.note(ack.id).await.unwrap().seen, agent.note(ack.id).await.unwrap().sessions()), (3, 1));
}

/// A stranger could else put words of its own into what is trusted.
#[tokio::test(start_paused = true)]
async fn an_untrusted_source_changes_no_trusted_note() {
    let (_, memory) = session().await;
    let memory = at(&memory, "acme");
    let web = memory.from_source(Source::untrusted("web")).unwrap();
    let id = tell(&memory, "use tabs").await.id;
    let error = web.update_note(id, change().text("use spaces")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let message = "the trust of the note is trusted; allowed: untrusted, for web (untrusted)";
    assert!(error.to_string().contains(message), "{error}");
    let rumour = tell(&web, "use spaces").await.id;
    let ack = web.update_note(rumour, change().text("use tabs")).await.unwrap();
    assert_eq!((ack.id, ack.merged), (NoteId::of(memory.scope(), Trust::Untrusted, "use tabs"), false));
    let ack = memory.update_note(ack.id, change().text("use two spaces")).await.unwrap();
    assert_eq!(memory.note(ack.id).await.unwrap().trust, Trust::Untrusted, "a change vouches for nothing");
    assert_eq!(recalled(&memory, "use two spaces").await, ["use tabs"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_checked() {
    let (clock, session) = session().await;
    let memory = at(&session, "acme");
    let id = memory.remember(NewNote::new("use tabs").expires_at(soon(90))).await.unwrap().id;
    let before = memory.note(id).await.unwrap();
    let marked = mark_recalled("use tabs");
    let tags = |count: usize| (0..count).map(|n| format!("{n}")).collect::<Vec<_>>();
    let cases = [
        (change(), "change is empty; allowed: at least one thing to change"),
        (change().text(" "), "change.text is blank; allowed: some words"),
        (change().text("a".repeat(10_001)), "change.text is 10001 bytes; allowed: up to 10000 bytes"),
        (change().text(marked), "change.text is nothing but recalled text; allowed: some words of its own"),
        (change().tags(tags(33)), "change.tags is 33; allowed: 0..=32"),
        (change().tags(["a".repeat(65)]), "change.tags: bytes of a tag is 65; allowed: 1..=64"),
        (change().salience(f64::NAN), "change.salience is NaN; allowed: 0..=1"),
        (change().salience(-0.1), "change.salience is -0.1; allowed: 0..=1"),
        (change().expires_at(soon(0)), "change.expires_at is 2026-01-01 00:00:00 UTC; allowed: after now"),
    ];
    for (refused, message) in cases {
        let error = memory.update_note(id, refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().starts_with("update_note: ") && error.to_string().contains(message), "{error}");
        assert_eq!(memory.note(id).await.unwrap(), before);
    }
    memory.update_note(id, change().text("a".repeat(10_000)).tags(tags(32)).salience(1.0)).await.unwrap();
    let id = tell(&memory, "use tabs").await.id;
    for (other, id) in [(at(&session, "acme/coder"), id), (memory.clone(), samples::note_id(1))] {
        let error = other.update_note(id, change().salience(0.5)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(&format!("no note {id} in this scope")), "{error}");
    }
    memory.update_note(id, change().expires_at(soon(5))).await.unwrap();
    clock.set(soon(5));
    let error = memory.update_note(id, change().never_expires()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "it has expired");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_another_overtakes_is_made_again() {
    let store = faulty();
    let (_, memory) = session_over(Arc::clone(&store)).await;
    let id = tell(&memory, "use tabs").await.id;
    let gate = Gate::new();
    store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let slow = tokio::spawn({
        let memory = memory.clone();
        async move { memory.update_note(id, change().text("use spaces").tags(["b"])).await }
    });
    gate.reached().await;
    // The note, the agent's note of the old text, and that of the new text: all of them move.
    memory.remember(NewNote::new("use tabs").salience(0.9)).await.unwrap();
    tell(&at(&memory, "acme/coder/s-2"), "use tabs").await;
    tell(&at(&memory, "acme/coder/s-3"), "use spaces").await;
    gate.open();
    let ack = slow.await.unwrap().unwrap();
    let note = memory.note(ack.id).await.unwrap();
    assert_eq!((note.seen, note.salience, note.tags.len()), (2, 0.9, 1));
    let sessions =
        async |text: &str| of_agent(&memory, text).await.unwrap().tellings.keys().cloned().collect::<Vec<_>>();
    assert_eq!(sessions("use tabs").await, ["s-2"]);
    assert_eq!(sessions("use spaces").await, ["s-1", "s-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_answer_was_lost_was_made_or_not() {
    for (fault, made) in [(Fault::Before(lost()), false), (Fault::After(lost()), true)] {
        let store = faulty();
        let (_, memory) = session_over(Arc::clone(&store)).await;
        let id = tell(&memory, "use tabs").await.id;
        store.script_next(Operation::Commit, fault);
        let error = memory.update_note(id, change().text("use spaces")).await.unwrap_err();
        assert_eq!(error.to_string(), "update_note: unavailable: scripted");
        let text = if made { "use spaces" } else { "use tabs" };
        assert_eq!(listed(&memory).await.iter().map(|note| &note.text[..]).collect::<Vec<_>>(), [text]);
        assert!(of_agent(&memory, text).await.is_some());
        assert_eq!(stored(&memory).await.notes, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_text_is_embedded_and_an_unchanged_one_is_not() {
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let builder = Memory::builder().store(InMemoryStore::new()).embedder(Arc::clone(&embedder));
    let memory = builder.scope(samples::scope("acme/coder/s-1")).build().await.unwrap();
    let id = tell(&memory, "use tabs").await.id;
    let calls = embedder.calls();
    memory.update_note(id, change().salience(0.9)).await.unwrap();
    assert_eq!(embedder.calls(), calls, "its vector is known");
    embedder.script(EmbedderFault::Fail(lost()));
    let ack = memory.update_note(id, change().text("use spaces")).await.unwrap();
    assert_eq!(ack.degraded.as_deref(), Some("unavailable: scripted"));
    assert!(all_notes(&memory).await.iter().all(|stored| stored.vector.is_none()), "no vector of another text");
    assert_eq!(recalled(&memory, "spaces").await, ["use spaces"]);
    let ack = memory.update_note(ack.id, change().salience(0.5)).await.unwrap();
    assert_eq!((ack.degraded, embedder.calls()), (None, calls + 3), "one query, and what was missing");
    assert!(all_notes(&memory).await.iter().all(|stored| stored.vector.is_some()), "of the session and of the agent");
}
