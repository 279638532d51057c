//! Whose memory it is.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A namespace: tenant, and below it optionally an agent, and below that optionally a session.
///
/// Every write carries a scope and every read stays inside one. Two scopes share nothing: neither episodes,
/// nor patterns, nor the statistics behind word search. Only [recalling](crate::Memory::recall) notes reads upward, and
/// only what was told in many sessions of an agent [becomes](crate::Memory::remember) a note of the agent.
///
/// ```
/// use memory_core::Scope;
/// let scope = Scope::new("acme")?.agent("coder")?;
/// assert_eq!(scope.to_string(), "acme/coder");
/// assert!(Scope::new("not a name").is_err());
/// # Ok::<(), memory_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(Arc<str>);

impl Scope {
    /// The longest name of a part, in bytes.
    pub const MAX_NAME_BYTES: usize = 128;

    /// The scope of a tenant.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) unless the name matches `[A-Za-z0-9._:-]{1,128}`.
    pub fn new(tenant: &str) -> Result<Self> {
        Ok(Self(name("scope.tenant", tenant)?.into()))
    }

    /// The scope of an agent of this tenant.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) unless the name matches `[A-Za-z0-9._:-]{1,128}` and this scope is a tenant.
    pub fn agent(&self, agent: &str) -> Result<Self> {
        self.below(1, "scope.agent", agent)
    }

    /// The scope of a session of this agent.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) unless the name matches `[A-Za-z0-9._:-]{1,128}` and this scope is an agent.
    pub fn session(&self, session: &str) -> Result<Self> {
        self.below(2, "scope.session", session)
    }

    /// The scope as text, `tenant/agent/session`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scope above: of a session its agent, of an agent its tenant, of a tenant none.
    ///
    /// ```
    /// use memory_core::Scope;
    /// let agent = Scope::new("acme")?.agent("coder")?;
    /// assert_eq!(agent.session("s-1")?.parent(), Some(agent));
    /// assert_eq!(Scope::new("acme")?.parent(), None);
    /// # Ok::<(), memory_core::Error>(())
    /// ```
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(above, _)| Self(above.into()))
    }

    /// The agent and the session's name, if it is a session.
    pub(crate) fn as_session(&self) -> Option<(Self, &str)> {
        let (above, name) = self.0.rsplit_once('/')?;
        above.contains('/').then(|| (Self(above.into()), name))
    }

    fn below(&self, depth: usize, field: &str, part: &str) -> Result<Self> {
        if self.0.split('/').count() != depth {
            return Err(Error::invalid(field, format_args!("below {self}"), "tenant, then agent, then session"));
        }
        Ok(Self(format!("{}/{}", self.0, name(field, part)?).into()))
    }
}

impl Default for Scope {
    /// The tenant `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Scope {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 {
            return Err(Error::invalid("scope", format_args!("{} parts", parts.len()), "1..=3 parts"));
        }
        for part in parts {
            name("scope", part)?;
        }
        Ok(Self(text.into()))
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.as_str().to_owned()
    }
}

fn name<'a>(field: &str, name: &'a str) -> Result<&'a str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    if name.is_empty() || name.len() > Scope::MAX_NAME_BYTES || !name.chars().all(allowed) {
        let shown: String = name.chars().take(40).collect();
        return Err(Error::invalid(field, format_args!("{shown:?} ({} bytes)", name.len()), "[A-Za-z0-9._:-]{1,128}"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_longest_name_and_refuses_one_more_byte() {
        assert!(Scope::new(&"a".repeat(128)).is_ok());
        assert!(Scope::new(&"a".repeat(129)).is_err());
        assert!(Scope::new("").is_err());
        assert!(Scope::new("a/b").is_err());
        assert!(Scope::new("é").is_err());
    }

    #[test]
    fn has_three_levels() {
        let scope = Scope::new("t").and_then(|s| s.agent("a")).and_then(|s| s.session("s")).unwrap();
        assert_eq!(scope.as_str(), "t/a/s");
        assert!(scope.session("again").is_err());
        assert!(Scope::new("t").unwrap().session("s").is_err());
        assert_eq!(Scope::try_from("t/a/s".to_owned()).unwrap(), scope);
        assert!(Scope::try_from("t/a/s/x".to_owned()).is_err());
        assert!(Scope::try_from("t//s".to_owned()).is_err());
    }
}
