//! Rows: jobs, their course, their checkpoints, and the models they published. The only room that
//! knows SQL, which stands in `sqlite/`.
//!
//! A change of state is one guarded statement, or a
//! transaction that begins with one; a worker's write carries the attempt it was given and touches
//! one row or nothing. Several processes of one machine may share the rows. What one process remembers besides is in
//! `batch` (jobs that wait for a commit), `live` (progress that is not written yet), `notify` and `pace`.

mod batch;
mod blobs;
mod checkpoints;
mod claims;
mod course;
mod error;
mod format;
mod jobs;
mod live;
mod models;
mod notify;
mod pace;
mod queue;
mod repair;
mod retention;
mod sqlite;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

pub use blobs::{BlobOwner, BlobRow, JobStanding};
pub use checkpoints::{CheckpointRow, NewCheckpoint};
pub use claims::{Claim, Held, Recorded};
pub use error::StoreError;
pub use jobs::JobFilter;
pub use models::{
    DeletedVersion, ModelChange, ModelChanges, Models, NewModel, OldVersions, PublishedModel, SetAlias,
};
pub use queue::{Cancelled, Deleted, Inserted, NewJob, Resumed, queue_share};
pub use repair::Dropped;
pub use retention::{Ended, Place};

use self::batch::Pending;
use self::error::row_error;
use self::live::Live;
use self::notify::Notify;
use self::pace::Pace;
use self::sqlite::Database;

/// How long the log of the database grows before it is written back.
const WRITE_BACK: Duration = Duration::from_millis(20);

/// A handle to the rows; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    notify: Notify,
    live: Live,
    pending: Pending,
    pace: Arc<Pace>,
    tasks: TaskTracker,
}

impl Store {
    /// Opens the database at `path`, made when missing, and brings it up to date.
    ///
    /// # Errors
    /// If the file can't be written, is no database of this program, or one of a younger one.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(Database::open(path).await?))
    }

    /// Opens the database at `path` as it is.
    ///
    /// # Errors
    /// If the file is no database of this very version.
    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(Database::open_existing(path).await?))
    }

    fn of(database: Database) -> Self {
        Self {
            database,
            notify: Notify::default(),
            live: Live::default(),
            pending: Pending::default(),
            pace: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Closes every connection, after the writes under way.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.database.close().await;
    }

    /// Writes the log of the database back into it while jobs come. SQLite leaves that to the commit that
    /// finds the log long, and those who wait for this one wait ten times as long.
    pub async fn write_back(&self) {
        let mut queued = self.queued();
        while queued.changed().await.is_ok() {
            if let Err(error) = self.database.write_back().await {
                tracing::debug!(%error, "the log was not written back");
            }
            tokio::time::sleep(WRITE_BACK).await;
        }
    }

    /// A whole and consistent copy of the rows in a new file at `path`, while others read and write.
    ///
    /// # Errors
    /// If the file exists or can't be written.
    pub async fn snapshot(&self, path: &Path) -> Result<(), StoreError> {
        self.database.snapshot(path).await
    }

    /// Whether every page of the database is sound, and every row that another refers to is there; what is wrong, in
    /// words.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        self.database.integrity().await
    }

    /// Gives pages that hold nothing back to the file system, some at a time: others write in between.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn shrink(&self) -> Result<(), StoreError> {
        self.database.shrink().await
    }

    /// Sees whether rows can be read and written.
    ///
    /// # Errors
    /// If they can't.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.database.probe().await
    }
}

/// Microseconds since 1970, now.
fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// So long ago.
fn ago(age: Duration) -> i64 {
    now().saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

fn timestamp(what: &'static str, id: &str, micros: i64) -> Result<jiff::Timestamp, StoreError> {
    jiff::Timestamp::from_microsecond(micros).map_err(|error| row_error(what, id, &error))
}
