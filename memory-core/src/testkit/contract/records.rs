//! What is put comes back.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    check_round_trip, commit, delete, follow, found, get, get_all, innocent, note_words, numbers, observe, put, refuse,
    scan, search, words,
};
use crate::testkit::samples::{
    self, awkward_texts, episode, episode_full_of, episode_id, logged, logged_with, noted, noted_with, time, vector,
};
use crate::{
    Batch, Episode, ErrorKind, Key, Lease, MemoryStore, NewNote, Note, NoteFilter, NoteKind, OpenedEpisode, OpenedStep,
    Outcome, PatternId, PatternKind, Place, Record, RecordKind, Scan, Scope, Search, Step, Task, Telling, Trust,
    VectorSpace, Version,
};

/// A record of each kind comes back exactly as it was put: every verdict, every kind of pattern, scopes of every depth.
pub async fn returns_every_kind_of_record_as_it_was_put(store: &dyn MemoryStore) {
    let mut records = vec![Record::Space(samples::space(3))];
    records.extend(samples::one_of_each(1));
    let name = "aZ09._:-".repeat(16);
    let scopes = [name.clone(), format!("{name}/{name}"), format!("{name}/{name}/{name}")];
    for (n, verdict) in (10..).zip(samples::VERDICTS) {
        let mut episode = episode(n, "an episode of this verdict");
        episode.outcome = Outcome::new(verdict, "").reward(0.5).reflection("again").artifact("a", "b");
        episode.scope = samples::scope(&scopes[n as usize % 3]);
        records.push(logged_with(episode, vector(&[1.0, -2.0, 0.25])));
    }
    for (n, kind) in (20..).zip(PatternKind::ALL) {
        let mut pattern = samples::pattern(n);
        (pattern.kind, pattern.domain) = (kind, Some("web".to_owned()));
        pattern.scope = samples::scope(&scopes[n as usize % 3]);
        pattern.branches.insert(String::new(), samples::evidence(-1, [0, 0, 0]));
        records.push(Record::Pattern(pattern));
    }
    for (n, kind) in (40..).zip(NoteKind::ALL) {
        let note = NewNote::new("a note of this kind").kind(kind).tag("a").expires_at(time(9));
        let trust = [Trust::Trusted, Trust::Untrusted][n as usize % 2];
        let told = Note::new(samples::scope(&scopes[n as usize % 3]), trust, Telling::new(note, time(1)));
        records.push(noted_with(Note { id: samples::note_id(n), ..told }, vector(&[1.0, -2.0, 0.25])));
        let turn = Telling::new(NewNote::new("a turn").kind(kind), time(1));
        records.push(noted(Note::at(samples::scope(&scopes[0]), trust, Place::new("chat", n), turn)));
    }
    let mut bare = episode(30, "");
    (bare.task, bare.steps, bare.outcome) = (Task::default(), Vec::new(), Outcome::success(""));
    records.push(logged(bare));
    check_round_trip(store, records).await;
}

/// Texts come back byte for byte, in every field of every record.
pub async fn returns_awkward_texts_as_they_were_put(store: &dyn MemoryStore) {
    let space = VectorSpace {
        provider: "'\"\0".to_owned(),
        model: String::new(),
        revision: "\\".to_owned(),
        query_prefix: "query:\n".to_owned(),
        document_prefix: "🦀 ".to_owned(),
        normalised: true,
        ..samples::space(384)
    };
    check_round_trip(store, vec![Record::Space(space)]).await;
    for (n, text) in (1..).zip(awkward_texts()) {
        let episode = episode_full_of(n, &text);
        let open = OpenedEpisode { task: episode.task.clone(), state: Some(text.clone()), ..samples::open(n) };
        let step = OpenedStep { step: episode.steps[0].clone(), ..samples::step(n, 0) };
        let mut pattern = samples::pattern(n);
        (pattern.domain, pattern.signature) = (Some(text.clone()), vec![text.clone(), text.clone()]);
        pattern.branches.insert(text, samples::evidence(0, [1, 1, 1]));
        let note = noted(samples::note_full_of(n, &pattern.signature[0]));
        let records = vec![logged(episode), Record::Open(open), Record::Step(step), Record::Pattern(pattern), note];
        check_round_trip(store, records).await;
    }
}

