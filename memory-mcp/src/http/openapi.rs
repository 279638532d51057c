//! What `/v1` takes and answers, as an OpenAPI 3.1 document made from the operations.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::operations::{TOOLS, Tool};

/// Status codes that any operation may answer, and when.
const ERRORS: [(&str, &str); 13] = [
    ("400", "An argument is wrong; the message names it"),
    ("401", "No valid token"),
    ("403", "The token has not the right"),
    ("404", "There is no such thing in the token's scope"),
    ("408", "The body did not come in time"),
    ("409", "The thing has changed, is closed, or is held by another"),
    ("413", "The body is too large"),
    ("421", "The host that the request names is not served"),
    ("429", "Too many requests; Retry-After says when to try again"),
    ("500", "It failed"),
    ("503", "It cannot be done now; try again"),
    ("504", "It took too long; try again"),
    ("507", "A quota of the scope, or the disk, is full"),
];

/// Those that come without a word, since the request could not be taken in.
const BARE: [(&str, &str); 2] = [("414", "The address is too long"), ("431", "The headers are too many or too long")];

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
    responses.extend(BARE.map(|(status, when)| (status.to_owned(), json!({ "description": when }))));
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

#[cfg(test)]
mod tests {
    use memory_core::ErrorKind;

    use super::*;
    use crate::http::guard::status;

    #[tokio::test]
    async fn what_an_error_is_answered_with_is_in_the_document() {
        let Json(document) = document().await;
        let responses = &document["paths"]["/v1/recall"]["post"]["responses"];
        for kind in [
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::AlreadyExists,
            ErrorKind::EpisodeClosed,
            ErrorKind::Held,
            ErrorKind::LeaseLost,
            ErrorKind::Conflict,
            ErrorKind::SpaceMismatch,
            ErrorKind::Foreign,
            ErrorKind::Corrupt,
            ErrorKind::SchemaTooNew,
            ErrorKind::SchemaEdited,
            ErrorKind::ReadOnly,
            ErrorKind::Full,
            ErrorKind::QuotaExceeded,
            ErrorKind::Busy,
            ErrorKind::Overloaded,
            ErrorKind::RateLimited,
            ErrorKind::TimedOut,
            ErrorKind::Unavailable,
            ErrorKind::Io,
        ] {
            assert!(responses[status(kind).as_str()].is_object(), "{kind}");
        }
    }
}
