//! How large things may be.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::note::{NoteParts, folded};
use crate::text::strip_recalled;
use crate::{Episode, Error, NewNote, NoteChange, Outcome, Recording, Result, Search, Source, Step, Task, Telling};

/// Bounds on what the engine accepts. Beyond a bound there is a typed error; nothing is cut off or left out. Each field may be
/// from 1 to 10,000,000.
///
/// # Default
///
/// | what | bound |
/// |---|---|
/// | task text, query | 10,000 bytes |
/// | note | 10,000 bytes |
/// | each text of a step or an outcome | 10,000 bytes |
/// | steps of an episode | 1,000 |
/// | artifact | 1,000,000 bytes |
/// | state of a checkpoint | 100,000 bytes |
/// | encoded episode | 10,000,000 bytes; see [`Episode::encoded_len`] |
/// | tags | 32, of 1 to 64 bytes each |
/// | names of tools, domains, languages, artifacts, sources, threads and environment facts | 1 to 128 bytes |
/// | environment facts | 32, with values up to 10,000 bytes |
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a task text and of a query.
    pub task_bytes: usize,
    /// Bytes of a note.
    pub note_bytes: usize,
    /// Bytes of a step's action, input or observation, and of an outcome's summary or reflection.
    pub observation_bytes: usize,
    /// Steps of an episode.
    pub steps: usize,
    /// Bytes of an artifact.
    pub artifact_bytes: usize,
    /// Bytes of a checkpoint's state.
    pub state_bytes: usize,
    /// Tags of a task or a note, and facts about a task's environment.
    pub tags: usize,
    /// Bytes of a tag.
    pub tag_bytes: usize,
    /// Bytes of a name.
    pub name_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            task_bytes: 10_000,
            note_bytes: 10_000,
            observation_bytes: 10_000,
            steps: 1_000,
            artifact_bytes: 1_000_000,
            state_bytes: 100_000,
            tags: 32,
            tag_bytes: 64,
            name_bytes: 128,
        }
    }
}

impl Limits {
    /// Sets the bytes of a task text and of a query.
    #[must_use]
    pub fn with_task_bytes(mut self, task_bytes: usize) -> Self {
        self.task_bytes = task_bytes;
        self
    }

    /// Sets the bytes of a note.
    #[must_use]
    pub fn with_note_bytes(mut self, note_bytes: usize) -> Self {
        self.note_bytes = note_bytes;
        self
    }

    /// Sets the bytes of each text of a step or an outcome.
    #[must_use]
    pub fn with_observation_bytes(mut self, observation_bytes: usize) -> Self {
        self.observation_bytes = observation_bytes;
        self
    }

    /// Sets the steps of an episode.
    #[must_use]
    pub fn with_steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// Sets the bytes of an artifact.
    #[must_use]
    pub fn with_artifact_bytes(mut self, artifact_bytes: usize) -> Self {
        self.artifact_bytes = artifact_bytes;
        self
    }

    /// Sets the bytes of a checkpoint's state.
    #[must_use]
    pub fn with_state_bytes(mut self, state_bytes: usize) -> Self {
        self.state_bytes = state_bytes;
        self
    }

    /// Sets the tags of a task or a note, and the facts of a task's environment.
    #[must_use]
    pub fn with_tags(mut self, tags: usize) -> Self {
        self.tags = tags;
        self
    }

    /// Sets the bytes of a tag.
    #[must_use]
    pub fn with_tag_bytes(mut self, tag_bytes: usize) -> Self {
        self.tag_bytes = tag_bytes;
        self
    }

    /// Sets the bytes of a name.
    #[must_use]
    pub fn with_name_bytes(mut self, name_bytes: usize) -> Self {
        self.name_bytes = name_bytes;
        self
    }

    /// Checks the limits themselves.
    pub(crate) fn validate(&self) -> Result<()> {
        let most = Episode::MAX_ENCODED_BYTES;
        for (field, value) in [
            ("limits.task_bytes", self.task_bytes),
            ("limits.note_bytes", self.note_bytes),
            ("limits.observation_bytes", self.observation_bytes),
            ("limits.steps", self.steps),
            ("limits.artifact_bytes", self.artifact_bytes),
            ("limits.state_bytes", self.state_bytes),
            ("limits.tags", self.tags),
            ("limits.tag_bytes", self.tag_bytes),
            ("limits.name_bytes", self.name_bytes),
        ] {
            within(field, value, 1..=most)?;
        }
        Ok(())
    }

