use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::row::row;
use super::{Store, StoreError, format, row_error, timestamp};
use crate::blobs::Blob;
use crate::failpoint::{self, Point};
use crate::job::JobId;
use crate::model::{ModelSource, ModelVersion};
use crate::nn::LayerSpec;

/// A model to be published.
#[derive(Clone, Debug)]
pub struct NewModel {
    /// Name of the model.
    pub name: String,
    /// Number of the version; see [`Store::next_version`].
    pub version: u32,
    /// Number of weights and biases.
    pub parameters: usize,
    /// The layers of the network.
    pub layers: Vec<LayerSpec>,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// The written blob.
    pub blob: Blob,
}

/// A published version, and the key of its blob.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedModel {
    /// Name of the model.
    pub name: String,
    /// Key of the blob.
    pub blob_key: String,
    /// The owner. It is empty if the version was published before callers were recorded.
    pub owner: String,
    /// The version itself.
    pub row: ModelVersion,
}

row! {
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
                    .map(|job| job.parse().map_err(|error| row_error("job_id", &id, &error)))
                    .transpose()?,
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

/// Returns the source with this name.
fn source_named(word: &str) -> Option<ModelSource> {
    ModelSource::ALL.into_iter().find(|source| source.as_str() == word)
}

/// All published models at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Models {
    /// Every version of every model.
    pub versions: Vec<PublishedModel>,
    /// Every alias: name of the model, alias, version.
    pub aliases: Vec<(String, String, u32)>,
    /// A number that grows with every change of a version or an alias.
    pub revision: i64,
}

/// The rows of [`Models`].
pub(super) struct ModelRows {
    pub versions: Vec<ModelRow>,
    pub aliases: Vec<(String, String, u32)>,
    pub revision: i64,
}

impl TryFrom<ModelRows> for Models {
    type Error = StoreError;

    fn try_from(rows: ModelRows) -> Result<Self, StoreError> {
        let ModelRows { versions, aliases, revision } = rows;
        let versions = versions.into_iter().map(PublishedModel::try_from).collect::<Result<_, _>>()?;
        Ok(Self { versions, aliases, revision })
    }
}

/// The changes of models since a revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelChanges {
    /// The revision after these changes.
    pub revision: i64,
    /// The changed models, by name.
    pub models: BTreeMap<String, ModelChange>,
}

/// A changed model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelChange {
    /// The numbers of all its versions.
    pub numbers: BTreeSet<u32>,
    /// The versions published since that revision.
    pub published: Vec<PublishedModel>,
    /// All its aliases, each with its version.
    pub aliases: BTreeMap<String, u32>,
}

/// The rows of [`ModelChanges`].
pub(super) struct ChangedRows {
    /// The revision after these changes.
    pub revision: i64,
    /// The changed models.
    pub names: Vec<String>,
    /// Each version of the changed models.
    pub numbers: Vec<(String, u32)>,
    /// The versions published since the earlier revision.
    pub published: Vec<ModelRow>,
    /// Each alias of the changed models, with its version.
    pub aliases: Vec<(String, String, u32)>,
}

/// A version whose row can't be parsed is logged and left out.
impl From<ChangedRows> for ModelChanges {
    fn from(rows: ChangedRows) -> Self {
        let mut models: BTreeMap<String, ModelChange> =
            rows.names.into_iter().map(|name| (name, ModelChange::default())).collect();
        for (name, number) in rows.numbers {
            models.entry(name).or_default().numbers.insert(number);
        }
        for row in rows.published {
            match PublishedModel::try_from(row) {
                Ok(model) => models.entry(model.name.clone()).or_default().published.push(model),
                Err(error) => tracing::error!(%error, "a version is left out"),
            }
        }
        for (name, alias, version) in rows.aliases {
            models.entry(name).or_default().aliases.insert(alias, version);
        }
        Self { revision: rows.revision, models }
    }
}

