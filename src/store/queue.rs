use super::database::Writer;
use super::insert::{Key, repeated};
use super::{JobWrites, Store, StoreError, format};
use crate::failpoint::{self, Point};
use crate::job::{Job, JobId, JobState, Progress};
use crate::train::TrainSpec;

/// A job to be accepted.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The validated specification.
    pub spec: TrainSpec,
    /// Its progress before the first step.
    pub progress: Progress,
    /// The owner of the job. Owners take turns.
    pub owner: String,
    /// The owner's idempotency key for this request. Each owner has its own keys.
    pub idempotency_key: Option<String>,
    /// Digest of the request. It shows whether a key is used for two different requests.
    pub request_sha256: String,
}

/// The result of inserting a [`NewJob`].
#[derive(Clone, Debug, PartialEq)]
pub enum Inserted {
    /// The job is in the queue.
    Accepted(Job),
    /// The same request was sent before.
    Repeated(Job),
    /// The key belongs to a different request.
    OtherRequest,
    /// The queue is full.
    QueueFull,
    /// The version that the job starts from was deleted.
    InitialModelGone,
}

/// The result of cancelling a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// The job is cancelled.
    Accepted(Job),
    /// The job had already ended.
    Ended(Job),
    /// There is no such job.
    Unknown,
}

/// The result of resuming a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Resumed {
    /// The job is in the queue.
    Accepted(Job),
    /// The job is queued or running, or has succeeded.
    NotStopped(Job),
    /// The queue is full.
    QueueFull,
    /// The version that the job starts from was deleted.
    InitialModelGone,
    /// There is no such job.
    Unknown,
}

/// The result of deleting a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Deleted {
    /// The job is deleted. No row names these keys any more.
    Gone(Vec<String>),
    /// The job has not ended and is in this state.
    NotEnded(JobState),
    /// There is no such job.
    Unknown,
}

/// Returns how many of the `queue_max` waiting jobs one owner may have.
pub fn queue_share(queue_max: u32) -> u32 {
    queue_max.div_ceil(2)
}

impl Store {
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
        let Some(earlier) = self.database.earlier(&Key::new(owner, key)).await? else { return Ok(None) };
        repeated(earlier, request_sha256).map(Some)
    }

    /// Returns whether the queue has room for one more job of this job's owner.
    async fn takes_again(&self, id: JobId, queue_max: u32) -> Result<bool, StoreError> {
        let has_share = self.database.queued_of_owner_of(id).await? < i64::from(queue_share(queue_max));
        Ok(has_share && self.queue_length().await? < u64::from(queue_max))
    }
}

impl JobWrites<'_> {
    /// Waits until no other task inserts jobs.
    pub async fn inserter(self) -> Result<Writer, StoreError> {
        self.store.database.writer().await
    }

    /// Cancels a job that has not ended. `live` returns the attempt that runs in this process and its progress, which
    /// is newer than the row's.
    pub async fn cancel(
        self,
        id: JobId,
        live: impl Fn() -> Option<(u32, Progress)>,
    ) -> Result<Cancelled, StoreError> {
        loop {
            if let Some(job) = self.try_cancel(id, live()).await? {
                return Ok(Cancelled::Accepted(job));
            }
            match self.store.job(id).await? {
                None => return Ok(Cancelled::Unknown),
                Some(job) if job.state.is_ended() => return Ok(Cancelled::Ended(job)),
                // The job was resumed between the two statements.
                Some(_) => {}
            }
        }
    }

    async fn try_cancel(self, id: JobId, live: Option<(u32, Progress)>) -> Result<Option<Job>, StoreError> {
        let live = live.map(|(attempt, progress)| {
            let progress = Progress { waiting_for_disk: false, ..progress };
            format::write(id, &progress).map(|progress| (attempt, progress))
        });
        let row = self.store.database.cancel(id, live.transpose()?).await?;
        failpoint::point(Point::AfterCancel);
        row.map(Job::try_from).transpose()
    }

    /// Puts a failed or cancelled job back in the queue, after the waiting jobs of its model.
    pub async fn resume(self, id: JobId, queue_max: u32) -> Result<Resumed, StoreError> {
        loop {
            if let Some(job) = self.try_resume(id, queue_max).await? {
                return Ok(Resumed::Accepted(job));
            }
            match self.store.job(id).await? {
                None => return Ok(Resumed::Unknown),
                Some(job) if !matches!(job.state, JobState::Failed | JobState::Cancelled) => {
                    return Ok(Resumed::NotStopped(job));
                }
                Some(Job { spec: TrainSpec { initial_model: Some(model), .. }, .. })
                    if !self.store.database.is_version(&model).await? =>
                {
                    return Ok(Resumed::InitialModelGone);
                }
                Some(_) if !self.store.takes_again(id, queue_max).await? => {
                    return Ok(Resumed::QueueFull);
                }
                // Between the two statements the job was stopped, or the queue got room.
                Some(_) => {}
            }
        }
    }

    async fn try_resume(self, id: JobId, queue_max: u32) -> Result<Option<Job>, StoreError> {
        let row = self.store.database.resume(id, queue_max).await?;
        failpoint::point(Point::AfterResume);
        row.map(Job::try_from).transpose()
    }

    /// Deletes an ended job with its epochs and checkpoints. Its model stays.
    pub async fn delete(self, id: JobId) -> Result<Deleted, StoreError> {
        let deleted = self.store.database.delete_job(id).await?;
        if let Deleted::Gone(_) = deleted {
            failpoint::point(Point::AfterDelete);
        }
        Ok(deleted)
    }
}
