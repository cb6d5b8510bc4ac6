use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::oneshot;

use super::jobs::JobRow;
use super::models::is_version;
use super::{Store, StoreError, format, now, row_error};
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
    /// The client's key for this request; another client's is another key.
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
    /// The version that it starts from has been deleted.
    InitialModelGone,
}

/// Jobs that wait for a commit to take them.
pub(super) type Pending = Arc<Mutex<Vec<Waiting>>>;

/// A job that waits, and where its answer goes.
#[derive(Debug)]
pub(super) struct Waiting {
    id: JobId,
    key: Option<Key>,
    request_sha256: String,
    initial_model: Option<String>,
    /// A [`Given`] as JSON.
    given: String,
    answer: oneshot::Sender<Result<Inserted, StoreError>>,
}

/// What became of each job of a batch.
type Answers = Vec<Result<Inserted, StoreError>>;

impl Store {
    /// Puts a job in the queue, unless `queue_max` wait there already, or [`queue_share`] of its client. It survives a power cut once
    /// this returns. Those that come while a commit is written share the next one.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn insert_job(&self, job: NewJob, queue_max: u32) -> Result<Inserted, StoreError> {
        let id = JobId::new();
        let key = job.idempotency_key.as_ref().map(|key| Key::new(&job.client, key));
        let given = Given {
            id,
            model: &job.spec.model,
            spec: format::write(id, &job.spec)?,
            idempotency_key: key.as_ref().map(|key| key.own.as_str()),
            bare_key: key.as_ref().map(|key| key.bare.as_str()),
            request_sha256: &job.request_sha256,
            progress: format::write(id, &job.progress)?,
            initial_model: job.spec.initial_model.as_deref(),
            priority: job.spec.priority,
            client: &job.client,
            queue_max,
        };
        let given = serde_json::to_string(&given).map_err(|why| row_error("job", &id.to_string(), &why))?;
        let NewJob { spec, request_sha256, .. } = job;
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.push(Waiting {
                id,
                key,
                request_sha256,
                initial_model: spec.initial_model,
                given,
                answer,
            });
            pending.len() == 1
        };
        if is_first {
            // A client that hangs up must not take the jobs of others along.
            self.spawn_insert();
        }
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    fn spawn_insert(&self) {
        self.tasks.spawn(self.clone().insert_pending());
    }

    /// Takes jobs that wait, in the order they came; those that come to an empty list have a task of their own.
    async fn insert_pending(self) {
        let writer = self.writer.acquire().await;
        let (batch, is_last) = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let count = pending.len().min(BATCH);
            (pending.drain(..count).collect::<Vec<_>>(), pending.is_empty())
        };
        if !is_last {
            // It waits for the writer, and comes to it whatever becomes of this one.
            self.spawn_insert();
        }
        fault::point(Point::BeforeInsert);
        let inserted = match writer {
            Ok(mut writer) => insert_all(&mut writer, &batch).await,
            Err(error) => Err(error.into()),
        };
        fault::point(Point::AfterInsert);
        self.answer(batch, inserted);
    }

    fn answer(&self, batch: Vec<Waiting>, inserted: Result<Answers, StoreError>) {
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

    /// What became of an earlier request of this client with this key.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn by_key(
        &self,
        client: &str,
        key: &str,
        request_sha256: &str,
    ) -> Result<Option<Inserted>, StoreError> {
        let key = Key::new(client, key);
        let earlier = earlier(&mut *self.reader.acquire().await?, &key, request_sha256).await?;
        Ok(earlier.map(|inserted| match inserted {
            Inserted::Repeated(job) => Inserted::Repeated(self.live.on(job)),
            inserted => inserted,
        }))
    }
}

/// A client's key as rows have it.
#[derive(Clone, Debug)]
struct Key {
    /// The key of this client alone. Neither of its parts holds what separates them.
    own: String,
    /// The key as it came, which jobs from before clients were told apart have.
    bare: String,
}

impl Key {
    fn new(client: &str, key: &str) -> Self {
        Self { own: format!("{client}\u{1f}{key}"), bare: key.to_owned() }
    }
}

/// How many of the `queue_max` jobs that may wait may be those of one client.
pub fn queue_share(queue_max: u32) -> u32 {
    queue_max.div_ceil(2)
}

