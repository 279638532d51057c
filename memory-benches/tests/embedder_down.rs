//! A memory in a file whose embedder, on a server, is down from start to end; and what comes of it when the server is back.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use memory_core::testkit::process;
use memory_core::{Embedder, HashEmbedder, Health, Memory, NewNote, Outcome, Role, Scope, Search, Step, Task};
use memory_embed::{Model, OpenAiEmbedder, ServerConfig};
use memory_storage_turso::TursoStore;

const EPISODES: usize = 40;

async fn open(path: &str, url: &str) -> Memory {
    let server = ServerConfig::new(url).with_timeout(Duration::from_secs(5));
    let model = Model::new("hash").with_dimensions(HashEmbedder::DIMENSIONS);
    let embedder = OpenAiEmbedder::new(server, model).unwrap();
    Memory::builder().store(TursoStore::open(path).await.unwrap()).embedder(embedder).build().await.unwrap()
}

fn queue(health: &Health) -> (u64, Option<&str>) {
    let job = health.jobs.iter().find(|job| job.name == "embedding").unwrap();
    (job.queue, job.last_error.as_deref())
}

/// How many episodes are found by a vector alone.
async fn found_by_vector(memory: &Memory) -> usize {
    let vector = HashEmbedder::new().embed(Role::Query, &["repair the login test"]).await.unwrap().pop();
    let search = Search::new(Scope::default()).vector(vector).k(100);
    memory.store().search(&search).await.unwrap().len()
}

/// Records episodes step by step, and a note, and is killed before it could close anything.
async fn work(memory: &Memory) {
    for number in 0..EPISODES {
        let mut episode = memory.start(Task::new(format!("repair the login test {number}"))).await.unwrap();
        episode.step(Step::new("grep").input("login").ok("found")).await.unwrap();
        episode.step(Step::new("edit").ok("saved")).await.unwrap();
        let done = episode.complete(Outcome::success("it passes")).await.unwrap();
        assert!(done.degraded.unwrap().contains("127.0.0.1"), "the answer names the server");
    }
    let told = memory.remember(NewNote::new("the login test needs a database")).await.unwrap();
    assert!(told.degraded.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_recall_goes_on_by_words_and_vectors_come_when_the_server_is_back() {
    let test = "nothing_is_lost_recall_goes_on_by_words_and_vectors_come_when_the_server_is_back";
    if process::is_child() {
        let [path, url] = ["STORE", "URL"].map(|name| std::env::var(name).unwrap());
        work(&open(&path, &url).await).await;
        std::process::abort();
    }
    // Nothing listens at this address until later.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/v1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db").to_str().unwrap().to_owned();
    process::spawn(test, &[("STORE", &path), ("URL", &url)]).wait().unwrap();

    let memory = open(&path, &url).await;
    let health = memory.health().await.unwrap();
    assert_eq!((health.store.episodes, health.store.notes), (EPISODES as u64, 1));
    assert!(health.embedder_error.as_ref().unwrap().contains("127.0.0.1"), "{health:?}");
    assert_eq!(queue(&health).0, EPISODES as u64 + 1);
    assert_eq!(found_by_vector(&memory).await, 0);
    let recalled = memory.recall(&Task::new("repair the login test"), 5).await.unwrap();
    assert_eq!(recalled.episodes.len(), 5, "recall goes on by words");
    assert!(recalled.degraded.unwrap().contains("127.0.0.1"));
    let learned = memory.patterns().await.unwrap();
    assert!(memory.embed_missing().await.unwrap_err().is_temporary());
    assert!(queue(&memory.health().await.unwrap()).1.unwrap().contains("127.0.0.1"));

    serve(TcpListener::bind(address).unwrap());
    let begun = Instant::now();
    while queue(&memory.health().await.unwrap()) != (0, None) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the job fills in what is missing: {:?}",
            memory.health().await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(memory.health().await.unwrap().embedder_error, None);
    assert_eq!(found_by_vector(&memory).await, EPISODES);
    assert_eq!(memory.recall(&Task::new("repair the login test"), 5).await.unwrap().degraded, None);
    assert_eq!(memory.patterns().await.unwrap(), learned, "nothing is learned twice");
}

/// Answers as an OpenAI-compatible server does, with the vectors of the hash embedder, until the test ends.
fn serve(listener: TcpListener) {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = runtime.block_on(answer(stream.unwrap()));
        }
    });
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut reader, mut length) = (BufReader::new(stream.try_clone()?), 0);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let texts: Vec<&str> = asked["input"].as_array().into_iter().flatten().filter_map(|text| text.as_str()).collect();
    let vectors = HashEmbedder::new().embed(Role::Document, &texts).await.unwrap();
    let data = (0..).zip(&vectors).map(|(index, vector): (u32, _)| {
        serde_json::json!({"object": "embedding", "index": index, "embedding": vector.as_slice()})
    });
    let body = serde_json::json!({"object": "list", "data": data.collect::<Vec<_>>(), "model": "hash"}).to_string();
    write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
