use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::{FromRow, Sqlite, Transaction};

use super::{Store, StoreError, ago, format, now, row_error, timestamp};
use crate::blobs::Blob;
use crate::fault::{self, Point};
use crate::job::JobId;
use crate::model::{ModelSource, ModelVersion};
use crate::nn::LayerSpec;

/// A model to be published.
#[derive(Clone, Debug)]
pub struct NewModel {
    /// Its name.
    pub name: String,
    /// Its version, see [`Store::next_version`].
    pub version: u32,
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
    /// Whose it is; empty if it was published before callers were recorded.
    pub owner: String,
    /// What the API shows.
    pub row: ModelVersion,
}

#[derive(FromRow)]
struct ModelRow {
    name: String,
    version: i64,
    source: String,
    owner: String,
    job_id: Option<String>,
    test_accuracy: Option<f64>,
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
                source: source_named(&row.source).ok_or_else(|| row_error("source", &id, &row.source))?,
                job_id: row
                    .job_id
                    .map(|job| job.parse())
                    .transpose()
                    .map_err(|error| row_error("job_id", &id, &error))?,
                created_at: timestamp("created_at", &id, row.created_at)?,
                test_accuracy: row.test_accuracy,
                parameters: row.parameters.unsigned_abs() as usize,
                layers: format::read(&id, &row.layers)?,
                classes: format::read(&id, &row.classes)?,
                size_bytes: row.size_bytes.unsigned_abs(),
                sha256: row.sha256,
            },
            name: row.name,
            blob_key: row.blob_key,
            owner: row.owner,
        })
    }
}

impl NewModel {
    /// Inserts it if its version is still the next one of its name; `None` if it was taken.
    pub(super) async fn insert(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        job: JobId,
        owner: &str,
    ) -> Result<Option<PublishedModel>, StoreError> {
        let version: i64 = sqlx::query_scalar(
            "INSERT INTO models (name, last_version) VALUES ($1, 1)
             ON CONFLICT (name) DO UPDATE SET last_version = last_version + 1
             RETURNING last_version",
        )
        .bind(&self.name)
        .fetch_one(&mut **transaction)
        .await?;
        if version != i64::from(self.version) {
            return Ok(None);
        }
        let row: ModelRow = sqlx::query_as(
            "INSERT INTO model_versions
                 (name, version, source, owner, job_id, test_accuracy, parameters, layers, classes, blob_key, size_bytes,
                  sha256, created_at)
             VALUES ($1, $2, 'job', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             RETURNING *",
        )
        .bind(&self.name)
        .bind(version)
        .bind(owner)
        .bind(job.to_string())
        .bind(self.test_accuracy)
        .bind(self.parameters as i64)
        .bind(format::write(job, &self.layers)?)
        .bind(format::write(job, &self.classes)?)
        .bind(&self.blob.key)
        .bind(self.blob.size_bytes as i64)
        .bind(&self.blob.sha256)
        .bind(now())
        .fetch_one(&mut **transaction)
        .await?;
        row.try_into().map(Some)
    }
}

/// The source with this word in the rows.
fn source_named(word: &str) -> Option<ModelSource> {
    ModelSource::ALL.into_iter().find(|source| source.as_str() == word)
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

/// What has changed of the models since a revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelChanges {
    /// Of the last change.
    pub revision: i64,
    /// The models that have changed, by name.
    pub models: BTreeMap<String, ModelChange>,
}

/// A model that has changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelChange {
    /// The numbers of all its versions.
    pub numbers: BTreeSet<u32>,
    /// Versions that were published since.
    pub published: Vec<PublishedModel>,
    /// All its aliases and the versions they mean.
    pub aliases: BTreeMap<String, u32>,
}

/// What became of a wish to set an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAlias {
    /// It means the version.
    Set,
    /// There is no such version.
    Unknown,
    /// The model has as many aliases as it may have, and this is none of them.
    TooMany,
}

