use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::job::{Job, JobId, JobState, Progress};
use crate::store::Claim;

/// The progress of the jobs that run in this process. It is newer than their rows, and known even if the
/// disk is full.
#[derive(Clone, Debug, Default)]
pub(super) struct Live(Arc<Mutex<HashMap<JobId, (u32, Progress)>>>);

impl Live {
    pub fn set(&self, claim: Claim, progress: Progress) {
        self.jobs().insert(claim.id, (claim.attempt, progress));
    }

    pub fn forget(&self, claim: Claim) {
        let mut jobs = self.jobs();
        if jobs.get(&claim.id).is_some_and(|(attempt, _)| *attempt == claim.attempt) {
            jobs.remove(&claim.id);
        }
    }

    /// Returns the claims of all jobs that run in this process.
    pub fn claims(&self) -> Vec<Claim> {
        self.jobs().iter().map(|(&id, &(attempt, _))| Claim { id, attempt }).collect()
    }

    /// Returns attempt and progress of a job that runs in this process.
    pub fn of(&self, id: JobId) -> Option<(u32, Progress)> {
        self.jobs().get(&id).copied()
    }

    /// Returns the job with its live progress, if that is newer than its row.
    pub fn on(&self, mut job: Job) -> Job {
        if job.state == JobState::Running
            && let Some((attempt, progress)) = self.jobs().get(&job.id)
            && *attempt == job.attempt
        {
            job.progress = *progress;
        }
        job
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<JobId, (u32, Progress)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