/// The result of setting an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAlias {
    /// The alias refers to the version.
    Set,
    /// There is no such version.
    Unknown,
    /// The alias is new, and the model already has the maximum number of aliases.
    TooMany,
}

/// Which versions of a model retention deletes. The newest is never among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldVersions {
    /// All but the newest `n`.
    Beyond(u64),
    /// Versions that were published longer ago than this.
    For(Duration),
}

/// The result of deleting a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletedVersion {
    /// It is deleted. No row names this key any more.
    Gone(String),
    /// An alias refers to it.
    Aliased(String),
    /// A job that has not ended starts from it.
    Needed(JobId),
    /// There is no such version.
    Unknown,
}

impl Store {
    /// Returns the number of the next version of `name`. It is greater than the number of every earlier
    /// version, including deleted ones.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn next_version(&self, name: &str) -> Result<u32, StoreError> {
        let last = self.database.last_version(name).await?.unwrap_or(0);
        u32::try_from(last + 1).map_err(|error| row_error("last_version", name, &error))
    }

    /// Publishes a model that no job has trained. Returns `None` and changes nothing if another model has this version.
    /// `test_accuracy` is the accuracy on the test split, if it was measured.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if `source` is a job: such a model is published by
    /// [`Dispatch::succeed`](crate::dispatch::Dispatch::succeed).
    pub async fn publish_model(
        &self,
        owner: &str,
        source: ModelSource,
        model: &NewModel,
        test_accuracy: Option<f64>,
    ) -> Result<Option<PublishedModel>, StoreError> {
        let published = self.database.publish_model(owner, source, model, test_accuracy).await?;
        if published.is_some() {
            failpoint::point(Point::AfterPublish);
        }
        Ok(published)
    }

    /// Returns every published model.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn models(&self) -> Result<Models, StoreError> {
        self.database.models().await?.try_into()
    }

    /// Returns the changes of models since `revision`, at one moment. A negative revision returns everything.
    /// A version whose row can't be parsed is logged and left out.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn model_changes(&self, revision: i64) -> Result<ModelChanges, StoreError> {
        Ok(self.database.model_changes(revision).await?.into())
    }

    /// Returns the versions that retention deletes, by name and number.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn old_versions(&self, old: OldVersions) -> Result<Vec<(String, u32)>, StoreError> {
        self.database.old_versions(old).await
    }

    /// Returns a number that grows with every change of a version or an alias.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn model_revision(&self) -> Result<i64, StoreError> {
        self.database.model_revision().await
    }

    /// Points `alias` to a version. Refuses a new alias if the model already has `aliases_max`.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn set_alias(
        &self,
        name: &str,
        alias: &str,
        version: u32,
        aliases_max: u32,
    ) -> Result<SetAlias, StoreError> {
        loop {
            let is_set = self.database.set_alias(name, alias, version, aliases_max).await?;
            failpoint::point(Point::AfterAlias);
            if is_set {
                return Ok(SetAlias::Set);
            }
            match self.database.version_and_aliases(name, version).await? {
                (false, _) => return Ok(SetAlias::Unknown),
                (true, aliases) if aliases >= i64::from(aliases_max) => return Ok(SetAlias::TooMany),
                // The version was published, or an alias was deleted, between the two statements.
                (true, _) => {}
            }
        }
    }

    /// Deletes an alias. Returns `false` if there is none.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn delete_alias(&self, name: &str, alias: &str) -> Result<bool, StoreError> {
        self.database.delete_alias(name, alias).await
    }

    /// Deletes a version, unless it has an alias or an unfinished job needs it.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn delete_version(&self, name: &str, version: u32) -> Result<DeletedVersion, StoreError> {
        let deleted = self.database.delete_version(name, version).await?;
        if let DeletedVersion::Gone(_) = deleted {
            failpoint::point(Point::AfterDeleteVersion);
        }
        Ok(deleted)
    }
}
