//! The form in which memories travel: one JSON object a line.
//!
//! [`Memory::export`](crate::Memory::export) tells the form. Only what cannot be derived travels: a note is its tellings, and its
//! id and all else about it follows from them, so that there is nothing in a line that could contradict itself. What is read is
//! strict where a file shows that it was changed on its way (its ends of lines, a byte order mark, a missing end), since what
//! changed these may have changed more.

use serde::{Deserialize, Serialize};

use crate::note::NoteParts;
use crate::{Episode, Error, ErrorKind, Result, Scope, Source, Vector, VectorSpace};

/// What the first line says of the file.
pub(crate) const FORMAT: &str = "knowhow-memory";
/// Raised with every change that an older version could not read.
pub(crate) const VERSION: u32 = 1;
/// The most bytes of a line: twice those of the largest episode, so that there is room for any vector.
pub(crate) const MOST_LINE_BYTES: usize = 2 * Episode::MAX_ENCODED_BYTES;
/// The most bytes of the first line, so that of a file of another kind little is read.
pub(crate) const MOST_HEADER_BYTES: usize = 64 * 1_024;
/// How many conflicts are told one by one.
const MOST_CONFLICTS: usize = 1_000;

/// What to do with what is imported.
///
/// # Default
/// Every record keeps its source; a record with the id of another one ends the import; 256 records are written together.
///
/// ```
/// use memory_core::{ImportOptions, Source};
/// let options = ImportOptions::new().source(Source::untrusted("a colleague")).keep_stored();
/// assert!(options.source.is_some() && !options.dry_run);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// Whom everything is said to come from, in place of the sources that are named; `None` leaves these. Nothing is trusted
    /// more than the source of the [`Memory`](crate::Memory) that imports; see
    /// [`from_source`](crate::Memory::from_source).
    pub source: Option<Source>,
    /// Whether a record with the id of another one that is there already is left out, and told in [`Transferred::conflicts`],
    /// instead of ending the import.
    pub keep_stored: bool,
    /// Whether everything is read and checked, and compared with what is stored, but nothing is written or embedded.
    pub dry_run: bool,
    /// The most records that are written in one batch, from 1 to 256.
    pub batch: usize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { source: None, keep_stored: false, dry_run: false, batch: Self::MOST_TOGETHER }
    }
}

impl ImportOptions {
    /// The most records of a batch.
    pub const MOST_TOGETHER: usize = 256;

    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whom everything is said to come from.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Leaves out what contradicts what is there.
    #[must_use]
    pub fn keep_stored(mut self) -> Self {
        self.keep_stored = true;
        self
    }

    /// Writes nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Sets the most records of a batch.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }
}

/// What was exported or imported.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Lines that were written or read, the first and the last included.
    pub lines: u64,
    /// Episodes that were written: to the file, or to the store, where they were not before.
    pub episodes: u64,
    /// Notes that were written: to the file, or to the store, where they were not before.
    pub notes: u64,
    /// Notes that were there already and have become one with what was imported, which told more.
    pub merged: u64,
    /// Episodes and notes that were there already and told nothing new, and notes that have expired.
    pub skipped: u64,
    /// Episodes and notes that were left out for another one with the same id; see [`ImportOptions::keep_stored`].
    pub conflicting: u64,
    /// The first 1,000 of these.
    pub conflicts: Vec<Conflict>,
    /// Episodes and notes that were written to the store without a vector, though they have words of their own.
    pub without_vector: u64,
    /// Why the first of these has none: what the embedder said.
    pub degraded: Option<String>,
}

impl Transferred {
    pub(crate) fn conflict(&mut self, line: u64, what: String) {
        self.conflicting += 1;
        if self.conflicts.len() < MOST_CONFLICTS {
            self.conflicts.push(Conflict { line, what });
        }
    }

    /// Adds what a batch did.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { lines, episodes, notes, merged, skipped, conflicting, conflicts, without_vector, degraded } = other;
        self.lines += lines;
        self.episodes += episodes;
        self.notes += notes;
        self.merged += merged;
        self.skipped += skipped;
        self.conflicting += conflicting;
        self.conflicts.extend(conflicts);
        self.conflicts.truncate(MOST_CONFLICTS);
        self.without_vector += without_vector;
        self.degraded = self.degraded.take().or(degraded);
    }
}

