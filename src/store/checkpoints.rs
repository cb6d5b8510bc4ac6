use sqlx::FromRow;

use super::{Claim, Store, StoreError};
use crate::job::JobId;

/// The row of a checkpoint.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct Checkpoint {
    /// The epoch it was made in.
    pub epoch: i64,
    /// Steps taken by then.
    pub step: i64,
    /// Where its bytes are.
    pub blob_key: String,
    /// Their number.
    pub size_bytes: i64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

impl Store {
    /// The checkpoints of a job, newest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn checkpoints(&self, id: JobId) -> Result<Vec<Checkpoint>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT epoch, step, blob_key, size_bytes, sha256 FROM checkpoints
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
    /// Where the database fails.
    pub async fn forget_checkpoints(&self, claim: Claim, keep: u32) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "DELETE FROM checkpoints WHERE job_id = $1 AND step NOT IN
                 (SELECT step FROM checkpoints WHERE job_id = $1 ORDER BY step DESC LIMIT $2)
                 AND EXISTS (SELECT 1 FROM jobs WHERE id = $1 AND attempt = $3 AND state = 'running')
             RETURNING blob_key",
        )
        .bind(claim.id.to_string())
        .bind(keep)
        .bind(claim.attempt)
        .fetch_all(&self.writer)
        .await?)
    }
}
