//! The codec, for the fuzzers of this repository.

use memory_core::{Key, Record, Result};

use crate::codec;

/// The JSON text of a record.
///
/// # Errors
/// Those of the codec.
pub fn encode(record: &Record) -> Result<String> {
    match record {
        Record::Space(space) => codec::encode(space),
        Record::Watermark(watermark) => codec::encode(watermark),
        Record::Episode(logged) => codec::encode(&logged.episode),
        Record::Open(open) => codec::encode(open),
        Record::Step(step) => codec::encode(step),
        Record::Pattern(pattern) => codec::encode(pattern),
        Record::Note(stored) => codec::encode(&stored.note),
        Record::Unembedded(id) => codec::encode(id),
    }
}

/// The record whose JSON text this is.
///
/// # Errors
/// Those of the codec.
pub fn decode(key: &Key, body: &[u8]) -> Result<Record> {
    codec::decode(key, body, None)
}
