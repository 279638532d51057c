//! What records look like in the database.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use libsql::Value;
use memory_core::ranking::Terms;
use memory_core::{
    Episode, EpisodeId, Error, Key, LearnerId, LoggedEpisode, NoteId, PatternId, Record, RecordKind, Result, Searched,
    StoredNote, Trust, Vector, Version,
};
use serde::Serialize;
use uuid::Uuid;

use crate::error::corrupt_record;
use crate::session::Row;

/// The most bytes of an encoded record.
pub(crate) const MAX_BODY: usize = Episode::MAX_ENCODED_BYTES;

/// The bytes that stand for a key among those of its kind. They sort as keys do.
pub(crate) fn key_bytes(key: &Key) -> Vec<u8> {
    match key {
        Key::Space => Vec::new(),
        Key::Watermark(id) => id.as_uuid().as_bytes().to_vec(),
        Key::Episode(id) | Key::Open(id) => id.as_uuid().as_bytes().to_vec(),
        Key::Step(id, index) => [id.as_uuid().as_bytes().as_slice(), &index.to_be_bytes()].concat(),
        Key::Pattern(id) | Key::Habit(id) => id.as_uuid().as_bytes().to_vec(),
        Key::Note(id) => id.as_uuid().as_bytes().to_vec(),
        Key::Unembedded(id) => id.as_bytes().to_vec(),
    }
}

/// The key of this kind that these bytes stand for.
pub(crate) fn key(kind: RecordKind, bytes: &[u8]) -> Option<Key> {
    let uuid = || Uuid::from_slice(bytes).ok();
    match kind {
        RecordKind::Space => bytes.is_empty().then_some(Key::Space),
        RecordKind::Watermark => uuid().map(|uuid| Key::Watermark(LearnerId::new(uuid))),
        RecordKind::Episode => uuid().map(|uuid| Key::Episode(EpisodeId::new(uuid))),
        RecordKind::Open => uuid().map(|uuid| Key::Open(EpisodeId::new(uuid))),
        RecordKind::Step => {
            let (id, index) = bytes.split_last_chunk::<4>()?;
            Some(Key::Step(EpisodeId::new(Uuid::from_slice(id).ok()?), u32::from_be_bytes(*index)))
        }
        RecordKind::Pattern => uuid().map(|uuid| Key::Pattern(PatternId::new(uuid))),
        RecordKind::Habit => uuid().map(|uuid| Key::Habit(PatternId::new(uuid))),
        RecordKind::Note => uuid().map(|uuid| Key::Note(NoteId::new(uuid))),
        RecordKind::Unembedded => uuid().map(Key::Unembedded),
    }
}

/// The kind of this name.
pub(crate) fn record_kind(name: &[u8]) -> Option<RecordKind> {
    RecordKind::ALL.into_iter().find(|kind| kind.as_str().as_bytes() == name)
}

/// The JSON text of a record.
pub(crate) fn encode(record: &impl Serialize) -> Result<String> {
    let body = serde_json::to_string(record)
        .map_err(|error| Error::invalid("record", "not encodable", "values with a JSON form").with_source(error))?;
    if body.len() <= MAX_BODY {
        return Ok(body);
    }
    Err(Error::invalid("encoded record", format_args!("{} bytes", body.len()), format_args!("up to {MAX_BODY} bytes")))
}

/// The record whose JSON text this is, with its vector if it is of a kind that has one.
pub(crate) fn decode(key: &Key, body: &[u8], vector: Option<Vector>) -> Result<Record> {
    let record = match key.kind() {
        RecordKind::Space => serde_json::from_slice(body).map(Record::Space),
        RecordKind::Watermark => serde_json::from_slice(body).map(Record::Watermark),
        RecordKind::Open => serde_json::from_slice(body).map(Record::Open),
        RecordKind::Step => serde_json::from_slice(body).map(Record::Step),
        RecordKind::Unembedded => serde_json::from_slice(body).map(Record::Unembedded),
        RecordKind::Pattern | RecordKind::Habit => serde_json::from_slice(body).map(Record::Pattern),
        RecordKind::Episode => serde_json::from_slice(body)
            .map(|episode| Record::Episode(LoggedEpisode { episode: Arc::new(episode), vector })),
        RecordKind::Note => {
            serde_json::from_slice(body).map(|note| Record::Note(StoredNote { note: Arc::new(note), vector }))
        }
    };
    let record = record.map_err(|error| corrupt_record(key, error))?;
    // A body that decodes but belongs to another key was not written there by this library.
    if record.key() == *key {
        return Ok(record);
    }
    let error = serde::de::Error::custom(format_args!("it is {:?}", record.key()));
    Err(corrupt_record(key, error))
}

/// A column of a row that holds the JSON text of the record with this key, or nothing where it is too long to be one.
pub(crate) fn body(row: &Row<'_>, index: i32) -> Result<Vec<u8>> {
    let too_long = || row.corrupt(index, format_args!("more than {MAX_BODY} bytes"));
    row.optional_blob(index)?.ok_or_else(too_long)
}

/// A vector as little-endian floats.
pub(crate) fn encode_vector(vector: &Vector) -> Value {
    Value::Blob(vector.as_slice().iter().flat_map(|component| component.to_le_bytes()).collect())
}

