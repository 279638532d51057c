//! Commits to a server: many batches in one request, which is one transaction.
//!
//! Versions are counted in SQL, since nobody knows before what others write. Each batch has guards for its conditions and is left out
//! when one of them fails. It also leaves a receipt, named by a random token: when an answer is lost on the way, the same
//! request is sent again, and the guard that looks for the receipt keeps it from being written twice.

use libsql::Value;
use memory_core::{
    Commit, Condition, Durability, Error, Key, RecordKind, Result, Scope, VectorSpace, Version, check_vector,
};
use uuid::Uuid;

use super::link::{Link, step};
use super::program::{end, guard, told};
use super::protocol::{self, BatchResult, Step};
use crate::codec::{encode_vector, key_bytes};
use crate::error::from_failure;
use crate::indexing;
use crate::read::space;
use crate::session::{BEGIN_READ, BEGIN_WRITE, Session};
use crate::write::{Document, Encoded, EncodedChange, place};

/// The most bytes of one value. Servers refuse rows of five million.
const MOST_BYTES: usize = 4_000_000;
const RANGE: &str = "up to 4000000 bytes, which is what a server takes";

const PRUNE: &str = "DELETE FROM receipts WHERE at < unixepoch() - 900";
const NEW: &str = guard!("NOT EXISTS (SELECT 1 FROM receipts WHERE token = ?1)", "'applied'");
const NO_SPACE: &str = guard!("NOT EXISTS (SELECT 1 FROM records WHERE kind = 'space')", "'space'");
const SIGN: &str = "INSERT INTO receipts (token, version, at) SELECT ?1, version, unixepoch() FROM state";
const RECEIPT: &str = "SELECT version FROM receipts WHERE token = ?1";

/// Guards for the conditions on one kind of key.
struct Guards {
    same: &'static str,
    present: &'static str,
}

macro_rules! guards {
    ($found:literal, $expected:literal) => {
        Guards {
            same: guard!(concat!($found, " IS ", $expected), concat!("coalesce(", $found, ", 'nothing')")),
            present: guard!(concat!($found, " IS NOT NULL"), "'nothing'"),
        }
    };
}
const RECORD_GUARDS: Guards = guards!("(SELECT version FROM records WHERE kind = ?1 AND key = ?2)", "?3");
const EPISODE_GUARDS: Guards = guards!("(SELECT version FROM episode_records WHERE id = ?1)", "?2");
const NOTE_GUARDS: Guards = guards!("(SELECT version FROM note_records WHERE id = ?1)", "?2");

const NEXT_VERSION: &str = "UPDATE state SET version = version + 1";
const UNEARTH: &str = "DELETE FROM deleted WHERE kind = ?1 AND key = ?2";
const PUT_RECORD: &str = "INSERT INTO records (kind, key, scope, version, body)
    SELECT ?1, ?2, ?3, version, ?4 FROM state WHERE true
    ON CONFLICT DO UPDATE SET scope = excluded.scope, version = excluded.version, body = excluded.body";
const PUT_DELTA: &str = "INSERT INTO pattern_deltas (version, entries) SELECT version, ?1 FROM state";
const NEXT_VERSION_IF_RECORD: &str = "UPDATE state SET version = version + 1
    WHERE EXISTS (SELECT 1 FROM records WHERE kind = ?1 AND key = ?2)";
const BURY_RECORD: &str = "INSERT OR REPLACE INTO deleted (version, kind, key)
    SELECT version, ?1, ?2 FROM state WHERE EXISTS (SELECT 1 FROM records WHERE kind = ?1 AND key = ?2)";
const DELETE_RECORD: &str = "DELETE FROM records WHERE kind = ?1 AND key = ?2";

