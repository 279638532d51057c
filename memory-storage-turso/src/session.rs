//! One connection with its prepared statements, on the thread that owns it.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libsql::{Builder, Connection, Statement, Value};
use memory_core::{Error, ErrorKind, Result};

use crate::error::{corrupt_column, from_libsql};
use crate::learned::Deltas;

/// A statement: the table that its columns are of, for messages, and its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sql(pub(crate) &'static str, pub(crate) &'static str);

pub(crate) const BEGIN_READ: Sql = Sql("", "BEGIN DEFERRED");
pub(crate) const BEGIN_WRITE: Sql = Sql("", "BEGIN IMMEDIATE");
const COMMIT: Sql = Sql("", "COMMIT");

/// A connection. It must be opened, used and dropped on one thread.
pub(crate) struct Session {
    path: Arc<Path>,
    /// Before the connection, so that it is dropped before it.
    statements: HashMap<&'static str, Rc<Statement>>,
    connection: Connection,
    deltas: Deltas,
}

impl Session {
    pub(crate) fn open(path: Arc<Path>, busy_timeout: Duration) -> Result<Self> {
        let database = at(&path, Builder::new_local(&path).build())?;
        let connection = database.connect().map_err(|error| from_libsql(&path, error))?;
        let session = Self { path, statements: HashMap::new(), connection, deltas: Deltas::default() };
        session.set_busy_timeout(busy_timeout)?;
        Ok(session)
    }

    /// Shares what other sessions of the store have read.
    pub(crate) fn share(&mut self, deltas: &Deltas) {
        self.deltas = deltas.clone();
    }

    pub(crate) fn deltas(&self) -> Deltas {
        self.deltas.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn set_busy_timeout(&self, timeout: Duration) -> Result<()> {
        self.connection.busy_timeout(timeout).map_err(|error| from_libsql(&self.path, error))
    }

    /// Runs statements without parameters and without an answer, not prepared: pragmas, which take effect while they are
    /// prepared, and migrations.
    pub(crate) fn script(&self, text: &str) -> Result<()> {
        at(&self.path, self.connection.execute_batch(text)).map(drop)
    }

    /// Runs a statement and tells how many rows it changed.
    pub(crate) fn execute(&mut self, sql: Sql, values: Vec<Value>) -> Result<u64> {
        let statement = self.statement(sql)?;
        let done = at(&self.path, statement.run(values));
        statement.reset();
        done.map(|()| self.connection.changes())
    }

    /// Starts a query. It must be dropped before the same statement is used again.
    pub(crate) fn query(&mut self, sql: Sql, values: Vec<Value>) -> Result<Rows> {
        let statement = self.statement(sql)?;
        let rows = at(&self.path, statement.query(values));
        Ok(Rows { rows: rows?, statement, table: sql.0, path: Arc::clone(&self.path) })
    }

    /// Reads the first row, if there is one.
    pub(crate) fn first<T>(
        &mut self,
        sql: Sql,
        values: Vec<Value>,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut rows = self.query(sql, values)?;
        rows.next()?.map(|row| read(&row)).transpose()
    }

    /// Runs all of `work` in one transaction, which ends before this returns.
    pub(crate) fn transaction<T>(&mut self, begin: Sql, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.execute(begin, vec![])?;
        let done = work(self).and_then(|done| self.execute(COMMIT, vec![]).map(|_| done));
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    /// Makes the connection usable again after a request that ended anywhere.
    pub(crate) fn recover(&mut self) {
        self.statements.clear();
        self.roll_back();
    }

    /// The transaction is over afterwards: SQLite refuses a rollback only when there is nothing to roll back, which is so
    /// after some failures.
    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            let _ = self.script("ROLLBACK");
        }
    }

    fn statement(&mut self, Sql(_, text): Sql) -> Result<Rc<Statement>> {
        if let Some(statement) = self.statements.get(text) {
            return Ok(Rc::clone(statement));
        }
        let statement = Rc::new(at(&self.path, self.connection.prepare(text))?);
        self.statements.insert(text, Rc::clone(&statement));
        Ok(statement)
    }
}

/// Polls a call of libSQL on a local database, which is ready at once.
fn at<T>(path: &Path, call: impl Future<Output = libsql::Result<T>>) -> Result<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done.map_err(|error| from_libsql(path, error)),
        Poll::Pending => Err(Error::new(ErrorKind::Io, format!("{}: a local call was not ready", path.display()))),
    }
}

/// The rows of a query.
pub(crate) struct Rows {
    rows: libsql::Rows,
    statement: Rc<Statement>,
    table: &'static str,
    path: Arc<Path>,
}

impl Rows {
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        let row = at(&self.path, self.rows.next())?;
        Ok(row.map(|row| Row { row, rows: self }))
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.statement.reset();
    }
}

/// A row, valid until the next one is read.
///
/// Text columns must be read as blobs (`CAST(… AS BLOB)`): libSQL cuts text at the first zero byte and panics when a damaged
/// file makes it something else than UTF-8.
pub(crate) struct Row<'a> {
    row: libsql::Row,
    rows: &'a Rows,
}

impl Row<'_> {
    pub(crate) fn integer(&self, index: i32) -> Result<i64> {
        match self.value(index)? {
            Value::Integer(value) => Ok(value),
            other => Err(self.corrupt(index, kind(&other))),
        }
    }

    /// An integer that is never negative.
    pub(crate) fn count(&self, index: i32) -> Result<u64> {
        let value = self.integer(index)?;
        u64::try_from(value).map_err(|_| self.corrupt(index, value))
    }

    pub(crate) fn blob(&self, index: i32) -> Result<Vec<u8>> {
        match self.value(index)? {
            Value::Blob(value) => Ok(value),
            other => Err(self.corrupt(index, kind(&other))),
        }
    }

    pub(crate) fn optional_blob(&self, index: i32) -> Result<Option<Vec<u8>>> {
        match self.value(index)? {
            Value::Null => Ok(None),
            Value::Blob(value) => Ok(Some(value)),
            other => Err(self.corrupt(index, kind(&other))),
        }
    }

    /// A text column, cast to a blob.
    pub(crate) fn text(&self, index: i32) -> Result<String> {
        String::from_utf8(self.blob(index)?).map_err(|error| self.corrupt(index, error))
    }

    /// The error for a value that does not belong here.
    pub(crate) fn corrupt(&self, index: i32, found: impl std::fmt::Display) -> Error {
        corrupt_column(self.rows.table, self.row.column_name(index).unwrap_or("?"), found)
    }

    fn value(&self, index: i32) -> Result<Value> {
        self.row.get_value(index).map_err(|error| from_libsql(&self.rows.path, error))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Integer(_) => "an integer",
        Value::Real(_) => "a real number",
        Value::Text(_) => "text",
        Value::Blob(_) => "bytes",
    }
}
