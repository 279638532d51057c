//! The kinds that are found without more.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use regex::{Captures, Regex};

use super::Detector;

/// What a regular expression finds and a check accepts.
#[derive(Debug)]
struct Shape {
    kind: &'static str,
    regex: &'static LazyLock<Option<Regex>>,
    /// Looks at what was found, and at the characters before and after it.
    accepts: fn(&str, Option<char>, Option<char>) -> bool,
}

pub(super) fn all() -> Vec<Arc<dyn Detector>> {
    let shape = |kind, regex, accepts| -> Arc<dyn Detector> { Arc::new(Shape { kind, regex, accepts }) };
    vec![
        shape("key", &KEY, |found, _, _| is_secret(found)),
        shape("key", &ASSIGNED, |found, before, after| is_secret(found) && !is_code(found, before, after)),
        shape("email", &EMAIL, |found, _, _| !is_file(found)),
        shape("iban", &IBAN, |found, before, after| alone(before, after) && is_iban(found)),
        shape("card", &CARD, |found, before, after| alone(before, after) && is_card(found)),
        shape("phone", &PHONE, |found, before, after| alone(before, after) && is_phone(found)),
        shape("token", &TOKEN, |found, _, _| is_random(found)),
    ]
}

impl Detector for Shape {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let Some(regex) = self.regex.as_ref() else { return Vec::new() };
        let found = regex.captures_iter(text).filter_map(|captures| {
            let range = value(&captures)?;
            let (before, after) = (text[..range.start].chars().next_back(), text[range.end..].chars().next());
            (self.accepts)(&text[range.clone()], before, after).then_some(range)
        });
        found.collect()
    }
}

/// The group that took part, else all.
fn value(captures: &Captures<'_>) -> Option<Range<usize>> {
    let group = captures.iter().skip(1).flatten().next();
    group.or_else(|| captures.get(0)).map(|found| found.range())
}

/// A pattern of this file; a test compiles them all.
fn compiled(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

/// Credentials that can be told by how they begin, where no word goes on, or by a line of their own. That is part of the pattern:
/// what it found and a check refused would hide what stands in it.
static KEY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(
        r"(?x)
        (?: ^ | [^A-Za-z0-9] ) (
        (?: AKIA | ASIA ) [A-Z0-9]{16}                                          # AWS
        | gh[opsur]_ [A-Za-z0-9]{36,} | github_pat_ [A-Za-z0-9_]{50,}           # GitHub
        | glpat- [A-Za-z0-9_-]{20,}                                             # GitLab
        | xox[abeoprs]- [A-Za-z0-9-]{10,}                                       # Slack
        | (?: sk | rk | pk )_(?: live | test )_ [A-Za-z0-9]{16,}                # Stripe
        | sk- [A-Za-z0-9_-]{20,}                                                # OpenAI, Anthropic
        | AIza [A-Za-z0-9_-]{35}                                                # Google
        | npm_ [A-Za-z0-9]{36} | pypi- [A-Za-z0-9_-]{50,} | hf_ [A-Za-z0-9]{30,}
        | SG\. [A-Za-z0-9_-]{16,} \. [A-Za-z0-9_-]{16,}                         # SendGrid
        | eyJ [A-Za-z0-9_-]{8,} \. eyJ [A-Za-z0-9_-]{8,} \. [A-Za-z0-9_-]*      # JSON Web Token, RFC 7519
        )
        | -----BEGIN [\ ] [A-Z\ ]* PRIVATE [\ ] KEY-----                        # PEM, RFC 7468
          [^-\[]* (?: -----END [\ ] [A-Z\ ]* PRIVATE [\ ] KEY----- )?
        ",
    )
});

/// Credentials that are named: headers, addresses with a password, assignments.
static ASSIGNED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(
        r#"(?xi)
        \b (?: bearer | basic ) \s+ ( [a-z0-9._~+/=-]{16,} )
        | \b [a-z][a-z0-9+.-]* :// [^\s/:@]* : ( [^\s/@]+ ) @
        | (?: pass(?: word | wd | phrase )? | pwd | secret | token | api[_-]?key | access[_-]?key | private[_-]?key )
          ["']? \s* [=:] \s*
          (?: "( [^"\s]{4,} )" | '( [^'\s]{4,} )' | ( [^\s"',;&(){}\[\]]{6,} ) )
        "#,
    )
});

static EMAIL: LazyLock<Option<Regex>> =
    LazyLock::new(|| compiled(r"[\p{L}\p{N}._%+-]+@[\p{L}\p{N}][\p{L}\p{N}.-]*\.\p{L}{2,}"));

/// International Bank Account Number, ISO 13616: country, two check digits, up to 30 more.
static IBAN: LazyLock<Option<Regex>> =
    LazyLock::new(|| compiled(r"[A-Z]{2}\d{2}(?:\x20?[A-Z0-9]{4}){2,7}(?:\x20?[A-Z0-9]{1,3})?"));

