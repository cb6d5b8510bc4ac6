use serde::{Deserialize, Serialize};

use super::{Cost, step_bytes};
use crate::data::{Augment, DatasetShape};
use crate::nn::{LayerSpec, LossKind, OptimizerSpec, Schedule, Shape};

/// A training job as checked, every default filled in: the whole input of [`run`](super::run)
/// besides the data. Written as JSON and sent again it asks for the same job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Name to publish under.
    pub model: String,
    /// Name of the data set.
    pub dataset: String,
    /// The layers.
    pub network: NetworkSpec,
    /// What is minimised.
    pub loss: LossKind,
    /// The update rule.
    pub optimizer: OptimizerSpec,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Passes over the training examples.
    pub epochs: u32,
    /// Images a step.
    pub batch_size: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// Fraction of the examples held out to validate, 0 for none.
    pub validation_fraction: f64,
    /// How many examples to use, after the seeded shuffle.
    pub train_samples: Option<usize>,
    /// Changes made to the images while training.
    pub augment: Option<Augment>,
    /// ε of the targets.
    pub label_smoothing: f64,
    /// Largest norm of all gradients together.
    pub gradient_clip_norm: Option<f64>,
    /// Decay of an average of the weights over the steps, which is then what is validated, tested and
    /// published.
    pub ema_decay: Option<f64>,
    /// Validation accuracy that ends the job.
    pub target_accuracy: Option<f64>,
    /// When to give up.
    pub early_stopping: Option<EarlyStopping>,
    /// When to keep the state.
    pub checkpoint: CheckpointSpec,
    /// A model whose weights the layers that fit start from, as `name@version`.
    pub initial_model: Option<String>,
    /// Jobs of a higher priority run first; it changes nothing of the result.
    #[serde(default)]
    pub priority: i32,
}

/// Whether `name` can be the name of a model or an alias.
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
    /// First to last.
    pub layers: Vec<LayerSpec>,
}

/// Ends a job whose validation loss doesn't fall any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// Epochs to wait for a better one.
    pub patience: u32,
}

/// When the state of a job is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSpec {
    /// Epochs from one checkpoint to the next.
    pub every_epochs: u32,
    /// How many are kept, newest first.
    pub keep: u32,
}

/// What one job may ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpecLimits {
    /// Epochs.
    pub epochs_max: u32,
    /// Layers of a network.
    pub layers_max: usize,
    /// Units of a layer.
    pub units_max: usize,
    /// Floating-point operations of the whole job.
    pub flops_max: f64,
    /// Bytes of parameters, gradients, optimiser state and activations.
    pub memory_bytes_max: f64,
}

impl Default for SpecLimits {
    fn default() -> Self {
        Self { epochs_max: 10_000, layers_max: 64, units_max: 16_384, flops_max: 1e16, memory_bytes_max: 4e9 }
    }
}

impl TrainSpec {
    /// Examples that are used at all: `train_samples`, or all.
    pub fn samples(&self, dataset_train: usize) -> usize {
        self.train_samples.unwrap_or(dataset_train)
    }

    /// Examples held out to validate.
    pub fn validation_samples(&self, dataset_train: usize) -> usize {
        (self.validation_fraction * self.samples(dataset_train) as f64).round() as usize
    }

    /// Examples that are trained on in each epoch.
    pub fn training_samples(&self, dataset_train: usize) -> usize {
        self.samples(dataset_train) - self.validation_samples(dataset_train)
    }

    /// Steps of an epoch; the last one may be a smaller batch.
    pub fn steps_per_epoch(&self, dataset_train: usize) -> usize {
        self.training_samples(dataset_train).div_ceil(self.batch_size)
    }

    /// Bytes that a step takes besides parameters, gradients and the optimiser's state, before the data is known: with
    /// the plan that takes most. 0 for layers that don't fit each other.
    pub fn workspace_bytes(&self, input: Shape) -> f64 {
        step_bytes(input, &self.network.layers, self.batch_size, 0)
    }

    /// What the job will take.
    pub fn cost(&self, dataset: &DatasetShape) -> Cost {
        Cost::of(self, dataset)
    }
}