/// Inserts all, in one commit.
async fn insert_all(writer: &mut SqliteConnection, batch: &[Waiting]) -> Result<Answers, StoreError> {
    let initial_models: HashSet<&str> =
        batch.iter().filter_map(|waiting| waiting.initial_model.as_deref()).collect();
    if initial_models.is_empty() {
        return insert_but(writer, batch, &HashSet::new()).await;
    }
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
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

/// Inserts by one statement all that don't start from one of the versions that are gone.
async fn insert_but(
    writer: &mut SqliteConnection,
    batch: &[Waiting],
    gone: &HashSet<&str>,
) -> Result<Answers, StoreError> {
    let is_gone = |waiting: &Waiting| waiting.initial_model.as_deref().is_some_and(|one| gone.contains(one));
    let mut keys = HashSet::new();
    let mut is_first = |key: &Option<Key>| key.as_ref().is_none_or(|key| keys.insert(key.own.clone()));
    let given: Vec<&str> = batch
        .iter()
        .filter(|waiting| !is_gone(waiting) && is_first(&waiting.key))
        .map(|waiting| waiting.given.as_str())
        .collect();
    let given = format!("[{}]", given.join(","));
    let rows: Vec<JobRow> = sqlx::query_as(INSERT).bind(given).bind(now()).fetch_all(&mut *writer).await?;
    let mut rows: HashMap<String, JobRow> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut inserted = Vec::with_capacity(batch.len());
    for waiting in batch {
        let refused = if is_gone(waiting) { Inserted::InitialModelGone } else { Inserted::QueueFull };
        inserted.push(match (rows.remove(&waiting.id.to_string()), &waiting.key) {
            (Some(row), _) => row.try_into().map(Inserted::Accepted),
            (None, None) => Ok(refused),
            (None, Some(key)) => {
                earlier(writer, key, &waiting.request_sha256).await.map(|earlier| earlier.unwrap_or(refused))
            }
        });
    }
    Ok(inserted)
}

/// A job of a batch as [`INSERT`] reads it.
#[derive(Serialize)]
struct Given<'a> {
    id: JobId,
    model: &'a str,
    spec: String,
    idempotency_key: Option<&'a str>,
    bare_key: Option<&'a str>,
    request_sha256: &'a str,
    progress: String,
    initial_model: Option<&'a str>,
    priority: i32,
    client: &'a str,
    queue_max: u32,
}

/// Clients take turns by start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996): the
/// jobs of one priority run in the order of their turns. A client's next job has the turn behind its last one in
/// the queue; one who has none there has the turn behind the last one that was given to a worker, so that those who come
/// again and again never overtake one who waits.
///
/// What it reads of `jobs` are the rows before the batch; `ROW_NUMBER` counts those of the batch itself.
const INSERT: &str = "
    WITH given AS (
        SELECT key AS place,
               value ->> 'id' AS id, value ->> 'model' AS model, value ->> 'spec' AS spec,
               value ->> 'idempotency_key' AS idempotency_key, value ->> 'bare_key' AS bare_key,
               value ->> 'request_sha256' AS request_sha256,
               value ->> 'progress' AS progress, value ->> 'initial_model' AS initial_model,
               value ->> 'priority' AS priority, value ->> 'client' AS client, value ->> 'queue_max' AS queue_max
        FROM json_each($1)
    ),
    asked AS MATERIALIZED (
        SELECT *, ROW_NUMBER() OVER (PARTITION BY client ORDER BY place) AS of_client
        FROM given
        WHERE NOT EXISTS (SELECT 1 FROM jobs
                          WHERE jobs.idempotency_key IN (given.idempotency_key, given.bare_key))
    ),
    held AS MATERIALIZED (
        SELECT client, (SELECT COUNT(*) FROM jobs WHERE jobs.client = asked.client AND jobs.state = 'queued') AS jobs
        FROM asked WHERE of_client = 1
    ),
    new AS (
        SELECT asked.*, ROW_NUMBER() OVER (ORDER BY place) AS number
        FROM asked JOIN held USING (client)
        WHERE held.jobs + of_client <= (queue_max + 1) / 2
    )
    INSERT INTO jobs (id, state, model, spec, idempotency_key, request_sha256, progress, created_at,
                      initial_model, priority, client, sequence, turn, is_next)
    SELECT id, 'queued', model, spec, idempotency_key, request_sha256, progress, $2, initial_model, priority, client,
           (SELECT COALESCE(MAX(sequence), 0) FROM jobs) + number,
           COALESCE((SELECT MAX(turn) FROM jobs
                     WHERE jobs.client = new.client AND jobs.priority = new.priority AND jobs.state = 'queued'),
                    (SELECT turn FROM turns WHERE turns.priority = new.priority), -1)
               + ROW_NUMBER() OVER (PARTITION BY client, priority ORDER BY number),
           ROW_NUMBER() OVER (PARTITION BY model ORDER BY number) = 1
               AND NOT EXISTS (SELECT 1 FROM jobs
                               WHERE jobs.model = new.model AND jobs.state IN ('queued', 'running'))
    FROM new
    WHERE (SELECT jobs FROM job_counts WHERE state = 'queued') + number <= queue_max
    ORDER BY number
    RETURNING *";

async fn earlier(
    connection: &mut SqliteConnection,
    key: &Key,
    request_sha256: &str,
) -> Result<Option<Inserted>, StoreError> {
    let row: Option<JobRow> = sqlx::query_as("SELECT * FROM jobs WHERE idempotency_key IN ($1, $2) LIMIT 1")
        .bind(&key.own)
        .bind(&key.bare)
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
