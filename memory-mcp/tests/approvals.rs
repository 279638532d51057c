//! Consent: learned rules wait for a person, and all processes on a store know what was approved.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use memory_core::{ErrorKind, HeuristicId};
use memory_mcp::config::Config;
use memory_mcp::open::Plan;
use memory_mcp::operations::Tool;
use memory_mcp::service::Caller;
use serde_json::{Value, json};

/// The owner of a service over this file, with consent.
async fn owner(store: &Path) -> Caller {
    let pairs = [("store.url", store.to_str().unwrap()), ("store.cache", "off"), ("memory.consent", "true")];
    let flags = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let (config, problems) = Config::load(None, |_| None, &flags);
    assert_eq!(problems, []);
    let plan = Plan::new(&config).unwrap();
    plan.owner(plan.service().await.unwrap()).unwrap()
}

async fn call(caller: &Caller, tool: &str, arguments: Value) -> Value {
    Tool::named(tool).unwrap().call(arguments, caller).await.unwrap().json
}

/// Eight tasks, each done four times with a look at the tests first, which helps, and four times without.
async fn learn(caller: &Caller) {
    for name in ["login", "invoice", "cache", "parser", "router", "mailer", "queue", "report"] {
        for turn in 0..8 {
            let (first, lucky) = if turn < 4 { ("test", 3) } else { ("read", 1) };
            let verdict = if turn % 4 < lucky { "success" } else { "failure" };
            let steps = json!([{ "tool": first }, { "tool": "edit" }]);
            let outcome = json!({ "verdict": verdict });
            let episode = json!({ "task": format!("repair {name}"), "steps": steps, "outcome": outcome });
            call(caller, "record_episode", episode).await;
        }
    }
}

/// How many rules are recalled, and how many playbooks there are.
async fn shown(caller: &Caller) -> (usize, u64) {
    let recalled = call(caller, "recall", json!({ "task": "repair login" })).await;
    let playbooks = call(caller, "get_knowledge", json!({})).await;
    (recalled["rules"].as_array().unwrap().len(), playbooks["total"].as_u64().unwrap())
}

#[tokio::test]
async fn rules_are_shown_when_they_are_approved_whoever_did_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("knowhow.db");
    let (one, two) = (owner(&store).await, owner(&store).await);
    learn(&one).await;
    let rules = call(&one, "get_knowledge", json!({ "what": "rules" })).await;
    let rule = &rules["rules"][0];
    assert_eq!((&rule["standing"], &rule["shown"]), (&json!("active"), &json!(false)));
    assert_eq!((shown(&one).await, shown(&two).await), ((0, 0), (0, 0)));

    let id = HeuristicId::new(rule["id"].as_str().unwrap().parse().unwrap());
    let approvals = one.service().approvals().unwrap();
    approvals.approve(one.memory(), id).await.unwrap();
    assert_eq!(shown(&one).await, (1, 1));
    // Another process looks again within two seconds.
    while shown(&two).await != (1, 1) {
        tokio::task::yield_now().await;
    }
    approvals.revoke(one.memory(), id).await.unwrap();
    assert_eq!(shown(&one).await, (0, 0));
    let error = approvals.revoke(one.memory(), id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = approvals.approve(one.memory(), HeuristicId::new(uuid::Uuid::nil())).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("no rule"), "{error}");
    assert_eq!(call(&one, "find_notes", json!({})).await["notes"], json!([]), "approvals are no notes of the scope");
}
