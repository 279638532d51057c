//! The memory that is measured.

use std::sync::Arc;

use memory_benches::{Corpus, StoreChoice, hybrid, search_and_get};
use memory_core::{Memory, MemoryBuilder, Search, StepDurability, StoreHealth};

use crate::AnyError;
use crate::embedder::Given;

/// A memory over the chosen store, closed between rounds if it outlives that, so that all rounds end alike and nothing goes on
/// beside the limits.
pub(crate) struct Subject {
    choice: StoreChoice,
    embedder: Arc<Given>,
    /// By words and vector, so that both must be indexed.
    search: Search,
    /// What is not closed between rounds.
    kept: Option<Memory>,
}

impl Subject {
    pub(crate) fn new(choice: StoreChoice, corpus: &Corpus) -> Self {
        let query = &corpus.queries()[0];
        Self { choice, embedder: Arc::new(Given::new()), search: hybrid(query), kept: None }
    }

    pub(crate) fn choice(&self) -> &StoreChoice {
        &self.choice
    }

    pub(crate) fn embedder(&self) -> &Given {
        &self.embedder
    }

    /// Opens the memory and searches it once: what a store has to load first is no cost of writing.
    pub(crate) async fn open(&mut self) -> Result<Memory, AnyError> {
        let memory = match self.kept.take() {
            Some(memory) => memory,
            None => self.build().await?,
        };
        self.search(&memory).await?;
        Ok(memory)
    }

    /// The same, of a store that must be empty.
    pub(crate) async fn open_new(&mut self) -> Result<(), AnyError> {
        let memory = self.build().await?;
        let (held, store) = (memory.health().await?.store, memory.store().to_string());
        self.close(memory).await?;
        if held.episodes + held.open_episodes + held.notes > 0 {
            let StoreHealth { episodes, notes, .. } = held;
            return Err(format!("{store} holds {episodes} episodes and {notes} notes already; name a new file").into());
        }
        Ok(())
    }

    async fn build(&self) -> Result<Memory, AnyError> {
        let builder = builder(&self.embedder).step_durability(StepDurability::batched());
        Ok(builder.store(self.choice.open().await?).build().await?)
    }

    /// Waits until everything is learned and indexed.
    pub(crate) async fn settle(&self, memory: &Memory) -> Result<(), AnyError> {
        learn_all(memory).await?;
        self.search(memory).await
    }

    /// Closes the memory, or keeps it if closing would lose it.
    pub(crate) async fn close(&mut self, memory: Memory) -> Result<(), AnyError> {
        match self.choice.file() {
            Some(_) => memory.close().await?,
            None => self.kept = Some(memory),
        }
        Ok(())
    }

    async fn search(&self, memory: &Memory) -> Result<(), AnyError> {
        search_and_get(memory.store(), &self.search).await?;
        Ok(())
    }
}

/// Waits until every episode is folded into what is known.
pub(crate) async fn learn_all(memory: &Memory) -> Result<(), AnyError> {
    loop {
        memory.project().await?;
        if memory.health().await?.episodes_behind == 0 {
            return Ok(());
        }
    }
}

/// All memories that are measured learn alike.
pub(crate) fn builder(embedder: &Arc<Given>) -> MemoryBuilder {
    Memory::builder().embedder(Arc::clone(embedder)).seed(1)
}
