//! Tidying up.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clap::Args;
use memory_core::{Memory, MemoryStore as _, Record, RecordKind, RetentionPolicy, Scan, Scope};
use memory_mcp::open::{Opened, Place};
use serde_json::json;

use super::Failure;
use super::output::{bytes, count};
use super::session::Session;
use super::terminal::{confirm, spinner};

#[derive(Debug, Args)]
pub(crate) struct Cleanup {
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What there is to tidy up, or was: of all scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tidied {
    /// Expired notes.
    notes: u64,
    /// Open episodes that nobody works on any more.
    orphans: u64,
    /// Episodes that the retention policy does not keep.
    episodes: u64,
}

impl Tidied {
    fn text(self) -> String {
        let Self { notes, orphans, episodes } = self;
        let orphans = count(orphans, "open episode");
        format!(
            "delete {}, close {orphans} left open, delete {} past retention",
            count(notes, "expired note"),
            count(episodes, "episode")
        )
    }
}

impl Cleanup {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        session.with_memory(async |opened| self.tidy(session, opened).await).await
    }

    async fn tidy(&self, session: &Session, opened: &Opened) -> Result<(), Failure> {
        let policy = session.plan.retention();
        let due = due(&opened.memory, policy).await?;
        let (mut done, mut vacuumed) = (due, None);
        if !self.dry_run {
            if due != Tidied::default() {
                confirm(self.yes, &due.text())?;
            }
            let spinner = spinner("tidying up");
            let tidied = tidied(&opened.memory, policy).await;
            if let (Some(store), Place::File(..), Ok(_)) = (&opened.turso, session.plan.place(), &tidied) {
                vacuumed = Some(store.vacuum().await?);
            }
            spinner.finish_and_clear();
            done = tidied?;
        }
        let answer = json!({
            "dry_run": self.dry_run,
            "expired_notes": done.notes,
            "orphaned_episodes": done.orphans,
            "episodes_past_retention": done.episodes,
            "bytes_before": vacuumed.map(|vacuumed| vacuumed.before),
            "bytes_after": vacuumed.map(|vacuumed| vacuumed.after),
        });
        session.out.tell(&answer, |_| {
            let (when, size) = match (self.dry_run, vacuumed) {
                (true, _) => ("would be done", String::new()),
                (false, Some(it)) => {
                    ("done", format!("\nthe file had {} and has {}", bytes(it.before), bytes(it.after)))
                }
                (false, None) => ("done", String::new()),
            };
            format!("{when}: {}{size}", done.text())
        });
        Ok(())
    }
}

async fn tidied(memory: &Memory, policy: Option<&RetentionPolicy>) -> memory_core::Result<Tidied> {
    let (notes, orphans) = (memory.expire_notes().await?, memory.sweep().await?);
    let episodes = match policy {
        Some(policy) => memory.retain_all(policy).await?.episodes,
        None => 0,
    };
    Ok(Tidied { notes, orphans, episodes })
}

async fn due(memory: &Memory, policy: Option<&RetentionPolicy>) -> memory_core::Result<Tidied> {
    let health = memory.health().await?;
    let waiting = |name: &str| health.jobs.iter().find(|job| job.name == name).map_or(0, |job| job.queue);
    let episodes = match policy {
        Some(policy) => past(memory, policy).await?,
        None => 0,
    };
    Ok(Tidied { notes: waiting("expiry"), orphans: waiting("sweep"), episodes })
}

/// How many episodes a policy does not keep.
async fn past(memory: &Memory, policy: &RetentionPolicy) -> memory_core::Result<u64> {
    let mut ended: BTreeMap<Scope, Vec<DateTime<Utc>>> = BTreeMap::new();
    let mut scan = Scan::new(RecordKind::Episode).limit(256);
    loop {
        let page = memory.store().scan(&scan).await?;
        for stored in page.records {
            if let Record::Episode(logged) = stored.record {
                ended.entry(logged.episode.scope.clone()).or_default().push(logged.episode.completed_at);
            }
        }
        match page.next {
            Some(next) => scan = scan.after(Some(next)),
            None => break,
        }
    }
    let earliest = policy.max_age.and_then(|age| Utc::now().checked_sub_signed(age));
    let past = ended.into_values().map(|ended| {
        let kept = ended.iter().filter(|ended| earliest.is_none_or(|earliest| **ended >= earliest)).count() as u64;
        ended.len() as u64 - policy.max_episodes.map_or(kept, |most| kept.min(most))
    });
    Ok(past.sum())
}
