//! Scans read every record once, in order, page by page.

use chrono::{DateTime, TimeDelta, Utc};

use super::{cursor, delete, get_all, number, numbers, put, scan};
use crate::testkit::samples::{self, episode, episode_id, logged, noted, time};
use crate::{
    Cursor, Episode, ErrorKind, Filter, Key, LearnerId, MemoryStore, NewNote, Note, NoteFilter, NoteId, NoteKind,
    OpenedEpisode, PatternId, Place, Record, RecordKind, Scan, Scope, Source, Task, Telling, Trust, Verdict, Version,
};

/// Episodes are scanned by rising version, whatever their ids and times.
pub async fn scans_episodes_in_the_order_of_the_log(store: &dyn MemoryStore) {
    let mut early = episode(4, "a task that ended early");
    early.completed_at = time(-1_000);
    put(store, [logged(episode(9, "a task")), logged(episode(2, "a task"))]).await;
    put(store, samples::one_of_each(7)).await;
    put(store, [logged(early)]).await;
    let log = scan(store, Scan::new(RecordKind::Episode)).await;
    assert_eq!(numbers(&log), [9, 2, 7, 4]);
    assert!(log.is_sorted_by(|a, b| a.version < b.version), "versions rise");
    let records: Vec<Record> = log.iter().map(|stored| stored.record.clone()).collect();
    assert_eq!(get_all(store, &records).await, log, "a scan reads the same as get");
    let later = scan(store, Scan::new(RecordKind::Episode).after(Some(Cursor::Version(log[1].version)))).await;
    assert_eq!(later, log[2..], "a scan goes on after any version");
    let between = Cursor::Version(Version(log[2].version.0 - 1));
    assert_eq!(scan(store, Scan::new(RecordKind::Episode).after(Some(between))).await, log[2..]);
    for (far, expected) in [(Version(0), &log[..]), (Version(u64::MAX), &[])] {
        assert_eq!(scan(store, Scan::new(RecordKind::Episode).after(Some(Cursor::Version(far)))).await, expected);
    }
}

/// Other kinds are scanned by rising key: UUIDs by their bytes, then steps by their number, not their digits.
pub async fn scans_other_kinds_in_the_order_of_keys(store: &dyn MemoryStore) {
    let uuids = [u128::MAX, 1 << 127, (1 << 127) - 1, 1 << 64, 256, 255, 10, 9, 1, 0].map(samples::uuid);
    for uuid in uuids {
        let id = crate::EpisodeId::new(uuid);
        let mut pattern = samples::pattern(1);
        pattern.id = PatternId::new(uuid);
        let learner = LearnerId::new(uuid);
        let mut records = vec![
            Record::Pattern(pattern),
            Record::Open(OpenedEpisode { id, ..samples::open(1) }),
            Record::Watermark(crate::Watermark { learner, position: Version(1) }),
            noted(Note { id: NoteId::new(uuid), ..samples::note(1, "a note") }),
            Record::Unembedded(uuid),
        ];
        let steps =
            [10, 9, u32::MAX, 0, 1 << 31].map(|index| crate::OpenedStep { episode: id, ..samples::step(1, index) });
        records.extend(steps.map(Record::Step));
        put(store, records).await;
    }
    let kinds = [
        (RecordKind::Pattern, 10),
        (RecordKind::Open, 10),
        (RecordKind::Watermark, 10),
        (RecordKind::Note, 10),
        (RecordKind::Unembedded, 10),
        (RecordKind::Step, 50),
    ];
    for (kind, count) in kinds {
        for limit in [1, 7, 1_000] {
            let all = scan(store, Scan::new(kind).limit(limit)).await;
            assert_eq!(all.len(), count, "{kind:?}, {limit} a page");
            assert!(all.is_sorted_by(|a, b| a.record.key() < b.record.key()), "{kind:?} by rising key: {all:?}");
        }
        let all = scan(store, Scan::new(kind)).await;
        assert_eq!(scan(store, Scan::new(kind).after(Some(cursor(&all[3])))).await, all[4..], "after any key");
    }
    assert!(scan(store, Scan::new(RecordKind::Space)).await.is_empty());
    put(store, [Record::Space(samples::space(2))]).await;
    assert_eq!(scan(store, Scan::new(RecordKind::Space).limit(1)).await.len(), 1);
}

