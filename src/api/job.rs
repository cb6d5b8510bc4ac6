use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::spec::TrainSpec;
use crate::job::{self, JobId};

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its name, a UUIDv7: younger jobs sort after older ones.
    #[schema(value_type = String, format = "uuid")]
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// The name that its model is published under.
    pub model: String,
    /// What it trains.
    pub spec: TrainSpec,
    /// How often a worker has taken it up.
    pub attempt: u32,
    /// How far it is.
    pub progress: Progress,
    /// The figures of the newest epoch; null before the first has ended.
    pub metrics: Option<JobMetrics>,
    /// What came of it; null unless it succeeded.
    pub result: Option<JobResult>,
    /// Why it failed; null unless it did.
    pub error: Option<JobError>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When a worker first took it up.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// Where a job stands: `queued → running → succeeded | failed | cancelled`. A running job goes back to the queue if its
/// server stops or dies; one that failed or was cancelled can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for a worker.
    Queued,
    /// A worker trains it.
    Running,
    /// Its model is published.
    Succeeded,
    /// It can't go on; `error` says why.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// The epoch it is in, from 1; 0 before the first step.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Steps taken.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// `step / steps`.
    #[schema(minimum = 0, maximum = 1)]
    pub fraction: f64,
    /// Training images a second, over the running epoch.
    pub images_per_second: Option<f64>,
    /// Seconds of work so far, over all attempts.
    #[schema(minimum = 0)]
    pub elapsed_seconds: f64,
    /// Seconds of work left, at the mean speed so far.
    pub eta_seconds: Option<f64>,
    /// Memory of a step, once one has begun.
    #[serde(default)]
    pub memory: Option<StepMemory>,
    /// Whether the job waits until the disk takes what it has to write.
    #[serde(default)]
    #[schema(required = true)]
    pub waiting_for_disk: bool,
}

/// Memory that a step takes besides parameters, gradients and the optimiser's state.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepMemory {
    /// Bytes, from the spec, before the job ran.
    pub estimated_bytes: u64,
    /// Bytes, as they are held.
    pub measured_bytes: u64,
}

/// The figures of an epoch; those of the test split when the job has ended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobMetrics {
    /// Mean loss of the training examples.
    pub train_loss: f64,
    /// Accuracy on the training examples.
    #[schema(minimum = 0, maximum = 1)]
    pub train_accuracy: f64,
    /// Mean loss of the validation examples.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation examples.
    #[schema(minimum = 0, maximum = 1)]
    pub validation_accuracy: Option<f64>,
    /// Mean loss of the test split.
    pub test_loss: Option<f64>,
    /// Accuracy on the test split.
    #[schema(minimum = 0, maximum = 1)]
    pub test_accuracy: Option<f64>,
}

/// What came of a job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobResult {
    /// The model published.
    pub model: String,
    /// Its version.
    #[schema(minimum = 1)]
    pub version: u32,
    /// Accuracy on the test split.
    #[schema(minimum = 0, maximum = 1)]
    pub test_accuracy: f64,
    /// Mean loss on the test split.
    pub test_loss: f64,
    /// Seconds of work, over all attempts.
    pub train_seconds: f64,
}

/// Why a job failed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// A stable word, such as `diverged`.
    pub code: String,
    /// What happened and what to try.
    pub detail: String,
}

/// A page of jobs, newest first.
#[derive(Serialize, ToSchema)]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The `cursor` of the next page; null on the last.
    #[schema(value_type = Option<String>)]
    pub next_cursor: Option<JobId>,
}

/// A state of training that a job can go on from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Checkpoint {
    /// The epoch it was made in, or after.
    pub epoch: u32,
    /// Steps taken by then.
    pub step: u64,
    /// Bytes of its file.
    pub size_bytes: u64,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Validation accuracy of the epoch; null if the epoch had not ended.
    #[schema(minimum = 0, maximum = 1)]
    pub validation_accuracy: Option<f64>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// The checkpoints of a job, newest first.
#[derive(Serialize, ToSchema)]
pub struct CheckpointList {
    /// The checkpoints.
    pub checkpoints: Vec<Checkpoint>,
}

impl From<job::Job> for Job {
    fn from(job: job::Job) -> Self {
        let job::Job {
            id,
            state,
            model,
            spec,
            attempt,
            progress,
            metrics,
            result,
            error,
            created_at,
            started_at,
            finished_at,
        } = job;
        Self {
            id,
            state: state.into(),
            model,
            spec: spec.into(),
            attempt,
            progress: progress.into(),
            metrics: metrics.map(Into::into),
            result: result.map(Into::into),
            error: error.map(|job::JobError { code, detail }| JobError { code, detail }),
            created_at,
            started_at,
            finished_at,
        }
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        job::JobState::from(*self).fmt(f)
    }
}

impl From<job::JobState> for JobState {
    fn from(state: job::JobState) -> Self {
        match state {
            job::JobState::Queued => Self::Queued,
            job::JobState::Running => Self::Running,
            job::JobState::Succeeded => Self::Succeeded,
            job::JobState::Failed => Self::Failed,
            job::JobState::Cancelled => Self::Cancelled,
        }
    }
}

impl From<JobState> for job::JobState {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Queued => Self::Queued,
            JobState::Running => Self::Running,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
        }
    }
}

impl From<job::Progress> for Progress {
    fn from(progress: job::Progress) -> Self {
        let job::Progress {
            epoch,
            epochs,
            step,
            steps,
            fraction,
            images_per_second,
            elapsed_seconds,
            eta_seconds,
            memory,
            waiting_for_disk,
        } = progress;
        let memory = memory.map(|job::StepMemory { estimated_bytes, measured_bytes }| StepMemory {
            estimated_bytes,
            measured_bytes,
        });
        Self {
            epoch,
            epochs,
            step,
            steps,
            fraction,
            images_per_second,
            elapsed_seconds,
            eta_seconds,
            memory,
            waiting_for_disk,
        }
    }
}

impl From<job::JobMetrics> for JobMetrics {
    fn from(metrics: job::JobMetrics) -> Self {
        let job::JobMetrics {
            train_loss,
            train_accuracy,
            validation_loss,
            validation_accuracy,
            test_loss,
            test_accuracy,
        } = metrics;
        Self { train_loss, train_accuracy, validation_loss, validation_accuracy, test_loss, test_accuracy }
    }
}

impl From<job::JobResult> for JobResult {
    fn from(result: job::JobResult) -> Self {
        let job::JobResult { model, version, test_accuracy, test_loss, train_seconds } = result;
        Self { model, version, test_accuracy, test_loss, train_seconds }
    }
}

impl From<job::Checkpoint> for Checkpoint {
    fn from(checkpoint: job::Checkpoint) -> Self {
        let job::Checkpoint { epoch, step, size_bytes, sha256, validation_accuracy, created_at } = checkpoint;
        Self { epoch, step, size_bytes, sha256, validation_accuracy, created_at }
    }
}
