//! Told to end, the server lets what is under way end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use memory_core::testkit::{Fault, Gate, Operation};
use memory_core::{InMemoryStore, Memory};
use serde_json::json;

use crate::client::{Client, hello};
use crate::inside::Inside;
use crate::server::{Server, WRITER, read, until};

#[test]
fn requests_under_way_are_answered() {
    let server = Server::open();
    let body = json!({ "text": "written at the last moment" }).to_string();
    let head = format!(
        "POST /v1/store_note HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        server.address,
        body.len(),
    );
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body.as_bytes()[..10]).unwrap();
    // Answered once: the request before it has been taken in.
    assert_eq!(server.request("GET /health", "", "").status, 200);
    let rest = body.as_bytes()[10..].to_vec();
    let (ended, answer) = thread::scope(|scope| {
        let ending = scope.spawn(|| server.end().0);
        stream.write_all(&rest).unwrap();
        let answer = read(stream);
        (ending.join().unwrap(), answer)
    });
    assert!(ended);
    assert_eq!(answer.unwrap().status, 200);
}

/// An MCP request of which only the head has come, and a stream that would stay open for ever.
#[test]
fn mcp_requests_under_way_are_answered_and_streams_end() {
    let server = Server::with_tokens();
    let client = Client::begin(&server, WRITER);
    let lines = client.headers().lines().map(|line| format!("{line}\r\n")).collect::<String>();
    let mut listening = server.connect();
    let head = format!("GET /mcp HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", server.address);
    listening.write_all(head.as_bytes()).unwrap();
    listening.read_exact(&mut [0; 12]).unwrap();
    let call = json!({ "name": "store_note", "arguments": { "text": "written at the last moment" } });
    let body = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": call }).to_string();
    let mut stream = server.connect();
    let head = format!("POST /mcp HTTP/1.1\r\nHost: {}\r\n{lines}Content-Length: {}\r\n", server.address, body.len());
    // The server asks for the body once it has taken the head in.
    stream.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).unwrap();
    stream.read_exact(&mut [0; 25]).unwrap();
    server.terminate();
    until(|| TcpStream::connect(&server.address).is_err());
    stream.write_all(body.as_bytes()).unwrap();
    let answer = read(stream).unwrap();
    assert!(answer.status == 200 && answer.body.contains("\"isError\":false"), "{answer:?}");
    assert!(read(listening).is_none(), "the rest, up to the end, has no head");
    let folder = Arc::clone(&server.folder);
    let (ended, log) = server.end();
    assert!(ended && !log.contains("still under way"), "{log}");
    let server = Server::start(folder, &["--set", "scope=acme"]);
    let found = server.call("", "find_notes", &json!({})).json();
    assert_eq!(found["notes"][0]["text"], "written at the last moment", "{found}");
}

/// A write that has begun is done before the memory is closed, though its client hung up.
#[test]
fn writes_whose_clients_have_gone_are_done() {
    let note = json!({ "text": "written for nobody" });
    let call = json!({ "name": "store_note", "arguments": note });
    let call = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": call }).to_string();
    let accept = "Content-Type: application/json\nAccept: application/json, text/event-stream";
    for (line, body) in [("POST /v1/store_note", note.to_string()), ("POST /mcp", call)] {
        let server = Inside::start();
        let session = server.request("POST /mcp", accept, &hello().to_string()).headers["mcp-session-id"].clone();
        let gate = Gate::new();
        server.store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
        let stream = server.send(line, &format!("{accept}\nMcp-Session-Id: {session}"), &body);
        server.runtime.block_on(gate.reached());
        drop(stream);
        let (store, service, address) = (Arc::clone(&server.store), Arc::clone(&server.service), server.address);
        let (runtime, served) = server.end();
        until(|| TcpStream::connect(address).is_err());
        // Longer than a server takes to close the memory that waits for nobody.
        thread::sleep(Duration::from_secs(1));
        assert!(store.calls(Operation::Close) == 0 && !served.is_finished(), "{line}");
        gate.open();
        runtime.block_on(served).unwrap().unwrap();
        assert_eq!(store.calls(Operation::Close), 1, "{line}");
        let other = runtime.block_on(Memory::builder().store(InMemoryStore::new()).build()).unwrap();
        let counted = runtime.block_on(service.metrics().text(&other)).unwrap();
        assert!(counted.contains("{operation=\"store_note\",outcome=\"ok\"} 1"), "{line}: {counted}");
    }
}

/// Steps that were acknowledged before they were on disk are written when the server ends.
#[test]
fn what_is_buffered_is_written() {
    let server =
        Server::start(Server::folder(), &["--set", "memory.batched_steps=true", "--set", "memory.lease_seconds=1"]);
    let episode = server.call("", "start_episode", &json!({ "task": "x" })).json()["episode"].clone();
    let step = json!({ "episode": episode, "step": { "tool": "grep" } });
    assert_eq!(server.call("", "record_step", &step).json()["durability"], "buffered");
    let folder = Arc::clone(&server.folder);
    assert!(server.end().0);
    let server = Server::start(folder, &[]);
    // The lease of the server that has ended runs out first.
    let outcome = json!({ "episode": episode, "outcome": { "verdict": "success" } });
    until(|| server.call("", "complete_episode", &outcome).status == 200);
    let uri = format!("knowhow://episodes/{}", episode.as_str().unwrap());
    let told = Client::begin(&server, "").ask("resources/read", &json!({ "uri": uri }));
    assert!(told.to_string().contains("grep"), "{told}");
}

#[test]
fn it_can_be_interrupted_from_a_terminal() {
    let server = Server::open();
    server.signal(rustix::process::Signal::INT);
    assert!(server.end().0);
}
