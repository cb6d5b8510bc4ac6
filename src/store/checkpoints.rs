use sqlx::{FromRow, Sqlite, Transaction};

use super::guard::guarded;
use super::{Claim, Store, StoreError, now, row_error, timestamp};
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

impl NewCheckpoint {
    pub(super) async fn insert(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        claim: Claim,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO checkpoints
                 (job_id, step, epoch, blob_key, size_bytes, sha256, validation_accuracy, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (job_id, step) DO UPDATE SET
                 epoch = excluded.epoch, blob_key = excluded.blob_key, size_bytes = excluded.size_bytes,
                 sha256 = excluded.sha256, validation_accuracy = excluded.validation_accuracy,
                 created_at = excluded.created_at",
        )
        .bind(claim.id.to_string())
        .bind(self.step as i64)
        .bind(self.epoch)
        .bind(&self.blob.key)
        .bind(self.blob.size_bytes as i64)
        .bind(&self.blob.sha256)
        .bind(self.validation_accuracy)
        .bind(now())
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }
}

impl Store {
    /// The checkpoints of a job, newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn checkpoints(&self, id: JobId) -> Result<Vec<CheckpointRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT epoch, step, blob_key, size_bytes, sha256, validation_accuracy, created_at FROM checkpoints
             WHERE job_id = $1 ORDER BY step DESC",
        )
        .bind(id.to_string())
        .fetch_all(&self.reader)
        .await?)
    }

    /// Forgets all checkpoints of a job but the newest `keep`; returns the keys of their bytes,
    /// which nobody names any more: none where the job belongs to another attempt.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget_checkpoints(&self, claim: Claim, keep: u32) -> Result<Vec<String>, StoreError> {
        let keys = sqlx::query_scalar(guarded(
            "DELETE FROM checkpoints WHERE job_id = $1 AND step NOT IN
                 (SELECT step FROM checkpoints WHERE job_id = $1 ORDER BY step DESC LIMIT $3)
                 AND EXISTS (SELECT 1 FROM jobs WHERE id = $1 AND attempt = $2 AND state = 'running')
             RETURNING blob_key",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(keep)
        .fetch_all(&self.writer)
        .await?;
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
        sqlx::query(guarded(
            "DELETE FROM checkpoints WHERE job_id = $1 AND blob_key = $3
                 AND EXISTS (SELECT 1 FROM jobs WHERE id = $1 AND attempt = $2 AND state = 'running')",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(blob_key)
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}
