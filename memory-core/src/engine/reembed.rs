//! Moving to another vector space.
//!
//! A store keeps the space that it was made with. So a memory moves by being copied into a store of the new space, while the old
//! one is read and written. The feed of the old store tells what to copy, oldest first, so that the log keeps its order; each batch
//! has with it how far it goes, so that whoever is killed goes on from there and nothing is copied twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::builder::claim;
use super::notes::EMBEDDED_TOGETHER;
use super::projection::{Projection, retry};
use super::{Memory, embed_all, own_text};
use crate::{
    Batch, Embedder, EpisodeId, Error, ErrorKind, FeedEntry, Key, LearnerId, LoggedEpisode, MemoryStore,
    MemoryStoreExt as _, Record, RecordKind, Result, Role, Scan, Stored, StoredNote, Vector, Version, Watermark,
};

/// Records that are copied in one batch: no more texts than one call of the embedder gets.
const TOGETHER: usize = EMBEDDED_TOGETHER;
/// Changes of open episodes and steps in one batch.
const OPEN_TOGETHER: usize = 256;
/// How often it is told how far it has come.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What a call of [`Memory::reembed`] has copied.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reembedded {
    /// Completed episodes.
    pub episodes: u64,
    /// Notes, in their present state; candidates and expired ones too.
    pub notes: u64,
    /// Episodes and notes that earlier calls had copied and that were deleted since.
    pub deleted: u64,
    /// Texts that were embedded. Equal ones that come together are embedded once.
    pub texts: u64,
    /// Open episodes of which a state is copied that was not there: changed ones, and ones that are over.
    pub open_episodes: u64,
    /// Everything up to this version of the memory's store is copied.
    pub upto: Version,
}

impl Reembedded {
    fn add(&mut self, other: Self) {
        let Self { episodes, notes, deleted, texts, open_episodes, upto } = other;
        self.episodes += episodes;
        self.notes += notes;
        self.deleted += deleted;
        self.texts += texts;
        self.open_episodes += open_episodes;
        self.upto = self.upto.max(upto);
    }
}

impl Memory {
    /// Copies the whole memory, of all scopes, into another store, with vectors of another embedder: a store keeps the vector
    /// space that it was made with, so this is how to change it. Episodes keep their ids and their order, so that a memory over
    /// the copy learns the same from them; notes are copied as they are, open episodes with their steps.
    ///
    /// This memory is read and written meanwhile, in its own space. The copy has everything that was there when the call
    /// began, but for what was written again since; call again to take in what came since, which is embedded alone. When nothing
    /// comes any more, or little, let a memory with the new embedder take over from the copy. A local file of the Turso store can
    /// take over the vectors of its copy instead (`TursoStore::replace_vectors`), so that it stays where it is.
    ///
    /// Texts are embedded up to 64 in a call of the embedder, and written up to 64 in a batch, with how far it goes: after a kill
    /// or an error, calling again goes on from the last batch. Progress is told every 10 seconds as a
    /// [`tracing`] event of the level info.
    ///
    /// Until it takes over, the copy may be read, and learn; but nothing may be put there but by this call, not even by the
    /// [sweep](Self::sweep) of a memory that runs for longer than a [lease](crate::MemoryBuilder::lease). What the
    /// copy lets go by itself does not come back. Steps that this memory has [buffered](crate::StepDurability::Batched) and not
    /// written are not copied. What is learned is not, either: it is derived from the copy.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// # use memory_core::testkit::generated::Backwards as NewEmbedder;
    /// use std::sync::Arc;
    /// use memory_core::{InMemoryStore, Memory, Outcome, Recording, Step, Task};
    ///
    /// let memory = Memory::builder().store(InMemoryStore::new()).build().await?;
    /// let done = Recording::new(Task::new("list the users"), Outcome::success("12 users")).step(Step::new("select"));
    /// memory.record(done).await?;
    ///
    /// let (copy, embedder) = (Arc::new(InMemoryStore::new()), Arc::new(NewEmbedder::default()));
    /// let copied = memory.reembed(Arc::clone(&copy), Arc::clone(&embedder)).await?;
    /// assert_eq!((copied.episodes, copied.texts), (1, 1));
    ///
    /// let moved = Memory::builder().store(copy).embedder(embedder).build().await?;
    /// assert_eq!(moved.patterns().await?, memory.patterns().await?);
    /// # Ok::<(), memory_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What was copied by then is kept.
    ///
    /// - [`SpaceMismatch`](ErrorKind::SpaceMismatch): the other store is of another space than the embedder.
    /// - [`Foreign`](ErrorKind::Foreign): it holds what was not copied from this memory's store.
    /// - [`Invalid`](ErrorKind::Invalid): it is this memory's store; or the embedder answers what cannot be.
    /// - The embedder's errors, and those of both stores.
    pub async fn reembed(&self, into: impl MemoryStore, embedder: impl Embedder) -> Result<Reembedded> {
        let copied = async {
            let (from, into): (_, Arc<dyn MemoryStore>) = (&*self.inner.store, Arc::new(into));
            let projection = Projection::new(Arc::clone(&into), *self.learner());
            let copy = Copying { from, into, projection, embedder: &embedder, log: self.name_of_log().await? };
            copy.check_target().await?;
            copy.run().await
        };
        copied.await.map_err(|error: Error| error.in_operation("reembed"))
    }

