//! The log, on stderr: nothing but the protocol is on stdout.

use memory_mcp::config::{Config, Origin, Problem, Setting, Value};
use tracing_subscriber::EnvFilter;

/// What a plain level is of. Other crates tell what goes wrong, and nothing else; rmcp nothing at all, since it logs the messages
/// that it carries.
const OURS: [&str; 6] =
    ["memory_core", "memory_embed", "memory_mcp", "memory_resilience", "memory_storage_redb", "memory_storage_turso"];

/// What is logged, and how.
#[derive(Debug)]
pub(super) struct Log {
    filter: EnvFilter,
    json: bool,
    wanted: bool,
}

impl Log {
    /// As it is configured.
    ///
    /// # Errors
    /// Problems with `log.level` and `log.format`.
    pub(super) fn new(config: &Config) -> Result<Self, Vec<Problem>> {
        let filter = config.parse("log.level", "error, warn, info, debug, trace, or a filter", filter);
        let json = config.parse("log.format", "text or json", |text| match text {
            "text" => Some(false),
            "json" => Some(true),
            _ => None,
        });
        let said = |setting: &Setting, value: &Value| setting.key == "log.level" && value.origin != Origin::Default;
        let wanted = config.values().any(|(setting, value)| said(setting, value));
        match (filter, json) {
            (Ok(filter), Ok(json)) => {
                Ok(Self { filter: filter.unwrap_or_default(), json: json.unwrap_or_default(), wanted })
            }
            (filter, json) => Err([filter.err(), json.err()].into_iter().flatten().collect()),
        }
    }

    /// Whether somebody has said how much is to be logged.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Begins to log.
    pub(super) fn start(self) -> Result<(), super::Failure> {
        let log = tracing_subscriber::fmt().with_env_filter(self.filter).with_writer(std::io::stderr);
        let started =
            if self.json { log.json().flatten_event(true).try_init() } else { log.with_ansi(false).try_init() };
        started.map_err(|error| super::Failure::Other(error.to_string()))
    }
}

fn filter(text: &str) -> Option<EnvFilter> {
    if !["error", "warn", "info", "debug", "trace"].contains(&text) {
        return EnvFilter::try_new(format!("rmcp=off,{text}")).ok().filter(|_| text.contains('='));
    }
    let ours = OURS.iter().map(|name| format!(",{name}={text}")).collect::<String>();
    EnvFilter::try_new(format!("warn,rmcp=off{ours}")).ok()
}
