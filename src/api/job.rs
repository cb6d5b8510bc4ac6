use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::spec::TrainSpec;
use crate::job::{self, JobId};

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Id of the job: a UUIDv7, so that ids sort by age.
    #[schema(value_type = String, format = "uuid")]
    pub id: JobId,
    /// State of the job.
    pub state: JobState,
    /// The name that its model is published under.
    pub model: String,
    /// The specification, with all defaults filled in.
    pub spec: TrainSpec,
    /// How many times workers have claimed the job.
    pub attempt: u32,
    /// Progress of the job.
    pub progress: Progress,
    /// The metrics of the newest epoch; null before the first has ended.
    pub metrics: Option<JobMetrics>,
    /// The result; null unless the job has succeeded.
    pub result: Option<JobResult>,
    /// The error; null unless the job has failed.
    pub error: Option<JobError>,
    /// When the job was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When a worker first claimed the job.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// The state of a job: `queued → running → succeeded | failed | cancelled`. A running job goes back to the queue if its
/// server stops or dies. A failed or cancelled job can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The job waits for a worker.
    Queued,
    /// A worker trains the job.
    Running,
    /// The model of the job is published.
    Succeeded,
    /// The job can't continue; `error` has the reason.
    Failed,
    /// A client has cancelled the job.
    Cancelled,
}

/// The progress of a job.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// The current epoch, from 1; 0 before the first step.
    pub epoch: u32,
    /// Epochs of the whole job.
    pub epochs: u32,
    /// Steps taken so far.
    pub step: u64,
    /// Steps of the whole job.
    pub steps: u64,
    /// `step / steps`.
    #[schema(minimum = 0, maximum = 1)]
    pub fraction: f64,
    /// Training images per second in the current epoch.
    pub images_per_second: Option<f64>,
    /// Working time of all attempts so far, in seconds.
    #[schema(minimum = 0)]
    pub elapsed_seconds: f64,
    /// Estimated working time left, in seconds.
    pub eta_seconds: Option<f64>,
    /// Memory of a training step, once the first step has begun.
    #[serde(default)]
    pub memory: Option<StepMemory>,
    /// Whether the job waits for the disk to accept its writes.
    #[serde(default)]
    #[schema(required = true)]
    pub waiting_for_disk: bool,
}

/// Memory of a training step in addition to parameters, gradients and the optimiser's state.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepMemory {
    /// The estimate from the spec, in bytes.
    pub estimated_bytes: u64,
    /// The bytes that are allocated.
    pub measured_bytes: u64,
}

/// The metrics of an epoch, and of the test split once the job has succeeded.
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

/// The result of a job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobResult {
    /// Name of the published model.
    pub model: String,
    /// Version of the model.
    #[schema(minimum = 1)]
    pub version: u32,
    /// Accuracy on the test split.
    #[schema(minimum = 0, maximum = 1)]
    pub test_accuracy: f64,
    /// Mean loss on the test split.
    pub test_loss: f64,
    /// Working time of all attempts, in seconds.
    pub train_seconds: f64,
}

/// Why a job failed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// A stable identifier, such as `diverged`.
    pub code: String,
    /// What happened, and what to try.
    pub detail: String,
}

/// A page of jobs, newest first.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// At most `limit` jobs.
    pub jobs: Vec<Job>,
    /// The `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// A state of training that a job can resume from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Checkpoint {
    /// The epoch during which, or at whose end, the checkpoint was made.
    pub epoch: u32,
    /// Training steps that it contains.
    pub step: u64,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Validation accuracy of the epoch; null if the epoch had not ended.
    #[schema(minimum = 0, maximum = 1)]
    pub validation_accuracy: Option<f64>,
    /// When the checkpoint was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// The checkpoints of a job, newest first.
#[derive(Serialize, ToSchema)]
pub struct CheckpointList {
    /// At most as many as the job keeps: `checkpoint.keep` of its spec.
    pub checkpoints: Vec<Checkpoint>,
}

impl From<job::Job> for Job {
    fn from(job: job::Job) -> Self {
        let job::Job {
            id,
            state,
            // Clients don't see who owns a job.
            owner: _,
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
