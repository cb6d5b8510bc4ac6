//! Takes jobs from the queue, trains them, records their course, publishes their models.
//!
//! A worker has a thread of its own, and a pool of threads to train with, all at a lower priority
//! than the ones that serve. While it trains, a task beside it writes the progress a few times a
//! second and hears whether the job shall go on; epochs and checkpoints are written by the worker
//! itself, so that none is lost.

mod recorder;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::recorder::{Recorder, Signal, heartbeat};
use crate::artifact::{ArtifactError, read_checkpoint, write_model};
use crate::blobs::{BlobError, Blobs};
use crate::data::{self, Dataset};
use crate::job::{Job, JobError, JobId, JobState, Progress};
use crate::nn::{Pool, ShapeError};
use crate::registry::{Registry, RegistryError};
use crate::store::{Claim, Heartbeat, NewModel, Store, StoreError};
use crate::telemetry::Metrics;
use crate::train::{Evaluation, Outcome, TrainError, TrainSpec, TrainState};

/// How long a worker waits after the database has failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How much lower than serving the priority of training is: <https://man7.org/linux/man-pages/man7/sched.7.html>.
const NICENESS: i32 = 10;

/// Takes jobs one after the other.
pub struct Worker {
    /// The rows.
    pub store: Store,
    /// The checkpoints and models.
    pub blobs: Blobs,
    /// Where models are served from.
    pub registry: Registry,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// Its number, from 0.
    pub number: usize,
    /// Cancelled when the server stops: the job is then given back to the queue.
    pub stop: CancellationToken,
}

/// Why a worker could not end a job as it should.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The rows failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A state could not be written as bytes.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The data set is gone.
    #[error("there is no dataset {0:?}")]
    UnknownDataset(String),
    /// The layers don't fit each other.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The model to start from is gone.
    #[error("there is no model {0:?}")]
    UnknownModel(String),
    /// The model to start from can't be had.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The trainer is broken.
    #[error("the trainer panicked")]
    Panic,
}

/// What [`Worker::run_next`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The job.
    pub id: JobId,
    /// The state it was left in.
    pub state: JobState,
}

/// The threads of some workers.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts a thread for each of `workers`, each with a pool of `threads`.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(workers: Vec<Worker>, threads: usize, runtime: &Handle) -> std::io::Result<Self> {
        let start = |worker: Worker| {
            let runtime = runtime.clone();
            std::thread::Builder::new().name(format!("worker-{}", worker.number)).spawn(move || {
                lower_priority();
                worker.run(&Pool::new(threads), &runtime);
            })
        };
        Ok(Self { threads: workers.into_iter().map(start).collect::<std::io::Result<_>>()? })
    }

    /// Waits until every worker has stopped, once their tokens are cancelled.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// Lets this thread, and those it starts, yield to the ones that serve; on other systems than Linux it would lower the whole
/// process and does nothing.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "training keeps its priority");
    }
}

impl Worker {
    /// Runs jobs until the token is cancelled.
    fn run(&self, pool: &Pool, runtime: &Handle) {
        let mut queued = self.store.queued();
        while !self.stop.is_cancelled() {
            queued.mark_unchanged();
            match self.run_next(pool, runtime) {
                Ok(Some(ran)) => tracing::info!(job = %ran.id, state = %ran.state, "job left the worker"),
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

    /// Takes the oldest queued job and brings it to its end, or back to the queue where the token
    /// is cancelled meanwhile. `None` where no job waits.
    ///
    /// # Errors
    /// Where the rows or bytes fail: the job is then back in the queue, to be tried again.
    pub fn run_next(&self, pool: &Pool, runtime: &Handle) -> Result<Option<Ran>, WorkerError> {
        let Some(job) = runtime.block_on(self.store.claim())? else { return Ok(None) };
        let claim = Claim { id: job.id, attempt: job.attempt };
        tracing::info!(job = %job.id, attempt = job.attempt, "job started");
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_job(&job, claim, pool, runtime)));
        match ran.unwrap_or(Err(WorkerError::Panic)) {
            Ok(state) => Ok(Some(Ran { id: job.id, state })),
            Err(WorkerError::Store(StoreError::Fenced { .. })) => {
                Ok(Some(Ran { id: job.id, state: JobState::Running }))
            }
            Err(error @ (WorkerError::Store(_) | WorkerError::Blob(_))) => {
                tracing::error!(job = %job.id, %error, "job goes back to the queue");
                runtime.block_on(self.until_written(|| self.store.release(claim)));
                Err(error)
            }
            Err(error) => {
                tracing::error!(job = %job.id, %error, "job failed");
                let failure = failure(&error);
                runtime.block_on(self.until_written(|| self.store.fail(claim, &failure)));
                Ok(Some(Ran { id: job.id, state: JobState::Failed }))
            }
        }
    }

    /// Tries again until the row says how a job left this worker, another attempt has it, or the
    /// server stops: its next start finds the job then.
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
        claim: Claim,
        pool: &Pool,
        runtime: &Handle,
    ) -> Result<JobState, WorkerError> {
        let spec = &job.spec;
        let dataset =
            data::named(&spec.dataset).ok_or_else(|| WorkerError::UnknownDataset(spec.dataset.clone()))?;
        let state = runtime.block_on(self.state_of(job))?;
        let signal = Arc::new(Signal::default());
        let ended = CancellationToken::new();
        let mut recorder = Recorder::new(self, job, claim, &dataset, &state, Arc::clone(&signal), runtime);
        let heartbeat = runtime.spawn(heartbeat(
            self.store.clone(),
            claim,
            recorder.progress.subscribe(),
            Arc::clone(&signal),
            ended.clone(),
        ));
        let outcome =
            catch_unwind(AssertUnwindSafe(|| crate::train::run(spec, &dataset, state, pool, &mut recorder)));
        ended.cancel();
        // The task only ends early by a panic, which its own report has shown.
        let _ = runtime.block_on(heartbeat);
        self.metrics.training_images_per_second(self.number, 0.0);

        match outcome.map_err(|_| WorkerError::Panic)? {
            Ok(Outcome::Finished { state, test }) => {
                runtime.block_on(self.publish(spec, claim, &dataset, &state, test, recorder.finished()))
            }
            Ok(Outcome::Stopped { state }) => match signal.get() {
                Heartbeat::Cancel => {
                    runtime.block_on(self.store.end_cancelled(claim))?;
                    Ok(JobState::Cancelled)
                }
                Heartbeat::Fenced => Err(StoreError::Fenced { id: claim.id, attempt: claim.attempt }.into()),
                Heartbeat::GoOn => {
                    let blob = recorder.write_checkpoint(&state)?;
                    let progress = recorder.current();
                    let requeued = self.store.requeue(claim, &progress, &recorder.steps, Some(&blob));
                    runtime.block_on(requeued)?;
                    Ok(JobState::Queued)
                }
            },
            Err(TrainError::Observer(error)) => Err(error),
            Err(error @ TrainError::Diverged { .. }) => {
                let error = JobError { code: "diverged".to_owned(), detail: error.to_string() };
                runtime.block_on(self.store.fail(claim, &error))?;
                Ok(JobState::Failed)
            }
        }
    }

