//! Blocks take in deltas, some blocks at a time, so that writers wait for none of it long.

use std::borrow::Cow;
use std::sync::Arc;

use libsql::Value;
use memory_core::{Error, ErrorKind, Result};

use super::run::{Damage, Encoder, Entry, Places, RawKey, Run};
use super::{Block, Place, corrupt, folded};
use crate::codec::integer;
#[cfg(feature = "remote")]
use crate::remote::program::{Program, guard};
use crate::session::{BEGIN_READ, Session, Sql};

/// Deltas are merged when there are so many, or when they have as many bytes as a share of the blocks.
const MOST_DELTAS: usize = 64;
const LEAST_BYTES: u64 = 1 << 18;
const SHARE: u64 = 8;
/// Blocks that one step rewrites.
const STEP: usize = 32;
/// How long a block is: a page of the file holds one.
const BLOCK_BYTES: usize = 7_900;

const MERGES: Sql = Sql("state", "SELECT merges FROM state");
const SET_MERGES: Sql = Sql("state", "UPDATE state SET merges = merges + 1");
const BLOCKS: Sql = Sql("pattern_blocks", "SELECT count(*) FROM pattern_blocks");
const FIRST: Sql =
    Sql("pattern_blocks", "SELECT first FROM pattern_blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1");
const DELETE: Sql =
    Sql("pattern_blocks", "DELETE FROM pattern_blocks WHERE first >= ?1 AND (?2 IS NULL OR first < ?2)");
const INSERT: Sql =
    Sql("pattern_blocks", "INSERT INTO pattern_blocks (first, upto, patterns, entries) VALUES (?1, ?2, ?3, ?4)");
const PRUNE: Sql = Sql("pattern_deltas", "DELETE FROM pattern_deltas WHERE delta <= ?1");

#[cfg(feature = "remote")]
const UNCHANGED_GUARD: &str = guard!("(SELECT merges FROM state) = ?1", "'another process has merged patterns'");

const LOWEST: RawKey = [0; 17];

/// One step: blocks in place of those from a key on and before another.
#[derive(Debug)]
pub(crate) struct Merge {
    /// How many merges there had been when the blocks were read.
    merges: u64,
    from: RawKey,
    before: Option<RawKey>,
    blocks: Vec<NewBlock>,
    /// All deltas up to here are in all blocks, once this is written.
    done: Option<u64>,
}

#[derive(Debug)]
struct NewBlock {
    first: RawKey,
    upto: u64,
    patterns: u64,
    entries: Vec<u8>,
}

/// A pass over all blocks.
#[derive(Debug)]
pub(crate) struct Pass {
    from: RawKey,
    upto: u64,
}

impl Pass {
    /// A new pass, if it is time for one.
    pub(crate) fn due(session: &mut Session) -> Result<Option<Self>> {
        Self::begin(session, SHARE, MOST_DELTAS)
    }

    /// A new pass before the store is closed: there is no hurry.
    pub(crate) fn closing(session: &mut Session) -> Result<Option<Self>> {
        Self::begin(session, 4 * SHARE, MOST_DELTAS / 4)
    }

    fn begin(session: &mut Session, share: u64, most: usize) -> Result<Option<Self>> {
        session.transaction(BEGIN_READ, |session| {
            let all = session.deltas().read(session)?;
            let Some((upto, _)) = all.last() else { return Ok(None) };
            let bytes: usize = all.iter().map(|(_, delta)| delta.len_bytes()).sum();
            let blocks = session.first(BLOCKS, vec![], |row| row.count(0))?.unwrap_or_default();
            let due = all.len() > most || bytes as u64 > LEAST_BYTES.max(blocks * BLOCK_BYTES as u64 / share);
            Ok(due.then_some(Self { from: LOWEST, upto: *upto }))
        })
    }

