//! What is learned: patterns, and the evidence behind them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::statistics::Rate;
use crate::{Error, ErrorKind, Key, Result, Scope, Step, Trust};

/// The identity of a pattern, made of learner, scope, trust, kind, domain and signature. The same regularity seen by two
/// episodes, two processes or two agents is the same record.
///
/// It is a UUID version 8 (RFC 9562): the first 32 bits are the scope's, so that the patterns of a scope are neighbours in a
/// store that sorts by id; the rest is of the UUID version 5 of all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PatternId(pub(crate) Uuid);

impl PatternId {
    /// The pattern of this UUID.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// The first and the last id that a pattern of this scope can have. Others may have one between them.
    pub fn range_of(scope: &Scope) -> (Self, Self) {
        let prefix = u128::from(prefix_of(scope)) << 96;
        (Self(Uuid::from_u128(prefix)), Self(Uuid::from_u128(prefix | (u128::MAX >> 32))))
    }
}

/// What the ids of the patterns of a scope begin with: half of the XXH3 hash of its name.
fn prefix_of(scope: &Scope) -> u32 {
    let hash = xxhash_rust::xxh3::xxh3_64(scope.as_str().as_bytes());
    u32::try_from(hash >> 32).unwrap_or_default()
}

impl fmt::Display for PatternId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a way to learn: a UUID version 5 of the learner's version and of every setting that changes what it
/// observes. Patterns of different learners do not mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LearnerId(pub(crate) Uuid);

impl LearnerId {
    /// The learner of this UUID.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// Whether it is no learner but the name of a log, a UUID version 8, which [`Memory::reembed`](crate::Memory::reembed) gives: a
    /// watermark of this name, at a version above 0, tells how far the store is a copy of that log. The log's own store has
    /// one at 0.
    pub fn names_a_log(&self) -> bool {
        self.0.get_version_num() == 8
    }
}

impl fmt::Display for LearnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kind of regularity a pattern states.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PatternKind {
    /// Which tool comes next after these last moves. Signature: up to three moves, oldest first; branch: the next tool.
    /// A trial is an occurrence; it succeeds if its episode did.
    Transition,
    /// These moves, one right after the other. Signature: two or three moves; one branch, the empty one.
    /// A trial is an episode that contains them; it succeeds if the episode did.
    ToolSequence,
    /// What repairs this error. Signature: the tool and its normalised error text; branch: the tools used after the error, up
    /// to the step in which the same tool went well; if that is not within three steps, up to the first that went well; else all of
    /// the next three. A trial is an occurrence of the error; it succeeds if the same tool went well
    /// within three steps.
    ErrorRecovery,
    /// What precedes failure. Signature: one or two moves of which the last went wrong; one branch, the empty one.
    /// A trial is an episode that contains them; the evidence is for the pattern if the episode did *not* succeed.
    FailureMode,
    /// How episodes fare that were in this state. Signature: `state`, with a branch for each class (`2 steps`, `2 steps, error,
    /// call again`, `task size 5`, `ended, 3 ids`); or `input` and what the last input looks like, with a branch for each number
    /// of steps; or one part of the task's context (`language=…`, `tag=…`, `environment […]`), with one branch, the empty one.
    /// A trial is an episode that was in the state, and went on unless the state is an end; it succeeds if the episode did. The
    /// branch `0 steps` holds every episode: the base rate.
    Context,
    /// Decision point: which branch after which observation. Signature: the last move and what about it came before in the
    /// same episode (`call again`, `result again`); branch: the next tool. A trial is an occurrence; it succeeds if its episode
    /// did. Points where nothing came before are the rest of the transition after that move.
    Decision,
    /// How episodes of one task fared, by what they did: what [heuristics](crate::Heuristic) are derived from. Signature: the
    /// terms of the task, then each part of its context; branch: the run, its first 50 moves as a JSON array, from which the
    /// [habits](crate::Habit) follow. A trial is an episode; it succeeds if the episode did.
    Habit,
    /// What showing something led to. Signature: `memory` for all that was recalled, or `advice` and a heuristic's id;
    /// branches: `shown`, `withheld`, and what agents said, `used`, `ignored`, `harmful`. A trial is an episode; it succeeds
    /// if the episode did.
    Exposure,
}

