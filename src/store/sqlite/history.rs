//! Which migrations a database has run, and whether it has everything that they create.

use std::collections::HashSet;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor, SqliteExecutor, SqlitePool};

use super::migrations::MIGRATIONS;
use crate::store::StoreError;

/// Every table, index, trigger and column. SQLite adds some of its own, such as the index of a primary key.
const SCHEMA: &str = r"
    SELECT type || ' ' || name FROM sqlite_master WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\'
    UNION ALL
    SELECT 'column ' || made.name || '.' || info.name
    FROM sqlite_master AS made JOIN pragma_table_info(made.name) AS info WHERE made.type = 'table'";

/// The table in which sqlx records the migrations.
const RECORD: &str = "_sqlx_migrations";

/// How many of the migrations a database has run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Migrated {
    /// None: it has no tables.
    Empty,
    /// The first ones.
    Older,
    /// All of them.
    Current,
}

/// Compares a database with the migrations. It must have everything that they create, and may have more.
pub(super) async fn migrated(database: &SqlitePool) -> Result<Migrated, StoreError> {
    let found = schema(database).await?;
    let run = match found.contains(&format!("table {RECORD}")) {
        true => migrations_run(database).await?,
        false => 0,
    };
    let has: HashSet<&String> = found.iter().collect();
    let made = made_by_the_first(run).await?;
    if let Some(missing) = made.iter().find(|made| !has.contains(made)) {
        return Err(StoreError::Foreign { why: format!("{missing} is missing") });
    }
    match run {
        0 if is_empty(&found) => Ok(Migrated::Empty),
        0 => Err(StoreError::Foreign { why: "it has tables, but has run no migration".to_owned() }),
        run if run < MIGRATIONS.iter().len() => Ok(Migrated::Older),
        _ => Ok(Migrated::Current),
    }
}

/// Returns whether a database has no tables. A process that dies while it creates the database can leave the
/// record of the migrations.
pub(super) fn is_empty(schema: &[String]) -> bool {
    schema.iter().all(|made| made.contains(RECORD))
}

/// Returns how many migrations a database has run, if these are the first ones that this program knows.
async fn migrations_run(database: &SqlitePool) -> Result<usize, StoreError> {
    let recorded = sqlx::query_as("SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version");
    let recorded: Vec<(i64, bool, Vec<u8>)> = recorded.fetch_all(database).await?;
    let known = MIGRATIONS.iter().last().map_or(0, |migration| migration.version);
    if let Some(&(found, ..)) = recorded.last().filter(|(version, ..)| *version > known) {
        return Err(StoreError::Newer { found, known });
    }
    for (migration, (found, is_complete, checksum)) in MIGRATIONS.iter().zip(&recorded) {
        let expected = migration.version;
        let why = match () {
            () if *found < expected => format!("migration {found} is unknown"),
            () if *found > expected => format!("migration {expected} is missing"),
            () if !is_complete => format!("migration {found} was not completed"),
            () if **checksum != *migration.checksum => {
                format!("migration {found} differs from the one of this program")
            }
            () => continue,
        };
        return Err(StoreError::Foreign { why });
    }
    Ok(recorded.len())
}

/// Returns the schema that the first `count` migrations create.
async fn made_by_the_first(count: usize) -> Result<Vec<String>, StoreError> {
    let mut memory = SqliteConnectOptions::new().in_memory(true).connect().await?;
    for migration in MIGRATIONS.iter().take(count) {
        memory.execute(migration.sql.clone()).await?;
    }
    schema(&mut memory).await
}

/// Returns what a database has: `table jobs`, `column jobs.id` and so on.
pub(super) async fn schema(database: impl SqliteExecutor<'_>) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(SCHEMA).fetch_all(database).await?)
}
