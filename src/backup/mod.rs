//! A data folder as one file, and back: a tar of the rows and of every blob that they name.
//!
//! The rows come last, with their own digest in the header (a keyword of the extended header of POSIX pax,
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>): a file that was cut has none.

mod pack;
mod partial;
mod unpack;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use pack::backup;
pub use unpack::restore;

use crate::blobs::BlobError;
use crate::folder::{FolderError, sync_names};
use crate::integrity::FolderCounts;
use crate::inventory::InventoryError;
use crate::store::StoreError;

/// The keyword under which the rows have their SHA-256, in hex.
const DIGEST: &str = "CHAINRULE.sha256";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// Its rows.
    #[serde(flatten)]
    pub counts: FolderCounts,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file has the name already.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// It is neither free nor a plain file.
    #[error("{} is no file that a backup may replace", .0.display())]
    NoFile(PathBuf),
    /// What it would replace is backed up.
    #[error("{} is part of the data folder", .0.display())]
    Own(PathBuf),
    /// Another process writes the same.
    #[error("another backup writes {}", .0.display())]
    UnderWay(PathBuf),
    /// A model can't be had.
    #[error("{owner} can't be backed up: {source}")]
    Model {
        /// Its reference.
        owner: String,
        /// Why.
        source: BlobError,
    },
    /// Models were deleted again and again while they were copied.
    #[error("models were deleted while they were copied, each time it was tried")]
    Restless,
    /// What there is does not pass a check.
    #[error("{what} is not sound: {finding}")]
    Unsound {
        /// What.
        what: String,
        /// The first thing that is wrong.
        finding: String,
    },
    /// The folder holds something.
    #[error("the folder {path} is not empty: it holds {name}", path = .path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// Something in it.
        name: String,
    },
    /// The file is no backup, or not a whole one.
    #[error("{path} is no whole backup: {why}", path = .path.display())]
    NoBackup {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A file or folder failed.
    #[error("{what} {path}: {source}", path = .path.display())]
    File {
        /// What can't be done with it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log of a database could not be written back into it.
    #[error("{} can't be written: its log stays beside it", .0.display())]
    Log(PathBuf),
    /// The rows failed.
    #[error("the rows can't be copied: {0}")]
    Store(#[from] StoreError),
    /// The bytes failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The folder failed.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The folder can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// A failure of `path`, for `map_err`.
fn file_error(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.into();
    move |source| BackupError::File { what, path, source }
}

/// Sees to it that what was made, renamed or removed in a folder is so after a power cut.
fn sync_folder(path: &Path) -> Result<(), BackupError> {
    sync_names(path).map_err(file_error("can't sync", path))
}

/// Sees that the database at `path`, which was closed, is all in its one file: on a full disk SQLite leaves its log beside
/// it.
fn be_one_file(path: &Path) -> Result<(), BackupError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    match std::fs::metadata(&log) {
        Ok(found) if found.len() > 0 => Err(BackupError::Log(path.to_owned())),
        _ => Ok(()),
    }
}
