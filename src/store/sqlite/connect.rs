use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, SqlitePool};

use crate::priority::Priority;
use crate::store::StoreError;

/// WAL loses committed rows below this version: <https://sqlite.org/wal.html#walresetbug>.
pub const VERSION_LEAST: (u32, u32, u32) = (3, 51, 3);

/// Connections that read what is short, and those that read pages of rows.
pub(super) const READERS: u32 = 4;

/// Instructions of SQLite's virtual machine after which a thread that reads pages yields to those that serve.
const LONG_READ_STEPS: i32 = 1_000;

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

/// SQLite opens for reading what it can't open for writing, and is content with that for as long as it is open. A
/// connection that sets `auto_vacuum` begins a write, so that such a one is refused at once, and tried anew.
pub(super) fn writing(path: &Path) -> SqliteConnectOptions {
    options(path).auto_vacuum(SqliteAutoVacuum::Incremental)
}

/// A connection to a file is never stale: it needs no test before each use, and no other in its place after a while.
pub(super) fn pool(connections: u32) -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false);
    pool.idle_timeout(None).max_lifetime(None)
}

/// Each connection has a thread of its own, which only what SQLite calls back can reach.
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

/// The connection that writes, to a library that loses nothing.
pub(super) async fn connect(options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    let writer = pool(1)
        // SQLite itself rolls back when a disk fails, and then refuses the rollback that sqlx sends: the connection would count as
        // in a transaction for good. Another takes its place. <https://sqlite.org/lang_transaction.html>, section 3.2.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        .connect_with(options)
        .await?;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&writer).await?;
    if version_of(&version).is_none_or(|version| version < VERSION_LEAST) {
        return Err(StoreError::Version { found: version });
    }
    Ok(writer)
}

fn version_of(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}
