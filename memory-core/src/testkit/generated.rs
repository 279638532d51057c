//! Records that look random and are the same every time, with words that recur: for tests that compare stores.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    Batch, Clock, Commit, Embedder, Episode, EpisodeId, HashEmbedder, Learner, LoggedEpisode, MemoryStore,
    MemoryStoreExt, NewNote, Note, NoteId, NoteKind, Outcome, Pattern, PatternId, Place, Record, RecordKind, Result,
    Role, Scan, Scope, Step, StoredNote, Task, Telling, Trust, Vector, VectorSpace, Verdict, Version,
};

/// The clock of the machine, so many hours ahead: the leases of who came hours before have run out.
#[derive(Debug)]
pub struct Ahead(pub i64);

impl Clock for Ahead {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::hours(self.0)
    }
}

/// Numbers that look random and are the same every time (xorshift).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed rolls the same.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number from 0 on, below so many.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides
    }

    /// One of several.
    pub fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }
}

/// What texts are made of: words that recur, some of them common, some awkward.
pub const WORDS: &[&str] = &[
    "login",
    "test",
    "fails",
    "user",
    "password",
    "reset",
    "deploy",
    "database",
    "migrate",
    "schema",
    "naïve",
    "Straße",
    "東京",
    "cache",
    "redis",
    "timeout",
    "retry",
    "button",
    "render",
    "page",
    "the",
    "auth_service",
    "users'",
    "X1",
    "build",
    "cargo",
    "compile",
    "error",
    "panic",
    "thread",
    "query",
    "index",
    "slow",
    "fix",
    "add",
    "remove",
];

/// One to fourteen words.
pub fn text(dice: &mut Dice) -> String {
    let length = 1 + dice.roll(14);
    let words: Vec<&str> = (0..length).map(|_| dice.pick(WORDS)).collect();
    words.join(" ")
}

/// The id of this number.
pub fn id(number: u128) -> EpisodeId {
    EpisodeId::new(Uuid::from_u128(number))
}

/// A moment so many nanoseconds after one of 2025.
pub fn moment(nanos: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).unwrap() + TimeDelta::nanoseconds(nanos)
}

/// An episode with two steps that ended at a moment and took five seconds.
pub fn episode(number: u128, scope: &Scope, task: Task, outcome: Outcome, completed_at: DateTime<Utc>) -> Episode {
    let steps = vec![Step::new("grep").input("auth").ok("src/auth.rs:42"), Step::new("cargo test").error("E0425")];
    let started_at = completed_at - TimeDelta::seconds(5);
    Episode::new(id(number), scope.clone(), task, steps, outcome, started_at, completed_at)
}

/// An episode with this task in the default scope.
pub fn simple(number: u128, task: &str) -> Record {
    let at = moment(i64::try_from(number).unwrap());
    logged(episode(number, &Scope::default(), Task::new(task), Outcome::success("done"), at), None)
}

/// The record of an episode and its vector.
pub fn logged(episode: Episode, vector: Option<Vector>) -> Record {
    Record::Episode(LoggedEpisode { episode: Arc::new(episode), vector })
}

/// A step whose words are the usual ones.
fn step(dice: &mut Dice) -> Step {
    let step = Step::new(dice.pick(&["grep", "cargo test"])).action(text(dice)).input(dice.pick(WORDS));
    if dice.roll(3) == 0 { step.error(text(dice)) } else { step.ok(text(dice)) }
}

/// The vector of a text; of one in ten, a vector without a direction; of one in five, none.
async fn some_vector(text: &str, dice: &mut Dice) -> Option<Vector> {
    match dice.roll(10) {
        0 | 1 => None,
        2 => Some(zeros()),
        _ => Some(vector(text).await),
    }
}

/// A vector that is like no other.
pub fn zeros() -> Vector {
    Vector::new(vec![0.0; HashEmbedder::new().space().dimensions]).unwrap()
}

/// An episode of many kinds: two scopes, domains and tags that are often the same, times that are often equal.
pub async fn generated(number: u128, dice: &mut Dice) -> Record {
    let scope = if dice.roll(4) == 0 { Scope::new("other").unwrap() } else { Scope::default() };
    let mut task = Task::new(text(dice));
    if dice.roll(3) > 0 {
        task = task.domain(dice.pick(&["web", "data"]));
    }
    if dice.roll(2) > 0 {
        task = task.language(dice.pick(&["rust", "python"]));
    }
    for _ in 0..dice.roll(4) {
        task = task.tag(dice.pick(&["a", "b", "c", "d,\"e\"", "\0zero"]));
    }
    let verdict = [Verdict::Success, Verdict::Failure, Verdict::Partial][dice.roll(3)];
    let outcome = Outcome::new(verdict, "over").reward(0.1 * dice.roll(10) as f64);
    let at = moment(i64::try_from(dice.roll(40)).unwrap() * 500);
    let vector = some_vector(&task.text, dice).await;
    let mut episode = episode(number, &scope, task, outcome, at);
    episode.steps = (0..dice.roll(4)).map(|_| step(dice)).collect();
    logged(episode, vector)
}

