//! The file of bearer tokens.
//!
//! ```toml
//! [[token]]
//! name = "ci"                       # for logs and rates
//! hash = "…"                        # SHA-256 of the token, in hexadecimal; or token = "…" itself
//! scope = "acme/coder"              # all that it reaches, but for notes of the scopes above
//! right = "write"                   # read, write or admin
//! trust = "untrusted"               # how far what it tells is trusted; trusted if absent
//! expires_at = 2027-01-01T00:00:00Z # never if absent
//! rate_per_minute = 600             # http.rate_per_minute if absent
//! ```
//!
//! `knowhow token new` makes such a row.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use memory_core::{Error, ErrorKind, Result, Scope, Source, Trust};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::hex::{from_hex, to_hex};
use crate::service::Right;

/// How often it is looked whether the file has changed.
const LOOK: Duration = Duration::from_secs(1);

/// A token, as the file has it.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) source: Source,
    pub(super) hash: [u8; 32],
    pub(super) scope: Scope,
    pub(super) right: Right,
    expires_at: Option<DateTime<Utc>>,
    pub(super) rate_per_minute: Option<u32>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Row>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    hash: Option<String>,
    token: Option<String>,
    scope: String,
    right: String,
    trust: Option<String>,
    expires_at: Option<toml::value::Datetime>,
    rate_per_minute: Option<u32>,
}

/// A new token. Its own text is nowhere else.
#[derive(Clone)]
pub struct NewToken {
    /// What its owner presents.
    pub token: String,
    /// As whose it is known.
    pub name: String,
    /// By what the file of tokens knows it.
    pub hash: String,
    /// The lines of the file of tokens that let it in.
    pub lines: String,
}

