use super::SqliteDatabase;
use crate::job::{JobId, JobState};
use crate::store::jobs::JobRow;
use crate::store::{JobFilter, StoreError};

/// The cursor for the start of a list. It is greater than every id, since ids are lower-case hex.
const ABOVE_ALL_IDS: &str = "g";

/// The statement of a list. It reads the rows in the order of an index. The state is a literal,
/// because SQLite can use the partial index only then: <https://sqlite.org/partialindex.html>.
macro_rules! list {
    ($from_where:literal) => {
        concat!("SELECT *, client AS owner FROM jobs ", $from_where, " AND id < $2 ORDER BY id DESC LIMIT $3")
    };
}

/// `$1` is the model, if there is one.
fn list_of(state: Option<JobState>, of_model: bool) -> &'static str {
    use JobState::{Cancelled, Failed, Queued, Running, Succeeded};
    match (state, of_model) {
        (None, false) => list!("WHERE $1 IS NULL"),
        (None, true) => list!("WHERE model = $1"),
        (Some(Queued), false) => list!("WHERE $1 IS NULL AND finished_at IS NULL AND state = 'queued'"),
        (Some(Queued), true) => list!("WHERE finished_at IS NULL AND state = 'queued' AND model = $1"),
        // There are only as many running jobs as workers, so sorting them is cheap.
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

impl SqliteDatabase {
    pub async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        Ok(sqlx::query_as("SELECT *, client AS owner FROM jobs WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await?)
    }

    pub async fn jobs(&self, filter: &JobFilter, limit: i64) -> Result<Vec<JobRow>, StoreError> {
        let before = filter.before.map_or_else(|| ABOVE_ALL_IDS.to_owned(), |id| id.to_string());
        Ok(sqlx::query_as(list_of(filter.state, filter.model.is_some()))
            .bind(&filter.model)
            .bind(before)
            .bind(limit)
            .fetch_all(&self.pages)
            .await?)
    }

    pub async fn counts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(sqlx::query_as("SELECT state, jobs FROM job_counts").fetch_all(&self.reader).await?)
    }
}
