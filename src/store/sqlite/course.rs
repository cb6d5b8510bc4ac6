use super::SqliteDatabase;
use crate::job::{EpochRecord, JobId};
use crate::store::course::CourseRow;
use crate::store::{StoreError, format};
use crate::train::StepMetrics;

/// One index covers these columns, so SQLite reads no `record`.
const COURSE: &str = "\
SELECT epoch, record ->> '$.train_loss' AS train_loss, record ->> '$.train_accuracy' AS train_accuracy,
       record ->> '$.validation_loss' AS validation_loss, record ->> '$.validation_accuracy' AS validation_accuracy,
       record ->> '$.learning_rate' AS learning_rate
FROM job_epochs INDEXED BY job_epochs_course WHERE job_id = $1 AND json_valid(record) ORDER BY epoch";

impl SqliteDatabase {
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

    pub async fn steps(&self, id: JobId, after: u64, last: u64) -> Result<Vec<StepMetrics>, StoreError> {
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

    pub async fn course(&self, id: JobId) -> Result<Vec<CourseRow>, StoreError> {
        Ok(sqlx::query_as(COURSE).bind(id.to_string()).fetch_all(&self.pages).await?)
    }
}
