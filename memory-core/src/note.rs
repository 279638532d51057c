//! What an agent was told to keep in mind: free-standing text memories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Scope, Source, Status, Trust, Vector};

/// Names every note; random, fixed for ever.
const NAMESPACE: Uuid = Uuid::from_u128(0x2f4a_9d10_7c3e_4b86_a1d5_60e7_5b92_c8f3);

/// The key, in [`Note::tellings`], of what was told in the note's own scope. No session has this name.
const HERE: &str = "";

/// The identity of a note: a UUID version 5 of its scope, its trust and its text, apart from case, white space and punctuation.
/// The same note told twice, also by two processes, is the same record; told by a trusted and by an untrusted source, it is two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NoteId(Uuid);

impl NoteId {
    /// The note of this UUID.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The note with this text in this scope, of sources that are trusted so far.
    ///
    /// ```
    /// use memory_core::{NoteId, Scope, Trust};
    /// let id = |text| NoteId::of(&Scope::default(), Trust::Trusted, text);
    /// assert_eq!(id("The user prefers  tabs."), id("the user prefers tabs"));
    /// assert_ne!(id("the user likes C++"), id("the user likes C"));
    /// ```
    pub fn of(scope: &Scope, trust: Trust, text: &str) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("{scope}\n{trust}\n{}", folded(text)).as_bytes()))
    }

    /// The UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for NoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text apart from case, white space, and the punctuation around its words. What stands within words or is a sign of its
/// own (`C++`, `-5`, `a < b`) stays; a text of nothing but punctuation does too.
pub(crate) fn folded(text: &str) -> String {
    const PUNCTUATION: &[char] = &[
        '.', ',', ';', ':', '!', '?', '"', '\'', '`', '(', ')', '[', ']', '{', '}', '…', '“', '”', '„', '‘', '«', '»',
    ];
    let lower = text.replace('\u{2019}', "'").to_lowercase();
    let bare = lower.split_whitespace().map(|word| word.trim_matches(PUNCTUATION)).filter(|word| !word.is_empty());
    let bare: Vec<&str> = bare.collect();
    if bare.is_empty() { lower.split_whitespace().collect::<Vec<_>>().join(" ") } else { bare.join(" ") }
}

/// What a note is about.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NoteKind {
    /// How something is.
    Fact,
    /// How somebody wants it.
    Preference,
    /// What was learned from doing it.
    Lesson,
    /// What is to be done.
    Plan,
}

impl NoteKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Fact, Self::Preference, Self::Lesson, Self::Plan];

    /// The kind as one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fact => "fact",
            Self::Preference => "preference",
            Self::Lesson => "lesson",
            Self::Plan => "plan",
        }
    }
}

impl fmt::Display for NoteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something to keep in mind, for [`Memory::remember`](crate::Memory::remember).
///
/// ```
/// use memory_core::{NewNote, NoteKind, Source};
/// let note = NewNote::new("deploys are frozen on Fridays").kind(NoteKind::Fact).tag("deploy").salience(0.9);
/// assert_eq!(note.source, None);
/// let note = note.source(Source::untrusted("forum"));
/// assert_eq!(note.source.unwrap().name, "forum");
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct NewNote {
    /// The text; 1 to 10,000 bytes, not blank.
    pub text: String,
    /// What it is about.
    pub kind: NoteKind,
    /// Up to 32 tags of 1 to 64 bytes.
    pub tags: BTreeSet<String>,
    /// How much it matters, in [0, 1].
    pub salience: f64,
    /// Who says so, and how far that source is trusted; `None` is the source of the [`Memory`](crate::Memory) that is told.
    pub source: Option<Source>,
    /// When it stops being so; in the future. `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}

impl NewNote {
    /// A fact of salience one half, which does not expire.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            kind: NoteKind::Fact,
            tags: BTreeSet::new(),
            salience: 0.5,
            source: None,
            expires_at: None,
        }
    }

    /// Sets what it is about.
    #[must_use]
    pub fn kind(mut self, kind: NoteKind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Sets how much it matters.
    #[must_use]
    pub fn salience(mut self, salience: f64) -> Self {
        self.salience = salience;
        self
    }

    /// Sets who says so.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Sets when it stops being so.
    #[must_use]
    pub fn expires_at(mut self, at: DateTime<Utc>) -> Self {
        self.expires_at = Some(at);
        self
    }
}

