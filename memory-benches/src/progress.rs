//! What is shown while something takes long.

use indicatif::style::TemplateError;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar of this length.
///
/// # Errors
/// None: its template is one.
pub fn progress(what: impl Into<String>, length: u32) -> Result<ProgressBar, TemplateError> {
    let bar = ProgressBar::new(length.into()).with_message(what.into());
    bar.set_style(ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len}, {eta} left")?);
    Ok(bar)
}
