//! Episodes, playbooks and health as resources.

use memory_core::{Cursor, Episode, EpisodeId, Record, RecordKind, Scan, Version};
use rmcp::model::{
    ErrorData, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult, Resource, ResourceContents,
    ResourceTemplate,
};
use serde_json::{Value, json};

use super::error;
use crate::operations::PlaybookTold;
use crate::service::{Caller, Right};

const HEALTH: &str = "knowhow://health";
const PLAYBOOKS: &str = "knowhow://playbooks";
const EPISODES: &str = "knowhow://episodes/";
const JSON: &str = "application/json";
/// Episodes in a page of the list.
const PAGE: usize = 50;

pub(super) fn templates() -> ListResourceTemplatesResult {
    let episode = ResourceTemplate::new(format!("{EPISODES}{{id}}"), "episode")
        .with_title("An episode")
        .with_description("A completed episode: task, steps, outcome.")
        .with_mime_type(JSON);
    ListResourceTemplatesResult::with_all_items(vec![episode])
}

/// On the first page what there is one of, then episodes in the order of the log.
pub(super) async fn list(caller: &Caller, after: Option<&str>) -> Result<ListResourcesResult, ErrorData> {
    let mut scan = Scan::new(RecordKind::Episode).scope(caller.memory().scope().clone()).limit(PAGE);
    let mut resources = Vec::new();
    match after.map(str::parse::<u64>) {
        None => resources.extend(singles()),
        Some(Ok(version)) => scan.after = Some(Cursor::Version(Version(version))),
        Some(Err(_)) => return Err(ErrorData::invalid_params("cursor is not one that a page gave", None)),
    }
    let page = caller.memory().store().scan(&scan).await.map_err(|failure| error(&failure))?;
    for stored in page.records {
        if let Record::Episode(logged) = stored.record {
            let id = logged.episode.id;
            let resource = Resource::new(format!("{EPISODES}{id}"), format!("episode {id}"));
            let title: String = logged.episode.task.text.chars().take(80).collect();
            resources.push(resource.with_title(title).with_mime_type(JSON));
        }
    }
    let mut result = ListResourcesResult::with_all_items(resources);
    result.next_cursor = page.next.and_then(|next| match next {
        Cursor::Version(Version(version)) => Some(version.to_string()),
        Cursor::Key(_) => None,
    });
    Ok(result)
}

fn singles() -> [Resource; 2] {
    let health = Resource::new(HEALTH, "health").with_title("How the memory is doing");
    let playbooks = Resource::new(PLAYBOOKS, "playbooks").with_title("The playbooks that were learned");
    [health, playbooks].map(|resource| resource.with_mime_type(JSON))
}

pub(super) async fn read(caller: &Caller, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let value = match uri {
        HEALTH => health(caller).await?,
        PLAYBOOKS => playbooks(caller).await?,
        _ => episode(caller, uri).await?,
    };
    let text = serde_json::to_string_pretty(&value).unwrap_or_default();
    Ok(ReadResourceResult::new(vec![ResourceContents::text(text, uri).with_mime_type(JSON)]))
}

async fn playbooks(caller: &Caller) -> Result<Value, ErrorData> {
    caller.refresh().await.map_err(|failure| error(&failure))?;
    let playbooks = caller.memory().playbooks().await.map_err(|failure| error(&failure))?;
    Ok(json!(playbooks.iter().map(PlaybookTold::from).collect::<Vec<_>>()))
}

/// Of the whole store for whoever may see that; else no more than whether all is well.
async fn health(caller: &Caller) -> Result<Value, ErrorData> {
    let health = caller.memory().health().await.map_err(|failure| error(&failure))?;
    if caller.right() < Right::Admin {
        return Ok(json!({ "status": if crate::health::is_well(&health) { "ok" } else { "degraded" } }));
    }
    Ok(crate::health::told(&health))
}

async fn episode(caller: &Caller, uri: &str) -> Result<Value, ErrorData> {
    let unknown = || ErrorData::resource_not_found(format!("there is no resource {uri}"), None);
    let id = uri.strip_prefix(EPISODES).and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
    let episode = caller.memory().episode(EpisodeId::new(id)).await.map_err(|failure| error(&failure))?;
    Ok(told(&episode))
}

/// An episode, without what is of use to the memory alone.
fn told(episode: &Episode) -> Value {
    let mut outcome = json!(episode.outcome);
    outcome["verdict"] = episode.outcome.verdict.as_str().into();
    json!({
        "id": episode.id,
        "scope": episode.scope,
        "task": episode.task,
        "steps": episode.steps,
        "outcome": outcome,
        "started_at": episode.started_at,
        "completed_at": episode.completed_at,
        "source": episode.source,
    })
}
