//! Bytes at rest: a folder of files, each written whole or not at all.

mod stream;
mod verify;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

pub use stream::ByteStream;
pub use verify::{Digesting, digest_of};

use crate::fault::{self, InjectedFault};

/// A handle to the bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: Arc<Path>,
    /// Device and number of the folder.
    place: (u64, u64),
}

/// Where blobs are put that are damaged: kept to be looked at, and never read.
const SET_ASIDE: &str = "damaged";

/// What [`Blobs::probe`] writes.
pub const PROBE: &str = "probe";

/// A file in the folder of blobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredFile {
    /// Its path in the folder, as the key of the blob it holds or becomes.
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
        Ok(Self { store: Arc::new(store), folder: folder.into(), place: place(folder)? })
    }

    /// Sees that the folder is still the one that was opened, and not what is left where it was moved or unmounted.
    fn is_in_place(&self) -> Result<(), BlobError> {
        if place(&self.folder)? == self.place {
            return Ok(());
        }
        Err(std::io::Error::other("another folder is where the blobs were; start the server anew").into())
    }

    /// Bytes that may still be written where the blobs are.
    ///
    /// # Errors
    /// If the system doesn't say.
    pub fn free_bytes(&self) -> Result<u64, BlobError> {
        let system = rustix::fs::statvfs(&*self.folder).map_err(std::io::Error::from)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
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

    /// Every file in the folder but those that were set aside.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub async fn list(&self) -> Result<Vec<StoredFile>, BlobError> {
        self.files(false).await
    }

    /// Every file that was set aside.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub async fn damaged(&self) -> Result<Vec<StoredFile>, BlobError> {
        self.files(true).await
    }

    async fn files(&self, is_set_aside: bool) -> Result<Vec<StoredFile>, BlobError> {
        let folder = Arc::clone(&self.folder);
        let listed = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            list(&folder, &folder, &mut found)?;
            let aside = format!("{SET_ASIDE}/");
            found.retain(|file: &StoredFile| file.key.starts_with(&aside) == is_set_aside);
            found.sort();
            Ok::<_, std::io::Error>(found)
        });
        Ok(listed.await.map_err(object_store::Error::from)??)
    }

    /// Removes a file that [`Self::list`] has shown, if it is still there, and the folder it leaves empty.
    ///
    /// # Errors
    /// If the folder can't be changed.
    pub async fn remove(&self, file: &StoredFile) -> Result<(), BlobError> {
        let path = self.folder.join(&file.key);
        let folder = Arc::clone(&self.folder);
        let removed = tokio::task::spawn_blocking(move || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            if let Some(parent) = path.parent().filter(|parent| parent.parent() != Some(&folder)) {
                // It fails where something is in it, as it shall.
                let _ = std::fs::remove_dir(parent);
            }
            Ok(())
        });
        Ok(removed.await.map_err(object_store::Error::from)??)
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

    /// The file of a blob, for whoever copies it.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key)
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

fn place(folder: &Path) -> std::io::Result<(u64, u64)> {
    let found = std::fs::metadata(folder)?;
    Ok((found.dev(), found.ino()))
}

fn list(root: &Path, folder: &Path, found: &mut Vec<StoredFile>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // What is removed meanwhile is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let path = entry.path();
        if metadata.is_dir() {
            match list(root, &path, found) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => continue,
            }
        }
        let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        let is_temporary = key.rsplit_once('#').is_some_and(|(_, number)| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        found.push(StoredFile { key: key.to_owned(), size_bytes: metadata.len(), is_temporary });
    }
    Ok(())
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The bytes with their digest, made where it holds up nobody.
async fn digested(bytes: Bytes) -> Result<(Bytes, String), BlobError> {
    let digested = tokio::task::spawn_blocking(move || {
        let sha256 = digest(&bytes);
        (bytes, sha256)
    });
    Ok(digested.await.map_err(object_store::Error::from)?)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
