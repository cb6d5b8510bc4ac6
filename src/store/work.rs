use sqlx::{Sqlite, Transaction};

use super::jobs::JobRow;
use super::models::NewModel;
use super::{PublishedModel, Store, StoreError, committed, from_json, now, row_error, to_json};
use crate::blobs::Blob;
use crate::job::{EpochRecord, Job, JobError, JobId, JobMetrics, JobResult, Progress};
use crate::train::StepMetrics;

/// A job that was given to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub id: JobId,
    /// The attempt, which every write must carry.
    pub attempt: u32,
}

/// What a worker hears back when it reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// Go on.
    GoOn,
    /// Somebody cancelled the job.
    Cancel,
    /// The job belongs to another attempt.
    Fenced,
}

impl Store {
    /// Gives the oldest queued job to the caller.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claim(&self) -> Result<Option<Job>, StoreError> {
        let row: Option<JobRow> = committed(sqlx::query_as(
            "UPDATE jobs SET state = 'running', attempt = attempt + 1, started_at = COALESCE(started_at, $1)
             WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1) AND state = 'queued'
             RETURNING *",
        )
        .bind(now())
        .fetch_all(&self.writer))
        .await?;
        let job = row.map(Job::try_from).transpose()?;
        if let Some(job) = &job {
            self.changed(job.id);
        }
        Ok(job)
    }

    /// Records how far a job is, and hears whether it should go on. The progress is asked for once the
    /// write can begin, so that it is never older than what was written before.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn record_progress(
        &self,
        claim: Claim,
        progress: impl FnOnce() -> Progress,
    ) -> Result<Heartbeat, StoreError> {
        let mut writer = self.writer.acquire().await?;
        let progress = to_json("progress", claim.id, &progress())?;
        let cancelled: Option<bool> = committed(
            sqlx::query_scalar(
                "UPDATE jobs SET progress = $3 WHERE id = $1 AND attempt = $2 AND state = 'running'
             RETURNING cancel_requested",
            )
            .bind(claim.id.to_string())
            .bind(claim.attempt)
            .bind(progress)
            .fetch_all(&mut *writer),
        )
        .await?;
        self.changed(claim.id);
        Ok(match cancelled {
            Some(false) => Heartbeat::GoOn,
            Some(true) => Heartbeat::Cancel,
            None => Heartbeat::Fenced,
        })
    }

    /// Records an epoch with the steps sampled in it and, where one was written, its checkpoint.
    ///
    /// # Errors
    /// Where the database fails, or the job belongs to another attempt.
    pub async fn record_epoch(
        &self,
        claim: Claim,
        epoch: &EpochRecord,
        steps: &[StepMetrics],
        progress: &Progress,
        checkpoint: Option<&Blob>,
    ) -> Result<(), StoreError> {
        let metrics = JobMetrics::from(&epoch.metrics);
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let guard = sqlx::query(
            "UPDATE jobs SET progress = $3, metrics = $4, crashes = 0 WHERE id = $1 AND attempt = $2 AND state = 'running'",
        )
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(to_json("progress", claim.id, progress)?)
        .bind(to_json("metrics", claim.id, &metrics)?)
        .execute(&mut *transaction)
        .await?;
        fence(claim, guard.rows_affected())?;
        sqlx::query(
            "INSERT INTO job_epochs (job_id, epoch, record) VALUES ($1, $2, $3)
             ON CONFLICT (job_id, epoch) DO NOTHING",
        )
        .bind(claim.id.to_string())
        .bind(epoch.metrics.epoch)
        .bind(to_json("epoch", claim.id, epoch)?)
        .execute(&mut *transaction)
        .await?;
        insert_steps(&mut transaction, claim, steps).await?;
        if let Some(blob) = checkpoint {
            let accuracy = epoch.metrics.validation_accuracy;
            insert_checkpoint(&mut transaction, claim, epoch.metrics.epoch, progress.step, accuracy, blob)
                .await?;
        }
        transaction.commit().await?;
        self.changed(claim.id);
        Ok(())
    }

    /// Gives a job back to the queue, with the checkpoint it shall go on from where there is one.
    ///
    /// # Errors
    /// Where the database fails, or the job belongs to another attempt.
    pub async fn requeue(
        &self,
        claim: Claim,
        progress: &Progress,
        steps: &[StepMetrics],
        checkpoint: Option<&Blob>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let guard = sqlx::query(
            "UPDATE jobs SET state = 'queued', progress = $3 WHERE id = $1 AND attempt = $2 AND state = 'running'",
        )
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(to_json("progress", claim.id, progress)?)
        .execute(&mut *transaction)
        .await?;
        fence(claim, guard.rows_affected())?;
        insert_steps(&mut transaction, claim, steps).await?;
        if let Some(blob) = checkpoint {
            insert_checkpoint(&mut transaction, claim, progress.epoch, progress.step, None, blob).await?;
        }
        transaction.commit().await?;
        self.changed(claim.id);
        self.queued.send_replace(());
        Ok(())
    }

    /// Gives a job back to the queue as it is, because its worker can't go on.
    ///
    /// # Errors
    /// Where the database fails, or the job belongs to another attempt.
    pub async fn release(&self, claim: Claim) -> Result<(), StoreError> {
        let guard = sqlx::query(
            "UPDATE jobs SET state = 'queued' WHERE id = $1 AND attempt = $2 AND state = 'running'",
        )
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .execute(&self.writer)
        .await?;
        fence(claim, guard.rows_affected())?;
        self.changed(claim.id);
        self.queued.send_replace(());
        Ok(())
    }

    /// Publishes the model of a job and ends the job, both or neither; `false` where somebody
    /// cancelled it before. `publish` gets the model before anybody can see the job succeeded, so
    /// that whoever does finds the model.
    ///
    /// # Errors
    /// Where the database fails, or the job belongs to another attempt.
    pub async fn succeed(
        &self,
        claim: Claim,
        model: &NewModel,
        progress: &Progress,
        publish: impl FnOnce(PublishedModel),
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let row: Option<(bool, Option<String>)> = sqlx::query_as(
            "SELECT cancel_requested, metrics FROM jobs WHERE id = $1 AND attempt = $2 AND state = 'running'",
        )
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .fetch_optional(&mut *transaction)
        .await?;
        let (is_cancelled, metrics) = row.ok_or(fenced(claim))?;
        if is_cancelled {
            return Ok(false);
        }
        let metrics: Option<JobMetrics> =
            metrics.map(|text| from_json("metrics", &claim.id.to_string(), &text)).transpose()?;
        let metrics = metrics.map(|metrics| JobMetrics {
            test_loss: Some(model.test_loss),
            test_accuracy: Some(model.test_accuracy),
            ..metrics
        });
        let published = model.insert(&mut transaction, claim.id).await?;
        let result = JobResult {
            model: model.name.clone(),
            version: published.row.version,
            test_accuracy: model.test_accuracy,
            test_loss: model.test_loss,
            train_seconds: progress.elapsed_seconds,
        };
        sqlx::query(
            "UPDATE jobs SET state = 'succeeded', finished_at = $2, progress = $3, result = $4, metrics = $5
             WHERE id = $1",
        )
        .bind(claim.id.to_string())
        .bind(now())
        .bind(to_json("progress", claim.id, progress)?)
        .bind(to_json("result", claim.id, &result)?)
        .bind(metrics.map(|metrics| to_json("metrics", claim.id, &metrics)).transpose()?)
        .execute(&mut *transaction)
        .await?;
        publish(published);
        transaction.commit().await?;
        self.changed(claim.id);
        Ok(true)
    }

    /// Ends a job that can't go on.
    ///
    /// # Errors
    /// Where the database fails, or the job belongs to another attempt.
    pub async fn fail(&self, claim: Claim, error: &JobError) -> Result<(), StoreError> {
        self.end(claim, "failed", Some(error)).await
    }

    /// Ends a job that somebody cancelled.
    ///
    /// # Errors
    /// Where the database fails, or the job belongs to another attempt.
    pub async fn end_cancelled(&self, claim: Claim) -> Result<(), StoreError> {
        self.end(claim, "cancelled", None).await
    }

    async fn end(
        &self,
        claim: Claim,
        state: &'static str,
        error: Option<&JobError>,
    ) -> Result<(), StoreError> {
        let error = error.map(|error| to_json("error", claim.id, error)).transpose()?;
        let guard = sqlx::query(
            "UPDATE jobs SET state = $3, finished_at = $4, error = $5
             WHERE id = $1 AND attempt = $2 AND state = 'running'",
        )
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(state)
        .bind(now())
        .bind(error)
        .execute(&self.writer)
        .await?;
        fence(claim, guard.rows_affected())?;
        self.changed(claim.id);
        Ok(())
    }

    /// Puts the jobs of a server that died back in the queue; ends those that somebody had cancelled,
    /// and fails those that were running at `crashes_max` deaths of a server with no epoch between.
    /// For the start, while no worker runs; returns how many there were.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recover(&self, crashes_max: u32) -> Result<u64, StoreError> {
        let error = JobError {
            code: "crash_loop".to_owned(),
            detail: format!("the server died {crashes_max} times while this job ran, with no epoch between"),
        };
        let recovered = sqlx::query(
            "UPDATE jobs SET
                 crashes = crashes + 1,
                 finished_at = CASE WHEN cancel_requested OR crashes + 1 >= $2 THEN $1 ELSE NULL END,
                 error = CASE WHEN NOT cancel_requested AND crashes + 1 >= $2 THEN $3 ELSE NULL END,
                 state = CASE WHEN cancel_requested THEN 'cancelled'
                              WHEN crashes + 1 >= $2 THEN 'failed' ELSE 'queued' END
             WHERE state = 'running'",
        )
        .bind(now())
        .bind(crashes_max)
        .bind(serde_json::to_string(&error).map_err(|error| row_error("error", "a new row", &error))?)
        .execute(&self.writer)
        .await?;
        Ok(recovered.rows_affected())
    }
}

fn fence(claim: Claim, rows: u64) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(fenced(claim)) }
}

fn fenced(claim: Claim) -> StoreError {
    StoreError::Fenced { id: claim.id, attempt: claim.attempt }
}

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

async fn insert_checkpoint(
    transaction: &mut Transaction<'_, Sqlite>,
    claim: Claim,
    epoch: u32,
    step: u64,
    validation_accuracy: Option<f64>,
    blob: &Blob,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO checkpoints
             (job_id, step, epoch, blob_key, size_bytes, sha256, validation_accuracy, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (job_id, step) DO UPDATE SET
             blob_key = excluded.blob_key, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,
             created_at = excluded.created_at",
    )
    .bind(claim.id.to_string())
    .bind(step as i64)
    .bind(epoch)
    .bind(&blob.key)
    .bind(blob.size_bytes as i64)
    .bind(&blob.sha256)
    .bind(validation_accuracy)
    .bind(now())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