    /// The state a job goes on from: its newest checkpoint that can be read, or the beginning.
    async fn state_of(&self, job: &Job) -> Result<TrainState, WorkerError> {
        for checkpoint in self.store.checkpoints(job.id).await? {
            let bytes = self.blobs.get(&checkpoint.blob_key, &checkpoint.sha256).await;
            let state =
                bytes.map_err(WorkerError::from).and_then(|bytes| Ok(read_checkpoint(&bytes, &job.spec)?));
            match state {
                Ok(state) => {
                    tracing::info!(job = %job.id, epoch = state.epoch, step = state.step, "job goes on");
                    return Ok(state);
                }
                Err(error) => tracing::warn!(job = %job.id, %error, "checkpoint passed over"),
            }
        }
        let mut state = TrainState::new(&job.spec)?;
        if let Some(reference) = &job.spec.initial_model {
            let reference = reference.parse().map_err(|_| WorkerError::UnknownModel(reference.clone()))?;
            let model = self.registry.get(&reference).await.map_err(|error| match error {
                RegistryError::Blob(error) => WorkerError::Blob(error),
                error => WorkerError::Registry(error),
            })?;
            state.network.adopt(model.predictor.network());
            tracing::info!(job = %job.id, model = %model.name, "job starts from a model");
        }
        Ok(state)
    }

    async fn publish(
        &self,
        spec: &TrainSpec,
        claim: Claim,
        dataset: &Dataset,
        state: &TrainState,
        test: Evaluation,
        progress: Progress,
    ) -> Result<JobState, WorkerError> {
        let bytes = write_model(state.published(), &spec.network.layers, &dataset.classes)?;
        let key = format!("models/{}-{}.safetensors", claim.id, claim.attempt);
        let blob = self.blobs.put(&key, bytes).await?;
        let model = NewModel {
            name: spec.model.clone(),
            test_accuracy: test.accuracy,
            test_loss: test.loss,
            parameters: state.network.parameter_count(),
            layers: spec.network.layers.clone(),
            classes: dataset.classes.clone(),
            blob,
        };
        let mut version = None;
        let succeeded = self.store.succeed(claim, &model, &progress, |published| {
            version = Some(published.row.version);
            self.registry.publish(published, state.published().clone());
        });
        match (succeeded.await, version) {
            (Ok(true), _) => Ok(JobState::Succeeded),
            (Ok(false), _) => {
                self.blobs.delete(&key).await?;
                self.store.end_cancelled(claim).await?;
                Ok(JobState::Cancelled)
            }
            (Err(error), version) => {
                if let Some(version) = version {
                    self.registry.withdraw(&spec.model, version);
                }
                Err(error.into())
            }
        }
    }
}

/// What a client is told of a failure: no path, no SQL.
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
        WorkerError::Panic | WorkerError::Shape(_) | WorkerError::Store(_) | WorkerError::Blob(_) => {
            ("internal", "the trainer failed; the log of the server says where")
        }
    };
    JobError { code: code.to_owned(), detail: detail.to_owned() }
}
