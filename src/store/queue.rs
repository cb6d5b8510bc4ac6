use super::{Store, StoreError, format};
use crate::fault::{self, Point};
use crate::job::{Job, JobId, JobState, Progress};
use crate::train::TrainSpec;

/// A job to be accepted.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What it trains.
    pub spec: TrainSpec,
    /// Its progress before the first step.
    pub progress: Progress,
    /// Whose it is: clients take turns.
    pub client: String,
    /// The client's key for this request; another client's is another key.
    pub idempotency_key: Option<String>,
    /// Digest of the request, to tell whether a key comes with another one.
    pub request_sha256: String,
}

/// What became of a [`NewJob`].
#[derive(Clone, Debug, PartialEq)]
pub enum Inserted {
    /// It is in the queue.
    Accepted(Job),
    /// The same request came before.
    Repeated(Job),
    /// The key came before with another request.
    OtherRequest,
    /// The queue is full.
    QueueFull,
    /// The version that it starts from has been deleted.
    InitialModelGone,
}

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// It is cancelled.
    Accepted(Job),
    /// It had ended before.
    Ended(Job),
    /// There is no such job.
    Unknown,
}

/// What became of a wish to resume.
#[derive(Clone, Debug, PartialEq)]
pub enum Resumed {
    /// It is in the queue.
    Accepted(Job),
    /// It is in the queue, runs or has succeeded.
    NotStopped(Job),
    /// The queue is full.
    QueueFull,
    /// The version that it starts from has been deleted.
    InitialModelGone,
    /// There is no such job.
    Unknown,
}

/// What became of a wish to delete.
#[derive(Clone, Debug, PartialEq)]
pub enum Deleted {
    /// It is gone; the bytes under these keys are named by nobody any more.
    Gone(Vec<String>),
    /// It has not ended, but is in this state.
    NotEnded(JobState),
    /// There is no such job.
    Unknown,
}

/// How many of the `queue_max` jobs that may wait may be those of one client.
pub fn queue_share(queue_max: u32) -> u32 {
    queue_max.div_ceil(2)
}

impl Store {
    /// What became of an earlier request of this client with this key.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn by_key(
        &self,
        client: &str,
        key: &str,
        request_sha256: &str,
    ) -> Result<Option<Inserted>, StoreError> {
        let earlier = self.database.by_key(client, key, request_sha256).await?;
        Ok(earlier.map(|inserted| match inserted {
            Inserted::Repeated(job) => Inserted::Repeated(self.live.on(job)),
            inserted => inserted,
        }))
    }

    /// Ends a job that has not ended; the worker of one that runs stops when it hears of it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn cancel(&self, id: JobId) -> Result<Cancelled, StoreError> {
        loop {
            if let Some(job) = self.try_cancel(id).await? {
                self.ended(id);
                return Ok(Cancelled::Accepted(job));
            }
            match self.job(id).await? {
                None => return Ok(Cancelled::Unknown),
                Some(job) if job.state.is_ended() => return Ok(Cancelled::Ended(job)),
                // It was resumed in between.
                Some(_) => {}
            }
        }
    }

    async fn try_cancel(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let live = self.live.of(id).map(|(attempt, progress)| {
            let progress = Progress { waiting_for_disk: false, ..progress };
            format::write(id, &progress).map(|progress| (attempt, progress))
        });
        let row = self.database.cancel(id, live.transpose()?).await?;
        fault::point(Point::AfterCancel);
        row.map(Job::try_from).transpose()
    }

    /// Puts a job that failed or was cancelled back in the queue, behind those of its model that wait.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn resume(&self, id: JobId, queue_max: u32) -> Result<Resumed, StoreError> {
        loop {
            if let Some(job) = self.try_resume(id, queue_max).await? {
                self.enqueued(id);
                return Ok(Resumed::Accepted(job));
            }
            match self.job(id).await? {
                None => return Ok(Resumed::Unknown),
                Some(job) if !matches!(job.state, JobState::Failed | JobState::Cancelled) => {
                    return Ok(Resumed::NotStopped(job));
                }
                Some(Job { spec: TrainSpec { initial_model: Some(model), .. }, .. })
                    if !self.database.is_version(&model).await? =>
                {
                    return Ok(Resumed::InitialModelGone);
                }
                Some(_) if !self.takes_again(id, queue_max).await? => {
                    return Ok(Resumed::QueueFull);
                }
                // It was stopped, or the queue had room, in between.
                Some(_) => {}
            }
        }
    }

    async fn try_resume(&self, id: JobId, queue_max: u32) -> Result<Option<Job>, StoreError> {
        let row = self.database.resume(id, queue_max).await?;
        fault::point(Point::AfterResume);
        row.map(Job::try_from).transpose()
    }

    /// Whether the queue has room for one more job, of the client of this one.
    async fn takes_again(&self, id: JobId, queue_max: u32) -> Result<bool, StoreError> {
        let has_share = self.database.queued_of_client_of(id).await? < i64::from(queue_share(queue_max));
        Ok(has_share && self.queue_length().await? < u64::from(queue_max))
    }

    /// Deletes a job that has ended, its course and its checkpoints. Its model stays.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete_job(&self, id: JobId) -> Result<Deleted, StoreError> {
        let deleted = self.database.delete_job(id).await?;
        if let Deleted::Gone(_) = deleted {
            fault::point(Point::AfterDelete);
            self.notify.changed(Some(id));
        }
        Ok(deleted)
    }
}
