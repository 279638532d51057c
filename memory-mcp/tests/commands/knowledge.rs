//! `knowhow knowledge`.

use crate::place::Place;

#[test]
fn all_kinds_are_listed() {
    let place = Place::taught();
    let rules = place.json(&["knowledge", "list", "rules"]);
    assert!(rules["total"].as_u64().unwrap() >= 1, "{rules}");
    assert_eq!(rules["rules"][0]["shown"], true);
    let told = place.told(&["knowledge", "list", "rules"]);
    assert!(told.starts_with("ID ") && told.contains("do grep") && told.contains("active"), "{told}");
    assert!(place.told(&["knowledge", "list"]).contains("web"));
    let patterns = place.told(&["knowledge", "list", "patterns", "--contains", "grep", "--limit", "1"]);
    assert!(patterns.contains("grep") && patterns.contains("--limit shows more"), "{patterns}");
    assert_eq!(place.told(&["knowledge", "list", "rules", "--domain", "other"]).trim(), "No rules are known yet.");
    place.run(&["knowledge", "list", "rules", "--limit", "0"]).failed(1, "limit is 0; allowed: 1..=1000");
}

#[test]
fn a_rule_is_explained_by_its_episodes() {
    let place = Place::taught();
    let rules = place.json(&["knowledge", "list", "rules"]);
    let id = rules["rules"][0]["id"].as_str().unwrap();
    let why = place.json(&["knowledge", "explain", id]);
    assert_eq!(why["episodes_for"].as_array().unwrap().len(), 6, "{why}");
    let told = place.told(&["knowledge", "explain", id]);
    let first = why["episodes_for"][0].as_str().unwrap();
    assert!(told.contains("trust: trusted") && told.contains(first) && told.contains("SUCCESSES"), "{told}");
    let patterns = place.json(&["knowledge", "list", "patterns"]);
    place.told(&["knowledge", "explain", patterns["patterns"][0]["id"].as_str().unwrap()]);
    place.run(&["knowledge", "explain", "0196f0a0-0000-7000-8000-000000000000"]).failed(1, "not found");
}

#[test]
fn rules_are_shown_when_they_are_approved() {
    let place = Place::taught();
    let consent = ["--set", "memory.consent=true"];
    let rules = || place.json(&[&["knowledge", "list", "rules"], &consent[..]].concat());
    let shown = || rules()["rules"].as_array().unwrap().iter().filter(|rule| rule["shown"] == true).count();
    let id = rules()["rules"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(shown(), 0);
    let told = place.told(&[&["knowledge", "approve", &id], &consent[..]].concat());
    assert_eq!(told.trim(), format!("rule {id} is approved"));
    assert_eq!((shown(), &rules()["rules"][0]["shown"]), (1, &true.into()));
    place.told(&[&["knowledge", "revoke", &id], &consent[..]].concat());
    assert_eq!(shown(), 0);
    place.run(&[&["knowledge", "revoke", &id], &consent[..]].concat()).failed(1, "not found");
    place.run(&["knowledge", "approve", "0196f0a0-0000-7000-8000-000000000000"]).failed(1, "there is no rule");
    assert!(place.told(&["knowledge", "approve", &id]).contains("memory.consent is off"));
}
