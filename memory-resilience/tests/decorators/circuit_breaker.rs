use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::testkit::{Fault, Operation};
use memory_core::{Embedder, Error, ErrorKind, HashEmbedder, MemoryStore, Result, Role, Vector, VectorSpace};
use memory_resilience::{CircuitBreaker, CircuitBreakerConfig, CircuitState, ResilienceExt as _, TimeoutConfig, Trip};
use proptest::prelude::*;
use tokio::sync::oneshot;
use tokio::time::advance;

use crate::{Faulty, busy, calls, fail, faulty, hold, ms, not_found, settle, spawn};

fn breaking(config: CircuitBreakerConfig) -> (Arc<Faulty>, Arc<CircuitBreaker<Arc<Faulty>>>) {
    let store = faulty();
    (Arc::clone(&store), Arc::new(store.circuit_breaker(config.with_name("server")).unwrap()))
}

/// Opens after three failures.
async fn opened() -> (Arc<Faulty>, Arc<CircuitBreaker<Arc<Faulty>>>) {
    let (store, breaker) = breaking(CircuitBreakerConfig::default().with_failures(3));
    fail(&store, [busy(), busy(), busy()]);
    for _ in 0..3 {
        breaker.health().await.unwrap_err();
    }
    assert_eq!(breaker.stats().state, CircuitState::Open);
    (store, breaker)
}

#[tokio::test(start_paused = true)]
async fn by_default_five_failures_open_it_for_thirty_seconds() {
    let (store, breaker) = breaking(CircuitBreakerConfig::default());
    fail(&store, (0..5).map(|_| busy()));
    for _ in 0..5 {
        assert_eq!(breaker.stats().state, CircuitState::Closed);
        assert_eq!(breaker.health().await.unwrap_err().kind(), ErrorKind::Busy);
    }
    advance(ms(10_000)).await;
    let error = breaker.health().await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true));
    assert_eq!(error.retry_after(), Some(ms(20_000)));
    assert_eq!(error.to_string(), "unavailable: health: the circuit breaker \"server\" is open for another 20.0s");
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.lasting, stats.opened, stats.refused), (CircuitState::Open, ms(10_000), 1, 1));
    assert_eq!(calls(&store), 5, "nobody is called while it is open");
    advance(ms(20_000)).await;
    breaker.health().await.unwrap();
    assert_eq!((breaker.stats().state, calls(&store)), (CircuitState::Closed, 6));
}

