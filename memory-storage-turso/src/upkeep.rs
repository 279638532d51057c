//! What goes on beside the callers: the tables that are searched follow the log, and blocks of patterns take in their changes.
//!
//! It waits until the writers pause, since it would only take their time; but not for ever.

use std::sync::atomic::Ordering;
use std::sync::{Weak, mpsc};
use std::time::Duration;

use memory_core::{ErrorKind, Result};

use crate::indexing::{self, Step};
use crate::learned::merge::Pass;
use crate::session::{BEGIN_READ, Session};
use crate::worker::{Counters, Shared};
use crate::write::Writer;

/// Records that one step takes in at most.
pub(crate) const STEP: usize = 256;
/// How long the writers must pause.
const QUIET: Duration = Duration::from_millis(20);
/// Records that may wait, however busy the writers are.
const MOST_BEHIND: u64 = 8_192;
/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The thread's work, until the store is closed.
pub(crate) fn run(mut session: Session, shared: &Weak<Shared>, woken: &mpsc::Receiver<()>) {
    // There may be work from before the store was opened.
    let mut work = true;
    while work || woken.recv().is_ok() {
        let Some(shared) = shared.upgrade() else { return };
        work = false;
        wait_for_a_pause(&mut session, &shared);
        let done = look_after(&mut session, &shared);
        session.settle();
        if let Err(error) = done {
            // Another process was faster, or the store was closed; or what is wrong is told to those who search.
            if !error.is_conflict() && error.kind() != ErrorKind::Unavailable {
                Counters::count(&shared.counters.upkeep_failures);
                std::thread::sleep(AFTER_FAILURE);
            }
            work = error.is_conflict();
        }
    }
}

fn wait_for_a_pause(session: &mut Session, shared: &Shared) {
    loop {
        let before = shared.counters.commits.load(Ordering::Relaxed);
        std::thread::sleep(QUIET);
        if shared.counters.commits.load(Ordering::Relaxed) == before {
            return;
        }
        let behind = session.transaction(BEGIN_READ, indexing::count_behind);
        if behind.is_ok_and(|behind| behind > MOST_BEHIND) {
            return;
        }
    }
}

fn look_after(session: &mut Session, shared: &Shared) -> Result<()> {
    while let Some(step) = Step::read(session, STEP)? {
        let counters = std::sync::Arc::clone(&shared.counters);
        shared.run(move |writer| index(writer, step, &counters))?;
    }
    let mut pass = Pass::due(session)?;
    while let Some(current) = pass {
        let merge = current.step(session)?;
        let next = merge.before();
        shared.run(move |writer| writer.derive(|session| merge.write(session)))?;
        Counters::count(&shared.counters.merges);
        pass = current.after(next);
    }
    Ok(())
}

/// Takes in a step.
pub(crate) fn index(writer: &mut Writer, step: Step, counters: &Counters) -> Result<()> {
    writer.derive(|session| step.write(session))?;
    Counters::count(&counters.index_steps);
    Ok(())
}

/// Takes in all there is, on the writer's connection.
#[cfg(feature = "replica")]
pub(crate) fn catch_up_counted(writer: &mut Writer, counters: &Counters) -> Result<()> {
    while let Some(step) = Step::read(writer.session(), STEP)? {
        index(writer, step, counters)?;
    }
    Ok(())
}

/// Takes in what is left when the store is closed, so that who opens it next need not; as far as it goes.
pub(crate) fn catch_up(writer: &mut Writer) {
    while let Ok(Some(step)) = Step::read(writer.session(), STEP) {
        if writer.derive(|session| step.write(session)).is_err() {
            return;
        }
    }
}
