use std::time::Duration;

use super::{Store, StoreError};
use crate::job::JobId;

/// A place in the order in which ended jobs are removed; the default is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub(super) finished_at: i64,
    pub(super) sequence: i64,
}

/// An ended job that is due to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The job.
    pub id: JobId,
    /// Where to go on from.
    pub place: Place,
}

impl Store {
    /// Some of the ended jobs that are older than the newest `keep` of them, behind `after`, oldest first; none where there
    /// are no more.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ended_beyond(&self, keep: u64, after: Place) -> Result<Vec<Ended>, StoreError> {
        self.database.ended_beyond(keep, after).await
    }

    /// Some of the jobs that ended longer ago than `age`, behind `after`, oldest first; none where there are no more.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ended_for(&self, age: Duration, after: Place) -> Result<Vec<Ended>, StoreError> {
        self.database.ended_for(age, after).await
    }
}
