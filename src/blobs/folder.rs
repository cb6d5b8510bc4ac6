use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::{BlobError, StoredFile};

/// The folder that contains the blobs, and the operations that only a folder supports.
#[derive(Clone, Debug)]
pub struct BlobFolder {
    path: Arc<Path>,
    /// Device and inode number of the folder.
    place: (u64, u64),
}

impl BlobFolder {
    pub(super) fn open(path: &Path) -> Result<Self, BlobError> {
        Ok(Self { path: path.into(), place: place(path)? })
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

    /// Returns all files in the folder, including those that chainrule did not write.
    pub(super) async fn files(&self) -> Result<Vec<StoredFile>, BlobError> {
        let folder = Arc::clone(&self.path);
        let listed = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            walk(&folder, &folder, &mut found)?;
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
