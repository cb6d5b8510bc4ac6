//! What clients were told of a server, and what must then be true of it and its folder.
//!
//! Clients append to a [`History`] what they asked and were told; [`observe`] reads the server and its folder
//! at the end; [`check`] says in words whatever of the history and the end can't both be true. What was asked and
//! never answered may have happened or not: nothing is held against a server that can be explained by either.

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

/// The time of an answer that never came.
pub const NEVER: u64 = u64::MAX;

/// Something a client asked, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `POST /v1/jobs` with the body called `spec`, told 202 and `id`; `None` where no answer came.
    Posted { key: String, spec: String, id: Option<String> },
    /// `GET` of a job, or any other answer that holds one.
    State { id: String, state: String, version: Option<u64> },
    /// 404 for a job.
    Missing { id: String },
    /// 202 for a cancellation: the job has ended with it.
    Cancelled { id: String },
    /// 202 for a resumption.
    Resumed { id: String },
    /// 204 for the deletion of a job.
    Deleted { id: String },
    /// 204 for the deletion of a version.
    VersionDeleted { model: String, version: u64 },
    /// An alias was set to a version, or removed.
    Alias { model: String, alias: String, version: Option<u64> },
    /// What a version said to the image that is always asked about.
    Predicted { model: String, version: u64, answer: String },
}

/// What was asked at one logical time and answered at another, or [`NEVER`].
#[derive(Clone, Debug)]
pub struct Event {
    pub asked: u64,
    pub told: u64,
    pub what: What,
}

/// All that clients asked and were told; threads share it.
#[derive(Debug, Default)]
pub struct History {
    clock: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl History {
    pub fn new() -> Self {
        Self::default()
    }

    /// A history that goes on from these events.
    pub fn after(events: Vec<Event>) -> Self {
        let times = events.iter().flat_map(|event| [event.asked, event.told]);
        let last = times.filter(|time| *time != NEVER).max().unwrap_or_default();
        Self { clock: AtomicU64::new(last + 1), events: Mutex::new(events) }
    }

    /// The logical time: taken before a request is sent.
    pub fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Records an answer that has just come to what was asked at `asked`.
    pub fn told(&self, asked: u64, what: What) {
        let told = self.now();
        self.append(Event { asked, told, what });
    }

    /// Records a request that will never be answered: it may have been carried out, even later.
    pub fn unanswered(&self, asked: u64, what: What) {
        self.append(Event { asked, told: NEVER, what });
    }

    /// Records the job of an answer: its state and, once there is one, its version.
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

/// A job as the server shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSeen {
    pub id: String,
    pub state: String,
    pub model: String,
    pub attempt: u64,
    pub version: Option<u64>,
    pub error: Option<String>,
    /// Its epochs so far.
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

/// Whether nothing follows this state, unless somebody resumes the job.
pub fn is_end(state: &str) -> bool {
    matches!(state, "succeeded" | "failed" | "cancelled")
}

/// A version of a model as the server lists it, its answer to an image, and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionSeen {
    pub model: String,
    pub version: u64,
    pub job_id: String,
    /// The digest the server says.
    pub sha256: String,
    /// What it said to the image, or what it said instead.
    pub answer: Result<String, String>,
    /// The digests of the files that bear the job's id.
    pub files: Vec<String>,
}

/// A server and its folder after all jobs have ended.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub jobs: Vec<JobSeen>,
    /// The epochs in the metrics of each job that succeeded.
    pub epochs: BTreeMap<String, Vec<u64>>,
    pub versions: Vec<VersionSeen>,
    /// The version of each model and alias.
    pub aliases: BTreeMap<(String, String), u64>,
    /// The job that each key answered with when it was posted once more.
    pub keys: BTreeMap<String, Result<String, String>>,
    /// Files nobody accounts for, in words.
    pub stray_files: Vec<String>,
}

/// What a scenario allows.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The digest of an undisturbed run of each spec.
    pub weights: HashMap<String, String>,
    /// Codes with which a job may fail here.
    pub may_fail: Vec<String>,
    /// So many ended jobs are kept at least; `None` where retention is off.
    pub keep_jobs: Option<usize>,
    /// So many of the newest versions of a model are kept at least; `None` where retention is off.
    pub keep_versions: Option<usize>,
}

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// What was acknowledged is there.
    Lost,
    /// One request makes one job, one job one version.
    Doubled,
    /// An end is an end, a version stays what it is.
    Changed,
    /// Every job comes to an end, and not by a failure.
    Unended,
    /// The weights are those of an undisturbed run.
    Weights,
    /// The metrics have every epoch once.
    Metrics,
    /// What is listed answers, and its file is whole.
    Serving,
    /// No file is left over or missing.
    Files,
    /// Versions come in order of submission.
    Order,
    /// A key answers with its job.
    Key,
    /// An alias means what it was last set to.
    Alias,
}

/// A law that was broken, and how.
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

/// How many of `violations` are against `law`.
pub fn count(violations: &[Violation], law: Law) -> usize {
    violations.iter().filter(|violation| violation.law == law).count()
}

/// The violations a line each, for the message of a failed test.
pub fn in_words(violations: &[Violation]) -> String {
    violations.iter().map(|violation| format!("\n  {violation}")).collect()
}
