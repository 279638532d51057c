//! The directory of a model.

use std::io::ErrorKind::NotFound;
use std::path::Path;

use candle_transformers::models::bert::Config;
use memory_core::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokenizers::Tokenizer;
use xxhash_rust::xxh3::Xxh3;

use crate::Model;

/// A model, as it was read.
pub(super) struct Files {
    /// The directory's name.
    name: String,
    /// A hash of all that vectors depend on.
    revision: String,
    pub(super) config: Config,
    pub(super) pooling: Pooling,
    pub(super) tokenizer: Tokenizer,
    /// In the safetensors format.
    pub(super) weights: Vec<u8>,
    /// Tokens of a text, at most.
    pub(super) longest: usize,
}

/// Which of the tokens' vectors is the text's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    Mean,
    /// That of the first token.
    First,
}

const CONFIG: &str = "config.json";
const POOLING: &str = "1_Pooling/config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
/// Says how long texts may be, where that is less than there are positions.
const LENGTH: &str = "sentence_bert_config.json";

#[derive(Deserialize)]
struct Family {
    model_type: Option<String>,
}

#[derive(Deserialize)]
struct Length {
    max_seq_length: Option<usize>,
}

impl Files {
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let config = read(directory, CONFIG)?;
        let pooling = read(directory, POOLING)?;
        let tokenizer = read(directory, TOKENIZER)?;
        let weights = read(directory, WEIGHTS)?;
        let family: Family = parse(directory, CONFIG, &config)?;
        if family.model_type.as_deref() != Some("bert") {
            let value = family.model_type.map_or_else(|| "missing".to_owned(), |family| format!("{family:?}"));
            return Err(invalid(directory, CONFIG, "model_type", value, "\"bert\""));
        }
        let mut hash = Xxh3::new();
        [&config, &pooling, &tokenizer, &weights].into_iter().for_each(|bytes| hash.update(bytes));
        let config: Config = parse(directory, CONFIG, &config)?;
        let positions = config.max_position_embeddings;
        Ok(Self {
            name: name(directory),
            revision: format!("{:016x}", hash.digest()),
            pooling: Pooling::parse(directory, &pooling)?,
            tokenizer: tokenizer_of(directory, &tokenizer)?,
            longest: longest(directory)?.map_or(positions, |longest| longest.min(positions)),
            weights,
            config,
        })
    }

    /// The model with what is not said of it, if it can be this one.
    pub(super) fn describe(&self, model: Option<Model>) -> Result<Model> {
        let mut model = model.unwrap_or_else(|| Model::new(&self.name));
        if model.revision.is_empty() {
            model.revision.clone_from(&self.revision);
        }
        let (found, said) = (self.config.hidden_size, model.dimensions);
        match said.filter(|said| *said != found) {
            Some(said) => Err(Error::invalid("model.dimensions", said, format_args!("{found}, as the model has"))),
            None => Ok(model),
        }
    }
}

impl Pooling {
    fn parse(directory: &Path, file: &[u8]) -> Result<Self> {
        let all: Map<String, Value> = parse(directory, POOLING, file)?;
        let modes =
            all.iter().filter(|(name, value)| name.starts_with("pooling_mode_") && **value == Value::Bool(true));
        let modes: Vec<&str> = modes.map(|(name, _)| name.as_str()).collect();
        match modes[..] {
            ["pooling_mode_mean_tokens"] => Ok(Self::Mean),
            ["pooling_mode_cls_token"] => Ok(Self::First),
            _ => {
                let value = format!("{modes:?}");
                Err(invalid(
                    directory,
                    POOLING,
                    "what is true",
                    value,
                    "pooling_mode_mean_tokens or pooling_mode_cls_token",
                ))
            }
        }
    }
}

fn name(directory: &Path) -> String {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The tokenizer, which neither cuts texts nor fills them up.
fn tokenizer_of(directory: &Path, file: &[u8]) -> Result<Tokenizer> {
    let unreadable = |error| unreadable(directory, TOKENIZER, error);
    let mut tokenizer = Tokenizer::from_bytes(file).map_err(unreadable)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(unreadable)?;
    Ok(tokenizer)
}

fn longest(directory: &Path) -> Result<Option<usize>> {
    match std::fs::read(directory.join(LENGTH)) {
        Ok(file) => Ok(parse::<Length>(directory, LENGTH, &file)?.max_seq_length),
        Err(error) if error.kind() == NotFound => Ok(None),
        Err(error) => Err(unreadable(directory, LENGTH, error)),
    }
}

fn read(directory: &Path, file: &str) -> Result<Vec<u8>> {
    std::fs::read(directory.join(file)).map_err(|error| unreadable(directory, file, error))
}

fn parse<T: DeserializeOwned>(directory: &Path, file: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(directory, file, error))
}

/// The error for a file that is missing or not what it should be.
pub(super) fn unreadable(
    directory: &Path,
    file: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let error = error.into();
    let value = format!("{}, whose {file} cannot be read: {error}", directory.display());
    let range = format_args!(
        "a directory with {CONFIG}, {WEIGHTS}, {TOKENIZER} and {POOLING} of a BERT model, as sentence-transformers saves it"
    )
    .to_string();
    Error::invalid("directory", value, range).with_source(error)
}

fn invalid(directory: &Path, file: &str, field: &str, value: String, range: &str) -> Error {
    Error::invalid(&format!("{}: {field}", directory.join(file).display()), value, range)
}
