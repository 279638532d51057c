//! A client, and the server that it started.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A client of a server of its own.
pub(crate) struct Client {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    requests: u64,
}

impl Client {
    /// Starts a server over this file, with these further arguments, and greets it.
    pub(crate) fn start(store: &Path, arguments: &[&str]) -> Self {
        let mut client = Self::spawn(store, arguments);
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        });
        let answer = client.call("initialize", hello);
        assert_eq!(answer["result"]["serverInfo"]["name"], "knowhow", "{answer}");
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        client
    }

    /// Starts a server without a word.
    pub(crate) fn spawn(store: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_knowhow"));
        command.arg("mcp").arg("--store").arg(store).args(arguments).env("HOME", store.parent().unwrap());
        command.current_dir(store.parent().unwrap()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, requests: 0 }
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.send_bytes(line.as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, line: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(line).and_then(|()| input.write_all(b"\n")).and_then(|()| input.flush()).unwrap();
    }

    /// The next message; what is no JSON-RPC has no place on stdout.
    pub(crate) fn receive(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the server has gone");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    /// The answer to a request; what comes before it is passed over.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.requests += 1;
        let id = format!("request {}", self.requests);
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        loop {
            let message = self.receive();
            if message["id"] == id[..] {
                return message;
            }
        }
    }

    /// What a tool answers: its structured content, or its error.
    pub(crate) fn try_tool(&mut self, name: &str, arguments: Value) -> Result<Value, String> {
        let answer = self.call("tools/call", json!({ "name": name, "arguments": arguments }));
        let result = &answer["result"];
        match result["isError"].as_bool() {
            Some(false) => Ok(result["structuredContent"].clone()),
            _ => Err(result["content"][0]["text"].as_str().map_or_else(|| answer.to_string(), str::to_owned)),
        }
    }

    pub(crate) fn tool(&mut self, name: &str, arguments: Value) -> Value {
        self.try_tool(name, arguments).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Says goodbye, by closing the server's stdin, and checks that it ends well.
    pub(crate) fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
