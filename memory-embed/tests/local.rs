//! A model in the process: its values, long and odd texts, and directories that it refuses.
#![cfg(all(feature = "local", unix))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{assert_known_values, embed, linked, minilm};
use memory_core::{Embedder, Error, ErrorKind, HashEmbedder, Role};
use memory_embed::{LocalEmbedder, Model, TooLong};
use tempfile::TempDir;
use tokio::sync::OnceCell;

static SHARED: OnceCell<Arc<LocalEmbedder>> = OnceCell::const_new();

/// The model, read once for all tests.
async fn local() -> Option<Arc<LocalEmbedder>> {
    let directory = minilm()?;
    let open = async || Arc::new(LocalEmbedder::open(directory, None).await.unwrap());
    Some(Arc::clone(SHARED.get_or_init(open).await))
}

mod contract {
    use super::*;

    memory_core::embedder_contract_tests!(async || -> Arc<dyn Embedder> {
        match local().await {
            Some(local) => local as Arc<dyn Embedder>,
            None => Arc::new(HashEmbedder::new()),
        }
    });
}

#[tokio::test]
async fn gives_the_known_vectors() {
    let Some(local) = local().await else { return };
    assert_known_values(&*local).await;
    let space = local.space();
    assert_eq!((space.provider.as_str(), space.model.as_str(), space.dimensions), ("local", "model", 384));
    assert_eq!((space.revision.len(), space.normalised), (16, true));
}

/// The mask leaves out what shorter texts are filled up with.
#[tokio::test]
async fn a_text_in_a_batch_has_the_vector_it_has_alone() {
    let Some(local) = local().await else { return };
    let texts = common::texts();
    let together = embed(&*local, &texts).await;
    for (text, vector) in texts.iter().zip(&together) {
        let alone = &embed(&*local, &[text]).await[0];
        assert!(alone.cosine(vector) > 0.999_999, "{} for {text:?}", alone.cosine(vector));
    }
}

#[tokio::test]
async fn no_text_is_cut() {
    let Some(local) = local().await else { return };
    // Words of one token each: more than the 256 that the model takes, and fit into the bytes that a piece may have.
    let words = "test ".repeat(256);
    let (one, other) = (format!("{words}{}", "database ".repeat(20)), format!("{words}{}", "elephant ".repeat(20)));
    let vectors = embed(&*local, &[&one, &other]).await;
    assert!(vectors[0].cosine(&vectors[1]) < 0.9999, "the last words count");
}

#[tokio::test]
async fn a_text_of_too_many_tokens_is_refused_where_it_may_not_be_split() {
    let Some(directory) = minilm() else { return };
    let model = Model::new("all-MiniLM-L6-v2").with_longest_text(10_000, TooLong::Refuse);
    let local = LocalEmbedder::open(directory, Some(model)).await.unwrap();
    let error = local.embed(Role::Query, &["fine", &"test ".repeat(300)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("302 tokens long; allowed: up to 256 tokens"), "{error}");
}

/// Calls that nobody waits for any more neither wedge the model nor mix answers up.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_leaves_the_others_as_they_are() {
    let Some(local) = local().await else { return };
    let long = vec!["a sentence of a few words ".repeat(30); 32];
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(5), embed(&*local, &long)).await;
    assert!(dropped.is_err(), "it was under way");
    assert_known_values(&*local).await;
}

#[tokio::test]
async fn another_revision_of_the_weights_is_another_space() {
    let Some(directory) = Broken::new() else { return };
    let open = async |model| LocalEmbedder::open(directory.path(), model).await.unwrap().space().clone();
    let before = open(None).await;
    directory.replace("model.safetensors", |weights| *weights.last_mut().unwrap() ^= 1);
    assert_ne!(open(None).await.revision, before.revision);
    let named = open(Some(Model::new("mine").with_revision("7"))).await;
    assert_eq!((named.model.as_str(), named.revision.as_str()), ("mine", "7"));
}

