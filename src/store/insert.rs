//! A job on its way into the queue, and the result of inserting it. Only the statement is the database's own.

use std::collections::HashSet;

use serde::Serialize;

use super::jobs::JobRow;
use super::{Inserted, NewJob, StoreError, format, row_error};
use crate::job::JobId;

/// The result of each job of a batch, in the order of the batch.
pub(crate) type InsertedEach = Vec<Result<Inserted, StoreError>>;

/// A job to be inserted. What the statement needs is computed before the job waits for its commit.
#[derive(Debug)]
pub(crate) struct NewRow {
    pub(super) id: JobId,
    pub(super) key: Option<Key>,
    request_sha256: String,
    initial_model: Option<String>,
    /// A [`Given`] as JSON.
    given: String,
}

/// A job of a batch, as a statement reads it.
#[derive(Serialize)]
struct Given<'a> {
    id: JobId,
    model: &'a str,
    spec: String,
    idempotency_key: Option<&'a str>,
    bare_key: Option<&'a str>,
    request_sha256: &'a str,
    progress: String,
    initial_model: Option<&'a str>,
    priority: i32,
    owner: &'a str,
    queue_max: u32,
}

/// An idempotency key as it is stored in the rows.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The key together with its owner, separated by a character that neither of them contains.
    pub own: String,
    /// The key alone, as in rows that were written before keys belonged to owners.
    pub bare: String,
}

impl Key {
    pub fn new(owner: &str, key: &str) -> Self {
        Self { own: format!("{owner}\u{1f}{key}"), bare: key.to_owned() }
    }
}

impl NewRow {
    pub fn new(id: JobId, job: NewJob, queue_max: u32) -> Result<Self, StoreError> {
        let key = job.idempotency_key.as_ref().map(|key| Key::new(&job.owner, key));
        let given = Given {
            id,
            model: &job.spec.model,
            spec: format::write(id, &job.spec)?,
            idempotency_key: key.as_ref().map(|key| key.own.as_str()),
            bare_key: key.as_ref().map(|key| key.bare.as_str()),
            request_sha256: &job.request_sha256,
            progress: format::write(id, &job.progress)?,
            initial_model: job.spec.initial_model.as_deref(),
            priority: job.spec.priority,
            owner: &job.owner,
            queue_max,
        };
        let given = serde_json::to_string(&given).map_err(|why| row_error("job", &id.to_string(), &why))?;
        let NewJob { spec, request_sha256, .. } = job;
        Ok(Self { id, key, request_sha256, initial_model: spec.initial_model, given })
    }

    /// Returns whether the version that the job starts from is one of `gone`.
    fn is_gone(&self, gone: &HashSet<&str>) -> bool {
        self.initial_model.as_deref().is_some_and(|one| gone.contains(one))
    }

    /// Returns the result of inserting the job. `row` is its row if it was inserted, and `earlier` the row that has
    /// its key if it was not.
    pub(super) fn result(
        &self,
        row: Option<JobRow>,
        earlier: Option<JobRow>,
        gone: &HashSet<&str>,
    ) -> Result<Inserted, StoreError> {
        match (row, earlier) {
            (Some(row), _) => row.try_into().map(Inserted::Accepted),
            (None, Some(earlier)) => repeated(earlier, &self.request_sha256),
            (None, None) if self.is_gone(gone) => Ok(Inserted::InitialModelGone),
            (None, None) => Ok(Inserted::QueueFull),
        }
    }
}

/// Returns the versions that the jobs of a batch start from.
pub(super) fn initial_models<'a>(batch: &[&'a NewRow]) -> HashSet<&'a str> {
    batch.iter().filter_map(|row| row.initial_model.as_deref()).collect()
}

/// Returns the jobs to insert, as a JSON array. Leaves out jobs that start from one of `gone`, and all jobs but the
/// first with the same key.
pub(super) fn given(batch: &[&NewRow], gone: &HashSet<&str>) -> String {
    let mut keys = HashSet::new();
    let mut is_first = |key: &Option<Key>| key.as_ref().is_none_or(|key| keys.insert(key.own.clone()));
    let given: Vec<&str> = batch
        .iter()
        .filter(|row| !row.is_gone(gone) && is_first(&row.key))
        .map(|row| row.given.as_str())
        .collect();
    format!("[{}]", given.join(","))
}

/// Returns the result of a request whose key belongs to the job in `earlier`.
pub(super) fn repeated(earlier: JobRow, request_sha256: &str) -> Result<Inserted, StoreError> {
    if earlier.request_sha256 == request_sha256 {
        Ok(Inserted::Repeated(earlier.try_into()?))
    } else {
        Ok(Inserted::OtherRequest)
    }
}
