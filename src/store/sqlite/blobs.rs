use super::SqliteDatabase;
use crate::store::StoreError;
use crate::store::blobs::BlobRows;

impl SqliteDatabase {
    pub async fn is_named(&self, key: &str) -> Result<bool, StoreError> {
        let named = "SELECT EXISTS (SELECT 1 FROM checkpoints WHERE blob_key = $1)
                         OR EXISTS (SELECT 1 FROM model_versions WHERE blob_key = $1)";
        Ok(sqlx::query_scalar(named).bind(key).fetch_one(&self.reader).await?)
    }

    pub async fn names_blobs(&self) -> Result<bool, StoreError> {
        let named = "SELECT EXISTS (SELECT 1 FROM checkpoints) OR EXISTS (SELECT 1 FROM model_versions)";
        Ok(sqlx::query_scalar(named).fetch_one(&self.reader).await?)
    }

    pub async fn blob_rows(&self) -> Result<BlobRows, StoreError> {
        let mut transaction = self.reader.begin().await?;
        let checkpoints =
            sqlx::query_as("SELECT job_id, step, blob_key, size_bytes, sha256 FROM checkpoints")
                .fetch_all(&mut *transaction)
                .await?;
        let versions =
            sqlx::query_as("SELECT name, version, blob_key, size_bytes, sha256 FROM model_versions")
                .fetch_all(&mut *transaction)
                .await?;
        let jobs = sqlx::query_as("SELECT id, state, attempt FROM jobs").fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(BlobRows { checkpoints, versions, jobs })
    }
}
