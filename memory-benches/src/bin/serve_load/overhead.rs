//! One call after the other over stdin and stdout, beside the same calls of the library.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use memory_benches::quantile;
use memory_core::{Memory, NoteQuery};
use memory_storage_turso::TursoStore;
use serde_json::{Value, json};

use crate::AnyError;

#[derive(Debug, Args)]
pub(crate) struct Overhead {
    /// Calls of each kind
    #[arg(long, default_value_t = 2_000)]
    calls: usize,
}

fn median(mut times: Vec<Duration>) -> f64 {
    1e3 * quantile(&mut times, 500).as_secs_f64()
}

impl Overhead {
    pub(crate) fn run(&self, knowhow: &Path) -> Result<(), AnyError> {
        let folder = tempfile::tempdir()?;
        let store = folder.path().join("load.db");
        let through = self.through_the_server(knowhow, &store)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let direct = runtime.block_on(self.in_the_library(&store))?;
        println!(
            "a list of notes  {through:.3} ms through the server, {direct:.3} ms in the library (medians of {})",
            self.calls
        );
        println!("the server adds  {:.3} ms", through - direct);
        Ok(())
    }

    fn through_the_server(&self, knowhow: &Path, store: &Path) -> Result<f64, AnyError> {
        let mut command = Command::new(knowhow);
        command
            .args(["mcp", "--set", "store.cache=off", "--store"])
            .arg(store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (mut input, output) = (child.stdin.take().ok_or("no stdin")?, child.stdout.take().ok_or("no stdout")?);
        let mut output = BufReader::new(output);
        let mut ask = |id: usize, method: &str, params: Value| -> Result<(), AnyError> {
            let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
            input.write_all(format!("{message}\n").as_bytes())?;
            input.flush()?;
            let mut line = String::new();
            output.read_line(&mut line)?;
            // At its end there is an empty line; a tool that fails is no error of the protocol.
            let failed = ["\"error\"", "\"isError\":true"].iter().any(|wrong| line.contains(wrong));
            if failed || line.is_empty() { Err(format!("{method}: {line:?}").into()) } else { Ok(()) }
        };
        let client = json!({ "name": "load", "version": "1" });
        ask(0, "initialize", json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client }))?;
        ask(
            1,
            "tools/call",
            json!({ "name": "store_note", "arguments": { "text": "deploys are frozen on Fridays" } }),
        )?;
        let call = json!({ "name": "find_notes", "arguments": {} });
        let mut times = Vec::with_capacity(self.calls);
        for number in 0..self.calls {
            let begun = Instant::now();
            ask(number + 2, "tools/call", call.clone())?;
            times.push(begun.elapsed());
        }
        drop(input);
        child.wait()?;
        Ok(median(times))
    }

    async fn in_the_library(&self, store: &Path) -> Result<f64, AnyError> {
        let memory = Memory::builder().store(TursoStore::open(store).await?).build().await?;
        let mut times = Vec::with_capacity(self.calls);
        for _ in 0..self.calls {
            let begun = Instant::now();
            let page = memory.notes_page(&NoteQuery::new().limit(10)).await?;
            times.push(begun.elapsed());
            if page.notes.len() != 1 {
                return Err("the note is not there".into());
            }
        }
        Ok(median(times))
    }
}
