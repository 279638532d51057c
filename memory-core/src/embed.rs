//! Vectors and where they come from.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// A vector of finite numbers, at least one long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f32>", into = "Vec<f32>")]
pub struct Vector {
    components: Arc<[f32]>,
    norm: f64,
}

impl Vector {
    /// A vector of these components.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if there is none, or one that is not finite.
    pub fn new(components: Vec<f32>) -> Result<Self> {
        if components.is_empty() {
            return Err(Error::invalid("vector", "empty", "at least one component"));
        }
        if let Some(place) = components.iter().position(|component| !component.is_finite()) {
            let field = format!("vector[{place}]");
            return Err(Error::invalid(&field, components[place], "finite numbers"));
        }
        let norm = dot(&components, &components).sqrt();
        Ok(Self { components: components.into(), norm })
    }

    /// The components.
    pub fn as_slice(&self) -> &[f32] {
        &self.components
    }

    /// How many components.
    pub fn dimensions(&self) -> usize {
        self.components.len()
    }

    /// Its Euclidean length.
    pub fn norm(&self) -> f64 {
        self.norm
    }

    /// The cosine of the angle to another vector, in [-1, 1]; 0 if one of them is zero.
    ///
    /// Components beyond the shorter vector are not looked at; stores check lengths before they compare.
    pub fn cosine(&self, other: &Self) -> f64 {
        let norms = self.norm * other.norm;
        if norms > 0.0 { (dot(&self.components, &other.components) / norms).clamp(-1.0, 1.0) } else { 0.0 }
    }
}

/// The sum of the products, with the instructions that the machine has. In double precision no product of two `f32` overflows
/// or vanishes.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    pulp::Arch::new().dispatch(Dot(a, b))
}

struct Dot<'a>(&'a [f32], &'a [f32]);

impl pulp::WithSimd for Dot<'_> {
    type Output = f64;

    /// Eight running sums, which the compiler keeps in vector registers; the order of the additions is fixed, so that every
    /// machine and every store computes the same number.
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
        const LANES: usize = 8;
        let Self(a, b) = self;
        let mut sums = [0.0_f64; LANES];
        let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (x, y) in a_chunks.iter().zip(b_chunks) {
            for lane in 0..LANES {
                sums[lane] += f64::from(x[lane]) * f64::from(y[lane]);
            }
        }
        let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        sums.iter().sum::<f64>() + rest
    }
}

impl TryFrom<Vec<f32>> for Vector {
    type Error = Error;

    fn try_from(components: Vec<f32>) -> Result<Self> {
        Self::new(components)
    }
}

impl From<Vector> for Vec<f32> {
    fn from(vector: Vector) -> Self {
        vector.components.to_vec()
    }
}

/// The identity of a vector space. Vectors of two spaces are never compared, even if they have the same length.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VectorSpace {
    /// Who computes the vectors.
    pub provider: String,
    /// With which model.
    pub model: String,
    /// In which revision of the model.
    pub revision: String,
    /// The length of the vectors.
    pub dimensions: usize,
    /// Whether their Euclidean length is 1 (or 0, for a text that says nothing).
    pub normalised: bool,
    /// What is put before a query's text.
    pub query_prefix: String,
    /// What is put before a document's text.
    pub document_prefix: String,
}

impl VectorSpace {
    /// Checks that a vector can be of this space.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if its length is another.
    pub fn check(&self, vector: &Vector) -> Result<()> {
        if vector.dimensions() == self.dimensions {
            return Ok(());
        }
        let value = format_args!("{} long", vector.dimensions()).to_string();
        Err(Error::invalid("vector", value, format_args!("{} components ({self})", self.dimensions)))
    }

    /// The error of a store in `self` that is asked to hold vectors of `other`.
    pub fn mismatch(&self, other: &Self) -> Error {
        Error::new(ErrorKind::SpaceMismatch, format!("the store holds vectors of {self}, not of {other}"))
    }
}

impl std::fmt::Display for VectorSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{} ({} dimensions", self.provider, self.model, self.revision, self.dimensions)?;
        f.write_str(if self.normalised { ", normalised" } else { "" })?;
        if !self.query_prefix.is_empty() || !self.document_prefix.is_empty() {
            write!(f, ", prefixes {:?} and {:?}", self.query_prefix, self.document_prefix)?;
        }
        f.write_str(")")
    }
}

/// What a text is to a vector search.
#[expect(clippy::exhaustive_enums, reason = "an embedder must know every role")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// What is looked for.
    Query,
    /// What is found.
    Document,
}

/// Turns texts into vectors of one space.
#[async_trait]
pub trait Embedder: Debug + Display + Send + Sync + 'static {
    /// The space of all vectors it returns; the same for its whole life.
    fn space(&self) -> &VectorSpace;

    /// One vector for each text, in the same order, each of the space's dimensions.
    ///
    /// # Errors
    /// The embedder's own errors; then there is no vector for any of the texts.
    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>>;

    /// Succeeds if it can serve.
    ///
    /// # Errors
    /// The embedder's own errors.
    async fn health(&self) -> Result<()>;
}

macro_rules! forward_embedder {
    ($pointer:ty) => {
        #[async_trait]
        impl<E: Embedder + ?Sized> Embedder for $pointer {
            fn space(&self) -> &VectorSpace {
                (**self).space()
            }
            async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
                (**self).embed(role, texts).await
            }
            async fn health(&self) -> Result<()> {
                (**self).health().await
            }
        }
    };
}
forward_embedder!(Arc<E>);
forward_embedder!(Box<E>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_a_vector() {
        assert!(Vector::new(vec![]).is_err());
        assert!(Vector::new(vec![0.0, f32::NAN]).unwrap_err().to_string().contains("vector[1] is NaN"));
        assert!(Vector::new(vec![f32::INFINITY]).is_err());
        assert!(serde_json::from_str::<Vector>("[]").is_err());
    }

    #[test]
    fn cosine_is_what_it_should_be() {
        let vector = |components: &[f32]| Vector::new(components.to_vec()).unwrap();
        assert_eq!(vector(&[3.0, 4.0]).cosine(&vector(&[6.0, 8.0])), 1.0);
        assert_eq!(vector(&[1.0, 0.0]).cosine(&vector(&[0.0, 2.0])), 0.0);
        assert_eq!(vector(&[0.0, 0.0]).cosine(&vector(&[1.0, 1.0])), 0.0);
        let long: Vec<f32> = (0_u8..100).map(f32::from).collect();
        let negative = long.iter().map(|x| -x).collect();
        for size in [1e-45, 1e-20, 1e20, f32::MAX] {
            assert_eq!(vector(&[size]).cosine(&vector(&[size])), 1.0, "{size}");
        }
        assert!((vector(&long).cosine(&Vector::new(negative).unwrap()) + 1.0).abs() < 1e-6);
    }
}
