use std::time::Duration;

use super::SqliteDatabase;
use crate::store::jobs::job_id;
use crate::store::{Ended, EndedPosition, StoreError, ago};

/// How many jobs one query returns.
const AT_A_TIME: u32 = 100;

impl SqliteDatabase {
    pub async fn ended_beyond(&self, keep: u64, after: EndedPosition) -> Result<Vec<Ended>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT id, finished_at, sequence FROM jobs INDEXED BY jobs_ended
             WHERE finished_at IS NOT NULL AND sequence > $1 AND sequence <=
                 (SELECT sequence FROM jobs INDEXED BY jobs_ended WHERE finished_at IS NOT NULL
                  ORDER BY sequence DESC LIMIT 1 OFFSET $2)
             ORDER BY sequence LIMIT $3",
        )
        .bind(after.sequence)
        .bind(i64::try_from(keep).unwrap_or(i64::MAX))
        .bind(AT_A_TIME)
        .fetch_all(&self.pages)
        .await?;
        ended(rows)
    }

    pub async fn ended_for(&self, age: Duration, after: EndedPosition) -> Result<Vec<Ended>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT id, finished_at, sequence FROM jobs INDEXED BY jobs_ended_at
             WHERE finished_at < $1 AND (finished_at, sequence) > ($2, $3)
             ORDER BY finished_at, sequence LIMIT $4",
        )
        .bind(ago(age))
        .bind(after.finished_at)
        .bind(after.sequence)
        .bind(AT_A_TIME)
        .fetch_all(&self.pages)
        .await?;
        ended(rows)
    }
}

fn ended(rows: Vec<(String, i64, i64)>) -> Result<Vec<Ended>, StoreError> {
    let ended = |(id, finished_at, sequence): (String, i64, i64)| {
        Ok(Ended { id: job_id(&id)?, position: EndedPosition { finished_at, sequence } })
    };
    rows.into_iter().map(ended).collect()
}
