//! One connection, on the thread that owns it: to a file, with its prepared statements, or to a server.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libsql::{Builder, Connection, OpenFlags, Statement, Value};
use memory_core::{Error, ErrorKind, Result, VectorSpace};

use crate::encryption::DatabaseFile;
use crate::error::{corrupt_column, from_libsql};
use crate::learned::Deltas;
#[cfg(feature = "remote")]
use crate::remote::{
    link::{self, Link},
    server::Server,
};

/// A statement: the table that its columns are of, for messages, and its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sql(pub(crate) &'static str, pub(crate) &'static str);

pub(crate) const BEGIN_READ: Sql = Sql("", "BEGIN DEFERRED");
pub(crate) const BEGIN_WRITE: Sql = Sql("", "BEGIN IMMEDIATE");
const COMMIT: Sql = Sql("", "COMMIT");

/// A connection. It must be opened, used and dropped on one thread.
pub(crate) struct Session {
    path: Arc<Path>,
    to: To,
    deltas: Deltas,
    space: KnownSpace,
    has_key: bool,
}

/// The vector space that a store is used in: the first that it was seen to have.
pub(crate) type KnownSpace = Arc<OnceLock<VectorSpace>>;

/// What a connection is to.
enum To {
    File(Local),
    #[cfg(feature = "remote")]
    Server(Link),
}

/// A connection to a file.
struct Local {
    /// Before the connection, so that it is dropped before it.
    statements: HashMap<&'static str, Rc<Statement>>,
    connection: Connection,
}

impl Session {
    pub(crate) fn open(file: DatabaseFile, busy_timeout: Duration) -> Result<Self> {
        Self::open_with(file, OpenFlags::default(), busy_timeout)
    }

    /// Opens a file that is there, only to look at it: it stays as it is, and its write-ahead log too.
    pub(crate) fn open_read_only(file: DatabaseFile, busy_timeout: Duration) -> Result<Self> {
        Self::open_with(file, OpenFlags::SQLITE_OPEN_READ_ONLY, busy_timeout)
    }

    fn open_with(DatabaseFile { path, key }: DatabaseFile, flags: OpenFlags, busy_timeout: Duration) -> Result<Self> {
        let builder = Builder::new_local(&path).flags(flags);
        let builder = if let Some(key) = key { builder.encryption_config(key.config()) } else { builder };
        let database = at(&path, builder.build())?;
        let connection = database.connect().map_err(|error| from_libsql(&path, error))?;
        let to = To::File(Local { statements: HashMap::new(), connection });
        let (deltas, space) = (Deltas::default(), KnownSpace::default());
        let session = Self { path, to, deltas, space, has_key: key.is_some() };
        session.set_busy_timeout(busy_timeout)?;
        Ok(session)
    }

    /// A connection to a server, which is made when it is used.
    #[cfg(feature = "remote")]
    pub(crate) fn to_server(server: &Arc<Server>) -> Self {
        let to = To::Server(Link::new(Arc::clone(server)));
        let path = Arc::clone(server.address());
        Self { path, to, deltas: Deltas::default(), space: KnownSpace::default(), has_key: false }
    }

    /// The connection, if it is to a server.
    #[cfg(feature = "remote")]
    pub(crate) fn link(&mut self) -> Option<&mut Link> {
        match &mut self.to {
            To::File(_) => None,
            To::Server(link) => Some(link),
        }
    }

    /// Whether it is to a server, so that each statement is a long way.
    pub(crate) fn is_remote(&self) -> bool {
        match &self.to {
            To::File(_) => false,
            #[cfg(feature = "remote")]
            To::Server(_) => true,
        }
    }

    /// Whether it was opened with the key of an encrypted file.
    pub(crate) fn has_key(&self) -> bool {
        self.has_key
    }

    /// Announces statements of the transaction, so that a server is asked for all of them at once.
    #[cfg_attr(not(feature = "remote"), expect(unused_variables, reason = "a file is asked one by one"))]
    pub(crate) fn ahead(&mut self, queries: impl FnOnce() -> Vec<(Sql, Vec<Value>)>) -> Result<()> {
        match &mut self.to {
            To::File(_) => Ok(()),
            #[cfg(feature = "remote")]
            To::Server(link) => link.ahead(queries()),
        }
    }

    /// Announces all statements of the transaction, before it does anything else.
    #[cfg_attr(not(feature = "remote"), expect(unused_variables, reason = "a file is asked one by one"))]
    pub(crate) fn whole(&mut self, queries: impl FnOnce() -> Vec<(Sql, Vec<Value>)>) -> Result<()> {
        match &mut self.to {
            To::File(_) => Ok(()),
            #[cfg(feature = "remote")]
            To::Server(link) => link.whole(queries()),
        }
    }

    /// Does what need not be done before an answer is given.
    pub(crate) fn settle(&mut self) {
        match &mut self.to {
            To::File(_) => {}
            #[cfg(feature = "remote")]
            To::Server(link) => link.settle(),
        }
    }

    /// Shares what other sessions of the store have read.
    pub(crate) fn share(&mut self, deltas: &Deltas, space: &KnownSpace) {
        self.deltas = deltas.clone();
        self.space = Arc::clone(space);
    }

    /// Takes note of the vector space, if it is the first; gives the first.
    pub(crate) fn know_space(&self, space: &VectorSpace) -> &VectorSpace {
        self.space.get_or_init(|| space.clone())
    }

