use sqlx::SqlSafeStr;

use crate::store::{Claim, StoreError};

/// Marks a worker's statement. The statement must contain the guard that the job still has its attempt: `$1`
/// is the job, `$2` the attempt.
#[cfg(not(debug_assertions))]
pub(super) fn guarded(statement: &'static str) -> impl SqlSafeStr {
    statement
}

/// Returns the guarded statement. For the known-bad twin of fencing, returns it without its guard.
#[cfg(debug_assertions)]
pub(super) fn guarded(statement: &'static str) -> impl SqlSafeStr {
    const GUARD: &str = "attempt = $2 AND state = 'running'";
    debug_assert!(statement.contains(GUARD), "{statement}");
    let is_unfenced = crate::failpoint::has(crate::failpoint::InjectedFault::NoFencing);
    sqlx::AssertSqlSafe(if is_unfenced { statement.replace(GUARD, "$2 = $2") } else { statement.to_owned() })
}

/// Returns an error if a guarded statement has changed no row.
pub(super) fn fence(claim: Claim, rows: u64) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(fenced(claim)) }
}

pub(super) fn fenced(claim: Claim) -> StoreError {
    StoreError::Fenced { id: claim.id, attempt: claim.attempt }
}
