//! Health, readiness, metrics: each moves with what it tells of.

use std::thread;

use memory_core::testkit::{Fault, Gate, Operation};
use memory_core::{Error, ErrorKind};
use serde_json::json;

use crate::inside::Inside;
use crate::server::{Server, until};

#[test]
fn metrics_move() {
    let server = Server::open();
    let value = |name: &str, label: &str, is: &str| {
        let all = server.get("", "/metrics.json").json();
        let values = all[name].as_array().cloned().unwrap_or_default();
        values.iter().find(|one| one[label] == is).map_or(0.0, |one| one["value"].as_f64().unwrap())
    };
    assert_eq!(value("knowhow_calls_total", "operation", "record_episode"), 0.0);
    server.call("", "record_episode", &json!({ "task": "x", "outcome": { "verdict": "success" } }));
    server.call("", "recall", &json!({ "task": "x" }));
    server.call("", "recall", &json!({ "task": "x", "k": 0 }));
    server.call("", "start_episode", &json!({ "task": "x" }));
    assert_eq!(value("knowhow_calls_total", "operation", "record_episode"), 1.0);
    assert_eq!(value("knowhow_calls_total", "outcome", "invalid_value"), 1.0);
    assert_eq!(value("knowhow_call_seconds_count", "operation", "recall"), 2.0);
    assert_eq!(value("knowhow_recalls_total", "found", "yes"), 1.0);
    assert_eq!(value("knowhow_stored", "what", "episodes"), 1.0);
    assert_eq!(value("knowhow_stored", "what", "open_episodes"), 1.0);
    assert_eq!(value("knowhow_job_queue", "job", "leases"), 1.0);
    assert!(value("knowhow_http_requests_total", "status", "200") > 3.0);
    let text = server.get("", "/metrics");
    assert!(text.headers["content-type"].starts_with("application/openmetrics-text") && text.body.ends_with("# EOF\n"));
}

#[test]
fn redaction_is_counted() {
    let server = Server::start(Server::folder(), &["--set", "memory.redact=email"]);
    server.call("", "store_note", &json!({ "text": "a@b.com and c@d.com" }));
    let all = server.get("", "/metrics.json").json();
    assert_eq!(all["knowhow_redacted_total"], json!([{ "kind": "email", "value": 2.0 }]));
}

#[test]
fn health_tells_of_the_jobs() {
    let server = Server::open();
    let health = server.request("GET /health", "", "").json();
    assert_eq!((&health["status"], &health["store"]["episodes"]), (&json!("ok"), &json!(0)));
    assert!(health["jobs"].as_array().unwrap().iter().any(|job| job["name"] == "projection"));
    assert_eq!(server.request("GET /ready", "", "").json(), json!({ "ready": true, "store": "ok", "tokens": "ok" }));
}

/// Probes at the same time ask the store once, and so do those of the next moment, whatever it says; then it is asked again.
#[test]
fn probes_share_an_answer() {
    let server = Inside::start();
    let asked = || server.asked(Operation::Health);
    let probe = |path: &str| server.request(&format!("GET {path}"), "", "").body;
    for (path, well, ill) in [("/health", "\"ok\"", "degraded"), ("/ready", "true", "does not answer")] {
        let (before, gate) = (asked(), Gate::new());
        server.store.script_next(Operation::Health, Fault::Hold(gate.clone()));
        thread::scope(|scope| {
            let probes: Vec<_> = (0..200).map(|_| scope.spawn(|| probe(path))).collect();
            server.runtime.block_on(gate.reached());
            gate.open();
            assert!(probes.into_iter().all(|probe| probe.join().unwrap().contains(well)), "{path}");
        });
        // A slow machine may take longer than the moment.
        assert!(asked() - before < 5, "{path}: {}", asked() - before);
        server.store.script_next(Operation::Health, Fault::Before(Error::new(ErrorKind::Io, "scripted")));
        until(|| probe(path).contains(ill));
        until(|| probe(path).contains(well));
    }
    let (runtime, served) = server.end();
    runtime.block_on(served).unwrap().unwrap();
}
