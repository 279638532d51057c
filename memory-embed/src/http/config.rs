//! How a server is reached.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use memory_core::{Error, Result};

/// A server of embeddings, and how it is asked. It is checked when an embedder is made of it.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `key` | none | visible ASCII |
/// | `timeout` | 30 s | 10 ms ..= 1 h |
/// | `connect_timeout` | 5 s | 10 ms ..= 1 h |
/// | `concurrency` | 4 | 1..=256 |
/// | `texts_per_request` | 32 | 1..=2,048 |
/// | `shorten` | no | |
///
/// ```
/// use std::time::Duration;
/// use memory_embed::ServerConfig;
/// let server = ServerConfig::new("http://127.0.0.1:8080").with_key("sk-…").with_timeout(Duration::from_secs(10));
/// assert!(!format!("{server:?}").contains("sk-"));
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its address: `http://` (or `https://`, with the feature `tls`), host, port, and the path before what the embedder adds.
    pub url: String,
    /// What it asks for to let one in, sent as a bearer token.
    pub key: Option<Secret>,
    /// The longest time that one request may take: waiting for a free place, connecting, and the whole answer.
    pub timeout: Duration,
    /// The longest time that connecting may take of that.
    pub connect_timeout: Duration,
    /// Requests that are under way at once; more wait. Each takes a thread of the runtime's blocking pool for as long.
    pub concurrency: usize,
    /// Texts in one request; more are sent in several, one after another.
    pub texts_per_request: usize,
    /// Whether the server is asked to shorten vectors to [`Model::dimensions`](crate::Model::dimensions), and not only
    /// expected to give such. Ollama can, and OpenAI for its newer models; many servers refuse or ignore it. The length is
    /// checked in any case.
    pub shorten: bool,
}

/// A text that nothing shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl ServerConfig {
    const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3_600);
    const CONCURRENCY: RangeInclusive<usize> = 1..=256;
    const TEXTS: RangeInclusive<usize> = 1..=2_048;

    /// The server at this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            key: None,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            concurrency: 4,
            texts_per_request: 32,
            shorten: false,
        }
    }

    /// Sets [`key`](Self::key).
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(Secret::new(key));
        self
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`connect_timeout`](Self::connect_timeout).
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets [`concurrency`](Self::concurrency).
    #[must_use]
    pub const fn with_concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests;
        self
    }

    /// Sets [`texts_per_request`](Self::texts_per_request).
    #[must_use]
    pub const fn with_texts_per_request(mut self, texts: usize) -> Self {
        self.texts_per_request = texts;
        self
    }

    /// Sets [`shorten`](Self::shorten).
    #[must_use]
    pub const fn with_shorten(mut self, shorten: bool) -> Self {
        self.shorten = shorten;
        self
    }

    /// The address without a slash at its end, if all of this can be.
    pub(super) fn validated(&self) -> Result<&str> {
        for (field, timeout) in [("timeout", self.timeout), ("connect_timeout", self.connect_timeout)] {
            if !Self::TIMEOUT.contains(&timeout) {
                return Err(Error::invalid(&format!("server.{field}"), format_args!("{timeout:?}"), "10ms..=3600s"));
            }
        }
        for (field, count, allowed) in [
            ("server.concurrency", self.concurrency, Self::CONCURRENCY),
            ("server.texts_per_request", self.texts_per_request, Self::TEXTS),
        ] {
            if !allowed.contains(&count) {
                return Err(Error::invalid(field, count, format_args!("{allowed:?}")));
            }
        }
        if self.key.as_ref().is_some_and(|key| key.0.is_empty() || !key.0.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::invalid("server.key", "empty, or has spaces or other characters", "visible ASCII"));
        }
        checked_url(&self.url)
    }
}

fn checked_url(url: &str) -> Result<&str> {
    const RANGE: &str = "http://host or https://host, with port and path or without";
    // Only what cannot hold a secret is shown.
    let invalid = |shown: &str| Error::invalid("server.url", shown, RANGE);
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("one without http://"))?;
    if !matches!(scheme, "http" | "https") {
        return Err(invalid(&format!("one that begins with {scheme:.20}://")));
    }
    if rest.contains(['@', '?', '#']) {
        return Err(invalid("one with a user, a query or a fragment (a key belongs into `key`)"));
    }
    let names_a_host = |url: ureq::http::Uri| {
        url.authority().is_some_and(|authority| {
            let host = authority.host();
            !host.is_empty() && (host == authority.as_str() || authority.port_u16().is_some())
        })
    };
    if !url.parse().is_ok_and(names_a_host) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(&format!("{scheme}://{rest:.80}").escape_debug().to_string()));
    }
    if scheme == "https" && !cfg!(feature = "tls") {
        return Err(invalid(&format!("https://{rest:.80}, for which this crate needs its feature `tls`")));
    }
    Ok(url.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use memory_core::ErrorKind;

    use super::*;

    #[test]
    fn addresses_are_checked_and_show_no_secret() {
        for (url, base) in [
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
            ("http://[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(ServerConfig::new(url).validated().unwrap(), base);
        }
        for url in [
            "",
            "localhost:8080",
            "file:///secret",
            "http://",
            "http:///path",
            "http://host:port",
            "http://me:secret@host",
            "http://host?key=secret",
            "http://host#secret",
            "http://host\r\nx: y",
            "http://host/ä",
        ] {
            let error = ServerConfig::new(url).validated().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            let text = error.to_string();
            assert!(text.contains("server.url is ") && text.contains("allowed: http://"), "{text}");
            assert!(!text.contains("secret") && !text.contains('\n'), "{text}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn https_needs_the_feature_and_says_so() {
        let error = ServerConfig::new("https://api.openai.com/v1").validated().unwrap_err();
        assert!(error.to_string().contains("feature `tls`"), "{error}");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn https_is_an_address() {
        assert!(ServerConfig::new("https://api.openai.com/v1").validated().is_ok());
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name_value_and_range() {
        let server = || ServerConfig::new("http://h");
        let long = Duration::from_secs(3_601);
        for (server, field, value) in [
            (server().with_timeout(Duration::ZERO), "server.timeout", "0ns"),
            (server().with_timeout(long), "server.timeout", "3601s"),
            (server().with_connect_timeout(Duration::ZERO), "server.connect_timeout", "0ns"),
            (server().with_concurrency(0), "server.concurrency", "0"),
            (server().with_concurrency(257), "server.concurrency", "257"),
            (server().with_texts_per_request(0), "server.texts_per_request", "0"),
            (server().with_key(""), "server.key", "empty"),
            (server().with_key("two\r\nlines"), "server.key", "empty, or has spaces"),
        ] {
            let error = server.validated().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let text = error.to_string();
            assert!(text.contains(&format!("{field} is {value}")) && text.contains("allowed: "), "{text}");
            assert!(!text.contains("lines"), "{text}");
        }
    }
}
