//! Secrets and personal data in what callers tell are replaced by markers, such as `[redacted:email]`, before anything is stored
//! or embedded. How many of each kind is counted; what it was is neither kept nor logged.
//!
//! It is found by its shape, so some of it will be missed, and some of what is replaced was harmless: it lowers a risk, and is no
//! substitute for not telling secrets.

mod detectors;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use memory_core::{Error, Result};
use serde_json::Value;

/// How often a text is looked through at most; once more than there is something to find, which is hardly ever twice.
const PASSES: usize = 16;

/// Finds one kind of secret or personal data.
pub trait Detector: Debug + Send + Sync + 'static {
    /// What it finds, as one lower-case word: markers and counts name it.
    fn kind(&self) -> &'static str;

    /// Where it is: ranges of bytes between characters of the text. What is in a marker must not be found.
    fn find(&self, text: &str) -> Vec<Range<usize>>;
}

/// Replaces what detectors find.
///
/// ```
/// use memory_mcp::redact::Redactor;
/// let (text, counts) = Redactor::all().redact("write to ann@example.com, password=hunter2!");
/// assert_eq!(text, "write to [redacted:email], password=[redacted:key]");
/// assert_eq!(counts.total(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Redactor(Vec<Arc<dyn Detector>>);

/// How many of each kind were replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Each kind with its number, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn add(&mut self, other: &Self) {
        for (kind, count) in other.iter() {
            *self.0.entry(kind).or_default() += count;
        }
    }
}

impl Redactor {
    /// Of all kinds: `key` (credentials of known shapes), `email`, `iban`, `card` (payment cards), `phone`, and `token` (what looks
    /// like chance made it).
    pub fn all() -> Self {
        Self(detectors::all())
    }

    /// Of these kinds, separated by commas; or `all`.
    ///
    /// # Errors
    /// [`Invalid`](memory_core::ErrorKind::Invalid) for another kind.
    pub fn of(kinds: &str) -> Result<Self> {
        let all = Self::all();
        if kinds.trim() == "all" {
            return Ok(all);
        }
        let known = |kind: &str| all.0.iter().any(|detector| detector.kind() == kind);
        let wanted: Vec<&str> = kinds.split(',').map(str::trim).collect();
        if let Some(unknown) = wanted.iter().find(|kind| !known(kind)) {
            let mut kinds: Vec<&str> = all.0.iter().map(|detector| detector.kind()).collect();
            kinds.dedup();
            let range = format!("all, {}", kinds.join(", "));
            return Err(Error::invalid("kind", format_args!("{unknown:?}"), range));
        }
        Ok(Self(all.0.iter().filter(|detector| wanted.contains(&detector.kind())).cloned().collect()))
    }

    /// Finds another kind, too.
    #[must_use]
    pub fn with_detector(mut self, detector: impl Detector) -> Self {
        self.0.push(Arc::new(detector));
        self
    }

