//! From a configuration to a memory: the store with what is around it, the embedder, the engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::TimeDelta;
use memory_core::{
    Embedder, HashEmbedder, InMemoryStore, Memory, MemoryStore, RetentionPolicy, Scope, Source, StepDurability, Trust,
};
use memory_embed::{CacheConfig, CachedEmbedder, MlxEmbedder, Model, OllamaEmbedder, OpenAiEmbedder, ServerConfig};
use memory_resilience::presets;
use memory_storage_redb::HotCache;
use memory_storage_turso::{RemoteConfig, TursoConfig, TursoStore};

use crate::approvals::Approvals;
use crate::config::{Config, Problem};
use crate::http::HttpConfig;
use crate::metrics::Breaker;
use crate::redact::Redactor;
use crate::service::{Caller, Right, Service};

/// What was configured, checked and typed.
#[derive(Clone, Debug)]
pub struct Plan {
    place: Place,
    cache: Option<PathBuf>,
    embedder: EmbedderPlan,
    scope: Scope,
    source: Source,
    hold_out: f64,
    abstain_below: f64,
    lease: TimeDelta,
    batched: bool,
    retention: Option<RetentionPolicy>,
    redactor: Option<Redactor>,
    consent: bool,
    http: HttpConfig,
}

/// Where the store is.
#[expect(clippy::exhaustive_enums, reason = "who works on a store must know every place")]
#[derive(Clone, Debug)]
pub enum Place {
    /// In this process alone.
    Memory,
    /// A file.
    File(PathBuf, TursoConfig),
    /// A server, with a local copy if there is a path.
    Server(String, RemoteConfig, Option<PathBuf>),
}

#[derive(Clone, Debug)]
enum EmbedderPlan {
    Hash,
    OpenAi(ServerConfig, Model),
    Ollama(ServerConfig, Model),
    Mlx(ServerConfig, Model),
    #[cfg(feature = "local")]
    Local(PathBuf),
}

/// An open memory, with the parts that operators work on.
#[derive(Debug)]
pub struct Opened {
    /// The memory.
    pub memory: Memory,
    /// What is approved, if that is needed.
    pub approvals: Option<Approvals>,
    /// The store, if it is a file or on a server.
    pub turso: Option<Arc<TursoStore>>,
    /// The circuit breakers before servers.
    pub breakers: Vec<Breaker>,
}

/// Collects what is wrong, so that all of it is told at once.
struct Checking<'c> {
    config: &'c Config,
    problems: Vec<Problem>,
}