    /// The next step.
    pub(crate) fn step(&self, session: &mut Session) -> Result<Merge> {
        session.transaction(BEGIN_READ, |session| {
            let all = session.deltas().read(session)?;
            let all = &all[..all.partition_point(|(delta, _)| *delta <= self.upto)];
            let merges = session.first(MERGES, vec![], |row| row.count(0))?.unwrap_or_default();
            let from = session.first(FIRST, vec![Value::Blob(self.from.to_vec())], |row| row.blob(0))?;
            let from = from.and_then(|bytes| bytes.try_into().ok()).unwrap_or(LOWEST);
            let mut merge = Merge { merges, from, before: Some(from), blocks: Vec::new(), done: None };
            let mut filling = Filling::new(from, self.upto, all.len());
            for _ in 0..STEP {
                let Some(next) = merge.before else { break };
                merge.before = read(session, &next, all, &mut filling, &mut merge.blocks)?;
            }
            merge.blocks.push(filling.block());
            merge.done = merge.before.is_none().then_some(self.upto);
            Ok(merge)
        })
    }

    /// Goes on behind a step that was written; `None` at the end.
    pub(crate) fn after(self, merge: Option<RawKey>) -> Option<Self> {
        Some(Self { from: merge?, ..self })
    }
}

fn overtaken() -> Error {
    Error::new(ErrorKind::Conflict, "another process has merged patterns")
}

/// Reads one block into those that are made; tells where the next one begins.
fn read(
    session: &mut Session,
    key: &RawKey,
    deltas: &[(u64, Arc<Run>)],
    filling: &mut Filling,
    made: &mut Vec<NewBlock>,
) -> Result<Option<RawKey>> {
    let block = Block::with_end(session, key)?;
    if block.upto > filling.upto {
        // It has taken in deltas that this pass does not know of, and would be said to have taken in fewer.
        return Err(overtaken());
    }
    let mut own = Places::default();
    for places in block.patterns(key, deltas).chunk_by(|one, next| one.key == next.key) {
        made.extend(filling.add(places, &mut own).map_err(|damage| corrupt("a block", damage))?);
    }
    Ok(block.end)
}

/// A block that is being filled.
struct Filling {
    first: RawKey,
    upto: u64,
    encoder: Encoder,
    /// Which block it is.
    number: u32,
    /// Where the names of the deltas are.
    places: Vec<Places>,
}

impl Filling {
    fn new(first: RawKey, upto: u64, deltas: usize) -> Self {
        let places = std::iter::repeat_with(Places::default).take(deltas).collect();
        Self { first, upto, encoder: Encoder::default(), number: 0, places }
    }

    /// Adds a pattern, if there is still one after all that is done to it; gives the block before it if that is full. `own` is where
    /// the names of the block are that is read.
    fn add(&mut self, places: &[Place<'_>], own: &mut Places) -> Result<Option<NewBlock>, Damage> {
        let [Place { key, delta, run, entry }, rest @ ..] = places else { return Ok(None) };
        if !rest.is_empty() {
            let Some((version, pattern)) = folded(places)? else { return Ok(None) };
            let entry = Entry::Put(version, Cow::Owned(pattern));
            return self.add_by(*key, |filling| Ok(filling.encoder.push(key, &entry, BLOCK_BYTES)));
        }
        if run.deletes(*entry) {
            return Ok(None);
        }
        self.add_by(*key, |filling| {
            let places = delta.map_or(&mut *own, |delta| &mut filling.places[delta]);
            filling.encoder.copy(run, *entry, (places, filling.number), BLOCK_BYTES)
        })
    }

    fn add_by(
        &mut self,
        key: RawKey,
        mut push: impl FnMut(&mut Self) -> Result<bool, Damage>,
    ) -> Result<Option<NewBlock>, Damage> {
        if push(self)? {
            return Ok(None);
        }
        let block = self.block();
        self.first = key;
        push(self)?;
        Ok(Some(block))
    }

    fn block(&mut self) -> NewBlock {
        let encoder = std::mem::take(&mut self.encoder);
        self.number += 1;
        let (first, upto, patterns) = (self.first, self.upto, encoder.entries());
        NewBlock { first, upto, patterns, entries: encoder.finish() }
    }
}

impl Merge {
    pub(crate) fn before(&self) -> Option<RawKey> {
        self.before
    }

    /// Writes the step, within a transaction; a conflict if another process has merged since.
    pub(crate) fn write(&self, session: &mut Session) -> Result<()> {
        #[cfg(feature = "remote")]
        if let Some(link) = session.link() {
            return link.run(&self.program());
        }
        let merges = session.first(MERGES, vec![], |row| row.count(0))?.unwrap_or_default();
        if merges != self.merges {
            return Err(overtaken());
        }
        self.statements(|sql, values| session.execute(sql, values).map(drop))
    }