    pub(crate) fn task(&self, task: &Task) -> Result<()> {
        text("task.text", &task.text, self.task_bytes)?;
        if task.text.trim().is_empty() {
            return Err(Error::invalid("task.text", "blank", "some words"));
        }
        for (field, name) in [("task.domain", &task.domain), ("task.language", &task.language)] {
            if let Some(name) = name {
                self.name(field, name)?;
            }
        }
        self.tags("task.tags", &task.tags)?;
        within("task.environment", task.environment.len(), 0..=self.tags)?;
        for (name, value) in &task.environment {
            self.name("task.environment", name)?;
            text("task.environment value", value, self.observation_bytes)?;
        }
        Ok(())
    }

    pub(crate) fn step(&self, index: usize, step: &Step) -> Result<()> {
        within("steps", index + 1, 0..=self.steps)?;
        self.name("step.tool", &step.tool)?;
        text("step.action", &step.action, self.observation_bytes)?;
        text("step.input", &step.input, self.observation_bytes)?;
        text("step.observation", &step.observation, self.observation_bytes)
    }

    pub(crate) fn outcome(&self, outcome: &Outcome) -> Result<()> {
        text("outcome.summary", &outcome.summary, self.observation_bytes)?;
        text("outcome.reflection", outcome.reflection.as_deref().unwrap_or_default(), self.observation_bytes)?;
        if let Some(reward) = outcome.reward
            && !(0.0..=1.0).contains(&reward)
        {
            return Err(Error::invalid("outcome.reward", reward, "0..=1"));
        }
        for artifact in &outcome.artifacts {
            self.name("artifact.name", &artifact.name)?;
            text("artifact.content", &artifact.content, self.artifact_bytes)?;
        }
        Ok(())
    }

    pub(crate) fn recording(&self, recording: &Recording) -> Result<()> {
        let Recording { task, steps, outcome, source, .. } = recording;
        self.done(task, steps, outcome)?;
        source.iter().try_for_each(|source| self.source(source))?;
        match (recording.started_at, recording.completed_at) {
            (Some(started), Some(completed)) => span("started_at", started, "completed_at", completed),
            _ => Ok(()),
        }
    }

    /// Checks a whole episode that comes from elsewhere.
    pub(crate) fn episode(&self, episode: &Episode) -> Result<()> {
        let Episode { task, steps, outcome, started_at, completed_at, source, .. } = episode;
        self.done(task, steps, outcome)?;
        self.source(source)?;
        span("started_at", *started_at, "completed_at", *completed_at)?;
        episode.check_encoded_size()
    }

    fn done(&self, task: &Task, steps: &[Step], outcome: &Outcome) -> Result<()> {
        self.task(task)?;
        steps.iter().enumerate().try_for_each(|(index, step)| self.step(index, step))?;
        self.outcome(outcome)
    }

    /// Checks a whole note that comes from elsewhere: what [`note`](Self::note) checks of one that is told, and that its
    /// tellings belong together. It may have expired.
    pub(crate) fn note_parts(&self, parts: &NoteParts) -> Result<()> {
        let NoteParts { scope, trust: _, place, tellings } = parts;
        if let Some(place) = place {
            self.thread("note.place.thread", &place.thread)?;
        }
        let mut first = None;
        for (session, telling) in tellings {
            let name = format!("note.tellings[{session:?}]");
            if !session.is_empty() {
                if place.is_some() {
                    return Err(Error::invalid(&name, "of a session", "that of its own scope, as it has a place"));
                }
                scope.session(session).map_err(|error| error.at(&name))?;
            }
            let text = folded(self.telling(&name, telling)?);
            if *first.get_or_insert_with(|| text.clone()) != text {
                let range = "that of the others, apart from case, white space and punctuation";
                return Err(Error::invalid(&format!("{name}.text"), "another", range));
            }
        }
        Ok(())
    }

