//! JSON schemas that every client understands: one type each, nothing referred to elsewhere, only formats that JSON Schema
//! knows (draft 2020-12).

use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::{Map, Value};

/// Of what is told: nothing but what is named.
pub(crate) fn input<T: JsonSchema>() -> Map<String, Value> {
    portable::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// Of what is answered.
pub(crate) fn output<T: JsonSchema>() -> Map<String, Value> {
    portable::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn portable<T: JsonSchema>(mut settings: SchemaSettings) -> Map<String, Value> {
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(optional).transform(&mut schema);
    RecursiveTransform(simplify).transform(&mut schema);
    let mut fields = schema.as_object().cloned().unwrap_or_default();
    fields.remove("title");
    fields.remove("description");
    fields.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    fields
}

/// What may be null is left out instead: it is not required.
fn optional(schema: &mut Schema) {
    let Some(fields) = schema.as_object_mut() else { return };
    let nullable = |schema: &Value| {
        let null = |one: &Value| one == "null" || one.get("type").is_some_and(|name| name == "null");
        [schema.get("type"), schema.get("anyOf")].into_iter().flatten().filter_map(Value::as_array).flatten().any(null)
    };
    let properties = fields.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(Value::Array(required)) = fields.get_mut("required") {
        required.retain(|name| !name.as_str().and_then(|name| properties.get(name)).is_some_and(nullable));
    }
}

fn simplify(schema: &mut Schema) {
    let Some(fields) = schema.as_object_mut() else { return };
    only_choice(fields, "anyOf");
    names(fields);
    if let Some(Value::Array(types)) = fields.get("type")
        && let Some(one) = types.iter().find(|one| *one != "null").cloned()
    {
        fields.insert("type".to_owned(), one);
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if fields.get("default").is_some_and(Value::is_null) {
        fields.remove("default");
    }
    if fields.get("format").is_some_and(|format| !["date-time", "uuid"].iter().any(|known| format == known)) {
        fields.remove("format");
    }
}

/// What may be absent is left out, not null: of such a choice, the other one remains.
fn only_choice(fields: &mut Map<String, Value>, key: &str) {
    let Some(Value::Array(choices)) = fields.get_mut(key) else { return };
    choices.retain(|choice| choice.get("type") != Some(&"null".into()));
    if choices.len() == 1
        && let Some(Value::Object(other)) = choices.pop()
    {
        fields.remove(key);
        for (name, value) in other {
            fields.entry(name).or_insert(value);
        }
    }
}

/// Names that are each described, as one list of names.
fn names(fields: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = fields.get("oneOf") else { return };
    let constants: Option<Vec<Value>> = choices.iter().map(|choice| choice.get("const").cloned()).collect();
    if let Some(constants) = constants {
        let described = choices
            .iter()
            .filter_map(|choice| Some((choice.get("const")?.as_str()?, choice.get("description")?.as_str()?)));
        let described: Vec<String> = described.map(|(name, what)| format!("{name}: {what}")).collect();
        let before = fields.get("description").and_then(Value::as_str).map(|text| format!("{text} "));
        let description = format!("{}{}", before.unwrap_or_default(), described.join(" "));
        fields.remove("oneOf");
        fields.insert("type".to_owned(), "string".into());
        fields.insert("enum".to_owned(), Value::Array(constants));
        fields.insert("description".to_owned(), description.trim().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::TOOLS;

    fn check(path: &str, schema: &Value) {
        let Value::Object(fields) = schema else { return };
        assert!(fields.get("type").is_none_or(Value::is_string), "{path}: {schema}");
        for key in ["$ref", "$defs", "oneOf", "anyOf", "allOf", "not", "$schema"] {
            assert!(!fields.contains_key(key), "{path} has {key}");
        }
        assert_ne!(fields.get("default"), Some(&Value::Null), "{path}");
        for (name, value) in fields {
            match value {
                Value::Object(properties) if name == "properties" => {
                    properties.iter().for_each(|(name, value)| check(&format!("{path}.{name}"), value));
                }
                Value::Object(_) => check(&format!("{path}.{name}"), value),
                _ => {}
            }
        }
    }

    #[test]
    fn every_schema_is_portable() {
        for tool in &TOOLS {
            for (kind, schema) in [("input", tool.input()), ("output", tool.output())] {
                assert_eq!(schema["type"], "object", "{} {kind}", tool.name);
                check(&format!("{} {kind}", tool.name), &Value::Object(schema));
            }
            assert_eq!(tool.input().get("additionalProperties"), Some(&false.into()), "{}", tool.name);
        }
    }

    #[test]
    fn every_argument_is_described() {
        for tool in &TOOLS {
            for (name, schema) in tool.input()["properties"].as_object().unwrap() {
                assert!(schema.get("description").is_some(), "{}: {name}", tool.name);
            }
        }
    }
}
