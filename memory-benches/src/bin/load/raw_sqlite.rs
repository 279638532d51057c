//! What no store over SQLite can exceed: bare rows by the same library.

use std::path::Path;

use libsql::{Builder, Connection, Value};
use tokio::runtime::Runtime;

use crate::AnyError;
use crate::limits::Paced;

/// A table of a number and a record's bytes, write-ahead logged and synced with each transaction.
pub(crate) struct RawSqlite {
    runtime: Runtime,
    connection: Connection,
    rows: i64,
}

impl RawSqlite {
    pub(crate) fn create(file: &Path) -> Result<Self, AnyError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let connection = runtime.block_on(async {
            let connection = Builder::new_local(file).build().await?.connect()?;
            const START: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                                 CREATE TABLE records (number INTEGER PRIMARY KEY, record BLOB NOT NULL)";
            connection.execute_batch(START).await?;
            Ok::<_, AnyError>(connection)
        })?;
        Ok(Self { runtime, connection, rows: 0 })
    }

    /// The version of SQLite.
    pub(crate) fn version(&self) -> Result<String, AnyError> {
        self.runtime.block_on(async {
            let mut rows = self.connection.query("SELECT sqlite_version()", ()).await?;
            match rows.next().await?.map(|row| row.get_value(0)).transpose()? {
                Some(Value::Text(version)) => Ok(version),
                other => Err(format!("sqlite_version() is {other:?}").into()),
            }
        })
    }

    /// Rows a second, so many a transaction.
    pub(crate) fn insert(&mut self, records: &[Vec<u8>], most: usize, together: usize) -> Result<f64, AnyError> {
        let Self { runtime, connection, rows } = self;
        runtime.block_on(async {
            let [begin, insert, commit] = ["BEGIN IMMEDIATE", "INSERT INTO records VALUES (?1, ?2)", "COMMIT"]
                .map(|text| connection.prepare(text));
            let (begin, insert, commit) = (begin.await?, insert.await?, commit.await?);
            let mut paced = Paced::new(records, most);
            while let Some(first) = paced.next() {
                if together > 1 {
                    begin.run(()).await?;
                    begin.reset();
                }
                for record in std::iter::once(first).chain(paced.by_ref().take(together - 1)) {
                    *rows += 1;
                    insert.run([Value::Integer(*rows), Value::Blob(record.to_vec())]).await?;
                    insert.reset();
                }
                if together > 1 {
                    commit.run(()).await?;
                    commit.reset();
                }
            }
            Ok(paced.rate())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_there_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let mut raw = RawSqlite::create(&folder.path().join("raw.db")).unwrap();
        let records = [vec![1; 10], vec![2; 20]];
        for together in [1, 3] {
            let rate = raw.insert(&records, 7, together).unwrap();
            assert!(rate > 0.0 && rate.is_finite(), "{rate}");
        }
        let counted = raw.runtime.block_on(async {
            let mut rows = raw.connection.query("SELECT count(*), sum(length(record)) FROM records", ()).await.unwrap();
            let row = rows.next().await.unwrap().unwrap();
            [0, 1].map(|column| row.get_value(column).unwrap())
        });
        assert_eq!(counted, [Value::Integer(14), Value::Integer(2 * (4 * 10 + 3 * 20))]);
        assert!(raw.version().unwrap().starts_with("3."));
    }
}
