//! `load export`: episodes, queries and right answers as files, for programs that are not written in Rust.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use memory_benches::{Corpus, Form, Truth, progress};
use memory_core::Vector;
use serde_json::json;

use crate::AnyError;

/// What to write, and where.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// How many episodes are written
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    episodes: u32,
    /// What the episodes are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of the files, which is made if there is none
    folder: PathBuf,
}

/// Lines of JSON, and a vector for each in little-endian single precision.
struct Files {
    lines: BufWriter<File>,
    vectors: BufWriter<File>,
}

impl Export {
    pub(crate) fn run(&self) -> Result<(), AnyError> {
        std::fs::create_dir_all(&self.folder)?;
        let corpus = Corpus::new(self.seed);
        let truth = self.episodes(&corpus)?;
        let mut files = Files::create(&self.folder, "queries")?;
        for query in corpus.queries() {
            let nearest = truth.nearest(&query, None);
            let filtered = query.domain.map(|domain| truth.nearest(&query, Some(domain)));
            let line = json!({"text": query.text, "domain": query.domain, "nearest": nearest, "filtered": filtered});
            files.add(&line.to_string(), &query.vector)?;
        }
        Ok(files.finish()?)
    }

    fn episodes(&self, corpus: &Corpus) -> Result<Truth, AnyError> {
        let mut files = Files::create(&self.folder, "episodes")?;
        let mut truth = Truth::default();
        let bar = progress("writing episodes", self.episodes);
        for place in 0..self.episodes {
            let logged = corpus.episode(place, Form::Whole);
            let vector = logged.vector.as_ref().ok_or("an episode has no vector")?;
            files.add(&serde_json::to_string(&*logged.episode)?, vector)?;
            truth.add(corpus, place);
            bar.inc(1);
        }
        bar.finish_and_clear();
        files.finish()?;
        Ok(truth)
    }
}

impl Files {
    fn create(folder: &Path, name: &str) -> io::Result<Self> {
        let create = |ending| File::create(folder.join(name).with_extension(ending)).map(BufWriter::new);
        Ok(Self { lines: create("jsonl")?, vectors: create("f32")? })
    }

    fn add(&mut self, line: &str, vector: &Vector) -> io::Result<()> {
        writeln!(self.lines, "{line}")?;
        vector.as_slice().iter().try_for_each(|component| self.vectors.write_all(&component.to_le_bytes()))
    }

    fn finish(mut self) -> io::Result<()> {
        self.lines.flush()?;
        self.vectors.flush()
    }
}
