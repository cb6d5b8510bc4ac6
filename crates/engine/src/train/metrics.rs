use serde::{Deserialize, Serialize};

/// What one epoch came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// Mean loss of the training examples, each as it was met.
    pub train_loss: f64,
    /// Accuracy on the training examples, each as it was met.
    pub train_accuracy: f64,
    /// Mean loss of the validation examples after the epoch.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation examples after the epoch.
    pub validation_accuracy: Option<f64>,
    /// Rate of the epoch's last step.
    pub learning_rate: f64,
    /// How each layer fared in the last step of the epoch that had a whole batch.
    pub layers: Vec<LayerMetrics>,
}

/// How a layer fared in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerMetrics {
    /// Its place and kind, as `0.dense`.
    pub layer: String,
    /// ‖∂L/∂W‖, biases included.
    pub gradient_norm: Option<f64>,
    /// ‖W‖, biases included.
    pub weight_norm: Option<f64>,
    /// ‖ΔW‖ / ‖W‖.
    pub update_ratio: Option<f64>,
    /// Fraction of a relu's outputs that were 0 for the whole batch.
    pub dead_fraction: Option<f64>,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Number of the step in the job, from 1.
    pub step: u64,
    /// Mean loss of its batch.
    pub loss: f64,
    /// Its rate.
    pub learning_rate: f64,
}
