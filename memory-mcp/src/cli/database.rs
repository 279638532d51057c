//! The database file: backups, and the version of its tables.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use clap::Args;
use memory_core::{ErrorKind, MemoryStore as _};
use memory_storage_redb::{RedbConfig, RedbStore};
use memory_storage_turso::{MigrationPlan, TursoStore};
use serde_json::json;

use super::Failure;
use super::output::bytes;
use super::session::Session;
use super::terminal::{confirm, spinner};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The new file [default: the database's name with the time, beside it]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A backup, or any database file that nobody writes to
    file: PathBuf,
    /// Do not ask before the database that is there is moved aside
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Try it on a copy, and only tell what would change
    #[arg(long)]
    dry_run: bool,
}

/// A name beside a file, which begins with its name.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(end);
    path.with_file_name(name)
}

/// Does something with each file of a database that is there.
pub(crate) fn each_file(path: &Path, what: impl Fn(&Path, &str) -> std::io::Result<()>) -> Result<(), Failure> {
    for end in ["", "-wal", "-shm"] {
        let file = beside(path, end);
        match what(&file, end) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::io(&file, &error)),
            _ => {}
        }
    }
    Ok(())
}

fn now() -> String {
    Utc::now().format("%Y%m%dT%H%M%S%3fZ").to_string()
}

impl Backup {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (path, _) = session.file("backup")?;
        let to = self.file.unwrap_or_else(|| beside(path, &format!(".{}.backup", now())));
        let store = session.store().await?;
        let spinner = spinner("copying");
        let made = store.backup(&to).await;
        spinner.finish_and_clear();
        store.close().await?;
        let made = made?;
        session.out.tell(&json!({ "file": to, "bytes": made.bytes, "version": made.version }), |_| {
            format!("{} has {}, up to version {}", to.display(), bytes(made.bytes), made.version.0)
        });
        Ok(())
    }
}

impl Restore {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (path, config) = session.file("restore")?;
        let is_there = path.exists();
        if is_there {
            unused(session.plan.cache()).await?;
            confirm(self.yes, &format!("move {} aside and make it anew from {}", path.display(), self.file.display()))?;
        } else if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| Failure::io(folder, &error))?;
        }
        let spinner = spinner("restoring");
        let made = beside(path, ".restoring");
        let _ = std::fs::remove_file(&made);
        let from = std::path::absolute(&self.file).map_err(|error| Failure::io(&self.file, &error))?;
        let restored = TursoStore::restore_with(from, &made, config).await;
        spinner.finish_and_clear();
        let restored = restored?;
        let aside = beside(path, &format!(".{}.before-restore", now()));
        move_aside(path, &aside)?;
        std::fs::rename(&made, path).map_err(|error| Failure::io(path, &error))?;
        let aside = is_there.then_some(aside);
        let answer = json!({ "file": path, "bytes": restored.bytes, "version": restored.version, "before": aside });
        session.out.tell(&answer, |_| {
            let before = aside.as_ref().map(|aside| format!("\nwhat was there is {}", aside.display()));
            let (size, version) = (bytes(restored.bytes), restored.version.0);
            format!("{} has {size}, up to version {version}{}", path.display(), before.unwrap_or_default())
        });
        Ok(())
    }
}

/// Moves a database away with its write-ahead log, which alone has what was written last.
fn move_aside(path: &Path, aside: &Path) -> Result<(), Failure> {
    each_file(path, |file, end| std::fs::rename(file, beside(aside, end)))
}

/// Refuses a database whose cache another process has open: it would go on with the file that is moved aside.
async fn unused(cache: Option<&Path>) -> Result<(), Failure> {
    let Some(cache) = cache.filter(|cache| cache.exists()) else { return Ok(()) };
    match RedbStore::open_with(cache, RedbConfig::default().with_busy_timeout(Duration::ZERO)).await {
        Err(error) if error.kind() == ErrorKind::Busy => {
            Err(Failure::Other(format!("the database is in use: {error}; stop that process first")))
        }
        // A cache is no store: that is all that is found.
        Err(_) => Ok(()),
        Ok(store) => Ok(store.close().await?),
    }
}

impl Migrate {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (path, config) = session.file("migrate")?;
        session.is_there()?;
        let plan = TursoStore::plan_with(path, config).await?;
        let pending = !plan.migrations.is_empty();
        if pending && !self.dry_run {
            let spinner = spinner("migrating");
            let opened = TursoStore::open_with(path, config).await;
            spinner.finish_and_clear();
            opened?.close().await?;
        }
        let MigrationPlan { from, to, migrations, backup, .. } = &plan;
        let backup = backup.as_ref().filter(|backup| self.dry_run || backup.exists());
        let done = pending && !self.dry_run;
        let answer = json!({ "from": from, "to": to, "migrations": migrations, "backup": backup, "done": done });
        session.out.tell(&answer, |_| {
            if !pending {
                return format!("The tables have version {to}: there is nothing to do.");
            }
            let does = if self.dry_run { "would go" } else { "went" };
            let mut text = format!("The tables {does} from version {from} to {to}: {}", migrations.join(", "));
            if let Some(backup) = backup {
                text += &format!("\nthe file as it was: {}", backup.display());
            }
            text
        });
        Ok(())
    }
}
