//! What is learned: patterns in blocks, with the changes since.
//!
//! A projection step adds to some ten thousand patterns. Updating a row for each would cost more than everything else together,
//! and a row of its own for each more room than the episodes. So patterns lie in *blocks*, some hundred together by rising key;
//! the changes of a batch are one *delta*, a blob; and blocks take deltas in later, many at a time (see [`merge`]). A block knows
//! up to which delta it has taken in. What a pattern is now is what its block has of it, and then what each later delta does.
//!
//! ```text
//! pattern_blocks   block, first key, upto, how many patterns, entries (all puts)
//! pattern_deltas   delta (rising), version, entries
//! ```
//!
//! Deltas are small beside the blocks, never changed, and read by each store once.

pub(crate) mod merge;
mod run;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use libsql::Value;
use memory_core::{
    Batch, Change, Cursor, Error, ErrorKind, Page, Pattern, PatternId, Record, RecordKind, Result, Scan, Stored,
    Version,
};

use run::{Encoder, Entry, Run, raw};
pub(crate) use run::{RawKey, raw_key};

use crate::codec::{MAX_BODY, integer};
use crate::session::{Session, Sql};

const BLOCK: Sql = Sql(
    "pattern_blocks",
    "SELECT block, first, upto, entries FROM pattern_blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
);
const NEXT: Sql = Sql("pattern_blocks", "SELECT first FROM pattern_blocks WHERE first > ?1 ORDER BY first LIMIT 1");
/// The blocks that have the keys `?1`, a JSON array of hexadecimal numbers; each once.
#[cfg(feature = "remote")]
const BLOCKS: Sql = Sql(
    "pattern_blocks",
    "WITH wanted AS (
         SELECT DISTINCT (SELECT first FROM pattern_blocks WHERE first <= unhex(key.value) ORDER BY first DESC LIMIT 1) AS first
         FROM json_each(?1) AS key)
     SELECT found.block, found.first, found.upto, found.entries
     FROM wanted CROSS JOIN pattern_blocks AS found ON found.first = wanted.first",
);
const DELTAS: Sql = Sql("pattern_deltas", "SELECT delta FROM pattern_deltas ORDER BY delta");
const DELTA: Sql = Sql("pattern_deltas", "SELECT version, entries FROM pattern_deltas WHERE delta = ?1");
const COUNT: Sql = Sql("pattern_blocks", "SELECT coalesce(sum(patterns), 0) FROM pattern_blocks");
const PUT_DELTA: Sql = Sql("pattern_deltas", "INSERT INTO pattern_deltas (version, entries) VALUES (?1, ?2)");

/// The longest delta; a batch with more has several.
const DELTA_BYTES: usize = 1 << 20;

/// Deltas that were read, shared by the threads of a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deltas(Arc<Mutex<BTreeMap<u64, Arc<Run>>>>);

impl Deltas {
    /// All deltas there are, in order.
    fn read(&self, session: &mut Session) -> Result<Vec<(u64, Arc<Run>)>> {
        let mut there = Vec::new();
        let mut rows = session.query(DELTAS, vec![])?;
        while let Some(row) = rows.next()? {
            there.push(row.count(0)?);
        }
        drop(rows);
        // What is merged is read no more, but by who still looks at an older state.
        let first = there.first().copied().unwrap_or(u64::MAX);
        self.lock().retain(|delta, _| *delta >= first);
        session.ahead(|| {
            let known = self.lock();
            let unknown = there.iter().filter(|delta| !known.contains_key(delta));
            unknown.map(|delta| (DELTA, vec![integer(*delta)])).collect()
        })?;
        there.into_iter().map(|delta| Ok((delta, self.read_one(session, delta)?))).collect()
    }

