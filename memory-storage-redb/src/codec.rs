//! Records and keys as bytes: the one module that knows bincode.
//!
//! A record is
//!
//! ```text
//! format u8 | version u64 | length of scope u16 | scope | payload | checksum u64
//! ```
//!
//! with all numbers little-endian. The checksum is xxh3 of all before it, seeded by that of the key, so that the bytes of one
//! record are not those of another. The payload is a struct of the format (see [`v1`]) as bincode writes it, which cannot tell
//! by itself whether bytes are what was written: of 1,000 single flipped bits it decodes 845 to another record. Hence the
//! checksum, the check that all bytes were consumed, and that the record has the key it was asked for by. Bytes of an old
//! format are decoded by the structs of that format, for ever.
//!
//! The vector of a record is not in it: searches read vectors alone, and many of them.

mod v1;

use std::ops::Deref;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use memory_core::{
    Episode, EpisodeId, Error, ErrorKind, Key, LearnerId, NoteId, PatternId, Record, RecordKind, Result, Scope, Stored,
    Vector, Version,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The format that is written.
const FORMAT: u8 = 1;

/// The most bytes of a payload, when written and when read.
pub(crate) const MAX_PAYLOAD: usize = Episode::MAX_ENCODED_BYTES;

/// What bincode may read. It counts every number in full, eight bytes where one is stored; what it reads from is never longer
/// than a payload may be.
const LIMIT: usize = 8 * MAX_PAYLOAD;

const CONFIG: Configuration<LittleEndian, Varint, Limit<LIMIT>> = bincode::config::standard().with_limit();

/// Format, version and length of the scope.
const HEADER: usize = 1 + 8 + 2;
const CHECKSUM: usize = 8;

/// Where the version stands.
const VERSION: std::ops::Range<usize> = 1..9;

/// A record that is encoded but for the version it will have.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// All but the checksum, with version 0.
    bytes: Vec<u8>,
    /// The key's part in the checksum.
    seed: u64,
}

impl Encoded {
    /// The bytes of the record as of this version.
    pub(crate) fn at(&self, version: Version) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + CHECKSUM);
        bytes.extend_from_slice(&self.bytes);
        bytes[VERSION].copy_from_slice(&version.0.to_le_bytes());
        sealed(bytes, self.seed)
    }
}

/// All that comes before the checksum, and the checksum.
pub(crate) fn sealed(mut bytes: Vec<u8>, seed: u64) -> Vec<u8> {
    let checksum = xxh3_64_with_seed(&bytes, seed);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The key's part in the checksum of what is stored under it.
pub(crate) fn seed(key: &Key) -> u64 {
    xxh3_64(&key_bytes(key))
}

/// Encodes a record without its vector.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) above [`MAX_PAYLOAD`], and for a value of an enum that this version does not know.
pub(crate) fn encode(record: &Record) -> Result<Encoded> {
    let scope = record.scope().map_or("", Scope::as_str);
    let length = u16::try_from(scope.len())
        .map_err(|_| Error::invalid("scope", format_args!("{} bytes", scope.len()), "up to 65535 bytes"))?;
    let mut bytes = Vec::with_capacity(512);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&[0; 8]); // The version comes here.
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(scope.as_bytes());
    let payload = bytes.len();
    v1::encode(record, &mut Payload { start: payload, bytes: &mut bytes, full: false })?;
    Ok(Encoded { bytes, seed: seed(&record.key()) })
}

/// Decodes the record that is stored under this key; `vector` is what is stored as its vector.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) for everything that [`encode`] did not make of a record with this key and such a vector;
/// [`SchemaTooNew`](ErrorKind::SchemaTooNew) for a format of a newer version of this library.
pub(crate) fn decode(key: &Key, bytes: &[u8], vector: Option<Vector>) -> Result<Stored> {
    let Parts { version, scope, payload } = Parts::of(key, bytes)?;
    let decoded = match bytes.first() {
        Some(1) => v1::decode(key.kind(), scope, payload, vector),
        _ => Err(Unfit::of("its format is unknown")), // Parts have told of newer ones.
    };
    let record = decoded.map_err(|unfit| unfit.of_record(key))?;
    if record.key() == *key {
        return Ok(Stored { version, record });
    }
    Err(Unfit(format!("it is {:?}", record.key())).of_record(key))
}

/// The version of the record that is stored under this key. All is checked by the checksum, and nothing else decoded.
pub(crate) fn version(key: &Key, bytes: &[u8]) -> Result<Version> {
    Parts::of(key, bytes).map(|parts| parts.version)
}

