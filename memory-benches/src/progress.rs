//! What is shown while something takes long.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of this length.
pub fn progress(what: impl Into<String>, length: u32) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length.into()).with_message(what.into()).with_style(style)
}