static CARD: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r"\d(?:[\x20-]?\d){12,18}"));

/// International (E.164), and national forms that are hardly anything else.
static PHONE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(
        r"(?x)
        \+ [1-9] \d{0,2} (?: [\x20.-]? (?: \( \d{1,4} \) | \d{1,4} ) ){2,6}
        | \( \d{3} \) \x20? \d{3} [\x20.-] \d{4}
        | \d{3} - \d{3} - \d{4}
        | 0 \d{2,4} [\x20/] \d{3,4} [\x20-]? \d{3,5}
        ",
    )
});

static TOKEN: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r"[A-Za-z0-9+/_-]{32,}={0,2}"));

/// Whether what is around does not belong to it.
fn alone(before: Option<char>, after: Option<char>) -> bool {
    let apart = |one: char| !one.is_ascii_alphanumeric() && !"._-/:#+@".contains(one);
    before.is_none_or(apart) && after.is_none_or(|one| apart(one) || ".:".contains(one))
}

/// Whether it is no marker, and nothing that stands for a value.
fn is_secret(found: &str) -> bool {
    !found.contains("[redacted") && !found.starts_with(['$', '<', '{', '%', '*', '[']) && !found.starts_with("...")
}

/// Whether it is an expression, a type or a plain word rather than a value: `parse_token(input)`, `String`, `self.token`.
fn is_code(found: &str, before: Option<char>, after: Option<char>) -> bool {
    let word = |one: char| one.is_ascii_alphabetic() || "_.:<>?!&*".contains(one);
    let quoted = matches!(before, Some('"' | '\''));
    (!quoted && matches!(after, Some('(' | '{' | '['))) || found.chars().all(word)
}

/// `icon@2x.png` is none, and neither is the account that repositories are fetched from.
fn is_file(found: &str) -> bool {
    [".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp"].iter().any(|end| found.ends_with(end))
        || found.starts_with("git@")
}

fn digits(found: &str) -> Vec<u32> {
    found.chars().filter_map(|one| one.to_digit(10)).collect()
}

/// ISO 7064, modulus 97.
fn is_iban(found: &str) -> bool {
    let plain: Vec<char> = found.chars().filter(|one| *one != ' ').collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let turned = plain[4..].iter().chain(&plain[..4]);
    let rest = turned
        .filter_map(|one| one.to_digit(36))
        .fold(0, |rest, value| if value < 10 { (rest * 10 + value) % 97 } else { (rest * 100 + value) % 97 });
    rest == 1
}

