//! Where knowledge comes from, and how far it is trusted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a source is trusted. What is derived from several records has the least trust among them.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trust {
    /// Kept and counted apart: it has no part in any answer. [`quarantined`](crate::Memory::quarantined) lists it until as many
    /// trusted episodes as the [quorum](crate::Learner::quorum) have shown the same. A note is never recalled that only such
    /// sources told.
    Untrusted,
    /// The agent's own work, or that of a source which its user vouches for.
    #[default]
    Trusted,
}

impl Trust {
    /// The class as one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Trusted => "trusted",
        }
    }

    /// The class of this [name](Self::as_str).
    pub fn named(name: &str) -> Option<Self> {
        [Self::Untrusted, Self::Trusted].into_iter().find(|trust| trust.as_str() == name)
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a record comes from.
///
/// ```
/// use memory_core::{Source, Trust};
/// assert_eq!(Source::default().trust, Trust::Trusted);
/// assert_eq!(Source::untrusted("forum").to_string(), "forum (untrusted)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// Its name; 1 to 128 bytes.
    pub name: String,
    /// How far it is trusted.
    pub trust: Trust,
}

impl Source {
    /// A source that is trusted.
    pub fn trusted(name: impl Into<String>) -> Self {
        Self { name: name.into(), trust: Trust::Trusted }
    }

    /// A source that is not trusted.
    pub fn untrusted(name: impl Into<String>) -> Self {
        Self { name: name.into(), trust: Trust::Untrusted }
    }
}

impl Default for Source {
    /// The agent itself, trusted.
    fn default() -> Self {
        Self::trusted("agent")
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.trust)
    }
}
