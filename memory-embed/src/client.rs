//! What all embedders with a model have in common: prefixes, pieces of long texts, portions, and checks of every answer.

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use memory_core::{Error, ErrorKind, Result, Role, Vector, VectorSpace};

use crate::asking::PROBE;
use crate::pieces::{mean, normalise, pieces};
use crate::{Model, TooLong};

/// Where a model runs.
#[async_trait]
pub(crate) trait Backend: Debug + Display + Send + Sync + 'static {
    /// One vector for each text, in order, as the model gives them.
    async fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Failure>;

    /// Succeeds if it can serve.
    async fn health(&self) -> Result<()>;
}

/// Why there are no vectors.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A text is longer than the model takes; shorter pieces may do.
    TooLong(Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TooLong(error) | Failure::Other(error) => error,
        }
    }
}

/// A model behind a backend.
#[derive(Debug)]
pub(crate) struct Client {
    backend: Box<dyn Backend>,
    model: Model,
    space: VectorSpace,
    /// Texts in a call of the backend, at most.
    portion: usize,
}

/// How often pieces are halved when a backend finds them too long.
const HALVINGS: u32 = 4;

impl Client {
    /// Embeds a text, to learn the length of the vectors, or to see that it is the one that was said.
    pub(crate) async fn connect(
        backend: impl Backend,
        provider: &str,
        mut model: Model,
        portion: usize,
    ) -> Result<Self> {
        model.validate()?;
        let probe = [format!("{}{PROBE}", model.document_prefix)];
        let answer = backend.vectors(&probe).await.map_err(Error::from)?;
        // Without a vector, any length: the check of the answer says what is wrong.
        let found = answer.first().map_or(1, |vector| vector.len().max(1));
        model.dimensions.get_or_insert(found);
        let client = Self::new(backend, provider, model, portion)?;
        client.checked(&probe, answer)?;
        Ok(client)
    }

    /// Without asking the backend; the length of the vectors must be known.
    pub(crate) fn new(backend: impl Backend, provider: &str, model: Model, portion: usize) -> Result<Self> {
        model.validate()?;
        let dimensions = model.dimensions.ok_or_else(|| {
            Error::invalid(
                "model.dimensions",
                "not given",
                "the length of the vectors, where the model is not asked for it",
            )
        })?;
        let space = model.space(provider, dimensions);
        Ok(Self { backend: Box::new(backend), model, space, portion })
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(crate) fn space(&self) -> &VectorSpace {
        &self.space
    }

    pub(crate) async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        let prefix = self.model.prefix(role);
        let longest = self.model.longest_text - prefix.len();
        if self.model.too_long == TooLong::Refuse
            && let Some(place) = texts.iter().position(|text| text.len() > longest)
        {
            let (field, value) = (format!("texts[{place}]"), format!("{} bytes long", texts[place].len()));
            return Err(Error::invalid(&field, value, format_args!("up to {longest} bytes ({})", self.space)));
        }
        self.embed_shortened(prefix, texts, longest, HALVINGS).await
    }

    /// If something is too long for the backend, though not for us, asks for half of the texts at a time, and then for half of
    /// the one text that is too long: vectors of the others do not depend on it.
    async fn embed_shortened(
        &self,
        prefix: &str,
        texts: &[&str],
        longest: usize,
        halvings: u32,
    ) -> Result<Vec<Vector>> {
        let too_long = match self.embed_in_pieces(prefix, texts, longest).await {
            Err(Failure::TooLong(error)) => error,
            done => return done.map_err(Error::from),
        };
        match texts {
            [text] if halvings > 0 && self.model.too_long == TooLong::Split => {
                let half = (text.len().min(longest) / 2).max(1);
                Box::pin(self.embed_shortened(prefix, texts, half, halvings - 1)).await
            }
            [_] | [] => Err(too_long),
            _ => {
                let (first, second) = texts.split_at(texts.len() / 2);
                let mut vectors = Box::pin(self.embed_shortened(prefix, first, longest, halvings)).await?;
                vectors.extend(Box::pin(self.embed_shortened(prefix, second, longest, halvings)).await?);
                Ok(vectors)
            }
        }
    }