/// Numbers come back exactly at the ends of their ranges, fractions to the last bit.
pub async fn returns_extreme_numbers_as_they_were_put(store: &dyn MemoryStore) {
    let components = [
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        -f32::from_bits(0x007F_FFFF),
        f32::MAX,
        f32::MIN,
        0.1,
        -0.0,
        16_777_217.0,
    ];
    let mut records = vec![Record::Space(samples::space(components.len())), samples::watermark(7, u64::MAX)];
    let rewards = [0.1 + 0.2, 0.0, 1.0, f64::MIN_POSITIVE, f64::from_bits(1), 1.0 - f64::EPSILON / 2.0, 1.0 / 3.0];
    for (n, reward) in (1..).zip(rewards) {
        let mut episode = episode(n, "a task with extreme numbers");
        episode.outcome.reward = Some(reward);
        episode.steps = vec![
            Step::new("a").latency_ms(u64::MAX).tokens(u64::MAX),
            Step::new("b").latency_ms(0).tokens(u64::MAX / 2 + 1),
            Step::new("c").latency_ms(1 << 53 | 1),
        ];
        records.push(logged_with(episode, vector(&components)));
    }
    for (n, index) in (1..).zip([0, 1, u32::MAX - 1, u32::MAX]) {
        let step = Step::new("a").latency_ms(u64::MAX).tokens(u64::MAX);
        records.push(Record::Step(OpenedStep { step, ..samples::step(n, index) }));
    }
    let mut pattern = samples::pattern(1);
    for bucket in [i64::MIN, i64::MIN + 1, -1, 0, 1, (1 << 53) + 1, i64::MAX] {
        pattern
            .branches
            .entry("edge".to_owned())
            .or_default()
            .add(&samples::evidence(bucket, [1, u64::MAX, u64::MAX - 1]));
    }
    records.push(Record::Pattern(pattern));
    for (n, salience) in (1..).zip(rewards) {
        let mut note = samples::note(n, "a note with extreme numbers");
        (note.salience, note.seen) = (salience, u32::MAX);
        note.place = Some(Place::new("chat", u32::MAX - n + 1));
        records.push(noted_with(note, vector(&components)));
    }
    check_round_trip(store, records.clone()).await;
    // Equality takes -0.0 for 0.0; the bits tell them apart.
    let bits = |records: &[Record]| -> Vec<Vec<u32>> {
        let vectors = records.iter().filter_map(|record| match record {
            Record::Episode(logged) => logged.vector.as_ref(),
            Record::Note(stored) => stored.vector.as_ref(),
            _ => None,
        });
        vectors.map(|vector| vector.as_slice().iter().map(|x| x.to_bits()).collect()).collect()
    };
    let stored: Vec<Record> = get_all(store, &records).await.into_iter().map(|stored| stored.record).collect();
    assert_eq!(bits(&stored), bits(&records), "the components of vectors come back bit for bit");
}

/// Moments come back to the nanosecond, from 1970 to 2262.
pub async fn returns_every_moment_to_the_nanosecond(store: &dyn MemoryStore) {
    let moments: [DateTime<Utc>; 6] = [
        DateTime::UNIX_EPOCH,
        DateTime::UNIX_EPOCH + TimeDelta::nanoseconds(1),
        samples::time(0) + TimeDelta::nanoseconds(123_456_789),
        samples::time(0) + TimeDelta::nanoseconds(999_999_999),
        DateTime::from_timestamp_nanos(4_294_967_296_000_000_001),
        DateTime::from_timestamp_nanos(i64::MAX),
    ];
    let records = (1..).zip(moments).flat_map(|(n, moment)| {
        let mut episode = episode(n, "a task at this moment");
        (episode.started_at, episode.completed_at) = (moment, moment);
        let mut note = samples::note(n, "a note at this moment");
        (note.created_at, note.updated_at, note.expires_at) = (moment, moment, Some(moment));
        let lease = Some(Lease { holder: samples::holder(n), expires_at: moment });
        let opened = OpenedEpisode { started_at: moment, lease, ..samples::open(n) };
        [logged(episode), Record::Open(opened), noted(note)]
    });
    check_round_trip(store, records.collect()).await;
}

