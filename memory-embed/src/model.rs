//! What is to be known of a model.

use memory_core::{Error, Result, Role, VectorSpace};

/// A model, and what texts for it need. Together with who provides it, it is the identity of the vectors: vectors of two
/// models, revisions or prefixes are never compared.
///
/// # Default
/// [`new`](Self::new) knows the prefixes of some models by their names; all else is as the fields say.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name: for a server, the one that requests have.
    pub name: String,
    /// Which revision of it, in any notation. Say another when the weights change under the same name. Default: empty.
    pub revision: String,
    /// Who provides it, and under which name, as far as the identity of its vectors goes. Give two servers of the same
    /// weights the same, whatever they call it: their vectors are of the same space then. Default: the embedder's own name for
    /// itself ("ollama", "openai", "mlx", …), and [`name`](Self::name).
    pub identity: Option<(String, String)>,
    /// The length of its vectors. Default: whatever the first answer has.
    pub dimensions: Option<usize>,
    /// What is put before a query's text.
    pub query_prefix: String,
    /// What is put before a document's text.
    pub document_prefix: String,
    /// Whether vectors are brought to length 1. Default: yes.
    pub normalised: bool,
    /// The longest text, in bytes and with its prefix, that is embedded in one piece. Servers cut silently what is too long
    /// for a model; so this is to be less than the model takes. Default: 1,500 (of most languages below 512 tokens).
    pub longest_text: usize,
    /// What happens to a longer text. Default: [`TooLong::Split`].
    pub too_long: TooLong,
}

/// What happens to a text that is longer than a model takes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    /// It is cut between words; its vector is the mean of those of the pieces, weighted by their lengths.
    Split,
    /// [`Invalid`](memory_core::ErrorKind::Invalid).
    Refuse,
}

/// Prefixes for queries and documents, by how the model's name begins (after the last `/`).
/// Sources: the models' own cards.
const PREFIXES: [(&str, &str, &str); 8] = [
    ("nomic-embed-text", "search_query: ", "search_document: "),
    ("embeddinggemma", "task: search result | query: ", "title: none | text: "),
    ("e5-", "query: ", "passage: "),
    ("multilingual-e5-", "query: ", "passage: "),
    ("bge-small-en", "Represent this sentence for searching relevant passages: ", ""),
    ("bge-base-en", "Represent this sentence for searching relevant passages: ", ""),
    ("bge-large-en", "Represent this sentence for searching relevant passages: ", ""),
    ("mxbai-embed-large", "Represent this sentence for searching relevant passages: ", ""),
];

/// The longest that [`Model::longest_text`] may be.
const LONGEST_TEXT: usize = 1_000_000;
/// The longest vector.
const MOST_DIMENSIONS: usize = 65_536;

impl Model {
    /// The model of this name, with the prefixes that are known of it.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let last = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let known = PREFIXES.iter().find(|(begin, ..)| last.starts_with(begin));
        let (query, document) = known.map_or(("", ""), |(_, query, document)| (query, document));
        Self {
            revision: String::new(),
            identity: None,
            dimensions: None,
            query_prefix: query.to_owned(),
            document_prefix: document.to_owned(),
            normalised: true,
            longest_text: 1_500,
            too_long: TooLong::Split,
            name,
        }
    }

    /// Sets [`revision`](Self::revision).
    #[must_use]
    pub fn with_revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// Sets [`identity`](Self::identity).
    #[must_use]
    pub fn with_identity(mut self, provider: impl Into<String>, model: impl Into<String>) -> Self {
        self.identity = Some((provider.into(), model.into()));
        self
    }

    /// Sets [`dimensions`](Self::dimensions): another length is refused.
    #[must_use]
    pub const fn with_dimensions(mut self, dimensions: usize) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// Sets both prefixes, also to empty ones.
    #[must_use]
    pub fn with_prefixes(mut self, query: impl Into<String>, document: impl Into<String>) -> Self {
        (self.query_prefix, self.document_prefix) = (query.into(), document.into());
        self
    }

    /// Sets [`normalised`](Self::normalised).
    #[must_use]
    pub const fn with_normalised(mut self, normalised: bool) -> Self {
        self.normalised = normalised;
        self
    }

    /// Sets [`longest_text`](Self::longest_text) and [`too_long`](Self::too_long).
    #[must_use]
    pub const fn with_longest_text(mut self, bytes: usize, too_long: TooLong) -> Self {
        (self.longest_text, self.too_long) = (bytes, too_long);
        self
    }

    pub(crate) fn prefix(&self, role: Role) -> &str {
        match role {
            Role::Query => &self.query_prefix,
            Role::Document => &self.document_prefix,
        }
    }

    /// Checks what can be checked without the model.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.name.trim().is_empty() {
            return Err(Error::invalid("model.name", format_args!("{:?}", self.name), "a name"));
        }
        if let Some((provider, model)) = &self.identity
            && (provider.trim().is_empty() || model.trim().is_empty())
        {
            let value = format_args!("{provider:?}, {model:?}").to_string();
            return Err(Error::invalid("model.identity", value, "the names of a provider and a model"));
        }
        if let Some(dimensions) = self.dimensions.filter(|count| !(1..=MOST_DIMENSIONS).contains(count)) {
            return Err(Error::invalid("model.dimensions", dimensions, format_args!("1..={MOST_DIMENSIONS}")));
        }
        // Room for a few words beside the prefix.
        let least = 64 + self.query_prefix.len().max(self.document_prefix.len());
        if !(least..=LONGEST_TEXT).contains(&self.longest_text) {
            let range = format_args!("{least}..={LONGEST_TEXT} bytes").to_string();
            return Err(Error::invalid("model.longest_text", self.longest_text, range));
        }
        Ok(())
    }

    /// The space of vectors of this length that this model has at a provider.
    pub(crate) fn space(&self, provider: &str, dimensions: usize) -> VectorSpace {
        let own = || (provider.to_owned(), self.name.clone());
        let (provider, model) = self.identity.clone().unwrap_or_else(own);
        VectorSpace {
            provider,
            model,
            revision: self.revision.clone(),
            dimensions,
            normalised: self.normalised,
            query_prefix: self.query_prefix.clone(),
            document_prefix: self.document_prefix.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_prefixes_by_name() {
        assert_eq!(Model::new("nomic-embed-text:v1.5").prefix(Role::Query), "search_query: ");
        assert_eq!(Model::new("intfloat/multilingual-e5-small").prefix(Role::Document), "passage: ");
        assert_eq!(Model::new("all-MiniLM-L6-v2").prefix(Role::Query), "");
        assert_eq!(Model::new("nomic-embed-text").with_prefixes("", "").prefix(Role::Query), "");
    }

    #[test]
    fn refuses_what_cannot_be() {
        assert!(Model::new("m").validate().is_ok());
        for (model, field) in [
            (Model::new(" "), "model.name"),
            (Model::new("m").with_identity("", "m"), "model.identity"),
            (Model::new("m").with_dimensions(0), "model.dimensions"),
            (Model::new("m").with_dimensions(65_537), "model.dimensions"),
            (Model::new("m").with_longest_text(63, TooLong::Split), "model.longest_text"),
            (Model::new("m").with_prefixes("p".repeat(1_500), ""), "model.longest_text"),
        ] {
            let error = model.validate().unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("allowed"), "{error}");
        }
    }
}
