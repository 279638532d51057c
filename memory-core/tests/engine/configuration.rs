//! Every setting: what is accepted at the ends of its range, and what is said of a value beyond them.

use std::fmt::Display;

use chrono::TimeDelta;
use memory_core::testkit::samples;
use memory_core::{
    Embedder, ErrorKind, InMemoryStore, Learner, Limits, Memory, MemoryBuilder, MemoryStore, Result, Role,
    StepDurability, Vector, VectorSpace,
};

type Set = Box<dyn FnOnce(MemoryBuilder) -> MemoryBuilder>;

/// A setting, with values that are accepted, and values that are refused with what is then said.
struct Setting {
    accepted: Vec<Set>,
    refused: Vec<(Set, String)>,
}

fn setting<T: Copy + Display + 'static>(
    field: &str,
    allowed: impl Display,
    set: impl Fn(MemoryBuilder, T) -> MemoryBuilder + Copy + 'static,
    accepted: &[T],
    refused: &[T],
) -> Setting {
    let with = |value: T| -> Set { Box::new(move |builder| set(builder, value)) };
    let said = |value: T| format!("invalid value: {field} is {value}; allowed: {allowed}");
    Setting {
        accepted: accepted.iter().map(|value| with(*value)).collect(),
        refused: refused.iter().map(|value| (with(*value), said(*value))).collect(),
    }
}

const SECOND: TimeDelta = TimeDelta::seconds(1);
const DAY: TimeDelta = TimeDelta::days(1);
const HOUR: TimeDelta = TimeDelta::hours(1);
const MILLISECOND: TimeDelta = TimeDelta::milliseconds(1);
const NANOSECOND: TimeDelta = TimeDelta::nanoseconds(1);
const ZERO: TimeDelta = TimeDelta::zero();

fn learner() -> Vec<Setting> {
    let (widest, longest) = (TimeDelta::days(10_000), TimeDelta::days(100_000));
    let bucket = |builder: MemoryBuilder, bucket| {
        builder.learner(Learner::default().with_bucket(bucket).with_half_life(TimeDelta::days(100_000)))
    };
    let half_life = |builder: MemoryBuilder, half_life| builder.learner(Learner::default().with_half_life(half_life));
    let quorum = |builder: MemoryBuilder, quorum: u32| builder.learner(Learner::default().with_quorum(quorum));
    let half_lives = format!("the bucket, {DAY}, ..= 100,000 days, in whole seconds");
    let half_seconds = TimeDelta::milliseconds(1_500);
    vec![
        setting(
            "learner.bucket",
            "1 second ..= 10,000 days, in whole seconds",
            bucket,
            &[SECOND, widest],
            &[ZERO, -DAY, SECOND - NANOSECOND, half_seconds, widest + SECOND, TimeDelta::MAX],
        ),
        setting(
            "learner.half_life",
            half_lives,
            half_life,
            &[DAY, DAY + SECOND, longest],
            &[ZERO, -DAY, DAY - SECOND, DAY + MILLISECOND, longest + SECOND, TimeDelta::MAX],
        ),
        setting("learner.quorum", "1 or more", quorum, &[1, u32::MAX], &[0]),
    ]
}

fn engine() -> Vec<Setting> {
    let steps = |builder: MemoryBuilder, steps| {
        builder.step_durability(StepDurability::Batched { steps, within: TimeDelta::seconds(5) })
    };
    let within =
        |builder: MemoryBuilder, within| builder.step_durability(StepDurability::Batched { steps: 50, within });
    let beyond = [-0.1, 1.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    vec![
        setting("hold_out", "0..=1", MemoryBuilder::hold_out, &[0.0, 0.5, 1.0], &beyond),
        setting("abstain_below", "0..=1", MemoryBuilder::abstain_below, &[0.0, 0.5, 1.0], &beyond),
        setting(
            "lease",
            "1 second..=1 day",
            MemoryBuilder::lease,
            &[SECOND, DAY],
            &[ZERO, -SECOND, SECOND - NANOSECOND, DAY + NANOSECOND],
        ),
        setting("step_durability.steps", "1..=1000", steps, &[1, 1_000], &[0, 1_001, usize::MAX]),
        setting(
            "step_durability.within",
            "1 millisecond..=1 hour",
            within,
            &[MILLISECOND, HOUR],
            &[ZERO, -HOUR, MILLISECOND - NANOSECOND, HOUR + NANOSECOND],
        ),
        setting(
            "embedder.space.dimensions",
            "1 or more",
            |builder: MemoryBuilder, dimensions| builder.embedder(Flat(samples::space(dimensions))),
            &[1],
            &[0],
        ),
    ]
}

fn limits() -> Vec<Setting> {
    type Field = (&'static str, fn(&mut Limits) -> &mut usize);
    let fields: [Field; 9] = [
        ("limits.task_bytes", |limits| &mut limits.task_bytes),
        ("limits.note_bytes", |limits| &mut limits.note_bytes),
        ("limits.observation_bytes", |limits| &mut limits.observation_bytes),
        ("limits.steps", |limits| &mut limits.steps),
        ("limits.artifact_bytes", |limits| &mut limits.artifact_bytes),
        ("limits.state_bytes", |limits| &mut limits.state_bytes),
        ("limits.tags", |limits| &mut limits.tags),
        ("limits.tag_bytes", |limits| &mut limits.tag_bytes),
        ("limits.name_bytes", |limits| &mut limits.name_bytes),
    ];
    let limit = |(name, field): Field| {
        let set = move |builder: MemoryBuilder, value| {
            let mut limits = Limits::default();
            *field(&mut limits) = value;
            builder.limits(limits)
        };
        setting(name, "1..=10000000", set, &[1, 10_000_000], &[0, 10_000_001, usize::MAX])
    };
    fields.into_iter().map(limit).collect()
}

/// An embedder of a space of so many dimensions.
#[derive(Debug)]
struct Flat(VectorSpace);

impl Display for Flat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flat")
    }
}

#[async_trait::async_trait]
impl Embedder for Flat {
    fn space(&self) -> &VectorSpace {
        &self.0
    }
    async fn embed(&self, _role: Role, _texts: &[&str]) -> Result<Vec<Vector>> {
        Ok(Vec::new())
    }
    async fn health(&self) -> Result<()> {
        Ok(())
    }
}

/// Builds with a store of its own; a builder that is refused must not have touched it.
async fn build(set: Set) -> Result<Memory> {
    let store = InMemoryStore::new();
    let result = set(Memory::builder().store(store.clone())).build().await;
    let untouched = store.health().await.unwrap().version.0 == 0;
    assert_eq!(untouched, result.is_err());
    result
}

#[tokio::test(start_paused = true)]
async fn every_setting_is_refused_beyond_its_range_by_field_value_and_range() {
    for Setting { accepted, refused } in [learner(), engine(), limits()].into_iter().flatten() {
        for (set, message) in refused {
            let error = build(set).await.expect_err(&message);
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Invalid, message));
            assert!(!error.is_temporary());
        }
        for set in accepted {
            build(set).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_store_cannot_be_left_out() {
    let error = Memory::builder().build().await.unwrap_err();
    assert_eq!(error.to_string(), "invalid value: store is not set; allowed: a MemoryStore");
}
