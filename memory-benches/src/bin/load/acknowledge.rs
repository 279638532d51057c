//! `load acknowledge`: records one episode after the other and says each that is acknowledged, until it is killed.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Args;
use memory_benches::{Corpus, Form, StoreChoice};
use memory_core::Recording;

use crate::AnyError;
use crate::embedder::Given;
use crate::subject::builder;

/// What to record.
#[derive(Debug, Args)]
pub(crate) struct Acknowledge {
    /// How many episodes are stored when it ends by itself; 0 to see only how many there are
    #[arg(long)]
    episodes: u32,
    /// Where
    #[arg(long)]
    store: StoreChoice,
    /// What the episodes are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Acknowledge {
    /// Says first how many are stored, then the number of stored episodes after each acknowledgement.
    pub(crate) fn run(&self) -> Result<(), AnyError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let (corpus, embedder, mut out) = (Corpus::new(self.seed), Arc::new(Given::new()), io::stdout().lock());
            let memory = builder(&embedder).store(self.store.open().await?).build().await?;
            let held = u32::try_from(memory.health().await?.store.episodes)?;
            writeln!(out, "{held}")?;
            for place in held..self.episodes {
                let logged = corpus.episode(place, Form::Whole);
                embedder.only(logged.vector.clone().map(|vector| (logged.episode.task.text.clone(), vector)));
                memory.record(Recording::from(&*logged.episode)).await?;
                writeln!(out, "{}", place + 1)?;
                out.flush()?;
            }
            Ok(memory.close().await?)
        })
    }
}
