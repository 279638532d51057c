//! Writing a memory out.

use std::collections::HashSet;

use tokio::io::AsyncWrite;
use uuid::Uuid;

use super::Memory;
use super::notes::noted;
use super::projection::log_after;
use crate::lines::LineWriter;
use crate::transfer::{Counted, EndLine, EpisodeLine, Header, MOST_LINE_BYTES, NoteLine};
use crate::{
    MemoryStore as _, MemoryStoreExt as _, NoteFilter, Record, RecordKind, Result, Scan, Scope, Stored, StoredNote,
    Transferred, Version,
};

/// Records that are read at once: each may have megabytes.
const PAGE: usize = 64;

impl Memory {
    /// Writes what cannot be derived of this scope: its completed episodes and its notes, candidates and untrusted ones too,
    /// with their vectors, one JSON object a line. [`import`](Self::import) reads it.
    ///
    /// What is learned is not written, since it follows from the episodes; nor are open episodes, which are still being worked
    /// on, and notes that have expired. An agent's export has what its sessions told of its notes, and not the sessions' own
    /// notes.
    ///
    /// Others may write meanwhile: the export has every episode that was there when it began and is there when it comes to
    /// it, and no later one; notes are as they are when it comes to them. It takes as much memory as 64 records and the ids of
    /// those that wait for their vectors, however many there are. The writer is flushed, and neither closed nor synced to disk.
    ///
    /// # Form
    /// ```text
    /// {"format":"knowhow-memory","version":1,"scope":"acme/coder","space":{…}}
    /// {"episode":{"id":…,"scope":…,"task":…,"steps":[…],"outcome":…,"started_at":…,…},"vector":[…]}
    /// {"note":{"scope":…,"trust":…,"place":null,"tellings":{"":{"text":…,"kind":…,"tags":[…],…}}},"vector":null}
    /// {"end":{"episodes":1,"notes":1}}
    /// ```
    /// The header names the scope, `null` for all, and what the vectors are of. Episodes follow in the order of the log, with the
    /// fields of [`Episode`](crate::Episode); then notes by id, as what was told under the name of each session and, under the
    /// empty name, in the scope itself, with the fields of [`Telling`](crate::Telling). The last line counts both, so that it is
    /// seen when a file was cut off. A line ends with a line feed and is UTF-8 without a byte order mark.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// use memory_core::{ImportOptions, InMemoryStore, Memory, Outcome, Recording, Step, Task};
    ///
    /// let laptop = Memory::builder().store(InMemoryStore::new()).build().await?;
    /// let done = Recording::new(Task::new("list the users"), Outcome::success("12 users")).step(Step::new("select"));
    /// laptop.record(done).await?;
    /// let mut file = Vec::new(); // or a `tokio::fs::File`
    /// laptop.export(&mut file).await?;
    ///
    /// let desktop = Memory::builder().store(InMemoryStore::new()).build().await?;
    /// let told = desktop.import(&file[..], &ImportOptions::new()).await?;
    /// assert_eq!((told.episodes, told.skipped), (1, 0));
    /// let again = desktop.import(&file[..], &ImportOptions::new()).await?;
    /// assert_eq!((again.episodes, again.skipped), (0, 1));
    /// assert_eq!(desktop.patterns().await?, laptop.patterns().await?);
    /// # Ok::<(), memory_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if it cannot be written; [`Invalid`](crate::ErrorKind::Invalid) for a record of more than
    /// 20,000,000 bytes; the store's errors. What was written by then lacks its last line, and is refused by an import.
    pub async fn export(&self, writer: impl AsyncWrite + Unpin) -> Result<Transferred> {
        self.write_out(Some(&self.scope), writer).await.map_err(|error| error.in_operation("export"))
    }

    /// The same for all scopes of the store. [`import_all`](Self::import_all) reads it.
    ///
    /// # Errors
    /// As [`export`](Self::export).
    pub async fn export_all(&self, writer: impl AsyncWrite + Unpin) -> Result<Transferred> {
        self.write_out(None, writer).await.map_err(|error| error.in_operation("export_all"))
    }

    async fn write_out(&self, scope: Option<&Scope>, writer: impl AsyncWrite + Unpin) -> Result<Transferred> {
        let mut out = LineWriter::new(writer);
        let header = Header::new(scope.cloned(), self.inner.embedder.space().clone());
        out.write("the header", &header, MOST_LINE_BYTES).await?;
        let episodes = self.write_episodes(scope, &mut out).await?;
        let notes = self.write_notes(scope, &mut out).await?;
        out.write("the end", &EndLine { end: Counted { episodes, notes } }, MOST_LINE_BYTES).await?;
        Ok(Transferred { lines: out.finish().await?, episodes, notes, ..Transferred::default() })
    }

    /// An episode that gets its vector meanwhile takes a later place in the log. It was queued for that when this began.
    async fn write_episodes<W: AsyncWrite + Unpin>(
        &self,
        scope: Option<&Scope>,
        out: &mut LineWriter<W>,
    ) -> Result<u64> {
        let mut queued = self.queued().await?;
        let upto = self.version().await?;
        let mut end = queued.is_empty().then_some(upto);
        let mut scan = Scan { scope: scope.cloned(), ..log_after(Version(0)).limit(PAGE) };
        let mut count = 0;
        loop {
            let page = self.inner.store.scan(&scan).await?;
            for stored in page.records {
                let Stored { version, record: Record::Episode(logged) } = stored else { continue };
                let was_queued = queued.remove(logged.episode.id.as_uuid());
                if version > upto {
                    // What was queued and not met by now has its later place by now.
                    let end = match end {
                        Some(end) => end,
                        None => *end.insert(self.version().await?),
                    };
                    if version > end {
                        return Ok(count);
                    }
                    if !was_queued {
                        continue;
                    }
                }
                let line = EpisodeLine { episode: &logged.episode, vector: logged.vector.as_ref() };
                out.write(&format!("episode {}", logged.episode.id), &line, MOST_LINE_BYTES).await?;
                count += 1;
            }
            match page.next {
                Some(next) => scan.after = Some(next),
                None => return Ok(count),
            }
        }
    }

    async fn version(&self) -> Result<Version> {
        Ok(self.inner.store.health().await?.version)
    }

    /// The ids of all that waits for its vector.
    async fn queued(&self) -> Result<HashSet<Uuid>> {
        let stored = self.inner.store.scan_all(Scan::new(RecordKind::Unembedded)).await?;
        let ids = stored.into_iter().filter_map(|stored| match stored.record {
            Record::Unembedded(id) => Some(id),
            _ => None,
        });
        Ok(ids.collect())
    }

    async fn write_notes<W: AsyncWrite + Unpin>(&self, scope: Option<&Scope>, out: &mut LineWriter<W>) -> Result<u64> {
        let alive = NoteFilter::default().alive_at(self.inner.clock.read());
        let mut scan = Scan { scope: scope.cloned(), ..Scan::new(RecordKind::Note).notes(alive).limit(PAGE) };
        let mut count = 0;
        loop {
            let page = self.inner.store.scan(&scan).await?;
            for (_, StoredNote { note, vector }) in page.records.into_iter().filter_map(noted) {
                let name = format!("note {}", note.id);
                let line = NoteLine { note: note.as_ref().clone().into_parts(), vector: vector.as_ref() };
                out.write(&name, &line, MOST_LINE_BYTES).await?;
                count += 1;
            }
            match page.next {
                Some(next) => scan.after = Some(next),
                None => return Ok(count),
            }
        }
    }
}
