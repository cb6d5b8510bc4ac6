//! Blobs by key. Each blob is written completely or not at all, and its digest is known. [`Blobs::folder`]
//! has the operations that only a folder supports.

mod digest;
mod folder;
mod stream;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

pub use digest::{Digesting, digest, digest_of};
pub use folder::BlobFolder;
pub use stream::{ByteStream, VERIFY_BYTES};

use self::digest::digested;
use crate::failpoint::{self, InjectedFault};

/// A handle to the blobs. Clones share them.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: Option<BlobFolder>,
}

/// Key of the blob that [`Blobs::probe`] writes.
pub const PROBE: &str = "probe";

/// A stored blob, or a file in the folder of blobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredFile {
    /// Key of the blob, or path in the folder.
    pub key: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Whether it is an unfinished write: `KEY#N` next to its target.
    pub is_temporary: bool,
}

/// A written blob, as the row that names it describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Key of the blob.
    pub key: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// Why a blob can't be written or read. The message may contain paths, so it is for logs and is not sent to
/// clients.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The object store failed.
    #[error("storage failed: {0}")]
    Storage(#[from] object_store::Error),
    /// The folder failed.
    #[error("storage failed: {0}")]
    Folder(#[from] std::io::Error),
    /// There is no blob with this key.
    #[error("blob {0} is missing")]
    Missing(String),
    /// The blob is longer or shorter than what was written.
    #[error("blob {key} has {found} bytes, its row says {expected}")]
    Size {
        /// Key of the blob.
        key: String,
        /// The size of the blob.
        found: u64,
        /// The size in its row.
        expected: u64,
    },
    /// The content differs from what was written.
    #[error("blob {key} has the digest {found}, its row says {expected}")]
    Digest {
        /// Key of the blob.
        key: String,
        /// The digest of its content.
        found: String,
        /// The digest in its row.
        expected: String,
    },
}

impl BlobError {
    /// Returns whether the blob is damaged or missing, so that trying again won't help.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Digest { .. } | Self::Size { .. } | Self::Missing(_))
    }
}

impl Blobs {
    /// Opens `folder`, which must exist.
    ///
    /// # Errors
    /// Returns an error if it can't be used.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        let folder = BlobFolder::open(folder)?;
        Ok(Self { store: folder.store(), folder: Some(folder) })
    }

    /// Returns the folder that contains the blobs, if there is one.
    pub fn folder(&self) -> Option<&BlobFolder> {
        self.folder.as_ref()
    }

    fn is_in_place(&self) -> Result<(), BlobError> {
        self.folder.as_ref().map_or(Ok(()), BlobFolder::is_in_place)
    }

    /// Writes `bytes` under `key`. They are durable when this returns.
    ///
    /// # Errors
    /// Returns an error if the blob can't be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<Blob, BlobError> {
        let size_bytes = bytes.len() as u64;
        let (bytes, sha256) = digested(bytes).await?;
        self.is_in_place()?;
        self.store.put(&Key::from(key), bytes.into()).await?;
        Ok(Blob { key: key.to_owned(), size_bytes, sha256 })
    }

    /// Reads the blob under `key` and verifies it against `sha256`.
    ///
    /// # Errors
    /// Returns an error if the blob is missing or damaged, or can't be read.
    pub async fn get(&self, key: &str, sha256: &str) -> Result<Bytes, BlobError> {
        let bytes = match self.store.get(&Key::from(key)).await {
            Ok(found) => found.bytes().await?,
            Err(error) => return Err(self.unreadable(key, error)),
        };
        let (bytes, found) = digested(bytes).await?;
        if found != sha256 && !failpoint::has(InjectedFault::NoDigests) {
            return Err(BlobError::Digest { key: key.to_owned(), found, expected: sha256.to_owned() });
        }
        Ok(bytes)
    }

    /// Returns the error for a blob that can't be read.
    fn unreadable(&self, key: &str, error: object_store::Error) -> BlobError {
        match error {
            object_store::Error::NotFound { .. } => match self.is_in_place() {
                Ok(()) => BlobError::Missing(key.to_owned()),
                Err(error) => error,
            },
            error => error.into(),
        }
    }

    /// Deletes blobs that no row names any more. A blob that can't be deleted now is left to the sweep.
    pub async fn delete_dead(&self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            if let Err(error) = self.delete(&key).await {
                tracing::warn!(key, %error, "an orphaned blob is left to the sweep");
            }
        }
    }

    /// Checks that blobs can be written, by writing and deleting a small one.
    ///
    /// # Errors
    /// Returns an error if that fails.
    pub async fn probe(&self) -> Result<(), BlobError> {
        self.put(PROBE, Bytes::from_static(PROBE.as_bytes())).await?;
        self.delete(PROBE).await
    }

    /// Lists everything except damaged blobs that were set aside.
    ///
    /// # Errors
    /// Returns an error if listing fails.
    pub async fn list(&self) -> Result<Vec<StoredFile>, BlobError> {
        // A folder may also contain unfinished writes, and files that other programs have put there.
        if let Some(folder) = &self.folder {
            return folder.files().await;
        }
        let file = |found: object_store::ObjectMeta| StoredFile {
            key: found.location.into(),
            size_bytes: found.size,
            is_temporary: false,
        };
        let mut found: Vec<StoredFile> = self.store.list(None).map_ok(file).try_collect().await?;
        found.sort();
        Ok(found)
    }

    /// Returns whether there may be a blob whose key begins with `part` and a slash. It is true if listing fails.
    pub async fn may_have_under(&self, part: &str) -> bool {
        self.store.list(Some(&Key::from(part))).next().await.is_some()
    }

    /// Deletes a file that [`Self::list`] returned, if it still exists.
    ///
    /// # Errors
    /// Returns an error if it can't be deleted.
    pub async fn remove(&self, file: &StoredFile) -> Result<(), BlobError> {
        match &self.folder {
            Some(folder) => folder.remove(file).await,
            None => self.delete(&file.key).await,
        }
    }

    /// Deletes the blob under `key`, if there is one.
    ///
    /// # Errors
    /// Returns an error if it can't be deleted.
    pub async fn delete(&self, key: &str) -> Result<(), BlobError> {
        match self.store.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
