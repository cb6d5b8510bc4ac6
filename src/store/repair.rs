use super::{Store, StoreError};
use crate::job::JobId;

/// What went with a version whose bytes are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Aliases that meant it.
    pub aliases: Vec<String>,
    /// Jobs that have not ended and start from it.
    pub needed_by: Vec<JobId>,
}

/// For whoever has the rows for itself: no worker writes.
impl Store {
    /// Forgets a checkpoint whose bytes are lost.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn drop_checkpoint(&self, id: JobId, blob_key: &str) -> Result<(), StoreError> {
        self.database.drop_checkpoint(id, blob_key).await
    }

    /// Deletes a version whose bytes are lost, and every alias that means it; `None` where its row is gone, or names
    /// other bytes.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn drop_version(
        &self,
        name: &str,
        version: u32,
        blob_key: &str,
    ) -> Result<Option<Dropped>, StoreError> {
        self.database.drop_version(name, version, blob_key).await
    }
}