impl NewToken {
    /// A token of 256 random bits for a scope, with a right, until then; without a name it is named after its hash.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a name beyond the limits, and for a moment that is past or that no file can name;
    /// [`Io`](ErrorKind::Io) if the operating system has no random bits.
    pub fn new(name: Option<String>, scope: &Scope, right: Right, expires_at: Option<DateTime<Utc>>) -> Result<Self> {
        let written = |at: DateTime<Utc>| {
            let written = at.to_rfc3339_opts(SecondsFormat::Secs, true).parse().ok().filter(|_| at > Utc::now());
            written.ok_or_else(|| Error::invalid("expires", at, "a moment to come, before the year 10000"))
        };
        let expires_at = expires_at.map(written).transpose()?;
        if let Some(name) = name.iter().find(|name| name.contains(char::is_control)) {
            return Err(Error::invalid("name", format!("{name:?}"), "1 to 128 bytes, without control characters"));
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| Error::new(ErrorKind::Io, "there are no random bits").with_source(error))?;
        let token = format!("knowhow_{}", to_hex(&random));
        let hash = to_hex(&Sha256::digest(&token));
        let row = Row {
            name: name.unwrap_or_else(|| format!("token-{}", &hash[..8])),
            hash: Some(hash.clone()),
            token: None,
            scope: scope.to_string(),
            right: right.as_str().to_owned(),
            trust: None,
            expires_at,
            rate_per_minute: None,
        };
        let name = self::token(row.clone()).map_err(|what| Error::new(ErrorKind::Invalid, what))?.source.name;
        let lines = toml::to_string(&File { token: vec![row] }).map_err(|error| {
            Error::new(ErrorKind::Invalid, "the token cannot be written as TOML").with_source(error)
        })?;
        Ok(Self { token, name, hash, lines })
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("name", &self.name).field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// The tokens of a file, which may change while they are used.
#[derive(Debug)]
pub(super) struct Tokens {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    tokens: Arc<[Token]>,
    changed: Option<SystemTime>,
    looked: Instant,
    problem: Option<String>,
}

impl Tokens {
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        // In this order: a change while it is read is then seen later.
        let (changed, tokens) = (changed(&path), parse(&path)?);
        if tokens.is_empty() {
            return Err(wrong(&path, "there is no token in it"));
        }
        let read = Read { tokens, changed, looked: Instant::now(), problem: None };
        Ok(Self { path, read: Mutex::new(read) })
    }

    /// The token that this is, unless it has expired. Takes as long whether and wherever it is in the file.
    pub(super) fn find(&self, presented: &str) -> Option<Token> {
        let hash: [u8; 32] = Sha256::digest(presented).into();
        self.of(&hash)
    }

    fn of(&self, hash: &[u8; 32]) -> Option<Token> {
        let tokens = self.newest();
        let mut found = None;
        for token in tokens.iter() {
            if bool::from(token.hash.ct_eq(hash)) {
                found = Some(token);
            }
        }
        found.filter(|token| token.expires_at.is_none_or(|at| at > Utc::now())).cloned()
    }

    /// Waits until the token of this hash has expired, or is in the file no more.
    pub(super) async fn taken_out(&self, hash: &[u8; 32]) {
        while self.of(hash).is_some() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is wrong with the file since it was last changed; the tokens are then those from before. A file without any is not
    /// wrong: nobody is let in.
    pub(super) fn problem(&self) -> Option<String> {
        self.newest();
        self.read.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    fn newest(&self) -> Arc<[Token]> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.looked.elapsed() >= LOOK {
            read.looked = Instant::now();
            let changed = changed(&self.path);
            if changed != read.changed {
                read.changed = changed;
                match parse(&self.path) {
                    Ok(tokens) => (read.tokens, read.problem) = (tokens, None),
                    Err(error) => {
                        tracing::error!(%error, "the changed file of tokens is not used");
                        read.problem = Some(error.to_string());
                    }
                }
            }
        }
        Arc::clone(&read.tokens)
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// Errors name the place, never what stands there: it may be a token.
fn wrong(path: &Path, what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, format!("file of tokens {}: {what}", path.display()))
}

fn parse(path: &Path) -> Result<Arc<[Token]>> {
    let wrong = |what: String| wrong(path, what);
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let file: File = toml::from_str(&text).map_err(|error| wrong(told(&error, &text)))?;
    let mut tokens: Vec<Token> = Vec::new();
    for (row, place) in file.token.into_iter().zip(1..) {
        let token = token(row).map_err(|what| wrong(format!("token {place}: {what}")))?;
        if tokens.iter().any(|known| known.hash == token.hash) {
            return Err(wrong(format!("token {place} is there twice")));
        }
        tokens.push(token);
    }
    Ok(tokens.into())
}

/// Where it is wrong, and what should be there. What is there may be a token.
fn told(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let message = error.message();
    let what = match message.rsplit_once("expected ") {
        _ if message.starts_with("missing field") => message.to_owned(),
        Some((_, expected)) => format!("expected {expected}"),
        None => "not as TOML has it".to_owned(),
    };
    format!("line {}: {what}", before.matches('\n').count() + 1)
}

fn token(row: Row) -> Result<Token, String> {
    let trust = row.trust.as_deref().map_or(Some(Trust::Trusted), Trust::named);
    let hash = match (row.hash, row.token) {
        (Some(hash), None) => from_hex(&hash).ok_or("hash is not 64 hexadecimal digits")?,
        (None, Some(token)) if token.len() >= 16 => Sha256::digest(token).into(),
        (None, Some(_)) => return Err("token is shorter than 16 bytes".to_owned()),
        _ => return Err("it needs either hash or token".to_owned()),
    };
    let expires_at = row.expires_at.map(|at| DateTime::parse_from_rfc3339(&at.to_string()).map(DateTime::<Utc>::from));
    if row.rate_per_minute == Some(0) {
        return Err("rate_per_minute is 0".to_owned());
    }
    if row.name.is_empty() || row.name.len() > 128 {
        return Err(format!("name has {} bytes; allowed: 1 to 128", row.name.len()));
    }
    Ok(Token {
        source: Source { name: row.name, trust: trust.ok_or("trust is neither trusted nor untrusted")? },
        hash,
        scope: Scope::try_from(row.scope).map_err(|_| "scope is none: tenant, tenant/agent or tenant/agent/session")?,
        right: Right::named(&row.right).ok_or("right is none of read, write and admin")?,
        expires_at: expires_at.transpose().map_err(|_| "expires_at is no moment with a time zone")?,
        rate_per_minute: row.rate_per_minute,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Arc<[Token]>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        std::fs::write(&path, text).unwrap();
        parse(&path)
    }

    #[test]
    fn rows_are_checked() {
        let row = "[[token]]\nname = \"ci\"\ntoken = \"a token of some length\"\nscope = \"acme\"\nright = \"write\"\n";
        assert_eq!(file(row).unwrap()[0].scope.to_string(), "acme");
        for (was, is, told) in [
            ("\"write\"", "\"all\"", "right"),
            ("\"acme\"", "\"../x y\"", "scope"),
            ("token = \"a token of some length\"", "token = \"short\"", "16 bytes"),
            ("token = \"a token of some length\"", "hash = \"xyz\"", "64 hexadecimal"),
            ("token = \"a token of some length\"\n", "", "either hash or token"),
            ("name = \"ci\"", "name = \"\"", "name"),
            ("name = \"ci\"", "nam = \"ci\"", "nam"),
            ("right =", "trust = \"x\"\nright =", "trust"),
            ("right =", "expires_at = 2027-01-01\nright =", "expires_at"),
        ] {
            let error = file(&row.replace(was, is)).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("a token of"), "{error}");
        }
    }
}
