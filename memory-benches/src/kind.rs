//! The ways of searching that are compared.

use std::hint::black_box;

use memory_core::{Filter, Hit, Key, MemoryStore, Result, Search};

use crate::Query;

/// How many are looked for.
pub(crate) const K: usize = 10;

/// A way of searching.
#[expect(clippy::exhaustive_enums, reason = "each has a row and a line")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// By vector, and reading the episodes found.
    Vector,
    /// The same, in one domain.
    Filtered,
    /// By words and by vector, and reading the episodes found.
    Hybrid,
    /// By words, and reading the episodes found.
    Words,
    /// By vector, exactly, and reading the episodes found.
    Exact,
    /// By vector, comparing all of them in the plain way; no episode is read.
    Scan,
}

impl Kind {
    /// All of them, the one that the others are compared with last.
    pub const ALL: [Self; 6] = [Self::Vector, Self::Filtered, Self::Hybrid, Self::Words, Self::Exact, Self::Scan];

    /// Its name, for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Filtered => "vector in a domain",
            Self::Hybrid => "words and vector",
            Self::Words => "words",
            Self::Exact => "vector, exact",
            Self::Scan => "plain f32 scan",
        }
    }

    /// Whether it is for this query: only every second one asks for a domain.
    pub const fn asks(self, query: &Query) -> bool {
        !matches!(self, Self::Filtered) || query.domain.is_some()
    }

    /// What a store is asked; `None` for the scan, which needs no store.
    pub fn search(self, query: &Query) -> Option<Search> {
        let search = Search::new(Default::default()).k(K);
        let vector = Some(query.vector.clone());
        Some(match self {
            Self::Vector => search.vector(vector),
            Self::Filtered => search.vector(vector).filter(domain(query)),
            Self::Hybrid => hybrid(query),
            Self::Words => search.text(query.text.as_str()),
            Self::Exact => search.vector(vector).exact(),
            Self::Scan => return None,
        })
    }
}

/// What a store is asked by words and by vector.
pub fn hybrid(query: &Query) -> Search {
    Search::new(Default::default()).k(K).vector(Some(query.vector.clone())).text(query.text.as_str())
}

fn domain(query: &Query) -> Filter {
    query.domain.iter().fold(Filter::default(), |filter, domain| filter.domain(*domain))
}

/// Searches by this request and reads the episodes found, those that are still there.
///
/// # Errors
/// The store's.
pub async fn search_and_get(store: &(impl MemoryStore + ?Sized), search: &Search) -> Result<Vec<Hit>> {
    let hits = store.search(search).await?;
    let keys: Vec<Key> = hits.iter().map(|hit| hit.key.clone()).collect();
    black_box(store.get(&keys).await?);
    Ok(hits)
}
