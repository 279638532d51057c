//! How commands answer: JSON for programs, or text for people, in colour only on a terminal.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use console::{measure_text_width, truncate_str};
use serde::Serialize;

/// Where the answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    paint: Paint,
}

impl Output {
    /// On stdout.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, paint: Paint::stdout() }
    }

    /// Tells an answer.
    pub(crate) fn tell(self, answer: &impl Serialize, text: impl FnOnce(Paint) -> String) {
        if self.json { print(&pretty(answer)) } else { print(&text(self.paint)) }
    }

    /// Tells it beside what a command writes to stdout.
    pub(crate) fn tell_aside(self, answer: &impl Serialize, text: impl FnOnce(Paint) -> String) {
        let text = if self.json { pretty(answer) } else { text(Paint::PLAIN) };
        eprintln!("{}", text.trim_end());
    }
}

fn pretty(answer: &impl Serialize) -> String {
    // Answers are made of texts and numbers, which have a JSON form.
    serde_json::to_string_pretty(answer).unwrap_or_default()
}

/// Writes to stdout. That nobody reads on, as with `| head`, is no failure.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("knowhow: stdout: {error}");
    }
}

/// How text is marked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    colour: bool,
    /// Of the terminal, in columns.
    width: Option<usize>,
}

impl Paint {
    /// Not at all.
    pub(crate) const PLAIN: Self = Self { colour: false, width: None };

    fn stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = || console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        Self { colour: terminal && !unwanted, width: terminal.then(width).flatten() }
    }

    fn with(self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with(1, text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with(2, text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with(31, text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with(32, text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with(33, text)
    }
}

/// What others wrote, as one line that no terminal takes for a command.
pub(crate) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "\u{fffd}")
}

/// The same with its lines.
pub(crate) fn lines(text: &str) -> String {
    text.lines()
        .map(|line| line.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Rows below a header. On a terminal the last column is cut to its width.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: impl Into<Vec<&'static str>>) -> Self {
        Self { header: header.into(), rows: Vec::new() }
    }

    /// Adds a row with as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into().iter().map(|cell| line(cell)).collect());
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let header = self.header.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>();
        let widths: Vec<usize> = (0..header.len()).map(|column| self.width(column, &header[column])).collect();
        let mut text = paint.bold(&self.line(&header, &widths, paint));
        for row in &self.rows {
            text += "\n";
            text += &self.line(row, &widths, paint);
        }
        text
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(move |row| row.get(column)).map(String::as_str)
    }

    fn width(&self, column: usize, name: &str) -> usize {
        self.cells(column).map(measure_text_width).max().unwrap_or_default().max(measure_text_width(name))
    }

    /// Numbers stand at the right of their column.
    fn is_of_numbers(&self, column: usize) -> bool {
        let is_number = |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit()) && cell.parse::<f64>().is_ok();
        !self.rows.is_empty() && self.cells(column).all(|cell| cell.is_empty() || is_number(cell))
    }

    fn line(&self, cells: &[String], widths: &[usize], paint: Paint) -> String {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width.saturating_sub(measure_text_width(cell)));
            line += &if self.is_of_numbers(column) { padding + cell } else { cell.clone() + &padding };
            line += "  ";
        }
        let line = line.trim_end();
        paint.width.map_or_else(|| line.to_owned(), |width| truncate_str(line, width, "…").into_owned())
    }
}

/// Names and what they are, one a line.
pub(crate) fn pairs<'t>(pairs: impl IntoIterator<Item = (&'t str, String)>, paint: Paint) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| measure_text_width(name)).max().unwrap_or_default();
    let told = |(name, value): &(&str, String)| {
        let padding = " ".repeat(width - measure_text_width(name));
        format!("{}{padding}  {}", paint.dim(name), line(value)).trim_end().to_owned()
    };
    pairs.iter().map(told).collect::<Vec<_>>().join("\n")
}

/// How many there are of something.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Bytes as people read them.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOUR: Paint = Paint { colour: true, width: Some(12) };

    fn table() -> Table {
        let mut table = Table::new(["id", "n", "task"]);
        table.row(["a".to_owned(), "1".to_owned(), "a long task".to_owned()]);
        table.row(["bcd".to_owned(), "22".to_owned(), "漢字".to_owned()]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(table().render(Paint::PLAIN), "ID    N  TASK\na     1  a long task\nbcd  22  漢字");
    }

    #[test]
    fn lines_fit_the_terminal() {
        let text = table().render(COLOUR);
        assert!(text.starts_with("\x1b[1mID    N  TA"), "{text:?}");
        assert!(text.lines().all(|line| measure_text_width(line) <= 12), "{text:?}");
    }

    #[test]
    fn what_others_wrote_commands_no_terminal() {
        assert_eq!(line("a\x1b[2J\nb\tc\u{9b}d"), "a\u{fffd}[2J b c\u{fffd}d");
        assert_eq!(lines("a\x1b]0;x\x07\n\tb\r\nc"), "a\u{fffd}]0;x\u{fffd}\n\tb\nc");
    }

    #[test]
    fn numbers_of_things() {
        assert_eq!((count(1, "note"), count(0, "note")), ("1 note".to_owned(), "0 notes".to_owned()));
    }
}