/// Pages of any length, put together, are the whole; there are none after the end.
pub async fn scan_pages_are_whole_at_every_limit(store: &dyn MemoryStore) {
    let kinds = RecordKind::ALL.into_iter().filter(|kind| *kind != RecordKind::Space);
    for kind in kinds.clone() {
        let page = store.scan(&Scan::new(kind)).await.expect("scans");
        assert_eq!((page.records, page.next), (Vec::new(), None), "an empty store");
    }
    put(store, (1..=6).flat_map(samples::one_of_each)).await;
    for kind in kinds {
        let all = scan(store, Scan::new(kind)).await;
        assert_eq!(numbers(&all), [1, 2, 3, 4, 5, 6], "{kind:?}");
        for limit in [1, 2, 3, 4, 5, 6, 7, 1_000] {
            assert_eq!(scan(store, Scan::new(kind).limit(limit)).await, all, "{kind:?}, {limit} a page");
        }
        let after = scan(store, Scan::new(kind).after(Some(cursor(&all[5]))).limit(1)).await;
        assert!(after.is_empty(), "{kind:?}: nothing after the last");
    }
    let odd = Filter::default().completed(Some(time(3)), Some(time(6)));
    for limit in [1, 2, 3, 4] {
        let filtered = scan(store, Scan::new(RecordKind::Episode).filter(odd.clone()).limit(limit)).await;
        assert_eq!(numbers(&filtered), [3, 4, 5], "filtered, {limit} a page");
    }
}

/// A page may hold a thousand records, and no more.
pub async fn scan_pages_hold_up_to_a_thousand(store: &dyn MemoryStore) {
    put(store, (0..1_001).map(|n| Record::Pattern(samples::pattern(n)))).await;
    let all = scan(store, Scan::new(RecordKind::Pattern)).await;
    assert_eq!(numbers(&all), (0..1_001).collect::<Vec<u128>>());
    assert_eq!(scan(store, Scan::new(RecordKind::Pattern).limit(999)).await, all);
}

