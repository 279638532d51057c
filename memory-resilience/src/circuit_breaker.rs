//! Not calling what does not answer.

mod machine;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::check::{TIMES, name, within};
use crate::decorate::{Operation, decorate};
use machine::{Machine, Ticket};

/// What trips a [`CircuitBreaker`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// So many failures one after the other, with no answer between them, all within the window.
    Consecutive {
        /// How many: 1 ..= 1,000.
        failures: u32,
    },
    /// So large a share of failures among the calls of the window, looked at when one fails. The window moves in tenths.
    Rate {
        /// The share in percent: 1 ..= 100.
        percent: u32,
        /// The least number of calls that say anything: 1 ..= 1,000,000.
        min_calls: u32,
    },
}

/// When a [`CircuitBreaker`] opens, and for how long.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `name` | `"default"` | 1 to 128 bytes |
/// | `trip` | 5 failures one after the other | see [`Trip`] |
/// | `window` | 60 s | 1 ms ..= 1 day |
/// | `reset` | 30 s | 1 ms ..= 1 day |
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitBreakerConfig {
    /// What is behind it, as events and errors call it.
    pub name: String,
    /// What trips it.
    pub trip: Trip,
    /// How long a failure counts.
    pub window: Duration,
    /// How long it stays open before a call tries whether things are better.
    pub reset: Duration,
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            trip: Trip::Consecutive { failures: 5 },
            window: Duration::from_secs(60),
            reset: Duration::from_secs(30),
        }
    }
}

impl CircuitBreakerConfig {
    /// Sets what events and errors call it.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Trips after so many failures one after the other.
    #[must_use]
    pub fn with_failures(mut self, failures: u32) -> Self {
        self.trip = Trip::Consecutive { failures };
        self
    }

    /// Trips when so many percent of at least so many calls have failed.
    #[must_use]
    pub fn with_rate(mut self, percent: u32, min_calls: u32) -> Self {
        self.trip = Trip::Rate { percent, min_calls };
        self
    }

    /// Sets how long a failure counts.
    #[must_use]
    pub fn with_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how long it stays open.
    #[must_use]
    pub fn with_reset(mut self, reset: Duration) -> Self {
        self.reset = reset;
        self
    }

    fn validate(&self) -> Result<()> {
        name("name", &self.name)?;
        within("window", self.window, TIMES)?;
        within("reset", self.reset, TIMES)?;
        match self.trip {
            Trip::Consecutive { failures } => within("failures", failures, 1..=1_000),
            Trip::Rate { percent, min_calls } => {
                within("percent", percent, 1..=100)?;
                within("min_calls", min_calls, 1..=1_000_000)
            }
        }
    }
}

/// Where a [`CircuitBreaker`] is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Calls are made.
    Closed,
    /// No call is made. It stays so until the first call after the reset interval.
    Open,
    /// One call is made, to see whether things are better; no other meanwhile.
    HalfOpen,
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// What a [`CircuitBreaker`] sees.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitBreakerStats {
    /// Where it is.
    pub state: CircuitState,
    /// For how long it has been there.
    pub lasting: Duration,
    /// How often it has opened.
    pub opened: u64,
    /// Calls that were refused.
    pub refused: u64,
}

/// A store or an embedder that is not called for a while after it has failed again and again, so that callers need not
/// wait for it and it can recover.
///
/// Only [temporary](Error::is_temporary) and [persistent](Error::is_persistent) errors are failures. Others, `Invalid`, `NotFound` or
/// `Conflict` say, are answers like successes: somebody was there to give them.
///
/// - **Closed**: calls are made, until they trip it; see [`Trip`].
/// - **Open**: calls are refused with [`Unavailable`](ErrorKind::Unavailable), which is temporary and says how long the reset
///   interval still takes ([`Error::retry_after`]).
/// - **Half-open**: the first call after the reset interval is the probe. If it succeeds, the breaker closes, else it opens
///   again. Meanwhile other calls are refused, without a hint, since it may take a moment only. A probe that has no answer
///   within another reset interval is given up, and the next call is one.
///
/// Each change of state is an event of `tracing`, and told to those who [subscribe](Self::subscribe). `close` is always passed
/// on, and counts for nothing.
///
/// # Order
/// Outside [`Timeout`](crate::Timeout), or it never hears of calls that hang. Inside [`Retry`](crate::Retry), [`RateLimit`](crate::RateLimit)
/// and [`Bulkhead`](crate::Bulkhead): it would take what they refuse for failures, and retries for one call.
///
/// # Cancellation
/// A dropped call counts for nothing. After a dropped probe, the next call is the probe.
#[derive(Debug)]
pub struct CircuitBreaker<S> {
    inner: S,
    circuit: Circuit,
}

