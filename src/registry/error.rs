use crate::artifact::ArtifactError;
use crate::blobs::BlobError;
use crate::store::StoreError;

/// Why a model can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no model of this name.
    #[error("there is no model {name:?}{}", did_you_mean(nearest))]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// The most similar name of a model.
        nearest: Option<String>,
    },
    /// The model has no such version.
    #[error("model {name:?} has no version {version}, the newest is {newest}")]
    UnknownVersion {
        /// Name of the model.
        name: String,
        /// The version that was asked for.
        version: u32,
        /// The newest version.
        newest: u32,
    },
    /// The model has no such alias.
    #[error("model {name:?} has no alias {alias:?}{}", did_you_mean(nearest))]
    UnknownAlias {
        /// Name of the model.
        name: String,
        /// The alias that was asked for.
        alias: String,
        /// The most similar alias.
        nearest: Option<String>,
    },
    /// The model is unloaded in this process.
    #[error("model {0:?} is unloaded on this server; load it with POST /v2/repository/models/{0}/load")]
    Unloaded(String),
    /// The database can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file can't be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The file is not a valid model.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Models in use fill the memory for models.
    #[error("models that other requests use fill the memory for models")]
    InUse,
    /// The file is damaged or missing.
    #[error("the bytes of {name}@{version} are damaged: {source}")]
    Damaged {
        /// Name of the model.
        name: String,
        /// Version of the model.
        version: u32,
        /// What is wrong with the file.
        source: Box<RegistryError>,
    },
    /// Loading the model panicked.
    #[error("loading a model panicked")]
    Panic,
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default()
}

impl RegistryError {
    /// Returns whether the file is damaged or missing, so that trying again won't help.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Blob(error) => error.is_damage(),
            Self::Artifact(_) | Self::Damaged { .. } => true,
            _ => false,
        }
    }
}
