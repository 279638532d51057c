//! What is shown and asked on a terminal beside the answer, on stderr.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Failure;

/// Shows how many of something are done; nothing unless stderr is a terminal.
pub(crate) fn bar(total: u64, what: &'static str) -> ProgressBar {
    styled(ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()), what, "{pos}/{len}, {eta} left")
}

/// Shows how many bytes are done; of how many, if that is known.
pub(crate) fn bar_of_bytes(total: Option<u64>, what: &'static str) -> ProgressBar {
    let done = if total.is_some() { "{bytes}/{total_bytes}, {eta} left" } else { "{bytes}" };
    styled(ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()), what, done)
}

/// Shows that something goes on.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let bar = bar.with_message(what).with_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn styled(bar: ProgressBar, what: &'static str, done: &str) -> ProgressBar {
    let template =
        if bar.length().is_some() { format!("{{msg}} [{{bar:30}}] {done}") } else { format!("{{msg}} {done}") };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_message(what).with_style(style.progress_chars("=> "))
}

/// Asks whether something may be done that cannot be undone.
///
/// # Errors
/// That it may not, or that nobody can be asked.
pub(crate) fn confirm(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::Other(format!("{what}: not without --yes, since nobody can be asked here")));
    }
    eprint!("{what}? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::Other(format!("stdin: {error}")))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Other("nothing was done".to_owned())),
    }
}
