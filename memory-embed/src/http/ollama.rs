//! Ollama's own `/api/embed`: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use serde::Deserialize;
use serde_json::{Value, json};

use super::dialect::{Asked, Component, Dialect, Probe, Vectors, numbers};

pub(super) const OLLAMA: Dialect = Dialect {
    provider: "ollama",
    version: "",
    route: "/api/embed",
    probes: &[Probe::Below("/api/version")],
    no_route: "the server has no /api/embed: is it Ollama, of 2024-07 (0.2.6) or newer?",
    request,
    read,
};

/// Without `truncate: false` it cuts what is too long, and says nothing.
fn request(asked: &Asked<'_>) -> Value {
    let mut request = json!({"model": asked.model, "input": asked.texts, "truncate": false});
    if let Some(dimensions) = asked.dimensions {
        request["dimensions"] = dimensions.into();
    }
    request
}

#[derive(Deserialize)]
struct Body {
    embeddings: Vec<Vec<Component>>,
}

fn read(body: &[u8]) -> Vectors {
    let Body { embeddings } = serde_json::from_slice(body)?;
    Ok(embeddings.into_iter().map(numbers).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_not_to_cut_texts_silently() {
        let texts = ["a".to_owned(), "b".to_owned()];
        let asked = Asked { model: "m", texts: &texts, dimensions: None };
        assert_eq!(request(&asked), json!({"model": "m", "input": ["a", "b"], "truncate": false}));
        let asked = Asked { dimensions: Some(64), ..asked };
        assert_eq!(request(&asked)["dimensions"], 64);
    }

    #[test]
    fn reads_vectors_and_leaves_the_rest() {
        let body = br#"{"model":"m","embeddings":[[0.5,-1],[1e-3,null]],"total_duration":14143917,"load_duration":1019500,"prompt_eval_count":8}"#;
        let vectors = read(body).unwrap();
        assert_eq!(vectors[0], [0.5, -1.0]);
        assert!(vectors[1][1].is_nan());
        assert!(read(br#"{"embeddings":[]}"#).unwrap().is_empty());
        assert!(read(br#"{"embedding":[1.0]}"#).is_err());
    }
}
