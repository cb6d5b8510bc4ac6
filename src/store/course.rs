use sqlx::FromRow;

use super::{Store, StoreError, format, row_error};
use crate::job::{EpochRecord, JobHistory, JobId};
use crate::train::{EpochMetrics, StepMetrics};

/// An epoch without its layers, as its index has it.
#[derive(FromRow)]
struct CourseRow {
    epoch: i64,
    train_loss: f64,
    train_accuracy: f64,
    validation_loss: Option<f64>,
    validation_accuracy: Option<f64>,
    learning_rate: f64,
}

impl Store {
    /// The epochs of a job after number `after`, `limit` at most.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn epochs(&self, id: JobId, after: u32, limit: u32) -> Result<Vec<EpochRecord>, StoreError> {
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM job_epochs WHERE job_id = $1 AND epoch > $2 ORDER BY epoch LIMIT $3",
        )
        .bind(id.to_string())
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pages)
        .await?;
        rows.iter().map(|text| format::read(id, text)).collect()
    }

    /// The sampled steps of a job after number `after` and up to `last`: some thousand at most are kept of a job.
    async fn steps(&self, id: JobId, after: u64, last: u64) -> Result<Vec<StepMetrics>, StoreError> {
        let number = |step| i64::try_from(step).unwrap_or(i64::MAX);
        let steps: Vec<(i64, f64, f64)> = sqlx::query_as(
            "SELECT step, loss, learning_rate FROM job_steps
             WHERE job_id = $1 AND step > $2 AND step <= $3 ORDER BY step",
        )
        .bind(id.to_string())
        .bind(number(after))
        .bind(number(last))
        .fetch_all(&self.pages)
        .await?;
        let step = |(step, loss, learning_rate): (i64, f64, f64)| StepMetrics {
            step: step.unsigned_abs(),
            loss,
            learning_rate,
        };
        Ok(steps.into_iter().map(step).collect())
    }

    /// The recorded course of a job after epoch `after`: `limit` epochs at most, the sampled steps of these epochs, and the last
    /// epoch of them where there are more. The newest epochs come with the steps of the one that runs.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn history(
        &self,
        id: JobId,
        after: u32,
        limit: u32,
        steps_per_epoch: u64,
    ) -> Result<(JobHistory, Option<u32>), StoreError> {
        let mut epochs = self.epochs(id, after, limit.saturating_add(1)).await?;
        let has_more = epochs.len() > limit as usize;
        epochs.truncate(limit as usize);
        let next = epochs.last().filter(|_| has_more).map(|epoch| epoch.metrics.epoch);
        let steps_of = |epoch: u32| u64::from(epoch).saturating_mul(steps_per_epoch);
        let steps = self.steps(id, steps_of(after), next.map_or(u64::MAX, steps_of)).await?;
        Ok((JobHistory { epochs, steps }, next))
    }

    /// The figures of every epoch of a job, of the newest with its layers, of the others without: a small part of what is
    /// recorded.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn course(&self, id: JobId) -> Result<Vec<EpochMetrics>, StoreError> {
        let rows: Vec<CourseRow> = sqlx::query_as(COURSE).bind(id.to_string()).fetch_all(&self.pages).await?;
        let metrics = |row: CourseRow| {
            Ok(EpochMetrics {
                epoch: u32::try_from(row.epoch)
                    .map_err(|error| row_error("epoch", &id.to_string(), &error))?,
                train_loss: row.train_loss,
                train_accuracy: row.train_accuracy,
                validation_loss: row.validation_loss,
                validation_accuracy: row.validation_accuracy,
                learning_rate: row.learning_rate,
                layers: Vec::new(),
            })
        };
        let mut epochs = rows.into_iter().map(metrics).collect::<Result<Vec<_>, StoreError>>()?;
        if let Some(last) = epochs.last_mut()
            && let Some(whole) = self.epochs(id, last.epoch.saturating_sub(1), 1).await?.pop()
        {
            *last = whole.metrics;
        }
        Ok(epochs)
    }
}

/// All of it is in one index, so that no record is read.
const COURSE: &str = "\
SELECT epoch, record ->> '$.train_loss' AS train_loss, record ->> '$.train_accuracy' AS train_accuracy,
       record ->> '$.validation_loss' AS validation_loss, record ->> '$.validation_accuracy' AS validation_accuracy,
       record ->> '$.learning_rate' AS learning_rate
FROM job_epochs INDEXED BY job_epochs_course WHERE job_id = $1 AND json_valid(record) ORDER BY epoch";
