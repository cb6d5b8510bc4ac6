//! A data folder: its parts and its lock. Several servers can share it. A command uses it next to running
//! servers, or alone.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::blobs::{BlobError, Blobs};
use crate::store::{Store, StoreError};

/// The file of the database.
pub const DATABASE: &str = "chainrule.db";

/// The database of an unfinished restore. A restore creates this file first and renames it last.
pub const DATABASE_PARTIAL: &str = "chainrule.db.partial";

/// The folder of the blobs.
pub const BLOBS: &str = "blobs";

/// The first parts of the keys of checkpoints and models.
const KEY_PARTS: [&str; 2] = ["jobs", "models"];

/// How long a process waits for another process that holds the whole folder, such as a starting server.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause between two tries.
const POLL: Duration = Duration::from_millis(20);

/// An open data folder.
#[derive(Debug)]
pub struct Folder {
    /// Path of the folder.
    pub path: PathBuf,
    /// The rows, in the database.
    pub store: Store,
    /// The blobs: checkpoints and models.
    pub blobs: Blobs,
    /// Held for as long as the folder is used.
    pub lock: FolderLock,
}

/// A lock on the data folder itself, so no lock file has to be written. Servers hold a shared lock. A process
/// that must be alone holds an exclusive lock. The lock is released on drop.
#[derive(Debug)]
pub struct FolderLock(File);

/// Why a data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The path is not a data folder.
    #[error("there is no chainrule data folder at {path}: {missing} is missing", path = .path.display())]
    Missing {
        /// The path that was given.
        path: PathBuf,
        /// The part that is missing.
        missing: &'static str,
    },
    /// The database exists, but the blobs that it names do not.
    #[error("{path} is missing or has no blobs, but the database next to it names blobs", path = .0.display())]
    Bytes(PathBuf),
    /// The blobs exist, but not the database that names them.
    #[error("{path} is missing or empty, but {BLOBS} next to it has files that only this database can name", path = .0.display())]
    Rows(PathBuf),
    /// The folder can't be written.
    #[error("can't write the data folder {path}: {source}", path = .path.display())]
    Unusable {
        /// The folder or a part of it.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Another process holds the whole folder.
    #[error("the data folder {path} is held by another chainrule process", path = .0.display())]
    Held(PathBuf),
    /// Other processes share the folder, so it can't be used alone.
    #[error("the data folder {path} is in use by another chainrule process", path = .0.display())]
    Shared(PathBuf),
    /// Other processes share the folder, and its database needs a migration.
    #[error("an older chainrule serves the data folder {path}", path = .0.display())]
    Outdated(PathBuf),
    /// An interrupted restore has left the folder incomplete.
    #[error("a restore into the data folder {path} was interrupted", path = .0.display())]
    CutRestore(PathBuf),
    /// The database can't be opened.
    #[error("can't open the database {path}: {source}", path = .path.display())]
    Database {
        /// The file of the database.
        path: PathBuf,
        /// The error of the database.
        source: StoreError,
    },
    /// The folder of the blobs can't be used.
    #[error(transparent)]
    Blobs(#[from] BlobError),
}

impl FolderError {
    /// Returns a function that wraps a [`StoreError`] in [`Self::Database`], for the folder at `path`.
    pub fn of_database(path: &Path) -> impl Fn(StoreError) -> Self {
        let path = path.join(DATABASE);
        move |source| Self::Database { path: path.clone(), source }
    }

    fn unusable(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Unusable { path: path.to_owned(), source }
    }

    /// Returns one line that says what to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some("name the data folder of a server with --data-dir".to_owned()),
            Self::Bytes(path) => Some(format!(
                "mount it or put it back; if it is lost, create it empty with mkdir -p {}/models: chainrule check then lists what \
                 is missing, and chainrule check --repair deletes the rows of it",
                path.display()
            )),
            Self::Rows(path) => Some(format!(
                "put it back, or restore a backup into another folder; to begin anew, move {} away",
                path.with_file_name(BLOBS).display()
            )),
            Self::Unusable { path, source } if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                Some(format!(
                    "{} is on a read-only file system: mount it writable, or name another folder with --data-dir",
                    path.display()
                ))
            }
            Self::Unusable { path, source } if is_of_another_kind(source) => Some(format!(
                "{} or a part of its path is not a folder; name another with --data-dir",
                path.display()
            )),
            Self::Unusable { path, source } if is_of_disk(source) => Some(format!(
                "free space on the disk of {}, or repair the disk; or name another folder with --data-dir",
                path.display()
            )),
            Self::Unusable { path, .. } => Some(ownership_hint(path)),
            Self::Held(_) => Some(
                "a restore, a repair or a server that starts holds it: wait until it is done, or stop it"
                    .to_owned(),
            ),
            Self::Outdated(_) => Some("stop it first, then start this one".to_owned()),
            Self::CutRestore(_) => Some("run chainrule restore again: it starts over".to_owned()),
            Self::Database {
                source: StoreError::Newer { .. } | StoreError::Older | StoreError::Empty, ..
            } => None,
            Self::Database { source, .. } if source.is_busy() => Some(
                "a suspended process or another program has it locked; resume or end that process".to_owned(),
            ),
            Self::Database { path, source } if source.is_denied() && is_denied(path) => {
                Some(ownership_hint(path))
            }
            Self::Database { path, source } if source.is_of_disk() && !path.is_dir() => Some(format!(
                "free space on the disk of {}, or repair the disk: opening the database needs some space; nothing is lost",
                path.display()
            )),
            Self::Database { source: StoreError::Foreign { .. } | StoreError::Migration(_), .. } => Some(
                "its rows may be good: use the chainrule that wrote it, restore a backup into another folder, or name another \
                 folder with --data-dir"
                    .to_owned(),
            ),
            Self::Database { path, .. } => Some(format!(
                "if {} is not a chainrule database, move it away or name another folder with --data-dir",
                path.display()
            )),
            Self::Shared(_) | Self::Blobs(_) => None,
        }
    }
}

