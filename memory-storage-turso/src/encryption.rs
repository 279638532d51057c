//! Files that only those who have their key can read.

#[cfg(feature = "encryption")]
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use libsql::EncryptionConfig;

/// The key of an encrypted file: 32 bytes from a good source of randomness. Whoever loses it has lost the file.
///
/// It stands in no message and no `Debug`. It is not wiped from the memory of the process when it is dropped.
#[cfg(feature = "encryption")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EncryptionKey([u8; 32]);

#[cfg(feature = "encryption")]
impl EncryptionKey {
    /// The key of these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn config(self) -> EncryptionConfig {
        EncryptionConfig { cipher: libsql::Cipher::Aes256Cbc, encryption_key: self.0.to_vec().into() }
    }
}

#[cfg(feature = "encryption")]
impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(…)")
    }
}

/// Without the feature there are no keys.
#[cfg(not(feature = "encryption"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncryptionKey {}

#[cfg(not(feature = "encryption"))]
impl EncryptionKey {
    pub(crate) fn config(self) -> EncryptionConfig {
        match self {}
    }
}

/// A database file, with its key if it is encrypted.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseFile {
    pub(crate) path: Arc<Path>,
    pub(crate) key: Option<EncryptionKey>,
}

impl DatabaseFile {
    pub(crate) fn new(path: impl Into<Arc<Path>>, key: Option<EncryptionKey>) -> Self {
        Self { path: path.into(), key }
    }

    /// Another file with the same key.
    pub(crate) fn at(&self, path: impl Into<Arc<Path>>) -> Self {
        Self::new(path, self.key)
    }
}