/// The statements for a kind of record that is searched; `?1` is its id.
struct Statements {
    put: &'static str,
    put_vector: &'static str,
    next_version: &'static str,
    bury: &'static str,
    /// In this order; each does nothing if there is no such record.
    remove: [&'static str; 6],
}

macro_rules! statements {
    ($records:literal, $index:literal, $kind:literal, $discount:literal) => {
        statements!(
            $records,
            $index,
            $kind,
            $discount,
            concat!("(SELECT version FROM ", $records, " WHERE id = ?1)"),
            // By the name of the scope; where the body does not tell it any more, from what was taken in.
            concat!(
                "coalesce((SELECT s.id FROM scopes AS s JOIN ",
                $index,
                " AS i ON i.scope = s.id, ",
                $records,
                " AS r ON i.version = r.version WHERE r.id = ?1
                     AND s.scope = CASE WHEN json_valid(r.body) THEN r.body ->> '$.scope' END),
                 (SELECT i.scope FROM ",
                $records,
                " AS r CROSS JOIN ",
                $index,
                " AS i ON i.version = r.version WHERE r.id = ?1 AND r.version <= (SELECT indexed FROM state)))"
            )
        )
    };
    ($records:literal, $index:literal, $kind:literal, $discount:literal, $version:expr, $scope:expr) => {
        Statements {
            put: concat!("INSERT INTO ", $records, " (version, id, body) SELECT version, ?1, ?2 FROM state"),
            put_vector: "INSERT INTO vectors (version, vector) SELECT version, ?1 FROM state",
            next_version: concat!(
                "UPDATE state SET version = version + 1 WHERE EXISTS (SELECT 1 FROM ",
                $records,
                " WHERE id = ?1)"
            ),
            bury: concat!(
                "INSERT OR REPLACE INTO deleted (version, kind, key) SELECT version, '",
                $kind,
                "', ?1 FROM state WHERE EXISTS (SELECT 1 FROM ",
                $records,
                " WHERE id = ?1)"
            ),
            remove: [
                concat!(
                    "UPDATE scopes SET ",
                    $discount,
                    " FROM ",
                    $index,
                    " AS i WHERE i.scope = ",
                    $scope,
                    " AND i.version = ",
                    $version,
                    " AND scopes.id = i.scope"
                ),
                concat!(
                    "DELETE FROM words WHERE rowid = (SELECT version FROM ",
                    $index,
                    " WHERE scope = ",
                    $scope,
                    " AND version = ",
                    $version,
                    ")"
                ),
                // Before the row by which the scope may be known.
                concat!("DELETE FROM scopes WHERE id = ", $scope, " AND episodes = 0 AND notes = 0"),
                concat!("DELETE FROM ", $index, " WHERE scope = ", $scope, " AND version = ", $version),
                concat!("DELETE FROM vectors WHERE version = ", $version),
                concat!("DELETE FROM ", $records, " WHERE id = ?1"),
            ],
        }
    };
}
const EPISODES: Statements = statements!(
    "episode_records",
    "episode_index",
    "episode",
    "episodes = episodes - 1, words = scopes.words - i.words, trace_words = scopes.trace_words - i.trace_words"
);
const NOTES: Statements =
    statements!("note_records", "note_index", "note", "notes = notes - 1, note_words = note_words - i.words");

fn searched(kind: RecordKind) -> Option<&'static Statements> {
    match kind {
        RecordKind::Episode => Some(&EPISODES),
        RecordKind::Note => Some(&NOTES),
        _ => None,
    }
}

/// Writes batches, as many as possible in one transaction; each is answered for itself.
pub(crate) fn commit(
    session: &mut Session,
    known: &mut Option<VectorSpace>,
    batches: &[Encoded],
) -> Vec<Result<Commit>> {
    let mut answers = Vec::with_capacity(batches.len());
    let puts_space = |batch: &Encoded| batch.changes.iter().any(|change| matches!(change, EncodedChange::Space(..)));
    // What a batch with the space does to those behind it is known when it has been written.
    for together in batches.chunk_by(|one, next| !puts_space(one) && !puts_space(next)) {
        answers.extend(commit_together(session, known, together));
    }
    answers
}

