use sqlx::{Sqlite, Transaction};

use super::SqliteDatabase;
use super::guard::guarded;
use crate::job::JobId;
use crate::store::{CheckpointRow, Claim, NewCheckpoint, StoreError, now};

pub(super) async fn insert_checkpoint(
    transaction: &mut Transaction<'_, Sqlite>,
    claim: Claim,
    checkpoint: &NewCheckpoint,
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
    .bind(checkpoint.step as i64)
    .bind(checkpoint.epoch)
    .bind(&checkpoint.blob.key)
    .bind(checkpoint.blob.size_bytes as i64)
    .bind(&checkpoint.blob.sha256)
    .bind(checkpoint.validation_accuracy)
    .bind(now())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

impl SqliteDatabase {
    pub async fn checkpoints(&self, id: JobId) -> Result<Vec<CheckpointRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT epoch, step, blob_key, size_bytes, sha256, validation_accuracy, created_at FROM checkpoints
             WHERE job_id = $1 ORDER BY step DESC",
        )
        .bind(id.to_string())
        .fetch_all(&self.reader)
        .await?)
    }

    pub async fn forget_checkpoints(&self, claim: Claim, keep: u32) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(guarded(
            "DELETE FROM checkpoints WHERE job_id = $1 AND step NOT IN
                 (SELECT step FROM checkpoints WHERE job_id = $1 ORDER BY step DESC LIMIT $3)
                 AND EXISTS (SELECT 1 FROM jobs WHERE id = $1 AND attempt = $2 AND state = 'running')
             RETURNING blob_key",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(keep)
        .fetch_all(&self.writer)
        .await?)
    }

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