/// Six episodes that differ in everything a filter looks at, and the filters with the episodes they let through.
pub(super) fn filtered() -> (Vec<Episode>, Vec<(Filter, Vec<u128>)>) {
    let instant = TimeDelta::nanoseconds(1);
    let parts = [
        (Task::new("task").domain("web").language("rust").tag("auth").tag("a,b"), Verdict::Success, time(0)),
        (Task::new("task").domain("Web").tag("auth"), Verdict::Failure, time(10)),
        (Task::new("task").language("rust"), Verdict::Partial, time(10) + instant),
        (Task::new("task").domain("").language("").tag("authentication").tag("\"auth\""), Verdict::Abstained, time(20)),
        (Task::new("task").domain("web").language("ru").tag("ci").tag("auth"), Verdict::Interrupted, time(30)),
        (Task::new("task").domain("we%").language("rust").tag("").tag("é"), Verdict::Success, time(86_400)),
    ];
    let episodes = (1..).zip(parts).map(|(n, (task, verdict, completed_at))| {
        let mut episode = episode(n, "");
        (episode.task, episode.outcome.verdict, episode.completed_at) = (task, verdict, completed_at);
        if n > 4 {
            episode.source = Source::untrusted("forum");
        }
        episode
    });
    let all = Filter::default;
    let filters = vec![
        (all(), vec![1, 2, 3, 4, 5, 6]),
        (all().domain("web"), vec![1, 5]),
        (all().domain("Web"), vec![2]),
        (all().domain(""), vec![4]),
        (all().domain("we%"), vec![6]),
        (all().domain("w"), vec![]),
        (all().language("rust"), vec![1, 3, 6]),
        (all().language("ru"), vec![5]),
        (all().language(""), vec![4]),
        (all().tag("auth"), vec![1, 2, 5]),
        (all().tag("auth").tag("auth"), vec![1, 2, 5]),
        (all().tag("auth").tag("ci"), vec![5]),
        (all().tag("ci").tag("a,b"), vec![]),
        (all().tag("a,b"), vec![1]),
        (all().tag("a"), vec![]),
        (all().tag("\"auth\""), vec![4]),
        (all().tag(""), vec![6]),
        (all().tag("é"), vec![6]),
        (all().tag("AUTH"), vec![]),
        (all().tag("' OR 1=1 --"), vec![]),
        (all().verdict(Verdict::Success), vec![1, 6]),
        (all().verdict(Verdict::Partial), vec![3]),
        (all().verdict(Verdict::Failure), vec![2]),
        (all().verdict(Verdict::Abstained), vec![4]),
        (all().verdict(Verdict::Interrupted), vec![5]),
        (all().completed(Some(time(10)), None), vec![2, 3, 4, 5, 6]),
        (all().completed(Some(time(10) + instant), None), vec![3, 4, 5, 6]),
        (all().completed(None, Some(time(10))), vec![1]),
        (all().completed(None, Some(time(10) + instant)), vec![1, 2]),
        (all().completed(Some(time(10)), Some(time(30))), vec![2, 3, 4]),
        (all().completed(Some(time(10)), Some(time(10))), vec![]),
        (all().completed(Some(time(30)), Some(time(10))), vec![]),
        (all().trust(Trust::Untrusted), vec![1, 2, 3, 4, 5, 6]),
        (all().trust(Trust::Trusted), vec![1, 2, 3, 4]),
        (all().trust(Trust::Trusted).domain("web"), vec![1]),
        (all().domain("web").verdict(Verdict::Success), vec![1]),
        (
            all().domain("web").language("rust").tag("auth").verdict(Verdict::Success).completed(None, Some(time(1))),
            vec![1],
        ),
        (all().domain("web").language("rust").tag("auth").verdict(Verdict::Failure), vec![]),
    ];
    (episodes.collect(), filters)
}

/// Every field of a filter keeps to its records, alone and with the others; texts are compared byte for byte.
pub async fn scan_filters_by_every_field(store: &dyn MemoryStore) {
    let (episodes, filters) = filtered();
    put(store, episodes.into_iter().map(logged)).await;
    for (filter, expected) in filters {
        for limit in [1, 2, 1_000] {
            let page = Scan::new(RecordKind::Episode).filter(filter.clone()).limit(limit);
            assert_eq!(numbers(&scan(store, page).await), expected, "{filter:?}, {limit} a page");
        }
    }
}

