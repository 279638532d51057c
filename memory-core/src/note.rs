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

/// Names every note that has a place; random, fixed for ever. Being another, it keeps these ids apart from those of texts.
const PLACES: Uuid = Uuid::from_u128(0x8b1e_47c5_d02f_4a39_9c68_3fd4_71ae_05b7);

/// The key, in [`Note::tellings`], of what was told in the note's own scope. No session has this name.
const HERE: &str = "";

/// The identity of a note: a UUID version 5 of its scope, its trust and its text, apart from case, white space and punctuation.
/// The same note told twice, also by two processes, is the same record; told by a trusted and by an untrusted source, it is two.
///
/// Of a note with a [`Place`] it is that of scope, trust and place, whatever the text, so that its neighbours can be named.
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

    /// The note at this place in this scope, of sources that are trusted so far.
    ///
    /// ```
    /// use memory_core::{NoteId, Place, Scope, Trust};
    /// let id = |position| NoteId::at(&Scope::default(), Trust::Trusted, &Place::new("chat 7", position));
    /// assert_ne!(id(0), id(1));
    /// ```
    pub fn at(scope: &Scope, trust: Trust, place: &Place) -> Self {
        let Place { thread, position, at: _ } = place;
        Self(Uuid::new_v5(&PLACES, format!("{scope}\n{trust}\n{position}\n{thread}").as_bytes()))
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

/// Where a note stands among those that belong together: the turns of a conversation, the lines of a log, the parts of a
/// document.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The name of what they are part of, within the scope; 1 to 128 bytes.
    pub thread: String,
    /// The place in it; positions may be left out.
    pub position: u32,
    /// When it was said or written, if that is known; it is no part of the note's identity.
    pub at: Option<DateTime<Utc>>,
}

impl Place {
    /// This position of this thread.
    pub fn new(thread: impl Into<String>, position: u32) -> Self {
        Self { thread: thread.into(), position, at: None }
    }

    /// Sets when it was said or written.
    #[must_use]
    pub fn at(mut self, at: DateTime<Utc>) -> Self {
        self.at = Some(at);
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {} of thread {:?}", self.position, self.thread)
    }
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
    /// Where it stands among those that belong together, if it does.
    pub place: Option<Place>,
}

impl NewNote {
    /// A fact of salience one half, which does not expire and has no place.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            kind: NoteKind::Fact,
            tags: BTreeSet::new(),
            salience: 0.5,
            source: None,
            expires_at: None,
            place: None,
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

    /// Sets where it stands among those that belong together.
    #[must_use]
    pub fn place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }
}

/// What is to be changed of a note, for [`Memory::update_note`](crate::Memory::update_note). What is not set stays.
///
/// ```
/// use memory_core::NoteChange;
/// let change = NoteChange::new().text("deploys are frozen on Thursdays").salience(0.9).never_expires();
/// assert_eq!((change.expires_at, change.kind), (Some(None), None));
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoteChange {
    /// The text; as that of a [`NewNote`].
    pub text: Option<String>,
    /// What it is about.
    pub kind: Option<NoteKind>,
    /// All its tags, in place of those it has.
    pub tags: Option<BTreeSet<String>>,
    /// How much it matters, in [0, 1].
    pub salience: Option<f64>,
    /// When it stops being so; `Some(None)` is never.
    pub expires_at: Option<Option<DateTime<Utc>>>,
}

