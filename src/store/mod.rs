//! Rows: jobs, their course, their checkpoints, and the models they published. The only room that
//! knows SQL.
//!
//! One connection writes, several read. A change of state is one guarded statement, or a
//! transaction that begins with one; a worker's write carries the attempt it was given and touches
//! one row or nothing.

mod checkpoints;
mod jobs;
mod models;
mod work;

use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::{broadcast, watch};

pub use checkpoints::Checkpoint;
pub use jobs::{Cancelled, Inserted, JobFilter, NewJob};
pub use models::{NewModel, PublishedModel};
pub use work::{Claim, Heartbeat};

use crate::job::JobId;

/// WAL loses committed rows below this version: <https://sqlite.org/wal.html#walresetbug>.
const SQLITE_VERSION_LEAST: (u32, u32, u32) = (3, 51, 3);

/// Connections that read.
const READERS: u32 = 4;

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Changes a listener may lag behind before it is told that it missed some.
const CHANGES_KEPT: usize = 1_024;

/// A handle to the rows; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
    changes: broadcast::Sender<JobId>,
    queued: watch::Sender<()>,
}

/// What the rows can't do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The database is of another program or version.
    #[error("migration: {0}")]
    Migration(#[from] MigrateError),
    /// The database library loses rows.
    #[error("sqlite {found} is older than {}.{}.{}", SQLITE_VERSION_LEAST.0, SQLITE_VERSION_LEAST.1, SQLITE_VERSION_LEAST.2)]
    Version {
        /// Its version.
        found: String,
    },
    /// A row that no version of this program wrote.
    #[error("{what} of {id} can't be read: {why}")]
    Row {
        /// The column.
        what: &'static str,
        /// The row.
        id: String,
        /// Why.
        why: String,
    },
    /// The job was given to another attempt, or has ended.
    #[error("attempt {attempt} of job {id} is not the current one")]
    Fenced {
        /// The job.
        id: JobId,
        /// The attempt that wrote.
        attempt: u32,
    },
}

/// Primary result codes of SQLite, <https://sqlite.org/rescode.html>.
mod code {
    pub const PERM: i32 = 3;
    pub const READONLY: i32 = 8;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
}

impl StoreError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        self.code() == Some(code::FULL)
    }

    /// Whether the file may not be opened or written.
    pub fn is_denied(&self) -> bool {
        matches!(self.code(), Some(code::PERM | code::READONLY | code::CANTOPEN))
    }

    /// The primary result code, without what extends it.
    fn code(&self) -> Option<i32> {
        let (Self::Database(error) | Self::Migration(MigrateError::Execute(error))) = self else {
            return None;
        };
        let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
        Some(extended & 0xff)
    }
}

impl Store {
    /// Opens the database at `path`, made when missing, and brings it up to date.
    ///
    /// # Errors
    /// Where the file can't be written or is no database of this program.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&writer).await?;
        if version_of(&version).is_none_or(|version| version < SQLITE_VERSION_LEAST) {
            return Err(StoreError::Version { found: version });
        }
        sqlx::migrate!("./migrations").run(&writer).await?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.create_if_missing(false).read_only(true))
            .await?;
        Ok(Self { writer, reader, changes: broadcast::channel(CHANGES_KEPT).0, queued: watch::channel(()).0 })
    }

    /// Closes every connection, after the writes under way.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Hears of every job that changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<JobId> {
        self.changes.subscribe()
    }

    /// Hears when a job enters the queue.
    pub fn queued(&self) -> watch::Receiver<()> {
        self.queued.subscribe()
    }

    /// Answers where the database does, for reading and for writing.
    ///
    /// # Errors
    /// Where it doesn't.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.reader).await?;
        sqlx::query("UPDATE jobs SET attempt = attempt WHERE 1 = 0").execute(&self.writer).await?;
        Ok(())
    }

    fn changed(&self, id: JobId) {
        // Nobody listening is no fault.
        let _ = self.changes.send(id);
    }
}

/// The row that a statement of one row at most has changed, once the change is committed.
///
/// A statement that returns rows commits when it is run to its end: to stop at the first row, as
/// `fetch_optional` does, would leave a failed commit unseen.
async fn committed<T>(
    rows: impl Future<Output = Result<Vec<T>, sqlx::Error>>,
) -> Result<Option<T>, sqlx::Error> {
    Ok(rows.await?.pop())
}

fn version_of(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// Microseconds since 1970, now.
fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn timestamp(what: &'static str, id: &str, micros: i64) -> Result<jiff::Timestamp, StoreError> {
    jiff::Timestamp::from_microsecond(micros).map_err(|error| row_error(what, id, &error))
}

fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    id: &str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| row_error(what, id, &error))
}

fn to_json<T: serde::Serialize>(what: &'static str, id: JobId, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| row_error(what, &id.to_string(), &error))
}

fn row_error(what: &'static str, id: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Row { what, id: id.to_owned(), why: error.to_string() }
}
