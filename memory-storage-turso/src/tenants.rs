//! A database for each tenant.
//!
//! This is no [`MemoryStore`] over all tenants: ids do not say whose they are, so that each read would ask all databases, and the change
//! feeds of two databases have no order in common.

mod folder;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use memory_core::{Error, ErrorKind, MemoryStore, Result, Scope};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, TryAcquireError};

pub use folder::TenantFolder;
pub use store::TenantStore;

use crate::TursoConfig;
use crate::error::closed;

/// Where the stores of tenants are. Of one tenant, [`Tenants`] asks one thing at a time.
#[async_trait]
pub trait TenantPlace: fmt::Debug + Send + Sync + 'static {
    /// The store of a tenant.
    type Store: MemoryStore;

    /// Opens the store of a tenant; makes it if there is none.
    ///
    /// # Errors
    /// The store's own errors.
    async fn open(&self, tenant: &str) -> Result<Self::Store>;

    /// The names of all tenants that have a store, in order.
    ///
    /// # Errors
    /// Those of the place.
    async fn list(&self) -> Result<Vec<String>>;

    /// Removes the store of a tenant, which is closed; says whether there was one.
    ///
    /// # Errors
    /// Those of the place.
    async fn remove(&self, tenant: &str) -> Result<bool>;
}

/// What [`Tenants`] has done since it was made.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantStats {
    /// Stores that are open.
    pub open: u64,
    /// Stores that were opened.
    pub opened: u64,
    /// Stores that were closed: to make room for others, or to be removed, or all in the end.
    pub closed: u64,
}

/// A database for each tenant: hands out the store of a scope's tenant, and keeps some of them open.
///
/// Clones are the same. A tenant has one open store, however many ask for it at once. There may be so many open stores; for one
/// more, that which was used longest ago is closed first, of those that nobody holds.
pub struct Tenants<P: TenantPlace = TenantFolder>(Arc<Inner<P>>);

struct Inner<P: TenantPlace> {
    place: P,
    most: usize,
    /// Of each tenant whose store is open, or is just being opened, closed or removed.
    slots: Mutex<HashMap<String, Arc<Slot<P::Store>>>>,
    room: Arc<Semaphore>,
    clock: Arc<AtomicU64>,
    opened: AtomicU64,
    closed: AtomicU64,
}

/// Locked while a tenant's store is handed out, opened, closed or removed.
type Slot<S> = tokio::sync::Mutex<Option<Arc<Open<S>>>>;
type Locked<S> = OwnedMutexGuard<Option<Arc<Open<S>>>>;

/// An open store. Somebody holds it if there are more of these than the one in the slot.
struct Open<S> {
    store: S,
    /// The tick of the clock at which it was last used.
    used: AtomicU64,
    room: OwnedSemaphorePermit,
}

impl Tenants {
    /// As many open stores as [`in_folder`](Self::in_folder) allows. Each has four threads: two more than readers.
    pub const MOST_OPEN: usize = 64;

    /// A database file for each tenant in this folder, which must be there, all with these settings; up to 64 are open.
    ///
    /// # Errors
    /// [`Invalid`](memory_core::ErrorKind::Invalid) for a setting outside its range.
    pub fn in_folder(path: impl Into<PathBuf>, config: TursoConfig) -> Result<Self> {
        config.validate()?;
        Self::new(TenantFolder::new(path, config), Self::MOST_OPEN)
    }
}

impl<P: TenantPlace> Tenants<P> {
    /// The stores of this place, of which up to so many (1..=10,000) are open.
    ///
    /// # Errors
    /// [`Invalid`](memory_core::ErrorKind::Invalid) for a number outside this range.
    pub fn new(place: P, most_open: usize) -> Result<Self> {
        if !(1..=10_000).contains(&most_open) {
            return Err(Error::invalid("most_open", most_open, "1..=10000"));
        }
        Ok(Self(Arc::new(Inner {
            place,
            most: most_open,
            slots: Mutex::default(),
            room: Arc::new(Semaphore::new(most_open)),
            clock: Arc::default(),
            opened: AtomicU64::default(),
            closed: AtomicU64::default(),
        })))
    }

    /// The store of a scope's tenant, for this scope and all others of the tenant. It is opened if it is not open yet, and made if there
    /// is none. It stays open at least until all that was handed out of it is dropped or closed.
    ///
    /// # Errors
    /// [`Overloaded`](memory_core::ErrorKind::Overloaded) if as many as may be are open, and all of them are held;
    /// [`Unavailable`](memory_core::ErrorKind::Unavailable) after [`close`](Self::close); the store's own errors.
    pub async fn store(&self, scope: &Scope) -> Result<TenantStore<P::Store>> {
        let tenant = tenant_of(scope);
        let slot = self.slot(tenant);
        let mut guard = slot.lock().await;
        let open = match &*guard {
            Some(open) => Arc::clone(open),
            None => Arc::clone(guard.insert(self.open(tenant).await?)),
        };
        Ok(TenantStore::new(tenant, open, Arc::clone(&self.0.clock)))
    }

