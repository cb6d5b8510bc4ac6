//! A data folder as a command opens it, beside servers or alone: it must be there, and is left as it is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::app::{BLOBS, DATABASE, FolderLock, StartError};
use crate::blobs::{BlobError, Blobs};
use crate::store::{Store, StoreError};

/// How long a command waits for a server that starts and has the folder whole meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often it looks.
const POLL: Duration = Duration::from_millis(20);

/// Rows and bytes of a data folder; dropped, it is free for others.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The rows.
    pub store: Store,
    /// The bytes.
    pub blobs: Blobs,
    _lock: FolderLock,
}

/// Why a data folder can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is none.
    #[error("there is no chainrule data folder at {path}: {missing} is missing", path = .path.display())]
    Missing {
        /// Where.
        path: PathBuf,
        /// What is missing of it.
        missing: &'static str,
    },
    /// Others have a share of it.
    #[error("the data folder {path} is in use by another chainrule process", path = .0.display())]
    Shared(PathBuf),
    /// It can't be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its bytes can't be used.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl Folder {
    /// Opens the folder at `path` beside others.
    ///
    /// # Errors
    /// Where there is none, another process has it whole, or it can't be used.
    pub async fn beside(path: &Path) -> Result<Self, FolderError> {
        is_there(path)?;
        let begun = Instant::now();
        let lock = loop {
            match FolderLock::shared(path)? {
                Some(lock) => break lock,
                None if begun.elapsed() > PATIENCE => return Err(StartError::InUse(path.to_owned()).into()),
                None => tokio::time::sleep(POLL).await,
            }
        };
        Self::open(path, lock).await
    }

    /// Opens the folder at `path` and keeps all others away.
    ///
    /// # Errors
    /// Where there is none, another process has it or a share of it, or it can't be used.
    pub async fn alone(path: &Path) -> Result<Self, FolderError> {
        is_there(path)?;
        let lock = FolderLock::whole(path)?.ok_or_else(|| FolderError::Shared(path.to_owned()))?;
        Self::open(path, lock).await
    }

    async fn open(path: &Path, lock: FolderLock) -> Result<Self, FolderError> {
        let database = path.join(DATABASE);
        let store = Store::open_existing(&database).await;
        let database_error = |source: StoreError| StartError::Database { path: database.clone(), source };
        let store = store.map_err(database_error)?;
        let blobs = Blobs::open(&path.join(BLOBS))?;
        Ok(Self { path: path.to_owned(), store, blobs, _lock: lock })
    }

    /// Closes the rows, and frees the folder.
    pub async fn close(self) {
        self.store.close().await;
    }
}

/// Sees that all parts of a data folder are there: an empty folder of bytes in place of a missing one, as of a disk that
/// is not mounted, would make every row a damaged one.
fn is_there(path: &Path) -> Result<(), FolderError> {
    let missing = |missing| FolderError::Missing { path: path.to_owned(), missing };
    if !path.is_dir() {
        return Err(missing("the folder"));
    }
    for part in [DATABASE, BLOBS] {
        if !path.join(part).exists() {
            return Err(missing(part));
        }
    }
    Ok(())
}
