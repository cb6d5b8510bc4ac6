use std::collections::HashMap;

use super::Database;
use crate::job::{JobId, JobState};
use crate::store::{BlobOwner, BlobRow, JobStanding, StoreError, row_error};

impl Database {
    pub async fn is_named(&self, key: &str) -> Result<bool, StoreError> {
        let named = "SELECT EXISTS (SELECT 1 FROM checkpoints WHERE blob_key = $1)
                         OR EXISTS (SELECT 1 FROM model_versions WHERE blob_key = $1)";
        Ok(sqlx::query_scalar(named).bind(key).fetch_one(&self.reader).await?)
    }

    pub async fn names_blobs(&self) -> Result<bool, StoreError> {
        let named = "SELECT EXISTS (SELECT 1 FROM checkpoints) OR EXISTS (SELECT 1 FROM model_versions)";
        Ok(sqlx::query_scalar(named).fetch_one(&self.reader).await?)
    }

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
