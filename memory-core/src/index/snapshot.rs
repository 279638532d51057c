//! The index as bytes, to start from next time.
//!
//! A snapshot can always be made anew from the store, so that there is one format at a time: another one, bytes of a machine
//! with another byte order, and any damage are refused. All arrays are as they are in memory, behind their lengths.

use bytemuck::{AnyBitPattern, NoUninit};
use chrono::{DateTime, Utc};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::bits::Bits;
use super::codes::Codes;
use super::facts::FactIndex;
use super::words::{Postings, WordIndex};
use super::{Document, HybridIndex, Place, ScopeIndex, number_of};
use crate::{Error, ErrorKind, Result, Scope, Searched, Version};

/// What a snapshot begins with, of this format, in this machine's byte order.
const MAGIC: u64 = 0x4B48_4958_0000_0001;

impl HybridIndex {
    /// The whole index, with a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.number(MAGIC);
        out.number(0); // The checksum comes here.
        out.number(self.version.0);
        out.number(self.names.len() as u64);
        for ((kind, name), number) in &self.names {
            out.number(u64::from(*kind == Searched::Notes));
            out.array(name.as_str().as_bytes());
            self.scopes[*number as usize].write(&mut out);
        }
        let checksum = xxh3_64(&out.0[16..]);
        out.0[8..16].copy_from_slice(&checksum.to_ne_bytes());
        out.0
    }

    /// The index of these bytes.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) for bytes that [`to_bytes`](Self::to_bytes) of this version of the library, on a machine
    /// of this byte order, did not make: make the index anew.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut input = Reader(bytes);
        if input.number()? != MAGIC {
            return Err(corrupt("it is of another format"));
        }
        if input.number()? != xxh3_64(input.0) {
            return Err(corrupt("its checksum is wrong"));
        }
        let mut index = Self { version: Version(input.number()?), ..Self::default() };
        for _ in 0..input.number()? {
            let kind = if input.number()? == 0 { Searched::Episodes } else { Searched::Notes };
            let name = String::from_utf8(input.array()?).map_err(|_| corrupt("a scope is no text"))?;
            let name = Scope::try_from(name).map_err(|error| corrupt("a scope has no such name").with_source(error))?;
            let name = (kind, name);
            let scope = ScopeIndex { name: Some(name.clone()), ..ScopeIndex::read(&mut input)? };
            let number = number_of(index.scopes.len());
            index.places.reserve(scope.documents.len());
            for document in scope.live.iter() {
                let id = scope.documents[document as usize].id;
                index.places.insert((kind, id), Place { scope: number, document });
            }
            index.names.insert(name, number);
            index.scopes.push(scope);
        }
        if input.0.is_empty() { Ok(index) } else { Err(corrupt("something comes after its end")) }
    }
}

impl ScopeIndex {
    fn write(&self, out: &mut Writer) {
        let Self { name: _, documents, live, removed: _, words, trace, codes, facts } = self;
        out.array(&documents.iter().map(|one| *one.id.as_bytes()).collect::<Vec<_>>());
        out.array(&documents.iter().map(|one| one.version.0).collect::<Vec<_>>());
        out.moments(documents.iter().map(|one| one.at));
        out.array(live.words());
        words.write(out);
        trace.write(out);
        out.array(&codes.bits);
        out.array(codes.coded.words());
        facts.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self> {
        let ids: Vec<[u8; 16]> = input.array()?;
        let count = ids.len();
        let versions: Vec<u64> = input.exactly(count)?;
        let moments = input.moments(count)?;
        let all = ids.into_iter().zip(versions).zip(moments);
        let documents: Vec<Document> = all
            .map(|((id, version), at)| Document {
                id: Uuid::from_bytes(id),
                version: Version(version),
                at,
                vector: None,
            })
            .collect();
        let live = input.bits(count)?;
        let (words, trace) = (WordIndex::read(input, count)?, WordIndex::read(input, count)?);
        let (bits, coded): (Vec<u64>, Bits) = (input.array()?, input.bits(count)?);
        if bits.len().checked_rem(count).unwrap_or_default() != 0 {
            return Err(corrupt("a code is cut off"));
        }
        let facts = FactIndex::read(input, count)?;
        let removed = count - live.count();
        Ok(Self { name: None, documents, live, removed, words, trace, codes: Codes { bits, coded }, facts })
    }
}

impl WordIndex {
    fn write(&self, out: &mut Writer) {
        let Self { terms, lengths, length } = self;
        out.number(*length);
        out.array(lengths);
        out.names(terms.keys());
        out.array(&terms.values().map(|one| number_of(one.documents.len())).collect::<Vec<_>>());
        out.joined(terms.values().map(|one| one.documents.as_slice()));
        out.joined(terms.values().map(|one| one.frequencies.as_slice()));
    }

    fn read(input: &mut Reader<'_>, count: usize) -> Result<Self> {
        let length = input.number()?;
        let lengths = input.exactly(count)?;
        let names = input.names()?;
        let counts: Vec<u32> = input.exactly(names.len())?;
        let (all_documents, all_frequencies): (Vec<u32>, Vec<u8>) = (input.array()?, input.array()?);
        let (mut documents, mut frequencies) = (&all_documents[..], &all_frequencies[..]);
        let mut words = Self { lengths, length, ..Self::default() };
        words.terms.reserve(names.len());
        for (name, found) in names.into_iter().zip(counts) {
            let list = Postings {
                documents: documents_of(&mut documents, found, count)?,
                frequencies: split(&mut frequencies, found)?.to_vec(),
            };
            words.terms.insert(name, list);
        }
        Ok(words)
    }
}

impl FactIndex {
    fn write(&self, out: &mut Writer) {
        let Self { labels, expiries, sessions } = self;
        out.names(labels.keys());
        out.array(&labels.values().map(|documents| number_of(documents.len())).collect::<Vec<_>>());
        out.joined(labels.values().map(Vec::as_slice));
        out.array(&expiries.keys().copied().collect::<Vec<u32>>());
        out.moments(expiries.values().copied());
        out.array(&sessions.iter().flat_map(|(document, count)| [*document, *count]).collect::<Vec<u32>>());
    }

