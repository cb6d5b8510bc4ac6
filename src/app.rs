//! The server as a whole: builds its parts in order, and takes them down in reverse.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::blobs::{BlobError, Blobs};
use crate::config::Config;
use crate::http::{self, Problem};
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::worker::{Worker, Workers};

/// How long workers have to keep their jobs when the server stops. A step takes milliseconds; only
/// one of a huge network takes longer, and what it loses is in the checkpoint before.
const STOP_WORKERS: Duration = Duration::from_secs(4);

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
            Self::DataFolder { path, .. } => Some(format!(
                "make it writable for this user (id {uid}), as: sudo chown -R {uid} {path}; or name another with --data-dir",
                uid = rustix::process::getuid().as_raw(),
                path = path.display(),
            )),
            Self::InUse(_) => Some("stop that server, or name another folder with --data-dir".to_owned()),
            Self::Database { path, .. } => Some(format!(
                "if {} is no chainrule database, move it away or name another folder with --data-dir",
                path.display()
            )),
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => Some(
                "stop what listens there, or choose another with --listen (port 0 takes a free one)"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// A server that listens.
pub struct Server {
    app: App,
    listener: TcpListener,
    workers: Workers,
    stop_workers: CancellationToken,
}

impl Server {
    /// Opens the data folder and the address, and starts the workers.
    ///
    /// # Errors
    /// Where the folder, the database or the address can't be had.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let address = config.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
        let app = App::open(config).await?;
        let recovered = app.store().recover().await.map_err(|source| app.database_error(source))?;
        if recovered > 0 {
            tracing::info!(jobs = recovered, "jobs of an earlier run go on");
        }
        let stop_workers = CancellationToken::new();
        let workers =
            (0..usize::from(app.config().workers)).map(|number| app.worker(number, stop_workers.clone()));
        let threads = app.config().threads_per_worker();
        let workers = Workers::start(workers.collect(), threads, &Handle::current())?;
        Ok(Self { app, listener, workers, stop_workers })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Where the system doesn't say.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// The parts.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Answers until `stop`, then lets jobs be kept and requests be ended.
    pub async fn run(self, stop: CancellationToken) {
        let Self { app, listener, workers, stop_workers } = self;
        let draining = app.shared.draining.clone();
        let serving =
            http::serve(listener, http::router(app.clone()), &app.shared.config.limits, draining.clone());
        let stopping = async {
            stop.cancelled().await;
            tracing::info!("stopping");
            draining.cancel();
            stop_workers.cancel();
            let joined = tokio::task::spawn_blocking(|| workers.join());
            if tokio::time::timeout(STOP_WORKERS, joined).await.is_err() {
                tracing::warn!(
                    "a job was cut in the middle of a long step; it goes on from its last checkpoint"
                );
            }
        };
        tokio::join!(serving, stopping);
        app.store().close().await;
        tracing::info!("stopped");
    }
}

impl App {
    /// Opens the data folder of `config`.
    ///
    /// # Errors
    /// Where it, or what is in it, can't be used.
    pub async fn open(config: Config) -> Result<Self, StartError> {
        let lock = lock(&config.data_dir)?;
        let path = database(&config.data_dir);
        let store = Store::open(&path).await.map_err(|source| StartError::Database { path, source })?;
        let blobs = Blobs::open(&blob_folder(&config.data_dir)?)?;
        let registry = Registry::open(&store, blobs.clone(), config.limits.model_bytes_max).await;
        let registry =
            registry.map_err(|source| StartError::Database { path: database(&config.data_dir), source })?;
        let limits = &config.limits;
        Ok(Self {
            shared: Arc::new(Shared {
                requests: Arc::new(Semaphore::new(limits.requests_max)),
                streams: Arc::new(Semaphore::new(limits.streams_max)),
                predictions: Arc::new(Semaphore::new(limits.predictions_max)),
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

    /// Room to compute one more prediction, once there is. Those that wait are as many as requests
    /// may be under way.
    pub async fn prediction_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.predictions).acquire_owned().await.ok()
    }

    /// Runs `work` where it holds up nobody's request.
    ///
    /// # Errors
    /// Those of `work`, or 500 where it panics.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "work for a request panicked");
            Err(Problem::internal())
        })
    }

    fn database_error(&self, source: StoreError) -> StartError {
        StartError::Database { path: database(&self.shared.config.data_dir), source }
    }
}

fn database(folder: &Path) -> PathBuf {
    folder.join("chainrule.db")
}

/// The folder of checkpoints and models, made when missing.
fn blob_folder(folder: &Path) -> Result<PathBuf, StartError> {
    let path = folder.join("blobs");
    std::fs::create_dir_all(&path).map_err(|source| StartError::DataFolder { path: path.clone(), source })?;
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
