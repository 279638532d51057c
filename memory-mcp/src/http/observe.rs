//! What operators ask for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::Shared;
use super::guard::refused;
use crate::health::{is_well, told};
use crate::service::{Caller, Refusal, Right};

/// Whether the process is alive: always 200. How it is, for whoever may know.
pub(super) async fn health(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let admin = super::guard::is_admin(&shared, &request);
    Json(match &*shared.health.or_ask(shared.service.memory().health()).await {
        Ok(health) if admin => told(health),
        Ok(health) => json!({ "status": if is_well(health) { "ok" } else { "degraded" } }),
        Err(error) if admin => json!({ "status": "degraded", "store": { "error": error.to_string() } }),
        Err(_) => json!({ "status": "degraded" }),
    })
    .into_response()
}

/// Whether it can serve.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let tokens = shared.tokens.as_ref().and_then(|tokens| tokens.problem());
    let store = shared.store.or_ask(shared.service.memory().store().health()).await;
    let status = if tokens.is_none() && store.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let store = if store.is_ok() { "ok" } else { "does not answer" };
    let tokens = if tokens.is_none() { "ok" } else { "the changed file cannot be read; the tokens from before hold" };
    (status, Json(json!({ "ready": status == StatusCode::OK, "store": store, "tokens": tokens }))).into_response()
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>, Extension(caller): Extension<Caller>) -> Response {
    let content = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match scrape(&shared, &caller).await {
        Ok(text) => ([(CONTENT_TYPE, content)], text).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

pub(super) async fn metrics_json(State(shared): State<Arc<Shared>>, Extension(caller): Extension<Caller>) -> Response {
    match scrape(&shared, &caller).await {
        Ok(text) => Json(crate::metrics::to_json(&text)).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

async fn scrape(shared: &Shared, caller: &Caller) -> Result<String, Refusal> {
    match caller.right() {
        Right::Admin => Ok(shared.service.metrics().text(shared.service.memory()).await?),
        has => Err(Refusal::Forbidden { needs: Right::Admin, has }),
    }
}
