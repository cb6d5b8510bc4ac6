use crate::artifact::ArtifactError;
use crate::blobs::BlobError;
use crate::store::StoreError;

/// A model that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no model of that name.
    #[error("there is no model {name:?}{}", did_you_mean(nearest))]
    UnknownModel {
        /// The name.
        name: String,
        /// A name much like it.
        nearest: Option<String>,
    },
    /// The model has no such version.
    #[error("model {name:?} has no version {version}, the newest is {newest}")]
    UnknownVersion {
        /// Its name.
        name: String,
        /// The version.
        version: u32,
        /// The newest one.
        newest: u32,
    },
    /// The model has no such alias.
    #[error("model {name:?} has no alias {alias:?}{}", did_you_mean(nearest))]
    UnknownAlias {
        /// Its name.
        name: String,
        /// The alias.
        alias: String,
        /// An alias much like it.
        nearest: Option<String>,
    },
    /// The rows can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its bytes can't be had.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Its bytes are no model.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Requests hold as many others as may be in memory.
    #[error("models of other requests fill the memory for models")]
    InUse,
    /// Its bytes are damaged or gone.
    #[error("the bytes of {name}@{version} are damaged: {source}")]
    Damaged {
        /// Its name.
        name: String,
        /// Its version.
        version: u32,
        /// How.
        source: Box<RegistryError>,
    },
    /// Reading it panicked.
    #[error("reading a model panicked")]
    Panic,
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default()
}

impl RegistryError {
    /// Whether the bytes of the model are damaged or missing, for good.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Blob(error) => error.is_damage(),
            Self::Artifact(_) | Self::Damaged { .. } => true,
            _ => false,
        }
    }
}
