//! What settings are checked by.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::time::Duration;

use memory_core::{Error, Result};

/// The shortest and the longest time that a setting may be, where nothing else is said.
pub(crate) const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

/// The same, where none at all makes sense, too.
pub(crate) const WAITS: RangeInclusive<Duration> = Duration::ZERO..=*TIMES.end();

/// Checks that a setting is within its range.
pub(crate) fn within<T: PartialOrd + Debug>(field: &str, value: T, range: RangeInclusive<T>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, format_args!("{value:?}"), format_args!("{range:?}")))
}

/// Checks the name of something that is told in events.
pub(crate) fn name(field: &str, name: &str) -> Result<()> {
    const LONGEST: usize = 128;
    if (1..=LONGEST).contains(&name.len()) && !name.trim().is_empty() && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(Error::invalid(field, format_args!("{name:?}"), "1 to 128 bytes without control characters, not only spaces"))
}
