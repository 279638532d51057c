//! What spans are to a collector.

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Status, TraceContextExt as _};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// A place in a trace. It outlasts its span, and does not hold it open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Option<Context>);

impl Trace {
    /// Where a span is; begins it.
    pub(crate) fn of(span: &Span) -> Self {
        let place = span.context().span().span_context().clone();
        Self(place.is_valid().then(|| Context::new().with_remote_span_context(place)))
    }

    /// Makes a span that has not begun a child of this place.
    pub(crate) fn continue_in(&self, span: &Span) {
        if let Some(place) = &self.0 {
            // A span that nobody exports has no parent.
            let _ = span.set_parent(place.clone());
        }
    }
}

/// The one header that is read: tracestate is a text of the client's choice.
struct TraceParent<'h>(&'h HeaderMap);

impl Extractor for TraceParent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).filter(|_| key == "traceparent")?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// Makes a span that has not begun a part of the client's trace, if its request names one.
pub(crate) fn continue_from(span: &Span, headers: &HeaderMap) {
    let client = TraceContextPropagator::new().extract_with_context(&Context::new(), &TraceParent(headers));
    Trace(client.has_active_span().then_some(client)).continue_in(span);
}

/// Tells the collector something of a span.
pub(crate) fn tell(span: &Span, key: &'static str, value: impl Into<Value>) {
    span.set_attribute(key, value);
}

/// Tells the collector that what a span is of has failed.
pub(crate) fn fail(span: &Span, kind: String) {
    span.set_status(Status::error(kind.clone()));
    tell(span, "error.type", kind);
}
