//! Reads by key, page by page, and of the change feed; each within a transaction that its caller began.

use libsql::Value;
use memory_core::{
    Changes, Cursor, ErrorKind, FeedEntry, Filter, Key, NoteFilter, Page, Record, RecordKind, Result, Scan, Scope,
    Searched, StoreHealth, Stored, VectorSpace, Version, check_limit,
};

use crate::codec::{body, decode, integer, key, key_bytes, moment, record_key, record_kind, trust, vector, version};
use crate::error::moved;
use crate::indexing;
use crate::learned::{Learned, raw_key};
use crate::session::{Row, Session, Sql};

/// What must hold for an episode `e`, in SQL; [`filter_values`] gives `?1` to `?10`. All of it stands in
/// `episode_index`.
macro_rules! filtered {
    () => {
        "(?2 IS NULL OR e.domain IS ?2) AND (?3 IS NULL OR e.language IS ?3) AND (?4 IS NULL OR e.verdict = ?4) \
         AND (?5 IS NULL OR NOT EXISTS (SELECT 1 FROM json_each(?5) AS wanted WHERE wanted.value NOT IN \
             (SELECT value FROM json_each(e.tags)))) \
         AND (?6 IS NULL OR (e.completed_at, e.completed_nanos) >= (?6, ?7)) \
         AND (?8 IS NULL OR (e.completed_at, e.completed_nanos) < (?8, ?9)) \
         AND (?10 IS NULL OR e.trusted >= ?10)"
    };
}
pub(crate) use filtered;

/// What must hold for a note `n`, in SQL; [`note_filter_values`] gives `?1` to `?10`. All of it stands in
/// `note_index`.
macro_rules! filtered_notes {
    () => {
        "(?2 IS NULL OR n.expires_at IS NULL OR (n.expires_at, n.expires_nanos) > (?2, ?3)) \
         AND (?4 IS NULL OR n.expires_at IS NOT NULL AND (n.expires_at, n.expires_nanos) <= (?4, ?5)) \
         AND (?6 IS NULL OR n.told_here = 1 OR n.sessions >= ?6) AND (?7 IS NULL OR n.trusted = ?7) \
         AND (?8 IS NULL OR n.kind = ?8) \
         AND (?9 IS NULL OR NOT EXISTS (SELECT 1 FROM json_each(?9) AS wanted WHERE wanted.value NOT IN \
             (SELECT value FROM json_each(n.tags)))) \
         AND (?10 IS NULL OR n.thread IS ?10)"
    };
}
pub(crate) use filtered_notes;

/// The body of a record, unless it is too long to be one: then nothing, so that it is never brought into memory.
macro_rules! bounded_body {
    () => {
        "CASE WHEN octet_length(body) <= 10000000 THEN CAST(body AS BLOB) END AS body"
    };
}
pub(crate) use bounded_body;

const EPISODE: Sql = Sql(
    "episode_records",
    concat!(
        "SELECT version, ",
        bounded_body!(),
        ", vector FROM episode_records LEFT JOIN vectors USING (version) WHERE id = ?1"
    ),
);
const NOTE: Sql = Sql(
    "note_records",
    concat!(
        "SELECT version, ",
        bounded_body!(),
        ", vector FROM note_records LEFT JOIN vectors USING (version) WHERE id = ?1"
    ),
);
const RECORD: Sql =
    Sql("records", concat!("SELECT version, ", bounded_body!(), " FROM records WHERE kind = ?1 AND key = ?2"));

const SCAN_EPISODES: Sql = Sql(
    "episode_records",
    concat!(
        "SELECT version, ",
        bounded_body!(),
        ", vector, id FROM episode_records LEFT JOIN vectors USING (version) WHERE version > ?1 ORDER BY version LIMIT ?2"
    ),
);
const SCAN_EPISODES_IN_SCOPE: Sql = Sql(
    "episode_records",
    concat!(
        "SELECT e.version, ",
        bounded_body!(),
        ", vector, e.id FROM episode_index AS e CROSS JOIN episode_records AS r ON r.version = e.version \
         LEFT JOIN vectors AS v ON v.version = e.version \
         WHERE e.scope = (SELECT id FROM scopes WHERE scope = ?1) AND e.version > ?11 AND ",
        filtered!(),
        " ORDER BY e.version LIMIT ?12"
    ),
);