    /// The same in one request.
    #[cfg(feature = "remote")]
    fn program(&self) -> Program {
        let mut program = Program::new(UNCHANGED_GUARD, vec![integer(self.merges)]);
        let _: Result<()> = self.statements(|Sql(_, text), values| {
            program.push(text, values);
            Ok(())
        });
        program
    }

    fn statements(&self, mut run: impl FnMut(Sql, Vec<Value>) -> Result<()>) -> Result<()> {
        run(SET_MERGES, vec![])?;
        let before = self.before.map(|key| key.to_vec());
        run(DELETE, vec![Value::Blob(self.from.to_vec()), before.into()])?;
        for block in &self.blocks {
            let first = Value::Blob(block.first.to_vec());
            let values = vec![first, integer(block.upto), integer(block.patterns), Value::Blob(block.entries.clone())];
            run(INSERT, values)?;
        }
        match self.done {
            Some(done) => run(PRUNE, vec![integer(done)]),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memory_core::testkit::samples;
    use memory_core::{Batch, Pattern, Record, RecordKind, Scan, Stored};

    use super::*;
    use crate::encryption::DatabaseFile;
    use crate::learned::{Changed, Learned, write};
    use crate::schema::open_writer;
    use crate::session::BEGIN_WRITE;

    fn write_deltas(session: &mut Session, batch: &Batch) {
        let deltas = Changed::of(batch).unwrap().encode().unwrap();
        session.transaction(BEGIN_WRITE, |session| write(session, 1, &deltas)).unwrap();
    }

    fn begin(session: &mut Session) -> Pass {
        Pass::begin(session, SHARE, 0).unwrap().unwrap()
    }

    /// Does one step; `None` at the end.
    fn go_on(session: &mut Session, pass: Pass) -> Result<Option<Pass>> {
        let merge = pass.step(session)?;
        session.transaction(BEGIN_WRITE, |session| merge.write(session))?;
        Ok(pass.after(merge.before()))
    }

    fn patterns(session: &mut Session) -> Vec<Stored> {
        let scan = Scan::new(RecordKind::Pattern).limit(usize::MAX);
        session.transaction(BEGIN_READ, |session| Learned::read(session)?.scan(session, &scan)).unwrap().records
    }

    /// A pass once took back what a block says it has taken in, when another process had merged more: that counted twice.
    #[test]
    fn passes_that_overtake_each_other_count_everything_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::new(folder.path().join("memory.db"), None);
        let [mut one, mut other] = [(); 2].map(|()| open_writer(&file, Duration::from_secs(1)).unwrap());
        let sample = |n| Pattern { domain: Some(format!("{n:0>200}")), ..samples::pattern(n) };
        let samples: Vec<_> = (0..3_000).map(sample).collect();
        let add = samples.iter().take(10).fold(Batch::new(), |batch, pattern| batch.add_pattern(pattern.clone()));
        write_deltas(&mut one, &samples.into_iter().fold(Batch::new(), |batch, one| batch.put(Record::Pattern(one))));
        let mut all = Some(begin(&mut one));
        while let Some(pass) = all {
            all = go_on(&mut one, pass).unwrap();
        }
        assert!(one.first(BLOCKS, vec![], |row| row.count(0)).unwrap().unwrap() > STEP as u64);

        write_deltas(&mut one, &add);
        let late = begin(&mut other);
        write_deltas(&mut one, &add);
        let expected = patterns(&mut one);
        let ahead = begin(&mut one);
        let ahead = go_on(&mut one, ahead).unwrap().expect("it takes more than one step");
        let late = go_on(&mut other, late);
        assert!(patterns(&mut one) == expected, "a delta was taken back");
        assert!(late.unwrap_err().is_conflict());
        let mut again = Some(begin(&mut other));
        while let Some(pass) = again {
            again = go_on(&mut other, pass).unwrap();
        }
        go_on(&mut one, ahead).unwrap();
        assert!(patterns(&mut one) == expected);
    }
}