fn commit_together(session: &mut Session, known: &mut Option<VectorSpace>, batches: &[Encoded]) -> Vec<Result<Commit>> {
    match try_commit(session, known, batches) {
        Ok(answers) => answers,
        // One of them is to blame; unless nothing gets through.
        Err(error) if batches.len() > 1 && !error.is_temporary() => {
            let each = batches.iter().map(std::slice::from_ref);
            each.map(|one| try_commit(session, known, one).and_then(|mut answers| answers.remove(0))).collect()
        }
        Err(error) => batches.iter().map(|_| Err(error.again())).collect(),
    }
}

fn try_commit(
    session: &mut Session,
    known: &mut Option<VectorSpace>,
    batches: &[Encoded],
) -> Result<Vec<Result<Commit>>> {
    loop {
        let refused: Vec<Option<Error>> =
            batches.iter().map(|batch| check(session, known, batch)).collect::<Result<_>>()?;
        let accepted = batches.iter().zip(&refused).filter(|(_, refused)| refused.is_none()).map(|(batch, _)| batch);
        let group = Group::new(accepted, known.is_none());
        let Some(link) = session.link() else { return Ok(Vec::new()) };
        let mut written = group.write(link)?.into_iter();
        if written.as_slice().iter().any(|written| matches!(written, Written::SpaceIsThere)) {
            // Another process has put a space since it was looked for; the batch is alone.
            *known = session.transaction(BEGIN_READ, space)?;
            continue;
        }
        let answers = refused.into_iter().map(|refused| match refused {
            Some(error) => Err(error),
            None => written.next().map_or_else(|| Err(crate::error::closed()), Written::answer),
        });
        let answers: Vec<Result<Commit>> = answers.collect();
        learn(known, batches, &answers);
        return Ok(answers);
    }
}

/// Remembers the space that was written.
fn learn(known: &mut Option<VectorSpace>, batches: &[Encoded], answers: &[Result<Commit>]) {
    for (batch, answer) in batches.iter().zip(answers) {
        for change in &batch.changes {
            if let (EncodedChange::Space(space, _), Ok(_)) = (change, answer) {
                *known = Some(space.clone());
            }
        }
    }
}

/// Checks what can be known before; the inner error is the batch's own.
fn check(session: &mut Session, known: &mut Option<VectorSpace>, batch: &Encoded) -> Result<Option<Error>> {
    let about_space = |change: &EncodedChange| match change {
        EncodedChange::Space(..) => true,
        EncodedChange::Document(document) => document.vector.is_some(),
        _ => false,
    };
    if known.is_none() && batch.changes.iter().any(about_space) {
        *known = session.transaction(BEGIN_READ, space)?;
    }
    let mut space = known.as_ref();
    for change in &batch.changes {
        let checked = match change {
            EncodedChange::Space(new, _) => match space.filter(|old| *old != new) {
                Some(old) => Err(old.mismatch(new)),
                None => {
                    space = Some(new);
                    Ok(())
                }
            },
            EncodedChange::Document(document) => check_document(document, space),
            EncodedChange::Put { body, .. } => check_bytes("encoded record", body.len()),
            EncodedChange::Patterns(deltas) => {
                deltas.iter().try_for_each(|delta| check_bytes("encoded pattern", delta.len()))
            }
            EncodedChange::Delete(_) => Ok(()),
        };
        if let Err(error) = checked {
            return Ok(Some(error));
        }
    }
    Ok(None)
}

fn check_document(document: &Document, space: Option<&VectorSpace>) -> Result<()> {
    if let Some(vector) = &document.vector {
        check_vector(vector, space)?;
        check_bytes("vector", 4 * vector.as_slice().len())?;
    }
    check_bytes("encoded record", document.body.len())?;
    // What the text index holds of a record may be longer than the record; a few times.
    if document.body.len() > MOST_BYTES / 8 {
        check_bytes("words of the record", indexing::longest_value(&document.key, &document.body)?)?;
    }
    Ok(())
}

fn check_bytes(what: &str, bytes: usize) -> Result<()> {
    if bytes <= MOST_BYTES { Ok(()) } else { Err(Error::invalid(what, format_args!("{bytes} bytes"), RANGE)) }
}

