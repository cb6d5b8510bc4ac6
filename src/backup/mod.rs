//! Backup and restore: a data folder as one tar file. The file holds the database and every blob that its
//! rows name.
//!
//! The database is the last entry. Its SHA-256 is in its header, as a keyword of the extended header of
//! POSIX pax (<https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>). So a truncated file
//! has no database, or a database with another digest.

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
use crate::store::{StoreError, is_one_file};

/// The pax keyword that holds the SHA-256 of the database, in hex.
const DIGEST: &str = "CHAINRULE.sha256";

/// What a backup contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// The numbers of jobs, models and checkpoints.
    #[serde(flatten)]
    pub counts: FolderCounts,
    /// Size of the tar file.
    pub bytes: u64,
}

/// Why a backup or a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file of this name exists and `replace` was not given.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// The name belongs to something that is not a regular file.
    #[error("{} is not a regular file, so a backup may not replace it", .0.display())]
    NoFile(PathBuf),
    /// The backup would overwrite a part of the data folder.
    #[error("{} is part of the data folder", .0.display())]
    Own(PathBuf),
    /// Another process is writing this backup.
    #[error("another backup is writing {}", .0.display())]
    UnderWay(PathBuf),
    /// The file of a model is damaged or missing.
    #[error("{owner} can't be backed up: {source}")]
    Model {
        /// The reference of the model, as `name@version`.
        owner: String,
        /// What is wrong with its file.
        source: BlobError,
    },
    /// Every try was interrupted by the deletion of a model.
    #[error("models were deleted during every attempt to copy them")]
    Restless,
    /// The database or the restored folder does not pass its check.
    #[error("{what} is not sound: {finding}")]
    Unsound {
        /// The database, or the path of the backup.
        what: String,
        /// The first fault that the check found.
        finding: String,
    },
    /// The folder to restore into is not empty.
    #[error("the folder {path} is not empty: it holds {name}", path = .path.display())]
    NotEmpty {
        /// The folder to restore into.
        path: PathBuf,
        /// The first name found in it.
        name: String,
    },
    /// The file is not a backup, or it is truncated.
    #[error("{path} is not a complete backup: {why}", path = .path.display())]
    NoBackup {
        /// The file to restore from.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Reading or writing a file or folder failed.
    #[error("{what} {path}: {source}", path = .path.display())]
    File {
        /// The operation, as "can't read".
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The log of a database could not be written back into it.
    #[error("{} is incomplete: its log could not be written back", .0.display())]
    Log(PathBuf),
    /// The database failed.
    #[error("the rows can't be copied: {0}")]
    Store(#[from] StoreError),
    /// A blob could not be read or written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The blobs could not be listed.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The data folder can't be opened.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Returns a function that wraps an I/O error in [`BackupError::File`], for `map_err`.
fn file_error(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.into();
    move |source| BackupError::File { what, path, source }
}

/// Flushes a folder, so that names created, changed or removed in it survive a power cut.
fn sync_folder(path: &Path) -> Result<(), BackupError> {
    sync_names(path).map_err(file_error("can't sync", path))
}

/// Checks that the closed database at `path` is one file.
fn be_one_file(path: &Path) -> Result<(), BackupError> {
    if is_one_file(path) { Ok(()) } else { Err(BackupError::Log(path.to_owned())) }
}
