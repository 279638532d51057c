//! What each decorator of memory-resilience does while the store under it fails.
//!
//! ```sh
//! cargo run --example resilience_stack
//! ```
//!
//! The store fails by a script, and time is tokio's paused one: pauses take none, and every run is the same. The order of the
//! decorators is the documented one; see `memory_resilience::ResilienceExt`. The program fails if one does not do its part.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use knowhow_examples::{AnyError, exit_code};
use memory_core::testkit::{Fault, FaultyStore, Gate, Operation};
use memory_core::{Error, ErrorKind, InMemoryStore, MemoryStore};
use memory_resilience::{
    Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitState, RateLimit, RateLimitConfig,
    ResilienceExt as _, Retry, RetryConfig, Timeout, TimeoutConfig,
};

type Server = Arc<FaultyStore<InMemoryStore>>;
type Stack = Bulkhead<Retry<RateLimit<CircuitBreaker<Timeout<Server>>>>>;

/// From the inside to the outside. Three attempts, a breaker that opens after three failures, and one caller at a time.
fn stack(server: &Server) -> memory_core::Result<Stack> {
    let pause = Duration::from_millis(10);
    let breaker = CircuitBreakerConfig::default().with_name("server").with_failures(3);
    Arc::clone(server)
        .timeout(TimeoutConfig::default().with_limit(Duration::from_secs(2)))?
        .circuit_breaker(breaker.with_reset(Duration::from_secs(30)))?
        .rate_limit(RateLimitConfig::default())?
        .retry(RetryConfig::default().with_attempts(3).with_pauses(pause, pause).with_seed(1))?
        .bulkhead(BulkheadConfig::default().with_at_once(1).with_waiting(1))
}

fn down() -> Fault {
    Fault::Before(Error::new(ErrorKind::Unavailable, "the server is down").with_temporary(true))
}

fn check(holds: bool, what: &str) -> Result<(), AnyError> {
    if holds { Ok(()) } else { Err(format!("not as it should be: {what}").into()) }
}

async fn run() -> Result<(), AnyError> {
    let server: Server = Arc::new(FaultyStore::new(InMemoryStore::new()));
    let stack = Arc::new(stack(&server)?);
    println!("{stack}");
    let (retry, limit) = (stack.get_ref(), stack.get_ref().get_ref());
    let (breaker, timeout) = (limit.get_ref(), limit.get_ref().get_ref());
    let calls = || server.calls(Operation::Health);

    server.script(Operation::Health, 1, down());
    server.script(Operation::Health, 2, down());
    stack.health().await?;
    println!("two failures: {} calls of the store, {} of them by Retry", calls(), retry.stats().retries);
    check(calls() == 3 && retry.stats().retries == 2, "Retry bridges two failures")?;

    server.script(Operation::Health, 4, Fault::Hold(Gate::new()));
    stack.health().await?;
    println!("a call that hangs: {} given up by Timeout, and made again", timeout.stats().timed_out);
    check(calls() == 5 && timeout.stats().timed_out == 1, "Timeout ends what hangs, and Retry makes it again")?;

    (6..=8).for_each(|call| server.script(Operation::Health, call, down()));
    let error = stack.health().await.err().ok_or("a store that is down answered")?;
    println!("down: {error}");
    check(error.is_persistent() && breaker.stats().state == CircuitState::Open, "three failures open the breaker")?;
    let error = stack.health().await.err().ok_or("an open breaker let a call through")?;
    println!("still down: {error}; try again in {:?}", error.retry_after());
    check(calls() == 8 && error.retry_after().is_some(), "CircuitBreaker keeps calls from the store")?;
    tokio::time::sleep(Duration::from_secs(31)).await;
    stack.health().await?;
    println!("up again after 31 s: {} refused by CircuitBreaker", breaker.stats().refused);
    check(breaker.stats().state == CircuitState::Closed, "a call that goes well closes the breaker")?;

    let gate = Gate::new();
    server.script_next(Operation::Health, Fault::Hold(gate.clone()));
    let ask = || {
        let stack = Arc::clone(&stack);
        tokio::spawn(async move { stack.health().await })
    };
    let first = ask();
    gate.reached().await;
    let second = ask();
    tokio::task::yield_now().await;
    let refused = stack.health().await.err().ok_or("the third of two was let in")?;
    println!("three callers where one may be inside and one may wait: {refused}");
    gate.open();
    first.await??;
    second.await??;
    check(refused.kind() == ErrorKind::Overloaded && stack.stats().refused == 1, "Bulkhead refuses the third")?;

    let burst = RateLimitConfig::default().with_calls(1, Duration::from_secs(1)).with_burst(1);
    let limited = Arc::clone(&server).rate_limit(burst.with_max_wait(Duration::ZERO))?;
    limited.health().await?;
    let error = limited.health().await.err().ok_or("the second in a second was let through")?;
    println!("two calls in a second where one is allowed: {error}");
    check(error.kind() == ErrorKind::RateLimited, "RateLimit refuses the second")
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> ExitCode {
    exit_code(run().await)
}
