use std::convert::Infallible;

use crate::data::{Augment, Dataset, Partition, Split, epoch_order};
use crate::nn::kernel::{prefetch, vectorized};
use crate::nn::{
    Batch, Draw, Images, Loss, Network, Optimizer, Plan, Pool, Shape, ShapeError, StepLoss, Trainer,
    Workspace, square_sum,
};

use super::{EpochMetrics, LayerMetrics, StepMetrics, TrainSpec};

/// What is told about a training run, and who may stop it; one that says nothing lets it run.
pub trait Observer {
    /// What an observer can fail with.
    type Error;

    /// Before the first step, with the bytes that the workspace of a step takes.
    fn begin(&mut self, _workspace_bytes: usize) {}

    /// After every step; `false` stops the run.
    fn step(&mut self, _report: &StepReport) -> bool {
        true
    }

    /// Asked after every step but the last of an epoch: whether it shall be told the state now.
    fn is_checkpoint_due(&self) -> bool {
        false
    }

    /// In the middle of an epoch, with the state a run can go on from.
    ///
    /// # Errors
    /// Ends the run.
    fn checkpoint(&mut self, _state: &TrainState) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Asked while a split is measured: whether the run shall end there.
    fn is_stopped(&self) -> bool {
        false
    }

    /// After every epoch, with the state a run can go on from.
    ///
    /// # Errors
    /// Ends the run.
    fn epoch(&mut self, _metrics: &EpochMetrics, _state: &TrainState) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Nobody: the run goes to its end.
impl Observer for () {
    type Error = Infallible;
}

/// Where a run stands after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// Images of the step.
    pub images: usize,
    /// The step.
    pub metrics: StepMetrics,
}

/// All that a run can go on from: with the spec and the data it decides every bit of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// The parameters.
    pub network: Network<f32>,
    /// The average of the parameters over the steps, where the spec asks for one.
    pub average: Option<Network<f32>>,
    /// The update rule and its state.
    pub optimizer: Optimizer<f32>,
    /// Epochs completed.
    pub epoch: u32,
    /// Steps of the next epoch already taken.
    pub step: usize,
    /// What those steps came to.
    pub running: StepLoss,
    /// The lowest validation loss so far.
    pub best_validation_loss: Option<f64>,
    /// Epochs since then.
    pub stale_epochs: u32,
    /// Validation accuracy of the last epoch.
    pub validation_accuracy: Option<f64>,
}

/// A figure of a whole split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Fraction of right answers.
    pub accuracy: f64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done, or a goal is reached.
    Finished {
        /// The state at the end.
        state: Box<TrainState>,
        /// Measured once, on the test split.
        test: Evaluation,
    },
    /// The observer stopped it.
    Stopped {
        /// The state it can go on from.
        state: Box<TrainState>,
    },
    /// The observer stopped it while a split was measured, between two states that it could go on from.
    Interrupted,
}

/// Why a run ended early.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrainError<E> {
    /// The loss is no finite number any more.
    #[error("the loss is not finite at step {step} of epoch {epoch}; try a lower learning rate")]
    Diverged {
        /// Number of the epoch, from 1.
        epoch: u32,
        /// Number of the step in the job, from 1.
        step: u64,
    },
    /// The observer failed.
    #[error(transparent)]
    Observer(E),
}

impl TrainState {
    /// The state before the first step, for images of shape `input`.
    ///
    /// # Errors
    /// If the layers don't fit each other, which a parsed spec rules out.
    pub fn new(spec: &TrainSpec, input: Shape) -> Result<Self, ShapeError> {
        let network = Network::new(input, &spec.network.layers, spec.seed)?;
        let optimizer = Optimizer::new(spec.optimizer, &network);
        Ok(Self {
            average: spec.ema_decay.map(|_| network.clone()),
            network,
            optimizer,
            epoch: 0,
            step: 0,
            running: StepLoss::default(),
            best_validation_loss: None,
            stale_epochs: 0,
            validation_accuracy: None,
        })
    }

    /// Ends the epoch that has come to `metrics`.
    fn end_epoch(&mut self, metrics: &EpochMetrics) {
        self.epoch += 1;
        self.step = 0;
        self.running = StepLoss::default();
        self.validation_accuracy = metrics.validation_accuracy;
        match (metrics.validation_loss, self.best_validation_loss) {
            (Some(now), Some(best)) if now >= best => self.stale_epochs += 1,
            (now, _) => {
                self.best_validation_loss = now;
                self.stale_epochs = 0;
            }
        }
    }

    /// The network that is validated, tested and published.
    pub fn published(&self) -> &Network<f32> {
        self.average.as_ref().unwrap_or(&self.network)
    }

    /// Whether nothing is left to train.
    pub fn is_finished(&self, spec: &TrainSpec) -> bool {
        let reached = match (spec.target_accuracy, self.validation_accuracy) {
            (Some(target), Some(accuracy)) => accuracy >= target,
            _ => false,
        };
        let is_stale = spec.early_stopping.is_some_and(|early| self.stale_epochs >= early.patience);
        self.epoch >= spec.epochs || reached || is_stale
    }
}

