//! The one who writes: batches in transactions, the index behind them, and its snapshot.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memory_core::index::HybridIndex;
use memory_core::{Commit, Error, ErrorKind, RecordKind, Result, Version};
use redb::Durability;
use tokio::sync::oneshot;

use crate::RedbConfig;
use crate::error::{closed, from_io};
use crate::file::{End, File, Options};
use crate::index_file;
use crate::searching::{Change, Searching, entry};
use crate::tables::{LAYOUT, Moment, Rising, read_feed_row};
use crate::write::{Outcome, Prepared, WriteTables};

/// So many changes of the index, or an eighth of what it holds, may be missing in its snapshot: following them takes less than
/// a second.
const UNSAVED: u64 = 1_000;

/// A batch, and who waits for it.
pub(crate) struct Write {
    pub(crate) batch: Prepared,
    pub(crate) answer: oneshot::Sender<Result<Commit>>,
}

/// Owns the open file. No other process can have it open.
pub(crate) struct Writer {
    path: Arc<Path>,
    config: RedbConfig,
    /// `None` after a failure, as long as it cannot be opened again.
    file: Option<File>,
    searching: Arc<Searching>,
    /// How many changes of the index its snapshot does not have.
    unsaved: u64,
    /// Whether something was committed that is not durable yet.
    volatile: bool,
    /// Who writes a snapshot.
    saving: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn open(path: Arc<Path>, config: RedbConfig) -> Result<Self> {
        let (file, moment) = open(&path, config, config.check.applies_to(&path))?;
        let (index, unsaved) = index_of(&file, &moment)?;
        let searching = Arc::new(Searching::new(Arc::clone(&path), index, moment));
        Ok(Self { path, config, file: Some(file), searching, unsaved, volatile: false, saving: None })
    }

    /// What readers read.
    pub(crate) fn searching(&self) -> &Arc<Searching> {
        &self.searching
    }

    /// Writes batches, in this order, in one transaction where that is possible: they share its sync. Those that nobody waits for
    /// any more are left out.
    pub(crate) fn run(&mut self, writes: Vec<Write>) {
        let wanted = writes.into_iter().filter(|write| !write.answer.is_closed());
        let (batches, answers): (Vec<Prepared>, Vec<_>) = wanted.map(|Write { batch, answer }| (batch, answer)).unzip();
        if batches.is_empty() {
            return;
        }
        let done = self.write(batches);
        let (batches, failure) = match done {
            Ok(commits) => {
                answers.into_iter().zip(commits).for_each(|(answer, commit)| drop(answer.send(commit)));
                self.save_if_due();
                return;
            }
            Err(failed) => (failed.undone, failed.error),
        };
        self.recover(&failure, !batches.is_empty());
        if batches.len() > 1 {
            // One of them met damage, perhaps; the others shall not suffer from it.
            let alone = batches.into_iter().zip(answers);
            alone.for_each(|(batch, answer)| self.run(vec![Write { batch, answer }]));
        } else {
            let mut answers = answers.into_iter();
            let first = answers.next();
            let shared = || failure.again().adding("the transaction was shared with others");
            answers.for_each(|answer| drop(answer.send(Err(shared()))));
            if let Some(first) = first {
                let _ = first.send(Err(failure));
            }
        }
    }

    /// Makes all durable, saves the index, and closes the file.
    pub(crate) fn finish(mut self) {
        self.join_saving();
        if self.unsaved > 0 {
            self.save();
            self.join_saving();
        }
        if let Some(file) = &self.file
            && self.volatile
        {
            self.told(file.write(Durability::Immediate, |_| Ok(())).map(drop), "the last changes are not durable");
        }
        if let Some(file) = self.file.take() {
            match file.close() {
                Ok(()) => index_file::stamp(&self.path),
                failed => self.told(failed, "the file is not closed in order"),
            }
        }
    }

