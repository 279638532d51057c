//! Records of every kind with every field set and unset, and with texts, numbers and moments that are hard to keep: for tests
//! in which another process reads what one has written.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::samples;
use crate::{
    Batch, Counts, Episode, Evidence, Feedback, HeuristicId, Key, MemoryStore, MemoryStoreExt, NewNote, Note, NoteKind,
    OpenedEpisode, OpenedStep, Outcome, Pattern, PatternKind, Receipt, Record, Scan, Source, Step, Task, Telling,
    Trust, VectorSpace, Verdict,
};

/// A vector space with texts that are hard to keep.
pub fn space() -> Record {
    Record::Space(VectorSpace {
        normalised: true,
        query_prefix: "query: \0\n".to_owned(),
        document_prefix: "\"'".to_owned(),
        ..samples::space(3)
    })
}

/// A task with everything set.
fn full_task(text: &str) -> Task {
    Task::new(text).domain("web").language("rust").tag("a").tag("b").environment("rustc", "1.95").environment("os", "")
}

fn full_step() -> Step {
    Step::new("grep").action("look").input("{\"in\": [1]}").error("no match").latency_ms(u64::MAX).tokens(u64::MAX)
}

/// Episodes with every field set and unset, every verdict, and moments and numbers that are hard to keep.
fn episodes(first: u32) -> Vec<Record> {
    let rewards = [Some(0.1 + 0.2), Some(0.0), Some(1.0 - f64::EPSILON), Some(5e-324), None];
    let moments = [
        "2016-12-31T23:59:60.123456789Z",
        "1969-12-31T23:59:59.999999999Z",
        "1970-01-01T00:00:00Z",
        "-0044-03-15T12:00:00.000000001Z",
        "9999-12-31T23:59:59.999999Z",
    ];
    let vectors = [[1.0, -0.0, f32::MIN_POSITIVE / 2.0], [f32::MAX, f32::MIN, 0.1]];
    let mut records = Vec::new();
    for (number, ((verdict, reward), moment)) in (first..).zip(samples::VERDICTS.into_iter().zip(rewards).zip(moments))
    {
        let mut outcome =
            Outcome::new(verdict, "half done").reflection("next time").artifact("patch", "+1").artifact("a", "");
        outcome.reward = reward;
        let steps = vec![full_step(), Step::new("ls"), Step::new("edit").ok("saved").tokens(0)];
        let at = moment.parse().unwrap();
        let scope = samples::scope("acme/coder/s-1");
        let mut episode = Episode::new(samples::episode_id(number), scope, full_task("fix it"), steps, outcome, at, at);
        episode.task.tags.insert(format!("{number}"));
        (episode.source, episode.receipt) = (Source::untrusted("a forum"), Some(full_receipt()));
        records.push(samples::logged_with(episode, samples::vector(&vectors[records.len() % 2])));
    }
    for (number, text) in (first + 10..).zip(samples::awkward_texts()) {
        records.push(samples::logged(samples::episode_full_of(number, &text)));
    }
    let (id, at) = (samples::episode_id(first + 9), samples::time(0));
    let bare =
        Episode::new(id, samples::scope("a"), Task::new(""), Vec::new(), Outcome::new(Verdict::Success, ""), at, at);
    records.push(samples::logged(bare));
    records
}

/// Something of everything that can be shown, withheld and said.
fn full_receipt() -> Receipt {
    let advice = |n: u128| HeuristicId::new(samples::uuid(n));
    Receipt {
        withheld: true,
        advice: BTreeMap::from([(advice(1), true), (advice(u128::MAX), false)]),
        episodes: [samples::episode_id(1), samples::episode_id(2)].into(),
        pitfalls: [samples::pattern(1).id].into(),
        notes: [samples::note_id(1), samples::note_id(2)].into(),
        feedback: BTreeMap::from([
            (advice(1), Feedback::Used),
            (advice(2), Feedback::Ignored),
            (advice(3), Feedback::Harmful),
        ]),
    }
}

fn open_episodes(first: u32) -> Vec<Record> {
    let mut records = Vec::new();
    for (number, text) in (first..).zip(samples::awkward_texts()) {
        let (mut opened, mut step) = (samples::open(number), samples::step(number, number));
        opened.task = full_task(&text).environment(&text, &text);
        (opened.source, opened.receipt, opened.state) =
            (Source::untrusted(&text), Some(full_receipt()), Some(text.clone()));
        step.step = Step::new(&text).action(&text).input(&text).ok(&text);
        records.extend([Record::Open(opened), Record::Step(step)]);
    }
    let id = samples::episode_id(first + 1_000);
    let (scope, started_at) = (samples::scope("a/b"), "2016-12-31T23:59:60.000000001Z".parse().unwrap());
    let (task, source) = (Task::new(""), Source::default());
    let bare = OpenedEpisode { id, scope, task, started_at, source, receipt: None, lease: None, state: None };
    records.push(Record::Open(bare));
    records.push(Record::Step(OpenedStep { episode: id, index: 0, step: full_step() }));
    records.push(Record::Step(OpenedStep { episode: id, index: u32::MAX, step: Step::new("") }));
    records
}