    /// A text with markers in place of what was found. Redacting it again changes nothing.
    pub fn redact<'t>(&self, text: &'t str) -> (Cow<'t, str>, Counts) {
        let (mut text, mut counts) = (Cow::Borrowed(text), Counts::default());
        // What stood beside something that is now a marker may show itself only then.
        for _ in 0..PASSES {
            let Some((redacted, more)) = self.once(&text) else { break };
            counts.add(&more);
            text = Cow::Owned(redacted);
        }
        (text, counts)
    }

    fn once(&self, text: &str) -> Option<(String, Counts)> {
        let (mut redacted, mut counts, mut end) = (String::new(), Counts::default(), 0);
        for (found, kind) in self.find(text) {
            redacted.push_str(&text[end..found.start]);
            redacted.push_str(&format!("[redacted:{kind}]"));
            *counts.0.entry(kind).or_default() += 1;
            end = found.end;
        }
        redacted.push_str(&text[end..]);
        (end > 0).then_some((redacted, counts))
    }

    /// What is found, in order, without overlaps: what touches is one, of the kind that begins first.
    fn find(&self, text: &str) -> Vec<(Range<usize>, &'static str)> {
        let found = self.0.iter().flat_map(|detector| {
            detector.find(text).into_iter().filter(|range| !range.is_empty()).map(|range| (range, detector.kind()))
        });
        let mut found: Vec<(Range<usize>, &'static str)> = found.collect();
        found.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut apart: Vec<(Range<usize>, &'static str)> = Vec::with_capacity(found.len());
        for (range, kind) in found {
            match apart.last_mut() {
                Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
                _ => apart.push((range, kind)),
            }
        }
        apart
    }

    /// Redacts every text in a value; names of fields stay.
    pub fn redact_json(&self, value: &mut Value) -> Counts {
        let mut counts = Counts::default();
        match value {
            Value::String(text) => {
                let (redacted, found) = self.redact(text);
                counts = found;
                if let Cow::Owned(redacted) = redacted {
                    *text = redacted;
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| counts.add(&self.redact_json(value))),
            Value::Object(fields) => fields.values_mut().for_each(|value| counts.add(&self.redact_json(value))),
            _ => {}
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn everything_in_a_value_is_redacted() {
        let mut value = serde_json::json!({ "a@b.com": ["to a@b.com", { "x": "4111 1111 1111 1111" }], "n": 5 });
        let counts = Redactor::all().redact_json(&mut value);
        let expected = serde_json::json!({ "a@b.com": ["to [redacted:email]", { "x": "[redacted:card]" }], "n": 5 });
        assert_eq!(value, expected);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [("card", 1), ("email", 1)]);
    }

    #[test]
    fn kinds_can_be_chosen() {
        let redactor = Redactor::of("card, email").unwrap();
        assert_eq!(redactor.redact("a@b.com password=hunter2!").0, "[redacted:email] password=hunter2!");
        let keys = Redactor::of("key").unwrap().redact("password=hunter2! ghp_abcdefghijklmnopqrstuvwxyz0123456789").0;
        assert_eq!(keys, "password=[redacted:key] [redacted:key]");
        let error = Redactor::of("email,face").unwrap_err().to_string();
        assert!(error.contains("face") && error.contains("card"), "{error}");
    }

    #[test]
    fn what_overlaps_is_one() {
        let (text, counts) = Redactor::all().redact("password=ann@example.com");
        assert_eq!((&*text, counts.total()), ("password=[redacted:key]", 1));
    }

    /// Texts with secrets in them, without a bound in sight.
    fn secret() -> impl Strategy<Value = (String, String)> {
        let secrets = [
            "ann@example.com",
            "4111111111111111",
            "DE89370400440532013000",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "AKIAIOSFODNN7EXAMPLE",
            "sk-ant-api03-abcdefghijklmnopqrstu",
            "+49 170 1234567",
        ];
        let around = "[ \\n\\t,;()<>\"'日é]{1,3}[a-zé日 ]{0,20}";
        (around, proptest::sample::select(secrets.to_vec()), around).prop_map(|(before, secret, after)| {
            let before: String = before.chars().rev().collect();
            (format!("{before}{secret}{after}"), secret.to_owned())
        })
    }

    proptest! {
        #[test]
        fn any_text_is_redacted_once_and_for_all(text in "\\PC*|[a-zA-Z0-9@.+=:/ -]{0,200}") {
            let redactor = Redactor::all();
            let (once, counts) = redactor.redact(&text);
            let (twice, none) = redactor.redact(&once);
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(none.total(), 0);
            let before = text.matches("[redacted:").count();
            prop_assert!(once.matches("[redacted:").count() <= before + usize::try_from(counts.total()).unwrap());
        }

        #[test]
        fn a_secret_is_gone_whatever_is_around_it((text, secret) in secret()) {
            let redactor = Redactor::all();
            let (redacted, counts) = redactor.redact(&text);
            prop_assert!(!redacted.contains(&secret), "{}", redacted);
            prop_assert!(counts.total() >= 1);
        }
    }
}
