//! The configuration: one TOML file, environment variables and flags. Later ones win: default, file, environment, flag.
//!
//! Every setting is one row of [`SETTINGS`]; the file, the names of environment variables and `knowhow config check` follow
//! from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A setting, as people name it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in the file: `table.name`, or `name` at the top.
    pub key: &'static str,
    /// Its value if nothing else is said; empty for none.
    pub default: &'static str,
    /// What it is, in a line.
    pub help: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
    /// An environment variable that is read, too, because people have it.
    pub also: Option<&'static str>,
}

const fn setting(key: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, default, help, secret: false, also: None }
}

const fn secret(key: &'static str, help: &'static str) -> Setting {
    Setting { key, default: "", help, secret: true, also: None }
}

/// All settings.
pub const SETTINGS: &[Setting] = &[
    Setting {
        also: Some("TURSO_DATABASE_URL"),
        ..setting(
            "store.url",
            "",
            "database file, or libsql://, https:// or http:// address of a server; `memory` keeps nothing",
        )
    },
    Setting { also: Some("TURSO_AUTH_TOKEN"), ..secret("store.token", "token of the server") },
    setting("store.replica", "", "file for a local copy of the server's database; none without"),
    setting(
        "store.cache",
        "on",
        "hot cache: `on` is a file beside the database unless that is encrypted, `off` none, else its path",
    ),
    secret("store.encryption_key", "key of an encrypted database file or local copy, 64 hexadecimal digits"),
    setting("scope", "default", "whose memory it is: tenant, tenant/agent or tenant/agent/session"),
    setting("source", "mcp", "name under which what is told is kept"),
    setting("trust", "trusted", "how far what is told is trusted: trusted or untrusted"),
    setting("embedder.kind", "hash", "hash, openai, ollama, mlx or local"),
    setting("embedder.url", "", "address of the server of embeddings"),
    setting("embedder.model", "", "name of the model, or its directory for local"),
    secret("embedder.key", "key of the server of embeddings"),
    setting("memory.hold_out", "0", "share of episodes from which recall is withheld, to measure what it does: 0 to 1"),
    setting("memory.abstain_below", "0", "suggest nothing if the best is less likely than this: 0 to 1"),
    setting("memory.lease_seconds", "60", "how long an open episode waits for a server that is gone: 1 to 86400"),
    setting(
        "memory.batched_steps",
        "false",
        "acknowledge steps before they are on disk, up to 50 or 5 s: true or false",
    ),
    setting("memory.max_age_days", "", "delete episodes older than this"),
    setting("memory.max_episodes", "", "keep at most this many episodes in each scope"),
    setting(
        "memory.redact",
        "",
        "what to redact in what callers tell: `all`, or key, email, iban, card, phone, token separated by commas",
    ),
    setting("memory.consent", "false", "show learned rules only after they were approved: true or false"),
    setting("http.bind", "127.0.0.1:8787", "where `knowhow serve` listens; beyond loopback only with http.tokens"),
    setting("http.tokens", "", "file of bearer tokens; without, whoever reaches the server is its owner"),
    setting("http.hosts", "", "hosts that requests may name besides localhost, separated by commas"),
    setting("http.origins", "", "origins of web pages that may send requests, separated by commas"),
    setting(
        "http.rate_per_minute",
        "6000",
        "requests a minute for each token that has no rate of its own; those of ten seconds may come at once",
    ),
    setting("http.max_body_bytes", "4194304", "largest body of a request: 1024 to 67108864"),
    setting("log.level", "warn", "error, warn, info, debug or trace; or a filter such as memory_mcp=debug"),
    setting("log.format", "text", "text or json, on stderr"),
    Setting {
        also: Some("OTEL_EXPORTER_OTLP_ENDPOINT"),
        ..setting(
            "log.otlp_endpoint",
            "",
            "address of an OpenTelemetry collector that gets the spans of requests and calls",
        )
    },
    Setting {
        also: Some("OTEL_SERVICE_NAME"),
        ..setting("log.otlp_service", "knowhow", "name of this service to the collector")
    },
];

/// Where a value comes from.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug)]
pub struct Value {
    /// As text.
    pub text: String,
    /// Where from.
    pub origin: Origin,
}

