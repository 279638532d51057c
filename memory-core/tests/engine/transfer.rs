//! Export and import: what travels, what arrives, and what is refused.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use chrono::TimeDelta;
use memory_core::testkit::{EmbedderFault, Fault, FaultyEmbedder, Gate, Operation, samples};
use memory_core::{
    EpisodeId, ErrorKind, HashEmbedder, ImportOptions, InMemoryStore, LoggedEpisode, Memory, MemoryStoreExt, NewNote,
    NoteId, NoteKind, Outcome, Place, Record, RecordKind, Recording, Result, Scan, Source, Step, Task, Transferred,
    Trust,
};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, timeout};

use crate::notes::{all_notes, at, id_of, recalled, session, tell};
use crate::{clock, engine, faulty, fresh, lost, opened, record_all, stored};

async fn exported(memory: &Memory) -> String {
    let mut file = Vec::new();
    memory.export(&mut file).await.unwrap();
    String::from_utf8(file).unwrap()
}

async fn exported_all(memory: &Memory) -> String {
    let mut file = Vec::new();
    memory.export_all(&mut file).await.unwrap();
    String::from_utf8(file).unwrap()
}

async fn import(memory: &Memory, file: &str) -> Result<Transferred> {
    memory.import(file.as_bytes(), &ImportOptions::new()).await
}

async fn import_all(memory: &Memory, file: &str) -> Result<Transferred> {
    memory.import_all(file.as_bytes(), &ImportOptions::new()).await
}

async fn refused(memory: &Memory, file: impl AsRef<[u8]>) -> (ErrorKind, String) {
    let error = memory.import(file.as_ref(), &ImportOptions::new()).await.unwrap_err();
    (error.kind(), error.to_string())
}

/// All completed episodes with their vectors, by id.
async fn episodes(memory: &Memory) -> Vec<LoggedEpisode> {
    let stored = memory.store().scan_all(Scan::new(RecordKind::Episode)).await.unwrap();
    let mut episodes: Vec<LoggedEpisode> = stored
        .into_iter()
        .filter_map(|stored| match stored.record {
            Record::Episode(logged) => Some(logged),
            _ => None,
        })
        .collect();
    episodes.sort_by_key(|logged| logged.episode.id);
    episodes
}

/// A recording with the id of this number and a moment of its own.
fn numbered(n: u32) -> Recording {
    Recording::from(&samples::episode(n, &format!("make test {n} pass")))
}

/// A memory of the default scope with this many episodes and two notes.
async fn with_episodes(count: u32) -> Memory {
    let memory = fresh().await;
    record_all(&memory, (1..=count).map(numbered)).await;
    tell(&memory, "use tabs").await;
    tell(&memory, "deploy on Mondays").await;
    memory
}

fn lines(file: &str) -> Vec<String> {
    file.lines().map(str::to_owned).collect()
}

