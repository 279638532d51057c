//! Notes: what is told, merged, recalled, forgotten, promoted and expires.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use memory_core::testkit::{EmbedderFault, Fault, FaultyEmbedder, FaultyStore, Gate, Operation, samples};
use memory_core::text::mark_recalled;
use memory_core::{
    Durability, ErrorKind, HashEmbedder, InMemoryStore, Key, Learner, Memory, MemoryStore, MemoryStoreExt, NewNote,
    Note, NoteAck, NoteId, NoteKind, NoteQuery, Outcome, Profile, RecalledNote, Record, RecordKind, Recording, Scan,
    Source, Status, Step, Stored, StoredNote, Task, Trust,
};

use crate::{Manual, clock, faulty, fresh, job, lost, over, stored, worked};

/// A memory in the scope `acme/coder/s-1`, and its clock.
pub(crate) async fn session() -> (Manual, Memory) {
    session_over(InMemoryStore::new()).await
}

pub(crate) async fn session_over(store: impl MemoryStore) -> (Manual, Memory) {
    let clock = clock();
    let builder = Memory::builder().store(store).clock(Arc::clone(&clock)).scope(samples::scope("acme/coder/s-1"));
    (clock, builder.build().await.unwrap())
}

pub(crate) fn at(memory: &Memory, scope: &str) -> Memory {
    memory.in_scope(samples::scope(scope))
}

pub(crate) async fn tell(memory: &Memory, text: &str) -> NoteAck {
    memory.remember(NewNote::new(text)).await.unwrap()
}

/// The id of the trusted note of a text in the scope of this handle.
pub(crate) fn id_of(memory: &Memory, text: &str) -> NoteId {
    NoteId::of(memory.scope(), Trust::Trusted, text)
}

/// What is recalled for a query, as texts.
pub(crate) async fn recalled(memory: &Memory, query: &str) -> Vec<String> {
    let found = memory.recall_notes(query, 100).await.unwrap();
    found.notes.into_iter().map(|recalled| recalled.note.text.clone()).collect()
}

/// All notes of this scope that are neither expired nor candidates: by falling salience, then the last told first.
pub(crate) async fn listed(memory: &Memory) -> Vec<Arc<Note>> {
    let mut notes = memory.notes_page(&NoteQuery::new().limit(1_000)).await.unwrap().notes;
    notes.sort_by(|a, b| b.salience.total_cmp(&a.salience).then(b.updated_at.cmp(&a.updated_at)));
    notes
}

pub(crate) async fn all_notes(memory: &Memory) -> Vec<StoredNote> {
    let stored = memory.store().scan_all(Scan::new(RecordKind::Note)).await.unwrap();
    let notes = stored.into_iter().filter_map(|stored| match stored.record {
        Record::Note(note) => Some(note),
        _ => None,
    });
    notes.collect()
}

/// The agent's note of a text, candidate or not, if there is one.
pub(crate) async fn of_agent(memory: &Memory, text: &str) -> Option<Arc<Note>> {
    let agent = at(memory, "acme/coder");
    agent.note(id_of(&agent, text)).await.ok()
}

