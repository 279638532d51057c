//! What goes on beside the callers: the tables that are searched follow the log, and blocks of patterns take in their changes.
//!
//! It waits until the writers pause, since it would only take their time; but not for ever.

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
/// Changes that may wait, however busy the writers are.
const MOST_BEHIND: u64 = 12_288;

/// The thread's work, until the store is closed.
pub(crate) fn run(mut session: Session, shared: &Weak<Shared>, woken: &mpsc::Receiver<()>) {
    // There may be work from before the store was opened.
    let mut work = true;
    while work || woken.recv().is_ok() {
        if !wait_for_a_pause(&mut session, woken) {
            return;
        }
        let Some(shared) = shared.upgrade() else { return };
        work = false;
        let done = look_after(&mut session, &shared);
        session.settle();
        if let Err(error) = done {
            // Another process was faster, or the store was closed; or what is wrong is told to those who search.
            work = error.is_conflict();
            if !work && error.kind() != ErrorKind::Unavailable {
                Counters::count(&shared.counters.upkeep_failures);
            }
        }
    }
}

/// Waits until the writers pause, or much waits for the upkeep; says whether the store is still open.
fn wait_for_a_pause(session: &mut Session, woken: &mpsc::Receiver<()>) -> bool {
    loop {
        match woken.recv_timeout(QUIET) {
            Err(mpsc::RecvTimeoutError::Timeout) => return true,
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            Ok(()) => {
                let behind = session.transaction(BEGIN_READ, indexing::changes_behind);
                if behind.is_ok_and(|behind| behind > MOST_BEHIND) {
                    return true;
                }
                std::thread::sleep(QUIET / 4);
            }
        }
    }
}

fn look_after(session: &mut Session, shared: &Shared) -> Result<()> {
    while let Some(step) = Step::read(session, STEP)? {
        let (counters, last) = (std::sync::Arc::clone(&shared.counters), step.len() < STEP);
        shared.run(move |writer| index(writer, step, &counters))?;
        if last {
            break;
        }
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

/// Takes in all there is, on the writer's connection; not what others append meanwhile, which may never end.
pub(crate) fn catch_up_index(writer: &mut Writer, counters: &Counters) -> Result<()> {
    while let Some(step) = Step::read(writer.session(), STEP)? {
        let last = step.len() < STEP;
        index(writer, step, counters)?;
        if last {
            break;
        }
    }
    Ok(())
}

/// Takes in what is left when the store is closed, so that who opens it next need not; as far as it goes.
pub(crate) fn catch_up(writer: &mut Writer, counters: &Counters) -> Result<()> {
    catch_up_index(writer, counters)?;
    let mut pass = Pass::closing(writer.session())?;
    while let Some(current) = pass {
        let merge = current.step(writer.session())?;
        let next = merge.before();
        writer.derive(|session| merge.write(session))?;
        pass = current.after(next);
    }
    Ok(())
}
