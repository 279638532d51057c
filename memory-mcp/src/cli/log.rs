//! The log, on stderr: nothing but the protocol is on stdout. And the spans that a collector gets.

use memory_mcp::config::{Config, Origin, Problem, Setting, Value};
use memory_mcp::traces::{self, Endpoint, Export};
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, Targets, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Failure;

/// What a plain level is of. Other crates tell what goes wrong, and nothing else; rmcp nothing at all, since it logs the messages
/// that it carries.
const OURS: [&str; 6] =
    ["memory_core", "memory_embed", "memory_mcp", "memory_resilience", "memory_storage_redb", "memory_storage_turso"];

/// What is logged, and how; and where spans go.
#[derive(Debug)]
pub(super) struct Log {
    filter: EnvFilter,
    json: bool,
    wanted: bool,
    endpoint: Option<Endpoint>,
    service: String,
    /// Whether the environment names an endpoint to which nothing can go.
    deaf: bool,
}

impl Log {
    /// As it is configured.
    ///
    /// # Errors
    /// Problems with `log.level`, `log.format` and `log.otlp_endpoint`.
    pub(super) fn new(config: &Config) -> Result<Self, Vec<Problem>> {
        let filter = config.parse("log.level", "error, warn, info, debug, trace, or a filter", filter);
        let json = config.parse("log.format", "text or json", |text| match text {
            "text" => Some(false),
            "json" => Some(true),
            _ => None,
        });
        let deaf = !traces::CAN_BE_EXPORTED && config.values().any(is_inherited_endpoint);
        let endpoint =
            if deaf { Ok(None) } else { config.parse("log.otlp_endpoint", Endpoint::ALLOWED, Endpoint::parse) };
        let said = |setting: &Setting, value: &Value| setting.key == "log.level" && value.origin != Origin::Default;
        let wanted = config.values().any(|(setting, value)| said(setting, value));
        match (filter, json, endpoint) {
            (Ok(filter), Ok(json), Ok(endpoint)) => Ok(Self {
                filter: filter.unwrap_or_default(),
                json: json.unwrap_or_default(),
                wanted,
                endpoint,
                service: config.get("log.otlp_service").to_owned(),
                deaf,
            }),
            (filter, json, endpoint) => Err([filter.err(), json.err(), endpoint.err()].into_iter().flatten().collect()),
        }
    }

    /// Whether somebody has said how much is to be logged.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Begins to log, and to export the spans of whoever serves others.
    pub(super) fn start(self, serves: bool) -> Result<Option<Export>, Failure> {
        let export = self.endpoint.filter(|_| serves).map(|endpoint| Export::to(&endpoint, &self.service));
        let export = export.transpose().map_err(Failure::Other)?;
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let log = if self.json { log.json().flatten_event(true).boxed() } else { log.with_ansi(false).boxed() };
        let ours = Targets::new().with_targets(OURS.map(|name| (name, Level::INFO)));
        let spans =
            export.as_ref().map(|export| export.layer().with_filter(ours.and(filter_fn(|what| what.is_span()))));
        let started = tracing_subscriber::registry().with(log.with_filter(self.filter)).with(spans).try_init();
        started.map_err(|error| Failure::Other(error.to_string()))?;
        if self.deaf && serves {
            tracing::warn!(
                "no spans go to OTEL_EXPORTER_OTLP_ENDPOINT: this program was built without --features otel"
            );
        }
        Ok(export)
    }
}

/// Whether it is the endpoint that a whole environment has, and not one that was meant for this program.
fn is_inherited_endpoint((setting, value): (&Setting, &Value)) -> bool {
    let inherited = matches!(&value.origin, Origin::Environment(name) if setting.also == Some(name.as_str()));
    inherited && setting.key == "log.otlp_endpoint"
}

fn filter(text: &str) -> Option<EnvFilter> {
    if !["error", "warn", "info", "debug", "trace"].contains(&text) {
        return EnvFilter::try_new(format!("rmcp=off,{text}")).ok().filter(|_| text.contains('='));
    }
    let ours = OURS.iter().map(|name| format!(",{name}={text}")).collect::<String>();
    EnvFilter::try_new(format!("warn,rmcp=off{ours}")).ok()
}
