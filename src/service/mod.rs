//! Operations: what each one commits, who hears of it, and what it removes. Adapters translate requests into calls of this
//! room, and the upkeep makes the same calls.
//!
//! Every operation may be dropped at any await. One that changes something runs as a task of its own: once begun, it goes to its
//! end although nobody waits for it.

mod datasets;
mod error;
mod inside;
mod jobs;
mod lab;
mod models;
mod predictions;
mod work;

use std::any::Any;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use self::error::OperationError;
pub use self::inside::{Inspected, LabelledImage, TraceRequest};
pub use self::jobs::{Course, CoursePage, StoredCheckpoint, Submission};
pub use self::models::VersionPage;
pub use self::predictions::{Prediction, Predictions, QUICK_BYTES, UnreadImages};
pub use self::work::Wanted;

use crate::admission::{Admission, Peer};
use crate::blobs::Blobs;
use crate::lab::LabLimits;
use crate::registry::Registry;
use crate::store::Store;
use crate::telemetry::Metrics;

/// Who asks for an operation.
#[derive(Clone)]
pub struct Caller {
    /// The client, or nobody but the server itself.
    client: Option<Peer>,
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Caller {
    /// A client.
    pub fn client(peer: Peer) -> Self {
        Self { client: Some(peer), _held: None }
    }

    /// The server itself.
    pub fn server() -> Self {
        Self { client: None, _held: None }
    }

    /// The same, with what is dropped after the changes that it asks for have ended: its place among others, say.
    #[must_use]
    pub fn holding(self, held: impl Send + Sync + 'static) -> Self {
        Self { _held: Some(Arc::new(held)), ..self }
    }

    /// Whose jobs and keys are its own.
    pub fn owner(&self) -> String {
        self.client.map_or_else(|| "server".to_owned(), |client| client.to_string())
    }

    /// Whose turn it is when it waits, and whose share it takes.
    pub fn peer(&self) -> Peer {
        self.client.unwrap_or_else(|| Peer::new(Ipv4Addr::LOCALHOST.into()))
    }
}

/// What operations are bounded by.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    /// Jobs that may wait in the queue.
    pub queue_max: u32,
    /// Aliases of a model.
    pub aliases_max: u32,
    /// Bytes that must be free on the disk for a job to be accepted.
    pub min_free_bytes: u64,
    /// Images of a prediction.
    pub images_max: usize,
    /// Floating-point operations of a prediction.
    pub predict_flops_max: f64,
    /// An answer of the lab.
    pub lab: LabLimits,
}

/// A handle to all operations; clones share what it works on.
#[derive(Clone)]
pub struct Service {
    store: Store,
    blobs: Blobs,
    registry: Registry,
    admission: Admission,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    /// For threads of long work that read bytes.
    runtime: Handle,
    limits: ServiceLimits,
}

impl Service {
    /// Operations on these rows, bytes and models, let in by `admission`. Changes run on `tasks`, which whoever closes the rows waits for.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new(
        store: Store,
        blobs: Blobs,
        registry: Registry,
        admission: Admission,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        limits: ServiceLimits,
    ) -> Self {
        Self { store, blobs, registry, admission, metrics, tasks, runtime: Handle::current(), limits }
    }

    /// Runs a change to its end, although the one who waits for it may go.
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
