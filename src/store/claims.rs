use super::{NewCheckpoint, NewModel, PublishedModel, Store, StoreError};
use crate::fault::{self, Point};
use crate::job::{EpochRecord, Job, JobError, JobId, JobState, Progress};
use crate::train::StepMetrics;

/// A job that was given to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The job.
    pub id: JobId,
    /// The attempt, which every write must carry.
    pub attempt: u32,
}

/// What a worker records of a job's course in one commit.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Epochs that have ended.
    pub epochs: Vec<EpochRecord>,
    /// Steps that were sampled.
    pub steps: Vec<StepMetrics>,
    /// Checkpoints whose bytes are written.
    pub checkpoints: Vec<NewCheckpoint>,
    /// How far the job is.
    pub progress: Progress,
}

/// A job that some worker holds, as seen at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The job and its attempt.
    pub claim: Claim,
    /// The lease was renewed so often.
    pub beat: i64,
}

impl Store {
    /// Gives the job whose turn it is to the caller: of the highest priority, then by turns of the clients. Jobs of
    /// one model run one after the other, in the order of their submission.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim(&self) -> Result<Option<Job>, StoreError> {
        if !self.database.has_waiting().await? {
            return Ok(None);
        }
        let job = self.database.claim().await?.map(Job::try_from).transpose()?;
        if let Some(job) = &job {
            self.notify.changed(Some(job.id));
            fault::point(Point::AfterClaim);
        }
        Ok(job)
    }

    /// How SQLite finds the next job, <https://sqlite.org/eqp.html>.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn plan_of_claim(&self) -> Result<Vec<String>, StoreError> {
        self.database.plan_of_claim().await
    }

    /// Renews the lease of a job and records how far it is.
    ///
    /// # Errors
    /// If the database fails, or the job belongs to another attempt.
    pub async fn renew(&self, claim: Claim, progress: &Progress) -> Result<(), StoreError> {
        self.database.renew(claim, progress).await
    }

    /// Whether a job still belongs to this attempt.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_held(&self, claim: Claim) -> Result<bool, StoreError> {
        self.database.is_held(claim).await
    }

    /// The jobs that workers hold, of this process and of others.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn held(&self) -> Result<Vec<Held>, StoreError> {
        self.database.held().await
    }

    /// Records epochs, steps and checkpoints of a job. A checkpoint shows that the job can go on: deaths of its
    /// process are counted anew from there.
    ///
    /// # Errors
    /// If the database fails, or the job belongs to another attempt.
    pub async fn record(&self, claim: Claim, recorded: &Recorded) -> Result<(), StoreError> {
        self.database.record(claim, recorded).await?;
        fault::point(Point::AfterRecord);
        self.notify.changed(Some(claim.id));
        Ok(())
    }

    /// Gives a job back to the queue: its worker can't go on, or its server stops.
    ///
    /// # Errors
    /// If the database fails, or the job belongs to another attempt.
    pub async fn release(&self, claim: Claim) -> Result<(), StoreError> {
        self.database.release(claim).await?;
        fault::point(Point::AfterRelease);
        self.enqueued(claim.id);
        Ok(())
    }

    /// Gives all jobs that this process holds back to the queue, without their workers.
    ///
    /// # Errors
    /// If the database fails for one of them.
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

    /// Takes a job from a worker that is gone, and puts it back in the queue; fails it where `crashes_max` of its
    /// workers have gone with no checkpoint between. `None` where the lease was renewed since `held` was seen.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn rescue(&self, held: Held, crashes_max: u32) -> Result<Option<JobState>, StoreError> {
        let error = JobError {
            code: "crash_loop".to_owned(),
            detail: format!(
                "its worker was gone {crashes_max} times while this job ran, with no checkpoint between"
            ),
        };
        let state = self.database.rescue(held, crashes_max, &error).await?;
        fault::point(Point::AfterRescue);
        match state {
            None => {}
            Some(state) if state.is_ended() => self.ended(held.claim.id),
            Some(_) => {
                self.enqueued(held.claim.id);
            }
        }
        Ok(state)
    }

    /// Publishes the model of a job and ends the job, both or neither. `None` if another model has its version: then neither.
    ///
    /// # Errors
    /// If the database fails, or the job belongs to another attempt.
    pub async fn succeed(
        &self,
        claim: Claim,
        model: &NewModel,
        progress: &Progress,
    ) -> Result<Option<PublishedModel>, StoreError> {
        let published = self.database.succeed(claim, model, progress).await?;
        if published.is_some() {
            fault::point(Point::AfterPublish);
        }
        Ok(published)
    }

    /// Tells that a job has succeeded, once its model is served.
    pub fn succeeded(&self, claim: Claim) {
        self.ended(claim.id);
    }

    /// Ends a job that can't go on.
    ///
    /// # Errors
    /// If the database fails, or the job belongs to another attempt.
    pub async fn fail(&self, claim: Claim, error: &JobError) -> Result<(), StoreError> {
        self.database.fail(claim, error).await?;
        self.ended(claim.id);
        Ok(())
    }
}
