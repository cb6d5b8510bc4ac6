use sqlx::{Sqlite, Transaction};

use super::guard::{fence, fenced, guarded};
use super::jobs::JobRow;
use super::models::NewModel;
use super::{NewCheckpoint, PublishedModel, Store, StoreError, committed, format, now};
use crate::fault::{self, Point};
use crate::job::{EpochRecord, Job, JobError, JobId, JobMetrics, JobResult, Progress};
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

impl Store {
    /// Gives the job whose turn it is to the caller: of the highest priority, then by turns of the clients. Jobs of
    /// one model run one after the other, in the order of their submission.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim(&self) -> Result<Option<Job>, StoreError> {
        let waiting: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM jobs WHERE state = 'queued' AND is_next LIMIT 1")
                .fetch_optional(&self.reader)
                .await?;
        if waiting.is_none() {
            return Ok(None);
        }
        let row: Option<JobRow> =
            committed(sqlx::query_as(CLAIM).bind(now()).fetch_all(&self.writer)).await?;
        let job = row.map(Job::try_from).transpose()?;
        if let Some(job) = &job {
            self.changed(job.id);
            fault::point(Point::AfterClaim);
        }
        Ok(job)
    }

    /// How SQLite finds the next job, <https://sqlite.org/eqp.html>.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn plan_of_claim(&self) -> Result<Vec<String>, StoreError> {
        let plan = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {CLAIM}"));
        let rows: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(plan).bind(now()).fetch_all(&self.writer).await?;
        Ok(rows.into_iter().map(|(.., detail)| detail).collect())
    }

    /// Tells this process how far a job is.
    pub fn tell(&self, claim: Claim, progress: Progress) {
        self.live.set(claim, progress);
        self.changed(claim.id);
    }

    /// Whether this process holds a job: it tells how far it is.
    pub fn is_told(&self, claim: Claim) -> bool {
        self.live.of(claim.id).is_some_and(|(attempt, _)| attempt == claim.attempt)
    }

    /// Forgets what was told.
    pub fn forget(&self, claim: Claim) {
        self.live.forget(claim);
    }

    /// Renews the lease of a job and records how far it is.
    ///
    /// # Errors
    /// If the database fails, or the job belongs to another attempt.
    pub async fn renew(&self, claim: Claim, progress: &Progress) -> Result<(), StoreError> {
        let guard = sqlx::query(guarded(
            "UPDATE jobs SET progress = $3, beat = beat + 1 WHERE id = $1 AND attempt = $2 AND state = 'running'",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(format::write(claim.id, progress)?)
        .execute(&self.writer)
        .await?;
        fence(claim, guard.rows_affected())
    }

    /// Whether a job still belongs to this attempt.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_held(&self, claim: Claim) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar(guarded(
            "SELECT 1 FROM jobs WHERE id = $1 AND attempt = $2 AND state = 'running'",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .fetch_optional(&self.reader)
        .await?;
        Ok(found.is_some())
    }

    /// Records epochs, steps and checkpoints of a job. A checkpoint shows that the job can go on: deaths of its
    /// process are counted anew from there.
    ///
    /// # Errors
    /// If the database fails, or the job belongs to another attempt.
    pub async fn record(&self, claim: Claim, recorded: &Recorded) -> Result<(), StoreError> {
        let metrics = recorded.epochs.last().map(|epoch| JobMetrics::from(&epoch.metrics));
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let guard = sqlx::query(guarded(
            "UPDATE jobs SET progress = $3, metrics = COALESCE($4, metrics), beat = beat + 1,
                 crashes = CASE WHEN $5 THEN 0 ELSE crashes END
             WHERE id = $1 AND attempt = $2 AND state = 'running'",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(format::write(claim.id, &recorded.progress)?)
        .bind(metrics.map(|metrics| format::write(claim.id, &metrics)).transpose()?)
        .bind(!recorded.checkpoints.is_empty())
        .execute(&mut *transaction)
        .await?;
        fence(claim, guard.rows_affected())?;
        for epoch in &recorded.epochs {
            sqlx::query(
                "INSERT INTO job_epochs (job_id, epoch, record) VALUES ($1, $2, $3)
                 ON CONFLICT (job_id, epoch) DO NOTHING",
            )
            .bind(claim.id.to_string())
            .bind(epoch.metrics.epoch)
            .bind(format::write(claim.id, epoch)?)
            .execute(&mut *transaction)
            .await?;
        }
        insert_steps(&mut transaction, claim, &recorded.steps).await?;
        for checkpoint in &recorded.checkpoints {
            checkpoint.insert(&mut transaction, claim).await?;
        }
        transaction.commit().await?;
        fault::point(Point::AfterRecord);
        self.changed(claim.id);
        Ok(())
    }

    /// Gives a job back to the queue: its worker can't go on, or its server stops.
    ///
    /// # Errors
    /// If the database fails, or the job belongs to another attempt.
    pub async fn release(&self, claim: Claim) -> Result<(), StoreError> {
        let guard = sqlx::query(guarded(
            "UPDATE jobs SET state = 'queued' WHERE id = $1 AND attempt = $2 AND state = 'running'",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .execute(&self.writer)
        .await?;
        fence(claim, guard.rows_affected())?;
        fault::point(Point::AfterRelease);
        self.changed(claim.id);
        self.queued.send_replace(());
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
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let row: Option<(Option<String>, String)> = sqlx::query_as(guarded(
            "SELECT metrics, client FROM jobs WHERE id = $1 AND attempt = $2 AND state = 'running'",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .fetch_optional(&mut *transaction)
        .await?;
        let (metrics, owner) = row.ok_or(fenced(claim))?;
        let metrics: Option<JobMetrics> = format::read_optional(claim.id, metrics)?;
        let metrics = metrics.map(|metrics| JobMetrics {
            test_loss: Some(model.test_loss),
            test_accuracy: Some(model.test_accuracy),
            ..metrics
        });
        let Some(published) = model.insert(&mut transaction, claim.id, &owner).await? else {
            return Ok(None);
        };
        let result = JobResult {
            model: model.name.clone(),
            version: published.row.version,
            test_accuracy: model.test_accuracy,
            test_loss: model.test_loss,
            train_seconds: progress.elapsed_seconds,
        };
        let guard = sqlx::query(guarded(
            "UPDATE jobs SET state = 'succeeded', finished_at = $3, progress = $4, result = $5, metrics = $6
             WHERE id = $1 AND attempt = $2 AND state = 'running'",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(now())
        .bind(format::write(claim.id, progress)?)
        .bind(format::write(claim.id, &result)?)
        .bind(metrics.map(|metrics| format::write(claim.id, &metrics)).transpose()?)
        .execute(&mut *transaction)
        .await?;
        fence(claim, guard.rows_affected())?;
        transaction.commit().await?;
        fault::point(Point::AfterPublish);
        Ok(Some(published))
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
        let guard = sqlx::query(guarded(
            "UPDATE jobs SET state = 'failed', finished_at = $3, error = $4
             WHERE id = $1 AND attempt = $2 AND state = 'running'",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(now())
        .bind(format::write(claim.id, error)?)
        .execute(&self.writer)
        .await?;
        fence(claim, guard.rows_affected())?;
        self.ended(claim.id);
        Ok(())
    }
}

const CLAIM: &str = "\
UPDATE jobs SET state = 'running', attempt = attempt + 1, beat = beat + 1, started_at = COALESCE(started_at, $1)
WHERE id = (SELECT id FROM jobs WHERE state = 'queued' AND is_next
            ORDER BY priority DESC, turn, sequence LIMIT 1) AND state = 'queued'
RETURNING *";

async fn insert_steps(
    transaction: &mut Transaction<'_, Sqlite>,
    claim: Claim,
    steps: &[StepMetrics],
) -> Result<(), StoreError> {
    for step in steps {
        sqlx::query(
            "INSERT INTO job_steps (job_id, step, loss, learning_rate) VALUES ($1, $2, $3, $4)
             ON CONFLICT (job_id, step) DO NOTHING",
        )
        .bind(claim.id.to_string())
        .bind(step.step as i64)
        .bind(step.loss)
        .bind(step.learning_rate)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}
