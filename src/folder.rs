//! A data folder: what lies in it, and who may use it. Servers share it; a command works beside them, or has it alone and
//! leaves it as it is.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::blobs::{BlobError, Blobs};
use crate::store::{Store, StoreError};

/// The rows.
pub const DATABASE: &str = "chainrule.db";

/// The rows of a restore until all is there: its first file to be made, its last to be named.
pub const DATABASE_PARTIAL: &str = "chainrule.db.partial";

/// The bytes.
pub const BLOBS: &str = "blobs";

/// How long a process waits for another that has the folder whole while it starts.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks.
const POLL: Duration = Duration::from_millis(20);

/// Rows and bytes of a data folder.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The rows.
    pub store: Store,
    /// The bytes.
    pub blobs: Blobs,
    /// Held for as long as the folder is used.
    pub lock: FolderLock,
}

/// A lock on a data folder itself, so that no file has to be written for it: servers share it, who must be alone has it
/// whole. Dropped, the folder is free for others.
#[derive(Debug)]
pub struct FolderLock(File);

/// Why a data folder can't be used.
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
    /// The rows are there and the bytes are not.
    #[error("{path} is missing or empty, and the database beside it names what was in it", path = .0.display())]
    Bytes(PathBuf),
    /// It can't be written.
    #[error("can't write the data folder {path}: {source}", path = .path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has it whole.
    #[error("the data folder {path} is held by another chainrule process", path = .0.display())]
    Held(PathBuf),
    /// Others have a share of it.
    #[error("the data folder {path} is in use by another chainrule process", path = .0.display())]
    Shared(PathBuf),
    /// Others have a share of it, and its rows are of an older version.
    #[error("an older chainrule serves the data folder {path}", path = .0.display())]
    Outdated(PathBuf),
    /// A restore into it was cut.
    #[error("a restore into the data folder {path} was cut", path = .0.display())]
    CutRestore(PathBuf),
    /// Its rows can't be used.
    #[error("can't open the database {path}: {source}", path = .path.display())]
    Database {
        /// Their file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// Its bytes can't be used.
    #[error(transparent)]
    Blobs(#[from] BlobError),
}

impl FolderError {
    /// That the rows of the folder at `path` can't be used.
    pub fn of_database(path: &Path) -> impl Fn(StoreError) -> Self {
        let path = path.join(DATABASE);
        move |source| Self::Database { path: path.clone(), source }
    }

    fn unusable(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Unusable { path: path.to_owned(), source }
    }

    /// What to try, in a line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some("name the data folder of a server with --data-dir".to_owned()),
            Self::Bytes(path) => Some(format!(
                "mount or put it back; or make it anew, and see what is lost: mkdir -p {}/models; chainrule check --repair",
                path.display()
            )),
            Self::Unusable { path, source } if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                Some(format!(
                    "{} is on a read-only file system: mount it writable, or name another folder with --data-dir",
                    path.display()
                ))
            }
            Self::Unusable { path, source } if is_of_another_kind(source) => Some(format!(
                "{} is no folder, or lies in what is none; name another with --data-dir",
                path.display()
            )),
            Self::Unusable { path, .. } => Some(ownership_hint(path)),
            Self::Held(_) => Some(
                "a restore, a repair or a server that starts holds it: wait until it is done, or stop it"
                    .to_owned(),
            ),
            Self::Outdated(_) => Some("stop it first, then start this one".to_owned()),
            Self::CutRestore(_) => Some("run chainrule restore once more: it begins anew".to_owned()),
            Self::Database { source: StoreError::Newer { .. } | StoreError::Older, .. } => None,
            Self::Database { source, .. } if source.is_busy() => Some(
                "another process holds it, one that stands still or no chainrule: let it go on, or stop it"
                    .to_owned(),
            ),
            Self::Database { path, source } if source.is_denied() && !path.is_dir() => {
                Some(ownership_hint(path))
            }
            Self::Database { path, source } if source.is_of_disk() && !path.is_dir() => Some(format!(
                "make room on the disk of {}, or mend it: the rows need some to be opened, and nothing is lost",
                path.display()
            )),
            Self::Database { path, .. } => Some(format!(
                "if {} is no chainrule database, move it away or name another folder with --data-dir",
                path.display()
            )),
            Self::Shared(_) | Self::Blobs(_) => None,
        }
    }
}

