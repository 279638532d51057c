//! Patterns as bytes: many together, by rising key, sharing what they have in common.
//!
//! A run of entries is
//!
//! ```text
//! names     count, then each as length and bytes: all texts of the entries, each once
//! bucket    a time bucket, from which those of the entries are counted
//! entries   count, then each as: a byte with what is done, and how many bytes of the key are as in the one before; the rest of
//!           the key; and unless it is a deletion, length, then
//!           owner (learner, scope, trust), version, kind, domain or none, signature, branches with their evidence
//! ```
//!
//! Numbers are LEB128, with sign as in Protocol Buffers (zigzag) where they may be below zero; texts are places among the names. Behind
//! it all stands its checksum (XXH3, 8 bytes), since a flipped bit would be a wrong count.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use foldhash::fast::RandomState;
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
    places: HashMap<Vec<u8>, u64, RandomState>,
    names: Vec<Vec<u8>>,
    name_bytes: usize,
    /// Where buckets are counted from.
    base: Option<i64>,
    entries: u64,
    body: Vec<u8>,
    last: Option<RawKey>,
    /// The owner of the last pattern, and its place: nearly all have the same.
    owner: Option<(LearnerId, Trust, Scope, u64)>,
    /// Room for the entry that is being encoded.
    own: Vec<u8>,
}

/// Which places the names of a run have in what an [`Encoder`] makes; and of its versions, since these are not written as they are.
/// Each with the number of the encoder, as others give other places.
#[derive(Debug, Default)]
pub(crate) struct Places {
    names: Vec<(u32, u64)>,
    versions: Vec<(u32, u64)>,
}

const PUT: u8 = 0;
const ADD: u8 = 1;
const DELETE: u8 = 2;
/// How many bits tell how much of a key is as in the one before.
const SHARED_BITS: u32 = 5;

/// Counts that most branches have are one number; others are three behind a zero.
const FEW: [[u64; 3]; 2] = [[1, 1, 0], [1, 1, 1]];

impl Encoder {
    /// Adds an entry, whose key is above those before, unless it is not the first and the run would have more bytes than this
    /// with it; says whether it did.
    pub(crate) fn push(&mut self, key: &RawKey, entry: &Entry<'_>, most: usize) -> bool {
        let names = self.names.len();
        let done = match entry {
            Entry::Put(..) => PUT,
            Entry::Add(..) => ADD,
            Entry::Delete => DELETE,
        };
        self.write(entry);
        self.take_own(key, done, names, most)
    }

    /// The same for putting what stands in another run, without decoding it. The encoder has this number.
    pub(crate) fn copy(
        &mut self,
        run: &Run,
        place: usize,
        known: (&mut Places, u32),
        most: usize,
    ) -> Result<bool, Damage> {
        let names = self.names.len();
        self.write_copy(run, place, known)?;
        Ok(self.take_own(&run.entries[place].0, PUT, names, most))
    }

