//! Reading a memory in.
//!
//! Lines are read, checked and gathered, and what is new of them is written in conditional batches, each as a whole: whoever
//! dies on the way imports again, and what is there is skipped. Nothing but the batch under way is in memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::io::AsyncRead;

use super::embed_missing::put_or_queue;
use super::note_draft::Draft;
use super::notes::EMBEDDED_TOGETHER;
use super::projection::retry;
use super::{Memory, own_text};
use crate::lines::{Line, LineReader};
use crate::note::{NoteParts, folded};
use crate::transfer::{Counted, Header, MOST_HEADER_BYTES, MOST_LINE_BYTES, Told, is_cut_off};
use crate::{
    Episode, EpisodeId, Error, ErrorKind, ImportOptions, Key, LoggedEpisode, MemoryStore as _, Note, Record, Result,
    Role, Scope, Source, Stored, StoredNote, Transferred, Vector,
};

/// Bytes of lines that are written together at most, but for one line.
const MOST_BATCH_BYTES: usize = 16_000_000;

impl Memory {
    /// Reads an [export](Self::export) of one scope, whichever it was, into this scope. The memory then knows what both knew:
    /// patterns, heuristics and answers are what they would be had it recorded all episodes itself.
    ///
    /// - **Episodes** are there once. One that is there with the same content is skipped, so that importing twice, or again after
    ///   a failure, is importing once. The same id with other content ends the import, unless it is to be
    ///   [left out](ImportOptions::keep_stored): nobody but the caller can say which is right.
    /// - **Notes** merge by what each place told. Since both memories may have heard the same, [`Note::seen`] is then what the one
    ///   knows that heard it more often: at least so often it was told. All else is as if both had been told here; what a
    ///   [change](Self::update_note) took away since comes back. A place in a thread that has another text is a conflict as
    ///   above. A note that has expired is skipped.
    /// - **Vectors** are taken over if they are of this memory's space; else, and where there are none, texts are embedded. If that
    ///   fails, the answer tells.
    /// - **Trust**: nothing is trusted more than the source of this handle. A handle [of an untrusted source](Self::from_source)
    ///   imports what is learned from, and never answers by itself.
    ///
    /// Each line is checked like what is [recorded](Self::record) or [told](Self::remember), and nothing of a line is written
    /// unless all of it is right. Up to 256 records, or 16,000,000 bytes, are written together, all or none. It takes as much
    /// memory as those, however long the file is.
    ///
    /// # Errors
    /// The message names the line, and up to which line all is imported; importing again after the cause is gone is safe.
    ///
    /// - [`Foreign`](ErrorKind::Foreign): it is no export. [`SchemaTooNew`](ErrorKind::SchemaTooNew): it is of a newer version.
    /// - [`Corrupt`](ErrorKind::Corrupt): it is cut off, or there are not as many records as its last line says.
    /// - [`Invalid`](ErrorKind::Invalid): a line is not as it should be: field, value and range are named. A line above 20,000,000
    ///   bytes is not read to its end. Also for an export of all scopes, and options out of range.
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): another record has the id.
    /// - [`Io`](ErrorKind::Io): it cannot be read; the store's errors.
    pub async fn import(&self, reader: impl AsyncRead + Unpin, options: &ImportOptions) -> Result<Transferred> {
        self.read_in(Some(&self.scope), reader, options).await.map_err(|error| error.in_operation("import"))
    }

    /// The same for an export of one or all scopes: each record goes into the scope that it came from.
    ///
    /// # Errors
    /// As [`import`](Self::import).
    pub async fn import_all(&self, reader: impl AsyncRead + Unpin, options: &ImportOptions) -> Result<Transferred> {
        self.read_in(None, reader, options).await.map_err(|error| error.in_operation("import_all"))
    }

    async fn read_in(
        &self,
        into: Option<&Scope>,
        reader: impl AsyncRead + Unpin,
        options: &ImportOptions,
    ) -> Result<Transferred> {
        let most = ImportOptions::MOST_TOGETHER;
        if !(1..=most).contains(&options.batch) {
            return Err(Error::invalid("batch", options.batch, format_args!("1..={most}")));
        }
        options.source.iter().try_for_each(|source| self.inner.limits.source(source))?;
        let mut lines = LineReader::new(reader);
        let mut import = Import {
            memory: self,
            options,
            into,
            header: header(&mut lines, into).await?,
            now: self.inner.clock.read(),
            pending: Vec::new(),
            bytes: 0,
            counted: Counted::default(),
            upto: 1,
            done: Transferred::default(),
        };
        let result = import.run(&mut lines).await;
        let Import { upto, done, .. } = import;
        result.map(|()| done).map_err(|error| match upto {
            _ if options.dry_run => error,
            1 => error.adding("nothing is imported"),
            upto => error.adding(format_args!("all up to line {upto} is imported")),
        })
    }
}

