#![doc = include_str!("../README.md")]

mod bulkhead;
mod check;
mod circuit_breaker;
mod decorate;
mod ext;
mod failover;
mod health_monitor;
pub mod presets;
mod rate_limit;
mod retry;
mod timeout;

pub use bulkhead::{Bulkhead, BulkheadConfig, BulkheadStats};
pub use circuit_breaker::{CircuitBreaker, CircuitBreakerConfig, CircuitBreakerStats, CircuitState, Trip};
pub use ext::ResilienceExt;
pub use failover::{Failover, FailoverStats, Side};
pub use health_monitor::{Check, CheckReport, HealthMonitor, HealthReport, HealthState, MonitorConfig};
pub use rate_limit::{RateLimit, RateLimitConfig, RateLimitStats};
pub use retry::{Retry, RetryConfig, RetryStats};
pub use timeout::{Timeout, TimeoutConfig, TimeoutStats};

#[cfg(test)]
mod tests {
    use memory_core::InMemoryStore;

    use super::*;

    #[test]
    fn everything_can_cross_threads() {
        fn check<T: Send + Sync + std::fmt::Debug>() {}
        check::<Bulkhead<InMemoryStore>>();
        check::<CircuitBreaker<InMemoryStore>>();
        check::<Failover<InMemoryStore, InMemoryStore>>();
        check::<RateLimit<InMemoryStore>>();
        check::<Retry<InMemoryStore>>();
        check::<Timeout<InMemoryStore>>();
        check::<Check>();
        check::<HealthMonitor>();
        check::<HealthReport>();
    }
}
