//! Consent: what was learned is shown only when a person has approved it.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use memory_core::{Consent, ErrorKind, HeuristicId, Memory, NewNote, NoteId, NoteQuery, Result, Scope, Trust};
use tokio::sync::Mutex;

/// How old what is known of approvals may be: another process may have given or revoked one.
pub(crate) const FRESH: Duration = Duration::from_secs(2);

/// The rules that people have approved. They are kept in the store, as notes of a scope of their own, so that all processes
/// share them, and backups and exports of all scopes have them.
#[derive(Clone, Debug, Default)]
pub struct Approvals(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    approved: RwLock<HashSet<(Scope, HeuristicId)>>,
    read: Mutex<Option<Instant>>,
}

impl Consent for Approvals {
    fn allows(&self, scope: &Scope, rule: HeuristicId) -> bool {
        self.0.approved.read().unwrap_or_else(PoisonError::into_inner).contains(&(scope.clone(), rule))
    }
}

impl Approvals {
    /// Reads them again if they were not read within the last two seconds.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn refresh(&self, memory: &Memory) -> Result<()> {
        let mut read = self.0.read.lock().await;
        if read.is_none_or(|read| read.elapsed() >= FRESH) {
            self.read(memory).await?;
            *read = Some(Instant::now());
        }
        Ok(())
    }

    /// Approves a rule of the memory's scope.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such rule; the store's errors.
    pub async fn approve(&self, memory: &Memory, rule: HeuristicId) -> Result<()> {
        if !memory.heuristics().await?.iter().any(|known| known.id == rule) {
            let what = format!("there is no rule {rule} in scope {}", memory.scope());
            return Err(memory_core::Error::new(ErrorKind::NotFound, what));
        }
        let place = place(memory)?;
        place.remember(NewNote::new(text(memory.scope(), rule))).await?;
        self.read(memory).await
    }

    /// Takes the approval of a rule of the memory's scope back.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it was not approved; the store's errors.
    pub async fn revoke(&self, memory: &Memory, rule: HeuristicId) -> Result<()> {
        let place = place(memory)?;
        place.forget(NoteId::of(place.scope(), Trust::Trusted, &text(memory.scope(), rule))).await?;
        self.read(memory).await
    }

    async fn read(&self, memory: &Memory) -> Result<()> {
        let (place, mut approved) = (place(memory)?, HashSet::new());
        let mut query = NoteQuery::new().trust(Trust::Trusted).limit(1_000);
        loop {
            let page = place.notes_page(&query).await?;
            approved.extend(page.notes.iter().filter_map(|note| parse(&note.text)));
            match page.next {
                Some(next) => query = query.after(Some(next)),
                None => break,
            }
        }
        *self.0.approved.write().unwrap_or_else(PoisonError::into_inner) = approved;
        Ok(())
    }
}

/// Where they are kept.
fn place(memory: &Memory) -> Result<Memory> {
    Ok(memory.in_scope(Scope::new("knowhow.approvals")?))
}

fn text(scope: &Scope, rule: HeuristicId) -> String {
    format!("approved: {scope} {rule}")
}

fn parse(text: &str) -> Option<(Scope, HeuristicId)> {
    let (scope, rule) = text.strip_prefix("approved: ")?.split_once(' ')?;
    Some((Scope::try_from(scope.to_owned()).ok()?, HeuristicId::new(rule.parse().ok()?)))
}
