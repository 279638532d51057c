//! BERT, in candle.

use candle_core::{DType, Device, Result as Computed, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::BertModel;
use memory_core::{Error, ErrorKind, Result};
use tokenizers::{Encoding, Tokenizer};

use super::files::{Files, Pooling};
use crate::client::Failure;

pub(super) struct Bert {
    model: BertModel,
    tokenizer: Tokenizer,
    pooling: Pooling,
    longest: usize,
}

impl Bert {
    pub(super) fn load(files: Files) -> Result<Self> {
        let Files { config, pooling, tokenizer, weights, longest, .. } = files;
        let model = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)
            .and_then(|weights| BertModel::load(weights, &config))
            .map_err(|error| {
                Error::invalid("model.safetensors", &error, "the weights of the model of config.json")
                    .with_source(error)
            })?;
        Ok(Self { model, tokenizer, pooling, longest })
    }

    /// One vector for each text.
    pub(super) fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
        let texts = texts.iter().map(|text| self.encode(text)).collect::<Result<Vec<_>, _>>()?;
        let vectors = self.compute(&texts).map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("the model cannot take these texts: {error}")).with_source(error)
        })?;
        Ok(vectors)
    }

    fn encode(&self, text: &str) -> Result<Encoding, Failure> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("the tokenizer cannot take a text: {error}")).with_source(error)
        })?;
        if encoding.len() > self.longest {
            let allowed = format_args!("up to {} tokens", self.longest).to_string();
            return Err(Failure::TooLong(Error::invalid(
                "text",
                format_args!("{} tokens long", encoding.len()),
                allowed,
            )));
        }
        Ok(encoding)
    }

    fn compute(&self, texts: &[Encoding]) -> Computed<Vec<Vec<f32>>> {
        let length = texts.iter().map(Encoding::len).max().unwrap_or(0);
        let batch = |of: fn(&Encoding) -> &[u32]| {
            let filled = texts.iter().flat_map(|text| {
                let padding = std::iter::repeat_n(0, length - text.len());
                of(text).iter().copied().chain(padding)
            });
            Tensor::from_vec(filled.collect(), (texts.len(), length), &Device::Cpu)
        };
        let mask = batch(Encoding::get_attention_mask)?;
        let tokens = self.model.forward(&batch(Encoding::get_ids)?, &batch(Encoding::get_type_ids)?, Some(&mask))?;
        match self.pooling {
            Pooling::First => tokens.narrow(1, 0, 1)?.squeeze(1)?,
            Pooling::Mean => {
                let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
                tokens.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?
            }
        }
        .to_vec2()
    }
}
