//! What a server's answer means.

use std::time::Duration;

use memory_core::{Error, ErrorKind};
use serde_json::Value;

use super::Secret;
use crate::client::Failure;

/// What a server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
    /// The key that was sent. The server may repeat it, and nobody is told.
    pub(super) key: Option<Secret>,
}

/// What of a server's message goes into an error, in characters.
const LONGEST_MESSAGE: usize = 300;

/// How servers say that a text has more tokens than the model takes, or a request more texts: Ollama; OpenAI, vLLM; vllm-mlx;
/// llama.cpp; text-embeddings-inference.
const TOO_LONG: [&str; 9] = [
    "input length",
    "context length",
    "context size",
    "embedding_input_too_long",
    "input is too long",
    "text is too long",
    "too large to process",
    "must have less than",
    "maximum allowed batch size",
];
/// How servers say that they do not have a model.
const NO_MODEL: [&str; 7] = [
    "unsupported embedding",
    "not found",
    "does not exist",
    "not available",
    "not supported",
    "not allowed",
    "allowed model",
];

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Why there are no vectors, for an answer other than success. `server` is its address, `no_route` what to tell if it
    /// does not know the path.
    pub(super) fn failure(&self, server: &str, model: &str, no_route: &str) -> Failure {
        use ErrorKind::{Invalid, RateLimited, TimedOut, Unavailable};
        let message = self.message();
        let lower = message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let no_model = lower.contains("model") && says(&NO_MODEL);
        let too_long = self.status == 413 || (400..=500).contains(&self.status) && says(&TOO_LONG);
        let no_such_model = format!("the server does not have the model {model:?}");
        let (kind, temporary, hint) = match self.status {
            _ if too_long => (Invalid, false, ""),
            401 | 403 => (Unavailable, false, "the server refuses the key, or asks for one"),
            400 | 404 | 422 | 500 if no_model => (Unavailable, false, &no_such_model[..]),
            404 | 405 | 501 => (Unavailable, false, no_route),
            400 | 422 => (Invalid, false, "the server refuses the request"),
            500 if lower.contains("nan") => (Invalid, false, "the model gives no numbers for a text"),
            429 if lower.contains("insufficient_quota") => (RateLimited, false, "the account has nothing left"),
            429 => (RateLimited, true, "too many requests"),
            408 | 504 => (TimedOut, true, "the server took too long"),
            300..400 => (Unavailable, false, "the server sends one elsewhere, which is not followed"),
            499 | 500.. => (Unavailable, true, "the server cannot serve now"),
            _ => (Unavailable, false, "the server refuses the request"),
        };
        let parts = [server, hint, &format!("HTTP status {}", self.status), &message];
        let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        let error = Error::new(kind, text).with_temporary(temporary);
        let error = match self.retry_after {
            Some(pause) if temporary => error.with_retry_after(pause),
            _ => error,
        };
        if too_long { Failure::TooLong(error) } else { Failure::Other(error) }
    }

    /// The error for an answer of success that does not hold what it should.
    pub(super) fn unreadable(&self, server: &str, why: &Unreadable) -> Error {
        let (kind, temporary, what) = match why {
            Unreadable::Json(_) if self.body.is_empty() => {
                (ErrorKind::Unavailable, true, "the answer is empty".to_owned())
            }
            Unreadable::Json(_) if self.is_html() => {
                (ErrorKind::Unavailable, true, "the answer is an HTML page".to_owned())
            }
            // Python writes them so.
            Unreadable::Json(_) if contains(&self.body, b"NaN") || contains(&self.body, b"Infinity") => {
                (ErrorKind::Invalid, false, "the answer has NaN or Infinity where numbers belong".to_owned())
            }
            Unreadable::Json(error) if error.is_data() => {
                let message = self.message();
                (ErrorKind::Unavailable, false, format!("the answer has another form: {error}: {message}"))
            }
            Unreadable::Json(error) => (ErrorKind::Unavailable, true, format!("the answer is no whole JSON: {error}")),
            Unreadable::Form(why) => (ErrorKind::Unavailable, false, format!("the answer has another form: {why}")),
        };
        Error::new(kind, format!("{server}: {}", self.without_key(what))).with_temporary(temporary)
    }

    /// The message in the body of an error, in any of the forms that servers use: `{"error": text}`, `{"error": {"message"}}`,
    /// `{"detail": text | [..] | {..}}`, `{"detail": {"error": {..}}}`, `{"message"}`; or the body itself, unless it is a page.
    fn message(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let found = match serde_json::from_slice::<Value>(&self.body) {
            Ok(value) => told(&value).unwrap_or_else(|| value.to_string()),
            Err(_) if text.trim_start().starts_with('<') => "an HTML page".to_owned(),
            Err(_) => text.trim().to_owned(),
        };
        let found = self.without_key(found);
        let shown: String = found.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect();
        if shown.len() < found.len() { shown + "…" } else { shown }
    }

    fn without_key(&self, text: String) -> String {
        match &self.key {
            Some(key) => text.replace(key.reveal(), "…"),
            None => text,
        }
    }

    fn is_html(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }
}