    /// The names of all tenants that have a store, in order.
    ///
    /// # Errors
    /// Those of the place.
    pub async fn list(&self) -> Result<Vec<String>> {
        self.0.place.list().await
    }

    /// Removes the store of a scope's tenant, with all that is in it; says whether there was one. A process that is killed has removed it
    /// or not. No other process may have it open: that is not known here.
    ///
    /// # Errors
    /// [`Busy`](memory_core::ErrorKind::Busy) while somebody holds it; those of the store and the place.
    pub async fn remove(&self, scope: &Scope) -> Result<bool> {
        let tenant = tenant_of(scope);
        let slot = self.slot(tenant);
        let mut guard = slot.lock().await;
        if guard.as_ref().is_some_and(is_held) {
            return Err(Error::new(ErrorKind::Busy, format!("the store of tenant {tenant} is in use")));
        }
        if let Some(open) = guard.take() {
            self.end(&open).await?;
        }
        self.0.place.remove(tenant).await
    }

    /// Closes all stores, those that are held too, and opens no more. Later calls fail as
    /// [`Unavailable`](memory_core::ErrorKind::Unavailable).
    ///
    /// # Errors
    /// The first of the stores' errors, after all were closed.
    pub async fn close(&self) -> Result<()> {
        self.0.room.close();
        // Who is opening a store has its slot from here, and has it locked.
        let slots: Vec<_> = self.slots().drain().map(|(_, slot)| slot).collect();
        let mut done = Ok(());
        for slot in slots {
            if let Some(open) = slot.lock().await.take() {
                done = done.and(self.end(&open).await);
            }
        }
        done
    }

    /// What this has done so far.
    pub fn stats(&self) -> TenantStats {
        let closed = self.0.closed.load(Ordering::SeqCst);
        let opened = self.0.opened.load(Ordering::SeqCst);
        TenantStats { open: opened - closed, opened, closed }
    }

    /// Where the stores are.
    pub fn place(&self) -> &P {
        &self.0.place
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot<P::Store>>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, tenant: &str) -> Arc<Slot<P::Store>> {
        let mut slots = self.slots();
        // Those that are of no use: nobody else has them, so nobody has them locked.
        slots.retain(|_, slot| Arc::get_mut(slot).is_none_or(|slot| slot.get_mut().is_some()));
        Arc::clone(slots.entry(tenant.to_owned()).or_default())
    }

    async fn open(&self, tenant: &str) -> Result<Arc<Open<P::Store>>> {
        let room = match Arc::clone(&self.0.room).try_acquire_owned() {
            Ok(room) => room,
            Err(TryAcquireError::Closed) => return Err(closed()),
            Err(TryAcquireError::NoPermits) => self.make_room().await?,
        };
        let store = self.0.place.open(tenant).await?;
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(Open { store, used: AtomicU64::default(), room }))
    }

    /// Closes the store that was used longest ago, of those that nobody holds, and gives its room.
    async fn make_room(&self) -> Result<OwnedSemaphorePermit> {
        let idle = self.longest_idle().and_then(|mut slot| Some((Arc::into_inner(slot.take()?)?, slot)));
        let Some((open, _slot)) = idle else {
            let message = format!("{} stores of tenants are open and in use, as many as may (most_open)", self.0.most);
            return Err(Error::new(ErrorKind::Overloaded, message));
        };
        // What was acknowledged is there, whatever comes of it; and it is not the business of the next tenant.
        let _ = self.end(&open).await;
        Ok(open.room)
    }

    fn longest_idle(&self) -> Option<Locked<P::Store>> {
        let slots = self.slots();
        let unlocked = slots.values().filter_map(|slot| Arc::clone(slot).try_lock_owned().ok());
        let idle = unlocked.filter_map(|slot| {
            let open = slot.as_ref().filter(|open| !is_held(open))?;
            Some((open.used.load(Ordering::Relaxed), slot))
        });
        idle.min_by_key(|(used, _)| *used).map(|(_, slot)| slot)
    }

    async fn end(&self, open: &Open<P::Store>) -> Result<()> {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
        open.store.close().await
    }
}

/// Whether somebody has it but the slot, which is locked, so that it is not handed out meanwhile.
fn is_held<S>(open: &Arc<Open<S>>) -> bool {
    Arc::strong_count(open) > 1
}

impl<P: TenantPlace> Clone for Tenants<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: TenantPlace> fmt::Debug for Tenants<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { place, most, .. } = &*self.0;
        f.debug_struct("Tenants").field("place", place).field("most_open", most).field("stats", &self.stats()).finish()
    }
}

/// The tenant's part of a scope.
fn tenant_of(scope: &Scope) -> &str {
    scope.as_str().split_once('/').map_or(scope.as_str(), |(tenant, _)| tenant)
}
