//! How much there is, and how the memory is doing.

use memory_mcp::health;
use memory_mcp::open::Place;
use serde_json::{Value, json};

use super::Failure;
use super::output::{Paint, Table, bytes, count, line, pairs};
use super::session::Session;

pub(crate) async fn stats(session: &Session) -> Result<(), Failure> {
    let mut statistics = session.ask("get_statistics", json!({})).await?;
    let files = files(session);
    if !files.is_empty() {
        statistics["files"] = files.into();
    }
    session.out.tell(&statistics, |paint| text(&statistics, paint));
    Ok(())
}

/// What the database takes on disk.
fn files(session: &Session) -> Vec<Value> {
    let Place::File(path, _) = session.plan.place() else { return Vec::new() };
    let log = path.with_file_name(format!("{}-wal", path.file_name().unwrap_or_default().to_string_lossy()));
    let files = [Some(path.clone()), Some(log), session.plan.cache().map(Into::into)].into_iter().flatten();
    let there = files.filter_map(|path| Some((path.metadata().ok()?.len(), path)));
    there.map(|(bytes, path)| json!({ "path": path, "bytes": bytes })).collect()
}

fn text(statistics: &Value, paint: Paint) -> String {
    let number = |pointer: &str| statistics.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let rules = statistics["rules"].as_object().map(|rules| {
        rules.iter().map(|(standing, rules)| format!("{rules} {standing}")).collect::<Vec<_>>().join(", ")
    });
    let mut told = vec![
        ("scope", statistics["scope"].as_str().unwrap_or_default().to_owned()),
        ("open episodes", number("/open_episodes").to_string()),
        ("playbooks", number("/playbooks").to_string()),
        ("rules", rules.filter(|rules| !rules.is_empty()).unwrap_or_else(|| "0".to_owned())),
        (
            "notes",
            format!(
                "{} active, {}, {} quarantined",
                number("/notes/active"),
                count(number("/notes/candidates"), "candidate"),
                number("/notes/quarantined")
            ),
        ),
        ("uplift", uplift(&statistics["uplift"])),
    ];
    if statistics["store"].is_object() {
        let [episodes, open, notes, patterns, behind] =
            ["episodes", "open_episodes", "notes", "patterns", "episodes_behind"]
                .map(|name| number(&format!("/store/{name}")));
        let behind = if behind == 0 { String::new() } else { format!(", {behind} episodes to be learned from") };
        let store =
            [count(episodes, "episode"), format!("{open} open"), count(notes, "note"), count(patterns, "pattern")];
        told.push(("whole store", store.join(", ") + &behind));
    }
    for file in statistics["files"].as_array().into_iter().flatten() {
        let size = bytes(file["bytes"].as_u64().unwrap_or_default());
        told.push(("file", format!("{} {size}", file["path"].as_str().unwrap_or_default())));
    }
    pairs(told, paint)
}

/// What recalling did.
fn uplift(uplift: &Value) -> String {
    let number = |name: &str| uplift[name].as_f64().unwrap_or_default();
    if uplift.is_null() {
        return "nothing to compare yet".to_owned();
    }
    let [difference, low, high] = ["difference", "low", "high"].map(|name| 100.0 * number(name));
    format!(
        "{difference:+.0} points of success ({low:+.0} to {high:+.0}), {:.0} episodes shown it and {:.0} not",
        number("shown"),
        number("compared")
    )
}

pub(crate) async fn health(session: &Session) -> Result<(), Failure> {
    let health = session.with_memory(async |opened| Ok(opened.memory.health().await?)).await?;
    let answer = health::told(&health);
    let is_well = health::is_well(&health);
    session.out.tell(&answer, |paint| {
        let status = if is_well { paint.green("ok") } else { paint.red("degraded") };
        let mut table = Table::new(["job", "waiting", "last error"]);
        for job in &health.jobs {
            table.row([job.name.to_owned(), job.queue.to_string(), job.last_error.clone().unwrap_or_default()]);
        }
        let reasons = [("store", &health.store.degraded), ("embedder", &health.embedder_error)];
        let reasons = reasons.into_iter().filter_map(|(what, why)| Some(format!("{what}: {}", line(why.as_deref()?))));
        let mut parts = vec![status];
        parts.extend(reasons);
        parts.push(table.render(paint));
        parts.join("\n")
    });
    if is_well { Ok(()) } else { Err(Failure::Told(1)) }
}
