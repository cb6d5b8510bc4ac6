use super::row::row;
use super::{Store, StoreError, format, row_error, timestamp};
use crate::job::{Job, JobId, JobState};

/// The jobs to list.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// Only jobs that publish this model.
    pub model: Option<String>,
    /// Only jobs older than this one.
    pub before: Option<JobId>,
}

row! {
    /// The row of a job.
    pub(super) struct JobRow {
        pub(super) id: String,
        state: String,
        owner: String,
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
}

impl TryFrom<JobRow> for Job {
    type Error = StoreError;

    fn try_from(row: JobRow) -> Result<Self, StoreError> {
        let id = row.id.as_str();
        let optional =
            |what, micros: Option<i64>| micros.map(|micros| timestamp(what, id, micros)).transpose();
        Ok(Self {
            id: job_id(id)?,
            state: job_state(id, &row.state)?,
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
            owner: row.owner,
        })
    }
}

/// Parses the id of a job in a row.
pub(super) fn job_id(text: &str) -> Result<JobId, StoreError> {
    text.parse().map_err(|error| row_error("id", text, &error))
}

/// Returns the state with this name, which is in the row of job `id`.
pub(super) fn job_state(id: &str, word: &str) -> Result<JobState, StoreError> {
    JobState::named(word).ok_or_else(|| row_error("state", id, &word))
}

impl Store {
    /// Returns the job with this id.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let row = self.database.job(id).await?;
        row.map(Job::try_from).transpose()
    }

    /// Returns up to `limit` jobs, newest first. If there are more, also returns the id of the last job that
    /// was read. A job whose row can't be parsed is logged and left out.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
    ) -> Result<(Vec<Job>, Option<JobId>), StoreError> {
        let mut rows = self.database.jobs(filter, i64::from(limit) + 1).await?;
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let last = rows.last().filter(|_| has_more).map(|row| job_id(&row.id)).transpose()?;
        let readable = |row: JobRow| {
            let job = Job::try_from(row);
            job.inspect_err(|error| tracing::error!(%error, "a job is left out of a list")).ok()
        };
        Ok((rows.into_iter().filter_map(readable).collect(), last))
    }

    /// Returns the number of jobs in each state.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn counts(&self) -> Result<Vec<(JobState, u64)>, StoreError> {
        let rows = self.database.counts().await?;
        let count = |state: JobState| {
            let count = rows.iter().find(|(word, _)| word == state.as_str()).map_or(0, |(_, count)| *count);
            (state, count.unsigned_abs())
        };
        Ok(JobState::ALL.map(count).to_vec())
    }

    /// Returns the number of queued jobs.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn queue_length(&self) -> Result<u64, StoreError> {
        let counts = self.counts().await?;
        Ok(counts.iter().find(|(state, _)| *state == JobState::Queued).map_or(0, |(_, count)| *count))
    }
}