    /// Adds the entry that was just written, for which names from this place on were new.
    fn take_own(&mut self, key: &RawKey, done: u8, names: usize, most: usize) -> bool {
        let body = self.body.len();
        let shared = self.last.map_or(0, |last| last.iter().zip(key).take_while(|(a, b)| a == b).count());
        self.body.push(done << SHARED_BITS | u8::try_from(shared).unwrap_or_default());
        self.body.extend_from_slice(&key[shared..]);
        if done != DELETE {
            number(&mut self.body, self.own.len() as u64);
            self.body.extend_from_slice(&self.own);
        }
        if self.entries > 0 && self.len() > most {
            for name in self.names.drain(names..) {
                self.places.remove(&name);
                self.name_bytes -= name.len() + 1;
            }
            self.body.truncate(body);
            self.owner = None;
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
        let mut bytes = Vec::with_capacity(self.len());
        number(&mut bytes, self.names.len() as u64);
        for name in &self.names {
            number(&mut bytes, name.len() as u64);
            bytes.extend_from_slice(name);
        }
        signed(&mut bytes, self.base.unwrap_or_default());
        number(&mut bytes, self.entries);
        bytes.extend_from_slice(&self.body);
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn write(&mut self, entry: &Entry<'_>) {
        let (Entry::Put(version, pattern) | Entry::Add(version, pattern)) = entry else { return };
        let Pattern { id: _, learner, scope, trust, kind, domain, signature, branches } = &**pattern;
        let first_bucket = || branches.values().flat_map(Evidence::buckets).next().map_or(0, |(bucket, _)| bucket);
        let bucket = *self.base.get_or_insert_with(first_bucket);
        let mut own = std::mem::take(&mut self.own);
        own.clear();
        number(&mut own, self.place_of_owner(*learner, *trust, scope));
        number(&mut own, self.place(&version.0.to_le_bytes()));
        number(&mut own, self.place(kind.as_str().as_bytes()));
        number(&mut own, domain.as_ref().map_or(0, |domain| self.place(domain.as_bytes()) + 1));
        number(&mut own, signature.len() as u64);
        for part in signature {
            number(&mut own, self.place(part.as_bytes()));
        }
        number(&mut own, branches.len() as u64);
        for (branch, evidence) in branches {
            self.write_branch(&mut own, branch);
            number(&mut own, evidence.buckets().count() as u64);
            for (at, counts) in evidence.buckets() {
                signed(&mut own, at.wrapping_sub(bucket));
                write_counts(&mut own, counts);
            }
        }
        self.own = own;
    }

    fn place_of_owner(&mut self, learner: LearnerId, trust: Trust, scope: &Scope) -> u64 {
        if let Some((last, its_trust, its_scope, place)) = &self.owner
            && (*last, *its_trust, its_scope) == (learner, trust, scope)
        {
            return *place;
        }
        let name =
            [learner.as_uuid().as_bytes().as_slice(), trust.as_str().as_bytes(), b" ", scope.as_str().as_bytes()];
        let place = self.place(&name.concat());
        self.owner = Some((learner, trust, scope.clone(), place));
        place
    }

    /// Writes an entry of another run, which is no deletion, with the places that its names have here.
    fn write_copy(&mut self, run: &Run, place: usize, known: (&mut Places, u32)) -> Result<(), Damage> {
        let mut own = std::mem::take(&mut self.own);
        own.clear();
        let base = *self.base.get_or_insert(run.bucket);
        let mut copying = Copying { encoder: self, run, known, input: run.input(place), out: &mut own };
        copying.name()?;
        copying.version()?;
        copying.name()?;
        let domain = match copying.input.number()?.checked_sub(1) {
            Some(domain) => copying.place_of(domain)? + 1,
            None => 0,
        };
        number(copying.out, domain);
        for _ in 0..copying.number()? {
            copying.name()?;
        }
        for _ in 0..copying.number()? {
            let branch = copying.input.number()?;
            if branch & 1 == 0 {
                let place = copying.place_of(branch >> 1)?;
                number(copying.out, place << 1);
            } else {
                number(copying.out, branch);
                for _ in 0..branch >> 1 {
                    copying.name()?;
                }
            }
            for _ in 0..copying.number()? {
                let bucket = run.bucket.wrapping_add(copying.input.signed()?);
                signed(copying.out, bucket.wrapping_sub(base));
                if copying.number()? == 0 {
                    for _ in 0..3 {
                        copying.number()?;
                    }
                }
            }
        }
        self.own = own;
        Ok(())
    }

    /// A branch by its name; a list of names, as habits have, by the names.
    fn write_branch(&mut self, out: &mut Vec<u8>, branch: &str) {
        match list_of(branch) {
            None => number(out, self.place(branch.as_bytes()) << 1),
            Some(list) => {
                number(out, (list.len() as u64) << 1 | 1);
                for name in list {
                    number(out, self.place(name.as_bytes()));
                }
            }
        }
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

/// An entry on its way from a run to an encoder.
struct Copying<'a> {
    encoder: &'a mut Encoder,
    run: &'a Run,
    known: (&'a mut Places, u32),
    input: Input<'a>,
    out: &'a mut Vec<u8>,
}

impl Copying<'_> {
    fn number(&mut self) -> Result<u64, Damage> {
        let read = self.input.number()?;
        number(self.out, read);
        Ok(read)
    }

    fn name(&mut self) -> Result<(), Damage> {
        let place = self.input.number()?;
        let place = self.place_of(place)?;
        number(self.out, place);
        Ok(())
    }

    fn version(&mut self) -> Result<(), Damage> {
        let place = self.input.number()?;
        let version = self.run.version(place)?;
        let (Places { versions, .. }, encoder) = &mut self.known;
        let place = known_place(versions, self.run, place, *encoder, || self.encoder.place(&version.0.to_le_bytes()))?;
        number(self.out, place);
        Ok(())
    }

    /// The place that a name of the run has here.
    fn place_of(&mut self, place: u64) -> Result<u64, Damage> {
        let name = self.run.name_bytes(place)?;
        let (Places { names, .. }, encoder) = &mut self.known;
        known_place(names, self.run, place, *encoder, || self.encoder.place(name))
    }
}

fn known_place(
    known: &mut Vec<(u32, u64)>,
    run: &Run,
    place: u64,
    encoder: u32,
    new: impl FnOnce() -> u64,
) -> Result<u64, Damage> {
    known.resize(run.names.len(), (u32::MAX, 0));
    let known = usize::try_from(place).ok().and_then(|place| known.get_mut(place)).ok_or("a name is not there")?;
    if known.0 != encoder {
        *known = (encoder, new());
    }
    Ok(known.1)
}

/// The names of a JSON array of texts that is written as the array would be.
fn list_of(branch: &str) -> Option<Vec<String>> {
    let list: Vec<String> = branch.starts_with('[').then(|| serde_json::from_str(branch).ok())??;
    (array_of(list.iter().map(String::as_str)) == branch).then_some(list)
}

fn array_of<T: Into<serde_json::Value>>(list: impl IntoIterator<Item = T>) -> String {
    serde_json::Value::from_iter(list).to_string()
}

fn write_counts(out: &mut Vec<u8>, counts: Counts) {
    let counts = <[u64; 3]>::from(counts);
    match FEW.iter().position(|few| *few == counts) {
        Some(few) => number(out, few as u64 + 1),
        None => {
            number(out, 0);
            counts.into_iter().for_each(|count| number(out, count));
        }
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
    /// What is added to the versions.
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
        let mut key = [0; 17];
        for _ in 0..input.number()? {
            let first = input.byte()?;
            let (done, shared) = (first >> SHARED_BITS, usize::from(first & ((1 << SHARED_BITS) - 1)));
            let own = key.get_mut(shared..).ok_or("a key is too long")?;
            let range = input.take(own.len())?;
            own.copy_from_slice(&rest[range]);
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

    /// Where something is done to this pattern.
    pub(crate) fn place(&self, key: &RawKey) -> Option<usize> {
        self.entries.binary_search_by(|(own, ..)| own.cmp(key)).ok()
    }

    /// The keys, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &RawKey> {
        self.entries.iter().map(|(key, ..)| key)
    }

    /// What is done to this pattern.
    pub(crate) fn get(&self, key: &RawKey) -> Result<Option<Entry<'static>>, Damage> {
        self.place(key).map(|place| self.entry(place)).transpose()
    }

    /// The keys from this one on and before that one, with their places.
    pub(crate) fn between(
        &self,
        from: &RawKey,
        before: Option<&RawKey>,
    ) -> impl Iterator<Item = (RawKey, usize)> + use<'_> {
        let first = self.entries.partition_point(|(key, ..)| key < from);
        let end = before.map_or(self.entries.len(), |before| self.entries.partition_point(|(key, ..)| key < before));
        (first..end).map(|place| (self.entries[place].0, place))
    }

    /// Whether the entry deletes.
    pub(crate) fn deletes(&self, place: usize) -> bool {
        self.entries[place].1 == DELETE
    }

    fn input(&self, place: usize) -> Input<'_> {
        let range = &self.entries[place].2;
        Input { bytes: &self.bytes[..range.end], at: range.start }
    }

    /// The version that is written at this place.
    fn version(&self, place: u64) -> Result<Version, Damage> {
        let version = self.name_bytes(place)?.try_into().map_err(|_| "a version is no number")?;
        Ok(Version(self.version.wrapping_add(u64::from_le_bytes(version))))
    }

    /// The entry at this place.
    pub(crate) fn entry(&self, place: usize) -> Result<Entry<'static>, Damage> {
        let (key, done, _) = &self.entries[place];
        if *done == DELETE {
            return Ok(Entry::Delete);
        }
        let mut input = self.input(place);
        let owner = self.name_bytes(input.number()?)?;
        let version = self.version(input.number()?)?;
        let pattern = Cow::Owned(self.pattern(key, owner, &mut input)?);
        match *done {
            PUT => Ok(Entry::Put(version, pattern)),
            ADD => Ok(Entry::Add(version, pattern)),
            _ => Err("it does something unknown"),
        }
    }

