use sqlx::FromRow;

use super::insert::queue_share;
use super::models::is_version;
use super::{Store, StoreError, committed, format, now, row_error, timestamp};
use crate::fault::{self, Point};
use crate::job::{Job, JobId, JobState, Progress};
use crate::train::TrainSpec;

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
            spec: format::read(id, &row.spec)?,
            attempt: u32::try_from(row.attempt).map_err(|error| row_error("attempt", id, &error))?,
            progress: format::read(id, &row.progress)?,
            metrics: format::read_optional(id, row.metrics)?,
            result: format::read_optional(id, row.result)?,
            error: format::read_optional(id, row.error)?,
            created_at: timestamp("created_at", id, row.created_at)?,
            started_at: optional("started_at", row.started_at)?,
            finished_at: optional("finished_at", row.finished_at)?,
            model: row.model,
        })
    }
}

/// Where a list begins: ids are lower-case hex.
const ABOVE_ALL_IDS: &str = "g";

/// The statement of a list, read in its order from an index. A state is written out, or its index could not be used:
/// <https://sqlite.org/partialindex.html>.
macro_rules! list {
    ($from_where:literal) => {
        concat!("SELECT * FROM jobs ", $from_where, " AND id < $2 ORDER BY id DESC LIMIT $3")
    };
}

/// `$1` is the model, if one is asked for.
fn list_of(state: Option<JobState>, of_model: bool) -> &'static str {
    use JobState::{Cancelled, Failed, Queued, Running, Succeeded};
    match (state, of_model) {
        (None, false) => list!("WHERE $1 IS NULL"),
        (None, true) => list!("WHERE model = $1"),
        (Some(Queued), false) => list!("WHERE $1 IS NULL AND finished_at IS NULL AND state = 'queued'"),
        (Some(Queued), true) => list!("WHERE finished_at IS NULL AND state = 'queued' AND model = $1"),
        // As many as workers: they are sorted.
        (Some(Running), false) => list!("INDEXED BY jobs_running WHERE $1 IS NULL AND state = 'running'"),
        (Some(Running), true) => list!("INDEXED BY jobs_running WHERE state = 'running' AND model = $1"),
        (Some(Succeeded), false) => {
            list!("WHERE $1 IS NULL AND finished_at IS NOT NULL AND state = 'succeeded'")
        }
        (Some(Succeeded), true) => {
            list!("WHERE finished_at IS NOT NULL AND state = 'succeeded' AND model = $1")
        }
        (Some(Failed), false) => list!("WHERE $1 IS NULL AND finished_at IS NOT NULL AND state = 'failed'"),
        (Some(Failed), true) => list!("WHERE finished_at IS NOT NULL AND state = 'failed' AND model = $1"),
        (Some(Cancelled), false) => {
            list!("WHERE $1 IS NULL AND finished_at IS NOT NULL AND state = 'cancelled'")
        }
        (Some(Cancelled), true) => {
            list!("WHERE finished_at IS NOT NULL AND state = 'cancelled' AND model = $1")
        }
    }
}

impl Store {
    /// The job called `id`.
    ///
    /// # Errors
    /// If the database fails.
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
    /// If the database fails.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
    ) -> Result<(Vec<Job>, Option<JobId>), StoreError> {
        let before = filter.before.map_or_else(|| ABOVE_ALL_IDS.to_owned(), |id| id.to_string());
        let mut rows: Vec<JobRow> = sqlx::query_as(list_of(filter.state, filter.model.is_some()))
            .bind(&filter.model)
            .bind(before)
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.pages)
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
    /// If the database fails.
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
    /// If the database fails.
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
        let progress = progress.map(|progress| format::write(id, &progress)).transpose()?;
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
    /// If the database fails.
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
                Some(_) if !self.takes_again(id, queue_max).await? => {
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
                     AND (SELECT COUNT(*) FROM jobs AS other
                          WHERE other.client = jobs.client AND other.state = 'queued') < $3
                 RETURNING *",
            )
            .bind(id.to_string())
            .bind(queue_max)
            .bind(queue_share(queue_max))
            .fetch_all(&mut *transaction),
        )
        .await?;
        transaction.commit().await?;
        fault::point(Point::AfterResume);
        row.map(Job::try_from).transpose()
    }

    /// Whether the queue has room for one more job, of the client of this one.
    async fn takes_again(&self, id: JobId, queue_max: u32) -> Result<bool, StoreError> {
        let of_client: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND client = (SELECT client FROM jobs WHERE id = $1)",
        )
        .bind(id.to_string())
        .fetch_one(&self.reader)
        .await?;
        let has_share = of_client < i64::from(queue_share(queue_max));
        Ok(has_share && self.queue_length().await? < u64::from(queue_max))
    }

    /// How many jobs wait in the queue.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn queue_length(&self) -> Result<u64, StoreError> {
        let counts = self.counts().await?;
        Ok(counts.iter().find(|(state, _)| *state == JobState::Queued).map_or(0, |(_, count)| *count))
    }

    /// Deletes a job that has ended, its course and its checkpoints. Its model stays.
    ///
    /// # Errors
    /// If the database fails.
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

    /// Tells that a job has ended.
    pub(super) fn ended(&self, id: JobId) {
        self.pace.ended();
        self.changed(id);
        // The next job of its model may run now.
        self.queued.send_replace(());
    }
}
