use std::collections::HashMap;
use std::fmt;

use super::{Store, StoreError, row_error};
use crate::blobs::Blob;
use crate::job::{JobId, JobState};

/// Whose bytes a blob holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobOwner {
    /// A checkpoint of a job, after so many steps.
    Checkpoint {
        /// The job.
        job: JobId,
        /// Steps taken.
        step: u64,
    },
    /// A version of a model.
    Model {
        /// Its name.
        name: String,
        /// Its number.
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

/// A blob that a row names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRow {
    /// Where its bytes are.
    pub key: String,
    /// Their number.
    pub size_bytes: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
    /// Whose they are.
    pub owner: BlobOwner,
}

impl BlobRow {
    /// The bytes as the row names them.
    pub fn blob(&self) -> Blob {
        Blob { key: self.key.clone(), size_bytes: self.size_bytes, sha256: self.sha256.clone() }
    }
}

/// Where a job stands, for whoever asks what its files are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobStanding {
    /// Its state.
    pub state: JobState,
    /// Its attempt.
    pub attempt: u32,
}

impl Store {
    /// Whether a row names these bytes.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_named(&self, key: &str) -> Result<bool, StoreError> {
        let named = "SELECT EXISTS (SELECT 1 FROM checkpoints WHERE blob_key = $1)
                         OR EXISTS (SELECT 1 FROM model_versions WHERE blob_key = $1)";
        Ok(sqlx::query_scalar(named).bind(key).fetch_one(&self.reader).await?)
    }

    /// Whether a row names any bytes.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn names_blobs(&self) -> Result<bool, StoreError> {
        let named = "SELECT EXISTS (SELECT 1 FROM checkpoints) OR EXISTS (SELECT 1 FROM model_versions)";
        Ok(sqlx::query_scalar(named).fetch_one(&self.reader).await?)
    }

    /// Every blob that a row names, and where every job stands, both as of one moment.
    ///
    /// # Errors
    /// If the database fails, or a row can't be read.
    pub async fn blob_rows(&self) -> Result<(Vec<BlobRow>, HashMap<JobId, JobStanding>), StoreError> {
        let mut transaction = self.reader.begin().await?;
        let checkpoints: Vec<(String, i64, String, i64, String)> =
            sqlx::query_as("SELECT job_id, step, blob_key, size_bytes, sha256 FROM checkpoints")
                .fetch_all(&mut *transaction)
                .await?;
        let models: Vec<(String, u32, String, i64, String)> =
            sqlx::query_as("SELECT name, version, blob_key, size_bytes, sha256 FROM model_versions")
                .fetch_all(&mut *transaction)
                .await?;
        let jobs: Vec<(String, String, u32)> =
            sqlx::query_as("SELECT id, state, attempt FROM jobs").fetch_all(&mut *transaction).await?;
        transaction.commit().await?;

        let id = |text: &str| text.parse::<JobId>().map_err(|error| row_error("id", text, &error));
        let mut rows = Vec::with_capacity(checkpoints.len() + models.len());
        for (job, step, key, size_bytes, sha256) in checkpoints {
            let owner = BlobOwner::Checkpoint { job: id(&job)?, step: step.unsigned_abs() };
            rows.push(BlobRow { key, size_bytes: size_bytes.unsigned_abs(), sha256, owner });
        }
        rows.extend(models.into_iter().map(|(name, version, key, size_bytes, sha256)| BlobRow {
            key,
            size_bytes: size_bytes.unsigned_abs(),
            sha256,
            owner: BlobOwner::Model { name, version },
        }));
        let mut standings = HashMap::with_capacity(jobs.len());
        for (job, state, attempt) in jobs {
            let state = JobState::named(&state).ok_or_else(|| row_error("state", &job, &state))?;
            standings.insert(id(&job)?, JobStanding { state, attempt });
        }
        Ok((rows, standings))
    }
}
