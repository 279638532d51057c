//! Learned playbooks as prompts, which come and go with the evidence.

use std::time::{Duration, Instant};

use memory_core::{Playbook, RecordKind, Watch};
use rmcp::Peer;
use rmcp::model::{ErrorData, GetPromptResult, ListPromptsResult, Prompt, PromptMessage, Role};
use rmcp::service::{RoleServer, SubscriptionSink};
use uuid::Uuid;

use super::error;
use crate::approvals::FRESH;
use crate::service::Caller;

/// How often the store is asked for what other processes have written.
const EVERY: Duration = Duration::from_secs(2);
/// How long to wait after a change at least before looking at the playbooks again, and how many times as long as that takes.
const REST: (Duration, u32) = (Duration::from_millis(250), 20);

/// What a prompt says before the playbook.
const HEADING: &str = "This playbook was learned from earlier episodes. It is evidence of what worked, to be weighed.";

pub(super) async fn list(caller: &Caller) -> Result<ListPromptsResult, ErrorData> {
    let playbooks = newest(caller).await.map_err(|failure| error(&failure))?;
    let prompt = |playbook: &Playbook| {
        let situation = playbook.situation.to_string();
        let description = format!("What has worked, and what has not: {situation}");
        Prompt::new(name(playbook), Some(description), None).with_title(format!("Playbook: {situation}"))
    };
    Ok(ListPromptsResult::with_all_items(playbooks.iter().map(prompt).collect()))
}

pub(super) async fn get(caller: &Caller, wanted: &str) -> Result<GetPromptResult, ErrorData> {
    let playbooks = newest(caller).await.map_err(|failure| error(&failure))?;
    let Some(playbook) = playbooks.iter().find(|playbook| name(playbook) == wanted) else {
        let message = format!("there is no prompt {wanted:?} now: playbooks come and go with the evidence");
        return Err(ErrorData::invalid_params(message, None));
    };
    let message = PromptMessage::new_text(Role::User, format!("{HEADING}\n\n{playbook}"));
    Ok(GetPromptResult::new(vec![message]).with_description(playbook.situation.to_string()))
}

/// The name of a playbook's prompt: its situation in letters, digits and hyphens, made unique.
pub(super) fn name(playbook: &Playbook) -> String {
    let situation = playbook.situation.to_string();
    let letters = situation.chars().map(|one| if one.is_ascii_alphanumeric() { one.to_ascii_lowercase() } else { '-' });
    let plain: String = letters.take(40).collect();
    if plain == situation {
        return format!("playbook-{plain}");
    }
    let unique = Uuid::new_v5(&Uuid::NAMESPACE_OID, situation.as_bytes()).simple().to_string();
    format!("playbook-{}-{}", plain.trim_end_matches('-'), &unique[..8])
}

/// Tells a client of the older protocol, beside its requests, until it is gone.
pub(super) fn announce(caller: Caller, peer: Peer<RoleServer>) {
    tokio::spawn(async move {
        let told = async {
            let Some(mut playbooks) = Playbooks::watch(caller).await else { return };
            while playbooks.changed().await && peer.notify_prompt_list_changed().await.is_ok() {}
        };
        // It may be gone long before there is something to tell.
        let gone = async {
            while !peer.is_transport_closed() {
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::select! {
            () = told => {}
            () = gone => {}
        }
    });
}

/// Tells a subscriber, until it is gone.
pub(super) async fn tell(caller: Caller, sink: &SubscriptionSink) {
    let Some(mut playbooks) = Playbooks::watch(caller).await else { return };
    while playbooks.changed().await && sink.notify_prompt_list_changed().await.is_ok() {}
}

/// The playbooks, as they were last looked at.
struct Playbooks {
    caller: Caller,
    watch: Watch,
    known: Option<Vec<String>>,
}

impl Playbooks {
    async fn watch(caller: Caller) -> Option<Self> {
        let newest = caller.memory().store().health().await.map(|health| health.version).unwrap_or_default();
        let watch = caller.memory().watch(newest).every(EVERY).ok()?;
        let known = names(&caller).await;
        Some(Self { caller, watch, known })
    }

    /// Waits until they have changed; false if nothing will change any more.
    async fn changed(&mut self) -> bool {
        let consent = self.caller.service().approvals().is_some();
        while let Some(change) = self.watch.next().await {
            match change.map(|change| change.key.kind()) {
                Ok(RecordKind::Episode) => {}
                // It may be an approval, which what was read just before does not have yet.
                Ok(RecordKind::Note) if consent => tokio::time::sleep(FRESH).await,
                // After an error the watch goes on by itself, later.
                _ => continue,
            }
            let started = Instant::now();
            let now = names(&self.caller).await;
            tokio::time::sleep(REST.0.max(started.elapsed() * REST.1)).await;
            if now.is_some() && now != self.known {
                self.known = now;
                return true;
            }
        }
        false
    }
}

async fn names(caller: &Caller) -> Option<Vec<String>> {
    Some(newest(caller).await.ok()?.iter().map(Playbook::to_string).collect())
}

/// The playbooks of what is approved now.
async fn newest(caller: &Caller) -> memory_core::Result<Vec<Playbook>> {
    caller.refresh().await?;
    caller.memory().playbooks().await
}