const SCAN_NOTES: Sql = Sql(
    "note_records",
    concat!(
        "SELECT version, ",
        bounded_body!(),
        ", vector, id FROM note_records LEFT JOIN vectors USING (version) WHERE id > ?1 ORDER BY id LIMIT ?2"
    ),
);
macro_rules! scan_notes {
    ($index:literal, $which:literal) => {
        Sql(
            "note_records",
            concat!(
                "SELECT n.version, ",
                bounded_body!(),
                ", vector, n.id FROM note_index AS n ",
                $index,
                " CROSS JOIN note_records AS r ON r.version = n.version LEFT JOIN vectors AS v ON v.version = n.version \
                 WHERE (?1 IS NULL OR n.scope = (SELECT id FROM scopes WHERE scope = ?1)) AND ",
                $which,
                " AND n.id > ?11 AND ",
                filtered_notes!(),
                " ORDER BY n.id LIMIT ?12"
            ),
        )
    };
}
const SCAN_NOTES_IN_SCOPE: Sql =
    scan_notes!("INDEXED BY notes_by_scope", "n.scope = (SELECT id FROM scopes WHERE scope = ?1)");
const SCAN_NOTES_OF_THREAD: Sql =
    scan_notes!("INDEXED BY notes_by_thread", "n.scope = (SELECT id FROM scopes WHERE scope = ?1) AND n.thread = ?10");
/// Reads no more than what has expired, or will: it is asked for again and again.
const SCAN_EXPIRED_NOTES: Sql = scan_notes!("INDEXED BY notes_by_expiry", "n.expires_at <= ?4");

const SCAN_RECORDS: Sql = Sql(
    "records",
    concat!(
        "SELECT version, ",
        bounded_body!(),
        ", key FROM records WHERE ?1 IS NULL AND kind = ?2 AND key > ?3 ORDER BY key LIMIT ?4"
    ),
);
const SCAN_RECORDS_IN_SCOPE: Sql = Sql(
    "records",
    concat!(
        "SELECT version, ",
        bounded_body!(),
        ", key FROM records INDEXED BY records_by_scope WHERE scope = ?1 AND kind = ?2 AND key > ?3 ORDER BY key LIMIT ?4"
    ),
);

const VERSION: Sql = Sql("state", "SELECT version FROM state");
const CHANGES: Sql = Sql(
    "change feed",
    "SELECT version, CAST(kind AS BLOB) AS kind, key, deleted FROM (
         SELECT version, 'episode' AS kind, id AS key, 0 AS deleted FROM episode_records WHERE version > ?1
         UNION ALL
         SELECT version, 'note', id, 0 FROM note_records WHERE version > ?1
         UNION ALL
         SELECT version, kind, key, 0 FROM records WHERE kind IN ('space', 'watermark') AND version > ?1
         UNION ALL
         SELECT version, kind, key, 1 FROM deleted WHERE version > ?1
         ORDER BY version LIMIT ?2)",
);
const HEALTH: Sql = Sql(
    "counts",
    "SELECT version,
            (SELECT coalesce(sum(episodes), 0) FROM scopes)
                + (SELECT count(*) FROM episode_records WHERE version > indexed) AS episodes,
            (SELECT count(*) FROM records WHERE kind = 'open' AND scope IS NOT NULL) AS open,
            (SELECT coalesce(sum(notes), 0) FROM scopes)
                + (SELECT count(*) FROM note_records WHERE version > indexed) AS notes
     FROM state",
);

/// A page ends early when its bodies have this many bytes together.
const PAGE_BYTES: usize = 16_000_000;

/// The values of [`filtered`], and of the scope.
pub(crate) fn filter_values(scope: Value, filter: &Filter) -> Vec<Value> {
    let [(from, from_nanos), (before, before_nanos)] =
        [filter.completed_from, filter.completed_before].map(|at| at.map(moment).unzip());
    vec![
        scope,
        filter.domain.clone().into(),
        filter.language.clone().into(),
        filter.verdict.map(|verdict| verdict.as_str()).into(),
        wanted_tags(&filter.tags),
        from.into(),
        from_nanos.into(),
        before.into(),
        before_nanos.into(),
        filter.trust.map_or(Value::Null, trust),
    ]
}

