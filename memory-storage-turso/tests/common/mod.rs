//! What several tests need.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::panic,
    reason = "not every test needs everything, and tests may panic"
)]

#[cfg(feature = "remote")]
pub(crate) mod sqld;

use std::path::{Path, PathBuf};

use memory_core::MemoryStore as _;
pub(crate) use memory_core::testkit::generated::*;
use memory_storage_turso::TursoStore;
use tempfile::TempDir;

/// A folder that goes with the test, and a path in it.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    (folder, path)
}

/// Runs SQL as another program would.
pub(crate) async fn sql(path: &Path, text: &str) {
    let database = libsql::Builder::new_local(path).build().await.unwrap();
    database.connect().unwrap().execute_batch(text).await.unwrap();
}

/// The one number that a query answers, as another program would read it.
pub(crate) async fn number(path: &Path, query: &str) -> i64 {
    let database = libsql::Builder::new_local(path).build().await.unwrap();
    let mut rows = database.connect().unwrap().query(query, ()).await.unwrap();
    match rows.next().await.unwrap().unwrap().get_value(0).unwrap() {
        libsql::Value::Integer(number) => number,
        other => panic!("{other:?}"),
    }
}

/// Checks that a file that nobody has open is sound, and that search has taken in everything.
pub(crate) async fn assert_sound(path: &Path) {
    let behind = "SELECT count(*) FROM state, (
                      SELECT version FROM episode_records UNION ALL SELECT version FROM note_records) AS r
                  WHERE r.version > indexed";
    assert_eq!(number(path, behind).await, 0, "records that search has not taken in");
    let store = TursoStore::open(path).await.unwrap();
    assert_eq!(store.check().await.unwrap(), [""; 0]);
    store.close().await.unwrap();
}
