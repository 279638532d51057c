//! Every way in which a server can fail, in each dialect: what is told, whether it may pass, and when.

use std::time::Duration;

use memory_core::ErrorKind::{self, Invalid, RateLimited, TimedOut, Unavailable};
use memory_core::{Error, Role};
use memory_embed::{Model, ServerConfig};
use serde_json::json;

use crate::dialect::{ALL, Dialect, TINY, tiny};
use crate::peer::{Peer, Reply, ok, status};

/// The error of a call that gets this answer.
async fn error(dialect: Dialect, reply: Reply) -> Error {
    let limit = match reply {
        Reply::Late(..) | Reply::Hang | Reply::Drip(_) => Duration::from_millis(300),
        _ => Duration::from_secs(20),
    };
    let peer = Peer::start(move |_| reply.clone());
    let server = ServerConfig::new(peer.url()).with_timeout(limit);
    let embedder = dialect.new_embedder(server, Model::new("m").with_dimensions(TINY)).unwrap();
    let error = embedder.embed(Role::Query, &["a text"]).await.unwrap_err();
    let address = format!("{}{}", peer.url(), dialect.route());
    assert!(error.to_string().contains(&address), "{dialect:?}: the server is not named: {error}");
    error
}

async fn assert_fails(dialect: Dialect, reply: Reply, kind: ErrorKind, temporary: bool, said: &str) {
    let shown = format!("{dialect:?}: {reply:?}").chars().take(200).collect::<String>();
    let error = error(dialect, reply).await;
    assert_eq!((error.kind(), error.is_temporary()), (kind, temporary), "{shown}: {error}");
    assert!(error.to_string().contains(said), "{shown}: {error} does not say {said}");
}

#[tokio::test]
async fn errors_are_read_in_all_four_forms() {
    for dialect in ALL {
        for body in [
            r#"{"error":"the cause"}"#,
            r#"{"error":{"message":"the cause","type":"t","param":null,"code":null}}"#,
            r#"{"detail":"the cause"}"#,
            r#"{"detail":[{"loc":["body","input"],"msg":"the cause","type":"missing"}]}"#,
            r#"{"detail":{"message":"the cause"}}"#,
            r#"{"detail":{"error":{"message":"the cause","type":"t","param":null,"code":null}}}"#,
        ] {
            assert_fails(dialect, status(500, body), Unavailable, true, ": HTTP status 500: the cause").await;
            assert_fails(dialect, status(422, body), Invalid, false, ": HTTP status 422: the cause").await;
        }
    }
}

#[tokio::test]
async fn statuses_say_whether_it_may_pass() {
    for dialect in ALL {
        for (code, kind, temporary, said) in [
            (302, Unavailable, false, "elsewhere"),
            (400, Invalid, false, "refuses the request"),
            (401, Unavailable, false, "refuses the key"),
            (403, Unavailable, false, "refuses the key"),
            (404, Unavailable, false, "404"),
            (405, Unavailable, false, "405"),
            (408, TimedOut, true, "too long"),
            (429, RateLimited, true, "too many requests"),
            (499, Unavailable, true, "499"),
            (500, Unavailable, true, "cannot serve now"),
            (502, Unavailable, true, "cannot serve now"),
            (503, Unavailable, true, "cannot serve now"),
            (504, TimedOut, true, "too long"),
        ] {
            assert_fails(dialect, status(code, ""), kind, temporary, said).await;
        }
    }
}

#[tokio::test]
async fn hints_when_to_ask_again_are_told() {
    let reply = |code, hint: &str| Reply::Whole {
        status: code,
        headers: vec![("retry-after", hint.to_owned())],
        body: r#"{"error":"busy"}"#.to_owned(),
    };
    for dialect in ALL {
        for code in [429, 503] {
            let hints = [("7", 7_000), ("0.25", 250), ("0", 0)];
            for (hint, millis) in hints {
                let told = error(dialect, reply(code, hint)).await.retry_after();
                assert_eq!(told, Some(Duration::from_millis(millis)), "{code} {hint}");
            }
            for hint in ["soon", "-1", "1e400", "Wed, 21 Oct 2026 07:28:00 GMT"] {
                assert_eq!(error(dialect, reply(code, hint)).await.retry_after(), None, "{code} {hint}");
            }
        }
        assert_eq!(error(dialect, reply(401, "7")).await.retry_after(), None, "waiting does not help");
    }
}