/// A record that was left out for another one with the same id.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its line, from 1.
    pub line: u64,
    /// What is there, in words.
    pub what: String,
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) format: String,
    pub(crate) version: u32,
    /// Whose records they are; `None` is those of any scope.
    pub(crate) scope: Option<Scope>,
    /// What the vectors are of.
    pub(crate) space: Option<VectorSpace>,
}

/// What a first line of any version has.
#[derive(Deserialize)]
struct AnyHeader {
    format: String,
    version: u32,
}

impl Header {
    pub(crate) fn new(scope: Option<Scope>, space: VectorSpace) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, scope, space: Some(space) }
    }

    /// Reads the first line.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        check_text(1, bytes)?;
        let foreign = || Error::new(ErrorKind::Foreign, format!("line 1 is not the header of an export, {FORMAT:?}"));
        let any: AnyHeader = serde_json::from_slice(bytes).map_err(|error| foreign().with_source(error))?;
        if any.format != FORMAT || any.version == 0 {
            return Err(foreign());
        }
        if any.version > VERSION {
            let message = format!("the export is of version {}; this library reads up to {VERSION}", any.version);
            return Err(Error::new(ErrorKind::SchemaTooNew, message));
        }
        parse(1, bytes)
    }
}

/// How many records there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counted {
    pub(crate) episodes: u64,
    pub(crate) notes: u64,
}

/// Any other line: exactly one of the first three.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyLine {
    episode: Option<Episode>,
    note: Option<NoteParts>,
    end: Option<Counted>,
    vector: Option<Vector>,
}

/// The line of an episode, to be written.
#[derive(Serialize)]
pub(crate) struct EpisodeLine<'a> {
    pub(crate) episode: &'a Episode,
    pub(crate) vector: Option<&'a Vector>,
}

/// The line of a note, to be written.
#[derive(Serialize)]
pub(crate) struct NoteLine<'a> {
    pub(crate) note: NoteParts,
    pub(crate) vector: Option<&'a Vector>,
}

/// The last line, to be written.
#[derive(Serialize)]
pub(crate) struct EndLine {
    pub(crate) end: Counted,
}

/// What a line says.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all lines are episodes")]
pub(crate) enum Told {
    Episode(Episode, Option<Vector>),
    Note(NoteParts, Option<Vector>),
    End(Counted),
}

impl Told {
    /// Reads any line but the first.
    pub(crate) fn read(line: u64, bytes: &[u8]) -> Result<Self> {
        check_text(line, bytes)?;
        match parse(line, bytes)? {
            AnyLine { episode: Some(episode), note: None, end: None, vector } => Ok(Self::Episode(episode, vector)),
            AnyLine { episode: None, note: Some(note), end: None, vector } => Ok(Self::Note(note, vector)),
            AnyLine { episode: None, note: None, end: Some(end), vector: None } => Ok(Self::End(end)),
            AnyLine { episode, note, end, vector } => {
                let there = [
                    ("episode", episode.is_some()),
                    ("note", note.is_some()),
                    ("end", end.is_some()),
                    ("vector", vector.is_some()),
                ];
                let there: Vec<&str> = there.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
                let range = "one episode or one note, with or without its vector, or the end";
                Err(Error::invalid(&format!("line {line}"), format_args!("of {there:?}"), range))
            }
        }
    }
}

/// Checks what shows that a file was changed on its way.
fn check_text(line: u64, bytes: &[u8]) -> Result<()> {
    let wrong = if bytes.starts_with(b"\xef\xbb\xbf") {
        "begun by a byte order mark"
    } else if bytes.ends_with(b"\r") {
        "ended by a carriage return and a line feed"
    } else if bytes.is_empty() {
        "empty"
    } else {
        return Ok(());
    };
    Err(Error::invalid(&format!("line {line}"), wrong, "JSON as UTF-8 without a byte order mark, ended by a line feed"))
}

