//! Operations at `/v1/<operation>`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use memory_core::{Error, ErrorKind};
use serde_json::{Map, Value};

use super::guard::{plain, refused};
use crate::operations::Tool;
use crate::service::{Caller, Refusal};

/// Does what the path names, with the body as arguments; an empty body is none.
pub(super) async fn call(Extension(caller): Extension<Caller>, Path(name): Path<String>, body: Bytes) -> Response {
    let Some(tool) = Tool::named(&name) else { return no_such_path().await };
    let arguments = match &body[..] {
        [] => Ok(Value::Object(Map::new())),
        bytes => serde_json::from_slice(bytes),
    };
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(error) => {
            let what = format!("the body is not JSON: line {}, column {}", error.line(), error.column());
            return refused(&Refusal::Failed(Error::new(ErrorKind::Invalid, what)));
        }
    };
    match tool.begin(arguments, caller).await {
        Ok(Ok(reply)) => Json(reply.json).into_response(),
        Ok(Err(refusal)) => refused(&refusal),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the call ended without an answer"),
    }
}

pub(super) async fn no_such_path() -> Response {
    plain(StatusCode::NOT_FOUND, "not_found", "there is no such path; /openapi.json lists what there is")
}

pub(super) async fn no_such_method() -> Response {
    plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path has other methods; see /openapi.json")
}
