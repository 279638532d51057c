//! Records to store, from plain to awkward, and random episodes to learn from.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::collection::{SizeRange, vec};
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use crate::{
    Counts, Episode, EpisodeId, Evidence, Feedback, HeuristicId, HolderId, LearnerId, Lease, LoggedEpisode, NewNote,
    Note, NoteId, OpenedEpisode, OpenedStep, Outcome, Pattern, PatternKind, Place, Receipt, Record, Scope, Source,
    Step, StoredNote, Task, Telling, Trust, Vector, VectorSpace, Verdict, Version, Watermark,
};

/// A scope by its path, such as `acme/coder`.
pub fn scope(path: &str) -> Scope {
    Scope::try_from(path.to_owned()).expect("a scope")
}

/// The moment so many seconds after 2026-01-01T00:00:00Z.
pub fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600 + seconds, 0).expect("a moment that chrono knows")
}

/// The UUID of this number; they sort like the numbers.
pub const fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// The id of the episode of this number; they sort like the numbers.
pub const fn episode_id(n: u32) -> EpisodeId {
    EpisodeId::new(uuid(n as u128))
}

/// The learner of this number; they sort like the numbers.
pub const fn learner(n: u32) -> LearnerId {
    LearnerId::new(uuid(n as u128))
}

/// A small successful episode in the default scope: number `n`, with this task text, completed at [`time`]`(n)`.
///
/// Its fields are public: change what a test is about.
pub fn episode(n: u32, text: &str) -> Episode {
    let steps = vec![Step::new("read").input("README.md").ok("42 lines"), Step::new("edit").error("no such file")];
    let (started, completed) = (time(i64::from(n) - 1), time(i64::from(n)));
    Episode::new(episode_id(n), Scope::default(), Task::new(text), steps, Outcome::success("done"), started, completed)
}

/// An episode with this text in every field that is a text, number `n`, in the default scope.
pub fn episode_full_of(n: u32, text: &str) -> Episode {
    let mut episode = episode(n, text);
    episode.task =
        Task::new(text).domain(text).language(text).tag(text).tag(format!("{text}2")).environment(text, text);
    episode.steps = vec![Step::new(text).action(text).input(text).ok(text), Step::new(text).error(text)];
    episode.outcome = Outcome::partial(text).reflection(text).artifact(text, text).artifact(text, "");
    episode
}

/// The record of a completed episode without a vector.
pub fn logged(episode: Episode) -> Record {
    Record::Episode(LoggedEpisode { episode: Arc::new(episode), vector: None })
}

/// The record of a completed episode with a vector.
pub fn logged_with(episode: Episode, vector: Vector) -> Record {
    Record::Episode(LoggedEpisode { episode: Arc::new(episode), vector: Some(vector) })
}

/// A vector of these components.
pub fn vector(components: &[f32]) -> Vector {
    Vector::new(components.to_vec()).expect("finite components")
}

/// A vector space of this many dimensions.
pub fn space(dimensions: usize) -> VectorSpace {
    VectorSpace {
        provider: "testkit".to_owned(),
        model: "sample".to_owned(),
        revision: "1".to_owned(),
        dimensions,
        normalised: false,
        query_prefix: String::new(),
        document_prefix: String::new(),
    }
}

/// How far learner `n` has read.
pub const fn watermark(n: u32, position: u64) -> Record {
    Record::Watermark(Watermark { learner: learner(n), position: Version(position) })
}

/// The holder of this number.
pub const fn holder(n: u32) -> HolderId {
    HolderId::new(uuid(n as u128))
}

/// The open episode of this number in the default scope, held by the [`holder`] of this number for a minute.
pub fn open(n: u32) -> OpenedEpisode {
    let task = Task::new(format!("task {n}")).domain("web");
    let started_at = time(i64::from(n));
    let lease = Some(Lease { holder: holder(n), expires_at: started_at + TimeDelta::minutes(1) });
    let (id, scope, source) = (episode_id(n), Scope::default(), Source::default());
    OpenedEpisode { id, scope, task, started_at, source, receipt: None, lease, state: None }
}

/// A step of the open episode of this number.
pub fn step(n: u32, index: u32) -> OpenedStep {
    OpenedStep { episode: episode_id(n), index, step: Step::new("grep").input(format!("{index}")).ok("found") }
}

