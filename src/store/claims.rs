use super::{JobWrites, NewCheckpoint, NewModel, PublishedModel, Store, StoreError};
use crate::failpoint::{self, Point};
use crate::job::{EpochRecord, Job, JobError, JobId, JobMetrics, JobResult, JobState, Progress};
use crate::train::{Evaluation, StepMetrics};

/// A job that a worker has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Id of the job.
    pub id: JobId,
    /// The attempt, which every write of the worker carries.
    pub attempt: u32,
}

/// Everything that a worker records about a job in one commit.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Epochs that have ended.
    pub epochs: Vec<EpochRecord>,
    /// Sampled steps.
    pub steps: Vec<StepMetrics>,
    /// Checkpoints whose blobs are written.
    pub checkpoints: Vec<NewCheckpoint>,
    /// The progress of the job.
    pub progress: Progress,
}

/// A job that a worker holds, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The job and its attempt.
    pub claim: Claim,
    /// How many times the lease was renewed.
    pub beat: i64,
}

/// Returns the metrics of a job together with those of the test split.
pub(super) fn tested(metrics: JobMetrics, result: &JobResult) -> JobMetrics {
    let (test_loss, test_accuracy) = (Some(result.test_loss), Some(result.test_accuracy));
    JobMetrics { test_loss, test_accuracy, ..metrics }
}

impl Store {
    /// Renews the lease of a job and records its progress.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if the job has another attempt.
    pub async fn renew(&self, claim: Claim, progress: &Progress) -> Result<(), StoreError> {
        self.database.renew(claim, progress).await
    }

    /// Returns whether a job still has this attempt.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn is_held(&self, claim: Claim) -> Result<bool, StoreError> {
        self.database.is_held(claim).await
    }

    /// Returns the jobs that workers hold, in this process and others.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn held(&self) -> Result<Vec<Held>, StoreError> {
        self.database.held().await
    }
}

/// Each write but a claim carries the attempt, and returns an error if the job has another one.
impl JobWrites<'_> {
    /// Claims the next job.
    pub async fn claim(self) -> Result<Option<Job>, StoreError> {
        if !self.store.database.has_waiting().await? {
            return Ok(None);
        }
        self.store.database.claim().await?.map(Job::try_from).transpose()
    }

    /// Records epochs, steps and checkpoints of a job.
    pub async fn record(self, claim: Claim, recorded: &Recorded) -> Result<(), StoreError> {
        self.store.database.record(claim, recorded).await?;
        failpoint::point(Point::AfterRecord);
        Ok(())
    }

    /// Puts a job back in the queue.
    pub async fn release(self, claim: Claim) -> Result<(), StoreError> {
        self.store.database.release(claim).await?;
        failpoint::point(Point::AfterRelease);
        Ok(())
    }

    /// Puts a job of a dead worker back in the queue, or fails it after `crashes_max` crashes without a new checkpoint.
    pub async fn rescue(self, held: Held, crashes_max: u32) -> Result<Option<JobState>, StoreError> {
        let error = JobError {
            code: "crash_loop".to_owned(),
            detail: format!(
                "the worker of this job was lost {crashes_max} times, with no new checkpoint in between"
            ),
        };
        let state = self.store.database.rescue(held, crashes_max, &error).await?;
        failpoint::point(Point::AfterRescue);
        Ok(state)
    }

    /// Publishes the model of a job and ends the job, if the version is free.
    pub async fn succeed(
        self,
        claim: Claim,
        model: &NewModel,
        test: Evaluation,
        progress: &Progress,
    ) -> Result<Option<PublishedModel>, StoreError> {
        let result = JobResult {
            model: model.name.clone(),
            version: model.version,
            test_accuracy: test.accuracy,
            test_loss: test.loss,
            train_seconds: progress.elapsed_seconds,
        };
        let published = self.store.database.succeed(claim, model, &result, progress).await?;
        if published.is_some() {
            failpoint::point(Point::AfterPublish);
        }
        Ok(published)
    }

    /// Fails a job that can't continue.
    pub async fn fail(self, claim: Claim, error: &JobError) -> Result<(), StoreError> {
        self.store.database.fail(claim, error).await
    }
}
