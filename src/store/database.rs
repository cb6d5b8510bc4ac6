//! Every operation that a database offers to the store. To add a database, add a folder like `sqlite/` and a variant
//! to the two enums of this file. The compiler then asks for each operation.

use std::path::Path;
use std::time::Duration;

use super::blobs::BlobRows;
use super::course::CourseRow;
use super::error::Cause;
use super::insert::{InsertedEach, Key, NewRow};
use super::jobs::JobRow;
use super::models::{ChangedRows, ModelRows};
use super::sqlite::{SqliteDatabase, SqliteWriter, cause_of_sqlite};
use super::{
    CheckpointRow, Claim, Deleted, DeletedVersion, Dropped, Ended, EndedPosition, Held, JobFilter, NewModel,
    OldVersions, PublishedModel, Recorded, StoreError,
};
use crate::job::{EpochRecord, JobError, JobId, JobResult, JobState, Progress};
use crate::model::ModelSource;
use crate::train::StepMetrics;

/// The database that has the rows. Clones share its connections.
#[derive(Clone, Debug)]
pub(super) enum Database {
    Sqlite(SqliteDatabase),
}

/// The right to insert jobs, which one task has at a time.
pub(crate) enum Writer {
    Sqlite(SqliteWriter),
}

/// Returns why a database failed, if its error says so.
pub(super) fn cause_of(error: &sqlx::Error) -> Option<Cause> {
    cause_of_sqlite(error)
}

/// Passes each operation on to the database.
macro_rules! operations {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Database {$(
            $(#[$attribute])*
            pub async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                match self {
                    Self::Sqlite(database) => database.$name($($argument),*).await,
                }
            }
        )*}
    };
}

// Each operation that changes rows is one statement or one transaction, and is durable when it returns.
operations! {
    // The queue.
    /// Returns the row of an earlier request with this key.
    fn earlier(key: &Key) -> Option<JobRow>;
    /// Cancels a job that has not ended. `live` is the attempt that runs in this process and its progress, which is
    /// newer than the row's.
    fn cancel(id: JobId, live: Option<(u32, String)>) -> Option<JobRow>;
    /// Puts a stopped job back in the queue, if there is room and its initial version exists.
    fn resume(id: JobId, queue_max: u32) -> Option<JobRow>;
    /// Counts the queued jobs of this job's owner.
    fn queued_of_owner_of(id: JobId) -> i64;
    fn delete_job(id: JobId) -> Deleted;

    // Jobs that workers hold. Each write carries the attempt.
    /// Returns whether a queued job may run.
    fn has_waiting() -> bool;
    fn claim() -> Option<JobRow>;
    fn renew(claim: Claim, progress: &Progress) -> ();
    fn is_held(claim: Claim) -> bool;
    fn held() -> Vec<Held>;
    fn record(claim: Claim, recorded: &Recorded) -> ();
    fn release(claim: Claim) -> ();
    fn rescue(held: Held, crashes_max: u32, error: &JobError) -> Option<JobState>;
    fn succeed(claim: Claim, model: &NewModel, result: &JobResult, progress: &Progress) -> Option<PublishedModel>;
    fn fail(claim: Claim, error: &JobError) -> ();

    // Jobs, their epochs and their checkpoints.
    fn job(id: JobId) -> Option<JobRow>;
    /// Returns rows of jobs, newest first.
    fn jobs(filter: &JobFilter, limit: i64) -> Vec<JobRow>;
    /// Returns the name of each state and its number of jobs.
    fn counts() -> Vec<(String, i64)>;
    fn epochs(id: JobId, after: u32, limit: u32) -> Vec<EpochRecord>;
    /// Returns the sampled steps after number `after` and up to `last`.
    fn steps(id: JobId, after: u64, last: u64) -> Vec<StepMetrics>;
    /// Returns all epochs without their layers.
    fn course(id: JobId) -> Vec<CourseRow>;
    fn checkpoints(id: JobId) -> Vec<CheckpointRow>;
    fn forget_checkpoints(claim: Claim, keep: u32) -> Vec<String>;
    fn forget_damaged(claim: Claim, blob_key: &str) -> ();

    // Models.
    /// Returns the number of the last version of a model, including deleted ones.
    fn last_version(name: &str) -> Option<i64>;
    fn publish_model(
        owner: &str,
        source: ModelSource,
        model: &NewModel,
        test_accuracy: Option<f64>
    ) -> Option<PublishedModel>;
    fn models() -> ModelRows;
    fn model_changes(revision: i64) -> ChangedRows;
    fn model_revision() -> i64;
    fn old_versions(old: OldVersions) -> Vec<(String, u32)>;
    /// Points an alias to a version, if the version exists and there is room for the alias. Returns whether the alias
    /// was set.
    fn set_alias(name: &str, alias: &str, version: u32, aliases_max: u32) -> bool;
    /// Returns whether a version exists, and how many aliases its model has.
    fn version_and_aliases(name: &str, version: u32) -> (bool, i64);
    fn delete_alias(name: &str, alias: &str) -> bool;
    fn delete_version(name: &str, version: u32) -> DeletedVersion;
    /// Returns whether the version that `reference` (`name@version`) names exists.
    fn is_version(reference: &str) -> bool;

    // Blobs, retention and repair.
    fn is_named(key: &str) -> bool;
    fn names_blobs() -> bool;
    fn blob_rows() -> BlobRows;
    fn ended_beyond(keep: u64, after: EndedPosition) -> Vec<Ended>;
    fn ended_for(age: Duration, after: EndedPosition) -> Vec<Ended>;
    fn drop_checkpoint(id: JobId, blob_key: &str) -> ();
    fn drop_version(name: &str, version: u32, blob_key: &str) -> Option<Dropped>;

    // The database itself.
    /// Returns a number that changes with every commit of another process.
    fn foreign_commits() -> i64;
    /// Writes back as much of the log as possible without waiting.
    fn write_back() -> ();
    fn snapshot(path: &Path) -> ();
    fn integrity() -> Vec<String>;
    fn shrink() -> ();
    fn probe() -> ();
}

impl Database {
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        SqliteDatabase::open(path).await.map(Self::Sqlite)
    }

    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        SqliteDatabase::open_existing(path).await.map(Self::Sqlite)
    }

    /// Returns whether there are no tables at `path`, or not even a file. Does not change the rows.
    pub async fn is_empty(path: &Path) -> Result<bool, StoreError> {
        SqliteDatabase::is_empty(path).await
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite(database) => database.close().await,
        }
    }

    /// Waits until no other task inserts jobs.
    pub async fn writer(&self) -> Result<Writer, StoreError> {
        match self {
            Self::Sqlite(database) => database.writer().await.map(Writer::Sqlite),
        }
    }
}

impl Writer {
    /// Inserts a batch of jobs in one commit.
    pub async fn insert(&mut self, batch: &[&NewRow]) -> Result<InsertedEach, StoreError> {
        match self {
            Self::Sqlite(writer) => writer.insert(batch).await,
        }
    }
}
