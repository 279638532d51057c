//! A server of the binary, and a plain HTTP client.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const ADMIN: &str = "admin-token-0123456789";
pub(crate) const WRITER: &str = "writer-token-0123456789";
pub(crate) const READER: &str = "reader-token-0123456789";
pub(crate) const OTHER: &str = "other-token-0123456789";
pub(crate) const OLD: &str = "old-token-0123456789";
pub(crate) const SLOW: &str = "slow-token-0123456789";

/// Tokens: of one scope with each right, one of another scope, one that has expired, and one with a rate of its own.
pub(crate) const TOKENS: &str = r#"
[[token]]
name = "admin"
token = "admin-token-0123456789"
scope = "acme"
right = "admin"

[[token]]
name = "writer"
token = "writer-token-0123456789"
scope = "acme"
right = "write"

[[token]]
name = "reader"
token = "reader-token-0123456789"
scope = "acme"
right = "read"

[[token]]
name = "other"
token = "other-token-0123456789"
scope = "other"
right = "write"

[[token]]
name = "old"
token = "old-token-0123456789"
scope = "acme"
right = "admin"
expires_at = 2026-01-01T00:00:00Z

[[token]]
name = "slow"
token = "slow-token-0123456789"
scope = "acme"
right = "read"
rate_per_minute = 60
"#;

/// Longer than anything takes, also on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Server {
    pub(crate) child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    pub(crate) folder: Arc<TempDir>,
    documented: OnceLock<Vec<u16>>,
    log: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The kind of its error.
    pub(crate) fn kind(&self) -> String {
        self.json()["error"]["kind"].as_str().unwrap().to_owned()
    }
}

impl Server {
    /// With the tokens of [`TOKENS`].
    pub(crate) fn with_tokens() -> Self {
        Self::with_tokens_and(&[])
    }

    pub(crate) fn with_tokens_and(arguments: &[&str]) -> Self {
        Self::with_these_tokens(TOKENS, arguments)
    }

    pub(crate) fn with_these_tokens(tokens: &str, arguments: &[&str]) -> Self {
        let folder = Self::folder();
        std::fs::write(folder.path().join("tokens.toml"), tokens).unwrap();
        Self::start(folder, &[&["--set", "http.tokens=tokens.toml"], arguments].concat())
    }

    pub(crate) fn folder() -> Arc<TempDir> {
        Arc::new(tempfile::tempdir().unwrap())
    }

    pub(crate) fn open() -> Self {
        Self::start(Self::folder(), &[])
    }

    pub(crate) fn start(folder: Arc<TempDir>, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_knowhow"));
        command.args([
            "serve",
            "--set",
            "http.bind=127.0.0.1:0",
            "--set",
            "log.level=trace",
            "--set",
            "log.format=json",
        ]);
        command.arg("--store").arg(folder.path().join("knowhow.db")).args(arguments);
        command.current_dir(folder.path()).env("HOME", folder.path()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {}", log.lock().unwrap());
            if let Some((_, rest)) = line.split_once("serving http://") {
                break rest.split_once('/').unwrap().0.to_owned();
            }
            log.lock().unwrap().push_str(&line);
        };
        let kept = Arc::clone(&log);
        let reading = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Self { child, address, folder, documented: OnceLock::new(), log, reading: Some(reading) }
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens.toml")
    }

    /// Sends bytes, and reads what comes until the server closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // The server may close before it has read all.
        let _ = stream.write_all(bytes);
        read(stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A request with these headers besides the usual ones, one a line.
    pub(crate) fn request(&self, line: &str, headers: &str, body: &str) -> Answer {
        let (host, length) = (&self.address, body.len());
        let headers = headers.lines().map(|header| format!("{header}\r\n")).collect::<String>();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.raw(format!("{head}{body}").as_bytes()).unwrap()
    }

    /// An operation, by whoever has this token.
    pub(crate) fn call(&self, token: &str, operation: &str, arguments: &Value) -> Answer {
        let headers = format!("Authorization: Bearer {token}\nContent-Type: application/json");
        let answer = self.request(&format!("POST /v1/{operation}"), &headers, &arguments.to_string());
        assert!(self.documents(answer.status), "{answer:?}");
        answer
    }

    /// Whether the OpenAPI document has this among the status codes of operations.
    pub(crate) fn documents(&self, status: u16) -> bool {
        let known = self.documented.get_or_init(|| {
            let document = self.request("GET /openapi.json", "", "").json();
            let responses = &document["paths"]["/v1/store_note"]["post"]["responses"];
            responses.as_object().unwrap().keys().map(|status| status.parse().unwrap()).collect()
        });
        known.contains(&status)
    }

    pub(crate) fn get(&self, token: &str, path: &str) -> Answer {
        self.request(&format!("GET {path}"), &format!("Authorization: Bearer {token}"), "")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Tells it to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Tells it to end if that was not done yet, and gives whether it ended well, and its log.
    pub(crate) fn end(mut self) -> (bool, String) {
        self.terminate();
        let ended = self.child.wait().unwrap().success();
        self.reading.take().unwrap().join().unwrap();
        let log = self.log.lock().unwrap().clone();
        (ended, log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads until the server closes. A stream that stays open, with a sign of life now and then, is a failure.
pub(crate) fn read(mut stream: TcpStream) -> Option<Answer> {
    let (mut bytes, mut piece, started) = (Vec::new(), [0; 4_096], Instant::now());
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..length]);
        assert!(started.elapsed() < PATIENCE, "it stays open: {}", String::from_utf8_lossy(&bytes));
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some(Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
}

/// Asks until it is so.
pub(crate) fn until(what: impl Fn() -> bool) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
}
