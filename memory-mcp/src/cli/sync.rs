//! The local copy of a server's database.

use clap::Subcommand;
use serde_json::json;

use super::Failure;
use super::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring the copy up to date, and say how far it had come
    Status,
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::Status = self;
        if let memory_mcp::open::Place::Server(_, _, Some(copy)) = session.plan.place() {
            return copied(session, copy).await;
        }
        session.out.tell(&json!({ "replica": null }), |_| {
            "There is no local copy: see store.replica. All reads go to the database itself.".to_owned()
        });
        Ok(())
    }
}

#[cfg(feature = "replica")]
async fn copied(session: &Session, copy: &std::path::Path) -> Result<(), Failure> {
    use memory_core::MemoryStore as _;

    use super::output::pairs;

    let store = session.store().await?;
    let before = store.health().await?.version;
    let synced = store.sync().await;
    let status = store.sync_status();
    store.close().await?;
    let error = synced.as_ref().err().map(ToString::to_string);
    let answer = json!({
        "replica": copy,
        "version_before": before,
        "version": synced.as_ref().ok(),
        "synced_at": status.as_ref().and_then(|status| status.synced_at),
        "error": error,
    });
    session.out.tell(&answer, |paint| {
        let now = match (&synced, &error) {
            (Ok(version), _) if version.0 == before.0 => format!("version {}, all that the server has", version.0),
            (Ok(version), _) => format!("version {}, {} behind before", version.0, version.0 - before.0),
            (_, error) => format!("version {}, and the server: {}", before.0, error.as_deref().unwrap_or_default()),
        };
        pairs([("local copy", copy.display().to_string()), ("has", now)], paint)
    });
    if synced.is_ok() { Ok(()) } else { Err(Failure::Told(1)) }
}

#[cfg(not(feature = "replica"))]
async fn copied(_: &Session, _: &std::path::Path) -> Result<(), Failure> {
    Err(Failure::Other("this program was built without local copies; build it with --features replica".to_owned()))
}
