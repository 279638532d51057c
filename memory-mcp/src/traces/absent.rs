//! Built without feature `otel`: there is no export.

use axum::http::HeaderMap;
use tracing::Span;
use tracing_subscriber::layer::Identity;

/// There is none.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Endpoint {}

impl Endpoint {
    /// What an endpoint may be.
    pub const ALLOWED: &str = "nothing: this program was built without OpenTelemetry; build it with --features otel, or set \
                               log.otlp_endpoint to nothing";

    /// None.
    pub fn parse(_: &str) -> Option<Self> {
        None
    }
}

/// There is none.
#[derive(Debug)]
#[non_exhaustive]
pub enum Export {}

impl Export {
    /// As there is no endpoint, this is not called.
    ///
    /// # Errors
    /// None.
    pub fn to(endpoint: &Endpoint, _: &str) -> Result<Self, String> {
        match *endpoint {}
    }

    /// As there is no export, this is not called.
    pub fn layer(&self) -> Identity {
        match *self {}
    }
}

/// A place in no trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(());

impl Trace {
    pub(crate) fn of(_: &Span) -> Self {
        Self(())
    }

    pub(crate) fn continue_in(&self, _: &Span) {}
}

pub(crate) fn continue_from(_: &Span, _: &HeaderMap) {}

pub(crate) fn tell(_: &Span, _: &'static str, _: impl Sized) {}

pub(crate) fn fail(_: &Span, _: impl Sized) {}
