use super::{Caller, OperationError, Service};
use crate::model::{ModelEntry, ModelPlace, ModelRef, Selector};
use crate::store::{DeletedVersion, SetAlias};

/// A model with some of its versions. If there are more, also the number of the last one.
pub type VersionPage = (ModelEntry, Option<u32>);

impl Service {
    /// Returns a page of models with their newest versions, last published first. If there are more, also
    /// returns the place of the last one.
    pub fn models(
        &self,
        _caller: &Caller,
        after: Option<&ModelPlace>,
        limit: usize,
    ) -> (Vec<ModelEntry>, Option<ModelPlace>) {
        self.registry.page(after, limit)
    }

    /// Returns a model with up to `limit` of its versions that are older than `before`, newest first.
    ///
    /// # Errors
    /// Returns an error if there is no such model.
    pub fn model(
        &self,
        _caller: &Caller,
        reference: &ModelRef,
        before: Option<u32>,
        limit: usize,
    ) -> Result<VersionPage, OperationError> {
        Ok(self.registry.entry(reference, before, limit)?)
    }

    /// Deletes a version, unless it has an alias or an unfinished job needs it.
    ///
    /// # Errors
    /// Returns an error if there is no such version, if it is needed, or if the database can't be written.
    pub async fn delete_version(
        &self,
        caller: &Caller,
        name: &str,
        version: u32,
    ) -> Result<(), OperationError> {
        let service = self.clone();
        let reference = ModelRef { name: name.to_owned(), selector: Selector::Version(version) };
        let change = async move {
            match service.store.delete_version(&reference.name, version).await? {
                DeletedVersion::Gone(key) => {
                    service.registry.refresh_after_commit().await;
                    service.blobs.delete_dead([key]).await;
                    Ok(())
                }
                DeletedVersion::Aliased(alias) => Err(OperationError::ModelAliased { reference, alias }),
                DeletedVersion::Needed(job) => Err(OperationError::ModelNeeded { reference, job }),
                DeletedVersion::Unknown => Err(service.gone(reference).await),
            }
        };
        self.carry(caller, change).await
    }

    /// Removes the series of models without a version, and the statistics of deleted versions. Another server may have
    /// deleted them, and a prediction that ends later counts them again.
    pub fn forget_deleted_models(&self) {
        self.metrics.retain_models(|name| self.registry.newest(name).is_some());
        self.statistics.retain(|name, version| self.registry.has_version(name, version));
    }

    /// Points an alias to a version of a model.
    ///
    /// # Errors
    /// Returns an error if there is no such version, if the model has too many aliases, or if the database
    /// can't be written.
    pub async fn set_alias(
        &self,
        caller: &Caller,
        name: &str,
        alias: &str,
        version: u32,
    ) -> Result<(), OperationError> {
        let service = self.clone();
        let (name, alias) = (name.to_owned(), alias.to_owned());
        let change = async move {
            let aliases_max = service.limits.aliases_max;
            let set = service.store.set_alias(&name, &alias, version, aliases_max).await?;
            match set {
                SetAlias::Set => {
                    service.registry.refresh_after_commit().await;
                    Ok(())
                }
                SetAlias::TooMany => Err(OperationError::TooManyAliases { name, aliases_max }),
                SetAlias::Unknown => {
                    service.registry.refresh().await?;
                    let model = ModelRef { name: name.clone(), selector: Selector::Default };
                    let meant = ModelRef { name, selector: Selector::Version(version) };
                    let error = match service.registry.version(&meant) {
                        Err(error) => error,
                        // The version was published between the two calls.
                        Ok(_) => return Err(OperationError::ModelGone(meant)),
                    };
                    match service.registry.version(&model) {
                        Ok(_) => Err(OperationError::AliasedVersionUnknown(error)),
                        Err(_) => Err(error.into()),
                    }
                }
            }
        };
        self.carry(caller, change).await
    }

    /// Deletes an alias of a model.
    ///
    /// # Errors
    /// Returns an error if there is none, or if the database can't be written.
    pub async fn delete_alias(&self, caller: &Caller, name: &str, alias: &str) -> Result<(), OperationError> {
        let service = self.clone();
        let reference = ModelRef { name: name.to_owned(), selector: Selector::Alias(alias.to_owned()) };
        let alias = alias.to_owned();
        let change = async move {
            if !service.store.delete_alias(&reference.name, &alias).await? {
                return Err(service.gone(reference).await);
            }
            service.registry.refresh_after_commit().await;
            Ok(())
        };
        self.carry(caller, change).await
    }

    /// Returns the error for a reference whose target is gone. Another server may have deleted it.
    async fn gone(&self, reference: ModelRef) -> OperationError {
        if let Err(error) = self.registry.refresh().await {
            return error.into();
        }
        match self.registry.version(&reference) {
            Err(error) => error.into(),
            Ok(_) => OperationError::ModelGone(reference),
        }
    }
}
