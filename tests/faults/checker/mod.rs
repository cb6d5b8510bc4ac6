//! Compares the responses of a server with its final state and its folder.
//!
//! Clients append each request and its response to a [`History`]. [`observe`] reads the final state of the
//! server and its folder. [`check`] describes every contradiction between the two. A request without a
//! response may or may not have been carried out. Only what contradicts both cases is a violation.

mod laws;
mod observe;
mod sha256;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use self::laws::check;
pub use self::observe::{all_ended, check_command, files_under, observe, settled};
pub use self::sha256::sha256;

/// The time of a response that never came.
pub const NEVER: u64 = u64::MAX;

/// A request of a client, and its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `POST /v1/jobs` with the body called `spec`. `id` is the job of a 202, or `None` if there was no
    /// response.
    Posted { key: String, spec: String, id: Option<String> },
    /// A response that contains a job, for example to `GET`.
    State { id: String, state: String, version: Option<u64> },
    /// 404 for a job.
    Missing { id: String },
    /// 202 for a cancellation. The job has ended.
    Cancelled { id: String },
    /// 202 for a resumption.
    Resumed { id: String },
    /// 204 for the deletion of a job.
    Deleted { id: String },
    /// 204 for the deletion of a version.
    VersionDeleted { model: String, version: u64 },
    /// An alias was set to a version, or removed.
    Alias { model: String, alias: String, version: Option<u64> },
    /// The prediction of a version for the reference image.
    Predicted { model: String, version: u64, answer: String },
}

/// The logical times of a request and of its response, which may be [`NEVER`].
#[derive(Clone, Debug)]
pub struct Event {
    pub asked: u64,
    pub told: u64,
    pub what: What,
}

/// All requests and responses, shared by the threads of a test.
#[derive(Debug, Default)]
pub struct History {
    clock: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl History {
    pub fn new() -> Self {
        Self::default()
    }

    /// A history that continues these events.
    pub fn after(events: Vec<Event>) -> Self {
        let times = events.iter().flat_map(|event| [event.asked, event.told]);
        let last = times.filter(|time| *time != NEVER).max().unwrap_or_default();
        Self { clock: AtomicU64::new(last + 1), events: Mutex::new(events) }
    }

    /// Returns the logical time. Clients take it before they send a request.
    pub fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Records the response, which has just arrived, to the request sent at time `asked`.
    pub fn told(&self, asked: u64, what: What) {
        let told = self.now();
        self.append(Event { asked, told, what });
    }

    /// Records a request that will get no response. The server may still carry it out later.
    pub fn unanswered(&self, asked: u64, what: What) {
        self.append(Event { asked, told: NEVER, what });
    }

    /// Records the job in a response: its state and, once there is one, its version.
    pub fn told_job(&self, asked: u64, job: &serde_json::Value) {
        let seen = JobSeen::from_json(job);
        self.told(asked, What::State { id: seen.id, state: seen.state, version: seen.version });
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn append(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// A job as the server returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSeen {
    pub id: String,
    pub state: String,
    pub model: String,
    pub attempt: u64,
    pub version: Option<u64>,
    pub error: Option<String>,
    /// The number of its finished epochs.
    pub epoch: u64,
}

impl JobSeen {
    pub fn from_json(job: &serde_json::Value) -> Self {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            id: text(&job["id"]),
            state: text(&job["state"]),
            model: text(&job["model"]),
            attempt: job["attempt"].as_u64().unwrap_or_default(),
            version: job["result"]["version"].as_u64(),
            error: job["error"]["code"].as_str().map(str::to_owned),
            epoch: job["progress"]["epoch"].as_u64().unwrap_or_default(),
        }
    }

    pub fn has_ended(&self) -> bool {
        is_end(&self.state)
    }
}

/// Returns whether the job stays in this state unless a client resumes it.
pub fn is_end(state: &str) -> bool {
    matches!(state, "succeeded" | "failed" | "cancelled")
}

/// A version of a model: what the server returns, its prediction and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionSeen {
    pub model: String,
    pub version: u64,
    pub job_id: String,
    /// The digest that the server reports.
    pub sha256: String,
    /// The prediction for the reference image, or the error.
    pub answer: Result<String, String>,
    /// The digests of the files whose names contain the job's id.
    pub files: Vec<String>,
}

/// The state of a server and its folder after all jobs have ended.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub jobs: Vec<JobSeen>,
    /// The epochs in the metrics of each succeeded job.
    pub epochs: BTreeMap<String, Vec<u64>>,
    pub versions: Vec<VersionSeen>,
    /// The version that each alias of each model refers to.
    pub aliases: BTreeMap<(String, String), u64>,
    /// The job that each idempotency key returned when it was sent again.
    pub keys: BTreeMap<String, Result<String, String>>,
    /// Descriptions of files that no row accounts for.
    pub stray_files: Vec<String>,
}

/// What a scenario expects.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The digest of an undisturbed run of each spec.
    pub weights: HashMap<String, String>,
    /// Error codes that a failed job may have in this scenario.
    pub may_fail: Vec<String>,
    /// The least number of ended jobs that retention keeps, or `None` if retention is off.
    pub keep_jobs: Option<usize>,
    /// The least number of versions that retention keeps of each model, or `None` if retention is off.
    pub keep_versions: Option<usize>,
}

/// The properties that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// Everything that was acknowledged exists.
    Lost,
    /// One request creates one job, and one job publishes one version.
    Doubled,
    /// Final states are final, and versions never change.
    Changed,
    /// Every job ends, and no job fails.
    Unended,
    /// The weights equal those of an undisturbed run.
    Weights,
    /// The metrics contain every epoch once.
    Metrics,
    /// Every listed version can be downloaded and predicts.
    Serving,
    /// No file is orphaned or missing.
    Files,
    /// The versions of a model are in order of submission.
    Order,
    /// An idempotency key returns its job.
    Key,
    /// An alias refers to the version it was last set to.
    Alias,
}

/// A property that was violated, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub law: Law,
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.words)
    }
}

/// Counts the violations of `law`.
pub fn count(violations: &[Violation], law: Law) -> usize {
    violations.iter().filter(|violation| violation.law == law).count()
}

/// Returns the violations, one per line, for the message of a failed test.
pub fn in_words(violations: &[Violation]) -> String {
    violations.iter().map(|violation| format!("\n  {violation}")).collect()
}
