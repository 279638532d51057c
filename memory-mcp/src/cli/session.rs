//! What every command works with.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::{
    Embedder, Error, ErrorKind, Key, MemoryStore, MemoryStoreExt as _, Record, Result, Role, Stored, Vector,
    VectorSpace,
};
use memory_mcp::open::{Opened, Place, Plan};
use memory_mcp::operations::Tool;
use memory_mcp::service::Service;
use memory_storage_turso::{TursoConfig, TursoStore};
use serde_json::Value;

use super::Failure;
use super::output::Output;

/// What was configured, and where answers go.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) plan: Plan,
    pub(crate) out: Output,
}

impl Session {
    /// Refuses a database file that is not there: it would be made, empty, of a path that was mistyped.
    pub(crate) fn is_there(&self) -> Result<(), Failure> {
        match self.plan.place() {
            Place::File(path, _) if !path.exists() => Err(Error::new(ErrorKind::NotFound, missing(path)).into()),
            _ => Ok(()),
        }
    }

    /// The database file.
    pub(crate) fn file(&self, operation: &str) -> Result<(&Path, TursoConfig), Failure> {
        match self.plan.place() {
            Place::File(path, config) => Ok((path, *config)),
            Place::Server(url, ..) => {
                Err(Failure::Other(format!("{operation} is for database files; {url} is looked after where it runs")))
            }
            Place::Memory => Err(Failure::Other(format!("{operation} is for database files; store.url is memory"))),
        }
    }

    /// The store alone, which must be there.
    pub(crate) async fn store(&self) -> Result<Arc<TursoStore>, Failure> {
        self.is_there()?;
        let store = self.plan.turso().await?;
        store.map(Arc::new).ok_or_else(|| Failure::Other("store.url is memory: there is nothing stored".to_owned()))
    }

    /// Works with the memory as it is configured, and closes it.
    pub(crate) async fn with_memory<T>(
        &self,
        work: impl AsyncFnOnce(&Opened) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.is_there()?;
        closing(Box::pin(self.plan.clone().for_a_command().open()).await?, work).await
    }

    /// Works with what is stored, and closes it. No embedder is needed: nothing is looked for by its vector.
    pub(crate) async fn with_records<T>(
        &self,
        work: impl AsyncFnOnce(&Opened) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.is_there()?;
        let embedder: Arc<dyn Embedder> = match self.space().await? {
            Some(space) => Arc::new(NoEmbedder(space)),
            None => self.plan.embedder().await?.0,
        };
        closing(Box::pin(self.plan.clone().for_a_command().open_with(embedder, Vec::new())).await?, work).await
    }

    async fn space(&self) -> Result<Option<VectorSpace>> {
        let Some(store) = self.plan.turso().await? else { return Ok(None) };
        let space = space_of(&store).await;
        store.close().await?;
        space
    }

    /// What an operation answers to the owner of the store.
    pub(crate) async fn ask(&self, operation: &'static str, arguments: Value) -> Result<Value, Failure> {
        self.with_records(async |opened| {
            let service = Service::new(opened.memory.clone(), None, opened.approvals.clone(), Vec::new());
            let owner = self.plan.owner(service)?;
            let tool = Tool::named(operation)
                .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no operation {operation}")))?;
            Ok(tool.call(arguments, &owner).await?.json)
        })
        .await
    }
}

async fn closing<T>(opened: Opened, work: impl AsyncFnOnce(&Opened) -> Result<T, Failure>) -> Result<T, Failure> {
    let done = work(&opened).await;
    let closed = opened.memory.close().await;
    let done = done?;
    closed?;
    Ok(done)
}

/// What to say of a database file that is not there.
pub(crate) fn missing(path: &Path) -> String {
    format!("there is no database {}", path.display())
}

/// The vector space of a store; `None` if nothing has been stored yet.
pub(crate) async fn space_of(store: &dyn MemoryStore) -> Result<Option<VectorSpace>> {
    Ok(match store.get_one(Key::Space).await? {
        Some(Stored { record: Record::Space(space), .. }) => Some(space),
        _ => None,
    })
}

/// Stands for the embedder of a store's vectors where none is needed.
#[derive(Debug)]
pub(crate) struct NoEmbedder(pub(crate) VectorSpace);

impl std::fmt::Display for NoEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NoEmbedder({})", self.0)
    }
}

#[async_trait]
impl Embedder for NoEmbedder {
    fn space(&self) -> &VectorSpace {
        &self.0
    }

    async fn embed(&self, _: Role, _: &[&str]) -> Result<Vec<Vector>> {
        Err(Error::new(ErrorKind::Unavailable, "this command works without an embedder"))
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }
}
