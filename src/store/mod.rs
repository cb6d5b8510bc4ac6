//! Rows: jobs, their course, their checkpoints, and the models they published. The only room that
//! knows SQL.
//!
//! One connection writes, another writes the log back, several read. A change of state is one guarded statement, or a
//! transaction that begins with one; a worker's write carries the attempt it was given and touches
//! one row or nothing. Several processes of one machine may share the rows.

mod blobs;
mod checkpoints;
mod course;
mod format;
mod guard;
mod insert;
mod jobs;
mod leases;
mod live;
mod mend;
mod models;
mod pace;
mod retention;
mod work;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlitePool};
use tokio::sync::{broadcast, watch};
use tokio_util::task::TaskTracker;

pub use blobs::{BlobOwner, BlobRow, JobStanding};
pub use checkpoints::{CheckpointRow, NewCheckpoint};
pub use insert::{Inserted, NewJob, queue_share};
pub use jobs::{Cancelled, Deleted, JobFilter, Resumed};
pub use leases::Held;
pub use mend::Dropped;
pub use models::{
    DeletedVersion, ModelChange, ModelChanges, Models, NewModel, OldVersions, PublishedModel, SetAlias,
};
pub use retention::{Ended, Place};
pub use work::{Claim, Recorded};

use self::insert::Pending;
use self::live::Live;
use self::pace::Pace;
use crate::job::JobId;
use crate::priority::Priority;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// WAL loses committed rows below this version: <https://sqlite.org/wal.html#walresetbug>.
const SQLITE_VERSION_LEAST: (u32, u32, u32) = (3, 51, 3);

/// Connections that read what is short, and those that read pages of rows.
const READERS: u32 = 4;

/// Instructions of SQLite's virtual machine after which a thread that reads pages yields to those that serve.
const LONG_READ_STEPS: i32 = 1_000;

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Changes a listener may lag behind before it is told that it missed some.
const CHANGES_KEPT: usize = 1_024;

/// How often it is looked whether another process has written.
const FOLLOW: Duration = Duration::from_millis(50);

/// How long the log of the database grows before it is written back.
const WRITE_BACK: Duration = Duration::from_millis(20);

/// Pages that are given back to the file system at a time, and how long others may write then.
const SHRINK_PAGES: u32 = 64;
const SHRINK_PAUSE: Duration = Duration::from_millis(20);

/// A handle to the rows; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
    /// Reads pages of rows, at the priority of long work.
    pages: SqlitePool,
    /// Writes the log back, beside the one that writes it.
    keeper: SqlitePool,
    changes: broadcast::Sender<Option<JobId>>,
    queued: watch::Sender<()>,
    live: Live,
    pending: Pending,
    pace: Arc<Pace>,
    tasks: TaskTracker,
}

/// What the rows can't do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The database is of another program or version.
    #[error("migration: {0}")]
    Migration(#[source] MigrateError),
    /// A younger chainrule has written the database.
    #[error("a newer chainrule has written it: its rows are of version {found}, this one knows {known}")]
    Newer {
        /// The version of its rows.
        found: i64,
        /// The last version that this program knows.
        known: i64,
    },
    /// An older chainrule has written the database, and it is not to be changed.
    #[error("an older chainrule has written it; start the server on it once, which brings it up to date")]
    Older,
    /// The commit that this was part of failed.
    #[error(transparent)]
    Commit(Arc<sqlx::Error>),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
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
    pub const BUSY: i32 = 5;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
    pub const NOTADB: i32 = 26;
}

impl StoreError {
    /// Whether the disk takes nothing: it is full, or read-only, or fails.
    pub fn is_of_disk(&self) -> bool {
        matches!(self.code(), Some(code::FULL | code::READONLY | code::IOERR | code::CANTOPEN))
    }

    /// Whether another process holds the database.
    pub fn is_busy(&self) -> bool {
        self.code() == Some(code::BUSY)
    }

    /// Whether the file may not be opened or written.
    pub fn is_denied(&self) -> bool {
        matches!(self.code(), Some(code::PERM | code::READONLY | code::CANTOPEN))
    }

