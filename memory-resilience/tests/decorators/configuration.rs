use std::time::Duration;

use memory_core::{ErrorKind, InMemoryStore, Result};
use memory_resilience::{
    BulkheadConfig, Check, CircuitBreakerConfig, Failover, HealthMonitor, MonitorConfig, RateLimitConfig,
    ResilienceExt, RetryConfig, TimeoutConfig,
};

use crate::ms;

fn refuse<T>(built: Result<T>, field: &str, value: &str, range: &str) {
    let error = built.err().unwrap_or_else(|| panic!("{field} = {value} must be refused"));
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(error.to_string(), format!("invalid value: {field} is {value}; allowed: {range}"));
}

const TIMES: &str = "1ms..=86400s";
const WAITS: &str = "0ns..=86400s";

#[test]
fn timeouts_out_of_range_are_refused() {
    let build = |config| InMemoryStore::new().timeout(config);
    let default = TimeoutConfig::default();
    refuse(build(default.with_limit(Duration::ZERO)), "limit", "0ns", TIMES);
    refuse(build(default.with_close(Duration::MAX)), "close", "18446744073709551615.999999999s", TIMES);
}

#[test]
fn retries_out_of_range_are_refused() {
    let build = |config| InMemoryStore::new().retry(config);
    let default = RetryConfig::default();
    refuse(build(default.with_attempts(0)), "attempts", "0", "1..=100");
    refuse(build(default.with_attempts(101)), "attempts", "101", "1..=100");
    refuse(build(default.with_pauses(ms(0), ms(1))), "first_pause", "0ns", "1ms..=1ms");
    refuse(build(default.with_pauses(ms(3), ms(2))), "first_pause", "3ms", "1ms..=2ms");
    refuse(build(default.with_pauses(ms(0), ms(0))), "max_pause", "0ns", TIMES);
    refuse(build(default.with_total(ms(0))), "total", "0ns", TIMES);
    refuse(build(default.with_budget(10_001, 1)), "budget_percent", "10001", "0..=10000");
    refuse(build(default.with_budget(1, 1_000_001)), "budget_reserve", "1000001", "0..=1000000");
}

#[test]
fn circuit_breakers_out_of_range_are_refused() {
    let build = |config| InMemoryStore::new().circuit_breaker(config);
    let default = CircuitBreakerConfig::default;
    let names = "1 to 128 bytes without control characters, not only spaces";
    refuse(build(default().with_name("")), "name", "\"\"", names);
    refuse(build(default().with_name(" ")), "name", "\" \"", names);
    refuse(build(default().with_name("a\nb")), "name", "\"a\\nb\"", names);
    assert!(build(default().with_name("x".repeat(129))).is_err());
    refuse(build(default().with_failures(0)), "failures", "0", "1..=1000");
    refuse(build(default().with_rate(0, 1)), "percent", "0", "1..=100");
    refuse(build(default().with_rate(101, 1)), "percent", "101", "1..=100");
    refuse(build(default().with_rate(50, 0)), "min_calls", "0", "1..=1000000");
    refuse(build(default().with_window(ms(0))), "window", "0ns", TIMES);
    refuse(build(default().with_reset(ms(0))), "reset", "0ns", TIMES);
}

#[test]
fn rate_limits_out_of_range_are_refused() {
    let build = |config| InMemoryStore::new().rate_limit(config);
    let default = RateLimitConfig::default();
    refuse(build(default.with_calls(0, ms(1))), "calls", "0", "1..=1000000");
    refuse(build(default.with_calls(1, ms(0))), "per", "0ns", TIMES);
    refuse(build(default.with_burst(0)), "burst", "0", "1..=1000000");
    refuse(build(default.with_max_wait(ms(86_400_001))), "max_wait", "86400.001s", WAITS);
}

#[test]
fn bulkheads_out_of_range_are_refused() {
    let build = |config| InMemoryStore::new().bulkhead(config);
    let default = BulkheadConfig::default();
    refuse(build(default.with_at_once(0)), "at_once", "0", "1..=100000");
    refuse(build(default.with_waiting(100_001)), "waiting", "100001", "0..=100000");
    refuse(build(default.with_max_wait(ms(86_400_001))), "max_wait", "86400.001s", WAITS);
}

#[test]
fn failovers_out_of_range_are_refused() {
    let stores = |pause| Failover::over_copy(InMemoryStore::new(), InMemoryStore::new(), pause);
    refuse(stores(ms(0)), "pause", "0ns", TIMES);
}

#[tokio::test]
async fn monitors_out_of_range_are_refused() {
    let check = || Check::store("memory", InMemoryStore::new());
    let start = |checks| HealthMonitor::start(checks, MonitorConfig::default());
    refuse(start(vec![]), "checks", "empty", "at least one");
    refuse(start(vec![check(), check()]), "check", "\"memory\" twice", "names that are all different");
    refuse(start(vec![check().with_timeout(ms(0))]), "timeout of memory", "0ns", TIMES);
    let nameless = Check::new("", async || Ok(()));
    assert!(start(vec![nameless]).unwrap_err().to_string().contains("check is \"\""));
    let restless = MonitorConfig::default().with_interval(ms(0));
    refuse(HealthMonitor::start(vec![check()], restless), "interval", "0ns", TIMES);
}