/// Notes that differ in everything a filter of notes looks at, and the filters with the notes they let through.
pub(super) fn filtered_notes() -> (Vec<Note>, Vec<(NoteFilter, Vec<u128>)>) {
    let instant = TimeDelta::nanoseconds(1);
    let telling = |expiry: Option<DateTime<Utc>>| {
        let mut note = NewNote::new("note");
        note.expires_at = expiry;
        Telling::new(note, time(0))
    };
    let of = |trust, expiry| Note::new(Scope::default(), trust, telling(expiry));
    let here = |expiry| of(Trust::Trusted, expiry);
    let in_sessions_of = |trust, expiry, sessions: &[&str]| {
        let first = Note::from_session(Scope::default(), sessions[0], trust, telling(expiry));
        sessions[1..].iter().fold(first, |note, session| note.told_in_session(session, telling(expiry)))
    };
    let in_sessions = |expiry, sessions: &[&str]| in_sessions_of(Trust::Trusted, expiry, sessions);
    let notes = [
        here(None),
        here(Some(time(10))),
        here(Some(time(10) + instant)),
        in_sessions(None, &["a"]),
        in_sessions(Some(time(20)), &["a", "b"]),
        in_sessions(Some(time(-5)), &["a", "b", "c", "a"]).told(telling(Some(time(-5)))),
        of(Trust::Untrusted, Some(time(15))),
        in_sessions_of(Trust::Untrusted, None, &["a", "b"]),
    ];
    let kinds = [NoteKind::Fact, NoteKind::Lesson, NoteKind::Plan, NoteKind::Preference];
    let tags: [&[&str]; 8] = [&["x", "a,b"], &["X"], &[], &["x", "y"], &["\"x\""], &["", "é"], &["x"], &["xy", "\0"]];
    let threads = [None, Some("chat"), Some("chat"), Some("Chat"), Some(""), None, Some("chat"), Some("c%\0t")];
    let notes = (1..).zip(notes).zip(kinds.into_iter().cycle()).zip(tags).zip(threads);
    let notes = notes.map(|((((n, note), kind), tags), thread)| {
        let place = thread.map(|thread| Place::new(thread, 9 - n));
        Note { id: samples::note_id(n), kind, tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), place, ..note }
    });
    let all = NoteFilter::default;
    let filters = vec![
        (all(), vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (all().alive_at(time(-6)), vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (all().alive_at(time(10)), vec![1, 3, 4, 5, 7, 8]),
        (all().alive_at(time(10) - instant), vec![1, 2, 3, 4, 5, 7, 8]),
        (all().alive_at(time(1_000)), vec![1, 4, 8]),
        (all().expired_at(time(-6)), vec![]),
        (all().expired_at(time(10)), vec![2, 6]),
        (all().expired_at(time(10) - instant), vec![6]),
        (all().expired_at(time(10) + instant), vec![2, 3, 6]),
        (all().expired_at(time(1_000)), vec![2, 3, 5, 6, 7]),
        (all().quorum(1), vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (all().quorum(2), vec![1, 2, 3, 5, 6, 7, 8]),
        (all().quorum(3), vec![1, 2, 3, 6, 7]),
        (all().quorum(u32::MAX), vec![1, 2, 3, 6, 7]),
        (all().alive_at(time(10)).quorum(2), vec![1, 3, 5, 7, 8]),
        (all().expired_at(time(1_000)).quorum(3), vec![2, 3, 6, 7]),
        (all().alive_at(time(0)).expired_at(time(15)), vec![2, 3, 7]),
        (all().trust(Trust::Untrusted), vec![7, 8]),
        (all().trust(Trust::Trusted), vec![1, 2, 3, 4, 5, 6]),
        (all().kind(NoteKind::Fact), vec![1, 5]),
        (all().kind(NoteKind::Lesson), vec![2, 6]),
        (all().kind(NoteKind::Plan), vec![3, 7]),
        (all().kind(NoteKind::Preference), vec![4, 8]),
        (all().tag("x"), vec![1, 4, 7]),
        (all().tag("x").tag("x"), vec![1, 4, 7]),
        (all().tag("x").tag("y"), vec![4]),
        (all().tag("X"), vec![2]),
        (all().tag("\"x\""), vec![5]),
        (all().tag(""), vec![6]),
        (all().tag("é").tag(""), vec![6]),
        (all().tag("a"), vec![]),
        (all().tag("a,b"), vec![1]),
        (all().tag("\0"), vec![8]),
        (all().tag("' OR 1=1 --"), vec![]),
        (all().thread("chat"), vec![2, 3, 7]),
        (all().thread("Chat"), vec![4]),
        (all().thread(""), vec![5]),
        (all().thread("c%\0t"), vec![8]),
        (all().thread("c%"), vec![]),
        (all().thread("cha"), vec![]),
        (all().thread("chat").kind(NoteKind::Plan), vec![3, 7]),
        (all().thread("chat").kind(NoteKind::Plan).trust(Trust::Trusted), vec![3]),
        (all().thread("chat").tag("x"), vec![7]),
        (all().thread("chat").alive_at(time(10)).quorum(2), vec![3, 7]),
        (all().thread("chat").expired_at(time(10)), vec![2]),
        (all().tag("x").kind(NoteKind::Fact).quorum(3).alive_at(time(0)), vec![1]),
        (all().trust(Trust::Trusted).expired_at(time(1_000)), vec![2, 3, 5, 6]),
        (all().trust(Trust::Trusted).alive_at(time(10)).quorum(2), vec![1, 3, 5]),
    ];
    (notes.collect(), filters)
}

/// Every part of a filter of notes keeps to its notes, alone and with the others, to the nanosecond, in a scope and in all.
pub async fn scan_filters_notes_by_every_field(store: &dyn MemoryStore) {
    let (notes, filters) = filtered_notes();
    put(store, notes.into_iter().map(noted)).await;
    for (filter, expected) in filters {
        for limit in [1, 2, 1_000] {
            let page = || Scan::new(RecordKind::Note).notes(filter.clone()).limit(limit);
            assert_eq!(numbers(&scan(store, page()).await), expected, "{filter:?}, {limit} a page");
            let scoped = scan(store, page().scope(Scope::default())).await;
            assert_eq!(numbers(&scoped), expected, "{filter:?}, {limit} a page, in the scope");
            assert!(scan(store, page().scope(samples::scope("other"))).await.is_empty(), "{filter:?}");
        }
    }
}

/// Scopes that a careless comparison takes for each other or for their parents.
pub(super) const SCOPES: [&str; 9] =
    ["acme", "acme/coder", "acme/coder/1", "acme/coder/10", "acme2", "Acme", "ac_e", "ac.e", "default"];

/// A scan of one scope reads nothing of another, not even of one above or below; a scan of none reads all. What belongs
/// to the whole store is in no scope.
pub async fn scan_stays_in_its_scope(store: &dyn MemoryStore) {
    for (n, scope) in (1..).zip(SCOPES) {
        let scope = samples::scope(scope);
        let mut episode = episode(n, "a task of one scope");
        episode.scope = scope.clone();
        let pattern = samples::pattern_in(&scope, n);
        let note = noted(Note { scope: scope.clone(), ..samples::note(n, "a note of one scope") });
        let open = OpenedEpisode { scope, ..samples::open(n) };
        let step = samples::step(n, 0);
        put(store, [logged(episode), Record::Pattern(pattern), Record::Open(open), Record::Step(step), note]).await;
    }
    for kind in [RecordKind::Episode, RecordKind::Pattern, RecordKind::Open, RecordKind::Note] {
        for scope in SCOPES {
            let own = scan(store, Scan::new(kind).scope(samples::scope(scope)).limit(1)).await;
            let scopes: Vec<&str> = own.iter().filter_map(|own| own.record.scope()).map(Scope::as_str).collect();
            assert_eq!(scopes, [scope], "{kind:?} of {scope}");
        }
        let none = scan(store, Scan::new(kind).scope(samples::scope("acme/coder/2"))).await;
        assert!(none.is_empty(), "{kind:?} of a scope without any");
        assert_eq!(scan(store, Scan::new(kind)).await.len(), SCOPES.len(), "{kind:?} of every scope");
    }
    put(store, [Record::Space(samples::space(2)), samples::watermark(1, 1), Record::Unembedded(samples::uuid(1))])
        .await;
    for kind in [RecordKind::Space, RecordKind::Watermark, RecordKind::Step, RecordKind::Unembedded] {
        let scoped = scan(store, Scan::new(kind).scope(samples::scope("acme"))).await;
        assert!(scoped.is_empty(), "{kind:?} records are in no scope");
    }
}

/// A limit out of range, a cursor of another kind of scan and a filter on other kinds than episodes are invalid, whatever
/// the store holds.
pub async fn scan_refuses_what_it_cannot_do(store: &dyn MemoryStore) {
    let id = episode_id(1);
    let scans = |kind: RecordKind| Scan::new(kind);
    let with_cursor = |kind: RecordKind, cursor: Cursor| Scan::new(kind).after(Some(cursor));
    let mut refused = vec![
        with_cursor(RecordKind::Episode, Cursor::Key(Key::Episode(id))),
        with_cursor(RecordKind::Episode, Cursor::Key(Key::Open(id))),
        with_cursor(RecordKind::Pattern, Cursor::Version(Version(1))),
        with_cursor(RecordKind::Pattern, Cursor::Key(Key::Open(id))),
        with_cursor(RecordKind::Open, Cursor::Key(Key::Episode(id))),
        with_cursor(RecordKind::Step, Cursor::Key(Key::Open(id))),
        with_cursor(RecordKind::Watermark, Cursor::Key(Key::Space)),
        with_cursor(RecordKind::Space, Cursor::Version(Version(0))),
        with_cursor(RecordKind::Note, Cursor::Version(Version(0))),
        with_cursor(RecordKind::Note, Cursor::Key(Key::Open(id))),
    ];
    for kind in RecordKind::ALL {
        refused.extend([0, 1_001, usize::MAX].map(|limit| scans(kind).limit(limit)));
        if kind != RecordKind::Episode {
            let filters = [
                Filter::default().domain("web"),
                Filter::default().language("rust"),
                Filter::default().tag("auth"),
                Filter::default().verdict(Verdict::Success),
                Filter::default().completed(Some(time(0)), None),
                Filter::default().completed(None, Some(time(0))),
                Filter::default().trust(Trust::Trusted),
            ];
            refused.extend(filters.map(|filter| scans(kind).filter(filter)));
        }
        if kind != RecordKind::Note {
            let any = NoteFilter::default;
            let filters = [
                any().alive_at(time(0)),
                any().expired_at(time(0)),
                any().quorum(1),
                any().trust(Trust::Trusted),
                any().kind(NoteKind::Fact),
                any().tag("x"),
                any().thread("chat"),
            ];
            refused.extend(filters.map(|filter| scans(kind).notes(filter)));
        }
    }
    for round in 0..2 {
        for scan in &refused {
            let answer = store.scan(scan).await;
            let kind = answer.as_ref().map_err(crate::Error::kind).err();
            assert_eq!(kind, Some(ErrorKind::Invalid), "round {round}: {scan:?} gave {answer:?}");
        }
        for kind in RecordKind::ALL {
            for limit in [1, 1_000] {
                store.scan(&scans(kind).limit(limit)).await.expect("a limit in range");
            }
        }
        put(store, samples::one_of_each(1)).await;
    }
}

/// Records that are there all the time are read exactly once, also if others come and go between the pages, and the one
/// at the cursor too.
pub async fn scan_goes_on_after_changes_between_pages(store: &dyn MemoryStore) {
    let kinds = [RecordKind::Episode, RecordKind::Pattern, RecordKind::Open, RecordKind::Watermark, RecordKind::Note];
    for kind in kinds {
        let record =
            |n: u32| samples::one_of_each(n).into_iter().find(|record| record.key().kind() == kind).expect("one");
        put(store, (1..=20).map(|n| n * 10).map(record)).await;
        let mut read = Vec::new();
        let mut request = Scan::new(kind).limit(4);
        for round in 0..1_000 {
            let page = store.scan(&request).await.expect("scans");
            read.extend(page.records.iter().map(number));
            // One before the cursor, the one at the cursor, one after it, and new ones on both sides.
            if round < 3 {
                let gone = [round * 40 + 20, round * 40 + 40, round * 40 + 60];
                delete(store, gone.map(|n| record(n).key())).await;
                put(store, [record(round * 40 + 1), record(round * 40 + 45), record(1_000 + round)]).await;
            }
            match page.next {
                Some(next) => request = request.after(Some(next)),
                None => break,
            }
        }
        let kept: Vec<u128> = (1..=20).map(|n| n * 10).filter(|n| !(*n <= 140 && n % 20 == 0)).collect();
        for n in kept {
            assert_eq!(read.iter().filter(|one| **one == n).count(), 1, "{kind:?} {n} is read once: {read:?}");
        }
        let distinct: std::collections::BTreeSet<&u128> = read.iter().collect();
        assert_eq!(distinct.len(), read.len(), "{kind:?}: nothing is read twice: {read:?}");
    }
}
