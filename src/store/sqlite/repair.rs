use super::SqliteDatabase;
use crate::job::JobId;
use crate::store::jobs::job_id;
use crate::store::{Dropped, StoreError};

impl SqliteDatabase {
    pub async fn drop_checkpoint(&self, id: JobId, blob_key: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM checkpoints WHERE job_id = $1 AND blob_key = $2")
            .bind(id.to_string())
            .bind(blob_key)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    pub async fn drop_version(
        &self,
        name: &str,
        version: u32,
        blob_key: &str,
    ) -> Result<Option<Dropped>, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let aliases = sqlx::query_scalar(
            "DELETE FROM model_aliases WHERE name = $1 AND version = $2 AND EXISTS
                 (SELECT 1 FROM model_versions WHERE name = $1 AND version = $2 AND blob_key = $3)
             RETURNING alias",
        )
        .bind(name)
        .bind(version)
        .bind(blob_key)
        .fetch_all(&mut *transaction)
        .await?;
        let deleted =
            sqlx::query("DELETE FROM model_versions WHERE name = $1 AND version = $2 AND blob_key = $3")
                .bind(name)
                .bind(version)
                .bind(blob_key)
                .execute(&mut *transaction)
                .await?;
        let jobs: Vec<String> =
            sqlx::query_scalar("SELECT id FROM jobs WHERE finished_at IS NULL AND initial_model = $1")
                .bind(format!("{name}@{version}"))
                .fetch_all(&mut *transaction)
                .await?;
        transaction.commit().await?;
        if deleted.rows_affected() == 0 {
            return Ok(None);
        }
        let needed_by = jobs.iter().map(|id| job_id(id)).collect::<Result<_, _>>()?;
        Ok(Some(Dropped { aliases, needed_by }))
    }
}
