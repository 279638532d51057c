//! Operations over plain HTTP, and the document that describes them.

use std::process::Command;
use std::sync::Arc;

use memory_core::testkit::{Fault, Gate, Operation};
use serde_json::json;

use crate::inside::Inside;
use crate::server::{READER, SLOW, Server, WRITER, read, until};

#[test]
fn an_episode_can_be_told_and_recalled() {
    let server = Server::open();
    let call = |operation: &str, arguments| {
        let answer = server.call("", operation, &arguments);
        assert_eq!(answer.status, 200, "{operation}: {answer:?}");
        answer.json()
    };
    let episode = call("start_episode", json!({ "task": "make the login test pass" }))["episode"].clone();
    let step = json!({ "tool": "grep", "input": "login" });
    assert_eq!(call("record_step", json!({ "episode": episode, "step": step }))["steps"], 1);
    call("complete_episode", json!({ "episode": episode, "outcome": { "verdict": "success" } }));
    let recalled = call("recall", json!({ "task": "make the logout test pass" }));
    assert_eq!(recalled["episodes"][0]["episode"], episode);
}

/// A client that loses its patience asks again while the first call is still under way.
#[test]
fn an_end_that_is_told_twice_at_once_counts_once() {
    let server = Inside::start();
    let call = |operation: &str, arguments: serde_json::Value| {
        server.send(&format!("POST /v1/{operation}"), "Content-Type: application/json", &arguments.to_string())
    };
    let episode = read(call("start_episode", json!({ "task": "x", "recall": 0 }))).unwrap().json()["episode"].clone();
    let end = |verdict: &str| json!({ "episode": episode, "outcome": { "verdict": verdict } });
    let gate = Gate::new();
    server.store.script_next(Operation::Commit, Fault::Hold(gate.clone()));
    let first = call("complete_episode", end("success"));
    server.runtime.block_on(gate.reached());
    let held = Arc::strong_count(&server.service);
    let second = call("complete_episode", end("success"));
    until(|| Arc::strong_count(&server.service) > held);
    gate.open();
    let again = call("complete_episode", end("success"));
    for (answer, which) in [(first, "first"), (second, "meanwhile"), (again, "afterwards")] {
        let answer = read(answer).unwrap();
        assert_eq!((answer.status, &answer.json()["durability"]), (200, &json!("volatile")), "{which}: {answer:?}");
    }
    assert_eq!(read(call("complete_episode", end("failure"))).unwrap().kind(), "episode_is_closed");
}

/// The episode had begun when it was refused.
#[test]
fn nothing_begins_with_what_cannot_be_recalled() {
    let server = Server::open();
    let refused = server.call("", "start_episode", &json!({ "task": "x", "recall": 101 }));
    assert_eq!((refused.status, refused.kind()), (400, "invalid_value".to_owned()));
    assert!(refused.body.contains("0..=100"), "{refused:?}");
    assert_eq!(server.call("", "get_statistics", &json!({})).json()["store"]["open_episodes"], 0);
}

#[test]
fn errors_say_what_and_where() {
    let server = Server::open();
    for (body, status, told) in [
        ("{", 400, "line 1, column 1"),
        ("[]", 400, "store_note"),
        ("{\"text\": \"x\", \"tags\": [1]}", 400, "tags[0]"),
        ("{\"text\": \"x\", \"salience\": 2}", 400, "salience"),
        ("{\"txt\": \"x\"}", 400, "txt"),
    ] {
        let answer = server.request("POST /v1/store_note", "", body);
        assert!(answer.status == status && answer.body.contains(told), "{body}: {answer:?}");
        assert_eq!(answer.json()["error"]["temporary"], false);
    }
}

#[test]
fn requests_have_ids() {
    let server = Server::open();
    assert_eq!(server.request("GET /health", "X-Request-Id: abc-1", "").headers["x-request-id"], "abc-1");
    for odd in ["", "X-Request-Id: a b", &format!("X-Request-Id: {}", "x".repeat(65))] {
        assert_eq!(server.request("GET /health", odd, "").headers["x-request-id"].len(), 36, "{odd}");
    }
    server.call("", "find_notes", &json!({}));
    server.request("POST /v1/find_notes", "X-Request-Id: abc-2", "");
    let (_, log) = server.end();
    let called = log.lines().find(|line| line.contains("\"called\"") && line.contains("abc-2"));
    assert!(called.is_some_and(|line| line.contains("find_notes") && line.contains("default")), "{log}");
}

/// Each as it can be had; those of kinds of errors are told by the unit test of the document.
#[test]
fn every_status_of_an_operation_is_in_the_document() {
    let server = Server::with_tokens();
    let token = |token: &str| format!("Authorization: Bearer {token}");
    let (slow, writer) = (token(SLOW), token(WRITER));
    let note = "{\"text\": \"x\"}";
    let request = |headers: &str, body: &str| server.request("POST /v1/store_note", headers, body).status;
    let post = format!("POST /v1/store_note HTTP/1.1\r\nHost: {}\r\n{writer}\r\n", server.address);
    let raw = |rest: &str| server.raw(format!("{post}{rest}").as_bytes()).unwrap().status;
    let closed = || {
        let episode = server.call(WRITER, "start_episode", &json!({ "task": "x" })).json()["episode"].clone();
        let end = json!({ "episode": episode, "outcome": { "verdict": "success" } });
        server.call(WRITER, "complete_episode", &end);
        server.call(WRITER, "record_step", &json!({ "episode": episode, "step": { "tool": "x" } })).status
    };
    let limited = || (0..100).map(|_| request(&slow, note)).find(|status| *status == 429).unwrap_or_default();
    let long = format!("POST /v1/{} HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(70_000), server.address);
    let statuses = [
        (200, request(&writer, note)),
        (400, request(&writer, "{}")),
        (401, request("", note)),
        (403, request(&token(READER), note)),
        (404, server.call(WRITER, "get_note", &json!({ "id": uuid::Uuid::nil() })).status),
        (408, raw("Content-Length: 9\r\n\r\n{")),
        (409, closed()),
        (413, raw("Content-Length: 99999999\r\n\r\n")),
        (414, server.raw(long.as_bytes()).unwrap().status),
        (421, raw("Host: other.example\r\n\r\n")),
        (429, limited()),
        (431, raw(&format!("{}\r\n", "X: x\r\n".repeat(100)))),
    ];
    for (expected, status) in statuses {
        assert_eq!(status, expected);
        assert!(server.documents(status), "{status}");
    }
}

/// Checked by PyPI's openapi-spec-validator, if the clients are installed.
#[test]
fn the_document_is_valid_openapi() {
    let server = Server::with_tokens();
    let answer = server.request("GET /openapi.json", "", "");
    let document = answer.json();
    assert_eq!((&document["openapi"], document["paths"].as_object().unwrap().len()), (&json!("3.1.0"), 14));
    let operation = &document["paths"]["/v1/store_note"]["post"];
    assert_eq!(operation["requestBody"]["content"]["application/json"]["schema"]["required"], json!(["text"]));
    let Some(clients) = crate::installed::clients() else { return };
    let path = server.folder.path().join("openapi.json");
    std::fs::write(&path, &answer.body).unwrap();
    let output =
        Command::new(clients.join("bin/python")).args(["-m", "openapi_spec_validator"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
