//! A job: its id, its states and their transitions, its progress and result.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::train::{EpochMetrics, StepMetrics, TrainSpec, is_name};

/// The id of a job: a UUIDv7, so that ids sort by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// Makes a new id, which is greater than all earlier ones of this process.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The error of parsing a text that is not a job id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a job id; it must be a UUID")]
pub struct JobIdError(String);

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        Uuid::parse_str(text).map(Self).map_err(|_| JobIdError(text.chars().take(64).collect()))
    }
}

/// The key of a blob. It contains its writer, an attempt of a job or an upload, so no writer overwrites the blob of
/// another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobKey {
    /// A checkpoint: `jobs/{job}/{attempt}-{step}.safetensors`.
    Checkpoint {
        /// The job that can resume from it.
        job: JobId,
        /// The attempt that wrote it.
        attempt: u32,
        /// Training steps that it contains.
        step: u64,
    },
    /// A version of a model: `models/{name}/{version}-{job}-{attempt}.safetensors`.
    Model {
        /// Name of the model.
        name: String,
        /// Number of the version.
        version: u32,
        /// The job that trained it.
        job: JobId,
        /// The attempt that wrote it.
        attempt: u32,
    },
    /// A version of a model that no job has trained: `models/{name}/{version}-{upload}.safetensors`.
    UploadedModel {
        /// Name of the model.
        name: String,
        /// Number of the version.
        version: u32,
        /// An id that only this upload or import has.
        upload: Uuid,
    },
    /// The key of a model's version in earlier releases: `models/{job}-{attempt}.safetensors`.
    ModelOfJob {
        /// The job that trained it.
        job: JobId,
        /// The attempt that wrote it.
        attempt: u32,
    },
}

impl BlobKey {
    /// Returns the job and the attempt that wrote the blob, if a job did.
    pub fn writer(&self) -> Option<(JobId, u32)> {
        match *self {
            Self::Checkpoint { job, attempt, .. }
            | Self::Model { job, attempt, .. }
            | Self::ModelOfJob { job, attempt } => Some((job, attempt)),
            Self::UploadedModel { .. } => None,
        }
    }

    /// Parses a key. A file whose name is spelled in another way is not one of ours.
    pub fn named(text: &str) -> Option<Self> {
        Self::parse(text).filter(|key| key.to_string() == text)
    }

    fn parse(text: &str) -> Option<Self> {
        let name = text.strip_suffix(".safetensors")?;
        if let Some(checkpoint) = name.strip_prefix("jobs/") {
            let (job, name) = checkpoint.split_once('/')?;
            let (attempt, step) = name.split_once('-')?;
            let (attempt, step) = (attempt.parse().ok()?, step.parse().ok()?);
            return Some(Self::Checkpoint { job: job.parse().ok()?, attempt, step });
        }
        let model = name.strip_prefix("models/")?;
        let Some((name, rest)) = model.split_once('/') else {
            let (job, attempt) = writer_named(model)?;
            return Some(Self::ModelOfJob { job, attempt });
        };
        let (version, writer) = rest.split_once('-')?;
        let (name, version) = (is_name(name).then(|| name.to_owned())?, version.parse().ok()?);
        if let Ok(upload) = Uuid::parse_str(writer) {
            return Some(Self::UploadedModel { name, version, upload });
        }
        let (job, attempt) = writer_named(writer)?;
        Some(Self::Model { name, version, job, attempt })
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint { job, attempt, step } => write!(f, "jobs/{job}/{attempt}-{step}.safetensors"),
            Self::Model { name, version, job, attempt } => {
                write!(f, "models/{name}/{version}-{job}-{attempt}.safetensors")
            }
            Self::UploadedModel { name, version, upload } => {
                write!(f, "models/{name}/{version}-{upload}.safetensors")
            }
            Self::ModelOfJob { job, attempt } => write!(f, "models/{job}-{attempt}.safetensors"),
        }
    }
}

/// Parses `{job}-{attempt}`.
fn writer_named(text: &str) -> Option<(JobId, u32)> {
    let (job, attempt) = text.rsplit_once('-')?;
    Some((job.parse().ok()?, attempt.parse().ok()?))
}

/// The state of a job: `queued → running → succeeded | failed | cancelled`. A queued job can be cancelled. A
/// running job goes back to the queue when its server stops or dies. A failed or cancelled job can be
/// resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// The job waits for a worker.
    Queued,
    /// A worker trains the job.
    Running,
    /// The model of the job is published.
    Succeeded,
    /// The job can't continue; its error has the reason.
    Failed,
    /// A client has cancelled the job.
    Cancelled,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Returns the name of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the state with this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Returns whether the state is final. A job leaves a final state only if a client resumes it.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job with its state, progress and result.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Ids sort by the time of acceptance.
    pub id: JobId,
    /// The state when the row was read.
    pub state: JobState,
    /// The owner. It is empty if the job was accepted before callers were recorded.
    pub owner: String,
    /// The name that its model is published under.
    pub model: String,
    /// The validated specification.
    pub spec: TrainSpec,
    /// How many times workers have claimed the job. Every write of a worker carries its attempt.
    pub attempt: u32,
    /// The progress at the last write of a worker.
    pub progress: Progress,
    /// The metrics of the newest epoch, if one has ended.
    pub metrics: Option<JobMetrics>,
    /// The result, if the job has succeeded.
    pub result: Option<JobResult>,
    /// The error, if the job has failed.
    pub error: Option<JobError>,
    /// When the job was accepted.
    pub created_at: Timestamp,
    /// When a worker first claimed the job.
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    pub finished_at: Option<Timestamp>,
}

