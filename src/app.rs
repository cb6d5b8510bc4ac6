//! Everything a request or a worker needs, opened in order.

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
use crate::folder::{Folder, FolderError, FolderLock};
use crate::inventory::sweep;
use crate::registry::Registry;
use crate::service::Service;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::upkeep::Upkeep;
use crate::worker::Worker;

/// How long what a probe of rows and bytes has found is told to others who ask.
const PROBE_HOLDS: Duration = Duration::from_secs(1);

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
    service: Service,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
    tasks: TaskTracker,
    admission: Admission,
    /// What the last probe of rows and bytes has found, and when it was begun.
    probed: Mutex<Option<(Instant, Result<(), Unready>)>>,
    /// Held for as long as the folder is used.
    lock: FolderLock,
}

/// Why a server takes no work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// It is stopping.
    Draining,
    /// The rows can't be read or written.
    Database,
    /// The bytes can't be written.
    Disk,
    /// The queue is full.
    Queue,
    /// Predictions are refused.
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
    /// Opens the data folder of `config`. The first server on a folder puts the jobs of those that died back in the
    /// queue, and sweeps what they left; others that share it leave this to the leases.
    ///
    /// # Errors
    /// If it, or what is in it, can't be used.
    pub async fn open(config: Config) -> Result<Self, StartError> {
        #[cfg(debug_assertions)]
        crate::fault::arm(&config.fault);
        let (Folder { store, blobs, lock, .. }, is_alone) = Folder::serve(&config.data_dir).await?;
        let registry = Registry::open(
            store.clone(),
            blobs.clone(),
            config.limits.model_bytes_max,
            config.threads_per_prediction(),
        )
        .await;
        let registry = registry.map_err(FolderError::of_database(&config.data_dir))?;
        let admission = Admission::new(&config.limits.admission())?;
        let (metrics, tasks) = (Arc::<Metrics>::default(), TaskTracker::new());
        let service = Service::new(
            store.clone(),
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
                draining: CancellationToken::new(),
                tasks,
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
        app.shared.lock.share(&app.config().data_dir).await?;
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
        match sweep(&self.shared.store, &self.shared.blobs, true).await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "files that no row names were removed"),
            Err(error) => tracing::error!(%error, "the data folder was not swept"),
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
            service: self.shared.service.clone(),
            metrics: Arc::clone(&self.shared.metrics),
            lease: Duration::from_secs_f64(config.lease_seconds),
            crashes_max: config.limits.crashes_max,
            every: Duration::from_secs_f64(config.upkeep_seconds),
            keep_jobs: config.keep_jobs,
            keep_versions: config.keep_versions,
        }
    }

    /// The operations.
    pub fn service(&self) -> &Service {
        &self.shared.service
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

    /// What is carried to its end before the rows are closed.
    pub fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    /// What requests may take.
    pub fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    /// Whether the server takes work. Rows and bytes are written to find out: once a second at most, however many ask.
    ///
    /// # Errors
    /// If it doesn't, why.
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
        self.store().probe().await.map_err(database)?;
        self.blobs().probe().await.map_err(|error| {
            tracing::warn!(%error, "the disk is not ready");
            Unready::Disk
        })?;
        let queued = self.store().queue_length().await.map_err(database)?;
        if queued >= u64::from(self.config().limits.queue_max) { Err(Unready::Queue) } else { Ok(()) }
    }
}