/// What came of a batch.
enum Written {
    Done(Version),
    Refused(Error),
    SpaceIsThere,
}

impl Written {
    fn answer(self) -> Result<Commit> {
        match self {
            Self::Done(version) => Ok(Commit { version, durability: Durability::Durable }),
            Self::Refused(error) => Err(error),
            Self::SpaceIsThere => Err(crate::error::closed()),
        }
    }
}

/// Batches as the steps of one request.
struct Group<'a> {
    steps: Vec<Step>,
    batches: Vec<Placed<'a>>,
    commit: usize,
}

/// Where the steps of a batch are.
struct Placed<'a> {
    conditions: &'a [Condition],
    /// The first guard; one for each condition comes behind it, and perhaps one for the space.
    first: usize,
    last_guard: usize,
    /// The step that looks for the receipt; the one before it writes it, if all before it have succeeded.
    receipt: usize,
}

impl<'a> Group<'a> {
    fn new(batches: impl Iterator<Item = &'a Encoded>, no_space: bool) -> Self {
        let mut steps = vec![step(BEGIN_WRITE.1, vec![], None)];
        steps.push(step(PRUNE, vec![], Some(protocol::Condition::Ok { step: 0 })));
        let batches: Vec<Placed<'_>> = batches.map(|batch| Placed::new(&mut steps, batch, no_space)).collect();
        let done = |placed: &Placed<'_>| {
            let (refused, signed) =
                (protocol::Condition::not_ok(placed.last_guard), protocol::Condition::Ok { step: placed.receipt - 1 });
            protocol::Condition::Or { conds: vec![refused, signed] }
        };
        let all_done = batches.iter().map(done).collect();
        let commit = end(&mut steps, all_done);
        Self { steps, batches, commit }
    }

    /// Writes them, again when the answer is lost.
    fn write(&self, link: &Link) -> Result<Vec<Written>> {
        let server = link.server();
        server.insist(|| {
            let result = server.batch(&self.steps)?;
            if result.step_results.get(self.commit).is_none_or(Option::is_none) {
                let guard = |step: usize| self.batches.iter().any(|one| (one.first..=one.last_guard).contains(&step));
                let mut failed = result.step_errors.iter().enumerate().filter(|(step, _)| !guard(*step));
                let failure = failed.find_map(|(_, failure)| failure.as_ref());
                let unknown = protocol::Failure::default();
                return Err(from_failure(server.address(), failure.unwrap_or(&unknown)));
            }
            self.batches.iter().map(|placed| placed.written(&result, link)).collect()
        })
    }
}

impl<'a> Placed<'a> {
    fn new(steps: &mut Vec<Step>, batch: &'a Encoded, no_space: bool) -> Self {
        let token = Value::Blob(Uuid::now_v7().as_bytes().to_vec());
        let first = steps.len();
        steps.push(step(NEW, vec![token.clone()], Some(protocol::Condition::Ok { step: 0 })));
        for condition in &batch.conditions {
            let (sql, values) = guard_of(condition);
            push(steps, steps.len() - 1, sql, values);
        }
        if no_space && batch.changes.iter().any(|change| matches!(change, EncodedChange::Space(..))) {
            push(steps, steps.len() - 1, NO_SPACE, vec![]);
        }
        let last_guard = steps.len() - 1;
        let mut write = |sql, values| push(steps, steps.len() - 1, sql, values);
        batch.changes.iter().for_each(|change| write_change(&mut write, change));
        write(SIGN, vec![token.clone()]);
        let receipt = steps.len();
        steps.push(step(RECEIPT, vec![token], Some(protocol::Condition::Ok { step: 0 })));
        Self { conditions: &batch.conditions, first, last_guard, receipt }
    }

