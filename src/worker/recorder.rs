//! Turns the reports of the trainer into entries for the scribe. The clock is here, since training has none.

use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::lease::Lease;
use super::scribe::Entry;
use super::{Worker, WorkerError};
use crate::data::Dataset;
use crate::failpoint::{self, Point};
use crate::job::{EpochRecord, Job, Progress, StepMemory};
use crate::nn::Shape;
use crate::train::{EpochMetrics, Observer, StepMetrics, StepReport, TrainSpec, TrainState};

/// The approximate number of steps of a job that are recorded.
const STEPS_RECORDED: u64 = 1_000;

/// The observer of the trainer.
pub(super) struct Recorder<'a> {
    worker: &'a Worker,
    runtime: &'a Handle,
    spec: &'a TrainSpec,
    /// The shape of an image.
    input: Shape,
    lease: &'a Lease,
    entries: mpsc::Sender<Entry>,
    /// Steps sampled since the last entry.
    steps: Vec<StepMetrics>,
    steps_per_epoch: u64,
    elapsed_before: f64,
    started: Instant,
    steps_before: u64,
    epoch_started: Instant,
    epoch_images: usize,
    checkpoint_told: Instant,
    /// Whether an entry was dropped. A later entry would then leave a gap.
    is_cut: bool,
}

impl<'a> Recorder<'a> {
    pub fn new(
        worker: &'a Worker,
        job: &'a Job,
        lease: &'a Lease,
        dataset: &Dataset,
        state: &TrainState,
        entries: mpsc::Sender<Entry>,
        runtime: &'a Handle,
    ) -> Self {
        let steps_per_epoch = job.spec.steps_per_epoch(dataset.train.labels().len()) as u64;
        let steps = steps_per_epoch * u64::from(job.spec.epochs);
        let done = state.optimizer.steps();
        lease.progress.send_replace(Progress {
            epoch: state.epoch + u32::from(state.step > 0),
            step: done,
            fraction: done as f64 / steps as f64,
            eta_seconds: None,
            images_per_second: None,
            waiting_for_disk: false,
            ..job.progress
        });
        let now = Instant::now();
        Self {
            worker,
            runtime,
            spec: &job.spec,
            input: dataset.shape().input,
            lease,
            entries,
            steps: Vec::new(),
            steps_per_epoch,
            elapsed_before: job.progress.elapsed_seconds,
            started: now,
            steps_before: done,
            epoch_started: now,
            epoch_images: 0,
            checkpoint_told: now,
            is_cut: false,
        }
    }

    fn current(&self) -> Progress {
        *self.lease.progress.borrow()
    }

    /// Returns the progress of a finished job, which may have ended before its last epoch.
    pub fn finished(&self) -> Progress {
        let elapsed_seconds = self.elapsed_before + self.started.elapsed().as_secs_f64();
        Progress { fraction: 1.0, elapsed_seconds, eta_seconds: Some(0.0), ..self.current() }
    }

    /// Sends the state in which the job stops, so that it can be resumed later.
    pub fn pause(&mut self, state: Box<TrainState>) -> Result<(), WorkerError> {
        self.tell(None, Some(state))
    }

    /// Waits only if the scribe is far behind. If the job must stop meanwhile, drops this entry and all
    /// later ones.
    fn tell(
        &mut self,
        epoch: Option<EpochRecord>,
        state: Option<Box<TrainState>>,
    ) -> Result<(), WorkerError> {
        if self.is_cut {
            return Ok(());
        }
        if state.is_some() {
            self.checkpoint_told = Instant::now();
        }
        let steps = std::mem::take(&mut self.steps);
        let entry = Entry { epoch, steps, state, progress: self.current() };
        let halt = &self.lease.halt;
        match self.entries.try_send(entry) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(WorkerError::ScribeGone),
            Err(mpsc::error::TrySendError::Full(entry)) => self.runtime.block_on(async {
                tokio::select! {
                    sent = self.entries.send(entry) => sent.map_err(|_| WorkerError::ScribeGone),
                    () = halt.cancelled() => {
                        self.is_cut = true;
                        Ok(())
                    }
                }
            }),
        }
    }
}

impl Observer for Recorder<'_> {
    type Error = WorkerError;

    fn begin(&mut self, workspace_bytes: usize) {
        let memory = StepMemory {
            estimated_bytes: self.spec.workspace_bytes(self.input).round() as u64,
            measured_bytes: workspace_bytes as u64,
        };
        self.lease.progress.send_modify(|progress| progress.memory = Some(memory));
    }

    fn step(&mut self, report: &StepReport) -> bool {
        let steps = self.steps_per_epoch * u64::from(self.spec.epochs);
        let step = report.metrics.step;
        self.epoch_images += report.images;
        let in_attempt = self.started.elapsed().as_secs_f64();
        let per_step = in_attempt / (step - self.steps_before).max(1) as f64;
        let images_per_second = self.epoch_images as f64 / self.epoch_started.elapsed().as_secs_f64();
        self.lease.progress.send_replace(Progress {
            epoch: report.epoch,
            epochs: self.spec.epochs,
            step,
            steps,
            fraction: step as f64 / steps as f64,
            images_per_second: Some(images_per_second),
            elapsed_seconds: self.elapsed_before + in_attempt,
            eta_seconds: Some(per_step * steps.saturating_sub(step) as f64),
            ..self.current()
        });
        if step.is_multiple_of(steps.div_ceil(STEPS_RECORDED)) {
            self.steps.push(report.metrics);
        }
        failpoint::point(Point::Step);
        !self.lease.halt.is_cancelled()
    }

    fn is_checkpoint_due(&self) -> bool {
        self.checkpoint_told.elapsed() >= self.worker.checkpoint_every
    }

    fn checkpoint(&mut self, state: &TrainState) -> Result<(), WorkerError> {
        self.tell(None, Some(Box::new(state.clone())))
    }

    fn is_stopped(&self) -> bool {
        self.lease.halt.is_cancelled()
    }

    fn epoch(&mut self, metrics: &EpochMetrics, state: &TrainState) -> Result<(), WorkerError> {
        let record = EpochRecord {
            metrics: metrics.clone(),
            images_per_second: self.current().images_per_second.unwrap_or_default(),
            duration_seconds: self.epoch_started.elapsed().as_secs_f64(),
        };
        self.worker.metrics.epoch(self.worker.number, &record);
        let is_due =
            metrics.epoch.is_multiple_of(self.spec.checkpoint.every_epochs) || state.is_finished(self.spec);
        self.tell(Some(record), is_due.then(|| Box::new(state.clone())))?;
        self.epoch_started = Instant::now();
        self.epoch_images = 0;
        Ok(())
    }
}