impl Checking<'_> {
    fn value<T>(&mut self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        match self.config.parse(key, allowed, parse) {
            Ok(value) => value,
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn checked<T>(&mut self, key: &str, result: Result<T, impl std::fmt::Display>) -> Option<T> {
        result.map_err(|error| self.problems.push(self.config.problem(key, error.to_string()))).ok()
    }

    fn share(&mut self, key: &str) -> f64 {
        let share = |text: &str| text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        self.value(key, "0 to 1", share).unwrap_or_default()
    }

    fn flag(&mut self, key: &str) -> bool {
        self.value(key, "true or false", |text| text.parse().ok()).unwrap_or_default()
    }

    fn count(&mut self, key: &str) -> Option<u64> {
        self.value(key, "1 or more", |text| text.parse().ok().filter(|count| *count > 0))
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.value(key, "a path", |text| Some(PathBuf::from(text)))
    }

    fn place(&mut self) -> Place {
        let url = self.config.get("store.url").to_owned();
        if url == "memory" {
            return Place::Memory;
        }
        if ["libsql://", "https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) {
            let mut remote = RemoteConfig::default().with_store(self.file());
            if !self.config.get("store.token").is_empty() {
                remote = remote.with_token(self.config.get("store.token"));
            }
            let replica = self.path("store.replica");
            let feature = if url.starts_with("http://") { "replica" } else { "replica-tls" };
            let built = cfg!(feature = "replica-tls") || (cfg!(feature = "replica") && feature == "replica");
            if replica.is_some() && !built {
                let what =
                    format!("this program was built without local copies of this; build it with --features {feature}");
                self.problems.push(self.config.problem("store.replica", what));
            }
            return Place::Server(url, remote, replica);
        }
        let path = self.checked("store.url", std::path::absolute(&url));
        Place::File(path.unwrap_or_default(), self.file())
    }

    #[cfg(feature = "encryption")]
    fn file(&mut self) -> TursoConfig {
        let key = self.value("store.encryption_key", "64 hexadecimal digits", |text| {
            crate::hex::from_hex(text).map(memory_storage_turso::EncryptionKey::new)
        });
        key.map_or_else(TursoConfig::default, |key| TursoConfig::default().with_encryption_key(key))
    }

    #[cfg(not(feature = "encryption"))]
    fn file(&mut self) -> TursoConfig {
        if !self.config.get("store.encryption_key").is_empty() {
            let what = "this program was built without encryption; build it with --features encryption";
            self.problems.push(self.config.problem("store.encryption_key", what));
        }
        TursoConfig::default()
    }

    fn cache(&mut self, place: &Place) -> Option<PathBuf> {
        match (self.config.get("store.cache"), place) {
            ("off" | "", _) | (_, Place::Memory) => None,
            // It is not encrypted, and has the records: beside a database that is, only whoever names its path gets it.
            ("on", _) if !self.config.get("store.encryption_key").is_empty() => None,
            ("on", Place::File(path, _) | Place::Server(_, _, Some(path))) => Some(path.with_extension("cache.redb")),
            ("on", Place::Server(_, _, None)) => None,
            (path, _) => Some(PathBuf::from(path)),
        }
    }

    fn embedder(&mut self) -> EmbedderPlan {
        let kind = self.config.get("embedder.kind");
        if kind == "hash" {
            return EmbedderPlan::Hash;
        }
        #[cfg(feature = "local")]
        if kind == "local" {
            return EmbedderPlan::Local(self.needed("embedder.model", kind).into());
        }
        let with: fn(ServerConfig, Model) -> EmbedderPlan = match kind {
            "openai" => EmbedderPlan::OpenAi,
            "ollama" => EmbedderPlan::Ollama,
            "mlx" => EmbedderPlan::Mlx,
            _ => {
                let local = if cfg!(feature = "local") { "" } else { " (local needs a build with --features local)" };
                let what = format!("is {kind:?}; allowed: hash, openai, ollama, mlx or local{local}");
                self.problems.push(self.config.problem("embedder.kind", what));
                return EmbedderPlan::Hash;
            }
        };
        let mut server = ServerConfig::new(self.needed("embedder.url", kind));
        if !self.config.get("embedder.key").is_empty() {
            server = server.with_key(self.config.get("embedder.key"));
        }
        with(server, Model::new(self.needed("embedder.model", kind)))
    }

    /// The value of a setting that another one asks for.
    fn needed(&mut self, key: &str, kind: &str) -> String {
        let text = self.config.get(key).to_owned();
        if text.is_empty() {
            self.problems.push(self.config.problem(key, format!("is needed with embedder.kind = {kind:?}")));
        }
        text
    }

    fn http(&mut self) -> HttpConfig {
        let usual = HttpConfig::default();
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        let list = |text: &str| Some(text.split(',').map(|one| one.trim().to_owned()).collect());
        HttpConfig {
            bind: self.value("http.bind", "ADDRESS:PORT", |text| text.parse().ok()).unwrap_or(usual.bind),
            tokens: self.path("http.tokens"),
            hosts: self.value("http.hosts", "hosts", list).unwrap_or_default(),
            origins: self.value("http.origins", "origins", list).unwrap_or_default(),
            rate_per_minute: self.value("http.rate_per_minute", "1 or more", number).unwrap_or(usual.rate_per_minute),
            max_body_bytes: self
                .value("http.max_body_bytes", "1024 to 67108864", |text| {
                    text.parse().ok().filter(|bytes| (1_024..=67_108_864).contains(bytes))
                })
                .unwrap_or(usual.max_body_bytes),
        }
    }

    fn retention(&mut self) -> Option<RetentionPolicy> {
        let days = |text: &str| TimeDelta::try_days(text.parse().ok().filter(|days| *days > 0)?);
        let age = self.value("memory.max_age_days", "1 or more", days);
        let most = self.count("memory.max_episodes");
        let policy = age.map_or_else(RetentionPolicy::new, |age| RetentionPolicy::new().max_age(age));
        let policy = most.map_or(policy, |most| policy.max_episodes(most));
        (age.is_some() || most.is_some()).then_some(policy)
    }
}

impl Plan {
    /// Checks a configuration.
    ///
    /// # Errors
    /// Every problem that is found without opening anything.
    pub fn new(config: &Config) -> Result<Self, Vec<Problem>> {
        let mut checking = Checking { config, problems: Vec::new() };
        let place = checking.place();
        let trust = checking.value("trust", "trusted or untrusted", Trust::named).unwrap_or_default();
        let lease =
            |text: &str| TimeDelta::try_seconds(text.parse().ok().filter(|lease| (1..=86_400).contains(lease))?);
        let plan = Self {
            cache: checking.cache(&place),
            place,
            embedder: checking.embedder(),
            scope: checking.checked("scope", Scope::try_from(config.get("scope").to_owned())).unwrap_or_default(),
            source: Source { name: config.get("source").to_owned(), trust },
            hold_out: checking.share("memory.hold_out"),
            abstain_below: checking.share("memory.abstain_below"),
            lease: checking
                .value("memory.lease_seconds", "1 to 86400", lease)
                .unwrap_or_else(|| TimeDelta::seconds(60)),
            batched: checking.flag("memory.batched_steps"),
            retention: checking.retention(),
            redactor: checking
                .value("memory.redact", "all or kinds separated by commas", |text| Some(text.to_owned()))
                .and_then(|kinds| checking.checked("memory.redact", Redactor::of(&kinds))),
            consent: checking.flag("memory.consent"),
            http: checking.http(),
        };
        for (key, result) in plan.http.check() {
            checking.checked(key, result);
        }
        if checking.problems.is_empty() { Ok(plan) } else { Err(checking.problems) }
    }

    /// Where the store is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How to serve over HTTP.
    pub fn http(&self) -> &HttpConfig {
        &self.http
    }

    /// The file of the hot cache.
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// In which scope.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Which episodes are kept, if not all.
    pub fn retention(&self) -> Option<&RetentionPolicy> {
        self.retention.as_ref()
    }

    /// The same for a command that ends soon: without the hot cache, whose file is another process's for as long as that runs, and
    /// without deleting by itself what the retention policy does not keep.
    #[must_use]
    pub fn for_a_command(mut self) -> Self {
        (self.cache, self.retention) = (None, None);
        self
    }

    /// Opens the embedder; one on a server has a breaker.
    ///
    /// # Errors
    /// Its own.
    pub async fn embedder(&self) -> memory_core::Result<(Arc<dyn Embedder>, Option<Breaker>)> {
        match self.embedder.clone() {
            EmbedderPlan::Hash => Ok((Arc::new(HashEmbedder::new()), None)),
            EmbedderPlan::OpenAi(server, model) => guarded(OpenAiEmbedder::connect(server, model).await?),
            EmbedderPlan::Ollama(server, model) => guarded(OllamaEmbedder::connect(server, model).await?),
            EmbedderPlan::Mlx(server, model) => guarded(MlxEmbedder::connect(server, model).await?),
            #[cfg(feature = "local")]
            EmbedderPlan::Local(directory) => {
                let local = memory_embed::LocalEmbedder::open(directory, None).await?;
                Ok((Arc::new(CachedEmbedder::new(local, CacheConfig::default())?), None))
            }
        }
    }

    /// Opens the store, alone; `None` if it is in memory.
    ///
    /// # Errors
    /// The store's.
    pub async fn turso(&self) -> memory_core::Result<Option<TursoStore>> {
        Ok(Some(match self.place.clone() {
            Place::Memory => return Ok(None),
            Place::File(path, config) => {
                if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    let made = tokio::fs::create_dir_all(folder).await;
                    made.map_err(|error| {
                        let what = format!("folder {} cannot be made", folder.display());
                        memory_core::Error::new(memory_core::ErrorKind::Io, what).with_source(error)
                    })?;
                }
                TursoStore::open_with(path, config).await?
            }
            Place::Server(url, config, None) => TursoStore::open_remote(&url, config).await?,
            Place::Server(url, config, Some(copy)) => replica(&url, config, &copy).await?,
        }))
    }

    /// Opens everything.
    ///
    /// # Errors
    /// The store's, the embedder's and the engine's.
    pub async fn open(&self) -> memory_core::Result<Opened> {
        let (embedder, breaker) = self.embedder().await?;
        self.open_with(embedder, Vec::from_iter(breaker)).await
    }

    /// Opens everything but the embedder, which is this one, with these breakers before it.
    ///
    /// # Errors
    /// The store's and the engine's.
    pub async fn open_with(
        &self,
        embedder: Arc<dyn Embedder>,
        mut breakers: Vec<Breaker>,
    ) -> memory_core::Result<Opened> {
        let turso = self.turso().await?.map(Arc::new);
        let store: Arc<dyn MemoryStore> = match (&turso, &self.cache) {
            (None, _) => Arc::new(InMemoryStore::new()),
            (Some(turso), Some(path)) => {
                let cache = HotCache::open(Arc::clone(turso), path).await?;
                guarded_store(cache, &self.place, &mut breakers)?
            }
            (Some(turso), None) => guarded_store(Arc::clone(turso), &self.place, &mut breakers)?,
        };
        let approvals = self.consent.then(Approvals::default);
        let mut builder = Memory::builder()
            .store(store)
            .embedder(embedder)
            .scope(self.scope.clone())
            .hold_out(self.hold_out)
            .abstain_below(self.abstain_below)
            .lease(self.lease);
        if self.batched {
            builder = builder.step_durability(StepDurability::batched());
        }
        if let Some(policy) = self.retention {
            builder = builder.retention(policy);
        }
        if let Some(approvals) = &approvals {
            builder = builder.consent(approvals.clone());
        }
        Ok(Opened { memory: builder.build().await?, approvals, turso, breakers })
    }

    /// Opens everything, for callers.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn service(&self) -> memory_core::Result<Arc<Service>> {
        let Opened { memory, approvals, breakers, .. } = self.open().await?;
        Ok(Service::new(memory, self.redactor.clone(), approvals, breakers))
    }

    /// Whoever started this process: may do everything in the scope that was configured.
    ///
    /// # Errors
    /// As [`Caller::new`].
    pub fn owner(&self, service: Arc<Service>) -> memory_core::Result<Caller> {
        Caller::new(service, self.scope.clone(), self.source.clone(), Right::Admin)
    }
}

