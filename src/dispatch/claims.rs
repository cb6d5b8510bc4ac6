use super::Dispatch;
use crate::failpoint::{self, Point};
use crate::job::{Job, JobError, JobState, Progress};
use crate::store::{Claim, Held, NewModel, PublishedModel, Recorded, StoreError};
use crate::train::Evaluation;

impl Dispatch {
    /// Claims the next job: the highest priority first, then by the turns of the owners. Jobs of the same
    /// model run one after the other, in order of submission.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn claim(&self) -> Result<Option<Job>, StoreError> {
        let job = self.store.job_writes().claim().await?;
        if let Some(job) = &job {
            self.notify.changed(Some(job.id));
            failpoint::point(Point::AfterClaim);
        }
        Ok(job)
    }

    /// Records epochs, steps and checkpoints of a job. A checkpoint resets the count of crashes, since it
    /// shows that the job makes progress.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if the job has another attempt.
    pub async fn record(&self, claim: Claim, recorded: &Recorded) -> Result<(), StoreError> {
        self.store.job_writes().record(claim, recorded).await?;
        self.notify.changed(Some(claim.id));
        Ok(())
    }

    /// Puts a job back in the queue, because its worker can't continue or its server is stopping.
    ///
    /// # Errors
    /// Returns an error if the database fails, or if the job has another attempt.
    pub async fn release(&self, claim: Claim) -> Result<(), StoreError> {
        self.store.job_writes().release(claim).await?;
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
        let state = self.store.job_writes().rescue(held, crashes_max).await?;
        match state {
            None => {}
            Some(state) if state.is_ended() => self.ended(held.claim.id),
            Some(_) => self.enqueued(held.claim.id),
        }
        Ok(state)
    }

    /// Publishes the model of a job and ends the job, in one transaction. `test` is the evaluation on the test split.
    /// Returns `None` and changes nothing if another model has this version. Listeners are notified by
    /// [`Self::succeeded`].
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
        self.store.job_writes().succeed(claim, model, test, progress).await
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
        self.store.job_writes().fail(claim, error).await?;
        self.ended(claim.id);
        Ok(())
    }
}