/// Patterns of every kind, with and without a domain, with branches and time buckets from the first to the last.
fn patterns(first: u32) -> Vec<Record> {
    let evidence = |buckets: &[i64], counts: [u64; 3]| {
        let mut evidence = Evidence::default();
        buckets.iter().for_each(|bucket| evidence.add(&Evidence::in_bucket(*bucket, Counts::from(counts))));
        evidence
    };
    let mut records = Vec::new();
    for kind in PatternKind::ALL {
        for (domain, trust) in [(None, Trust::Trusted), (Some("web".to_owned()), Trust::Untrusted)] {
            let signature = vec!["^".to_owned(), "+grep".to_owned(), "-cargo test".to_owned()];
            let mut pattern =
                Pattern::new(samples::learner(first), samples::scope("acme/coder"), trust, kind, domain, signature);
            pattern.branches = BTreeMap::from([
                (String::new(), evidence(&[-20_000, -1, 0, 1, 20_400], [1, 3, 2])),
                ("edit > test".to_owned(), evidence(&[i64::MIN, i64::MAX], [u64::MAX, u64::MAX, 0])),
                ("unseen".to_owned(), Evidence::default()),
            ]);
            records.push(Record::Pattern(pattern));
        }
    }
    for (number, text) in (first..).zip(samples::awkward_texts()) {
        let mut pattern = samples::pattern(number);
        (pattern.domain, pattern.signature) = (Some(text.clone()), vec![text.clone(), String::new()]);
        pattern.branches = BTreeMap::from([(text, evidence(&[-1], [1, 1, 1]))]);
        records.push(Record::Pattern(pattern));
    }
    records
}

/// Notes of every kind and trust, with every field set and unset, told here and in sessions, and awkward texts.
fn notes(first: u32) -> Vec<Record> {
    let moments = ["2016-12-31T23:59:60.123456789Z", "1969-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"];
    let mut records = Vec::new();
    for (number, kind) in (first..).zip(NoteKind::ALL) {
        let at = moments[records.len() % 3].parse().unwrap();
        let trust = [Trust::Trusted, Trust::Untrusted][records.len() % 2];
        let source = Source { name: "user".to_owned(), trust };
        let mut new = NewNote::new("Use tabs").kind(kind).tag("a").salience(0.1 + 0.2).source(source);
        new.expires_at = (records.len() % 2 == 0).then_some(at);
        let other = Telling::new(NewNote::new("use  tabs."), samples::time(0));
        let agent = Note::from_session(samples::scope("acme/coder"), "s-1", trust, Telling::new(new, at));
        let mut note = agent.told(other);
        (note.id, note.seen) = (samples::note_id(number), u32::MAX);
        records.push(samples::noted_with(note, samples::vector(&[1.0, -0.0, f32::MIN_POSITIVE / 2.0])));
    }
    let texts = samples::awkward_texts();
    records
        .extend((first + 10..).zip(texts).map(|(number, text)| samples::noted(samples::note_full_of(number, &text))));
    records
}

/// Records of every kind but the vector space, with numbers from `first` on.
pub fn records(first: u32) -> Vec<Record> {
    let watermarks = [samples::watermark(first, 0), samples::watermark(first + 1, u64::MAX)];
    let unembedded = [first, first + 1].map(|n| Record::Unembedded(samples::uuid(u128::from(n)))).to_vec();
    [watermarks.to_vec(), episodes(first), open_episodes(first), patterns(first), notes(first), unembedded].concat()
}

/// Puts all in one batch.
pub async fn put_all(store: &dyn MemoryStore, records: &[Record]) {
    store.commit(&records.iter().cloned().fold(Batch::new(), Batch::put)).await.unwrap();
}

/// `==` takes -0.0 for 0.0; the text of a value does not.
fn assert_same<T: PartialEq + Debug>(found: &T, expected: &T) {
    assert_eq!(found, expected);
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

/// Checks that a store gives each back exactly as it was put, by key and in a scan.
pub async fn assert_kept(store: &dyn MemoryStore, records: &[Record]) {
    let keys: Vec<Key> = records.iter().map(Record::key).collect();
    let found = store.get(&keys).await.unwrap();
    assert_eq!(found.len(), keys.len());
    for (stored, record) in found.into_iter().zip(records) {
        assert_same(&stored.map(|stored| stored.record), &Some(record.clone()));
    }
    let mut scanned = BTreeMap::new();
    for kind in records.iter().map(|record| record.key().kind()) {
        scanned.entry(kind).or_insert(store.scan_all(Scan::new(kind)).await.unwrap());
    }
    for record in records {
        let found = scanned[&record.key().kind()].iter().find(|stored| stored.record.key() == record.key());
        assert_same(&found.map(|stored| &stored.record), &Some(record));
    }
}
