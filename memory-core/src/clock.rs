//! What time it is.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};

/// Tells the time. Injected, so that tests and replays decide what time it is.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> DateTime<Utc>;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> DateTime<Utc> {
        (**self).now()
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// Moments that strictly rise, a microsecond at least: two episodes of one process never end at the same time.
#[derive(Debug)]
pub(crate) struct RisingClock {
    clock: Arc<dyn Clock>,
    last: Mutex<DateTime<Utc>>,
}

impl RisingClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last: Mutex::new(DateTime::<Utc>::MIN_UTC) }
    }

    /// The present moment, in whole microseconds.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let now = self.clock.now();
        let now = DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now);
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = now.max(last.checked_add_signed(TimeDelta::microseconds(1)).unwrap_or(now));
        *last
    }

    /// What the clock shows: for what need not be told apart, and must not move the moments of episodes.
    pub(crate) fn read(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}
