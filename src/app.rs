//! Everything a request or a worker needs, opened in order.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::blobs::{BlobError, Blobs};
use crate::config::Config;
use crate::job::Job;
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::upkeep::Upkeep;
use crate::worker::Worker;

/// How long a server waits for another one that starts on the same folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks meanwhile.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Bytes in which the memory for bodies is counted.
const BODY_UNIT: usize = 1 << 10;

/// A handle to everything a request needs; clones share it.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    store: Store,
    blobs: Blobs,
    registry: Registry,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    predictions: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    /// Held for as long as the folder is used.
    lock: FolderLock,
}

/// The database in the data folder.
pub const DATABASE: &str = "chainrule.db";

/// The rows of a restore until all is there: its first file to be made, its last to be named.
pub const DATABASE_PARTIAL: &str = "chainrule.db.partial";

/// The bytes in the data folder.
pub const BLOBS: &str = "blobs";

/// A lock on the data folder: servers share it, who must be alone has it whole.
#[derive(Debug)]
pub struct FolderLock(File);

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder can't be used.
    #[error("can't write the data folder {path}: {source}", path = path.display())]
    DataFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process holds the data folder for itself.
    #[error("the data folder {path} is held by another chainrule process", path = .0.display())]
    InUse(PathBuf),
    /// A restore into the data folder was cut.
    #[error("a restore into the data folder {path} was cut", path = .0.display())]
    CutRestore(PathBuf),
    /// The database can't be used.
    #[error("can't open the database {path}: {source}", path = path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// The folder for bytes can't be used.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("can't start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl StartError {
    /// What to try, in a line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::DataFolder { path, source } if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                Some(format!(
                    "{} is on a read-only file system: mount it writable, or name another folder with --data-dir",
                    path.display()
                ))
            }
            Self::DataFolder { path, source } if is_of_another_kind(source) => Some(format!(
                "{} is no folder, or lies in what is none; name another with --data-dir",
                path.display()
            )),
            Self::DataFolder { path, .. } => Some(ownership_hint(path)),
            Self::InUse(_) => Some(
                "servers of this version share a folder; stop the older server, the restore or the repair that holds it"
                    .to_owned(),
            ),
            Self::Database { path, source } if source.is_denied() && !path.is_dir() => {
                Some(ownership_hint(path))
            }
            Self::CutRestore(_) => Some("run chainrule restore once more: it begins anew".to_owned()),
            Self::Database { source: StoreError::Newer { .. } | StoreError::Older, .. } => None,
            Self::Database { path, .. } => Some(format!(
                "if {} is no chainrule database, move it away or name another folder with --data-dir",
                path.display()
            )),
            Self::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => Some(
                "stop what listens there, or choose another with --listen (port 0 takes a free one)"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl App {
    /// Opens the data folder of `config`. The first server on a folder puts the jobs of those that died back in the
    /// queue, and sweeps what they left; others that share it leave this to the leases.
    ///
    /// # Errors
    /// Where it, or what is in it, can't be used.
    pub async fn open(config: Config) -> Result<Self, StartError> {
        #[cfg(debug_assertions)]
        crate::fault::arm(&config.fault);
        let (lock, is_alone) = lock(&config.data_dir).await?;
        if config.data_dir.join(DATABASE_PARTIAL).exists() {
            return Err(StartError::CutRestore(config.data_dir));
        }
        let path = config.data_dir.join(DATABASE);
        let database_error = |source| StartError::Database { path: path.clone(), source };
        let store = Store::open(&path).await.map_err(database_error)?;
        let blobs = Blobs::open(&blob_folder(&config.data_dir)?)?;
        let registry = Registry::open(
            store.clone(),
            blobs.clone(),
            config.limits.model_bytes_max,
            config.threads_per_prediction(),
        )
        .await;
        let registry = registry.map_err(database_error)?;
        // SQLite syncs its files, and not that they are there.
        sync_names(&config.data_dir)
            .map_err(|source| StartError::DataFolder { path: config.data_dir.clone(), source })?;
        let limits = &config.limits;
        let app = Self {
            shared: Arc::new(Shared {
                requests: Arc::new(Semaphore::new(limits.requests_max)),
                streams: Arc::new(Semaphore::new(limits.streams_max)),
                predictions: Arc::new(Semaphore::new(limits.predictions_max)),
                bodies: Arc::new(Semaphore::new(limits.bodies_bytes_max.div_ceil(BODY_UNIT))),
                metrics: Arc::default(),
                draining: CancellationToken::new(),
                config,
                store,
                blobs,
                registry,
                lock,
            }),
        };
        if is_alone {
            app.clear_up().await;
        }
        app.shared
            .lock
            .share()
            .map_err(|source| StartError::DataFolder { path: app.config().data_dir.clone(), source })?;
        Ok(app)
    }

    /// Puts the jobs of servers that died back in the queue, and removes what they left. Where the disk takes no more
    /// models are served all the same; the leases and the next upkeep see to the rest.
    async fn clear_up(&self) {
        let upkeep = self.upkeep();
        match upkeep.rescue_all().await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!(jobs, "jobs of an earlier run go on"),
            Err(error) => tracing::error!(%error, "jobs of an earlier run wait for their leases to run out"),
        }
        if let Err(error) = upkeep.tidy(true).await {
            tracing::error!(%error, "the data folder was not tidied");
        }
    }

    /// A worker of this server.
    pub fn worker(&self, number: usize, stop: CancellationToken) -> Worker {
        let config = self.config();
        Worker {
            store: self.shared.store.clone(),
            blobs: self.shared.blobs.clone(),
            registry: self.shared.registry.clone(),
            metrics: Arc::clone(&self.shared.metrics),
            number,
            lease: Duration::from_secs_f64(config.lease_seconds),
            checkpoint_every: Duration::from_secs_f64(config.checkpoint_seconds),
            stop,
        }
    }

    /// What the server does beside serving and training.
    pub fn upkeep(&self) -> Upkeep {
        let config = self.config();
        Upkeep {
            store: self.shared.store.clone(),
            blobs: self.shared.blobs.clone(),
            registry: self.shared.registry.clone(),
            metrics: Arc::clone(&self.shared.metrics),
            lease: Duration::from_secs_f64(config.lease_seconds),
            crashes_max: config.limits.crashes_max,
            every: Duration::from_secs_f64(config.upkeep_seconds),
            keep_jobs: config.keep_jobs,
            keep_versions: config.keep_versions,
        }
    }

    /// Sees to it that whoever is told of this job's model is served it, be it that another server has published it.
    ///
    /// # Errors
    /// Where the rows can't be read.
    pub async fn catch_up_with(&self, job: &Job) -> Result<(), StoreError> {
        match &job.result {
            Some(result) if !self.registry().knows(result) => self.registry().refresh().await,
            _ => Ok(()),
        }
    }

    /// What it was told at its start.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The rows.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The bytes.
    pub fn blobs(&self) -> &Blobs {
        &self.shared.blobs
    }

    /// The models.
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// What is measured.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Cancelled once the server stops.
    pub fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// Room for one more request, if there is.
    pub fn request_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.requests).try_acquire_owned().ok()
    }

    /// Room for one more event stream, if there is.
    pub fn stream_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.streams).try_acquire_owned().ok()
    }

    /// Room for a body of `bytes`, if there is.
    pub fn body_permit(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(BODY_UNIT)).ok()?;
        Arc::clone(&self.shared.bodies).try_acquire_many_owned(units).ok()
    }

    /// Room to compute one more prediction, once there is. Those that wait are as many as requests
    /// may be under way.
    pub async fn prediction_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.predictions).acquire_owned().await.ok()
    }
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
/// Where it can't be read or synced.
pub fn sync_names(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// The folder of checkpoints and models, made when missing and seen to be writable.
fn blob_folder(folder: &Path) -> Result<PathBuf, StartError> {
    let path = folder.join(BLOBS);
    make_folder(&path)
        .and_then(|()| rustix::fs::access(&path, rustix::fs::Access::WRITE_OK).map_err(Into::into))
        .map_err(|source| StartError::DataFolder { path: path.clone(), source })?;
    Ok(path)
}

impl FolderLock {
    /// Takes the whole folder, made when missing; `None` where another process has it, or a share of it.
    ///
    /// # Errors
    /// Where the folder can't be used.
    pub fn whole(folder: &Path) -> Result<Option<Self>, StartError> {
        make_folder(folder).map_err(|source| StartError::DataFolder { path: folder.to_owned(), source })?;
        Self::take(folder, File::try_lock)
    }

    /// Takes a share of the folder, which exists; `None` where another process has it whole.
    ///
    /// # Errors
    /// Where the folder can't be used.
    pub fn shared(folder: &Path) -> Result<Option<Self>, StartError> {
        Self::take(folder, File::try_lock_shared)
    }

    fn take(
        folder: &Path,
        lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Option<Self>, StartError> {
        let error = |source| StartError::DataFolder { path: folder.to_owned(), source };
        let file = File::create(folder.join("lock")).map_err(error)?;
        match lock(&file) {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(error(source)),
        }
    }

    /// Gives the rest of the folder to others.
    fn share(&self) -> std::io::Result<()> {
        self.0.lock_shared()
    }
}

/// Takes the whole folder where nobody else has it, or a share of it; and whether it was the whole.
async fn lock(folder: &Path) -> Result<(FolderLock, bool), StartError> {
    let begun = std::time::Instant::now();
    loop {
        if let Some(lock) = FolderLock::whole(folder)? {
            return Ok((lock, true));
        }
        if let Some(lock) = FolderLock::shared(folder)? {
            return Ok((lock, false));
        }
        if begun.elapsed() > LOCK_PATIENCE {
            return Err(StartError::InUse(folder.to_owned()));
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}
