//! What a circuit breaker knows, and what becomes of it: no clock, no locks, no calls.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{CircuitBreakerConfig, CircuitBreakerStats, CircuitState, Trip};

#[derive(Debug)]
pub(super) struct Machine {
    window: Duration,
    trip: Trip,
    reset: Duration,
    state: State,
    since: Instant,
    /// Goes up whenever earlier tickets lose their meaning.
    era: u64,
    opened: u64,
    refused: u64,
}

#[derive(Debug)]
enum State {
    Closed(Failures),
    Open,
    /// Since when the probe is under way, if there is one.
    HalfOpen(Option<Instant>),
}

/// What a call that was let through settles with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

impl Machine {
    pub(super) fn new(config: &CircuitBreakerConfig, now: Instant) -> Self {
        let &CircuitBreakerConfig { trip, window, reset, .. } = config;
        let state = State::Closed(Failures::new(trip, now));
        Self { window, trip, reset, state, since: now, era: 0, opened: 0, refused: 0 }
    }

    pub(super) fn state(&self) -> CircuitState {
        match self.state {
            State::Closed(_) => CircuitState::Closed,
            State::Open => CircuitState::Open,
            State::HalfOpen(_) => CircuitState::HalfOpen,
        }
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    pub(super) fn stats(&self, now: Instant) -> CircuitBreakerStats {
        let lasting = now.saturating_duration_since(self.since);
        CircuitBreakerStats { state: self.state(), lasting, opened: self.opened, refused: self.refused }
    }

    /// Lets a call through; or refuses it, and says how long the reset interval still takes.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Ticket, Option<Duration>> {
        let waited = |since: Instant| now.saturating_duration_since(since) >= self.reset;
        match self.state {
            State::Closed(_) => Ok(Ticket(self.era)),
            State::Open if waited(self.since) => {
                self.enter(State::HalfOpen(Some(now)), now);
                Ok(Ticket(self.era))
            }
            State::Open => {
                self.refused += 1;
                Err(Some(self.reset - now.saturating_duration_since(self.since)))
            }
            State::HalfOpen(Some(probing)) if !waited(probing) => {
                self.refused += 1;
                Err(None)
            }
            State::HalfOpen(_) => {
                self.state = State::HalfOpen(Some(now));
                self.era += 1;
                Ok(Ticket(self.era))
            }
        }
    }

    /// Takes in what came of a call: whether it failed, or `None` if it was dropped.
    pub(super) fn settle(&mut self, ticket: Ticket, failed: Option<bool>, now: Instant) {
        if ticket.0 != self.era {
            return;
        }
        match (&mut self.state, failed) {
            (State::Closed(failures), Some(failed)) => {
                failures.count(failed, now, self.window);
                if failed && failures.are_too_many() {
                    self.open(now);
                }
            }
            (State::HalfOpen(_), Some(false)) => self.enter(State::Closed(Failures::new(self.trip, now)), now),
            (State::HalfOpen(_), Some(true)) => self.open(now),
            (State::HalfOpen(probing), None) => *probing = None,
            (State::Closed(_), None) | (State::Open, _) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.opened += 1;
        self.enter(State::Open, now);
    }

    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
        self.era += 1;
    }
}

/// The failures that count, as far as the kind of trip needs them.
#[derive(Debug)]
enum Failures {
    Consecutive {
        /// When those since the last answer were.
        times: VecDeque<Instant>,
        most: u32,
    },
    Rate {
        begun: Instant,
        slices: VecDeque<Slice>,
        percent: u32,
        min_calls: u32,
    },
}

/// What happened in a tenth of a window.
#[derive(Debug)]
struct Slice {
    number: u128,
    calls: u64,
    failures: u64,
}

const SLICES: u32 = 10;

impl Failures {
    fn new(trip: Trip, begun: Instant) -> Self {
        match trip {
            Trip::Consecutive { failures } => Self::Consecutive { times: VecDeque::new(), most: failures },
            Trip::Rate { percent, min_calls } => Self::Rate { begun, slices: VecDeque::new(), percent, min_calls },
        }
    }

    fn count(&mut self, failed: bool, now: Instant, window: Duration) {
        match self {
            Self::Consecutive { times, .. } if failed => {
                times.push_back(now);
                while times.front().is_some_and(|first| now.saturating_duration_since(*first) >= window) {
                    times.pop_front();
                }
            }
            Self::Consecutive { times, .. } => times.clear(),
            Self::Rate { begun, slices, .. } => {
                let number = now.saturating_duration_since(*begun).as_nanos() / (window / SLICES).as_nanos();
                if slices.back().is_none_or(|last| last.number < number) {
                    slices.push_back(Slice { number, calls: 0, failures: 0 });
                }
                while slices.front().is_some_and(|first| first.number + u128::from(SLICES) <= number) {
                    slices.pop_front();
                }
                if let Some(slice) = slices.back_mut() {
                    slice.calls += 1;
                    slice.failures += u64::from(failed);
                }
            }
        }
    }

    fn are_too_many(&self) -> bool {
        match self {
            Self::Consecutive { times, most } => times.len() >= *most as usize,
            Self::Rate { slices, percent, min_calls, .. } => {
                let calls: u64 = slices.iter().map(|slice| slice.calls).sum();
                let failures: u64 = slices.iter().map(|slice| slice.failures).sum();
                calls >= u64::from(*min_calls) && failures * 100 >= calls * u64::from(*percent)
            }
        }
    }
}
