use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::spec::Layer;
use crate::job::JobId;
use crate::model;

/// One version of a model.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelVersion {
    /// Number of the version, from 1.
    #[schema(minimum = 1)]
    pub version: u32,
    /// How the server got it.
    pub source: ModelSource,
    /// The job that trained it; null unless `source` is `job`.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub job_id: Option<JobId>,
    /// When it was published.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Accuracy on the test split of its data set; null if it was not measured.
    #[schema(minimum = 0, maximum = 1)]
    pub test_accuracy: Option<f64>,
    /// Number of weights and biases.
    pub parameters: usize,
    /// The layers of its network.
    pub layers: Vec<Layer>,
    /// Names of the classes; a label is an index in this list.
    pub classes: Vec<String>,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// How the server got a version.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// A job trained it here.
    Job,
    /// A client sent it.
    Upload,
    /// It was imported from another server or framework.
    Import,
}

impl ModelSource {
    /// Returns the source as a word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Upload => "upload",
            Self::Import => "import",
        }
    }
}

impl From<model::ModelSource> for ModelSource {
    fn from(source: model::ModelSource) -> Self {
        match source {
            model::ModelSource::Job => Self::Job,
            model::ModelSource::Upload => Self::Upload,
            model::ModelSource::Import => Self::Import,
        }
    }
}

/// A model with its newest version.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelEntry {
    /// The name to use in requests and paths.
    pub name: String,
    /// The newest version only.
    pub versions: Vec<ModelVersion>,
    /// The number of all versions of the model.
    #[schema(minimum = 1)]
    pub version_count: usize,
    /// The aliases of the model, each with its version.
    pub aliases: BTreeMap<String, u32>,
}

/// A page of models, last published first.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// The models.
    pub models: Vec<ModelEntry>,
    /// The `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// A model with a page of its versions.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// The name to use in requests and paths.
    pub name: String,
    /// The versions of the page, newest first. If the reference has a version or an alias, only
    /// that version.
    pub versions: Vec<ModelVersion>,
    /// The number of all versions of the model.
    #[schema(minimum = 1)]
    pub version_count: usize,
    /// The aliases of the model, each with its version.
    pub aliases: BTreeMap<String, u32>,
    /// The `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// A safetensors or ONNX file with a network for grey images. ONNX files are read as PyTorch and Keras write them for
/// small classifiers.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct NetworkFile(());

/// The version to point an alias to.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    /// Number of a version of the model.
    #[schema(minimum = 1)]
    pub version: u32,
}

impl Model {
    /// Converts a model with a page of its versions, and the cursor of the next page.
    pub fn new(entry: model::ModelEntry, next: Option<u32>) -> Self {
        let ModelEntry { name, versions, version_count, aliases } = entry.into();
        Self { name, versions, version_count, aliases, next_cursor: next.map(|version| version.to_string()) }
    }
}

impl From<model::ModelEntry> for ModelEntry {
    fn from(entry: model::ModelEntry) -> Self {
        let model::ModelEntry { name, versions, version_count, aliases } = entry;
        Self { name, versions: versions.into_iter().map(Into::into).collect(), version_count, aliases }
    }
}

impl From<model::ModelVersion> for ModelVersion {
    fn from(version: model::ModelVersion) -> Self {
        let model::ModelVersion {
            version,
            source,
            job_id,
            created_at,
            test_accuracy,
            parameters,
            layers,
            classes,
            size_bytes,
            sha256,
        } = version;
        Self {
            version,
            source: source.into(),
            job_id,
            created_at,
            test_accuracy,
            parameters,
            layers: layers.into_iter().map(Into::into).collect(),
            classes,
            size_bytes,
            sha256,
        }
    }
}
