//! Operations over plain HTTP, and the document that describes them.

use std::process::Command;

use serde_json::json;

use crate::server::Server;

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