/// The values of [`filtered_notes`], and of the scope.
pub(crate) fn note_filter_values(scope: Value, filter: &NoteFilter) -> Vec<Value> {
    let [(alive, alive_nanos), (expired, expired_nanos)] =
        [filter.alive_at, filter.expired_at].map(|at| at.map(moment).unzip());
    vec![
        scope,
        alive.into(),
        alive_nanos.into(),
        expired.into(),
        expired_nanos.into(),
        filter.quorum.into(),
        filter.trust.map_or(Value::Null, trust),
        filter.kind.map(|kind| kind.as_str()).into(),
        wanted_tags(&filter.tags),
        filter.thread.clone().into(),
    ]
}

/// The JSON array of the tags that must be there, if there are any.
fn wanted_tags(tags: &[String]) -> Value {
    (!tags.is_empty()).then(|| serde_json::Value::from(tags).to_string()).into()
}

/// The vector space of the store. Fails if it is another than it was: then vectors must be neither given nor taken.
pub(crate) fn space(session: &mut Session) -> Result<Option<VectorSpace>> {
    let Some(Stored { record: Record::Space(space), .. }) = get_one(session, &Key::Space)? else { return Ok(None) };
    match session.know_space(&space) {
        known if *known != space => Err(moved(known, &space)),
        _ => Ok(Some(space)),
    }
}

