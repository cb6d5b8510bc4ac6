use sqlx::{FromRow, Sqlite, Transaction};

use super::{Store, StoreError, from_json, now, row_error, timestamp, to_json};
use crate::blobs::Blob;
use crate::fault::{self, Point};
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
    /// Inserts it under the next version of its name: above every one that there was, deleted ones too.
    pub(super) async fn insert(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        job: JobId,
    ) -> Result<PublishedModel, StoreError> {
        let version: i64 = sqlx::query_scalar(
            "INSERT INTO models (name, last_version) VALUES ($1, 1)
             ON CONFLICT (name) DO UPDATE SET last_version = last_version + 1
             RETURNING last_version",
        )
        .bind(&self.name)
        .fetch_one(&mut **transaction)
        .await?;
        let row: ModelRow = sqlx::query_as(
            "INSERT INTO model_versions
                 (name, version, job_id, test_accuracy, parameters, layers, classes, blob_key, size_bytes,
                  sha256, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             RETURNING *",
        )
        .bind(&self.name)
        .bind(version)
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

/// Every published model, as of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Models {
    /// Every version.
    pub versions: Vec<PublishedModel>,
    /// Every alias: the model's name, the alias, the version it means.
    pub aliases: Vec<(String, String, u32)>,
    /// Grows with every change of a version or an alias.
    pub revision: i64,
}

/// What became of a wish to delete a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletedVersion {
    /// It is gone; the bytes under this key are named by nobody any more.
    Gone(String),
    /// An alias means it.
    Aliased(String),
    /// A job that has not ended starts from it.
    Needed(JobId),
    /// There is no such version.
    Unknown,
}

impl Store {
    /// Every published model.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn models(&self) -> Result<Models, StoreError> {
        let mut transaction = self.reader.begin().await?;
        let revision = sqlx::query_scalar(REVISION).fetch_one(&mut *transaction).await?;
        let rows: Vec<ModelRow> = sqlx::query_as("SELECT * FROM model_versions ORDER BY name, version")
            .fetch_all(&mut *transaction)
            .await?;
        let aliases = sqlx::query_as("SELECT name, alias, version FROM model_aliases")
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        let versions = rows.into_iter().map(PublishedModel::try_from).collect::<Result<_, _>>()?;
        Ok(Models { versions, aliases, revision })
    }

    /// Grows with every change of a version or an alias.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn model_revision(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(REVISION).fetch_one(&self.reader).await?)
    }

    /// Lets `alias` mean this version from now on; `false` where there is no such version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn set_alias(&self, name: &str, alias: &str, version: u32) -> Result<bool, StoreError> {
        let set = sqlx::query(
            "INSERT INTO model_aliases (name, alias, version)
             SELECT name, $2, version FROM model_versions WHERE name = $1 AND version = $3
             ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version",
        )
        .bind(name)
        .bind(alias)
        .bind(version)
        .execute(&self.writer)
        .await?;
        fault::point(Point::AfterAlias);
        Ok(set.rows_affected() == 1)
    }

    /// Takes an alias away; `false` where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_alias(&self, name: &str, alias: &str) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM model_aliases WHERE name = $1 AND alias = $2")
            .bind(name)
            .bind(alias)
            .execute(&self.writer)
            .await?;
        Ok(deleted.rows_affected() == 1)
    }

    /// Deletes a version that no alias means and no job that has not ended starts from.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_version(&self, name: &str, version: u32) -> Result<DeletedVersion, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let alias: Option<String> =
            sqlx::query_scalar("SELECT alias FROM model_aliases WHERE name = $1 AND version = $2 LIMIT 1")
                .bind(name)
                .bind(version)
                .fetch_optional(&mut *transaction)
                .await?;
        if let Some(alias) = alias {
            return Ok(DeletedVersion::Aliased(alias));
        }
        let job: Option<String> = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE state IN ('queued', 'running') AND initial_model = $1 LIMIT 1",
        )
        .bind(format!("{name}@{version}"))
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(job) = job {
            return Ok(DeletedVersion::Needed(job.parse().map_err(|error| row_error("id", &job, &error))?));
        }
        let keys: Vec<String> = sqlx::query_scalar(
            "DELETE FROM model_versions WHERE name = $1 AND version = $2 RETURNING blob_key",
        )
        .bind(name)
        .bind(version)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        fault::point(Point::AfterDeleteVersion);
        Ok(keys.into_iter().next().map_or(DeletedVersion::Unknown, DeletedVersion::Gone))
    }
}

const REVISION: &str = "SELECT revision FROM model_revision";

/// Whether `reference`, as `name@version`, is a version that is there.
pub(super) async fn is_version(
    connection: &mut sqlx::SqliteConnection,
    reference: &str,
) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM model_versions
         WHERE name = substr($1, 1, instr($1, '@') - 1) AND version = CAST(substr($1, instr($1, '@') + 1) AS INTEGER)",
    )
    .bind(reference)
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}
