//! The server under load, a child of this process.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::AnyError;

pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// From starting the process until it listened.
    pub(crate) started: Duration,
}

impl Server {
    pub(crate) fn start(knowhow: &Path, store: &Path) -> Result<Self, AnyError> {
        let begun = Instant::now();
        let mut command = Command::new(knowhow);
        command
            .args(["serve", "--bind", "127.0.0.1:0", "--set", "http.rate_per_minute=100000000", "--store"])
            .arg(store);
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("{}: {error}", knowhow.display()))?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("it has no stderr")?).lines();
        let url = loop {
            let line = lines.next().ok_or("the server ended")??;
            match line.split_once("serving http://").and_then(|(_, rest)| rest.split_once('/')) {
                Some((address, _)) => break format!("http://{address}"),
                None => eprintln!("{line}"),
            }
        };
        // What it writes later must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Ok(Self { child, url, started: begun.elapsed() })
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) -> Result<(), AnyError> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }

    /// The memory that it has in RAM, in MB (Linux).
    pub(crate) fn rss(&self) -> Result<u64, AnyError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1_024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
