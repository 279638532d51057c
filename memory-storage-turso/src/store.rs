//! The store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::{
    Batch, Changes, Commit, Durability, Hit, Key, MemoryStore, Page, Result, Scan, Search, StoreHealth, StoreInfo,
    Stored, Version,
};

use crate::encryption::DatabaseFile;
use crate::error::{closed, from_io};
use crate::maintenance::{Backup, Vacuumed};
use crate::worker::{Place, Workers, spawn};
use crate::write::{Encoded, Writer};
use crate::{MigrationPlan, Replaced, TursoConfig, TursoStats};
use crate::{maintenance, read, replace_vectors, schema, search};

/// A [`MemoryStore`] in a local libSQL database file, or in the database of a server. See the [crate's page](crate) for guarantees and tables.
///
/// Clones share one store. Its threads end when the last clone is dropped, after what is queued;
/// [`close`](MemoryStore::close) also waits for them.
#[derive(Clone, Debug)]
pub struct TursoStore {
    /// The file, or the address of the server.
    path: Arc<Path>,
    config: TursoConfig,
    workers: Arc<Workers>,
}

impl TursoStore {
    /// Opens a file with the default settings; makes it if there is none.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, TursoConfig::default()).await
    }

    /// Opens a file; makes it if there is none. Its folder must be there.
    ///
    /// # Errors
    /// - [`Invalid`](memory_core::ErrorKind::Invalid) for a setting outside its range, or a path that cannot be a file;
    /// - [`Foreign`](memory_core::ErrorKind::Foreign) for another program's database, or no database at all, or one that is
    ///   encrypted and not with the key that is given;
    /// - [`SchemaTooNew`](memory_core::ErrorKind::SchemaTooNew) if a newer version of this library has opened it before;
    /// - [`SchemaEdited`](memory_core::ErrorKind::SchemaEdited) if one of its tables was changed by hand;
    /// - [`Corrupt`](memory_core::ErrorKind::Corrupt), [`ReadOnly`](memory_core::ErrorKind::ReadOnly),
    ///   [`Full`](memory_core::ErrorKind::Full), [`Busy`](memory_core::ErrorKind::Busy) and
    ///   [`Io`](memory_core::ErrorKind::Io) for what is wrong with file or disk.
    pub async fn open_with(path: impl AsRef<Path>, config: TursoConfig) -> Result<Self> {
        let opened = async {
            config.validate()?;
            // A relative path could be taken for a URI or for `:memory:`.
            let path: PathBuf = std::path::absolute(&path).map_err(|error| from_io(path.as_ref(), error))?;
            Self::start(Place::File(DatabaseFile::new(path, config.encryption_key)), config).await
        };
        opened.await.map_err(|error: memory_core::Error| error.in_operation("open"))
    }

    /// Opens the database of a libSQL server; makes the tables if there are none. The address is `http://host:port`; with the
    /// feature `tls`, also `https://…` or `libsql://…`.
    ///
    /// # Errors
    /// - [`Invalid`](memory_core::ErrorKind::Invalid) for a setting outside its range, and for an address that cannot be reached
    ///   this way;
    /// - [`Unavailable`](memory_core::ErrorKind::Unavailable) if the server cannot be reached, or refuses the token;
    /// - [`Foreign`](memory_core::ErrorKind::Foreign) if it has another program's tables;
    /// - else as [`open_with`](Self::open_with).
    #[cfg(feature = "remote")]
    pub async fn open_remote(url: &str, config: crate::RemoteConfig) -> Result<Self> {
        let store = config.store;
        let opened = async {
            if let Some(key) = store.encryption_key {
                let range = "unset: the encryption of a server's database is the server's";
                return Err(memory_core::Error::invalid("encryption_key", format_args!("{key:?}"), range));
            }
            let server = crate::remote::server::Server::new(url, config)?;
            Self::start(Place::Server(Arc::new(server)), store).await
        };
        opened.await.map_err(|error: memory_core::Error| error.in_operation("open"))
    }

    /// Opens a local copy of a server's database at this path, and makes it if there is none. Reads are local and see all that this
    /// store was told is written; writes go to the server. What others write is seen when the copy is next
    /// [brought up to date](Self::sync). Opens without the server if the copy is there.
    ///
    /// # Errors
    /// As [`open_remote`](Self::open_remote); [`Foreign`](memory_core::ErrorKind::Foreign) also for a file that is no such copy.
    #[cfg(feature = "replica")]
    pub async fn open_replica(path: impl AsRef<Path>, url: &str, config: crate::ReplicaConfig) -> Result<Self> {
        let store = config.remote.store;
        let opened = async {
            let replica = crate::replica::Replica::open(path.as_ref(), url, &config)?;
            Self::start(Place::Replica(replica), store).await
        };
        opened.await.map_err(|error: memory_core::Error| error.in_operation("open"))
    }

    /// Brings the copy up to date with the server as it is now; says how far it has come.
    ///
    /// # Errors
    /// [`Unavailable`](memory_core::ErrorKind::Unavailable) if the server cannot be reached, and
    /// [`Invalid`](memory_core::ErrorKind::Invalid) for a store that is no copy.
    #[cfg(feature = "replica")]
    pub async fn sync(&self) -> Result<Version> {
        let synced = async {
            let replica = self
                .workers
                .replica()
                .ok_or_else(|| memory_core::Error::invalid("store", self, "a local copy of a server's database"))?;
            replica.request()?.await.map_err(|_| crate::error::closed())?
        };
        synced.await.map_err(|error: memory_core::Error| error.in_operation("sync"))
    }

    /// How far the copy has come; `None` for a store that is no copy.
    #[cfg(feature = "replica")]
    pub fn sync_status(&self) -> Option<crate::SyncStatus> {
        self.workers.replica().map(|replica| replica.status().clone())
    }

    async fn start(place: Place, config: TursoConfig) -> Result<Self> {
        let path = Arc::clone(place.path());
        Ok(Self { path, config, workers: Arc::new(Workers::start(place, config).await?) })
    }

    /// Looks for everything that can be wrong with the file, and tells what it found, in words; nothing in a sound one. Reads all
    /// of it, while others go on.
    ///
    /// # Errors
    /// The store's own errors. Damage is none.
    pub async fn check(&self) -> Result<Vec<String>> {
        self.only_of_a_file("check")?;
        let done = self.workers.ask(&self.config, |reader| maintenance::check(&mut reader.session)).await;
        done.map_err(|error| error.in_operation("check"))
    }

    /// Copies one state of the store into a new file, while others go on. The copy is whole and on disk when this returns, and
    /// not there before.
    ///
    /// # Errors
    /// [`AlreadyExists`](memory_core::ErrorKind::AlreadyExists) if the file is there; [`Io`](memory_core::ErrorKind::Io) and
    /// others for what is wrong with file or disk.
    pub async fn backup(&self, to: impl AsRef<Path>) -> Result<Backup> {
        let to = to.as_ref().to_owned();
        self.only_of_a_file("backup")?;
        let key = self.config.encryption_key;
        let done =
            self.workers.ask(&self.config, move |reader| maintenance::back_up(&mut reader.session, &to, key)).await;
        done.map_err(|error| error.in_operation("backup"))
    }

    /// Makes a new database file of a backup, or of any file of this library that nobody writes to, after [checking](Self::check)
    /// it.
    ///
    /// # Errors
    /// [`AlreadyExists`](memory_core::ErrorKind::AlreadyExists) if the file is there, or a write-ahead log of its name:
    /// move what is there away first; [`Corrupt`](memory_core::ErrorKind::Corrupt) for a damaged backup;
    /// [`Foreign`](memory_core::ErrorKind::Foreign), [`SchemaTooNew`](memory_core::ErrorKind::SchemaTooNew) and others as
    /// [`open_with`](Self::open_with).
    pub async fn restore(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Backup> {
        Self::restore_with(from, to, TursoConfig::default()).await
    }

    /// The same for files of these settings, of which the encryption key counts; both have the same.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub async fn restore_with(from: impl AsRef<Path>, to: impl AsRef<Path>, config: TursoConfig) -> Result<Backup> {
        let (from, to) = (DatabaseFile::new(from.as_ref(), config.encryption_key), to.as_ref().to_owned());
        let done = once(&to.clone(), move || maintenance::restore(&from, &to)).await;
        done.map_err(|error| error.in_operation("restore"))
    }

    /// Tells what opening a file with this version of the library would change of its tables, after trying it on a copy beside it.
    /// The file itself stays as it is.
    ///
    /// Opening makes these changes, after a backup of the file as it was. To go back, [restore](Self::restore) that with the
    /// version of the library that it is of.
    ///
    /// # Errors
    /// [`NotFound`](memory_core::ErrorKind::NotFound) if there is no file; otherwise as [`open_with`](Self::open_with).
    pub async fn plan(path: impl AsRef<Path>) -> Result<MigrationPlan> {
        Self::plan_with(path, TursoConfig::default()).await
    }

    /// The same for a file of these settings, of which the encryption key counts.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub async fn plan_with(path: impl AsRef<Path>, config: TursoConfig) -> Result<MigrationPlan> {
        let planned = async {
            // What is made beside the file is synced with its folder, which a bare name does not tell.
            let path: PathBuf = std::path::absolute(&path).map_err(|error| from_io(path.as_ref(), error))?;
            let file = DatabaseFile::new(path, config.encryption_key);
            once(&Arc::clone(&file.path), move || schema::plan(&file)).await
        };
        planned.await.map_err(|error: memory_core::Error| error.in_operation("plan"))
    }

    /// Replaces all vectors of a file by those of a copy in another space that [`Memory::reembed`](memory_core::Memory::reembed) made
    /// of it, and its space by that of the copy: in one transaction, so that a kill leaves all or nothing of it. Everything else stays
    /// as it is, what is learned and the versions of records too. The copy is not needed afterwards.
    ///
    /// Others may have the file open. Who writes waits meanwhile, about two seconds for 100,000 vectors of 512 dimensions. Stores
    /// that were opened before then refuse everything that gives or takes vectors, as
    /// [`SpaceMismatch`](memory_core::ErrorKind::SpaceMismatch), until they are opened again: searches by vector, reads of
    /// episodes and notes, and commits with a vector. Steps of open episodes are still taken.
    ///
    /// There is no way back but a [backup](Self::backup) that was made before, or reembedding to the old space. Only for local
    /// files: to move the database of a server, use the copy in its place.
    ///
    /// # Errors
    /// Nothing has changed then.
    ///
    /// - [`Conflict`](memory_core::ErrorKind::Conflict): episodes or notes came since the copy was made. Reembed into it again,
    ///   which takes in only these, then try again.
    /// - [`Foreign`](memory_core::ErrorKind::Foreign): it is no copy of this file, or others have put something there.
    /// - [`NotFound`](memory_core::ErrorKind::NotFound), [`Busy`](memory_core::ErrorKind::Busy) after `busy_timeout`, and others as
    ///   [`open_with`](Self::open_with).
    pub async fn replace_vectors(path: impl AsRef<Path>, copy: impl AsRef<Path>) -> Result<Replaced> {
        Self::replace_vectors_with(path, copy, TursoConfig::default()).await
    }

    /// The same for files of these settings, of which the encryption key and the time to wait count; both have the same.
    ///
    /// # Errors
    /// As [`replace_vectors`](Self::replace_vectors).
    pub async fn replace_vectors_with(
        path: impl AsRef<Path>,
        copy: impl AsRef<Path>,
        config: TursoConfig,
    ) -> Result<Replaced> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(|error| from_io(path, error));
        let replaced = async {
            config.validate()?;
            let file = DatabaseFile::new(absolute(path.as_ref())?, config.encryption_key);
            let copy = absolute(copy.as_ref())?;
            once(&Arc::clone(&file.path), move || replace_vectors::replace_vectors(&file, &copy, config.busy_timeout))
                .await
        };
        replaced.await.map_err(|error: memory_core::Error| error.in_operation("replace_vectors"))
    }

    /// Gives the pages that deleting has freed back to the disk. Writers wait meanwhile.
    ///
    /// # Errors
    /// [`Busy`](memory_core::ErrorKind::Busy) if others keep reading or writing; the store's own errors.
    pub async fn vacuum(&self) -> Result<Vacuumed> {
        self.only_of_a_file("vacuum")?;
        let done = self.workers.on_writer(Writer::vacuum).await;
        done.map_err(|error| error.in_operation("vacuum"))
    }

    /// Moves the write-ahead log into the file and empties it; says whether it could. It happens by itself, at every 1,000 pages.
    ///
    /// # Errors
    /// The store's own errors.
    pub async fn checkpoint(&self) -> Result<bool> {
        self.only_of_a_file("checkpoint")?;
        let done = self.workers.on_writer(|writer| maintenance::checkpoint(writer.session())).await;
        done.map_err(|error| error.in_operation("checkpoint"))
    }

    /// Refuses what is the server's business.
    fn only_of_a_file(&self, operation: &'static str) -> Result<()> {
        if self.workers.is_of_a_file() {
            return Ok(());
        }
        let range = "a local file; the database of a server is looked after there";
        Err(memory_core::Error::invalid("store", self, range).in_operation(operation))
    }

    /// What the store has done since it was opened.
    pub fn stats(&self) -> TursoStats {
        self.workers.stats()
    }
}

