//! How text becomes terms: the same in every store, so that every store finds the same.

use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};
use unicode_segmentation::UnicodeSegmentation;

static ENGLISH: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::create(Algorithm::English));

/// Words without information of their own, in alphabetical order.
const STOP_WORDS: &[&str] = &[
    "a", "about", "am", "an", "and", "are", "as", "at", "be", "been", "by", "can", "could", "did", "do", "does", "for",
    "from", "had", "has", "have", "he", "her", "here", "his", "how", "i", "if", "in", "into", "is", "it", "its", "me",
    "my", "no", "not", "of", "on", "or", "our", "she", "should", "so", "than", "that", "the", "their", "them", "then",
    "there", "these", "they", "this", "those", "to", "us", "was", "we", "were", "what", "when", "where", "which",
    "who", "why", "will", "with", "would", "you", "your",
];

/// The terms of a text, in order: words by Unicode segmentation (UAX #29), split further at everything that is neither
/// letter nor digit, in lower case, without a possessive 's, without English stop words, stemmed with Snowball's English
/// stemmer.
///
/// Words of other languages pass through it as they are, apart from case.
///
/// ```
/// assert_eq!(memory_core::text::terms("The users' failing tests in auth_service"), ["user", "fail", "test", "auth", "servic"]);
/// ```
pub fn terms(text: &str) -> Vec<String> {
    words(text)
        .filter(|word| STOP_WORDS.binary_search(&word.as_str()).is_err())
        .map(|word| ENGLISH.stem(&word).into_owned())
        .collect()
}

/// The words of a text, in lower case, without apostrophes, with stop words and unstemmed.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    text.unicode_words().flat_map(|segment| {
        let lower = segment.replace('\u{2019}', "'").to_lowercase();
        let joined = lower.strip_suffix("'s").unwrap_or(&lower).replace('\'', "");
        let parts = joined.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect::<Vec<_>>()
    })
}

/// The signature of an error text: what stays the same when the same thing goes wrong elsewhere.
///
/// Quoted text, paths, and numbers and ids (words with digits, and words above 40 bytes) become `'…'`, `<path>` and `#`;
/// case is folded; only the first line that says something is read, up to 12 words of it.
///
/// ```
/// use memory_core::text::error_signature;
/// assert_eq!(error_signature("Error: Unknown column 'age' in 'field list'"), "error: unknown column '…' in '…'");
/// assert_eq!(error_signature("cat: /etc/x.conf: No such file"), "cat: <path> no such file");
/// ```
pub fn error_signature(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let folded = without_quoted(line).to_lowercase();
    let mut parts: Vec<&str> = Vec::with_capacity(12);
    for word in folded.split_whitespace().take(12) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/' && c != '\\' && c != '…');
        parts.push(if bare.contains(['/', '\\']) {
            "<path>"
        } else if word.len() > 40 || bare.chars().any(char::is_numeric) {
            "#"
        } else {
            word
        });
    }
    parts.join(" ")
}

/// Replaces what stands between a pair of equal quotes by an ellipsis. A quote opens only where a word does not go on
/// before it, so that apostrophes stay.
fn without_quoted(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if matches!(c, '\'' | '"' | '`')
            && !before.is_alphanumeric()
            && let Some(end) = after.find(c)
        {
            out.push_str("'…'");
            rest = &after[end + c.len_utf8()..];
            before = c;
            continue;
        }
        out.push(c);
        before = c;
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_sorted() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn terms_cross_scripts() {
        assert_eq!(terms("What's the user\u{2019}s e-mail?"), ["user", "e", "mail"]);
        assert_eq!(terms("東京 tower"), ["東", "京", "tower"]);
        assert_eq!(terms("naïve Straße"), ["naïv", "straße"]);
        assert!(terms(" \u{0} -- !? ").is_empty());
    }

    #[test]
    fn error_signatures_drop_what_varies() {
        let same = |a: &str, b: &str| assert_eq!(error_signature(a), error_signature(b));
        same("Error: order #W123 not found", "error: order #W9 not found");
        same("find: '/a/b': No such file", "find: '/c': No such file");
        same("exit code 1\nmore", "  \nexit code 2");
        assert_eq!(error_signature(&format!("bad token {}", "x".repeat(9_000))), "bad token #");
        assert_eq!(error_signature("I can't open `it"), "i can't open `it");
        assert_eq!(error_signature(""), "");
    }
}
