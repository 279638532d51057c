//! The structs of format 1. They never change: what is to be stored otherwise gets a format of its own.
//!
//! Plain structs and sequences of what bincode has a form for. No field is flattened, tagged or skipped: bincode would write
//! such a struct and read another. A struct of the library that others may not match exhaustively has its fields counted in a
//! test instead, so that a new field is not lost.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use memory_core::{
    Artifact, Counts, Episode, EpisodeId, Error, Evidence, Feedback, HeuristicId, HolderId, LearnerId, Lease,
    LoggedEpisode, NewNote, Note, NoteId, NoteKind, OpenedEpisode, OpenedStep, Outcome, Pattern, PatternId,
    PatternKind, Place, Receipt, Record, RecordKind, Result, Scope, Source, Step, StoredNote, Task, Telling, Trust,
    Vector, VectorSpace, Verdict, Version, Watermark,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Payload, Unfit, get};

type Text<'a> = Cow<'a, str>;
type Id = [u8; 16];

/// Seconds since 1970, and nanoseconds beyond: up to 1,999,999,999 within a leap second.
#[derive(Serialize, Deserialize)]
struct MomentV1(i64, u32);

#[derive(Serialize, Deserialize)]
struct SpaceV1<'a> {
    provider: Text<'a>,
    model: Text<'a>,
    revision: Text<'a>,
    dimensions: u64,
    normalised: bool,
    query_prefix: Text<'a>,
    document_prefix: Text<'a>,
}

#[derive(Serialize, Deserialize)]
struct WatermarkV1 {
    learner: Id,
    position: u64,
}

#[derive(Serialize, Deserialize)]
struct EpisodeV1<'a> {
    id: Id,
    task: TaskV1<'a>,
    steps: Vec<StepV1<'a>>,
    outcome: OutcomeV1<'a>,
    started_at: MomentV1,
    completed_at: MomentV1,
    source: SourceV1<'a>,
    receipt: Option<ReceiptV1>,
    /// Whether a vector is stored beside it.
    vector: bool,
}

#[derive(Serialize, Deserialize)]
struct TaskV1<'a> {
    text: Text<'a>,
    domain: Option<Text<'a>>,
    language: Option<Text<'a>>,
    tags: Vec<Text<'a>>,
    environment: Vec<(Text<'a>, Text<'a>)>,
}

#[derive(Serialize, Deserialize)]
struct StepV1<'a> {
    tool: Text<'a>,
    action: Text<'a>,
    input: Text<'a>,
    observation: Text<'a>,
    ok: bool,
    latency_ms: Option<u64>,
    tokens: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct OutcomeV1<'a> {
    verdict: u8,
    summary: Text<'a>,
    reward: Option<f64>,
    reflection: Option<Text<'a>>,
    artifacts: Vec<(Text<'a>, Text<'a>)>,
}

#[derive(Serialize, Deserialize)]
struct SourceV1<'a> {
    name: Text<'a>,
    trust: u8,
}

#[derive(Serialize, Deserialize)]
struct ReceiptV1 {
    withheld: bool,
    advice: Vec<(Id, bool)>,
    episodes: Vec<Id>,
    pitfalls: Vec<Id>,
    notes: Vec<Id>,
    feedback: Vec<(Id, u8)>,
}

#[derive(Serialize, Deserialize)]
struct OpenV1<'a> {
    id: Id,
    task: TaskV1<'a>,
    started_at: MomentV1,
    source: SourceV1<'a>,
    receipt: Option<ReceiptV1>,
    lease: Option<(Id, MomentV1)>,
    state: Option<Text<'a>>,
}

#[derive(Serialize, Deserialize)]
struct OpenStepV1<'a> {
    episode: Id,
    index: u32,
    step: StepV1<'a>,
}

#[derive(Serialize, Deserialize)]
struct PatternV1<'a> {
    id: Id,
    learner: Id,
    trust: u8,
    kind: u8,
    domain: Option<Text<'a>>,
    signature: Vec<Text<'a>>,
    branches: Vec<(Text<'a>, EvidenceV1)>,
}

/// Buckets, and episodes, trials and successes of each.
type EvidenceV1 = Vec<(i64, [u64; 3])>;

