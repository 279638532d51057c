//! What `/v1` takes and answers, as an OpenAPI 3.1 document made from the operations.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::operations::{TOOLS, Tool};

/// Status codes that any operation may answer, and when.
const ERRORS: [(&str, &str); 9] = [
    ("400", "An argument is wrong; the message names it"),
    ("401", "No valid token"),
    ("403", "The token has not the right"),
    ("404", "There is no such thing in the token's scope"),
    ("409", "The thing has changed, is closed, or is held by another"),
    ("413", "The body is too large"),
    ("429", "Too many requests; Retry-After says when to try again"),
    ("500", "It failed"),
    ("503", "It cannot be done now; try again"),
];

pub(super) async fn document() -> Json<Value> {
    let paths: Map<String, Value> = TOOLS.iter().map(|tool| (format!("/v1/{}", tool.name), path(tool))).collect();
    Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Knowhow",
            "description": "A memory for agents that learns from what they do.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Error": error() },
        },
    }))
}

fn path(tool: &Tool) -> Value {
    let mut responses = Map::new();
    responses.insert("200".to_owned(), response("Done", &Value::Object(tool.output())));
    let error = json!({ "$ref": "#/components/schemas/Error" });
    responses.extend(ERRORS.map(|(status, when)| (status.to_owned(), response(when, &error))));
    json!({
        "post": {
            "operationId": tool.name,
            "summary": tool.title,
            "description": format!("{} Needs the right to {}.", tool.description, tool.effect.right()),
            "requestBody": { "required": true, "content": { "application/json": { "schema": tool.input() } } },
            "responses": responses,
        }
    })
}

fn response(description: &str, schema: &Value) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn error() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["kind", "message", "temporary"],
                "properties": {
                    "kind": text("What kind of error, as one word."),
                    "message": text("What was wrong, for people."),
                    "temporary": { "type": "boolean", "description": "Whether the same may work later." },
                    "retry_after_seconds": { "type": "number", "description": "When, if that is known." },
                },
            },
        },
    })
}
