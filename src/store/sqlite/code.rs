//! Primary result codes of SQLite, <https://sqlite.org/rescode.html>.

use sqlx::sqlite::SqliteError;

use crate::store::error::Cause;

const PERM: i32 = 3;
const BUSY: i32 = 5;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;

/// Returns why SQLite failed. Returns `None` if the error is of another kind or database.
pub fn cause_of_sqlite(error: &sqlx::Error) -> Option<Cause> {
    let error = error.as_database_error()?.try_downcast_ref::<SqliteError>()?;
    let extended: i32 = sqlx::error::DatabaseError::code(error)?.parse().ok()?;
    match extended & 0xff {
        FULL | IOERR => Some(Cause::Disk),
        PERM => Some(Cause::Denied),
        READONLY | CANTOPEN => Some(Cause::DiskOrDenied),
        BUSY => Some(Cause::Busy),
        CORRUPT | NOTADB => Some(Cause::Damage),
        _ => None,
    }
}
