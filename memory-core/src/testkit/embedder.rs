//! The contract kit of embedders: every promise of [`Embedder`] as a test.
//!
//! Each behaviour is an `async fn(&dyn Embedder)`. [`embedder_contract_tests!`](crate::embedder_contract_tests) makes a test
//! of each.

use crate::testkit::samples::awkward_texts;
use crate::{Embedder, Role, Vector};

/// Makes one `#[tokio::test]` of each behaviour in [`embedder`](crate::testkit::embedder), named like it.
///
/// The argument is an async function or closure without arguments that gives an embedder.
///
/// ```
/// mod contract {
///     memory_core::embedder_contract_tests!(async || memory_core::HashEmbedder::new());
/// }
/// ```
#[macro_export]
macro_rules! embedder_contract_tests {
    ($factory:expr) => {
        $crate::embedder_contract_tests! { @tests $factory;
            embeds_each_text_on_its_own,
            embeds_alike_every_time,
            embeds_nothing_as_nothing,
            embeds_a_thousand_texts,
            embeds_odd_texts,
            is_healthy_and_has_a_name,
        }
    };
    (@tests $factory:expr; $($behaviour:ident,)*) => {
        $(
            #[::tokio::test(flavor = "multi_thread")]
            async fn $behaviour() {
                let embedder = ($factory)().await;
                $crate::testkit::embedder::$behaviour(&embedder).await;
            }
        )*
    };
}

const TEXTS: [&str; 3] = ["make the login test pass", "quarterly revenue by region", "deploy the staging server"];

/// Embeds and checks what holds for every answer: as many as texts, of the space's dimensions, and of length 1 where the
/// space says so (0 for a text in which the embedder sees nothing).
async fn embed(embedder: &dyn Embedder, role: Role, texts: &[&str]) -> Vec<Vector> {
    let vectors = embedder.embed(role, texts).await.expect("embeds");
    assert_eq!(vectors.len(), texts.len(), "one vector for each text");
    for (vector, text) in vectors.iter().zip(texts) {
        assert_eq!(vector.dimensions(), embedder.space().dimensions, "the space's dimensions, for {text:?}");
        let length = vector.as_slice().iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!(length.is_finite(), "finite components, for {text:?}");
        let unit = (length - 1.0).abs() < 1e-3 || length == 0.0;
        assert!(unit || !embedder.space().normalised, "length 1 in a normalised space, not {length}, for {text:?}");
    }
    vectors
}

/// Equal but for the rounding that batching may change in a model.
fn assert_alike(a: &Vector, b: &Vector, why: &str) {
    let scale = a.as_slice().iter().fold(1e-6_f32, |most, x| most.max(x.abs()));
    let alike = a.as_slice().iter().zip(b.as_slice()).all(|(x, y)| (x - y).abs() <= scale * 1e-2);
    assert!(alike, "{why}: {a:?} is not {b:?}");
}

/// The answers stand in the order of the texts, and do not depend on the other texts of the call.
pub async fn embeds_each_text_on_its_own(embedder: &dyn Embedder) {
    for role in [Role::Query, Role::Document] {
        let together = embed(embedder, role, &TEXTS).await;
        let reversed = embed(embedder, role, &[TEXTS[2], TEXTS[1], TEXTS[0]]).await;
        for (place, text) in TEXTS.iter().enumerate() {
            let alone = embed(embedder, role, &[text]).await;
            assert_alike(&alone[0], &together[place], "alone as together");
            assert_alike(&alone[0], &reversed[2 - place], "alone as reversed");
            assert!(alone[0].cosine(&together[(place + 1) % 3]) < 0.999, "different texts, different vectors");
        }
    }
}

/// The same text has the same vector in every call and at every place, and the space stays the same.
pub async fn embeds_alike_every_time(embedder: &dyn Embedder) {
    let space = embedder.space().clone();
    let first = embed(embedder, Role::Document, &[TEXTS[0], TEXTS[0]]).await;
    let second = embed(embedder, Role::Document, &[TEXTS[0]]).await;
    assert_alike(&first[0], &first[1], "twice in a call");
    assert_alike(&first[0], &second[0], "in two calls");
    assert_eq!(*embedder.space(), space, "the space is the same for the embedder's whole life");
}

/// No texts give no vectors and no error.
pub async fn embeds_nothing_as_nothing(embedder: &dyn Embedder) {
    assert!(embed(embedder, Role::Query, &[]).await.is_empty());
}

/// There may be many texts in a call; the answers are still in order.
pub async fn embeds_a_thousand_texts(embedder: &dyn Embedder) {
    let texts: Vec<String> = (0..1_000).map(|n| format!("task {n}: {}", TEXTS[n % 3])).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = embed(embedder, Role::Document, &texts).await;
    for place in [0, 1, 499, 500, 998, 999] {
        let alone = embed(embedder, Role::Document, &[texts[place]]).await;
        assert_alike(&alone[0], &vectors[place], "alone as among a thousand");
    }
}

/// Empty, very long and malformed-looking texts have vectors too.
pub async fn embeds_odd_texts(embedder: &dyn Embedder) {
    let texts = awkward_texts();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for role in [Role::Query, Role::Document] {
        embed(embedder, role, &texts).await;
    }
}

/// It says that it can serve, what it is, and how long its vectors are.
pub async fn is_healthy_and_has_a_name(embedder: &dyn Embedder) {
    embedder.health().await.expect("healthy");
    assert!(!embedder.to_string().is_empty(), "a name for people");
    assert!(embedder.space().dimensions > 0, "at least one dimension");
}