impl Folder {
    /// Opens the folder at `path` for a server, and creates it if it is missing. Also returns whether no other
    /// process uses it. Migrations are run only then, because a running server of an earlier version could not
    /// read the migrated rows.
    ///
    /// # Errors
    /// Returns an error if another process holds the whole folder, if other processes share it and it needs a
    /// migration, or if it can't be used.
    pub async fn serve(path: &Path) -> Result<(Self, bool), FolderError> {
        let whole_or_shared = || match FolderLock::whole(path)? {
            Some(lock) => Ok(Some((lock, true))),
            None => Ok(FolderLock::shared(path)?.map(|lock| (lock, false))),
        };
        let (lock, is_alone) = patiently(path, whole_or_shared).await?;
        if path.join(DATABASE_PARTIAL).exists() {
            return Err(FolderError::CutRestore(path.to_owned()));
        }
        let bytes = path.join(BLOBS);
        // Rows without blobs: the disk of the blobs may not be mounted. Every blob would count as damaged.
        if path.join(DATABASE).exists() && !bytes.exists() {
            return Err(FolderError::Bytes(bytes));
        }
        make_folder(&bytes)
            .and_then(|()| rustix::fs::access(&bytes, rustix::fs::Access::WRITE_OK).map_err(Into::into))
            .map_err(FolderError::unusable(&bytes))?;
        let blobs = Blobs::open(&bytes)?;
        rows_of_blobs(path, &blobs).await?;
        let store = match is_alone {
            true => Store::open(&path.join(DATABASE)).await,
            false => Store::open_existing(&path.join(DATABASE)).await,
        };
        let store = store.map_err(|error| match error {
            StoreError::Older if !is_alone => FolderError::Outdated(path.to_owned()),
            error => FolderError::of_database(path)(error),
        })?;
        blobs_of_rows(path, &store, &blobs).await?;
        // The database flushes its files, but not their names.
        sync_names(path).map_err(FolderError::unusable(path))?;
        Ok((Self { path: path.to_owned(), store, blobs, lock }, is_alone))
    }

    /// Opens the folder at `path`. Servers may use it at the same time.
    ///
    /// # Errors
    /// Returns an error if there is no folder, if another process holds the whole folder, or if the folder
    /// can't be used.
    pub async fn beside(path: &Path) -> Result<Self, FolderError> {
        is_there(path)?;
        let lock = patiently(path, || FolderLock::shared(path)).await?;
        Self::open(path, lock).await
    }

    /// Opens the folder at `path` and locks out all other processes.
    ///
    /// # Errors
    /// Returns an error if there is no folder, if another process uses it, or if it can't be used.
    pub async fn alone(path: &Path) -> Result<Self, FolderError> {
        is_there(path)?;
        let lock = FolderLock::whole(path)?.ok_or_else(|| FolderError::Shared(path.to_owned()))?;
        Self::open(path, lock).await
    }

    async fn open(path: &Path, lock: FolderLock) -> Result<Self, FolderError> {
        let blobs = Blobs::open(&path.join(BLOBS))?;
        rows_of_blobs(path, &blobs).await?;
        let store = Store::open_existing(&path.join(DATABASE)).await;
        let store = store.map_err(FolderError::of_database(path))?;
        blobs_of_rows(path, &store, &blobs).await?;
        Ok(Self { path: path.to_owned(), store, blobs, lock })
    }