    fn read_one(&self, session: &mut Session, delta: u64) -> Result<Arc<Run>> {
        if let Some(run) = self.lock().get(&delta) {
            return Ok(Arc::clone(run));
        }
        let found = session.first(DELTA, vec![integer(delta)], |row| Ok((row.count(0)?, row.blob(1)?)))?;
        let (version, bytes) = found.unwrap_or_default();
        let run = Arc::new(parse(bytes, format_args!("delta {delta}"))?.at(version));
        self.lock().insert(delta, Arc::clone(&run));
        Ok(run)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Run>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(bytes: Vec<u8>, what: impl std::fmt::Display) -> Result<Run> {
    Run::parse(bytes).map_err(|damage| corrupt(what, damage))
}

fn corrupt(what: impl std::fmt::Display, damage: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("patterns of {what}: {damage}; rebuild"))
}

/// A block; of a store without any, one without entries.
#[derive(Debug)]
struct Block {
    upto: u64,
    run: Option<Run>,
    /// The key from which the next one is.
    end: Option<RawKey>,
}

impl Block {
    /// The block that has this key.
    fn of(session: &mut Session, key: &RawKey) -> Result<Self> {
        let found = session
            .first(BLOCK, vec![Value::Blob(key.to_vec())], |row| Ok((row.count(2)?, row.blob(3)?, row.count(0)?)))?;
        match found {
            None => Ok(Self { upto: 0, run: None, end: None }),
            Some((upto, bytes, block)) => {
                Ok(Self { upto, run: Some(parse(bytes, format_args!("block {block}"))?), end: None })
            }
        }
    }

    /// The same, with its end.
    fn with_end(session: &mut Session, key: &RawKey) -> Result<Self> {
        session.ahead(|| [NEXT, BLOCK].map(|sql| (sql, vec![Value::Blob(key.to_vec())])).into())?;
        let end = session.first(NEXT, vec![Value::Blob(key.to_vec())], |row| row.blob(0))?;
        let end = end.map(|bytes| <RawKey>::try_from(bytes.as_slice()).map_err(|_| corrupt("a block", "no first key")));
        Ok(Self { end: end.transpose()?, ..Self::of(session, key)? })
    }

    /// The entries that change this block, in order.
    fn later<'a>(&self, deltas: &'a [(u64, Arc<Run>)]) -> &'a [(u64, Arc<Run>)] {
        &deltas[deltas.partition_point(|(delta, _)| *delta <= self.upto)..]
    }

    fn get(&self, key: &RawKey, deltas: &[(u64, Arc<Run>)]) -> Result<Option<(Version, Pattern)>, run::Damage> {
        let mut known = None;
        let own = self.run.as_ref().map(|run| run.get(key)).transpose()?.flatten();
        own.into_iter().for_each(|entry| entry.apply(&mut known));
        for (_, delta) in self.later(deltas) {
            if let Some(entry) = delta.get(key)? {
                entry.apply(&mut known);
            }
        }
        Ok(known)
    }

    /// Whether there was this pattern before these deltas, and whether there is now.
    fn has(&self, key: &RawKey, deltas: &[(u64, Arc<Run>)]) -> (bool, bool) {
        let had = self.run.as_ref().is_some_and(|run| run.place(key).is_some());
        let mut latest = self.later(deltas).iter().rev();
        let has = latest.find_map(|(_, delta)| Some(!delta.deletes(delta.place(key)?)));
        (had, has.unwrap_or(had))
    }

    /// The patterns from this key on, by rising key: of each the entries in the order in which they are applied.
    fn patterns<'a>(&'a self, from: &RawKey, deltas: &'a [(u64, Arc<Run>)]) -> Vec<Place<'a>> {
        let later = deltas.len() - self.later(deltas).len()..deltas.len();
        let own = self.run.iter().map(|run| (None, run));
        let runs = own.chain(later.map(|delta| (Some(delta), &*deltas[delta].1)));
        let mut places: Vec<Place<'a>> = Vec::new();
        for (delta, run) in runs {
            let between = run.between(from, self.end.as_ref());
            places.extend(between.map(|(key, entry)| Place { key, delta, run, entry }));
        }
        // It is stable.
        places.sort_by_key(|place| place.key);
        places
    }
}

/// Where something is done to a pattern.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    key: RawKey,
    /// Which of the deltas; `None` for the block itself.
    delta: Option<usize>,
    run: &'a Run,
    entry: usize,
}