    async fn embed_in_pieces(&self, prefix: &str, texts: &[&str], longest: usize) -> Result<Vec<Vector>, Failure> {
        let pieces: Vec<Vec<&str>> = texts.iter().map(|text| pieces(text, longest)).collect();
        let all: Vec<String> = pieces.iter().flatten().map(|piece| format!("{prefix}{piece}")).collect();
        let mut answers = Vec::with_capacity(all.len());
        for portion in all.chunks(self.portion) {
            let answer = self.backend.vectors(portion).await?;
            answers.extend(self.checked(portion, answer)?);
        }
        let mut answers = answers.into_iter();
        let whole = |pieces: &Vec<&str>| {
            // An empty text is one piece, whose weight must not be 0.
            let weight = |piece: &&str| f64::from(u32::try_from(piece.len()).unwrap_or(u32::MAX).max(1));
            let parts: Vec<(f64, Vec<f32>)> = pieces.iter().map(weight).zip(answers.by_ref()).collect();
            let mut vector = mean(&parts);
            if self.space.normalised {
                normalise(&mut vector);
            }
            Ok(Vector::new(vector)?)
        };
        pieces.iter().map(whole).collect()
    }

    /// An answer, if it is one: as many vectors as texts, of the right length, all numbers finite, and normalised if they
    /// are to be. No vector that fails this ever leaves. A number that is none is blamed on the text, all else on the backend.
    fn checked(&self, texts: &[String], mut answer: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>> {
        let wrong = |kind, what| Error::new(kind, format!("{} answered {what}", self.backend));
        if answer.len() != texts.len() {
            let what = format!("{} vectors for {} texts", answer.len(), texts.len());
            return Err(wrong(ErrorKind::Unavailable, what));
        }
        for (place, vector) in answer.iter_mut().enumerate() {
            if vector.len() != self.space.dimensions {
                let what = format!("a vector of {} components; allowed: those of {}", vector.len(), self.space);
                return Err(wrong(ErrorKind::Unavailable, what));
            }
            if let Some(x) = vector.iter().find(|x| !x.is_finite()) {
                return Err(wrong(ErrorKind::Invalid, format!("{x} in vector {place}; allowed: finite numbers")));
            }
            if self.space.normalised {
                normalise(vector);
            }
        }
        Ok(answer)
    }

    pub(crate) async fn health(&self) -> Result<()> {
        self.backend.health().await
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// Takes texts of up to 100 bytes; a vector is a text's length and 1.
    #[derive(Debug)]
    struct Short;

    impl fmt::Display for Short {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("short")
        }
    }

    #[async_trait]
    impl Backend for Short {
        async fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
            if texts.iter().any(|text| text.len() > 100) {
                return Err(Failure::TooLong(Error::invalid("text", "too long", "up to 100 bytes")));
            }
            Ok(texts.iter().map(|text| vec![u16::try_from(text.len()).unwrap().into(), 1.0]).collect())
        }

        async fn health(&self) -> Result<()> {
            Ok(())
        }
    }

    async fn client(model: Model) -> Client {
        Client::connect(Short, "test", model.with_normalised(false), 8).await.unwrap()
    }

    #[tokio::test]
    async fn a_text_that_is_too_long_changes_no_other_vector_of_the_call() {
        let client = client(Model::new("m")).await;
        let (fits, long) = ("word ".repeat(20), "word ".repeat(100));
        let together = client.embed(Role::Query, &[&fits, "short", &long, &fits]).await.unwrap();
        assert_eq!(together[0].as_slice(), [100.0, 1.0]);
        assert_eq!(together[1].as_slice(), [5.0, 1.0]);
        assert_eq!(together[3], together[0]);
        assert_eq!(client.embed(Role::Query, &[&long]).await.unwrap()[0], together[2]);
        assert!(together[2].as_slice()[0] < 100.0, "of pieces: {:?}", together[2]);
    }

    #[tokio::test]
    async fn a_text_that_is_too_long_is_refused_where_it_may_not_be_split() {
        let client = client(Model::new("m").with_longest_text(500, TooLong::Refuse)).await;
        let error = client.embed(Role::Query, &["short", &"word ".repeat(50)]).await.unwrap_err().to_string();
        assert!(error.contains("up to 100 bytes"), "{error}");
    }
}