#[tokio::test]
async fn a_directory_without_a_model_is_refused() {
    let error = open_error(Path::new("/nowhere"), None).await;
    assert_says(&error, &["directory is /nowhere, whose config.json cannot be read", "allowed: a directory with"]);
    for missing in ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"] {
        let Some(directory) = Broken::new() else { return };
        std::fs::remove_file(directory.path().join(missing)).unwrap();
        let path = directory.path().display().to_string();
        assert_says(&open_error(directory.path(), None).await, &["directory is", &path, missing, "No such file"]);
    }
}

#[tokio::test]
async fn another_kind_of_model_is_refused() {
    for (file, from, to, says) in [
        ("config.json", r#""bert""#, r#""roberta""#, r#"config.json: model_type is "roberta"; allowed: "bert""#),
        ("config.json", r#""model_type""#, r#""type""#, r#"model_type is missing; allowed: "bert""#),
        (
            "config.json",
            r#""absolute""#,
            r#""relative_key""#,
            "config.json cannot be read: unknown variant `relative_key`",
        ),
        ("config.json", r#""intermediate_size": 1536"#, r#""intermediate_size": 1535"#, "model.safetensors is"),
        ("config.json", r#""vocab_size": 30522"#, r#""vocab_size": 9"#, "model.safetensors is"),
        (
            "1_Pooling/config.json",
            r#""pooling_mode_mean_tokens": true"#,
            r#""x": 1"#,
            "what is true is []; allowed: pooling_mode_mean",
        ),
        (
            "1_Pooling/config.json",
            r#"max_tokens": false"#,
            r#"max_tokens": true"#,
            r#"["pooling_mode_max_tokens", "pooling_mode_mean"#,
        ),
        ("tokenizer.json", "WordPiece", "Sorcery", "tokenizer.json cannot be read"),
        ("sentence_bert_config.json", "256", "\"many\"", "sentence_bert_config.json cannot be read"),
    ] {
        let Some(directory) = Broken::new() else { return };
        directory.replace(file, |text| {
            let changed = String::from_utf8(std::mem::take(text)).unwrap().replace(from, to);
            *text = changed.into();
        });
        assert_says(&open_error(directory.path(), None).await, &[says]);
    }
    let Some(directory) = Broken::new() else { return };
    directory.replace("model.safetensors", |weights| weights.truncate(1_000));
    assert_says(&open_error(directory.path(), None).await, &["model.safetensors is", "allowed: the weights"]);
}

#[tokio::test]
async fn a_description_that_does_not_fit_the_model_is_refused() {
    let Some(directory) = minilm() else { return };
    let error = open_error(&directory, Some(Model::new("m").with_dimensions(768))).await;
    assert_says(&error, &["model.dimensions is 768; allowed: 384, as the model has"]);
    assert_says(&open_error(&directory, Some(Model::new(""))).await, &["model.name is \"\""]);
}

/// The first token's vector instead of the mean.
#[tokio::test]
async fn pools_as_the_directory_says() {
    let Some(directory) = Broken::new() else { return };
    let pooling = br#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    directory.replace("1_Pooling/config.json", |text| *text = pooling.into());
    let first = LocalEmbedder::open(directory.path(), None).await.unwrap();
    let Some(mean) = local().await else { return };
    let (first, mean) = (embed(&first, &["hello world"]).await, embed(&*mean, &["hello world"]).await);
    assert!(first[0].cosine(&mean[0]) < 0.99);
}

async fn open_error(directory: &Path, model: Option<Model>) -> Error {
    LocalEmbedder::open(directory, model).await.unwrap_err()
}

fn assert_says(error: &Error, parts: &[&str]) {
    assert_eq!(error.kind(), ErrorKind::Invalid);
    for part in parts {
        assert!(error.to_string().contains(part), "no {part:?} in: {error}");
    }
}

/// The model's directory, to break one of its files.
struct Broken {
    folder: TempDir,
}

impl Broken {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        linked(&minilm()?, folder.path());
        Some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn replace(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path: PathBuf = self.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let before = bytes.clone();
        change(&mut bytes);
        assert_ne!(bytes, before, "{file} is to be changed");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}
