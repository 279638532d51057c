//! Fills a store with the first episodes of a corpus, or goes on filling it.

use std::ops::Range;
use std::process::Command;
use std::sync::Arc;

use clap::Args;
use memory_benches::{Corpus, Form, StoreChoice, progress};
use memory_core::{Memory, MemoryStoreExt as _};

use crate::AnyError;
use crate::embedder::Given;
use crate::import::import;
use crate::lot::Lot;
use crate::subject::{builder, learn_all};

/// Episodes that are made before they are imported, and those that are committed together.
const MADE: u32 = 2_048;
const TOGETHER: u32 = 256;

/// What to fill with what.
#[derive(Clone, Debug, Args)]
pub(crate) struct Fill {
    /// How many episodes are stored afterwards
    #[arg(long)]
    pub(crate) episodes: u32,
    /// Where
    #[arg(long)]
    pub(crate) store: StoreChoice,
    /// What the episodes are made from
    #[arg(long)]
    pub(crate) seed: u64,
}

impl Fill {
    /// Fills the store by another process, which takes its memory with it: so the memory of this one tells what it takes to
    /// search.
    pub(crate) fn apart(&self) -> Result<(), AnyError> {
        let mut program = Command::new(std::env::current_exe()?);
        program.arg("fill").arg("--store").arg(self.store.to_string());
        program.args(["--episodes", &self.episodes.to_string(), "--seed", &self.seed.to_string()]);
        if program.status()?.success() { Ok(()) } else { Err(format!("{} is not filled", self.store).into()) }
    }

    /// Fills the store here.
    pub(crate) fn run(&self) -> Result<(), AnyError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = self.store.open().await?;
            let memory = builder(&Arc::new(Given::new())).store(store).build().await?;
            self.fill(&memory, &Corpus::new(self.seed)).await?;
            Ok(memory.close().await?)
        })
    }

    /// Adds what is missing, and learns from it.
    pub(crate) async fn fill(&self, memory: &Memory, corpus: &Corpus) -> Result<(), AnyError> {
        let missing = self.missing(memory, corpus).await?;
        let bar = progress(format!("filling {}", self.store), u32::try_from(missing.len())?);
        for start in missing.clone().step_by(usize::try_from(MADE)?) {
            let lot = Lot::new(corpus, start..missing.end.min(start + MADE));
            import(memory, lot.episodes, TOGETHER, |count| bar.inc(count)).await?;
            learn_all(memory).await?;
        }
        bar.finish_and_clear();
        learn_all(memory).await
    }

    /// The places of the episodes that are missing, if those that are there are the first ones.
    async fn missing(&self, memory: &Memory, corpus: &Corpus) -> Result<Range<u32>, AnyError> {
        let held = memory.health().await?.store;
        let stored = u32::try_from(held.episodes)?;
        let mut ours = stored <= self.episodes;
        for place in [0, stored.saturating_sub(1)].into_iter().filter(|place| *place < stored) {
            let logged = corpus.episode(place, Form::Whole);
            ours &= memory.store().get_episode(logged.episode.id).await?.as_ref() == Some(&logged);
        }
        if ours {
            return Ok(stored..self.episodes);
        }
        let Self { store, episodes, seed } = self;
        Err(format!("{store} holds {stored} episodes, not the first of {episodes} of seed {seed}; name another file")
            .into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_store_is_filled_further_but_only_with_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreChoice::Turso(PathBuf::from(folder.path()).join("m.db"));
        let fill = |episodes, seed| Fill { episodes, store: store.clone(), seed }.run();
        fill(3, 1).unwrap();
        fill(5, 1).unwrap();
        fill(5, 1).unwrap();
        for (episodes, seed) in [(4, 1), (6, 2)] {
            let error = fill(episodes, seed).unwrap_err().to_string();
            assert!(error.contains("holds 5 episodes"), "{error}");
        }
    }
}