    pub(crate) fn deltas(&self) -> Deltas {
        self.deltas.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn set_busy_timeout(&self, timeout: Duration) -> Result<()> {
        match &self.to {
            To::File(local) => local.connection.busy_timeout(timeout).map_err(|error| from_libsql(&self.path, error)),
            #[cfg(feature = "remote")]
            To::Server(_) => Ok(()),
        }
    }

    /// Runs statements without parameters and without an answer, not prepared: pragmas, which take effect while they are
    /// prepared, and migrations.
    pub(crate) fn script(&mut self, text: &str) -> Result<()> {
        match &mut self.to {
            To::File(local) => at(&self.path, local.connection.execute_batch(text)).map(drop),
            #[cfg(feature = "remote")]
            To::Server(link) => link.script(text),
        }
    }

    /// Runs a statement and tells how many rows it changed.
    pub(crate) fn execute(&mut self, sql: Sql, values: Vec<Value>) -> Result<u64> {
        match &mut self.to {
            To::File(local) => local.execute(&self.path, sql, values),
            #[cfg(feature = "remote")]
            To::Server(link) => link.execute(sql, values),
        }
    }

    /// Starts a query. It must be dropped before the same statement is used again.
    pub(crate) fn query(&mut self, sql: Sql, values: Vec<Value>) -> Result<Rows> {
        let rows = match &mut self.to {
            To::File(local) => {
                let statement = local.statement(&self.path, sql)?;
                let rows = at(&self.path, statement.query(values));
                Found::File(rows?, statement)
            }
            #[cfg(feature = "remote")]
            To::Server(link) => Found::Server(link.query(sql, values)?),
        };
        Ok(Rows { rows, table: sql.0, path: Arc::clone(&self.path) })
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
        self.begin(begin)?;
        let done = work(self).and_then(|done| self.commit(begin).map(|()| done));
        if done.is_err() {
            self.roll_back(begin);
        }
        done
    }

    /// Makes the connection usable again after a request that ended anywhere.
    pub(crate) fn recover(&mut self) {
        match &mut self.to {
            To::File(local) => local.statements.clear(),
            #[cfg(feature = "remote")]
            To::Server(_) => {}
        }
        self.roll_back(BEGIN_WRITE);
    }

    fn begin(&mut self, begin: Sql) -> Result<()> {
        match &mut self.to {
            To::File(local) => local.execute(&self.path, begin, vec![]).map(drop),
            #[cfg(feature = "remote")]
            To::Server(link) => {
                link.begin(begin);
                Ok(())
            }
        }
    }

    #[cfg_attr(
        not(feature = "remote"),
        expect(unused_variables, reason = "only a server's transactions end differently")
    )]
    fn commit(&mut self, begin: Sql) -> Result<()> {
        match &mut self.to {
            To::File(local) => local.execute(&self.path, COMMIT, vec![]).map(drop),
            #[cfg(feature = "remote")]
            To::Server(link) => link.commit(begin),
        }
    }

    /// The transaction is over afterwards: SQLite refuses a rollback only when there is nothing to roll back, which is so
    /// after some failures.
    #[cfg_attr(
        not(feature = "remote"),
        expect(unused_variables, reason = "only a server's transactions end differently")
    )]
    fn roll_back(&mut self, begin: Sql) {
        match &mut self.to {
            To::File(local) => {
                if !local.connection.is_autocommit() {
                    let _ = at(&self.path, local.connection.execute_batch("ROLLBACK"));
                }
            }
            #[cfg(feature = "remote")]
            To::Server(link) => link.abandon(begin),
        }
    }
}

impl Local {
    fn execute(&mut self, path: &Path, sql: Sql, values: Vec<Value>) -> Result<u64> {
        let statement = self.statement(path, sql)?;
        let done = at(path, statement.run(values));
        statement.reset();
        done.map(|()| self.connection.changes())
    }

    fn statement(&mut self, path: &Path, Sql(_, text): Sql) -> Result<Rc<Statement>> {
        if let Some(statement) = self.statements.get(text) {
            return Ok(Rc::clone(statement));
        }
        let statement = Rc::new(at(path, self.connection.prepare(text))?);
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
    rows: Found,
    table: &'static str,
    path: Arc<Path>,
}

/// Where rows come from.
enum Found {
    File(libsql::Rows, Rc<Statement>),
    #[cfg(feature = "remote")]
    Server(link::Rows),
}

impl Rows {
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        let row = match &mut self.rows {
            Found::File(rows, _) => at(&self.path, rows.next())?.map(Columns::File),
            #[cfg(feature = "remote")]
            Found::Server(rows) => rows.next()?.map(Columns::Server),
        };
        Ok(row.map(|row| Row { row, rows: self }))
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        match &self.rows {
            Found::File(_, statement) => statement.reset(),
            #[cfg(feature = "remote")]
            Found::Server(_) => {}
        }
    }
}

/// A row, valid until the next one is read.
///
/// Text columns must be read as blobs (`CAST(… AS BLOB)`): libSQL cuts text at the first zero byte and panics when a damaged
/// file makes it something else than UTF-8.
pub(crate) struct Row<'a> {
    row: Columns,
    rows: &'a Rows,
}

enum Columns {
    File(libsql::Row),
    #[cfg(feature = "remote")]
    Server(link::Row),
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
        let name = match &self.row {
            Columns::File(row) => row.column_name(index),
            #[cfg(feature = "remote")]
            Columns::Server(row) => row.column_name(index),
        };
        corrupt_column(self.rows.table, name.unwrap_or("?"), found)
    }

    fn value(&self, index: i32) -> Result<Value> {
        match &self.row {
            Columns::File(row) => row.get_value(index).map_err(|error| from_libsql(&self.rows.path, error)),
            #[cfg(feature = "remote")]
            Columns::Server(row) => row.value(index).cloned().ok_or_else(|| self.corrupt(index, "no such column")),
        }
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
