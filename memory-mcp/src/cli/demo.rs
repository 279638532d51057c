//! A minute of what the memory does.

use memory_core::{HashEmbedder, Memory, Scope, Source};
use memory_mcp::operations::{Reply, Tool};
use memory_mcp::service::{Caller, Right, Service};
use memory_storage_turso::TursoStore;
use serde_json::{Value, json};

use super::Failure;
use super::output::{Output, Paint, count};

/// What a pretend agent was asked to do, twice each: once it looked before it changed something, once it did not.
const TASKS: [(&str, &str); 6] = [
    ("login", "an empty password is refused"),
    ("logout", "the cookie is cleared"),
    ("signup", "addresses are checked"),
    ("password reset", "tokens end after an hour"),
    ("profile", "long names are kept"),
    ("search", "umlauts are found"),
];

const NEXT: &str = "make the failing invoice test pass";

/// An episode as `record_episode` takes it.
fn episode(what: &str, fixed: Option<&str>) -> Value {
    let step = |tool: &str, input: &str, observation: &str, ok: bool| json!({ "tool": tool, "input": input, "observation": observation, "ok": ok });
    let failed = format!("1 test failed: {what}");
    let steps = match fixed {
        Some(_) => vec![
            step("run_tests", what, &failed, false),
            step("grep", what, "src/web.rs:42", true),
            step("edit", "src/web.rs", "saved", true),
            step("run_tests", what, "all tests passed", true),
        ],
        None => vec![
            step("edit", "src/web.rs", "saved", true),
            step("run_tests", what, &failed, false),
            step("edit", "src/web.rs", "saved", true),
            step("run_tests", what, &failed, false),
        ],
    };
    let (verdict, summary) = fixed.map_or(("failure", "guessed, and gave up"), |fixed| ("success", fixed));
    json!({
        "task": format!("make the failing {what} test pass"),
        "context": context(),
        "steps": steps,
        "outcome": { "verdict": verdict, "summary": summary },
    })
}

fn context() -> Value {
    json!({ "domain": "web", "language": "rust" })
}

async fn ask(caller: &Caller, operation: &'static str, arguments: Value) -> Result<Reply, Failure> {
    let tool = Tool::named(operation).ok_or_else(|| Failure::Other(format!("there is no operation {operation}")))?;
    Ok(tool.call(arguments, caller).await?)
}

/// Plays it in a store that is gone afterwards.
pub(crate) async fn run(out: Output) -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(|error| Failure::Other(format!("no temporary folder: {error}")))?;
    let store = TursoStore::open(folder.path().join("demo.db")).await?;
    let memory = Memory::builder().store(store).embedder(HashEmbedder::new()).build().await?;
    let service = Service::new(memory.clone(), None, None, Vec::new());
    let caller = Caller::new(service, Scope::new("demo")?, Source::trusted("demo"), Right::Admin)?;
    let played = Box::pin(play(&caller)).await;
    memory.close().await?;
    let [recalled, suggested, known] = played?;
    let answer = json!({
        "episodes": 2 * TASKS.len(),
        "recalled": recalled.json,
        "suggested": suggested.json,
        "known": known.json,
    });
    out.tell(&answer, |paint| text(&recalled, &suggested, &known, paint));
    Ok(())
}

async fn play(caller: &Caller) -> Result<[Reply; 3], Failure> {
    for (what, fixed) in TASKS {
        ask(caller, "record_episode", episode(what, None)).await?;
        ask(caller, "record_episode", episode(what, Some(fixed))).await?;
    }
    let tried =
        json!([{ "tool": "run_tests", "input": "invoice", "observation": "1 test failed: invoice", "ok": false }]);
    Ok([
        ask(caller, "recall", json!({ "task": NEXT, "context": context(), "k": 1 })).await?,
        ask(caller, "suggest_next", json!({ "task": NEXT, "context": context(), "steps": tried })).await?,
        ask(caller, "get_knowledge", json!({ "what": "rules" })).await?,
    ])
}

fn text(recalled: &Reply, suggested: &Reply, known: &Reply, paint: Paint) -> String {
    let rules = known.json["rules"].as_array().into_iter().flatten().filter_map(|rule| rule["text"].as_str());
    let rules: Vec<&str> = rules.collect();
    let heading = |text: &str| format!("\n{}\n", paint.bold(text));
    let mut text = format!(
        "A pretend agent repaired {} failing tests, each once after a look at the code and once without: {}.\n",
        TASKS.len(),
        count(2 * TASKS.len() as u64, "episode"),
    );
    text += &heading(&format!("Now it is asked: {NEXT}. What is recalled:"));
    text += &recalled.text;
    text += &heading("\nThe tests were run, and one fails. What usually comes next:");
    text += &suggested.text;
    text += &heading("\nWhat was learned from all of it:");
    text += &if rules.is_empty() { "No rule yet.".to_owned() } else { rules.join("\n") };
    text + "\n\nAn MCP client starts this memory with `knowhow mcp`. What was shown here is gone; nothing else was touched."
}
