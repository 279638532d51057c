//! The program `load`, run as a program: all figures are there and can be true. How fast it is depends on the machine.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const RECORD: &[&str] = &[
    "acked_per_s",
    "sustained_per_s",
    "limit_per_s",
    "append_growing_per_s",
    "append_preallocated_per_s",
    "raw_sqlite_per_s",
    "ratio_to_limit",
    "ratio_to_raw_sqlite",
    "ratio_to_limit_by_round",
    "ratio_to_raw_sqlite_by_round",
    "p50_us",
    "p99_us",
    "max_us",
    "logical_bytes_per_record",
    "rate_at_start",
    "rate_at_end",
    "first_to_last_rate",
    "dimensions",
    "episodes",
    "seed",
];
const IMPORT: &[&str] = &[
    "committed_per_s",
    "imported_per_s",
    "raw_sqlite_per_s",
    "ratio_to_raw_sqlite",
    "ratio_to_raw_sqlite_by_round",
    "logical_bytes_per_record",
    "first_to_last_rate",
    "dimensions",
    "batch",
    "seed",
];
const WAYS: [&str; 5] = ["vector", "filtered", "hybrid", "words", "scan"];
/// What is known of stores in files only.
const IN_FILES: &[&str] = &["bytes_per_record", "ratio_to_logical", "vacuumed_bytes_per_record"];