impl Folder {
    /// Opens the folder at `path` for a server, made when missing; and whether no other process has a share of it. Then its
    /// rows are brought up to date: a server of an earlier version could not read what this one writes.
    ///
    /// # Errors
    /// If another process has it whole, others have a share and its rows are not up to date, or it can't be used.
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
        // Rows without their bytes, as of a disk that is not mounted: every one of them would count as damaged.
        if path.join(DATABASE).exists() && !bytes.exists() {
            return Err(FolderError::Bytes(bytes));
        }
        make_folder(&bytes)
            .and_then(|()| rustix::fs::access(&bytes, rustix::fs::Access::WRITE_OK).map_err(Into::into))
            .map_err(FolderError::unusable(&bytes))?;
        let store = match is_alone {
            true => Store::open(&path.join(DATABASE)).await,
            false => Store::open_existing(&path.join(DATABASE)).await,
        };
        let store = store.map_err(|error| match error {
            StoreError::Older if !is_alone => FolderError::Outdated(path.to_owned()),
            error => FolderError::of_database(path)(error),
        })?;
        let blobs = blobs_of(path, &store).await?;
        // SQLite syncs its files, and not that they are there.
        sync_names(path).map_err(FolderError::unusable(path))?;
        Ok((Self { path: path.to_owned(), store, blobs, lock }, is_alone))
    }

    /// Opens the folder at `path` beside others.
    ///
    /// # Errors
    /// If there is none, another process has it whole, or it can't be used.
    pub async fn beside(path: &Path) -> Result<Self, FolderError> {
        is_there(path)?;
        let lock = patiently(path, || FolderLock::shared(path)).await?;
        Self::open(path, lock).await
    }

    /// Opens the folder at `path` and keeps all others away.
    ///
    /// # Errors
    /// If there is none, another process has it or a share of it, or it can't be used.
    pub async fn alone(path: &Path) -> Result<Self, FolderError> {
        is_there(path)?;
        let lock = FolderLock::whole(path)?.ok_or_else(|| FolderError::Shared(path.to_owned()))?;
        Self::open(path, lock).await
    }

    async fn open(path: &Path, lock: FolderLock) -> Result<Self, FolderError> {
        let store = Store::open_existing(&path.join(DATABASE)).await;
        let store = store.map_err(FolderError::of_database(path))?;
        let blobs = blobs_of(path, &store).await?;
        Ok(Self { path: path.to_owned(), store, blobs, lock })
    }

    /// Closes the rows, and frees the folder.
    pub async fn close(self) {
        self.store.close().await;
    }
}

impl FolderLock {
    /// Takes the whole folder, made when missing; `None` where another process has it, or a share of it.
    ///
    /// # Errors
    /// If the folder can't be used.
    pub fn whole(folder: &Path) -> Result<Option<Self>, FolderError> {
        make_folder(folder).map_err(FolderError::unusable(folder))?;
        Self::take(folder, File::try_lock)
    }

    /// Takes a share of the folder, which exists; `None` where another process has it whole.
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

    /// Gives the rest of the folder at `path` to others. One of them may have it whole for a moment in between
    /// (<https://man7.org/linux/man-pages/man2/flock.2.html>): it is let go first.
    ///
    /// # Errors
    /// If another process keeps it, or the system refuses.
    pub async fn share(&self, path: &Path) -> Result<(), FolderError> {
        let share = || match self.0.try_lock_shared() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(FolderError::unusable(path)(source)),
        };
        patiently(path, share).await
    }
}

/// Tries until the folder is had, or has been held for too long.
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

/// Sees that all parts of a data folder are there.
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

/// The bytes of the folder at `path`, where there are any if its rows name some.
async fn blobs_of(path: &Path, store: &Store) -> Result<Blobs, FolderError> {
    let bytes = path.join(BLOBS);
    let is_empty = std::fs::read_dir(&bytes).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty && store.names_blobs().await.map_err(FolderError::of_database(path))? {
        return Err(FolderError::Bytes(bytes));
    }
    Ok(Blobs::open(&bytes)?)
}

/// Makes a folder, and those above it that are missing, so that a power cut does not take it away.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    let missing =
        folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).count();
    std::fs::create_dir_all(folder)?;
    folder.ancestors().skip(1).take(missing).try_for_each(sync_names)
}

/// Lets the names in a folder survive a power cut: of what was made, renamed or removed there.
///
/// # Errors
/// If it can't be read or synced.
pub fn sync_names(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Whether a file stands where a folder should.
fn is_of_another_kind(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

/// What lets this user write `path`, or make it.
fn ownership_hint(path: &Path) -> String {
    let user = rustix::process::getuid().as_raw();
    let path = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    format!(
        "make it writable for this user (id {user}): sudo chown -R {user} {path} \
         (in a container: the host's folder that is mounted there); or name another with --data-dir",
        path = path.display(),
    )
}