    /// Whether the same statement may succeed later: the disk is full or fails, others hold the database.
    pub fn is_transient(&self) -> bool {
        match self {
            _ if matches!(self.code(), Some(code::CORRUPT | code::NOTADB)) => false,
            Self::Database(sqlx::Error::Database(error)) => {
                matches!(error.kind(), sqlx::error::ErrorKind::Other)
            }
            Self::Database(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => false,
            Self::Database(_) | Self::Commit(_) | Self::Closed => true,
            _ => false,
        }
    }

    /// The primary result code, without what extends it.
    fn code(&self) -> Option<i32> {
        let error = match self {
            Self::Database(error) | Self::Migration(MigrateError::Execute(error)) => error,
            Self::Commit(error) => error.as_ref(),
            _ => return None,
        };
        let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
        Some(extended & 0xff)
    }
}

impl Store {
    /// Opens the database at `path`, made when missing, and brings it up to date.
    ///
    /// # Errors
    /// If the file can't be written, is no database of this program, or one of a younger one.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        // Made here and not by the pool: where the file is gone later, an empty one in its place would hide it.
        writing(path).create_if_missing(true).connect().await?.close().await?;
        let writer = connect(writing(path)).await?;
        if let Some(found) = version_of_rows(&writer).await?.filter(|found| *found > known()) {
            return Err(StoreError::Newer { found, known: known() });
        }
        MIGRATIONS.run(&writer).await.map_err(StoreError::Migration)?;
        vacuum_by_increments(&writer).await?;
        Self::of(path, writer).await
    }

    /// Opens the database at `path` as it is.
    ///
    /// # Errors
    /// If the file is no database of this very version.
    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        let writer = connect(writing(path)).await?;
        match version_of_rows(&writer).await? {
            Some(found) if found > known() => Err(StoreError::Newer { found, known: known() }),
            Some(found) if found == known() => Self::of(path, writer).await,
            _ => Err(StoreError::Older),
        }
    }

    async fn of(path: &Path, writer: SqlitePool) -> Result<Self, StoreError> {
        let reading = options(path).read_only(true);
        Ok(Self {
            writer,
            reader: pool(READERS).connect_with(reading.clone()).await?,
            pages: long_reading(pool(READERS)).connect_lazy_with(reading),
            keeper: pool(1).connect_lazy_with(writing(path)),
            changes: broadcast::channel(CHANGES_KEPT).0,
            queued: watch::channel(()).0,
            live: Live::default(),
            pending: Pending::default(),
            pace: Arc::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Closes every connection, after the writes under way.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.keeper.close().await;
        self.reader.close().await;
        self.pages.close().await;
        self.writer.close().await;
    }

    /// Writes the log of the database back into it while jobs come. SQLite leaves that to the commit that
    /// finds the log long, and those who wait for this one wait ten times as long.
    pub async fn write_back(&self) {
        let mut queued = self.queued();
        while queued.changed().await.is_ok() {
            // It waits for nobody: <https://sqlite.org/pragma.html#pragma_wal_checkpoint>.
            let written = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_all(&self.keeper).await;
            if let Err(error) = written {
                tracing::debug!(%error, "the log was not written back");
            }
            tokio::time::sleep(WRITE_BACK).await;
        }
    }

    /// Hears of every job that changes from now on; `None` stands for any of them.
    pub fn changes(&self) -> broadcast::Receiver<Option<JobId>> {
        self.changes.subscribe()
    }

    /// Hears when a job may have entered the queue.
    pub fn queued(&self) -> watch::Receiver<()> {
        self.queued.subscribe()
    }

    /// How long it takes on average until a place in the queue is free, as measured.
    pub fn queue_interval(&self) -> Option<Duration> {
        self.pace.interval()
    }

    /// Tells `changed`, and then those who listen, when other processes have written.
    pub async fn follow<F: Future<Output = ()>>(&self, changed: impl Fn() -> F) {
        let mut ticks = tokio::time::interval(FOLLOW);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            // It counts the commits of all connections but the one that asks, which is the only one here that writes:
            // <https://sqlite.org/pragma.html#pragma_data_version>.
            let version: Result<i64, _> =
                sqlx::query_scalar("PRAGMA data_version").fetch_one(&self.writer).await;
            match version {
                Ok(version) if seen.replace(version).is_some_and(|seen| seen != version) => {
                    changed().await;
                    // Nobody listening is no fault.
                    let _ = self.changes.send(None);
                    self.queued.send_replace(());
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "other processes can't be followed"),
            }
        }
    }

    /// A whole and consistent copy of the rows in a new file at `path`, while others read and write:
    /// <https://sqlite.org/lang_vacuum.html#vacuuminto>.
    ///
    /// # Errors
    /// If the file exists or can't be written.
    pub async fn snapshot(&self, path: &Path) -> Result<(), StoreError> {
        let path = path.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO $1").bind(path).execute(&self.writer).await?;
        Ok(())
    }

    /// Whether every page of the database is sound, and every row that another refers to is there; what is wrong, in
    /// words.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let mut found: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&self.reader).await?;
        found.retain(|line| line != "ok");
        let dangling: Vec<(String, Option<i64>, String, i64)> =
            sqlx::query_as("PRAGMA foreign_key_check").fetch_all(&self.reader).await?;
        found.extend(dangling.into_iter().map(|(table, row, parent, _)| {
            let row = row.map_or_else(String::new, |row| format!("row {row} of "));
            format!("{row}{table} refers to a row of {parent} that is not there")
        }));
        Ok(found)
    }

    /// Gives pages that hold nothing back to the file system, some at a time: others write in between.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn shrink(&self) -> Result<(), StoreError> {
        let mut free = i64::MAX;
        loop {
            let left: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&self.writer).await?;
            // Where others leave as many behind meanwhile, the next time does the rest.
            if left == 0 || left >= free {
                return Ok(());
            }
            free = left;
            let some = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({SHRINK_PAGES})"));
            sqlx::query(some).fetch_all(&self.writer).await?;
            tokio::time::sleep(SHRINK_PAUSE).await;
        }
    }

    /// Sees whether rows can be read and written.
    ///
    /// # Errors
    /// If they can't.
    pub async fn probe(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.reader).await?;
        sqlx::query("UPDATE model_revision SET revision = revision").execute(&self.writer).await?;
        Ok(())
    }

    fn changed(&self, id: JobId) {
        // Nobody listening is no fault.
        let _ = self.changes.send(Some(id));
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

/// SQLite opens for reading what it can't open for writing, and is content with that for as long as it is open. A
/// connection that sets `auto_vacuum` begins a write, so that such a one is refused at once, and tried anew.
fn writing(path: &Path) -> SqliteConnectOptions {
    options(path).auto_vacuum(SqliteAutoVacuum::Incremental)
}

/// A connection to a file is never stale: it needs no test before each use, and no other in its place after a while.
fn pool(connections: u32) -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false);
    pool.idle_timeout(None).max_lifetime(None)
}

