//! The operations on jobs, models, predictions, data sets and the lab: what each one commits, whom it
//! notifies, and what it deletes. Adapters translate requests to calls of this room, and the upkeep makes the
//! same calls.
//!
//! The first argument of every operation that a client can ask for is its caller. Any caller may use any job and model,
//! so operations that only read don't look at it.
//!
//! Every operation may be dropped at any await. An operation that changes something runs as its own task, so
//! once started it completes even if nobody waits for it.

mod card;
mod datasets;
mod error;
mod evaluation;
mod events;
mod exports;
mod inside;
mod jobs;
mod lab;
mod models;
mod pictures;
mod predictions;
mod repository;
mod statistics;
mod submission;
mod uploads;
mod waiting;
mod work;

use std::any::Any;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use self::card::ModelCard;
pub use self::datasets::{DatasetExample, Examples};
pub use self::error::OperationError;
pub use self::evaluation::{Compared, ComparedPage, Evaluated, EvaluationForm};
pub use self::events::{EventId, JobEvent, JobFollower};
pub use self::exports::Export;
pub use self::inside::{Inspected, LabelledImage, TraceRequest};
pub use self::jobs::{CoursePage, StoredCheckpoint, record_bytes};
pub use self::models::VersionPage;
pub use self::pictures::{Pictures, QUICK_PICTURE_BYTES};
pub use self::predictions::{Prediction, Predictions, QUICK_BYTES, UnreadImages, check_top};
pub use self::statistics::{BatchTally, Tally, VersionStatistics};
pub use self::submission::{IdempotencyKey, IdempotencyKeyError, Submission};
pub use self::uploads::UploadedFile;
pub use self::work::Wanted;

use self::statistics::Statistics;
use crate::admission::{Admission, Peer};
use crate::blobs::Blobs;
use crate::data::picture::PictureLimits;
use crate::dispatch::Dispatch;
use crate::lab::LabLimits;
use crate::registry::Registry;
use crate::store::Store;
use crate::telemetry::{Metrics, MetricsFormat};
use crate::train::SpecLimits;

/// The caller of an operation.
#[derive(Clone)]
pub struct Caller {
    /// The client, or `None` for the server itself.
    client: Option<Peer>,
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Caller {
    /// A caller that is a client.
    pub fn client(peer: Peer) -> Self {
        Self { client: Some(peer), _held: None }
    }

    /// The server itself as caller.
    pub fn server() -> Self {
        Self { client: None, _held: None }
    }

    /// Adds a value that is dropped when the caller's changes have finished, such as its place in a lane.
    #[must_use]
    pub fn holding(self, held: impl Send + Sync + 'static) -> Self {
        Self { _held: Some(Arc::new(held)), ..self }
    }

    /// Returns the owner of the caller's jobs and idempotency keys.
    pub fn owner(&self) -> String {
        self.client.map_or_else(|| "server".to_owned(), |client| client.to_string())
    }

    /// Returns the peer that takes turns and is charged on behalf of the caller.
    pub fn peer(&self) -> Peer {
        self.client.unwrap_or_else(|| Peer::new(Ipv4Addr::LOCALHOST.into()))
    }
}

/// The limits that operations check.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    /// The limits of a job's specification.
    pub spec: SpecLimits,
    /// The most jobs that may wait in the queue.
    pub queue_max: u32,
    /// The most aliases of a model.
    pub aliases_max: u32,
    /// The most versions of all models together. Beyond, no file is accepted.
    pub versions_max: usize,
    /// The least free disk space for a new job, in bytes.
    pub min_free_bytes: u64,
    /// The most callers that wait for the end of a job.
    pub waits_max: usize,
    /// The most callers that follow jobs.
    pub streams_max: usize,
    /// The limits of one picture.
    pub picture: PictureLimits,
    /// The most pixels of all pictures of one request.
    pub pictures_pixels_max: u64,
    /// The most images of a prediction.
    pub images_max: usize,
    /// The most floating-point operations of a prediction, an evaluation or a comparison.
    pub predict_flops_max: f64,
    /// The limits of one result of the lab.
    pub lab: LabLimits,
}

/// A handle to all operations. Clones share the state.
#[derive(Clone)]
pub struct Service {
    dispatch: Dispatch,
    store: Store,
    blobs: Blobs,
    registry: Registry,
    admission: Admission,
    metrics: Arc<Metrics>,
    statistics: Arc<Statistics>,
    tasks: TaskTracker,
    /// The runtime on which threads of long work read blobs.
    runtime: Handle,
    limits: ServiceLimits,
}

impl Service {
    /// Creates the operations on these jobs, blobs and models. `admission` admits their work. Changes run on
    /// `tasks`, which must be awaited before the store is closed.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub fn new(
        dispatch: Dispatch,
        blobs: Blobs,
        registry: Registry,
        admission: Admission,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        limits: ServiceLimits,
    ) -> Self {
        let (store, runtime) = (dispatch.store().clone(), Handle::current());
        Self {
            dispatch,
            store,
            blobs,
            registry,
            admission,
            metrics,
            statistics: Arc::default(),
            tasks,
            runtime,
            limits,
        }
    }

    /// Returns the metrics of the server as text. The series of models that are deleted are left out.
    ///
    /// # Errors
    /// Returns an error if the jobs can't be counted, or a metric can't be encoded.
    pub async fn metrics(&self, _caller: &Caller, format: MetricsFormat) -> Result<String, OperationError> {
        let counts = self.store.counts().await?;
        self.forget_deleted_models();
        Ok(self.metrics.render(format, &counts, &self.admission)?)
    }

    /// Runs a change to its end even if this future is dropped.
    async fn carry<T: Send + 'static>(
        &self,
        caller: &Caller,
        change: impl Future<Output = Result<T, OperationError>> + Send + 'static,
    ) -> Result<T, OperationError> {
        let caller = caller.clone();
        let carried = async move {
            let done = change.await;
            drop(caller);
            done
        };
        match self.tasks.spawn(carried.instrument(tracing::Span::current())).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => Err(OperationError::Stopped),
        }
    }
}