/// Why an answer of success cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    Json(serde_json::Error),
    Form(String),
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn told(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => {
            let parts: Vec<String> = all.iter().filter_map(told).collect();
            (!parts.is_empty()).then(|| parts.join("; "))
        }
        Value::Object(fields) => {
            if let Some(inner) = fields.get("error").or_else(|| fields.get("detail")).and_then(told) {
                // vllm-mlx: {"error": "embedding_input_too_long", "message": …}
                let more = fields.get("message").and_then(Value::as_str);
                return Some(more.map_or_else(|| inner.clone(), |more| format!("{inner}: {more}")));
            }
            let message = fields.get("message").or_else(|| fields.get("msg"))?.as_str()?;
            let code = fields.get("code").and_then(Value::as_str);
            Some(code.map_or_else(|| message.to_owned(), |code| format!("{message} ({code})")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use memory_core::ErrorKind::{Invalid, RateLimited, TimedOut, Unavailable};

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, retry_after: None, body: body.into(), key: None }
    }

    #[test]
    fn finds_the_message_in_every_form() {
        for (body, expected) in [
            (r#"{"error":"plain"}"#, "plain"),
            (r#"{"error":{"message":"inner","type":"t","param":null,"code":null}}"#, "inner"),
            (r#"{"error":{"message":"inner","code":"a_code"}}"#, "inner (a_code)"),
            (r#"{"detail":"plain"}"#, "plain"),
            (r#"{"detail":[{"loc":["body"],"msg":"Field required"},{"msg":"another"}]}"#, "Field required; another"),
            (r#"{"detail":{"error":{"message":"wrapped"}}}"#, "wrapped"),
            (
                r#"{"detail":{"error":"embedding_input_too_long","message":"m","input_index":0}}"#,
                "embedding_input_too_long: m",
            ),
            (r#"{"message":"bare"}"#, "bare"),
            (r#"{"else":1}"#, r#"{"else":1}"#),
            ("<html>no</html>", "an HTML page"),
            ("busy\r\n", "busy"),
            ("a\r\nb", "a  b"),
            ("", ""),
        ] {
            assert_eq!(answer(400, body).message(), expected);
        }
        assert_eq!(answer(400, &"x".repeat(1_000)).message().chars().count(), LONGEST_MESSAGE + 1);
    }

    /// Texts from the sources of Ollama, OpenAI, mlx-vlm, vllm-mlx, mlx-openai-server, llama.cpp, text-embeddings-inference.
    #[test]
    fn tells_failures_apart() {
        for (status, body, kind, temporary) in [
            (400, r#"{"error":"invalid input type"}"#, Invalid, false),
            (400, r#"{"error":"embedding contains NaN or Inf values"}"#, Invalid, false),
            (500, r#"{"error":"failed to encode response: json: unsupported value: NaN"}"#, Invalid, false),
            (404, r#"{"error":"model 'x' not found"}"#, Unavailable, false),
            (404, r#"{"error":"model \"x\" not found, try pulling it first"}"#, Unavailable, false),
            (400, r#"{"detail":"Embedding model 'x' is not available."}"#, Unavailable, false),
            (400, r#"{"detail":"Unsupported embedding model: Cannot find a snapshot"}"#, Unavailable, false),
            (404, r#"{"detail":"Not Found"}"#, Unavailable, false),
            (405, r#"{"detail":"Method Not Allowed"}"#, Unavailable, false),
            (401, r#"{"error":{"message":"Incorrect API key"}}"#, Unavailable, false),
            (403, "", Unavailable, false),
            (408, "", TimedOut, true),
            (422, r#"{"detail":[{"msg":"Field required"}]}"#, Invalid, false),
            (429, r#"{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}"#, RateLimited, true),
            (429, r#"{"error":{"message":"You exceeded","code":"insufficient_quota"}}"#, RateLimited, false),
            (499, r#"{"error":"request canceled"}"#, Unavailable, true),
            (500, r#"{"detail":"boom"}"#, Unavailable, true),
            (502, "<html>", Unavailable, true),
            (
                503,
                r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
                Unavailable,
                true,
            ),
            (504, "", TimedOut, true),
            (302, "", Unavailable, false),
            (418, "", Unavailable, false),
        ] {
            let Failure::Other(error) = answer(status, body).failure("http://h/e", "m", "no route") else {
                panic!("{status} {body}: too long?")
            };
            assert_eq!((error.kind(), error.is_temporary()), (kind, temporary), "{status} {body}");
            let text = error.to_string();
            assert!(text.contains("http://h/e: ") && text.contains(&format!("HTTP status {status}")), "{text}");
        }
    }

    #[test]
    fn tells_texts_that_are_too_long() {
        for (status, body) in [
            (400, r#"{"error":"the input length exceeds the context length"}"#),
            (500, r#"{"error":"the input length exceeds the context length"}"#),
            (400, r#"{"error":"input exceeds maximum context length and cannot be truncated further"}"#),
            (400, r#"{"detail":{"error":"embedding_input_too_long","message":"m","input_index":0,"token_count":9}}"#),
            (400, r#"{"error":{"message":"This model's maximum context length is 8192 tokens"}}"#),
            (500, r#"{"error":{"message":"input is too large to process. increase the physical batch size"}}"#),
            (413, r#"{"error":"`inputs` must have less than 512 tokens. Given: 600","error_type":"Validation"}"#),
            (413, "Payload Too Large"),
        ] {
            let failure = answer(status, body).failure("http://h", "m", "");
            assert!(matches!(&failure, Failure::TooLong(error) if error.kind() == Invalid), "{status} {failure:?}");
        }
    }

    #[test]
    fn says_when_to_ask_again_only_of_what_may_pass() {
        let retry_after = Some(Duration::from_secs(7));
        let pause = |status| {
            let answer = Answer { retry_after, ..answer(status, "") };
            Error::from(answer.failure("http://h", "m", "")).retry_after()
        };
        assert_eq!((pause(429), pause(503), pause(401)), (retry_after, retry_after, None));
    }

    #[test]
    fn unreadable_answers_say_what_they_are() {
        for (body, kind, temporary, said) in [
            ("", Unavailable, true, "empty"),
            ("<!doctype html>", Unavailable, true, "HTML"),
            (r#"{"embeddings":[[0.1,0."#, Unavailable, true, "no whole JSON"),
            (r#"{"embeddings":[[0.1,NaN]]}"#, Invalid, false, "NaN"),
            (r#"{"error":"a message"}"#, Unavailable, false, "a message"),
        ] {
            #[derive(serde::Deserialize, Debug)]
            struct Body {
                #[expect(dead_code, reason = "only read")]
                embeddings: Vec<Vec<f32>>,
            }
            let why = serde_json::from_str::<Body>(body).unwrap_err().into();
            let error = answer(200, body).unreadable("http://h", &why);
            assert_eq!((error.kind(), error.is_temporary()), (kind, temporary), "{body}");
            assert!(error.to_string().contains("http://h: ") && error.to_string().contains(said), "{error}");
        }
    }
}
