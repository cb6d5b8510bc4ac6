use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SqliteDatabase;
use crate::store::StoreError;

/// How many pages are returned to the file system at a time, and the pause in which other writes can
/// run.
const SHRINK_PAGES: u32 = 64;
const SHRINK_PAUSE: Duration = Duration::from_millis(20);

/// What SQLite appends to the name of a database to name the files beside it:
/// <https://sqlite.org/tempfiles.html>.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Returns the path of every file that the database at `path` may consist of. The first one is `path` itself.
pub fn files(path: &Path) -> [PathBuf; 4] {
    let [log, shared, journal] = BESIDE.map(|ending| beside(path, ending));
    [path.to_owned(), log, shared, journal]
}

/// Returns whether the file at `path` is the whole database, which is closed. On a full disk SQLite leaves the
/// write-ahead log beside it.
pub fn is_one_file(path: &Path) -> bool {
    let [_, log, ..] = files(path);
    std::fs::metadata(log).map_or(0, |found| found.len()) == 0
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl SqliteDatabase {
    /// See <https://sqlite.org/pragma.html#pragma_wal_checkpoint>.
    pub async fn write_back(&self) -> Result<(), StoreError> {
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_all(&self.keeper).await?;
        Ok(())
    }

    /// The number counts the commits of all other connections. The connection that asks is the only writer of this
    /// process: <https://sqlite.org/pragma.html#pragma_data_version>.
    pub async fn foreign_commits(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("PRAGMA data_version").fetch_one(&self.writer).await?)
    }

    /// Copies all rows to a new file: <https://sqlite.org/lang_vacuum.html#vacuuminto>.
    pub async fn snapshot(&self, path: &Path) -> Result<(), StoreError> {
        let path = path.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO $1").bind(path).execute(&self.writer).await?;
        Ok(())
    }

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

    pub async fn shrink(&self) -> Result<(), StoreError> {
        let mut free = i64::MAX;
        loop {
            let left: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&self.writer).await?;
            // If other processes have freed as many pages meanwhile, the next call returns them.
            if left == 0 || left >= free {
                return Ok(());
            }
            free = left;
            let some = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({SHRINK_PAGES})"));
            sqlx::query(some).fetch_all(&self.writer).await?;
            tokio::time::sleep(SHRINK_PAUSE).await;
        }
    }

    pub async fn probe(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.reader).await?;
        sqlx::query("UPDATE model_revision SET revision = revision").execute(&self.writer).await?;
        Ok(())
    }
}