/// Runs something that blocks on a thread of its own.
pub(crate) async fn once<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    spawn(path, "knowhow-turso-once", move || {
        let _ = answer.send(work());
    })?;
    answered.await.map_err(|_| closed())?
}

impl fmt::Display for TursoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TursoStore({})", self.path.display())
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MemoryStore for TursoStore {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("turso", Durability::Durable)
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        let done = async { self.workers.write(Encoded::new(batch)?, &self.config).await };
        done.await.map_err(|error| error.in_operation("commit"))
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        let keys = keys.to_vec();
        let done = self.workers.read(&self.config, move |session| read::get(session, &keys)).await;
        done.map_err(|error| error.in_operation("get"))
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        let scan = scan.clone();
        let done = if read::is_of_index(&scan) {
            let announced = scan.clone();
            let announce = move |session: &mut _| read::announce_scan(session, &announced);
            self.workers.read_index(&self.config, announce, move |session| read::scan(session, &scan)).await
        } else {
            let read =
                move |session: &mut _| read::announce_scan(session, &scan).and_then(|()| read::scan(session, &scan));
            self.workers.read(&self.config, read).await
        };
        done.map_err(|error| error.in_operation("scan"))
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        let (search, announced) = (search.clone(), search.clone());
        let announce = move |session: &mut _| search::announce(session, &announced);
        let done =
            self.workers.read_index(&self.config, announce, move |session| search::search(session, &search)).await;
        done.map_err(|error| error.in_operation("search"))
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        let done = self.workers.read(&self.config, move |session| read::changes(session, since, limit)).await;
        done.map_err(|error| error.in_operation("changes"))
    }

    async fn health(&self) -> Result<StoreHealth> {
        let done = self.workers.read(&self.config, read::health).await;
        done.map_err(|error| error.in_operation("health"))
    }

    async fn close(&self) -> Result<()> {
        self.workers.close().await;
        Ok(())
    }
}