/// A column that holds a vector.
pub(crate) fn vector(row: &Row<'_>, index: i32) -> Result<Option<Vector>> {
    let Some(bytes) = row.optional_blob(index)? else { return Ok(None) };
    let (components, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(row.corrupt(index, format_args!("{} bytes, not a multiple of 4", bytes.len())));
    }
    let vector = Vector::new(components.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
    vector.map(Some).map_err(|error| row.corrupt(index, error))
}

/// A column that holds the id of an episode or a note.
pub(crate) fn record_key(row: &Row<'_>, index: i32, kind: Searched) -> Result<Key> {
    let bytes = row.blob(index)?;
    let kind = match kind {
        Searched::Episodes => RecordKind::Episode,
        Searched::Notes => RecordKind::Note,
    };
    key(kind, &bytes).ok_or_else(|| row.corrupt(index, format_args!("{} bytes, which are no id", bytes.len())))
}

/// Checks that a record has no numbers that JSON has not.
pub(crate) fn check_numbers(record: &Record) -> Result<()> {
    let (field, number) = match record {
        Record::Episode(logged) => ("outcome.reward", logged.episode.outcome.reward),
        Record::Note(stored) => ("note.salience", Some(stored.note.salience)),
        _ => return Ok(()),
    };
    match number.filter(|number| !number.is_finite()) {
        Some(number) => Err(Error::invalid(field, number, "finite numbers")),
        None => Ok(()),
    }
}

/// A moment as two integers that sort as moments do: microseconds since 1970, and nanoseconds beyond. The second is below
/// 1,000, except within a leap second, which counts as a long last microsecond of the second before it.
pub(crate) fn moment(at: DateTime<Utc>) -> (i64, i64) {
    let nanos = i64::from(at.timestamp_subsec_nanos());
    let micros = (nanos / 1_000).min(999_999);
    (at.timestamp() * 1_000_000 + micros, nanos - micros * 1_000)
}

/// The moment of two such columns.
pub(crate) fn moment_at(row: &Row<'_>, micros: i32) -> Result<DateTime<Utc>> {
    let (at, beyond) = (row.integer(micros)?, row.integer(micros + 1)?);
    let nanos = (at.rem_euclid(1_000_000) * 1_000).checked_add(beyond).and_then(|nanos| u32::try_from(nanos).ok());
    let moment = nanos.and_then(|nanos| DateTime::from_timestamp(at.div_euclid(1_000_000), nanos));
    moment.ok_or_else(|| row.corrupt(micros, format_args!("no moment: {at} µs + {beyond} ns")))
}

/// A column that holds a version.
pub(crate) fn version(row: &Row<'_>, index: i32) -> Result<Version> {
    row.count(index).map(Version)
}

/// How far a source is trusted, as a number that rises with trust.
pub(crate) fn trust(trust: Trust) -> Value {
    Value::Integer(i64::from(trust >= Trust::Trusted))
}

/// A count or a version as SQLite holds it. Nothing counts up to the numbers that it cannot hold.
pub(crate) fn integer(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// The two texts of a record that are searched by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Words,
    Trace,
    Note,
}

/// A term as the text index holds it, without scope and count. FTS5 cuts long tokens, so that long terms are named by their
/// hash.
pub(crate) fn indexed_term(field: Field, term: &str) -> String {
    const LONGEST: usize = 1_000;
    let letter = match field {
        Field::Words => 'w',
        Field::Trace => 't',
        Field::Note => 'n',
    };
    if term.len() <= LONGEST {
        return format!("{letter}{term}");
    }
    format!("{letter}{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, term.as_bytes()).simple())
}

/// What the text index holds of a record, each token behind a space and without the id of the scope, which its writer knows.
pub(crate) fn tokens(field: Field, terms: &Terms) -> String {
    terms.iter().map(|(term, frequency)| format!(" {}·{frequency}", indexed_term(field, term))).collect()
}

/// The [tokens](tokens) in this scope.
pub(crate) fn tokens_in_scope(tokens: &str, scope: u64) -> String {
    tokens.replace(' ', &format!(" {scope}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_sort_alike() {
        let [low, high] = [Uuid::from_u128(1 << 120), Uuid::from_u128(2 << 120)].map(EpisodeId::new);
        let keys = [Key::Step(low, 0), Key::Step(low, 255), Key::Step(low, 256), Key::Step(high, 1)];
        assert!(keys.is_sorted());
        assert!(keys.iter().map(key_bytes).is_sorted());
        for one in keys.into_iter().chain([Key::Space, Key::Open(low), Key::Episode(high)]) {
            assert_eq!(key(one.kind(), &key_bytes(&one)), Some(one));
        }
        assert_eq!(key(RecordKind::Step, &[1, 2, 3]), None);
        assert_eq!(key(RecordKind::Space, &[0]), None);
    }

    #[test]
    fn tokens_name_scope_field_term_and_count() {
        let mut terms = Terms::of("naïve tests");
        terms.add("test", 4);
        terms.add(&"x".repeat(1_001), 1);
        let tokens = tokens(Field::Words, &terms) + &tokens(Field::Trace, &Terms::of("login 1"));
        let tokens = tokens_in_scope(&tokens, 12);
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, "x".repeat(1_001).as_bytes()).simple();
        assert_eq!(tokens, format!(" 12wnaïv·1 12wtest·5 12w{hash}·1 12t1·1 12tlogin·1"));
        assert_eq!(tokens_in_scope("", 12), "");
    }

    #[test]
    fn moments_sort_as_their_integers_do() {
        let texts = [
            "-0001-05-05T05:05:05.000000001Z",
            "1969-12-31T23:59:59.999999999Z",
            "1970-01-01T00:00:00Z",
            "2016-12-31T23:59:59.999999999Z",
            "2016-12-31T23:59:60.000000001Z",
            "2016-12-31T23:59:60.5Z",
            "2017-01-01T00:00:00Z",
            "2017-01-01T00:00:00.000001001Z",
        ];
        let moments: Vec<DateTime<Utc>> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(moments.is_sorted());
        assert!(moments.iter().map(|at| moment(*at)).is_sorted_by(|a, b| a < b));
        assert_eq!(moment(DateTime::<Utc>::MAX_UTC).1, 999);
    }
}
