//! Workers take jobs from the queue, train them, record their progress and publish their models.
//!
//! Each worker has its own thread and its own pool of training threads. All of them run at a lower priority
//! than the threads that serve requests. While the worker trains, a task renews its lease on the job and
//! notices if the lease is lost (`lease`). A second thread writes epochs and checkpoints in order (`scribe`).

mod lease;
mod publish;
mod recorder;
mod scribe;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::lease::Lease;
use self::recorder::Recorder;
use self::scribe::ENTRIES;
use crate::artifact::{ArtifactError, read_checkpoint};
use crate::blobs::{BlobError, Blobs};
use crate::data;
use crate::dispatch::Dispatch;
use crate::job::{Job, JobError, JobId, JobState};
use crate::nn::{Shape, ShapeError, ThreadPool};
use crate::priority::Priority;
use crate::registry::{Registry, RegistryError};
use crate::store::{Claim, Store, StoreError};
use crate::telemetry::Metrics;
use crate::train::{Outcome, TrainError, TrainState};

/// How long a worker waits after an error before it tries again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A worker: it runs one job at a time.
pub struct Worker {
    /// The queue, and those who wait for a job.
    pub dispatch: Dispatch,
    /// The rows of jobs, checkpoints and models.
    pub store: Store,
    /// Storage for the bytes of checkpoints and models.
    pub blobs: Blobs,
    /// Receives published models, and provides the model that a job starts from.
    pub registry: Registry,
    /// Receives training speed and counts of damaged checkpoints.
    pub metrics: Arc<Metrics>,
    /// The number of this worker, from 0. It is a label in metrics and part of the thread's name.
    pub number: usize,
    /// How long a claim on a job stays valid without renewal.
    pub lease: Duration,
    /// The longest time between two checkpoints of a job.
    pub checkpoint_every: Duration,
    /// Cancelled when the server stops. The worker then returns its job to the queue.
    pub stop: CancellationToken,
}

/// Why a worker could not finish a job.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading or writing bytes failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A checkpoint or model could not be encoded or decoded.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The job's dataset does not exist.
    #[error("there is no dataset {0:?}")]
    UnknownDataset(String),
    /// The layers do not fit each other or the input.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The reference to the initial model is invalid.
    #[error("there is no model {0:?}")]
    UnknownModel(String),
    /// The initial model could not be loaded.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The trainer or the code around it panicked.
    #[error("the trainer panicked: {0}")]
    Panic(String),
    /// The scribe has stopped, so nothing can be recorded. The scribe's own error says why.
    #[error("the thread that records the job has stopped")]
    ScribeGone,
}

impl WorkerError {
    fn is_fenced(&self) -> bool {
        matches!(self, Self::Store(StoreError::Fenced { .. }))
    }

    /// Returns whether a later attempt may succeed, for example after a full disk or a locked database.
    fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Blob(error) => !error.is_damage(),
            _ => false,
        }
    }

    fn of_panic(panic: Box<dyn Any + Send>) -> Self {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panic(message.unwrap_or_else(|| "no message".to_owned()))
    }
}

/// The result of [`Worker::run_next`], for one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The job that was run.
    pub id: JobId,
    /// The state that the job was left in. `None` if it was cancelled or another worker has taken it.
    pub state: Option<JobState>,
}

/// The threads of all workers of a server.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts one thread for each of `workers`, each with a pool of `threads` threads.
    ///
    /// # Errors
    /// Returns an error if the system can't start a thread.
    pub fn start(workers: Vec<Worker>, threads: usize, runtime: &Handle) -> std::io::Result<Self> {
        let start = |worker: Worker| {
            let runtime = runtime.clone();
            std::thread::Builder::new().name(format!("worker-{}", worker.number)).spawn(move || {
                Priority::Training.lower();
                worker.run(&ThreadPool::new(threads), &runtime);
            })
        };
        Ok(Self { threads: workers.into_iter().map(start).collect::<std::io::Result<_>>()? })
    }

    /// Waits until every worker has stopped. The caller cancels their tokens first.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