/// The file of these lines.
fn file(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_whole_store_arrives_as_it_was() {
    let (clock, memory) = session().await;
    for (n, text) in (1..).zip(samples::awkward_texts()) {
        let scope = at(&memory, ["acme", "acme/coder", "acme/coder/s-1", "other"][n as usize % 4]);
        let mut episode = samples::episode_full_of(n, &text);
        let name = |text: &str| if (1..=60).contains(&text.len()) { text.to_owned() } else { "name".to_owned() };
        episode.task =
            Task::new(if text.trim().is_empty() { "task" } else { &text }).tag(name(&text)).domain(name(&text));
        episode.steps.iter_mut().for_each(|step| step.tool = name(&text));
        episode.outcome.artifacts.iter_mut().for_each(|artifact| artifact.name = name(&text));
        episode.completed_at += TimeDelta::nanoseconds(123_456_789);
        (episode.outcome.reward, episode.source) = (Some(0.1 + f64::from(n) / 977.0), Source::untrusted(name(&text)));
        let text = text.trim();
        let mut recording = Recording::from(&episode);
        recording.receipt = Some(memory_core::Receipt::default());
        scope.record(recording).await.unwrap();
        if !text.is_empty() {
            scope.remember(NewNote::new(text).tag(name(text)).salience(f64::from(n) / 977.0)).await.unwrap();
        }
        clock.advance(TimeDelta::milliseconds(1_001));
    }
    for session in ["s-1", "s-2", "s-3"] {
        tell(&at(&memory, &format!("acme/coder/{session}")), "run the linter").await;
    }
    let thread = at(&memory, "acme/coder/s-2");
    for n in 0..70 {
        let place = Place::new("chat", n);
        let place = if n % 2 == 0 { place.at(samples::time(i64::from(n))) } else { place };
        thread.remember(NewNote::new("yes").place(place)).await.unwrap();
    }
    let file = exported_all(&memory).await;
    let (_, other) = session().await;
    let told = import_all(&other, &file).await.unwrap();
    assert_eq!(episodes(&other).await, episodes(&memory).await);
    assert_eq!(all_notes(&other).await, all_notes(&memory).await);
    let (episodes, notes) = (stored(&memory).await.episodes, stored(&memory).await.notes);
    assert_eq!((told.episodes, told.notes, told.lines), (episodes, notes, episodes + notes + 2));
    assert_eq!((told.merged, told.skipped, told.conflicting, told.without_vector), (0, 0, 0, 0));
    for scope in ["acme", "acme/coder", "acme/coder/s-1", "other"] {
        let (one, other) = (at(&memory, scope), at(&other, scope));
        assert_eq!(one.patterns().await.unwrap(), other.patterns().await.unwrap());
        assert_eq!(recalled(&one, "linter yes json").await, recalled(&other, "linter yes json").await);
    }
    assert_eq!(exported_all(&other).await.lines().count(), file.lines().count());
    let again = import_all(&other, &file).await.unwrap();
    assert_eq!((again.episodes, again.notes, again.merged, again.skipped), (0, 0, 0, episodes + notes));
}

#[tokio::test(start_paused = true)]
async fn an_export_is_of_one_scope_and_goes_into_another() {
    let (_, memory) = session().await;
    let [agent, other] = ["acme/coder", "acme/tester"].map(|scope| at(&memory, scope));
    record_all(&agent, [numbered(1), numbered(2)]).await;
    record_all(&other, [numbered(3)]).await;
    tell(&agent, "use tabs").await;
    tell(&other, "use spaces").await;
    tell(&memory, "run the linter").await;
    let file = exported(&agent).await;
    assert_eq!(file.lines().count(), 6, "with the agent's candidate of the session's note:\n{file}");
    assert!(file.contains("use tabs") && file.contains("run the linter") && !file.contains("use spaces"));

    let fresh = fresh().await;
    let target = at(&fresh, "emca/robot");
    let told = import(&target, &file).await.unwrap();
    assert_eq!((told.lines, told.episodes, told.notes), (6, 2, 2));
    assert_eq!(target.episode(samples::episode_id(1)).await.unwrap().scope, *target.scope());
    let tabs = target.note(id_of(&target, "use tabs")).await.unwrap();
    assert_eq!((tabs.id, &tabs.scope), (NoteId::of(target.scope(), Trust::Trusted, "use tabs"), target.scope()));
    let candidate = target.note(id_of(&target, "run the linter")).await.unwrap();
    assert_eq!((candidate.sessions(), candidate.here()), (1, None));
    assert_eq!(import(&target, &file).await.unwrap().skipped, 4);

    // The evidence of sessions has a meaning in an agent's scope only.
    for scope in ["emca", "emca/robot/s-1"] {
        let (kind, told) = refused(&at(&fresh, scope), &file).await;
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(told.contains("note.tellings[\"s-1\"]: scope.session is "), "{told}");
    }
    // The same store cannot have the episodes twice.
    let (kind, told) = refused(&other, &file).await;
    assert_eq!(kind, ErrorKind::AlreadyExists);
    assert_eq!(
        told,
        format!(
            "import: already exists: line 2: another episode has the id {}; nothing is imported",
            samples::episode_id(1)
        )
    );
    let (kind, _) = refused(&other, exported_all(&memory).await).await;
    assert_eq!(kind, ErrorKind::Invalid, "all scopes do not fit into one");
}

#[tokio::test(start_paused = true)]
async fn only_what_cannot_be_derived_travels() {
    let memory = with_episodes(3).await;
    let mut open = opened(&memory).await;
    open.step(Step::new("a tool of an open episode")).await.unwrap();
    memory.project().await.unwrap();
    assert!(stored(&memory).await.patterns > 0);
    let file = exported(&memory).await;
    let kinds: Vec<&str> = file.lines().map(|line| line.split('"').nth(1).unwrap()).collect();
    assert_eq!(kinds, ["format", "episode", "episode", "episode", "note", "note", "end"]);
    assert!(!file.contains("a tool of an open episode"));

    let other = fresh().await;
    import(&other, &file).await.unwrap();
    assert_eq!((stored(&other).await.open_episodes, stored(&other).await.patterns), (0, 0));
    assert_eq!(other.health().await.unwrap().episodes_behind, 3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(other.health().await.unwrap().episodes_behind, 0, "by itself");
    assert_eq!(other.patterns().await.unwrap(), memory.patterns().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_stays_behind() {
    let (clock, memory) = session().await;
    let memory = at(&memory, "acme");
    for (text, seconds) in [("use tabs", 10), ("use spaces", 100)] {
        memory.remember(NewNote::new(text).expires_at(samples::time(seconds))).await.unwrap();
    }
    let early = exported(&memory).await;
    clock.advance(TimeDelta::seconds(50));
    let late = exported(&memory).await;
    assert_eq!((early.lines().count(), late.lines().count()), (4, 3));

    let (clock, other) = session().await;
    let other = at(&other, "acme");
    clock.advance(TimeDelta::seconds(50));
    let told = import(&other, &early).await.unwrap();
    assert_eq!((told.notes, told.skipped, stored(&other).await.notes), (1, 1, 1));
    // One that has expired here is as good as deleted.
    clock.advance(TimeDelta::seconds(100));
    let (_, later) = session().await;
    at(&later, "acme").remember(NewNote::new("use spaces")).await.unwrap();
    let told = import(&other, &exported(&at(&later, "acme")).await).await.unwrap();
    assert_eq!((told.notes, told.merged), (1, 0));
    assert_eq!(other.note(id_of(&other, "use spaces")).await.unwrap().expires_at, None);
}

#[tokio::test(start_paused = true)]
async fn notes_merge_by_their_tellings_and_count_nothing_twice() {
    let (clock, one) = session().await;
    let (other_clock, other) = session().await;
    let [a, b] = [&one, &other].map(|memory| at(memory, "acme"));
    a.remember(NewNote::new("Use tabs").tag("a").salience(0.2).expires_at(samples::time(500))).await.unwrap();
    tell(&a, "use tabs").await;
    other_clock.advance(TimeDelta::seconds(5));
    for _ in 0..3 {
        b.remember(NewNote::new("use  tabs.").tag("b").kind(NoteKind::Preference).expires_at(samples::time(900)))
            .await
            .unwrap();
    }
    for memory in [&one, &other] {
        tell(&at(memory, "acme/coder/s-1"), "run the linter").await;
    }
    tell(&at(&other, "acme/coder/s-2"), "run the linter").await;
    let (from_one, from_other) = (exported_all(&one).await, exported_all(&other).await);
    let told = import_all(&one, &from_other).await.unwrap();
    assert_eq!((told.notes, told.merged, told.skipped), (1, 3, 0), "{told:?}");
    let note = a.note(id_of(&a, "use tabs")).await.unwrap();
    assert_eq!((&note.text[..], note.seen, note.salience, note.kind), ("Use tabs", 3, 0.5, NoteKind::Fact));
    assert_eq!(note.tags.iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((note.created_at, note.expires_at), (samples::time(0), None), "one that never expires is among them");
    let agent = at(&one, "acme/coder");
    let linter = agent.note(id_of(&agent, "run the linter")).await.unwrap();
    assert_eq!((linter.sessions(), linter.seen), (2, 2));
    // The same both ways, and however often.
    import_all(&other, &from_one).await.unwrap();
    assert_eq!(all_notes(&one).await, all_notes(&other).await);
    for file in [&from_one, &from_other, &exported_all(&other).await] {
        let again = import_all(&one, file).await.unwrap();
        assert_eq!((again.notes, again.merged), (0, 0));
    }
    assert_eq!(all_notes(&one).await, all_notes(&other).await);
    drop(clock);
}

#[tokio::test(start_paused = true)]
async fn a_place_takes_no_other_text() {
    let [one, other] = [fresh().await, fresh().await];
    one.remember(NewNote::new("yes").place(Place::new("chat", 1).at(samples::time(9)))).await.unwrap();
    other.remember(NewNote::new("Yes!").place(Place::new("chat", 1).at(samples::time(7)))).await.unwrap();
    let told = import(&one, &exported(&other).await).await.unwrap();
    assert_eq!(told.merged, 1);
    let place = Place::new("chat", 1);
    let id = NoteId::at(one.scope(), Trust::Trusted, &place);
    assert_eq!(one.note(id).await.unwrap().place, Some(place.clone().at(samples::time(7))));
    let third = fresh().await;
    third.remember(NewNote::new("no").place(place)).await.unwrap();
    record_all(&third, [numbered(1)]).await;
    let file = exported(&third).await;
    let (kind, told) = refused(&one, &file).await;
    assert_eq!(kind, ErrorKind::AlreadyExists);
    assert_eq!(
        told,
        "import: already exists: line 3: another text has position 1 of thread \"chat\"; nothing is imported"
    );
    assert_eq!(stored(&one).await.episodes, 0, "the batch is written as a whole");
    let told = one.import(file.as_bytes(), &ImportOptions::new().keep_stored()).await.unwrap();
    assert_eq!((told.episodes, told.conflicting, told.conflicts[0].line), (1, 1, 3));
    assert_eq!(one.note(id).await.unwrap().text, "Yes!", "the first of one moment, of the smaller text");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_ends_the_import_or_is_left_out() {
    let [one, other] = [fresh().await, fresh().await];
    record_all(&one, [numbered(1), numbered(2)]).await;
    let mut changed = numbered(2);
    changed.outcome.summary.push('!');
    record_all(&other, [numbered(1), changed, numbered(3)]).await;
    let file = exported(&other).await;
    let before = episodes(&one).await;
    let (kind, told) = refused(&one, &file).await;
    assert_eq!((kind, told.contains("line 3: another episode has the id")), (ErrorKind::AlreadyExists, true), "{told}");
    assert_eq!(episodes(&one).await, before);
    let told = one.import(file.as_bytes(), &ImportOptions::new().keep_stored()).await.unwrap();
    assert_eq!((told.episodes, told.skipped, told.conflicting), (1, 1, 1));
    assert_eq!(
        (told.conflicts[0].line, &told.conflicts[0].what),
        (3, &format!("another episode has the id {}", samples::episode_id(2)))
    );
    assert_eq!(one.episode(samples::episode_id(2)).await.unwrap().outcome.summary, "done");

    // An open episode has its id for itself.
    let open = opened(&one).await;
    let lines = lines(&file);
    let line = lines[1].replace(&samples::episode_id(1).to_string(), &open.id().to_string());
    let end = r#"{"end":{"episodes":1,"notes":0}}"#.to_owned();
    let (kind, told) = refused(&one, self::file(&[lines[0].clone(), line, end])).await;
    assert_eq!((kind, told.contains("line 2: an open episode has the id")), (ErrorKind::AlreadyExists, true), "{told}");

    // Within a file.
    let end = r#"{"end":{"episodes":2,"notes":0}}"#.to_owned();
    let twice = self::file(&[lines[0].clone(), lines[3].clone(), lines[3].clone(), end.clone()]);
    let told = import(&fresh().await, &twice).await.unwrap();
    assert_eq!((told.episodes, told.skipped), (1, 1));
    let differing = self::file(&[lines[0].clone(), lines[3].clone(), lines[3].replace("done", "undone"), end]);
    let (kind, told) = refused(&fresh().await, &differing).await;
    assert_eq!((kind, told.contains("line 3: ")), (ErrorKind::AlreadyExists, true), "{told}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_trusted_more_than_who_imports() {
    let memory = fresh().await;
    record_all(&memory, (0..6).map(|n| numbered(n).source(Source::trusted("colleague")))).await;
    let untrusted = memory.from_source(Source::untrusted("forum")).unwrap();
    tell(&memory, "use tabs").await;
    tell(&untrusted, "use tabs").await;
    tell(&untrusted, "use spaces").await;
    let file = exported(&memory).await;

    let other = fresh().await;
    import(&other, &file).await.unwrap();
    assert_eq!(episodes(&other).await, episodes(&memory).await);
    assert_eq!(all_notes(&other).await, all_notes(&memory).await);

    let other = fresh().await;
    let guarded = other.from_source(Source::untrusted("import")).unwrap();
    let told = import(&guarded, &file).await.unwrap();
    assert_eq!((told.episodes, told.notes, told.merged), (6, 2, 1), "both notes of one text are untrusted now");
    assert!(episodes(&other).await.iter().all(|logged| logged.episode.source == Source::untrusted("colleague")));
    assert!(all_notes(&other).await.iter().all(|stored| stored.note.trust == Trust::Untrusted));
    assert!(recalled(&other, "use tabs").await.is_empty());
    assert!(other.suggest(&Task::new("make test 1 pass"), &[], 1).await.unwrap().is_empty());
    assert!(!other.quarantined().await.unwrap().is_empty());
    assert_eq!(import(&guarded, &file).await.unwrap().skipped, 9);

    let other = fresh().await;
    let options = ImportOptions::new().source(Source::untrusted("a colleague"));
    let told = other.import(file.as_bytes(), &options).await.unwrap();
    assert_eq!((told.episodes, told.notes, told.merged), (6, 2, 1));
    assert!(episodes(&other).await.iter().all(|logged| logged.episode.source == Source::untrusted("a colleague")));
    let notes = all_notes(&other).await;
    assert!(notes.iter().all(|stored| stored.note.trust == Trust::Untrusted && stored.note.source == "a colleague"));
    let vouched = ImportOptions::new().source(Source::trusted("me"));
    let told = other.import(file.as_bytes(), &vouched).await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::AlreadyExists, "who tells it is part of an episode");
    let told = fresh().await.import(file.as_bytes(), &vouched).await.unwrap();
    assert_eq!((told.episodes, told.notes, told.merged), (6, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn vectors_are_taken_over_or_made_again() {
    let memory = with_episodes(100).await;
    let file = exported(&memory).await;
    let with = async |embedder| {
        let embedder = Arc::new(FaultyEmbedder::new(embedder));
        let builder = Memory::builder().store(InMemoryStore::new()).embedder(Arc::clone(&embedder)).clock(clock());
        (builder.build().await.unwrap(), embedder)
    };
    let (same, embedder) = with(HashEmbedder::new()).await;
    import(&same, &file).await.unwrap();
    assert_eq!((embedder.calls(), episodes(&same).await == episodes(&memory).await), (0, true));

    // Without vectors in the file, or of another space, they are the same as if it had been told here.
    let bare: String = file.lines().map(|line| format!("{}\n", without_vector(line))).collect();
    let other_space = file.replacen("\"revision\":\"", "\"revision\":\"other ", 1);
    assert_ne!(other_space, file);
    for file in [bare, other_space.clone()] {
        let (memory, embedder) = with(HashEmbedder::new()).await;
        let told = import(&memory, &file).await.unwrap();
        assert_eq!((told.episodes, told.notes, told.without_vector, told.degraded), (100, 2, 0, None));
        assert_eq!(embedder.calls(), 2, "64 texts in a call");
        assert_eq!(episodes(&memory).await, episodes(&same).await);
        assert_eq!(all_notes(&memory).await, all_notes(&same).await);
        assert_eq!(import(&memory, &file).await.unwrap().skipped, 102);
        assert_eq!(embedder.calls(), 2, "what is skipped is not embedded");
    }

    let (memory, embedder) = with(HashEmbedder::new()).await;
    embedder.script(EmbedderFault::Fail(lost()));
    let told = import(&memory, &other_space).await.unwrap();
    assert_eq!(
        (told.episodes, told.without_vector, told.degraded.as_deref()),
        (100, 64, Some("unavailable: scripted"))
    );
    assert_eq!(
        episodes(&memory).await.iter().filter(|logged| logged.vector.is_none()).count()
            + all_notes(&memory).await.iter().filter(|stored| stored.vector.is_none()).count(),
        64
    );
}

/// A line without its vector.
fn without_vector(line: &str) -> String {
    match line.rsplit_once(",\"vector\":") {
        Some((start, _)) => format!("{start}}}"),
        None => line.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_file_is_refused_with_its_line() {
    let memory = with_episodes(3).await;
    let good = lines(&exported(&memory).await);
    let target = fresh().await;
    let part = |range: std::ops::Range<usize>| file(&good[range]);
    let nothing = "; nothing is imported";
    for (bytes, kind, told) in [
        (String::new(), ErrorKind::Foreign, "it is not an export: it is empty"),
        ("\n".to_owned(), ErrorKind::Invalid, "line 1 is empty"),
        ("SQLite format 3\0\u{1}\u{2}".to_owned(), ErrorKind::Foreign, "line 1 is not the header of an export"),
        ("x".repeat(200_000), ErrorKind::Foreign, "it is not an export: its first line is too long"),
        (part(1..7), ErrorKind::Foreign, "line 1 is not the header of an export"),
        (
            good[0].replace("\"version\":1", "\"version\":2"),
            ErrorKind::SchemaTooNew,
            "the export is of version 2; this library reads up to 1",
        ),
        (format!("\u{feff}{}", file(&good)), ErrorKind::Invalid, "line 1 is begun by a byte order mark"),
        (file(&good).replace('\n', "\r\n"), ErrorKind::Invalid, "line 1 is ended by a carriage return"),
        (part(0..1), ErrorKind::Corrupt, "it is cut off after line 1: "),
        (part(0..6), ErrorKind::Corrupt, "it is cut off after line 6: "),
        (part(0..6) + &good[6][..20], ErrorKind::Corrupt, "it is cut off within line 7"),
        (part(0..3) + "\n" + &part(3..7), ErrorKind::Invalid, "line 4 is empty"),
        (
            part(0..2) + &part(3..7),
            ErrorKind::Corrupt,
            "line 6: it tells the end of 3 episodes and 2 notes; there were 2 and 2",
        ),
        (part(0..7) + &part(0..7), ErrorKind::Invalid, "line 8 is there; allowed: nothing after the end"),
        (part(0..7) + "x", ErrorKind::Invalid, "line 8 is there; allowed: nothing after the end"),
    ] {
        let (found, message) = refused(&target, &bytes).await;
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(told), "{message} should have {told}");
        assert!(message.ends_with(nothing) || !message.contains("line 2"), "{message}");
        assert_eq!(stored(&target).await.episodes, 0, "{message}");
    }
    let whole = file(&good);
    assert_eq!(import(&target, whole.trim_end()).await.unwrap().episodes, 3, "the last line feed may lack");
}

/// The exported lines of one episode and one note, with a change of one of them.
async fn changed(line: usize, from: &str, to: &str) -> String {
    let memory = fresh().await;
    record_all(&memory, [numbered(1).source(Source::trusted("teller"))]).await;
    memory.remember(NewNote::new("use tabs").tag("style").source(Source::trusted("teller"))).await.unwrap();
    let mut lines = lines(&exported(&memory).await);
    assert!(lines[line].contains(from), "{from} is not in {}", lines[line]);
    lines[line] = lines[line].replacen(from, to, 1);
    file(&lines)
}

#[tokio::test(start_paused = true)]
async fn limits_apply_as_to_what_is_told() {
    let long = "x".repeat(10_001);
    let episode = [
        ("make test 1 pass", &long[..], "task.text is 10001 bytes; allowed: up to 10000 bytes"),
        ("make test 1 pass", " ", "task.text is blank; allowed: some words"),
        (
            "\"domain\":null",
            &format!("\"domain\":\"{}\"", &long[..129]),
            "task.domain (bytes) is 129; allowed: 1..=128",
        ),
        ("\"tags\":[]", "\"tags\":[\"\"]", "task.tags: bytes of a tag is 0; allowed: 1..=64"),
        ("\"tool\":\"read\"", "\"tool\":\"\"", "step.tool (bytes) is 0; allowed: 1..=128"),
        ("42 lines", &long, "step.observation is 10001 bytes; allowed: up to 10000 bytes"),
        ("\"reward\":null", "\"reward\":1.5", "outcome.reward is 1.5; allowed: 0..=1"),
        ("\"name\":\"teller\"", "\"name\":\"\"", "source.name (bytes) is 0; allowed: 1..=128"),
        (
            "\"started_at\":\"2026",
            "\"started_at\":\"2027",
            "started_at is 2027-01-01 00:00:00 UTC; allowed: up to completed_at, 2026-01-01 00:00:01 UTC",
        ),
        ("\"scope\":\"default\"", "\"scope\":\"acme\"", "scope is acme; allowed: default, as the header says"),
        ("\"vector\":[", "\"vector\":[1.0,", "vector is 513 long; allowed: 512 components"),
    ];
    let note = [
        ("use tabs", &long[..], "note.tellings[\"\"].text is 10001 bytes; allowed: up to 10000 bytes"),
        ("use tabs", " ", "note.tellings[\"\"].text is blank; allowed: some words"),
        (
            "use tabs",
            " use tabs",
            "note.tellings[\"\"].text is with more than its own words; allowed: trimmed, without what a memory supplied",
        ),
        ("\"text\":\"use tabs\"", "\"text\":null", "note.tellings[\"\"].text is blank; allowed: some words"),
        (
            "\"tags\":[\"style\"]",
            &format!("\"tags\":[\"{}\"]", &long[..65]),
            "note.tellings[\"\"].tags: bytes of a tag is 65; allowed: 1..=64",
        ),
        ("\"salience\":0.5", "\"salience\":-0.5", "note.tellings[\"\"].salience is -0.5; allowed: 0..=1"),
        ("\"seen\":1", "\"seen\":0", "note.tellings[\"\"].seen is 0; allowed: 1..=4294967295"),
        ("teller", "", "note.tellings[\"\"].source (bytes) is 0; allowed: 1..=128"),
        (
            "\"created_at\":\"2026",
            "\"created_at\":\"2027",
            "note.tellings[\"\"].created_at is 2027-01-01 00:00:00 UTC; allowed: up to updated_at",
        ),
        (
            "\"tellings\":{\"\":",
            "\"tellings\":{\"s-1\":",
            "note.tellings[\"s-1\"]: scope.session is below default; allowed:",
        ),
        (
            "\"place\":null",
            "\"place\":{\"thread\":\"\",\"position\":1,\"at\":null}",
            "note.place.thread (bytes) is 0; allowed: 1..=128",
        ),
    ];
    let target = fresh().await;
    for (line, cases) in [(1, &episode[..]), (2, &note[..])] {
        for (from, to, told) in cases {
            let (kind, message) = refused(&target, changed(line, from, to).await).await;
            let expected = format!("import: invalid value: line {}: {told}", line + 1);
            assert_eq!(kind, ErrorKind::Invalid);
            assert!(message.starts_with(&expected), "{message}\nshould begin with\n{expected}");
            assert_eq!((stored(&target).await.episodes, stored(&target).await.notes), (0, 0));
        }
    }
    // Several tellings.
    let agent = at(&target, "acme/coder");
    let told = |tellings: &str| {
        let telling = |text: &str| {
            format!(
                r#"{{"text":"{text}","kind":"Fact","source":"a","tags":[],"salience":0.5,"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","expires_at":null,"seen":1}}"#
            )
        };
        let tellings = tellings.replace("YES", &telling("yes")).replace("NO", &telling("no"));
        format!(
            "{}\n{{\"note\":{{\"scope\":\"acme/coder\",\"trust\":\"Trusted\",{tellings}}}}}\n{{\"end\":{{\"episodes\":0,\"notes\":1}}}}\n",
            r#"{"format":"knowhow-memory","version":1,"scope":"acme/coder","space":null}"#
        )
    };
    for (tellings, message) in [
        (r#""place":null,"tellings":{}"#, "line 2: note.tellings is empty; allowed: at least one"),
        (
            r#""place":null,"tellings":{"":YES,"s-1":NO}"#,
            "line 2: note.tellings[\"s-1\"].text is another; allowed: that of the others",
        ),
        (
            r#""place":null,"tellings":{"a b":YES}"#,
            "line 2: note.tellings[\"a b\"]: scope.session is \"a b\" (3 bytes); allowed:",
        ),
        (
            r#""place":{"thread":"t","position":1,"at":null},"tellings":{"s-1":YES}"#,
            "line 2: note.tellings[\"s-1\"] is of a session; allowed:",
        ),
    ] {
        let (kind, found) = refused(&agent, told(tellings)).await;
        assert_eq!((kind, found.contains(message)), (ErrorKind::Invalid, true), "{found}");
    }
    import(&agent, &told(r#""place":null,"tellings":{"":YES,"s-1":YES}"#)).await.unwrap();
    assert_eq!(agent.note(id_of(&agent, "yes")).await.unwrap().sessions(), 1);
}

#[tokio::test(start_paused = true)]
async fn tags_of_both_tellings_are_within_the_limit_or_refused() {
    let [one, other] = [fresh().await, fresh().await];
    for (memory, tags) in [(&one, 0..20), (&other, 20..40)] {
        let note = tags.fold(NewNote::new("use tabs"), |note, n| note.tag(format!("tag{n}")));
        memory.remember(note).await.unwrap();
    }
    let (kind, told) = refused(&one, exported(&other).await).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(told.contains("line 2: note.tags, with those that are there, is 40; allowed: 0..=32"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn options_out_of_range_are_refused() {
    let memory = fresh().await;
    let file = exported(&memory).await;
    let with = async |options: ImportOptions| memory.import(file.as_bytes(), &options).await.unwrap_err();
    for batch in [0, 257] {
        let error = with(ImportOptions::new().batch(batch)).await;
        assert_eq!(error.to_string(), format!("import: invalid value: batch is {batch}; allowed: 1..=256"));
    }
    assert_eq!(with(ImportOptions::new().source(Source::trusted(""))).await.kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_finds_what_is_wrong_and_writes_nothing() {
    let memory = with_episodes(300).await;
    let file = exported(&memory).await;
    let target = fresh().await;
    record_all(&target, [numbered(7)]).await;
    let dry = async |file: &str| target.import(file.as_bytes(), &ImportOptions::new().dry_run()).await;
    let told = dry(&file).await.unwrap();
    assert_eq!((told.episodes, told.skipped, told.notes), (299, 1, 2));
    assert_eq!((stored(&target).await.episodes, stored(&target).await.notes), (1, 0));
    let broken = file.replace("make test 290 pass", "");
    let error = dry(&broken).await.unwrap_err();
    assert_eq!(error.to_string(), "import: invalid value: line 291: task.text is blank; allowed: some words");
    assert_eq!(stored(&target).await.episodes, 1);
    assert_eq!(import(&target, &file).await.unwrap().episodes, 299);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_half_way_it_goes_on() {
    let memory = with_episodes(600).await;
    let file = exported(&memory).await;
    let batch = ImportOptions::new().batch(50);
    for (n, after) in [(3, false), (3, true), (12, false), (12, true)] {
        let store = faulty();
        let target = engine(&store, &clock()).await;
        let begun = store.calls(Operation::Commit);
        store.script(Operation::Commit, begun + n, if after { Fault::After(lost()) } else { Fault::Before(lost()) });
        let error = target.import(file.as_bytes(), &batch).await.unwrap_err();
        let upto = (n - 1) * 50 + 1;
        assert_eq!(error.to_string(), format!("import: unavailable: scripted; all up to line {upto} is imported"));
        let written = (n - u64::from(!after)) * 50;
        assert_eq!(stored(&target).await.episodes, written);
        let told = target.import(file.as_bytes(), &batch).await.unwrap();
        assert_eq!((told.episodes, told.skipped), (600 - written, written));
        assert_eq!(episodes(&target).await, episodes(&memory).await);
        assert_eq!(all_notes(&target).await, all_notes(&memory).await);
        assert_eq!(target.patterns().await.unwrap(), memory.patterns().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_on_the_way_leaves_whole_batches() {
    let memory = with_episodes(200).await;
    let file = exported(&memory).await;
    let (store, clock) = (faulty(), clock());
    let target = engine(&store, &clock).await;
    let gate = Gate::new();
    store.script(Operation::Commit, store.calls(Operation::Commit) + 3, Fault::Hold(gate.clone()));
    let options = ImportOptions::new().batch(20);
    let import = target.import(file.as_bytes(), &options);
    assert!(timeout(Duration::from_secs(1), import).await.is_err());
    drop(target);
    let target = engine(&store, &clock).await;
    assert_eq!(stored(&target).await.episodes, 40);
    assert_eq!(target.import(file.as_bytes(), &options).await.unwrap().episodes, 160);
    assert_eq!(target.patterns().await.unwrap(), memory.patterns().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_imports_at_once_count_nothing_twice() {
    let memory = with_episodes(400).await;
    let (agent, file) = (at(&memory, "acme/coder"), exported(&memory).await);
    for session in 0..30 {
        tell(&at(&agent, &format!("acme/coder/s-{session}")), "run the linter").await;
    }
    let notes = exported(&agent).await;
    let target = fresh().await;
    let imports = [1, 7, 100, 256].map(|batch| {
        let (target, file, notes) = (target.clone(), file.clone(), notes.clone());
        tokio::spawn(async move {
            let options = ImportOptions::new().batch(batch);
            let told = target.import(file.as_bytes(), &options).await.unwrap();
            at(&target, "acme/coder").import(notes.as_bytes(), &options).await.unwrap();
            told
        })
    });
    let mut sum = Transferred::default();
    for import in imports {
        let told = import.await.unwrap();
        sum.episodes += told.episodes;
        sum.skipped += told.skipped;
    }
    assert_eq!((sum.episodes, sum.skipped), (400, 3 * 400 + 3 * 2));
    assert_eq!(target.patterns().await.unwrap(), memory.patterns().await.unwrap());
    let agent = at(&target, "acme/coder");
    let note = agent.note(id_of(&agent, "run the linter")).await.unwrap();
    assert_eq!((note.sessions(), note.seen), (30, 30));
}

#[tokio::test(start_paused = true)]
async fn an_export_beside_writers_has_what_was_there() {
    let store = faulty();
    let memory = engine(&store, &clock()).await;
    record_all(&memory, (1..=200).map(numbered)).await;
    let gate = Gate::new();
    store.script(Operation::Scan, store.calls(Operation::Scan) + 3, Fault::Hold(gate.clone()));
    let writer = memory.clone();
    let write = async move {
        gate.reached().await;
        // One that was exported already, one that was not, and a new one.
        writer.delete(samples::episode_id(1)).await.unwrap();
        writer.delete(samples::episode_id(150)).await.unwrap();
        record_all(&writer, [numbered(300)]).await;
        gate.open();
    };
    let (file, ()) = tokio::join!(exported(&memory), write);
    let target = fresh().await;
    assert_eq!(import(&target, &file).await.unwrap().episodes, 199);
    let ids: BTreeSet<EpisodeId> = episodes(&target).await.iter().map(|logged| logged.episode.id).collect();
    assert!(ids.contains(&samples::episode_id(1)));
    assert!(!ids.contains(&samples::episode_id(150)) && !ids.contains(&samples::episode_id(300)));
}

/// Bug: an episode whose vector was filled in meanwhile was lost: it left its place before the export had come to it, and its
/// new place came after what the export ended at.
#[tokio::test(start_paused = true)]
async fn an_export_has_what_gets_its_vector_meanwhile_once() {
    let embedder = Arc::new(FaultyEmbedder::new(HashEmbedder::new()));
    let store = faulty();
    let memory = Memory::builder().store(Arc::clone(&store)).embedder(Arc::clone(&embedder)).clock(clock());
    let memory = memory.build().await.unwrap();
    for n in 1..=200 {
        // One that is exported before it gets its vector, and one after.
        if [2, 150].contains(&n) {
            embedder.script(EmbedderFault::Fail(lost()));
        }
        memory.record(numbered(n)).await.unwrap();
    }
    let gate = Gate::new();
    store.script(Operation::Scan, store.calls(Operation::Scan) + 3, Fault::Hold(gate.clone()));
    let writer = memory.clone();
    let write = async move {
        gate.reached().await;
        assert_eq!(writer.embed_missing().await.unwrap(), 2);
        embedder.script(EmbedderFault::Fail(lost()));
        record_all(&writer, [numbered(300), numbered(301)]).await;
        writer.embed_missing().await.unwrap();
        gate.open();
    };
    let (file, ()) = tokio::join!(exported(&memory), write);
    let target = fresh().await;
    assert_eq!(lines(&file).len(), 202, "the header, 200 episodes and the end");
    assert_eq!(import(&target, &file).await.unwrap().episodes, 200);
    let ids: BTreeSet<EpisodeId> = episodes(&target).await.iter().map(|logged| logged.episode.id).collect();
    assert_eq!(ids, (1..=200).map(samples::episode_id).collect());
}

/// A stream that fails after so many bytes.
#[derive(Debug)]
struct Failing {
    rest: usize,
    bytes: Vec<u8>,
}

impl AsyncWrite for Failing {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.rest);
        self.rest -= taken;
        Poll::Ready(if taken > 0 { Ok(taken) } else { Err(io::ErrorKind::StorageFull.into()) })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(if self.rest > 0 { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) })
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Failing {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let taken = self.bytes.len().min(buffer.remaining()).min(self.rest);
        let left = self.bytes.split_off(taken);
        buffer.put_slice(&std::mem::replace(&mut self.bytes, left));
        self.rest -= taken;
        Poll::Ready(if taken > 0 { Ok(()) } else { Err(io::ErrorKind::ConnectionReset.into()) })
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_stream_and_of_the_store_are_told() {
    let store = faulty();
    let memory = engine(&store, &clock()).await;
    record_all(&memory, (1..=100).map(numbered)).await;
    let file = exported(&memory).await;
    for rest in [0, 10, 100_000, file.len() - 1, file.len()] {
        let error = memory.export(Failing { rest, bytes: Vec::new() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().starts_with("export: input/output error: writing failed: "), "{error}");
    }
    memory.export(Failing { rest: file.len() + 1, bytes: Vec::new() }).await.unwrap();
    store.script_next(Operation::Scan, Fault::Before(lost()));
    let error = memory.export_all(Vec::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "export_all: unavailable: scripted");

    let target = fresh().await;
    let options = ImportOptions::new().batch(10);
    let error =
        target.import(Failing { rest: file.len() / 2, bytes: file.clone().into() }, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let written = stored(&target).await.episodes;
    assert!(written > 0 && written % 10 == 0, "{written}");
    assert!(error.to_string().ends_with(&format!("; all up to line {} is imported", written + 1)), "{error}");
    assert_eq!(import(&target, &file).await.unwrap().episodes, 100 - written);
}

#[tokio::test(start_paused = true)]
async fn the_largest_records_travel_and_larger_lines_are_not_read() {
    let memory = fresh().await;
    let big = |n: u32, parts: usize| {
        let outcome = (0..parts)
            .fold(Outcome::success("done"), |outcome, part| outcome.artifact(format!("{part}"), "x".repeat(1_000_000)));
        let mut recording = numbered(n);
        recording.outcome = outcome;
        recording
    };
    record_all(&memory, (1..=3).map(|n| big(n, 9))).await;
    let mut file = Vec::new();
    memory.export(&mut file).await.unwrap();
    assert!(file.len() > 27_000_000);
    let target = fresh().await;
    assert_eq!(target.import(&file[..], &ImportOptions::new()).await.unwrap().episodes, 3);
    assert_eq!(episodes(&target).await, episodes(&memory).await);

    let lines = lines(&exported(&with_episodes(1).await).await);
    let grown = lines[1].replacen("\"summary\":\"done\"", &format!("\"summary\":\"{}\"", "x".repeat(12_000_000)), 1);
    let (kind, told) = refused(&target, format!("{}\n{grown}\n", lines[0])).await;
    assert_eq!(
        (kind, told.contains("line 2: outcome.summary is 12000000 bytes; allowed: up to 10000 bytes")),
        (ErrorKind::Invalid, true)
    );
    let mut endless = Failing { rest: usize::MAX, bytes: format!("{}\n{}", lines[0], "x".repeat(30_000_000)).into() };
    let error = target.import(&mut endless, &ImportOptions::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "import: invalid value: line 2 is longer; allowed: up to 20000000 bytes; nothing is imported"
    );
    assert!(endless.bytes.len() > 9_000_000, "the rest was not read");
}

#[tokio::test(start_paused = true)]
async fn a_closed_memory_neither_exports_nor_imports() {
    let memory = with_episodes(1).await;
    let file = exported(&memory).await;
    memory.close().await.unwrap();
    assert_eq!(memory.export(Vec::new()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(refused(&memory, &file).await.0, ErrorKind::Unavailable);
}

/// What may happen to a file.
#[derive(Clone, Debug)]
enum Damage {
    Cut(usize),
    Byte(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let place = 0..100_000_usize;
    let damage = prop_oneof![
        place.clone().prop_map(Damage::Cut),
        (place.clone(), any::<u8>()).prop_map(|(place, byte)| Damage::Byte(place, byte)),
        (place.clone(), proptest::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(place, bytes)| Damage::Insert(place, bytes)),
        (place, 1..200_usize).prop_map(|(place, length)| Damage::Remove(place, length)),
    ];
    proptest::collection::vec(damage, 1..4)
}

fn damaged(file: &str, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = file.as_bytes().to_vec();
    for damage in damages {
        let within = |place: usize, bytes: &[u8]| place % (bytes.len() + 1);
        match damage {
            Damage::Cut(place) => bytes.truncate(within(*place, &bytes)),
            Damage::Byte(place, byte) => {
                let place = within(*place, &bytes);
                if let Some(there) = bytes.get_mut(place) {
                    *there = *byte;
                }
            }
            Damage::Insert(place, more) => {
                let place = within(*place, &bytes);
                bytes.splice(place..place, more.iter().copied());
            }
            Damage::Remove(place, length) => {
                let place = within(*place, &bytes);
                let end = bytes.len().min(place + length);
                bytes.drain(place..end);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a file: an import ends, with a typed error or with all that the file says; the good file can
    /// still be imported, except where a changed line has taken the id of a record.
    #[test]
    fn a_damaged_file_harms_nothing(damages in damages()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let memory = with_episodes(4).await;
            let file = exported(&memory).await;
            // Vectors are most of the bytes.
            let bare: String = file.lines().map(|line| format!("{}\n", without_vector(line))).collect();
            let target = fresh().await;
            let result = target.import(&damaged(&bare, &damages)[..], &ImportOptions::new().batch(2)).await;
            if let Err(error) = &result {
                let typed = [ErrorKind::Foreign, ErrorKind::SchemaTooNew, ErrorKind::Corrupt, ErrorKind::Invalid, ErrorKind::AlreadyExists];
                assert!(typed.contains(&error.kind()), "{error:?}");
            }
            let options = ImportOptions::new().keep_stored();
            let told = target.import(file.as_bytes(), &options).await.unwrap();
            assert_eq!(told.episodes + told.skipped + told.conflicting + told.notes + told.merged, 6);
            assert_eq!(target.patterns().await.unwrap(), crate::fold_of_log(&target, target.learner()).await);
        });
    }
}
