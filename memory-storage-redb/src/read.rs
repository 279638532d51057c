//! What is read of one committed state.

use std::ops::Bound;

use memory_core::{
    Changes, Cursor, EpisodeId, Error, FeedEntry, Key, Page, Record, RecordKind, Result, Scan, StoreHealth, Stored,
    Version, check_limit,
};
use uuid::Uuid;

use crate::codec::{self, key_bytes, kind_byte};
use crate::tables::{LOG, Moment, Rising, place_of, read_feed_row, scoped_key};

/// A page ends after so many records were looked at, however few of them passed the filter: nobody waits longer for it.
const MOST_LOOKED_AT: usize = 10_000;

pub(crate) fn get(moment: &Moment, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
    moment.file().guarded(|| keys.iter().map(|key| moment.record(key)).collect())
}

pub(crate) fn health(moment: &Moment) -> StoreHealth {
    let count = |kind| moment.state.count(kind);
    StoreHealth {
        version: Version(moment.state.version),
        episodes: count(RecordKind::Episode),
        open_episodes: count(RecordKind::Open),
        patterns: count(RecordKind::Pattern) + count(RecordKind::Habit),
        notes: count(RecordKind::Note),
        degraded: None,
    }
}

pub(crate) fn changes(moment: &Moment, since: Version, limit: usize) -> Result<Changes> {
    check_limit(limit)?;
    moment.file().guarded(|| {
        let (mut entries, mut rising) = (Vec::new(), Rising::after(since.0));
        for row in moment.feed.range_owned(since.0.saturating_add(1)..).map_err(|error| moment.file().error(error))? {
            let (version, row) = row.map_err(|error| moment.file().error(error))?;
            rising.check(moment.file(), version.value())?;
            let (key, deleted) = read_feed_row(version.value(), row.value())?;
            entries.push(FeedEntry { version: Version(version.value()), key, deleted });
            if entries.len() == limit {
                break;
            }
        }
        let upto = match entries.last() {
            Some(last) if entries.len() == limit => last.version,
            _ => Version(moment.state.version.max(since.0)),
        };
        Ok(Changes { entries, upto })
    })
}

pub(crate) fn scan(moment: &Moment, scan: &Scan) -> Result<Page> {
    scan.validate()?;
    moment.file().guarded(|| {
        let mut page = Filling { scan, records: Vec::new(), looked_at: 0, next: None };
        match (&scan.scope, scan.kind) {
            (Some(scope), kind) => scoped(moment, scope.as_str(), kind, &mut page)?,
            (None, RecordKind::Episode) => scoped(moment, LOG, RecordKind::Episode, &mut page)?,
            (None, kind) => of_kind(moment, kind, &mut page)?,
        }
        Ok(Page { records: page.records, next: page.next })
    })
}

/// A page that is being filled.
struct Filling<'a> {
    scan: &'a Scan,
    records: Vec<Stored>,
    looked_at: usize,
    next: Option<Cursor>,
}

impl Filling<'_> {
    /// Whether the page is over; then it goes on after the last record that it looked at.
    fn is_over(&mut self, last: Option<Cursor>) -> bool {
        let over = self.records.len() == self.scan.limit || self.looked_at == MOST_LOOKED_AT;
        if over {
            self.next = last;
        }
        over
    }

    fn take(&mut self, stored: Stored) {
        self.looked_at += 1;
        let fits = match &stored.record {
            Record::Episode(logged) => self.scan.filter.matches(&logged.episode),
            Record::Note(stored) => self.scan.notes.matches(&stored.note),
            _ => true,
        };
        if fits {
            self.records.push(stored);
        }
    }
}

/// The records of another kind, of all scopes.
fn of_kind(moment: &Moment, kind: RecordKind, page: &mut Filling<'_>) -> Result<()> {
    let failed = |error| moment.file().error(error);
    let (first, end) = ([kind_byte(kind)], [kind_byte(kind) + 1]);
    let after = match &page.scan.after {
        Some(Cursor::Key(key)) => Some(key_bytes(key)),
        _ => None,
    };
    let start = after.as_ref().map_or(Bound::Included(&first[..]), |key| Bound::Excluded(&**key));
    let (mut last, mut rising) = (None, Rising::default());
    for row in moment.records.range_owned::<&[u8]>((start, Bound::Excluded(&end[..]))).map_err(failed)? {
        if page.is_over(last.take()) {
            return Ok(());
        }
        let (key, row) = row.map_err(failed)?;
        rising.check(moment.file(), key.value().to_vec())?;
        let key = codec::key(key.value())?;
        page.take(moment.decode(&key, row.value())?);
        last = Some(Cursor::Key(key));
    }
    Ok(())
}

/// The records of a kind in one scope, or the episodes of the [`LOG`].
fn scoped(moment: &Moment, scope: &str, kind: RecordKind, page: &mut Filling<'_>) -> Result<()> {
    let failed = |error| moment.file().error(error);
    let prefix = scoped_key(kind, scope, &[]);
    let after = match &page.scan.after {
        Some(Cursor::Version(version)) => scoped_key(kind, scope, &place_of(*version)),
        Some(Cursor::Key(key)) => scoped_key(kind, scope, &key_bytes(key)),
        None => prefix.clone(),
    };
    // The prefix alone is no row.
    let rows = moment.scoped.range_owned::<&[u8]>((Bound::Excluded(&after[..]), Bound::Unbounded)).map_err(failed)?;
    let (mut last, mut rising) = (None, Rising::default());
    for row in rows {
        let (place, value) = row.map_err(failed)?;
        rising.check(moment.file(), place.value().to_vec())?;
        let Some(place) = place.value().strip_prefix(&prefix[..]) else { return Ok(()) };
        if page.is_over(last.take()) {
            return Ok(());
        }
        let (stored, cursor) = at_place(moment, kind, place, value.value())?;
        if scope != LOG && stored.record.scope().is_none_or(|found| found.as_str() != scope) {
            return Err(moment.file().corrupt(format_args!("{cursor:?} is not in {scope}")));
        }
        page.take(stored);
        last = Some(cursor);
    }
    Ok(())
}

/// The record at this place of its scope, and the cursor after it.
fn at_place(moment: &Moment, kind: RecordKind, place: &[u8], value: &[u8]) -> Result<(Stored, Cursor)> {
    if kind != RecordKind::Episode {
        let key = codec::key(place)?;
        return Ok((moment.record_of(&key)?, Cursor::Key(key)));
    }
    let damaged = || -> Error { moment.file().corrupt("a row of the episodes of a scope is damaged") };
    let version = Version(place.try_into().map(u64::from_be_bytes).map_err(|_| damaged())?);
    let key = Key::Episode(EpisodeId::new(Uuid::from_slice(value).map_err(|_| damaged())?));
    Ok((at_version(moment, &key, version)?, Cursor::Version(version)))
}

/// The record that another row says has this version.
fn at_version(moment: &Moment, key: &Key, version: Version) -> Result<Stored> {
    let stored = moment.record_of(key)?;
    if stored.version == version {
        return Ok(stored);
    }
    Err(moment.file().corrupt(format_args!("{key:?} has version {}, not {}", stored.version.0, version.0)))
}