/// Which versions of a model are due to be removed; never the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldVersions {
    /// All but the newest so many.
    Beyond(u64),
    /// Those published longer ago.
    For(Duration),
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
    /// The version that a model published now under `name` would be: above every one that there was, deleted ones too.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn next_version(&self, name: &str) -> Result<u32, StoreError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT last_version FROM models WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.reader)
            .await?;
        u32::try_from(last.unwrap_or(0) + 1).map_err(|error| row_error("last_version", name, &error))
    }

    /// Every published model.
    ///
    /// # Errors
    /// If the database fails.
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

    /// What has changed of the models since `revision`, as of one moment; below 0, all there is. A version whose row can't
    /// be read is logged and left out.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn model_changes(&self, revision: i64) -> Result<ModelChanges, StoreError> {
        let mut transaction = self.reader.begin().await?;
        let last = sqlx::query_scalar(REVISION).fetch_one(&mut *transaction).await?;
        let names: Vec<String> = sqlx::query_scalar("SELECT name FROM models WHERE revision > $1")
            .bind(revision)
            .fetch_all(&mut *transaction)
            .await?;
        let numbers: Vec<(String, u32)> = sqlx::query_as(
            "SELECT version.name, version.version FROM models
             JOIN model_versions AS version ON version.name = models.name WHERE models.revision > $1",
        )
        .bind(revision)
        .fetch_all(&mut *transaction)
        .await?;
        let published: Vec<ModelRow> = sqlx::query_as("SELECT * FROM model_versions WHERE revision > $1")
            .bind(revision)
            .fetch_all(&mut *transaction)
            .await?;
        let aliases: Vec<(String, String, u32)> = sqlx::query_as(
            "SELECT alias.name, alias.alias, alias.version FROM models
             JOIN model_aliases AS alias ON alias.name = models.name WHERE models.revision > $1",
        )
        .bind(revision)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;

        let mut models: BTreeMap<String, ModelChange> =
            names.into_iter().map(|name| (name, ModelChange::default())).collect();
        for (name, number) in numbers {
            models.entry(name).or_default().numbers.insert(number);
        }
        for row in published {
            match PublishedModel::try_from(row) {
                Ok(model) => models.entry(model.name.clone()).or_default().published.push(model),
                Err(error) => tracing::error!(%error, "a version is left out"),
            }
        }
        for (name, alias, version) in aliases {
            models.entry(name).or_default().aliases.insert(alias, version);
        }
        Ok(ModelChanges { revision: last, models })
    }

    /// Versions that are due to be removed, by name and number.
    ///
    /// # Errors
    /// If the database fails.
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

    /// Grows with every change of a version or an alias.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn model_revision(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(REVISION).fetch_one(&self.reader).await?)
    }

    /// Lets `alias` mean this version from now on, unless it is new and the model has `aliases_max` already.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn set_alias(
        &self,
        name: &str,
        alias: &str,
        version: u32,
        aliases_max: u32,
    ) -> Result<SetAlias, StoreError> {
        loop {
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
            fault::point(Point::AfterAlias);
            if set.rows_affected() == 1 {
                return Ok(SetAlias::Set);
            }
            let (is_there, aliases): (bool, i64) = sqlx::query_as(
                "SELECT EXISTS (SELECT 1 FROM model_versions WHERE name = $1 AND version = $2),
                        (SELECT COUNT(*) FROM model_aliases WHERE name = $1)",
            )
            .bind(name)
            .bind(version)
            .fetch_one(&self.reader)
            .await?;
            match is_there {
                false => return Ok(SetAlias::Unknown),
                true if aliases >= i64::from(aliases_max) => return Ok(SetAlias::TooMany),
                // It was published, or an alias went, in between.
                true => {}
            }
        }
    }

    /// Takes an alias away; `false` where there is none.
    ///
    /// # Errors
    /// If the database fails.
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
    /// If the database fails.
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
