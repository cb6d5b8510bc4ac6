//! Primary result codes of SQLite, <https://sqlite.org/rescode.html>.

pub const PERM: i32 = 3;
pub const BUSY: i32 = 5;
pub const READONLY: i32 = 8;
pub const IOERR: i32 = 10;
pub const CORRUPT: i32 = 11;
pub const FULL: i32 = 13;
pub const CANTOPEN: i32 = 14;
pub const NOTADB: i32 = 26;

/// Returns the primary result code of a database error, without its extension.
pub fn primary(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}
