use serde::{Deserialize, Serialize};

use super::{Cost, step_bytes};
use crate::data::{Augment, DatasetShape};
use crate::nn::{LayerSpec, LossKind, OptimizerSpec, Schedule, Shape};

/// A validated training job with all defaults filled in. With the data and the initial state, it determines the result
/// of [`run`](super::run). Its JSON is a valid request for the same job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields without a description are what their names say")]
pub struct TrainSpec {
    /// Name of the model to publish.
    pub model: String,
    pub dataset: String,
    pub network: NetworkSpec,
    pub loss: LossKind,
    pub optimizer: OptimizerSpec,
    /// The learning rate as a function of the step.
    pub schedule: Schedule,
    /// Number of passes over the training examples.
    pub epochs: u32,
    /// Images per step.
    pub batch_size: usize,
    /// Seed of all randomness.
    pub seed: u64,
    /// Fraction of the examples held out for validation. 0 means none.
    pub validation_fraction: f64,
    /// Number of examples to use, after the seeded shuffle. `None` means all.
    pub train_samples: Option<usize>,
    /// Random changes of the training images.
    pub augment: Option<Augment>,
    /// ε of label smoothing, in [0, 1).
    pub label_smoothing: f64,
    /// Largest joint norm of all gradients. `None` means no clipping.
    pub gradient_clip_norm: Option<f64>,
    /// Decay per step of an exponential moving average of the weights. If set, the average is validated,
    /// tested and published.
    pub ema_decay: Option<f64>,
    /// Validation accuracy at which the job ends.
    pub target_accuracy: Option<f64>,
    /// Ends the job when the validation loss stops falling.
    pub early_stopping: Option<EarlyStopping>,
    /// When checkpoints are written, and how many are kept.
    pub checkpoint: CheckpointSpec,
    /// A model from which the layers that fit take their initial weights, such as `name@version`.
    pub initial_model: Option<String>,
    /// Jobs of a higher priority run first. It doesn't affect the result.
    #[serde(default)]
    pub priority: i32,
}

/// Whether `name` is a valid name for a model or an alias.
pub fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    let is_first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 64
        && characters.next().is_some_and(is_first)
        && characters.all(|c| is_first(c) || matches!(c, '.' | '_' | '-'))
}

/// The layers of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The layers from first to last.
    pub layers: Vec<LayerSpec>,
}

/// Ends a job whose validation loss no longer falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// Number of epochs without a lower loss before the job ends.
    pub patience: u32,
}

/// When checkpoints are written, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSpec {
    /// Epochs between checkpoints.
    pub every_epochs: u32,
    /// Number of checkpoints to keep. The newest are kept.
    pub keep: u32,
}

/// Limits for one job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpecLimits {
    /// Largest number of epochs.
    pub epochs_max: u32,
    /// Largest number of layers in a network.
    pub layers_max: usize,
    /// Largest number of units or filters in a layer.
    pub units_max: usize,
    /// Largest number of floating-point operations of a job.
    pub flops_max: f64,
    /// Largest number of bytes for parameters, gradients, optimiser state and activations.
    pub memory_bytes_max: f64,
}

impl Default for SpecLimits {
    fn default() -> Self {
        Self { epochs_max: 10_000, layers_max: 64, units_max: 16_384, flops_max: 1e16, memory_bytes_max: 4e9 }
    }
}

impl TrainSpec {
    /// Number of examples used: `train_samples`, or all.
    pub fn samples(&self, dataset_train: usize) -> usize {
        self.train_samples.unwrap_or(dataset_train)
    }

    /// Number of examples held out for validation.
    pub fn validation_samples(&self, dataset_train: usize) -> usize {
        (self.validation_fraction * self.samples(dataset_train) as f64).round() as usize
    }

    /// Number of examples trained on in each epoch.
    pub fn training_samples(&self, dataset_train: usize) -> usize {
        self.samples(dataset_train) - self.validation_samples(dataset_train)
    }

    /// Number of steps per epoch. The last one may have a smaller batch.
    pub fn steps_per_epoch(&self, dataset_train: usize) -> usize {
        self.training_samples(dataset_train).div_ceil(self.batch_size)
    }

    /// Bytes that a step allocates, without parameters, gradients and optimiser state. The data is not known yet, so
    /// this assumes the plan that needs the most memory. It is 0 for layers that don't fit each other.
    pub fn workspace_bytes(&self, input: Shape) -> f64 {
        step_bytes(input, &self.network.layers, self.batch_size, 0)
    }

    /// The cost of the job.
    pub fn cost(&self, dataset: &DatasetShape) -> Cost {
        Cost::of(self, dataset)
    }
}
