//! Exports and imports.

use std::path::{Path, PathBuf};

use clap::Args;
use memory_core::{ImportOptions, Memory, Transferred};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Failure;
use super::output::{count, line};
use super::session::Session;
use super::terminal::{bar_of_bytes, confirm};

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file, which is there as a whole or not at all; - for stdout
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Of all scopes, not of one
    #[arg(long)]
    all_scopes: bool,
    /// Replace the file if it is there
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file; - for stdin. Texts are taken as they are: memory.redact is for what callers tell
    file: PathBuf,
    /// Into the scopes that it came from, not into one
    #[arg(long)]
    all_scopes: bool,
    /// Read, check and compare all of it, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave out what contradicts what is there, instead of ending
    #[arg(long)]
    keep_stored: bool,
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Export {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        session.is_there()?;
        let path = &self.file;
        if !is_standard(path) && path.exists() {
            confirm(self.yes, &format!("replace {}", path.display()))?;
        }
        session
            .with_records(async |opened| {
                if is_standard(path) {
                    let told = self.write(&opened.memory, tokio::io::stdout()).await?;
                    session.out.tell_aside(&as_json(&told), |_| text(&told, "exported"));
                } else {
                    let told = self.write_file(&opened.memory).await?;
                    session.out.tell(&as_json(&told), |_| text(&told, "exported"));
                }
                Ok(())
            })
            .await
    }

    async fn write(&self, memory: &Memory, writer: impl AsyncWrite + Unpin) -> Result<Transferred, Failure> {
        let bar = bar_of_bytes(None, "exporting");
        let writer = bar.wrap_async_write(writer);
        let told = if self.all_scopes { memory.export_all(writer).await } else { memory.export(writer).await };
        bar.finish_and_clear();
        Ok(told?)
    }

    /// Beside its place, and there only when it is whole and on disk.
    async fn write_file(&self, memory: &Memory) -> Result<Transferred, Failure> {
        let failed = |error: &std::io::Error| Failure::io(&self.file, error);
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let beside = NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
        let file = beside.reopen().map_err(|error| failed(&error))?;
        let told = self.write(memory, tokio::fs::File::from_std(file)).await?;
        beside.as_file().sync_all().map_err(|error| failed(&error))?;
        beside.persist(&self.file).map_err(|error| failed(&error.error))?;
        Ok(told)
    }
}

impl Import {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut options = ImportOptions::new();
        (options.dry_run, options.keep_stored) = (self.dry_run, self.keep_stored);
        let told = match is_standard(&self.file) {
            true => self.read(session, tokio::io::stdin(), None, &options).await?,
            false => {
                let failed = |error| Failure::io(&self.file, &error);
                let file = tokio::fs::File::open(&self.file).await.map_err(failed)?;
                let length = file.metadata().await.map_err(failed)?.len();
                self.read(session, file, Some(length), &options).await?
            }
        };
        let done = if self.dry_run { "would be imported" } else { "imported" };
        session.out.tell(&as_json(&told), |_| text(&told, done));
        Ok(())
    }

    /// The database may be made for it.
    async fn read(
        &self,
        session: &Session,
        reader: impl AsyncRead + Unpin,
        length: Option<u64>,
        options: &ImportOptions,
    ) -> Result<Transferred, Failure> {
        let opened = Box::pin(session.plan.clone().for_a_command().open()).await?;
        let bar = bar_of_bytes(length, "importing");
        let (reader, memory) = (bar.wrap_async_read(reader), &opened.memory);
        let told = match self.all_scopes {
            true => memory.import_all(reader, options).await,
            false => memory.import(reader, options).await,
        };
        bar.finish_and_clear();
        let closed = memory.close().await;
        let told = told?;
        closed?;
        Ok(told)
    }
}

fn as_json(told: &Transferred) -> Value {
    let conflicts = told.conflicts.iter().map(|one| json!({ "line": one.line, "what": one.what }));
    json!({
        "lines": told.lines,
        "episodes": told.episodes,
        "notes": told.notes,
        "merged": told.merged,
        "skipped": told.skipped,
        "conflicting": told.conflicting,
        "conflicts": conflicts.collect::<Vec<_>>(),
        "without_vector": told.without_vector,
        "degraded": told.degraded,
    })
}

fn text(told: &Transferred, done: &str) -> String {
    let mut text = format!("{done}: {}, {}", count(told.episodes, "episode"), count(told.notes, "note"));
    if told.merged > 0 {
        text += &format!("\nof notes that were there, {} have more told of them now", told.merged);
    }
    if told.skipped > 0 {
        text += &format!("\nthere already, or expired: {}", told.skipped);
    }
    if told.conflicting > 0 {
        text += &format!("\nleft out, since another one has the id: {}", told.conflicting);
        told.conflicts.iter().for_each(|one| text += &format!("\n  line {}: {}", one.line, line(&one.what)));
    }
    if let Some(degraded) = &told.degraded {
        text += &format!("\nwithout a vector, until it is filled in: {} ({})", told.without_vector, line(degraded));
    }
    text
}
