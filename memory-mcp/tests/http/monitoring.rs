//! The dashboard and the alert rules of `scripts/monitoring` ask for metrics that there are.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::installed::{clients, told};
use crate::server::Server;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/monitoring").join(name)).unwrap()
}

/// All names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let word = |one: char| one.is_ascii_alphanumeric() || one == '_';
    text.split(|one| !word(one)).filter(|name| name.starts_with("knowhow_")).map(str::to_owned).collect()
}

#[test]
fn they_ask_for_metrics_that_there_are() {
    let dashboard = read("grafana-dashboard.json");
    serde_json::from_str::<Value>(&dashboard).unwrap();
    let server = Server::start(Server::folder(), &["--set", "memory.redact=email"]);
    server.call("", "store_note", &json!({ "text": "to a@b.com" }));
    server.call("", "recall", &json!({ "task": "x" }));
    server.call("", "recall", &json!({ "task": "x", "k": 0 }));
    let mut there = names(&server.get("", "/metrics").body);
    // These come with episodes that something was withheld from, and with a server behind the memory.
    there.extend(["knowhow_uplift", "knowhow_breaker_open"].map(str::to_owned));
    for text in [&dashboard, &read("alerts.yml")] {
        let asked = names(text);
        assert!(asked.len() >= 6 && asked.is_subset(&there), "{:?}", asked.difference(&there));
    }
}

/// Every rule has an expression, a severity and a summary.
#[test]
fn the_alert_rules_are_whole() {
    let Some(clients) = clients() else { return };
    let script = "import sys, yaml\nfor rule in yaml.safe_load(sys.stdin)['groups'][0]['rules']:\n    \
                  print(rule['alert'], bool(rule['expr']), rule['labels']['severity'], bool(rule['annotations']['summary']))";
    let file =
        std::fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/monitoring/alerts.yml")).unwrap();
    let output = Command::new(clients.join("bin/python")).args(["-c", script]).stdin(file).output().unwrap();
    let told = told(&output);
    assert!(output.status.success() && told.lines().count() >= 8 && !told.contains("False"), "{told}");
}
