//! MLX in a child process: with the real thing, and with children that misbehave.
#![cfg(all(feature = "process", unix))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{assert_known_values, embed, linked, minilm, mlx_python};
use memory_core::{Embedder, Error, ErrorKind, Role};
use memory_embed::{MlxEmbedder, Model, ProcessConfig};
use tempfile::TempDir;

/// A real child, in a path with spaces. Killed under way, it is started again and the request made once more.
#[tokio::test(flavor = "multi_thread")]
async fn mlx_gives_the_known_vectors_and_survives_being_killed() {
    let (Some(directory), Some(python)) = (minilm(), mlx_python()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let spaced = folder.path().join("a folder with spaces/the model's");
    linked(&directory, &spaced);
    let config = ProcessConfig::new(&spaced).with_python(python);
    let mlx = MlxEmbedder::start(config, Model::new("all-MiniLM-L6-v2")).await.unwrap();
    assert_known_values(&mlx).await;
    assert_eq!((mlx.space().provider.as_str(), mlx.space().dimensions), ("mlx", 384));

    let kill = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        kill_child_with(&spaced);
    };
    let texts: Vec<String> = (0..4).map(|n| format!("sentence {n} of many words, {}", "again ".repeat(50))).collect();
    let (vectors, ()) = tokio::join!(embed(&mlx, &texts), kill);
    assert_eq!(vectors.len(), 4);
    assert_known_values(&mlx).await;

    kill_child_with(&spaced);
    mlx.health().await.unwrap();
    #[cfg(feature = "local")]
    {
        let local = memory_embed::LocalEmbedder::open(directory, None).await.unwrap();
        common::assert_same_vectors(&mlx, &local).await;
    }
}