async fn header<R: AsyncRead + Unpin>(lines: &mut LineReader<R>, into: Option<&Scope>) -> Result<Header> {
    let foreign = |what| Error::new(ErrorKind::Foreign, format!("it is not an export: {what}"));
    let header = match lines.next(MOST_HEADER_BYTES).await {
        Ok(Some(line)) => Header::read(line.bytes)?,
        Ok(None) => return Err(foreign("it is empty")),
        Err(error) if error.kind() == ErrorKind::Invalid => {
            return Err(foreign("its first line is too long").with_source(error));
        }
        Err(error) => return Err(error),
    };
    if header.scope.is_none() && into.is_some() {
        return Err(Error::invalid("line 1: scope", "null, which is all", "one scope; import_all takes all"));
    }
    Ok(header)
}

/// An import under way.
struct Import<'a> {
    memory: &'a Memory,
    options: &'a ImportOptions,
    /// Where everything goes; `None` is where it came from.
    into: Option<&'a Scope>,
    header: Header,
    now: DateTime<Utc>,
    /// What was read and is not written.
    pending: Vec<Pending>,
    bytes: usize,
    /// The records that were read.
    counted: Counted,
    /// Everything up to this line is written.
    upto: u64,
    done: Transferred,
}

/// A record that is to be written, with its line.
struct Pending {
    line: u64,
    record: Incoming,
}

enum Incoming {
    Episode(LoggedEpisode),
    Note(StoredNote),
}

