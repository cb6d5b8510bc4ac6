use std::time::Duration;

use super::{Store, StoreError};
use crate::job::JobId;

/// A position in the order in which retention deletes ended jobs. The default is the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedPosition {
    pub(super) finished_at: i64,
    pub(super) sequence: i64,
}

/// An ended job that retention deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Id of the job.
    pub id: JobId,
    /// The position to continue from.
    pub position: EndedPosition,
}

impl Store {
    /// Returns some of the ended jobs after `after`, oldest first, except the newest `keep` jobs. Returns an
    /// empty list if there are no more.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn ended_beyond(&self, keep: u64, after: EndedPosition) -> Result<Vec<Ended>, StoreError> {
        self.database.ended_beyond(keep, after).await
    }

    /// Returns some of the jobs after `after` that ended longer ago than `age`, oldest first. Returns an
    /// empty list if there are no more.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn ended_for(&self, age: Duration, after: EndedPosition) -> Result<Vec<Ended>, StoreError> {
        self.database.ended_for(age, after).await
    }
}
