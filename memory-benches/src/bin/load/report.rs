//! What all reports have in common.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use memory_benches::resident;
use serde::Serialize;

use crate::AnyError;

/// What the figures were measured with.
#[derive(Serialize)]
pub(crate) struct Versions {
    knowhow: &'static str,
    libsql: Option<&'static str>,
    redb: Option<&'static str>,
    sqlite: Option<String>,
    os: &'static str,
    architecture: &'static str,
    cores: Option<usize>,
    /// Figures of a build for debugging mean nothing.
    optimised: bool,
}

impl Versions {
    pub(crate) fn new(sqlite: Option<String>) -> Self {
        Self {
            knowhow: env!("CARGO_PKG_VERSION"),
            libsql: locked("libsql"),
            redb: locked("redb"),
            sqlite,
            os: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
            cores: std::thread::available_parallelism().ok().map(usize::from),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// The version of a dependency that this was built with.
fn locked(name: &str) -> Option<&'static str> {
    let package = format!("name = \"{name}\"\nversion = \"");
    let lock = include_str!("../../../../Cargo.lock");
    let (_, after) = lock.split_once(&package)?;
    after.split_once('"').map(|(version, _)| version)
}

/// The median; NaN of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_unstable_by(f64::total_cmp);
    let (low, high) = (figures.len().saturating_sub(1) / 2, figures.len() / 2);
    match (figures.get(low), figures.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

/// So many in this time, a second.
pub(crate) fn rate(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64()
}

pub(crate) fn resident_mb() -> Option<f64> {
    resident().map(|bytes| bytes as f64 / 1e6)
}

pub(crate) fn write_json(path: Option<&Path>, report: &impl Serialize) -> Result<(), AnyError> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// One line of a table: a name, a figure, and what it means.
pub(crate) fn line(out: &mut impl Write, name: &str, figure: impl Display, meaning: &str) -> io::Result<()> {
    writeln!(out, "{name:28}{figure:>12}  {meaning}")
}

/// A figure for people; a dash if it is unknown.
pub(crate) fn shown(figure: impl Into<Option<f64>>) -> String {
    match figure.into() {
        None => "-".to_owned(),
        Some(figure) if figure.abs() >= 100.0 => format!("{figure:.0}"),
        Some(figure) => format!("{figure:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert!(locked("libsql").unwrap().starts_with("0."));
        assert_eq!(locked("no such package"), None);
    }
}
