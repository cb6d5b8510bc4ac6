use std::collections::HashMap;
use std::fmt;

use super::jobs::{job_id, job_state};
use super::row::row;
use super::{Store, StoreError, row_error};
use crate::blobs::Blob;
use crate::job::{JobId, JobState};

/// What a blob belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobOwner {
    /// A checkpoint of a job.
    Checkpoint {
        /// Id of the job.
        job: JobId,
        /// Training steps that the checkpoint contains.
        step: u64,
    },
    /// A version of a model.
    Model {
        /// Name of the model.
        name: String,
        /// Number of the version.
        version: u32,
    },
}

impl fmt::Display for BlobOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint { job, step } => write!(f, "the checkpoint of job {job} at step {step}"),
            Self::Model { name, version } => write!(f, "model {name}@{version}"),
        }
    }
}

/// A row that names a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRow {
    /// Key of the blob.
    pub key: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// What the blob belongs to.
    pub owner: BlobOwner,
}

impl BlobRow {
    /// Returns the blob as the row describes it.
    pub fn blob(&self) -> Blob {
        Blob { key: self.key.clone(), size_bytes: self.size_bytes, sha256: self.sha256.clone() }
    }
}

/// The state and attempt of a job. They decide whether its files are still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobStanding {
    /// State of the job.
    pub state: JobState,
    /// Its current or last attempt.
    pub attempt: u32,
}

row! {
    pub(super) struct CheckpointBlobRow {
        job_id: String,
        step: i64,
        blob_key: String,
        size_bytes: i64,
        sha256: String,
    }
}

row! {
    pub(super) struct VersionBlobRow {
        name: String,
        version: i64,
        blob_key: String,
        size_bytes: i64,
        sha256: String,
    }
}

row! {
    pub(super) struct StandingRow {
        id: String,
        state: String,
        attempt: i64,
    }
}

/// The rows that name blobs, and the standing of every job, at one moment.
pub(super) struct BlobRows {
    pub checkpoints: Vec<CheckpointBlobRow>,
    pub versions: Vec<VersionBlobRow>,
    pub jobs: Vec<StandingRow>,
}

impl TryFrom<CheckpointBlobRow> for BlobRow {
    type Error = StoreError;

    fn try_from(row: CheckpointBlobRow) -> Result<Self, StoreError> {
        let CheckpointBlobRow { job_id: job, step, blob_key: key, size_bytes, sha256 } = row;
        let owner = BlobOwner::Checkpoint { job: job_id(&job)?, step: step.unsigned_abs() };
        Ok(Self { key, size_bytes: size_bytes.unsigned_abs(), sha256, owner })
    }
}

impl TryFrom<VersionBlobRow> for BlobRow {
    type Error = StoreError;

    fn try_from(row: VersionBlobRow) -> Result<Self, StoreError> {
        let VersionBlobRow { name, version, blob_key: key, size_bytes, sha256 } = row;
        let version = u32::try_from(version).map_err(|error| row_error("version", &name, &error))?;
        let owner = BlobOwner::Model { name, version };
        Ok(Self { key, size_bytes: size_bytes.unsigned_abs(), sha256, owner })
    }
}

impl TryFrom<StandingRow> for (JobId, JobStanding) {
    type Error = StoreError;

    fn try_from(row: StandingRow) -> Result<Self, StoreError> {
        let StandingRow { id, state, attempt } = row;
        let attempt = u32::try_from(attempt).map_err(|error| row_error("attempt", &id, &error))?;
        Ok((job_id(&id)?, JobStanding { state: job_state(&id, &state)?, attempt }))
    }
}

impl Store {
    /// Returns whether a row names this key.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn is_named(&self, key: &str) -> Result<bool, StoreError> {
        self.database.is_named(key).await
    }

    /// Returns whether any row names a blob.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn names_blobs(&self) -> Result<bool, StoreError> {
        self.database.names_blobs().await
    }

    /// Returns every row that names a blob, and the standing of every job, at one moment.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if a row can't be parsed.
    pub async fn blob_rows(&self) -> Result<(Vec<BlobRow>, HashMap<JobId, JobStanding>), StoreError> {
        let BlobRows { checkpoints, versions, jobs } = self.database.blob_rows().await?;
        let checkpoints = checkpoints.into_iter().map(BlobRow::try_from);
        let rows =
            checkpoints.chain(versions.into_iter().map(BlobRow::try_from)).collect::<Result<_, _>>()?;
        Ok((rows, jobs.into_iter().map(TryFrom::try_from).collect::<Result<_, _>>()?))
    }
}
