use super::row::row;
use super::{Claim, Store, StoreError, row_error, timestamp};
use crate::blobs::Blob;
use crate::failpoint::{self, Point};
use crate::job::{Checkpoint, JobId};

row! {
    /// The row of a checkpoint.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CheckpointRow {
        /// The epoch during which, or at whose end, the checkpoint was made.
        pub epoch: i64,
        /// Training steps that it contains.
        pub step: i64,
        /// Key of the blob.
        pub blob_key: String,
        /// Size in bytes.
        pub size_bytes: i64,
        /// SHA-256 in hex.
        pub sha256: String,
        /// Validation accuracy of the epoch, if it has ended.
        pub validation_accuracy: Option<f64>,
        created_at: i64,
    }
}

/// A checkpoint whose blob is written.
#[derive(Clone, Debug)]
pub struct NewCheckpoint {
    /// The epoch during which, or at whose end, the checkpoint was made.
    pub epoch: u32,
    /// Training steps that it contains.
    pub step: u64,
    /// Validation accuracy of the epoch, if it has ended.
    pub validation_accuracy: Option<f64>,
    /// The written blob.
    pub blob: Blob,
}

impl CheckpointRow {
    /// Returns the blob as the row describes it.
    pub fn blob(&self) -> Blob {
        Blob {
            key: self.blob_key.clone(),
            size_bytes: self.size_bytes.unsigned_abs(),
            sha256: self.sha256.clone(),
        }
    }

    /// Converts the row to a [`Checkpoint`].
    ///
    /// # Errors
    /// Returns an error if the row can't be parsed.
    pub fn shown(&self) -> Result<Checkpoint, StoreError> {
        Ok(Checkpoint {
            epoch: u32::try_from(self.epoch).map_err(|error| row_error("epoch", &self.blob_key, &error))?,
            step: self.step.unsigned_abs(),
            size_bytes: self.size_bytes.unsigned_abs(),
            sha256: self.sha256.clone(),
            validation_accuracy: self.validation_accuracy,
            created_at: timestamp("created_at", &self.blob_key, self.created_at)?,
        })
    }
}

impl Store {
    /// Returns the checkpoints of a job, newest first.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn checkpoints(&self, id: JobId) -> Result<Vec<CheckpointRow>, StoreError> {
        self.database.checkpoints(id).await
    }

    /// Deletes the rows of all checkpoints of a job except the newest `keep`. Returns the keys of their
    /// blobs, which no row names any more. Deletes nothing if the job has another attempt.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn forget_checkpoints(&self, claim: Claim, keep: u32) -> Result<Vec<String>, StoreError> {
        let keys = self.database.forget_checkpoints(claim, keep).await?;
        if !keys.is_empty() {
            failpoint::point(Point::AfterForget);
        }
        Ok(keys)
    }

    /// Deletes the row of a checkpoint whose blob is damaged, unless the job has another attempt.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn forget_damaged(&self, claim: Claim, blob_key: &str) -> Result<(), StoreError> {
        self.database.forget_damaged(claim, blob_key).await
    }
}
