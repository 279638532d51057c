//! What a cache remembers of its primary, as bytes: where it stands, and how to know the primary again.

use std::collections::VecDeque;

use memory_core::{Error, ErrorKind, FeedEntry, Key, Record, Result, Stored, Version};
use xxhash_rust::xxh3::xxh3_64;

use crate::codec;

/// What the bytes begin with, of this format of the whole file. Another one is made anew.
const MAGIC: u64 = 0x4B48_4F54_0000_0001;

/// How many entries of the feed are remembered.
const TAIL: usize = 64;

/// What a cache remembers of its primary.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Everything up to here has been told.
    pub(super) version: Version,
    /// The primary's vector space.
    pub(super) space: Option<Stored>,
    /// The last entries of the feed that were told.
    pub(super) tail: Tail,
}

/// The last entries of a feed, by rising version: what a primary must tell again to be the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tail(VecDeque<FeedEntry>);

impl Tail {
    pub(super) fn push(&mut self, entry: FeedEntry) {
        // Each record is in a feed once.
        self.0.retain(|earlier| earlier.key != entry.key);
        self.0.push_back(entry);
        if self.0.len() > TAIL {
            self.0.pop_front();
        }
    }

    pub(super) fn first(&self) -> Option<&FeedEntry> {
        self.0.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FeedEntry> {
        self.0.iter()
    }
}

impl State {
    /// With a checksum.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let Self { version, space, tail } = self;
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend(version.0.to_le_bytes());
        bytes.extend((tail.0.len() as u64).to_le_bytes());
        for FeedEntry { version, key, deleted } in tail.iter() {
            let key = codec::key_bytes(key);
            bytes.push(u8::try_from(key.len()).unwrap_or_default());
            bytes.extend(&*key);
            bytes.push(u8::from(*deleted));
            bytes.extend(version.0.to_le_bytes());
        }
        if let Some(Stored { version, record }) = space {
            bytes.extend(codec::encode(record)?.at(*version));
        }
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        Ok(bytes)
    }

    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) for what [`to_bytes`](Self::to_bytes) did not make.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (content, checksum) = bytes.split_last_chunk().ok_or_else(|| corrupt("cut off"))?;
        if xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return Err(corrupt("not what was written"));
        }
        let mut rest = content;
        if number(&mut rest)? != MAGIC {
            return Err(corrupt("of another format"));
        }
        let version = Version(number(&mut rest)?);
        let tail = (0..number(&mut rest)?).map(|_| {
            let [length] = chunk(&mut rest)?;
            let (key, after) = rest.split_at_checked(length.into()).ok_or_else(|| corrupt("cut off"))?;
            rest = after;
            let [deleted] = chunk(&mut rest)?;
            Ok(FeedEntry { key: codec::key(key)?, deleted: deleted != 0, version: Version(number(&mut rest)?) })
        });
        let tail = Tail(tail.collect::<Result<_>>()?);
        let space = if rest.is_empty() { None } else { Some(codec::decode(&Key::Space, rest, None)?) };
        Ok(Self { version, space, tail })
    }

    pub(super) fn vector_space(&self) -> Option<&memory_core::VectorSpace> {
        match &self.space {
            Some(Stored { record: Record::Space(space), .. }) => Some(space),
            _ => None,
        }
    }
}

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("what the cache remembers of its primary is {why}"))
}

fn chunk<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (first, after) = rest.split_first_chunk().ok_or_else(|| corrupt("cut off"))?;
    *rest = after;
    Ok(*first)
}

fn number(rest: &mut &[u8]) -> Result<u64> {
    Ok(u64::from_le_bytes(chunk(rest)?))
}

#[cfg(test)]
mod tests {
    use memory_core::testkit::samples;

    use super::*;

    fn state() -> State {
        let mut tail = Tail::default();
        let keys = (0..100).map(|n| Key::Episode(samples::episode_id(n % 90)));
        let others = [Key::Space, Key::Note(samples::note_id(7)), Key::Watermark(samples::learner(1))];
        for (version, key) in (1..).zip(keys.chain(others)) {
            tail.push(FeedEntry { version: Version(version), key, deleted: version % 7 == 0 });
        }
        let space = Some(Stored { version: Version(101), record: Record::Space(samples::space(384)) });
        State { version: Version(200), space, tail }
    }

    #[test]
    fn the_tail_has_each_record_once_and_ends_with_the_last() {
        let State { tail, .. } = state();
        assert_eq!((tail.iter().count(), tail.first().unwrap().version), (TAIL, Version(103 - 63)));
        let mut again = Tail::default();
        for version in 1..9 {
            again.push(FeedEntry { version: Version(version), key: Key::Space, deleted: false });
        }
        assert_eq!((again.iter().count(), again.first().unwrap().version), (1, Version(8)));
    }

    #[test]
    fn a_state_comes_back_and_a_damaged_one_does_not() {
        for state in [State::default(), state(), State { space: None, ..state() }] {
            let bytes = state.to_bytes().unwrap();
            assert_eq!(State::from_bytes(&bytes).unwrap(), state);
            for place in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[place] ^= 1 << (place % 8);
                assert_eq!(State::from_bytes(&flipped).unwrap_err().kind(), ErrorKind::Corrupt, "{place}");
                assert_eq!(State::from_bytes(&bytes[..place]).unwrap_err().kind(), ErrorKind::Corrupt, "{place}");
            }
        }
    }
}
