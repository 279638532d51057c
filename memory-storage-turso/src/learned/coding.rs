//! Patterns as bytes: many together, by rising key, sharing what they have in common.
//!
//! A run of entries is
//!
//! ```text
//! names     count, then each as length and bytes: all texts of the entries, each once
//! bucket    a time bucket, from which those of the entries are counted
//! version   a version, from which those of the entries are counted
//! entries   count, then each as: bytes of the key that are as in the one before, the rest of the key, what is done, length,
//!           and unless it is a deletion:
//!           version, learner, scope, trust, kind, domain or none, signature, branches with their evidence
//! ```
//!
//! Numbers are LEB128, with sign as in Protocol Buffers (zigzag) where they may be below zero; texts are places among the names. Behind it all stands its checksum (XXH3, 8 bytes), since a flipped bit
//! would be a wrong count.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use memory_core::{Counts, Evidence, Key, LearnerId, Pattern, PatternId, PatternKind, Scope, Trust, Version};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// A key as it sorts: the kind, then the id.
pub(crate) type RawKey = [u8; 17];

/// The key of a pattern; `None` for other records.
pub(crate) fn raw_key(key: &Key) -> Option<RawKey> {
    match key {
        Key::Pattern(id) => Some(raw(b'p', *id)),
        Key::Habit(id) => Some(raw(b'h', *id)),
        _ => None,
    }
}

/// The key of this kind of pattern: `p`, or `h` for habits.
pub(crate) fn raw(kind: u8, id: PatternId) -> RawKey {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(id.as_uuid().as_bytes());
    key
}

/// What is done to a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry<'a> {
    Put(Version, Cow<'a, Pattern>),
    Add(Version, Cow<'a, Pattern>),
    Delete,
}

impl Entry<'_> {
    /// Does this to what is there.
    pub(crate) fn apply(self, known: &mut Option<(Version, Pattern)>) {
        match (self, known) {
            (Self::Delete, known) => *known = None,
            (Self::Put(version, pattern), known) => *known = Some((version, pattern.into_owned())),
            (Self::Add(version, pattern), Some((last, known))) => {
                known.add(&pattern);
                *last = version;
            }
            (Self::Add(version, pattern), known @ None) => *known = Some((version, pattern.into_owned())),
        }
    }

    /// Both, one after the other.
    pub(crate) fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Delete, Self::Add(version, pattern)) => Self::Put(version, pattern),
            (Self::Put(_, mut known), Self::Add(version, pattern)) => {
                known.to_mut().add(&pattern);
                Self::Put(version, known)
            }
            (Self::Add(_, mut known), Self::Add(version, pattern)) => {
                known.to_mut().add(&pattern);
                Self::Add(version, known)
            }
            (_, next) => next,
        }
    }
}

/// Why bytes are no entries.
pub(crate) type Damage = &'static str;

/// Makes a run of entries.
#[derive(Default)]
pub(crate) struct Encoder {
    places: HashMap<Vec<u8>, u64>,
    names: Vec<Vec<u8>>,
    name_bytes: usize,
    /// Where buckets and versions are counted from.
    base: Option<(i64, u64)>,
    entries: u64,
    body: Vec<u8>,
    last: Option<RawKey>,
}

const PUT: u8 = 0;
const ADD: u8 = 1;
const DELETE: u8 = 2;

impl Encoder {
    /// Adds an entry, whose key is above those before, unless it is not the first and the run would have more bytes than this
    /// with it; says whether it did.
    pub(crate) fn push(&mut self, key: &RawKey, entry: &Entry<'_>, most: usize) -> bool {
        let (names, body) = (self.names.len(), self.body.len());
        let shared = self.last.map_or(0, |last| last.iter().zip(key).take_while(|(a, b)| a == b).count());
        self.body.push(u8::try_from(shared).unwrap_or_default());
        self.body.extend_from_slice(&key[shared..]);
        self.write(entry);
        if self.entries > 0 && self.len() > most {
            for name in self.names.drain(names..) {
                self.places.remove(&name);
                self.name_bytes -= name.len() + 1;
            }
            self.body.truncate(body);
            return false;
        }
        (self.entries, self.last) = (self.entries + 1, Some(*key));
        true
    }

