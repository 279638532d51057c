//! Records as the redb store keeps them: a byte that tells the kind of the key, then the bytes of a record without checksum.

use memory_core::testkit::samples;
use memory_core::{ErrorKind, Key, Vector};
use memory_storage_redb::fuzzing::{decode, encode, key, sealed};

/// Format, version, and length of the scope.
const HEADER: usize = 1 + 8 + 2;

pub(crate) fn run(data: &[u8]) {
    let Some((kind, record)) = data.split_first() else { return };
    let Some(key) = key_of(*kind, record) else { return };
    comes_back(&key, record, None);
    let bytes = sealed(&key, record.to_vec());
    for vector in [None, Some(samples::vector(&[1.0, -0.5]))] {
        comes_back(&key, &bytes, vector);
    }
}

/// The key that such a record may be under: the payload of most begins with the id.
fn key_of(kind: u8, record: &[u8]) -> Option<Key> {
    let (header, rest) = record.split_at_checked(HEADER)?;
    let scope = usize::from(u16::from_le_bytes([header[9], header[10]]));
    let payload = rest.get(scope..)?;
    let most = payload.len().min(16);
    let mut bytes = [&[kind][..], &payload[..most]].concat();
    if let Ok(key) = key(&bytes) {
        return Some(key);
    }
    // A step's index is one byte below 251.
    bytes.extend([0, 0, 0, *payload.get(16)?]);
    key(&bytes).or_else(|_| key(&[kind])).ok()
}

fn comes_back(key: &Key, bytes: &[u8], vector: Option<Vector>) {
    let stored = match decode(key, bytes, vector.clone()) {
        Ok(stored) => stored,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::SchemaTooNew), "{error}");
            return;
        }
    };
    assert_eq!(stored.record.key(), *key);
    let again = encode(&stored.record, stored.version).expect("what was read can be written");
    let back = decode(key, &again, vector.clone()).expect("what was written can be read");
    // Numbers that are none differ from themselves; their texts do not.
    assert_eq!(format!("{stored:?}"), format!("{back:?}"));
    assert_eq!(encode(&back.record, back.version).unwrap(), again);

    let mut spoilt = again;
    let place = bytes.len() % spoilt.len();
    spoilt[place] ^= 1;
    assert_eq!(decode(key, &spoilt, vector).unwrap_err().kind(), ErrorKind::Corrupt, "a bit was flipped");
}

#[test]
fn what_is_named_in_the_corpus_is_a_record() {
    use memory_core::RecordKind;

    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/codec");
    // One that is not embedded is but an id.
    for kind in RecordKind::ALL.into_iter().filter(|kind| *kind != RecordKind::Unembedded) {
        let data = std::fs::read(corpus.join(kind.as_str())).unwrap();
        let (first, record) = data.split_first().unwrap();
        let key = key_of(*first, record).unwrap();
        let read = [None, Some(samples::vector(&[1.0, -0.5]))]
            .map(|vector| decode(&key, &sealed(&key, record.to_vec()), vector));
        assert!(read.iter().any(Result::is_ok), "{kind:?}: {read:?}");
    }
}
