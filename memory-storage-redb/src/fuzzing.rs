//! The codec, for the fuzzers of this repository.

use memory_core::{Key, Record, Result, Stored, Vector, Version};

use crate::codec;

/// The bytes of a record as of this version.
///
/// # Errors
/// Those of the codec.
pub fn encode(record: &Record, version: Version) -> Result<Vec<u8>> {
    codec::encode(record).map(|encoded| encoded.at(version))
}

/// The record whose bytes these are.
///
/// # Errors
/// Those of the codec.
pub fn decode(key: &Key, bytes: &[u8], vector: Option<Vector>) -> Result<Stored> {
    codec::decode(key, bytes, vector)
}

/// The bytes of a record with the checksum that they need.
pub fn sealed(key: &Key, record: Vec<u8>) -> Vec<u8> {
    codec::sealed(record, codec::seed(key))
}

/// The key that these bytes stand for.
///
/// # Errors
/// Those of the codec.
pub fn key(bytes: &[u8]) -> Result<Key> {
    codec::key(bytes)
}
