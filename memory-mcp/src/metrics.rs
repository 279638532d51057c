//! What is counted and timed, in the form that Prometheus reads: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::collections::BTreeMap;
use std::fmt;
#[cfg(feature = "otel")]
use std::sync::LazyLock;
use std::time::Duration;

use memory_core::{ErrorKind, Health, Memory, Result};
use memory_resilience::{CircuitBreakerStats, CircuitState};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value, json};

use crate::redact::Counts;
use crate::service::name_of;

/// Seconds, from what an answer in memory takes to what a slow server takes.
const BUCKETS: [f64; 13] = [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

type Timed = Family<Labels<1>, Histogram, fn() -> Histogram>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge<f64, std::sync::atomic::AtomicU64>>;

/// What is counted and timed.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<Labels<2>, Counter>,
    seconds: Timed,
    recalls: Family<Labels<1>, Counter>,
    redacted: Family<Labels<1>, Counter>,
    requests: Family<Labels<1>, Counter>,
    breakers: Vec<Breaker>,
}

/// The process's, as the spans are.
#[cfg(feature = "otel")]
static SPANS: LazyLock<Family<Labels<1>, Counter>> = LazyLock::new(Family::default);

/// Counts spans of which this has become.
#[cfg(feature = "otel")]
pub(crate) fn spans(outcome: &'static str) -> Counter {
    SPANS.get_or_create_owned(&Labels([("outcome", outcome.to_owned())]))
}

/// Names and values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels<const N: usize>([(&'static str, String); N]);

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

/// A circuit breaker whose state is told.
pub struct Breaker {
    name: &'static str,
    stats: Box<dyn Fn() -> CircuitBreakerStats + Send + Sync>,
}

impl Breaker {
    /// Of this name.
    pub fn new(name: &'static str, stats: impl Fn() -> CircuitBreakerStats + Send + Sync + 'static) -> Self {
        Self { name, stats: Box::new(stats) }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(breakers: Vec<Breaker>) -> Self {
        let mut registry = Registry::with_prefix("knowhow");
        let calls = Family::default();
        registry.register("calls", "Calls of an operation, by how they ended", calls.clone());
        let seconds = Timed::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register("call_seconds", "How long calls of an operation took", seconds.clone());
        let recalls = Family::default();
        registry.register("recalls", "Recalls, by whether anything was found", recalls.clone());
        let redacted = Family::default();
        registry.register("redacted", "What was redacted, by kind", redacted.clone());
        let requests = Family::default();
        registry.register("http_requests", "Requests over HTTP, by status", requests.clone());
        #[cfg(feature = "otel")]
        registry.register("spans", "Spans for the collector, by what became of them", SPANS.clone());
        Self { registry, calls, seconds, recalls, redacted, requests, breakers }
    }

    /// Counts a call.
    pub(crate) fn called(&self, operation: &'static str, took: Duration, error: Option<ErrorKind>) {
        let outcome = error.map_or_else(|| "ok".to_owned(), name_of);
        self.calls.get_or_create(&Labels([("operation", operation.to_owned()), ("outcome", outcome)])).inc();
        self.seconds.get_or_create(&Labels([("operation", operation.to_owned())])).observe(took.as_secs_f64());
    }

    /// Counts a recall.
    pub(crate) fn recalled(&self, found: bool) {
        self.recalls.get_or_create(&Labels([("found", if found { "yes" } else { "no" }.to_owned())])).inc();
    }

    /// Counts what was redacted.
    pub(crate) fn redacted(&self, counts: &Counts) {
        for (kind, count) in counts.iter() {
            self.redacted.get_or_create(&Labels([("kind", kind.to_owned())])).inc_by(count);
        }
    }

    /// Counts an answer over HTTP.
    pub(crate) fn answered(&self, status: u16) {
        self.requests.get_or_create(&Labels([("status", status.to_string())])).inc();
    }

    /// All of it, with what the memory tells of itself now, as OpenMetrics text.
    ///
    /// # Errors
    /// The store's errors.
    pub async fn text(&self, memory: &Memory) -> Result<String> {
        let mut now = Registry::with_prefix("knowhow");
        told_by_health(&mut now, &memory.health().await?);
        if let Some(uplift) = memory.uplift().await?.overall {
            let (low, high) = uplift.interval;
            let all = [("mean", uplift.difference), ("low", low), ("high", high)];
            register(
                &mut now,
                "uplift",
                "What recalling did to the share of successes, with its 95 % interval",
                "bound",
                all,
            );
        }
        let state = |breaker: &Breaker| (breaker.name, stage((breaker.stats)().state));
        let states = self.breakers.iter().map(state);
        register(&mut now, "breaker_open", "Circuit breakers: 0 closed, 0.5 half-open, 1 open", "breaker", states);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &now);
        let _ = encode_eof(&mut text);
        Ok(text)
    }
}

