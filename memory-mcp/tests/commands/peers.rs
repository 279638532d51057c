//! Other programs that the program meets: servers, and itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use crate::place::Place;

/// An address where nobody listens.
pub(crate) fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// `knowhow mcp`, which has answered; ends with the value.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(place: &Place) -> Self {
        let mut child = place.knowhow(&["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let hello = json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18", "capabilities": {},
                "clientInfo": { "name": "test", "version": "1" },
            },
        });
        writeln!(child.stdin.as_mut().unwrap(), "{hello}").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"result\""), "{line}");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server of embeddings as OpenAI's, with a model of eight dimensions. It holds back all answers after some texts, if it is told
/// to.
#[derive(Clone)]
pub(crate) struct Embeddings {
    pub(crate) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    texts: AtomicUsize,
    /// After how many texts no more answers are given.
    most: Mutex<Option<usize>>,
    held: Condvar,
    is_holding: Mutex<bool>,
}

impl Embeddings {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { url, state }
    }

    /// The settings that make it the embedder.
    pub(crate) fn settings(&self) -> [String; 6] {
        let set = "--set".to_owned();
        let url = format!("embedder.url={}", self.url);
        [set.clone(), "embedder.kind=openai".to_owned(), set.clone(), url, set, "embedder.model=tiny".to_owned()]
    }

    /// Texts that were embedded.
    pub(crate) fn texts(&self) -> usize {
        self.state.texts.load(Ordering::SeqCst)
    }

    /// After so many texts it answers no more; `None`: it answers.
    pub(crate) fn hold_after(&self, most: Option<usize>) {
        *self.state.most.lock().unwrap() = most;
    }

    /// Waits until it holds an answer back.
    pub(crate) fn wait_until_it_holds(&self) {
        let holding = self.state.is_holding.lock().unwrap();
        drop(self.state.held.wait_while(holding, |holding| !*holding).unwrap());
    }
}

/// Answers the requests of a connection.
fn serve(stream: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let body = request(&mut reader)?;
        let texts = match &body["input"] {
            Value::Array(texts) => texts.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
            Value::String(text) => vec![text.clone()],
            _ => Vec::new(),
        };
        let before = state.texts.fetch_add(texts.len(), Ordering::SeqCst);
        if state.most.lock().unwrap().is_some_and(|most| before + texts.len() > most) {
            *state.is_holding.lock().unwrap() = true;
            state.held.notify_all();
            // Until the one who asks is gone.
            let _ = reader.read(&mut [0]);
            return None;
        }
        let vector = |(index, text): (usize, &String)| json!({ "index": index, "embedding": embedding(text) });
        let data: Vec<Value> = texts.iter().enumerate().map(vector).collect();
        let answer = json!({ "object": "list", "model": "tiny", "data": data }).to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        (&*stream).write_all((head + &answer).as_bytes()).ok()?;
    }
}

/// The body of the next request; null if it has none.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<Value> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let header = line.trim().to_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if header.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap_or_default())
}

fn embedding(text: &str) -> Vec<f32> {
    let mut vector = vec![0.1_f32; 8];
    for byte in text.bytes() {
        vector[usize::from(byte % 8)] += 1.0;
    }
    vector
}