/// The scope of the record that is stored under this key, as text; empty if it has none. Checked as by [`version`].
pub(crate) fn scope<'a>(key: &Key, bytes: &'a [u8]) -> Result<&'a str> {
    Parts::of(key, bytes).map(|parts| parts.scope)
}

/// The parts of the bytes of a record that was read whole.
struct Parts<'a> {
    version: Version,
    scope: &'a str,
    payload: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(key: &Key, bytes: &'a [u8]) -> Result<Self> {
        Self::read(bytes, seed(key)).map_err(|unfit| unfit.of_record(key)).and_then(|parts| {
            let too_new = bytes.first().is_some_and(|format| *format > FORMAT);
            if too_new { Err(too_new_format(key, bytes[0])) } else { Ok(parts) }
        })
    }

    /// The layout around the payload is that of all formats.
    fn read(bytes: &'a [u8], seed: u64) -> Result<Self, Unfit> {
        let cut = || Unfit::of("it is cut off");
        if bytes.len() > HEADER + usize::from(u16::MAX) + MAX_PAYLOAD + CHECKSUM {
            return Err(Unfit(format!("it has {} bytes, more than a record may have", bytes.len())));
        }
        let (sealed, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(cut)?;
        if xxh3_64_with_seed(sealed, seed).to_le_bytes() != *checksum {
            return Err(Unfit::of("its checksum is wrong"));
        }
        let (_format, rest) = sealed.split_first().ok_or_else(cut)?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (scope, payload) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or_else(cut)?;
        if payload.len() > MAX_PAYLOAD {
            return Err(Unfit(format!("its payload has {} bytes of at most {MAX_PAYLOAD}", payload.len())));
        }
        let scope = std::str::from_utf8(scope).map_err(|_| Unfit::of("its scope is no text"))?;
        Ok(Self { version: Version(u64::from_le_bytes(*version)), scope, payload })
    }
}

fn too_new_format(key: &Key, format: u8) -> Error {
    let message = format!("the stored {key:?} has format {format}; this version of the library reads up to {FORMAT}");
    Error::new(ErrorKind::SchemaTooNew, message)
}

/// Why bytes are not what was written.
#[derive(Debug)]
struct Unfit(String);

impl Unfit {
    fn of(why: &str) -> Self {
        Self(why.to_owned())
    }

    fn of_record(self, key: &Key) -> Error {
        Error::new(ErrorKind::Corrupt, format!("the stored {key:?} does not decode: {}", self.0))
    }
}

impl From<DecodeError> for Unfit {
    fn from(error: DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// Where the payload of a record is written, behind what is there already. It takes as much as may be read again.
struct Payload<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
    full: bool,
}

impl Payload<'_> {
    fn put(&mut self, payload: &impl Serialize) -> Result<()> {
        match bincode::serde::encode_into_writer(payload, &mut *self, CONFIG) {
            Ok(()) => Ok(()),
            Err(_) if self.full => {
                let range = format_args!("up to {MAX_PAYLOAD} bytes").to_string();
                Err(Error::invalid("encoded record", format_args!("more than {MAX_PAYLOAD} bytes"), range))
            }
            Err(error) => {
                let range = "values with a binary form";
                Err(Error::invalid("record", "not encodable", range).with_source(error))
            }
        }
    }
}

