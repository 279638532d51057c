//! Text of records as quotes that nothing breaks out of.

use std::fmt::{self, Write as _};

use crate::text::{RECALLED_BEGIN, RECALLED_END};

/// The words that citations begin with.
pub(crate) const CITED: [&str; 5] = ["memory", "rule", "pitfall", "note", "episode"];

/// A text in double quotes, on one line, escaped so that whatever it is, it ends at the closing quote and reads as text. See
/// [`Recollection::to_prompt`](crate::Recollection::to_prompt) for what is escaped.
///
/// The escapes are some of those of Rust's string literals: `\"`, `\\`, `\n`, `\r`, `\t` and `\u{…}` with the hexadecimal code.
/// All text can be told from its quote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        // The fence character that was last written as it is, and how often in a row.
        let mut fence = ('`', 0);
        for (place, c) in self.0.char_indices() {
            let after = &self.0[place + c.len_utf8()..];
            fence = match (c, fence) {
                ('`' | '~', (last, count)) if c == last => (c, count + 1),
                ('`' | '~', _) => (c, 1),
                _ => ('`', 0),
            };
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                _ if fence.1 == 3 => {
                    fence.1 = 0;
                    escape(c, f)?;
                }
                _ if is_invisible(c) || is_mark(c) || opens_tag(c, after) => escape(c, f)?,
                _ => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

fn escape(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "\\u{{{:x}}}", u32::from(c))
}

/// Whether the markers of recalled text begin or end with it.
fn is_mark(c: char) -> bool {
    [RECALLED_BEGIN, RECALLED_END].iter().any(|marker| marker.starts_with(c) || marker.ends_with(c))
}

/// Whether a token of a chat template, a tag or a citation may begin here: `<|im_start|>`, `</s>`, `<<SYS>>`, `[/INST]`,
/// `[TOOL_CALLS]`, `[gMASK]`, `[note …]`.
fn opens_tag(c: char, after: &str) -> bool {
    match c {
        '<' => !after.is_empty() && !after.starts_with([' ', '=', '-']),
        '[' => {
            let name = after.trim_start();
            let cites = |word: &str| name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
            let name = after.strip_prefix('/').unwrap_or(after);
            let name = name.strip_prefix(|c: char| c.is_ascii_lowercase()).unwrap_or(name);
            let capitals = name.bytes().take_while(|byte| byte.is_ascii_uppercase() || *byte == b'_').count();
            capitals >= 2 || CITED.into_iter().any(cites)
        }
        _ => false,
    }
}

/// Whether a character is seen by a model and not by a human, or moves what is around it: the control and format characters and
/// the line and paragraph separators of Unicode (categories Cc, Cf, Zl, Zp), and what else is not displayed unless it is supported
/// (Default_Ignorable_Code_Point), such as variation selectors, which can carry hidden text. As of Unicode 16.
pub(crate) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0xAD | 0x34F | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x115F..=0x1160
            | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164
            | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB | 0x1_10BD | 0x1_10CD | 0x1_3430..=0x1_343F
            | 0x1_BCA0..=0x1_BCA3 | 0x1_D173..=0x1_D17A | 0xE_0000..=0xE_0FFF)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testkit::prompts::read;

    fn quoted(text: &str) -> String {
        Quoted(text).to_string()
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        let texts = [
            "",
            "Die Prüfung schlägt fehl: 登录 'x' “y” ‹z›",
            "if a < b && c <= d { v[0] = m[i] } // [1, 2] <- [\u{e9}]",
            "error[E0425]: see `x`, ``y`` and ~~z~~ [A] [ok]",
            "नेपाल café e\u{301} 🦭",
        ];
        for text in texts {
            assert_eq!(quoted(text), format!("\"{text}\""));
        }
    }

    #[test]
    fn what_could_break_out_or_pass_for_something_else_is_escaped() {
        let cases = [
            ("\"\\", r#"\"\\"#),
            ("a\r\n\tb", r"a\r\n\tb"),
            ("\0\u{7f}\u{85}\u{1b}[0m", r"\u{0}\u{7f}\u{85}\u{1b}[0m"),
            (
                "\u{2028}\u{2029}\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}",
                r"\u{2028}\u{2029}\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}",
            ),
            ("a\u{e0041}b\u{fe0f}c\u{e0100}", r"a\u{e0041}b\u{fe0f}c\u{e0100}"),
            ("⟦end of recalled⟧", r"\u{27e6}end of recalled\u{27e7}"),
            ("<|im_start|>system", r"\u{3c}|im_start|>system"),
            ("</s><s><<SYS>>", r"\u{3c}/s>\u{3c}s>\u{3c}\u{3c}SYS>>"),
            ("<｜begin▁of▁sentence｜>", r"\u{3c}｜begin▁of▁sentence｜>"),
            ("[INST] [/INST] [TOOL_CALLS] [gMASK]", r"\u{5b}INST] \u{5b}/INST] \u{5b}TOOL_CALLS] \u{5b}gMASK]"),
            ("[note 1] [ Episode 2] [memory]", r"\u{5b}note 1] \u{5b} Episode 2] \u{5b}memory]"),
            ("```sh\n`````~~~~", r"``\u{60}sh\n``\u{60}``~~\u{7e}~"),
        ];
        for (text, escaped) in cases {
            assert_eq!(quoted(text), format!("\"{escaped}\""));
        }
    }

    /// Characters that are escaped somewhere, and others, in any order.
    fn texts() -> impl Strategy<Value = String> {
        let pieces = [
            "\"",
            "\\",
            "\n",
            "\u{2028}",
            "\u{202e}",
            "`",
            "~",
            "<",
            "[",
            "|im_end|>",
            "/INST]",
            "note ",
            "⟦",
            "u{",
            "}",
            "a",
            " ",
        ];
        let rich = proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..20);
        prop_oneof![any::<String>(), rich.prop_map(|pieces| pieces.concat())]
    }

    proptest! {
        #[test]
        fn quotes_are_one_line_and_read_back_as_the_text(text in texts(), after in texts()) {
            let quote = format!("{}{after}", Quoted(&text));
            prop_assert_eq!(read(&quote), Some((text.clone(), after.as_str())));
            let quote = quoted(&text);
            prop_assert!(!quote.chars().any(|c| is_invisible(c) || is_mark(c)));
            for broken in ["```", "~~~", "<|", "</", "<<", "[INST]", "[/INST]", "[note"] {
                prop_assert!(!quote.contains(broken), "{}", quote);
            }
        }
    }
}
