//! Everything that is specific to SQLite, one file per subject: statements, transactions, pragmas, codes,
//! `VACUUM INTO`. A method of [`SqliteDatabase`] changes rows with one statement or one transaction, and uses the
//! program's own types. State that only one process knows belongs to `dispatch`.
//!
//! One connection writes, another writes the log back, several read.

mod blobs;
mod checkpoints;
mod claims;
mod code;
mod connect;
mod course;
mod file;
mod guard;
mod history;
mod jobs;
mod migrations;
mod models;
mod queue;
mod repair;
mod retention;

use std::io::ErrorKind;
use std::path::Path;

use sqlx::{ConnectOptions, Connection, SqlitePool};

pub(super) use self::code::cause_of_sqlite;
pub use self::file::{files, is_one_file};
pub(super) use self::queue::SqliteWriter;

use self::connect::{READERS, connect, long_reading, only_reading, options, pool, writing};
use self::history::{Migrated, migrated};
use self::migrations::MIGRATIONS;
use super::StoreError;

/// The connections to a database. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct SqliteDatabase {
    writer: SqlitePool,
    reader: SqlitePool,
    /// Reads pages of rows, at the priority of long work.
    pages: SqlitePool,
    /// Writes the log back, so that the writer doesn't have to.
    keeper: SqlitePool,
}

impl SqliteDatabase {
    /// Opens the database at `path`, creates it if it is missing, and runs the migrations.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        // The pool must not create the file. If the file was deleted later, the pool would hide that by
        // creating an empty one.
        writing(path).create_if_missing(true).connect().await?.close().await?;
        let writer = connect(writing(path)).await?;
        migrated(&writer).await?;
        MIGRATIONS.run(&writer).await.map_err(StoreError::Migration)?;
        vacuum_by_increments(&writer).await?;
        Self::of(path, writer).await
    }

    /// Opens the database at `path`, if it is of this version.
    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        let writer = connect(writing(path)).await?;
        match migrated(&writer).await? {
            Migrated::Current => Self::of(path, writer).await,
            Migrated::Older => Err(StoreError::Older),
            Migrated::Empty => Err(StoreError::Empty),
        }
    }

    /// Returns whether there are no tables at `path`, or not even a file. Does not change the rows.
    pub async fn is_empty(path: &Path) -> Result<bool, StoreError> {
        match std::fs::metadata(path) {
            Ok(file) if file.len() > 0 => {}
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(sqlx::Error::Io(error).into()),
        }
        let mut reader = only_reading(path).connect().await?;
        let is_empty = history::is_empty(&history::schema(&mut reader).await?);
        reader.close().await?;
        Ok(is_empty)
    }

    async fn of(path: &Path, writer: SqlitePool) -> Result<Self, StoreError> {
        let reading = options(path).read_only(true);
        Ok(Self {
            writer,
            reader: pool(READERS).connect_with(reading.clone()).await?,
            pages: long_reading(pool(READERS)).connect_lazy_with(reading),
            keeper: pool(1).connect_lazy_with(writing(path)),
        })
    }

    pub async fn close(&self) {
        self.keeper.close().await;
        self.reader.close().await;
        self.pages.close().await;
        self.writer.close().await;
    }
}

/// Rewrites a database that was created without `auto_vacuum`, to turn it on:
/// <https://sqlite.org/pragma.html#pragma_auto_vacuum>.
async fn vacuum_by_increments(writer: &SqlitePool) -> Result<(), StoreError> {
    let mode: i64 = sqlx::query_scalar("PRAGMA auto_vacuum").fetch_one(writer).await?;
    if mode == 0 {
        sqlx::query("VACUUM").execute(writer).await?;
    }
    Ok(())
}

/// Returns the row that a statement has changed, if any, after the change is committed.
///
/// A statement that returns rows commits when it is stepped past its last row. `fetch_optional` would stop at
/// the first row, so a failed commit would go unnoticed.
async fn committed<T>(
    rows: impl Future<Output = Result<Vec<T>, sqlx::Error>>,
) -> Result<Option<T>, sqlx::Error> {
    Ok(rows.await?.pop())
}
