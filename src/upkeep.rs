//! What a server does beside serving and training: takes jobs from workers that are gone, sweeps what nobody names, and
//! removes what is older than it shall be kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::blobs::Blobs;
use crate::config::Keep;
use crate::fault::{self, InjectedFault};
use crate::inventory::{InventoryError, sweep};
use crate::registry::Registry;
use crate::service::{Caller, OperationError, Service};
use crate::store::{Claim, Ended, Held, OldVersions, Place, Store, StoreError};
use crate::telemetry::Metrics;

/// How often, within the time of a lease, it is looked whether it was renewed.
const LOOKS: u32 = 10;

/// The look at which it is seen whether a row can be written.
const PROBE: u32 = 3;

/// A handle to what the upkeep looks after.
#[derive(Clone)]
pub struct Upkeep {
    /// The rows.
    pub store: Store,
    /// The bytes.
    pub blobs: Blobs,
    /// The models in memory.
    pub registry: Registry,
    /// What removes jobs and versions.
    pub service: Service,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// How long a worker holds its job without a sign of life.
    pub lease: Duration,
    /// Deaths of its process, with no checkpoint between, at which a job fails.
    pub crashes_max: u32,
    /// How often files and rows are looked through.
    pub every: Duration,
    /// Ended jobs that are kept.
    pub keep_jobs: Keep,
    /// Versions of each model that are kept.
    pub keep_versions: Keep,
}

impl Upkeep {
    /// Puts the jobs of all workers back in the queue, when none can be alive; returns how many.
    ///
    /// # Errors
    /// If the rows fail.
    pub async fn rescue_all(&self) -> Result<usize, StoreError> {
        let held = self.store.held().await?;
        for &held in &held {
            self.store.rescue(held, self.crashes_max).await?;
        }
        Ok(held.len())
    }

    /// Takes jobs from workers whose lease has run out.
    ///
    /// No clock of another machine or of the wall has a say: a worker that lives counts up its beat, and one whose
    /// beat stood still for the whole time of a lease, as this process counts it, is gone. Looks are counted, not time,
    /// so that a process which was itself suspended does not take its own jobs away. (The manner of Kubernetes' leader
    /// election: <https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>.)
    ///
    /// A disk that takes nothing makes every beat stand still: a worker is gone only if a row could be written, and two
    /// renewals of the lease are missing since.
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
                    tracing::warn!(%error, "leases can't be looked at");
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
                // This process knows of its own that they live.
                if self.store.is_told(held.claim) || *looks == PROBE && !self.can_write().await {
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
        match self.store.rescue(held, self.crashes_max).await {
            Ok(None) => {}
            Ok(Some(state)) => {
                self.metrics.job_rescued();
                tracing::warn!(job = %held.claim.id, attempt = held.claim.attempt, %state, "the worker of a job is gone");
            }
            Err(error) => tracing::warn!(job = %held.claim.id, %error, "a job was not taken from its worker"),
        }
    }

    /// Removes and sweeps now, and then now and then. It may be stopped at any time: the next one goes on from there.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.tidy().await {
                tracing::warn!(%error, "the folder was not tidied");
            }
            tokio::time::sleep(self.every).await;
        }
    }

    /// Removes what is older than it shall be kept, then every file that is surely dead.
    async fn tidy(&self) -> Result<(), InventoryError> {
        let removed = self.remove().await;
        self.registry.refresh().await?;
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

    /// Each job is removed in a commit of its own, and others write in between.
    async fn remove_jobs(&self) -> Result<u64, InventoryError> {
        let mut removed = 0;
        let mut place = Place::default();
        loop {
            let ended = match self.keep_jobs {
                Keep::All => return Ok(removed),
                Keep::Newest(count) => self.store.ended_beyond(count, place).await?,
                Keep::Younger(age) => self.store.ended_for(age, place).await?,
            };
            let Some(last) = ended.last() else { return Ok(removed) };
            place = last.place;
            for Ended { id, .. } in ended {
                match self.service.delete_job(&Caller::server(), id).await {
                    Ok(()) => removed += 1,
                    Err(OperationError::UnknownJob(_) | OperationError::JobNotEnded { .. }) => {}
                    Err(OperationError::Store(error)) if error.is_transient() => return Err(error.into()),
                    Err(error) => tracing::error!(job = %id, %error, "a job is kept that can't be read"),
                }
            }
        }
    }

    /// Of each model the newest version stays, and what an alias means or a job starts from.
    async fn remove_versions(&self) -> Result<u64, InventoryError> {
        let old = match self.keep_versions {
            Keep::All => return Ok(0),
            Keep::Newest(count) => OldVersions::Beyond(count),
            Keep::Younger(age) => OldVersions::For(age),
        };
        let mut removed = 0;
        self.registry.refresh().await?;
        for (name, version) in self.store.old_versions(old).await? {
            // The rows of the newer ones can't be read.
            if self.registry.newest(&name) == Some(version) {
                continue;
            }
            match self.service.delete_version(&Caller::server(), &name, version).await {
                Ok(()) => removed += 1,
                Err(OperationError::Store(error)) => return Err(error.into()),
                // It is needed, or gone already.
                Err(error) => tracing::debug!(%error, "a version stays"),
            }
        }
        Ok(removed)
    }
}

/// Looks since the last one: this one. By the wall clock, in the twin that the proof of the clock must find.
fn looks_since(last: &mut Timestamp, tick: Duration) -> u32 {
    if !fault::has(InjectedFault::WallClock) {
        return 1;
    }
    let now = Timestamp::now();
    let passed = now.duration_since(std::mem::replace(last, now));
    (passed.as_secs_f64() / tick.as_secs_f64()).round() as u32
}
