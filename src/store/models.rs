use sqlx::{FromRow, Sqlite, Transaction};

use super::{Store, StoreError, from_json, now, row_error, timestamp, to_json};
use crate::blobs::Blob;
use crate::job::JobId;
use crate::model::ModelVersion;
use crate::nn::LayerSpec;

/// A model to be published.
#[derive(Clone, Debug)]
pub struct NewModel {
    /// Its name.
    pub name: String,
    /// Accuracy on the test split.
    pub test_accuracy: f64,
    /// Mean loss on the test split.
    pub test_loss: f64,
    /// Number of weights and biases.
    pub parameters: usize,
    /// Its layers.
    pub layers: Vec<LayerSpec>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Its bytes.
    pub blob: Blob,
}

/// A published model and where its bytes are.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedModel {
    /// Its name.
    pub name: String,
    /// Where its bytes are.
    pub blob_key: String,
    /// What the API shows.
    pub row: ModelVersion,
}

#[derive(FromRow)]
struct ModelRow {
    name: String,
    version: i64,
    job_id: String,
    test_accuracy: f64,
    parameters: i64,
    layers: String,
    classes: String,
    blob_key: String,
    size_bytes: i64,
    sha256: String,
    created_at: i64,
}

impl TryFrom<ModelRow> for PublishedModel {
    type Error = StoreError;

    fn try_from(row: ModelRow) -> Result<Self, StoreError> {
        let id = format!("{}@{}", row.name, row.version);
        Ok(Self {
            row: ModelVersion {
                version: u32::try_from(row.version).map_err(|error| row_error("version", &id, &error))?,
                job_id: row.job_id.parse().map_err(|error| row_error("job_id", &id, &error))?,
                created_at: timestamp("created_at", &id, row.created_at)?,
                test_accuracy: row.test_accuracy,
                parameters: row.parameters.unsigned_abs() as usize,
                layers: from_json("layers", &id, &row.layers)?,
                classes: from_json("classes", &id, &row.classes)?,
                size_bytes: row.size_bytes.unsigned_abs(),
                sha256: row.sha256,
            },
            name: row.name,
            blob_key: row.blob_key,
        })
    }
}

impl NewModel {
    /// Inserts it under the next version of its name.
    pub(super) async fn insert(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        job: JobId,
    ) -> Result<PublishedModel, StoreError> {
        let row: ModelRow = sqlx::query_as(
            "INSERT INTO model_versions
                 (name, version, job_id, test_accuracy, parameters, layers, classes, blob_key, size_bytes,
                  sha256, created_at)
             SELECT $1, COALESCE(MAX(version), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9, $10
             FROM model_versions WHERE name = $1
             RETURNING *",
        )
        .bind(&self.name)
        .bind(job.to_string())
        .bind(self.test_accuracy)
        .bind(self.parameters as i64)
        .bind(to_json("layers", job, &self.layers)?)
        .bind(to_json("classes", job, &self.classes)?)
        .bind(&self.blob.key)
        .bind(self.blob.size_bytes as i64)
        .bind(&self.blob.sha256)
        .bind(now())
        .fetch_one(&mut **transaction)
        .await?;
        row.try_into()
    }
}

impl Store {
    /// Every published model.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn models(&self) -> Result<Vec<PublishedModel>, StoreError> {
        let rows: Vec<ModelRow> = sqlx::query_as("SELECT * FROM model_versions ORDER BY name, version")
            .fetch_all(&self.reader)
            .await?;
        rows.into_iter().map(PublishedModel::try_from).collect()
    }
}