    /// About as many bytes as the run has.
    pub(crate) fn len(&self) -> usize {
        self.name_bytes + self.body.len() + 32
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let (bucket, version) = self.base.unwrap_or_default();
        let mut bytes = Vec::with_capacity(self.len());
        number(&mut bytes, self.names.len() as u64);
        for name in &self.names {
            number(&mut bytes, name.len() as u64);
            bytes.extend_from_slice(name);
        }
        signed(&mut bytes, bucket);
        number(&mut bytes, version);
        number(&mut bytes, self.entries);
        bytes.extend_from_slice(&self.body);
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn write(&mut self, entry: &Entry<'_>) {
        let (done, version, pattern) = match entry {
            Entry::Put(version, pattern) => (PUT, version.0, pattern),
            Entry::Add(version, pattern) => (ADD, version.0, pattern),
            Entry::Delete => return self.body.push(DELETE),
        };
        let Pattern { id: _, learner, scope, trust, kind, domain, signature, branches } = &**pattern;
        let first_bucket = || branches.values().flat_map(Evidence::buckets).next().map_or(0, |(bucket, _)| bucket);
        let (bucket, base) = *self.base.get_or_insert_with(|| (first_bucket(), version));
        self.body.push(done);
        let mut own = Vec::with_capacity(64);
        signed(&mut own, version.wrapping_sub(base).cast_signed());
        number(&mut own, self.place(learner.as_uuid().as_bytes()));
        for name in [scope.as_str(), trust.as_str(), kind.as_str()] {
            number(&mut own, self.place(name.as_bytes()));
        }
        number(&mut own, domain.as_ref().map_or(0, |domain| self.place(domain.as_bytes()) + 1));
        number(&mut own, signature.len() as u64);
        for part in signature {
            number(&mut own, self.place(part.as_bytes()));
        }
        number(&mut own, branches.len() as u64);
        for (branch, evidence) in branches {
            number(&mut own, self.place(branch.as_bytes()));
            number(&mut own, evidence.buckets().count() as u64);
            for (at, Counts { episodes, trials, successes, .. }) in evidence.buckets() {
                signed(&mut own, at.wrapping_sub(bucket));
                [episodes, trials, successes].into_iter().for_each(|count| number(&mut own, count));
            }
        }
        number(&mut self.body, own.len() as u64);
        self.body.extend_from_slice(&own);
    }

    fn place(&mut self, name: &[u8]) -> u64 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = self.names.len() as u64;
        self.places.insert(name.to_vec(), place);
        self.names.push(name.to_vec());
        self.name_bytes += name.len() + 1;
        place
    }
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(0x80 | number.to_le_bytes()[0]);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn signed(out: &mut Vec<u8>, signed: i64) {
    number(out, (signed.cast_unsigned() << 1) ^ (signed >> 63).cast_unsigned());
}

/// A run of entries, of which any can be decoded.
#[derive(Debug)]
pub(crate) struct Run {
    bytes: Vec<u8>,
    names: Vec<Range<usize>>,
    bucket: i64,
    version: u64,
    /// The keys, what is done, and where the rest is.
    entries: Vec<(RawKey, u8, Range<usize>)>,
}

impl Run {
    /// Takes in what an [`Encoder`] made.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Damage> {
        let (rest, checksum) = bytes.split_last_chunk::<8>().ok_or("it is too short")?;
        if xxh3_64(rest) != u64::from_le_bytes(*checksum) {
            return Err("its checksum is wrong");
        }
        let mut input = Input { bytes: rest, at: 0 };
        let mut run = Self { bytes: Vec::new(), names: Vec::new(), bucket: 0, version: 0, entries: Vec::new() };
        for _ in 0..input.number()? {
            let length = input.length()?;
            run.names.push(input.take(length)?);
        }
        run.bucket = input.signed()?;
        run.version = input.number()?;
        let mut key = [0; 17];
        for _ in 0..input.number()? {
            let shared = usize::from(input.byte()?);
            let own = key.get_mut(shared..).ok_or("a key is too long")?;
            let range = input.take(own.len())?;
            own.copy_from_slice(&rest[range]);
            let done = input.byte()?;
            let length = if done == DELETE { 0 } else { input.length()? };
            run.entries.push((key, done, input.take(length)?));
        }
        if input.at != rest.len() {
            return Err("something comes after its end");
        }
        if !run.entries.is_sorted_by(|a, b| a.0 < b.0) {
            return Err("its keys do not rise");
        }
        run.bytes = bytes;
        Ok(run)
    }