#[derive(Serialize, Deserialize)]
struct NoteV1<'a> {
    id: Id,
    trust: u8,
    place: Option<PlaceV1<'a>>,
    sum: TellingV1<'a>,
    tellings: Vec<(Text<'a>, TellingV1<'a>)>,
    /// Whether a vector is stored beside it.
    vector: bool,
}

#[derive(Serialize, Deserialize)]
struct PlaceV1<'a> {
    thread: Text<'a>,
    position: u32,
    at: Option<MomentV1>,
}

/// What was told in one place, or what all tellings say together.
#[derive(Serialize, Deserialize)]
struct TellingV1<'a> {
    text: Option<Text<'a>>,
    kind: u8,
    source: Text<'a>,
    tags: Vec<Text<'a>>,
    salience: f64,
    created_at: MomentV1,
    updated_at: MomentV1,
    expires_at: Option<MomentV1>,
    seen: u32,
}

/// The values of each enum in the order of their numbers, for ever.
const VERDICTS: [Verdict; 5] =
    [Verdict::Success, Verdict::Partial, Verdict::Failure, Verdict::Abstained, Verdict::Interrupted];
const TRUSTS: [Trust; 2] = [Trust::Untrusted, Trust::Trusted];
const FEEDBACKS: [Feedback; 3] = [Feedback::Used, Feedback::Ignored, Feedback::Harmful];
const NOTE_KINDS: [NoteKind; 4] = [NoteKind::Fact, NoteKind::Preference, NoteKind::Lesson, NoteKind::Plan];
const PATTERN_KINDS: [PatternKind; 8] = [
    PatternKind::Transition,
    PatternKind::ToolSequence,
    PatternKind::ErrorRecovery,
    PatternKind::FailureMode,
    PatternKind::Context,
    PatternKind::Decision,
    PatternKind::Habit,
    PatternKind::Exposure,
];

fn number<T: PartialEq + Debug>(all: &[T], value: &T) -> Result<u8> {
    let place = all.iter().position(|one| one == value).and_then(|place| u8::try_from(place).ok());
    place.ok_or_else(|| Error::invalid("record", format_args!("{value:?}"), format_args!("{all:?}")))
}

fn value<T: Copy + Debug>(all: &[T], number: u8) -> Result<T, Unfit> {
    all.get(usize::from(number)).copied().ok_or_else(|| Unfit(format!("{number} is none of {all:?}")))
}

/// Writes what the payload of a record is in this format.
pub(super) fn encode(record: &Record, to: &mut Payload<'_>) -> Result<()> {
    match record {
        Record::Space(space) => to.put(&space_v1(space)),
        Record::Watermark(Watermark { learner, position }) => {
            to.put(&WatermarkV1 { learner: *learner.as_uuid().as_bytes(), position: position.0 })
        }
        Record::Episode(LoggedEpisode { episode, vector }) => to.put(&episode_v1(episode, vector.is_some())?),
        Record::Open(open) => to.put(&open_v1(open)?),
        Record::Step(OpenedStep { episode, index, step }) => {
            to.put(&OpenStepV1 { episode: *episode.as_uuid().as_bytes(), index: *index, step: step_v1(step) })
        }
        Record::Pattern(pattern) => to.put(&pattern_v1(pattern)?),
        Record::Note(StoredNote { note, vector }) => to.put(&note_v1(note, vector.is_some())?),
        Record::Unembedded(id) => to.put(id.as_bytes()),
    }
}

