use std::collections::{HashMap, HashSet};

use sqlx::pool::PoolConnection;
use sqlx::{Connection, Sqlite, SqliteConnection};

use super::models::is_version;
use super::{SqliteDatabase, committed};
use crate::job::JobId;
use crate::store::insert::{InsertedEach, Key, NewRow, given, initial_models};
use crate::store::jobs::{JobRow, job_state};
use crate::store::{Deleted, StoreError, now, queue_share};

/// The only connection that writes.
pub struct SqliteWriter(PoolConnection<Sqlite>);

impl SqliteWriter {
    /// Inserts all rows in one commit.
    pub async fn insert(&mut self, batch: &[&NewRow]) -> Result<InsertedEach, StoreError> {
        let initial_models = initial_models(batch);
        if initial_models.is_empty() {
            return insert_but(&mut self.0, batch, &HashSet::new()).await;
        }
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await?;
        let mut gone = HashSet::new();
        for initial_model in initial_models {
            if !is_version(&mut transaction, initial_model).await? {
                gone.insert(initial_model);
            }
        }
        let inserted = insert_but(&mut transaction, batch, &gone).await?;
        transaction.commit().await?;
        Ok(inserted)
    }
}

/// Inserts all rows with one statement, except jobs whose initial version is gone.
async fn insert_but(
    writer: &mut SqliteConnection,
    batch: &[&NewRow],
    gone: &HashSet<&str>,
) -> Result<InsertedEach, StoreError> {
    let given = given(batch, gone);
    let rows: Vec<JobRow> = sqlx::query_as(INSERT).bind(given).bind(now()).fetch_all(&mut *writer).await?;
    let mut rows: HashMap<String, JobRow> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut inserted = Vec::with_capacity(batch.len());
    for new in batch {
        let row = rows.remove(&new.id.to_string());
        let earlier = match &new.key {
            Some(key) if row.is_none() => earlier(writer, key).await,
            _ => Ok(None),
        };
        inserted.push(earlier.and_then(|earlier| new.result(row, earlier, gone)));
    }
    Ok(inserted)
}

/// Owners take turns by start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM
/// 1996). The jobs of one priority run in the order of their turns. An owner's next job gets the turn after
/// the owner's last one in the queue. If the owner has none there, the job gets the turn after the last one
/// that a worker claimed. So owners that keep posting never overtake one that waits. The column of the owner is
/// called `client`.
///
/// The statement sees the rows of `jobs` before the batch. `ROW_NUMBER` counts the jobs of the batch itself.
const INSERT: &str = "
    WITH given AS (
        SELECT key AS place,
               value ->> 'id' AS id, value ->> 'model' AS model, value ->> 'spec' AS spec,
               value ->> 'idempotency_key' AS idempotency_key, value ->> 'bare_key' AS bare_key,
               value ->> 'request_sha256' AS request_sha256,
               value ->> 'progress' AS progress, value ->> 'initial_model' AS initial_model,
               value ->> 'priority' AS priority, value ->> 'owner' AS owner, value ->> 'queue_max' AS queue_max
        FROM json_each($1)
    ),
    asked AS MATERIALIZED (
        SELECT *, ROW_NUMBER() OVER (PARTITION BY owner ORDER BY place) AS of_owner
        FROM given
        WHERE NOT EXISTS (SELECT 1 FROM jobs
                          WHERE jobs.idempotency_key IN (given.idempotency_key, given.bare_key))
    ),
    held AS MATERIALIZED (
        SELECT owner, (SELECT COUNT(*) FROM jobs WHERE jobs.client = asked.owner AND jobs.state = 'queued') AS jobs
        FROM asked WHERE of_owner = 1
    ),
    new AS (
        SELECT asked.*, ROW_NUMBER() OVER (ORDER BY place) AS number
        FROM asked JOIN held USING (owner)
        WHERE held.jobs + of_owner <= (queue_max + 1) / 2
    )
    INSERT INTO jobs (id, state, model, spec, idempotency_key, request_sha256, progress, created_at,
                      initial_model, priority, client, sequence, turn, is_next)
    SELECT id, 'queued', model, spec, idempotency_key, request_sha256, progress, $2, initial_model, priority, owner,
           (SELECT COALESCE(MAX(sequence), 0) FROM jobs) + number,
           COALESCE((SELECT MAX(turn) FROM jobs
                     WHERE jobs.client = new.owner AND jobs.priority = new.priority AND jobs.state = 'queued'),
                    (SELECT turn FROM turns WHERE turns.priority = new.priority), -1)
               + ROW_NUMBER() OVER (PARTITION BY owner, priority ORDER BY number),
           ROW_NUMBER() OVER (PARTITION BY model ORDER BY number) = 1
               AND NOT EXISTS (SELECT 1 FROM jobs
                               WHERE jobs.model = new.model AND jobs.state IN ('queued', 'running'))
    FROM new
    WHERE (SELECT jobs FROM job_counts WHERE state = 'queued') + number <= queue_max
    ORDER BY number
    RETURNING *, client AS owner";