    /// The same, with this as the version of all entries that were encoded at version 0.
    pub(crate) fn at(mut self, version: u64) -> Self {
        self.version = self.version.wrapping_add(version);
        self
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether something is done to this pattern.
    pub(crate) fn has(&self, key: &RawKey) -> bool {
        self.entries.binary_search_by(|(own, ..)| own.cmp(key)).is_ok()
    }

    /// The keys, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &RawKey> {
        self.entries.iter().map(|(key, ..)| key)
    }

    /// What is done to this pattern.
    pub(crate) fn get(&self, key: &RawKey) -> Result<Option<Entry<'static>>, Damage> {
        match self.entries.binary_search_by(|(own, ..)| own.cmp(key)) {
            Ok(place) => self.entry(place).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// All entries from this key on and before that one.
    pub(crate) fn between<'a>(
        &'a self,
        from: &RawKey,
        before: Option<&RawKey>,
    ) -> impl Iterator<Item = Result<(RawKey, Entry<'static>), Damage>> + use<'a> {
        let first = self.entries.partition_point(|(key, ..)| key < from);
        let end = before.map_or(self.entries.len(), |before| self.entries.partition_point(|(key, ..)| key < before));
        (first..end).map(|place| Ok((self.entries[place].0, self.entry(place)?)))
    }

    fn entry(&self, place: usize) -> Result<Entry<'static>, Damage> {
        let (key, done, range) = &self.entries[place];
        if *done == DELETE {
            return Ok(Entry::Delete);
        }
        let mut input = Input { bytes: &self.bytes[..range.end], at: range.start };
        let version = Version(self.version.wrapping_add(input.signed()?.cast_unsigned()));
        let pattern = Cow::Owned(self.pattern(key, &mut input)?);
        match *done {
            PUT => Ok(Entry::Put(version, pattern)),
            ADD => Ok(Entry::Add(version, pattern)),
            _ => Err("it does something unknown"),
        }
    }

    fn pattern(&self, key: &RawKey, input: &mut Input<'_>) -> Result<Pattern, Damage> {
        let learner = Uuid::from_slice(self.name_bytes(input.number()?)?).map_err(|_| "a learner has no id")?;
        let scope = Scope::try_from(self.name(input)?.to_owned()).map_err(|_| "a scope has no such name")?;
        let trust = self.name(input)?;
        let kind = self.name(input)?;
        let domain = match input.number()?.checked_sub(1) {
            Some(place) => Some(text(self.name_bytes(place)?)?.to_owned()),
            None => None,
        };
        let signature: Vec<String> =
            (0..input.number()?).map(|_| self.name(input).map(str::to_owned)).collect::<Result<_, _>>()?;
        let mut branches = BTreeMap::new();
        for _ in 0..input.number()? {
            let name = self.name(input)?.to_owned();
            branches.insert(name, self.evidence(input)?);
        }
        Ok(Pattern {
            id: PatternId::new(Uuid::from_slice(&key[1..]).map_err(|_| "a pattern has no id")?),
            learner: LearnerId::new(learner),
            scope,
            trust: Trust::named(trust).ok_or("a trust has no such name")?,
            kind: PatternKind::named(kind).ok_or("a kind has no such name")?,
            domain,
            signature,
            branches,
        })
    }

    fn evidence(&self, input: &mut Input<'_>) -> Result<Evidence, Damage> {
        let mut evidence = Evidence::default();
        for _ in 0..input.number()? {
            let bucket = self.bucket.wrapping_add(input.signed()?);
            let counts = [input.number()?, input.number()?, input.number()?];
            evidence.add(&Evidence::in_bucket(bucket, Counts::from(counts)));
        }
        Ok(evidence)
    }

    fn name(&self, input: &mut Input<'_>) -> Result<&str, Damage> {
        text(self.name_bytes(input.number()?)?)
    }

    fn name_bytes(&self, place: u64) -> Result<&[u8], Damage> {
        let range = usize::try_from(place).ok().and_then(|place| self.names.get(place)).ok_or("a name is not there")?;
        Ok(&self.bytes[range.clone()])
    }
}

fn text(bytes: &[u8]) -> Result<&str, Damage> {
    std::str::from_utf8(bytes).map_err(|_| "a name is no text")
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, Damage> {
        let byte = *self.bytes.get(self.at).ok_or("it is cut off")?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is too long")
    }

    fn signed(&mut self) -> Result<i64, Damage> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    fn length(&mut self) -> Result<usize, Damage> {
        usize::try_from(self.number()?).map_err(|_| "a length is too large")
    }

    fn take(&mut self, length: usize) -> Result<Range<usize>, Damage> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or("it is cut off")?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }
}