/// Trains from `state` to the end of `spec`.
///
/// The result is a function of spec, data and state: the number of threads of `pool` and the stops
/// on the way change no bit of it.
///
/// # Errors
/// If the loss stops being finite, or the observer fails.
pub fn run<O: Observer>(
    spec: &TrainSpec,
    dataset: &Dataset,
    mut state: TrainState,
    pool: &Pool,
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
        let Some(validation) = run.validate(&state, observer) else { return Ok(Outcome::Interrupted) };
        if validation.is_some_and(|validation| !validation.loss.is_finite()) {
            return Err(diverged(&state));
        }
        let metrics = run.metrics(&state, learning_rate, validation);
        state.end_epoch(&metrics);
        observer.epoch(&metrics, &state).map_err(TrainError::Observer)?;
    }
    run.finish(state, observer)
}

/// What a run needs besides its state.
struct Run<'a> {
    spec: &'a TrainSpec,
    dataset: &'a Dataset,
    partition: &'a Partition,
    pool: &'a Pool,
    loss: Loss,
    steps_per_epoch: usize,
    images: Box<dyn Images<f32> + 'a>,
    workspace: Workspace<f32>,
    /// The network before the step that is measured.
    before_step: Network<f32>,
    /// What that step has come to.
    layers: Vec<LayerMetrics>,
}

impl<'a> Run<'a> {
    fn new(
        spec: &'a TrainSpec,
        dataset: &'a Dataset,
        partition: &'a Partition,
        state: &TrainState,
        pool: &'a Pool,
    ) -> Self {
        let images: Box<dyn Images<f32> + 'a> = match spec.augment {
            Some(augment) => Box::new(Augmented { augment, split: &dataset.train }),
            None => Box::new(dataset.train.images().view()),
        };
        let nonzero_fraction = dataset.statistics().nonzero_fraction;
        let plan = Plan::new(&state.network.kinds(), spec.batch_size, nonzero_fraction);
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

    /// Takes the steps of the epoch that are left; the learning rate of the last one, or `None` if the observer stops the run.
    fn epoch<O: Observer>(
        &mut self,
        state: &mut TrainState,
        observer: &mut O,
    ) -> Result<Option<f64>, TrainError<O::Error>> {
        let order = epoch_order(&self.partition.train, self.spec.seed, state.epoch);
        // After that step only the last one is left to measure.
        let measured = measured_step(order.len(), self.spec.batch_size).max(state.step);
        let mut learning_rate = 0.0;
        while state.step < self.steps_per_epoch {
            let (pause, rate) = self.steps(state, &order, measured, observer)?;
            learning_rate = rate;
            match pause {
                Pause::EpochEnd => {}
                Pause::Checkpoint => observer.checkpoint(state).map_err(TrainError::Observer)?,
                Pause::Stop => return Ok(None),
            }
        }
        Ok(Some(learning_rate))
    }

    /// Takes steps until something interrupts them; also returns the learning rate of the last one.
    fn steps<O: Observer>(
        &mut self,
        state: &mut TrainState,
        order: &[u32],
        measured: usize,
        observer: &mut O,
    ) -> Result<(Pause, f64), TrainError<O::Error>> {
        let spec = self.spec;
        let steps = self.steps_per_epoch as u64 * u64::from(spec.epochs);
        let TrainState { network, optimizer, average, running, step, epoch, .. } = state;
        let draw = Draw { seed: spec.seed, epoch: *epoch };
        let mut trainer = Trainer::new(&mut self.workspace, network, optimizer);
        let mut last = 0.0;
        for rows in order.chunks(spec.batch_size).skip(*step) {
            let done = trainer.steps();
            let rate =
                spec.schedule.rate(spec.optimizer.learning_rate(), done, steps, self.steps_per_epoch as u64);
            let is_measured = *step == measured;
            trainer.watch(is_measured);
            if is_measured {
                self.before_step.copy_from(trainer.network());
            }
            let images = self.images.as_ref();
            let batch = Batch { images, labels: self.dataset.train.labels(), rows, draw };
            let result = trainer.step(&self.loss, batch, rate, spec.gradient_clip_norm, self.pool);
            let metrics = StepMetrics {
                step: done + 1,
                loss: result.loss_sum / rows.len() as f64,
                learning_rate: rate,
            };
            if !metrics.loss.is_finite() {
                return Err(TrainError::Diverged { epoch: *epoch + 1, step: metrics.step });
            }
            match (average.as_mut(), spec.ema_decay) {
                (Some(average), _) if done == 0 => average.copy_from(trainer.network()),
                (Some(average), Some(decay)) => average.average_with(trainer.network(), decay),
                _ => {}
            }
            if is_measured {
                measure(&mut self.layers, &self.before_step, trainer.parts());
            }
            *step += 1;
            running.loss_sum += result.loss_sum;
            running.correct += result.correct;
            last = rate;
            let goes_on = observer.step(&StepReport { epoch: *epoch + 1, images: rows.len(), metrics });
            // What was measured is in no state, so from there on an epoch goes to its end.
            if *step > measured {
                continue;
            }
            if !goes_on {
                return Ok((Pause::Stop, last));
            }
            if observer.is_checkpoint_due() {
                return Ok((Pause::Checkpoint, last));
            }
        }
        Ok((Pause::EpochEnd, last))
    }