impl PatternKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Transition,
        Self::ToolSequence,
        Self::ErrorRecovery,
        Self::FailureMode,
        Self::Context,
        Self::Decision,
        Self::Habit,
        Self::Exposure,
    ];

    /// The kind as one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::ToolSequence => "tool_sequence",
            Self::ErrorRecovery => "error_recovery",
            Self::FailureMode => "failure_mode",
            Self::Context => "context",
            Self::Habit => "habit",
            Self::Exposure => "exposure",
            Self::Decision => "decision",
        }
    }

    /// The kind of this [name](Self::as_str).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for PatternKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Integer evidence: how many distinct episodes, how many trials, how many of those for the pattern.
///
/// Written as `[episodes, trials, successes]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[u64; 3]", into = "[u64; 3]")]
pub struct Counts {
    /// Distinct episodes.
    pub episodes: u64,
    /// Trials; what a trial is depends on the [`PatternKind`].
    pub trials: u64,
    /// Trials for the pattern.
    pub successes: u64,
}

impl From<[u64; 3]> for Counts {
    fn from([episodes, trials, successes]: [u64; 3]) -> Self {
        Self { episodes, trials, successes }
    }
}

impl From<Counts> for [u64; 3] {
    fn from(counts: Counts) -> Self {
        [counts.episodes, counts.trials, counts.successes]
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.episodes += other.episodes;
        self.trials += other.trials;
        self.successes += other.successes;
    }

    fn checked_sub(self, other: &Self) -> Option<Self> {
        Some(Self {
            episodes: self.episodes.checked_sub(other.episodes)?,
            trials: self.trials.checked_sub(other.trials)?,
            successes: self.successes.checked_sub(other.successes)?,
        })
    }

    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Evidence by absolute time bucket. Adding is exact, commutative, and undone by subtracting.
///
/// Bucket *b* covers the times from `b * width` to `(b + 1) * width` since the Unix epoch, with the width of the
/// [`Learner`](crate::Learner).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// All buckets but the last, by rising bucket. Copies share them: nearly all evidence that comes belongs to the last one.
    past: Arc<Vec<(i64, Counts)>>,
    last: Option<(i64, Counts)>,
}

/// As `{"buckets": {"20000": [1, 2, 1]}}`.
impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Buckets<'a>(&'a Evidence);
        impl Serialize for Buckets<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.buckets())
            }
        }
        let mut evidence = serializer.serialize_struct("Evidence", 1)?;
        evidence.serialize_field("buckets", &Buckets(self))?;
        evidence.end()
    }
}

impl<'de> Deserialize<'de> for Evidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Evidence")]
        struct AsMap {
            buckets: BTreeMap<i64, Counts>,
        }
        AsMap::deserialize(deserializer).map(|map| Self::of(map.buckets.into_iter().collect()))
    }
}

impl Evidence {
    /// Evidence in one bucket.
    pub fn in_bucket(bucket: i64, counts: Counts) -> Self {
        Self::of(vec![(bucket, counts)])
    }

    /// Evidence in these buckets, which rise.
    fn of(mut buckets: Vec<(i64, Counts)>) -> Self {
        let last = buckets.pop();
        Self { past: Arc::new(buckets), last }
    }

    /// The counts by bucket, oldest first.
    pub fn buckets(&self) -> impl Iterator<Item = (i64, Counts)> {
        self.past.iter().copied().chain(self.last)
    }

    /// The counts of all buckets together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.buckets().for_each(|(_, counts)| total.add(&counts));
        total
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Adds other evidence.
    pub fn add(&mut self, other: &Self) {
        other.buckets().for_each(|(bucket, counts)| self.count(bucket, counts));
    }

    /// Adds counts of one bucket.
    pub(crate) fn count(&mut self, bucket: i64, counts: Counts) {
        match &mut self.last {
            Some((last, known)) if *last == bucket => known.add(&counts),
            Some((last, _)) if *last > bucket => {
                let past = Arc::make_mut(&mut self.past);
                match place(past, bucket) {
                    Ok(known) => past[known].1.add(&counts),
                    Err(new) => past.insert(new, (bucket, counts)),
                }
            }
            last => {
                Arc::make_mut(&mut self.past).extend(*last);
                *last = Some((bucket, counts));
            }
        }
    }

