//! A redb database file of this crate: opened, told apart from others, and guarded against damage.
//!
//! Calls block. They must not run on a thread that serves futures.

use std::io;
use std::path::Path;
use std::sync::Arc;

use memory_core::{Error, ErrorKind, Result};
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, StorageBackend, TableDefinition, WriteTransaction,
};
use uuid::Uuid;

use crate::error::{from_redb, guarded};

/// What is to be known of a file: a few rows, by name.
pub(crate) const ABOUT: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("about");

/// The rows of [`ABOUT`] that every file of this crate has.
const LAYOUT: &str = "layout";
const FORMAT: &str = "format";

/// What a file holds, and in which format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// What it is, as its own rows say: one word for each kind of file.
    pub(crate) name: &'static str,
    /// The format of its tables, from 1. Files of a higher one are refused.
    pub(crate) format: u64,
    /// Opens every table, so that it is there: readers cannot make one.
    pub(crate) tables: fn(&WriteTransaction) -> Result<(), redb::TableError>,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How much memory redb may use for pages.
    pub(crate) cache_bytes: usize,
    /// Whether the whole file is read and checked. Else damage is met when it is read, and a damaged key hides its record.
    pub(crate) check: bool,
}

/// How a transaction ends that went well.
#[derive(Debug)]
pub(crate) enum End<T> {
    /// It is written.
    Commit(T),
    /// There was nothing to write.
    Abort(T),
}

impl<T> End<T> {
    fn into_inner(self) -> T {
        match self {
            Self::Commit(done) | Self::Abort(done) => done,
        }
    }
}

/// An open database file. No other process can open it meanwhile.
pub(crate) struct File {
    path: Arc<Path>,
    database: Database,
}

impl File {
    /// Opens the file; makes it if there is none.
    ///
    /// # Errors
    /// - [`Busy`](ErrorKind::Busy) if it is open already, here or in another process;
    /// - [`Foreign`](ErrorKind::Foreign) for what is no redb database, or not one of this layout;
    /// - [`SchemaTooNew`](ErrorKind::SchemaTooNew) for one of a higher format;
    /// - [`SchemaEdited`](ErrorKind::SchemaEdited) if its tables have other types;
    /// - [`Corrupt`](ErrorKind::Corrupt), [`ReadOnly`](ErrorKind::ReadOnly), [`Full`](ErrorKind::Full) and
    ///   [`Io`](ErrorKind::Io) for what is wrong with file or disk.
    pub(crate) fn open(path: Arc<Path>, layout: &Layout, options: Options) -> Result<Self> {
        if !path.exists() {
            Self::make(&path, layout, options)?;
        }
        let file = Self::open_or_create(path, options)?;
        if !file.is_of(layout)? {
            file.set_up(layout)?;
        }
        Ok(file)
    }

