//! Everything a request or a worker needs, opened in order.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::blobs::{BlobError, Blobs};
use crate::config::Config;
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::worker::Worker;

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
    _lock: File,
}

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
    /// Another server uses the data folder.
    #[error("the data folder {path} is in use by another chainrule server", path = .0.display())]
    InUse(PathBuf),
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
            Self::InUse(_) => Some("stop that server, or name another folder with --data-dir".to_owned()),
            Self::Database { path, source } if source.is_denied() && !path.is_dir() => {
                Some(ownership_hint(path))
            }
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
    /// Opens the data folder of `config`, and puts the jobs of a server that died back in the queue.
    ///
    /// # Errors
    /// Where it, or what is in it, can't be used.
    pub async fn open(config: Config) -> Result<Self, StartError> {
        let lock = lock(&config.data_dir)?;
        let path = config.data_dir.join("chainrule.db");
        let database_error = |source| StartError::Database { path: path.clone(), source };
        let store = Store::open(&path).await.map_err(database_error)?;
        let blobs = Blobs::open(&blob_folder(&config.data_dir)?)?;
        let recovered = store.recover(config.limits.crashes_max).await.map_err(database_error)?;
        if recovered > 0 {
            tracing::info!(jobs = recovered, "jobs of an earlier run go on");
        }
        let registry = Registry::open(
            &store,
            blobs.clone(),
            config.limits.model_bytes_max,
            config.threads_per_prediction(),
        )
        .await;
        let registry = registry.map_err(database_error)?;
        let limits = &config.limits;
        Ok(Self {
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
                _lock: lock,
            }),
        })
    }

    /// A worker of this server.
    pub fn worker(&self, number: usize, stop: CancellationToken) -> Worker {
        Worker {
            store: self.shared.store.clone(),
            blobs: self.shared.blobs.clone(),
            registry: self.shared.registry.clone(),
            metrics: Arc::clone(&self.shared.metrics),
            number,
            stop,
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

/// The folder of checkpoints and models, made when missing and seen to be writable.
fn blob_folder(folder: &Path) -> Result<PathBuf, StartError> {
    let path = folder.join("blobs");
    let probe = path.join("probe");
    std::fs::create_dir_all(&path)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|source| StartError::DataFolder { path: path.clone(), source })?;
    Ok(path)
}

/// Makes the data folder and holds it for this process alone.
fn lock(folder: &Path) -> Result<File, StartError> {
    let error = |source| StartError::DataFolder { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(error)?;
    let file = File::create(folder.join("lock")).map_err(error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(error(source)),
    }
}
