use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, SqlitePool};

use crate::priority::Priority;
use crate::store::StoreError;

/// In WAL mode, older versions can lose committed rows: <https://sqlite.org/wal.html#walresetbug>.
const VERSION_LEAST: (u32, u32, u32) = (3, 51, 3);

/// Connections in each of the two pools that read: one for short reads, one for pages of rows.
pub(super) const READERS: u32 = 4;

/// A thread that reads pages yields to the serving threads after this many instructions of SQLite's virtual
/// machine.
const LONG_READ_STEPS: i32 = 1_000;

/// How long a statement waits for another process that has the database locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

/// Opens a file without a change to it. Setting the journal mode would write to a new file.
pub(super) fn only_reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT)
}

/// If a file is read-only, SQLite opens it for reading and does not try to write again while it is open.
/// Setting `auto_vacuum` begins a write, so such a connection fails at once and is opened again later.
pub(super) fn writing(path: &Path) -> SqliteConnectOptions {
    options(path).auto_vacuum(SqliteAutoVacuum::Incremental)
}

/// A connection to a file never goes stale. It is neither tested before each use nor replaced after a while.
pub(super) fn pool(connections: u32) -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false);
    pool.idle_timeout(None).max_lifetime(None)
}

/// Lowers the priority of each connection's own thread. Only SQLite's callbacks can run code on that thread.
pub(super) fn long_reading(pool: SqlitePoolOptions) -> SqlitePoolOptions {
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

/// Returns the connection that writes.
pub(super) async fn connect(options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    let writer = pool(1)
        // When a disk fails, SQLite rolls back by itself and then refuses sqlx's rollback. sqlx would
        // consider the connection in a transaction for ever, so the connection is replaced:
        // <https://sqlite.org/lang_transaction.html>, section 3.2.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        .connect_with(options)
        .await?;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&writer).await?;
    if version_of(&version).is_none_or(|version| version < VERSION_LEAST) {
        let (major, minor, patch) = VERSION_LEAST;
        let least = format!("{major}.{minor}.{patch}");
        return Err(StoreError::Version { database: "sqlite", found: version, least });
    }
    Ok(writer)
}

fn version_of(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}