    /// A database in this place instead of a file; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn in_backend(
        backend: impl StorageBackend,
        name: &str,
        layout: &Layout,
        options: Options,
    ) -> Result<Self> {
        let path: Arc<Path> = Path::new(name).into();
        let database = guarded(&path, || {
            let mut builder = Builder::new();
            builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(options.check);
            builder.create_with_backend(backend).map_err(|error| from_redb(&path, error))
        })?;
        let file = Self { path, database };
        if !file.is_of(layout)? {
            file.set_up(layout)?;
        }
        Ok(file)
    }

    /// Makes a file under another name and then gives it this one. redb takes a file for no database if the process that made it
    /// ended before it was whole, and there would be no way out of that.
    fn make(path: &Arc<Path>, layout: &Layout, options: Options) -> Result<()> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}.new", Uuid::now_v7()));
        let aside: Arc<Path> = Path::new(&aside).into();
        let file = Self::open_or_create(Arc::clone(&aside), options);
        let made = file.and_then(|file| file.set_up(layout).and_then(|()| file.close()));
        // Where there are no links, or another process was first, the file is made, or found, in place.
        let linked = made.map(|()| std::fs::hard_link(&aside, path).and_then(|()| sync_folder(path)));
        // Nothing hangs on it.
        let _ = std::fs::remove_file(&aside);
        linked.map(drop)
    }

    fn open_or_create(path: Arc<Path>, options: Options) -> Result<Self> {
        let database = guarded(&path, || {
            let mut builder = Builder::new();
            builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(options.check);
            builder.create(&path).map_err(|error| from_redb(&path, error))
        })?;
        Ok(Self { path, database })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Begins to read the present state, also what is not durable yet.
    pub(crate) fn read(&self) -> Result<ReadTransaction> {
        self.guarded(|| self.database.begin_read().map_err(|error| self.error(error)))
    }

    /// Does all of `work` in one transaction, or nothing. Without durability it becomes durable with the next transaction that is.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<T>,
    ) -> Result<T> {
        self.write_or_not(durability, |transaction| work(transaction).map(End::Commit)).map(End::into_inner)
    }

    /// The same, where the work may turn out to be none.
    pub(crate) fn write_or_not<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<End<T>>,
    ) -> Result<End<T>> {
        let transaction = self.guarded(|| {
            let mut transaction = self.database.begin_write().map_err(|error| self.error(error))?;
            transaction.set_durability(durability).map_err(|error| self.error(error))?;
            Ok(transaction)
        })?;
        // The transaction must outlive a panic of the work: it ends in a call of its own, guarded for itself.
        match self.guarded(|| work(&transaction)) {
            Ok(End::Commit(done)) => {
                self.guarded(|| transaction.commit().map_err(|error| self.error(error)))?;
                Ok(End::Commit(done))
            }
            Ok(End::Abort(done)) => {
                self.guarded(|| transaction.abort().map_err(|error| self.error(error)))?;
                Ok(End::Abort(done))
            }
            Err(error) => {
                // What was wrong first is what is told.
                let _ = self.guarded(|| transaction.abort().map_err(|error| self.error(error)));
                Err(error)
            }
        }
    }

    /// Moves what is at the end to pages that are free, and gives the end back to the disk.
    pub(crate) fn compact(&mut self) -> Result<()> {
        let Self { path, database } = self;
        guarded(path, || database.compact().map(drop).map_err(|error| from_redb(path, error)))
    }

    /// Closes the file. What reads it meanwhile fails.
    pub(crate) fn close(self) -> Result<()> {
        let Self { path, database } = self;
        guarded(&path, || database.close().map_err(|error| from_redb(&path, error)))
    }

    /// Runs what reads or writes the file; see [`guarded`].
    pub(crate) fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        guarded(&self.path, work)
    }

    /// The error for what redb reports.
    pub(crate) fn error(&self, error: impl Into<redb::Error>) -> Error {
        from_redb(&self.path, error)
    }

    /// Whether it is a file of this layout; not if it is a new one.
    fn is_of(&self, layout: &Layout) -> Result<bool> {
        let transaction = self.read()?;
        self.guarded(|| {
            let about = match transaction.open_table(ABOUT) {
                Ok(about) => about,
                Err(redb::TableError::TableDoesNotExist(_)) => {
                    let mut tables = transaction.list_tables().map_err(|error| self.error(error))?;
                    return if tables.next().is_none() { Ok(false) } else { Err(self.foreign("another program")) };
                }
                Err(redb::TableError::Storage(error)) => return Err(self.error(error)),
                Err(_) => return Err(self.foreign("another program")),
            };
            let row = |name| Ok(about.get(name).map_err(|error| self.error(error))?.map(|row| row.value().to_vec()));
            let (name, format) = (row(LAYOUT)?, row(FORMAT)?);
            if name.as_deref() != Some(layout.name.as_bytes()) {
                return Err(self.foreign(&String::from_utf8_lossy(&name.unwrap_or_default())));
            }
            let format = format.and_then(|format| <[u8; 8]>::try_from(format).ok()).map(u64::from_le_bytes);
            match format {
                Some(format) if format > layout.format => Err(self.too_new(format, layout.format)),
                Some(1..) => Ok(true),
                _ => Err(Error::new(ErrorKind::Corrupt, format!("{}: its format is {format:?}", self.path.display()))),
            }
        })
    }

    fn set_up(&self, layout: &Layout) -> Result<()> {
        self.write(Durability::Immediate, |transaction| {
            (layout.tables)(transaction).map_err(|error| self.error(error))?;
            let mut about = transaction.open_table(ABOUT).map_err(|error| self.error(error))?;
            about.insert(LAYOUT, layout.name.as_bytes()).map_err(|error| self.error(error))?;
            about.insert(FORMAT, &layout.format.to_le_bytes()[..]).map_err(|error| self.error(error))?;
            Ok(())
        })
    }

    fn foreign(&self, whose: &str) -> Error {
        Error::new(ErrorKind::Foreign, format!("{} is a redb database of {whose}", self.path.display()))
    }

    fn too_new(&self, format: u64, known: u64) -> Error {
        let path = self.path.display();
        let message = format!("{path} has format {format}; this version of the library knows formats up to {known}");
        Error::new(ErrorKind::SchemaTooNew, message)
    }
}