/// Each connection has a thread of its own, which only what SQLite calls back can reach.
fn long_reading(pool: SqlitePoolOptions) -> SqlitePoolOptions {
    pool.after_connect(|connection, _| {
        Box::pin(async move {
            let mut is_lowered = false;
            connection.lock_handle().await?.set_progress_handler(LONG_READ_STEPS, move || {
                if !std::mem::replace(&mut is_lowered, true) {
                    Priority::LongWork.lower();
                }
                true
            });
            Ok(())
        })
    })
}

/// The connection that writes, to a library that loses nothing.
async fn connect(options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    let writer = pool(1)
        // SQLite itself rolls back when a disk fails, and then refuses the rollback that sqlx sends: the connection would count as
        // in a transaction for good. Another takes its place. <https://sqlite.org/lang_transaction.html>, section 3.2.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        .connect_with(options)
        .await?;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&writer).await?;
    if version_of(&version).is_none_or(|version| version < SQLITE_VERSION_LEAST) {
        return Err(StoreError::Version { found: version });
    }
    Ok(writer)
}

/// A database that was begun without `auto_vacuum` is written anew to have it:
/// <https://sqlite.org/pragma.html#pragma_auto_vacuum>.
async fn vacuum_by_increments(writer: &SqlitePool) -> Result<(), StoreError> {
    let mode: i64 = sqlx::query_scalar("PRAGMA auto_vacuum").fetch_one(writer).await?;
    if mode == 0 {
        sqlx::query("VACUUM").execute(writer).await?;
    }
    Ok(())
}

/// The last migration that this program knows.
fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// The last migration that was run on a database; `None` on a new one.
async fn version_of_rows(pool: &SqlitePool) -> Result<Option<i64>, StoreError> {
    let is_there: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'")
            .fetch_optional(pool)
            .await?;
    if is_there.is_none() {
        return Ok(None);
    }
    Ok(sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations WHERE success").fetch_one(pool).await?)
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

/// So long ago.
fn ago(age: Duration) -> i64 {
    now().saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

fn timestamp(what: &'static str, id: &str, micros: i64) -> Result<jiff::Timestamp, StoreError> {
    jiff::Timestamp::from_microsecond(micros).map_err(|error| row_error(what, id, &error))
}

fn row_error(what: &'static str, id: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Row { what, id: id.to_owned(), why: error.to_string() }
}
