//! Spans that a collector of OpenTelemetry gets from the real program, over OTLP/HTTP.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../http/client.rs"]
#[allow(dead_code, reason = "these tests use some of it")]
mod client;
mod collector;
mod failing;
#[path = "../http/server.rs"]
#[allow(dead_code, reason = "these tests use some of it")]
mod server;
mod stdio;
mod told;