/// The values of all settings.
#[derive(Clone, Debug)]
pub struct Config(BTreeMap<&'static str, Value>);

/// Something that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: the key, with its origin.
    pub at: String,
    /// What.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

impl Setting {
    /// The environment variable that is this setting's own.
    pub fn variable(&self) -> String {
        format!("KNOWHOW_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// The setting of this key.
    pub fn of(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

impl Config {
    /// Puts the values together: of this file, or the first of [`places`] that exists; of the environment; and of the command
    /// line. Whatever is wrong with them is in the list, all of it.
    pub fn load(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
        flags: &[(String, String)],
    ) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let default = |setting: &Setting| Value { text: setting.default.to_owned(), origin: Origin::Default };
        let mut config = Self(SETTINGS.iter().map(|setting| (setting.key, default(setting))).collect());
        let found = file.map(Path::to_path_buf).or_else(|| places(&environment).into_iter().find(|path| path.exists()));
        if let Some(path) = found {
            config.read(&path, &mut problems);
        }
        for setting in SETTINGS {
            let own = setting.variable();
            for name in setting.also.into_iter().chain([&own[..]]) {
                if let Some(text) = environment(name) {
                    config.0.insert(setting.key, Value { text, origin: Origin::Environment(name.to_owned()) });
                }
            }
        }
        for (key, text) in flags {
            match Setting::of(key) {
                Some(setting) => drop(config.0.insert(setting.key, Value { text: text.clone(), origin: Origin::Flag })),
                None => problems.push(unknown(key, &Origin::Flag)),
            }
        }
        if config.get("store.url").is_empty() {
            let text = default_store(&environment).display().to_string();
            config.0.insert("store.url", Value { text, origin: Origin::Default });
        }
        (config, problems)
    }

    fn read(&mut self, path: &Path, problems: &mut Vec<Problem>) {
        let wrong = |what: String| Problem { at: path.display().to_string(), what };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return problems.push(wrong(format!("cannot be read: {error}"))),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.take("", &table, path, problems),
            Err(error) => {
                // As text, the error has the line itself, which may be that of a secret.
                let line = error
                    .span()
                    .and_then(|span| text.get(..span.start))
                    .map_or(1, |before| before.matches('\n').count() + 1);
                problems.push(wrong(format!("line {line}: {}", error.message())));
            }
        }
    }

    fn take(&mut self, within: &str, table: &toml::Table, path: &Path, problems: &mut Vec<Problem>) {
        let origin = Origin::File(path.to_path_buf());
        for (name, value) in table {
            let key = if within.is_empty() { name.clone() } else { format!("{within}.{name}") };
            let text = match value {
                toml::Value::Table(inner) => {
                    self.take(&key, inner, path, problems);
                    continue;
                }
                toml::Value::String(text) => text.clone(),
                toml::Value::Array(values) => {
                    match values.iter().map(toml::Value::as_str).collect::<Option<Vec<_>>>() {
                        Some(texts) => texts.join(","),
                        None => {
                            let what = "is a list of other things than texts".to_owned();
                            problems.push(Problem { at: at(&key, &origin), what });
                            continue;
                        }
                    }
                }
                other => other.to_string(),
            };
            match Setting::of(&key) {
                Some(setting) => drop(self.0.insert(setting.key, Value { text, origin: origin.clone() })),
                None => problems.push(unknown(&key, &origin)),
            }
        }
    }

    /// The value of a setting; empty if there is none.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", |value| &value.text)
    }

    /// All settings with their values.
    pub fn values(&self) -> impl Iterator<Item = (&'static Setting, &Value)> {
        SETTINGS.iter().filter_map(|setting| Some((setting, self.0.get(setting.key)?)))
    }

    /// A value read as something; `None` if it is empty.
    ///
    /// # Errors
    /// A [`Problem`] that names the key, its origin, the value and what is allowed.
    pub fn parse<T>(&self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        let text = self.get(key);
        if text.is_empty() {
            return Ok(None);
        }
        parse(text).map(Some).ok_or_else(|| self.problem(key, format!("is {:?}; allowed: {allowed}", self.shown(key))))
    }

    /// A problem with the value of a setting.
    pub(crate) fn problem(&self, key: &str, what: impl Into<String>) -> Problem {
        let origin = self.0.get(key).map_or(Origin::Default, |value| value.origin.clone());
        Problem { at: at(key, &origin), what: what.into() }
    }

    /// A value as it may be shown.
    pub fn shown(&self, key: &str) -> &str {
        let text = self.get(key);
        if Setting::of(key).is_some_and(|setting| setting.secret) && !text.is_empty() { "(hidden)" } else { text }
    }
}

fn at(key: &str, origin: &Origin) -> String {
    format!("{key} ({origin})")
}

fn unknown(key: &str, origin: &Origin) -> Problem {
    let similar = SETTINGS.iter().map(|setting| setting.key).min_by_key(|known| distance(known, key));
    let hint = similar.map(|known| format!("; did you mean {known}?")).unwrap_or_default();
    Problem { at: at(key, origin), what: format!("there is no such setting{hint}") }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, one) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(one != *other);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Where a file is looked for: here, then in the user's folder of configurations.
pub fn places(environment: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let home = || Some(PathBuf::from(environment("HOME")?).join(".config"));
    let configurations = environment("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let in_home = configurations.map(|folder| folder.join("knowhow").join("knowhow.toml"));
    [Some(PathBuf::from("knowhow.toml")), in_home].into_iter().flatten().collect()
}

/// Where the database is, if nobody says: in the user's folder of data, or here if there is none.
fn default_store(environment: impl Fn(&str) -> Option<String>) -> PathBuf {
    let home = || Some(PathBuf::from(environment("HOME")?).join(".local").join("share"));
    let data = environment("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    data.map(|folder| folder.join("knowhow")).unwrap_or_default().join("knowhow.db")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn later_ones_win() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("knowhow.toml");
        std::fs::write(&path, "scope = \"file\"\n[memory]\nhold_out = 0.1\nredact = [\"email\", \"card\"]\n").unwrap();
        let environment = |name: &str| match name {
            "KNOWHOW_MEMORY_HOLD_OUT" => Some("0.2".to_owned()),
            "TURSO_DATABASE_URL" => Some("libsql://there".to_owned()),
            _ => None,
        };
        let flags = [("source".to_owned(), "flag".to_owned())];
        let (config, problems) = Config::load(Some(&path), environment, &flags);
        assert_eq!(problems, []);
        let told: Vec<(&str, String)> = ["scope", "memory.hold_out", "store.url", "source", "trust", "memory.redact"]
            .map(|key| (config.get(key), config.0[key].origin.to_string()))
            .into();
        let file = path.display().to_string();
        let expected = [
            ("file", file.clone()),
            ("0.2", "KNOWHOW_MEMORY_HOLD_OUT".to_owned()),
            ("libsql://there", "TURSO_DATABASE_URL".to_owned()),
            ("flag", "command line".to_owned()),
            ("trusted", "default".to_owned()),
            ("email,card", file),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn every_problem_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("knowhow.toml");
        std::fs::write(&path, "scop = \"x\"\n[memory]\nhold_ot = 1\nredact = [1]\n").unwrap();
        let (_, problems) = Config::load(Some(&path), none, &[("x".to_owned(), String::new())]);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told.iter().any(|one| one.contains("scop (") && one.contains("did you mean scope?")), "{told:?}");
        assert!(told.iter().any(|one| one.contains("did you mean memory.hold_out?")), "{told:?}");
        std::fs::write(&path, "scope = \n").unwrap();
        assert_eq!(Config::load(Some(&path), none, &[]).1.len(), 1);
        assert_eq!(Config::load(Some(&folder.path().join("none.toml")), none, &[]).1.len(), 1);
    }

    #[test]
    fn secrets_are_hidden() {
        let flags = [("store.token".to_owned(), "hush".to_owned())];
        let (config, _) = Config::load(None, none, &flags);
        assert_eq!((config.get("store.token"), config.shown("store.token")), ("hush", "(hidden)"));
        let problem = config.parse("store.token", "nothing", |_| None::<()>).unwrap_err();
        assert!(!problem.to_string().contains("hush"));
        // What is no TOML was told with its whole line.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("knowhow.toml");
        std::fs::write(&path, "[store]\ntoken = \"hush\n").unwrap();
        let problems = Config::load(Some(&path), none, &[]).1;
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(problem.what.starts_with("line 2: ") && !problem.what.contains("hush"), "{problem}");
    }
}