pub(crate) fn soon(seconds: i64) -> DateTime<Utc> {
    samples::time(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_note_told_again_becomes_one_with_itself() {
    let (clock, memory) = session().await;
    let memory = at(&memory, "acme");
    let first = NewNote::new("  Use tabs. ").kind(NoteKind::Preference).tag("style").salience(0.7);
    let first = first.source(Source::trusted("user")).expires_at(soon(50));
    let ack = memory.remember(first).await.unwrap();
    assert_eq!((ack.merged, ack.durability, ack.degraded), (false, Durability::Volatile, None));
    assert_eq!(ack.id, id_of(&memory, "use tabs"));
    let note = memory.note(ack.id).await.unwrap();
    assert_eq!((&note.text[..], note.seen, note.trust), ("Use tabs.", 1, Trust::Trusted));
    clock.advance(TimeDelta::seconds(9));
    let second = NewNote::new("use TABS").tag("rust").salience(0.2);
    let again = memory.remember(second.expires_at(soon(90))).await.unwrap();
    assert_eq!((again.id, again.merged), (ack.id, true));
    let note = memory.note(ack.id).await.unwrap();
    assert_eq!((&note.text[..], note.kind, &note.source[..]), ("Use tabs.", NoteKind::Preference, "user"));
    assert_eq!((note.seen, note.salience, note.sessions()), (2, 0.7, 0));
    assert_eq!((note.created_at, note.updated_at), (samples::time(0), samples::time(9)));
    assert_eq!(note.expires_at, Some(soon(90)));
    assert_eq!(note.tags.iter().collect::<Vec<_>>(), ["rust", "style"]);
    tell(&memory, "use tabs").await;
    assert_eq!(memory.note(ack.id).await.unwrap().expires_at, None, "one telling never expires");
    assert_eq!(stored(&memory).await.notes, 1);
    assert_eq!(recalled(&memory, "tabs").await, ["Use tabs."]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tellings_of_many_tasks_of_two_engines_all_count() {
    let store = InMemoryStore::new();
    let engines = [session_over(store.clone()).await.1, session_over(store).await.1];
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let memory = at(&engines[n % 2], &format!("acme/coder/s-{}", n / 2));
        tasks.spawn(async move {
            for _ in 0..10 {
                tell(&memory, "use tabs").await;
            }
        });
    }
    tasks.join_all().await;
    let note = of_agent(&engines[0], "use tabs").await.unwrap();
    assert_eq!((note.seen, note.sessions()), (80, 4));
    let own = listed(&at(&engines[0], "acme/coder/s-3")).await;
    assert_eq!((own.len(), own[0].seen), (1, 20));
}

#[tokio::test(start_paused = true)]
async fn a_telling_that_another_overtakes_is_told_again() {
    let store = faulty();
    let (_, memory) = session_over(Arc::clone(&store)).await;
    let gate = Gate::new();
    store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let slow = tokio::spawn({
        let memory = memory.clone();
        async move { tell(&memory, "use tabs").await }
    });
    gate.reached().await;
    assert!(!tell(&memory, "use tabs").await.merged);
    gate.open();
    assert!(slow.await.unwrap().merged);
    assert_eq!(of_agent(&memory, "use tabs").await.unwrap().seen, 2);
}

/// The answer is lost, the note is there. Telling it again may count one telling twice, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_telling_whose_answer_was_lost_can_be_told_again() {
    for (fault, seen) in [(Fault::Before(lost()), 1), (Fault::After(lost()), 2)] {
        let store = faulty();
        let (_, memory) = session_over(Arc::clone(&store)).await;
        store.script_next(Operation::Commit, fault);
        let error = memory.remember(NewNote::new("use tabs")).await.unwrap_err();
        assert!(error.to_string().starts_with("remember: unavailable"), "{error}");
        tell(&memory, "use tabs").await;
        let note = of_agent(&memory, "use tabs").await.unwrap();
        assert_eq!((note.seen, note.sessions()), (seen, 1));
        assert_eq!(listed(&memory).await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_note_without_a_vector_is_found_by_words_until_it_is_told_again() {
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let builder = Memory::builder().store(InMemoryStore::new()).embedder(Arc::clone(&embedder));
    let memory = builder.scope(samples::scope("acme/coder/s-1")).build().await.unwrap();
    embedder.script(EmbedderFault::Fail(lost()));
    let ack = tell(&memory, "use tabs").await;
    assert_eq!(ack.degraded.as_deref(), Some("unavailable: scripted"));
    assert!(all_notes(&memory).await.iter().all(|stored| stored.vector.is_none()));
    let found = memory.recall_notes("tabs", 1).await.unwrap();
    assert!(found.notes[0].parts.words > 0.0 && found.notes[0].parts.vector == 0.0 && found.degraded.is_none());
    assert_eq!(tell(&memory, "use tabs").await.degraded, None);
    assert!(all_notes(&memory).await.iter().all(|stored| stored.vector.is_some()), "of the session and of the agent");
    embedder.script(EmbedderFault::Fail(lost()));
    let found = memory.recall_notes("tabs", 1).await.unwrap();
    assert_eq!((found.notes.len(), found.degraded.as_deref()), (1, Some("unavailable: scripted")));
    embedder.script(EmbedderFault::Fail(lost()));
    assert_eq!(tell(&memory, "Use tabs!").await.degraded, None);
    assert!(all_notes(&memory).await.iter().all(|stored| stored.vector.is_some()), "the vector of the same text stays");

    embedder.script(EmbedderFault::Fail(lost()));
    assert!(tell(&memory, "run the linter").await.degraded.is_some());
    let ack = tell(&memory, "Run the linter!").await;
    assert_eq!(ack.degraded.as_deref(), Some("it was told before, without its vector"));
    let lacking = all_notes(&memory).await.iter().filter(|stored| stored.vector.is_none()).count();
    assert_eq!(lacking, 2, "it keeps its first spelling, of the session and of the agent");
}

#[tokio::test(start_paused = true)]
async fn notes_have_limits() {
    let memory = fresh().await;
    let text = |bytes: usize| "a".repeat(bytes);
    let note = || NewNote::new("use tabs");
    let tags = |count: usize| (0..count).fold(note(), |note, n| note.tag(format!("{n}")));
    for good in [
        NewNote::new("a"),
        NewNote::new(text(10_000)),
        tags(32),
        note().tag(text(64)),
        note().salience(0.0),
        note().salience(1.0),
        note().source(Source::trusted(text(128))),
        note().expires_at(soon(1)),
    ] {
        fresh().await.remember(good).await.unwrap();
    }
    let marked = mark_recalled("use tabs");
    let cases = [
        (NewNote::new(""), "note.text is blank; allowed: some words"),
        (NewNote::new(" \n"), "note.text is blank; allowed: some words"),
        (NewNote::new(text(10_001)), "note.text is 10001 bytes; allowed: up to 10000 bytes"),
        (NewNote::new(&marked), "note.text is nothing but recalled text; allowed: some words of its own"),
        (NewNote::new(format!(" {marked}\n{marked}")), "note.text is nothing but recalled text"),
        (tags(33), "note.tags is 33; allowed: 0..=32"),
        (note().tag(""), "note.tags: bytes of a tag is 0; allowed: 1..=64"),
        (note().tag(text(65)), "note.tags: bytes of a tag is 65; allowed: 1..=64"),
        (note().salience(1.1), "note.salience is 1.1; allowed: 0..=1"),
        (note().salience(-0.1), "note.salience is -0.1; allowed: 0..=1"),
        (note().salience(f64::NAN), "note.salience is NaN; allowed: 0..=1"),
        (note().source(Source::trusted("")), "note.source (bytes) is 0; allowed: 1..=128"),
        (note().source(Source::untrusted(text(129))), "note.source (bytes) is 129; allowed: 1..=128"),
        (note().expires_at(soon(0)), "note.expires_at is 2026-01-01 00:00:00 UTC; allowed: after now"),
    ];
    for (refused, message) in cases {
        let error = memory.remember(refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(message), "{error}, not {message}");
    }
    assert_eq!(stored(&memory).await.notes, 0);
    memory.remember(tags(32)).await.unwrap();
    let error = memory.remember(note().tag("one more")).await.unwrap_err();
    assert!(error.to_string().contains("note.tags, of all times it was told, is 33; allowed: 0..=32"), "{error}");
    for (k, message) in [(0, "k is 0; allowed: 1..=100"), (101, "k is 101; allowed: 1..=100")] {
        assert!(memory.recall_notes("tabs", k).await.unwrap_err().to_string().contains(message));
    }
    let error = memory.recall_notes(&text(10_001), 1).await.unwrap_err();
    assert!(error.to_string().contains("query is 10001 bytes; allowed: up to 10000 bytes"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn notes_are_listed_until_they_expire() {
    let (clock, memory) = session().await;
    for (text, salience) in [("one", 0.5), ("two", 0.9), ("three", 0.5), ("four", 0.1)] {
        memory.remember(NewNote::new(text).salience(salience)).await.unwrap();
        clock.advance(TimeDelta::seconds(1));
    }
    at(&memory, "acme/coder/s-2").remember(NewNote::new("of another session").salience(1.0)).await.unwrap();
    memory.remember(NewNote::new("expires").salience(1.0).expires_at(soon(10))).await.unwrap();
    let texts = async || {
        let notes = listed(&memory).await;
        notes.iter().map(|note| note.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(texts().await, ["expires", "two", "three", "one", "four"]);
    clock.set(soon(10));
    assert_eq!(texts().await, ["two", "three", "one", "four"]);
    tell(&memory, "one").await;
    assert_eq!(texts().await, ["two", "one", "three", "four"]);
    assert!(listed(&at(&memory, "acme/coder")).await.is_empty(), "candidates are no notes");
}

#[tokio::test(start_paused = true)]
async fn a_note_belongs_to_its_scope() {
    let (_, memory) = session().await;
    let id = tell(&memory, "use tabs").await.id;
    for scope in ["acme", "acme/coder", "acme/coder/s-2", "other"] {
        let other = at(&memory, scope);
        for error in [other.note(id).await.map(|_| ()).unwrap_err(), other.forget(id).await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(&format!("no note {id} in this scope")), "{error}");
        }
    }
    memory.forget(id).await.unwrap();
    assert_eq!(memory.forget(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(stored(&memory).await.notes, 0, "neither the note nor the candidate");
    assert!(recalled(&memory, "tabs").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn notes_are_scored_by_relevance_salience_and_recency() {
    let store = InMemoryStore::new();
    let (clock, memory) = session_over(store.clone()).await;
    let texts = ["deploy on Mondays", "deploy on Mondays only", "the cat is called Tom"];
    for text in texts {
        tell(&memory, text).await;
    }
    let check = |recalled: &RecalledNote| {
        let parts = &recalled.parts;
        let shares = [parts.words, parts.vector, parts.relevance, parts.salience, parts.recency];
        let mut all = shares.into_iter().chain([recalled.score]);
        assert!(all.all(|part| (0.0..=1.0).contains(&part)), "{recalled:?}");
        assert_eq!((parts.trace, parts.context, parts.evidence, parts.reranked), (0.0, 1.0, 1.0, None));
        assert!((0.9 * parts.words + 0.1 * parts.vector - parts.relevance).abs() < 1e-12, "{recalled:?}");
        let expected = parts.relevance * (1.0 - 0.1 - 0.2 + 0.1 * parts.recency + 0.2 * parts.salience);
        assert!((recalled.score - expected).abs() < 1e-12, "{recalled:?}");
    };
    let found = memory.recall_notes("deploy on Mondays", 100).await.unwrap().notes;
    found.iter().for_each(check);
    assert_eq!(found.iter().map(|recalled| &recalled.note.text[..]).collect::<Vec<_>>(), texts[..2]);
    assert!(found[0].parts.vector > 0.999 && found[0].parts.salience == 0.5 && found[0].parts.recency > 0.999_999);
    assert_eq!(memory.recall_notes("deploy on Mondays", 1).await.unwrap().notes.len(), 1);

    memory.remember(NewNote::new(texts[1]).salience(1.0)).await.unwrap();
    let salient = memory.recall_notes("deploy on Mondays only", 1).await.unwrap().notes.remove(0);
    check(&salient);
    assert_eq!((&salient.note.text[..], salient.parts.salience), (texts[1], 1.0));
    clock.advance(TimeDelta::days(90));
    let older = memory.recall_notes("deploy on Mondays only", 1).await.unwrap().notes.remove(0);
    check(&older);
    assert!((older.parts.recency - 0.5).abs() < 1e-6 && older.score < salient.score, "a half-life later: {older:?}");
    tell(&memory, texts[1]).await;
    let (_, behind) = session_over(store).await;
    let future = behind.recall_notes("deploy on Mondays only", 1).await.unwrap().notes.remove(0);
    assert_eq!(future.parts.recency, 1.0, "told by a process whose clock is ahead");
}

/// Salience and recency decide among notes that are about as relevant, however many of these there are.
#[tokio::test(start_paused = true)]
async fn the_best_are_found_among_many() {
    let memory = fresh().await;
    for n in 0..40_u32 {
        let note = NewNote::new(format!("deploy rule{n}")).salience(f64::from(n % 10) / 10.0);
        memory.remember(note).await.unwrap();
    }
    let all = memory.recall_notes_with("deploy", 100, &Profile::default()).await.unwrap().notes;
    assert_eq!(all.len(), 40);
    assert!(all.is_sorted_by(|a, b| a.score >= b.score));
    for k in [1, 4, 10] {
        assert_eq!(memory.recall_notes_with("deploy", k, &Profile::default()).await.unwrap().notes, all[..k]);
    }
    let relevance = |recalled: &RecalledNote| recalled.parts.relevance;
    assert!(!all.is_sorted_by(|a, b| relevance(a) >= relevance(b)), "salience decides as well");
}

#[tokio::test(start_paused = true)]
async fn recalling_reads_upward_only() {
    let (_, session) = session().await;
    let [agent, tenant, other, elsewhere] =
        ["acme/coder", "acme", "acme/coder/s-2", "acme/writer"].map(|scope| at(&session, scope));
    tell(&session, "rule of the session").await;
    tell(&agent, "rule of the agent").await;
    tell(&tenant, "rule of the tenant").await;
    tell(&elsewhere, "rule of another agent").await;
    let found = async |memory: &Memory| -> BTreeSet<String> { recalled(memory, "rule").await.into_iter().collect() };
    let set = |texts: &[&str]| texts.iter().map(|of| format!("rule of {of}")).collect::<BTreeSet<_>>();
    assert_eq!(found(&session).await, set(&["the session", "the agent", "the tenant"]));
    assert_eq!(found(&other).await, set(&["the agent", "the tenant"]));
    assert_eq!(found(&agent).await, set(&["the agent", "the tenant"]));
    assert_eq!(found(&tenant).await, set(&["the tenant"]));
    assert_eq!(found(&elsewhere).await, set(&["another agent", "the tenant"]));
    // A note of several scopes comes once.
    for memory in [&session, &agent, &tenant] {
        tell(memory, "one rule for all").await;
    }
    let texts = recalled(&session, "one rule for all").await;
    assert_eq!(texts.iter().filter(|text| *text == "one rule for all").count(), 1, "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_recollection_has_the_notes_too() {
    let (_, session) = session().await;
    tell(&session, "the login test needs a database").await;
    tell(&at(&session, "acme"), "the login page is frozen").await;
    session.record(worked("fix the login test", &["grep"])).await.unwrap();
    let task = Task::new("fix the login test");
    let found = session.recall(&task, 5).await.unwrap();
    assert_eq!((found.episodes.len(), found.notes.len()), (1, 2));
    assert_eq!(found.notes, session.recall_notes(&task.text, 5).await.unwrap().notes);
    assert_eq!(session.recall(&task, 1).await.unwrap().notes, found.notes[..1]);
    let open = session.start(task).await.unwrap();
    assert_eq!(open.recall(5).await.unwrap().notes, found.notes);
    let nothing = fresh().await.recall(&Task::new("fix"), 5).await.unwrap();
    assert!(nothing.notes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_expired_note_is_gone_before_it_is_deleted_and_after() {
    for delete_at_once in [false, true] {
        let (clock, memory) = session().await;
        let other = at(&memory, "other");
        let id = memory.remember(NewNote::new("use tabs").tag("old").expires_at(soon(10))).await.unwrap().id;
        other.remember(NewNote::new("use tabs").expires_at(soon(10))).await.unwrap();
        tell(&memory, "tabs stay").await;
        assert_eq!(stored(&memory).await.notes, 5, "two with their candidates");
        assert_eq!(memory.expire_notes().await.unwrap(), 0);
        assert_eq!(recalled(&memory, "use tabs").await.len(), 2);
        clock.set(soon(10));
        if delete_at_once {
            assert_eq!(memory.expire_notes().await.unwrap(), 3, "of all scopes, a candidate too");
            assert_eq!(stored(&memory).await.notes, 2);
            assert_eq!(memory.expire_notes().await.unwrap(), 0);
        }
        assert_eq!(recalled(&memory, "use tabs").await, ["tabs stay"]);
        assert_eq!(listed(&memory).await.len(), 1);
        assert_eq!(memory.note(id).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(memory.forget(id).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(of_agent(&memory, "use tabs").await.is_none());
        // Told again, it is a new note, whether the old one is deleted yet or not.
        assert!(!tell(&memory, "use tabs").await.merged);
        let note = memory.note(id).await.unwrap();
        assert_eq!((note.seen, note.tags.len(), note.expires_at), (1, 0, None));
        assert_eq!(of_agent(&memory, "use tabs").await.unwrap().seen, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn more_expired_notes_than_a_batch_holds_are_deleted() {
    let (clock, memory) = session().await;
    let memory = at(&memory, "acme");
    for n in 0..600 {
        memory.remember(NewNote::new(format!("note {n}")).expires_at(soon(1 + n % 2))).await.unwrap();
    }
    clock.set(soon(1));
    assert_eq!(memory.expire_notes().await.unwrap(), 300);
    clock.set(soon(2));
    assert_eq!(memory.expire_notes().await.unwrap(), 300);
    assert_eq!(stored(&memory).await.notes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_note_told_again_while_it_is_being_deleted_stays() {
    let store = faulty();
    let (clock, memory) = session_over(Arc::clone(&store)).await;
    let memory = at(&memory, "acme");
    memory.remember(NewNote::new("use tabs").expires_at(soon(1))).await.unwrap();
    memory.remember(NewNote::new("use spaces").expires_at(soon(1))).await.unwrap();
    clock.set(soon(1));
    let gate = Gate::new();
    store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let expiring = tokio::spawn({
        let memory = memory.clone();
        async move { memory.expire_notes().await }
    });
    gate.reached().await;
    tell(&memory, "use tabs").await;
    gate.open();
    assert_eq!(expiring.await.unwrap().unwrap(), 1);
    assert_eq!(recalled(&memory, "use").await, ["use tabs"]);
}

#[tokio::test(start_paused = true)]
async fn expired_notes_are_deleted_beside_the_callers_until_the_last_handle_goes() {
    let store = Arc::new(FaultyStore::new(InMemoryStore::new()));
    let (clock, session) = session_over(Arc::clone(&store)).await;
    let memory = at(&session, "acme");
    let minutes = async |minutes: u64| tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
    memory.remember(NewNote::new("use tabs").expires_at(soon(1))).await.unwrap();
    minutes(11).await;
    assert_eq!(stored(&memory).await.notes, 1, "it has not expired by the clock");
    clock.set(soon(1));
    assert_eq!(stored(&memory).await.notes, 1);
    let expiry = job(&memory, "expiry").await;
    assert_eq!((expiry.queue, expiry.last_error), (1, None));
    // One for the sweep, which runs every ten minutes as well.
    let scans = store.calls(Operation::Scan);
    for next in [1, 2] {
        store.script(Operation::Scan, scans + next, Fault::Before(lost()));
    }
    minutes(10).await;
    assert_eq!(stored(&memory).await.notes, 1, "the store failed");
    assert!(job(&memory, "expiry").await.last_error.is_some());
    minutes(1).await;
    assert_eq!(stored(&memory).await.notes, 0, "it is tried again, sooner");
    assert_eq!(job(&memory, "expiry").await.last_beat, Some(soon(1)));
    memory.remember(NewNote::new("use tabs").expires_at(soon(2))).await.unwrap();
    clock.set(soon(2));
    drop((memory, session));
    minutes(60).await;
    assert_eq!(store.health().await.unwrap().notes, 1, "nobody is there to delete it");
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_note_of_enough_sessions_becomes_one_of_the_agent() {
    let (clock, memory) = session().await;
    let agent = at(&memory, "acme/coder");
    let new = |session: usize| {
        let note = NewNote::new("use tabs").tag(format!("t{session}")).salience(0.2 * session as f64);
        note.expires_at(soon(100 + i64::try_from(session).unwrap()))
    };
    for (session, again) in [(1, 3), (2, 1)] {
        for _ in 0..again {
            at(&memory, &format!("acme/coder/s-{session}")).remember(new(session)).await.unwrap();
        }
        let note = of_agent(&memory, "use tabs").await.unwrap();
        assert_eq!((note.sessions(), note.status(3)), (session, Status::Candidate));
        assert!(recalled(&agent, "tabs").await.is_empty() && listed(&agent).await.is_empty());
        assert!(recalled(&at(&memory, "acme/coder/s-9"), "tabs").await.is_empty());
    }
    clock.set(soon(5));
    at(&memory, "acme/coder/s-3").remember(new(3)).await.unwrap();
    let note = of_agent(&memory, "use tabs").await.unwrap();
    assert_eq!((note.sessions(), note.status(3), note.seen), (3, Status::Active, 5));
    assert_eq!((note.tags.len(), note.expires_at), (3, Some(soon(103))), "the last of all expiries");
    assert!((note.salience - 0.6).abs() < 1e-12);
    assert_eq!((note.created_at, note.updated_at), (samples::time(0), soon(5)));
    assert_eq!(listed(&agent).await, [Arc::clone(&note)]);
    for scope in ["acme/coder", "acme/coder/s-9"] {
        assert_eq!(recalled(&at(&memory, scope), "tabs").await, ["use tabs"]);
    }
    assert!(recalled(&at(&memory, "acme"), "tabs").await.is_empty(), "it goes no higher");
    // The sessions' own notes expire first, what they told stays.
    clock.set(soon(102));
    memory.expire_notes().await.unwrap();
    assert!(listed(&at(&memory, "acme/coder/s-2")).await.is_empty());
    assert_eq!(of_agent(&memory, "use tabs").await.unwrap().sessions(), 3);
    tell(&at(&memory, "acme/coder/s-4"), "use tabs").await;
    assert_eq!(of_agent(&memory, "use tabs").await.unwrap().expires_at, None, "unless all had one");
}

#[tokio::test(start_paused = true)]
async fn sessions_of_different_agents_do_not_add_up() {
    let (_, memory) = session().await;
    for scope in ["acme/coder/s-1", "acme/coder/s-2", "acme/writer/s-3", "other/coder/s-4"] {
        tell(&at(&memory, scope), "use tabs").await;
    }
    assert_eq!(of_agent(&memory, "use tabs").await.unwrap().sessions(), 2);
    for scope in ["acme/coder", "acme/writer", "other/coder", "acme"] {
        assert!(listed(&at(&memory, scope)).await.is_empty(), "{scope}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_quorum_is_the_learners() {
    let store = InMemoryStore::new();
    let learner = Learner::default().with_quorum(1);
    let builder = Memory::builder().store(store.clone()).learner(learner).scope(samples::scope("acme/coder/s-1"));
    tell(&builder.build().await.unwrap(), "use tabs").await;
    for (quorum, found) in [(1, 1), (2, 0)] {
        let builder = Memory::builder().store(store.clone()).learner(Learner::default().with_quorum(quorum));
        let memory = builder.scope(samples::scope("acme/coder")).build().await.unwrap();
        assert_eq!(recalled(&memory, "tabs").await.len(), found, "quorum {quorum}");
    }
}

/// A stranger used to silence a note by repeating it: one untrusted telling made all of it untrusted.
#[tokio::test(start_paused = true)]
async fn what_untrusted_sources_tell_is_a_note_of_its_own() {
    let (clock, memory) = session().await;
    let memory = at(&memory, "acme");
    let web = memory.from_source(Source::untrusted("web")).unwrap();
    let told = memory.remember(NewNote::new("Use tabs").tag("style").salience(0.3).expires_at(soon(50))).await.unwrap();
    let before = memory.note(told.id).await.unwrap();
    assert_eq!((before.trust, &before.source[..]), (Trust::Trusted, "agent"));
    let tags = |note: NewNote| (0..32).fold(note, |note, n| note.tag(format!("{n}")));
    let ack = web.remember(tags(NewNote::new("use TABS.").salience(1.0))).await.unwrap();
    assert_eq!((ack.id, ack.merged), (NoteId::of(memory.scope(), Trust::Untrusted, "use tabs"), false));
    assert_eq!(memory.note(told.id).await.unwrap(), before, "nothing of it is the trusted note's");
    let quarantined = memory.note(ack.id).await.unwrap();
    assert_eq!((quarantined.trust, &quarantined.source[..], quarantined.seen), (Trust::Untrusted, "web", 1));
    assert!(web.remember(NewNote::new("use tabs")).await.unwrap().merged, "with what untrusted sources told");
    // The source of a note says more than that of the handle.
    let vouched = NewNote::new("use tabs").tag("rust").source(Source::trusted("user"));
    assert_eq!(web.remember(vouched).await.unwrap().id, told.id);
    let ack = memory.remember(NewNote::new("never push").source(Source::untrusted("mail"))).await.unwrap();
    assert_eq!(memory.note(ack.id).await.unwrap().trust, Trust::Untrusted);

    let texts: Vec<_> = listed(&memory).await.iter().map(|note| (note.text.clone(), note.trust)).collect();
    let expected = [("use TABS.", Trust::Untrusted), ("never push", Trust::Untrusted), ("Use tabs", Trust::Trusted)];
    assert_eq!(texts, expected.map(|(text, trust)| (text.to_owned(), trust)));
    for handle in [&memory, &web, &at(&web, "acme/coder")] {
        assert_eq!(recalled(handle, "never push, use tabs").await, ["Use tabs"]);
        let found = handle.recall(&Task::new("never push, use tabs"), 100).await.unwrap();
        assert_eq!(found.notes.iter().map(|one| one.note.id).collect::<Vec<_>>(), [told.id]);
    }
    memory.forget(ack.id).await.unwrap();
    assert_eq!(listed(&memory).await.len(), 2);
    clock.set(soon(50));
    memory.expire_notes().await.unwrap();
    assert!(memory.note(told.id).await.is_ok(), "told again by the user, who named no end");
    memory.forget(told.id).await.unwrap();
    assert!(recalled(&memory, "tabs").await.is_empty(), "the untrusted one does not take its place");
    assert_eq!(listed(&memory).await, [web.note(quarantined.id).await.unwrap()]);
    assert_eq!(web.note(quarantined.id).await.unwrap().seen, 2);
}

#[tokio::test(start_paused = true)]
async fn trusted_and_untrusted_sessions_count_apart() {
    let (_, memory) = session().await;
    let agent = at(&memory, "acme/coder");
    let in_session = |n: u32| at(&memory, &format!("acme/coder/s-{n}"));
    let forum = |n: u32| in_session(n).from_source(Source::untrusted("forum")).unwrap();
    for n in [1, 2] {
        tell(&in_session(n), "use tabs").await;
    }
    let untrusted = NoteId::of(agent.scope(), Trust::Untrusted, "use tabs");
    for n in 2..=5 {
        tell(&forum(n), "use tabs").await;
        let note = of_agent(&memory, "use tabs").await.unwrap();
        assert_eq!((note.sessions(), note.status(3), note.seen), (2, Status::Candidate, 2));
        let sessions = agent.note(untrusted).await.unwrap().sessions();
        assert_eq!(u32::try_from(sessions).unwrap(), n - 1);
        assert!(recalled(&agent, "tabs").await.is_empty() && recalled(&forum(9), "tabs").await.is_empty());
    }
    assert_eq!(listed(&agent).await, [agent.note(untrusted).await.unwrap()], "enough sessions, and still untrusted");
    tell(&agent.from_source(Source::untrusted("forum")).unwrap(), "use tabs").await;
    assert!(recalled(&agent, "tabs").await.is_empty(), "told to the agent itself, and still untrusted");
    tell(&in_session(3), "use tabs").await;
    assert_eq!(recalled(&agent, "tabs").await, ["use tabs"]);
    // A session that heard it from both forgets one.
    let of_session = in_session(3);
    of_session.forget(NoteId::of(of_session.scope(), Trust::Untrusted, "use tabs")).await.unwrap();
    assert_eq!(agent.note(untrusted).await.unwrap().sessions(), 3);
    assert_eq!(of_agent(&memory, "use tabs").await.unwrap().sessions(), 3);
    of_session.forget(id_of(&of_session, "use tabs")).await.unwrap();
    assert_eq!(agent.note(untrusted).await.unwrap().sessions(), 3);
    assert_eq!(of_agent(&memory, "use tabs").await.unwrap().sessions(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_untrusted_notes_neither_come_up_nor_crowd_out_a_trusted_one() {
    let (_, memory) = session().await;
    let query = "how to deploy the shop";
    let forum = memory.from_source(Source::untrusted("forum")).unwrap();
    for scope in ["acme/coder/s-1", "acme/coder", "acme"] {
        for n in 0..100 {
            let note = NewNote::new(format!("{query}: run script number{n}")).salience(1.0);
            at(&forum, scope).remember(note).await.unwrap();
        }
    }
    assert!(recalled(&memory, query).await.is_empty());
    let rule = "deploy with the script of the team, never on Fridays";
    let id = memory.remember(NewNote::new(rule).salience(0.1)).await.unwrap().id;
    for n in 100..300 {
        tell(&forum, &format!("{query}: run script number{n}")).await;
    }
    for k in [1, 5, 100] {
        let task = Task::new(query);
        let open = memory.start(task.clone()).await.unwrap();
        for notes in [
            memory.recall_notes(query, k).await.unwrap().notes,
            memory.recall(&task, k).await.unwrap().notes,
            open.recall(k).await.unwrap().notes,
        ] {
            assert_eq!(notes.iter().map(|one| one.note.id).collect::<Vec<_>>(), [id], "k = {k}");
            assert!(notes[0].parts.words > 0.0);
        }
    }
    assert_eq!(listed(&memory).await.len(), 301, "of this session, all of them kept");
}

#[tokio::test(start_paused = true)]
async fn forgetting_a_sessions_note_takes_its_evidence_away() {
    let (_, memory) = session().await;
    let agent = at(&memory, "acme/coder");
    let sessions = [1, 2, 3].map(|session| at(&memory, &format!("acme/coder/s-{session}")));
    sessions[0].remember(NewNote::new("Use tabs").tag("x").salience(0.9)).await.unwrap();
    for session in &sessions[1..] {
        tell(session, "use tabs").await;
    }
    let status = async || of_agent(&memory, "use tabs").await.map(|note| (note.sessions(), note.status(3)));
    assert_eq!(status().await, Some((3, Status::Active)));
    sessions[0].forget(id_of(&sessions[0], "use tabs")).await.unwrap();
    assert_eq!(status().await, Some((2, Status::Candidate)));
    assert!(recalled(&agent, "tabs").await.is_empty());
    let left = of_agent(&memory, "use tabs").await.unwrap();
    assert_eq!((&left.text[..], left.tags.len(), left.salience, left.seen), ("use tabs", 0, 0.5, 2));
    assert!(all_notes(&memory).await.iter().all(|stored| stored.vector.is_some()));
    // Told by the agent itself it needs no sessions.
    tell(&agent, "use tabs").await;
    assert_eq!(status().await, Some((2, Status::Active)));
    for session in &sessions[1..] {
        session.forget(id_of(session, "use tabs")).await.unwrap();
    }
    assert_eq!(status().await, Some((0, Status::Active)));
    // The agent's own note goes as a whole, those of its sessions stay.
    tell(&sessions[0], "use tabs").await;
    agent.forget(id_of(&agent, "use tabs")).await.unwrap();
    assert_eq!((status().await, listed(&sessions[0]).await.len()), (None, 1));
    sessions[0].forget(id_of(&sessions[0], "use tabs")).await.unwrap();
    assert_eq!(stored(&memory).await.notes, 0);
}

#[tokio::test(start_paused = true)]
async fn what_another_session_tells_while_one_forgets_is_kept() {
    let store = faulty();
    let (_, memory) = session_over(Arc::clone(&store)).await;
    for first in [true, false] {
        let id = tell(&memory, "use tabs").await.id;
        if first {
            // The agent's note is gone when the other session's telling comes.
            let agent = at(&memory, "acme/coder");
            agent.forget(id_of(&agent, "use tabs")).await.unwrap();
        }
        let gate = Gate::new();
        store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
        let forgetting = tokio::spawn({
            let memory = memory.clone();
            async move { memory.forget(id).await }
        });
        gate.reached().await;
        let other = at(&memory, "acme/coder/s-2");
        tell(&other, "use tabs").await;
        gate.open();
        forgetting.await.unwrap().unwrap();
        let note = of_agent(&memory, "use tabs").await.unwrap();
        assert_eq!(note.tellings.keys().collect::<Vec<_>>(), ["s-2"]);
        other.forget(id_of(&other, "use tabs")).await.unwrap();
        assert_eq!(stored(&memory).await.notes, 0);
    }
}

/// Whatever the order in which sessions tell and forget, the agent's note is that of what was told and not forgotten.
#[tokio::test(start_paused = true)]
async fn the_agents_note_does_not_depend_on_the_path() {
    let tell = |session: u32, text: &'static str, salience: f64, tag: &'static str| (session, text, salience, tag);
    let told = [
        tell(1, "use tabs", 0.1, "a"),
        tell(2, "Use tabs.", 0.8, "b"),
        tell(3, "USE tabs", 0.3, "c"),
        tell(2, "use tabs!", 0.4, "d"),
    ];
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]];
    for forgotten in [None, Some(2_u32)] {
        let mut outcomes = Vec::new();
        for (place, order) in orders.into_iter().enumerate() {
            let (_, memory) = session().await;
            let session = |n: u32| at(&memory, &format!("acme/coder/s-{n}"));
            // With the extra telling of a session that is forgotten, before, between or after the others.
            let detour = [0, 2, 4, 1][place];
            for step in 0..=4 {
                if step == detour && forgotten.is_some() {
                    let memory = session(9);
                    let id = memory.remember(NewNote::new("use TABS").salience(1.0).tag("z")).await.unwrap().id;
                    memory.forget(id).await.unwrap();
                }
                let Some((n, text, salience, tag)) = order.get(step).map(|index| told[*index]) else { continue };
                session(n).remember(NewNote::new(text).salience(salience).tag(tag)).await.unwrap();
            }
            if let Some(n) = forgotten {
                session(n).forget(id_of(&session(n), "use tabs")).await.unwrap();
            }
            let note = of_agent(&memory, "use tabs").await.unwrap();
            let sessions: Vec<String> = note.tellings.keys().cloned().collect();
            outcomes.push((note.seen, note.tags.clone(), note.salience, sessions, note.status(3)));
        }
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:#?}");
    }
}

/// Everything stored that knowledge is made of, without what is the text's own.
async fn known(memory: &Memory) -> (Vec<StoredNote>, Vec<memory_core::Pattern>) {
    (all_notes(memory).await, memory.patterns().await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_the_memory_supplied_is_not_learned_again() {
    let teach = async |told: &str| {
        let memory = fresh().await;
        memory.remember(NewNote::new(format!("use tabs{told}"))).await.unwrap();
        let step = Step::new("test").error(format!("{told}no database{told}"));
        let recording = Recording::new(Task::new(format!("fix the login test{told}")), Outcome::failure(""));
        let id = memory.record(recording.step(step)).await.unwrap().episode;
        (memory, id)
    };
    let marked = mark_recalled("walrus: use the offline database, exit code 7");
    let ((plain, plain_id), (told, told_id)) = (teach("").await, teach(&marked).await);
    assert_eq!(known(&told).await, known(&plain).await);
    // The episode keeps what it was; its vector and its words are those of its own text.
    let episode = told.episode(told_id).await.unwrap();
    assert!(episode.task.text.ends_with(&marked) && episode.steps[0].observation.contains(&marked));
    let vector = async |memory: &Memory, id| memory.store().get_episode(id).await.unwrap().unwrap().vector;
    assert_eq!(vector(&told, told_id).await, vector(&plain, plain_id).await);
    let by_words = told.recall(&Task::new("walrus offline"), 5).await.unwrap();
    assert!(by_words.episodes.iter().all(|one| one.parts.words == 0.0), "{by_words:?}");
    assert!(by_words.notes.iter().all(|one| one.parts.words == 0.0), "{by_words:?}");
    // Nor does it ask for anything.
    for query in ["fix the login test", "use tabs"] {
        let with = Task::new(format!("{marked}{query}"));
        let [a, b] = [told.recall(&with, 5).await.unwrap(), told.recall(&Task::new(query), 5).await.unwrap()];
        let same = |found: &memory_core::Recollection| {
            let episodes: Vec<_> =
                found.episodes.iter().map(|one| (one.episode.id, one.parts.words, one.parts.vector)).collect();
            let notes: Vec<_> =
                found.notes.iter().map(|one| (one.note.id, one.parts.words, one.parts.vector)).collect();
            (episodes, notes, found.pitfalls.clone(), found.degraded.clone())
        };
        assert_eq!(same(&a), same(&b));
        assert_eq!(told.suggest(&with, &[], 5).await.unwrap(), told.suggest(&Task::new(query), &[], 5).await.unwrap());
        assert_eq!(told.predict(&with, &[]).await.unwrap(), told.predict(&Task::new(query), &[]).await.unwrap());
    }
    let nothing = told.recall(&Task::new(mark_recalled("fix the login test")), 5).await.unwrap();
    assert!(nothing.episodes.is_empty() && nothing.notes.is_empty() && nothing.degraded.is_none());
}

#[tokio::test(start_paused = true)]
async fn telling_the_memory_its_own_recollection_changes_nothing() {
    let memory = fresh().await;
    tell(&memory, "use tabs").await;
    tell(&memory, "deploy on Mondays").await;
    let before = known(&memory).await;
    for recalled in memory.recall_notes("use tabs, deploy on Mondays", 5).await.unwrap().notes {
        let own = NewNote::new(mark_recalled(&recalled.note.text));
        assert_eq!(memory.remember(own).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(known(&memory).await, before);
    // An episode about nothing else is kept, and is like no other. Its vector is not missing.
    let text = mark_recalled("use tabs");
    let id = samples::episode_id(1);
    for _ in 0..2 {
        let ack = memory.record(Recording::new(Task::new(&text), Outcome::success("")).id(id)).await.unwrap();
        assert_eq!(ack.degraded, None);
    }
    assert_eq!(memory.store().get_episode(id).await.unwrap().unwrap().vector, None);
    assert!(memory.recall(&Task::new("use tabs"), 5).await.unwrap().episodes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn notes_are_in_the_change_feed() {
    let (_, memory) = session().await;
    let id = tell(&memory, "use tabs").await.id;
    let feed = async || memory.store().changes(memory_core::Version(0), 100).await.unwrap().entries;
    let of = |id| move |entry: &&memory_core::FeedEntry| entry.key == Key::Note(id);
    assert!(feed().await.iter().find(of(id)).is_some_and(|entry| !entry.deleted));
    assert!(feed().await.iter().any(|entry| entry.key.kind() == RecordKind::Note && entry.key != Key::Note(id)));
    memory.forget(id).await.unwrap();
    assert!(feed().await.iter().find(of(id)).is_some_and(|entry| entry.deleted));
}

#[tokio::test(start_paused = true)]
async fn a_note_in_the_store_is_what_it_was_told() {
    let memory = over(InMemoryStore::new()).await;
    let ack = tell(&memory, "use tabs").await;
    let stored = memory.store().get_one(Key::Note(ack.id)).await.unwrap();
    let Some(Stored { record: Record::Note(StoredNote { note, vector }), .. }) = stored else { panic!("{stored:?}") };
    assert_eq!((note.here().unwrap().seen, note.tellings.len()), (1, 1));
    assert!(vector.is_some());
    assert_eq!(note, memory.note(ack.id).await.unwrap());
}
