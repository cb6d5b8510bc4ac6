//! Changes of jobs, and what only one process knows about them. A change of a job goes through this room: rows
//! first, then whoever waits is notified. The rows belong to the store.
//!
//! `batch` has the jobs that wait for a commit, `live` the progress that is not written yet, `notify` the tasks
//! that wait, and `pace` the rate at which jobs end.

mod batch;
mod claims;
mod jobs;
mod live;
mod notify;
mod pace;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use self::batch::Pending;
use self::live::Live;
use self::notify::Notify;
use self::pace::Pace;
use crate::store::Store;

/// The time between two write-backs of the database's log.
const WRITE_BACK: Duration = Duration::from_millis(20);

/// A handle through which jobs are changed. Clones share the state of the process.
#[derive(Clone, Debug)]
pub struct Dispatch {
    store: Store,
    notify: Notify,
    live: Live,
    pending: Pending,
    pace: Arc<Pace>,
    tasks: TaskTracker,
}

impl Dispatch {
    /// Creates the state of a process that uses these rows. Only clones of it are notified of its changes.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            notify: Notify::default(),
            live: Live::default(),
            pending: Pending::default(),
            pace: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Returns the rows.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Closes the store after the pending inserts have finished.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }

    /// Writes the database's log back while jobs arrive. By default the commit that finds the log long does
    /// this. That commit takes ten times as long and delays every write that waits for it.
    pub async fn write_back(&self) {
        let mut queued = self.queued();
        while queued.changed().await.is_ok() {
            if let Err(error) = self.store.write_back().await {
                tracing::debug!(%error, "the log was not written back");
            }
            tokio::time::sleep(WRITE_BACK).await;
        }
    }
}