    fn write(&mut self, batches: Vec<Prepared>) -> Result<Vec<Result<Commit>>, Failed> {
        if self.file.is_none() {
            self.open_again(true).map_err(Failed::as_a_whole)?;
        }
        let Some(file) = &self.file else { return Err(Failed::as_a_whole(closed())) };
        let durability =
            if batches.iter().all(|batch| batch.derivable) { Durability::None } else { Durability::Immediate };
        let before = self.searching.tables();
        let mut applied = false;
        let written = file.write_or_not(durability, |transaction| {
            let (state, space) = (before.state.clone(), before.space.clone());
            let mut tables = WriteTables::open(file, transaction, state, space)?;
            let outcomes = batches.iter().map(|batch| tables.apply(batch)).collect::<Result<Vec<Outcome>>>()?;
            if tables.version() == before.state.version {
                return Ok(End::Abort(outcomes));
            }
            tables.finish()?;
            applied = true;
            Ok(End::Commit(outcomes))
        });
        let outcomes = match written {
            Ok(End::Commit(outcomes)) => outcomes,
            Ok(End::Abort(outcomes)) => {
                return Ok(outcomes.into_iter().map(|outcome| outcome.map(|(commit, _)| commit)).collect());
            }
            Err(error) if applied => return Err(Failed::as_a_whole(error)),
            Err(error) => return Err(Failed::before(batches, error)),
        };
        let moment = Moment::of(file).map_err(Failed::as_a_whole)?;
        self.volatile = matches!(durability, Durability::None);
        Ok(self.publish(batches, outcomes, moment))
    }

    /// Shows readers what was committed.
    fn publish(&mut self, batches: Vec<Prepared>, outcomes: Vec<Outcome>, moment: Moment) -> Vec<Result<Commit>> {
        let (mut changes, mut commits) = (Vec::new(), Vec::with_capacity(outcomes.len()));
        for (batch, outcome) in batches.into_iter().zip(outcomes) {
            commits.push(outcome.map(|(commit, versions)| {
                changes.extend(batch.for_index(versions));
                commit
            }));
        }
        self.unsaved += changes.iter().filter(|change| change.is_searched()).count() as u64;
        self.searching.advance(changes, moment);
        commits
    }

    /// Opens the file anew after this failure, if it has to be: redb does nothing more with a file that it could not read or
    /// write once, or in which it panicked. A damaged record is no reason, if nothing was done: else readers might be shown the state
    /// before it, and its versions be given again.
    fn recover(&mut self, failure: &Error, undone: bool) {
        let Some(file) = self.file.take() else { return };
        let works = || file.write_or_not(Durability::None, |_| Ok(End::Abort(()))).is_ok();
        if undone && failure.kind() == ErrorKind::Corrupt && works() {
            self.file = Some(file);
            return;
        }
        self.told(file.close(), "after a failure, the file is not closed in order");
        let opened = self.open_again(failure.kind() == ErrorKind::Corrupt);
        self.told(opened, "after a failure, the file cannot be opened again");
    }

    fn open_again(&mut self, check: bool) -> Result<()> {
        let (file, mut moment) = open(&self.path, self.config, check)?;
        let seen = self.searching.tables();
        let other = if moment.state == seen.state { None } else { Some(index_of(&file, &moment)?) };
        // Commits that were not durable may be gone. Whoever has read them shall not miss others that come at their versions.
        moment.state.version = moment.state.version.max(seen.state.version);
        match other {
            None => self.searching.advance([], moment),
            Some((index, unsaved)) => {
                self.searching.replace(index, moment);
                self.unsaved = unsaved;
            }
        }
        (self.file, self.volatile) = (Some(file), false);
        Ok(())
    }

    fn save_if_due(&mut self) {
        let state = &self.searching.tables().state;
        let documents = state.count(RecordKind::Episode) + state.count(RecordKind::Note);
        if self.unsaved > UNSAVED.max(documents / 8) && self.saving.as_ref().is_none_or(JoinHandle::is_finished) {
            self.save();
        }
    }