    /// Checks one telling; gives its text.
    fn telling<'a>(&self, name: &str, telling: &'a Telling) -> Result<&'a str> {
        let Telling { text, kind: _, source, tags, salience, created_at, updated_at, expires_at: _, seen } = telling;
        let text = text.as_deref().unwrap_or_default();
        let own = strip_recalled(text);
        self.note_text(name, text, own.trim())?;
        if own.trim() != text {
            let range = "trimmed, without what a memory supplied";
            return Err(Error::invalid(&format!("{name}.text"), "with more than its own words", range));
        }
        self.tags(&format!("{name}.tags"), tags)?;
        self::salience(name, *salience)?;
        self.name(&format!("{name}.source"), source)?;
        span(&format!("{name}.created_at"), *created_at, "updated_at", *updated_at)?;
        within(&format!("{name}.seen"), *seen as usize, 1..=u32::MAX as usize).map(|()| text)
    }

    pub(crate) fn state(&self, state: &str) -> Result<()> {
        text("state", state, self.state_bytes)
    }

    /// Checks a note at this moment, which errors call by this name; `own` is its text without what the memory supplied.
    pub(crate) fn note(&self, name: &str, note: &NewNote, own: &str, now: DateTime<Utc>) -> Result<()> {
        self.note_text(name, &note.text, own)?;
        self.tags(&format!("{name}.tags"), &note.tags)?;
        salience(name, note.salience)?;
        if let Some(source) = &note.source {
            self.name(&format!("{name}.source"), &source.name)?;
        }
        if let Some(place) = &note.place {
            self.thread(&format!("{name}.place.thread"), &place.thread)?;
        }
        expiry(name, note.expires_at, now)
    }

    /// Checks a change of a note at this moment; `own` is its text without what the memory supplied.
    pub(crate) fn note_change(&self, change: &NoteChange, own: Option<&str>, now: DateTime<Utc>) -> Result<()> {
        if *change == NoteChange::default() {
            return Err(Error::invalid("change", "empty", "at least one thing to change"));
        }
        if let (Some(text), Some(own)) = (&change.text, own) {
            self.note_text("change", text, own)?;
        }
        if let Some(tags) = &change.tags {
            self.tags("change.tags", tags)?;
        }
        change.salience.map_or(Ok(()), |value| salience("change", value))?;
        expiry("change", change.expires_at.flatten(), now)
    }

    fn note_text(&self, name: &str, given: &str, own: &str) -> Result<()> {
        let field = format!("{name}.text");
        text(&field, given, self.note_bytes)?;
        if given.trim().is_empty() {
            return Err(Error::invalid(&field, "blank", "some words"));
        }
        if own.is_empty() {
            return Err(Error::invalid(&field, "nothing but recalled text", "some words of its own"));
        }
        Ok(())
    }

    /// Checks the name of a thread.
    pub(crate) fn thread(&self, field: &str, thread: &str) -> Result<()> {
        self.name(field, thread)
    }

    /// Checks the tags of a task, or all that a note has.
    pub(crate) fn tags(&self, field: &str, tags: &BTreeSet<String>) -> Result<()> {
        within(field, tags.len(), 0..=self.tags)?;
        let bytes = format!("{field}: bytes of a tag");
        tags.iter().try_for_each(|tag| within(&bytes, tag.len(), 1..=self.tag_bytes))
    }

    pub(crate) fn query(&self, query: &str) -> Result<()> {
        text("query", query, self.task_bytes)
    }

    pub(crate) fn source(&self, source: &Source) -> Result<()> {
        self.name("source.name", &source.name)
    }

    fn name(&self, field: &str, name: &str) -> Result<()> {
        let field = format!("{field} (bytes)");
        within(&field, name.len(), 1..=self.name_bytes)
    }
}

/// Checks that a span does not end before it begins.
fn span(field: &str, from: DateTime<Utc>, end: &str, to: DateTime<Utc>) -> Result<()> {
    if from <= to {
        return Ok(());
    }
    Err(Error::invalid(field, from, format_args!("up to {end}, {to}")))
}

fn salience(name: &str, salience: f64) -> Result<()> {
    if (0.0..=1.0).contains(&salience) {
        return Ok(());
    }
    Err(Error::invalid(&format!("{name}.salience"), salience, "0..=1"))
}

fn expiry(name: &str, expiry: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<()> {
    match expiry {
        Some(expiry) if expiry <= now => {
            Err(Error::invalid(&format!("{name}.expires_at"), expiry, format_args!("after now, {now}")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn k(field: &str, k: usize) -> Result<()> {
    within(field, k, 1..=Search::MAX_K)
}

fn text(field: &str, text: &str, most: usize) -> Result<()> {
    if text.len() <= most {
        return Ok(());
    }
    Err(Error::invalid(field, format_args!("{} bytes", text.len()), format_args!("up to {most} bytes")))
}

fn within(field: &str, value: usize, range: std::ops::RangeInclusive<usize>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, value, format_args!("{}..={}", range.start(), range.end())))
}
