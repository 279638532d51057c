//! The older `/embed`, of home-made servers.

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Unreadable;
use super::dialect::{Asked, Component, Dialect, Probe, Vectors, numbers};

pub(super) const ROUTE: Dialect = Dialect {
    provider: "embed",
    version: "",
    route: "/embed",
    probes: &[Probe::Below("/health")],
    no_route: "the server has no /embed",
    request,
    read,
};

/// Some servers read `input`, others `texts`.
fn request(asked: &Asked<'_>) -> Value {
    json!({"model": asked.model, "input": asked.texts, "texts": asked.texts})
}

#[derive(Deserialize)]
struct Body {
    embeddings: Option<Vec<Vec<Component>>>,
    embedding: Option<Vec<Component>>,
}

fn read(body: &[u8]) -> Vectors {
    match serde_json::from_slice(body)? {
        Body { embeddings: Some(all), .. } => Ok(all.into_iter().map(numbers).collect()),
        Body { embedding: Some(one), .. } => Ok(vec![numbers(one)]),
        _ => Err(Unreadable::Form("neither `embeddings` nor `embedding`".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_under_both_names() {
        let texts = ["a".to_owned()];
        let asked = Asked { model: "m", texts: &texts, dimensions: None };
        assert_eq!(request(&asked), json!({"model": "m", "input": ["a"], "texts": ["a"]}));
    }

    #[test]
    fn reads_one_or_many() {
        assert_eq!(read(br#"{"embeddings":[[1],[2]]}"#).unwrap(), [[1.0], [2.0]]);
        assert_eq!(read(br#"{"embedding":[1,2]}"#).unwrap(), [[1.0, 2.0]]);
        assert!(matches!(read(b"{}"), Err(Unreadable::Form(_))));
    }
}
