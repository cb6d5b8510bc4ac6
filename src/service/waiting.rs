use tokio::sync::broadcast::Receiver;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Caller, OperationError, Service};
use crate::admission::Lane;
use crate::job::{Job, JobId};

/// Notifications about changes of jobs.
pub(super) struct JobChanges(Receiver<Option<JobId>>);

impl JobChanges {
    /// Waits until job `id` has changed, or may have changed because a notification was missed.
    pub(super) async fn of(&mut self, id: JobId) {
        while let Ok(other) = self.0.recv().await {
            if other.is_none_or(|other| other == id) {
                return;
            }
        }
    }
}

impl Service {
    /// Subscribes to changes of jobs.
    pub(super) fn changes(&self) -> JobChanges {
        JobChanges(self.dispatch.changes())
    }

    /// Returns a job as soon as it has ended, or as it is at `deadline` or when `stop` is cancelled.
    /// `before_waiting` is called before the first wait.
    ///
    /// # Errors
    /// Returns an error if there is no such job, if too many callers wait, or if the database can't be read.
    pub async fn ended_job(
        &self,
        caller: &Caller,
        id: JobId,
        deadline: Instant,
        stop: &CancellationToken,
        before_waiting: impl FnOnce(),
    ) -> Result<Job, OperationError> {
        let mut changes = self.changes();
        let is_over = |job: &Job| job.state.is_ended() || Instant::now() >= deadline || stop.is_cancelled();
        let job = self.job(caller, id).await?;
        if is_over(&job) {
            return Ok(job);
        }
        let waits_max = self.limits.waits_max;
        let _seat = self.admission.wait(caller.peer()).ok_or(OperationError::TooManyWaits { waits_max })?;
        before_waiting();
        loop {
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = stop.cancelled() => {}
                () = changes.of(id) => {}
            }
            let _place = self.admission.enter(Lane::Other, caller.peer()).await?;
            let job = self.job(caller, id).await?;
            if is_over(&job) {
                return Ok(job);
            }
        }
    }
}