/// A field that is not set and one that is set to the empty text, to zero or to an empty list are told apart.
pub async fn tells_nothing_from_empty(store: &dyn MemoryStore) {
    let bare = episode(1, "a task with nothing");
    let mut empty = episode(2, "a task with empty texts");
    empty.task = empty.task.domain("").language("").tag("").environment("", "");
    empty.outcome = empty.outcome.reward(0.0).reflection("").artifact("", "");
    empty.steps = vec![Step::new("").latency_ms(0).tokens(0), Step::new("")];
    let mut pattern = samples::pattern(1);
    (pattern.domain, pattern.signature) = (None, Vec::new());
    pattern.branches.clear();
    let mut other = samples::pattern(2);
    (other.domain, other.signature) = (Some(String::new()), vec![String::new()]);
    other.branches = [(String::new(), crate::Evidence::default())].into();
    let mut note = samples::note(1, "");
    (note.source, note.salience, note.seen) = (String::new(), 0.0, 0);
    note.tags.insert(String::new());
    note.place = Some(Place::new("", 0));
    let mut no_tellings = samples::note(2, "a note with nothing");
    no_tellings.tellings.clear();
    let notes = [noted(note), noted(no_tellings)];
    let patterns = [Record::Pattern(pattern), Record::Pattern(other)];
    check_round_trip(store, [logged(bare), logged(empty)].into_iter().chain(patterns).chain(notes).collect()).await;
}

/// An encoded episode may have 10,000,000 bytes, and not one more.
pub async fn returns_the_largest_episode(store: &dyn MemoryStore) {
    let of_size = |n: u32, bytes: usize| {
        let mut episode = episode(n, "task of full size");
        let rest = bytes - episode.encoded_len();
        episode.steps[0].observation.push_str(&"x".repeat(rest));
        assert_eq!(episode.encoded_len(), bytes);
        logged(episode)
    };
    let largest = of_size(1, Episode::MAX_ENCODED_BYTES);
    check_round_trip(store, vec![largest]).await;
    let too_large = Batch::new().put(of_size(2, Episode::MAX_ENCODED_BYTES + 1));
    refuse(store, &too_large, ErrorKind::Invalid, "an episode of a byte too many").await;
}

/// Records of different kinds may have the same UUID and are still different records.
pub async fn keeps_kinds_apart(store: &dyn MemoryStore) {
    let records = samples::one_of_each(1);
    check_round_trip(store, records.clone()).await;
    check_round_trip(store, vec![Record::Step(samples::step(1, 1)), records[0].clone()]).await;
    delete(store, [Key::Open(episode_id(1)), Key::Step(episode_id(1), 0)]).await;
    let keys: Vec<Key> = records.iter().map(Record::key).chain([Key::Step(episode_id(1), 1)]).collect();
    let there: Vec<bool> = store.get(&keys).await.expect("reads").iter().map(Option::is_some).collect();
    assert_eq!(
        there,
        [true, true, false, false, true, true, true, true, true],
        "only what was deleted is gone, of {keys:?}"
    );
}

/// There are as many answers as keys, in the same order; a key may come twice; what is not there is `None`.
pub async fn get_answers_in_order_with_repeats_and_absences(store: &dyn MemoryStore) {
    assert!(store.get(&[]).await.expect("reads").is_empty(), "no keys, no answers");
    assert_eq!(store.get(&[Key::Space]).await.expect("reads"), [None], "an empty store has no space");
    put(store, (1..=3).flat_map(samples::one_of_each)).await;
    let of = samples::episode_id;
    let keys = [
        Key::Episode(of(3)),
        Key::Pattern(PatternId::new(samples::uuid(2))),
        Key::Episode(of(9)),
        Key::Episode(of(1)),
        Key::Episode(of(3)),
        Key::Space,
        Key::Step(of(1), 1),
        Key::Step(of(1), 0),
        Key::Episode(of(9)),
        Key::Watermark(samples::learner(2)),
        Key::Open(of(2)),
        Key::Note(samples::note_id(3)),
        Key::Note(samples::note_id(9)),
    ];
    let found = store.get(&keys).await.expect("reads");
    let found: Vec<Option<Key>> = found.iter().map(|stored| stored.as_ref().map(|one| one.record.key())).collect();
    let absent = [Key::Episode(of(9)), Key::Space, Key::Step(of(1), 1), Key::Note(samples::note_id(9))];
    let expected: Vec<Option<Key>> = keys.iter().map(|key| (!absent.contains(key)).then(|| key.clone())).collect();
    assert_eq!(found, expected);
}

