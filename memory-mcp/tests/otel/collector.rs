//! A collector that keeps what it gets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Code;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What a span says.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) serves: bool,
    pub(crate) failed: bool,
    pub(crate) nanoseconds: u64,
    pub(crate) attributes: HashMap<String, String>,
    /// Of the process.
    pub(crate) resource: HashMap<String, String>,
}

impl Span {
    /// What it says of this; nothing if it says nothing.
    pub(crate) fn of(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
struct Received {
    requests: Vec<(HeaderMap, Bytes)>,
}

pub(crate) struct Collector {
    pub(crate) endpoint: String,
    received: Arc<Mutex<Received>>,
    status: Arc<AtomicU16>,
    _runtime: Runtime,
}

impl Collector {
    /// One that answers with this status until it is told otherwise.
    pub(crate) fn answering(status: u16) -> Self {
        let runtime = Runtime::new().unwrap();
        let (received, status) = (Arc::<Mutex<Received>>::default(), Arc::new(AtomicU16::new(status)));
        let (kept, answer) = (Arc::clone(&received), Arc::clone(&status));
        let take = async move |headers: HeaderMap, body: Bytes| {
            let status = StatusCode::from_u16(answer.load(Ordering::SeqCst)).unwrap();
            if status.is_success() {
                kept.lock().unwrap().requests.push((headers, body));
            }
            status
        };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take));
        runtime.spawn(async { axum::serve(listener, router).await });
        Self { endpoint, received, status, _runtime: runtime }
    }

    pub(crate) fn new() -> Self {
        Self::answering(200)
    }

    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// All that was sent, as it was.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.received.lock().unwrap().requests.iter().flat_map(|(_, body)| body.to_vec()).collect()
    }

    /// The values of a header in all requests.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let values = received.requests.iter().filter_map(|(headers, _)| headers.get(name)?.to_str().ok());
        values.map(str::to_owned).collect()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let requests = received.requests.iter().map(|(_, body)| ExportTraceServiceRequest::decode(&body[..]).unwrap());
        let mut spans = Vec::new();
        for resource in requests.flat_map(|request| request.resource_spans) {
            let of = attributes(&resource.resource.unwrap().attributes);
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                assert!(span.events.is_empty() && span.links.is_empty() && span.trace_state.is_empty(), "{span:?}");
                spans.push(Span {
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    serves: span.kind() == SpanKind::Server,
                    failed: span.status.as_ref().is_some_and(|status| status.code() == Code::Error),
                    nanoseconds: span.end_time_unix_nano.checked_sub(span.start_time_unix_nano).unwrap(),
                    attributes: attributes(&span.attributes),
                    resource: of.clone(),
                    name: span.name,
                });
            }
        }
        spans
    }

    /// The span of this name that says this.
    #[track_caller]
    pub(crate) fn span(&self, name: &str, key: &str, value: &str) -> Span {
        let spans = self.spans();
        let found: Vec<&Span> = spans.iter().filter(|span| span.name == name && span.of(key) == value).collect();
        assert_eq!(found.len(), 1, "{name} with {key} {value} in {spans:#?}");
        found[0].clone()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: &[KeyValue]) -> HashMap<String, String> {
    pairs.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref().unwrap()))).collect()
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}
