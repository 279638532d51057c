//! Texts with secrets in them: what stands before a secret and after it, apart by the first NUL.

use memory_mcp::redact::Redactor;
use serde_json::json;

/// Found whatever is around them, as long as that is no part of a word.
const SECRETS: [&str; 7] = [
    "ann@example.com",
    "4111111111111111",
    "DE89370400440532013000",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "sk-ant-api03-abcdefghijklmnopqrstu",
    "+49 170 1234567",
];

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    settles(&text);
    let (before, after) = text.split_once('\0').unwrap_or((&text, ""));
    for secret in SECRETS {
        let redacted = settles(&format!("{before}\n{secret}\n{after}"));
        let known = before.matches(secret).count() + after.matches(secret).count();
        assert!(redacted.matches(secret).count() <= known, "{secret} is in {redacted:?}");
    }
}

/// Redacts a text, once and for all.
fn settles(text: &str) -> String {
    let redactor = Redactor::all();
    let (once, counts) = redactor.redact(text);
    let (twice, none) = redactor.redact(&once);
    assert_eq!((&*once, 0), (&*twice, none.total()), "{text:?} is redacted further");
    assert_eq!(counts.total() == 0, once == text, "{text:?} has {counts:?} and is {once:?}");

    let mut value = json!({ "field": [&text] });
    assert_eq!(redactor.redact_json(&mut value), counts);
    assert_eq!(value, json!({ "field": [&once] }));
    once.into_owned()
}