fn stage(state: CircuitState) -> f64 {
    match state {
        CircuitState::Closed => 0.0,
        CircuitState::HalfOpen => 0.5,
        _ => 1.0,
    }
}

fn told_by_health(now: &mut Registry, health: &Health) {
    let store = &health.store;
    let counts = [
        ("episodes", store.episodes),
        ("open_episodes", store.open_episodes),
        ("patterns", store.patterns),
        ("notes", store.notes),
        ("episodes_behind", health.episodes_behind),
    ];
    let counts = counts.map(|(what, count)| (what, count as f64));
    register(now, "stored", "What the store holds; episodes_behind are not folded into patterns yet", "what", counts);
    let flags = [("store", store.degraded.is_some()), ("embedder", health.embedder_error.is_some())];
    let flags = flags.map(|(part, degraded)| (part, f64::from(u8::from(degraded))));
    register(now, "degraded", "Whether a part is degraded", "part", flags);
    let queues = health.jobs.iter().map(|job| (job.name, job.queue as f64));
    register(now, "job_queue", "What waits for a job", "job", queues);
    let failing = health.jobs.iter().map(|job| (job.name, f64::from(u8::from(job.last_error.is_some()))));
    register(now, "job_failing", "Whether a job failed when it last ran", "job", failing);
    let beat = |job: &memory_core::JobHealth| Some((job.name, job.last_beat?.timestamp_millis() as f64 / 1_000.0));
    let help = "When a job last ran, in seconds since 1970";
    register(now, "job_beat_seconds", help, "job", health.jobs.iter().filter_map(beat));
}

fn register(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl IntoIterator<Item = (&'static str, f64)>,
) {
    let gauges = Gauges::<1>::default();
    for (value, number) in values {
        gauges.get_or_create(&Labels([(label, value.to_owned())])).set(number);
    }
    registry.register(name, help, gauges);
}

/// The same as JSON: each name with its values, each value with its labels.
pub fn to_json(text: &str) -> Value {
    let mut all: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        // Values of labels are names of operations, jobs and the like: there is no quote or comma in them.
        let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
        let mut told: Map<String, Value> =
            pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').into())).collect();
        told.insert("value".to_owned(), value.parse::<f64>().map_or_else(|_| value.into(), Value::from));
        all.entry(name).or_default().push(Value::Object(told));
    }
    json!(all)
}

#[cfg(test)]
mod tests {
    use memory_core::InMemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_is_counted_is_told_in_both_forms() {
        let metrics = Metrics::new(Vec::new());
        metrics.called("recall", Duration::from_millis(2), None);
        metrics.called("recall", Duration::from_millis(2), Some(ErrorKind::NotFound));
        metrics.recalled(true);
        metrics.answered(404);
        let memory = Memory::builder().store(InMemoryStore::new()).build().await.unwrap();
        let text = metrics.text(&memory).await.unwrap();
        for line in [
            "knowhow_calls_total{operation=\"recall\",outcome=\"not_found\"} 1",
            "knowhow_call_seconds_count{operation=\"recall\"} 2",
            "knowhow_recalls_total{found=\"yes\"} 1",
            "knowhow_http_requests_total{status=\"404\"} 1",
            "knowhow_stored{what=\"episodes\"} 0.0",
            "knowhow_job_queue{job=\"projection\"} 0.0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let json = to_json(&text);
        assert_eq!(json["knowhow_http_requests_total"][0], json!({ "status": "404", "value": 1.0 }));
    }
}
