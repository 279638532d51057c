//! Everything at once: ten thousand calls through all decorators over something that fails in every way.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use memory_core::testkit::{Fault, FaultyStore, Gate, Operation, samples};
use memory_core::{
    Batch, Embedder, Error, ErrorKind, HashEmbedder, InMemoryStore, Key, MemoryStore, Result, Role, Vector, VectorSpace,
};
use memory_resilience::{
    Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitState, RateLimit, RateLimitConfig,
    ResilienceExt, Retry, RetryConfig, Timeout, TimeoutConfig,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use crate::{busy, ms};

const CALLS: u64 = 10_000;
const WORKERS: usize = 64;

type Stack<S> = Bulkhead<Retry<RateLimit<CircuitBreaker<Timeout<S>>>>>;

fn stack<S: ResilienceExt>(inner: S) -> Arc<Stack<S>> {
    let timeout = inner.timeout(TimeoutConfig::default().with_limit(ms(2_000))).unwrap();
    let breaker = timeout.circuit_breaker(CircuitBreakerConfig::default().with_reset(ms(5_000))).unwrap();
    let limit = breaker.rate_limit(RateLimitConfig::default().with_calls(500, ms(1_000)).with_burst(500)).unwrap();
    let retry = limit.retry(RetryConfig::default().with_seed(1)).unwrap();
    Arc::new(retry.bulkhead(BulkheadConfig::default().with_at_once(48).with_waiting(8)).unwrap())
}

/// That nothing is left of the calls that have ended, in no decorator.
fn assert_idle<S: ResilienceExt>(stack: &Stack<S>) {
    let (bulkhead, limit) = (stack.stats(), stack.get_ref().get_ref().stats());
    assert_eq!((bulkhead.under_way, bulkhead.waiting, limit.waiting), (0, 0, 0));
}

fn breaker<S>(stack: &Stack<S>) -> &CircuitBreaker<Timeout<S>> {
    stack.get_ref().get_ref().get_ref()
}

/// What an error may be here; all that could be tried again was.
fn check(error: &Error) {
    use ErrorKind::{Busy, Io, Overloaded, RateLimited, TimedOut, Unavailable};
    assert!(matches!(error.kind(), Busy | Io | Overloaded | RateLimited | TimedOut | Unavailable), "{error}");
    assert_eq!(error.is_temporary(), error.kind() == Overloaded, "{error}");
    assert_eq!(error.is_persistent(), !matches!(error.kind(), Overloaded | Io), "{error}");
    assert!(!error.is_persistent() || error.to_string().contains("given up after"), "{error}");
}

/// Fails as long as it is not healed, in every way.
#[derive(Debug)]
struct Ill {
    inner: HashEmbedder,
    random: Mutex<StdRng>,
    healed: AtomicBool,
    down: AtomicBool,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    calls: AtomicU64,
}

/// A call inside, until it is dropped.
struct Inside<'a>(&'a Ill);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ill {
    fn new() -> Self {
        Self {
            inner: HashEmbedder::new(),
            random: Mutex::new(StdRng::seed_from_u64(6)),
            healed: AtomicBool::new(false),
            down: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            most_inside: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
        }
    }

    fn enter(&self) -> Inside<'_> {
        let inside = 1 + self.inside.fetch_add(1, Ordering::SeqCst);
        self.most_inside.fetch_max(inside, Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::SeqCst);
        Inside(self)
    }

    async fn suffer(&self) -> Result<()> {
        let unavailable = || Error::new(ErrorKind::Unavailable, "connection reset").with_temporary(true);
        let limited = |pause| Error::new(ErrorKind::RateLimited, "slow down").with_retry_after(ms(pause));
        if self.healed.load(Ordering::SeqCst) {
            return Ok(());
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        let (fate, pause) = {
            let mut random = self.random.lock().unwrap();
            (random.random_range(0..100), random.random_range(1..2_500))
        };
        match fate {
            0..10 => sleep(ms(pause)).await,
            10..14 => std::future::pending().await,
            14..24 => return Err(unavailable()),
            24..28 => return Err(limited(pause)),
            28..30 => return Err(limited(60_000)),
            30..34 => return Err(busy()),
            34..36 => return Err(Error::new(ErrorKind::Io, "permanent")),
            _ => sleep(ms(pause / 100)).await,
        }
        Ok(())
    }
}

impl fmt::Display for Ill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ill")
    }
}

#[async_trait]
impl Embedder for Ill {
    fn space(&self) -> &VectorSpace {
        self.inner.space()
    }

    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        let _inside = self.enter();
        self.suffer().await?;
        self.inner.embed(role, texts).await
    }

    async fn health(&self) -> Result<()> {
        self.suffer().await
    }
}