/// What a pattern is after all that is done to it.
fn folded(places: &[Place<'_>]) -> Result<Option<(Version, Pattern)>, run::Damage> {
    let mut known = None;
    for place in places {
        place.run.entry(place.entry)?.apply(&mut known);
    }
    Ok(known)
}

fn stored((version, pattern): (Version, Pattern)) -> Stored {
    Stored { version, record: Record::Pattern(pattern) }
}

/// Reads patterns, within a transaction.
#[derive(Debug)]
pub(crate) struct Learned {
    deltas: Vec<(u64, Arc<Run>)>,
    /// Blocks that were fetched together, by their first keys.
    #[cfg(feature = "remote")]
    blocks: BTreeMap<RawKey, Block>,
}

/// What reading these patterns asks first, of a server.
#[cfg(feature = "remote")]
pub(crate) fn announced(keys: &[RawKey]) -> Vec<(Sql, Vec<Value>)> {
    vec![(DELTAS, vec![]), (BLOCKS, vec![json_of(keys)])]
}

/// What counting patterns asks first.
pub(crate) fn announced_count() -> Vec<(Sql, Vec<Value>)> {
    vec![(DELTAS, vec![]), (COUNT, vec![])]
}

#[cfg(feature = "remote")]
fn json_of(keys: &[RawKey]) -> Value {
    let hex = |key: &RawKey| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    serde_json::Value::from_iter(keys.iter().map(hex)).to_string().into()
}

impl Learned {
    pub(crate) fn read(session: &mut Session) -> Result<Self> {
        Ok(Self {
            deltas: session.deltas().read(session)?,
            #[cfg(feature = "remote")]
            blocks: BTreeMap::new(),
        })
    }

    /// The same, to get these patterns. From a server, their blocks come together, each once.
    #[cfg(feature = "remote")]
    pub(crate) fn read_for(session: &mut Session, keys: &[RawKey]) -> Result<Self> {
        let mut learned = Self::read(session)?;
        if session.is_remote() && !keys.is_empty() {
            learned.blocks = fetch(session, keys)?;
        }
        Ok(learned)
    }

    /// A block that was fetched and has this key.
    #[cfg(feature = "remote")]
    fn fetched(&self, key: &RawKey) -> Option<&Block> {
        self.blocks.range(..=*key).next_back().map(|(_, block)| block)
    }

    pub(crate) fn get(&self, session: &mut Session, key: &RawKey) -> Result<Option<Stored>> {
        #[cfg(feature = "remote")]
        if session.is_remote() {
            let empty = Block { upto: 0, run: None, end: None };
            let known = self.fetched(key).unwrap_or(&empty).get(key, &self.deltas);
            return Ok(known.map_err(|damage| corrupt("a block", damage))?.map(stored));
        }
        let known = Block::of(session, key)?.get(key, &self.deltas).map_err(|damage| corrupt("a block", damage))?;
        Ok(known.map(stored))
    }

    pub(crate) fn scan(&self, session: &mut Session, scan: &Scan) -> Result<Page> {
        let kind = if scan.kind == RecordKind::Habit { b'h' } else { b'p' };
        let (first, last) = match &scan.scope {
            Some(scope) => PatternId::range_of(scope),
            None => (PatternId::new(uuid::Uuid::nil()), PatternId::new(uuid::Uuid::max())),
        };
        let after = match &scan.after {
            Some(Cursor::Key(key)) => raw_key(key),
            _ => None,
        };
        let last = raw(kind, last);
        let mut from = raw(kind, first).max(after.unwrap_or([0; 17]));
        let mut records = Vec::new();
        loop {
            let block = Block::with_end(session, &from)?;
            for places in block.patterns(&from, &self.deltas).chunk_by(|one, next| one.key == next.key) {
                let key = places[0].key;
                if key > last {
                    return Ok(Page { records, next: None });
                }
                let known = folded(places).map_err(|damage| corrupt("a block", damage))?;
                let Some(known) = known else { continue };
                if Some(key) == after || scan.scope.as_ref().is_some_and(|scope| known.1.scope != *scope) {
                    continue;
                }
                if records.len() == scan.limit {
                    let next = records.last().map(|last: &Stored| Cursor::Key(last.record.key()));
                    return Ok(Page { records, next });
                }
                records.push(stored(known));
            }
            match block.end {
                Some(end) if end <= last => from = end,
                _ => return Ok(Page { records, next: None }),
            }
        }
    }

    /// How many patterns there are.
    pub(crate) fn count(&self, session: &mut Session) -> Result<u64> {
        let mut count = session.first(COUNT, vec![], |row| row.count(0))?.unwrap_or_default();
        let mut changed: Vec<&RawKey> = self.deltas.iter().flat_map(|(_, delta)| delta.keys()).collect();
        changed.sort_unstable();
        changed.dedup();
        #[cfg(feature = "remote")]
        if session.is_remote() {
            return self.count_fetched(session, count, &changed);
        }
        let mut block: Option<Block> = None;
        for key in changed {
            let fits = block.as_ref().is_some_and(|block| block.end.is_none_or(|end| *key < end));
            let block = match &mut block {
                Some(block) if fits => block,
                other => other.insert(Block::with_end(session, key)?),
            };
            let (had, has) = block.has(key, &self.deltas);
            count = (count + u64::from(has)).saturating_sub(u64::from(had));
        }
        Ok(count)
    }
}

#[cfg(feature = "remote")]
fn fetch(session: &mut Session, keys: &[RawKey]) -> Result<BTreeMap<RawKey, Block>> {
    let mut blocks = BTreeMap::new();
    let mut rows = session.query(BLOCKS, vec![json_of(keys)])?;
    while let Some(row) = rows.next()? {
        let first = row.blob(1)?.try_into().map_err(|_| corrupt("a block", "no first key"))?;
        let run = parse(row.blob(3)?, format_args!("block {}", row.count(0)?))?;
        blocks.insert(first, Block { upto: row.count(2)?, run: Some(run), end: None });
    }
    Ok(blocks)
}

#[cfg(feature = "remote")]
impl Learned {
    /// Corrects the count of all blocks by what deltas have changed.
    fn count_fetched(&self, session: &mut Session, mut count: u64, changed: &[&RawKey]) -> Result<u64> {
        /// Keys that are asked for at once.
        const TOGETHER: usize = 10_000;
        for keys in changed.chunks(TOGETHER) {
            let keys: Vec<RawKey> = keys.iter().map(|key| **key).collect();
            let part = Self { deltas: self.deltas.clone(), blocks: fetch(session, &keys)? };
            for key in &keys {
                let empty = Block { upto: 0, run: None, end: None };
                let (had, has) = part.fetched(key).unwrap_or(&empty).has(key, &self.deltas);
                count = (count + u64::from(has)).saturating_sub(u64::from(had));
            }
        }
        Ok(count)
    }
}

/// The changes of a batch to patterns.
#[derive(Debug)]
pub(crate) struct Changed<'a>(BTreeMap<RawKey, Entry<'a>>);