/// Reads a payload of this format: a record of this kind, with this scope, beside which this vector is stored.
pub(super) fn decode(kind: RecordKind, scope: &str, payload: &[u8], vector: Option<Vector>) -> Result<Record, Unfit> {
    let scope = || Scope::try_from(scope.to_owned()).map_err(|error| Unfit(error.to_string()));
    Ok(match kind {
        RecordKind::Space => Record::Space(space(get(payload)?)?),
        RecordKind::Watermark => {
            let WatermarkV1 { learner, position } = get(payload)?;
            Record::Watermark(Watermark { learner: LearnerId::new(uuid(learner)), position: Version(position) })
        }
        RecordKind::Episode => {
            let stored: EpisodeV1<'_> = get(payload)?;
            check_vector(stored.vector, vector.as_ref())?;
            Record::Episode(LoggedEpisode { episode: Arc::new(episode(scope()?, stored)?), vector })
        }
        RecordKind::Open => Record::Open(open(scope()?, get(payload)?)?),
        RecordKind::Step => {
            let OpenStepV1 { episode, index, step: stored } = get(payload)?;
            Record::Step(OpenedStep { episode: EpisodeId::new(uuid(episode)), index, step: step(stored) })
        }
        RecordKind::Pattern | RecordKind::Habit => Record::Pattern(pattern(scope()?, get(payload)?)?),
        RecordKind::Note => {
            let stored: NoteV1<'_> = get(payload)?;
            check_vector(stored.vector, vector.as_ref())?;
            Record::Note(StoredNote { note: Arc::new(note(scope()?, stored)?), vector })
        }
        RecordKind::Unembedded => Record::Unembedded(uuid(get(payload)?)),
    })
}

fn check_vector(stored: bool, found: Option<&Vector>) -> Result<(), Unfit> {
    match (stored, found) {
        (true, None) => Err(Unfit::of("its vector is missing")),
        (false, Some(_)) => Err(Unfit::of("it has no vector, and there is one")),
        _ => Ok(()),
    }
}

fn uuid(id: Id) -> Uuid {
    Uuid::from_bytes(id)
}

fn moment_v1(at: DateTime<Utc>) -> MomentV1 {
    MomentV1(at.timestamp(), at.timestamp_subsec_nanos())
}

fn moment(MomentV1(seconds, nanos): MomentV1) -> Result<DateTime<Utc>, Unfit> {
    DateTime::from_timestamp(seconds, nanos).ok_or_else(|| Unfit(format!("no moment is at {seconds} s + {nanos} ns")))
}

fn optional_moment(at: Option<MomentV1>) -> Result<Option<DateTime<Utc>>, Unfit> {
    at.map(moment).transpose()
}

fn texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<Text<'a>> {
    texts.into_iter().map(|text| Cow::from(text.as_str())).collect()
}

fn optional(text: Option<&String>) -> Option<Text<'_>> {
    text.map(|text| Cow::from(text.as_str()))
}

fn owned(text: Option<Text<'_>>) -> Option<String> {
    text.map(Cow::into_owned)
}

/// What was written from a set: rising values.
fn set<T, U: Ord>(items: Vec<T>, convert: impl Fn(T) -> U) -> Result<BTreeSet<U>, Unfit> {
    let count = items.len();
    let set: BTreeSet<U> = items.into_iter().map(convert).collect();
    if set.len() == count { Ok(set) } else { Err(Unfit::of("a value is there twice")) }
}

/// What was written from a map: rising keys.
fn map<K, V, U: Ord, W>(
    items: Vec<(K, V)>,
    convert: impl Fn(K) -> U,
    value: impl Fn(V) -> Result<W, Unfit>,
) -> Result<BTreeMap<U, W>, Unfit> {
    let count = items.len();
    let pairs = items.into_iter().map(|(key, stored)| Ok((convert(key), value(stored)?)));
    let map: BTreeMap<U, W> = pairs.collect::<Result<_, Unfit>>()?;
    if map.len() == count { Ok(map) } else { Err(Unfit::of("a key is there twice")) }
}

fn space_v1(space: &VectorSpace) -> SpaceV1<'_> {
    let VectorSpace { provider, model, revision, dimensions, normalised, query_prefix, document_prefix } = space;
    SpaceV1 {
        provider: provider.into(),
        model: model.into(),
        revision: revision.into(),
        dimensions: *dimensions as u64,
        normalised: *normalised,
        query_prefix: query_prefix.into(),
        document_prefix: document_prefix.into(),
    }
}

fn space(stored: SpaceV1<'_>) -> Result<VectorSpace, Unfit> {
    let SpaceV1 { provider, model, revision, dimensions, normalised, query_prefix, document_prefix } = stored;
    Ok(VectorSpace {
        provider: provider.into_owned(),
        model: model.into_owned(),
        revision: revision.into_owned(),
        dimensions: usize::try_from(dimensions).map_err(|_| Unfit(format!("it has {dimensions} dimensions")))?,
        normalised,
        query_prefix: query_prefix.into_owned(),
        document_prefix: document_prefix.into_owned(),
    })
}