    /// Takes other evidence away again.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when there is less than what is taken away; the evidence is then unchanged.
    pub fn subtract(&mut self, other: &Self) -> Result<()> {
        let mut rest: Vec<(i64, Counts)> = self.buckets().collect();
        for (bucket, counts) in other.buckets() {
            let have = place(&rest, bucket);
            let left = have.ok().and_then(|have| Some((have, rest[have].1.checked_sub(&counts)?)));
            let (have, left) = left.ok_or_else(|| {
                let have = have.ok().map(|have| rest[have].1);
                Error::new(ErrorKind::Corrupt, format!("evidence of bucket {bucket} is {have:?}, less than {counts:?}"))
            })?;
            if left.is_zero() {
                rest.remove(have);
            } else {
                rest[have].1 = left;
            }
        }
        *self = Self::of(rest);
        Ok(())
    }

    /// The weight of the evidence at a bucket when it halves with every `half_life` buckets.
    ///
    /// Evidence of buckets after `now` counts in full.
    pub fn support(&self, now: i64, half_life: f64) -> Support {
        let mut support = Support::default();
        for (bucket, counts) in self.buckets() {
            let age = now.saturating_sub(bucket).max(0) as f64;
            let weight = if age == 0.0 { 1.0 } else { (-age / half_life).exp2() };
            support.episodes += weight * counts.episodes as f64;
            support.trials += weight * counts.trials as f64;
            support.successes += weight * counts.successes as f64;
        }
        support
    }
}

/// Where a bucket is, or else where it belongs.
fn place(buckets: &[(i64, Counts)], bucket: i64) -> std::result::Result<usize, usize> {
    buckets.binary_search_by_key(&bucket, |(known, _)| *known)
}

/// Evidence weighed at a moment: counts after decay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Support {
    /// Distinct episodes, decayed.
    pub episodes: f64,
    /// Trials, decayed.
    pub trials: f64,
    /// Trials for the pattern, decayed.
    pub successes: f64,
}

impl Support {
    /// The interval, within [0, 1], that the rate of success lies in with 90 % confidence: the Wilson score interval
    /// (E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927), z = 1.645.
    pub fn interval(&self) -> (f64, f64) {
        Rate::from(*self).interval(1.645)
    }

    /// The status that this much evidence gives: a function of the evidence alone, never of how it came together.
    pub fn status(&self, quorum: u32) -> Status {
        let (low, high) = self.interval();
        if self.episodes < f64::from(quorum) {
            Status::Candidate
        } else if low > 0.5 {
            Status::Active
        } else if high < 0.5 {
            Status::Retired
        } else {
            Status::Contested
        }
    }
}

/// What the evidence makes of a pattern's branch.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Fewer distinct episodes than the quorum: not to be relied on.
    Candidate,
    /// The interval of its rate lies above one half: it usually holds.
    Active,
    /// The interval of its rate contains one half: it holds sometimes.
    Contested,
    /// The interval of its rate lies below one half: it usually does not hold.
    Retired,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Candidate => "candidate",
            Self::Active => "active",
            Self::Contested => "contested",
            Self::Retired => "retired",
        })
    }
}

/// A regularity, with the evidence of each of its branches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// Its identity, from the six fields below.
    pub id: PatternId,
    /// Who learned it.
    pub learner: LearnerId,
    /// Whose it is.
    pub scope: Scope,
    /// How far the episodes behind it are trusted, all of them alike: trusted and untrusted evidence does not mix.
    pub trust: Trust,
    /// What kind of regularity it is.
    pub kind: PatternKind,
    /// The domain it was seen in.
    pub domain: Option<String>,
    /// When it applies; see [`PatternKind`]. Moves are written as [`Move`] does.
    pub signature: Vec<String>,
    /// What then happens, with the evidence; see [`PatternKind`].
    pub branches: BTreeMap<String, Evidence>,
}

/// Adds fields to the name that an id is made of. Each ends in a byte that UTF-8 does not contain, so that no two lists of fields
/// have one name.
pub(crate) fn add_to_name<'a>(name: &mut Vec<u8>, fields: impl IntoIterator<Item = &'a [u8]>) {
    for field in fields {
        name.extend_from_slice(field);
        name.push(0xFF);
    }
}

/// What stands for a domain there: for none, another byte that UTF-8 does not contain.
pub(crate) fn domain_in_names(domain: Option<&str>) -> &[u8] {
    domain.map_or(&[0xFE], str::as_bytes)
}

