use serde::{Deserialize, Serialize};

/// The metrics of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Number of the epoch, starting at 1.
    pub epoch: u32,
    /// Mean loss of the training examples. Each is measured in its own step, before the update.
    pub train_loss: f64,
    /// Accuracy on the training examples. Each is measured in its own step, before the update.
    pub train_accuracy: f64,
    /// Mean loss of the validation examples after the epoch.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation examples after the epoch.
    pub validation_accuracy: Option<f64>,
    /// Learning rate of the last step of the epoch.
    pub learning_rate: f64,
    /// Metrics of each layer in the last step of the epoch with a full batch.
    pub layers: Vec<LayerMetrics>,
}

/// The metrics of a layer in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerMetrics {
    /// Index and kind, such as `0.dense`.
    pub layer: String,
    /// ‖∂L/∂W‖, including biases.
    pub gradient_norm: Option<f64>,
    /// ‖W‖, including biases.
    pub weight_norm: Option<f64>,
    /// ‖ΔW‖ / ‖W‖.
    pub update_ratio: Option<f64>,
    /// Fraction of a relu's units that were 0 for the whole batch. In an image, a unit is a channel.
    pub dead_fraction: Option<f64>,
}

/// The metrics of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Number of the step in the job, starting at 1.
    pub step: u64,
    /// Mean loss of the batch.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
}
