//! The store that a tenant gets.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use memory_core::{
    Batch, Change, Changes, Commit, Error, Hit, Key, MemoryStore, Page, Result, Scan, Scope, Search, StoreHealth,
    StoreInfo, Stored, Version,
};

use super::{Open, tenant_of};
use crate::TursoStore;
use crate::error::closed;

/// The store of one tenant, handed out by [`Tenants`](crate::Tenants).
///
/// It refuses what is of another tenant, as [`Invalid`](memory_core::ErrorKind::Invalid): records to put, scans and searches. A scan
/// without a scope reads all of the tenant's.
///
/// Clones are the same. Its [`close`](MemoryStore::close) ends these, and not the tenant's store, which others may hold.
pub struct TenantStore<S = TursoStore> {
    tenant: Arc<str>,
    /// What the store says of itself, also when this is closed.
    info: StoreInfo,
    name: Arc<str>,
    /// `None` when it is closed.
    open: Arc<Mutex<Option<Arc<Open<S>>>>>,
    clock: Arc<AtomicU64>,
}

impl<S: MemoryStore> TenantStore<S> {
    pub(super) fn new(tenant: &str, open: Arc<Open<S>>, clock: Arc<AtomicU64>) -> Self {
        let (info, name) = (open.store.info(), open.store.to_string().into());
        let open = Arc::new(Mutex::new(Some(open)));
        let handed_out = Self { tenant: tenant.into(), info, name, open, clock };
        drop(handed_out.open());
        handed_out
    }
}

impl<S> TenantStore<S> {
    /// The name of the tenant.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Open<S>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open store, for one call.
    fn open(&self) -> Result<Arc<Open<S>>> {
        let open = self.lock().clone().ok_or_else(closed)?;
        open.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Ok(open)
    }

    /// Refuses a scope of another tenant.
    fn check(&self, scope: Option<&Scope>) -> Result<()> {
        match scope {
            Some(scope) if tenant_of(scope) != &*self.tenant => {
                Err(Error::invalid("scope", scope, format_args!("{}, and scopes below it", self.tenant)))
            }
            _ => Ok(()),
        }
    }
}

impl<S> Clone for TenantStore<S> {
    fn clone(&self) -> Self {
        let Self { tenant, info, name, open, clock } = self;
        let (tenant, name) = (Arc::clone(tenant), Arc::clone(name));
        Self { tenant, info: *info, name, open: Arc::clone(open), clock: Arc::clone(clock) }
    }
}

impl<S> fmt::Debug for TenantStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, name, .. } = self;
        f.debug_struct("TenantStore").field("tenant", tenant).field("store", name).finish_non_exhaustive()
    }
}

impl<S> fmt::Display for TenantStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantStore({}, {})", self.tenant, self.name)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: MemoryStore> MemoryStore for TenantStore<S> {
    fn info(&self) -> StoreInfo {
        self.info
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        for change in &batch.changes {
            match change {
                Change::Put(record) => self.check(record.scope())?,
                Change::Add(pattern) => self.check(Some(&pattern.scope))?,
                Change::Delete(_) => {}
            }
        }
        self.open()?.store.commit(batch).await
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        self.open()?.store.get(keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        self.check(scan.scope.as_ref())?;
        self.open()?.store.scan(scan).await
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        self.check(Some(&search.scope))?;
        self.open()?.store.search(search).await
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.open()?.store.changes(since, limit).await
    }

    async fn health(&self) -> Result<StoreHealth> {
        self.open()?.store.health().await
    }

    async fn close(&self) -> Result<()> {
        drop(self.lock().take());
        Ok(())
    }
}