impl<'a> Changed<'a> {
    /// The pattern changes of a batch; `None` if it has none.
    pub(crate) fn of(batch: &'a Batch) -> Option<Self> {
        let mut changed: BTreeMap<RawKey, Entry<'a>> = BTreeMap::new();
        for change in &batch.changes {
            let (key, entry) = match change {
                Change::Put(Record::Pattern(pattern)) => {
                    (pattern.key(), Entry::Put(Version(0), Cow::Borrowed(pattern)))
                }
                Change::Add(pattern) => (pattern.key(), Entry::Add(Version(0), Cow::Borrowed(pattern))),
                Change::Delete(key) => (key.clone(), Entry::Delete),
                Change::Put(_) => continue,
            };
            let Some(key) = raw_key(&key) else { continue };
            let entry = match changed.remove(&key) {
                Some(before) => before.then(entry),
                None => entry,
            };
            changed.insert(key, entry);
        }
        (!changed.is_empty()).then_some(Self(changed))
    }

    /// The changes as deltas, which do not know their version yet.
    pub(crate) fn encode(self) -> Result<Vec<Vec<u8>>> {
        let (mut deltas, mut encoder) = (Vec::new(), Encoder::default());
        for (key, entry) in &self.0 {
            if !encoder.push(key, entry, DELTA_BYTES) {
                deltas.push(std::mem::take(&mut encoder).finish());
                encoder.push(key, entry, DELTA_BYTES);
            }
            if encoder.len() > MAX_BODY {
                let (value, range) = (format!("{} bytes", encoder.len()), format!("up to {MAX_BODY} bytes"));
                return Err(Error::invalid("encoded pattern", value, range));
            }
        }
        deltas.push(encoder.finish());
        Ok(deltas)
    }
}

/// Writes the changes of a batch, within its transaction.
pub(crate) fn write(session: &mut Session, version: u64, deltas: &[Vec<u8>]) -> Result<()> {
    for delta in deltas {
        session.execute(PUT_DELTA, vec![integer(version), Value::Blob(delta.clone())])?;
    }
    Ok(())
}
