//! `knowhow config`, `completions`, help, and how the program ends.

use std::io::Write as _;
use std::process::Stdio;

use crate::place::Place;

#[test]
fn all_settings_are_told_with_their_origin() {
    let place = Place::new();
    std::fs::write(place.path("knowhow.toml"), "scope = \"acme\"\n[store]\ntoken = \"hush\"\n").unwrap();
    let mut command = place.knowhow(&["config", "check", "--json", "--set", "trust=untrusted"]);
    let output = command.env("KNOWHOW_EMBEDDER_KEY", "quiet").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("hush") && !text.contains("quiet"), "{text}");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["ok"], true, "{told}");
    for (key, value, origin) in [
        ("scope", "acme", "knowhow.toml"),
        ("store.token", "(hidden)", "knowhow.toml"),
        ("embedder.key", "(hidden)", "KNOWHOW_EMBEDDER_KEY"),
        ("trust", "untrusted", "command line"),
        ("log.level", "warn", "default"),
    ] {
        let setting = told["settings"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap();
        assert_eq!((&setting["value"], &setting["origin"]), (&value.into(), &origin.into()), "{key}");
    }
    let text = place.told(&["config", "check"]);
    assert!(text.starts_with("SETTING") && text.ends_with("All of it is right.\n"), "{text}");
    assert!(!text.contains("hush"));
}

#[test]
fn all_problems_are_told_at_once() {
    let place = Place::new();
    std::fs::write(
        place.path("knowhow.toml"),
        "scoop = \"acme\"\ntrust = \"very\"\n[memory]\nhold_out = 2\n[log]\nlevel = \"loud\"\n\
         [http]\nbind = \"0.0.0.0:80\"\nhosts = \"a b\"\norigins = \"app.example.com\"\n",
    )
    .unwrap();
    let ran = place.run(&["config", "check"]);
    assert_eq!((ran.code, &ran.err[..]), (3, ""), "{ran:?}");
    let wrong: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("wrong: ")).collect();
    assert_eq!(wrong.len(), 7, "{ran:?}");
    for part in [
        "scoop",
        "did you mean scope",
        "trust (knowhow.toml)",
        "memory.hold_out (knowhow.toml): is \"2\"",
        "log.level",
        "http.bind (knowhow.toml)",
        "http.hosts (knowhow.toml)",
        "http.origins (knowhow.toml)",
    ] {
        assert!(wrong.concat().contains(part), "no {part:?} in {wrong:?}");
    }
    let ran = place.run(&["config", "check", "--json"]);
    assert_eq!((ran.code, ran.json()["problems"].as_array().unwrap().len()), (3, 7));
    // Other commands do not begin.
    place.run(&["stats"]).failed(3, "trust (knowhow.toml)");
    let ran = place.run(&["stats", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(told["error"]["problems"].as_array().unwrap().len(), 7);
}

#[test]
fn arguments_that_are_not_understood_end_with_2() {
    let place = Place::new();
    place.run(&["epsiodes"]).failed(2, "episodes");
    place.run(&["stats", "--set", "nonsense"]).failed(2, "KEY=VALUE");
    place.run(&["stats", "--set", "no.such=1"]).failed(3, "no.such");
}

#[test]
fn help_names_all_commands_and_exit_codes() {
    let place = Place::new();
    let help = place.told(&["--help"]);
    let commands = "mcp serve episodes knowledge stats health doctor token config cache sync backup restore migrate cleanup reembed \
                    rebuild demo completions";
    for command in commands.split_whitespace() {
        assert!(help.lines().any(|line| line.starts_with(&format!("  {command} "))), "no {command} in {help}");
        let own = place.told(&[command, "--help"]);
        assert!(own.contains("Usage: knowhow") && own.contains("--json"), "{own}");
        assert!(own.lines().all(|line| line.len() <= 100), "{own}");
    }
    for part in ["Exit codes:", "  1  failed", "  2  the arguments", "  3  the configuration"] {
        assert!(help.contains(part), "no {part:?} in {help}");
    }
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.told(&["completions", shell]);
        assert!(script.contains("knowhow") && script.contains("reembed"), "{shell}: {script}");
    }
    let script = place.told(&["completions", "bash"]);
    let mut bash = place.program("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

/// As with `| head`.
#[test]
fn nobody_need_read_on() {
    let place = Place::new();
    let mut child = place.knowhow(&["--help"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.wait().unwrap();
    let mut child = place.knowhow(&["config", "check"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
}

/// Set by this program's own name or by the standard one: whoever wants traces and cannot have them is told so.
#[test]
fn an_endpoint_of_traces_is_checked() {
    let place = Place::new();
    let wrong = if cfg!(feature = "otel") { "http://HOST" } else { "--features otel" };
    for endpoint in ["localhost:4318", "grpc://localhost:4317", "http://me:pass@localhost"] {
        let ran = place.run(&["stats", "--set", &format!("log.otlp_endpoint={endpoint}")]);
        ran.failed(3, &format!("log.otlp_endpoint (command line): is {endpoint:?}; allowed: "));
        assert!(ran.err.contains(wrong), "{ran:?}");
    }
    let standard = |arguments: &[&str]| {
        let mut command = place.knowhow(arguments);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318").stdin(Stdio::null()).output().unwrap()
    };
    let output = standard(&["config", "check"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && told.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{told}");
    // It may be meant for others: who cannot use it says so, and goes on.
    let served = String::from_utf8(standard(&["mcp"]).stderr).unwrap();
    assert_eq!(served.contains("--features otel"), !cfg!(feature = "otel"), "{served}");
    let output = standard(&["config", "check", "--set", "log.otlp_endpoint="]);
    assert!(output.status.success(), "who says nothing on the command line has none: {output:?}");
}
