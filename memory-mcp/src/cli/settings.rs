//! The settings: what they are, where from, and what is wrong with them.

use clap::Subcommand;
use memory_mcp::config::{Config, Problem};
use serde_json::{Value, json};

use super::Failure;
use super::output::{Output, Paint, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print all settings with where they come from, and everything that is wrong with them
    Check,
}

pub(crate) fn check(config: &Config, problems: &[Problem], out: Output) -> Result<(), Failure> {
    let settings = config.values().map(|(setting, value)| {
        json!({
            "key": setting.key,
            "value": config.shown(setting.key),
            "origin": value.origin.to_string(),
            "help": setting.help,
            "variable": setting.variable(),
        })
    });
    let answer =
        json!({ "ok": problems.is_empty(), "problems": told(problems), "settings": settings.collect::<Vec<_>>() });
    out.tell(&answer, |paint| text(config, problems, paint));
    if problems.is_empty() { Ok(()) } else { Err(Failure::Told(3)) }
}

/// Problems as JSON.
pub(crate) fn told(problems: &[Problem]) -> Vec<Value> {
    problems.iter().map(|problem| json!({ "at": problem.at, "what": problem.what })).collect()
}

fn text(config: &Config, problems: &[Problem], paint: Paint) -> String {
    let mut table = Table::new(["setting", "value", "from", "what it is"]);
    for (setting, value) in config.values() {
        let (shown, origin) = (config.shown(setting.key).to_owned(), value.origin.to_string());
        table.row([setting.key.to_owned(), shown, origin, setting.help.to_owned()]);
    }
    let wrong = problems.iter().map(|problem| format!("{} {problem}", paint.red("wrong:")));
    let verdict =
        if problems.is_empty() { paint.green("All of it is right.") } else { wrong.collect::<Vec<_>>().join("\n") };
    format!("{}\n\n{verdict}", table.render(paint))
}
