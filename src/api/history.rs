//! The recorded progress of a job: epochs, steps, findings and events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::job::JobState;
use crate::{job, lab, train};

/// A page of the epochs of a job, and the findings about all of them.
#[derive(Serialize, ToSchema)]
pub struct JobHistory {
    /// Epochs, in order.
    pub epochs: Vec<Epoch>,
    /// Some of the steps of these epochs, evenly spaced.
    pub steps: Vec<Step>,
    /// The `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
    /// Findings about the metrics of all epochs; empty for a job without problems.
    pub findings: Vec<Finding>,
}

/// The record of an epoch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Epoch {
    /// Number of the epoch, from 1.
    #[schema(minimum = 1)]
    pub epoch: u32,
    /// Mean loss of the training examples, measured when each was trained on.
    pub train_loss: f64,
    /// Accuracy on the training examples, measured when each was trained on.
    #[schema(minimum = 0, maximum = 1)]
    pub train_accuracy: f64,
    /// Mean loss of the validation examples after the epoch.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation examples after the epoch.
    #[schema(minimum = 0, maximum = 1)]
    pub validation_accuracy: Option<f64>,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Statistics of each layer in the last step of the epoch with a full batch.
    pub layers: Vec<LayerMetrics>,
    /// Training images per second.
    pub images_per_second: f64,
    /// Duration in seconds, validation included.
    pub duration_seconds: f64,
}

/// Statistics of a layer in one step.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LayerMetrics {
    /// Position and type of the layer, such as `0.dense`.
    pub layer: String,
    /// ‖∂L/∂W‖, biases included.
    pub gradient_norm: Option<f64>,
    /// ‖W‖, biases included.
    pub weight_norm: Option<f64>,
    /// ‖ΔW‖ / ‖W‖.
    pub update_ratio: Option<f64>,
    /// Fraction of a relu's outputs that were 0 for the whole batch.
    #[schema(minimum = 0, maximum = 1)]
    pub dead_fraction: Option<f64>,
}

/// The metrics of a step.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Step {
    /// Number of the step in the job, from 1.
    #[schema(minimum = 1)]
    pub step: u64,
    /// Mean loss of the batch.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
}

/// A finding about the metrics of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Finding {
    /// A stable identifier, such as `dead_relus`.
    pub code: String,
    /// What was found, and what to try.
    pub detail: String,
    /// The layer, such as `0.dense`.
    pub layer: Option<String>,
    /// The epoch of `value`.
    pub epoch: Option<u32>,
    /// The value; null if it is not finite.
    pub value: Option<f64>,
    /// The threshold that the value is compared with.
    pub threshold: f64,
    /// The source of the rule.
    pub source: String,
}

/// The data of an event called `state`: a change of the job's state.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct StateEvent {
    /// How many times workers had claimed the job.
    pub attempt: u32,
    /// The new state.
    pub state: JobState,
}

impl From<job::EpochRecord> for Epoch {
    fn from(job::EpochRecord { metrics, images_per_second, duration_seconds }: job::EpochRecord) -> Self {
        let train::EpochMetrics {
            epoch,
            train_loss,
            train_accuracy,
            validation_loss,
            validation_accuracy,
            learning_rate,
            layers,
        } = metrics;
        Self {
            epoch,
            train_loss,
            train_accuracy,
            validation_loss,
            validation_accuracy,
            learning_rate,
            layers: layers.into_iter().map(Into::into).collect(),
            images_per_second,
            duration_seconds,
        }
    }
}

impl From<train::LayerMetrics> for LayerMetrics {
    fn from(metrics: train::LayerMetrics) -> Self {
        let train::LayerMetrics { layer, gradient_norm, weight_norm, update_ratio, dead_fraction } = metrics;
        Self { layer, gradient_norm, weight_norm, update_ratio, dead_fraction }
    }
}

impl From<train::StepMetrics> for Step {
    fn from(train::StepMetrics { step, loss, learning_rate }: train::StepMetrics) -> Self {
        Self { step, loss, learning_rate }
    }
}

impl From<lab::Finding> for Finding {
    fn from(finding: lab::Finding) -> Self {
        let lab::Finding { code, detail, layer, epoch, value, threshold, source } = finding;
        Self { code, detail, layer, epoch, value, threshold, source }
    }
}
