//! Reads by key, page by page, and of the change feed.

use libsql::Value;
use memory_core::{
    Changes, Cursor, FeedEntry, Filter, Key, NoteFilter, Page, Record, RecordKind, Result, Scan, Scope, Searched,
    StoreHealth, Stored, VectorSpace, Version, check_limit,
};

use crate::codec::{body, decode, integer, key, key_bytes, moment, record_kind, searched_key, trust, vector, version};
use crate::session::{BEGIN_READ, Row, Session, Sql};

/// What must hold for an episode `e`, in SQL; [`filter_values`] gives `?1` to `?10`. All of it stands in the index
/// `episodes_search`.
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

/// What must hold for a note `n`, in SQL; [`note_filter_values`] gives `?1` to `?10`. All of it stands in the index
/// `notes_search`.
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
    "episodes",
    concat!(
        "SELECT version, ",
        bounded_body!(),
        ", vector FROM episodes LEFT JOIN vectors ON episode = version WHERE id = ?1"
    ),
);
const NOTE: Sql = Sql(
    "notes",
    concat!(
        "SELECT version, ",
        bounded_body!(),
        ", vector FROM notes LEFT JOIN note_vectors ON note = version WHERE id = ?1"
    ),
);
const RECORD: Sql =
    Sql("records", concat!("SELECT version, ", bounded_body!(), " FROM records WHERE kind = ?1 AND key = ?2"));

macro_rules! scan_episodes {
    ($index:literal, $scope:literal) => {
        Sql(
            "episodes",
            concat!(
                "SELECT e.version, ",
                bounded_body!(),
                ", vector, CAST(id AS BLOB) AS id FROM episodes AS e ",
                $index,
                " LEFT JOIN vectors ON episode = e.version WHERE ",
                $scope,
                " AND e.version > ?11 AND ",
                filtered!(),
                " ORDER BY e.version LIMIT ?12"
            ),
        )
    };
}
const SCAN_EPISODES: Sql = scan_episodes!("NOT INDEXED", "?1 IS NULL");
const SCAN_EPISODES_IN_SCOPE: Sql = scan_episodes!("INDEXED BY episodes_search", "e.scope = ?1");

macro_rules! scan_notes {
    ($index:literal, $scope:literal) => {
        Sql(
            "notes",
            concat!(
                "SELECT n.version, ",
                bounded_body!(),
                ", vector, CAST(id AS BLOB) AS id FROM notes AS n ",
                $index,
                " LEFT JOIN note_vectors ON note = n.version WHERE ",
                $scope,
                " AND n.id > ?11 AND ",
                filtered_notes!(),
                " ORDER BY n.id LIMIT ?12"
            ),
        )
    };
}
const SCAN_NOTES: Sql = scan_notes!("", "?1 IS NULL");
const SCAN_NOTES_IN_SCOPE: Sql = scan_notes!("INDEXED BY notes_by_scope", "n.scope = ?1");
const SCAN_NOTES_OF_THREAD: Sql = scan_notes!("INDEXED BY notes_by_thread", "n.scope = ?1 AND n.thread = ?10");
/// Reads no more than what has expired, or will: it is asked for again and again.
const SCAN_EXPIRED_NOTES: Sql =
    scan_notes!("INDEXED BY notes_by_expiry", "(?1 IS NULL OR n.scope = ?1) AND n.expires_at <= ?4");

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

