//! Over HTTP, PyPI's client and the conformance suite of the protocol's authors.

use std::path::Path;
use std::process::Command;

use crate::installed::{clients, python, told};
use crate::server::{ADMIN, Server};

fn over_http(mode: &str) {
    let Some(clients) = clients() else { return };
    let server = Server::with_tokens();
    python(&clients, &[mode, "http", &format!("http://{}/mcp", server.address), ADMIN]);
}

#[test]
fn the_python_client_works_with_the_newest_protocol() {
    over_http("auto");
}

#[test]
fn the_python_client_works_with_the_protocol_of_2025() {
    over_http("legacy");
}

/// What is expected to fail, each with its reason, is in `expected-failures.yml`; the suite also fails if one of these passes.
#[test]
fn the_conformance_suite_passes() {
    let Some(clients) = clients() else { return };
    let server = Server::open();
    let path = format!("{}:{}", clients.join("bin").display(), std::env::var("PATH").unwrap());
    let mut suite = Command::new(clients.join("node_modules/.bin/conformance"));
    suite.args(["server", "--url", &format!("http://{}/mcp", server.address), "--expected-failures"]);
    suite.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/expected-failures.yml"));
    let output = suite.current_dir(server.folder.path()).env("PATH", path).output().unwrap();
    assert!(output.status.success() && told(&output).contains("✓ tools-list"), "{}", told(&output));
}