impl Worker {
    /// Runs jobs until the token is cancelled. If the queue is empty, it waits for a new job.
    fn run(&self, pool: &ThreadPool, runtime: &Handle) {
        let mut queued = self.dispatch.queued();
        while !self.stop.is_cancelled() {
            queued.mark_unchanged();
            let ran = catch_unwind(AssertUnwindSafe(|| self.run_next(pool, runtime)));
            match ran.unwrap_or_else(|panic| Err(WorkerError::of_panic(panic))) {
                Ok(Some(Ran { id, state: Some(state) })) => {
                    tracing::info!(job = %id, %state, "job left the worker");
                }
                Ok(Some(Ran { id, state: None })) => {
                    tracing::info!(job = %id, "job was cancelled, or taken by another worker");
                }
                Ok(None) => runtime.block_on(async {
                    tokio::select! {
                        _ = queued.changed() => {}
                        () = self.stop.cancelled() => {}
                    }
                }),
                Err(error) => {
                    tracing::error!(%error, "worker failed");
                    runtime.block_on(async {
                        tokio::select! {
                            () = tokio::time::sleep(PAUSE_AFTER_FAILURE) => {}
                            () = self.stop.cancelled() => {}
                        }
                    });
                }
            }
        }
    }

    /// Takes the next job from the queue and runs it to its end. If the token is cancelled meanwhile, the job
    /// returns to the queue. Returns `None` if the queue is empty.
    ///
    /// # Errors
    /// Returns an error if the database or storage fails temporarily. The job is then back in the queue,
    /// unless the server stops first.
    pub fn run_next(&self, pool: &ThreadPool, runtime: &Handle) -> Result<Option<Ran>, WorkerError> {
        let Some(job) = runtime.block_on(self.dispatch.claim())? else { return Ok(None) };
        let claim = Claim { id: job.id, attempt: job.attempt };
        tracing::info!(job = %job.id, attempt = job.attempt, "job started");
        let lease = Lease::start(self.dispatch.clone(), claim, job.progress, self.lease, &self.stop, runtime);
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_job(&job, &lease, pool, runtime)));
        let ran = ran.unwrap_or_else(|panic| Err(WorkerError::of_panic(panic)));
        self.metrics.training_images_per_second(self.number, 0.0);
        let left = match ran {
            Ok(state) => Ok(Some(state)),
            Err(error) if lease.is_lost() || error.is_fenced() => Ok(None),
            Err(error) if error.is_transient() => {
                tracing::error!(job = %job.id, %error, "job goes back to the queue");
                runtime.block_on(self.until_written(|| self.dispatch.release(claim)));
                Err(error)
            }
            Err(error) => {
                tracing::error!(job = %job.id, %error, "job failed");
                let failure = failure(&error);
                runtime.block_on(self.until_written(|| self.dispatch.fail(claim, &failure)));
                Ok(Some(JobState::Failed))
            }
        };
        runtime.block_on(lease.end());
        left.map(|state| Some(Ran { id: job.id, state }))
    }

    /// Retries until the end of the job is written, another attempt owns the job, or the server stops. If the
    /// server stops, its next start rescues the job.
    async fn until_written<F: Future<Output = Result<(), StoreError>>>(&self, write: impl Fn() -> F) {
        while let Err(error) = write().await {
            if matches!(error, StoreError::Fenced { .. }) {
                return;
            }
            tracing::error!(%error, "the end of a job was not written; trying again");
            tokio::select! {
                () = tokio::time::sleep(PAUSE_AFTER_FAILURE) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    fn run_job(
        &self,
        job: &Job,
        lease: &Lease,
        pool: &ThreadPool,
        runtime: &Handle,
    ) -> Result<JobState, WorkerError> {
        let spec = &job.spec;
        let dataset =
            data::named(&spec.dataset).ok_or_else(|| WorkerError::UnknownDataset(spec.dataset.clone()))?;
        let input = dataset.shape().input;
        let state = runtime.block_on(self.state_of(job, input, lease.claim))?;
        let (entries, told) = mpsc::channel(ENTRIES);
        let mut recorder = Recorder::new(self, job, lease, &dataset, &state, entries, runtime);
        let (outcome, progress) = std::thread::scope(|scope| {
            let keep = spec.checkpoint.keep;
            let scribe = scope.spawn(move || runtime.block_on(self.scribe(lease, keep, told)));
            let train = || crate::train::run(spec, &dataset, state, pool, &mut recorder);
            let outcome = catch_unwind(AssertUnwindSafe(train));
            let outcome = match outcome.map_err(WorkerError::of_panic) {
                Ok(Ok(Outcome::Stopped { state })) if !lease.is_lost() => {
                    recorder.pause(state).map(|()| Ok(Outcome::Interrupted))
                }
                outcome => outcome,
            };
            let progress = recorder.finished();
            drop(recorder);
            // Wait for the scribe: everything that the trainer reported must be written before the end of the
            // job.
            scribe.join().map_err(WorkerError::of_panic)??;
            Ok::<_, WorkerError>((outcome?, progress))
        })?;
        match outcome {
            Ok(Outcome::Finished { state, test }) => {
                runtime.block_on(self.publish(spec, lease, &dataset, &state, test, progress))
            }
            Ok(Outcome::Stopped { .. } | Outcome::Interrupted) => {
                runtime.block_on(self.dispatch.release(lease.claim))?;
                Ok(JobState::Queued)
            }
            Err(TrainError::Observer(error)) => Err(error),
            Err(error @ TrainError::Diverged { .. }) => {
                let error = JobError { code: "diverged".to_owned(), detail: error.to_string() };
                runtime.block_on(
                    self.until_taken(lease, async || Ok(self.dispatch.fail(lease.claim, &error).await?)),
                )?;
                Ok(JobState::Failed)
            }
        }
    }

    /// Returns the state that a job continues from: its newest readable checkpoint, or else the beginning.
    /// Sets damaged checkpoints aside.
    async fn state_of(&self, job: &Job, input: Shape, claim: Claim) -> Result<TrainState, WorkerError> {
        for checkpoint in self.store.checkpoints(job.id).await? {
            let key = &checkpoint.blob_key;
            let bytes = self.blobs.get(key, &checkpoint.sha256).await;
            let state = bytes
                .map_err(WorkerError::from)
                .and_then(|bytes| Ok(read_checkpoint(&bytes, &job.spec, input)?));
            let error = match state {
                Ok(state) => {
                    tracing::info!(job = %job.id, epoch = state.epoch, step = state.step, "job resumes from a checkpoint");
                    return Ok(state);
                }
                Err(error) => error,
            };
            let is_damaged = match &error {
                WorkerError::Blob(error) => error.is_damage(),
                error => matches!(error, WorkerError::Artifact(_)),
            };
            tracing::error!(job = %job.id, step = checkpoint.step, %error, "checkpoint skipped");
            if !is_damaged {
                // If the whole folder fails, return that error. The job must wait and must not start from the
                // beginning.
                self.blobs.probe().await?;
            }
            if is_damaged && self.store.is_held(claim).await? {
                let aside = match self.blobs.folder() {
                    Some(folder) => folder.set_aside(key).await?,
                    None => None,
                };
                self.store.forget_damaged(claim, key).await?;
                self.metrics.checkpoint_damaged();
                tracing::error!(job = %job.id, step = checkpoint.step, aside, "damaged checkpoint set aside");
            }
        }
        let mut state = TrainState::new(&job.spec, input)?;
        if let Some(reference) = &job.spec.initial_model {
            let reference = reference.parse().map_err(|_| WorkerError::UnknownModel(reference.clone()))?;
            // Another server may have published the model just now.
            self.registry.refresh().await?;
            let read = loop {
                match self.registry.get(&reference, ()).await {
                    Err(RegistryError::InUse) => {
                        tracing::info!(job = %job.id, "job waits for memory for a model")
                    }
                    read => break read,
                }
            };
            let model = read.map_err(|error| match error {
                RegistryError::Blob(error) if !error.is_damage() => WorkerError::Blob(error),
                RegistryError::Store(error) => WorkerError::Store(error),
                error => WorkerError::Registry(error),
            })?;
            state.network.adopt(model.predictor.network());
            tracing::info!(job = %job.id, model = %model.name, "job starts from a model");
        }
        Ok(state)
    }
}

/// Returns the failure as the client sees it, without paths or SQL.
fn failure(error: &WorkerError) -> JobError {
    let (code, detail) = match error {
        WorkerError::Artifact(_) => (
            "storage_failed",
            "the job's weights could not be written as bytes; the log of the server says why",
        ),
        WorkerError::UnknownModel(_) | WorkerError::Registry(_) => {
            ("unknown_model", "the model to start from is gone or can't be read")
        }
        WorkerError::UnknownDataset(_) => ("unknown_dataset", "the dataset of the job is gone"),
        WorkerError::Panic(message) => {
            return JobError {
                code: "panicked".to_owned(),
                detail: format!("the trainer panicked: {message}; the log of the server says where"),
            };
        }
        WorkerError::Shape(_) | WorkerError::Store(_) | WorkerError::Blob(_) | WorkerError::ScribeGone => {
            ("internal", "the trainer failed; the log of the server says where")
        }
    };
    JobError { code: code.to_owned(), detail: detail.to_owned() }
}
