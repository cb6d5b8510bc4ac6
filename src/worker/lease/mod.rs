//! The lease by which a worker holds a job.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatch;
use crate::job::Progress;
use crate::store::{Claim, StoreError};

/// How often the progress of a job is published to its followers.
const TELL: Duration = Duration::from_millis(250);

/// The longest time between two writes of the progress.
const WRITE: Duration = Duration::from_secs(2);

/// Renewals per lease.
const RENEWALS: u32 = 3;

/// A job that a worker holds. A task renews its lease until it is released.
pub(super) struct Lease {
    pub claim: Claim,
    pub progress: Arc<watch::Sender<Progress>>,
    /// Cancelled when the job must stop, because another attempt has it or the server stops.
    pub halt: CancellationToken,
    /// Whether the job waits for the disk.
    pub is_waiting: Arc<AtomicBool>,
    /// Cancelled when the job has another attempt or has ended.
    lost: CancellationToken,
    ended: CancellationToken,
    renewing: JoinHandle<()>,
}

impl Lease {
    /// Holds `claim`, which was just made. The server cancels `stop` when it stops.
    pub fn start(
        dispatch: Dispatch,
        claim: Claim,
        progress: Progress,
        length: Duration,
        stop: &CancellationToken,
        runtime: &Handle,
    ) -> Self {
        let progress = Arc::new(watch::Sender::new(progress));
        let is_waiting = Arc::new(AtomicBool::new(false));
        let (halt, lost, ended) = (stop.child_token(), CancellationToken::new(), CancellationToken::new());
        let renewing = runtime.spawn(renew(
            Teller { dispatch, claim },
            (length / RENEWALS).min(WRITE),
            (Arc::clone(&progress), Arc::clone(&is_waiting)),
            (halt.clone(), lost.clone()),
            ended.clone(),
        ));
        Self { claim, progress, halt, is_waiting, lost, ended, renewing }
    }

    /// Returns whether the job is known to have another attempt or to have ended.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Marks the job as lost to another attempt.
    pub fn lose(&self) {
        self.lost.cancel();
        self.halt.cancel();
    }

    /// Stops the renewals.
    pub async fn end(mut self) {
        self.ended.cancel();
        // The task ends early only if it panics, and the panic has been reported already.
        let _ = (&mut self.renewing).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Publishes the progress of a job within this process until it is dropped. During that time the upkeep
/// does not rescue the job.
struct Teller {
    dispatch: Dispatch,
    claim: Claim,
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.dispatch.forget(self.claim);
    }
}

async fn renew(
    teller: Teller,
    every: Duration,
    (progress, is_waiting): (Arc<watch::Sender<Progress>>, Arc<AtomicBool>),
    (halt, lost): (CancellationToken, CancellationToken),
    ended: CancellationToken,
) {
    let Teller { ref dispatch, claim } = teller;
    let mut changes = dispatch.changes();
    let tick = TELL.min(every);
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewed = Instant::now();
    loop {
        let held = tokio::select! {
            () = ended.cancelled() => return,
            _ = ticks.tick() => {
                let waiting_for_disk = is_waiting.load(Ordering::Relaxed);
                let now = Progress { waiting_for_disk, ..*progress.borrow() };
                dispatch.tell(claim, now);
                if renewed.elapsed() + tick < every {
                    continue;
                }
                renewed = Instant::now();
                dispatch.store().renew(claim, &now).await.map(|()| true)
            }
            changed = changes.recv() => match changed {
                Ok(Some(other)) if other != claim.id => continue,
                Err(RecvError::Closed) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => dispatch.store().is_held(claim).await,
            },
        };
        match held {
            Ok(true) => {}
            Ok(false) | Err(StoreError::Fenced { .. }) => {
                lost.cancel();
                halt.cancel();
                return;
            }
            Err(error) => tracing::warn!(job = %claim.id, %error, "the lease was not renewed"),
        }
    }
}
