//! What is asked.

use serde_json::{Value, json};

use crate::AnyError;

/// Asks an operation, and reads the answer to its end; one that is none is an error.
pub(crate) fn ask(agent: &ureq::Agent, url: &str, operation: &str, arguments: &Value) -> Result<Vec<u8>, AnyError> {
    let request = agent.post(format!("{url}/v1/{operation}")).header("Content-Type", "application/json");
    Ok(request.send(arguments.to_string())?.body_mut().read_to_vec()?)
}

/// The same, with what the answer says.
pub(crate) fn call(agent: &ureq::Agent, url: &str, operation: &str, arguments: &Value) -> Result<Value, AnyError> {
    Ok(serde_json::from_slice(&ask(agent, url, operation, arguments)?)?)
}

const VERBS: [&str; 8] = ["fix", "repair", "explain", "extend", "rename", "test", "speed up", "remove"];
const PARTS: [&str; 10] =
    ["login", "invoice", "cache", "parser", "router", "mailer", "queue", "report", "search", "upload"];
const TOOLS: [&str; 6] = ["grep", "read", "edit", "run_tests", "build", "commit"];

fn pick<'a>(all: &[&'a str], number: usize) -> &'a str {
    all[number % all.len()]
}

/// The text of a task: 80 of them in 500 projects.
pub(crate) fn task(number: usize) -> String {
    let (verb, part) = (pick(&VERBS, number), pick(&PARTS, number / VERBS.len()));
    format!("{verb} the {part} of project {}", number * 7 % 500)
}

/// A finished episode of eight steps.
pub(crate) fn episode(number: usize) -> Value {
    let step = |place: usize| {
        let tool = pick(&TOOLS, number / 3 + place);
        let observation = format!("{tool} says what it found in file {} of {}", place * 31 % 17, task(number));
        json!({ "tool": tool, "input": pick(&PARTS, number + place), "observation": observation, "ok": !(number + place).is_multiple_of(5) })
    };
    let verdict = if number.is_multiple_of(3) { "failure" } else { "success" };
    json!({
        "task": task(number),
        "context": { "domain": "code" },
        "steps": (0..8).map(step).collect::<Vec<_>>(),
        "outcome": { "verdict": verdict, "summary": format!("it was a {verdict}") },
    })
}