/// The pattern of this number in the default scope, with a little evidence. Its id is the number, not the hash that
/// [`Pattern::new`] makes, so that patterns sort like their numbers.
pub fn pattern(n: u32) -> Pattern {
    let signature = vec![format!("+tool{n}")];
    let mut pattern =
        Pattern::new(learner(1), Scope::default(), Trust::Trusted, PatternKind::Transition, None, signature);
    pattern.id = crate::PatternId::new(uuid(u128::from(n)));
    pattern.branches.insert("edit".to_owned(), evidence(20_000, [1, 2, 1]));
    pattern
}

/// The pattern of this number in this scope, with an id as patterns of the scope have.
pub fn pattern_in(scope: &Scope, n: u32) -> Pattern {
    let first = crate::PatternId::range_of(scope).0.as_uuid().as_u128();
    Pattern { id: crate::PatternId::new(uuid(first | u128::from(n))), scope: scope.clone(), ..pattern(n) }
}

/// The pattern of this number as a record that is scanned apart: of the kind habit.
pub fn habit(n: u32) -> Pattern {
    let mut habit = pattern(n);
    habit.kind = PatternKind::Habit;
    habit
}

/// Evidence in one bucket: episodes, trials and successes.
pub fn evidence(bucket: i64, counts: [u64; 3]) -> Evidence {
    Evidence::in_bucket(bucket, Counts::from(counts))
}

/// The note of this number with this text in the default scope, told at [`time`]`(n)`. Its id is the number, not the hash that
/// [`NoteId::of`] makes, so that notes sort like their numbers.
pub fn note(n: u32, text: &str) -> Note {
    let telling = Telling::new(NewNote::new(text).source(Source::trusted("testkit")), time(i64::from(n)));
    Note { id: note_id(n), ..Note::new(Scope::default(), Trust::Trusted, telling) }
}

/// The id of the note of this number; they sort like the numbers.
pub const fn note_id(n: u32) -> NoteId {
    NoteId::new(uuid(n as u128))
}

/// A note with this text in every field that is a text, number `n`, of an agent who was told it in two sessions by an untrusted
/// source, with a place whose thread has this name.
pub fn note_full_of(n: u32, text: &str) -> Note {
    let told = |said: &str| NewNote::new(said).source(Source::untrusted(text));
    let telling = || Telling::new(told(text).tag(text).tag(format!("{text}2")), time(i64::from(n)));
    let other = Telling::new(told(&format!("{text}.")), time(i64::from(n) + 1));
    let note = Note::from_session(scope("acme/coder"), "s-1", Trust::Untrusted, telling());
    let place = Some(Place::new(text, n));
    Note { id: note_id(n), place, ..note.told(other).told_in_session("s-2", telling()) }
}

/// The record of a note without a vector.
pub fn noted(note: Note) -> Record {
    Record::Note(StoredNote { note: Arc::new(note), vector: None })
}

/// The record of a note with a vector.
pub fn noted_with(note: Note, vector: Vector) -> Record {
    Record::Note(StoredNote { note: Arc::new(note), vector: Some(vector) })
}

/// One plain record of every kind but the vector space, all of number `n`.
pub fn one_of_each(n: u32) -> Vec<Record> {
    vec![
        watermark(n, u64::from(n)),
        logged(episode(n, "task of each kind")),
        Record::Open(open(n)),
        Record::Step(step(n, 0)),
        Record::Pattern(pattern(n)),
        Record::Pattern(habit(n)),
        noted(note(n, "note of each kind")),
        Record::Unembedded(uuid(u128::from(n))),
    ]
}

/// Texts that stores and formats get wrong: empty and blank, NUL and other control characters, quotes, wildcards, SQL,
/// JSON and full-text query syntax, words that look like other types, emoji, right-to-left, combining and
/// noncharacters, and 10,000 bytes.
pub fn awkward_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\0",
        "a\0b\0",
        "\u{1}\u{8}\u{1b}[31m\u{7f}\u{85}",
        "\r\n\t line two\r\u{2028}line three\n",
        "'; DROP TABLE episodes; --",
        "\"double\" 'single' `back` \\ \\\\ \\u0000 \\n",
        "100%_*?[a-z]|$1 ?1 :name @p {} ${HOME}",
        "{\"json\": [1, null, \"\\u0000\"]}",
        "login\" OR NEAR(a b) AND NOT col:x* ^y -z (",
        "NULL",
        "0",
        "-1e999",
        "true",
        "👩‍👩‍👧‍👦 🏴\u{e0067}\u{e0062}\u{e007f} 🇩🇪 \u{1f3fd}",
        "שלום مرحبا \u{202e}detrevni\u{202c}",
        "e\u{301} é ﬀ İ ı ß ǅ",
        "東京タワー",
        "\u{feff}bom",
        "\u{fffd}\u{fffe}\u{ffff}\u{10ffff}\u{d7ff}\u{e000}",
    ]
    .map(str::to_owned)
    .into();
    texts.push("ä".repeat(5_000));
    texts
}

