//! Notes in bulk: told many at once, with places, listed page by page, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use memory_core::testkit::{EmbedderFault, Fault, FaultyEmbedder, Gate, Operation, samples};
use memory_core::text::mark_recalled;
use memory_core::{
    ErrorKind, HashEmbedder, InMemoryStore, Memory, NewNote, Note, NoteAck, NoteChange, NoteId, NoteKind, NotePage,
    NoteQuery, NoteStatistics, Place, Source, Trust,
};

use crate::notes::{all_notes, at, id_of, listed, of_agent, recalled, session, session_over, soon, tell};
use crate::{faulty, fresh, lost, stored};

fn notes(count: usize) -> Vec<NewNote> {
    (0..count).map(|n| NewNote::new(format!("note {n}"))).collect()
}

/// A turn of the conversation `chat`.
fn turn(position: u32, text: &str) -> NewNote {
    NewNote::new(text).place(Place::new("chat", position))
}

async fn page(memory: &Memory, query: &NoteQuery) -> NotePage {
    memory.notes_page(query).await.unwrap()
}

/// All pages, put together; each but the last is full.
async fn pages(memory: &Memory, query: NoteQuery) -> Vec<Arc<Note>> {
    let (mut all, mut query) = (Vec::new(), query);
    loop {
        let page = page(memory, &query).await;
        assert!(page.notes.len() <= query.limit);
        assert!(page.next.is_none() || page.notes.len() == query.limit);
        all.extend(page.notes);
        match page.next {
            Some(next) => query = query.after(Some(next)),
            None => return all,
        }
    }
}

fn texts(notes: &[Arc<Note>]) -> Vec<&str> {
    notes.iter().map(|note| &note.text[..]).collect()
}

#[tokio::test(start_paused = true)]
async fn many_notes_are_told_in_order_and_in_few_calls() {
    let store = faulty();
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let builder = Memory::builder().store(Arc::clone(&store)).embedder(Arc::clone(&embedder));
    let memory = builder.scope(samples::scope("acme")).build().await.unwrap();
    let (commits, gets) = (store.calls(Operation::Commit), store.calls(Operation::Get));
    assert_eq!(memory.remember_all([]).await.unwrap(), []);
    assert_eq!((store.calls(Operation::Commit), embedder.calls()), (commits, 0), "nothing to do");
    let acks = memory.remember_all(notes(600)).await.unwrap();
    assert_eq!(store.calls(Operation::Commit) - commits, 3, "256, 256 and 88 in a batch");
    assert_eq!(store.calls(Operation::Get) - gets, 3);
    assert_eq!(embedder.calls(), 4 + 4 + 2, "up to 64 in a call");
    assert_eq!(acks.len(), 600);
    let mut created = Vec::new();
    for (n, ack) in acks.iter().enumerate() {
        assert_eq!((ack.merged, &ack.degraded), (false, &None));
        let note = memory.note(ack.id).await.unwrap();
        assert_eq!(note.text, format!("note {n}"));
        created.push(note.created_at);
    }
    assert!(created.is_sorted_by(|a, b| a < b), "moments rise with the order");
    assert!(all_notes(&memory).await.iter().all(|stored| stored.vector.is_some()));
    // Each has the vector of its own text.
    let found = memory.recall_notes("note 417", 1).await.unwrap().notes.remove(0);
    assert!(found.note.text == "note 417" && found.parts.vector > 0.999, "{found:?}");
}

/// However notes are told, at once or one by one, the same is there, but for the moments.
#[tokio::test(start_paused = true)]
async fn many_notes_are_told_as_one_by_one() {
    let told = || {
        let mut told = notes(300);
        told[7] = NewNote::new("Note 3.").tag("again").salience(0.9);
        told[290] = NewNote::new("note 3").source(Source::untrusted("forum"));
        told[299] = NewNote::new("NOTE 3").kind(NoteKind::Plan);
        told.push(turn(1, "note 3"));
        told
    };
    let (_, one_by_one) = session().await;
    let mut expected = Vec::new();
    for note in told() {
        expected.push(one_by_one.remember(note).await.unwrap());
    }
    let (_, memory) = session().await;
    let acks = memory.remember_all(told()).await.unwrap();
    assert_eq!(acks, expected);
    assert_eq!([acks[3].merged, acks[7].merged, acks[290].merged, acks[299].merged], [false, true, false, true]);
    assert_eq!(acks[7].id, acks[3].id, "the same text is the same note");
    let note = memory.note(acks[3].id).await.unwrap();
    assert_eq!((note.seen, &note.text[..], note.salience, note.kind), (3, "note 3", 0.9, NoteKind::Fact));
    assert_eq!(all_notes(&memory).await, all_notes(&one_by_one).await, "of the session and of the agent");
    let again = memory.remember_all(told()).await.unwrap();
    assert!(again.iter().all(|ack| ack.merged));
    assert_eq!(memory.note(acks[3].id).await.unwrap().seen, 6);
}