    /// Saves the index as it is now: announces it here, and writes it beside.
    fn save(&mut self) {
        let Some(file) = &self.file else { return };
        let bytes = self.searching.to_bytes();
        let (version, stats) = (self.searching.version().0, self.searching.stats());
        tracing::debug!(path = %self.path.display(), version, ?stats, bytes = bytes.len(), "the index is saved");
        let announced = file.write(Durability::Immediate, |transaction| index_file::announce(file, transaction));
        let path = Arc::clone(&self.path);
        let saving = announced.and_then(|token| {
            let save = move || {
                if let Err(error) = index_file::write(&path, token, &bytes) {
                    tracing::warn!(path = %path.display(), %error, "the index is not saved");
                }
            };
            let thread = thread::Builder::new().name("knowhow-redb-index".to_owned()).spawn(save);
            thread.map_err(|error| from_io(&self.path, error))
        });
        match saving {
            Ok(saving) => (self.saving, self.unsaved, self.volatile) = (Some(saving), 0, false),
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "the index is not saved"),
        }
    }

    fn join_saving(&mut self) {
        if let Some(saving) = self.saving.take() {
            let _ = saving.join();
        }
    }

    fn told(&self, done: Result<()>, what: &str) {
        if let Err(error) = done {
            tracing::warn!(path = %self.path.display(), %error, "{what}");
        }
    }
}

/// Gives the free pages of the file back to the disk, as long as nobody else has it open; tells how many bytes.
pub(crate) fn vacuum(path: Arc<Path>, config: RedbConfig) -> Result<u64> {
    let length = || path.metadata().map(|metadata| metadata.len()).map_err(|error| from_io(&path, error));
    // What is not there shall not be made.
    let before = length()?;
    // While it is read it cannot be compacted.
    let (mut file, _) = open(&path, config, config.check.applies_to(&path))?;
    file.compact()?;
    file.close()?;
    index_file::stamp(&path);
    Ok(before.saturating_sub(length()?))
}

/// Why a transaction failed.
struct Failed {
    /// Its batches, if nothing of them is there, and each may go well by itself.
    undone: Vec<Prepared>,
    error: Error,
}

impl Failed {
    fn before(undone: Vec<Prepared>, error: Error) -> Self {
        Self { undone, error }
    }

    fn as_a_whole(error: Error) -> Self {
        Self { undone: Vec::new(), error }
    }
}

/// Opens the file; waits for whoever has it open, as long as the settings say.
fn open(path: &Arc<Path>, config: RedbConfig, check: bool) -> Result<(File, Moment)> {
    let options = Options { cache_bytes: config.cache_bytes, check };
    let file = patiently(config.busy_timeout, || File::open(Arc::clone(path), &LAYOUT, options))?;
    let moment = Moment::of(&file)?;
    Ok((file, moment))
}

/// The index of this moment, and how many changes its snapshot does not have.
fn index_of(file: &File, moment: &Moment) -> Result<(HybridIndex, u64)> {
    let mut index = index_file::read(file)?.unwrap_or_default();
    if index.version().0 > moment.state.version {
        // Commits that were not durable are gone, and others will have their versions.
        index_file::remove(file.path());
        index = HybridIndex::new();
    }
    let unsaved = catch_up(moment, &mut index)?;
    Ok((index, unsaved))
}

