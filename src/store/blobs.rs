use std::collections::HashMap;
use std::fmt;

use super::{Store, StoreError};
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
        self.database.is_named(key).await
    }

    /// Whether a row names any bytes.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn names_blobs(&self) -> Result<bool, StoreError> {
        self.database.names_blobs().await
    }

    /// Every blob that a row names, and where every job stands, both as of one moment.
    ///
    /// # Errors
    /// If the database fails, or a row can't be read.
    pub async fn blob_rows(&self) -> Result<(Vec<BlobRow>, HashMap<JobId, JobStanding>), StoreError> {
        self.database.blob_rows().await
    }
}
