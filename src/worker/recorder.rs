//! What a worker writes of a job while it trains.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Worker, WorkerError};
use crate::artifact::write_checkpoint;
use crate::blobs::Blob;
use crate::data::Dataset;
use crate::job::{EpochRecord, Job, Progress, StepMemory};
use crate::store::{Claim, Heartbeat, Store};
use crate::train::{EpochMetrics, Observer, StepMetrics, StepReport, TrainSpec, TrainState};

/// How often the progress of a job is written, and a wish to cancel it heard.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Steps of a job that are recorded, about.
const STEPS_RECORDED: u64 = 1_000;

/// What the heartbeat has heard last, for the trainer to look at after every step.
#[derive(Debug, Default)]
pub(super) struct Signal(AtomicU8);

impl Signal {
    fn set(&self, heartbeat: Heartbeat) {
        self.0.store(heartbeat as u8, Ordering::Relaxed);
    }

    pub fn get(&self) -> Heartbeat {
        match self.0.load(Ordering::Relaxed) {
            cancel if cancel == Heartbeat::Cancel as u8 => Heartbeat::Cancel,
            fenced if fenced == Heartbeat::Fenced as u8 => Heartbeat::Fenced,
            _ => Heartbeat::GoOn,
        }
    }
}

/// Writes the progress now and then until `ended`.
pub(super) async fn heartbeat(
    store: Store,
    claim: Claim,
    progress: watch::Receiver<Progress>,
    signal: Arc<Signal>,
    ended: CancellationToken,
) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = ended.cancelled() => return,
        }
        match store.record_progress(claim, || *progress.borrow()).await {
            Ok(Heartbeat::GoOn) => {}
            Ok(heard) => signal.set(heard),
            Err(error) => tracing::warn!(job = %claim.id, %error, "progress was not recorded"),
        }
    }
}

/// Turns what the trainer tells into rows, checkpoints and metrics. It has the clock.
pub(super) struct Recorder<'a> {
    worker: &'a Worker,
    runtime: &'a Handle,
    spec: &'a TrainSpec,
    claim: Claim,
    signal: Arc<Signal>,
    pub progress: watch::Sender<Progress>,
    /// Sampled since they were last written.
    pub steps: Vec<StepMetrics>,
    steps_per_epoch: u64,
    elapsed_before: f64,
    started: Instant,
    steps_before: u64,
    epoch_started: Instant,
    epoch_images: usize,
}

impl<'a> Recorder<'a> {
    pub fn new(
        worker: &'a Worker,
        job: &'a Job,
        claim: Claim,
        dataset: &Dataset,
        state: &TrainState,
        signal: Arc<Signal>,
        runtime: &'a Handle,
    ) -> Self {
        let steps_per_epoch = job.spec.steps_per_epoch(dataset.train.labels().len()) as u64;
        let steps = steps_per_epoch * u64::from(job.spec.epochs);
        let progress = Progress {
            epoch: state.epoch + u32::from(state.step > 0),
            step: state.optimizer.steps(),
            fraction: state.optimizer.steps() as f64 / steps as f64,
            eta_seconds: None,
            images_per_second: None,
            ..job.progress
        };
        Self {
            worker,
            runtime,
            spec: &job.spec,
            claim,
            signal,
            progress: watch::Sender::new(progress),
            steps: Vec::new(),
            steps_per_epoch,
            elapsed_before: job.progress.elapsed_seconds,
            started: Instant::now(),
            steps_before: state.optimizer.steps(),
            epoch_started: Instant::now(),
            epoch_images: 0,
        }
    }

    pub fn current(&self) -> Progress {
        *self.progress.borrow()
    }

    /// The progress of a job that is done, be it before its last epoch.
    pub fn finished(&self) -> Progress {
        let elapsed_seconds = self.elapsed_before + self.started.elapsed().as_secs_f64();
        Progress { fraction: 1.0, elapsed_seconds, eta_seconds: Some(0.0), ..self.current() }
    }

    pub fn write_checkpoint(&self, state: &TrainState) -> Result<Blob, WorkerError> {
        let bytes = write_checkpoint(state)?;
        let key =
            format!("jobs/{}/{}-{}.safetensors", self.claim.id, self.claim.attempt, state.optimizer.steps());
        Ok(self.runtime.block_on(self.worker.blobs.put(&key, bytes))?)
    }

    async fn drop_old_checkpoints(&self) -> Result<(), WorkerError> {
        for key in self.worker.store.forget_checkpoints(self.claim, self.spec.checkpoint.keep).await? {
            self.worker.blobs.delete(&key).await?;
        }
        Ok(())
    }
}

impl Observer for Recorder<'_> {
    type Error = WorkerError;

    fn begin(&mut self, workspace_bytes: usize) {
        let memory = StepMemory {
            estimated_bytes: self.spec.workspace_bytes().round() as u64,
            measured_bytes: workspace_bytes as u64,
        };
        self.progress.send_modify(|progress| progress.memory = Some(memory));
    }

    fn step(&mut self, report: &StepReport) -> bool {
        let steps = self.steps_per_epoch * u64::from(self.spec.epochs);
        let step = report.metrics.step;
        self.epoch_images += report.images;
        let in_attempt = self.started.elapsed().as_secs_f64();
        let per_step = in_attempt / (step - self.steps_before).max(1) as f64;
        let images_per_second = self.epoch_images as f64 / self.epoch_started.elapsed().as_secs_f64();
        self.progress.send_replace(Progress {
            epoch: report.epoch,
            epochs: self.spec.epochs,
            step,
            steps,
            fraction: step as f64 / steps as f64,
            images_per_second: Some(images_per_second),
            elapsed_seconds: self.elapsed_before + in_attempt,
            eta_seconds: Some(per_step * steps.saturating_sub(step) as f64),
            memory: self.current().memory,
        });
        if step.is_multiple_of(steps.div_ceil(STEPS_RECORDED)) {
            self.steps.push(report.metrics);
        }
        self.signal.get() == Heartbeat::GoOn && !self.worker.stop.is_cancelled()
    }

    fn epoch(&mut self, metrics: &EpochMetrics, state: &TrainState) -> Result<(), WorkerError> {
        let progress = self.current();
        let record = EpochRecord {
            metrics: metrics.clone(),
            images_per_second: progress.images_per_second.unwrap_or_default(),
            duration_seconds: self.epoch_started.elapsed().as_secs_f64(),
        };
        self.worker.metrics.epoch(self.worker.number, &record);
        let is_due =
            metrics.epoch.is_multiple_of(self.spec.checkpoint.every_epochs) || state.is_finished(self.spec);
        let blob = if is_due { Some(self.write_checkpoint(state)?) } else { None };
        self.runtime.block_on(async {
            let store = &self.worker.store;
            store.record_epoch(self.claim, &record, &self.steps, &progress, blob.as_ref()).await?;
            if blob.is_some() { self.drop_old_checkpoints().await } else { Ok(()) }
        })?;
        self.steps.clear();
        self.epoch_started = Instant::now();
        self.epoch_images = 0;
        Ok(())
    }
}