/// Every verdict.
pub const VERDICTS: [Verdict; 5] =
    [Verdict::Success, Verdict::Partial, Verdict::Failure, Verdict::Abstained, Verdict::Interrupted];

/// Random episodes of one scope to learn from: small, and alike enough that behaviour repeats.
///
/// - no domain or one of two, tasks in few words;
/// - up to eight steps with four tools, one in four goes wrong with one of three error texts (some vary in what
///   [`error_signature`](crate::text::error_signature) leaves out);
/// - every verdict, success and failure most often; one in six from an untrusted source; every third was shown something;
/// - completed within five days from [`time`]`(0)`, in any order, sometimes at the same moment.
///
/// Ids depend on scope and place, so that two lists of one scope share ids. Lists shrink to fewer episodes with fewer steps
/// that go well.
///
/// ```
/// use memory_core::testkit::samples;
/// use proptest::{proptest, prop_assert};
/// proptest!(|(episodes in samples::episodes(samples::scope("acme"), 0..20))| {
///     prop_assert!(episodes.len() < 20);
/// });
/// ```
pub fn episodes(scope: Scope, size: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Episode>> {
    let told = (source(), proptest::option::weighted(0.3, receipt()));
    vec((task(), vec(random_step(), 0..=8), outcome(), 0..5 * 24_i64, 0..3_i64, told), size).prop_map(move |parts| {
        let episodes = parts.into_iter().enumerate().map(|(place, (task, steps, outcome, hour, second, told))| {
            let id = EpisodeId::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{scope}#{place}").as_bytes()));
            let completed = time(hour * 3_600 + second);
            let started = completed - TimeDelta::seconds(30);
            let mut episode = Episode::new(id, scope.clone(), task, steps, outcome, started, completed);
            (episode.source, episode.receipt) = told;
            episode
        });
        episodes.collect()
    })
}

fn task() -> impl Strategy<Value = Task> {
    let words = vec(select(&["fix", "login", "test", "report", "deploy", "query"][..]), 1..4);
    (words, select(&[None, Some("web"), Some("data")][..]), any::<bool>()).prop_map(|(words, domain, tagged)| Task {
        text: words.join(" "),
        domain: domain.map(str::to_owned),
        tags: tagged.then(|| "auth".to_owned()).into_iter().collect(),
        environment: if tagged { BTreeMap::from([("lock".to_owned(), words[0].to_owned())]) } else { BTreeMap::new() },
        language: None,
    })
}

/// A random source: one in six is not trusted.
pub fn source() -> impl Strategy<Value = Source> {
    prop_oneof![5 => Just(Source::default()), 1 => Just(Source::untrusted("forum"))]
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let feedback = proptest::option::of(select(vec![Feedback::Used, Feedback::Ignored, Feedback::Harmful]));
    (any::<bool>(), 0..3_u32, any::<bool>(), feedback).prop_map(|(withheld, number, shown, feedback)| {
        let advice = HeuristicId::new(uuid(u128::from(number)));
        let mut receipt = Receipt { withheld, ..Receipt::default() };
        if !withheld {
            receipt.advice.insert(advice, shown);
            receipt.episodes.insert(episode_id(number));
            receipt.notes.insert(note_id(number));
            receipt.feedback.extend(feedback.map(|feedback| (advice, feedback)));
        }
        receipt
    })
}

fn random_step() -> impl Strategy<Value = Step> {
    let errors = ["not found", "line 12: unexpected `x`", "line 7: unexpected `y`"];
    let error = prop_oneof![3 => Just(None), 1 => select(errors.to_vec()).prop_map(Some)];
    (select(&["read", "edit", "test", "search"][..]), error).prop_map(|(tool, error)| match error {
        None => Step::new(tool).ok("fine"),
        Some(text) => Step::new(tool).error(text),
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Success),
        3 => Just(Verdict::Failure),
        1 => select(vec![Verdict::Partial, Verdict::Abstained, Verdict::Interrupted]),
    ];
    verdict.prop_map(|verdict| Outcome::new(verdict, verdict.as_str()))
}
