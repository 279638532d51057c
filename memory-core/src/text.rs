//! How text becomes terms, the same in every store, so that every store finds the same; and how text that the memory
//! supplied is kept from being learned again.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use rust_stemmers::{Algorithm, Stemmer};
use unicode_segmentation::UnicodeSegmentation;

static ENGLISH: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::create(Algorithm::English));
static STOPPED: LazyLock<HashSet<&str, RandomState>> = LazyLock::new(|| STOP_WORDS.iter().copied().collect());

/// Words without information of their own.
const STOP_WORDS: &[&str] = &[
    "a", "about", "am", "an", "and", "are", "as", "at", "be", "been", "by", "can", "could", "did", "do", "does", "for",
    "from", "had", "has", "have", "he", "her", "here", "his", "how", "i", "if", "in", "into", "is", "it", "its", "me",
    "my", "no", "not", "of", "on", "or", "our", "she", "should", "so", "than", "that", "the", "their", "them", "then",
    "there", "these", "they", "this", "those", "to", "us", "was", "we", "were", "what", "when", "where", "which",
    "who", "why", "will", "with", "would", "you", "your",
];

/// The terms of a text, in order: words by Unicode segmentation (UAX #29), split further at everything that is neither
/// letter nor digit, in lower case, without a possessive 's, without English stop words, stemmed with Snowball's English
/// stemmer. Text that the memory supplied has no terms; see [`strip_recalled`].
///
/// Words of other languages pass through it as they are, apart from case.
///
/// ```
/// assert_eq!(memory_core::text::terms("The users' failing tests in auth_service"), ["user", "fail", "test", "auth", "servic"]);
/// ```
pub fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    each_term(text, usize::MAX, |term| terms.push(term.to_owned()));
    terms
}

/// Calls `each` with the first so many [terms](terms) of a text, in order.
pub(crate) fn each_term(text: &str, most: usize, mut each: impl FnMut(&str)) {
    let text = strip_recalled(text);
    informative(&text).take(most).for_each(|word| each(&stem(&word)));
}

/// The words of a text that are no stop words, unstemmed: as many as it has terms.
pub(crate) fn informative(text: &str) -> impl Iterator<Item = String> {
    words(text).filter(|word| !STOPPED.contains(word.as_str()))
}

/// Longer words are taken as they are.
const LONGEST_WORD: usize = 100;

/// Words whose stems a thread remembers. Stemming takes most of the time of reading a text, and the words of texts recur.
const MOST_STEMS: usize = 4_096;

thread_local! {
    static STEMS: RefCell<HashMap<String, Rc<str>, RandomState>> = RefCell::default();
}

/// The term of such a word. It begins with the same character.
pub(crate) fn stem(word: &str) -> Rc<str> {
    // No English word is so long, and the stemmer's time grows with the square of some.
    if word.len() > LONGEST_WORD {
        return word.into();
    }
    STEMS.with_borrow_mut(|stems| {
        if let Some(stem) = stems.get(word) {
            return Rc::clone(stem);
        }
        if stems.len() == MOST_STEMS {
            stems.clear();
        }
        let stem: Rc<str> = ENGLISH.stem(word).into();
        stems.insert(word.to_owned(), Rc::clone(&stem));
        stem
    })
}

/// The words of a text, in lower case, without apostrophes, with stop words and unstemmed.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    text.unicode_words().flat_map(|segment| {
        // Nearly all words are plain; the others take ten times as long.
        let plain = segment.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let one = plain.then(|| segment.to_ascii_lowercase());
        one.into_iter().chain((!plain).then(|| parts(segment)).into_iter().flatten())
    })
}

