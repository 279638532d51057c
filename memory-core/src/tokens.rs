//! How many tokens a text is for a model.

use std::fmt;

/// Counts the tokens of a text as the model does that will read it.
///
/// A count need not be the sum of the counts of its parts, nor grow with the text.
///
/// A function can be a counter:
///
/// ```
/// use memory_core::TokenCounter;
/// let words: fn(&str) -> usize = |text| text.split_whitespace().count();
/// assert_eq!(TokenCounter::count(&words, "one two"), 2);
/// ```
pub trait TokenCounter: fmt::Debug + Send + Sync {
    /// The tokens of this text.
    fn count(&self, text: &str) -> usize;
}

impl TokenCounter for fn(&str) -> usize {
    fn count(&self, text: &str) -> usize {
        self(text)
    }
}

/// An estimate without a tokeniser, rather too high than too low for byte-pair encodings such as those of GPT-4o, Llama 3 and
/// Claude.
///
/// The rule of thumb is OpenAI's, "one token generally corresponds to ~4 characters of text for common English text"
/// (<https://platform.openai.com/tokenizer>), taken word by word and rounded up, with what costs more counted apart. The
/// count is the sum over these stretches, from left to right:
///
/// | stretch | tokens |
/// |---|---|
/// | ASCII letters and digits, more than 24 together: a hash, a key, base64 | 3 for 4 bytes |
/// | other ASCII letters | 1 for 4 |
/// | other ASCII digits | 1 for 2 |
/// | one space before an ASCII letter or punctuation, Cyrillic, CJK, kana, Hangul: one token with it | 0 |
/// | other spaces | 1 for 4 |
/// | any other ASCII character: punctuation, a line break, a tab | 1 each |
/// | Cyrillic, CJK, kana, Hangul | 1 for 2 bytes of UTF-8 |
/// | all other characters, such as accented letters, Thai, emoji | 1 for each byte of UTF-8, which is the most that any byte-level encoding needs |
///
/// Each share is rounded up for its stretch. English prose, Markdown and code come out 1.4 to 1.7 times as high as for GPT-4o
/// (`o200k_base`), GPT-4 (`cl100k_base`) and Llama 3, and 1.2 to 1.5 times as high as for the tokeniser that was published for
/// Claude 2; Cyrillic and CJK up to four times, scripts without a rule of their own up to eight times as high as for GPT-4o: an
/// agent that works in these brings the tokeniser of its model. Too low come short words that are none in any language, such
/// as `xkqzjw`.
///
/// ```
/// use memory_core::{EstimatedTokens, TokenCounter};
/// assert_eq!(EstimatedTokens.count("Deploys are frozen on Fridays."), 9);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EstimatedTokens;

impl TokenCounter for EstimatedTokens {
    fn count(&self, text: &str) -> usize {
        let (mut rest, mut tokens) = (text, 0);
        while let Some(c) = rest.chars().next() {
            let kind = Kind::of(c);
            let (stretch, after) = rest.split_at(rest.find(|c| Kind::of(c) != kind).unwrap_or(rest.len()));
            tokens += kind.tokens(stretch, after);
            rest = after;
        }
        tokens
    }
}

/// What is counted alike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alphanumeric,
    Space,
    Ascii,
    Common,
    Rare,
}

