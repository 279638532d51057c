use std::collections::BTreeSet;
use std::path::PathBuf;

use memory_core::testkit::samples;
use memory_core::{Counts, Evidence, Feedback, HeuristicId, LoggedEpisode, Place, Receipt, Source, StoredNote};
use proptest::prelude::*;

use super::*;

/// One record of every kind with every field set, fixed for ever: what the golden files hold.
fn golden() -> Vec<(&'static str, Record)> {
    let text = "grün \0 '; DROP TABLE";
    let mut episode = samples::episode_full_of(7, text);
    (episode.steps[0].latency_ms, episode.steps[1].tokens) = (Some(12), Some(u64::MAX));
    (episode.outcome.reward, episode.source) = (Some(0.25), Source::untrusted("forum"));
    episode.receipt = Some(receipt());
    let mut open = samples::open(8);
    (open.receipt, open.state) = (Some(receipt()), Some(text.to_owned()));
    let mut pattern = samples::pattern(9);
    pattern.domain = Some(text.to_owned());
    pattern.branches.insert(text.to_owned(), evidence());
    let mut habit = samples::habit(10);
    habit.signature.clear();
    let mut note = samples::note_full_of(11, text);
    note.place = note.place.map(|place| place.at(samples::time(3)));
    note.expires_at = Some(samples::time(99));
    vec![
        ("space", Record::Space(samples::space(384))),
        ("watermark", samples::watermark(6, u64::MAX)),
        ("episode", samples::logged_with(episode, vector())),
        ("open", Record::Open(open)),
        ("step", Record::Step(samples::step(8, 70_000))),
        ("pattern", Record::Pattern(pattern)),
        ("habit", Record::Pattern(habit)),
        ("note", samples::noted_with(note, vector())),
    ]
}

fn receipt() -> Receipt {
    let advice = HeuristicId::new(samples::uuid(5));
    let mut receipt = Receipt { withheld: true, ..Receipt::default() };
    receipt.advice.insert(advice, true);
    receipt.episodes.extend([samples::episode_id(1), samples::episode_id(2)]);
    receipt.pitfalls.insert(PatternId::new(samples::uuid(3)));
    receipt.notes.insert(samples::note_id(4));
    receipt.feedback.insert(advice, Feedback::Harmful);
    receipt
}

fn evidence() -> Evidence {
    let mut evidence = Evidence::in_bucket(-9, Counts::from([1, 300, 70_000]));
    evidence.add(&Evidence::in_bucket(20_000, Counts::from([1, 2, u64::MAX])));
    evidence
}

fn vector() -> Vector {
    samples::vector(&[1.0, -0.0, f32::MIN_POSITIVE, f32::MAX])
}

fn vector_of(record: &Record) -> Option<Vector> {
    match record {
        Record::Episode(LoggedEpisode { vector, .. }) | Record::Note(StoredNote { vector, .. }) => vector.clone(),
        _ => None,
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1").join(name)
}

fn bytes(record: &Record) -> Vec<u8> {
    encode(record).unwrap().at(Version(0x0102_0304_0506_0708))
}

fn refused(key: &Key, bytes: &[u8], vector: Option<Vector>) -> String {
    let error = decode(key, bytes, vector).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    error.to_string()
}

/// The bytes with a checksum that fits this key, as if by someone who knows of it.
fn resealed(key: &Key, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - CHECKSUM);
    sealed(bytes, seed(key))
}

/// How many bytes a record has beside the header and its scope.
fn payload(record: &Record) -> usize {
    let scope = record.scope().map_or(0, |scope| scope.as_str().len());
    encode(record).unwrap().bytes.len() - HEADER - scope
}

#[test]
#[ignore = "writes the files of a new format; those of a format that was released must never change"]
fn write_golden_files() {
    for (name, record) in golden() {
        std::fs::create_dir_all(file("")).unwrap();
        std::fs::write(file(name), bytes(&record)).unwrap();
    }
    std::fs::write(file("vector"), encode_vector(&Key::Episode(samples::episode_id(7)), &vector())).unwrap();
}

