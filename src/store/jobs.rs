use std::time::Duration;

use sqlx::FromRow;

use super::models::is_version;
use super::{Store, StoreError, committed, from_json, now, row_error, timestamp, to_json};
use crate::fault::{self, Point};
use crate::job::{EpochRecord, Job, JobHistory, JobId, JobState, Progress};
use crate::train::{StepMetrics, TrainSpec};

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// It is cancelled.
    Accepted(Job),
    /// It had ended before.
    Ended(Job),
    /// There is no such job.
    Unknown,
}

/// What became of a wish to resume.
#[derive(Clone, Debug, PartialEq)]
pub enum Resumed {
    /// It is in the queue.
    Accepted(Job),
    /// It is in the queue, runs or has succeeded.
    NotStopped(Job),
    /// The queue is full.
    QueueFull,
    /// The version that it starts from has been deleted.
    InitialModelGone,
    /// There is no such job.
    Unknown,
}

/// What became of a wish to delete.
#[derive(Clone, Debug, PartialEq)]
pub enum Deleted {
    /// It is gone; the bytes under these keys are named by nobody any more.
    Gone(Vec<String>),
    /// It has not ended, but is in this state.
    NotEnded(JobState),
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
    pub(super) id: String,
    state: String,
    model: String,
    spec: String,
    attempt: i64,
    pub(super) request_sha256: String,
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
    /// The job called `id`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let row: Option<JobRow> = sqlx::query_as("SELECT * FROM jobs WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.map(Job::try_from).transpose()?.map(|job| self.live.on(job)))
    }

    /// Jobs, newest first, `limit` at most, and the last one looked at where there are more. One whose row can't be read is
    /// logged and left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
    ) -> Result<(Vec<Job>, Option<JobId>), StoreError> {
        let mut rows: Vec<JobRow> = sqlx::query_as(
            "SELECT * FROM jobs
             WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR model = $2) AND ($3 IS NULL OR id < $3)
             ORDER BY id DESC LIMIT $4",
        )
        .bind(filter.state.map(JobState::as_str))
        .bind(&filter.model)
        .bind(filter.before.map(|id| id.to_string()))
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.reader)
        .await?;
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let last = rows.last().filter(|_| has_more).map(|row| row.id.parse());
        let last = last.transpose().map_err(|error| row_error("id", "a job", &error))?;
        let readable = |row: JobRow| {
            let job = Job::try_from(row);
            let job = job.inspect_err(|error| tracing::error!(%error, "a job is left out of a list"));
            job.ok().map(|job| self.live.on(job))
        };
        Ok((rows.into_iter().filter_map(readable).collect(), last))
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn counts(&self) -> Result<Vec<(JobState, u64)>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, jobs FROM job_counts").fetch_all(&self.reader).await?;
        let count = |state: JobState| {
            let count = rows.iter().find(|(word, _)| word == state.as_str()).map_or(0, |(_, count)| *count);
            (state, count.unsigned_abs())
        };
        Ok(JobState::ALL.map(count).to_vec())
    }

    /// Ends a job that has not ended; the worker of one that runs stops when it hears of it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn cancel(&self, id: JobId) -> Result<Cancelled, StoreError> {
        loop {
            if let Some(job) = self.try_cancel(id).await? {
                self.ended(id);
                return Ok(Cancelled::Accepted(job));
            }
            match self.job(id).await? {
                None => return Ok(Cancelled::Unknown),
                Some(job) if job.state.is_ended() => return Ok(Cancelled::Ended(job)),
                // It was resumed in between.
                Some(_) => {}
            }
        }
    }

    async fn try_cancel(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let live = self.live.of(id);
        let progress = live.map(|(_, progress)| Progress { waiting_for_disk: false, ..progress });
        let progress = progress.map(|progress| to_json("progress", id, &progress)).transpose()?;
        let row: Option<JobRow> = committed(
            sqlx::query_as(
                "UPDATE jobs SET state = 'cancelled', finished_at = $2,
                     progress = CASE WHEN state = 'running' AND attempt = $3 THEN $4 ELSE progress END
                 WHERE id = $1 AND state IN ('queued', 'running')
                 RETURNING *",
            )
            .bind(id.to_string())
            .bind(now())
            .bind(live.map(|(attempt, _)| attempt))
            .bind(progress)
            .fetch_all(&self.writer),
        )
        .await?;
        fault::point(Point::AfterCancel);
        row.map(Job::try_from).transpose()
    }

    /// Puts a job that failed or was cancelled back in the queue, behind those of its model that wait.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn resume(&self, id: JobId, queue_max: u32) -> Result<Resumed, StoreError> {
        loop {
            if let Some(job) = self.try_resume(id, queue_max).await? {
                self.changed(id);
                self.queued.send_replace(());
                return Ok(Resumed::Accepted(job));
            }
            match self.job(id).await? {
                None => return Ok(Resumed::Unknown),
                Some(job) if !matches!(job.state, JobState::Failed | JobState::Cancelled) => {
                    return Ok(Resumed::NotStopped(job));
                }
                Some(Job { spec: TrainSpec { initial_model: Some(model), .. }, .. })
                    if !is_version(&mut *self.reader.acquire().await?, &model).await? =>
                {
                    return Ok(Resumed::InitialModelGone);
                }
                Some(_) if self.queue_length().await? >= u64::from(queue_max) => {
                    return Ok(Resumed::QueueFull);
                }
                // It was stopped, or the queue had room, in between.
                Some(_) => {}
            }
        }
    }

    async fn try_resume(&self, id: JobId, queue_max: u32) -> Result<Option<Job>, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let initial_model: Option<String> =
            sqlx::query_scalar("SELECT initial_model FROM jobs WHERE id = $1 AND initial_model IS NOT NULL")
                .bind(id.to_string())
                .fetch_optional(&mut *transaction)
                .await?;
        if let Some(initial_model) = initial_model
            && !is_version(&mut transaction, &initial_model).await?
        {
            return Ok(None);
        }
        let row: Option<JobRow> = committed(
            sqlx::query_as(
                "UPDATE jobs SET
                     state = 'queued', error = NULL, finished_at = NULL, crashes = 0,
                     sequence = (SELECT MAX(sequence) + 1 FROM jobs),
                     turn = COALESCE(
                         (SELECT MAX(turn) + 1 FROM jobs AS other WHERE other.client = jobs.client
                              AND other.priority = jobs.priority AND other.state = 'queued'),
                         (SELECT turn + 1 FROM turns WHERE turns.priority = jobs.priority), 0),
                     is_next = NOT EXISTS (SELECT 1 FROM jobs AS other
                          WHERE other.model = jobs.model AND other.state IN ('queued', 'running'))
                 WHERE id = $1 AND state IN ('failed', 'cancelled')
                     AND (SELECT jobs FROM job_counts WHERE state = 'queued') < $2
                 RETURNING *",
            )
            .bind(id.to_string())
            .bind(queue_max)
            .fetch_all(&mut *transaction),
        )
        .await?;
        transaction.commit().await?;
        fault::point(Point::AfterResume);
        row.map(Job::try_from).transpose()
    }

    /// How many jobs wait in the queue.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn queue_length(&self) -> Result<u64, StoreError> {
        let counts = self.counts().await?;
        Ok(counts.iter().find(|(state, _)| *state == JobState::Queued).map_or(0, |(_, count)| *count))
    }

    /// Deletes a job that has ended, its course and its checkpoints. Its model stays.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_job(&self, id: JobId) -> Result<Deleted, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        // Of a row that can't be read no more is needed to delete it.
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM jobs WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(state) = state else { return Ok(Deleted::Unknown) };
        let state = JobState::named(&state).ok_or_else(|| row_error("state", &id.to_string(), &state))?;
        if !state.is_ended() {
            return Ok(Deleted::NotEnded(state));
        }
        let keys = sqlx::query_scalar("SELECT blob_key FROM checkpoints WHERE job_id = $1")
            .bind(id.to_string())
            .fetch_all(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM jobs WHERE id = $1").bind(id.to_string()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        fault::point(Point::AfterDelete);
        self.changed(id);
        Ok(Deleted::Gone(keys))
    }

    /// The jobs that ended before the newest `keep` of those that have.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn ended_beyond(&self, keep: u64) -> Result<Vec<JobId>, StoreError> {
        self.ids(
            sqlx::query_scalar(
                "SELECT id FROM jobs WHERE state IN ('succeeded', 'failed', 'cancelled')
                 ORDER BY sequence DESC LIMIT -1 OFFSET $1",
            )
            .bind(i64::try_from(keep).unwrap_or(i64::MAX)),
        )
        .await
    }

    /// The jobs that ended longer ago than `age`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn ended_for(&self, age: Duration) -> Result<Vec<JobId>, StoreError> {
        self.ids(
            sqlx::query_scalar(
                "SELECT id FROM jobs WHERE state IN ('succeeded', 'failed', 'cancelled') AND finished_at < $1",
            )
            .bind(now().saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))),
        )
        .await
    }

    async fn ids(
        &self,
        query: sqlx::query::QueryScalar<'_, sqlx::Sqlite, String, sqlx::sqlite::SqliteArguments>,
    ) -> Result<Vec<JobId>, StoreError> {
        let ids = query.fetch_all(&self.reader).await?;
        ids.iter().map(|id| id.parse().map_err(|error| row_error("id", id, &error))).collect()
    }

    /// Tells that a job has ended.
    pub(super) fn ended(&self, id: JobId) {
        self.pace.ended();
        self.changed(id);
        // The next job of its model may run now.
        self.queued.send_replace(());
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
