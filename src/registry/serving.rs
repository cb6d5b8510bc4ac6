use std::ops::Bound;

use super::{Registry, RegistryError};
use crate::model::{ModelRef, Selector};

/// A version of a model, and whether this process serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedVersion {
    /// Name of the model.
    pub name: String,
    /// Number of the version.
    pub version: u32,
    /// Whether predictions are accepted: the model is not unloaded.
    pub is_served: bool,
}

impl Registry {
    /// Checks that a model is not unloaded.
    ///
    /// # Errors
    /// Returns an error if it is.
    pub fn check_served(&self, name: &str) -> Result<(), RegistryError> {
        if self.models().is_unloaded(name) { Err(RegistryError::Unloaded(name.to_owned())) } else { Ok(()) }
    }

    /// Drops the weights of a model and refuses new predictions until [`serve_again`](Self::serve_again).
    ///
    /// # Errors
    /// Returns an error if there is no such model.
    pub fn unload(&self, name: &str) -> Result<(), RegistryError> {
        self.version(&ModelRef { name: name.to_owned(), selector: Selector::Default })?;
        self.models().unload(name);
        Ok(())
    }

    /// Accepts predictions of a model that was unloaded.
    pub fn serve_again(&self, name: &str) {
        self.models().serve_again(name);
    }

    /// Returns whether a model has this version.
    pub fn has_version(&self, name: &str, version: u32) -> bool {
        self.models().by_name.get(name).is_some_and(|model| model.published.contains_key(&version))
    }

    /// Returns the numbers of up to `limit` newest versions of a model, in ascending order.
    pub fn newest_versions(&self, name: &str, limit: usize) -> Vec<u32> {
        let models = self.models();
        let versions = models.by_name.get(name).into_iter().flat_map(|model| model.published.keys().rev());
        let mut versions: Vec<u32> = versions.take(limit).copied().collect();
        versions.reverse();
        versions
    }

    /// Returns the number of versions of a model, or of all models.
    pub fn version_count(&self, name: Option<&str>) -> usize {
        let models = self.models();
        match name {
            Some(name) => models.by_name.get(name).map_or(0, |model| model.published.len()),
            None => models.by_name.values().map(|model| model.published.len()).sum(),
        }
    }

    /// Returns the versions of a model, or of all models, by name and number.
    pub fn served_versions(&self, name: Option<&str>) -> Vec<ServedVersion> {
        let models = self.models();
        let wanted = match name {
            Some(name) => models.by_name.range::<str, _>((Bound::Included(name), Bound::Included(name))),
            None => models.by_name.range::<str, _>(..),
        };
        let mut versions = Vec::new();
        for (name, model) in wanted {
            let is_served = !models.is_unloaded(name);
            let version = |&version: &u32| ServedVersion { name: name.clone(), version, is_served };
            versions.extend(model.published.keys().map(version));
        }
        versions
    }
}