#[derive(Debug)]
struct Circuit {
    name: String,
    machine: Mutex<Machine>,
    states: watch::Sender<CircuitState>,
}

impl Circuit {
    /// Does something with the machine, and tells if its state is another then.
    fn with<T>(&self, change: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let before = machine.state();
        let answer = change(&mut machine, Instant::now());
        let (after, opened) = (machine.state(), machine.opened());
        if after != before {
            // Under the lock, so that subscribers see changes in their order.
            self.states.send_replace(after);
        }
        drop(machine);
        if after != before {
            self.tell(before, after, opened);
        }
        answer
    }

    fn tell(&self, from: CircuitState, to: CircuitState, opened: u64) {
        let name = self.name.as_str();
        match to {
            CircuitState::Open => tracing::warn!(name, %from, %to, opened, "the circuit breaker has opened"),
            _ => tracing::info!(name, %from, %to, opened, "the circuit breaker has changed"),
        }
    }

    fn admit(&self, operation: Operation) -> Result<Call<'_>> {
        match self.with(Machine::admit) {
            Ok(ticket) => Ok(Call { circuit: self, ticket, failed: None }),
            Err(wait) => Err(self.refusal(operation, wait)),
        }
    }

    fn refusal(&self, operation: Operation, wait: Option<Duration>) -> Error {
        let (name, operation) = (&self.name, operation.as_str());
        let message = match wait {
            Some(wait) => format!("{operation}: the circuit breaker {name:?} is open for another {wait:.1?}"),
            None => format!("{operation}: the circuit breaker {name:?} is half-open, and another call tries"),
        };
        let error = Error::new(ErrorKind::Unavailable, message).with_temporary(true);
        wait.into_iter().fold(error, Error::with_retry_after)
    }
}

/// A call that was let through; what came of it is settled when this is dropped.
struct Call<'a> {
    circuit: &'a Circuit,
    ticket: Ticket,
    /// `None` as long as there is no answer.
    failed: Option<bool>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.circuit.with(|machine, now| machine.settle(self.ticket, self.failed, now));
    }
}

impl<S> CircuitBreaker<S> {
    /// Guards the calls of `inner`. It begins closed.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a setting out of its range; see [`CircuitBreakerConfig`].
    pub fn new(inner: S, config: CircuitBreakerConfig) -> Result<Self> {
        config.validate()?;
        let machine = Mutex::new(Machine::new(&config, Instant::now()));
        let states = watch::Sender::new(CircuitState::Closed);
        Ok(Self { inner, circuit: Circuit { name: config.name, machine, states } })
    }

    /// What events and errors call it.
    pub fn name(&self) -> &str {
        &self.circuit.name
    }

    /// What it sees.
    pub fn stats(&self) -> CircuitBreakerStats {
        self.circuit.with(|machine, now| machine.stats(now))
    }

    /// Follows its state. A receiver that is slow may miss states that did not last; the last one it never misses.
    pub fn subscribe(&self) -> watch::Receiver<CircuitState> {
        self.circuit.states.subscribe()
    }

    async fn run<T, F: Future<Output = Result<T>>>(&self, operation: Operation, call: impl Fn() -> F) -> Result<T> {
        if operation == Operation::Close {
            return call().await;
        }
        let mut admitted = self.circuit.admit(operation)?;
        let answer = call().await;
        admitted.failed = Some(answer.as_ref().is_err_and(|error| error.is_temporary() || error.is_persistent()));
        answer
    }
}

decorate!(CircuitBreaker);
