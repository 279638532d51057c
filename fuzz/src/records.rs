//! Records as the Turso store keeps them: the name of a kind, a line break, and the JSON text.

use memory_core::{EpisodeId, Key, LearnerId, NoteId, PatternId, RecordKind};
use memory_storage_turso::fuzzing::{decode, encode};
use serde_json::Value;
use uuid::Uuid;

pub(crate) fn run(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (name, body) = (&data[..end], &data[end + 1..]);
    let Some(kind) = RecordKind::ALL.into_iter().find(|kind| kind.as_str().as_bytes() == name) else { return };
    let Some(key) = key(kind, body) else { return };
    let Ok(record) = decode(&key, body) else { return };
    assert_eq!(record.key(), key);
    let text = encode(&record).expect("what was read can be written");
    let back = decode(&key, text.as_bytes()).expect("what was written can be read");
    assert_eq!(back, record);
    assert_eq!(encode(&back).unwrap(), text);
}

/// The key that the record names itself by.
fn key(kind: RecordKind, body: &[u8]) -> Option<Key> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let uuid = |value: &Value| value.as_str().and_then(|text| Uuid::try_parse(text).ok());
    Some(match kind {
        RecordKind::Space => Key::Space,
        RecordKind::Watermark => Key::Watermark(LearnerId::new(uuid(&value["learner"])?)),
        RecordKind::Episode => Key::Episode(EpisodeId::new(uuid(&value["id"])?)),
        RecordKind::Open => Key::Open(EpisodeId::new(uuid(&value["id"])?)),
        RecordKind::Step => {
            let index = u32::try_from(value["index"].as_u64()?).ok()?;
            Key::Step(EpisodeId::new(uuid(&value["episode"])?), index)
        }
        RecordKind::Pattern => Key::Pattern(PatternId::new(uuid(&value["id"])?)),
        RecordKind::Habit => Key::Habit(PatternId::new(uuid(&value["id"])?)),
        RecordKind::Note => Key::Note(NoteId::new(uuid(&value["id"])?)),
        RecordKind::Unembedded => Key::Unembedded(uuid(&value)?),
    })
}

#[test]
fn what_is_named_in_the_corpus_is_a_record() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/records");
    for kind in RecordKind::ALL {
        let data = std::fs::read(corpus.join(kind.as_str())).unwrap();
        let body = data.strip_prefix(format!("{}\n", kind.as_str()).as_bytes()).unwrap();
        decode(&key(kind, body).unwrap(), body).unwrap();
    }
}