impl Kind {
    const fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => Self::Alphanumeric,
            ' ' => Self::Space,
            '\0'..='\x7f' => Self::Ascii,
            '\u{400}'..='\u{52f}' | '\u{3000}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{ff00}'..='\u{ffef}' => {
                Self::Common
            }
            _ => Self::Rare,
        }
    }

    /// Whether a space becomes one token with what comes after it.
    fn takes_space(after: &str) -> bool {
        after.starts_with(|c: char| !c.is_ascii_digit() && Self::of(c) != Self::Rare)
    }

    /// The tokens of a stretch of this kind with what comes after it.
    fn tokens(self, stretch: &str, after: &str) -> usize {
        /// Longer ones are hardly words.
        const WORD: usize = 24;
        match self {
            Self::Alphanumeric if stretch.len() > WORD => (3 * stretch.len()).div_ceil(4),
            Self::Alphanumeric => {
                let parts = stretch.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
                parts.map(|part| part.len().div_ceil(if part[0].is_ascii_digit() { 2 } else { 4 })).sum()
            }
            Self::Space if stretch.len() == 1 && Self::takes_space(after) => 0,
            Self::Space => stretch.len().div_ceil(4),
            Self::Common => stretch.len().div_ceil(2),
            Self::Ascii | Self::Rare => stretch.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn estimate(text: &str) -> usize {
        EstimatedTokens.count(text)
    }

    #[test]
    fn each_stretch_counts_by_its_rule() {
        let cases = [
            ("", 0),
            ("word", 1),
            ("words", 2),
            ("two words", 3),
            ("123", 2),
            ("at 5", 3),
            ("so é", 4),
            ("a  b", 3),
            ("end ", 2),
            ("a,b;", 4),
            ("a\n\n\tb", 5),
            ("e3b0c44298fc1c149afbf4c8996f", 21),
            ("вход", 4),
            ("登录测", 5),
            ("é", 2),
            ("ไ", 3),
            ("🦭", 4),
        ];
        for (text, tokens) in cases {
            assert_eq!(estimate(text), tokens, "{text:?}");
        }
    }

    /// Texts with the most tokens that one of four tokenisers makes of them: OpenAI's `o200k_base` and `cl100k_base`, Llama
    /// 3's, and the one published for Claude 2.
    const MEASURED: &[(&str, usize)] = &[
        ("018f3c2a-7b1c-7def-8abc-0123456789ab", 23),
        (
            "The memory keeps what an agent did, and tells what went wrong the last time somebody tried the same thing on the \
             staging server.",
            26,
        ),
        ("fn main() {\n    let x: Vec<u8> = Vec::new();\n    if x.len() >= 10 { println!(\"{}\", x[0]); }\n}\n", 40),
        ("getHTTPResponseCode snake_case_name_of_thing kebab-case-name XMLHttpRequest", 20),
        ("{\"file_path\":\"/home/user/project/src/engine/recall.rs\",\"limit\":120,\"flags\":[\"-n\",\"--all\"]}", 31),
        ("error[E0425]: cannot find value `x` in this scope\n  --> src/main.rs:4:5\n   |\n4  |     x\n   |     ^", 38),
        ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", 44),
        ("VGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIHRoZSBsYXp5IGRvZy4gQW5kIG1vcmUu", 53),
        ("\\u{202e}\\u{3c}|im_start|>\\n\\\"quoted\\\"\\t", 21),
        ("Die Prüfung der Anmeldung schlägt fehl, weil die Datenbank nicht läuft.", 25),
        ("Проверка входа не проходит, потому что база данных не запущена.", 27),
        ("Ο έλεγχος σύνδεσης αποτυγχάνει επειδή η βάση δεδομένων δεν εκτελείται.", 82),
        ("登录测试失败，因为数据库没有运行。请先启动数据库再运行测试。", 21),
        ("データベースが動いていないため、ログインのテストは失敗します。", 27),
        ("데이터베이스가 실행되지 않아 로그인 테스트가 실패합니다.", 29),
        ("يفشل اختبار تسجيل الدخول لأن قاعدة البيانات لا تعمل.", 48),
        ("लॉगिन परीक्षण विफल हो रहा है क्योंकि डेटाबेस नहीं चल रहा है।", 65),
        ("การทดสอบการเข้าสู่ระบบล้มเหลวเพราะฐานข้อมูลไม่ทำงาน", 85),
        ("የመግቢያ ሙከራው አልተሳካም ምክንያቱም የውሂብ ጎታው እየሰራ አይደለም", 117),
        ("🎉🚀👩‍💻🇩🇪✅🦭", 24),
        ("3.14159 1,000,000 2026-11-25T14:36:47Z 0x1F 42", 31),
        ("ERROR FATAL WARNING ASSERTION FAILED CONNECTION REFUSED", 10),
    ];

    #[test]
    fn estimates_are_not_below_what_tokenisers_make_of_texts() {
        for (text, measured) in MEASURED {
            assert!(estimate(text) >= *measured, "{} is below {measured}: {text}", estimate(text));
        }
    }

    proptest! {
        #[test]
        fn there_are_no_more_tokens_than_bytes(text in any::<String>()) {
            prop_assert!(estimate(&text) <= text.len());
        }
    }
}