/// The progress of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// The current epoch, from 1; 0 before the first step.
    pub epoch: u32,
    /// Epochs of the whole job.
    pub epochs: u32,
    /// Steps taken so far.
    pub step: u64,
    /// Steps of the whole job.
    pub steps: u64,
    /// `step / steps`, from 0 to 1.
    pub fraction: f64,
    /// Training images per second in the current epoch.
    pub images_per_second: Option<f64>,
    /// Working time of all attempts so far, in seconds.
    pub elapsed_seconds: f64,
    /// Estimated working time left, in seconds, from the mean speed so far.
    pub eta_seconds: Option<f64>,
    /// Memory of a training step, once the first one has begun.
    pub memory: Option<StepMemory>,
    /// Whether the job waits for the disk to accept its writes.
    pub waiting_for_disk: bool,
}

impl Progress {
    /// Returns the number of steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps / u64::from(self.epochs.max(1))
    }
}

/// A state of training that a job can resume from.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The epoch during which, or at whose end, the checkpoint was made.
    pub epoch: u32,
    /// Training steps that it contains.
    pub step: u64,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Validation accuracy of the epoch, if it has ended.
    pub validation_accuracy: Option<f64>,
    /// When the checkpoint was recorded.
    pub created_at: Timestamp,
}

/// Memory that a training step needs in addition to parameters, gradients and the optimiser's state: values,
/// errors, and weights packed for products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepMemory {
    /// The estimate from the spec, in bytes.
    pub estimated_bytes: u64,
    /// The bytes that are allocated.
    pub measured_bytes: u64,
}

/// The metrics of an epoch, and of the test split once the job has succeeded.
#[derive(Clone, Debug, PartialEq)]
pub struct JobMetrics {
    /// Mean loss on the training examples.
    pub train_loss: f64,
    /// Accuracy on the training examples.
    pub train_accuracy: f64,
    /// Mean loss on the validation examples.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation examples.
    pub validation_accuracy: Option<f64>,
    /// Mean loss on the test split.
    pub test_loss: Option<f64>,
    /// Accuracy on the test split.
    pub test_accuracy: Option<f64>,
}

impl From<&EpochMetrics> for JobMetrics {
    fn from(epoch: &EpochMetrics) -> Self {
        Self {
            train_loss: epoch.train_loss,
            train_accuracy: epoch.train_accuracy,
            validation_loss: epoch.validation_loss,
            validation_accuracy: epoch.validation_accuracy,
            test_loss: None,
            test_accuracy: None,
        }
    }
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobResult {
    /// Name of the published model.
    pub model: String,
    /// Version of the published model.
    pub version: u32,
    /// Accuracy on the test split.
    pub test_accuracy: f64,
    /// Mean loss on the test split.
    pub test_loss: f64,
    /// Working time of all attempts, in seconds.
    pub train_seconds: f64,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobError {
    /// A stable identifier, such as `diverged`.
    pub code: String,
    /// What happened, and what to try.
    pub detail: String,
}

/// The record of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochRecord {
    /// Losses, accuracies and layer statistics.
    pub metrics: EpochMetrics,
    /// Training images per second.
    pub images_per_second: f64,
    /// Duration in seconds, validation included.
    pub duration_seconds: f64,
}

/// The recorded epochs of a job, or a page of them.
#[derive(Clone, Debug, PartialEq)]
pub struct JobHistory {
    /// The epochs in order.
    pub epochs: Vec<EpochRecord>,
    /// Some of their steps, evenly spaced.
    pub steps: Vec<StepMetrics>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_key_is_what_it_reads_as() {
        let id = "01a21745-5cf3-72cd-b758-266f94277363";
        let job: JobId = id.parse().expect("an id");
        for (text, key) in [
            (format!("jobs/{id}/2-430.safetensors"), BlobKey::Checkpoint { job, attempt: 2, step: 430 }),
            (format!("models/{id}-17.safetensors"), BlobKey::ModelOfJob { job, attempt: 17 }),
            (
                format!("models/a-b.c/3-{id}-17.safetensors"),
                BlobKey::Model { name: "a-b.c".to_owned(), version: 3, job, attempt: 17 },
            ),
            (
                format!("models/a-b.c/3-{id}.safetensors"),
                BlobKey::UploadedModel { name: "a-b.c".to_owned(), version: 3, upload: job.0 },
            ),
        ] {
            assert_eq!(key.to_string(), text);
            assert_eq!(BlobKey::named(&text), Some(key), "{text}");
        }
        for other in [
            "probe",
            "jobs/a/1-2.safetensors",
            "models/1.safetensors",
            "models/a/1.safetensors",
            "damaged/jobs/a",
        ] {
            assert_eq!(BlobKey::named(other), None, "{other}");
        }
        assert_eq!(BlobKey::named(&format!("models/A/3-{id}-17.safetensors")), None);
    }
}