/// Reads a line; an error names the line, the field, and what is wrong with it.
fn parse<'de, T: Deserialize<'de>>(line: u64, bytes: &'de [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Only now, since following the path takes time.
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let path = serde_path_to_error::deserialize::<_, T>(&mut json).map_err(|error| error.path().to_string());
        let path = path.err().filter(|path| !matches!(&path[..], "?" | "."));
        let path = path.map(|path| format!("{}: ", shortened(&path))).unwrap_or_default();
        let column = error.column();
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(&message[..], |(message, _)| message);
        let message = format!("line {line}: {path}{}, at byte {column}", shortened(message));
        Error::new(ErrorKind::Invalid, message).with_source(error)
    })
}

/// Whether the error is that a line ends too soon.
pub(crate) fn is_cut_off(error: &Error) -> bool {
    let json = std::error::Error::source(error).and_then(|source| source.downcast_ref::<serde_json::Error>());
    json.is_some_and(serde_json::Error::is_eof)
}

/// The beginning of a message: what is wrong may be megabytes long.
fn shortened(message: &str) -> String {
    const MOST: usize = 300;
    match message.char_indices().nth(MOST) {
        Some((place, _)) => format!("{}…", &message[..place]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NoteKind, Trust};

    fn refused(line: &str) -> (ErrorKind, String) {
        let error = Told::read(7, line.as_bytes()).unwrap_err();
        (error.kind(), error.to_string())
    }

    fn refused_header(line: &str) -> (ErrorKind, String) {
        let error = Header::read(line.as_bytes()).unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn the_form_stays_as_it_is() {
        let header = r#"{"format":"knowhow-memory","version":1,"scope":"acme/coder","space":null}"#;
        let read = Header::read(header.as_bytes()).unwrap();
        assert_eq!(read.scope.as_ref().map(Scope::as_str), Some("acme/coder"));
        assert_eq!(serde_json::to_string(&read).unwrap(), header);

        let line = concat!(
            r#"{"episode":{"id":"00000000-0000-0000-0000-000000000007","scope":"acme","task":{"text":"fix","domain":"web","#,
            r#""language":null,"tags":["a"],"environment":{"os":"linux"}},"steps":[{"tool":"grep","action":"","input":"x","#,
            r#""observation":"y","ok":true,"latency_ms":null,"tokens":3}],"outcome":{"verdict":"Success","summary":"done","#,
            r#""reward":0.5,"reflection":null,"artifacts":[{"name":"n","content":"c"}]},"started_at":"2026-01-01T00:00:00Z","#,
            r#""completed_at":"2026-01-01T00:00:01.000000001Z","source":{"name":"agent","trust":"Trusted"},"receipt":{"#,
            r#""withheld":false,"advice":{},"episodes":[],"pitfalls":[],"notes":[],"feedback":{}}},"vector":[0.1,-2.0]}"#
        );
        let Told::Episode(episode, vector) = Told::read(2, line.as_bytes()).unwrap() else { panic!("an episode") };
        let written = serde_json::to_string(&EpisodeLine { episode: &episode, vector: vector.as_ref() });
        assert_eq!(written.unwrap(), line);

        let line = concat!(
            r#"{"note":{"scope":"acme/coder","trust":"Untrusted","place":{"thread":"chat","position":3,"at":null},"tellings":{"#,
            r#""s-1":{"text":"use tabs","kind":"Preference","source":"user","tags":["style"],"salience":0.5,"#,
            r#""created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","expires_at":null,"seen":2}}},"vector":null}"#
        );
        let Told::Note(note, None) = Told::read(2, line.as_bytes()).unwrap() else { panic!("a note") };
        let again = note.clone().into_note().unwrap();
        assert_eq!((again.trust, again.kind, again.sessions()), (Trust::Untrusted, NoteKind::Preference, 1));
        assert_eq!(serde_json::to_string(&NoteLine { note, vector: None }).unwrap(), line);

        let line = r#"{"end":{"episodes":1,"notes":2}}"#;
        let Told::End(end) = Told::read(2, line.as_bytes()).unwrap() else { panic!("the end") };
        assert_eq!(serde_json::to_string(&EndLine { end }).unwrap(), line);
    }

    #[test]
    fn a_header_of_another_kind_or_version_is_refused() {
        let foreign = "not of this library: line 1 is not the header of an export, \"knowhow-memory\"".to_owned();
        for line in [
            "x",
            "{}",
            "[1]",
            "null",
            r#"{"format":"other","version":1}"#,
            "\0\u{1}\u{2}",
            r#"{"format":1,"version":1}"#,
        ] {
            assert_eq!(refused_header(line), (ErrorKind::Foreign, foreign.clone()), "{line}");
        }
        let zero = r#"{"format":"knowhow-memory","version":0,"scope":null,"space":null}"#;
        assert_eq!(refused_header(zero).0, ErrorKind::Foreign);
        let newer = r#"{"format":"knowhow-memory","version":2,"whatever":[]}"#;
        let told = "schema is too new: the export is of version 2; this library reads up to 1";
        assert_eq!(refused_header(newer), (ErrorKind::SchemaTooNew, told.to_owned()));
        let unknown = r#"{"format":"knowhow-memory","version":1,"scope":null,"space":null,"x":1}"#;
        assert!(refused_header(unknown).1.contains("unknown field `x`"));
        let scope = r#"{"format":"knowhow-memory","version":1,"scope":"a b","space":null}"#;
        let (kind, told) = refused_header(scope);
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(
            told.starts_with("invalid value: line 1: scope: invalid value: scope is \"a b\" (3 bytes); allowed:"),
            "{told}"
        );
    }

    #[test]
    fn a_line_that_is_wrong_is_told_by_its_number_and_field() {
        for (line, told) in [
            ("{", "line 7: EOF while parsing an object, at byte 1"),
            ("\u{1}\u{2}", "line 7: expected value, at byte 1"),
            ("", "line 7 is empty; allowed: JSON as UTF-8 without a byte order mark, ended by a line feed"),
            ("{}\r", "line 7 is ended by a carriage return and a line feed; allowed:"),
            ("\u{feff}{}", "line 7 is begun by a byte order mark; allowed:"),
            ("{}", "line 7 is of []; allowed: one episode or one note"),
            (r#"{"end":{"episodes":1,"notes":1},"vector":[1.0]}"#, "line 7 is of [\"end\", \"vector\"]; allowed:"),
            (r#"{"vector":[1.0]}"#, "line 7 is of [\"vector\"]; allowed:"),
            (r#"{"vector":[]}"#, "line 7: vector: invalid value: vector is empty; allowed: at least one component"),
            (r#"{"vector":[1e99]}"#, "line 7: vector[0]: number out of range, at byte"),
            (r#"{"note":{"scope":"a","trust":"Perhaps"}}"#, "line 7: note.trust: unknown variant `Perhaps`, expected"),
            (r#"{"episode":{"id":"7"}}"#, "line 7: episode.id: "),
            (
                r#"{"episode":{"steps":[{"ok":"yes"}]}}"#,
                "line 7: episode.steps[0].ok: invalid type: string \"yes\", expected a boolean",
            ),
            (r#"{"episode":{"steps":[{"ok":true}]}}"#, "line 7: episode.steps[0]: missing field `tool`"),
            (r#"{"unknown":1}"#, "line 7: unknown: unknown field `unknown`, expected one of"),
            (r#"{"end":1,"end":2}"#, "line 7: end: invalid type: integer `1`, expected struct Counted"),
            (r#"{"end":{"episodes":-1,"notes":0}}"#, "line 7: end.episodes: invalid value: integer `-1`, expected u64"),
            (r#"{} {}"#, "line 7: trailing characters, at byte 4"),
        ] {
            let (kind, message) = refused(line);
            assert_eq!(kind, ErrorKind::Invalid, "{line}");
            let expected = format!("invalid value: {told}");
            assert!(message.starts_with(&expected), "{line}: {message}");
        }
        let error = Told::read(7, b"{\"episode\":\"\xff\"}").unwrap_err();
        assert!(error.to_string().contains("line 7: "), "{error}");
        let deep = "[".repeat(100_000);
        assert!(refused(&deep).1.contains("line 7: "), "no stack is used up");
        let long = format!(r#"{{"episode":{{"steps":"{}"}}}}"#, "x".repeat(1_000_000));
        assert!(refused(&long).1.len() < 500);
    }

    #[test]
    fn conflicts_are_told_up_to_a_bound() {
        let mut all = Transferred::default();
        for _ in 0..3 {
            let mut batch = Transferred::default();
            (0..600).for_each(|line| batch.conflict(line, String::new()));
            all.add(batch);
        }
        assert_eq!((all.conflicting, all.conflicts.len()), (1_800, MOST_CONFLICTS));
    }
}
