//! The scripts that operators and their timers call.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::place::Place;

const SCRIPTS: [&str; 6] = ["backup", "restore", "migrate", "warm-cache", "health-check", "cleanup"];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scripts/{name}.sh"))
}

/// How it ended, what it wrote, and what it complained of.
fn run(place: &Place, name: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = place.program(script(name));
    let output = command.args(arguments).env("KNOWHOW", env!("CARGO_BIN_EXE_knowhow")).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn told(place: &Place, name: &str, arguments: &[&str]) -> String {
    let (code, out, err) = run(place, name, arguments);
    assert_eq!(code, 0, "{out}{err}");
    out
}

#[test]
fn each_says_what_it_does() {
    let place = Place::new();
    for name in SCRIPTS {
        let help = told(&place, name, &["--help"]);
        assert!(help.starts_with(&format!("Usage: {name}.sh")) && help.contains("KNOWHOW"), "{help}");
        assert_eq!(run(&place, name, &["--no-such-option", "x", "y", "z"]).0, 2, "{name}");
    }
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn backups_are_made_restored_and_not_kept_for_ever() {
    let place = Place::new();
    place.record(&["login"]);
    for _ in 0..3 {
        told(&place, "backup", &["backups", "2"]);
    }
    let mut backups: Vec<PathBuf> =
        std::fs::read_dir(place.path("backups")).unwrap().map(|entry| entry.unwrap().path()).collect();
    backups.sort();
    assert_eq!(backups.len(), 2);
    place.record(&["logout"]);
    // Nobody can be asked here.
    assert_eq!(run(&place, "restore", &[backups[1].to_str().unwrap()]).0, 1);
    told(&place, "restore", &[backups[1].to_str().unwrap(), "--yes"]);
    assert_eq!(place.json(&["episodes", "list"])["total"], 2);
}

/// A backup that was not made must not cost one that was.
#[test]
fn a_failed_backup_removes_none() {
    let place = Place::new();
    std::fs::create_dir(place.path("backups")).unwrap();
    for name in ["memory-1.backup", "memory-2.backup"] {
        std::fs::write(place.path("backups").join(name), "precious").unwrap();
    }
    let (code, _, err) = run(&place, "backup", &["backups", "1"]);
    assert!(code == 1 && err.contains("there is no database"), "{err}");
    assert_eq!(std::fs::read_dir(place.path("backups")).unwrap().count(), 2);
}

#[test]
fn tables_are_migrated_after_a_look() {
    let place = Place::new();
    crate::database::old_schema(&place);
    let told = told(&place, "migrate", &[]);
    assert!(told.contains("would go from version 0 to 1") && told.contains("went from version 0 to 1"), "{told}");
}

#[test]
fn the_cache_is_warmed() {
    let place = Place::taught();
    assert!(told(&place, "warm-cache", &[]).contains("searched"));
    assert!(place.path("memory.cache.redb").exists());
}

#[test]
fn health_is_checked() {
    let place = Place::new();
    let (code, _, err) = run(&place, "health-check", &[]);
    assert!(code == 1 && err.contains("there is no database"), "{err}");
    place.record(&["login"]);
    let told = told(&place, "health-check", &[]);
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["status"], "ok");
}

#[test]
fn what_is_due_is_tidied_up() {
    let place = Place::taught();
    assert!(told(&place, "cleanup", &["--dry-run"]).starts_with("would be done"));
    assert!(told(&place, "cleanup", &[]).starts_with("done"));
}

/// `scripts/install-shellcheck.sh` installs it. Without it this is skipped; with `KNOWHOW_REQUIRE_SHELLCHECK=1` it fails.
#[test]
fn shellcheck_has_nothing_to_say() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let installed = target.join("tools/shellcheck/bin/shellcheck");
    let program = if installed.is_file() { installed } else { PathBuf::from("shellcheck") };
    let scripts = SCRIPTS.iter().copied().chain(["install-shellcheck"]).map(script);
    match std::process::Command::new(&program).args(scripts).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => {
            assert!(std::env::var_os("KNOWHOW_REQUIRE_SHELLCHECK").is_none_or(|value| value != "1"), "{error}");
            eprintln!("SKIP: there is no shellcheck: run scripts/install-shellcheck.sh");
        }
    }
}