    fn written(&self, result: &BatchResult, link: &Link) -> Result<Written> {
        let row = result.step_results.get(self.receipt).and_then(Option::as_ref).and_then(|step| step.rows.first());
        if let Some(Value::Integer(version)) = row.and_then(|row| row.first()).map(|value| &value.0) {
            return Ok(Written::Done(Version(u64::try_from(*version).unwrap_or_default())));
        }
        let guards = self.first..=self.last_guard;
        let failed = guards.clone().find_map(|step| Some((step, result.step_errors.get(step)?.as_ref()?)));
        let Some((step, failure)) = failed else {
            return Err(from_failure(link.server().address(), &protocol::Failure::default()));
        };
        let condition = (step - self.first).checked_sub(1).and_then(|place| self.conditions.get(place));
        Ok(match (told(failure), condition) {
            (Some(found), Some(condition)) => Written::Refused(condition.conflict(found.parse().ok().map(Version))),
            (Some("space"), None) => Written::SpaceIsThere,
            _ => Written::Refused(from_failure(link.server().address(), failure)),
        })
    }
}

/// Appends a step that runs if another one succeeded.
fn push(steps: &mut Vec<Step>, after: usize, sql: &'static str, values: Vec<Value>) {
    steps.push(step(sql, values, Some(protocol::Condition::Ok { step: after })));
}

fn guard_of(condition: &Condition) -> (&'static str, Vec<Value>) {
    let key = condition.key();
    let (guards, mut values) = match key.kind() {
        RecordKind::Episode => (&EPISODE_GUARDS, vec![key_bytes(key).into()]),
        RecordKind::Note => (&NOTE_GUARDS, vec![key_bytes(key).into()]),
        _ => (&RECORD_GUARDS, place(key)),
    };
    match condition {
        Condition::Present(_) => return (guards.present, values),
        Condition::Absent(_) => values.push(Value::Null),
        Condition::Unchanged(_, Version(version)) => values.push(crate::codec::integer(*version)),
    }
    (guards.same, values)
}

fn write_change(write: &mut impl FnMut(&'static str, Vec<Value>), change: &EncodedChange) {
    match change {
        EncodedChange::Document(document) => put_document(write, document),
        EncodedChange::Space(_, body) => put(write, &Key::Space, None, body),
        EncodedChange::Put { key, scope, body } => put(write, key, scope.as_ref(), body),
        EncodedChange::Patterns(deltas) => {
            write(NEXT_VERSION, vec![]);
            deltas.iter().for_each(|delta| write(PUT_DELTA, vec![Value::Blob(delta.clone())]));
        }
        EncodedChange::Delete(key) => delete(write, key),
    }
}

fn put(write: &mut impl FnMut(&'static str, Vec<Value>), key: &Key, scope: Option<&Scope>, body: &str) {
    if key.kind().in_feed() {
        write(UNEARTH, place(key));
    }
    write(NEXT_VERSION, vec![]);
    let mut values = place(key);
    values.extend([scope.map(Scope::as_str).into(), body.into()]);
    write(PUT_RECORD, values);
}

fn put_document(write: &mut impl FnMut(&'static str, Vec<Value>), document: &Document) {
    let Document { key, new, vector, body } = document;
    let Some(statements) = searched(key.kind()) else { return };
    let id = || Value::Blob(key_bytes(key));
    if !*new {
        statements.remove.iter().for_each(|sql| write(sql, vec![id()]));
    }
    write(UNEARTH, place(key));
    write(NEXT_VERSION, vec![]);
    write(statements.put, vec![id(), body.as_str().into()]);
    if let Some(vector) = vector {
        write(statements.put_vector, vec![encode_vector(vector)]);
    }
}

fn delete(write: &mut impl FnMut(&'static str, Vec<Value>), key: &Key) {
    match searched(key.kind()) {
        Some(statements) => {
            let all = [statements.next_version, statements.bury].into_iter().chain(statements.remove);
            all.for_each(|sql| write(sql, vec![Value::Blob(key_bytes(key))]));
        }
        None => {
            write(NEXT_VERSION_IF_RECORD, place(key));
            if key.kind().in_feed() {
                write(BURY_RECORD, place(key));
            }
            write(DELETE_RECORD, place(key));
        }
    }
}
