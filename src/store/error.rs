use std::sync::Arc;

use sqlx::migrate::MigrateError;

use super::database::cause_of;
use crate::job::JobId;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error("migration: {0}")]
    Migration(#[source] MigrateError),
    /// The database has run other migrations than those of this program, or lacks something that they make.
    #[error("its tables do not match the migrations of this chainrule: {why}")]
    Foreign {
        /// The first difference.
        why: String,
    },
    /// A newer chainrule has written the database.
    #[error("a newer chainrule has written it: its rows are of version {found}, this one knows {known}")]
    Newer {
        /// The version of its schema.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// An older chainrule has written the database, and it may not be migrated now.
    #[error("an older chainrule has written it; start a server on this folder once to migrate it")]
    Older,
    /// The database has no tables.
    #[error("it is empty; start a server on this folder once to create its tables")]
    Empty,
    /// The commit of a batch that this write was part of failed.
    #[error(transparent)]
    Commit(Arc<StoreError>),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The version of the database has a bug that loses rows.
    #[error("{database} {found} is older than {least}")]
    Version {
        /// Name of the database.
        database: &'static str,
        /// The version that is used.
        found: String,
        /// The oldest version without the bug.
        least: String,
    },
    /// A value of a row that this version can't read or write.
    #[error("{what} of {id} can't be read: {why}")]
    Row {
        /// The column.
        what: &'static str,
        /// The key of the row.
        id: String,
        /// Why it can't be parsed.
        why: String,
    },
    /// The job has another attempt, or has ended.
    #[error("attempt {attempt} of job {id} is not the current one")]
    Fenced {
        /// Id of the job.
        id: JobId,
        /// The attempt of the write.
        attempt: u32,
    },
}

/// Why a database failed. Each database translates its own codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The disk is full or failing.
    Disk,
    /// The process may not use the database.
    Denied,
    /// The database can't be opened or written, because of the disk or because the process may not do so.
    DiskOrDenied,
    /// Another process has the database locked.
    Busy,
    /// The database is damaged, or is no database.
    Damage,
}

impl StoreError {
    /// Returns whether the disk refuses writes: it is full, read-only or failing.
    pub fn is_of_disk(&self) -> bool {
        matches!(self.cause(), Some(Cause::Disk | Cause::DiskOrDenied))
    }

    /// Returns whether another process has the database locked.
    pub fn is_busy(&self) -> bool {
        self.cause() == Some(Cause::Busy)
    }

    /// Returns whether the file may not be opened or written.
    pub fn is_denied(&self) -> bool {
        matches!(self.cause(), Some(Cause::Denied | Cause::DiskOrDenied))
    }

    /// Returns whether the same statement may succeed later: the disk is full or failing, or the
    /// database is locked.
    pub fn is_transient(&self) -> bool {
        match self {
            _ if self.cause() == Some(Cause::Damage) => false,
            Self::Database(sqlx::Error::Database(error)) => {
                matches!(error.kind(), sqlx::error::ErrorKind::Other)
            }
            Self::Database(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => false,
            Self::Commit(error) => error.is_transient(),
            Self::Database(_) | Self::Closed => true,
            _ => false,
        }
    }

    fn cause(&self) -> Option<Cause> {
        match self {
            Self::Database(error)
            | Self::Migration(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                cause_of(error)
            }
            Self::Commit(error) => error.cause(),
            _ => None,
        }
    }
}

pub(super) fn row_error(what: &'static str, id: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Row { what, id: id.to_owned(), why: error.to_string() }
}