/// Opens again as long as another has the file.
fn patiently<T>(timeout: Duration, open: impl Fn() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match open() {
            Err(error) if error.kind() == ErrorKind::Busy && start.elapsed() < timeout => {
                thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// Tells the index what has changed since its version; all there is, if it is a new one. Answers how many changes there were.
fn catch_up(moment: &Moment, index: &mut HybridIndex) -> Result<u64> {
    moment.file().guarded(|| {
        let failed = |error| moment.file().error(error);
        let (mut followed, mut rising) = (0, Rising::after(index.version().0));
        for row in moment.feed.range_owned(index.version().0.saturating_add(1)..).map_err(failed)? {
            let (version, row) = row.map_err(failed)?;
            rising.check(moment.file(), version.value())?;
            let (key, deleted) = read_feed_row(version.value(), row.value())?;
            let version = Version(version.value());
            let entry = if deleted { None } else { entry(&moment.record_of(&key)?.record) };
            let change = match entry {
                Some(entry) => Change::Put(version, Some(Box::new(entry))),
                None => Change::Remove(version, key),
            };
            followed += u64::from(change.is_searched());
            change.apply_to(index);
        }
        Ok(followed)
    })
}

#[cfg(test)]
mod tests {
    use memory_core::testkit::samples;
    use memory_core::{Batch, Scan};

    use super::*;
    use crate::read;
    use crate::tables::{FEED, RECORDS};

    fn writer(path: &Path) -> Writer {
        Writer::open(path.into(), RedbConfig::default()).unwrap()
    }

    fn note(n: u32) -> Batch {
        Batch::new().put(samples::noted(samples::note(n, "a note")))
    }

    fn run(writer: &mut Writer, batch: &Batch) -> Result<Commit> {
        let (answer, mut answered) = oneshot::channel();
        writer.run(vec![Write { batch: Prepared::new(batch).unwrap(), answer }]);
        answered.try_recv().unwrap()
    }

    /// Changes the file as damage would.
    fn damage(file: &File, work: impl FnOnce(&redb::WriteTransaction)) {
        let done = |transaction: &redb::WriteTransaction| {
            work(transaction);
            Ok(())
        };
        file.write(Durability::Immediate, done).unwrap();
    }

    #[test]
    fn a_batch_that_nobody_waits_for_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(&folder.path().join("file"));
        let write = |n| {
            let (answer, answered) = oneshot::channel();
            (Write { batch: Prepared::new(&note(n)).unwrap(), answer }, answered)
        };
        let ((dropped, _), (kept, mut answered)) = (write(1), write(2));
        writer.run(vec![dropped, kept]);
        assert_eq!(answered.try_recv().unwrap().unwrap().version, Version(1));
        assert_eq!(writer.searching.tables().state.count(RecordKind::Note), 1);
        let (dropped, _) = write(3);
        writer.run(vec![dropped]);
        assert_eq!(writer.searching.tables().state.version, 1);
    }

    /// The log was read through the feed: past all notes that had changed since.
    #[test]
    fn the_log_is_read_without_the_changes_of_other_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(&folder.path().join("file"));
        run(&mut writer, &Batch::new().put(samples::logged(samples::episode(1, "a task")))).unwrap();
        run(&mut writer, &note(1)).unwrap();
        damage(writer.file.as_ref().unwrap(), |transaction| {
            transaction.open_table(FEED).unwrap().insert(2, &b"damaged"[..]).unwrap();
        });
        run(&mut writer, &Batch::new().put(samples::logged(samples::episode(2, "a task")))).unwrap();
        let moment = writer.searching.tables();
        assert!(read::changes(&moment, Version(0), 10).is_err());
        let page = read::scan(&moment, &Scan::new(RecordKind::Episode)).unwrap();
        assert_eq!(page.records.iter().map(|stored| stored.version.0).collect::<Vec<_>>(), [1, 3]);
    }

    /// The state before a commit was kept when the one after it could not be read, and the next commit got the same version.
    #[test]
    fn versions_are_not_given_again_when_a_commit_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut writer = writer(&path);
        // One record more than are counted.
        damage(writer.file.as_ref().unwrap(), |transaction| {
            transaction.open_table(RECORDS).unwrap().insert(&b"more"[..], &b""[..]).unwrap();
        });
        assert_eq!(run(&mut writer, &note(1)).unwrap_err().kind(), ErrorKind::Corrupt);
        let file = File::open(path.as_path().into(), &LAYOUT, Options { cache_bytes: 1 << 20, check: false }).unwrap();
        damage(&file, |transaction| {
            transaction.open_table(RECORDS).unwrap().remove(&b"more"[..]).unwrap();
        });
        file.close().unwrap();
        assert_eq!(run(&mut writer, &note(2)).unwrap().version, Version(2));
        let changes = read::changes(&writer.searching.tables(), Version(0), 10).unwrap();
        assert_eq!(changes.entries.len(), 2, "the first was committed");
    }
}
