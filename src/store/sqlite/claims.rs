use sqlx::{Sqlite, Transaction};

use super::checkpoints::insert_checkpoint;
use super::guard::{fence, fenced, guarded};
use super::models::insert_model;
use super::{SqliteDatabase, committed};
use crate::job::{JobError, JobMetrics, JobResult, JobState, Progress};
use crate::model::ModelSource;
use crate::store::claims::tested;
use crate::store::jobs::{JobRow, job_id, job_state};
use crate::store::{Claim, Held, NewModel, PublishedModel, Recorded, StoreError, format, now};
use crate::train::StepMetrics;

impl SqliteDatabase {
    pub async fn has_waiting(&self) -> Result<bool, StoreError> {
        let waiting: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM jobs WHERE state = 'queued' AND is_next LIMIT 1")
                .fetch_optional(&self.reader)
                .await?;
        Ok(waiting.is_some())
    }

    pub async fn claim(&self) -> Result<Option<JobRow>, StoreError> {
        Ok(committed(
            sqlx::query_as(
                "UPDATE jobs SET state = 'running', attempt = attempt + 1, beat = beat + 1,
                     started_at = COALESCE(started_at, $1)
                 WHERE id = (SELECT id FROM jobs WHERE state = 'queued' AND is_next
                             ORDER BY priority DESC, turn, sequence LIMIT 1) AND state = 'queued'
                 RETURNING *, client AS owner",
            )
            .bind(now())
            .fetch_all(&self.writer),
        )
        .await?)
    }

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

    pub async fn held(&self) -> Result<Vec<Held>, StoreError> {
        let rows: Vec<(String, u32, i64)> =
            sqlx::query_as("SELECT id, attempt, beat FROM jobs WHERE state = 'running'")
                .fetch_all(&self.reader)
                .await?;
        rows.into_iter()
            .map(|(id, attempt, beat)| Ok(Held { claim: Claim { id: job_id(&id)?, attempt }, beat }))
            .collect()
    }

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
            insert_checkpoint(&mut transaction, claim, checkpoint).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub async fn release(&self, claim: Claim) -> Result<(), StoreError> {
        let guard = sqlx::query(guarded(
            "UPDATE jobs SET state = 'queued' WHERE id = $1 AND attempt = $2 AND state = 'running'",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .execute(&self.writer)
        .await?;
        fence(claim, guard.rows_affected())
    }

    pub async fn rescue(
        &self,
        held: Held,
        crashes_max: u32,
        error: &JobError,
    ) -> Result<Option<JobState>, StoreError> {
        let id = held.claim.id.to_string();
        let state: Option<String> = committed(
            sqlx::query_scalar(
                "UPDATE jobs SET
                     crashes = crashes + 1,
                     finished_at = CASE WHEN crashes + 1 >= $4 THEN $5 ELSE NULL END,
                     error = CASE WHEN crashes + 1 >= $4 THEN $6 ELSE NULL END,
                     state = CASE WHEN crashes + 1 >= $4 THEN 'failed' ELSE 'queued' END
                 WHERE id = $1 AND attempt = $2 AND beat = $3 AND state = 'running'
                 RETURNING state",
            )
            .bind(&id)
            .bind(held.claim.attempt)
            .bind(held.beat)
            .bind(crashes_max)
            .bind(now())
            .bind(format::write(&id, error)?)
            .fetch_all(&self.writer),
        )
        .await?;
        state.map(|state| job_state(&id, &state)).transpose()
    }

    pub async fn succeed(
        &self,
        claim: Claim,
        model: &NewModel,
        result: &JobResult,
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
        let metrics = metrics.map(|metrics| tested(metrics, result));
        let origin = (ModelSource::Job, Some(claim.id));
        let Some(published) =
            insert_model(&mut transaction, &owner, origin, model, Some(result.test_accuracy)).await?
        else {
            return Ok(None);
        };
        let guard = sqlx::query(guarded(
            "UPDATE jobs SET state = 'succeeded', finished_at = $3, progress = $4, result = $5, metrics = $6
             WHERE id = $1 AND attempt = $2 AND state = 'running'",
        ))
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(now())
        .bind(format::write(claim.id, progress)?)
        .bind(format::write(claim.id, result)?)
        .bind(metrics.map(|metrics| format::write(claim.id, &metrics)).transpose()?)
        .execute(&mut *transaction)
        .await?;
        fence(claim, guard.rows_affected())?;
        transaction.commit().await?;
        Ok(Some(published))
    }

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
        fence(claim, guard.rows_affected())
    }
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
