//! Real clients over stdio: PyPI's `mcp` with both kinds of protocol, and the MCP inspector.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod installed;

use std::path::Path;
use std::process::{Command, Output};

use installed::{clients, python, told};
use serde_json::Value;

const KNOWHOW: &str = env!("CARGO_BIN_EXE_knowhow");

fn over_stdio(mode: &str) {
    let Some(clients) = clients() else { return };
    let folder = tempfile::tempdir().unwrap();
    python(&clients, &[mode, "stdio", KNOWHOW, folder.path().join("knowhow.db").to_str().unwrap()]);
}

#[test]
fn the_python_client_works_with_the_newest_protocol() {
    over_stdio("auto");
}

#[test]
fn the_python_client_works_with_the_protocol_of_2025() {
    over_stdio("legacy");
}

/// Runs the inspector without a browser.
fn inspect(clients: &Path, store: &Path, arguments: &[&str]) -> Output {
    let bin = clients.join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(clients.join("node_modules/.bin/inspector"));
    command.args(["--cli", KNOWHOW, "mcp", "--store"]).arg(store).args(arguments).env("PATH", path).output().unwrap()
}

#[test]
fn the_inspector_finds_no_fault() {
    let Some(clients) = clients() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("knowhow.db");
    let strict = inspect(&clients, &store, &["--method", "tools/list", "--strict"]);
    assert!(strict.status.success(), "{}", told(&strict));
    let listed: Value = serde_json::from_slice(&strict.stdout).unwrap();
    assert_eq!(listed["tools"].as_array().unwrap().len(), 14);
    assert_eq!(String::from_utf8_lossy(&strict.stderr).trim(), "", "not even a warning");
    let call = ["--method", "tools/call", "--tool-name", "store_note", "--tool-arg", "text=hello"];
    for merged in [false, true] {
        let output = inspect(&clients, &store, &call);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(answer["structuredContent"]["merged"], merged, "{}", told(&output));
    }
    for method in ["prompts/list", "resources/list", "resources/templates/list"] {
        let output = inspect(&clients, &store, &["--method", method]);
        assert!(output.status.success(), "{method}: {}", told(&output));
    }
}