impl Import<'_> {
    async fn run<R: AsyncRead + Unpin>(&mut self, lines: &mut LineReader<R>) -> Result<()> {
        let mut last = 1;
        loop {
            let Some(line) = lines.next(MOST_LINE_BYTES).await? else {
                let message =
                    format!("it is cut off after line {last}: its last line would tell how many records there are");
                return Err(Error::new(ErrorKind::Corrupt, message));
            };
            last = line.number;
            let bytes = line.bytes.len();
            match told(&line)? {
                Told::Episode(episode, vector) => self.take_episode(last, episode, vector),
                Told::Note(parts, vector) => self.take_note(last, parts, vector),
                Told::End(end) => {
                    self.check_end(last, end)?;
                    if lines.next(MOST_HEADER_BYTES).await?.is_some() {
                        let field = format!("line {}", last + 1);
                        return Err(Error::invalid(&field, "there", "nothing after the end"));
                    }
                    self.write_pending(last).await?;
                    self.done.lines = last;
                    return Ok(());
                }
            }
            .map_err(|error| error.at(format_args!("line {last}")))?;
            self.bytes += bytes;
            if self.pending.len() >= self.options.batch || self.bytes >= MOST_BATCH_BYTES {
                self.write_pending(last).await?;
            }
        }
    }

    fn check_end(&self, line: u64, end: Counted) -> Result<()> {
        if end == self.counted {
            return Ok(());
        }
        let Counted { episodes, notes } = self.counted;
        let (told, read) =
            (format!("{} episodes and {} notes", end.episodes, end.notes), format!("{episodes} and {notes}"));
        Err(Error::new(ErrorKind::Corrupt, format!("line {line}: it tells the end of {told}; there were {read}")))
    }

    fn take_episode(&mut self, line: u64, mut episode: Episode, vector: Option<Vector>) -> Result<()> {
        self.counted.episodes += 1;
        episode.scope = self.scope_for(episode.scope)?;
        episode.source = self.mark(episode.source);
        self.memory.inner.limits.episode(&episode)?;
        let vector = self.own_vector(vector)?;
        let record = Incoming::Episode(LoggedEpisode { episode: Arc::new(episode), vector });
        self.pending.push(Pending { line, record });
        Ok(())
    }

    fn take_note(&mut self, line: u64, mut parts: NoteParts, vector: Option<Vector>) -> Result<()> {
        self.counted.notes += 1;
        parts.scope = self.scope_for(parts.scope)?;
        let mut trust = parts.trust;
        for telling in parts.tellings.values_mut() {
            let name = std::mem::take(&mut telling.source);
            let marked = self.mark(Source { name, trust: parts.trust });
            (telling.source, trust) = (marked.name, marked.trust);
        }
        parts.trust = trust;
        self.memory.inner.limits.note_parts(&parts)?;
        let vector = self.own_vector(vector)?;
        let Some(note) = parts.into_note() else {
            return Err(Error::invalid("note.tellings", "empty", "at least one"));
        };
        if note.lives_at(self.now) {
            self.pending.push(Pending { line, record: Incoming::Note(StoredNote { note: Arc::new(note), vector }) });
        } else {
            self.done.skipped += 1;
        }
        Ok(())
    }

    /// The scope that a record of this scope goes to.
    fn scope_for(&self, scope: Scope) -> Result<Scope> {
        match &self.header.scope {
            Some(exported) if *exported != scope => {
                Err(Error::invalid("scope", scope, format_args!("{exported}, as the header says")))
            }
            _ => Ok(self.into.cloned().unwrap_or(scope)),
        }
    }

    /// Whom a record of this source comes from.
    fn mark(&self, source: Source) -> Source {
        let source = self.options.source.clone().unwrap_or(source);
        Source { trust: source.trust.min(self.memory.source.trust), ..source }
    }

    /// A vector that can be taken over.
    fn own_vector(&self, vector: Option<Vector>) -> Result<Option<Vector>> {
        let Some(vector) = vector else { return Ok(None) };
        let Some(space) = &self.header.space else {
            return Err(Error::invalid("vector", "given", "none, as the header has no space"));
        };
        space.check(&vector)?;
        Ok(Some(vector).filter(|_| space == self.memory.inner.embedder.space()))
    }

    /// Writes what was gathered up to this line.
    async fn write_pending(&mut self, line: u64) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.bytes = 0;
        let import = &*self;
        let done = retry(|| import.write(&pending)).await?;
        self.done.add(done);
        self.upto = line;
        Ok(())
    }

    /// Writes what is new of these, in one batch.
    async fn write(&self, pending: &[Pending]) -> Result<Transferred> {
        let mut done = Transferred::default();
        let mut episodes = self.new_episodes(pending, &mut done).await?;
        let mut draft = self.drafted_notes(pending, &mut done).await?;
        if self.options.dry_run {
            return Ok(done);
        }
        self.embed(&mut episodes, &mut draft, &mut done).await;
        let new = episodes.len() as u64;
        let batch = episodes.into_iter().fold(draft.into_batch(), |batch, logged| {
            let id = logged.episode.id;
            let batch = batch.require_absent(Key::Episode(id)).require_absent(Key::Open(id));
            put_or_queue(batch, Record::Episode(logged))
        });
        if !batch.changes.is_empty() {
            self.memory.inner.commit(&batch).await?;
            self.memory.inner.projection.completed(new).await;
        }
        Ok(done)
    }

    /// The episodes that are not there yet.
    async fn new_episodes(&self, pending: &[Pending], done: &mut Transferred) -> Result<Vec<LoggedEpisode>> {
        let incoming = pending.iter().filter_map(|pending| match &pending.record {
            Incoming::Episode(logged) => Some((pending.line, logged)),
            Incoming::Note(_) => None,
        });
        let incoming: Vec<(u64, &LoggedEpisode)> = incoming.collect();
        let keys = incoming.iter().flat_map(|(_, logged)| {
            let id = logged.episode.id;
            [Key::Episode(id), Key::Open(id)]
        });
        let stored = self.memory.inner.store.get(&keys.collect::<Vec<_>>()).await?;
        let mut known: HashMap<EpisodeId, Option<Arc<Episode>>> = HashMap::new();
        for stored in stored.into_iter().flatten() {
            match stored {
                Stored { record: Record::Episode(logged), .. } => known.insert(logged.episode.id, Some(logged.episode)),
                Stored { record: Record::Open(opened), .. } => known.insert(opened.id, None),
                _ => None,
            };
        }
        let mut new = Vec::new();
        for (line, logged) in incoming {
            let id = logged.episode.id;
            match known.get(&id) {
                Some(Some(there)) if *there == logged.episode => done.skipped += 1,
                Some(Some(_)) => self.conflict(done, line, format!("another episode has the id {id}"))?,
                Some(None) => self.conflict(done, line, format!("an open episode has the id {id}"))?,
                None => {
                    known.insert(id, Some(Arc::clone(&logged.episode)));
                    new.push(logged.clone());
                    done.episodes += 1;
                }
            }
        }
        Ok(new)
    }

    /// The notes as they are to be.
    async fn drafted_notes(&self, pending: &[Pending], done: &mut Transferred) -> Result<Draft> {
        let incoming = pending.iter().filter_map(|pending| match &pending.record {
            Incoming::Note(stored) => Some((pending.line, stored)),
            Incoming::Episode(_) => None,
        });
        let mut draft = Draft::default();
        self.memory.read_notes(&mut draft, incoming.clone().map(|(_, stored)| stored.note.id)).await?;
        for (line, StoredNote { note, vector }) in incoming {
            let there = draft.get(note.id).filter(|there| there.lives_at(self.now)).cloned();
            match there {
                Some(there) if folded(&there.text) != folded(&note.text) => {
                    let place = note.place.as_ref().map(ToString::to_string).unwrap_or_default();
                    self.conflict(done, line, format!("another text has {place}"))?;
                    continue;
                }
                Some(there) => {
                    let both = there.join(Note::clone(note));
                    if both == *there {
                        done.skipped += 1;
                        continue;
                    }
                    self.check_tags(&both).map_err(|error| error.at(format_args!("line {line}")))?;
                    draft.set(note.id, Some(both));
                    done.merged += 1;
                }
                None => {
                    draft.set(note.id, Some(Note::clone(note)));
                    done.notes += 1;
                }
            }
            draft.know(&note.text, vector.clone());
        }
        Ok(draft)
    }

    fn check_tags(&self, note: &Note) -> Result<()> {
        let Some(own) = note.here() else { return Ok(()) };
        self.memory.inner.limits.tags("note.tags, with those that are there,", &own.tags)
    }

    fn conflict(&self, done: &mut Transferred, line: u64, what: String) -> Result<()> {
        if self.options.keep_stored {
            done.conflict(line, what);
            return Ok(());
        }
        Err(Error::new(ErrorKind::AlreadyExists, format!("line {line}: {what}")))
    }

    /// Embeds the texts of what has no vector yet.
    async fn embed(&self, episodes: &mut [LoggedEpisode], draft: &mut Draft, done: &mut Transferred) {
        let lacking = episodes.iter_mut().filter(|logged| logged.vector.is_none());
        let lacking = lacking.map(|logged| (own_text(&logged.episode), logged));
        let lacking: Vec<(String, &mut LoggedEpisode)> = lacking.filter(|(text, _)| !text.trim().is_empty()).collect();
        let notes = draft.unknown_texts();
        let texts = lacking.iter().map(|(text, _)| text).chain(&notes).cloned().collect();
        let (vectors, degraded) = self.vectors_of(texts).await;
        for (text, logged) in lacking {
            logged.vector = vectors.get(&text).cloned();
            done.without_vector += u64::from(logged.vector.is_none());
        }
        for text in &notes {
            draft.know(text, vectors.get(text).cloned());
            done.without_vector += u64::from(!draft.knows(text));
        }
        done.degraded = degraded;
    }

    /// The vectors of texts, and why some have none.
    async fn vectors_of(&self, texts: BTreeSet<String>) -> (HashMap<String, Vector>, Option<String>) {
        let texts: Vec<String> = texts.into_iter().collect();
        let (mut vectors, mut degraded) = (HashMap::new(), None);
        for texts in texts.chunks(EMBEDDED_TOGETHER) {
            let asked: Vec<&str> = texts.iter().map(|text| &text[..]).collect();
            match self.memory.embed_all(Role::Document, &asked).await {
                Ok(embedded) => vectors.extend(texts.iter().cloned().zip(embedded)),
                Err(error) => degraded = degraded.or_else(|| Some(error.to_string())),
            }
        }
        (vectors, degraded)
    }
}

/// Reads a line; one that ends with the file in the middle of its JSON was cut off.
fn told(line: &Line<'_>) -> Result<Told> {
    Told::read(line.number, line.bytes).map_err(|error| {
        if line.is_whole || !is_cut_off(&error) {
            return error;
        }
        Error::new(ErrorKind::Corrupt, format!("it is cut off within line {}", line.number)).with_source(error)
    })
}
