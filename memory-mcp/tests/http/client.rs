//! An MCP client over HTTP, in plain JSON-RPC.

use serde_json::{Value, json};

use crate::server::{Answer, Server};

/// A client, in a session once it has begun one.
pub(crate) struct Client<'s> {
    server: &'s Server,
    token: &'s str,
    pub(crate) session: Option<String>,
}

impl<'s> Client<'s> {
    pub(crate) fn new(server: &'s Server, token: &'s str) -> Self {
        Self { server, token, session: None }
    }

    /// One with a session, by the protocol of 2025.
    pub(crate) fn begin(server: &'s Server, token: &'s str) -> Self {
        let mut client = Self::new(server, token);
        let answer = client.post(&hello());
        assert_eq!(messages(&answer)[0]["result"]["serverInfo"]["name"], "knowhow", "{answer:?}");
        client.session = Some(answer.headers["mcp-session-id"].clone());
        let ready = client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        assert_eq!(ready.status, 202, "{ready:?}");
        client
    }

    /// Someone else in the same session.
    pub(crate) fn shared_with(&self, token: &'s str) -> Self {
        Self { token, session: self.session.clone(), ..*self }
    }

    /// The headers of its requests, one a line.
    pub(crate) fn headers(&self) -> String {
        let session = self.session.iter().map(|session| format!("Mcp-Session-Id: {session}\n"));
        let accept = "Accept: application/json, text/event-stream";
        let token = self.token;
        format!(
            "Authorization: Bearer {token}\nContent-Type: application/json\n{accept}\n{}",
            session.collect::<String>()
        )
    }

    pub(crate) fn send(&self, method: &str, headers: &str, body: &str) -> Answer {
        self.server.request(&format!("{method} /mcp"), &format!("{}{headers}", self.headers()), body)
    }

    pub(crate) fn post(&self, message: &Value) -> Answer {
        self.send("POST", "", &message.to_string())
    }

    /// The answer to a request.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Value {
        let answer = self.post(&json!({ "jsonrpc": "2.0", "id": "the one", "method": method, "params": params }));
        let told = messages(&answer).into_iter().find(|message| message["id"] == "the one");
        told.unwrap_or_else(|| panic!("{method}: {answer:?}"))
    }

    /// What a tool answers, whether that is well or an error.
    pub(crate) fn call(&self, name: &str, arguments: &Value) -> Value {
        self.ask("tools/call", &json!({ "name": name, "arguments": arguments }))["result"].clone()
    }
}

/// What begins a session.
pub(crate) fn hello() -> Value {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } },
    })
}

/// The messages of an answer, be it one, or a stream of events.
pub(crate) fn messages(answer: &Answer) -> Vec<Value> {
    let events = answer.body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?).ok());
    let events: Vec<Value> = events.collect();
    if events.is_empty() { serde_json::from_str(&answer.body).into_iter().collect() } else { events }
}