const VERSION: Sql = Sql("counter", "SELECT version FROM counter");
const CHANGES: Sql = Sql(
    "change feed",
    "SELECT version, CAST(kind AS BLOB) AS kind, key, deleted FROM (
         SELECT version, 'episode' AS kind, CAST(id AS BLOB) AS key, 0 AS deleted FROM episodes WHERE version > ?1
         UNION ALL
         SELECT version, 'note', CAST(id AS BLOB), 0 FROM notes WHERE version > ?1
         UNION ALL
         SELECT version, kind, key, 0 FROM records WHERE kind IN ('space', 'watermark') AND version > ?1
         UNION ALL
         SELECT version, kind, key, 1 FROM deleted WHERE version > ?1
         ORDER BY version LIMIT ?2)",
);
const HEALTH: Sql = Sql(
    "counts",
    "SELECT (SELECT version FROM counter) AS version,
            (SELECT coalesce(sum(episodes), 0) FROM scopes) AS episodes,
            (SELECT count(*) FROM records WHERE kind = 'open' AND scope IS NOT NULL) AS open,
            (SELECT count(*) FROM records WHERE kind IN ('pattern', 'habit') AND scope IS NOT NULL) AS pattern,
            (SELECT coalesce(sum(notes), 0) FROM note_scopes) AS notes",
);

/// A page ends early when its bodies have this many bytes together.
const PAGE_BYTES: usize = 16_000_000;