    /// The name of the store's log, which it gets when it is first copied. Of several that are given at once the first counts.
    async fn name_of_log(&self) -> Result<LearnerId> {
        loop {
            let marks = self.inner.store.scan_all(Scan::new(RecordKind::Watermark)).await?;
            let names = marks.into_iter().filter_map(|stored| match stored.record {
                Record::Watermark(Watermark { learner, position: Version(0) }) if learner.names_a_log() => {
                    Some((stored.version, learner))
                }
                _ => None,
            });
            if let Some((_, name)) = names.min() {
                return Ok(name);
            }
            let random = *self.new_id(self.inner.clock.read()).as_uuid().as_bytes();
            let learner = LearnerId::new(uuid::Builder::from_custom_bytes(random).into_uuid());
            let mark = Record::Watermark(Watermark { learner, position: Version(0) });
            self.inner.store.commit(&Batch::new().put(mark)).await?;
        }
    }
}

/// A copy under way.
struct Copying<'a> {
    from: &'a dyn MemoryStore,
    into: Arc<dyn MemoryStore>,
    /// Takes deleted episodes away from what the copy has learned.
    projection: Projection,
    embedder: &'a dyn Embedder,
    /// The name of the log that is copied.
    log: LearnerId,
}

impl Copying<'_> {
    /// How far the copy goes, and the version of the record that says so.
    async fn mark(&self) -> Result<Option<(Version, Version)>> {
        Ok(match self.into.get_one(Key::Watermark(self.log)).await? {
            Some(Stored { version, record: Record::Watermark(mark) }) => Some((version, mark.position)),
            _ => None,
        })
    }

    /// Claims the target for the space, if everything in it was copied from here.
    async fn check_target(&self) -> Result<()> {
        let foreign =
            |what: String| Error::new(ErrorKind::Foreign, format!("{what} that {} is to be copied into", self.from));
        match self.mark().await? {
            Some((_, Version(0))) => {
                return Err(Error::invalid("into", "the store of this memory", "another store"));
            }
            Some((marked, _)) => {
                let mut since = marked;
                loop {
                    let changes = self.into.changes(since, 1_000).await?;
                    if let Some(entry) = changes.entries.iter().find(|entry| is_copied(entry) && !entry.deleted) {
                        return Err(foreign(format!("{:?} was put by others into the store", entry.key)));
                    }
                    if changes.entries.is_empty() {
                        break;
                    }
                    since = changes.upto;
                }
            }
            None => {
                let there = self.into.health().await?;
                let counts = [there.episodes, there.notes, there.open_episodes];
                if counts != [0; 3] {
                    let [episodes, notes, open] = counts;
                    let what = format!("{episodes} episodes, {notes} notes and {open} open episodes are in the store");
                    return Err(foreign(what));
                }
            }
        }
        claim(&*self.into, self.embedder.space()).await
    }

    /// Copies what there is now.
    async fn run(&self) -> Result<Reembedded> {
        let goal = self.from.health().await?.version;
        let (mut done, mut told) = (Reembedded::default(), Instant::now());
        loop {
            let copied = retry(|| self.step(done.upto)).await;
            let (step, end) = copied.map_err(|error| {
                let Reembedded { episodes, notes, .. } = done;
                error.adding(format_args!("{episodes} episodes and {notes} notes were copied before"))
            })?;
            done.add(step);
            if end || done.upto >= goal {
                break;
            }
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                let Reembedded { episodes, notes, texts, upto, .. } = done;
                tracing::info!(episodes, notes, texts, version = upto.0, of = goal.0, "reembedding");
            }
        }
        done.upto = done.upto.max(goal);
        done.open_episodes = self.copy_open().await?;
        tracing::info!(?done, "reembedded");
        Ok(done)
    }

    /// Copies the next stretch of the feed after the mark, or after a later version up to which there was nothing to copy;
    /// says whether that was the end.
    async fn step(&self, nothing_upto: Version) -> Result<(Reembedded, bool)> {
        let mark = self.mark().await?;
        let since = mark.map_or(Version(0), |(_, upto)| upto).max(nothing_upto);
        let changes = self.from.changes(since, TOGETHER).await?;
        let entries: Vec<&FeedEntry> = changes.entries.iter().filter(|entry| is_copied(entry)).collect();
        let mut done = Reembedded { upto: changes.upto, ..Reembedded::default() };
        if entries.is_empty() && mark.is_some() {
            return Ok((done, changes.entries.is_empty()));
        }
        let records = self.embedded(self.present(&entries).await?, &mut done).await?;

        // An episode may have been recorded again after it was deleted.
        let episodes: Vec<EpisodeId> = entries.iter().filter_map(|entry| episode(&entry.key)).collect();
        let (batch, unlearned) = self.projection.unlearning(None, &episodes).await?;
        let gone = |key: &Key| entries.iter().any(|entry| entry.deleted && entry.key == *key);
        let notes = entries.iter().filter(|entry| entry.deleted && entry.key.kind() == RecordKind::Note);
        let notes: Vec<Key> = notes.map(|entry| entry.key.clone()).collect();
        let notes_there = self.into.get(&notes).await?.into_iter().flatten().count();
        let episodes_gone = unlearned.iter().filter(|id| gone(&Key::Episode(**id))).count();
        done.deleted = (notes_there + episodes_gone) as u64;

        let batch = notes.into_iter().fold(batch, Batch::delete);
        let batch = records.into_iter().fold(batch, Batch::put);
        let key = Key::Watermark(self.log);
        let batch = batch.require_unchanged(key, mark.map(|(version, _)| version));
        let mark = Watermark { learner: self.log, position: changes.upto };
        self.into.commit(&batch.put(Record::Watermark(mark))).await?;
        Ok((done, false))
    }

    /// The records as the feed told of them. What has changed since is told again later, in its new place.
    async fn present(&self, entries: &[&FeedEntry]) -> Result<Vec<Record>> {
        let there: Vec<&FeedEntry> = entries.iter().copied().filter(|entry| !entry.deleted).collect();
        let keys: Vec<Key> = there.iter().map(|entry| entry.key.clone()).collect();
        let found = there.iter().zip(self.from.get(&keys).await?);
        let same = found.filter_map(|(entry, stored)| stored.filter(|stored| stored.version == entry.version));
        Ok(same.map(|stored| stored.record).collect())
    }

    /// The same records with vectors of the new space.
    async fn embedded(&self, mut records: Vec<Record>, done: &mut Reembedded) -> Result<Vec<Record>> {
        let texts: BTreeSet<String> = records.iter().filter_map(text).collect();
        let texts: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
        let vectors = match &texts[..] {
            [] => Vec::new(),
            texts => embed_all(self.embedder, Role::Document, texts).await?,
        };
        done.texts = texts.len() as u64;
        let vectors: HashMap<&str, Vector> = texts.into_iter().zip(vectors).collect();
        for record in &mut records {
            let new = text(record).and_then(|text| vectors.get(&text[..]).cloned());
            match record {
                Record::Episode(LoggedEpisode { vector, .. }) => {
                    *vector = new;
                    done.episodes += 1;
                }
                Record::Note(StoredNote { vector, .. }) => {
                    *vector = new;
                    done.notes += 1;
                }
                _ => {}
            }
        }
        Ok(records)
    }

    /// Makes the open episodes of the copy and their steps what they are now: the feed does not tell of them.
    async fn copy_open(&self) -> Result<u64> {
        let (mut changes, mut episodes) = (Vec::new(), BTreeSet::new());
        for kind in [RecordKind::Open, RecordKind::Step] {
            let there = self.into.scan_all(Scan::new(kind)).await?;
            let mut there: HashMap<Key, Record> =
                there.into_iter().map(|stored| (stored.record.key(), stored.record)).collect();
            let mut change = |key: Key, record: Option<Record>| {
                episodes.extend(episode(&key));
                changes.push((key, record));
            };
            for Stored { record, .. } in self.from.scan_all(Scan::new(kind)).await? {
                let key = record.key();
                if there.remove(&key).as_ref() != Some(&record) {
                    change(key, Some(record));
                }
            }
            there.into_keys().for_each(|key| change(key, None));
        }
        for changes in changes.chunks(OPEN_TOGETHER) {
            let batch = changes.iter().fold(Batch::new(), |batch, (key, record)| match record {
                Some(record) => batch.put(record.clone()),
                None => batch.delete(key.clone()),
            });
            self.into.commit(&batch).await?;
        }
        Ok(episodes.len() as u64)
    }
}

fn is_copied(entry: &FeedEntry) -> bool {
    matches!(entry.key.kind(), RecordKind::Episode | RecordKind::Note)
}

/// The episode that a record is of.
fn episode(key: &Key) -> Option<EpisodeId> {
    match key {
        Key::Episode(id) | Key::Open(id) | Key::Step(id, _) => Some(*id),
        _ => None,
    }
}

/// What a record is embedded by, if it says anything.
pub(super) fn text(record: &Record) -> Option<String> {
    let text = match record {
        Record::Episode(logged) => own_text(&logged.episode),
        Record::Note(stored) => stored.note.text.clone(),
        _ => return None,
    };
    Some(text).filter(|text| !text.trim().is_empty())
}