#[test]
fn files_of_format_1_are_read_for_ever() {
    for (name, record) in golden() {
        let stored = decode(&record.key(), &std::fs::read(file(name)).unwrap(), vector_of(&record)).unwrap();
        assert_eq!(stored, Stored { version: Version(0x0102_0304_0506_0708), record }, "{name}");
    }
    let stored = std::fs::read(file("vector")).unwrap();
    assert_eq!(decode_vector(&Key::Episode(samples::episode_id(7)), &stored).unwrap(), vector());
}

#[test]
fn records_are_written_in_format_1() {
    for (name, record) in golden() {
        assert_eq!(bytes(&record), std::fs::read(file(name)).unwrap(), "{name}");
    }
    let stored = encode_vector(&Key::Episode(samples::episode_id(7)), &vector());
    assert_eq!(stored, std::fs::read(file("vector")).unwrap());
}

/// Structs that cannot be matched exhaustively from here: their fields by name, as serde tells them.
#[test]
fn no_field_is_left_out() {
    fn fields(value: &impl Serialize) -> BTreeSet<String> {
        let serde_json::Value::Object(object) = serde_json::to_value(value).unwrap() else { panic!("no struct") };
        object.into_iter().map(|(name, _)| name).collect()
    }
    fn names(names: &str) -> BTreeSet<String> {
        names.split(' ').map(str::to_owned).collect()
    }
    let episode = samples::episode_full_of(1, "x");
    let known = "id scope task steps outcome started_at completed_at source receipt";
    assert_eq!(fields(&episode), names(known));
    assert_eq!(fields(&episode.task), names("text domain language tags environment"));
    assert_eq!(fields(&episode.steps[0]), names("tool action input observation ok latency_ms tokens"));
    assert_eq!(fields(&episode.outcome), names("verdict summary reward reflection artifacts"));
    let note = samples::note_full_of(1, "x");
    let told = "text kind source tags salience created_at updated_at expires_at seen";
    assert_eq!(fields(&note), names(&format!("{told} id scope trust place tellings")));
    assert_eq!(fields(&note.tellings["s-1"]), names(told));
    assert_eq!(fields(&Place::new("x", 1)), names("thread position at"));
}

#[test]
fn awkward_texts_come_back() {
    for text in samples::awkward_texts() {
        for record in
            [samples::logged(samples::episode_full_of(1, &text)), samples::noted(samples::note_full_of(2, &text))]
        {
            assert_eq!(decode(&record.key(), &bytes(&record), None).unwrap().record, record, "{text:?}");
        }
    }
}

#[test]
fn version_and_scope_are_read_alone() {
    let record = samples::noted(samples::note_full_of(2, "x"));
    let bytes = bytes(&record);
    assert_eq!(version(&record.key(), &bytes).unwrap(), Version(0x0102_0304_0506_0708));
    assert_eq!(scope(&record.key(), &bytes).unwrap(), "acme/coder");
    let step = Record::Step(samples::step(1, 2));
    assert_eq!(scope(&step.key(), &self::bytes(&step)).unwrap(), "");
    assert!(version(&record.key(), &bytes[..20]).is_err());
}

#[test]
fn a_record_of_another_key_is_refused() {
    let all: Vec<Record> = golden().into_iter().map(|(_, record)| record).collect();
    for record in &all {
        for key in all.iter().map(Record::key).filter(|key| *key != record.key()) {
            // By the checksum, also where nothing but the version is asked for.
            let bytes = bytes(record);
            assert!(refused(&key, &bytes, vector_of(record)).contains("checksum"));
            assert!(version(&key, &bytes).is_err() && scope(&key, &bytes).is_err());
            // And by the key within, if somebody mends that. Patterns and habits have one form; their kind tells.
            refused(&key, &resealed(&key, bytes), vector_of(record));
        }
    }
    let other = Key::Episode(samples::episode_id(2));
    let message = refused(&other, &resealed(&other, bytes(&samples::logged(samples::episode(1, "x")))), None);
    assert!(message.contains("it is Episode(EpisodeId(00000000-0000-0000-0000-000000000001))"), "{message}");
}

