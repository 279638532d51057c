//! Moving to another embedder.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use memory_core::{Embedder, Memory, MemoryStore, Reembedded};
use memory_storage_turso::{Replaced, TursoConfig, TursoStore};
use serde_json::json;

use super::Failure;
use super::database::{beside, each_file};
use super::output::count;
use super::session::{NoEmbedder, Session, space_of};
use super::terminal::bar;

/// How often what came in between is taken in.
const TURNS: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct Reembed {
    /// Begin anew, where it was ended in between before
    #[arg(long)]
    restart: bool,
}

/// Where the vectors come from and go to.
struct Moving<'m> {
    memory: &'m Memory,
    path: &'m Path,
    copy: PathBuf,
    config: TursoConfig,
    embedder: Arc<dyn Embedder>,
}

impl Reembed {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (path, config) = session.file("reembed")?;
        session.is_there()?;
        let (embedder, _) = session.plan.embedder().await?;
        let store = session.store().await?;
        let (new, copy) = (embedder.space().to_string(), beside(path, ".reembed"));
        let Some(old) = space_of(&store).await?.filter(|old| old != embedder.space()) else {
            store.close().await?;
            // It may have been ended between the exchange and this.
            remove(&copy)?;
            session.out.tell(&json!({ "moved": false, "space": new }), |_| {
                format!("There is nothing to do: the vectors are of {new}.")
            });
            return Ok(());
        };
        if self.restart {
            remove(&copy)?;
        }
        let told = old.to_string();
        let memory = Memory::builder().store(store).embedder(NoEmbedder(old)).build().await?;
        let moving = Moving { memory: &memory, path, copy: copy.clone(), config, embedder };
        let moved = moving.run().await;
        let closed = memory.close().await;
        let (copied, replaced) = moved?;
        closed?;
        remove(&copy)?;
        let answer = json!({
            "moved": true,
            "from": told,
            "space": new,
            "episodes": copied.episodes,
            "notes": copied.notes,
            "texts": copied.texts,
            "vectors": replaced.vectors,
            "without": replaced.without,
        });
        session.out.tell(&answer, |_| {
            format!(
                "{} are of {new} now, and were of {told}.\nStart again what has the database open.",
                count(replaced.vectors, "vector")
            )
        });
        Ok(())
    }
}

impl Moving<'_> {
    async fn run(&self) -> Result<(Reembedded, Replaced), Failure> {
        let mut all = Reembedded::default();
        for _ in 0..TURNS {
            let copied = self.copy().await?;
            all.episodes += copied.episodes;
            all.notes += copied.notes;
            all.texts += copied.texts;
            match TursoStore::replace_vectors_with(self.path, &self.copy, self.config).await {
                // Something came in between.
                Err(error) if error.is_conflict() => {}
                replaced => return Ok((all, replaced?)),
            }
        }
        let what = "episodes come quicker than they are taken in; let what writes pause, and start this again";
        Err(Failure::Other(what.to_owned()))
    }

    /// Copies what is not copied yet, and shows how far it is.
    async fn copy(&self) -> Result<Reembedded, Failure> {
        let into = Arc::new(TursoStore::open_with(&self.copy, self.config).await?);
        let there = self.memory.store().health().await?;
        let bar = bar(there.episodes + there.notes, "reembedding");
        let copied = tokio::select! {
            copied = self.memory.reembed(Arc::clone(&into), Arc::clone(&self.embedder)) => copied,
            never = watch(&into, &bar) => match never {},
        };
        bar.finish_and_clear();
        let closed = into.close().await;
        let copied = copied.map_err(|error| self.explained(error))?;
        closed?;
        Ok(copied)
    }

    fn explained(&self, error: memory_core::Error) -> memory_core::Error {
        use memory_core::ErrorKind::{Foreign, SpaceMismatch};
        match error.kind() {
            Foreign | SpaceMismatch => {
                error.adding(format_args!("{} is of another attempt: --restart begins anew", self.copy.display()))
            }
            _ => error.adding("start it again to go on from here"),
        }
    }
}

/// Shows how far it is.
async fn watch(into: &TursoStore, bar: &ProgressBar) -> Infallible {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if let Ok(health) = into.health().await {
            bar.set_position(health.episodes + health.notes);
        }
    }
}

/// Removes the copy.
fn remove(copy: &Path) -> Result<(), Failure> {
    each_file(copy, |file, _| std::fs::remove_file(file))
}
