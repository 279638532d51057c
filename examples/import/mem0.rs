//! mem0 (<https://github.com/mem0ai/mem0>), version 2.0.18: the JSON of `Memory.get_all(...)` and of the platform's `get_all`, an object
//! with `results` (the field `MemoryItem` of `mem0/configs/base.py`, and what `_get_all_from_vector_store` of `mem0/memory/main.py`
//! adds); older versions gave the list alone, which is read, too.
//!
//! | there | here |
//! |---|---|
//! | `memory` | a note, a fact |
//! | `user_id`, `agent_id`, `run_id`, `actor_id`, `role`, `attributed_to` | tags: `user:…`, `agent:…`, `run:…`, `actor:…`, `role:…`, `by:…` |
//! | `categories`, and `category` or `categories` of `metadata` | tags |
//! | `expiration_date`, the last day of it | when it expires; what has expired is left out |
//! | `id`, `score` | nothing: a note's id follows from its text, and a score is of one search |
//! | all else, the graph's `relations` too | counted and left out: notes begin when they are told, and have no free fields |

use chrono::{DateTime, NaiveDate, Utc};
use memory_core::NewNote;
use serde_json::{Map, Value};

use crate::{Found, LeftOut};

/// The fields that become tags, and what stands before them.
const TAGS: [(&str, &str); 6] = [
    ("user_id", "user"),
    ("agent_id", "agent"),
    ("run_id", "run"),
    ("actor_id", "actor"),
    ("role", "role"),
    ("attributed_to", "by"),
];

pub(crate) fn read(text: &str) -> Result<Found, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut found = Found::default();
    let results = match file {
        Value::Array(results) => results,
        Value::Object(mut file) => {
            let results = file.remove("results");
            let relations = file.remove("relations");
            relations.iter().filter_map(Value::as_array).flatten().for_each(|_| found.left.count("relations"));
            found.left.fields("file", &file);
            match results {
                Some(Value::Array(results)) => results,
                _ => return Err("results is absent or no list; allowed: a list of memories".to_owned()),
            }
        }
        _ => return Err("allowed: an object with a list `results`, or the list".to_owned()),
    };
    for (place, result) in results.into_iter().enumerate() {
        let Value::Object(result) = result else { return Err(format!("results[{place}] is no object")) };
        let note = note(result, &mut found.left).map_err(|error| format!("results[{place}]: {error}"))?;
        found.notes.extend(note);
    }
    Ok(found)
}

/// The note of a memory, unless that has expired.
fn note(mut fields: Map<String, Value>, left: &mut LeftOut) -> Result<Option<NewNote>, String> {
    let text = fields.remove("memory").and_then(|text| text.as_str().map(str::to_owned));
    let text = text.ok_or("memory is absent; allowed: a text")?;
    for name in ["id", "score"] {
        fields.remove(name);
    }
    let expires_at = match fields.remove("expiration_date") {
        None | Some(Value::Null) => None,
        Some(date) => Some(end_of_day(date.as_str().unwrap_or_default()).ok_or(format!("expiration_date is {date}"))?),
    };
    let mut tags = Vec::new();
    for (name, prefix) in TAGS {
        let tag = fields.remove(name).and_then(|tag| tag.as_str().map(|tag| format!("{prefix}:{tag}")));
        tags.extend(tag);
    }
    let categories = |fields: &mut Map<String, Value>, name: &str| match fields.remove(name) {
        Some(Value::String(category)) => vec![category],
        Some(Value::Array(list)) => list.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    tags.extend(categories(&mut fields, "categories"));
    if let Some(Value::Object(mut metadata)) = fields.remove("metadata") {
        tags.extend(categories(&mut metadata, "category"));
        tags.extend(categories(&mut metadata, "categories"));
        left.fields("metadata", &metadata);
    }
    left.fields("memory", &fields);
    if expires_at.is_some_and(|at| at <= Utc::now()) {
        left.count("memories that have expired");
        return Ok(None);
    }
    let note = left.tags(tags).into_iter().fold(NewNote::new(text), NewNote::tag);
    Ok(Some(expires_at.into_iter().fold(note, NewNote::expires_at)))
}

fn end_of_day(date: &str) -> Option<DateTime<Utc>> {
    let day = NaiveDate::parse_from_str(date.get(..10)?, "%Y-%m-%d").ok()?;
    Some(day.succ_opt()?.and_hms_opt(0, 0, 0)?.and_utc())
}
