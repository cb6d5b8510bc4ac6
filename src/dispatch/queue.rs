use super::Dispatch;
use crate::job::JobId;
use crate::store::{Cancelled, Deleted, Resumed, StoreError};

impl Dispatch {
    /// Cancels a job that has not ended. The worker of a running job stops when it notices the change.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn cancel(&self, id: JobId) -> Result<Cancelled, StoreError> {
        let cancelled = self.store.job_writes().cancel(id, || self.live.of(id)).await?;
        if let Cancelled::Accepted(_) = cancelled {
            self.ended(id);
        }
        Ok(cancelled)
    }

    /// Puts a failed or cancelled job back in the queue, after the waiting jobs of its model.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn resume(&self, id: JobId, queue_max: u32) -> Result<Resumed, StoreError> {
        let resumed = self.store.job_writes().resume(id, queue_max).await?;
        if let Resumed::Accepted(_) = resumed {
            self.enqueued(id);
        }
        Ok(match resumed {
            Resumed::NotStopped(job) => Resumed::NotStopped(self.live.on(job)),
            resumed => resumed,
        })
    }

    /// Deletes an ended job with its epochs and checkpoints. Its model stays.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn delete_job(&self, id: JobId) -> Result<Deleted, StoreError> {
        let deleted = self.store.job_writes().delete(id).await?;
        if let Deleted::Gone(_) = deleted {
            self.notify.changed(Some(id));
        }
        Ok(deleted)
    }
}
