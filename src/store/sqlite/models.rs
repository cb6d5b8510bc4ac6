use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::SqliteDatabase;
use crate::job::JobId;
use crate::model::ModelSource;
use crate::store::jobs::job_id;
use crate::store::models::{ChangedRows, ModelRow, ModelRows};
use crate::store::{DeletedVersion, NewModel, OldVersions, PublishedModel, StoreError, ago, format, now};

const REVISION: &str = "SELECT revision FROM model_revision";

impl SqliteDatabase {
    pub async fn last_version(&self, name: &str) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT last_version FROM models WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.reader)
            .await?)
    }

    pub async fn publish_model(
        &self,
        owner: &str,
        source: ModelSource,
        model: &NewModel,
        test_accuracy: Option<f64>,
    ) -> Result<Option<PublishedModel>, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let published = insert_model(&mut transaction, owner, (source, None), model, test_accuracy).await?;
        if published.is_some() {
            transaction.commit().await?;
        }
        Ok(published)
    }

    pub async fn models(&self) -> Result<ModelRows, StoreError> {
        let mut transaction = self.reader.begin().await?;
        let revision = sqlx::query_scalar(REVISION).fetch_one(&mut *transaction).await?;
        let versions = sqlx::query_as("SELECT * FROM model_versions ORDER BY name, version")
            .fetch_all(&mut *transaction)
            .await?;
        let aliases = sqlx::query_as("SELECT name, alias, version FROM model_aliases")
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(ModelRows { versions, aliases, revision })
    }

    pub async fn model_changes(&self, revision: i64) -> Result<ChangedRows, StoreError> {
        let mut transaction = self.reader.begin().await?;
        let last = sqlx::query_scalar(REVISION).fetch_one(&mut *transaction).await?;
        let names = sqlx::query_scalar("SELECT name FROM models WHERE revision > $1")
            .bind(revision)
            .fetch_all(&mut *transaction)
            .await?;
        let numbers = sqlx::query_as(
            "SELECT version.name, version.version FROM models
             JOIN model_versions AS version ON version.name = models.name WHERE models.revision > $1",
        )
        .bind(revision)
        .fetch_all(&mut *transaction)
        .await?;
        let published = sqlx::query_as("SELECT * FROM model_versions WHERE revision > $1")
            .bind(revision)
            .fetch_all(&mut *transaction)
            .await?;
        let aliases = sqlx::query_as(
            "SELECT alias.name, alias.alias, alias.version FROM models
             JOIN model_aliases AS alias ON alias.name = models.name WHERE models.revision > $1",
        )
        .bind(revision)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(ChangedRows { revision: last, names, numbers, published, aliases })
    }

    pub async fn old_versions(&self, old: OldVersions) -> Result<Vec<(String, u32)>, StoreError> {
        let (place, before) = match old {
            OldVersions::Beyond(keep) => (i64::try_from(keep).unwrap_or(i64::MAX).max(1), i64::MAX),
            OldVersions::For(age) => (1, ago(age)),
        };
        Ok(sqlx::query_as(
            "SELECT name, version FROM
                 (SELECT name, version, created_at,
                         ROW_NUMBER() OVER (PARTITION BY name ORDER BY version DESC) AS place FROM model_versions)
             WHERE place > $1 AND created_at < $2 ORDER BY name, version",
        )
        .bind(place)
        .bind(before)
        .fetch_all(&self.reader)
        .await?)
    }

    pub async fn model_revision(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(REVISION).fetch_one(&self.reader).await?)
    }

    pub async fn set_alias(
        &self,
        name: &str,
        alias: &str,
        version: u32,
        aliases_max: u32,
    ) -> Result<bool, StoreError> {
        let set = sqlx::query(
            "INSERT INTO model_aliases (name, alias, version)
             SELECT name, $2, version FROM model_versions WHERE name = $1 AND version = $3
                 AND ((SELECT COUNT(*) FROM model_aliases WHERE name = $1) < $4
                      OR EXISTS (SELECT 1 FROM model_aliases WHERE name = $1 AND alias = $2))
             ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version",
        )
        .bind(name)
        .bind(alias)
        .bind(version)
        .bind(aliases_max)
        .execute(&self.writer)
        .await?;
        Ok(set.rows_affected() == 1)
    }

    pub async fn version_and_aliases(&self, name: &str, version: u32) -> Result<(bool, i64), StoreError> {
        Ok(sqlx::query_as(
            "SELECT EXISTS (SELECT 1 FROM model_versions WHERE name = $1 AND version = $2),
                    (SELECT COUNT(*) FROM model_aliases WHERE name = $1)",
        )
        .bind(name)
        .bind(version)
        .fetch_one(&self.reader)
        .await?)
    }

    pub async fn delete_alias(&self, name: &str, alias: &str) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM model_aliases WHERE name = $1 AND alias = $2")
            .bind(name)
            .bind(alias)
            .execute(&self.writer)
            .await?;
        Ok(deleted.rows_affected() == 1)
    }

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
            "SELECT id FROM jobs WHERE finished_at IS NULL AND initial_model = $1 LIMIT 1",
        )
        .bind(format!("{name}@{version}"))
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(job) = job {
            return Ok(DeletedVersion::Needed(job_id(&job)?));
        }
        let keys: Vec<String> = sqlx::query_scalar(
            "DELETE FROM model_versions WHERE name = $1 AND version = $2 RETURNING blob_key",
        )
        .bind(name)
        .bind(version)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(keys.into_iter().next().map_or(DeletedVersion::Unknown, DeletedVersion::Gone))
    }

    pub async fn is_version(&self, reference: &str) -> Result<bool, StoreError> {
        is_version(&mut *self.reader.acquire().await?, reference).await
    }
}

/// Inserts a version. Returns `None` if its number is no longer the next one of its name.
pub(super) async fn insert_model(
    transaction: &mut Transaction<'_, Sqlite>,
    owner: &str,
    (source, job): (ModelSource, Option<JobId>),
    model: &NewModel,
    test_accuracy: Option<f64>,
) -> Result<Option<PublishedModel>, StoreError> {
    let version: i64 = sqlx::query_scalar(
        "INSERT INTO models (name, last_version) VALUES ($1, 1)
         ON CONFLICT (name) DO UPDATE SET last_version = last_version + 1
         RETURNING last_version",
    )
    .bind(&model.name)
    .fetch_one(&mut **transaction)
    .await?;
    if version != i64::from(model.version) {
        return Ok(None);
    }
    let id = format!("{}@{version}", model.name);
    let row: ModelRow = sqlx::query_as(
        "INSERT INTO model_versions
             (name, version, source, owner, job_id, test_accuracy, parameters, layers, classes, blob_key, size_bytes,
              sha256, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         RETURNING *",
    )
    .bind(&model.name)
    .bind(version)
    .bind(source.as_str())
    .bind(owner)
    .bind(job.map(|job| job.to_string()))
    .bind(test_accuracy)
    .bind(model.parameters as i64)
    .bind(format::write(&id, &model.layers)?)
    .bind(format::write(&id, &model.classes)?)
    .bind(&model.blob.key)
    .bind(model.blob.size_bytes as i64)
    .bind(&model.blob.sha256)
    .bind(now())
    .fetch_one(&mut **transaction)
    .await?;
    row.try_into().map(Some)
}

pub(super) async fn is_version(
    connection: &mut SqliteConnection,
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
