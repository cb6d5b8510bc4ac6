use std::sync::{Arc, Mutex, PoisonError};

use sqlx::SqliteConnection;
use tokio::sync::oneshot;

use super::jobs::JobRow;
use super::{Store, StoreError, now, to_json};
use crate::fault::{self, Point};
use crate::job::{Job, JobId, Progress};
use crate::train::TrainSpec;

/// Jobs that one commit takes: others that want to write wait for it.
const BATCH: usize = 128;

/// A job to be accepted.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What it trains.
    pub spec: TrainSpec,
    /// Its progress before the first step.
    pub progress: Progress,
    /// Whose it is: clients take turns.
    pub client: String,
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

/// Jobs that wait for a commit to take them.
pub(super) type Pending = Arc<Mutex<Vec<Waiting>>>;

/// A job that waits, and where its answer goes.
#[derive(Debug)]
pub(super) struct Waiting {
    job: NewJob,
    queue_max: u32,
    answer: oneshot::Sender<Result<Inserted, StoreError>>,
}

impl Store {
    /// Puts a job in the queue, unless `queue_max` wait there already. It survives a power cut once
    /// this returns. Those that come while a commit is written share the next one.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn insert_job(&self, job: NewJob, queue_max: u32) -> Result<Inserted, StoreError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.push(Waiting { job, queue_max, answer });
            pending.len() == 1
        };
        if is_first {
            // A client that hangs up must not take the jobs of others along.
            self.tasks.spawn(self.clone().insert_pending());
        }
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Takes the jobs that wait, in the order they came, until none does; those that come meanwhile to an empty list have
    /// a call of their own.
    async fn insert_pending(self) {
        loop {
            let writer = self.writer.acquire().await;
            let (batch, is_last) = {
                let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
                let count = pending.len().min(BATCH);
                (pending.drain(..count).collect::<Vec<_>>(), pending.is_empty())
            };
            fault::point(Point::BeforeInsert);
            let inserted = match writer {
                Ok(mut writer) => insert_all(&mut writer, &batch).await,
                Err(error) => Err(error.into()),
            };
            fault::point(Point::AfterInsert);
            self.answer(batch, inserted);
            if is_last {
                return;
            }
        }
    }

    fn answer(&self, batch: Vec<Waiting>, inserted: Result<Vec<Result<Inserted, StoreError>>, StoreError>) {
        match inserted {
            Ok(inserted) => {
                let mut is_any_new = false;
                for (waiting, inserted) in batch.into_iter().zip(inserted) {
                    if let Ok(Inserted::Accepted(job)) = &inserted {
                        self.changed(job.id);
                        is_any_new = true;
                    }
                    // Whoever has hung up asks again with the same key.
                    let _ = waiting.answer.send(inserted);
                }
                if is_any_new {
                    self.queued.send_replace(());
                }
            }
            Err(StoreError::Database(error)) => {
                let error = Arc::new(error);
                for waiting in batch {
                    let _ = waiting.answer.send(Err(StoreError::Commit(Arc::clone(&error))));
                }
            }
            Err(error) => {
                tracing::error!(%error, "jobs were not inserted");
                for waiting in batch {
                    let _ = waiting.answer.send(Err(StoreError::Closed));
                }
            }
        }
    }

    /// What became of an earlier request with this key.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn by_key(&self, key: &str, request_sha256: &str) -> Result<Option<Inserted>, StoreError> {
        earlier(&mut *self.reader.acquire().await?, key, request_sha256).await
    }
}

/// Inserts all in one commit. What is wrong with one of them is its own answer.
async fn insert_all(
    writer: &mut SqliteConnection,
    batch: &[Waiting],
) -> Result<Vec<Result<Inserted, StoreError>>, StoreError> {
    use sqlx::Connection;
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut inserted = Vec::with_capacity(batch.len());
    for waiting in batch {
        match insert(&mut transaction, &waiting.job, waiting.queue_max).await {
            Err(StoreError::Database(error)) => return Err(error.into()),
            answer => inserted.push(answer),
        }
    }
    transaction.commit().await?;
    Ok(inserted)
}

/// Clients take turns by start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996): the
/// jobs of one priority run in the order of their turns. A client's next job has the turn behind its last one in
/// the queue; one who has none there has the turn behind the last one that was given to a worker, so that those who come
/// again and again never overtake one who waits.
async fn insert(
    connection: &mut SqliteConnection,
    job: &NewJob,
    queue_max: u32,
) -> Result<Inserted, StoreError> {
    if let Some(key) = &job.idempotency_key
        && let Some(earlier) = earlier(connection, key, &job.request_sha256).await?
    {
        return Ok(earlier);
    }
    let id = JobId::new();
    let rows: Vec<JobRow> = sqlx::query_as(
        "INSERT INTO jobs (id, state, model, spec, idempotency_key, request_sha256, progress, created_at,
                           initial_model, priority, client, sequence, turn, is_next)
         SELECT $1, 'queued', $2, $3, $4, $5, $6, $7, $9, $10, $11,
                (SELECT COALESCE(MAX(sequence), 0) + 1 FROM jobs),
                COALESCE((SELECT MAX(turn) + 1 FROM jobs
                          WHERE client = $11 AND priority = $10 AND state = 'queued'),
                         (SELECT turn + 1 FROM turns WHERE priority = $10), 0),
                NOT EXISTS (SELECT 1 FROM jobs WHERE model = $2 AND state IN ('queued', 'running'))
         WHERE (SELECT jobs FROM job_counts WHERE state = 'queued') < $8
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
    .bind(&job.spec.initial_model)
    .bind(job.spec.priority)
    .bind(&job.client)
    .fetch_all(connection)
    .await?;
    rows.into_iter().next().map_or(Ok(Inserted::QueueFull), |row| Ok(Inserted::Accepted(row.try_into()?)))
}

async fn earlier(
    connection: &mut SqliteConnection,
    key: &str,
    request_sha256: &str,
) -> Result<Option<Inserted>, StoreError> {
    let row: Option<JobRow> = sqlx::query_as("SELECT * FROM jobs WHERE idempotency_key = $1")
        .bind(key)
        .fetch_optional(connection)
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
