//! Exports, to be imported: whole files, or lines to stand between the first and the last, and then whatever they are.

use std::sync::{Arc, LazyLock};

use memory_core::testkit::{ManualClock, samples};
use memory_core::{Error, ErrorKind, ImportOptions, InMemoryStore, Memory};
use tokio::runtime::Runtime;

use crate::runtime;

static EMPTY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let runtime = runtime();
    runtime.block_on(async { export(&memory().await).await })
});

pub(crate) fn run(data: &[u8]) {
    let runtime = runtime();
    let header = EMPTY.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_file = data.starts_with(br#"{"format""#);
    let body = data.trim_ascii_end();
    let count = |begin: &[u8]| body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(begin)).count();
    let (episodes, notes) = (count(br#"{"episode""#), count(br#"{"note""#));
    let end = format!("\n{{\"end\":{{\"episodes\":{episodes},\"notes\":{notes}}}}}\n");
    let whole = if is_file { data.to_vec() } else { [header, body, end.as_bytes()].concat() };
    if let Err(error) = file(&runtime, &whole) {
        told(&error);
    }
}

/// Imports a file: all of it comes back, or nothing of it is there.
fn file(runtime: &Runtime, data: &[u8]) -> Result<(), Error> {
    runtime.block_on(async {
        let (memory, options) = (memory().await, ImportOptions::new());
        let tried = memory.import(data, &ImportOptions::new().dry_run()).await;
        assert_eq!(export(&memory).await, *EMPTY, "nothing is written for a try");
        if let Err(error) = memory.import(data, &options).await {
            assert_eq!(export(&memory).await, *EMPTY, "nothing of a file that is wrong is there: {error}");
            return Err(error);
        }
        tried.expect("what can be imported can be tried");
        let written = export(&memory).await;
        let again = memory.import(data, &options).await.expect("importing again changes nothing");
        assert_eq!((again.episodes, again.notes), (0, 0));
        assert_eq!(export(&memory).await, written);
        let other = self::memory().await;
        other.import(&written[..], &options).await.expect("what was exported can be imported");
        assert_eq!(export(&other).await, written);
        Ok(())
    })
}

/// An error tells what is wrong, and where.
fn told(error: &Error) {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Foreign | ErrorKind::SchemaTooNew => {}
        ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::AlreadyExists => {
            assert!(message.contains("line "), "{message}")
        }
        kind => panic!("{kind:?}: {message}"),
    }
}

async fn memory() -> Memory {
    let clock = Arc::new(ManualClock::new(samples::time(1_000_000)));
    Memory::builder().store(InMemoryStore::new()).clock(clock).build().await.unwrap()
}

async fn export(memory: &Memory) -> Vec<u8> {
    let mut bytes = Vec::new();
    memory.export(&mut bytes).await.unwrap();
    bytes
}
