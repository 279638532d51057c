//! How many requests a token may send.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use memory_core::{Error, Result};

/// The generic cell rate algorithm (ITU-T I.371): each request moves a token's time of arrival on by one interval, and it may lie
/// ahead by as much as honest clients send at once, when they begin a session or tell what they have done: ten seconds' requests.
#[derive(Debug)]
pub(super) struct Rates {
    per_minute: u32,
    arrivals: Mutex<HashMap<String, Instant>>,
}

/// Which part of a token's rate may come at once.
const BURST: Duration = Duration::from_secs(10);

impl Rates {
    pub(super) fn new(per_minute: u32) -> Result<Self> {
        if per_minute == 0 {
            return Err(Error::invalid("http.rate_per_minute", 0, "1 or more"));
        }
        Ok(Self { per_minute, arrivals: Mutex::default() })
    }

    /// Takes one request of this name; or says how long to wait.
    pub(super) fn take(&self, name: &str, per_minute: Option<u32>) -> Result<(), Duration> {
        let interval = Duration::from_secs(60) / per_minute.unwrap_or(self.per_minute).max(1);
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let arrival = arrivals.get(name).map_or(now, |arrival| *arrival.max(&now));
        let ahead = arrival.duration_since(now);
        let allowed = BURST.saturating_sub(interval);
        if ahead > allowed {
            return Err(ahead - allowed);
        }
        arrivals.insert(name.to_owned(), arrival + interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_may_be_sent_at_once() {
        let rates = Rates::new(600).unwrap();
        let taken = (0..1_000).take_while(|_| rates.take("one", None).is_ok()).count();
        assert!((100..110).contains(&taken), "{taken}");
        assert!(rates.take("one", None).unwrap_err() <= Duration::from_millis(100));
        assert!(rates.take("two", None).is_ok(), "each has its own");
        assert!(rates.take("slow", Some(1)).is_ok() && rates.take("slow", Some(1)).is_err());
    }
}