    /// Measures the examples that are held out, if there are any; `None` if the observer stops the run.
    fn validate<O: Observer>(&mut self, state: &TrainState, observer: &O) -> Option<Option<Evaluation>> {
        let (split, rows) = (&self.dataset.train, self.partition.validation.as_slice());
        if rows.is_empty() { Some(None) } else { self.evaluate(state, split, rows, observer).map(Some) }
    }

    /// What the network that is published comes to on some examples of a split.
    fn evaluate<O: Observer>(
        &mut self,
        state: &TrainState,
        split: &Split,
        rows: &[u32],
        observer: &O,
    ) -> Option<Evaluation> {
        let pixels = split.images().view();
        let batch = Batch { images: &pixels, labels: split.labels(), rows, draw: Draw::default() };
        let go_on = || !observer.is_stopped();
        let sum = self.workspace.evaluate(state.published(), &self.loss, batch, self.pool, go_on)?;
        let examples = rows.len() as f64;
        Some(Evaluation { loss: sum.loss_sum / examples, accuracy: sum.correct as f64 / examples })
    }

    /// The figures of an epoch whose steps are taken.
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

    /// Measures the test split, once.
    fn finish<O: Observer>(
        mut self,
        state: TrainState,
        observer: &O,
    ) -> Result<Outcome, TrainError<O::Error>> {
        let rows: Vec<u32> = (0..self.dataset.test.labels().len() as u32).collect();
        let Some(test) = self.evaluate(&state, &self.dataset.test, &rows, observer) else {
            return Ok(Outcome::Interrupted);
        };
        if !test.loss.is_finite() {
            return Err(diverged(&state));
        }
        Ok(Outcome::Finished { state: Box::new(state), test })
    }
}

/// Why steps are interrupted: the network is then whole again.
enum Pause {
    EpochEnd,
    Checkpoint,
    Stop,
}

/// The last step taken has ruined the weights.
fn diverged<E>(state: &TrainState) -> TrainError<E> {
    let step = state.optimizer.steps();
    TrainError::Diverged { epoch: state.epoch + u32::from(state.step > 0), step }
}

/// Images that are changed anew in each epoch.
struct Augmented<'a> {
    augment: Augment,
    split: &'a Split,
}

impl Images<f32> for Augmented<'_> {
    fn write(&self, index: u32, draw: Draw, image: &mut [f32]) {
        let pixels = self.split.image(index as usize);
        vectorized!(self.augment.write(pixels, draw.seed, draw.epoch, index, image));
    }

    fn prefetch(&self, index: u32) {
        prefetch(self.split.image(index as usize));
    }
}

/// The step of an epoch, from 0, whose figures are told: the last with a whole batch, or the only one.
fn measured_step(examples: usize, batch_size: usize) -> usize {
    (examples / batch_size).max(1) - 1
}

/// Room for the figures of each layer.
fn unmeasured(network: &Network<f32>) -> Vec<LayerMetrics> {
    let layer = |index| LayerMetrics {
        layer: network.layer_name(index),
        gradient_norm: None,
        weight_norm: None,
        update_ratio: None,
        dead_fraction: None,
    };
    (0..network.layers().len()).map(layer).collect()
}

/// The figures of a step that was watched, from the weights before it and after.
fn measure(
    layers: &mut [LayerMetrics],
    before: &Network<f32>,
    (network, workspace): (&Network<f32>, &Workspace<f32>),
) {
    let mut gradients = workspace.gradients().iter();
    for (index, metrics) in layers.iter_mut().enumerate() {
        metrics.dead_fraction = workspace.dead_fraction(network, index);
        let [now, before] = [network, before].map(|network| network.layers()[index].parameters());
        if let (Some((weight, bias)), Some(before)) = (now, before)
            && let Some(gradient) = gradients.next()
        {
            let norm = (square_sum(weight.iter()) + square_sum(bias.iter())).sqrt();
            let change = distance_squared(weight.iter(), before.0.iter())
                + distance_squared(bias.iter(), before.1.iter());
            metrics.gradient_norm = Some(gradient.square_sum().sqrt());
            metrics.weight_norm = Some(norm);
            metrics.update_ratio = (norm > 0.0).then(|| change.sqrt() / norm);
        }
    }
}

/// `‖a − b‖²`, in `f64`.
fn distance_squared<'a>(a: impl Iterator<Item = &'a f32>, b: impl Iterator<Item = &'a f32>) -> f64 {
    a.zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}