    fn read(input: &mut Reader<'_>, count: usize) -> Result<Self> {
        let names = input.names()?;
        let counts: Vec<u32> = input.exactly(names.len())?;
        let all: Vec<u32> = input.array()?;
        let mut rest = &all[..];
        let mut facts = Self::default();
        for (name, found) in names.into_iter().zip(counts) {
            facts.labels.insert(name, documents_of(&mut rest, found, count)?);
        }
        let expiring: Vec<u32> = input.array()?;
        let moments = input.moments(expiring.len())?;
        facts.expiries = expiring.into_iter().zip(moments).collect();
        let sessions: Vec<u32> = input.array()?;
        facts.sessions = sessions.as_chunks::<2>().0.iter().map(|[document, count]| (*document, *count)).collect();
        let last = |last: Option<u32>| last.is_none_or(|last| (last as usize) < count);
        if last(facts.expiries.keys().next_back().copied()) && last(facts.sessions.keys().next_back().copied()) {
            Ok(facts)
        } else {
            Err(corrupt("a document is not there"))
        }
    }
}

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the snapshot of an index cannot be used: {why}"))
}

/// The next so many of a list.
fn split<'a, T>(rest: &mut &'a [T], count: u32) -> Result<&'a [T]> {
    let (first, after) = rest.split_at_checked(count as usize).ok_or_else(|| corrupt("a list is too short"))?;
    *rest = after;
    Ok(first)
}

/// The next so many of a list: documents of `count`, by rising number.
fn documents_of(rest: &mut &[u32], found: u32, count: usize) -> Result<Vec<u32>> {
    let documents = split(rest, found)?;
    let there = documents.last().is_none_or(|last| (*last as usize) < count);
    if there && documents.is_sorted_by(|a, b| a < b) {
        Ok(documents.to_vec())
    } else {
        Err(corrupt("a list is out of order"))
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    fn array<T: NoUninit>(&mut self, items: &[T]) {
        self.joined(std::iter::once(items));
    }

    /// Several arrays as one.
    fn joined<'a, T: NoUninit>(&mut self, parts: impl Iterator<Item = &'a [T]> + Clone) {
        self.number(parts.clone().map(|items| items.len() as u64).sum());
        parts.for_each(|items| self.0.extend_from_slice(bytemuck::cast_slice(items)));
    }

    fn names<'a>(&mut self, names: impl Iterator<Item = &'a Box<str>> + Clone) {
        self.array(&names.clone().map(|name| number_of(name.len())).collect::<Vec<_>>());
        self.joined(names.map(|name| name.as_bytes()));
    }

    fn moments(&mut self, moments: impl Iterator<Item = DateTime<Utc>> + Clone) {
        self.array(&moments.clone().map(|at| at.timestamp()).collect::<Vec<_>>());
        self.array(&moments.map(|at| at.timestamp_subsec_nanos()).collect::<Vec<_>>());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Result<u64> {
        let (first, rest) = self.0.split_first_chunk().ok_or_else(|| corrupt("it is cut off"))?;
        self.0 = rest;
        Ok(u64::from_ne_bytes(*first))
    }

    fn array<T: NoUninit + AnyBitPattern>(&mut self) -> Result<Vec<T>> {
        let count = usize::try_from(self.number()?).ok();
        let bytes = count.and_then(|count| count.checked_mul(size_of::<T>()));
        let split = bytes.and_then(|bytes| self.0.split_at_checked(bytes));
        let (bytes, rest) = split.ok_or_else(|| corrupt("it is cut off"))?;
        self.0 = rest;
        Ok(bytemuck::pod_collect_to_vec(bytes))
    }

    fn exactly<T: NoUninit + AnyBitPattern>(&mut self, count: usize) -> Result<Vec<T>> {
        let items = self.array()?;
        if items.len() == count { Ok(items) } else { Err(corrupt("two lists do not fit together")) }
    }

    fn bits(&mut self, len: usize) -> Result<Bits> {
        Bits::of_words(self.array()?, len).ok_or_else(|| corrupt("a set does not fit"))
    }

    fn names(&mut self) -> Result<Vec<Box<str>>> {
        let lengths: Vec<u32> = self.array()?;
        let all: Vec<u8> = self.array()?;
        let mut rest = &all[..];
        let name = |length| {
            let name = std::str::from_utf8(split(&mut rest, length)?);
            Ok(name.map_err(|_| corrupt("a term is no text"))?.into())
        };
        lengths.into_iter().map(name).collect()
    }

    fn moments(&mut self, count: usize) -> Result<Vec<DateTime<Utc>>> {
        let seconds: Vec<i64> = self.exactly(count)?;
        let nanos: Vec<u32> = self.exactly(count)?;
        let moment = |(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).ok_or_else(|| corrupt("no moment"));
        seconds.into_iter().zip(nanos).map(moment).collect()
    }
}
