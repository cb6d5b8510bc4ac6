//! Bytes at rest: a folder of files, each written whole or not at all.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

/// A handle to the bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
}

/// What was written: the row that names a blob keeps these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Where it is.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// Bytes that can't be kept or had. The text can hold paths: for logs, not for clients.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The folder or service failed.
    #[error("storage failed: {0}")]
    Storage(#[from] object_store::Error),
    /// The bytes are not those that were written.
    #[error("blob {key} has the digest {found}, its row says {expected}")]
    Digest {
        /// Where it is.
        key: String,
        /// The digest of its bytes.
        found: String,
        /// The digest in its row.
        expected: String,
    },
}

impl Blobs {
    /// Opens `folder`, which exists.
    ///
    /// # Errors
    /// Where it can't be used.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// Writes `bytes` under `key`; they survive a power cut once this returns.
    ///
    /// # Errors
    /// Where the folder can't be written.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<Blob, BlobError> {
        let blob = Blob { key: key.to_owned(), size_bytes: bytes.len() as u64, sha256: digest(&bytes) };
        self.store.put(&Key::from(key), bytes.into()).await?;
        Ok(blob)
    }

    /// The bytes under `key`, if they are those with the digest `sha256`.
    ///
    /// # Errors
    /// Where they are missing or have changed.
    pub async fn get(&self, key: &str, sha256: &str) -> Result<Bytes, BlobError> {
        let bytes = self.store.get(&Key::from(key)).await?.bytes().await?;
        let (bytes, found) = tokio::task::spawn_blocking(move || {
            let found = digest(&bytes);
            (bytes, found)
        })
        .await
        .map_err(object_store::Error::from)?;
        if found != sha256 {
            return Err(BlobError::Digest { key: key.to_owned(), found, expected: sha256.to_owned() });
        }
        Ok(bytes)
    }

    /// Writes and removes a few bytes, to see whether it can be done.
    ///
    /// # Errors
    /// Where it can't.
    pub async fn probe(&self) -> Result<(), BlobError> {
        self.put("probe", b"probe".to_vec()).await?;
        self.delete("probe").await
    }

    /// Removes the bytes under `key`, if there are any.
    ///
    /// # Errors
    /// Where the folder can't be changed.
    pub async fn delete(&self, key: &str) -> Result<(), BlobError> {
        match self.store.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