#[tokio::test(start_paused = true)]
async fn of_many_notes_none_is_written_if_one_is_wrong() {
    let memory = fresh().await;
    memory.remember(turn(3, "yes")).await.unwrap();
    let marked = mark_recalled("use tabs");
    let note = || NewNote::new("use tabs");
    let cases = [
        (NewNote::new(" \n"), "notes[300].text is blank; allowed: some words"),
        (NewNote::new("a".repeat(10_001)), "notes[300].text is 10001 bytes; allowed: up to 10000 bytes"),
        (NewNote::new(marked), "notes[300].text is nothing but recalled text; allowed: some words of its own"),
        (note().salience(f64::NAN), "notes[300].salience is NaN; allowed: 0..=1"),
        (note().tag(""), "notes[300].tags: bytes of a tag is 0; allowed: 1..=64"),
        (note().source(Source::trusted("")), "notes[300].source (bytes) is 0; allowed: 1..=128"),
        (note().expires_at(soon(0)), "notes[300].expires_at is 2026-01-01 00:00:00 UTC; allowed: after now"),
        (note().place(Place::new("", 0)), "notes[300].place.thread (bytes) is 0; allowed: 1..=128"),
        (note().place(Place::new("a".repeat(129), 0)), "notes[300].place.thread (bytes) is 129; allowed: 1..=128"),
        (turn(3, "no"), "notes[300]: another text has position 3 of thread \"chat\""),
        (turn(9, "no"), "notes[300]: another text has position 9 of thread \"chat\""),
    ];
    for (wrong, message) in cases {
        let taken = message.contains("another text");
        let mut told = notes(400);
        (told[5], told[300]) = (turn(9, "nine"), wrong);
        let error = memory.remember_all(told).await.unwrap_err();
        assert_eq!(error.kind(), if taken { ErrorKind::AlreadyExists } else { ErrorKind::Invalid }, "{error}");
        assert!(error.to_string().starts_with("remember_all: ") && error.to_string().contains(message), "{error}");
        assert_eq!(stored(&memory).await.notes, 1, "{message}");
    }
    memory.remember(note().place(Place::new("a".repeat(128), u32::MAX))).await.unwrap();
    // Tags that are too many only together are found on the way.
    let tags = |from: usize| (from..from + 20).fold(note(), |note, n| note.tag(format!("{n}")));
    let mut told = notes(258);
    (told[0], told[257]) = (tags(0), tags(20));
    let error = memory.remember_all(told).await.unwrap_err();
    let message =
        "notes[257].tags, of all times it was told, is 40; allowed: 0..=32; the first 256 of 258 notes are written";
    assert!(error.to_string().contains(message), "{error}");
}

