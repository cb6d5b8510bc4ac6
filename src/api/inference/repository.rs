use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::registry::ServedVersion;

/// Which versions to list.
#[derive(ToSchema)]
pub struct IndexRequest {
    /// Whether to list only versions that accept predictions; by default false.
    pub ready: Option<bool>,
}

/// A version in the index.
#[derive(Serialize, ToSchema)]
pub struct IndexEntry {
    /// Name of the model.
    pub name: String,
    /// Number of the version.
    pub version: String,
    /// `READY`, or `UNAVAILABLE` if the model is unloaded.
    pub state: &'static str,
    /// Why the version is not ready, or empty.
    pub reason: &'static str,
}

impl From<ServedVersion> for IndexEntry {
    fn from(ServedVersion { name, version, is_served }: ServedVersion) -> Self {
        let (state, reason) = if is_served { ("READY", "") } else { ("UNAVAILABLE", "unloaded") };
        Self { name, version: version.to_string(), state, reason }
    }
}

/// How to load or unload a model.
#[derive(ToSchema)]
pub struct RepositoryRequest {
    /// Parameters. Only `unload_dependents` is accepted, for unloading.
    #[schema(value_type = Object, additional_properties, required = false)]
    pub parameters: Option<BTreeMap<String, Value>>,
}