/// Fails if the space is another than it was, where records of this kind may have vectors. One that is damaged does not keep them
/// from being read. Those of a server are never replaced.
fn check_space(session: &mut Session, kind: RecordKind) -> Result<()> {
    if !matches!(kind, RecordKind::Episode | RecordKind::Note) || session.is_remote() {
        return Ok(());
    }
    match space(session) {
        Err(error) if error.kind() == ErrorKind::SpaceMismatch => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn get(session: &mut Session, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
    #[cfg(feature = "remote")]
    announce(session, keys)?;
    if let Some(key) = keys.iter().find(|key| matches!(key, Key::Episode(_) | Key::Note(_))) {
        check_space(session, key.kind())?;
    }
    let mut learned: Option<Learned> = None;
    #[cfg(feature = "remote")]
    if session.is_remote() {
        let patterns: Vec<_> = keys.iter().filter_map(raw_key).collect();
        learned = if patterns.is_empty() { None } else { Some(Learned::read_for(session, &patterns)?) };
    }
    let get = |key: &Key| match raw_key(key) {
        None => get_one(session, key),
        Some(raw) => match &learned {
            Some(learned) => learned.get(session, &raw),
            None => learned.insert(Learned::read(session)?).get(session, &raw),
        },
    };
    keys.iter().map(get).collect()
}

/// Has a server asked for all of them at once.
#[cfg(feature = "remote")]
fn announce(session: &mut Session, keys: &[Key]) -> Result<()> {
    let patterns: Vec<_> = keys.iter().filter_map(raw_key).collect();
    let others = keys.iter().filter(|key| raw_key(key).is_none()).map(one);
    if patterns.is_empty() {
        return session.whole(|| others.collect());
    }
    session.ahead(|| crate::learned::announced(&patterns).into_iter().chain(others).collect())
}

/// What is asked for one record that is no pattern.
pub(crate) fn one(key: &Key) -> (Sql, Vec<Value>) {
    match key {
        Key::Episode(_) => (EPISODE, vec![key_bytes(key).into()]),
        Key::Note(_) => (NOTE, vec![key_bytes(key).into()]),
        _ => (RECORD, vec![key.kind().as_str().into(), key_bytes(key).into()]),
    }
}

fn get_one(session: &mut Session, key: &Key) -> Result<Option<Stored>> {
    let (sql, values) = one(key);
    let has_vector = matches!(key, Key::Episode(_) | Key::Note(_));
    let found = session.first(sql, values, |row| {
        let vector = if has_vector { vector(row, 2)? } else { None };
        Ok(Stored { version: version(row, 0)?, record: decode(key, &body(row, 1)?, vector)? })
    })?;
    if let Some(Stored { record: Record::Space(space), .. }) = &found {
        session.know_space(space);
    }
    Ok(found)
}

pub(crate) fn scan(session: &mut Session, scan: &Scan) -> Result<Page> {
    scan.validate()?;
    if matches!(scan.kind, RecordKind::Pattern | RecordKind::Habit) {
        return Learned::read(session)?.scan(session, scan);
    }
    check_space(session, scan.kind)?;
    let (sql, values) = statement(scan);
    page(session, scan, sql, values)
}

fn statement(scan: &Scan) -> (Sql, Vec<Value>) {
    match scan.kind {
        RecordKind::Episode => scan_of_episodes(scan),
        RecordKind::Note => scan_of_notes(scan),
        _ => scan_of_records(scan),
    }
}

/// Announces all that a scan asks.
pub(crate) fn announce_scan(session: &mut Session, scan: &Scan) -> Result<()> {
    if scan.validate().is_err() || matches!(scan.kind, RecordKind::Pattern | RecordKind::Habit) {
        return Ok(());
    }
    let behind = is_of_index(scan).then(indexing::behind);
    session.whole(|| behind.into_iter().chain([statement(scan)]).collect())
}

/// Whether a scan reads tables that follow the log.
pub(crate) fn is_of_index(scan: &Scan) -> bool {
    match scan.kind {
        RecordKind::Episode => scan.scope.is_some(),
        RecordKind::Note => scan.scope.is_some() || scan.notes.expired_at.is_some(),
        _ => false,
    }
}

/// One more than the page may have, to know whether there are more.
fn limit(scan: &Scan) -> Value {
    integer(scan.limit as u64 + 1)
}

fn scan_of_episodes(scan: &Scan) -> (Sql, Vec<Value>) {
    let after = match scan.after {
        Some(Cursor::Version(version)) => integer(version.0),
        _ => integer(0),
    };
    match &scan.scope {
        None => (SCAN_EPISODES, vec![after, limit(scan)]),
        Some(scope) => {
            let mut values = filter_values(Value::from(scope.as_str()), &scan.filter);
            values.extend([after, limit(scan)]);
            (SCAN_EPISODES_IN_SCOPE, values)
        }
    }
}

fn scan_of_notes(scan: &Scan) -> (Sql, Vec<Value>) {
    let after = match &scan.after {
        Some(Cursor::Key(key)) => Value::Blob(key_bytes(key)),
        _ => Value::Blob(Vec::new()),
    };
    let sql = match (scan.notes.expired_at, &scan.scope, &scan.notes.thread) {
        (Some(_), ..) => SCAN_EXPIRED_NOTES,
        (None, Some(_), Some(_)) => SCAN_NOTES_OF_THREAD,
        (None, Some(_), None) => SCAN_NOTES_IN_SCOPE,
        (None, None, _) => return (SCAN_NOTES, vec![after, limit(scan)]),
    };
    let mut values = note_filter_values(scan.scope.as_ref().map(Scope::as_str).into(), &scan.notes);
    values.extend([after, limit(scan)]);
    (sql, values)
}

fn scan_of_records(scan: &Scan) -> (Sql, Vec<Value>) {
    let after = match &scan.after {
        Some(Cursor::Key(key)) => Value::Blob(key_bytes(key)),
        // Text sorts before all blobs, the empty one too.
        _ => Value::Text(String::new()),
    };
    let scope = scan.scope.as_ref().map(Scope::as_str).into();
    let values = vec![scope, scan.kind.as_str().into(), after, limit(scan)];
    (if scan.scope.is_some() { SCAN_RECORDS_IN_SCOPE } else { SCAN_RECORDS }, values)
}

fn page(session: &mut Session, scan: &Scan, sql: Sql, values: Vec<Value>) -> Result<Page> {
    let mut rows = session.query(sql, values)?;
    let (mut records, mut read, mut bytes, mut last) = (Vec::<Stored>::new(), 0, 0, None);
    while let Some(row) = rows.next()? {
        if read == scan.limit || bytes >= PAGE_BYTES {
            return Ok(Page { records, next: last });
        }
        let text = body(&row, 1)?;
        let stored = scanned(&row, scan.kind, &text)?;
        (read, bytes) = (read + 1, bytes + text.len());
        last = Some(match stored.record {
            Record::Episode(_) => Cursor::Version(stored.version),
            _ => Cursor::Key(stored.record.key()),
        });
        records.extend(matches(scan, &stored.record).then_some(stored));
    }
    Ok(Page { records, next: None })
}

/// Whether a record passes the filters. In a scope, SQL has looked already.
fn matches(scan: &Scan, record: &Record) -> bool {
    scan.scope.is_some()
        || match record {
            Record::Episode(logged) => scan.filter.matches(&logged.episode),
            Record::Note(stored) => scan.notes.matches(&stored.note),
            _ => true,
        }
}

fn scanned(row: &Row<'_>, kind: RecordKind, text: &[u8]) -> Result<Stored> {
    let record = match kind {
        RecordKind::Episode => decode(&record_key(row, 3, Searched::Episodes)?, text, vector(row, 2)?)?,
        RecordKind::Note => decode(&record_key(row, 3, Searched::Notes)?, text, vector(row, 2)?)?,
        _ => decode(&key_at(row, 2, kind)?, text, None)?,
    };
    Ok(Stored { version: version(row, 0)?, record })
}

fn key_at(row: &Row<'_>, index: i32, kind: RecordKind) -> Result<Key> {
    let bytes = row.blob(index)?;
    let found = || format!("{} bytes, which are no key of kind {}", bytes.len(), kind.as_str());
    key(kind, &bytes).ok_or_else(|| row.corrupt(index, found()))
}

/// How far a database has come, in all that is counted upward; the version of the last change first. Within a transaction of which
/// this is all.
#[cfg(feature = "replica")]
pub(crate) fn progress(session: &mut Session) -> Result<[u64; 3]> {
    const PROGRESS: Sql = Sql("state", "SELECT version, indexed, merges FROM state");
    session.whole(|| vec![(PROGRESS, vec![])])?;
    let progress = session.first(PROGRESS, vec![], |row| Ok([row.count(0)?, row.count(1)?, row.count(2)?]))?;
    Ok(progress.unwrap_or_default())
}

pub(crate) fn changes(session: &mut Session, since: Version, limit: usize) -> Result<Changes> {
    check_limit(limit)?;
    let values = vec![integer(since.0), integer(limit as u64)];
    session.whole(|| vec![(VERSION, vec![]), (CHANGES, values.clone())])?;
    let last = session.first(VERSION, vec![], |row| version(row, 0))?.unwrap_or_default();
    if last <= since {
        return Ok(Changes { entries: Vec::new(), upto: since });
    }
    let (mut rows, mut entries) = (session.query(CHANGES, values)?, Vec::new());
    while let Some(row) = rows.next()? {
        entries.push(feed_entry(&row)?);
    }
    let upto = match entries.last() {
        Some(entry) if entries.len() == limit => entry.version,
        _ => last,
    };
    Ok(Changes { entries, upto })
}

fn feed_entry(row: &Row<'_>) -> Result<FeedEntry> {
    let name = row.blob(1)?;
    let kind = record_kind(&name).ok_or_else(|| row.corrupt(1, String::from_utf8_lossy(&name)))?;
    Ok(FeedEntry { version: version(row, 0)?, key: key_at(row, 2, kind)?, deleted: row.integer(3)? != 0 })
}

pub(crate) fn health(session: &mut Session) -> Result<StoreHealth> {
    session.ahead(|| crate::learned::announced_count().into_iter().chain([(HEALTH, vec![])]).collect())?;
    let patterns = Learned::read(session)?.count(session)?;
    let health = session.first(HEALTH, vec![], |row| {
        let (episodes, open_episodes, notes) = (row.count(1)?, row.count(2)?, row.count(3)?);
        Ok(StoreHealth { version: version(row, 0)?, episodes, open_episodes, patterns, notes, degraded: None })
    })?;
    Ok(health.unwrap_or_default())
}