/// A folder in which the program is run.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn turso(&self, name: &str) -> String {
        format!("turso:{}", self.path(name).display())
    }

    /// Runs the program, which must succeed, and reads its figures.
    fn figures(&self, arguments: &[&str]) -> Value {
        let json = self.path("figures.json");
        let output = load(&[arguments, &["--json", json.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        assert!(!output.stdout.is_empty(), "{arguments:?} prints a table");
        read(&json)
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_load"));
    program.args(arguments);
    program
}

fn load(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn read(json: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

/// A figure, which must be known: what is not finite is null in JSON.
fn figure(figures: &Value, name: &str) -> f64 {
    figures[name].as_f64().unwrap_or_else(|| panic!("{name} is {} in {figures:#}", figures[name]))
}

fn check_positive(figures: &Value, names: &[&str]) {
    for name in names {
        assert!(figure(figures, name) > 0.0, "{name} in {figures:#}");
    }
}

/// Checks that the rounds took all episodes, one round after the other.
fn check_rounds(figures: &Value, rounds: usize) {
    let by_round = figures["by_round"].as_array().unwrap();
    assert_eq!(by_round.len(), rounds);
    let mut stored = 0;
    for round in by_round {
        assert_eq!(round["stored_before"], stored);
        stored += round["records"].as_u64().unwrap();
    }
    assert_eq!(figures["episodes"], stored);
}

fn check_versions(figures: &Value) {
    assert_eq!(figures["versions"]["knowhow"], env!("CARGO_PKG_VERSION"));
    assert!(figures["versions"]["libsql"].is_string());
}

#[test]
fn one_writer_syncs_about_once_a_record() {
    let bench = Bench::new();
    let store = bench.turso("m.db");
    let figures = bench.figures(&["record", "--episodes", "60", "--rounds", "2", "--seed", "3", "--store", &store]);
    check_positive(&figures, RECORD);
    check_positive(&figures, IN_FILES);
    check_rounds(&figures, 2);
    check_versions(&figures);
    assert_eq!((&figures["store"], &figures["seed"]), (&store.into(), &3.into()));
    assert_eq!(figure(&figures, "limit_per_s"), figure(&figures, "append_growing_per_s"));
    assert!(figures["group_commit_per_s"].is_null());
    assert_eq!(figure(&figures, "slowest_to_fastest"), 1.0);
    assert!(figure(&figures, "sustained_per_s") < figure(&figures, "acked_per_s"));
    assert!((3_000.0..4_000.0).contains(&figure(&figures, "logical_bytes_per_record")));
    assert!(figure(&figures, "ratio_to_logical") > 1.0, "all bytes are in the files");
    if cfg!(target_os = "linux") {
        let syncs = figure(&figures, "syncs_per_record");
        assert!((0.95..1.5).contains(&syncs), "{syncs} syncs a record");
        assert!(figure(&figures, "sustained_syncs_per_record") >= syncs);
        check_positive(&figures, &["rss_mb"]);
    }
}

#[test]
fn many_writers_are_compared_with_group_commit() {
    let bench = Bench::new();
    let store = bench.turso("m.db");
    let figures = bench.figures(&["record", "--episodes", "80", "--writers", "4", "--rounds", "1", "--store", &store]);
    check_positive(&figures, RECORD);
    check_rounds(&figures, 1);
    assert_eq!(figure(&figures, "limit_per_s"), figure(&figures, "group_commit_per_s"));
    assert!((0.0..=1.0).contains(&figure(&figures, "slowest_to_fastest")));
    assert_eq!(figures["calls"][0]["calls"], 80);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "syncs cannot be delayed")]
fn a_slower_disk_slows_everything_that_syncs() {
    let bench = Bench::new();
    let store = bench.turso("m.db");
    let delayed = ["record", "--episodes", "30", "--rounds", "1", "--sync-delay-ms", "2", "--store", &store];
    let figures = bench.figures(&delayed);
    for name in ["acked_per_s", "append_growing_per_s", "append_preallocated_per_s", "raw_sqlite_per_s"] {
        assert!(figure(&figures, name) <= 500.0, "{name} with 2 ms a sync: {figures:#}");
    }
    assert!(figure(&figures, "p50_us") >= 2_000.0);
    let store = bench.turso("several.db");
    let several = ["record", "--episodes", "32", "--writers", "8", "--rounds", "1", "--sync-delay-ms", "2"];
    let figures = bench.figures(&[&several[..], &["--store", &store]].concat());
    let (group, one) = (figure(&figures, "group_commit_per_s"), figure(&figures, "append_growing_per_s"));
    assert!(group > one, "eight that share syncs: {group}/s, one: {one}/s");
}

#[test]
fn a_life_is_told_call_by_call() {
    let bench = Bench::new();
    let store = bench.turso("m.db");
    let figures = bench.figures(&["record", "--lifecycle", "--episodes", "20", "--rounds", "1", "--store", &store]);
    check_positive(&figures, RECORD);
    let calls: Vec<(&str, u64)> = figures["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| (call["call"].as_str().unwrap(), call["calls"].as_u64().unwrap()))
        .collect();
    assert_eq!(calls, [("start", 20), ("step", 160), ("complete", 20)]);
    if cfg!(target_os = "linux") {
        // The beginning and the end.
        assert!((1.9..3.0).contains(&figure(&figures, "syncs_per_record")), "{figures:#}");
    }
}

#[test]
fn a_store_in_memory_has_no_syncs_and_no_files() {
    let bench = Bench::new();
    let figures =
        bench.figures(&["record", "--episodes", "40", "--writers", "2", "--rounds", "2", "--store", "memory"]);
    check_positive(&figures, RECORD);
    check_rounds(&figures, 2);
    let import = bench.figures(&["import", "--episodes", "40", "--rounds", "2", "--store", "memory"]);
    check_positive(&import, IMPORT);
    for figures in [figures, import] {
        assert!(IN_FILES.iter().all(|name| figures[name].is_null()));
        if cfg!(target_os = "linux") {
            assert_eq!(figure(&figures, "syncs_per_record"), 0.0);
        }
    }
}

#[test]
fn an_import_syncs_less_than_once_a_record() {
    let bench = Bench::new();
    let import = ["import", "--episodes", "90", "--rounds", "2", "--batch", "15", "--store", &bench.turso("m.db")];
    let figures = bench.figures(&import);
    check_positive(&figures, IMPORT);
    check_positive(&figures, IN_FILES);
    check_rounds(&figures, 2);
    check_versions(&figures);
    assert!(figure(&figures, "imported_per_s") < figure(&figures, "committed_per_s"));
    if cfg!(target_os = "linux") {
        let syncs = figure(&figures, "syncs_per_record");
        assert!((6.0 / 90.0..0.5).contains(&syncs), "{syncs} syncs a record");
    }
}

#[test]
fn recall_finds_what_is_right_in_every_store() {
    let bench = Bench::new();
    let store = bench.turso("m.db");
    for (store, episodes, in_file) in [("memory", "120", false), (&store, "60", true), (&store, "120", true)] {
        let figures = bench.figures(&["recall", "--episodes", episodes, "--rounds", "1", "--store", store]);
        for way in WAYS {
            check_positive(&figures[way], &["searches", "p50_ms", "p99_ms", "max_ms", "ratio_to_scan"]);
            // So few are all compared.
            if way == "scan" {
                assert!(figures[way]["recall_at_10"].is_null(), "it is not compared with itself");
                continue;
            }
            let recall = figure(&figures[way], "recall_at_10");
            assert!((0.999..=1.0 + 1e-9).contains(&recall), "{recall} by {way} in {store}");
        }
        check_versions(&figures);
        check_positive(&figures, &["filtered_to_unfiltered", "dimensions"]);
        let of_files = ["bytes_per_record", "open_to_first_search_ms", "open_to_first_recall_ms", "openings"];
        for name in of_files {
            assert_eq!(figures[name].is_number(), in_file, "{name} of {store}");
        }
        if cfg!(target_os = "linux") {
            assert!(figure(&figures, "memory_mb") <= figure(&figures, "resident_growth_mb") || !in_file);
        }
    }
}

#[test]
fn others_get_the_same_episodes_queries_and_right_answers() {
    let bench = Bench::new();
    let folder = bench.path("corpus");
    assert!(load(&["export", "--episodes", "30", folder.to_str().unwrap()]).status.success());
    let lines = |name: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let vectors = |name: &str| -> Vec<f32> {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    let (episodes, queries) = (lines("episodes.jsonl"), lines("queries.jsonl"));
    let (stored, asked) = (vectors("episodes.f32"), vectors("queries.f32"));
    assert_eq!((episodes.len(), stored.len()), (30, 30 * 384));
    assert_eq!((queries.len(), asked.len()), (500, 500 * 384));
    for (query, asked) in queries.iter().zip(asked.chunks_exact(384)) {
        let cosine = |place: &Value| -> f32 {
            let at = 384 * usize::try_from(place.as_u64().unwrap()).unwrap();
            stored[at..at + 384].iter().zip(asked).map(|(x, y)| x * y).sum()
        };
        let nearest = query["nearest"].as_array().unwrap();
        assert!(nearest.len() == 10 && nearest.is_sorted_by(|a, b| cosine(a) >= cosine(b) - 1e-6), "{query}");
        for place in query["filtered"].as_array().into_iter().flatten() {
            let episode = &episodes[usize::try_from(place.as_u64().unwrap()).unwrap()];
            assert_eq!(episode["task"]["domain"], query["domain"]);
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let bench = Bench::new();
    let store = bench.turso("m.db");
    let acknowledge = |episodes| program(&["acknowledge", "--store", &store, "--episodes", episodes]);
    let mut child = acknowledge("1000000").stdout(Stdio::piped()).spawn().unwrap();
    let mut said =
        BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap().parse::<u32>().unwrap());
    assert_eq!(said.by_ref().take(21).last(), Some(20));
    child.kill().unwrap();
    child.wait().unwrap();
    let acknowledged = said.last().unwrap_or(20);
    let held = String::from_utf8(acknowledge("0").output().unwrap().stdout).unwrap();
    assert!(held.trim().parse::<u32>().unwrap() >= acknowledged, "{held} of {acknowledged}");
}

#[test]
fn bad_arguments_are_told_with_what_is_allowed() {
    let cases: [(&[&str], &str); 9] = [
        (&["record"], "--store"),
        (&["record", "--store", "postgres:x"], "allowed: memory, turso:PATH, redb:PATH"),
        (&["record", "--store", "turso:"], "allowed: turso:PATH"),
        (&["record", "--store", "memory", "--episodes", "0"], "1..=1000000"),
        (&["record", "--store", "memory", "--writers", "2000"], "1..=1024"),
        (&["record", "--store", "memory", "--sync-delay-ms", "20000"], "0..=10000"),
        (&["record", "--store", "memory", "--episodes", "79", "--writers", "16"], "allowed: 80 and more"),
        (&["import", "--store", "memory", "--batch", "many"], "--batch"),
        (&["recall", "--store", "memory", "--episodes", "9"], "10..=1000000"),
    ];
    for (arguments, told) in cases {
        let output = load(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(told), "{arguments:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_has_an_example_of_each_command() {
    for command in ["record", "recall", "import", "export"] {
        let output = load(&[command, "--help"]);
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && help.contains(&format!("Example: load {command} ")), "{help}");
    }
}

#[test]
fn a_store_that_is_not_new_is_left_alone() {
    let bench = Bench::new();
    let store = bench.turso("m.db");
    let record = ["record", "--episodes", "10", "--rounds", "1", "--store", &store];
    bench.figures(&record);
    let output = load(&record);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("holds 10 episodes"), "{}", said(&output));
    let output = load(&["recall", "--episodes", "20", "--seed", "2", "--store", &store]);
    assert!(!output.status.success() && said(&output).contains("holds 10 episodes"), "{}", said(&output));
}

#[test]
fn without_a_compiler_syncs_are_unknown_and_cannot_be_delayed() {
    let bench = Bench::new();
    let json = bench.path("figures.json");
    let record = ["record", "--episodes", "10", "--rounds", "1", "--json", json.to_str().unwrap(), "--store"];
    let no_compiler = |arguments: &[&str]| program(arguments).env("PATH", bench.path("nothing")).output().unwrap();
    let output = no_compiler(&[&record[..], &[&bench.turso("m.db")]].concat());
    assert!(output.status.success() && said(&output).contains("syncs are not counted"), "{}", said(&output));
    let figures = read(&json);
    check_positive(&figures, RECORD);
    assert!(figures["syncs_per_record"].is_null() && figures["sustained_syncs_per_record"].is_null());
    let output = no_compiler(&[&record[..], &[&bench.turso("n.db"), "--sync-delay-ms", "1"]].concat());
    assert!(!output.status.success() && said(&output).contains("syncs cannot be delayed"), "{}", said(&output));
}
