//! Bytes at rest, by key: each blob is written whole or not at all, and read as it was written. What only a folder can do is
//! asked of [`Blobs::folder`].

mod digest;
mod folder;
mod stream;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

pub use digest::{Digesting, digest, digest_of};
pub use folder::BlobFolder;
pub use stream::ByteStream;

use self::digest::digested;
use crate::fault::{self, InjectedFault};

/// A handle to the bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: Option<BlobFolder>,
}

/// Where blobs are put that are damaged: kept to be looked at, and never read.
const SET_ASIDE: &str = "damaged";

/// What [`Blobs::probe`] writes.
pub const PROBE: &str = "probe";

/// What is stored under a key, or in a file of the folder of blobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredFile {
    /// The key of the blob it holds, or its path in the folder.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it is a put under way, or one that was cut: `KEY#N` beside its target.
    pub is_temporary: bool,
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
    /// The folder failed.
    #[error("storage failed: {0}")]
    Folder(#[from] std::io::Error),
    /// There is nothing under the key.
    #[error("blob {0} is missing")]
    Missing(String),
    /// The bytes are more or fewer than were written.
    #[error("blob {key} has {found} bytes, its row says {expected}")]
    Size {
        /// Where it is.
        key: String,
        /// Their number.
        found: u64,
        /// The number in its row.
        expected: u64,
    },
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

impl BlobError {
    /// Whether the bytes under the key are gone or are others, for good.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Digest { .. } | Self::Size { .. } | Self::Missing(_))
    }
}

impl Blobs {
    /// Opens `folder`, which exists.
    ///
    /// # Errors
    /// If it can't be used.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        // A folder that is left empty goes with its last file.
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self { store: Arc::new(store), folder: Some(BlobFolder::open(folder)?) })
    }

    /// The folder that the blobs are in, if they are in one.
    pub fn folder(&self) -> Option<&BlobFolder> {
        self.folder.as_ref()
    }

    fn is_in_place(&self) -> Result<(), BlobError> {
        self.folder.as_ref().map_or(Ok(()), BlobFolder::is_in_place)
    }

    /// Writes `bytes` under `key`; they survive a power cut once this returns.
    ///
    /// # Errors
    /// If the folder can't be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<Blob, BlobError> {
        self.is_in_place()?;
        let size_bytes = bytes.len() as u64;
        let (bytes, sha256) = digested(bytes).await?;
        self.store.put(&Key::from(key), bytes.into()).await?;
        Ok(Blob { key: key.to_owned(), size_bytes, sha256 })
    }

    /// The bytes under `key`, if they are those with the digest `sha256`.
    ///
    /// # Errors
    /// If they are missing or have changed.
    pub async fn get(&self, key: &str, sha256: &str) -> Result<Bytes, BlobError> {
        let bytes = match self.store.get(&Key::from(key)).await {
            Ok(found) => found.bytes().await?,
            Err(error) => return Err(self.unreadable(key, error)),
        };
        let (bytes, found) = digested(bytes).await?;
        if found != sha256 && !fault::has(InjectedFault::NoDigests) {
            return Err(BlobError::Digest { key: key.to_owned(), found, expected: sha256.to_owned() });
        }
        Ok(bytes)
    }

    /// Why there is nothing to read under a key.
    fn unreadable(&self, key: &str, error: object_store::Error) -> BlobError {
        match error {
            object_store::Error::NotFound { .. } => match self.is_in_place() {
                Ok(()) => BlobError::Missing(key.to_owned()),
                Err(error) => error,
            },
            error => error.into(),
        }
    }

    /// Deletes what is under these keys, which no row names any more; what can't be deleted now is left to be swept.
    pub async fn delete_dead(&self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            if let Err(error) = self.delete(&key).await {
                tracing::warn!(key, %error, "bytes that no row names are left to be swept");
            }
        }
    }

    /// Writes and removes a few bytes, to see whether it can be done.
    ///
    /// # Errors
    /// If it can't.
    pub async fn probe(&self) -> Result<(), BlobError> {
        self.put(PROBE, Bytes::from_static(PROBE.as_bytes())).await?;
        self.delete(PROBE).await
    }

    /// Everything that is stored but what was set aside.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn list(&self) -> Result<Vec<StoredFile>, BlobError> {
        self.files(false).await
    }

    /// Everything that was set aside.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn damaged(&self) -> Result<Vec<StoredFile>, BlobError> {
        self.files(true).await
    }

    async fn files(&self, is_set_aside: bool) -> Result<Vec<StoredFile>, BlobError> {
        let mut found = match &self.folder {
            // It holds more than blobs: what was not written to its end, and what others have put there.
            Some(folder) => folder.files().await?,
            None => {
                let file = |found: object_store::ObjectMeta| StoredFile {
                    key: found.location.into(),
                    size_bytes: found.size,
                    is_temporary: false,
                };
                self.store.list(None).map_ok(file).try_collect().await?
            }
        };
        let aside = format!("{SET_ASIDE}/");
        found.retain(|file: &StoredFile| file.key.starts_with(&aside) == is_set_aside);
        found.sort();
        Ok(found)
    }

    /// Removes what [`Self::list`] has shown, if it is still there.
    ///
    /// # Errors
    /// If it can't be removed.
    pub async fn remove(&self, file: &StoredFile) -> Result<(), BlobError> {
        match &self.folder {
            Some(folder) => folder.remove(file).await,
            None => self.delete(&file.key).await,
        }
    }

    /// Moves the bytes under `key`, if there are any, to where nobody reads them; returns their new place.
    ///
    /// # Errors
    /// If the folder can't be changed.
    pub async fn set_aside(&self, key: &str) -> Result<Option<String>, BlobError> {
        let aside = format!("{SET_ASIDE}/{key}");
        match self.store.rename(&Key::from(key), &Key::from(aside.as_str())).await {
            Ok(()) => Ok(Some(aside)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the bytes under `key`, if there are any.
    ///
    /// # Errors
    /// If the folder can't be changed.
    pub async fn delete(&self, key: &str) -> Result<(), BlobError> {
        match self.store.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
