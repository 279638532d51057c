//! An HTTP server on loopback that answers by a script, well or badly.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// What a client sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// By their names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Value,
    /// How many came before it.
    pub(crate) place: usize,
}

/// What it gets.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Whole {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The head promises all of it, and then comes half.
    Half(String),
    /// A few bytes at a time.
    Drip(String),
    /// Nothing, until the client gives up.
    Hang,
    /// The connection is reset.
    Reset,
    /// The connection ends without an answer.
    Close,
    Late(Duration, Box<Self>),
}

pub(crate) fn status(status: u16, body: impl ToString) -> Reply {
    Reply::Whole { status, headers: Vec::new(), body: body.to_string() }
}

pub(crate) fn ok(body: impl ToString) -> Reply {
    status(200, body)
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// A running server. It ends when this is dropped.
pub(crate) struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<thread::JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    ended: AtomicBool,
    requests: Mutex<Vec<Request>>,
    count: AtomicUsize,
    /// Whether requests are kept.
    keeps: bool,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    opened: usize,
    most: usize,
    open: HashMap<usize, TcpStream>,
}

impl Peer {
    pub(crate) fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), true, script)
    }

    /// One that is asked too often to keep what it is asked.
    pub(crate) fn start_forgetful(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), false, script)
    }

    pub(crate) fn start_at(
        address: SocketAddr,
        keeps: bool,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            ended: AtomicBool::new(false),
            requests: Mutex::default(),
            count: AtomicUsize::new(0),
            keeps,
            connections: Mutex::default(),
        });
        let server = Arc::clone(&shared);
        let listening = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.ended.load(Ordering::SeqCst) {
                    break;
                }
                let server = Arc::clone(&server);
                thread::spawn(move || server.serve(stream));
            }
        });
        Self { address, shared, listening: Some(listening) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    /// Connections that were opened in all.
    pub(crate) fn opened(&self) -> usize {
        self.shared.connections.lock().unwrap().opened
    }

    /// Connections that were open at once.
    pub(crate) fn most(&self) -> usize {
        self.shared.connections.lock().unwrap().most
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _wakes = TcpStream::connect(self.address);
        // Then the port is free.
        self.listening.take().map(thread::JoinHandle::join);
        for stream in self.shared.connections.lock().unwrap().open.values() {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let id = {
            let mut connections = self.connections.lock().unwrap();
            let id = connections.opened;
            connections.opened += 1;
            connections.open.insert(id, stream.try_clone().unwrap());
            connections.most = connections.most.max(connections.open.len());
            id
        };
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(mut request) = read(&mut reader) {
            request.place = self.count.fetch_add(1, Ordering::SeqCst);
            if self.keeps {
                self.requests.lock().unwrap().push(request.clone());
            }
            if !reply(&stream, &mut reader, (self.script)(&request)) {
                break;
            }
        }
        self.connections.lock().unwrap().open.remove(&id);
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut parts = line.split(' ').map(str::to_owned);
    let (method, path) = (parts.next()?, parts.next()?);
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length: &String| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Some(Request { method, path, headers, body, place: 0 })
}

/// Whether the connection goes on.
fn reply(mut stream: &TcpStream, reader: &mut BufReader<TcpStream>, reply: Reply) -> bool {
    match reply {
        Reply::Whole { status, headers, body } => {
            let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).is_ok()
        }
        Reply::Half(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _gone = stream.write_all(&[head.as_bytes(), &body.as_bytes()[..body.len() / 2]].concat());
            false
        }
        Reply::Drip(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let all = head + &body;
            all.as_bytes().chunks(4).all(|part| {
                thread::sleep(Duration::from_millis(2));
                stream.write_all(part).is_ok()
            })
        }
        Reply::Hang => {
            let _closed = reader.read(&mut [0]);
            false
        }
        Reply::Reset => {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
            false
        }
        Reply::Close => false,
        Reply::Late(pause, then) => {
            thread::sleep(pause);
            self::reply(stream, reader, *then)
        }
    }
}