#[tokio::test]
async fn answers_that_are_none_are_told_apart() {
    for dialect in ALL {
        let good = dialect.answer(&[tiny("a text")]);
        let vectors = |vectors: &[Vec<f32>]| ok(dialect.answer(vectors));
        let mut long = tiny("a text");
        long.push(0.0);
        let slow = Reply::Late(Duration::from_millis(400), Box::new(ok(&good)));
        for (reply, kind, temporary, said) in [
            (slow, TimedOut, true, "no whole answer in 300ms"),
            (Reply::Hang, TimedOut, true, "no whole answer in 300ms"),
            (Reply::Drip(good.clone() + &" ".repeat(2_000)), TimedOut, true, "no whole answer in 300ms"),
            (Reply::Reset, Unavailable, true, "reset"),
            (Reply::Close, Unavailable, true, "disconnected"),
            (Reply::Half(good.clone()), Unavailable, true, "disconnected"),
            (ok(""), Unavailable, true, "the answer is empty"),
            (ok(&good[..good.len() / 2]), Unavailable, true, "no whole JSON"),
            (ok("<!doctype html><title>Welcome</title>"), Unavailable, true, "HTML page"),
            (ok("Ollama is running"), Unavailable, true, "no whole JSON"),
            (status(502, "<html>Bad Gateway</html>"), Unavailable, true, "an HTML page"),
            (ok(r#"{"error":"the cause"}"#), Unavailable, false, "another form"),
            (ok("[]"), Unavailable, false, "another form"),
            (vectors(&[]), Unavailable, false, "0 vectors for 1 texts"),
            (vectors(&[tiny("a"), tiny("b")]), Unavailable, false, "2 vectors for 1 texts"),
            (vectors(&[vec![]]), Unavailable, false, "a vector of 0 components"),
            (vectors(&[long]), Unavailable, false, "a vector of 5 components"),
            (ok(good.replacen("0.", "NaN,0.", 1)), Invalid, false, "NaN"),
            (ok(good.replacen("0.", "null,0.", 1)), Unavailable, false, "a vector of 5 components"),
        ] {
            assert_fails(dialect, reply, kind, temporary, said).await;
        }
        let nulls = dialect.answer(&[vec![0.5; TINY]]).replacen("0.5", "null", 1);
        assert_fails(dialect, ok(nulls), Invalid, false, "NaN in vector 0").await;
        let huge = dialect.answer(&[vec![0.5; TINY]]).replacen("0.5", "1e300", 1);
        assert_fails(dialect, ok(huge), Invalid, false, "inf in vector 0").await;
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_the_end() {
    for dialect in ALL {
        assert_fails(dialect, ok(" ".repeat(5 << 20)), Unavailable, false, "longer than 4194304 bytes").await;
    }
}

#[tokio::test]
async fn texts_of_a_length_that_the_server_refuses_are_cut_into_pieces() {
    for dialect in ALL {
        for (code, message) in [
            (400, json!({"error": "the input length exceeds the context length"})),
            (500, json!({"error": "the input length exceeds the context length"})),
            (400, json!({"error": "input exceeds maximum context length and cannot be truncated further"})),
            (400, json!({"detail": {"error": "embedding_input_too_long", "message": "m", "input_index": 0}})),
            (413, json!({"error": "`inputs` must have less than 512 tokens. Given: 600"})),
        ] {
            let peer =
                Peer::start(move |request| match crate::dialect::texts(request).iter().any(|text| text.len() > 100) {
                    true => status(code, &message),
                    false => dialect.serve(request, tiny),
                });
            let embedder =
                dialect.new_embedder(ServerConfig::new(peer.url()), Model::new("m").with_dimensions(TINY)).unwrap();
            let long = "word ".repeat(80);
            let vectors = embedder.embed(Role::Query, &["short", &long, "other"]).await.unwrap();
            crate::dialect::assert_alike(&vectors[0], &tiny("short"));
            crate::dialect::assert_alike(&vectors[2], &tiny("other"));
            let alone = embedder.embed(Role::Query, &[&long]).await.unwrap();
            assert_eq!(alone[0], vectors[1], "whatever it is asked with");
        }
    }
}

#[tokio::test]
async fn a_text_that_stays_too_long_is_refused() {
    let refuse = || status(400, json!({"error": "the input length exceeds the context length"}));
    for dialect in ALL {
        let peer = Peer::start(move |_| refuse());
        let embedder =
            dialect.new_embedder(ServerConfig::new(peer.url()), Model::new("m").with_dimensions(TINY)).unwrap();
        let error = embedder.embed(Role::Query, &["a few words"]).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (Invalid, false));
        assert!(error.to_string().contains("context length"), "{error}");
        assert!(peer.count() <= 5, "{} requests", peer.count());
    }
}
