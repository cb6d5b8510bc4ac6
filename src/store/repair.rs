use super::{Store, StoreError};
use crate::job::JobId;

/// What was deleted with a version whose blob is lost, and which jobs can no longer start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Aliases of the version.
    pub aliases: Vec<String>,
    /// Jobs that have not ended and start from the version.
    pub needed_by: Vec<JobId>,
}

/// Repairs. The process must be alone on the folder, so that no worker writes.
impl Store {
    /// Deletes the row of a checkpoint whose blob is lost.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn drop_checkpoint(&self, id: JobId, blob_key: &str) -> Result<(), StoreError> {
        self.database.drop_checkpoint(id, blob_key).await
    }

    /// Deletes a version whose blob is lost, and all its aliases. Returns `None` if the row is gone or names
    /// another blob.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn drop_version(
        &self,
        name: &str,
        version: u32,
        blob_key: &str,
    ) -> Result<Option<Dropped>, StoreError> {
        self.database.drop_version(name, version, blob_key).await
    }
}