impl Pattern {
    /// A pattern without evidence; its id is computed from the arguments.
    pub fn new(
        learner: LearnerId,
        scope: Scope,
        trust: Trust,
        kind: PatternKind,
        domain: Option<String>,
        signature: Vec<String>,
    ) -> Self {
        let mut name = Vec::with_capacity(128);
        let domain_name = domain_in_names(domain.as_deref());
        let fields = [scope.as_str().as_bytes(), trust.as_str().as_bytes(), kind.as_str().as_bytes(), domain_name];
        add_to_name(&mut name, fields);
        add_to_name(&mut name, signature.iter().map(String::as_bytes));
        let mut id = *Uuid::new_v5(&learner.0, &name).as_bytes();
        id[..4].copy_from_slice(&prefix_of(&scope).to_be_bytes());
        let id = PatternId(uuid::Builder::from_custom_bytes(id).into_uuid());
        Self { id, learner, scope, trust, kind, domain, signature, branches: BTreeMap::new() }
    }

    /// The same pattern, without evidence, for evidence of other trust.
    #[must_use]
    pub fn with_trust(&self, trust: Trust) -> Self {
        let (scope, domain, signature) = (self.scope.clone(), self.domain.clone(), self.signature.clone());
        Self::new(self.learner, scope, trust, self.kind, domain, signature)
    }

    /// The name of its record.
    pub fn key(&self) -> Key {
        if self.kind == PatternKind::Habit { Key::Habit(self.id) } else { Key::Pattern(self.id) }
    }

    /// The signature as people read it: its parts in order, with the start of the episode told once.
    pub fn condition(&self) -> String {
        let parts =
            self.signature.iter().map(|part| Move::parse(part).map_or_else(|| part.clone(), |one| one.to_string()));
        let mut parts: Vec<String> = parts.collect();
        parts.dedup_by(|a, b| a == b && *a == Move::Start.to_string());
        parts.join(" > ")
    }

    /// Adds the evidence of the same pattern.
    pub fn add(&mut self, other: &Self) {
        for (branch, evidence) in &other.branches {
            if let Some(mine) = self.branches.get_mut(branch) {
                mine.add(evidence);
            } else {
                self.branches.insert(branch.clone(), evidence.clone());
            }
        }
    }

    /// Takes evidence of the same pattern away again; branches without evidence go.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when there is less than what is taken away.
    pub fn subtract(&mut self, other: &Self) -> Result<()> {
        for (branch, evidence) in &other.branches {
            let mine = self.branches.get_mut(branch).ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, format!("pattern {} has no branch {branch:?}", self.id))
            })?;
            mine.subtract(evidence)?;
            if mine.is_empty() {
                self.branches.remove(branch);
            }
        }
        Ok(())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.kind, self.condition())
    }
}

