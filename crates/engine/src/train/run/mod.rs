//! The training loop as one function of spec, data and state.

mod figures;
mod images;
mod observer;
mod state;

use self::figures::{measure, measured_step, unmeasured};
use self::images::Augmented;
pub use self::observer::{Observer, StepReport};
pub use self::state::TrainState;
use super::{EpochMetrics, LayerMetrics, StepMetrics, TrainSpec};
use crate::data::{Dataset, Partition, Split, epoch_order};
use crate::nn::{Batch, Draw, Images, Loss, Network, Plan, ThreadPool, Trainer, Workspace};

/// Loss and accuracy on a whole split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Fraction of correct predictions.
    pub accuracy: f64,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done, or the target accuracy or early stopping ended the run.
    Finished {
        /// The final state.
        state: Box<TrainState>,
        /// The only evaluation on the test split.
        test: Evaluation,
    },
    /// The observer stopped the run.
    Stopped {
        /// The state from which the run can resume.
        state: Box<TrainState>,
    },
    /// The observer stopped the run during an evaluation, when there is no state from which it could resume.
    Interrupted,
}

/// The reason why a run failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrainError<E> {
    /// The loss became infinite or NaN.
    #[error("the loss is not finite at step {step} of epoch {epoch}; try a lower learning rate")]
    Diverged {
        /// Number of the epoch, starting at 1.
        epoch: u32,
        /// Number of the step in the job, starting at 1.
        step: u64,
    },
    /// The observer returned an error.
    #[error(transparent)]
    Observer(E),
}

/// Trains from `state` to the end of `spec`.
///
/// The result is a function of spec, data and state. Neither the number of threads of `pool` nor interruptions change a
/// single bit of it.
///
/// # Errors
/// If the loss becomes infinite or NaN, or the observer returns an error.
pub fn run<O: Observer>(
    spec: &TrainSpec,
    dataset: &Dataset,
    mut state: TrainState,
    pool: &ThreadPool,
    observer: &mut O,
) -> Result<Outcome, TrainError<O::Error>> {
    let examples = dataset.train.labels().len();
    let partition =
        Partition::new(spec.samples(examples), spec.validation_samples(examples), examples, spec.seed);
    let mut run = Run::new(spec, dataset, &partition, &state, pool);
    observer.begin(run.workspace.memory_bytes());
    while !state.is_finished(spec) {
        let Some(learning_rate) = run.epoch(&mut state, observer)? else {
            return Ok(Outcome::Stopped { state: Box::new(state) });
        };
        let Some(validation) = run.validate(&state, &|| observer.is_stopped()) else {
            return Ok(Outcome::Interrupted);
        };
        if validation.is_some_and(|validation| !validation.loss.is_finite()) {
            return Err(diverged(&state).into());
        }
        let metrics = run.metrics(&state, learning_rate, validation);
        state.end_epoch(&metrics);
        observer.epoch(&metrics, &state).map_err(TrainError::Observer)?;
    }
    Ok(run.finish(state, &|| observer.is_stopped())?)
}

/// The data of a run, without its state.
struct Run<'a> {
    spec: &'a TrainSpec,
    dataset: &'a Dataset,
    partition: &'a Partition,
    pool: &'a ThreadPool,
    loss: Loss,
    steps_per_epoch: usize,
    images: Box<dyn Images<f32> + 'a>,
    workspace: Workspace<f32>,
    /// The network before the step whose metrics are computed.
    before_step: Network<f32>,
    /// The metrics of the layers in that step.
    layers: Vec<LayerMetrics>,
}