/// Embeds a text of its own; whether it succeeded.
async fn embed(stack: &Stack<Arc<Ill>>, n: u64) -> Result<()> {
    let text = format!("task number {n}");
    let vectors = stack.embed(Role::Document, &[&text]).await?;
    assert_eq!(vectors, HashEmbedder::new().embed(Role::Document, &[&text]).await?, "the answer to another call");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_embeds_over_an_ill_embedder_end_and_it_recovers_by_itself() {
    let ill = Arc::new(Ill::new());
    let stack = stack(Arc::clone(&ill));
    let next = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (stack, next) = (Arc::clone(&stack), Arc::clone(&next));
            tokio::spawn(async move {
                let mut ends: BTreeMap<String, u64> = BTreeMap::new();
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= CALLS {
                        return ends;
                    }
                    let end = match embed(&stack, n).await {
                        Ok(()) => "success".to_owned(),
                        Err(error) => {
                            check(&error);
                            // An agent does something else meanwhile.
                            sleep(ms(1_000)).await;
                            error.kind().to_string()
                        }
                    };
                    *ends.entry(end).or_default() += 1;
                }
            })
        })
        .collect();
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    for worker in workers {
        worker.await.unwrap().into_iter().for_each(|(end, count)| *ends.entry(end).or_default() += count);
    }
    println!("{ends:?}, {:?}, {:?}", stack.get_ref().stats(), breaker(&stack).stats());
    assert_eq!(ends.values().sum::<u64>(), CALLS);
    for end in ["success", "rate limited", "timed out", "unavailable", "busy", "input/output error", "overloaded"] {
        assert!(ends.get(end).is_some_and(|count| *count > 0), "no {end} in {ends:?}");
    }
    assert!(breaker(&stack).stats().opened >= 5);
    assert_eq!(ill.inside.load(Ordering::SeqCst), 0, "what was given up is gone");
    assert!(ill.most_inside.load(Ordering::SeqCst) <= 48);
    let retry = stack.get_ref().stats();
    assert!(retry.retries * 5 <= retry.calls + 5 * 100, "{retry:?}");
    assert_idle(&stack);

    ill.down.store(true, Ordering::SeqCst);
    for n in 0..20 {
        check(&embed(&stack, n).await.unwrap_err());
    }
    assert_eq!(breaker(&stack).stats().state, CircuitState::Open);
    let (calls, begun) = (ill.calls.load(Ordering::SeqCst), Instant::now());
    for n in 0..100 {
        let error = embed(&stack, n).await.unwrap_err();
        assert!(error.retry_after().is_some(), "{error}");
    }
    assert_eq!((ill.calls.load(Ordering::SeqCst), begun.elapsed()), (calls, ms(0)), "told at once, without asking");

    ill.healed.store(true, Ordering::SeqCst);
    let healed = Instant::now();
    while embed(&stack, 0).await.is_err() {
        sleep(ms(50)).await;
    }
    assert!(healed.elapsed() <= ms(5_000 + 50), "{:?}", healed.elapsed());
    for n in 0..100 {
        embed(&stack, n).await.unwrap();
    }
    assert_eq!(breaker(&stack).stats().state, CircuitState::Closed);
    assert_idle(&stack);
}

/// Lets a third of the calls of a store fail: before, after, and by hanging.
fn spoil(store: &FaultyStore<InMemoryStore>) {
    let mut random = StdRng::seed_from_u64(7);
    for operation in [Operation::Commit, Operation::Get] {
        for n in 1..=2 * CALLS {
            match random.random_range(0..20) {
                0..3 => store.script(operation, n, Fault::Before(busy())),
                3..6 => store.script(operation, n, Fault::After(busy())),
                6 => store.script(operation, n, Fault::Hold(Gate::new())),
                _ => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_commits_and_reads_over_an_ill_store_lose_nothing_that_was_acknowledged() {
    let store = Arc::new(FaultyStore::new(InMemoryStore::new()));
    spoil(&store);
    let stack = stack(Arc::clone(&store));
    let next = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (stack, next) = (Arc::clone(&stack), Arc::clone(&next));
            tokio::spawn(async move {
                let mut written = Vec::new();
                loop {
                    let n = u32::try_from(next.fetch_add(2, Ordering::SeqCst)).unwrap();
                    if u64::from(n) >= CALLS {
                        return written;
                    }
                    let note = samples::noted(samples::note(n, "a note"));
                    match stack.commit(&Batch::new().put(note)).await {
                        Ok(_) => written.push(Key::Note(samples::note_id(n))),
                        Err(error) => {
                            check(&error);
                            sleep(ms(1_000)).await;
                        }
                    }
                    match stack.get(&written).await {
                        Ok(found) => assert!(found.iter().all(Option::is_some), "acknowledged, and gone"),
                        Err(error) => check(&error),
                    }
                }
            })
        })
        .collect();
    let mut written = 0;
    for worker in workers {
        let keys = worker.await.unwrap();
        assert!(store.get_ref().get(&keys).await.unwrap().iter().all(Option::is_some));
        written += keys.len();
    }
    println!("{written} written, {:?}, {:?}", stack.get_ref().stats(), breaker(&stack).stats());
    assert!(written > 1_000, "{written}");
    assert_idle(&stack);
}
