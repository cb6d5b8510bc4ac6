use sqlx::SqlSafeStr;

use crate::store::{Claim, StoreError};

/// A statement of a worker, which ends in the guard that the job is still its own: `$1` is the job, `$2` the attempt.
#[cfg(not(debug_assertions))]
pub(super) fn guarded(statement: &'static str) -> impl SqlSafeStr {
    statement
}

/// The same; without its guard in the twin that the proofs of fencing must find.
#[cfg(debug_assertions)]
pub(super) fn guarded(statement: &'static str) -> impl SqlSafeStr {
    const GUARD: &str = "attempt = $2 AND state = 'running'";
    debug_assert!(statement.contains(GUARD), "{statement}");
    let is_unfenced = crate::fault::has(crate::fault::InjectedFault::NoFencing);
    sqlx::AssertSqlSafe(if is_unfenced { statement.replace(GUARD, "$2 = $2") } else { statement.to_owned() })
}

/// That a guarded statement has touched its row.
pub(super) fn fence(claim: Claim, rows: u64) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(fenced(claim)) }
}

pub(super) fn fenced(claim: Claim) -> StoreError {
    StoreError::Fenced { id: claim.id, attempt: claim.attempt }
}