#[cfg(feature = "replica")]
async fn replica(url: &str, config: RemoteConfig, copy: &Path) -> memory_core::Result<TursoStore> {
    let config = memory_storage_turso::ReplicaConfig::default().with_remote(config);
    TursoStore::open_replica(copy, url, config).await
}

#[cfg(not(feature = "replica"))]
async fn replica(_: &str, _: RemoteConfig, copy: &Path) -> memory_core::Result<TursoStore> {
    Err(memory_core::Error::invalid(
        "store.replica",
        copy.display(),
        "none: this program was built without local copies",
    ))
}

/// An embedder on a server, with what keeps it working, and a cache.
fn guarded<E: Embedder>(embedder: E) -> memory_core::Result<(Arc<dyn Embedder>, Option<Breaker>)> {
    let guarded = Arc::new(presets::embedder(embedder, "embedder")?);
    let watched = Arc::clone(&guarded);
    let breaker = Breaker::new("embedder", move || watched.get_ref().get_ref().stats());
    Ok((Arc::new(CachedEmbedder::new(guarded, CacheConfig::default())?), Some(breaker)))
}

fn guarded_store<S: MemoryStore>(
    store: S,
    place: &Place,
    breakers: &mut Vec<Breaker>,
) -> memory_core::Result<Arc<dyn MemoryStore>> {
    let Place::Server(..) = place else { return Ok(Arc::new(presets::local_file(store)?)) };
    let guarded = Arc::new(presets::remote_server(store, "store")?);
    let watched = Arc::clone(&guarded);
    breakers.push(Breaker::new("store", move || watched.get_ref().get_ref().stats()));
    Ok(guarded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works with what checks a configuration of these settings.
    fn checking<T>(settings: &[(&str, &str)], work: impl FnOnce(&mut Checking<'_>) -> T) -> (T, Vec<Problem>) {
        let flags: Vec<_> = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (config, problems) = Config::load(None, |_| None, &flags);
        let mut checking = Checking { config: &config, problems };
        (work(&mut checking), checking.problems)
    }

    const KEY: (&str, &str) =
        ("store.encryption_key", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");

    /// The records were in the cache, and not encrypted there.
    #[test]
    fn beside_an_encrypted_database_is_no_cache_unless_it_is_named() {
        let cache = |settings: &[(&str, &str)]| {
            checking(settings, |checking| {
                let place = Place::File("memory.db".into(), TursoConfig::default());
                checking.cache(&place)
            })
            .0
        };
        assert_eq!(cache(&[]), Some("memory.cache.redb".into()));
        assert_eq!(cache(&[KEY]), None);
        assert_eq!(cache(&[KEY, ("store.cache", "x.redb")]), Some("x.redb".into()));
    }

    /// It was passed over, and the copy was not encrypted.
    #[test]
    fn the_key_is_the_local_copys_too() {
        for url in ["http://localhost:1", "libsql://example.com"] {
            let settings = [("store.url", url), ("store.replica", "copy.db"), ("store.encryption_key", "hush")];
            let (_, problems) = checking(&settings, |checking| checking.place());
            let told = problems.iter().find(|problem| problem.at.starts_with("store.encryption_key"));
            assert!(told.is_some_and(|problem| !problem.what.contains("hush")), "{problems:?}");
        }
        let settings = [("store.url", "http://localhost:1"), ("store.replica", "copy.db"), KEY];
        let (place, _) = checking(&settings, |checking| checking.place());
        let Place::Server(_, remote, _) = place else { panic!("{place:?}") };
        let has_key = format!("{remote:?}").contains("EncryptionKey");
        assert_eq!(has_key, cfg!(feature = "encryption"), "{remote:?}");
    }

    #[test]
    fn local_copies_are_refused_as_far_as_they_are_not_built_in() {
        for (url, feature, built) in [
            ("http://localhost:1", "replica", cfg!(feature = "replica")),
            ("https://example.com", "replica-tls", cfg!(feature = "replica-tls")),
            ("libsql://example.com", "replica-tls", cfg!(feature = "replica-tls")),
        ] {
            let (_, problems) =
                checking(&[("store.url", url), ("store.replica", "copy.db")], |checking| checking.place());
            assert_eq!(problems.is_empty(), built, "{url}: {problems:?}");
            assert!(
                problems.iter().all(|problem| problem.what.ends_with(&format!("--features {feature}"))),
                "{problems:?}"
            );
        }
    }
}
