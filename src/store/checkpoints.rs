use sqlx::FromRow;

use super::{Claim, Store, StoreError, row_error, timestamp};
use crate::blobs::Blob;
use crate::fault::{self, Point};
use crate::job::{Checkpoint, JobId};

/// The row of a checkpoint.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct CheckpointRow {
    /// The epoch it was made in, or after.
    pub epoch: i64,
    /// Steps taken by then.
    pub step: i64,
    /// Where its bytes are.
    pub blob_key: String,
    /// Their number.
    pub size_bytes: i64,
    /// Their SHA-256, in hex.
    pub sha256: String,
    /// Validation accuracy of the epoch, where it has ended.
    pub validation_accuracy: Option<f64>,
    created_at: i64,
}

/// A checkpoint whose bytes are written.
#[derive(Clone, Debug)]
pub struct NewCheckpoint {
    /// The epoch it was made in, or after.
    pub epoch: u32,
    /// Steps taken by then.
    pub step: u64,
    /// Validation accuracy of the epoch, where it has ended.
    pub validation_accuracy: Option<f64>,
    /// Its bytes.
    pub blob: Blob,
}

impl CheckpointRow {
    /// Its bytes as the row names them.
    pub fn blob(&self) -> Blob {
        Blob {
            key: self.blob_key.clone(),
            size_bytes: self.size_bytes.unsigned_abs(),
            sha256: self.sha256.clone(),
        }
    }

    /// It as the API shows it.
    ///
    /// # Errors
    /// If the row can't be read.
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
    /// The checkpoints of a job, newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn checkpoints(&self, id: JobId) -> Result<Vec<CheckpointRow>, StoreError> {
        self.database.checkpoints(id).await
    }

    /// Forgets all checkpoints of a job but the newest `keep`; returns the keys of their bytes,
    /// which nobody names any more: none where the job belongs to another attempt.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget_checkpoints(&self, claim: Claim, keep: u32) -> Result<Vec<String>, StoreError> {
        let keys = self.database.forget_checkpoints(claim, keep).await?;
        if !keys.is_empty() {
            fault::point(Point::AfterForget);
        }
        Ok(keys)
    }

    /// Forgets a checkpoint whose bytes are damaged, unless the job belongs to another attempt.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget_damaged(&self, claim: Claim, blob_key: &str) -> Result<(), StoreError> {
        self.database.forget_damaged(claim, blob_key).await
    }
}
