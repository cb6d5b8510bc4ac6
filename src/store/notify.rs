use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::MissedTickBehavior;

use super::{Claim, Store};
use crate::job::{JobId, Progress};

/// Changes a listener may lag behind before it is told that it missed some.
const CHANGES_KEPT: usize = 1_024;

/// How often it is looked whether another process has written.
const FOLLOW: Duration = Duration::from_millis(50);

/// Wakes those of this process who wait for a job to change, or to enter the queue.
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
    /// A job, or for `None` any of them, has changed.
    pub fn changed(&self, id: Option<JobId>) {
        // Nobody listening is no fault.
        let _ = self.changes.send(id);
    }

    /// A job may have entered the queue, or be the next of its model now.
    pub fn queued(&self) {
        self.queued.send_replace(());
    }
}

impl Store {
    /// Hears of every job that changes from now on; `None` stands for any of them.
    pub fn changes(&self) -> broadcast::Receiver<Option<JobId>> {
        self.notify.changes.subscribe()
    }

    /// Hears when a job may have entered the queue.
    pub fn queued(&self) -> watch::Receiver<()> {
        self.notify.queued.subscribe()
    }

    /// Tells `changed`, and then those who listen, when other processes have written.
    pub async fn follow<F: Future<Output = ()>>(&self, changed: impl Fn() -> F) {
        let mut ticks = tokio::time::interval(FOLLOW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            match self.database.foreign_commits().await {
                Ok(commits) if seen.replace(commits).is_some_and(|seen| seen != commits) => {
                    changed().await;
                    self.notify.changed(None);
                    self.notify.queued();
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "other processes can't be followed"),
            }
        }
    }

    /// How long it takes on average until a place in the queue is free, as measured.
    pub fn queue_interval(&self) -> Option<Duration> {
        self.pace.interval()
    }

    /// Tells this process how far a job is.
    pub fn tell(&self, claim: Claim, progress: Progress) {
        self.live.set(claim, progress);
        self.notify.changed(Some(claim.id));
    }

    /// Whether this process holds a job: it tells how far it is.
    pub fn is_told(&self, claim: Claim) -> bool {
        self.live.of(claim.id).is_some_and(|(attempt, _)| attempt == claim.attempt)
    }

    /// Forgets what was told.
    pub fn forget(&self, claim: Claim) {
        self.live.forget(claim);
    }

    /// A job has entered the queue.
    pub(super) fn enqueued(&self, id: JobId) {
        self.notify.changed(Some(id));
        self.notify.queued();
    }

    /// A job has ended: the next one of its model may run now.
    pub(super) fn ended(&self, id: JobId) {
        self.pace.ended();
        self.enqueued(id);
    }
}
