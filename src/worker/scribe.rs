//! Writes the trainer's reports on its own thread, so that training waits for the disk only if the disk
//! falls far behind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::lease::Lease;
use super::{Worker, WorkerError};
use crate::artifact::write_checkpoint;
use crate::failpoint::{self, Point};
use crate::job::{BlobKey, EpochRecord, Progress};
use crate::store::{Claim, NewCheckpoint, Recorded};
use crate::train::{StepMetrics, TrainState};

/// The most entries that may wait. When that many wait, training waits as well.
pub(super) const ENTRIES: usize = 4;

/// The first and the longest pause after a failed write.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A part of the trainer's report.
pub(super) struct Entry {
    /// The epoch, if one has ended.
    pub epoch: Option<EpochRecord>,
    /// Steps sampled since the last entry.
    pub steps: Vec<StepMetrics>,
    /// The state to save as a checkpoint, if one is due.
    pub state: Option<Box<TrainState>>,
    /// The progress of the job.
    pub progress: Progress,
}

impl Worker {
    /// Writes entries in order until there are no more. Entries that arrive during a write share the next
    /// commit.
    ///
    /// # Errors
    /// Returns an error if the job has another attempt, or if the server stops before the disk has accepted
    /// everything.
    pub(super) async fn scribe(
        &self,
        lease: &Lease,
        keep: u32,
        mut entries: mpsc::Receiver<Entry>,
    ) -> Result<(), WorkerError> {
        while let Some(entry) = entries.recv().await {
            let mut batch = vec![entry];
            while let Ok(entry) = entries.try_recv() {
                batch.push(entry);
            }
            self.write(lease, keep, batch).await.inspect_err(|_| lease.halt.cancel())?;
        }
        Ok(())
    }

    async fn write(&self, lease: &Lease, keep: u32, batch: Vec<Entry>) -> Result<(), WorkerError> {
        let mut recorded = Recorded::default();
        if let Err(error) = self.record(lease, batch, &mut recorded).await {
            for checkpoint in recorded.checkpoints {
                self.take_back(lease, &error, &checkpoint.blob.key).await;
            }
            return Err(error);
        }
        if recorded.checkpoints.is_empty() {
            return Ok(());
        }
        match self.store.forget_checkpoints(lease.claim, keep).await {
            Ok(keys) => self.blobs.delete_dead(keys).await,
            Err(error) => tracing::warn!(job = %lease.claim.id, %error, "old checkpoints are kept"),
        }
        Ok(())
    }

    async fn record(
        &self,
        lease: &Lease,
        batch: Vec<Entry>,
        recorded: &mut Recorded,
    ) -> Result<(), WorkerError> {
        for entry in batch {
            if let Some(state) = entry.state {
                recorded.checkpoints.push(self.write_state(lease, state, entry.epoch.is_some()).await?);
            }
            recorded.epochs.extend(entry.epoch);
            recorded.steps.extend(entry.steps);
            recorded.progress = entry.progress;
        }
        self.until_taken(lease, async || Ok(self.dispatch.record(lease.claim, recorded).await?)).await
    }

    async fn write_state(
        &self,
        lease: &Lease,
        state: Box<TrainState>,
        is_epoch: bool,
    ) -> Result<NewCheckpoint, WorkerError> {
        let step = state.optimizer.steps();
        let epoch = state.epoch + u32::from(state.step > 0);
        let validation_accuracy = state.validation_accuracy.filter(|_| is_epoch);
        let bytes = tokio::task::spawn_blocking(move || write_checkpoint(&state));
        let bytes =
            bytes.await.map_err(|_| WorkerError::Panic("writing a checkpoint panicked".to_owned()))??;
        let bytes = Bytes::from(bytes);
        let Claim { id: job, attempt } = lease.claim;
        let key = BlobKey::Checkpoint { job, attempt, step }.to_string();
        failpoint::point(Point::BeforeCheckpointBlob);
        let blob = self.until_taken(lease, async || Ok(self.blobs.put(&key, bytes.clone()).await?)).await?;
        failpoint::point(Point::AfterCheckpointBlob);
        Ok(NewCheckpoint { epoch, step, validation_accuracy, blob })
    }

    /// Deletes a blob that this attempt wrote, if the attempt has lost the job and no row names the blob.
    pub(super) async fn take_back(&self, lease: &Lease, error: &WorkerError, key: &str) {
        // A commit that was reported as failed may have named it.
        if (error.is_fenced() || lease.is_lost()) && matches!(self.store.is_named(key).await, Ok(false)) {
            self.blobs.delete_dead([key.to_owned()]).await;
        }
    }

    /// Repeats a write until the disk accepts it. Meanwhile the job reports that it waits. Once the server
    /// stops, the next failure is final.
    ///
    /// # Errors
    /// Returns an error if the job has another attempt, or if the server stops.
    pub(super) async fn until_taken<T>(
        &self,
        lease: &Lease,
        write: impl AsyncFn() -> Result<T, WorkerError>,
    ) -> Result<T, WorkerError> {
        let mut pause = PAUSES.0;
        loop {
            let error = match write().await {
                Ok(written) => {
                    if lease.is_waiting.swap(false, Ordering::Relaxed) {
                        tracing::info!(job = %lease.claim.id, "the disk accepts the job's data again");
                    }
                    return Ok(written);
                }
                Err(error) if error.is_transient() => error,
                Err(error) => {
                    if error.is_fenced() {
                        lease.lose();
                    }
                    return Err(error);
                }
            };
            if !lease.is_waiting.swap(true, Ordering::Relaxed) {
                tracing::error!(job = %lease.claim.id, %error, "the job waits for the disk");
            }
            if lease.halt.is_cancelled() {
                return Err(error);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = lease.halt.cancelled() => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}