#[test]
fn a_vector_too_many_or_too_few_is_refused() {
    let with = samples::logged_with(samples::episode(1, "x"), vector());
    assert!(refused(&with.key(), &bytes(&with), None).contains("its vector is missing"));
    let without = samples::noted(samples::note(1, "x"));
    assert!(refused(&without.key(), &bytes(&without), Some(vector())).contains("it has no vector"));
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let record = samples::watermark(1, 2);
    let mut bytes = bytes(&record);
    bytes[0] = 2;
    refused(&record.key(), &bytes, None);
    let error = decode(&record.key(), &resealed(&record.key(), bytes), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaTooNew);
    assert!(error.to_string().contains("has format 2; this version of the library reads up to 1"), "{error}");
    let mut bytes = self::bytes(&record);
    bytes[0] = 0;
    refused(&record.key(), &resealed(&record.key(), bytes), None);
}

/// Every cut, every flipped bit of every kind of record, and bytes behind it.
#[test]
fn damage_is_refused() {
    for (name, record) in golden() {
        let (key, bytes, vector) = (record.key(), bytes(&record), vector_of(&record));
        for length in 0..bytes.len() {
            refused(&key, &bytes[..length], vector.clone());
        }
        for place in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[place / 8] ^= 1 << (place % 8);
            let message = refused(&key, &flipped, vector.clone());
            assert!(message.contains("checksum"), "{name} {place}: {message}");
        }
        refused(&key, &[bytes, vec![0]].concat(), vector);
    }
}

proptest! {
    /// Bytes made up by someone who knows of the checksum: an error or some record of this key, and no panic.
    #[test]
    fn hostile_bytes_make_no_panic(
        which in 0..8_usize, place in any::<prop::sample::Index>(), garbage in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let (_, record) = golden().swap_remove(which);
        let mut bytes = bytes(&record);
        let place = place.index(bytes.len() - CHECKSUM);
        for (byte, garbage) in bytes[place..].iter_mut().zip(garbage) {
            *byte = garbage;
        }
        if let Ok(stored) = decode(&record.key(), &resealed(&record.key(), bytes), vector_of(&record)) {
            prop_assert_eq!(stored.record.key(), record.key());
        }
    }

    /// Nothing but garbage, also as a vector and as a key.
    #[test]
    fn garbage_is_refused(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = Key::Episode(samples::episode_id(1));
        prop_assert!(decode(&key, &garbage, None).is_err());
        prop_assert!(decode_vector(&key, &garbage).is_err());
        if let Ok(key) = super::key(&garbage) {
            prop_assert_eq!(&*key_bytes(&key), &garbage[..]);
        }
    }
}

#[test]
fn a_huge_length_allocates_nothing() {
    let key = Key::Episode(samples::episode_id(1));
    // 2^64 - 1, 2^40 and 100,000,000 as the length of the task's text, and as the number of steps.
    for length in [
        [253_u8].iter().chain(&[0xFF; 8]),
        [253].iter().chain(&[0, 0, 0, 0, 0, 1, 0, 0]),
        [252].iter().chain(&[0, 0xE1, 0xF5, 5, 0, 0, 0, 0][..4]),
    ] {
        let length: Vec<u8> = length.copied().collect();
        let id = samples::uuid(1).into_bytes();
        for before in [&b""[..], &[1, b'x', 0, 0, 0, 0]] {
            let mut bytes = vec![FORMAT];
            bytes.extend_from_slice(&[0; 8]);
            bytes.extend_from_slice(&[7, 0]);
            bytes.extend_from_slice(b"default");
            bytes.extend_from_slice(&id);
            bytes.extend_from_slice(before);
            bytes.extend_from_slice(&length);
            bytes.extend_from_slice(&[0; CHECKSUM]);
            refused(&key, &resealed(&key, bytes), None);
        }
    }
}

