//! Everything that requests and workers share, opened in order.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::blobs::Blobs;
use crate::config::Config;
use crate::dispatch::Dispatch;
use crate::folder::{Folder, FolderError, FolderLock};
use crate::inventory::sweep;
use crate::registry::Registry;
use crate::service::Service;
use crate::store::StoreError;
use crate::telemetry::{LineLimit, Metrics};
use crate::upkeep::Upkeep;
use crate::worker::Worker;

/// How long the result of a probe of database and disk is reused.
const PROBE_HOLDS: Duration = Duration::from_secs(1);

/// A handle to everything that requests and workers share. Clones share it too.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    dispatch: Dispatch,
    blobs: Blobs,
    registry: Registry,
    service: Service,
    metrics: Arc<Metrics>,
    /// The limits of log lines about requests that succeed, and about requests with errors.
    request_lines: [LineLimit; 2],
    draining: CancellationToken,
    tasks: TaskTracker,
    admission: Admission,
    /// When the last probe of database and disk was made, and its result.
    probed: Mutex<Option<(Instant, Result<(), Unready>)>>,
    /// Held for as long as the server uses the folder.
    lock: FolderLock,
}

/// Why a server is not ready for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// The server is stopping.
    Draining,
    /// The database can't be read or written.
    Database,
    /// The disk can't be written.
    Disk,
    /// The disk has too little free space for a job.
    Space,
    /// The queue of jobs is full.
    Queue,
    /// Predictions would be refused.
    Predictions,
}

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address of `--listen`.
        address: std::net::SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A thread can't be started.
    #[error("can't start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl StartError {
    /// Returns one line that says what to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Folder(error) => error.hint(),
            Self::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => Some(
                "stop what listens there, or choose another with --listen (port 0 takes a free one)"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl App {
    /// Opens the data folder of `config`. The first server on a folder puts the jobs of dead servers back in
    /// the queue and deletes the files they left. Servers that join later leave this to the leases.
    ///
    /// # Errors
    /// Returns an error if the folder or anything in it can't be used, or a thread can't be started.
    pub async fn open(config: Config) -> Result<Self, StartError> {
        #[cfg(debug_assertions)]
        crate::failpoint::arm(&config.fault);
        let (Folder { store, blobs, lock, .. }, is_alone) = Folder::serve(&config.data_dir).await?;
        let dispatch = Dispatch::new(store.clone());
        let registry = Registry::open(
            store,
            blobs.clone(),
            config.limits.model_bytes_max,
            config.threads_per_prediction(),
        )
        .await;
        let registry = registry.map_err(FolderError::of_database(&config.data_dir))?;
        let admission = Admission::new(&config.limits.admission())?;
        let (metrics, tasks) = (Arc::<Metrics>::default(), TaskTracker::new());
        let service = Service::new(
            dispatch.clone(),
            blobs.clone(),
            registry.clone(),
            admission.clone(),
            Arc::clone(&metrics),
            tasks.clone(),
            config.limits.service(),
        );
        let app = Self {
            shared: Arc::new(Shared {
                admission,
                probed: Mutex::default(),
                service,
                metrics,
                request_lines: [config.log_requests_max; 2].map(LineLimit::new),
                draining: CancellationToken::new(),
                tasks,
                config,
                dispatch,
                blobs,
                registry,
                lock,
            }),
        };
        if is_alone {
            app.clear_up().await;
        }
        app.shared.lock.share(&app.config().data_dir).await?;
        Ok(app)
    }

    /// Puts the jobs of dead servers back in the queue and deletes orphaned files. A failure, such as a full
    /// disk, is only logged, so the server starts and serves models anyway. The leases and the next upkeep
    /// do the rest.
    async fn clear_up(&self) {
        let upkeep = self.upkeep();
        match upkeep.rescue_all().await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!(jobs, "jobs of an earlier run are back in the queue"),
            Err(error) => tracing::error!(%error, "jobs of an earlier run wait until their leases expire"),
        }
        match sweep(self.shared.dispatch.store(), &self.shared.blobs, true).await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "orphaned files were removed"),
            Err(error) => tracing::error!(%error, "orphaned files can't be removed"),
        }
    }

    /// Returns a worker of this server. `number` is its label in the metrics.
    pub fn worker(&self, number: usize, stop: CancellationToken) -> Worker {
        let config = self.config();
        Worker {
            dispatch: self.shared.dispatch.clone(),
            store: self.shared.dispatch.store().clone(),
            blobs: self.shared.blobs.clone(),
            registry: self.shared.registry.clone(),
            metrics: Arc::clone(&self.shared.metrics),
            number,
            lease: Duration::from_secs_f64(config.lease_seconds),
            checkpoint_every: Duration::from_secs_f64(config.checkpoint_seconds),
            stop,
        }
    }

    /// Returns the periodic tasks of this server.
    pub fn upkeep(&self) -> Upkeep {
        let config = self.config();
        Upkeep {
            dispatch: self.shared.dispatch.clone(),
            store: self.shared.dispatch.store().clone(),
            blobs: self.shared.blobs.clone(),
            registry: self.shared.registry.clone(),
            service: self.shared.service.clone(),
            metrics: Arc::clone(&self.shared.metrics),
            lease: Duration::from_secs_f64(config.lease_seconds),
            crashes_max: config.limits.crashes_max,
            every: Duration::from_secs_f64(config.upkeep_seconds),
            keep_jobs: config.keep_jobs,
            keep_versions: config.keep_versions,
        }
    }

    /// Returns the operations on jobs, models, predictions, data sets and the lab.
    pub fn service(&self) -> &Service {
        &self.shared.service
    }

    /// Returns the settings that the server was started with.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Returns the handle through which jobs are changed. It has the rows: jobs, epochs, checkpoints, models.
    pub fn dispatch(&self) -> &Dispatch {
        &self.shared.dispatch
    }

    /// Returns the files: the bytes of checkpoints and models.
    pub fn blobs(&self) -> &Blobs {
        &self.shared.blobs
    }

    /// Returns the models in memory.
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Returns the limit of log lines about requests that succeed, or about requests with errors.
    pub fn request_lines(&self, is_success: bool) -> &LineLimit {
        let [successes, errors] = &self.shared.request_lines;
        if is_success { successes } else { errors }
    }

    /// Returns the metrics of this server.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Returns the token that is cancelled when the server begins to stop.
    pub fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// Returns the tracker of the tasks that must finish before the database is closed.
    pub fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    /// Returns the capacity that requests share.
    pub fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    /// Checks whether the server is ready for work. The check writes to the database and the disk, at most
    /// once per second, however many clients ask.
    ///
    /// # Errors
    /// Returns the reason why the server is not ready.
    pub async fn ready(&self) -> Result<(), Unready> {
        if self.draining().is_cancelled() {
            return Err(Unready::Draining);
        }
        self.admission().takes_predictions().map_err(|_| Unready::Predictions)?;
        let mut probed = self.shared.probed.lock().await;
        match *probed {
            Some((ended, found)) if ended.elapsed() < PROBE_HOLDS => found,
            _ => {
                let found = self.probe().await;
                *probed = Some((Instant::now(), found));
                found
            }
        }
    }

    async fn probe(&self) -> Result<(), Unready> {
        let database = |error: StoreError| {
            tracing::warn!(%error, "the database is not ready");
            Unready::Database
        };
        self.dispatch().store().probe().await.map_err(database)?;
        self.blobs().probe().await.map_err(|error| {
            tracing::warn!(%error, "the disk is not ready");
            Unready::Disk
        })?;
        self.service().check_disk_space().map_err(|error| {
            tracing::warn!(%error, "the disk is not ready");
            Unready::Space
        })?;
        let queued = self.dispatch().store().queue_length().await.map_err(database)?;
        if queued >= u64::from(self.config().limits.queue_max) { Err(Unready::Queue) } else { Ok(()) }
    }
}
