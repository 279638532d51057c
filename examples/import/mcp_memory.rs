//! The MCP reference memory server (<https://github.com/modelcontextprotocol/servers>, `src/memory/index.ts`), version 0.6.3: its
//! `memory.jsonl`, one JSON object a line, with `"type": "entity"` or `"type": "relation"`.
//!
//! | there | here |
//! |---|---|
//! | each of an entity's `observations` | a note, a fact: `NAME (TYPE): OBSERVATION`, with the type as its tag |
//! | an entity without observations | a note: `NAME is a TYPE` |
//! | a relation | a note: `FROM RELATION TO`, with underscores as spaces, and the tag `relation` |
//! | all else | counted and left out |

use memory_core::NewNote;
use serde_json::{Map, Value};

use crate::{Found, LeftOut, lines};

pub(crate) fn read(text: &str) -> Result<Found, String> {
    let mut found = Found::default();
    for (place, line) in lines(text)?.into_iter().enumerate() {
        let notes = notes(line, &mut found.left).map_err(|error| format!("object {}: {error}", place + 1))?;
        found.notes.extend(notes);
    }
    Ok(found)
}

fn notes(mut line: Map<String, Value>, left: &mut LeftOut) -> Result<Vec<NewNote>, String> {
    let kind = text(&mut line, "type")?;
    let notes = match kind.as_str() {
        "entity" => entity(&mut line, left)?,
        "relation" => vec![relation(&mut line)?],
        other => {
            left.count(format!("lines of type {other:?}"));
            return Ok(Vec::new());
        }
    };
    left.fields(&kind, &line);
    Ok(notes)
}

fn entity(line: &mut Map<String, Value>, left: &mut LeftOut) -> Result<Vec<NewNote>, String> {
    let (name, kind) = (text(line, "name")?, text(line, "entityType")?);
    let Some(Value::Array(observations)) = line.remove("observations") else {
        return Err("observations is absent; allowed: a list of texts".to_owned());
    };
    let texts: Vec<String> = if observations.is_empty() {
        vec![format!("{name} is a {kind}")]
    } else {
        let observations = observations.iter().map(|observation| observation.as_str().ok_or(observation.to_string()));
        let observations: Vec<&str> = observations
            .collect::<Result<_, _>>()
            .map_err(|other| format!("observations has {other}; allowed: texts"))?;
        observations.iter().map(|observation| format!("{name} ({kind}): {observation}")).collect()
    };
    let tags = left.tags([kind]);
    Ok(texts.into_iter().map(|text| tags.iter().fold(NewNote::new(text), NewNote::tag)).collect())
}

fn relation(line: &mut Map<String, Value>) -> Result<NewNote, String> {
    let (from, relation, to) = (text(line, "from")?, text(line, "relationType")?, text(line, "to")?);
    Ok(NewNote::new(format!("{from} {} {to}", relation.replace('_', " "))).tag("relation"))
}

fn text(line: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    match line.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{name} is {other}; allowed: a text")),
        None => Err(format!("{name} is absent; allowed: a text")),
    }
}