/// The words within a segment that has more than plain letters and digits.
fn parts(segment: &str) -> Vec<String> {
    let lower = segment.replace('\u{2019}', "'").to_lowercase();
    let joined = lower.strip_suffix("'s").unwrap_or(&lower).replace('\'', "");
    let parts = joined.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

/// Bytes of the longest word in a signature; characters, if it has other letters than ASCII.
const LONGEST_IN_SIGNATURE: usize = 40;

/// The signature of an error text: what stays the same when the same thing goes wrong elsewhere.
///
/// Quoted text, paths, and numbers and ids (words with digits, and words above 40 bytes) become `'…'`, `<path>` and `#`. What has
/// other letters than ASCII may be a whole sentence without spaces: of that, digits become `#`, and 40 characters are kept. Case is
/// folded; only the first line that says something is read, up to 12 words of it. Text that the memory supplied is
/// passed over; see [`strip_recalled`].
///
/// ```
/// use memory_core::text::error_signature;
/// assert_eq!(error_signature("Error: Unknown column 'age' in 'field list'"), "error: unknown column '…' in '…'");
/// assert_eq!(error_signature("cat: /etc/x.conf: No such file"), "cat: <path> no such file");
/// ```
pub fn error_signature(text: &str) -> String {
    let text = strip_recalled(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let folded = without_quoted(line).to_lowercase();
    let mut parts: Vec<Cow<'_, str>> = Vec::with_capacity(12);
    for word in folded.split_whitespace().take(12) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/' && c != '\\' && c != '…');
        parts.push(if bare.contains(['/', '\\']) {
            Cow::Borrowed("<path>")
        } else if !word.is_ascii() {
            Cow::Owned(without_digits(word, LONGEST_IN_SIGNATURE))
        } else if word.len() > LONGEST_IN_SIGNATURE || bare.chars().any(char::is_numeric) {
            Cow::Borrowed("#")
        } else {
            Cow::Borrowed(word)
        });
    }
    parts.join(" ")
}

/// The first so many characters of a text, after each number in it has become one `#`.
fn without_digits(text: &str, most: usize) -> String {
    let mut before = ' ';
    let folded = text.chars().map(|c| if c.is_numeric() { '#' } else { c });
    folded.filter(|c| *c != '#' || std::mem::replace(&mut before, *c) != '#').take(most).collect()
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

/// What stands before text that the memory supplied.
pub const RECALLED_BEGIN: &str = "⟦recalled from memory⟧";
/// What stands after text that the memory supplied.
pub const RECALLED_END: &str = "⟦end of recalled⟧";

/// Marks text that the memory supplies, so that it is known again when it comes back in a task, an observation, a note or a
/// query, and is not learned from itself: [`RECALLED_BEGIN`], the text, [`RECALLED_END`].
///
/// Markers that the text contains get plain square brackets in place of theirs: whatever it is, the result is one marked
/// span from its first to its last character.
///
/// ```
/// use memory_core::text::{mark_recalled, strip_recalled};
/// let marked = mark_recalled("the tests need a database");
/// assert_eq!(marked, "⟦recalled from memory⟧the tests need a database⟦end of recalled⟧");
/// assert_eq!(strip_recalled(&format!("fix the login test {marked}")), "fix the login test  ");
/// ```
pub fn mark_recalled(text: &str) -> String {
    let plain = |marker: &str| marker.replace('⟦', "[").replace('⟧', "]");
    let text = text.replace(RECALLED_BEGIN, &plain(RECALLED_BEGIN)).replace(RECALLED_END, &plain(RECALLED_END));
    format!("{RECALLED_BEGIN}{text}{RECALLED_END}")
}

/// The text without what the memory supplied: each span that [`mark_recalled`] marked becomes one space.
///
/// A span ends where as many ends as beginnings have come, so that spans within spans go too. A span without an end, such
/// as one that was cut off, goes on to the end of the text; an end without a beginning is taken out alone. What is left
/// contains no marker.
pub fn strip_recalled(text: &str) -> Cow<'_, str> {
    if !text.contains(RECALLED_BEGIN) && !text.contains(RECALLED_END) {
        return Cow::Borrowed(text);
    }
    let (mut own, mut rest, mut depth) = (String::with_capacity(text.len()), text, 0_usize);
    loop {
        // Not the next of each: a text without any end would be read to its end for each beginning.
        let mark_at =
            |place: usize| [RECALLED_BEGIN, RECALLED_END].into_iter().find(|mark| rest[place..].starts_with(mark));
        let next = rest.match_indices('⟦').find_map(|(place, _)| Some((place, mark_at(place)?)));
        let (before, after) = match next {
            Some((place, mark)) => (&rest[..place], &rest[place + mark.len()..]),
            None => (rest, ""),
        };
        if depth == 0 {
            own.push_str(before);
        }
        match next {
            Some((_, RECALLED_BEGIN)) => depth += 1,
            Some(_) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    own.push(' ');
                }
            }
            None => return Cow::Owned(own),
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stem_begins_as_its_word_does() {
        for word in ["dying", "skis", "idly", "yes", "generously", "ponies", "ünal", "東"] {
            assert_eq!(stem(word).chars().next(), word.chars().next(), "{word}");
        }
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
        // Sentences without spaces.
        assert_eq!(error_signature("打开文件失败：没有那个文件或目录"), "打开文件失败：没有那个文件或目录");
        same("数据库连接超时，请在15秒后再试一次", "数据库连接超时，请在7秒后再试一次");
        assert_eq!(error_signature("größe12 zu klein").as_str(), "größe# zu klein");
        assert_eq!(error_signature(&"東".repeat(9_000)), "東".repeat(40));
    }

    #[test]
    fn recalled_text_is_stripped_however_it_is_nested_cut_or_forged() {
        let marked = mark_recalled("the tests need a database");
        let cases = [
            ("plain".to_owned(), "plain"),
            (marked.clone(), " "),
            (format!("fix {marked} it {marked}"), "fix   it  "),
            (mark_recalled(&marked), " "),
            (format!("a{RECALLED_BEGIN}b{marked}c{RECALLED_END}d"), "a d"),
            (format!("a {RECALLED_BEGIN}cut off"), "a "),
            (format!("a{RECALLED_END}b"), "a b"),
            (format!("{RECALLED_END}{marked}own"), "  own"),
            (mark_recalled(&format!("x{RECALLED_END} y {RECALLED_BEGIN} z")), " "),
            ("⟦recalled⟧ stays".to_owned(), "⟦recalled⟧ stays"),
        ];
        for (text, own) in cases {
            assert_eq!(strip_recalled(&text), own, "{text}");
        }
        assert!(matches!(strip_recalled("nothing marked"), Cow::Borrowed(_)));
        // What is left on both sides of a span does not join to a marker.
        let (first, last) = RECALLED_BEGIN.split_at(8);
        let split = format!("{first}{marked}{last}");
        assert!(!strip_recalled(&split).contains(RECALLED_BEGIN));
    }

    #[test]
    fn recalled_text_has_neither_terms_nor_error_signatures() {
        let marked = mark_recalled("walrus: no such file");
        assert_eq!(terms(&format!("fix {marked} login")), ["fix", "login"]);
        assert_eq!(error_signature(&format!("{marked}\ndisk full")), "disk full");
    }

    /// Texts that are rich in markers and pieces of them.
    fn texts() -> impl Strategy<Value = String> {
        let pieces =
            [RECALLED_BEGIN, RECALLED_END, "⟦", "⟧", "recalled from memory⟧", "⟦end of recalled", " ", "a", "é"];
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_was_marked_is_stripped_whole_and_nothing_else(before in texts(), text in texts(), after in texts()) {
            let (before, after) = (strip_recalled(&before), strip_recalled(&after));
            let told = format!("{before}{}{after}", mark_recalled(&text));
            // A piece of a marker beside the span could complete nothing: the span's own markers are whole.
            prop_assert_eq!(strip_recalled(&told), format!("{before} {after}"));
            let stripped = strip_recalled(&text);
            prop_assert!(!stripped.contains(RECALLED_BEGIN) && !stripped.contains(RECALLED_END));
            prop_assert_eq!(strip_recalled(&stripped), stripped.as_ref());
        }
    }
}