impl NoteChange {
    /// A change of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Changes what it is about.
    #[must_use]
    pub fn kind(mut self, kind: NoteKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Replaces the tags.
    #[must_use]
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Changes how much it matters.
    #[must_use]
    pub fn salience(mut self, salience: f64) -> Self {
        self.salience = Some(salience);
        self
    }

    /// Changes when it stops being so.
    #[must_use]
    pub fn expires_at(mut self, at: DateTime<Utc>) -> Self {
        self.expires_at = Some(Some(at));
        self
    }

    /// Takes away that it stops being so.
    #[must_use]
    pub fn never_expires(mut self) -> Self {
        self.expires_at = Some(None);
        self
    }

    /// What was told, as it is when this is changed of it at this moment: when it was first told and how often stay.
    pub(crate) fn applied_to(&self, telling: Telling, at: DateTime<Utc>) -> Telling {
        let Self { text, kind, tags, salience, expires_at } = self.clone();
        Telling {
            text: text.or(telling.text),
            kind: kind.unwrap_or(telling.kind),
            tags: tags.unwrap_or(telling.tags),
            salience: salience.map_or(telling.salience, positive_zero),
            updated_at: telling.updated_at.max(at),
            expires_at: expires_at.unwrap_or(telling.expires_at),
            ..telling
        }
    }
}

/// Zero has one sign: adding zero takes it from a negative one.
fn positive_zero(salience: f64) -> f64 {
    salience + 0.0
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
        let NewNote { text, kind, tags, salience, source, expires_at, place: _ } = note;
        let salience = positive_zero(salience);
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

    /// What two memories know of the same place: as [merged](Self::merge), but told as often as the one says that knows
    /// more. They may have heard the same tellings, and what is joined twice must not count twice.
    pub(crate) fn join(self, other: Self) -> Self {
        let seen = self.seen.max(other.seen);
        Self { seen, ..self.merge(other) }
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
    /// Where it stands among those that belong together, if it does.
    pub place: Option<Place>,
    /// What was told where: by the name of the session of this agent, and under the empty name in this scope itself.
    pub tellings: BTreeMap<String, Telling>,
}

impl Note {
    /// The note that was told in its own scope, by a source that is trusted so far.
    pub fn new(scope: Scope, trust: Trust, telling: Telling) -> Self {
        Self::of(Root { scope, trust, place: None }, telling, BTreeMap::new(), HERE)
    }

    /// The note that was told at this place of its own scope, by a source that is trusted so far.
    pub fn at(scope: Scope, trust: Trust, place: Place, telling: Telling) -> Self {
        Self::of(Root { scope, trust, place: Some(place) }, telling, BTreeMap::new(), HERE)
    }

    /// The agent's note, or the candidate for one, that was told in this session of the agent, by a source that is trusted so
    /// far.
    pub fn from_session(agent: Scope, session: &str, trust: Trust, telling: Telling) -> Self {
        Self::of(Root { scope: agent, trust, place: None }, telling, BTreeMap::new(), session)
    }

    /// This note, told again in its own scope, by a source that is trusted as far.
    #[must_use]
    pub fn told(self, telling: Telling) -> Self {
        let (root, tellings) = self.take_apart();
        Self::of(root, telling, tellings, HERE)
    }

    /// This agent's note, told again in this session of the agent, by a source that is trusted as far.
    #[must_use]
    pub fn told_in_session(self, session: &str, telling: Telling) -> Self {
        let (root, tellings) = self.take_apart();
        Self::of(root, telling, tellings, session)
    }

    /// This agent's note without what was told in this session; `None` if nothing is left.
    #[must_use]
    pub fn without_session(self, session: &str) -> Option<Self> {
        let (root, mut tellings) = self.take_apart();
        tellings.remove(session);
        let (session, telling) = tellings.pop_first()?;
        Some(Self::of(root, telling, tellings, &session))
    }

    /// What was told in this session of the agent, with its text.
    pub(crate) fn told_in(&self, session: &str) -> Option<Telling> {
        let mut telling = self.tellings.get(session)?.clone();
        telling.text.get_or_insert_with(|| self.text.clone());
        Some(telling)
    }

    /// All that was told of it, as one telling.
    pub(crate) fn as_telling(&self) -> Telling {
        Telling {
            text: Some(self.text.clone()),
            kind: self.kind,
            source: self.source.clone(),
            tags: self.tags.clone(),
            salience: self.salience,
            created_at: self.created_at,
            updated_at: self.updated_at,
            expires_at: self.expires_at,
            seen: self.seen,
        }
    }

    /// What it is made of.
    pub(crate) fn into_parts(self) -> NoteParts {
        let (Root { scope, trust, place }, tellings) = self.take_apart();
        NoteParts { scope, trust, place, tellings }
    }

    /// What two memories know of the same note, together: see [`Telling::join`]. Joining is the same in any order, and twice
    /// is once.
    pub(crate) fn join(&self, other: Self) -> Self {
        let (mut both, theirs) = (self.clone().into_parts(), other.into_parts());
        if let (Some(place), Some(other)) = (&mut both.place, theirs.place) {
            place.at = place.at.into_iter().chain(other.at).min();
        }
        for (session, telling) in theirs.tellings {
            let telling = match both.tellings.remove(&session) {
                Some(mine) => mine.join(telling),
                None => telling,
            };
            both.tellings.insert(session, telling);
        }
        both.into_note().unwrap_or_else(|| self.clone())
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

    /// What it is of, and all tellings with their texts.
    fn take_apart(self) -> (Root, BTreeMap<String, Telling>) {
        let Self { scope, trust, place, text, mut tellings, .. } = self;
        for telling in tellings.values_mut() {
            telling.text.get_or_insert_with(|| text.clone());
        }
        (Root { scope, trust, place }, tellings)
    }

    /// The note of these tellings and one more. All of them have their texts.
    fn of(root: Root, telling: Telling, mut tellings: BTreeMap<String, Telling>, session: &str) -> Self {
        let here = match tellings.remove(session) {
            Some(before) => before.merge(telling),
            None => telling,
        };
        let sum = tellings.values().cloned().fold(here.clone(), Telling::merge);
        tellings.insert(session.to_owned(), here);
        for telling in tellings.values_mut().filter(|telling| telling.text == sum.text) {
            telling.text = None;
        }
        let Telling { text, kind, source, tags, salience, created_at, updated_at, expires_at, seen } = sum;
        let text = text.unwrap_or_default();
        let Root { scope, trust, place } = root;
        let id = match &place {
            Some(place) => NoteId::at(&scope, trust, place),
            None => NoteId::of(&scope, trust, &text),
        };
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
            place,
            tellings,
        }
    }
}

/// All that a note is made of, each telling with its text: the rest follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoteParts {
    pub(crate) scope: Scope,
    pub(crate) trust: Trust,
    pub(crate) place: Option<Place>,
    pub(crate) tellings: BTreeMap<String, Telling>,
}

impl NoteParts {
    /// The note; `None` without tellings.
    pub(crate) fn into_note(self) -> Option<Note> {
        let Self { scope, trust, place, mut tellings } = self;
        let (session, telling) = tellings.pop_first()?;
        Some(Note::of(Root { scope, trust, place }, telling, tellings, &session))
    }
}

/// What a note is of, besides its tellings.
struct Root {
    scope: Scope,
    trust: Trust,
    place: Option<Place>,
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

