use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::Dispatch;
use crate::failpoint::{self, Point};
use crate::job::JobId;
use crate::store::{Inserted, InsertedEach, NewJob, NewRow, StoreError};

/// The most jobs in one commit. Other writers wait for the commit.
const BATCH: usize = 128;

/// Jobs that wait for a commit.
pub(super) type Pending = Arc<Mutex<Vec<WaitingJob>>>;

/// A job that waits for a commit, and the channel for its result.
#[derive(Debug)]
pub(super) struct WaitingJob {
    row: NewRow,
    answer: oneshot::Sender<Result<Inserted, StoreError>>,
}

impl Dispatch {
    /// Puts a job in the queue and returns when it is durable. The queue takes at most `queue_max` jobs, of which one
    /// owner can have [`queue_share`](crate::store::queue_share). Jobs that arrive during a commit share the next commit.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn insert_job(&self, job: NewJob, queue_max: u32) -> Result<Inserted, StoreError> {
        let row = NewRow::new(JobId::new(), job, queue_max)?;
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.push(WaitingJob { row, answer });
            pending.len() == 1
        };
        if is_first {
            // If this future is dropped, the other jobs of its batch must still be inserted.
            self.spawn_insert();
        }
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    fn spawn_insert(&self) {
        self.tasks.spawn(self.clone().insert_pending());
    }

    /// Inserts waiting jobs in the order of their arrival. The first job to arrive at an empty list starts a new task.
    async fn insert_pending(self) {
        let writer = self.store.job_writes().inserter().await;
        let (batch, is_last) = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let count = pending.len().min(BATCH);
            (pending.drain(..count).collect::<Vec<_>>(), pending.is_empty())
        };
        if !is_last {
            // The next task waits for the writer, whatever happens to this task.
            self.spawn_insert();
        }
        failpoint::point(Point::BeforeInsert);
        let inserted = match writer {
            Ok(mut writer) => {
                let rows: Vec<&NewRow> = batch.iter().map(|waiting| &waiting.row).collect();
                writer.insert(&rows).await
            }
            Err(error) => Err(error),
        };
        failpoint::point(Point::AfterInsert);
        self.answer(batch, inserted);
    }

    fn answer(&self, batch: Vec<WaitingJob>, inserted: Result<InsertedEach, StoreError>) {
        match inserted {
            Ok(inserted) => {
                let mut is_any_new = false;
                for (waiting, inserted) in batch.into_iter().zip(inserted) {
                    if let Ok(Inserted::Accepted(job)) = &inserted {
                        self.notify.changed(Some(job.id));
                        is_any_new = true;
                    }
                    // The receiver is gone if nobody waits any more. The owner can repeat the request with the same key.
                    let _ = waiting.answer.send(inserted);
                }
                if is_any_new {
                    self.notify.queued();
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for waiting in batch {
                    let _ = waiting.answer.send(Err(StoreError::Commit(Arc::clone(&error))));
                }
            }
        }
    }
}