#[tokio::test]
async fn mlx_without_a_model_says_what_python_said() {
    let Some(python) = mlx_python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let error = start_error(ProcessConfig::new(folder.path()).with_python(python)).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_says(
        &error,
        &["the child process ended (exit status: 1)", "its last words", "FileNotFoundError", "config.json"],
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let there = || ProcessConfig::new("/tmp");
    let (second, zero, long) = (Duration::from_secs(1), Duration::ZERO, Duration::from_secs(86_401));
    for (config, says) in [
        (ProcessConfig::new("/no where"), "directory is \"/no where\"; allowed: the directory of a model"),
        (there().with_python(""), "python is empty; allowed: a Python interpreter"),
        (there().with_python("/no/python"), "python is /no/python, which cannot be started: No such file"),
        (there().with_python("/tmp"), "python is /tmp, which cannot be started: Permission denied"),
        (there().with_limits(zero, second), "start_limit is 0ns; allowed: more than 0, up to 24 hours"),
        (there().with_limits(second, long), "request_limit is 86401s; allowed"),
        (there().with_longest_pause(zero), "longest_pause is 0ns; allowed: 250 ms to 24 hours"),
    ] {
        let error = start_error(config).await;
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_says(&error, &[says]);
    }
    let error = MlxEmbedder::start(there(), Model::new("")).await.unwrap_err();
    assert_says(&error, &["model.name"]);
}

#[tokio::test]
async fn an_interpreter_that_is_none_is_told_by_its_own_words() {
    let error = start_error(ProcessConfig::new("/tmp").with_python("cat")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_says(&error, &["exit status: 1", "cat: "]);
}

#[tokio::test]
async fn a_child_that_dies_under_way_is_started_again_and_asked_again() {
    // The first dies at its second request; all later ones live.
    let fake = Fake::new(
        r#"*die*) [ -e "$0.died" ] || { touch "$0.died"; echo "out of memory" >&2; exit 9; }; answer '[[0,1]]';;"#,
    );
    let mlx = fake.start().await;
    assert_eq!(embed(&mlx, &["die"]).await[0].as_slice(), [0.0, 1.0]);
    assert_eq!(fake.starts(), 2);
    assert_eq!(embed(&mlx, &["hello"]).await[0].as_slice(), [1.0, 0.0]);
    assert_eq!(fake.starts(), 2, "the second goes on");
}

#[tokio::test]
async fn a_text_that_kills_every_child_is_an_error_and_no_endless_loop() {
    let fake = Fake::new("*die*) echo 'out of memory' >&2; exit 9;;");
    let mlx = fake.start().await;
    let error = mlx.embed(Role::Query, &["die"]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary());
    assert_says(&error, &["the child process ended (exit status: 9); its last words: out of memory"]);
    assert_eq!(fake.starts(), 2, "asked once more, and no oftener");

    let error = mlx.embed(Role::Query, &["hello"]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary());
    let pause = error.retry_after().unwrap();
    assert!(pause <= Duration::from_millis(250), "{pause:?}");
    assert_eq!(fake.starts(), 2, "not started before the pause is over");
    tokio::time::sleep(pause).await;
    assert_eq!(embed(&mlx, &["hello"]).await[0].as_slice(), [1.0, 0.0]);
}

#[tokio::test]
async fn a_child_that_does_not_answer_in_time_is_ended() {
    let fake = Fake::new("*slow*) sleep 60;;");
    let config = fake.config().with_limits(Duration::from_secs(20), Duration::from_millis(300));
    let mlx = MlxEmbedder::start(config, Model::new("m")).await.unwrap();
    let error = mlx.embed(Role::Query, &["slow"]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::TimedOut && error.is_temporary());
    assert_says(&error, &["took more than 300ms to answer"]);
    assert_eq!(embed(&mlx, &["hello"]).await[0].as_slice(), [1.0, 0.0]);
    assert_eq!(fake.starts(), 2);
}

#[tokio::test]
async fn a_child_that_does_not_start_in_time_is_ended() {
    let fake = Fake::with("sleep 60");
    let config = fake.config().with_limits(Duration::from_millis(300), Duration::from_secs(1));
    let error = start_error(config).await;
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_says(&error, &["took more than 300ms to load its model"]);
}

#[tokio::test]
async fn answers_that_are_none_are_errors() {
    // Of a child that does not keep to the lines, another is started; one that keeps to them stays.
    for (answers, says, starts) in [
        ("echo hello", "its answer is \"hello\\n\"", 2),
        ("echo '{\"id\":77,\"embeddings\":[[1,0]]}'", "it answered request 77", 2),
        ("echo '{\"id\":'$id'}'", "neither with embeddings nor with an error", 2),
        ("answer '[[NaN,0]]'", "its answer is", 2),
        ("answer '[[1,0],[1,0]]'", "2 vectors for 1 texts", 1),
        ("answer '[[1,0,0]]'", "a vector of 3 components", 1),
        ("echo '{\"id\":'$id',\"error\":\"MemoryError: no\"}'", "the child process answered: MemoryError: no", 1),
    ] {
        let fake = Fake::new(&format!("*odd*) {answers};;"));
        let mlx = fake.start().await;
        let error = mlx.embed(Role::Query, &["odd"]).await.unwrap_err();
        assert_says(&error, &[says]);
        assert_eq!(fake.starts(), starts, "{error}");
    }
}

/// A call that is dropped under way does not have its answer taken for the next one's.
#[tokio::test]
async fn a_dropped_call_is_not_answered_to_the_next_one() {
    let fake = Fake::new("*slow*) sleep 0.3; answer '[[0,1]]';;");
    let mlx = fake.start().await;
    let dropped = tokio::time::timeout(Duration::from_millis(50), embed(&mlx, &["slow"])).await;
    assert!(dropped.is_err(), "it was under way");
    assert_eq!(embed(&mlx, &["hello"]).await[0].as_slice(), [1.0, 0.0]);
    assert_eq!(fake.starts(), 1);
}

#[tokio::test]
async fn a_child_ends_with_its_embedder() {
    let fake = Fake::new("*never*) ;;");
    let mlx = fake.start().await;
    let pid = std::fs::read_to_string(fake.file("pid")).unwrap();
    let alive = || Path::new("/proc").join(pid.trim()).join("exe").exists();
    assert!(alive());
    drop(mlx);
    let begun = Instant::now();
    while alive() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the child goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn start_error(config: ProcessConfig) -> Error {
    MlxEmbedder::start(config, Model::new("m")).await.unwrap_err()
}

fn assert_says(error: &Error, parts: &[&str]) {
    for part in parts {
        assert!(error.to_string().contains(part), "no {part:?} in: {error}");
    }
}

/// Kills, as the system does that is out of memory, the child that has this argument.
fn kill_child_with(argument: &Path) {
    let children = std::fs::read_dir("/proc").unwrap().flatten().filter(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|one| one == argument.as_os_str().as_encoded_bytes())
    });
    let killed = children.map(|process| Command::new("kill").arg("-9").arg(process.file_name()).status().unwrap());
    assert_eq!(killed.count(), 1, "one child");
}

/// A shell script that poses as a Python interpreter with MLX; its vector of every text is [1, 0].
struct Fake {
    folder: TempDir,
}

impl Fake {
    /// Answers otherwise in some cases.
    fn new(cases: &str) -> Self {
        Self::with(&format!(
            r#"
            answer() {{ printf '{{"id":%s,"embeddings":%s}}\n' "$id" "$1"; }}
            echo '{{"ready": true}}'
            while read -r line; do
              id="${{line#*:}}"; id="${{id%%,*}}"
              case "$line" in
                {cases}
                *) answer '[[1,0]]';;
              esac
            done"#
        ))
    }

    fn with(script: &str) -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap() };
        let head = r#"echo "$$" > "$0.pid"; echo start >> "$0.starts""#;
        std::fs::write(fake.python(), format!("#!/bin/sh\n{head}\n{script}\n")).unwrap();
        std::fs::set_permissions(fake.python(), PermissionsExt::from_mode(0o755)).unwrap();
        fake
    }

    fn python(&self) -> PathBuf {
        self.folder.path().join("python")
    }

    /// What the script wrote.
    fn file(&self, extension: &str) -> PathBuf {
        self.python().with_extension(extension)
    }

    fn starts(&self) -> u32 {
        u32::try_from(std::fs::read_to_string(self.file("starts")).unwrap().lines().count()).unwrap()
    }

    fn config(&self) -> ProcessConfig {
        ProcessConfig::new(self.folder.path()).with_python(self.python())
    }

    async fn start(&self) -> MlxEmbedder {
        MlxEmbedder::start(self.config(), Model::new("m")).await.unwrap()
    }
}