fn episode_v1(episode: &Episode, vector: bool) -> Result<EpisodeV1<'_>> {
    Ok(EpisodeV1 {
        id: *episode.id.as_uuid().as_bytes(),
        task: task_v1(&episode.task),
        steps: episode.steps.iter().map(step_v1).collect(),
        outcome: outcome_v1(&episode.outcome)?,
        started_at: moment_v1(episode.started_at),
        completed_at: moment_v1(episode.completed_at),
        source: source_v1(&episode.source)?,
        receipt: episode.receipt.as_ref().map(receipt_v1).transpose()?,
        vector,
    })
}

fn episode(scope: Scope, stored: EpisodeV1<'_>) -> Result<Episode, Unfit> {
    let EpisodeV1 {
        id,
        task: of,
        steps,
        outcome: end,
        started_at,
        completed_at,
        source: by,
        receipt: shown,
        vector: _,
    } = stored;
    let steps = steps.into_iter().map(step).collect();
    let (from, to) = (moment(started_at)?, moment(completed_at)?);
    let mut episode = Episode::new(EpisodeId::new(uuid(id)), scope, task(of)?, steps, outcome(end)?, from, to);
    episode.source = source(by)?;
    episode.receipt = shown.map(receipt).transpose()?;
    Ok(episode)
}

fn task_v1(task: &Task) -> TaskV1<'_> {
    TaskV1 {
        text: (&task.text).into(),
        domain: optional(task.domain.as_ref()),
        language: optional(task.language.as_ref()),
        tags: texts(&task.tags),
        environment: task.environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
    }
}

fn task(stored: TaskV1<'_>) -> Result<Task, Unfit> {
    let TaskV1 { text, domain, language, tags, environment } = stored;
    let mut task = Task::new(text);
    task.domain = owned(domain);
    task.language = owned(language);
    task.tags = set(tags, Cow::into_owned)?;
    task.environment = map(environment, Cow::into_owned, |value| Ok(value.into_owned()))?;
    Ok(task)
}

fn step_v1(step: &Step) -> StepV1<'_> {
    StepV1 {
        tool: (&step.tool).into(),
        action: (&step.action).into(),
        input: (&step.input).into(),
        observation: (&step.observation).into(),
        ok: step.ok,
        latency_ms: step.latency_ms,
        tokens: step.tokens,
    }
}

fn step(stored: StepV1<'_>) -> Step {
    let StepV1 { tool, action, input, observation, ok, latency_ms, tokens } = stored;
    let mut step = Step::new(tool).action(action).input(input).ok(observation);
    (step.ok, step.latency_ms, step.tokens) = (ok, latency_ms, tokens);
    step
}

fn outcome_v1(outcome: &Outcome) -> Result<OutcomeV1<'_>> {
    let artifacts = outcome.artifacts.iter().map(|Artifact { name, content }| (name.into(), content.into()));
    Ok(OutcomeV1 {
        verdict: number(&VERDICTS, &outcome.verdict)?,
        summary: (&outcome.summary).into(),
        reward: outcome.reward,
        reflection: optional(outcome.reflection.as_ref()),
        artifacts: artifacts.collect(),
    })
}

fn outcome(stored: OutcomeV1<'_>) -> Result<Outcome, Unfit> {
    let OutcomeV1 { verdict, summary, reward, reflection, artifacts } = stored;
    let mut outcome = Outcome::new(value(&VERDICTS, verdict)?, summary);
    (outcome.reward, outcome.reflection) = (reward, owned(reflection));
    let artifacts = artifacts.into_iter();
    outcome.artifacts =
        artifacts.map(|(name, content)| Artifact { name: name.into_owned(), content: content.into_owned() }).collect();
    Ok(outcome)
}

fn source_v1(source: &Source) -> Result<SourceV1<'_>> {
    let Source { name, trust } = source;
    Ok(SourceV1 { name: name.into(), trust: number(&TRUSTS, trust)? })
}

