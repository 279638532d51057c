//! Vectors that are filled in later: what is written while the embedder fails is queued in the same commit.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use uuid::Uuid;

use super::notes::EMBEDDED_TOGETHER;
use super::projection::retry;
use super::reembed::text;
use super::{Inner, Memory, embed_all};
use crate::{
    Batch, Change, Commit, EpisodeId, Error, ErrorKind, Key, LoggedEpisode, MemoryStoreExt as _, NoteId, Record,
    RecordKind, Result, Role, Scan, Stored, StoredNote, Vector,
};

/// How often what this engine queued is embedded; sooner after a failure.
pub(super) const EMBEDDING_PERIOD: Duration = Duration::from_secs(30);
/// When it is looked for the first time.
pub(super) const FIRST_EMBEDDING: Duration = Duration::from_secs(1);
/// In every how many periods the store is asked for what others may have queued: in every ten minutes.
const PERIODS_TO_LOOK: u32 = 20;

/// For how many periods more nothing is expected in the queue.
#[derive(Debug, Default)]
pub(super) struct Rest(AtomicU32);

impl Rest {
    fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether it is over; if so, the next one begins.
    fn is_over(&self) -> bool {
        let next = |rest: u32| Some(rest.checked_sub(1).unwrap_or(PERIODS_TO_LOOK - 1));
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) == Ok(0)
    }
}

/// Puts an episode or a note; without the vector of its text, it is queued, too.
pub(super) fn put_or_queue(batch: Batch, record: Record) -> Batch {
    let queued = unembedded(&record).map(|_| id(&record.key())).map(Record::Unembedded);
    queued.into_iter().chain([record]).fold(batch, Batch::put)
}

/// The text of what has no vector, though there is something to embed.
fn unembedded(record: &Record) -> Option<String> {
    match record {
        Record::Episode(LoggedEpisode { vector: None, .. }) | Record::Note(StoredNote { vector: None, .. }) => {
            text(record)
        }
        _ => None,
    }
}

fn id(key: &Key) -> Uuid {
    match key {
        Key::Episode(id) => *id.as_uuid(),
        Key::Note(id) => *id.as_uuid(),
        Key::Unembedded(id) => *id,
        _ => Uuid::nil(),
    }
}

impl Memory {
    /// Embeds what was written, in all scopes, while the embedder failed, so that it is found by its vector from now on; returns
    /// how many episodes and notes that were. It happens by itself: within 30 seconds for what this engine wrote, within ten
    /// minutes for what others left; this waits for it.
    ///
    /// An episode takes a new place in the log; what was learned from it stays.
    ///
    /// # Errors
    /// The embedder's errors and the store's. What could be embedded has its vector all the same, and the rest stays queued;
    /// so does, alone, a text that the embedder finds [`Invalid`](ErrorKind::Invalid), or whose vector would exceed the
    /// [quota](crate::Quota) of its scope.
    pub async fn embed_missing(&self) -> Result<u64> {
        let result = self.inner.embed_missing().await.map_err(|error| error.in_operation("embed_missing"));
        self.inner.jobs.embedding.ran(self.inner.clock.read(), &result);
        result
    }
}

impl Inner {
    /// Commits; if the batch queues something, it is looked for soon.
    pub(super) async fn commit(&self, batch: &Batch) -> Result<Commit> {
        let committed = self.store.commit(batch).await;
        if batch.changes.iter().any(|change| matches!(change, Change::Put(Record::Unembedded(_)))) {
            self.jobs.unembedded.end();
        }
        committed
    }

    /// Embeds what is queued, unless nothing is expected there. What is refused is not offered again soon.
    pub(super) async fn embed_expected(&self) -> Option<Result<()>> {
        if !self.jobs.unembedded.is_over() {
            return None;
        }
        let embedded = self.embed_missing().await.map(|_| ());
        if embedded.as_ref().is_err_and(|error| !is_of_one(error)) {
            self.jobs.unembedded.end();
        }
        Some(embedded)
    }

    pub(super) async fn embed_missing(&self) -> Result<u64> {
        let mut scan = Scan::new(RecordKind::Unembedded).limit(EMBEDDED_TOGETHER);
        let (mut embedded, mut refused) = (0, Ok(()));
        loop {
            let page = self.store.scan(&scan).await?;
            let ids: Vec<Uuid> = page.records.iter().map(|stored| id(&stored.record.key())).collect();
            match self.embed_queued(&ids).await {
                Err(error) if is_of_one(&error) => {
                    for id in ids {
                        match self.embed_queued(&[id]).await {
                            Err(error) if is_of_one(&error) => refused = Err(named(id, error)),
                            done => embedded += done?,
                        }
                    }
                }
                done => embedded += done?,
            }
            match page.next {
                Some(next) => scan.after = Some(next),
                None => return refused.map(|()| embedded),
            }
        }
    }

    /// Embeds what these ids stand for, and takes them out of the queue.
    async fn embed_queued(&self, ids: &[Uuid]) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        retry(|| async move {
            let keys = ids.iter().flat_map(|id| [Key::Episode(EpisodeId::new(*id)), Key::Note(NoteId::new(*id))]);
            let keys: Vec<Key> = keys.collect();
            let stored = self.store.get(&keys).await?.into_iter().flatten();
            // It may be gone, or have been written again with its vector.
            let (stored, texts): (Vec<Stored>, Vec<String>) =
                stored.filter_map(|stored| unembedded(&stored.record).map(|text| (stored, text))).unzip();
            let texts: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
            let vectors = match &texts[..] {
                [] => Vec::new(),
                texts => embed_all(&*self.embedder, Role::Document, texts).await?,
            };
            let embedded = stored.into_iter().zip(vectors).map(with_vector);
            self.put_embedded(ids, embedded.collect()).await
        })
        .await
    }

    /// Puts records with their vectors, if they are still at these versions, and takes these ids out of the queue.
    async fn put_embedded(&self, ids: &[Uuid], embedded: Vec<Stored>) -> Result<u64> {
        let episodes = embedded.iter().filter_map(|stored| match &stored.record {
            Record::Episode(logged) => Some(logged.episode.id),
            _ => None,
        });
        let episodes: Vec<EpisodeId> = episodes.collect();
        let count = embedded.len() as u64;
        self.projection
            .relearn(&episodes, |batch| {
                let batch = ids.iter().fold(batch, |batch, id| batch.delete(Key::Unembedded(*id)));
                embedded.into_iter().fold(batch, |batch, Stored { version, record }| {
                    batch.require_unchanged(record.key(), Some(version)).put(record)
                })
            })
            .await?;
        Ok(count)
    }

    /// How much waits for its vector, in all scopes.
    pub(super) async fn count_unembedded(&self) -> Result<u64> {
        Ok(self.store.scan_all(Scan::new(RecordKind::Unembedded)).await?.len() as u64)
    }
}

fn with_vector((mut stored, new): (Stored, Vector)) -> Stored {
    if let Record::Episode(LoggedEpisode { vector, .. }) | Record::Note(StoredNote { vector, .. }) = &mut stored.record
    {
        *vector = Some(new);
    }
    stored
}

/// Whether one text alone may be at fault, or its scope, so that the others must not wait for it.
fn is_of_one(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::QuotaExceeded)
}

fn named(id: Uuid, error: Error) -> Error {
    error.at(format_args!("the text of {id}"))
}
