//! What can be asked of a memory. Each operation is told once, here, whatever way it is asked by: as an MCP tool, or over HTTP.

mod episodes;
mod knowledge;
mod notes;
mod recall;
mod statistics;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use memory_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::task::JoinHandle;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::schema;
use crate::service::{Caller, Refusal, Right, name_of};
use crate::traces;

pub(crate) use knowledge::PlaybookTold;

/// What an operation does to the memory.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Reads,
    /// Adds to it.
    Adds,
    /// Adds to it, or changes what is there; doing it again changes nothing more.
    Sets,
    /// Takes away from it; doing it again changes nothing more.
    Deletes,
}

impl Effect {
    /// What a caller must be allowed.
    pub fn right(self) -> Right {
        if self == Self::Reads { Right::Read } else { Right::Write }
    }
}

/// One thing that can be asked. The fields of the type are its arguments.
pub(crate) trait Operation: DeserializeOwned + JsonSchema + Send + 'static {
    /// As tools and paths name it.
    const NAME: &'static str;
    /// For people.
    const TITLE: &'static str;
    /// For a model that must decide whether to use it.
    const DESCRIPTION: &'static str;
    const EFFECT: Effect;
    type Answer: Answer;

    fn run(self, caller: &Caller) -> impl Future<Output = Result<Self::Answer>> + Send;
}

/// What an operation answers.
pub(crate) trait Answer: Serialize + JsonSchema + Send {
    /// The answer for a model, if that is not its JSON.
    fn text(&self) -> Option<String> {
        None
    }
}

/// The answer to a call: as text for a model, and as JSON of the operation's [output schema](Tool::output).
#[derive(Clone, Debug)]
pub struct Reply {
    /// For a model.
    pub text: String,
    /// For a program.
    pub json: Value,
}

type Running<'c> = Pin<Box<dyn Future<Output = Result<Reply>> + Send + 'c>>;

/// An operation, as whoever offers it sees it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// For a model that must decide whether to use it.
    pub description: &'static str,
    /// What it does to the memory.
    pub effect: Effect,
    input: fn() -> Map<String, Value>,
    output: fn() -> Map<String, Value>,
    call: for<'c> fn(Value, &'c Caller) -> Running<'c>,
}

/// All operations.
pub static TOOLS: [Tool; 14] = [
    Tool::of::<episodes::StartEpisode>(),
    Tool::of::<episodes::RecordStep>(),
    Tool::of::<recall::SuggestNext>(),
    Tool::of::<episodes::CompleteEpisode>(),
    Tool::of::<episodes::RecordEpisode>(),
    Tool::of::<recall::Recall>(),
    Tool::of::<recall::GiveFeedback>(),
    Tool::of::<knowledge::GetKnowledge>(),
    Tool::of::<notes::StoreNote>(),
    Tool::of::<notes::FindNotes>(),
    Tool::of::<notes::GetNote>(),
    Tool::of::<notes::UpdateNote>(),
    Tool::of::<notes::DeleteNote>(),
    Tool::of::<statistics::GetStatistics>(),
];

impl Tool {
    const fn of<O: Operation>() -> Self {
        Self {
            name: O::NAME,
            title: O::TITLE,
            description: O::DESCRIPTION,
            effect: O::EFFECT,
            input: schema::input::<O>,
            output: schema::output::<O::Answer>,
            call: |arguments, caller| Box::pin(call::<O>(arguments, caller)),
        }
    }

    /// The operation of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TOOLS.iter().find(|tool| tool.name == name)
    }

    /// The JSON schema of its arguments: an object without other properties.
    pub fn input(&self) -> Map<String, Value> {
        (self.input)()
    }

    /// The JSON schema of its answers.
    pub fn output(&self) -> Map<String, Value> {
        (self.output)()
    }

    /// Does it to the end, also when the caller gives up: half a step is none. Nobody need wait for the answer.
    pub(crate) fn begin(&'static self, arguments: Value, caller: Caller) -> JoinHandle<Result<Reply, Refusal>> {
        let service = Arc::clone(caller.service());
        service.calls().spawn(async move { self.call(arguments, &caller).await }.in_current_span())
    }

    /// Does it.
    ///
    /// # Errors
    /// [`Forbidden`](Refusal::Forbidden) to whoever may not; [`Invalid`](ErrorKind::Invalid) for arguments that do not fit the
    /// schema; what the memory answers.
    pub async fn call(&self, arguments: Value, caller: &Caller) -> Result<Reply, Refusal> {
        let (started, scope) = (Instant::now(), caller.memory().scope());
        let span = tracing::info_span!("call", request_id = caller.request(), operation = self.name, %scope);
        caller.trace().continue_in(&span);
        let (needs, has) = (self.effect.right(), caller.right());
        if has < needs {
            let refusal = Refusal::Forbidden { needs, has };
            traces::fail(&span, refusal.kind());
            return Err(refusal);
        }
        let mut ids = ids(&arguments);
        let result = (self.call)(arguments, caller).instrument(span.clone()).await;
        let (took, kind) = (started.elapsed(), result.as_ref().err().map(Error::kind));
        caller.service().metrics().called(self.name, took, kind);
        let (milliseconds, outcome) = (took.as_secs_f64() * 1_000.0, kind.map_or_else(|| "ok".to_owned(), name_of));
        ids.extend(result.iter().flat_map(|reply| self::ids(&reply.json)));
        let ids = ids.iter().map(Uuid::to_string).collect::<Vec<_>>().join(",");
        span.in_scope(|| tracing::info!(milliseconds, outcome, ids, "called"));
        traces::tell(&span, "ids", ids);
        if kind.is_some() {
            traces::fail(&span, outcome);
        }
        Ok(result?)
    }
}

/// What arguments or an answer are about. Only what is an id where an id belongs: the log has no content.
fn ids(fields: &Value) -> BTreeSet<Uuid> {
    let named = ["episode", "id", "rule"].into_iter().filter_map(|name| fields.get(name)?.as_str());
    named.filter_map(|id| id.parse().ok()).collect()
}

async fn call<O: Operation>(mut arguments: Value, caller: &Caller) -> Result<Reply> {
    caller.service().redact(&mut arguments);
    caller.refresh().await?;
    let operation: O = serde_path_to_error::deserialize(arguments).map_err(|error| {
        let (path, problem) = (error.path().to_string(), error.inner().to_string());
        let at = if path == "." { String::new() } else { format!("{path}: ") };
        Error::new(ErrorKind::Invalid, format!("{at}{problem}")).in_operation(O::NAME)
    })?;
    let answer = operation.run(caller).await?;
    let mut json = serde_json::to_value(&answer)
        .map_err(|error| Error::new(ErrorKind::Io, "the answer cannot be told").with_source(error))?;
    without_nulls(&mut json);
    let text = answer.text().unwrap_or_else(|| json.to_string());
    Ok(Reply { text, json })
}

/// What is not there is left out.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        assert_eq!(names.len(), TOOLS.len());
        assert!(names.iter().all(|name| Tool::named(name).is_some_and(|tool| tool.name == *name)));
    }
}