/// What was told of a note in one place, all times together.
///
/// Tellings [merge](Self::merge) to the same whatever their order. How far their sources are trusted is the note's: those of
/// trusted and of untrusted ones do not mix.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Telling {
    /// The text as it was first told there; within a [`Note`], `None` where it is the note's own.
    pub text: Option<String>,
    /// What it was first said to be about.
    pub kind: NoteKind,
    /// The name of the source that said so first.
    pub source: String,
    /// All tags.
    pub tags: BTreeSet<String>,
    /// The highest salience, in [0, 1].
    pub salience: f64,
    /// When it was first told.
    pub created_at: DateTime<Utc>,
    /// When it was last told.
    pub updated_at: DateTime<Utc>,
    /// The latest expiry; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// How often it was told.
    pub seen: u32,
}

impl Telling {
    /// What is told by this note at this moment; by the [default](Source::default) source, if the note names none.
    pub fn new(note: NewNote, at: DateTime<Utc>) -> Self {
        let NewNote { text, kind, tags, salience, source, expires_at } = note;
        // Adding zero takes the sign from a negative one.
        let salience = salience + 0.0;
        let (text, source) = (Some(text), source.unwrap_or_default().name);
        Self { text, kind, source, tags, salience, created_at: at, updated_at: at, expires_at, seen: 1 }
    }

    /// Both together: told as often as both; the tags of both; the higher salience; the later expiry, and never if one
    /// never expires. Text, kind and source are of the one that was told first; between two of one moment, of the smaller.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        fn order(telling: &Telling) -> (DateTime<Utc>, &Option<String>, NoteKind, &str) {
            (telling.created_at, &telling.text, telling.kind, &telling.source)
        }
        let (mut first, later) = if order(&self) <= order(&other) { (self, other) } else { (other, self) };
        first.tags.extend(later.tags);
        first.salience = first.salience.max(later.salience);
        first.updated_at = first.updated_at.max(later.updated_at);
        first.expires_at = first.expires_at.zip(later.expires_at).map(|(a, b)| a.max(b));
        first.seen = first.seen.saturating_add(later.seen);
        first
    }
}

/// A free-standing text memory: what all its [tellings](Self::tellings) say together; see [`Telling::merge`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Its identity.
    pub id: NoteId,
    /// Whose it is.
    pub scope: Scope,
    /// The text, as it was first told.
    pub text: String,
    /// What it is about.
    pub kind: NoteKind,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// How much it matters, in [0, 1].
    pub salience: f64,
    /// How far all sources that said so are trusted, all of them alike. What untrusted ones told is kept, and never recalled.
    pub trust: Trust,
    /// The name of the source that said so first.
    pub source: String,
    /// When it was first told.
    pub created_at: DateTime<Utc>,
    /// When it was last told.
    pub updated_at: DateTime<Utc>,
    /// When it stops being so; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// How often it was told.
    pub seen: u32,
    /// What was told where: by the name of the session of this agent, and under the empty name in this scope itself.
    pub tellings: BTreeMap<String, Telling>,
}

impl Note {
    /// The note that was told in its own scope, by a source that is trusted so far.
    pub fn new(scope: Scope, trust: Trust, telling: Telling) -> Self {
        Self::of(scope, trust, telling, BTreeMap::new(), HERE)
    }

    /// The agent's note, or the candidate for one, that was told in this session of the agent, by a source that is trusted so
    /// far.
    pub fn from_session(agent: Scope, session: &str, trust: Trust, telling: Telling) -> Self {
        Self::of(agent, trust, telling, BTreeMap::new(), session)
    }

    /// This note, told again in its own scope, by a source that is trusted as far.
    #[must_use]
    pub fn told(self, telling: Telling) -> Self {
        let (scope, trust, tellings) = self.take_apart();
        Self::of(scope, trust, telling, tellings, HERE)
    }

    /// This agent's note, told again in this session of the agent, by a source that is trusted as far.
    #[must_use]
    pub fn told_in_session(self, session: &str, telling: Telling) -> Self {
        let (scope, trust, tellings) = self.take_apart();
        Self::of(scope, trust, telling, tellings, session)
    }

    /// This agent's note without what was told in this session; `None` if nothing is left.
    #[must_use]
    pub fn without_session(self, session: &str) -> Option<Self> {
        let (scope, trust, mut tellings) = self.take_apart();
        tellings.remove(session);
        let (place, telling) = tellings.pop_first()?;
        Some(Self::of(scope, trust, telling, tellings, &place))
    }

