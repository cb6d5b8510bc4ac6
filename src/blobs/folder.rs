use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{BlobError, StoredFile};

/// The first part of the keys of damaged blobs, which are kept for examination and never read.
const SET_ASIDE: &str = "damaged";

/// The folder that contains the blobs, and the operations that only a folder supports.
#[derive(Clone, Debug)]
pub struct BlobFolder {
    store: Arc<LocalFileSystem>,
    path: Arc<Path>,
    /// Device and inode number of the folder.
    place: (u64, u64),
}

impl BlobFolder {
    pub(super) fn open(path: &Path) -> Result<Self, BlobError> {
        // Automatic cleanup deletes the parent folder of the last file in it.
        let store = LocalFileSystem::new_with_prefix(path)?.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self { store: Arc::new(store), path: path.into(), place: place(path)? })
    }

    /// Returns the folder as an object store.
    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store) as _
    }

    /// Checks that the folder is still the one that was opened. It may have been moved or unmounted.
    pub(super) fn is_in_place(&self) -> Result<(), BlobError> {
        if place(&self.path)? == self.place {
            return Ok(());
        }
        Err(std::io::Error::other("another folder is in the place of the blobs; restart the server").into())
    }

    /// Returns the free space for blobs, in bytes.
    ///
    /// # Errors
    /// Returns an error if the system can't report it.
    pub fn free_bytes(&self) -> Result<u64, BlobError> {
        let system = rustix::fs::statvfs(&*self.path).map_err(std::io::Error::from)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    /// Returns whether the folder contains a folder of this name, even an empty one.
    pub fn has_folder(&self, name: &str) -> bool {
        self.path.join(name).is_dir()
    }

    /// Moves the blob under `key`, if there is one, to a place where it is never read. Returns its new key.
    ///
    /// # Errors
    /// Returns an error if it can't be moved.
    pub async fn set_aside(&self, key: &str) -> Result<Option<String>, BlobError> {
        let aside = format!("{SET_ASIDE}/{key}");
        match self.store.rename(&Key::from(key), &Key::from(aside.as_str())).await {
            Ok(()) => Ok(Some(aside)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists the blobs that were set aside.
    ///
    /// # Errors
    /// Returns an error if listing fails.
    pub async fn damaged(&self) -> Result<Vec<StoredFile>, BlobError> {
        self.walked(true).await
    }

    /// Lists all other files in the folder, including those that chainrule did not write.
    pub(super) async fn files(&self) -> Result<Vec<StoredFile>, BlobError> {
        self.walked(false).await
    }

    async fn walked(&self, is_set_aside: bool) -> Result<Vec<StoredFile>, BlobError> {
        let folder = Arc::clone(&self.path);
        let listed = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            walk(&folder, &folder, &mut found)?;
            let aside = format!("{SET_ASIDE}/");
            found.retain(|file| file.key.starts_with(&aside) == is_set_aside);
            found.sort();
            Ok::<_, std::io::Error>(found)
        });
        Ok(listed.await.map_err(object_store::Error::from)??)
    }

    /// Deletes a file if it still exists. Also deletes its parent folder if that is now empty, except the folder
    /// itself and the folders directly in it.
    pub(super) async fn remove(&self, file: &StoredFile) -> Result<(), BlobError> {
        let path = self.path.join(&file.key);
        let folder = Arc::clone(&self.path);
        let removed = tokio::task::spawn_blocking(move || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let is_kept = |parent: &Path| parent == &*folder || parent.parent() == Some(&folder);
            if let Some(parent) = path.parent().filter(|parent| !is_kept(parent)) {
                // This fails if the folder is not empty, as intended.
                let _ = std::fs::remove_dir(parent);
            }
            Ok(())
        });
        Ok(removed.await.map_err(object_store::Error::from)??)
    }
}

fn place(folder: &Path) -> std::io::Result<(u64, u64)> {
    let found = std::fs::metadata(folder)?;
    Ok((found.dev(), found.ino()))
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<StoredFile>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // The file was deleted during the listing.
        let Ok(metadata) = entry.metadata() else { continue };
        let path = entry.path();
        if metadata.is_dir() {
            match walk(root, &path, found) {
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
