use crate::nn::{Network, Optimizer, Shape, ShapeError, StepLoss};
use crate::train::{EpochMetrics, TrainSpec};

/// The state from which a run can resume. Together with the spec and the data it determines every bit of the
/// result.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// The parameters and buffers.
    pub network: Network<f32>,
    /// The average of the weights over the steps, if the spec asks for one.
    pub average: Option<Network<f32>>,
    /// The update rule and its state.
    pub optimizer: Optimizer<f32>,
    /// Number of completed epochs.
    pub epoch: u32,
    /// Number of steps already taken in the current epoch.
    pub step: usize,
    /// Loss and accuracy of these steps.
    pub running: StepLoss,
    /// The lowest validation loss so far.
    pub best_validation_loss: Option<f64>,
    /// Number of epochs since the lowest validation loss.
    pub stale_epochs: u32,
    /// Validation accuracy of the last epoch.
    pub validation_accuracy: Option<f64>,
}

impl TrainState {
    /// The state before the first step, for images of shape `input`.
    ///
    /// # Errors
    /// If the layers don't fit each other. This doesn't happen with a parsed spec.
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

    /// Ends the epoch with these metrics.
    pub(super) fn end_epoch(&mut self, metrics: &EpochMetrics) {
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

    /// Whether there is nothing left to train.
    pub fn is_finished(&self, spec: &TrainSpec) -> bool {
        let reached = match (spec.target_accuracy, self.validation_accuracy) {
            (Some(target), Some(accuracy)) => accuracy >= target,
            _ => false,
        };
        let is_stale = spec.early_stopping.is_some_and(|early| self.stale_epochs >= early.patience);
        self.epoch >= spec.epochs || reached || is_stale
    }
}
