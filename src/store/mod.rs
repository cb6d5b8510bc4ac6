//! The rows: jobs, their epochs and checkpoints, and the models they published. The only room that knows SQL,
//! which is in `sqlite/`. `database` lists every operation that a database must offer.
//!
//! A change of state is one guarded statement, or a transaction that begins with one. A worker's write
//! carries its attempt, and changes one row or nothing. Several processes on one machine may share the rows.
//! What only one process knows belongs to `dispatch`.

mod blobs;
mod checkpoints;
mod claims;
mod course;
mod database;
mod error;
mod format;
mod insert;
mod jobs;
mod models;
mod queue;
mod repair;
mod retention;
mod row;
mod sqlite;

use std::path::Path;
use std::time::Duration;

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
pub use retention::{Ended, EndedPosition};
pub use sqlite::{files, is_one_file};

pub(crate) use insert::{InsertedEach, NewRow};

use self::database::Database;
use self::error::row_error;

/// A handle to the rows. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
}

/// The writes to jobs that tasks of this process may wait for. `Dispatch` makes them and notifies these tasks.
#[derive(Clone, Copy)]
pub(crate) struct JobWrites<'a> {
    store: &'a Store,
}

impl Store {
    /// Opens the database at `path`, creates it if it is missing, and runs the migrations.
    ///
    /// # Errors
    /// Returns an error if the file can't be written, if it is not a database of this program, or if a newer
    /// version has written it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open(path).await? })
    }

    /// Returns whether there are no tables at `path`, or not even a file. Does not change the rows.
    ///
    /// # Errors
    /// Returns an error if the file can't be read.
    pub async fn is_empty(path: &Path) -> Result<bool, StoreError> {
        Database::is_empty(path).await
    }

    /// Opens the database at `path` without migrations.
    ///
    /// # Errors
    /// Returns an error if the file is not a database of this version.
    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open_existing(path).await? })
    }

    /// Closes every connection after its pending statements have finished.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Returns the writes to jobs. Only `dispatch` may call this.
    pub(crate) fn job_writes(&self) -> JobWrites<'_> {
        JobWrites { store: self }
    }

    /// Writes back as much of the database's log as possible without waiting.
    pub(crate) async fn write_back(&self) -> Result<(), StoreError> {
        self.database.write_back().await
    }

    /// Returns a number that changes with every commit of another process.
    pub(crate) async fn foreign_commits(&self) -> Result<i64, StoreError> {
        self.database.foreign_commits().await
    }

    /// Copies all rows, as of one moment, to a new file at `path`. Others may read and write meanwhile.
    ///
    /// # Errors
    /// Returns an error if the file exists or can't be written.
    pub async fn snapshot(&self, path: &Path) -> Result<(), StoreError> {
        self.database.snapshot(path).await
    }

    /// Checks every page of the database and every foreign key. Returns a line for each fault.
    ///
    /// # Errors
    /// Returns an error if the database can't be read.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        self.database.integrity().await
    }

    /// Returns free pages to the file system, a few at a time, so that other writes can run in between.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn shrink(&self) -> Result<(), StoreError> {
        self.database.shrink().await
    }

    /// Checks that rows can be read and written.
    ///
    /// # Errors
    /// Returns an error if they can't.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.database.probe().await
    }
}

/// Returns the current time in microseconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// Returns the time `age` ago, in microseconds since 1970.
fn ago(age: Duration) -> i64 {
    now().saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

fn timestamp(what: &'static str, id: &str, micros: i64) -> Result<jiff::Timestamp, StoreError> {
    jiff::Timestamp::from_microsecond(micros).map_err(|error| row_error(what, id, &error))
}
