//! The periodic tasks of a server: rescuing jobs from dead workers, deleting orphaned files, and retention.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::blobs::Blobs;
use crate::config::Keep;
use crate::dispatch::Dispatch;
use crate::failpoint::{self, InjectedFault};
use crate::inventory::{InventoryError, sweep};
use crate::registry::Registry;
use crate::service::{Caller, OperationError, Service};
use crate::store::{Claim, Ended, EndedPosition, Held, OldVersions, Store, StoreError};
use crate::telemetry::Metrics;

/// How many times a lease is observed before it expires.
const LOOKS: u32 = 10;

/// The observation at which the server checks that the disk accepts writes, if the beat has not changed.
const PROBE: u32 = 3;

/// A handle to everything that the periodic tasks need.
#[derive(Clone)]
pub struct Upkeep {
    /// Puts the jobs of dead workers back in the queue.
    pub dispatch: Dispatch,
    /// The jobs, versions and leases.
    pub store: Store,
    /// The files to sweep.
    pub blobs: Blobs,
    /// The models in memory.
    pub registry: Registry,
    /// Deletes jobs and versions.
    pub service: Service,
    /// Counts the rescued jobs.
    pub metrics: Arc<Metrics>,
    /// How long a worker holds its job without a beat.
    pub lease: Duration,
    /// A job fails after its server has crashed this many times without a new checkpoint in between.
    pub crashes_max: u32,
    /// The time between two sweeps.
    pub every: Duration,
    /// Which ended jobs to keep.
    pub keep_jobs: Keep,
    /// Which versions of each model to keep.
    pub keep_versions: Keep,
}

impl Upkeep {
    /// Puts the jobs of all workers back in the queue. Called when no worker can be alive. Returns the number
    /// of jobs.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn rescue_all(&self) -> Result<usize, StoreError> {
        let mut rescued = 0;
        for held in self.store.held().await? {
            if self.dispatch.rescue(held, self.crashes_max).await?.is_some() {
                self.metrics.job_rescued();
                rescued += 1;
            }
        }
        Ok(rescued)
    }

    /// Rescues jobs from workers whose lease has expired.
    ///
    /// No clock is involved, neither the wall clock nor another machine's. A living worker increments its
    /// beat. A worker is gone if its beat did not change during a whole lease, as counted by this process.
    /// Observations are counted instead of time, so that a process that was suspended does not rescue its own
    /// jobs. This is similar to Kubernetes' leader election:
    /// <https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>.
    ///
    /// A full disk stops every beat. So a worker counts as gone only if a row could be written and two
    /// renewals are still missing after that.
    pub async fn watch_leases(&self) {
        let mut ticks = tokio::time::interval(self.lease / LOOKS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen: HashMap<Claim, (i64, u32)> = HashMap::new();
        let mut last = Timestamp::now();
        loop {
            ticks.tick().await;
            let new_looks = looks_since(&mut last, self.lease / LOOKS);
            let held = match self.store.held().await {
                Ok(held) => held,
                Err(error) => {
                    tracing::warn!(%error, "leases can't be observed");
                    continue;
                }
            };
            seen.retain(|claim, _| held.iter().any(|held| held.claim == *claim));
            for held in held {
                let (beat, looks) = seen.entry(held.claim).or_insert((held.beat, 0));
                if *beat != held.beat {
                    (*beat, *looks) = (held.beat, 0);
                }
                *looks += new_looks;
                // This process knows that its own workers are alive.
                if self.dispatch.is_told(held.claim) || *looks == PROBE && !self.can_write().await {
                    *looks = 0;
                } else if *looks > LOOKS {
                    self.rescue(held).await;
                    *looks = 0;
                }
            }
        }
    }

    async fn can_write(&self) -> bool {
        let written = self.store.probe().await;
        written.inspect_err(|error| tracing::warn!(%error, "leases can't be renewed")).is_ok()
    }

    async fn rescue(&self, held: Held) {
        match self.dispatch.rescue(held, self.crashes_max).await {
            Ok(None) => {}
            Ok(Some(state)) => {
                self.metrics.job_rescued();
                tracing::warn!(job = %held.claim.id, attempt = held.claim.attempt, %state, "the worker of a job is gone");
            }
            Err(error) => tracing::warn!(job = %held.claim.id, %error, "a job was not taken from its worker"),
        }
    }

    /// Runs retention and sweeps, once now and then periodically. The future may be dropped at any time. The
    /// next run continues where it stopped.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.tidy().await {
                tracing::warn!(%error, "the folder was not tidied");
            }
            tokio::time::sleep(self.every).await;
        }
    }

    /// Runs retention, then deletes every file that no row will ever name.
    async fn tidy(&self) -> Result<(), InventoryError> {
        let removed = self.remove().await;
        self.registry.refresh().await?;
        self.service.forget_deleted_models();
        let files = sweep(&self.store, &self.blobs, false).await?;
        let (jobs, versions) = removed?;
        self.store.shrink().await?;
        if jobs + versions + files > 0 {
            tracing::info!(jobs, versions, files, "tidied");
        }
        Ok(())
    }

    async fn remove(&self) -> Result<(u64, u64), InventoryError> {
        Ok((self.remove_jobs().await?, self.remove_versions().await?))
    }

    /// Each job is deleted in its own commit, so that other writes can run in between.
    async fn remove_jobs(&self) -> Result<u64, InventoryError> {
        let mut removed = 0;
        let mut position = EndedPosition::default();
        loop {
            let ended = match self.keep_jobs {
                Keep::All => return Ok(removed),
                Keep::Newest(count) => self.store.ended_beyond(count, position).await?,
                Keep::Younger(age) => self.store.ended_for(age, position).await?,
            };
            let Some(last) = ended.last() else { return Ok(removed) };
            position = last.position;
            for Ended { id, .. } in ended {
                match self.service.delete_job(&Caller::server(), id).await {
                    Ok(()) => removed += 1,
                    Err(OperationError::UnknownJob(_) | OperationError::JobNotEnded { .. }) => {}
                    Err(OperationError::Store(error)) if error.is_transient() => return Err(error.into()),
                    Err(error) => tracing::error!(job = %id, %error, "a job that can't be read is kept"),
                }
            }
        }
    }

    /// Keeps the newest version of each model, and every version that an alias or a job needs.
    async fn remove_versions(&self) -> Result<u64, InventoryError> {
        let old = match self.keep_versions {
            Keep::All => return Ok(0),
            Keep::Newest(count) => OldVersions::Beyond(count),
            Keep::Younger(age) => OldVersions::For(age),
        };
        let mut removed = 0;
        self.registry.refresh().await?;
        for (name, version) in self.store.old_versions(old).await? {
            // The rows of the newer versions can't be read, so this is the newest version that works.
            if self.registry.newest(&name) == Some(version) {
                continue;
            }
            match self.service.delete_version(&Caller::server(), &name, version).await {
                Ok(()) => removed += 1,
                Err(OperationError::Store(error)) => return Err(error.into()),
                // The version is needed, or was deleted already.
                Err(error) => tracing::debug!(%error, "a version is kept"),
            }
        }
        Ok(removed)
    }
}

/// Returns how many observations to count: 1. The known-bad twin computes the number from the wall clock.
fn looks_since(last: &mut Timestamp, tick: Duration) -> u32 {
    if !failpoint::has(InjectedFault::WallClock) {
        return 1;
    }
    let now = Timestamp::now();
    let passed = now.duration_since(std::mem::replace(last, now));
    (passed.as_secs_f64() / tick.as_secs_f64()).round() as u32
}
