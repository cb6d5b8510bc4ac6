use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::MissedTickBehavior;

use super::Dispatch;
use crate::job::{JobId, Progress};
use crate::store::Claim;

/// How many changes a listener may fall behind before it misses some.
const CHANGES_KEPT: usize = 1_024;

/// The interval between two checks for writes of other processes.
const FOLLOW: Duration = Duration::from_millis(50);

/// Wakes the tasks of this process that wait for a job to change or to enter the queue.
#[derive(Clone, Debug)]
pub(super) struct Notify {
    changes: broadcast::Sender<Option<JobId>>,
    queued: watch::Sender<()>,
}

impl Default for Notify {
    fn default() -> Self {
        Self { changes: broadcast::channel(CHANGES_KEPT).0, queued: watch::channel(()).0 }
    }
}

impl Notify {
    /// Notifies listeners that a job has changed, or with `None` that any job may have changed.
    pub fn changed(&self, id: Option<JobId>) {
        // An error means that nobody listens.
        let _ = self.changes.send(id);
    }

    /// Notifies workers that a job may have entered the queue or become the next one of its model.
    pub fn queued(&self) {
        self.queued.send_replace(());
    }
}

impl Dispatch {
    /// Subscribes to changes of jobs. `None` means that any job may have changed.
    pub fn changes(&self) -> broadcast::Receiver<Option<JobId>> {
        self.notify.changes.subscribe()
    }

    /// Subscribes to jobs that may have entered the queue.
    pub fn queued(&self) -> watch::Receiver<()> {
        self.notify.queued.subscribe()
    }

    /// Checks for writes of other processes. After each one, calls `changed` and then notifies the
    /// listeners.
    pub async fn follow<F: Future<Output = ()>>(&self, changed: impl Fn() -> F) {
        let mut ticks = tokio::time::interval(FOLLOW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            match self.store.foreign_commits().await {
                Ok(commits) if seen.replace(commits).is_some_and(|seen| seen != commits) => {
                    changed().await;
                    self.notify.changed(None);
                    self.notify.queued();
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "can't check for writes of other processes"),
            }
        }
    }

    /// Returns the measured mean time between the ends of two jobs.
    pub fn queue_interval(&self) -> Option<Duration> {
        self.pace.interval()
    }

    /// Publishes the progress of a job within this process.
    pub fn tell(&self, claim: Claim, progress: Progress) {
        self.live.set(claim, progress);
        self.notify.changed(Some(claim.id));
    }

    /// Returns whether this process holds a job and publishes its progress.
    pub fn is_told(&self, claim: Claim) -> bool {
        self.live.of(claim.id).is_some_and(|(attempt, _)| attempt == claim.attempt)
    }

    /// Forgets the progress of a job.
    pub fn forget(&self, claim: Claim) {
        self.live.forget(claim);
    }

    /// Notifies listeners and workers that a job has entered the queue.
    pub(super) fn enqueued(&self, id: JobId) {
        self.notify.changed(Some(id));
        self.notify.queued();
    }

    /// Notifies listeners and workers that a job has ended, so that the next job of its model may run.
    pub(super) fn ended(&self, id: JobId) {
        self.pace.ended();
        self.enqueued(id);
    }
}
