//! `knowhow token new`, and a server that takes what it made.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::json;

use crate::place::Place;

/// A server of the tokens in `tokens.toml`.
struct Server(Child, String);

impl Server {
    fn start(place: &Place) -> Self {
        let mut command = place.knowhow(&["serve", "--bind", "127.0.0.1:0", "--set", "http.tokens=tokens.toml"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap_or_else(|| panic!("{line}")).split('/').next().unwrap();
        Self(child, address.to_owned())
    }

    /// The first line and the body of an answer.
    fn ask(&self, token: &str, operation: &str, body: &str) -> String {
        let (mut stream, mut answer) = (TcpStream::connect(&self.1).unwrap(), String::new());
        let (host, length) = (&self.1, body.len());
        let head = format!("POST /v1/{operation} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n");
        write!(stream, "{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As a person does it, and as a program does.
#[test]
fn a_server_takes_what_was_made() {
    let place = Place::new();
    let told =
        place.told(&["token", "new", "--scope", "acme/ci", "--right", "write", "--expires", "90d", "--name", "ci"]);
    let (writer, rest) = told.split_once("\n\n").unwrap();
    let lines = rest.split_once("\n\n").unwrap().1;
    for line in ["[[token]]", "name = \"ci\"", "scope = \"acme/ci\"", "right = \"write\""] {
        assert!(lines.lines().any(|one| one == line), "no {line} in {told}");
    }
    assert!(lines.contains("\nexpires_at = 2") && told.matches(writer).count() == 1, "{told}");
    let made = place.json(&["token", "new", "--scope", "acme/ci", "--right", "read"]);
    let reader = made["token"].as_str().unwrap();
    assert_eq!(
        (&made["scope"], &made["right"], made["expires_at"].is_null()),
        (&json!("acme/ci"), &json!("read"), true)
    );
    for token in [writer, reader] {
        assert!(token.strip_prefix("knowhow_").is_some_and(|random| random.len() == 64), "{token}");
    }
    assert_ne!(writer, reader);
    std::fs::write(place.path("tokens.toml"), format!("{lines}\n{}", made["lines"].as_str().unwrap())).unwrap();
    let server = Server::start(&place);
    let note = "{\"text\": \"kept\"}";
    assert!(server.ask(writer, "store_note", note).starts_with("HTTP/1.1 200"));
    assert!(server.ask(reader, "find_notes", "").contains("kept"));
    assert!(server.ask(reader, "store_note", note).starts_with("HTTP/1.1 403"));
    assert!(server.ask(made["hash"].as_str().unwrap(), "find_notes", "").starts_with("HTTP/1.1 401"));
}

#[test]
fn nothing_is_made_of_what_would_not_hold() {
    let place = Place::new();
    let new = |rest: &[&str]| place.run(&[&["token", "new"], rest].concat());
    for expires in ["--expires=x", "--expires=2027-01-01", "--expires=-5", "--expires=99999999999999999999d"] {
        new(&["--right", "read", expires]).failed(2, "such as 90d");
    }
    for expires in ["--expires=2020-01-01T00:00:00Z", "--expires=-5d", "--expires=9000000d"] {
        new(&["--right", "read", expires]).failed(1, "a moment to come");
    }
    new(&["--right", "all"]).failed(2, "read, write or admin");
    new(&[]).failed(2, "--right");
    new(&["--right", "read", "--scope", "a b"]).failed(3, "scope");
    new(&["--right", "read", "--name", ""]).failed(1, "1 to 128");
    new(&["--right", "read", "--name", "a\nb"]).failed(1, "control");
    // It is configured otherwise: that is the scope.
    let made = place.json(&["token", "new", "--right", "read", "--set", "scope=me/project"]);
    assert_eq!(made["scope"], "me/project");
    assert!(place.files().is_empty(), "{:?}", place.files());
}