#[tokio::test(start_paused = true)]
async fn many_notes_can_be_told_again_after_a_failure() {
    for (fault, written, seen) in [(Fault::Before(lost()), 256, 1), (Fault::After(lost()), 512, 2)] {
        let store = faulty();
        let (_, memory) = session_over(Arc::clone(&store)).await;
        let memory = at(&memory, "acme");
        store.script(Operation::Commit, store.calls(Operation::Commit) + 2, fault);
        let error = memory.remember_all(notes(600)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let message = "remember_all: unavailable: scripted; the first 256 of 600 notes are written";
        assert_eq!(error.to_string(), message);
        assert_eq!(stored(&memory).await.notes, written);
        let acks = memory.remember_all(notes(600)).await.unwrap();
        let merged: Vec<bool> = acks.iter().map(|ack| ack.merged).collect();
        assert!((0..600).all(|n| merged[n] == (n < usize::try_from(written).unwrap())));
        assert_eq!(memory.note(acks[0].id).await.unwrap().seen, 2);
        assert_eq!(memory.note(acks[300].id).await.unwrap().seen, seen);
        assert_eq!(stored(&memory).await.notes, 600);
    }
}

#[tokio::test(start_paused = true)]
async fn many_notes_are_kept_without_vectors_if_the_embedder_fails() {
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let memory = Memory::builder().store(InMemoryStore::new()).embedder(Arc::clone(&embedder)).build().await.unwrap();
    embedder.script(EmbedderFault::Fail(lost()));
    embedder.script(EmbedderFault::WrongCount);
    embedder.script(EmbedderFault::WrongLength);
    let acks = memory.remember_all(notes(200)).await.unwrap();
    let why = ["unavailable: scripted", "embedder's answer is 63 vectors; allowed: 64, as many as texts", "511"];
    for (ack, expected) in acks.iter().zip(why.into_iter().map(Some).chain([None]).flat_map(|why| [why; 64])) {
        assert_eq!(ack.degraded.is_some(), expected.is_some(), "{ack:?}");
        assert!(ack.degraded.as_deref().unwrap_or_default().contains(expected.unwrap_or_default()), "{ack:?}");
    }
    let vectors = all_notes(&memory).await.iter().filter(|stored| stored.vector.is_some()).count();
    assert_eq!(vectors, 8);
    assert!(!recalled(&memory, "note 3").await.is_empty(), "found by words");
}

#[tokio::test(start_paused = true)]
async fn many_notes_that_another_overtakes_are_told_again() {
    let store = faulty();
    let (_, memory) = session_over(Arc::clone(&store)).await;
    let gate = Gate::new();
    store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let slow = tokio::spawn({
        let memory = memory.clone();
        async move { memory.remember_all(notes(100).into_iter().chain([turn(1, "yes")])).await }
    });
    gate.reached().await;
    assert!(!tell(&memory, "note 42").await.merged);
    memory.remember(turn(1, "no")).await.unwrap();
    gate.open();
    let error = slow.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "the place was free when all were checked: {error}");
    assert!(error.to_string().ends_with("; the first 0 of 101 notes are written"), "{error}");
    assert_eq!(listed(&memory).await.len(), 2);
    let acks = memory.remember_all(notes(100)).await.unwrap();
    assert!(acks[42].merged && acks.iter().filter(|ack| ack.merged).count() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_place_has_one_text() {
    let (clock, memory) = session().await;
    let agent = at(&memory, "acme/coder");
    let told = memory.remember(turn(3, "Yes, please").tag("a").expires_at(soon(50))).await.unwrap();
    let place = Place::new("chat", 3);
    assert_eq!(told.id, NoteId::at(memory.scope(), Trust::Trusted, &place));
    let again = memory.remember(turn(3, "yes please!").tag("b")).await.unwrap();
    assert_eq!((again.id, again.merged), (told.id, true));
    let note = memory.note(told.id).await.unwrap();
    assert_eq!((&note.text[..], note.seen, note.tags.len(), &note.place), ("Yes, please", 2, 2, &Some(place.clone())));
    let error = memory.remember(turn(3, "no")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let message = "remember: already exists: note: another text has position 3 of thread \"chat\"";
    assert_eq!(error.to_string(), message);
    assert_eq!(memory.note(told.id).await.unwrap(), note, "unchanged");
    // Elsewhere it is another note: at another place, in another thread, without one, in another scope, of another source.
    for other in
        [turn(4, "yes please"), NewNote::new("yes please").place(Place::new("log", 3)), NewNote::new("yes please")]
    {
        assert!(!memory.remember(other).await.unwrap().merged);
    }
    assert!(!at(&memory, "acme/coder/s-2").remember(turn(3, "no")).await.unwrap().merged);
    assert!(!memory.remember(turn(3, "no").source(Source::untrusted("mail"))).await.unwrap().merged);
    // An expired note holds no place.
    memory.remember(turn(7, "one").expires_at(soon(10))).await.unwrap();
    clock.set(soon(10));
    assert!(!memory.remember_all([turn(7, "two")]).await.unwrap()[0].merged);
    // What has a place is no fact for the agent, in however many sessions it is said.
    for session in 1..=5 {
        let session = at(&memory, &format!("acme/coder/s-{session}"));
        session.remember_all([turn(100, "use tabs"), turn(101, "use tabs")]).await.unwrap();
    }
    assert!(of_agent(&memory, "use tabs").await.is_none());
    assert!(agent.notes_page(&NoteQuery::new().with_candidates()).await.unwrap().notes.len() == 1, "the one without");
    assert!(recalled(&agent, "tabs").await.is_empty());
    // Forgetting a turn takes nothing from the agent's note of the same text.
    for session in 1..=3 {
        tell(&at(&memory, &format!("acme/coder/s-{session}")), "use tabs").await;
    }
    memory.forget(NoteId::at(memory.scope(), Trust::Trusted, &Place::new("chat", 100))).await.unwrap();
    assert_eq!(of_agent(&memory, "use tabs").await.unwrap().sessions(), 3);
    assert_eq!(recalled(&agent, "tabs").await, ["use tabs"]);
}

#[tokio::test(start_paused = true)]
async fn a_page_has_the_notes_that_its_query_names() {
    let (clock, memory) = session().await;
    let agent = at(&memory, "acme/coder");
    let forum = agent.from_source(Source::untrusted("forum")).unwrap();
    let new = |text: &str| NewNote::new(text);
    agent
        .remember_all([
            new("fact").tag("a").tag("b"),
            new("lesson").kind(NoteKind::Lesson).tag("a"),
            turn(5, "turn five").tag("b"),
            turn(2, "turn two").kind(NoteKind::Plan),
            new("line").place(Place::new("log", 1)),
            new("expired").tag("a").expires_at(soon(10)),
        ])
        .await
        .unwrap();
    forum.remember_all([new("rumour").tag("a"), turn(5, "turn said")]).await.unwrap();
    tell(&memory, "candidate").await;
    tell(&at(&memory, "acme"), "of the tenant").await;
    clock.set(soon(10));
    let any = NoteQuery::new;
    let cases: [(NoteQuery, &[&str]); 14] = [
        (any(), &["fact", "lesson", "turn five", "turn two", "line", "rumour", "turn said"]),
        (
            any().with_candidates(),
            &["fact", "lesson", "turn five", "turn two", "line", "rumour", "turn said", "candidate"],
        ),
        (any().kind(NoteKind::Lesson), &["lesson"]),
        (any().kind(NoteKind::Preference), &[]),
        (any().tag("a"), &["fact", "lesson", "rumour"]),
        (any().tag("a").tag("b"), &["fact"]),
        (any().tag("A"), &[]),
        (any().thread("chat"), &["turn two", "turn five", "turn said"]),
        (any().thread("log"), &["line"]),
        (any().thread("cha"), &[]),
        (any().thread("chat").kind(NoteKind::Fact).tag("b"), &["turn five"]),
        (any().trust(Trust::Untrusted), &["rumour", "turn said"]),
        (any().trust(Trust::Trusted).thread("chat"), &["turn two", "turn five"]),
        (any().trust(Trust::Trusted).tag("a"), &["fact", "lesson"]),
    ];
    for (query, expected) in cases {
        let whole = pages(&agent, query.clone().limit(1_000)).await;
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!((set(&texts(&whole)), whole.len()), (set(expected), expected.len()), "{query:?}");
        for limit in [1, 2, 3, 7, 8] {
            assert_eq!(pages(&agent, query.clone().limit(limit)).await, whole, "{query:?}, {limit} a page");
        }
        if query.thread.is_some() {
            let order: Vec<_> = whole.iter().map(|note| (note.place.as_ref().unwrap().position, note.id)).collect();
            assert!(order.is_sorted(), "{order:?}");
        } else {
            assert!(whole.is_sorted_by(|a, b| a.id < b.id), "{query:?}");
        }
    }
    assert!(page(&at(&memory, "acme/writer"), &any().with_candidates()).await.notes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pages_go_on_after_changes_between_them() {
    let memory = fresh().await;
    memory.remember_all((0..40).map(|n| turn(n * 10, &format!("turn {n}")))).await.unwrap();
    for query in [NoteQuery::new().limit(7), NoteQuery::new().limit(7).thread("chat")] {
        let all = pages(&memory, query.clone()).await;
        let first = page(&memory, &query).await;
        assert_eq!(first.notes, all[..7]);
        // The one at the cursor goes, one comes at the end.
        let last = &first.notes[6];
        memory.forget(last.id).await.unwrap();
        let second = page(&memory, &query.clone().after(first.next)).await;
        assert_eq!(second.notes, all[7..14]);
        memory.remember(turn(last.place.as_ref().unwrap().position, &last.text)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_belongs_to_its_query_and_scope() {
    let (_, session) = session().await;
    let memory = at(&session, "acme");
    memory.remember_all((0..5).map(|n| turn(n, &format!("turn {n}")).tag("a"))).await.unwrap();
    let any = || NoteQuery::new().limit(2);
    let cursor = page(&memory, &any()).await.next.unwrap();
    // The limit may change on the way.
    assert_eq!(page(&memory, &any().limit(3).after(Some(cursor.clone()))).await.notes.len(), 3);
    let others = [
        any().tag("a"),
        any().thread("chat"),
        any().kind(NoteKind::Fact),
        any().trust(Trust::Trusted),
        any().with_candidates(),
    ];
    for other in others {
        assert_eq!(page(&memory, &other).await.notes.len(), 2);
        let error = memory.notes_page(&other.clone().after(Some(cursor.clone()))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{other:?}");
        let message = "notes_page: invalid value: after is \"";
        assert!(error.to_string().starts_with(message) && error.to_string().contains(&cursor), "{error}");
    }
    let elsewhere = at(&session, "acme/coder").notes_page(&any().after(Some(cursor.clone()))).await.unwrap_err();
    assert!(elsewhere.to_string().contains("what a page of the same query in the same scope gave"), "{elsewhere}");
    for broken in
        ["", "x", &cursor[..cursor.len() - 1], &format!("{cursor}0"), &cursor.replace('.', ""), &"ä".repeat(999)]
    {
        let error = memory.notes_page(&any().after(Some(broken.to_owned()))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{broken}");
        assert!(error.to_string().len() < 400, "{error}");
    }
    let refused = [
        (any().limit(0), "limit is 0; allowed: 1..=1000"),
        (any().limit(1_001), "limit is 1001; allowed: 1..=1000"),
        (any().thread(""), "thread (bytes) is 0; allowed: 1..=128"),
        (any().tag("a".repeat(65)), "tags: bytes of a tag is 65; allowed: 1..=64"),
    ];
    for (query, message) in refused {
        let error = memory.notes_page(&query).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(message), "{error}");
    }
    assert_eq!(page(&memory, &any().limit(1_000)).await.notes.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_statistics_of_notes_move() {
    let (clock, memory) = session().await;
    let agent = at(&memory, "acme/coder");
    let statistics = async || agent.note_statistics().await.unwrap();
    assert_eq!(statistics().await, NoteStatistics::default());
    clock.set(soon(1));
    tell(&agent, "use tabs").await;
    let one = statistics().await;
    assert_eq!((one.active, one.tellings, one.text_bytes), (1, 1, 8));
    assert_eq!((one.oldest, one.newest), (Some(soon(1)), Some(soon(1))));
    assert_eq!(one.kinds, BTreeMap::from([(NoteKind::Fact, 1)]));
    clock.set(soon(2));
    tell(&agent, "use tabs").await;
    let again = statistics().await;
    assert_eq!((again.active, again.tellings, again.text_bytes, again.threads), (1, 2, 8, 0));
    assert_eq!((again.oldest, again.newest), (Some(soon(1)), Some(soon(2))));

    tell(&memory, "a candidate").await;
    let mut candidate = statistics().await;
    assert_eq!(std::mem::take(&mut candidate.candidates), 1);
    assert_eq!(candidate, again, "a candidate counts for nothing else");
    let mail = Source::untrusted("mail");
    let plan = NewNote::new("é").kind(NoteKind::Plan).source(mail);
    agent.remember(plan.clone()).await.unwrap();
    let quarantined = statistics().await;
    assert_eq!((quarantined.quarantined, quarantined.active, quarantined.tellings), (1, 1, 3));
    assert_eq!((quarantined.text_bytes, quarantined.kinds[&NoteKind::Plan]), (10, 1));
    agent.remember_all([turn(1, "x"), turn(2, "y"), NewNote::new("z").place(Place::new("log", 1))]).await.unwrap();
    assert_eq!((statistics().await.threads, statistics().await.active), (2, 4));
    let brief = agent.remember(NewNote::new("brief").place(Place::new("brief", 0)).expires_at(soon(10))).await.unwrap();
    assert_eq!((statistics().await.threads, statistics().await.expired), (3, 0));
    clock.set(soon(10));
    let mut expired = statistics().await;
    assert_eq!((expired.expired, expired.active, expired.threads), (1, 4, 2));
    memory.expire_notes().await.unwrap();
    expired.expired = 0;
    assert_eq!(statistics().await, expired);
    assert_eq!(agent.note(brief.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    // What is listed by default is what is counted.
    let counted = statistics().await;
    assert_eq!(counted.active + counted.quarantined, listed(&agent).await.len() as u64);
    assert_eq!(counted.kinds.values().sum::<u64>(), counted.active + counted.quarantined);
    for session in 2..=3 {
        tell(&at(&memory, &format!("acme/coder/s-{session}")), "a candidate").await;
    }
    assert_eq!((statistics().await.candidates, statistics().await.active), (0, 5), "told in three sessions");
    agent.update_note(id_of(&agent, "use tabs"), NoteChange::new().kind(NoteKind::Preference)).await.unwrap();
    assert_eq!(statistics().await.kinds[&NoteKind::Preference], 1);
    let acks: Vec<NoteAck> = agent.remember_all(notes(1_500)).await.unwrap();
    assert_eq!((acks.len(), statistics().await.active), (1_500, 1_505), "more than a page of the store");
}
