//! The export of spans over OTLP/HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Uri;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;
use ureq::Agent;

use crate::metrics::spans;

/// Spans that may wait for the collector; further ones are dropped.
const WAITING: usize = 2_048;
/// Spans in a request.
const BATCH: usize = 512;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long spans that wait have when the process ends.
const FLUSH: Duration = Duration::from_secs(3);
/// What is read of an answer.
const LONGEST_ANSWER: u64 = 64 << 10;

/// Where a collector takes traces.
#[derive(Clone, Debug)]
pub struct Endpoint(Uri);

impl Endpoint {
    /// What an endpoint may be.
    #[cfg(feature = "tls")]
    pub const ALLOWED: &str = "http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]; what it asks for goes into \
                               OTEL_EXPORTER_OTLP_HEADERS";
    /// What an endpoint may be.
    #[cfg(not(feature = "tls"))]
    pub const ALLOWED: &str = "http://HOST[:PORT][/PATH]; https:// needs a build with --features tls";

    /// The traces of a collector at this address, which is without the path `/v1/traces` that they have there.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = format!("{}/v1/traces", text.trim_end_matches('/')).parse().ok()?;
        let scheme = uri.scheme_str()?;
        let known = scheme == "http" || scheme == "https" && cfg!(feature = "tls");
        let plain = !uri.authority()?.as_str().contains('@') && uri.query().is_none() && !text.contains('#');
        (known && plain).then_some(Self(uri))
    }
}

/// Spans go to a collector, in the background, until this is dropped: what waits then is sent, if that takes no longer than three
/// seconds.
#[derive(Debug)]
pub struct Export(SdkTracerProvider);

impl Export {
    /// To a collector, in the name of a service.
    ///
    /// # Errors
    /// What is wrong with the environment variables whose names begin with `OTEL_`.
    pub fn to(endpoint: &Endpoint, service: &str) -> Result<Self, String> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint.0.to_string())
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Client::new(endpoint))
            .build()
            .map_err(|error| error.to_string())?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let config = BatchConfigBuilder::default().with_max_queue_size(WAITING).with_max_export_batch_size(BATCH);
        let counted = Counted { exporter, waiting: Arc::clone(&waiting) };
        let processor = BatchSpanProcessor::builder(counted).with_batch_config(config.build()).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name(service.to_owned()).with_attribute(version).build();
        let provider = SdkTracerProvider::builder().with_span_processor(Bounded { processor, waiting });
        Ok(Self(provider.with_resource(resource).build()))
    }

    /// What hands it the spans of a subscriber.
    pub fn layer<S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync>(&self) -> impl Layer<S> + Send + Sync + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("knowhow"))
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // That it takes too long shows in the count.
        let _ = self.0.shutdown_with_timeout(FLUSH);
        let lost = spans("dropped").get() + spans("failed").get();
        if lost > 0 {
            tracing::warn!(spans = lost, "spans did not reach the collector");
        }
    }
}

/// Takes no more spans than may wait.
#[derive(Debug)]
struct Bounded {
    processor: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let place = |waiting| (waiting < WAITING).then_some(waiting + 1);
        match self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, place) {
            Ok(_) => self.processor.on_end(span),
            Err(_) => drop(spans("dropped").inc()),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// Counts what has been sent.
#[derive(Debug)]
struct Counted {
    exporter: opentelemetry_otlp::SpanExporter,
    waiting: Arc<AtomicUsize>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let sent = self.exporter.export(batch).await;
        self.waiting.fetch_sub(count, Ordering::AcqRel);
        spans(if sent.is_ok() { "exported" } else { "failed" }).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends requests, from the one thread that exports.
#[derive(Debug)]
struct Client {
    agent: Agent,
    endpoint: Uri,
    /// Whether the last request failed: the log tells of the first that does.
    failing: AtomicBool,
}

impl Client {
    fn new(endpoint: &Endpoint) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("knowhow/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self { agent, endpoint: endpoint.0.clone(), failing: AtomicBool::new(false) }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = self.agent.run(request.map(|body| body.to_vec()))?.into_parts();
        let body = body.into_with_config().limit(LONGEST_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }

    /// Tells of a collector that does not take spans, and of one that does so again.
    fn told(&self, problem: Option<&str>) {
        let endpoint = &self.endpoint;
        match (problem, self.failing.swap(problem.is_some(), Ordering::AcqRel)) {
            (Some(problem), false) => {
                tracing::warn!(%endpoint, problem, "the collector does not take spans; they are lost until it does");
            }
            (None, true) => tracing::info!(%endpoint, "the collector takes spans again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    /// Nothing else runs on the thread that waits for this.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.send(request);
        match &sent {
            Ok(response) if response.status().is_success() => self.told(None),
            Ok(response) => self.told(Some(&format!("it answers {}", response.status()))),
            Err(error) => self.told(Some(&error.to_string())),
        }
        Ok(sent?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_of_servers() {
        let parsed = |text| Endpoint::parse(text).map(|endpoint| endpoint.0.to_string());
        assert_eq!(parsed("http://localhost:4318").as_deref(), Some("http://localhost:4318/v1/traces"));
        assert_eq!(parsed("http://a/otlp/").as_deref(), Some("http://a/otlp/v1/traces"));
        assert_eq!(parsed("https://a").is_some(), cfg!(feature = "tls"));
        for text in
            ["localhost:4318", "grpc://a", "http://", "http://me:pass@a", "http://a?b", "http://a#b", "a b", "/"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