/// The values of [`filtered`], and of the scope.
pub(crate) fn filter_values(scope: Option<&Scope>, filter: &Filter) -> Vec<Value> {
    let [(from, from_nanos), (before, before_nanos)] =
        [filter.completed_from, filter.completed_before].map(|at| at.map(moment).unzip());
    vec![
        scope.map(Scope::as_str).into(),
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
pub(crate) fn note_filter_values(scope: Option<&Scope>, filter: &NoteFilter) -> Vec<Value> {
    let [(alive, alive_nanos), (expired, expired_nanos)] =
        [filter.alive_at, filter.expired_at].map(|at| at.map(moment).unzip());
    vec![
        scope.map(Scope::as_str).into(),
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

/// The vector space of the store.
pub(crate) fn space(session: &mut Session) -> Result<Option<VectorSpace>> {
    Ok(match get_one(session, &Key::Space)? {
        Some(Stored { record: Record::Space(space), .. }) => Some(space),
        _ => None,
    })
}

pub(crate) fn get(session: &mut Session, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
    session.transaction(BEGIN_READ, |session| keys.iter().map(|key| get_one(session, key)).collect())
}

fn get_one(session: &mut Session, key: &Key) -> Result<Option<Stored>> {
    let searched = match key {
        Key::Episode(id) => Some((EPISODE, id.to_string())),
        Key::Note(id) => Some((NOTE, id.to_string())),
        _ => None,
    };
    match searched {
        Some((sql, id)) => session.first(sql, vec![id.into()], |row| {
            Ok(Stored { version: version(row, 0)?, record: decode(key, &body(row, 1)?, vector(row, 2)?)? })
        }),
        None => session.first(RECORD, vec![key.kind().as_str().into(), key_bytes(key).into()], |row| {
            Ok(Stored { version: version(row, 0)?, record: decode(key, &body(row, 1)?, None)? })
        }),
    }
}

pub(crate) fn scan(session: &mut Session, scan: &Scan) -> Result<Page> {
    scan.validate()?;
    let limit = Value::from(i64::try_from(scan.limit + 1).unwrap_or(i64::MAX));
    let scoped = scan.scope.is_some();
    let (sql, values) = if scan.kind == RecordKind::Episode {
        let after = match scan.after {
            Some(Cursor::Version(version)) => version,
            _ => Version(0),
        };
        let mut values = filter_values(scan.scope.as_ref(), &scan.filter);
        values.extend([integer(after.0), limit]);
        (if scoped { SCAN_EPISODES_IN_SCOPE } else { SCAN_EPISODES }, values)
    } else if scan.kind == RecordKind::Note {
        let after = match &scan.after {
            Some(Cursor::Key(Key::Note(id))) => id.to_string(),
            _ => String::new(),
        };
        let mut values = note_filter_values(scan.scope.as_ref(), &scan.notes);
        values.extend([after.into(), limit]);
        let sql = match (scan.notes.expired_at, scoped, &scan.notes.thread) {
            (Some(_), ..) => SCAN_EXPIRED_NOTES,
            (None, true, Some(_)) => SCAN_NOTES_OF_THREAD,
            (None, true, None) => SCAN_NOTES_IN_SCOPE,
            (None, false, _) => SCAN_NOTES,
        };
        (sql, values)
    } else {
        let after = match &scan.after {
            Some(Cursor::Key(key)) => Value::Blob(key_bytes(key)),
            // Text sorts before all blobs, the empty one too.
            _ => Value::Text(String::new()),
        };
        let scope = scan.scope.as_ref().map(Scope::as_str).into();
        let values = vec![scope, scan.kind.as_str().into(), after, limit];
        (if scoped { SCAN_RECORDS_IN_SCOPE } else { SCAN_RECORDS }, values)
    };
    session.transaction(BEGIN_READ, |session| page(session, scan, sql, values))
}

fn page(session: &mut Session, scan: &Scan, sql: Sql, values: Vec<Value>) -> Result<Page> {
    let mut rows = session.query(sql, values)?;
    let (mut records, mut bytes) = (Vec::<Stored>::new(), 0);
    while let Some(row) = rows.next()? {
        if records.len() == scan.limit || bytes >= PAGE_BYTES {
            let next = records.last().map(|last| match last.record {
                Record::Episode(_) => Cursor::Version(last.version),
                _ => Cursor::Key(last.record.key()),
            });
            return Ok(Page { records, next });
        }
        let text = body(&row, 1)?;
        bytes += text.len();
        records.push(scanned(&row, scan.kind, &text)?);
    }
    Ok(Page { records, next: None })
}

fn scanned(row: &Row<'_>, kind: RecordKind, text: &[u8]) -> Result<Stored> {
    let record = match kind {
        RecordKind::Episode => decode(&searched_key(row, 3, Searched::Episodes)?, text, vector(row, 2)?)?,
        RecordKind::Note => decode(&searched_key(row, 3, Searched::Notes)?, text, vector(row, 2)?)?,
        _ => decode(&key_at(row, 2, kind)?, text, None)?,
    };
    Ok(Stored { version: version(row, 0)?, record })
}

fn key_at(row: &Row<'_>, index: i32, kind: RecordKind) -> Result<Key> {
    let bytes = row.blob(index)?;
    let found = || format!("{} bytes, which are no key of kind {}", bytes.len(), kind.as_str());
    key(kind, &bytes).ok_or_else(|| row.corrupt(index, found()))
}

pub(crate) fn changes(session: &mut Session, since: Version, limit: usize) -> Result<Changes> {
    check_limit(limit)?;
    session.transaction(BEGIN_READ, |session| {
        let last = session.first(VERSION, vec![], |row| version(row, 0))?.unwrap_or_default();
        let values = vec![integer(since.0), integer(limit as u64)];
        let (mut rows, mut entries) = (session.query(CHANGES, values)?, Vec::new());
        while let Some(row) = rows.next()? {
            entries.push(feed_entry(&row)?);
        }
        let upto = match entries.last() {
            Some(entry) if entries.len() == limit => entry.version,
            _ => last.max(since),
        };
        Ok(Changes { entries, upto })
    })
}

fn feed_entry(row: &Row<'_>) -> Result<FeedEntry> {
    let name = row.blob(1)?;
    let kind = record_kind(&name).ok_or_else(|| row.corrupt(1, String::from_utf8_lossy(&name)))?;
    let deleted = row.integer(3)? != 0;
    let key = match kind {
        RecordKind::Episode if !deleted => searched_key(row, 2, Searched::Episodes)?,
        RecordKind::Note if !deleted => searched_key(row, 2, Searched::Notes)?,
        _ => key_at(row, 2, kind)?,
    };
    Ok(FeedEntry { version: version(row, 0)?, key, deleted })
}

pub(crate) fn health(session: &mut Session) -> Result<StoreHealth> {
    let health = session.first(HEALTH, vec![], |row| {
        Ok(StoreHealth {
            version: version(row, 0)?,
            episodes: row.count(1)?,
            open_episodes: row.count(2)?,
            patterns: row.count(3)?,
            notes: row.count(4)?,
        })
    })?;
    Ok(health.unwrap_or_default())
}