    proptest! {
        /// Places are told apart by scope, trust, thread and position, and from all texts, also from those made to look alike.
        #[test]
        fn the_identity_of_a_place_is_of_nothing_else(
            scopes in [select(vec!["a", "a/b", "a/b/c"]), select(vec!["a", "a/b", "a/b/c"])],
            trusts in [select(vec![Trust::Trusted, Trust::Untrusted]), select(vec![Trust::Trusted, Trust::Untrusted])],
            threads in ["[a1\n]{1,3}", "[a1\n]{1,3}"],
            positions in [0..12_u32, 0..12_u32],
        ) {
            let scopes = scopes.map(|path| Scope::try_from(path.to_owned()).unwrap());
            let places = [0, 1].map(|n| Place::new(threads[n].clone(), positions[n]));
            let said = places[0].clone().at(at(5));
            let ids = [0, 1].map(|n| NoteId::at(&scopes[n], trusts[n], &places[n]));
            let same = (&scopes[0], trusts[0], &places[0]) == (&scopes[1], trusts[1], &places[1]);
            prop_assert_eq!(ids[0] == ids[1], same);
            prop_assert_eq!(NoteId::at(&scopes[0], trusts[0], &said), ids[0], "the moment is no part of it");
            let Place { thread, position, at: _ } = &places[0];
            for text in [thread.clone(), format!("{position}\n{thread}"), format!("{position} {thread}"), places[0].to_string()] {
                prop_assert_ne!(ids[0], NoteId::of(&scopes[1], trusts[1], &text));
            }
        }
    }