impl<'a> Run<'a> {
    fn new(
        spec: &'a TrainSpec,
        dataset: &'a Dataset,
        partition: &'a Partition,
        state: &TrainState,
        pool: &'a ThreadPool,
    ) -> Self {
        let images: Box<dyn Images<f32> + 'a> = match spec.augment {
            Some(augment) => Box::new(Augmented { augment, split: &dataset.train }),
            None => Box::new(dataset.train.images().view()),
        };
        let nonzero_fraction = dataset.statistics().nonzero_fraction;
        let plan =
            Plan::new(&state.network.kinds(), state.network.shapes(), spec.batch_size, nonzero_fraction);
        Self {
            spec,
            dataset,
            partition,
            pool,
            loss: Loss { kind: spec.loss, label_smoothing: spec.label_smoothing },
            steps_per_epoch: spec.steps_per_epoch(dataset.train.labels().len()),
            images,
            workspace: Workspace::planned(&state.network, plan),
            before_step: state.network.clone(),
            layers: unmeasured(&state.network),
        }
    }

    /// Takes the remaining steps of the epoch. Returns the learning rate of the last one, or `None` if the
    /// observer stops the run.
    fn epoch<O: Observer>(
        &mut self,
        state: &mut TrainState,
        observer: &mut O,
    ) -> Result<Option<f64>, TrainError<O::Error>> {
        let order = epoch_order(&self.partition.train, self.spec.seed, state.epoch);
        // If that step has already been taken, only the last step of the epoch remains.
        let measured = measured_step(order.len(), self.spec.batch_size).max(state.step);
        let mut learning_rate = 0.0;
        while state.step < self.steps_per_epoch {
            let mut next = |report: &StepReport| match observer.step(report) {
                false => Next::Stop,
                true if observer.is_checkpoint_due() => Next::Checkpoint,
                true => Next::Step,
            };
            let (next, rate) = self.steps(state, &order, measured, &mut next)?;
            learning_rate = rate;
            match next {
                Next::Step => {}
                Next::Checkpoint => observer.checkpoint(state).map_err(TrainError::Observer)?,
                Next::Stop => return Ok(None),
            }
        }
        Ok(Some(learning_rate))
    }

    /// Takes steps until the end of the epoch, or until `next` asks for something else. Also returns the
    /// learning rate of the last step.
    fn steps(
        &mut self,
        state: &mut TrainState,
        order: &[u32],
        measured: usize,
        next: &mut dyn FnMut(&StepReport) -> Next,
    ) -> Result<(Next, f64), Diverged> {
        let spec = self.spec;
        let TrainState { network, optimizer, average, running, step, epoch, .. } = state;
        let draw = Draw { seed: spec.seed, epoch: *epoch };
        let (images, labels) = (self.images.as_ref(), self.dataset.train.labels());
        let mut trainer = Trainer::new(&mut self.workspace, network, optimizer);
        let mut learning_rate = 0.0;
        for rows in order.chunks(spec.batch_size).skip(*step) {
            let (number, is_measured) = (trainer.steps() + 1, *step == measured);
            learning_rate = rate(spec, number, self.steps_per_epoch);
            trainer.watch(is_measured);
            if is_measured {
                self.before_step.copy_from(trainer.network());
            }
            let batch = Batch { images, labels, rows, draw };
            let result = trainer.step(&self.loss, batch, learning_rate, spec.gradient_clip_norm, self.pool);
            let loss = result.loss_sum / rows.len() as f64;
            if !loss.is_finite() {
                return Err(Diverged { epoch: *epoch + 1, step: number });
            }
            if let (Some(average), Some(decay)) = (average.as_mut(), spec.ema_decay) {
                match number {
                    1 => average.copy_from(trainer.network()),
                    _ => average.average_with(trainer.network(), decay),
                }
            }
            if is_measured {
                measure(&mut self.layers, &self.before_step, trainer.parts());
            }
            *step += 1;
            running.loss_sum += result.loss_sum;
            running.correct += result.correct;
            let metrics = StepMetrics { step: number, loss, learning_rate };
            let next = next(&StepReport { epoch: *epoch + 1, images: rows.len(), metrics });
            // The layer metrics are not part of the state, so the epoch is not interrupted after they are
            // computed.
            if *step <= measured && next != Next::Step {
                return Ok((next, learning_rate));
            }
        }
        Ok((Next::Step, learning_rate))
    }

    /// Evaluates the validation examples, if there are any. `None` if the observer stops the run.
    fn validate(&mut self, state: &TrainState, is_stopped: &dyn Fn() -> bool) -> Option<Option<Evaluation>> {
        let (split, rows) = (&self.dataset.train, self.partition.validation.as_slice());
        if rows.is_empty() { Some(None) } else { self.evaluate(state, split, rows, is_stopped).map(Some) }
    }

    /// Evaluates the published network on some examples of a split.
    fn evaluate(
        &mut self,
        state: &TrainState,
        split: &Split,
        rows: &[u32],
        is_stopped: &dyn Fn() -> bool,
    ) -> Option<Evaluation> {
        let pixels = split.images().view();
        let batch = Batch { images: &pixels, labels: split.labels(), rows, draw: Draw::default() };
        let go_on = || !is_stopped();
        let sum = self.workspace.evaluate(state.published(), &self.loss, batch, self.pool, go_on)?;
        let examples = rows.len() as f64;
        Some(Evaluation { loss: sum.loss_sum / examples, accuracy: sum.correct as f64 / examples })
    }

    /// The metrics of an epoch after its last step.
    fn metrics(
        &self,
        state: &TrainState,
        learning_rate: f64,
        validation: Option<Evaluation>,
    ) -> EpochMetrics {
        let trained = self.partition.train.len() as f64;
        EpochMetrics {
            epoch: state.epoch + 1,
            train_loss: state.running.loss_sum / trained,
            train_accuracy: state.running.correct as f64 / trained,
            validation_loss: validation.map(|validation| validation.loss),
            validation_accuracy: validation.map(|validation| validation.accuracy),
            learning_rate,
            layers: self.layers.clone(),
        }
    }

    /// Evaluates the test split, once.
    fn finish(mut self, state: TrainState, is_stopped: &dyn Fn() -> bool) -> Result<Outcome, Diverged> {
        let rows: Vec<u32> = (0..self.dataset.test.labels().len() as u32).collect();
        let Some(test) = self.evaluate(&state, &self.dataset.test, &rows, is_stopped) else {
            return Ok(Outcome::Interrupted);
        };
        if !test.loss.is_finite() {
            return Err(diverged(&state));
        }
        Ok(Outcome::Finished { state: Box::new(state), test })
    }
}

/// The learning rate of step `number` of a job. The first step is 1.
fn rate(spec: &TrainSpec, number: u64, steps_per_epoch: usize) -> f64 {
    let steps_per_epoch = steps_per_epoch as u64;
    let steps = steps_per_epoch * u64::from(spec.epochs);
    spec.schedule.rate(spec.optimizer.learning_rate(), number - 1, steps, steps_per_epoch)
}

/// What follows a step.
#[derive(PartialEq)]
enum Next {
    Step,
    Checkpoint,
    Stop,
}

/// The loss became infinite or NaN. See [`TrainError::Diverged`].
struct Diverged {
    epoch: u32,
    step: u64,
}

impl<E> From<Diverged> for TrainError<E> {
    fn from(Diverged { epoch, step }: Diverged) -> Self {
        Self::Diverged { epoch, step }
    }
}

/// The error for a validation or test loss that is infinite or NaN. It names the last step.
fn diverged(state: &TrainState) -> Diverged {
    let step = state.optimizer.steps();
    Diverged { epoch: state.epoch + u32::from(state.step > 0), step }
}