/// Makes a new name of a file durable, where folders can be synced.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().map(std::fs::File::open) {
        Some(Ok(folder)) => folder.sync_all(),
        _ => Ok(()),
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("rows");

    const OPTIONS: Options = Options { cache_bytes: 1 << 20, check: false };

    fn layout(name: &'static str, format: u64) -> Layout {
        Layout { name, format, tables: |transaction| transaction.open_table(TABLE).map(drop) }
    }

    fn open(path: &Path, name: &'static str, format: u64) -> Result<File> {
        File::open(path.into(), &layout(name, format), OPTIONS)
    }

    fn refused(path: &Path, kind: ErrorKind, says: &str) {
        let error = open(path, "test", 1).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let message = error.to_string();
        assert!(message.contains(says) && message.contains(&path.display().to_string()), "{message}");
    }

    fn put(file: &File, durability: Durability, n: u64) -> Result<()> {
        file.write(durability, |transaction| {
            let mut table = transaction.open_table(TABLE).map_err(|error| file.error(error))?;
            table.insert(n, &b"row"[..]).map_err(|error| file.error(error))?;
            Ok(())
        })
    }

    fn count(file: &File) -> u64 {
        use redb::ReadableTableMetadata;
        file.read().unwrap().open_table(TABLE).unwrap().len().unwrap()
    }

    #[test]
    fn a_new_file_has_its_tables_and_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for rows in 0..3 {
            let file = open(&path, "test", 1).unwrap();
            assert_eq!(count(&file), rows);
            put(&file, Durability::None, 100 + rows).unwrap();
            put(&file, Durability::Immediate, rows).unwrap();
            assert_eq!(count(&file), rows + 2);
            put(&file, Durability::None, 100 + rows).unwrap();
            file.write(Durability::Immediate, |transaction| {
                let mut table = transaction.open_table(TABLE).map_err(|error| file.error(error))?;
                table.remove(100 + rows).map_err(|error| file.error(error))?;
                Ok(())
            })
            .unwrap();
            file.close().unwrap();
        }
        // An empty file is a new one, too.
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert_eq!(count(&open(&empty, "test", 1).unwrap()), 0);
    }

    #[test]
    fn work_that_fails_or_panics_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = open(&folder.path().join("file"), "test", 1).unwrap();
        let broken = |end: fn() -> Result<()>| {
            file.write(Durability::Immediate, |transaction| {
                let mut table = transaction.open_table(TABLE).map_err(|error| file.error(error))?;
                table.insert(1, &b"row"[..]).map_err(|error| file.error(error))?;
                end()
            })
            .unwrap_err()
        };
        let error = broken(|| Err(Error::new(ErrorKind::Conflict, "as it is")));
        assert!(error.is_conflict());
        let error = broken(|| panic!("as if by accident"));
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("redb panicked: as if by accident"), "{error}");
        assert_eq!(count(&file), 0);
        put(&file, Durability::Immediate, 1).unwrap();
        assert_eq!(count(&file), 1);
    }

    #[test]
    fn one_at_a_time_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = open(&path, "test", 1).unwrap();
        refused(&path, ErrorKind::Busy, "is open in another process");
        assert!(open(&path, "test", 1).unwrap_err().is_temporary());
        drop(file);
        assert!(open(&path, "test", 1).is_ok());
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("text"), "not a database, but long enough to be one ".repeat(1_000)).unwrap();
        refused(&path("text"), ErrorKind::Foreign, "");
        std::fs::write(path("short"), "short").unwrap();
        refused(&path("short"), ErrorKind::Foreign, "");
        let other = Database::create(path("other")).unwrap();
        let transaction = other.begin_write().unwrap();
        transaction.open_table(TABLE).unwrap();
        transaction.commit().unwrap();
        drop(other);
        refused(&path("other"), ErrorKind::Foreign, "of another program");
        open(&path("cache"), "cache", 1).unwrap();
        refused(&path("cache"), ErrorKind::Foreign, "of cache");
        open(&path("new"), "test", 7).unwrap();
        refused(
            &path("new"),
            ErrorKind::SchemaTooNew,
            "has format 7; this version of the library knows formats up to 1",
        );
        assert!(open(&path("new"), "test", 8).is_ok(), "an older one is taken");
        refused(&path("no/folder"), ErrorKind::Io, "");
        refused(folder.path(), ErrorKind::Io, "");
    }

    #[test]
    fn a_file_that_was_cut_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = open(&path, "test", 1).unwrap();
        (0..1_000).for_each(|n| put(&file, Durability::None, n).unwrap());
        put(&file, Durability::Immediate, 1_000).unwrap();
        drop(file);
        let whole = std::fs::read(&path).unwrap();
        for length in [100, 4_096, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            match open(&path, "test", 1) {
                Ok(file) => assert_eq!(count(&file), 1_001, "only space was cut off"),
                Err(error) => assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Foreign), "{error:?}"),
            }
        }
    }
}
