//! Database files of tenants in a folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::{Result, Scope};

use super::{TenantPlace, tenant_of};
use crate::error::from_io;
use crate::store::once;
use crate::{TursoConfig, TursoStore};

type Settings = dyn Fn(&str) -> Result<TursoConfig> + Send + Sync;

/// A folder in which each tenant has a folder with a database file.
///
/// The name of a tenant's folder is `t-NAME~N`: its name in small letters and with `+` for `:`, and as a hexadecimal number which of the
/// letters are capitals, the first for 1, the second for 2, the third for 4. So names that differ only in that stay apart where file
/// systems do not tell capitals, and `..` is a name like others.
#[derive(Clone)]
pub struct TenantFolder {
    path: PathBuf,
    settings: Arc<Settings>,
}

impl TenantFolder {
    /// This folder, which must be there, with the same settings for all tenants.
    pub fn new(path: impl Into<PathBuf>, config: TursoConfig) -> Self {
        Self::with_settings(path, move |_| Ok(config))
    }

    /// This folder, with settings that are asked for each time a tenant's store is opened: an encryption key for each, for example.
    pub fn with_settings(
        path: impl Into<PathBuf>,
        settings: impl Fn(&str) -> Result<TursoConfig> + Send + Sync + 'static,
    ) -> Self {
        Self { path: path.into(), settings: Arc::new(settings) }
    }

    /// The database file of a scope's tenant, whether it is there or not. It may be opened with [`TursoStore::open_with`] besides, to
    /// back it up or check it.
    pub fn file(&self, scope: &Scope) -> PathBuf {
        self.folder(tenant_of(scope)).join(FILE)
    }

    fn folder(&self, tenant: &str) -> PathBuf {
        self.path.join(folder_name(tenant))
    }
}

const FILE: &str = "memory.db";
const REMOVED: &str = "removed-";

fn folder_name(tenant: &str) -> String {
    let capitals = tenant.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_uppercase());
    let capitals = capitals.fold(0_u128, |capitals, (place, _)| capitals | 1 << place);
    format!("t-{}~{capitals:x}", tenant.to_ascii_lowercase().replace(':', "+"))
}

/// The tenant whose folder has this name.
fn tenant_named(folder: &str) -> Option<String> {
    let (name, capitals) = folder.strip_prefix("t-")?.rsplit_once('~')?;
    let capitals = u128::from_str_radix(capitals, 16).ok()?;
    let is_capital = |place| capitals.checked_shr(place).unwrap_or_default() & 1 == 1;
    let letter = |(place, letter): (u32, char)| if is_capital(place) { letter.to_ascii_uppercase() } else { letter };
    let tenant: String = (0..).zip(name.replace('+', ":").chars()).map(letter).collect();
    (Scope::new(&tenant).is_ok() && folder_name(&tenant) == folder).then_some(tenant)
}

impl fmt::Debug for TenantFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantFolder").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl TenantPlace for TenantFolder {
    type Store = TursoStore;

    async fn open(&self, tenant: &str) -> Result<TursoStore> {
        Scope::new(tenant)?;
        let (folder, config) = (self.folder(tenant), (self.settings)(tenant)?);
        config.validate()?;
        let root = self.path.clone();
        let file = folder.join(FILE);
        once(&self.path, move || make(&root, &folder).map_err(|error| from_io(&folder, error))).await?;
        TursoStore::open_with(file, config).await
    }

    async fn list(&self) -> Result<Vec<String>> {
        let path = self.path.clone();
        once(&self.path, move || list(&path).map_err(|error| from_io(&path, error))).await
    }

    async fn remove(&self, tenant: &str) -> Result<bool> {
        Scope::new(tenant)?;
        let (path, folder) = (self.path.clone(), self.folder(tenant));
        let removed = path.join(format!("{REMOVED}{}", folder_name(tenant)));
        once(&self.path, move || remove(&path, &folder, &removed).map_err(|error| from_io(&folder, error))).await
    }
}

/// Makes a folder, for good.
fn make(path: &Path, folder: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        // It is on disk only when the folder is in which it stands.
        done => done.and_then(|()| std::fs::File::open(path)?.sync_all()),
    }
}

fn list(path: &Path) -> std::io::Result<Vec<String>> {
    let mut tenants = Vec::new();
    for entry in path.read_dir()? {
        let entry = entry?;
        let tenant = entry.file_name().to_str().and_then(tenant_named);
        tenants.extend(tenant.filter(|_| entry.path().join(FILE).is_file()));
    }
    tenants.sort();
    Ok(tenants)
}

/// The folder goes as a whole, by getting another name, before what is in it goes bit by bit.
fn remove(path: &Path, folder: &Path, removed: &Path) -> std::io::Result<bool> {
    let there = folder.join(FILE).is_file();
    // What a process left that was killed meanwhile.
    remove_all(removed)?;
    if folder.is_dir() {
        std::fs::rename(folder, removed)?;
        std::fs::File::open(path)?.sync_all()?;
        remove_all(removed)?;
    }
    Ok(there)
}

fn remove_all(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_safe_and_tell_tenants_apart() {
        let longest = "Z".repeat(Scope::MAX_NAME_BYTES);
        let tenants = [
            "acme",
            "Acme",
            "aCme",
            "ACME",
            "a",
            "A",
            ".",
            "..",
            "...",
            "a.b",
            "a:b",
            "a-b",
            "a_b",
            "con",
            "NUL",
            "-",
            ":",
            "a~1",
            "t-a~0",
            "removed-a",
            "1",
            &longest,
        ];
        let tenants = tenants.into_iter().filter(|tenant| Scope::new(tenant).is_ok());
        let mut folders = std::collections::BTreeSet::new();
        for tenant in tenants {
            let folder = folder_name(tenant);
            assert!(
                folder.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'+' | b'~'))
            );
            assert!(folder.len() <= 255 && folder.starts_with("t-") && !folder.ends_with('.'), "{folder}");
            assert_eq!(tenant_named(&folder).as_deref(), Some(tenant));
            assert!(folders.insert(folder), "two tenants with the folder of {tenant}");
        }
        assert_eq!((folder_name("acme").as_str(), folder_name("A:b.C").as_str()), ("t-acme~0", "t-a+b.c~11"));
        for other in
            ["acme", "t-acme", "t-acme~", "t-acme~00", "t-acme~10", "t-Acme~0", "t-a:b~0", "t-~0", "t-é~0", "t-1~1"]
        {
            assert_eq!(tenant_named(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn what_is_no_name_of_a_tenant_never_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tenants/t-a~0")).unwrap();
        let place = TenantFolder::new(folder.path().join("tenants"), TursoConfig::default());
        let long = "Z".repeat(Scope::MAX_NAME_BYTES + 1);
        for name in ["", "a/b", "a~0/../../x", &long] {
            assert_eq!(place.open(name).await.unwrap_err().kind(), memory_core::ErrorKind::Invalid, "{name}");
            assert_eq!(place.remove(name).await.unwrap_err().kind(), memory_core::ErrorKind::Invalid, "{name}");
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }
}