    /// In how many distinct sessions it was told.
    pub fn sessions(&self) -> usize {
        self.tellings.len() - usize::from(self.here().is_some())
    }

    /// What was told in its own scope.
    pub fn here(&self) -> Option<&Telling> {
        self.tellings.get(HERE)
    }

    /// What the evidence makes of it: [`Active`](Status::Active) if it was told in its own scope, or in so many distinct
    /// sessions of the agent; else [`Candidate`](Status::Candidate), which is not recalled.
    pub fn status(&self, quorum: u32) -> Status {
        let enough = u32::try_from(self.sessions()).unwrap_or(u32::MAX) >= quorum;
        if self.here().is_some() || enough { Status::Active } else { Status::Candidate }
    }

    /// Whether it is still so at this moment.
    pub fn lives_at(&self, moment: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|expiry| expiry > moment)
    }

    /// The scope, the trust, and all tellings with their texts.
    fn take_apart(self) -> (Scope, Trust, BTreeMap<String, Telling>) {
        let Self { scope, trust, text, mut tellings, .. } = self;
        for telling in tellings.values_mut() {
            telling.text.get_or_insert_with(|| text.clone());
        }
        (scope, trust, tellings)
    }

    /// The note of these tellings and one more. All of them have their texts.
    fn of(scope: Scope, trust: Trust, telling: Telling, mut tellings: BTreeMap<String, Telling>, place: &str) -> Self {
        let here = match tellings.remove(place) {
            Some(before) => before.merge(telling),
            None => telling,
        };
        let sum = tellings.values().cloned().fold(here.clone(), Telling::merge);
        tellings.insert(place.to_owned(), here);
        for telling in tellings.values_mut().filter(|telling| telling.text == sum.text) {
            telling.text = None;
        }
        let Telling { text, kind, source, tags, salience, created_at, updated_at, expires_at, seen } = sum;
        let text = text.unwrap_or_default();
        let id = NoteId::of(&scope, trust, &text);
        Self {
            id,
            scope,
            text,
            kind,
            tags,
            salience,
            trust,
            source,
            created_at,
            updated_at,
            expires_at,
            seen,
            tellings,
        }
    }
}

