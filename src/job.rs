//! A job: its id, its states and which may follow which, and what is told of it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::train::{EpochMetrics, StepMetrics, TrainSpec, is_name};

/// The name of a job: a UUIDv7, so that younger jobs sort behind older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// A new id, above every other of this process.
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

/// A text that is no id of a job.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no job id; it must be a UUID")]
pub struct JobIdError(String);

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        Uuid::parse_str(text).map(Self).map_err(|_| JobIdError(text.chars().take(64).collect()))
    }
}

/// The name of what an attempt leaves beside the rows. The attempt is part of it: a stale one overwrites nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobKey {
    /// A checkpoint: `jobs/{job}/{attempt}-{step}.safetensors`.
    Checkpoint {
        /// Whose.
        job: JobId,
        /// The attempt that wrote it.
        attempt: u32,
        /// Steps done.
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
    /// A version of a model as it was named before: `models/{job}-{attempt}.safetensors`.
    ModelOfJob {
        /// The job that trained it.
        job: JobId,
        /// The attempt that wrote it.
        attempt: u32,
    },
}

impl BlobKey {
    /// The job and the attempt.
    pub fn writer(&self) -> (JobId, u32) {
        match *self {
            Self::Checkpoint { job, attempt, .. }
            | Self::Model { job, attempt, .. }
            | Self::ModelOfJob { job, attempt } => (job, attempt),
        }
    }

    /// The key that reads so, if it is one.
    pub fn named(text: &str) -> Option<Self> {
        let name = text.strip_suffix(".safetensors")?;
        if let Some(checkpoint) = name.strip_prefix("jobs/") {
            let (job, name) = checkpoint.split_once('/')?;
            let (attempt, step) = name.split_once('-')?;
            let (attempt, step) = (attempt.parse().ok()?, step.parse().ok()?);
            return Some(Self::Checkpoint { job: job.parse().ok()?, attempt, step });
        }
        let model = name.strip_prefix("models/")?;
        let (rest, attempt) = model.rsplit_once('-')?;
        let attempt = attempt.parse().ok()?;
        let Some((name, rest)) = rest.split_once('/') else {
            return Some(Self::ModelOfJob { job: rest.parse().ok()?, attempt });
        };
        let (version, job) = rest.split_once('-')?;
        let (version, job) = (version.parse().ok()?, job.parse().ok()?);
        is_name(name).then(|| Self::Model { name: name.to_owned(), version, job, attempt })
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint { job, attempt, step } => write!(f, "jobs/{job}/{attempt}-{step}.safetensors"),
            Self::Model { name, version, job, attempt } => {
                write!(f, "models/{name}/{version}-{job}-{attempt}.safetensors")
            }
            Self::ModelOfJob { job, attempt } => write!(f, "models/{job}-{attempt}.safetensors"),
        }
    }
}

/// Where a job stands: `queued → running → succeeded | failed | cancelled`. A queued job can be cancelled; a running
/// one goes back to the queue when its server stops or dies; one that failed or was cancelled can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a worker.
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

impl JobState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// The states that may follow.
    pub fn followers(self) -> &'static [Self] {
        match self {
            Self::Queued => &[Self::Running, Self::Cancelled],
            Self::Running => &[Self::Queued, Self::Succeeded, Self::Failed, Self::Cancelled],
            Self::Failed | Self::Cancelled => &[Self::Queued],
            Self::Succeeded => &[],
        }
    }

    /// Whether it is at its end; only a client's wish leads on from there.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// The model it publishes under.
    pub model: String,
    /// What it trains.
    pub spec: TrainSpec,
    /// How often a worker has taken it up; every write of a worker carries it.
    pub attempt: u32,
    /// How far it is.
    pub progress: Progress,
    /// The figures of the newest epoch.
    pub metrics: Option<JobMetrics>,
    /// What came of it.
    pub result: Option<JobResult>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When a worker first took it up.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    pub fraction: f64,
    /// Training images a second, over the running epoch.
    pub images_per_second: Option<f64>,
    /// Seconds of work so far, over all attempts.
    pub elapsed_seconds: f64,
    /// Seconds of work left, at the mean speed so far.
    pub eta_seconds: Option<f64>,
    /// Bytes of a step, once it has begun.
    #[serde(default)]
    pub memory: Option<StepMemory>,
    /// Whether the job waits until the disk takes what it has to write.
    #[serde(default)]
    pub waiting_for_disk: bool,
}

impl Progress {
    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps / u64::from(self.epochs.max(1))
    }
}

/// A state of training that a job can go on from, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The epoch it was made in, or after.
    pub epoch: u32,
    /// Steps taken by then.
    pub step: u64,
    /// Size of its file.
    pub size_bytes: u64,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Validation accuracy of the epoch, where it has ended.
    pub validation_accuracy: Option<f64>,
    /// When it was recorded.
    pub created_at: Timestamp,
}

/// Bytes that a step takes besides parameters, gradients and the optimiser's state: values, errors, and weights in the
/// order of the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepMemory {
    /// From the spec, before the job ran.
    pub estimated_bytes: u64,
    /// As they are held.
    pub measured_bytes: u64,
}

/// The figures of an epoch; those of the test split when the job has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobMetrics {
    /// Mean loss of the training examples.
    pub train_loss: f64,
    /// Accuracy on the training examples.
    pub train_accuracy: f64,
    /// Mean loss of the validation examples.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation examples.
    pub validation_accuracy: Option<f64>,
    /// Mean loss of the test split.
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

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The model published.
    pub model: String,
    /// Its version.
    pub version: u32,
    /// Accuracy on the test split.
    pub test_accuracy: f64,
    /// Mean loss on the test split.
    pub test_loss: f64,
    /// Seconds of work, over all attempts.
    pub train_seconds: f64,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// A stable word.
    pub code: String,
    /// What happened and what to try.
    pub detail: String,
}

/// An epoch as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Its figures.
    #[serde(flatten)]
    pub metrics: EpochMetrics,
    /// Training images a second.
    pub images_per_second: f64,
    /// Seconds it took, validation included.
    pub duration_seconds: f64,
}

/// What is recorded of a job's course, or a part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobHistory {
    /// Epochs, one after the other.
    pub epochs: Vec<EpochRecord>,
    /// Some of their steps, evenly spread.
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