/// One move in a signature: a tool and whether it went well, or the start of the episode.
///
/// In signatures `+tool` went well, `-tool` went wrong and `^` is the start, so that no name of a tool can be mistaken.
/// For people it prints as `tool`, `tool!` and `(start)`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move<'a> {
    /// Before the first step.
    Start,
    /// The tool went well.
    Ok(&'a str),
    /// The tool went wrong.
    Error(&'a str),
}

impl<'a> Move<'a> {
    /// The move that a step made.
    pub fn of(step: &'a Step) -> Self {
        if step.ok { Self::Ok(&step.tool) } else { Self::Error(&step.tool) }
    }

    /// Reads a part of a signature; `None` if it is not a move.
    pub fn parse(part: &'a str) -> Option<Self> {
        match part.as_bytes().first()? {
            b'^' if part.len() == 1 => Some(Self::Start),
            b'+' => Some(Self::Ok(&part[1..])),
            b'-' => Some(Self::Error(&part[1..])),
            _ => None,
        }
    }

    /// Writes it as a part of a signature.
    pub fn signature(&self) -> String {
        match self {
            Self::Start => "^".to_owned(),
            Self::Ok(tool) => format!("+{tool}"),
            Self::Error(tool) => format!("-{tool}"),
        }
    }
}

impl fmt::Display for Move<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("(start)"),
            Self::Ok(tool) => f.write_str(tool),
            Self::Error(tool) => write!(f, "{tool}!"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(episodes: u64, trials: u64, successes: u64) -> Counts {
        Counts { episodes, trials, successes }
    }

    #[test]
    fn evidence_is_undone_exactly() {
        let mut evidence = Evidence::in_bucket(3, counts(1, 2, 1));
        let more = Evidence::in_bucket(4, counts(1, 1, 0));
        let before = evidence.clone();
        evidence.add(&more);
        assert_eq!(evidence.total(), counts(2, 3, 1));
        evidence.subtract(&more).unwrap();
        assert_eq!(evidence, before);
        assert_eq!(evidence.subtract(&more).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(evidence, before);
    }

    #[test]
    fn evidence_is_written_as_a_map_whatever_order_it_came_in() {
        let mut evidence = Evidence::in_bucket(10, counts(1, 2, 1));
        evidence.add(&Evidence::in_bucket(-9, counts(1, 1, 0)));
        let written = r#"{"buckets":{"-9":[1,1,0],"10":[1,2,1]}}"#;
        assert_eq!(serde_json::to_string(&evidence).unwrap(), written);
        let reversed = r#"{"buckets":{"10":[1,2,1],"-9":[1,1,0]}}"#;
        assert_eq!(serde_json::from_str::<Evidence>(reversed).unwrap(), evidence);
    }

    #[test]
    fn support_halves_with_the_half_life() {
        let support = Evidence::in_bucket(0, counts(4, 8, 2)).support(30, 30.0);
        assert_eq!(support, Support { episodes: 2.0, trials: 4.0, successes: 1.0 });
    }

    #[test]
    fn status_follows_the_evidence() {
        let status = |episodes, trials, successes| Support { episodes, trials, successes }.status(3);
        assert_eq!(status(2.0, 2.0, 2.0), Status::Candidate);
        assert_eq!(status(9.0, 9.0, 9.0), Status::Active);
        assert_eq!(status(9.0, 9.0, 5.0), Status::Contested);
        assert_eq!(status(9.0, 9.0, 0.0), Status::Retired);
    }

    #[test]
    fn wilson_interval_matches_a_published_example() {
        // 8 of 10 at z = 1.645: (0.541, 0.931).
        let (low, high) = Support { episodes: 10.0, trials: 10.0, successes: 8.0 }.interval();
        assert!((low - 0.5407).abs() < 1e-3 && (high - 0.9308).abs() < 1e-3, "{low} {high}");
    }

    #[test]
    fn ids_depend_on_every_field_and_on_nothing_else() {
        let learner = LearnerId::new(Uuid::nil());
        let make = |domain: Option<&str>, signature: &[&str]| {
            let signature = signature.iter().map(|part| (*part).to_owned()).collect();
            Pattern::new(
                learner,
                Scope::default(),
                Trust::Trusted,
                PatternKind::Transition,
                domain.map(Into::into),
                signature,
            )
            .id
        };
        assert_eq!(make(Some("a"), &["+x"]), make(Some("a"), &["+x"]));
        let all = [
            make(None, &["+x"]),
            make(Some(""), &["+x"]),
            make(Some("\0"), &["+x"]),
            make(Some("a"), &["+x"]),
            make(Some("a"), &["+x", ""]),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn kinds_are_found_by_their_names() {
        for kind in PatternKind::ALL {
            assert_eq!(PatternKind::named(kind.as_str()), Some(kind));
        }
        assert_eq!(PatternKind::named("Transition"), None);
    }

    #[test]
    fn a_log_is_named_by_a_uuid_of_version_8() {
        let log = uuid::Builder::from_custom_bytes([7; 16]).into_uuid();
        let learner = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"a learner");
        assert_eq!([log, learner].map(|uuid| LearnerId::new(uuid).names_a_log()), [true, false]);
    }

    #[test]
    fn the_patterns_of_a_scope_are_neighbours() {
        let scopes = ["acme", "umbrella"].map(|tenant| Scope::new(tenant).unwrap());
        let ranges = scopes.each_ref().map(PatternId::range_of);
        for (scope, (first, last)) in scopes.iter().zip(ranges) {
            assert_eq!(last.as_uuid().as_u128() - first.as_uuid().as_u128(), (1 << 96) - 1);
            for signature in ["x", "y"] {
                let (learner, kind, signature) =
                    (LearnerId::new(Uuid::nil()), PatternKind::Transition, vec![signature.to_owned()]);
                let id = Pattern::new(learner, scope.clone(), Trust::Trusted, kind, None, signature).id;
                let within = ranges.map(|(first, last)| (first..=last).contains(&id));
                assert_eq!(within, scopes.each_ref().map(|other| other == scope));
            }
        }
    }
}