/// A note as the store holds it: with the vector of its text, if it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredNote {
    /// The note.
    pub note: Arc<Note>,
    /// The document vector of the text, in the store's vector space.
    pub vector: Option<Vector>,
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    #[test]
    fn the_identity_is_of_scope_trust_and_folded_text() {
        let [own, other] = ["a/b", "a"].map(|path| Scope::try_from(path.to_owned()).unwrap());
        let id = |text: &str| NoteId::of(&own, Trust::Trusted, text);
        for same in ["Use tabs, not spaces", " use\ttabs not\n\"spaces\"!", "(USE TABS) not spaces…"] {
            assert_eq!(id(same), id("use tabs not spaces"), "{same}");
        }
        assert_eq!(id("don\u{2019}t"), id("Don't"));
        let texts = ["C", "C++", "C#", "5", "-5", "2.5", "25", "a < b", "a > b", "👍", "👎", "?!", "...", "a b", "ab"];
        let distinct: BTreeSet<NoteId> = texts.into_iter().map(id).collect();
        assert_eq!(distinct.len(), texts.len());
        assert_ne!(id("use tabs"), NoteId::of(&other, Trust::Trusted, "use tabs"));
        assert_ne!(id("use tabs"), NoteId::of(&own, Trust::Untrusted, "use tabs"));
    }

    /// What is told, and in which session; the empty name is the agent's own scope.
    fn tellings() -> impl Strategy<Value = Vec<(String, Telling)>> {
        let note = (
            select(vec!["use tabs", "Use tabs", "use  tabs."]),
            select(NoteKind::ALL.to_vec()),
            proptest::collection::btree_set(select(vec!["a", "b", "c"]).prop_map(str::to_owned), 0..3),
            select(vec![-0.0, 0.0, 0.3, 1.0]),
            select(vec!["agent", "user"]),
            proptest::option::of(0..50_i64),
        );
        let telling = (note, 0..4_i64).prop_map(|((text, kind, tags, salience, source, expiry), second)| {
            let mut note = NewNote::new(text).kind(kind).salience(salience).source(Source::untrusted(source));
            (note.tags, note.expires_at) = (tags, expiry.map(|second| at(100 + second)));
            Telling::new(note, at(second))
        });
        let session = select(vec![HERE, "s1", "s2", "s3"]).prop_map(str::to_owned);
        proptest::collection::vec((session, telling), 1..8)
    }

    fn fold(tellings: &[(String, Telling)]) -> Note {
        let agent = Scope::try_from("acme/coder".to_owned()).unwrap();
        let mut tellings = tellings.iter().cloned();
        let (session, telling) = tellings.next().unwrap();
        let first = Note::from_session(agent, &session, Trust::Untrusted, telling);
        tellings.fold(first, |note, (session, telling)| note.told_in_session(&session, telling))
    }

    /// `==` takes -0.0 for 0.0.
    fn assert_same(a: &Note, b: &Note) {
        assert_eq!(a, b);
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
    }

    proptest! {
        #[test]
        fn merging_does_not_depend_on_the_order((told, shuffled) in tellings().prop_flat_map(|told| {
            (Just(told.clone()), Just(told).prop_shuffle())
        })) {
            assert_same(&fold(&told), &fold(&shuffled));
        }

        #[test]
        fn forgetting_a_session_leaves_what_never_hearing_it_leaves(told in tellings()) {
            let others: Vec<_> = told.iter().filter(|(session, _)| session != "s1").cloned().collect();
            match fold(&told).without_session("s1") {
                Some(left) => assert_same(&left, &fold(&others)),
                None => prop_assert!(others.is_empty()),
            }
        }

        #[test]
        fn a_note_is_the_sum_of_its_tellings(told in tellings()) {
            let note = fold(&told);
            let all = || told.iter().map(|(_, telling)| telling);
            prop_assert_eq!(note.seen as usize, told.len());
            prop_assert_eq!(note.salience, all().map(|telling| telling.salience).fold(0.0, f64::max));
            prop_assert_eq!((note.trust, note.id), (Trust::Untrusted, NoteId::of(&note.scope, note.trust, "use tabs")));
            let expiries: Option<Vec<_>> = all().map(|telling| telling.expires_at).collect();
            prop_assert_eq!(note.expires_at, expiries.map(|all| all.into_iter().max().unwrap()));
            let tags: BTreeSet<String> = all().flat_map(|telling| telling.tags.clone()).collect();
            prop_assert_eq!(&note.tags, &tags);
            let sessions: BTreeSet<&String> = told.iter().map(|(session, _)| session).collect();
            prop_assert_eq!(note.sessions(), sessions.iter().filter(|session| !session.is_empty()).count());
            prop_assert_eq!(note.created_at, all().map(|telling| telling.created_at).min().unwrap());
            prop_assert_eq!(note.updated_at, all().map(|telling| telling.updated_at).max().unwrap());
        }
    }

    #[test]
    fn the_status_follows_from_where_it_was_told() {
        let agent = Scope::try_from("acme/coder".to_owned()).unwrap();
        let telling = || Telling::new(NewNote::new("use tabs"), at(0));
        let note = Note::from_session(agent, "s1", Trust::Trusted, telling()).told_in_session("s1", telling());
        assert_eq!((note.sessions(), note.status(2)), (1, Status::Candidate));
        let note = note.told_in_session("s2", telling());
        assert_eq!((note.sessions(), note.status(2), note.status(3)), (2, Status::Active, Status::Candidate));
        assert_eq!(note.clone().without_session("s1").unwrap().status(2), Status::Candidate);
        assert_eq!(note.told(telling()).status(3), Status::Active);
        let here = Note::new(Scope::default(), Trust::Trusted, telling());
        assert_eq!(here.status(u32::MAX), Status::Active);
    }

    #[test]
    fn there_is_one_salience_of_zero() {
        assert!(Telling::new(NewNote::new("x").salience(-0.0), at(0)).salience.is_sign_positive());
    }

    #[test]
    fn a_note_lives_until_it_expires() {
        let telling = Telling::new(NewNote::new("x").expires_at(at(10)), at(0));
        let note = Note::new(Scope::default(), Trust::Trusted, telling);
        assert!(note.lives_at(at(10) - TimeDelta::nanoseconds(1)));
        assert!(!note.lives_at(at(10)));
        let note = note.told(Telling::new(NewNote::new("x"), at(0)));
        assert!(note.lives_at(at(1_000_000_000)));
    }
}
