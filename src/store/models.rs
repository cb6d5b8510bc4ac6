use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::FromRow;

use super::{Store, StoreError, format, row_error, timestamp};
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
pub(super) struct ModelRow {
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
        self.database.next_version(name).await
    }

    /// Every published model.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn models(&self) -> Result<Models, StoreError> {
        self.database.models().await
    }

    /// What has changed of the models since `revision`, as of one moment; below 0, all there is. A version whose row can't
    /// be read is logged and left out.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn model_changes(&self, revision: i64) -> Result<ModelChanges, StoreError> {
        self.database.model_changes(revision).await
    }

    /// Versions that are due to be removed, by name and number.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn old_versions(&self, old: OldVersions) -> Result<Vec<(String, u32)>, StoreError> {
        self.database.old_versions(old).await
    }

    /// Grows with every change of a version or an alias.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn model_revision(&self) -> Result<i64, StoreError> {
        self.database.model_revision().await
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
            let is_set = self.database.set_alias(name, alias, version, aliases_max).await?;
            fault::point(Point::AfterAlias);
            if is_set {
                return Ok(SetAlias::Set);
            }
            match self.database.version_and_aliases(name, version).await? {
                (false, _) => return Ok(SetAlias::Unknown),
                (true, aliases) if aliases >= i64::from(aliases_max) => return Ok(SetAlias::TooMany),
                // It was published, or an alias went, in between.
                (true, _) => {}
            }
        }
    }

    /// Takes an alias away; `false` where there is none.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete_alias(&self, name: &str, alias: &str) -> Result<bool, StoreError> {
        self.database.delete_alias(name, alias).await
    }

    /// Deletes a version that no alias means and no job that has not ended starts from.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete_version(&self, name: &str, version: u32) -> Result<DeletedVersion, StoreError> {
        let deleted = self.database.delete_version(name, version).await?;
        if let DeletedVersion::Gone(_) = deleted {
            fault::point(Point::AfterDeleteVersion);
        }
        Ok(deleted)
    }
}