/// The id of the note of this number.
pub fn note_id(number: u128) -> NoteId {
    NoteId::new(Uuid::from_u128(number))
}

/// A note of two scopes, told here or in some sessions, trusted or not, with a place or none, with an expiry that is often
/// equal, or none.
pub async fn generated_note(number: u128, dice: &mut Dice) -> Record {
    let scope = if dice.roll(4) == 0 { Scope::new("other").unwrap() } else { Scope::default() };
    let text = text(dice);
    let at = moment(i64::try_from(dice.roll(40)).unwrap() * 500);
    let mut new = NewNote::new(text.clone()).salience(0.1 * dice.roll(11) as f64).tag(dice.pick(&["a", "b"]));
    new = new.kind([NoteKind::Fact, NoteKind::Lesson][dice.roll(2)]);
    for _ in 0..dice.roll(4) {
        new = new.tag(dice.pick(&["a", "d,\"e\"", "\0zero"]));
    }
    new.expires_at = (dice.roll(3) > 0).then(|| moment(i64::try_from(dice.roll(40)).unwrap() * 500));
    let telling = || Telling::new(new.clone(), at);
    let trust = if dice.roll(3) == 0 { Trust::Untrusted } else { Trust::Trusted };
    let mut note = Note::new(scope.clone(), trust, telling());
    if dice.roll(2) == 0 {
        note = Note::from_session(scope, "s-0", trust, telling());
        for session in 0..dice.roll(4) {
            note = note.told_in_session(&format!("s-{session}"), telling());
        }
    }
    note.id = note_id(number);
    note.place = (dice.roll(2) == 0).then(|| Place::new(dice.pick(&["chat", "\0log"]), u32::try_from(number).unwrap()));
    let vector = some_vector(&text, dice).await;
    Record::Note(StoredNote { note: Arc::new(note), vector })
}

/// The vector of a text, by the offline embedder.
pub async fn vector(text: &str) -> Vector {
    HashEmbedder::new().embed(Role::Document, &[text]).await.unwrap().remove(0)
}

/// An embedder of another space than that of [`vector`], with vectors of the same length: the same back to front.
#[derive(Clone, Debug)]
pub struct Backwards(VectorSpace);

impl Default for Backwards {
    fn default() -> Self {
        Self(VectorSpace { model: "hash-backwards".to_owned(), ..HashEmbedder::new().space().clone() })
    }
}

impl std::fmt::Display for Backwards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backwards")
    }
}

#[async_trait]
impl Embedder for Backwards {
    fn space(&self) -> &VectorSpace {
        &self.0
    }

    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        let vectors = HashEmbedder::new().embed(role, texts).await?;
        vectors.iter().map(|vector| Vector::new(vector.as_slice().iter().rev().copied().collect())).collect()
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }
}

/// Puts the space of [`vector`].
pub async fn put_space(store: &dyn MemoryStore) {
    put(store, Record::Space(HashEmbedder::new().space().clone())).await;
}

/// Puts one record.
pub async fn put(store: &dyn MemoryStore, record: Record) -> Commit {
    store.commit(&Batch::new().put(record)).await.unwrap()
}

/// The log: all episodes with their versions.
pub async fn log(store: &dyn MemoryStore) -> Vec<(Version, Arc<Episode>)> {
    let stored = store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap();
    let logged = stored.into_iter().map(|stored| match stored.record {
        Record::Episode(logged) => (stored.version, logged.episode),
        other => panic!("{other:?} is no episode"),
    });
    logged.collect()
}

/// What is to be known of these episodes: the definition of knowledge, in as few words as possible.
pub fn fold<'a, E: Borrow<Episode> + 'a>(episodes: impl IntoIterator<Item = &'a E>) -> Vec<Pattern> {
    let mut patterns: BTreeMap<PatternId, Pattern> = BTreeMap::new();
    for observed in episodes.into_iter().flat_map(|episode| Learner::default().observe(episode.borrow())) {
        match patterns.get_mut(&observed.id) {
            Some(pattern) => pattern.add(&observed),
            None => drop(patterns.insert(observed.id, observed)),
        }
    }
    patterns.into_values().collect()
}