fn source(SourceV1 { name, trust }: SourceV1<'_>) -> Result<Source, Unfit> {
    Ok(Source { name: name.into_owned(), trust: value(&TRUSTS, trust)? })
}

fn receipt_v1(receipt: &Receipt) -> Result<ReceiptV1> {
    let Receipt { withheld, advice, episodes, pitfalls, notes, feedback } = receipt;
    let feedback = feedback.iter().map(|(id, said)| Ok((*id.as_uuid().as_bytes(), number(&FEEDBACKS, said)?)));
    Ok(ReceiptV1 {
        withheld: *withheld,
        advice: advice.iter().map(|(id, shown)| (*id.as_uuid().as_bytes(), *shown)).collect(),
        episodes: episodes.iter().map(|id| *id.as_uuid().as_bytes()).collect(),
        pitfalls: pitfalls.iter().map(|id| *id.as_uuid().as_bytes()).collect(),
        notes: notes.iter().map(|id| *id.as_uuid().as_bytes()).collect(),
        feedback: feedback.collect::<Result<_>>()?,
    })
}

fn receipt(stored: ReceiptV1) -> Result<Receipt, Unfit> {
    let ReceiptV1 { withheld, advice, episodes, pitfalls, notes, feedback } = stored;
    let heuristic = |id| HeuristicId::new(uuid(id));
    Ok(Receipt {
        withheld,
        advice: map(advice, heuristic, Ok)?,
        episodes: set(episodes, |id| EpisodeId::new(uuid(id)))?,
        pitfalls: set(pitfalls, |id| PatternId::new(uuid(id)))?,
        notes: set(notes, |id| NoteId::new(uuid(id)))?,
        feedback: map(feedback, heuristic, |said| value(&FEEDBACKS, said))?,
    })
}

fn open_v1(open: &OpenedEpisode) -> Result<OpenV1<'_>> {
    let OpenedEpisode { id, scope: _, task, started_at, source, receipt, lease, state } = open;
    let lease = lease.map(|Lease { holder, expires_at }| (*holder.as_uuid().as_bytes(), moment_v1(expires_at)));
    Ok(OpenV1 {
        id: *id.as_uuid().as_bytes(),
        task: task_v1(task),
        started_at: moment_v1(*started_at),
        source: source_v1(source)?,
        receipt: receipt.as_ref().map(receipt_v1).transpose()?,
        lease,
        state: optional(state.as_ref()),
    })
}

fn open(scope: Scope, stored: OpenV1<'_>) -> Result<OpenedEpisode, Unfit> {
    let OpenV1 { id, task: of, started_at, source: by, receipt: shown, lease, state } = stored;
    let lease = match lease {
        Some((holder, expires_at)) => {
            Some(Lease { holder: HolderId::new(uuid(holder)), expires_at: moment(expires_at)? })
        }
        None => None,
    };
    Ok(OpenedEpisode {
        id: EpisodeId::new(uuid(id)),
        scope,
        task: task(of)?,
        started_at: moment(started_at)?,
        source: source(by)?,
        receipt: shown.map(receipt).transpose()?,
        lease,
        state: owned(state),
    })
}

fn pattern_v1(pattern: &Pattern) -> Result<PatternV1<'_>> {
    let Pattern { id, learner, scope: _, trust, kind, domain, signature, branches } = pattern;
    let branches = branches.iter().map(|(branch, evidence)| {
        let buckets = evidence.buckets().map(|(bucket, counts)| (bucket, counts.into()));
        (branch.into(), buckets.collect())
    });
    Ok(PatternV1 {
        id: *id.as_uuid().as_bytes(),
        learner: *learner.as_uuid().as_bytes(),
        trust: number(&TRUSTS, trust)?,
        kind: number(&PATTERN_KINDS, kind)?,
        domain: optional(domain.as_ref()),
        signature: texts(signature),
        branches: branches.collect(),
    })
}