    #[test]
    fn a_note_with_a_place_keeps_its_id_whatever_its_text() {
        let place = Place::new("chat", 3);
        let telling = |text: &str| Telling::new(NewNote::new(text), at(0));
        let note = |text: &str| Note::at(Scope::default(), Trust::Trusted, place.clone(), telling(text));
        assert_eq!(note("yes").id, NoteId::at(&Scope::default(), Trust::Trusted, &place));
        assert_eq!((note("no").id, note("no").place), (note("yes").id, Some(place.clone())));
        let again = note("yes").told(telling("Yes!"));
        assert_eq!((again.id, again.seen, again.place), (note("yes").id, 2, Some(place.clone())));
        assert_eq!(place.to_string(), "position 3 of thread \"chat\"");
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let note = NewNote::new("use tabs").kind(NoteKind::Plan).tag("a").salience(0.3).expires_at(at(50));
        let before = Telling::new(note, at(1)).merge(Telling::new(NewNote::new("use tabs").expires_at(at(60)), at(2)));
        let changed = |change: NoteChange| change.applied_to(before.clone(), at(9));
        assert_eq!(changed(NoteChange::new()), Telling { updated_at: at(9), ..before.clone() });
        let all = NoteChange::new().text("x").kind(NoteKind::Fact).tags(["b"]).salience(-0.0).never_expires();
        let after = changed(all);
        assert_eq!((after.text.as_deref(), after.kind, after.expires_at), (Some("x"), NoteKind::Fact, None));
        assert_eq!(after.tags.iter().collect::<Vec<_>>(), ["b"]);
        assert!(after.salience == 0.0 && after.salience.is_sign_positive());
        assert_eq!((after.created_at, after.updated_at, after.seen, &after.source[..]), (at(1), at(9), 2, "agent"));
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

    proptest! {
        /// What each of three memories has heard, all from the same tellings.
        #[test]
        fn joining_is_the_same_in_any_order_and_twice_is_once(
            (told, heard) in tellings().prop_flat_map(|told| {
                let heard = proptest::collection::vec(any::<[bool; 3]>(), told.len());
                (Just(told), heard)
            }),
        ) {
            let of = |memory: usize| {
                let mut own = told.iter().zip(&heard).filter(|(_, heard)| heard[memory]).map(|(told, _)| told.clone()).collect::<Vec<_>>();
                own.extend(told.first().cloned().filter(|_| own.is_empty()));
                fold(&own)
            };
            let [a, b, c] = [0, 1, 2].map(of);
            assert_same(&a.join(a.clone()), &a);
            let ab = a.join(b.clone());
            assert_same(&ab, &b.join(a.clone()));
            assert_same(&ab.join(b.clone()), &ab);
            assert_same(&ab.join(c.clone()), &a.join(b.join(c.clone())));
            let all = fold(&told);
            let joined = all.join(a);
            assert_same(&joined, &all);
            for (session, telling) in &ab.tellings {
                let told = [of(0), of(1)].into_iter().filter_map(|note| note.told_in(session));
                prop_assert_eq!(Some(telling.seen), told.map(|telling| telling.seen).max());
            }
        }

        #[test]
        fn a_note_is_what_its_parts_make(told in tellings()) {
            let note = fold(&told);
            let parts = note.clone().into_parts();
            prop_assert!(parts.tellings.values().all(|telling| telling.text.is_some()));
            let written = serde_json::to_string(&parts).unwrap();
            let read: NoteParts = serde_json::from_str(&written).unwrap();
            assert_same(&read.into_note().unwrap(), &note);
        }
    }

    #[test]
    fn joined_notes_of_a_place_have_the_first_moment() {
        let place = |at: Option<i64>| Place { at: at.map(self::at), ..Place::new("chat", 3) };
        let note =
            |at| Note::at(Scope::default(), Trust::Trusted, place(at), Telling::new(NewNote::new("yes"), self::at(0)));
        for (one, other, both) in [(None, None, None), (Some(5), None, Some(5)), (Some(7), Some(5), Some(5))] {
            assert_eq!(note(one).join(note(other)), note(both));
            assert_eq!(note(other).join(note(one)), note(both));
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