/// Returns the row of an earlier request with this key.
async fn earlier(connection: &mut SqliteConnection, key: &Key) -> Result<Option<JobRow>, StoreError> {
    Ok(sqlx::query_as("SELECT *, client AS owner FROM jobs WHERE idempotency_key IN ($1, $2) LIMIT 1")
        .bind(&key.own)
        .bind(&key.bare)
        .fetch_optional(connection)
        .await?)
}

impl SqliteDatabase {
    /// Waits for the connection that writes.
    pub async fn writer(&self) -> Result<SqliteWriter, StoreError> {
        Ok(SqliteWriter(self.writer.acquire().await?))
    }

    pub async fn earlier(&self, key: &Key) -> Result<Option<JobRow>, StoreError> {
        earlier(&mut *self.reader.acquire().await?, key).await
    }

    pub async fn cancel(&self, id: JobId, live: Option<(u32, String)>) -> Result<Option<JobRow>, StoreError> {
        let (attempt, progress) = live.unzip();
        Ok(committed(
            sqlx::query_as(
                "UPDATE jobs SET state = 'cancelled', finished_at = $2,
                     progress = CASE WHEN state = 'running' AND attempt = $3 THEN $4 ELSE progress END
                 WHERE id = $1 AND state IN ('queued', 'running')
                 RETURNING *, client AS owner",
            )
            .bind(id.to_string())
            .bind(now())
            .bind(attempt)
            .bind(progress)
            .fetch_all(&self.writer),
        )
        .await?)
    }

    pub async fn resume(&self, id: JobId, queue_max: u32) -> Result<Option<JobRow>, StoreError> {
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
                 RETURNING *, client AS owner",
            )
            .bind(id.to_string())
            .bind(queue_max)
            .bind(queue_share(queue_max))
            .fetch_all(&mut *transaction),
        )
        .await?;
        transaction.commit().await?;
        Ok(row)
    }

    pub async fn queued_of_owner_of(&self, id: JobId) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND client = (SELECT client FROM jobs WHERE id = $1)",
        )
        .bind(id.to_string())
        .fetch_one(&self.reader)
        .await?)
    }

    pub async fn delete_job(&self, id: JobId) -> Result<Deleted, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        // Only the state is read, so a job can be deleted even if its row can't be parsed.
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM jobs WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(state) = state else { return Ok(Deleted::Unknown) };
        let state = job_state(&id.to_string(), &state)?;
        if !state.is_ended() {
            return Ok(Deleted::NotEnded(state));
        }
        let keys = sqlx::query_scalar("SELECT blob_key FROM checkpoints WHERE job_id = $1")
            .bind(id.to_string())
            .fetch_all(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM jobs WHERE id = $1").bind(id.to_string()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Deleted::Gone(keys))
    }
}