/// One call may ask for thousands of keys.
pub async fn get_takes_thousands_of_keys(store: &dyn MemoryStore) {
    put(store, (0..50).map(|n| Record::Pattern(samples::pattern(n * 100)))).await;
    let keys: Vec<Key> = (0..5_000).rev().map(|n| Key::Pattern(PatternId::new(samples::uuid(n)))).collect();
    let found = store.get(&keys).await.expect("reads");
    assert_eq!(found.len(), keys.len(), "as many answers as keys");
    for (stored, (n, key)) in found.iter().zip((0..5_000).rev().zip(&keys)) {
        let expected = (n % 100 == 0).then_some(key);
        assert_eq!(stored.as_ref().map(|one| one.record.key()).as_ref(), expected, "pattern {n}");
    }
}

/// Putting a record that is there replaces it, and gives it a new version even if nothing in it is new.
pub async fn put_replaces_and_raises_the_version(store: &dyn MemoryStore) {
    put(store, samples::one_of_each(1)).await;
    for record in samples::one_of_each(1) {
        let before = get(store, record.key()).await.expect("it is there");
        let version = put(store, [record.clone()]).await;
        assert!(version > before.version, "{:?}: the version rises with every put", record.key());
        let after = get(store, record.key()).await.expect("it is there");
        assert_eq!((after.version, after.record), (version, record));
    }
    let health = store.health().await.expect("healthy");
    let counts = (health.episodes, health.open_episodes, health.patterns, health.notes);
    assert_eq!(counts, (1, 1, 2, 1), "replaced, not added");
}

/// A replaced record leaves nothing behind: no tag, step, branch, vector or word of it, and not its place in the log or in
/// another scope.
pub async fn put_leaves_nothing_of_the_old_record(store: &dyn MemoryStore) {
    let mut rich = episode_full_of(1, "walrus");
    rich.scope = samples::scope("before");
    let mut pattern = samples::pattern(1);
    pattern.branches.insert("gone".to_owned(), samples::evidence(1, [1, 1, 1]));
    let patterns = [Record::Pattern(pattern), Record::Pattern(samples::pattern(1))];
    let [old_pattern, new_pattern] = patterns;
    put(store, [Record::Space(samples::space(2)), logged_with(rich, vector(&[1.0, 0.0])), old_pattern]).await;
    put(store, [logged(episode(2, "another task"))]).await;
    let plain = vec![logged(episode(1, "a plain task")), new_pattern];
    check_round_trip(store, plain).await;

    let log = scan(store, Scan::new(RecordKind::Episode)).await;
    assert_eq!(numbers(&log), [2, 1], "a replaced episode moves to the end of the log");
    assert!(search(store, &words("walrus")).await.is_empty(), "the old words find nothing");
    let before = samples::scope("before");
    assert!(scan(store, Scan::new(RecordKind::Episode).scope(before.clone())).await.is_empty(), "not in the old scope");
    assert!(search(store, &Search::new(before).text("walrus")).await.is_empty(), "not in the old scope");
    let nearest = Search::new(Scope::default()).vector(Some(vector(&[1.0, 0.0])));
    assert!(search(store, &nearest).await.is_empty(), "the old vector finds nothing");

    let mut rich = samples::note_full_of(1, "walrus");
    rich.expires_at = Some(time(9));
    put(store, [noted_with(rich, vector(&[1.0, 0.0]))]).await;
    check_round_trip(store, vec![noted(samples::note(1, "a plain note"))]).await;
    let agent = || Search::new(samples::scope("acme/coder")).for_notes(NoteFilter::default());
    assert!(search(store, &note_words("walrus")).await.is_empty(), "the old words find nothing");
    assert!(search(store, &agent().text("walrus")).await.is_empty(), "not in the old scope");
    assert!(search(store, &agent().vector(Some(vector(&[1.0, 0.0])))).await.is_empty(), "not in the old scope");
    let nearest = nearest.for_notes(NoteFilter::default());
    assert!(search(store, &nearest).await.is_empty(), "the old vector finds nothing");
    let agents = scan(store, Scan::new(RecordKind::Note).scope(samples::scope("acme/coder"))).await;
    assert!(agents.is_empty(), "not in the old scope");
    let expired = NoteFilter::default().expired_at(time(9));
    assert!(scan(store, Scan::new(RecordKind::Note).notes(expired)).await.is_empty(), "the old expiry is gone");
}