#[tokio::test(start_paused = true)]
async fn persistent_failures_count_and_permanent_ones_are_answers() {
    let (store, breaker) = breaking(CircuitBreakerConfig::default().with_failures(3));
    fail(&store, [busy(), busy(), not_found(), busy(), busy()]);
    for _ in 0..5 {
        breaker.health().await.unwrap_err();
    }
    assert_eq!(breaker.stats().state, CircuitState::Closed, "an answer came between");
    fail(&store, [busy().into_persistent()]);
    breaker.health().await.unwrap_err();
    assert_eq!(breaker.stats().state, CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn failures_older_than_the_window_do_not_count() {
    let (store, breaker) = breaking(CircuitBreakerConfig::default().with_failures(2));
    fail(&store, [busy(), busy(), busy()]);
    breaker.health().await.unwrap_err();
    advance(ms(60_000)).await;
    breaker.health().await.unwrap_err();
    assert_eq!(breaker.stats().state, CircuitState::Closed);
    breaker.health().await.unwrap_err();
    assert_eq!(breaker.stats().state, CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_share_of_failures_opens_it() {
    let (store, breaker) = breaking(CircuitBreakerConfig::default().with_rate(50, 10));
    for n in 0..5 {
        breaker.health().await.unwrap();
        fail(&store, [busy()]);
        assert_eq!(breaker.stats().state, CircuitState::Closed, "after {n} of each");
        breaker.health().await.unwrap_err();
    }
    assert_eq!(breaker.stats().state, CircuitState::Open, "five of ten");
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_probes_when_the_interval_is_over() {
    let (store, breaker) = opened().await;
    advance(ms(30_000)).await;
    let gate = hold(&store);
    let probe = spawn(&breaker);
    gate.reached().await;
    assert_eq!(breaker.stats().state, CircuitState::HalfOpen);
    for _ in 0..5 {
        let error = breaker.health().await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary(), error.retry_after()), (ErrorKind::Unavailable, true, None));
    }
    assert_eq!(calls(&store), 4, "no call beside the probe");
    gate.open();
    probe.await.unwrap().unwrap();
    assert_eq!(breaker.stats().state, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_opens_it_for_another_interval() {
    let (store, breaker) = opened().await;
    advance(ms(30_000)).await;
    fail(&store, [busy()]);
    assert_eq!(breaker.health().await.unwrap_err().kind(), ErrorKind::Busy);
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.opened), (CircuitState::Open, 2));
    advance(ms(29_999)).await;
    assert_eq!(breaker.health().await.unwrap_err().retry_after(), Some(ms(1)));
    advance(ms(1)).await;
    breaker.health().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_leaves_its_place_to_the_next_call() {
    let (store, breaker) = opened().await;
    advance(ms(30_000)).await;
    let gate = hold(&store);
    let probe = spawn(&breaker);
    gate.reached().await;
    probe.abort();
    settle().await;
    assert_eq!(breaker.stats().state, CircuitState::HalfOpen);
    breaker.health().await.unwrap();
    assert_eq!(breaker.stats().state, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_is_given_up_after_another_interval() {
    let (store, breaker) = opened().await;
    advance(ms(30_000)).await;
    let gate = hold(&store);
    let probe = spawn(&breaker);
    gate.reached().await;
    advance(ms(29_999)).await;
    breaker.health().await.unwrap_err();
    advance(ms(1)).await;
    fail(&store, [busy()]);
    breaker.health().await.unwrap_err();
    gate.open();
    probe.await.unwrap().unwrap();
    assert_eq!(breaker.stats().state, CircuitState::Open, "what the lost probe says at last is of no interest");
}

#[tokio::test(start_paused = true)]
async fn what_began_before_it_opened_does_not_close_it() {
    let (store, breaker) = breaking(CircuitBreakerConfig::default().with_failures(1));
    let gate = hold(&store);
    let early = spawn(&breaker);
    gate.reached().await;
    fail(&store, [busy()]);
    breaker.health().await.unwrap_err();
    advance(ms(30_000)).await;
    let probing = hold(&store);
    let probe = spawn(&breaker);
    probing.reached().await;
    gate.open();
    early.await.unwrap().unwrap();
    assert_eq!(breaker.stats().state, CircuitState::HalfOpen);
    probing.open();
    probe.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang_open_it_if_the_timeout_is_inside() {
    let store = faulty();
    let timeout = Arc::clone(&store).timeout(TimeoutConfig::default()).unwrap();
    let breaker = timeout.circuit_breaker(CircuitBreakerConfig::default().with_failures(1)).unwrap();
    hold(&store);
    assert_eq!(breaker.health().await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(breaker.stats().state, CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn closing_is_always_passed_on_and_counts_for_nothing() {
    let (store, breaker) = opened().await;
    store.script_next(Operation::Close, Fault::Before(busy()));
    assert_eq!(breaker.close().await.unwrap_err().kind(), ErrorKind::Busy);
    breaker.close().await.unwrap();
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.opened, stats.refused), (CircuitState::Open, 1, 0));
}

/// Keeps the texts of all events.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut fields = Fields(format!("{} ", event.metadata().level()));
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

#[tokio::test(start_paused = true)]
async fn every_change_of_state_is_told_with_its_name() {
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(events.clone());
    let (store, breaker) = breaking(CircuitBreakerConfig::default().with_failures(1));
    assert_eq!(breaker.name(), "server");
    let mut states = breaker.subscribe();
    assert_eq!(*states.borrow_and_update(), CircuitState::Closed);
    fail(&store, [busy(), busy()]);
    breaker.health().await.unwrap_err();
    assert!(states.has_changed().unwrap());
    assert_eq!(*states.borrow_and_update(), CircuitState::Open);
    breaker.health().await.unwrap_err();
    assert!(!states.has_changed().unwrap(), "a refusal changes nothing");
    advance(ms(30_000)).await;
    breaker.health().await.unwrap_err();
    advance(ms(30_000)).await;
    breaker.health().await.unwrap();
    assert_eq!(*states.borrow_and_update(), CircuitState::Closed);
    let told = events.0.lock().unwrap().clone();
    let expected = [
        ("WARN", "from=closed to=open opened=1"),
        ("INFO", "from=open to=half-open opened=1"),
        ("WARN", "from=half-open to=open opened=2"),
        ("INFO", "from=open to=half-open opened=2"),
        ("INFO", "from=half-open to=closed opened=2"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (event, (level, change)) in told.iter().zip(expected) {
        assert!(event.starts_with(level) && event.contains(change) && event.contains("name=\"server\""), "{event}");
    }
}

/// An embedder whose answers come when the test gives them.
#[derive(Debug)]
struct Scripted {
    inner: HashEmbedder,
    next: Mutex<Option<oneshot::Receiver<Result<()>>>>,
}

impl fmt::Display for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait]
impl Embedder for Scripted {
    fn space(&self) -> &VectorSpace {
        self.inner.space()
    }

    async fn embed(&self, _: Role, _: &[&str]) -> Result<Vec<Vector>> {
        let answer = self.next.lock().unwrap().take().unwrap();
        answer.await.unwrap().map(|()| Vec::new())
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Good,
    Temporary,
    Persistent,
    Permanent,
}

impl Answer {
    fn failed(self) -> bool {
        matches!(self, Self::Temporary | Self::Persistent)
    }

    fn result(self) -> Result<()> {
        match self {
            Self::Good => Ok(()),
            Self::Temporary => Err(busy()),
            Self::Persistent => Err(busy().into_persistent()),
            Self::Permanent => Err(not_found()),
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Begin,
    /// The call at this place, around the number of calls under way, is answered.
    Answer(usize, Answer),
    Drop(usize),
    Wait(u64),
}

/// What a breaker should be, written down as one would tell it, with all that ever happened kept.
struct Model {
    config: CircuitBreakerConfig,
    now: Duration,
    state: CircuitState,
    since: Duration,
    /// Which call is the probe, and since when.
    probe: Option<(u32, Duration)>,
    /// The answers to calls that were begun and ended since it was last closed.
    answers: Vec<(Duration, bool)>,
    next: u32,
    /// The first call since it was last closed.
    first: u32,
    opened: u64,
    refused: u64,
}

impl Model {
    fn new(config: CircuitBreakerConfig) -> Self {
        let (state, since, now) = (CircuitState::Closed, Duration::ZERO, Duration::ZERO);
        Self { config, now, state, since, probe: None, answers: vec![], next: 0, first: 0, opened: 0, refused: 0 }
    }

    fn enter(&mut self, state: CircuitState) {
        (self.state, self.since, self.probe) = (state, self.now, None);
        self.answers.clear();
        self.first = self.next;
        self.opened += u64::from(state == CircuitState::Open);
    }

    /// The number of a call that is let through, or the hint of a refusal.
    fn begin(&mut self) -> Result<u32, Option<Duration>> {
        let (reset, now) = (self.config.reset, self.now);
        if self.state == CircuitState::Open && now >= self.since + reset {
            self.enter(CircuitState::HalfOpen);
        }
        let refusal = match (self.state, self.probe) {
            (CircuitState::Open, _) => Some(Some(self.since + reset - now)),
            (CircuitState::HalfOpen, Some((_, since))) if now < since + reset => Some(None),
            _ => None,
        };
        if let Some(hint) = refusal {
            self.refused += 1;
            return Err(hint);
        }
        let call = self.next;
        self.next += 1;
        if self.state == CircuitState::HalfOpen {
            self.probe = Some((call, now));
        }
        Ok(call)
    }

    fn end(&mut self, call: u32, failed: Option<bool>) {
        let is_probe = self.probe.is_some_and(|(probe, _)| probe == call);
        match (self.state, failed) {
            (CircuitState::HalfOpen, Some(true)) if is_probe => self.enter(CircuitState::Open),
            (CircuitState::HalfOpen, Some(false)) if is_probe => self.enter(CircuitState::Closed),
            (CircuitState::HalfOpen, None) if is_probe => self.probe = None,
            (CircuitState::Closed, Some(failed)) if call >= self.first => {
                self.answers.push((self.now, failed));
                if failed && self.is_tripped() {
                    self.enter(CircuitState::Open);
                }
            }
            _ => {}
        }
    }

    fn is_tripped(&self) -> bool {
        let window = self.config.window;
        match self.config.trip {
            Trip::Consecutive { failures } => {
                let last = self.answers.iter().rev().take_while(|(_, failed)| *failed);
                last.filter(|(at, _)| self.now < *at + window).count() >= failures as usize
            }
            Trip::Rate { percent, min_calls } => {
                let slice = |at: Duration| (at - self.since).as_nanos() / (window / 10).as_nanos();
                let current = slice(self.now);
                let inside: Vec<bool> = self
                    .answers
                    .iter()
                    .filter(|(at, _)| slice(*at) + 10 > current)
                    .map(|(_, failed)| *failed)
                    .collect();
                let failures = inside.iter().filter(|failed| **failed).count();
                inside.len() >= min_calls as usize && failures * 100 >= inside.len() * percent as usize
            }
            other => panic!("the model knows no {other:?}"),
        }
    }
}

type Call = Pin<Box<dyn Future<Output = Result<Vec<Vector>>>>>;

/// A call under way: its number, what answers it, and itself.
type UnderWay = (u32, oneshot::Sender<Result<()>>, Call);

fn poll(call: &mut Call) -> Poll<Result<Vec<Vector>>> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

struct Trial {
    breaker: Arc<CircuitBreaker<Scripted>>,
    model: Model,
    calls: Vec<UnderWay>,
}

impl Trial {
    fn new(config: CircuitBreakerConfig) -> Self {
        let scripted = Scripted { inner: HashEmbedder::new(), next: Mutex::default() };
        let breaker = Arc::new(CircuitBreaker::new(scripted, config.clone()).unwrap());
        Self { breaker, model: Model::new(config), calls: Vec::new() }
    }

    fn begin(&mut self) {
        let (answer, answered) = oneshot::channel();
        *self.breaker.get_ref().next.lock().unwrap() = Some(answered);
        let breaker = Arc::clone(&self.breaker);
        let mut call: Call = Box::pin(async move { breaker.embed(Role::Query, &[]).await });
        match (poll(&mut call), self.model.begin()) {
            (Poll::Pending, Ok(number)) => self.calls.push((number, answer, call)),
            (Poll::Ready(Err(error)), Err(hint)) => {
                assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true));
                assert_eq!(error.retry_after(), hint);
            }
            (found, expected) => panic!("{found:?} where the model says {expected:?}"),
        }
    }

    fn end(&mut self, place: usize, answer: Option<Answer>) {
        if self.calls.is_empty() {
            return;
        }
        let (number, sender, mut call) = self.calls.swap_remove(place % self.calls.len());
        self.model.end(number, answer.map(Answer::failed));
        if let Some(answer) = answer {
            sender.send(answer.result()).unwrap();
            let Poll::Ready(found) = poll(&mut call) else { panic!("an answer that was given is passed on") };
            let kind = |result: Result<()>| result.map_err(|error: Error| error.kind());
            assert_eq!(kind(found.map(drop)), kind(answer.result()));
        }
        drop(call);
    }

    fn check(&self) {
        let (stats, model) = (self.breaker.stats(), &self.model);
        let found = (stats.state, stats.lasting, stats.opened, stats.refused);
        assert_eq!(found, (model.state, model.now - model.since, model.opened, model.refused));
        assert_eq!(*self.breaker.subscribe().borrow(), model.state);
    }

    async fn run(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Begin => self.begin(),
                Event::Answer(place, answer) => self.end(place, Some(answer)),
                Event::Drop(place) => self.end(place, None),
                Event::Wait(milliseconds) => {
                    advance(ms(milliseconds)).await;
                    self.model.now += ms(milliseconds);
                }
            }
            self.check();
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let answer = prop_oneof![
        3 => Just(Answer::Temporary), 1 => Just(Answer::Persistent), 2 => Just(Answer::Good), 1 => Just(Answer::Permanent)
    ];
    prop_oneof![
        6 => Just(Event::Begin),
        5 => (any::<usize>(), answer).prop_map(|(place, answer)| Event::Answer(place, answer)),
        1 => any::<usize>().prop_map(Event::Drop),
        2 => prop_oneof![1_u64..40, 90_u64..=110, Just(500), Just(1_000)].prop_map(Event::Wait),
    ]
}

fn config() -> impl Strategy<Value = CircuitBreakerConfig> {
    let base = CircuitBreakerConfig::default().with_window(ms(1_000)).with_reset(ms(100));
    let (consecutive, rate) = (base.clone(), base);
    prop_oneof![
        (1_u32..5).prop_map(move |failures| consecutive.clone().with_failures(failures)),
        (1_u32..=100, 1_u32..8).prop_map(move |(percent, calls)| rate.clone().with_rate(percent, calls)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_does_what_a_plain_model_does(config in config(), events in proptest::collection::vec(event(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async { Trial::new(config).run(events).await });
    }
}
