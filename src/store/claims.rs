use super::{NewCheckpoint, NewModel, PublishedModel, Store, StoreError};
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
    /// Claims the next job: the highest priority first, then by the turns of the owners. Jobs of the same
    /// model run one after the other, in order of submission.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn claim(&self) -> Result<Option<Job>, StoreError> {
        if !self.database.has_waiting().await? {
            return Ok(None);
        }
        let job = self.database.claim().await?.map(Job::try_from).transpose()?;
        if let Some(job) = &job {
            self.notify.changed(Some(job.id));
            failpoint::point(Point::AfterClaim);
        }
        Ok(job)
    }

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

    /// Records epochs, steps and checkpoints of a job. A checkpoint resets the count of crashes, since it
    /// shows that the job makes progress.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if the job has another attempt.
    pub async fn record(&self, claim: Claim, recorded: &Recorded) -> Result<(), StoreError> {
        self.database.record(claim, recorded).await?;
        failpoint::point(Point::AfterRecord);
        self.notify.changed(Some(claim.id));
        Ok(())
    }

    /// Puts a job back in the queue, because its worker can't continue or its server is stopping.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if the job has another attempt.
    pub async fn release(&self, claim: Claim) -> Result<(), StoreError> {
        self.database.release(claim).await?;
        failpoint::point(Point::AfterRelease);
        self.enqueued(claim.id);
        Ok(())
    }

    /// Puts all jobs that this process holds back in the queue. Does not wait for their workers.
    ///
    /// # Errors
    /// Returns an error if the database fails for one of them.
    pub async fn release_all(&self) -> Result<(), StoreError> {
        let mut released = Ok(());
        for claim in self.live.claims() {
            match self.release(claim).await {
                Ok(()) | Err(StoreError::Fenced { .. }) => {}
                Err(error) => released = Err(error),
            }
        }
        released
    }

    /// Takes a job from a dead worker and puts it back in the queue. Fails the job instead if `crashes_max`
    /// workers have died on it without a new checkpoint in between. Returns `None` if the lease was renewed
    /// after `held` was read.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn rescue(&self, held: Held, crashes_max: u32) -> Result<Option<JobState>, StoreError> {
        let error = JobError {
            code: "crash_loop".to_owned(),
            detail: format!(
                "the worker of this job was lost {crashes_max} times, with no new checkpoint in between"
            ),
        };
        let state = self.database.rescue(held, crashes_max, &error).await?;
        failpoint::point(Point::AfterRescue);
        match state {
            None => {}
            Some(state) if state.is_ended() => self.ended(held.claim.id),
            Some(_) => {
                self.enqueued(held.claim.id);
            }
        }
        Ok(state)
    }

    /// Publishes the model of a job and ends the job, in one transaction. `test` is the evaluation on the test split.
    /// Returns `None` and changes nothing if another model has this version.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if the job has another attempt.
    pub async fn succeed(
        &self,
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
        let published = self.database.succeed(claim, model, &result, progress).await?;
        if published.is_some() {
            failpoint::point(Point::AfterPublish);
        }
        Ok(published)
    }

    /// Notifies listeners that a job has succeeded, once its model is served.
    pub fn succeeded(&self, claim: Claim) {
        self.ended(claim.id);
    }

    /// Fails a job that can't continue.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if the job has another attempt.
    pub async fn fail(&self, claim: Claim, error: &JobError) -> Result<(), StoreError> {
        self.database.fail(claim, error).await?;
        self.ended(claim.id);
        Ok(())
    }
}