/// A deleted record is in no read any more, and may be put again.
pub async fn delete_removes_the_record(store: &dyn MemoryStore) {
    put(store, (1..=2).flat_map(samples::one_of_each)).await;
    for record in samples::one_of_each(1) {
        let before = store.health().await.expect("healthy").version;
        let version = delete(store, [record.key()]).await;
        assert!(version > before, "a deletion is a change and has a version");
        assert_eq!(get(store, record.key()).await, None, "deleted");
    }
    let left: Vec<Record> = observe(store).await.records.into_iter().map(|stored| stored.record).collect();
    assert_eq!(left, samples::one_of_each(2), "what was not deleted is left");
    assert_eq!(found(&search(store, &words("task")).await), [2]);
    assert_eq!(found(&search(store, &note_words("note")).await), [2]);
    check_round_trip(store, samples::one_of_each(1)).await;
}

/// Deleting what is not there is no error and no change: no version, no entry in the feed.
pub async fn deleting_what_is_absent_changes_nothing(store: &dyn MemoryStore) {
    let records = || samples::one_of_each(1).into_iter().filter(|record| !matches!(record, Record::Pattern(_)));
    let keys = || records().map(|record| record.key());
    assert_eq!(delete(store, keys()).await, Version(0), "the store is still empty");
    put(store, samples::one_of_each(2)).await;
    let before = observe(store).await;
    assert_eq!(delete(store, keys()).await, before.health.version, "the version of the store, as nothing changed");
    assert_eq!(observe(store).await, before);
    let batch = keys().fold(Batch::new().put(samples::watermark(3, 1)), Batch::delete);
    let version = commit(store, &batch).await.version;
    assert_eq!(get(store, Key::Watermark(samples::learner(3))).await.expect("put").version, version);
    assert_eq!(follow(store, before.health.version, 10).await.0.len(), 1, "only the put is in the feed");
}

/// The vector space can be put once; the same may be put again, another never, and it cannot be deleted.
pub async fn space_is_put_once(store: &dyn MemoryStore) {
    let space = samples::space(3);
    check_round_trip(store, vec![Record::Space(space.clone())]).await;
    check_round_trip(store, vec![Record::Space(space.clone())]).await;
    let others = [
        VectorSpace { provider: "other".to_owned(), ..space.clone() },
        VectorSpace { model: "other".to_owned(), ..space.clone() },
        VectorSpace { revision: "2".to_owned(), ..space.clone() },
        VectorSpace { dimensions: 4, ..space.clone() },
        VectorSpace { normalised: true, ..space.clone() },
        VectorSpace { query_prefix: "q: ".to_owned(), ..space.clone() },
        VectorSpace { document_prefix: "d: ".to_owned(), ..space.clone() },
    ];
    for other in others {
        let batch = Batch::new().put(Record::Space(other.clone()));
        refuse(store, &batch, ErrorKind::SpaceMismatch, &format!("{other} in place of {space}")).await;
    }
    refuse(store, &innocent(1).delete(Key::Space), ErrorKind::Invalid, "the space is deleted").await;
    check_round_trip(store, vec![Record::Space(space)]).await;
}

/// A vector needs a space and its length; a space counts from its place in the batch on.
pub async fn vectors_must_fit_the_space(store: &dyn MemoryStore) {
    let with = |n: u32, components: &[f32]| logged_with(episode(n, "task with a vector"), vector(components));
    refuse(store, &Batch::new().put(with(1, &[1.0, 2.0])), ErrorKind::Invalid, "a vector without a space").await;
    let together = Batch::new().put(Record::Space(samples::space(2))).put(with(1, &[1.0, 2.0]));
    commit(store, &together).await;
    for components in [&[1.0][..], &[1.0, 2.0, 3.0]] {
        let batch = Batch::new().put(with(2, components));
        refuse(store, &batch, ErrorKind::Invalid, "a vector of another length").await;
    }
    check_round_trip(store, vec![with(1, &[3.0, 4.0]), logged(episode(2, "task without a vector"))]).await;
    for components in [&[1.0][..], &[1.0, 2.0, 3.0]] {
        let note = noted_with(samples::note(1, "note"), vector(components));
        refuse(store, &innocent(3).put(note), ErrorKind::Invalid, "a note's vector of another length").await;
    }
}