impl Writer for &mut Payload<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if self.bytes.len() - self.start + bytes.len() > MAX_PAYLOAD {
            self.full = true;
            return Err(EncodeError::Other("too large"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads a payload, all of it. No length in it can make it allocate more than there are bytes.
fn get<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Unfit> {
    let (value, consumed) = bincode::serde::decode_from_slice(payload, CONFIG)?;
    if consumed == payload.len() {
        return Ok(value);
    }
    Err(Unfit(format!("{} bytes are left over", payload.len() - consumed)))
}

/// A vector as it is stored under the key of its record: little-endian floats, and a checksum that also knows the key.
pub(crate) fn encode_vector(key: &Key, vector: &Vector) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vector.dimensions() * size_of::<f32>() + CHECKSUM);
    bytes.extend(vector.as_slice().iter().flat_map(|component| component.to_le_bytes()));
    sealed(bytes, seed(key))
}

/// What is stored instead of the vector of a record that has none: no floats, and their checksum.
pub(crate) fn encode_no_vector(key: &Key) -> [u8; CHECKSUM] {
    xxh3_64_with_seed(&[], seed(key)).to_le_bytes()
}

/// The vector that is stored under this key.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) for everything that [`encode_vector`] did not make for this key.
pub(crate) fn decode_vector(key: &Key, bytes: &[u8]) -> Result<Vector> {
    let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, format!("the stored vector of {key:?} {why}"));
    let (floats, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(|| corrupt("is cut off"))?;
    if xxh3_64_with_seed(floats, seed(key)).to_le_bytes() != *checksum {
        return Err(corrupt("has a wrong checksum"));
    }
    let (floats, []) = floats.as_chunks::<4>() else { return Err(corrupt("is cut off")) };
    let components = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Vector::new(components).map_err(|error| corrupt("is none").with_source(error))
}

/// The bytes that stand for a key. They sort as keys do.
#[derive(Clone, Copy)]
pub(crate) struct KeyBytes {
    bytes: [u8; Self::MOST],
    length: usize,
}

impl KeyBytes {
    /// Kind, UUID, and place of a step.
    const MOST: usize = 1 + 16 + 4;
}

impl Deref for KeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The first byte of the keys of each kind, for ever. They sort as kinds do.
const KINDS: [(u8, RecordKind); 9] = [
    (1, RecordKind::Space),
    (2, RecordKind::Watermark),
    (3, RecordKind::Episode),
    (4, RecordKind::Open),
    (5, RecordKind::Step),
    (6, RecordKind::Pattern),
    (7, RecordKind::Habit),
    (8, RecordKind::Note),
    (9, RecordKind::Unembedded),
];

/// The byte that the keys of this kind begin with.
pub(crate) const fn kind_byte(kind: RecordKind) -> u8 {
    match kind {
        RecordKind::Space => 1,
        RecordKind::Watermark => 2,
        RecordKind::Episode => 3,
        RecordKind::Open => 4,
        RecordKind::Step => 5,
        RecordKind::Pattern => 6,
        RecordKind::Habit => 7,
        RecordKind::Note => 8,
        RecordKind::Unembedded => 9,
    }
}

/// The bytes of a key.
pub(crate) fn key_bytes(key: &Key) -> KeyBytes {
    let mut bytes = [0; KeyBytes::MOST];
    bytes[0] = kind_byte(key.kind());
    let uuid = match key {
        Key::Space => return KeyBytes { bytes, length: 1 },
        Key::Watermark(id) => id.as_uuid(),
        Key::Episode(id) | Key::Open(id) | Key::Step(id, _) => id.as_uuid(),
        Key::Pattern(id) | Key::Habit(id) => id.as_uuid(),
        Key::Note(id) => id.as_uuid(),
        Key::Unembedded(id) => id,
    };
    bytes[1..17].copy_from_slice(uuid.as_bytes());
    let Key::Step(_, index) = key else { return KeyBytes { bytes, length: 17 } };
    bytes[17..].copy_from_slice(&index.to_be_bytes());
    KeyBytes { bytes, length: KeyBytes::MOST }
}

/// The key that these bytes stand for.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) for bytes that stand for none.
pub(crate) fn key(bytes: &[u8]) -> Result<Key> {
    read_key(bytes)
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{bytes:02x?} is stored as the key of a record")))
}

fn read_key(bytes: &[u8]) -> Option<Key> {
    let (first, rest) = bytes.split_first()?;
    let (_, kind) = KINDS.iter().find(|(byte, _)| byte == first)?;
    let uuid = || Uuid::from_slice(rest).ok();
    Some(match kind {
        RecordKind::Space if rest.is_empty() => Key::Space,
        RecordKind::Space => return None,
        RecordKind::Watermark => Key::Watermark(LearnerId::new(uuid()?)),
        RecordKind::Episode => Key::Episode(EpisodeId::new(uuid()?)),
        RecordKind::Open => Key::Open(EpisodeId::new(uuid()?)),
        RecordKind::Step => {
            let (id, index) = rest.split_last_chunk::<4>()?;
            Key::Step(EpisodeId::new(Uuid::from_slice(id).ok()?), u32::from_be_bytes(*index))
        }
        RecordKind::Pattern => Key::Pattern(PatternId::new(uuid()?)),
        RecordKind::Habit => Key::Habit(PatternId::new(uuid()?)),
        RecordKind::Note => Key::Note(NoteId::new(uuid()?)),
        RecordKind::Unembedded => Key::Unembedded(uuid()?),
    })
}

#[cfg(test)]
mod tests;