/// A length and a beginning that issuers use (ISO/IEC 7812), and Luhn's check digit.
fn is_card(found: &str) -> bool {
    let digits = digits(found);
    let begin = |count: usize| digits.iter().take(count).fold(0, |sum, digit| sum * 10 + digit);
    let issued = matches!(
        (begin(1), begin(2), begin(4), digits.len()),
        (4, _, _, 13 | 16 | 19)
            | (_, 51..=55, _, 16)
            | (_, _, 2221..=2720, 16)
            | (_, 34 | 37, _, 15)
            | (_, 36 | 38 | 39, _, 14)
            | (_, 65, _, 16..=19)
            | (_, _, 6011 | 3528..=3589 | 6440..=6499, 16..=19)
    );
    let doubled = |(place, digit): (usize, &u32)| match place % 2 {
        0 => *digit,
        _ => digit * 2 / 10 + digit * 2 % 10,
    };
    issued && digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

fn is_phone(found: &str) -> bool {
    (8..=15).contains(&digits(found).len())
}

/// Whether chance made it: letters of both cases and digits, mixed as chance mixes them, and many different ones.
///
/// Of two neighbours in a random text of these 62, 62 % are of different classes; in names and paths, about 30 %. Shannon's
/// entropy of 32 such characters is 4.0 to 4.8 bits a character.
fn is_random(found: &str) -> bool {
    let class = |one: char| match one {
        'a'..='z' => 0,
        'A'..='Z' => 1,
        '0'..='9' => 2,
        _ => 3,
    };
    let classes: Vec<u32> = found.chars().map(class).collect();
    let count = |class: u32| classes.iter().filter(|one| **one == class).count();
    let changes = classes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    [0, 1, 2].iter().all(|class| count(*class) >= 3)
        && count(3) * 8 <= classes.len()
        && changes * 100 >= classes.len() * 45
        && entropy(found) >= 4.0
}

/// Shannon's entropy, in bits a character.
fn entropy(text: &str) -> f64 {
    let mut counts: BTreeMap<char, f64> = BTreeMap::new();
    text.chars().for_each(|one| *counts.entry(one).or_default() += 1.0);
    let all: f64 = counts.values().sum();
    -counts.values().map(|count| count / all * (count / all).log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::super::Redactor;
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        let all = [&KEY, &ASSIGNED, &EMAIL, &IBAN, &CARD, &PHONE, &TOKEN];
        assert_eq!(all.map(|pattern| pattern.is_some()), [true; 7]);
    }

    #[test]
    fn what_is_secret_or_personal_is_found() {
        for (text, redacted) in [
            ("mail ann.o'neil+x@mail.example.co.uk now", "mail ann.o'[redacted:email] now"),
            ("<ann@example.com>,bob@example.org.", "<[redacted:email]>,[redacted:email]."),
            ("mail jörg@müller.de", "mail [redacted:email]"),
            (
                "call +1 (555) 010-9999 or (555) 010-9999 or 555-010-9999",
                "call [redacted:phone] or [redacted:phone] or [redacted:phone]",
            ),
            ("Tel. +49 170 1234567, 0170 1234567", "Tel. [redacted:phone], [redacted:phone]"),
            ("card 4111 1111 1111 1111 exp 12/29", "card [redacted:card] exp 12/29"),
            ("5500-0000-0000-0004; 378282246310005", "[redacted:card]; [redacted:card]"),
            ("to DE89 3704 0044 0532 0130 00 please", "to [redacted:iban] please"),
            ("GB82WEST12345698765432", "[redacted:iban]"),
            ("export AWS=AKIAIOSFODNN7EXAMPLE", "export AWS=[redacted:key]"),
            ("ghp_abcdefghijklmnopqrstuvwxyz0123456789 leaked", "[redacted:key] leaked"),
            ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer [redacted:key]"),
            ("postgres://app:s3cr3t@db/main", "postgres://app:[redacted:key]@db/main"),
            ("password=hunter2! next", "password=[redacted:key] next"),
            (r#"{"api_key": "abcd-1234"}"#, r#"{"api_key": "[redacted:key]"}"#),
            // What stands behind a bracket was taken for a part of the value before it, and both for code.
            ("password = (token=abcd-1234)", "password = (token=[redacted:key])"),
            (r#"password="hunter(2""#, r#"password="[redacted:key]""#),
            ("DB_PASSWORD: 'correct-horse'", "DB_PASSWORD: '[redacted:key]'"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc_def-123", "[redacted:key]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nxyz=\n-----END RSA PRIVATE KEY-----\n", "[redacted:key]\n"),
            (
                // A letter before it, as that of an escaped line break, hid it and what came after it.
                "\\n-----BEGIN PRIVATE KEY-----\\nMIIE\nghp_abcdefghijklmnopqrstuvwxyz0123456789\n",
                "\\n[redacted:key]",
            ),
            (
                // So did a marker in it.
                "-----BEGIN PRIVATE KEY-----\nMIIE [redacted:email] AKIAIOSFODNN7EXAMPLE",
                "[redacted:key][redacted:email] [redacted:key]",
            ),
            ("cookie s=qX7vT2mK9pL4wR8nB3cZ6yD1fG5hJ0aE", "cookie s=[redacted:token]"),
        ] {
            assert_eq!(Redactor::all().redact(text).0, redacted);
        }
    }

    #[test]
    fn what_is_neither_stays() {
        for text in [
            "2026-11-25T12:00:01.123456Z took 1234567890 ns at 12:30:45",
            "commit 3f786850e387550fdab836ed7e6dc881de23001b",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "id 01a217dc-a858-7716-b117-0b34eaaef137 of order #W1234567",
            "127.0.0.1:8080, 192.168.100.200, ::1, v1.2.3, 3.11.0-rc.1",
            "thread 'main' panicked at src/main.rs:120:45: index out of bounds: the len is 3 but the index is 7",
            "/usr/lib/x86_64-linux-gnu/libSQL3/include/Node24/some_long_header_file_name.h",
            "let token = parse_token(input)?; struct Login { password: String, token: Option<Token> }",
            "max_tokens=100, tokens: 1500, token_budget=1500",
            "SELECT * FROM users WHERE id = 4512 AND total > 1234567890123",
            "@@ -12,7 +12,8 @@ fn add(a: i32, b: i32)",
            "icon@2x.png, lodash@4.17.21, git@github.com:org/repo.git, @decorator",
            "ConvertBase64StringToUtf8ByteArrayWithoutPadding2",
            "password=$DB_PASSWORD secret: ${{ secrets.TOKEN }} token=<your token>",
            "1234 5678 9012 3456 is no card, neither is 4111 1111 1111 1112",
            "https://example.com:8443/path?page=2#top",
            "price 1,299.00 EUR; 100 000 000 rows; 0.0001",
        ] {
            assert_eq!(Redactor::all().redact(text).0, text);
        }
    }

    #[test]
    fn cards_are_told_by_their_check_digit() {
        let valid = ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "2223003122003222"];
        assert!(valid.iter().all(|card| is_card(card)));
        assert!(!is_card("4111111111111112") && !is_card("9111111111111111") && !is_card("411111111111111"));
    }
}