#[test]
fn what_is_too_large_is_refused_when_written_and_when_read() {
    let note = |bytes: usize| samples::noted(samples::note(1, &"x".repeat(bytes)));
    let rest = payload(&note(1_000_000)) - 1_000_000;
    let largest = note(MAX_PAYLOAD - rest);
    let bytes = bytes(&largest);
    assert_eq!(payload(&largest), MAX_PAYLOAD);
    assert_eq!(decode(&largest.key(), &bytes, None).unwrap().record, largest);
    let error = encode(&note(MAX_PAYLOAD - rest + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("allowed: up to 10000000 bytes"), "{error}");
    let larger = resealed(&largest.key(), [&bytes[..], &[0]].concat());
    assert!(refused(&largest.key(), &larger, None).contains("has 10000001 bytes of at most 10000000"));
    let most = HEADER + usize::from(u16::MAX) + MAX_PAYLOAD + CHECKSUM;
    assert!(refused(&largest.key(), &vec![0; most], None).contains("its checksum is wrong"));
    assert!(refused(&largest.key(), &vec![0; most + 1], None).contains("more than a record may have"));
}

#[test]
fn evidence_has_each_bucket_once() {
    let mut pattern = samples::pattern(9);
    let mut evidence = Evidence::in_bucket(20_000, Counts::from([1, 2, 3]));
    evidence.add(&Evidence::in_bucket(20_001, Counts::from([4, 5, 6])));
    pattern.branches.insert("twice".to_owned(), evidence);
    let record = Record::Pattern(pattern);
    let mut bytes = bytes(&record);
    // As bincode has it: the number of bytes, and twice the number of the bucket.
    let (first, second) = ([251, 0x40, 0x9c], [251, 0x42, 0x9c]);
    let place = bytes.windows(second.len()).position(|window| window == second).unwrap();
    bytes[place..place + first.len()].copy_from_slice(&first);
    let message = refused(&record.key(), &resealed(&record.key(), bytes), None);
    assert!(message.contains("buckets of evidence do not rise"), "{message}");
}

#[test]
fn that_there_is_no_vector_is_told_of_its_key() {
    let [one, other] = [1, 2].map(|n| encode_no_vector(&Key::Episode(samples::episode_id(n))));
    assert_ne!(one, other);
}

#[test]
fn vectors_come_back_and_damage_to_them_is_refused() {
    let key = Key::Note(samples::note_id(1));
    let bytes = encode_vector(&key, &vector());
    let bits = |vector: &Vector| vector.as_slice().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&decode_vector(&key, &bytes).unwrap()), bits(&vector()));
    assert!(decode_vector(&Key::Note(samples::note_id(2)), &bytes).is_err(), "of another record");
    for place in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[place / 8] ^= 1 << (place % 8);
        assert_eq!(decode_vector(&key, &flipped).unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(decode_vector(&key, &bytes[..place / 8]).is_err());
    }
}

#[test]
fn keys_come_back_and_sort_alike() {
    let mut keys: Vec<Key> = golden().iter().map(|(_, record)| record.key()).collect();
    keys.extend([0, 255, 256, u32::MAX].map(|index| Key::Step(samples::episode_id(3), index)));
    keys.sort();
    assert!(keys.iter().map(|key| key_bytes(key).to_vec()).is_sorted());
    for one in keys {
        assert_eq!(key(&key_bytes(&one)).unwrap(), one);
        assert_eq!(kind_byte(one.kind()), key_bytes(&one)[0]);
    }
    for (byte, kind) in KINDS {
        assert_eq!(kind_byte(kind), byte);
    }
    for bytes in [&[][..], &[0], &[9, 1], &[1, 1], &[3, 1], &[5; 20]] {
        assert_eq!(key(bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