fn pattern(scope: Scope, stored: PatternV1<'_>) -> Result<Pattern, Unfit> {
    let PatternV1 { id, learner, trust, kind, domain, signature, branches } = stored;
    Ok(Pattern {
        id: PatternId::new(uuid(id)),
        learner: LearnerId::new(uuid(learner)),
        scope,
        trust: value(&TRUSTS, trust)?,
        kind: value(&PATTERN_KINDS, kind)?,
        domain: owned(domain),
        signature: signature.into_iter().map(Cow::into_owned).collect(),
        branches: map(branches, Cow::into_owned, evidence)?,
    })
}

fn evidence(stored: EvidenceV1) -> Result<Evidence, Unfit> {
    if !stored.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Err(Unfit::of("buckets of evidence do not rise"));
    }
    let mut evidence = Evidence::default();
    for (bucket, counts) in stored {
        evidence.add(&Evidence::in_bucket(bucket, Counts::from(counts)));
    }
    Ok(evidence)
}

fn note_v1(note: &Note, vector: bool) -> Result<NoteV1<'_>> {
    let sum = TellingV1 {
        text: Some((&note.text).into()),
        kind: number(&NOTE_KINDS, &note.kind)?,
        source: (&note.source).into(),
        tags: texts(&note.tags),
        salience: note.salience,
        created_at: moment_v1(note.created_at),
        updated_at: moment_v1(note.updated_at),
        expires_at: note.expires_at.map(moment_v1),
        seen: note.seen,
    };
    let place = note.place.as_ref().map(|place| PlaceV1 {
        thread: (&place.thread).into(),
        position: place.position,
        at: place.at.map(moment_v1),
    });
    let tellings = note.tellings.iter().map(|(session, telling)| Ok((session.into(), telling_v1(telling)?)));
    let tellings = tellings.collect::<Result<_>>()?;
    Ok(NoteV1 { id: *note.id.as_uuid().as_bytes(), trust: number(&TRUSTS, &note.trust)?, place, sum, tellings, vector })
}

fn telling_v1(telling: &Telling) -> Result<TellingV1<'_>> {
    Ok(TellingV1 {
        text: optional(telling.text.as_ref()),
        kind: number(&NOTE_KINDS, &telling.kind)?,
        source: (&telling.source).into(),
        tags: texts(&telling.tags),
        salience: telling.salience,
        created_at: moment_v1(telling.created_at),
        updated_at: moment_v1(telling.updated_at),
        expires_at: telling.expires_at.map(moment_v1),
        seen: telling.seen,
    })
}

/// There is no other way to a telling than from a new note, nor to a note than from a telling. All fields are set after that.
fn telling(stored: TellingV1<'_>) -> Result<Telling, Unfit> {
    let TellingV1 { text, kind, source, tags, salience, created_at, updated_at, expires_at, seen } = stored;
    let mut telling = Telling::new(NewNote::new(""), moment(created_at)?);
    telling.text = owned(text);
    telling.kind = value(&NOTE_KINDS, kind)?;
    telling.source = source.into_owned();
    telling.tags = set(tags, Cow::into_owned)?;
    telling.salience = salience;
    telling.updated_at = moment(updated_at)?;
    telling.expires_at = optional_moment(expires_at)?;
    telling.seen = seen;
    Ok(telling)
}

fn note(scope: Scope, stored: NoteV1<'_>) -> Result<Note, Unfit> {
    let NoteV1 { id, trust, place, sum, tellings, vector: _ } = stored;
    let sum = telling(sum)?;
    let mut note = Note::new(scope, value(&TRUSTS, trust)?, Telling::new(NewNote::new(""), sum.created_at));
    note.id = NoteId::new(uuid(id));
    note.place = place.map(note_place).transpose()?;
    note.tellings = map(tellings, Cow::into_owned, telling)?;
    note.text = sum.text.ok_or_else(|| Unfit::of("it has no text"))?;
    (note.kind, note.source, note.tags, note.salience) = (sum.kind, sum.source, sum.tags, sum.salience);
    (note.created_at, note.updated_at, note.expires_at) = (sum.created_at, sum.updated_at, sum.expires_at);
    note.seen = sum.seen;
    Ok(note)
}

fn note_place(PlaceV1 { thread, position, at }: PlaceV1<'_>) -> Result<Place, Unfit> {
    let mut place = Place::new(thread, position);
    place.at = optional_moment(at)?;
    Ok(place)
}