    /// Closes the database and releases the lock.
    pub async fn close(self) {
        self.store.close().await;
    }
}

impl FolderLock {
    /// Locks the whole folder, and creates it if it is missing. Returns `None` if another process uses it.
    ///
    /// # Errors
    /// Returns an error if the folder can't be used.
    pub fn whole(folder: &Path) -> Result<Option<Self>, FolderError> {
        make_folder(folder).map_err(FolderError::unusable(folder))?;
        Self::take(folder, File::try_lock)
    }

    /// Takes a shared lock on the folder, which must exist. Returns `None` if another process holds the whole
    /// folder.
    fn shared(folder: &Path) -> Result<Option<Self>, FolderError> {
        Self::take(folder, File::try_lock_shared)
    }

    fn take(
        folder: &Path,
        lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Option<Self>, FolderError> {
        let error = FolderError::unusable(folder);
        let file = File::open(folder).map_err(&error)?;
        match lock(&file) {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(error(source)),
        }
    }

    /// Turns an exclusive lock into a shared one. The system releases the old lock first
    /// (<https://man7.org/linux/man-pages/man2/flock.2.html>), so another process may lock the whole folder
    /// for a moment in between.
    ///
    /// # Errors
    /// Returns an error if another process keeps the folder locked, or if the system fails.
    pub async fn share(&self, path: &Path) -> Result<(), FolderError> {
        let share = || match self.0.try_lock_shared() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(FolderError::unusable(path)(source)),
        };
        patiently(path, share).await
    }
}

/// Retries until the lock is acquired or the time has run out.
async fn patiently<T>(
    path: &Path,
    take: impl Fn() -> Result<Option<T>, FolderError>,
) -> Result<T, FolderError> {
    let begun = Instant::now();
    loop {
        match take()? {
            Some(taken) => return Ok(taken),
            None if begun.elapsed() > PATIENCE => return Err(FolderError::Held(path.to_owned())),
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// Checks that all parts of a data folder exist.
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

/// Refuses blobs without rows: no row names them, so they would be deleted as orphans.
async fn rows_of_blobs(path: &Path, blobs: &Blobs) -> Result<(), FolderError> {
    let rows = path.join(DATABASE);
    let [jobs, models] = KEY_PARTS;
    let has_blobs = blobs.may_have_under(jobs).await || blobs.may_have_under(models).await;
    if has_blobs && Store::is_empty(&rows).await.map_err(FolderError::of_database(path))? {
        return Err(FolderError::Rows(rows));
    }
    Ok(())
}

/// Refuses rows that name blobs without a folder for any: another disk may be mounted there, even one with files of
/// its own. An empty folder is enough, since it says that the blobs are really lost.
async fn blobs_of_rows(path: &Path, store: &Store, blobs: &Blobs) -> Result<(), FolderError> {
    let is_missing =
        blobs.folder().is_some_and(|folder| !KEY_PARTS.iter().any(|part| folder.has_folder(part)));
    if is_missing && store.names_blobs().await.map_err(FolderError::of_database(path))? {
        return Err(FolderError::Bytes(path.join(BLOBS)));
    }
    Ok(())
}

/// Creates a folder and its missing parents, durably.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    let missing =
        folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).count();
    std::fs::create_dir_all(folder)?;
    folder.ancestors().skip(1).take(missing).try_for_each(sync_names)
}

/// Flushes a folder, so that names created, changed or removed in it survive a power cut.
///
/// # Errors
/// Returns an error if the folder can't be opened or flushed.
pub fn sync_names(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Returns whether the error means that a file is in the place of a folder.
fn is_of_another_kind(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

/// Returns whether the disk is full or failing.
fn is_of_disk(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Returns whether this user may not write the file at `path`.
fn is_denied(path: &Path) -> bool {
    let access = rustix::fs::access(path, rustix::fs::Access::WRITE_OK);
    access.is_err_and(|error| error == rustix::io::Errno::ACCESS)
}

/// Returns a hint on how this user can be allowed to write to `path`.
fn ownership_hint(path: &Path) -> String {
    let user = rustix::process::getuid();
    let path = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    let is_owner = std::fs::metadata(path).is_ok_and(|found| found.uid() == user.as_raw());
    let (user, path) = (user.as_raw(), path.display());
    let what = if user == 0 {
        format!("the file system of {path} does not allow it")
    } else if is_owner {
        format!("let its owner write: chmod -R u+w {path}")
    } else {
        format!(
            "make it writable for this user (id {user}): sudo chown -R {user} {path} \
             (in a container: the host's folder that is mounted there)"
        )
    };
    format!("{what}; or name another with --data-dir")
}
