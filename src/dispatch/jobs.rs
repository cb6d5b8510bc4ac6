use super::Dispatch;
use crate::job::{Job, JobId};
use crate::store::{Inserted, JobFilter, StoreError};

/// Jobs as this process knows them: a job that runs here has its live progress.
impl Dispatch {
    /// Returns the job with this id.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.store.job(id).await?.map(|job| self.live.on(job)))
    }

    /// Returns a page of jobs; see [`Store::jobs`](crate::store::Store::jobs).
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
    ) -> Result<(Vec<Job>, Option<JobId>), StoreError> {
        let (jobs, last) = self.store.jobs(filter, limit).await?;
        Ok((jobs.into_iter().map(|job| self.live.on(job)).collect(), last))
    }

    /// Returns the result of an earlier request of this owner with this key.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn by_key(
        &self,
        owner: &str,
        key: &str,
        request_sha256: &str,
    ) -> Result<Option<Inserted>, StoreError> {
        let earlier = self.store.by_key(owner, key, request_sha256).await?;
        Ok(earlier.map(|inserted| match inserted {
            Inserted::Repeated(job) => Inserted::Repeated(self.live.on(job)),
            inserted => inserted,
        }))
    }
}