    fn pattern(&self, key: &RawKey, owner: &[u8], input: &mut Input<'_>) -> Result<Pattern, Damage> {
        let (learner, owner) = owner.split_first_chunk().ok_or("an owner is too short")?;
        let (trust, scope) = text(owner)?.split_once(' ').ok_or("an owner has no scope")?;
        let scope = Scope::try_from(scope.to_owned()).map_err(|_| "a scope has no such name")?;
        let kind = self.name(input)?;
        let domain = match input.number()?.checked_sub(1) {
            Some(place) => Some(text(self.name_bytes(place)?)?.to_owned()),
            None => None,
        };
        let signature: Vec<String> =
            (0..input.number()?).map(|_| self.name(input).map(str::to_owned)).collect::<Result<_, _>>()?;
        let mut branches = BTreeMap::new();
        for _ in 0..input.number()? {
            let name = self.branch(input)?;
            branches.insert(name, self.evidence(input)?);
        }
        Ok(Pattern {
            id: PatternId::new(Uuid::from_slice(&key[1..]).map_err(|_| "a pattern has no id")?),
            learner: LearnerId::new(Uuid::from_bytes(*learner)),
            scope,
            trust: Trust::named(trust).ok_or("a trust has no such name")?,
            kind: PatternKind::named(kind).ok_or("a kind has no such name")?,
            domain,
            signature,
            branches,
        })
    }

