//! OpenAI's `/v1/embeddings`, which nearly all servers speak: <https://platform.openai.com/docs/api-reference/embeddings>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Unreadable;
use super::dialect::{Asked, Component, Dialect, Probe, Vectors, numbers};

pub(super) const OPENAI: Dialect = Dialect {
    provider: "openai",
    version: "/v1",
    route: "/embeddings",
    probes: &[Probe::Below("/models"), Probe::Beside("/health")],
    no_route: "the server has no such route: the address is to end before /embeddings, mostly with /v1",
    request,
    read,
};

/// The health of these tells whether a model is loaded; the list of models is there before.
pub(super) const MLX: Dialect = Dialect {
    provider: "mlx",
    probes: &[Probe::Beside("/health"), Probe::Below("/models")],
    no_route: "the server has no embeddings route: mlx-lm's has none; take that of mlx-vlm, vllm-mlx, mlx-openai-server or \
               mlx-omni-server",
    ..OPENAI
};

fn request(asked: &Asked<'_>) -> Value {
    // An empty text is refused by OpenAI; to a model it is the same as a space.
    let texts: Vec<&str> = asked.texts.iter().map(|text| if text.is_empty() { " " } else { text }).collect();
    let mut request = json!({"model": asked.model, "input": texts, "encoding_format": "float"});
    if let Some(dimensions) = asked.dimensions {
        request["dimensions"] = dimensions.into();
    }
    request
}

#[derive(Deserialize)]
struct Body {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Embedding,
}

/// Servers answer in base64 unasked, too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Embedding {
    Numbers(Vec<Component>),
    Base64(String),
}

fn read(body: &[u8]) -> Vectors {
    let Body { data } = serde_json::from_slice(body)?;
    let count = data.len();
    let mut places: Vec<Option<Vec<f32>>> = (0..count).map(|_| None).collect();
    for Item { index, embedding } in data {
        match places.get_mut(index) {
            None => return Err(Unreadable::Form(format!("index {index} of {count} vectors"))),
            Some(Some(_)) => return Err(Unreadable::Form(format!("index {index} twice"))),
            Some(place) => *place = Some(vector(embedding)?),
        }
    }
    // As many as there are places, each in another: all are there.
    Ok(places.into_iter().flatten().collect())
}

fn vector(embedding: Embedding) -> Result<Vec<f32>, Unreadable> {
    match embedding {
        Embedding::Numbers(components) => Ok(numbers(components)),
        Embedding::Base64(text) => decoded(&text).ok_or_else(|| {
            Unreadable::Form("a text for a vector that is no base64 of numbers of four bytes".to_owned())
        }),
    }
}

/// Numbers of four bytes, the lowest first.
fn decoded(text: &str) -> Option<Vec<f32>> {
    let bytes = STANDARD.decode(text).ok()?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_numbers_and_never_for_an_empty_text() {
        let texts = ["a".to_owned(), String::new()];
        let asked = Asked { model: "m", texts: &texts, dimensions: None };
        assert_eq!(request(&asked), json!({"model": "m", "input": ["a", " "], "encoding_format": "float"}));
        assert_eq!(request(&Asked { dimensions: Some(64), ..asked })["dimensions"], 64);
    }

    #[test]
    fn sorts_by_index_and_reads_both_encodings() {
        let base64 = STANDARD.encode([0.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat());
        let body = json!({"object": "list", "model": "m", "usage": null, "data": [
            {"object": "embedding", "index": 1, "embedding": [1.0, 2.0]},
            {"object": "embedding", "index": 0, "embedding": base64},
        ]});
        assert_eq!(read(body.to_string().as_bytes()).unwrap(), [[0.5, -2.0], [1.0, 2.0]]);
        assert!(read(br#"{"data":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn refuses_places_that_cannot_be() {
        for (data, said) in [
            (r#"[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]"#, "index 0 twice"),
            (r#"[{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}]"#, "index 2 of 2"),
            (r#"[{"index":-1,"embedding":[1]}]"#, "-1"),
            (r#"[{"embedding":[1]}]"#, "index"),
            (r#"[{"index":0,"embedding":"no base64!"}]"#, "base64"),
            (r#"[{"index":0,"embedding":"AAA="}]"#, "four bytes"),
        ] {
            let why = read(format!(r#"{{"data":{data}}}"#).as_bytes()).unwrap_err();
            assert!(format!("{why:?}").contains(said), "{why:?}");
        }
    }
}
