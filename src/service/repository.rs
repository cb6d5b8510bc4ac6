use super::{Caller, OperationError, Service, VersionStatistics};
use crate::admission::Lane;
use crate::model::{ModelRef, ModelVersion, Selector};
use crate::registry::ServedVersion;

impl Service {
    /// Loads the version that a bare name refers to, and serves the model again if it was unloaded.
    ///
    /// # Errors
    /// Returns an error if there is no such model, if there is no memory for it, or if its file is damaged.
    pub async fn load_model(&self, caller: &Caller, name: &str) -> Result<(), OperationError> {
        let reference = ModelRef { name: name.to_owned(), selector: Selector::Default };
        if self.registry.at_hand(&reference)?.is_none() {
            let place = self.admission.enter(Lane::Batch, caller.peer()).await?;
            self.registry.get(&reference, place).await?;
        }
        self.registry.serve_again(name);
        Ok(())
    }

    /// Drops the weights of a model and refuses its predictions until it is loaded again. Predictions that run are
    /// completed. Only this process is affected, and only until it ends.
    ///
    /// # Errors
    /// Returns an error if there is no such model.
    pub fn unload_model(&self, _caller: &Caller, name: &str) -> Result<(), OperationError> {
        Ok(self.registry.unload(name)?)
    }

    /// Returns the version that `reference` refers to, if predictions of it are accepted. Its weights need not be in
    /// memory.
    ///
    /// # Errors
    /// Returns an error if there is no such model, or if it is unloaded.
    pub fn served_version(
        &self,
        _caller: &Caller,
        reference: &ModelRef,
    ) -> Result<ModelVersion, OperationError> {
        let version = self.registry.version(reference)?;
        self.registry.check_served(&reference.name)?;
        Ok(version)
    }

    /// Returns the version that `reference` refers to.
    ///
    /// # Errors
    /// Returns an error if there is no such model.
    pub fn version(&self, _caller: &Caller, reference: &ModelRef) -> Result<ModelVersion, OperationError> {
        Ok(self.registry.version(reference)?)
    }

    /// Returns the numbers of up to `limit` newest versions of a model, in ascending order.
    pub fn newest_versions(&self, _caller: &Caller, name: &str, limit: usize) -> Vec<u32> {
        self.registry.newest_versions(name, limit)
    }

    /// Returns the number of versions of a model, or of all models.
    pub fn version_count(&self, _caller: &Caller, name: Option<&str>) -> usize {
        self.registry.version_count(name)
    }

    /// Returns the versions of a model, or of all models, by name and number.
    pub fn served_versions(&self, _caller: &Caller, name: Option<&str>) -> Vec<ServedVersion> {
        self.registry.served_versions(name)
    }

    /// Returns what this process has counted for a version.
    pub fn statistics_of(&self, _caller: &Caller, name: &str, version: u32) -> VersionStatistics {
        self.statistics.of(name, version)
    }
}