    fn branch(&self, input: &mut Input<'_>) -> Result<String, Damage> {
        let first = input.number()?;
        if first & 1 == 0 {
            return Ok(text(self.name_bytes(first >> 1)?)?.to_owned());
        }
        let list: Vec<&str> = (0..first >> 1).map(|_| self.name(input)).collect::<Result<_, _>>()?;
        Ok(array_of(list))
    }

    fn evidence(&self, input: &mut Input<'_>) -> Result<Evidence, Damage> {
        let mut evidence = Evidence::default();
        for _ in 0..input.number()? {
            let bucket = self.bucket.wrapping_add(input.signed()?);
            let counts = match input.number()? {
                0 => [input.number()?, input.number()?, input.number()?],
                few => *usize::try_from(few - 1).ok().and_then(|few| FEW.get(few)).ok_or("counts are unknown")?,
            };
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

#[cfg(test)]
mod tests {
    use memory_core::testkit::samples;

    use super::*;

    fn entries() -> Vec<(RawKey, Entry<'static>)> {
        let mut entries = Vec::new();
        for n in 0..60 {
            let mut pattern = samples::pattern(n * 7);
            pattern
                .branches
                .insert(r#"["+grep","-edit \u0007","+grep"]"#.to_owned(), samples::evidence(-3, [9, 300, 70_000]));
            pattern.branches.insert(r#"[ "not as it would be written"]"#.to_owned(), Evidence::default());
            pattern.branches.insert("[]".to_owned(), samples::evidence(i64::MIN, [1, 1, 0]));
            pattern.branches.insert(String::new(), samples::evidence(i64::MAX, [0, 0, u64::MAX]));
            pattern.domain = (n % 3 == 0).then(|| format!("domain {}", n % 2));
            let key = raw_key(&pattern.key()).unwrap();
            let version = Version(u64::from(n / 10));
            entries.push(match n % 5 {
                0 => (key, Entry::Delete),
                1 => (key, Entry::Add(version, Cow::Owned(pattern))),
                _ => (key, Entry::Put(version, Cow::Owned(pattern))),
            });
        }
        entries.sort_by_key(|(key, _)| *key);
        entries
    }

    fn encode(entries: &[(RawKey, Entry<'static>)]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        assert!(entries.iter().all(|(key, entry)| encoder.push(key, entry, usize::MAX)));
        encoder.finish()
    }

    fn entries_between(run: &Run, from: &RawKey, before: Option<&RawKey>) -> Vec<(RawKey, Entry<'static>)> {
        run.between(from, before).map(|(key, place)| (key, run.entry(place).unwrap())).collect()
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let entries = entries();
        let run = Run::parse(encode(&entries)).unwrap();
        let all = entries_between(&run, &[0; 17], None);
        assert_eq!(all, entries);
        for (key, entry) in &entries {
            assert_eq!(run.get(key).unwrap().as_ref(), Some(entry));
        }
        assert_eq!((run.get(&[9; 17]).unwrap(), run.place(&entries[3].0)), (None, Some(3)));
        let some = entries_between(&run, &entries[3].0, Some(&entries[5].0));
        assert_eq!(some, entries[3..5]);
        let later = Run::parse(encode(&entries[1..2])).unwrap().at(100).get(&entries[1].0).unwrap().unwrap();
        assert!(matches!(later, Entry::Put(Version(100..=105), _) | Entry::Add(Version(100..=105), _)), "{later:?}");
    }

    #[test]
    fn what_does_not_fit_is_left_for_the_next_run() {
        let (entries, mut encoder, mut runs) = (entries(), Encoder::default(), Vec::new());
        for (key, entry) in &entries {
            if !encoder.push(key, entry, 500) {
                runs.push(std::mem::take(&mut encoder).finish());
                assert!(encoder.push(key, entry, 500));
            }
        }
        runs.push(encoder.finish());
        assert!(runs.len() > 5 && runs.iter().all(|run| run.len() <= 600), "{:?}", runs.iter().map(Vec::len).max());
        let again = runs.into_iter().flat_map(|run| entries_between(&Run::parse(run).unwrap(), &[0; 17], None));
        assert_eq!(again.collect::<Vec<_>>(), entries);
    }

    #[test]
    fn a_copy_puts_what_stands_there() {
        let (first, second): (Vec<_>, Vec<_>) = entries().into_iter().partition(|(key, _)| key[5] % 2 == 0);
        let runs = [Run::parse(encode(&first)).unwrap().at(7), Run::parse(encode(&second)).unwrap().at(1_000)];
        let mut places: Vec<_> =
            runs.iter().flat_map(|run| run.between(&[0; 17], None).map(move |at| (at, run))).collect();
        places.retain(|((_, place), run)| !run.deletes(*place));
        places.sort_by_key(|((key, _), _)| *key);
        let (mut known, mut encoder, mut copies, mut number) =
            ([(); 2].map(|()| Places::default()), Encoder::default(), Vec::new(), 0);
        for ((_, place), run) in &places {
            let known = &mut known[usize::from(std::ptr::eq(*run, &raw const runs[1]))];
            if !encoder.copy(run, *place, (known, number), 700).unwrap() {
                copies.push(Run::parse(std::mem::take(&mut encoder).finish()).unwrap());
                number += 1;
                assert!(encoder.copy(run, *place, (known, number), 700).unwrap());
            }
        }
        copies.push(Run::parse(encoder.finish()).unwrap());
        assert!(copies.len() > 5, "{}", copies.len());
        let copied: Vec<_> = copies.iter().flat_map(|run| entries_between(run, &[0; 17], None)).collect();
        let put = |((key, place), run): &((RawKey, usize), &Run)| match run.entry(*place).unwrap() {
            Entry::Put(version, pattern) | Entry::Add(version, pattern) => (*key, Entry::Put(version, pattern)),
            Entry::Delete => unreachable!(),
        };
        assert_eq!(copied, places.iter().map(put).collect::<Vec<_>>());
    }

    #[test]
    fn damage_is_found_and_nothing_panics() {
        let good = encode(&entries());
        for place in 0..good.len() {
            assert!(Run::parse(good[..place].to_vec()).is_err(), "cut at {place}");
            let mut flipped = good.clone();
            flipped[place] ^= 1 << (place % 8);
            assert_eq!(Run::parse(flipped.clone()).err(), Some("its checksum is wrong"), "flipped at {place}");
            // As if by someone who knows of the checksum.
            let end = flipped.len() - 8;
            let checksum = xxh3_64(&flipped[..end]).to_le_bytes();
            flipped[end..].copy_from_slice(&checksum);
            if let Ok(run) = Run::parse(flipped) {
                let (mut encoder, mut known) = (Encoder::default(), Places::default());
                for (_, place) in run.between(&[0; 17], None).filter(|(_, place)| !run.deletes(*place)) {
                    let _ = (run.entry(place), encoder.copy(&run, place, (&mut known, 0), usize::MAX));
                }
            }
        }
    }
}
