use sqlx::FromRow;

use super::{Store, StoreError, committed, from_json, now, row_error, timestamp, to_json};
use crate::job::{EpochRecord, Job, JobHistory, JobId, JobState, Progress};
use crate::train::{StepMetrics, TrainSpec};

/// A job to be accepted.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What it trains.
    pub spec: TrainSpec,
    /// Its progress before the first step.
    pub progress: Progress,
    /// The client's key for this request.
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
}

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// It is cancelled, or will be at its next step.
    Accepted(Job),
    /// It had ended before.
    Ended(Job),
    /// There is no such job.
    Unknown,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Those in this state.
    pub state: Option<JobState>,
    /// Those of this model.
    pub model: Option<String>,
    /// Those older than this one.
    pub before: Option<JobId>,
}

/// The row of a job.
#[derive(FromRow)]
pub(super) struct JobRow {
    id: String,
    state: String,
    model: String,
    spec: String,
    attempt: i64,
    request_sha256: String,
    progress: String,
    metrics: Option<String>,
    result: Option<String>,
    error: Option<String>,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
}

impl TryFrom<JobRow> for Job {
    type Error = StoreError;

    fn try_from(row: JobRow) -> Result<Self, StoreError> {
        let id = row.id.as_str();
        let optional =
            |what, micros: Option<i64>| micros.map(|micros| timestamp(what, id, micros)).transpose();
        Ok(Self {
            id: id.parse().map_err(|error| row_error("id", id, &error))?,
            state: JobState::named(&row.state).ok_or_else(|| row_error("state", id, &row.state))?,
            spec: from_json("spec", id, &row.spec)?,
            attempt: u32::try_from(row.attempt).map_err(|error| row_error("attempt", id, &error))?,
            progress: from_json("progress", id, &row.progress)?,
            metrics: row.metrics.map(|text| from_json("metrics", id, &text)).transpose()?,
            result: row.result.map(|text| from_json("result", id, &text)).transpose()?,
            error: row.error.map(|text| from_json("error", id, &text)).transpose()?,
            created_at: timestamp("created_at", id, row.created_at)?,
            started_at: optional("started_at", row.started_at)?,
            finished_at: optional("finished_at", row.finished_at)?,
            model: row.model,
        })
    }
}

impl Store {
    /// Puts a job in the queue, unless `queue_max` wait there already. It survives a power cut once
    /// this returns.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn insert_job(&self, job: &NewJob, queue_max: u32) -> Result<Inserted, StoreError> {
        let id = JobId::new();
        let row: Option<JobRow> = committed(sqlx::query_as(
            "INSERT INTO jobs (id, state, model, spec, idempotency_key, request_sha256, progress, created_at)
             SELECT $1, 'queued', $2, $3, $4, $5, $6, $7
             WHERE (SELECT COUNT(*) FROM jobs WHERE state = 'queued') < $8
             ON CONFLICT DO NOTHING
             RETURNING *",
        )
        .bind(id.to_string())
        .bind(&job.spec.model)
        .bind(to_json("spec", id, &job.spec)?)
        .bind(&job.idempotency_key)
        .bind(&job.request_sha256)
        .bind(to_json("progress", id, &job.progress)?)
        .bind(now())
        .bind(queue_max)
        .fetch_all(&self.writer))
        .await?;
        match row {
            Some(row) => {
                self.changed(id);
                self.queued.send_replace(());
                Ok(Inserted::Accepted(row.try_into()?))
            }
            None => match &job.idempotency_key {
                Some(key) => {
                    let earlier = self.by_key(key, &job.request_sha256).await?;
                    Ok(earlier.unwrap_or(Inserted::QueueFull))
                }
                None => Ok(Inserted::QueueFull),
            },
        }
    }

    /// What became of an earlier request with this key.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn by_key(&self, key: &str, request_sha256: &str) -> Result<Option<Inserted>, StoreError> {
        let row: Option<JobRow> = sqlx::query_as("SELECT * FROM jobs WHERE idempotency_key = $1")
            .bind(key)
            .fetch_optional(&self.writer)
            .await?;
        row.map(|row| {
            if row.request_sha256 == request_sha256 {
                Ok(Inserted::Repeated(row.try_into()?))
            } else {
                Ok(Inserted::OtherRequest)
            }
        })
        .transpose()
    }

    /// The job called `id`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let row: Option<JobRow> = sqlx::query_as("SELECT * FROM jobs WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await?;
        row.map(Job::try_from).transpose()
    }

    /// Jobs, newest first, `limit` at most. One whose row can't be read is logged and left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>, StoreError> {
        let rows: Vec<JobRow> = sqlx::query_as(
            "SELECT * FROM jobs
             WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR model = $2) AND ($3 IS NULL OR id < $3)
             ORDER BY id DESC LIMIT $4",
        )
        .bind(filter.state.map(JobState::as_str))
        .bind(&filter.model)
        .bind(filter.before.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        let readable = |row: JobRow| {
            let job = Job::try_from(row);
            job.inspect_err(|error| tracing::error!(%error, "a job is left out of a list")).ok()
        };
        Ok(rows.into_iter().filter_map(readable).collect())
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn counts(&self) -> Result<Vec<(JobState, u64)>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetch_all(&self.reader).await?;
        let count = |state: JobState| {
            let count = rows.iter().find(|(word, _)| word == state.as_str()).map_or(0, |(_, count)| *count);
            (state, count.unsigned_abs())
        };
        Ok(JobState::ALL.map(count).to_vec())
    }

    /// Ends a queued job, or asks the worker of a running one to.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn cancel(&self, id: JobId) -> Result<Cancelled, StoreError> {
        let row: Option<JobRow> = committed(
            sqlx::query_as(
                "UPDATE jobs SET
                 cancel_requested = TRUE,
                 finished_at = CASE state WHEN 'queued' THEN $2 ELSE finished_at END,
                 state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END
             WHERE id = $1 AND state IN ('queued', 'running')
             RETURNING *",
            )
            .bind(id.to_string())
            .bind(now())
            .fetch_all(&self.writer),
        )
        .await?;
        match row {
            Some(row) => {
                self.changed(id);
                Ok(Cancelled::Accepted(row.try_into()?))
            }
            None => Ok(self.job(id).await?.map_or(Cancelled::Unknown, Cancelled::Ended)),
        }
    }

    /// The epochs of a job after number `after`, `limit` at most.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn epochs(&self, id: JobId, after: u32, limit: u32) -> Result<Vec<EpochRecord>, StoreError> {
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM job_epochs WHERE job_id = $1 AND epoch > $2 ORDER BY epoch LIMIT $3",
        )
        .bind(id.to_string())
        .bind(after)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|text| from_json("epoch", &id.to_string(), text)).collect()
    }

    /// The recorded course of a job.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn history(&self, id: JobId) -> Result<JobHistory, StoreError> {
        let steps: Vec<(i64, f64, f64)> =
            sqlx::query_as("SELECT step, loss, learning_rate FROM job_steps WHERE job_id = $1 ORDER BY step")
                .bind(id.to_string())
                .fetch_all(&self.reader)
                .await?;
        let steps = steps.into_iter().map(|(step, loss, learning_rate)| StepMetrics {
            step: step.unsigned_abs(),
            loss,
            learning_rate,
        });
        Ok(JobHistory { epochs: self.epochs(id, 0, u32::MAX).await?, steps: steps.collect() })
    }
}
