//! Collectors that are not there, do not answer, or refuse.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::collector::Collector;
use crate::server::{Server, until};

/// More than two requests of spans.
const MANY: usize = 1_100;
const LOST: &str = "the collector does not take spans";

fn server(endpoint: &str) -> Server {
    Server::start(Server::folder(), &["--set", &format!("log.otlp_endpoint={endpoint}")])
}

/// Requests on one connection, as fast as they are answered.
fn ask(server: &Server, times: usize) {
    let (mut stream, host) = (server.connect(), &server.address);
    let request = format!("GET /nowhere HTTP/1.1\r\nHost: {host}\r\n\r\n").repeat(times - 1);
    let last = format!("GET /nowhere HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut sending = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || sending.write_all((request + &last).as_bytes()).unwrap());
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 404").count(), times);
    });
}

/// How many spans this has become of.
fn spans(server: &Server, outcome: &str) -> f64 {
    let all = server.get("", "/metrics.json").json();
    let values = all["knowhow_spans_total"].as_array().cloned().unwrap_or_default();
    values.iter().find(|one| one["outcome"] == outcome).map_or(0.0, |one| one["value"].as_f64().unwrap())
}

#[test]
fn one_that_is_not_there_is_told_of_once() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = server(&format!("http://{nobody}"));
    ask(&server, MANY);
    assert_eq!(server.call("", "store_note", &json!({ "text": "x" })).status, 200);
    until(|| spans(&server, "failed") >= 1_024.0);
    let (ended, log) = server.end();
    assert!(ended && log.matches(LOST).count() == 1, "{log}");
    assert!(log.contains("spans did not reach the collector"), "{log}");
}

/// It takes connections, and says nothing. Four requests wait in the end, of ten seconds each.
#[test]
fn one_that_does_not_answer_holds_up_neither_calls_nor_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = server(&format!("http://{}", silent.local_addr().unwrap()));
    ask(&server, 4_000);
    assert_eq!(server.call("", "store_note", &json!({ "text": "x" })).status, 200);
    until(|| spans(&server, "dropped") > 0.0);
    let ending = Instant::now();
    let (ended, log) = server.end();
    assert!(ended && ending.elapsed() < Duration::from_secs(25), "{:?}: {log}", ending.elapsed());
    assert!(log.contains("spans did not reach the collector"), "{log}");
}

#[test]
fn one_that_refuses_gets_the_next_spans() {
    let collector = Collector::answering(503);
    let server = server(&collector.endpoint);
    ask(&server, MANY);
    until(|| spans(&server, "failed") >= 1_024.0);
    collector.answer(200);
    ask(&server, MANY);
    until(|| collector.spans().len() >= 512);
    assert!(spans(&server, "exported") >= 512.0);
    let (ended, log) = server.end();
    assert!(ended && log.matches(LOST).count() == 1 && log.contains("it answers 503"), "{log}");
    assert_eq!(log.matches("the collector takes spans again").count(), 1, "{log}");
}
